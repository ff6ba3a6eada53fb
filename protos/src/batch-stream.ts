import type { BatchHeader } from './batch.ts'
import { batchBytesMax, readBatchHeader } from './batch.ts'

/** A batch as a reader gets it: the stored bytes and what is needed to show them and to go on after them. */
export interface ReaderBatch {
  readonly node: string
  readonly lane: string
  readonly batch: Buffer
  readonly header: BatchHeader
  /** Milliseconds to add to the batch's timestamps. */
  readonly correctionMs: number
  /** Records at the start of the batch that the reader's cursor has already passed. 0 for a gap. */
  readonly skip: number
  /** Cursors into this batch begin with this; see `cursorAt`. */
  readonly cursorPrefix: string
  /** Index of the cursor behind the whole batch. */
  readonly endIndex: number
}

/** Media type of the batch stream (docs/spec/log.md, "Reading"). */
export const batchStreamType = 'application/vnd.holdfast.batch'
export const batchStreamFormat = 1
const fixedBytes = 24
/** No frame is larger; a decoder believes no larger length. */
export const batchStreamFrameBytesMax = fixedBytes + 3 * 255 + batchBytesMax

const indexDigits = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
/** Cursor index that means: this batch is read to its end. */
export const cursorIndexEnd = 0xff_ffff

/** A cursor: the batch's prefix and four base64url digits that count the items of the batch that have been read. */
export function cursorAt(prefix: string, index: number): string {
  return prefix + indexDigits[(index >>> 18) & 63]! + indexDigits[(index >>> 12) & 63]! + indexDigits[(index >>> 6) & 63]! +
    indexDigits[index & 63]!
}

/** Frames of the batch stream, one per batch, in memory of their own. */
export function encodeBatchStream(items: readonly ReaderBatch[]): Buffer {
  let length = 0
  for (const item of items) {
    length += fixedBytes + Buffer.byteLength(item.node) + Buffer.byteLength(item.lane) +
      Buffer.byteLength(item.cursorPrefix) + item.batch.length
  }
  const out = Buffer.allocUnsafe(length)
  let at = 0
  for (const item of items) {
    const nameAt = at + fixedBytes
    const nodeBytes = out.write(item.node, nameAt)
    const laneBytes = out.write(item.lane, nameAt + nodeBytes)
    const cursorBytes = out.write(item.cursorPrefix, nameAt + nodeBytes + laneBytes)
    const batchAt = nameAt + nodeBytes + laneBytes + cursorBytes
    const end = batchAt + item.batch.copy(out, batchAt)
    out.writeUInt32BE(end - at - 4, at)
    out[at + 4] = batchStreamFormat
    out[at + 5] = nodeBytes
    out[at + 6] = laneBytes
    out[at + 7] = cursorBytes
    out.writeUInt32BE(item.skip, at + 8)
    out.writeUInt32BE(item.endIndex, at + 12)
    out.writeDoubleBE(item.correctionMs, at + 16)
    at = end
  }
  return out
}

/** A malformed batch stream, or one of a newer format. */
export class BatchStreamError extends Error {
  readonly code = 'BATCH_STREAM_MALFORMED'
}

/** Cuts a batch stream that arrives in chunks of any size. Holds at most one frame and the chunk at hand. */
export class BatchStreamDecoder {
  #rest: Buffer = Buffer.alloc(0)

  /** Call at the end of the stream. Throws BatchStreamError where it was cut inside a frame. */
  end(): void {
    if (this.#rest.length > 0) throw new BatchStreamError(`batch stream: cut after ${this.#rest.length} bytes of a frame`)
  }

  /**
   * The batches that are whole now; the buffers are views of the chunk. Run the generator to its end before the next
   * call. Throws BatchStreamError, or BatchError where a batch's header is damaged; bodies are not looked at.
   */
  *push(chunk: Uint8Array): Generator<ReaderBatch> {
    const bytes = this.#rest.length === 0
      ? Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length)
      : Buffer.concat([this.#rest, chunk])
    let at = 0
    while (bytes.length - at >= 4) {
      const end = at + 4 + bytes.readUInt32BE(at)
      if (end - at > batchStreamFrameBytesMax || end - at < fixedBytes) {
        throw new BatchStreamError(`batch stream: frame of ${end - at} bytes, bound ${batchStreamFrameBytesMax}`)
      }
      if (end > bytes.length) break
      yield readFrame(bytes, at, end)
      at = end
    }
    this.#rest = bytes.subarray(at)
  }
}

function readFrame(bytes: Buffer, at: number, end: number): ReaderBatch {
  if (bytes[at + 4] !== batchStreamFormat) {
    throw new BatchStreamError(`batch stream format ${bytes[at + 4]}, this release reads ${batchStreamFormat}`)
  }
  const nodeAt = at + fixedBytes
  const laneAt = nodeAt + bytes[at + 5]!
  const cursorAtByte = laneAt + bytes[at + 6]!
  const batchAt = cursorAtByte + bytes[at + 7]!
  if (batchAt > end) throw new BatchStreamError('batch stream: names longer than their frame')
  const batch = bytes.subarray(batchAt, end)
  return {
    node: bytes.toString('utf8', nodeAt, laneAt),
    lane: bytes.toString('utf8', laneAt, cursorAtByte),
    cursorPrefix: bytes.toString('latin1', cursorAtByte, batchAt),
    skip: bytes.readUInt32BE(at + 8),
    endIndex: bytes.readUInt32BE(at + 12),
    correctionMs: bytes.readDoubleBE(at + 16),
    batch,
    header: readBatchHeader(batch)
  }
}
