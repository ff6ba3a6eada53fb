/** Lines of a byte stream, each at most `bytesMax` long. */
export class LineSplitter {
  readonly #bytesMax: number
  /** Of the line that has not ended. */
  #pieces: Buffer[] = []
  #bytes = 0

  constructor(bytesMax: number) { this.#bytesMax = bytesMax }

  /** Bytes of a line that has not ended yet. */
  get openBytes(): number { return this.#bytes }

  /** The lines that `chunk` ends, without their newlines. Throws RangeError where a line is longer than it may be. */
  * push(chunk: Buffer): Generator<Buffer> {
    let from = 0
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, from)) {
      this.#keep(chunk.subarray(from, end))
      const line = this.#pieces.length === 1 ? this.#pieces[0]! : Buffer.concat(this.#pieces)
      this.#pieces = []
      this.#bytes = 0
      from = end + 1
      yield line
    }
    if (from < chunk.length) this.#keep(chunk.subarray(from))
  }

  #keep(piece: Buffer): void {
    this.#bytes += piece.length
    if (this.#bytes > this.#bytesMax) throw new RangeError(`a line is longer than ${this.#bytesMax} bytes`)
    this.#pieces.push(piece)
  }
}
