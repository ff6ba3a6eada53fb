/**
 * What makes every record of a measurement countable: `~Mddddd-ssssssssss-ttttttttttttttttttt~` somewhere in its
 * payload: device, sequence of the device, and the time of sending in nanoseconds of the machine's monotonic clock
 * (`process.hrtime`, one clock for all processes of a machine).
 */
export const markerBytes = 39

const tilde = 0x7e
const dash = 0x2d
const letterM = 0x4d

/** The monotonic clock of the machine in microseconds; comes from `process.hrtime`, so processes may compare. */
export function monotonicUs(): number {
  const [seconds, nanoseconds] = process.hrtime()
  return seconds * 1e6 + nanoseconds / 1e3
}

/** Writes `value`, a whole number below 2^31, as `width` digits. */
export function writeDigits(target: Uint8Array, at: number, width: number, value: number): void {
  let left = value | 0
  for (let i = at + width - 1; i >= at; i--) {
    const tens = (left / 10) | 0
    target[i] = 48 + left - tens * 10
    left = tens
  }
}

/** Writes a marker whose time is `sentUs`. */
export function writeMarker(target: Uint8Array, at: number, device: number, sequence: number, sentUs: number): void {
  target[at] = tilde
  target[at + 1] = letterM
  writeDigits(target, at + 2, 5, device)
  target[at + 7] = dash
  target[at + 38] = tilde
  rewriteMarker(target, at, sequence, sentUs)
}

/** Changes sequence and time of a marker that is there. */
export function rewriteMarker(target: Uint8Array, at: number, sequence: number, sentUs: number): void {
  writeDigits(target, at + 8, 10, sequence)
  target[at + 18] = dash
  const seconds = Math.floor(sentUs / 1e6)
  writeDigits(target, at + 19, 10, seconds)
  writeDigits(target, at + 29, 9, Math.floor((sentUs - seconds * 1e6) * 1e3))
}

/** Finds and reads markers; remembers where the last one was, since records of a sender are alike. */
export class MarkerReader {
  device = 0
  sequence = 0
  sentUs = 0
  #hint = 0

  /** True where `bytes` holds a marker; its fields are then those of this object. */
  read(bytes: Buffer): boolean {
    let at = this.#hint
    if (bytes[at] !== tilde || bytes[at + 1] !== letterM) {
      at = bytes.indexOf('~M', 0, 'latin1')
      if (at === -1) return false
    }
    if (at + markerBytes > bytes.length || bytes[at + 38] !== tilde) return false
    this.#hint = at
    this.device = digits(bytes, at + 2, at + 7)
    this.sequence = digits(bytes, at + 8, at + 18)
    this.sentUs = digits(bytes, at + 19, at + 29) * 1e6 + digits(bytes, at + 29, at + 38) / 1e3
    return true
  }
}

function digits(bytes: Uint8Array, from: number, to: number): number {
  let value = 0
  for (let i = from; i < to; i++) value = value * 10 + bytes[i]! - 48
  return value
}
