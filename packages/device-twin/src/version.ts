/**
 * When and where a value was written: a hybrid logical clock (design §7). Ordered by time, then counter, then origin; two
 * versions are equal only if they name the same write.
 */
export interface Version {
  /** Wall clock of the writer or of what it had seen, whichever is later, milliseconds since 1970. */
  readonly time: number
  readonly counter: number
  /** `<writer>/<start>`: `cloud` or the node's name, and 8 random hexadecimal digits of that process' start. */
  readonly origin: string
}

/** Negative where `a` is older than `b`, 0 where they are the same. */
export function compareVersions(a: Version, b: Version): number {
  return a.time - b.time || a.counter - b.counter || (a.origin < b.origin ? -1 : a.origin > b.origin ? 1 : 0)
}

/** `<time>.<counter>.<origin>`, decimal; at most 300 characters. */
export function formatVersion({ time, counter, origin }: Version): string { return `${time}.${counter}.${origin}` }

/** Of a time and of a counter: 15 digits, so that one more than it is still a safe integer. */
const componentMax = 999_999_999_999_999

const versionPattern = /^(0|[1-9]\d{0,14})\.(0|[1-9]\d{0,14})\.([a-z0-9][a-z0-9.-]{0,252}\/[0-9a-f]{8})$/

/** Undefined where it is none. */
export function parseVersion(text: string): Version | undefined {
  const match = versionPattern.exec(text)
  return match === null ? undefined : { time: Number(match[1]), counter: Number(match[2]), origin: match[3]! }
}

/** `cloud` or the node's name. */
export function writerOf({ origin }: Version): string { return origin.slice(0, origin.indexOf('/')) }

/** The least time and counter behind these, which a peer may have driven to their end. */
export function tick(time: number, counter: number): { readonly time: number, readonly counter: number } {
  return counter < componentMax ? { time, counter: counter + 1 } : { time: Math.min(time + 1, componentMax), counter: 0 }
}

/** Gives versions of one writer: each later than all that it gave or observed. */
export class HybridClock {
  readonly #origin: string
  #time = 0
  #counter = 0
  /** The highest counter that it gave. */
  #given = 0
  /** Where counting begins at a new time: above what was given before a reset, at times that may come again. */
  #first = 0

  /** `start`: 8 hexadecimal digits, new at each start, so that a disk that went back gives no version twice. */
  constructor(writer: string, start: string) { this.#origin = `${writer}/${start}` }

  /** A version that was read of a disk or came from the other side. */
  observe({ time, counter }: Version): void {
    if (time < this.#time || (time === this.#time && counter <= this.#counter)) return
    this.#time = time
    this.#counter = counter
  }

  /**
   * Forgets what it observed, for `observe` of what is left: a version from the future was taken back (TWN-16). Gives no version
   * again that it gave before.
   */
  reset(): void {
    this.#time = 0
    this.#counter = 0
    this.#first = this.#given < componentMax ? this.#given + 1 : 0
  }

  /** `nowMs` undefined: the wall clock is not trusted, and the counter ticks from the highest version known. */
  next(nowMs: number | undefined): Version {
    const { time, counter } = nowMs !== undefined && nowMs >= this.#time + 1
      ? { time: Math.min(Math.floor(nowMs), componentMax), counter: this.#first }
      : tick(this.#time, this.#counter)
    this.#time = time
    this.#counter = counter
    this.#given = Math.max(this.#given, counter)
    return { time, counter, origin: this.#origin }
  }
}
