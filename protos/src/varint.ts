/** Bytes that `value` takes as a protobuf varint. `value`: a safe integer, not negative. */
export function varintLength(value: number): number {
  let length = 1
  while (value >= 0x80) { value = Math.floor(value / 0x80); length++ }
  return length
}

/** Writes a protobuf varint at `at`; returns the position behind it. */
export function writeVarint(target: Uint8Array, at: number, value: number): number {
  while (value >= 0x80) {
    target[at++] = (value % 0x80) | 0x80
    value = Math.floor(value / 0x80)
  }
  target[at++] = value
  return at
}

/** Reads varints off a buffer, never beyond `end`. `ok` turns false at a truncated or oversized one, and stays so. */
export class VarintReader {
  ok = true
  at: number
  readonly #bytes: Uint8Array
  readonly end: number

  constructor(bytes: Uint8Array, at: number, end: number) {
    this.#bytes = bytes
    this.at = at
    this.end = end
  }

  /** The next varint, below 2^53; 0 and `ok === false` where there is none. */
  next(): number {
    let value = 0
    let scale = 1
    for (let i = 0; i < 8; i++) {
      if (this.at >= this.end) break
      const byte = this.#bytes[this.at++]!
      value += (byte & 0x7f) * scale
      if (byte < 0x80) {
        if (!Number.isSafeInteger(value)) break
        return value
      }
      scale *= 0x80
    }
    this.ok = false
    return 0
  }
}
