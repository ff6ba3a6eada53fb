import { markerBytes, writeDigits, writeMarker } from './marker.ts'

export type PayloadKind = 'json' | 'incompressible'

/** A number as a whole count of its last decimal; `low` and `high` have as many digits as `start`. */
interface Reading {
  readonly name: string
  readonly start: number
  readonly low: number
  readonly high: number
  readonly decimals: 1 | 2
}

const readings: readonly Reading[] = [
  { name: 'temperature', start: 2351, low: 1000, high: 4999, decimals: 2 },
  { name: 'humidity', start: 4120, low: 1000, high: 9999, decimals: 2 },
  { name: 'pressure', start: 101_325, low: 100_000, high: 104_999, decimals: 2 },
  { name: 'power', start: 12_298, low: 10_000, high: 29_999, decimals: 1 }
]

interface Field extends Reading { readonly at: number, readonly width: number }

/**
 * Payloads of one device, all of the same length: JSON with a marker and numbers that drift from a pinned generator, or
 * the marker and bytes that nothing compresses.
 */
export class PayloadSource {
  /** The first payload; later ones differ in the marker and what `drift` changes. */
  readonly first: Buffer
  readonly markerAt: number
  readonly #kind: PayloadKind
  readonly #fields: readonly Field[]
  readonly #values: Int32Array
  #state: number

  constructor(kind: PayloadKind, bytes: number, device: number) {
    this.#kind = kind
    this.#state = Math.imul(device + 1, 0x9e37_79b1) | 1
    const { text, fields, markerAt } = kind === 'json'
      ? jsonText(bytes)
      : { text: ' '.repeat(bytes), fields: [], markerAt: 0 }
    this.first = Buffer.from(text, 'latin1')
    this.markerAt = markerAt
    this.#fields = fields
    this.#values = Int32Array.from(fields, field => field.start)
    if (this.first.length !== bytes || bytes < markerAt + markerBytes) {
      const least = kind === 'json' ? 128 : markerBytes
      throw new RangeError(`a ${kind} payload of ${bytes} bytes cannot be made; the least is ${least}`)
    }
    writeMarker(this.first, markerAt, device, 0, 0)
  }

  /** Writes the next numbers into a copy of `first` that begins at `at`. */
  drift(target: Buffer, at: number): void {
    if (this.#kind === 'incompressible') {
      for (let i = at + markerBytes; i < at + this.first.length; i++) target[i] = this.#random() >>> 24
      return
    }
    let bits = 0
    for (let i = 0; i < this.#fields.length; i++) {
      const field = this.#fields[i]!
      bits = (i & 1) === 0 ? this.#random() : bits >>> 10
      const value = this.#values[i]! + (bits & 31) + ((bits >>> 5) & 31) - 31
      const kept = value < field.low ? field.low : value > field.high ? field.high : value
      this.#values[i] = kept
      const whole = field.decimals === 2 ? (kept / 100) | 0 : (kept / 10) | 0
      const part = field.decimals === 2 ? kept - whole * 100 : kept - whole * 10
      writeDigits(target, at + field.at, field.width - field.decimals - 1, whole)
      writeDigits(target, at + field.at + field.width - field.decimals, field.decimals, part)
    }
  }

  /** xorshift32. */
  #random(): number {
    let state = this.#state
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    this.#state = state
    return state >>> 0
  }
}

/** Four readings in 128 bytes, and a further one in every 13 more. */
function jsonText(bytes: number): { text: string, fields: Field[], markerAt: number } {
  const fields: Field[] = []
  let text = '{"m":"'
  const markerAt = text.length
  text += ' '.repeat(markerBytes) + '"'
  const add = (reading: Reading): void => {
    const number = (reading.start / 10 ** reading.decimals).toFixed(reading.decimals)
    text += `,"${reading.name}":`
    fields.push({ ...reading, at: text.length, width: number.length })
    text += number
  }
  for (const reading of readings) add(reading)
  for (let i = 10; bytes - text.length >= 13 + 12; i++) {
    add({ name: `s${i}`, start: 1000 + Math.imul(i, 977) % 8000, low: 1000, high: 9999, decimals: 2 })
  }
  const end = ',"on":true}'
  const left = bytes - text.length - end.length
  if (left >= 7) text += `,"p":"${'-'.repeat(left - 7)}"`
  else text += ' '.repeat(Math.max(0, left))
  return { text: text + end, fields, markerAt }
}
