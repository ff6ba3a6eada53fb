import { randomBytes } from 'node:crypto'

/** Randomness as a component, so that one seed replays a whole simulation. */
export interface Random {
  /** Uniform in [0, 1). */
  next(): number
  /** `length` random bytes; for identifiers. */
  bytes(length: number): Uint8Array
}

/** The operating system's generator. */
export class SystemRandom implements Random {
  next(): number { return Math.random() }
  bytes(length: number): Uint8Array { return randomBytes(length) }
}

/** A repeatable generator (xoshiro128**, Blackman and Vigna 2018), seeded through splitmix32. For simulations only. */
export class SeededRandom implements Random {
  readonly #state = new Uint32Array(4)

  constructor(seed: number) {
    let x = seed >>> 0
    for (let i = 0; i < 4; i++) {
      x = (x + 0x9e3779b9) >>> 0
      let z = x
      z = Math.imul(z ^ (z >>> 16), 0x85ebca6b)
      z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35)
      this.#state[i] = (z ^ (z >>> 16)) >>> 0
    }
  }

  /** Uniform over all 32-bit unsigned integers. */
  uint32(): number {
    const s = this.#state
    const s1 = s[1]!
    const product = Math.imul(s1, 5)
    const result = Math.imul((product << 7) | (product >>> 25), 9) >>> 0
    s[2]! ^= s[0]!
    s[3]! ^= s1
    s[1]! ^= s[2]!
    s[0]! ^= s[3]!
    s[2]! ^= s1 << 9
    const s3 = s[3]!
    s[3] = (s3 << 11) | (s3 >>> 21)
    return result
  }

  next(): number { return this.uint32() / 0x1_0000_0000 }

  /** Uniform integer in [low, high], both included. */
  integer(low: number, high: number): number { return low + Math.floor(this.next() * (high - low + 1)) }

  /** True with the given probability. */
  chance(probability: number): boolean { return this.next() < probability }

  bytes(length: number): Uint8Array {
    const out = new Uint8Array(length)
    for (let i = 0; i < length; i++) out[i] = this.uint32() & 0xff
    return out
  }
}
