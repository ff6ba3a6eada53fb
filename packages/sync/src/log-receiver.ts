import { BatchError, batchBytesMax, batchNext, checkBatchBody, decompress, frameBytesMax, readBatchHeader, readGap,
  splitBatches } from '@holdfast/protos'
import type { BatchHeader, Epoch, HelloLane, LogAck, LogBatches, LogPart, Watermark } from '@holdfast/protos'
import { ReceiveError } from './receive-error.ts'

export interface ReceivedBatch {
  readonly lane: number
  readonly header: BatchHeader
  readonly batch: Buffer
}

/** Bytes that may be received and not durable, decompressed, in windows; a frame may pass that. */
const rawWindowsMax = 16

interface EpochState { readonly lane: number, readonly order: number, received: number }
interface Assembly { readonly bytes: Buffer, filled: number }

/**
 * Checks what a node sends up its log, and says what to acknowledge (docs/spec/session.md, SES-30 ff.). Pure: the host
 * appends what `receive` gives, in order, and reports each outcome; nothing is acknowledged before it is durable.
 */
export class LogReceiver {
  readonly #epochs = new Map<Epoch, EpochState>()
  readonly #laneOrder = new Map<number, number>()
  readonly #assemblies = new Map<number, Assembly>()
  readonly #unacked = new Map<Epoch, Watermark>()
  readonly #windowBytes: number
  #pendingBytes = 0
  #assemblyBytes = 0
  /** Of parts that did not complete their batch, since the last acknowledgement. */
  #partBytes = 0

  /** `watermarks` as Welcome gave them, one per epoch of Hello. */
  constructor(lanes: readonly HelloLane[], watermarks: readonly Watermark[], windowBytes: number) {
    this.#windowBytes = windowBytes
    const next = new Map(watermarks.map(watermark => [watermark.epoch, watermark.next]))
    for (const lane of lanes) {
      this.#laneOrder.set(lane.id, 0)
      for (const [order, { epoch }] of lane.epochs.entries()) {
        this.#epochs.set(epoch, { lane: lane.id, order, received: next.get(epoch) ?? 0 })
      }
    }
  }

  /** Bytes received and not settled, and of batches of which parts have arrived. */
  get pendingBytes(): number { return this.#pendingBytes + this.#assemblyBytes }

  /** The batches that a frame completes, in order, checked. Throws ReceiveError; the session then ends. */
  receive(frame: LogBatches | LogPart): ReceivedBatch[] {
    const received: ReceivedBatch[] = []
    try {
      if (frame.kind === 'log-part') {
        const whole = this.#assemble(frame)
        if (whole === undefined) this.#partBytes += frame.data.length
        else received.push(this.#check(whole, readBatchHeader(whole)))
      } else {
        for (const { batch, header } of splitBatches(this.#unpack(frame))) received.push(this.#check(batch,
          header))
      }
    } catch (error) {
      if (error instanceof BatchError) throw new ReceiveError('BATCH_CORRUPT', error.message)
      throw error
    }
    for (const { batch } of received) this.#pendingBytes += batch.length
    if (this.pendingBytes > rawWindowsMax * this.#windowBytes + frameBytesMax) {
      throw new ReceiveError('LOG_WINDOW_EXCEEDED',
        `${this.#pendingBytes} bytes unacknowledged, the window is ${this.#windowBytes} on the wire`)
    }
    return received
  }

  /** A batch that `receive` gave is durable: everything of its epoch below `next` is. */
  settled(received: ReceivedBatch, next: number, crc: number): void {
    this.#pendingBytes -= received.batch.length
    const epoch = received.header.epoch
    this.#unacked.set(epoch, { lane: received.lane, epoch, next, crc })
  }

  /** True where `takeAck` has something to say. */
  get ackDue(): boolean { return this.#unacked.size > 0 || this.#partBytes > 0 }

  /**
   * What became durable since the last call, cumulatively per epoch; and the parts that arrived, so that a batch larger
   * than the window does not wait for its own acknowledgement (SES-24).
   */
  takeAck(): LogAck | undefined {
    if (!this.ackDue) return undefined
    const ack: LogAck = { kind: 'log-ack', watermarks: [...this.#unacked.values()], partBytes: this.#partBytes }
    this.#unacked.clear()
    this.#partBytes = 0
    return ack
  }

  #unpack(frame: LogBatches): Buffer {
    if (frame.rawLength === 0) return frame.batches
    if (frame.rawLength > frameBytesMax) {
      throw new ReceiveError('FRAME_MALFORMED',
        `frame of ${frame.rawLength} bytes decompressed, bound ${frameBytesMax}`)
    }
    try {
      const raw = decompress(frame.batches, frame.rawLength)
      if (raw.length === frame.rawLength) return raw
    } catch (error) {
      throw new ReceiveError('FRAME_MALFORMED', `frame does not decompress: ${(error as Error).message}`)
    }
    throw new ReceiveError('FRAME_MALFORMED', `frame decompresses to another length than ${frame.rawLength}`)
  }

  #assemble(part: LogPart): Buffer | undefined {
    let assembly = this.#assemblies.get(part.lane)
    if (assembly === undefined) {
      if (!this.#laneOrder.has(part.lane)) throw new ReceiveError('LOG_UNKNOWN_EPOCH',
        `lane ${part.lane} was not in Hello`)
      if (part.batchLength > batchBytesMax) {
        throw new ReceiveError('FRAME_MALFORMED',
          `batch of ${part.batchLength} bytes announced, bound ${batchBytesMax}`)
      }
      assembly = { bytes: Buffer.allocUnsafeSlow(part.batchLength), filled: 0 }
      this.#assemblyBytes += part.batchLength
      this.#assemblies.set(part.lane, assembly)
    }
    const { bytes, filled } = assembly
    if (part.batchLength !== bytes.length || part.position !== filled || part.data.length === 0 ||
      filled + part.data.length > bytes.length) {
      throw new ReceiveError('FRAME_MALFORMED',
        `part at ${part.position} of ${part.batchLength}, expected ${filled} of ${bytes.length}`)
    }
    part.data.copy(bytes, filled)
    assembly.filled += part.data.length
    if (assembly.filled < bytes.length) return undefined
    this.#assemblies.delete(part.lane)
    this.#assemblyBytes -= bytes.length
    return bytes
  }

  #check(batch: Buffer, header: BatchHeader): ReceivedBatch {
    checkBatchBody(batch, header)
    if (header.kind === 'gap') readGap(batch, header)
    const epoch = this.#epochs.get(header.epoch)
    if (epoch === undefined || epoch.lane !== header.lane) {
      throw new ReceiveError('LOG_UNKNOWN_EPOCH', `epoch ${header.epoch} of lane ${header.lane} was not in Hello`)
    }
    if (epoch.order < this.#laneOrder.get(header.lane)!) {
      throw new ReceiveError('LOG_HOLE', `epoch ${header.epoch} after its successor`)
    }
    if (header.base > epoch.received) {
      throw new ReceiveError('LOG_HOLE', `offset ${header.base} in epoch ${header.epoch}, expected ${epoch.received}`)
    }
    this.#laneOrder.set(header.lane, epoch.order)
    epoch.received = Math.max(epoch.received, batchNext(header))
    return { lane: header.lane, header, batch }
  }
}
