import { FrameError } from './frame-error.ts'
import { VarintReader } from './varint.ts'

const wireVarint = 0
const wireBytes = 2

/**
 * Walks the fields of one protobuf message without copying anything. Only numbers and length-delimited fields are known;
 * whatever else comes, or reaches beyond the end, is a FrameError.
 */
export class FieldReader {
  /** Number of the field that `next` found. */
  field = 0
  readonly #bytes: Buffer
  readonly #varints: VarintReader
  readonly #what: string
  #wireType = 0

  constructor(bytes: Buffer, what: string, at = 0, end = bytes.length) {
    this.#bytes = bytes
    this.#varints = new VarintReader(bytes, at, end)
    this.#what = what
  }

  /** Goes to the next field; its value has to be read before the one after it. False at the end. */
  next(): boolean {
    if (this.#varints.at === this.#varints.end) return false
    const tag = this.#varints.next()
    this.field = Math.floor(tag / 8)
    this.#wireType = tag % 8
    if (!this.#varints.ok || this.field === 0) throw this.malformed()
    return true
  }

  number(): number {
    const value = this.#varints.next()
    if (!this.#varints.ok || this.#wireType !== wireVarint) throw this.malformed()
    return value
  }

  /** A view of the field's bytes, of `bytesMin` to `bytesMax`. */
  bytes(bytesMin: number, bytesMax: number): Buffer {
    const { at, end } = this.#span(bytesMin, bytesMax)
    return this.#bytes.subarray(at, end)
  }

  /** Printable ASCII, of which the order of the characters is that of the bytes. */
  text(bytesMin: number, bytesMax: number): string {
    const { at, end } = this.#span(bytesMin, bytesMax)
    for (let i = at; i < end; i++) {
      const byte = this.#bytes[i]!
      if (byte < 0x20 || byte > 0x7e) throw this.malformed()
    }
    return this.#bytes.toString('latin1', at, end)
  }

  /** The fields of a message within this one. */
  message(what: string, bytesMax: number): FieldReader {
    const { at, end } = this.#span(0, bytesMax)
    return new FieldReader(this.#bytes, what, at, end)
  }

  malformed(): FrameError { return new FrameError(`${this.#what} is malformed, at byte ${this.#varints.at}`) }

  #span(bytesMin: number, bytesMax: number): { readonly at: number, readonly end: number } {
    const length = this.#varints.next()
    const { at } = this.#varints
    if (!this.#varints.ok || this.#wireType !== wireBytes || length > this.#varints.end - at) throw this.malformed()
    if (length < bytesMin || length > bytesMax) {
      throw new FrameError(`${this.#what}: field ${this.field} of ${length} bytes, ${bytesMin} to ${bytesMax} are allowed`)
    }
    this.#varints.at = at + length
    return { at, end: at + length }
  }
}
