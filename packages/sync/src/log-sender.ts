import { compress } from '@holdfast/protos'
import type { LogBatches, LogPart, Watermark } from '@holdfast/protos'
import { DeliveryRate } from './delivery-rate.ts'
import type { RateMark } from './delivery-rate.ts'
import { FrameScheduler } from './frame-scheduler.ts'

/** A durable batch as the outbox gave it. */
export interface SendableBatch { readonly base: number, readonly next: number, readonly bytes: Buffer }

export interface SenderLane {
  readonly id: number
  /** Share of the link against the other lanes. */
  readonly weight: number
  /** A frame of next to nothing may wait a moment for company, right behind another one (SES-25). */
  readonly patient: boolean
  /** The cloud holds everything below; sending begins here. */
  readonly acked: number
  /** One past the newest durable offset. */
  readonly durable: number
}

/** What the host does next. */
export type SenderOutput =
  | { readonly kind: 'read', readonly lane: number, readonly from: number, readonly bytesMax: number }
  /** Nothing to do for so long, unless an event comes first. */
  | { readonly kind: 'wait', readonly delayMs: number }
  | { readonly kind: 'send', readonly lane: number, readonly frame: LogBatches | LogPart, readonly bytes: number }

/** A lane's progress: the cloud durably holds everything below `next`. */
export interface Acknowledged {
  readonly lane: number
  readonly next: number
  readonly batches: readonly { readonly base: number, readonly next: number, readonly bytes: number }[]
}


/** Bytes in flight that any link may have. */
const inFlightBytesMin = 64 * 1024
/** However fast the link and whatever Welcome allows. */
const inFlightBytesCeiling = 4 * 1024 * 1024
/** Beyond that, what the link delivers in this time, so that what is urgent waits no longer than that behind bulk. */
const inFlightMs = 250
/** A frame takes batches up to about so many bytes. */
const frameBytesTarget = 128 * 1024
/** Batches this small gain from being compressed together (docs/benchmarks.md, row c2). */
const smallBatchBytes = 2048
const compressBytesMin = 384
/** Batches above this are cut into parts of this size on a link that takes longer than `partMs` for one. */
const partBytes = 16 * 1024
const partMs = 50
/**
 * Less than this waits for company until `companyMs` after the lane's last frame: at a thousand records a second, a
 * frame a
 * record would cost more in headers, system calls and fsyncs of the cloud than the record. What comes out of silence
 * goes
 * at once.
 */
const lonelyBytes = 800
const companyMs = 2
/**
 * Batches in flight, before compression, in windows: what compresses well must not fill the cloud's memory (SES-32).
 */
const rawWindowsMax = 8
/** Read ahead of what is sent, per lane. */
const readBytes = 512 * 1024

interface Lane {
  readonly id: number
  readonly patient: boolean
  /** Offset of the next batch to ask the outbox for. */
  readNext: number
  durable: number
  reading: boolean
  /** Read and not sent. */
  ready: SendableBatch[]
  readyBytes: number
  /** When the last frame was sent. */
  sentMs: number
  /** Bytes of ready[0] that went out in parts. */
  partPosition: number
  inFlight: { readonly base: number, readonly next: number, readonly bytes: number, readonly wireBytes: number,
    readonly mark: RateMark }[]
}

/**
 * Decides what goes up the tunnel, and when (docs/spec/session.md, SES-20 ff.). Pure: the host reads, sends, and tells
 * it
 * what happened; time comes in as an argument.
 *
 * A batch is sent once per session, in the lane's order, while the bytes in flight stay within max(64 KiB, delivered
 * rate
 * × 250 ms) and the window that the cloud gave (design §4.7).
 */
export class LogSender {
  readonly #lanes = new Map<number, Lane>()
  readonly #scheduler = new FrameScheduler<number>()
  readonly #rate = new DeliveryRate()
  readonly #windowBytes: number
  #inFlightBytes = 0
  /** Of whole batches, before compression. */
  #inFlightRawBytes = 0
  #limited = false
  /** Parts sent that did not complete their batch and are not known to have arrived, in the order they were sent. */
  readonly #parts: { readonly bytes: number, readonly mark: RateMark }[] = []

  constructor(lanes: readonly SenderLane[], windowBytes: number) {
    this.#windowBytes = Math.min(Math.max(windowBytes, inFlightBytesMin), inFlightBytesCeiling)
    for (const lane of lanes) {
      this.#scheduler.setClass(lane.id, lane.weight)
      this.#lanes.set(lane.id, {
        id: lane.id,
        patient: lane.patient,
        readNext: lane.acked,
        durable: lane.durable,
        reading: false,
        ready: [],
        readyBytes: 0,
        sentMs: -Infinity,
        partPosition: 0,
        inFlight: []
      })
    }
  }

  /** Bytes sent and not acknowledged, as on the wire before TLS. */
  get inFlightBytes(): number { return this.#inFlightBytes }

  get bytesPerSecond(): number { return this.#rate.bytesPerSecond }

  /** Bytes that may be in flight now. */
  get inFlightBytesMax(): number {
    return Math.min(this.#windowBytes, Math.max(inFlightBytesMin, this.#rate.bytesPerSecond * inFlightMs / 1000))
  }

  /** Everything below `durable` can be read. */
  available(lane: number, durable: number): void {
    const entry = this.#lanes.get(lane)
    if (entry !== undefined) entry.durable = Math.max(entry.durable, durable)
  }

  /** Answer to a `read`. None: there is nothing to read now, and `available` will follow. */
  read(lane: number, batches: readonly SendableBatch[]): void {
    const entry = this.#lanes.get(lane)!
    entry.reading = false
    for (const batch of batches) {
      entry.ready.push(batch)
      entry.readyBytes += batch.bytes.length
      entry.readNext = batch.next
    }
    if (batches.length === 0) entry.durable = entry.readNext
  }

  /** The next thing to do, or undefined: then an event has to come first. Call until undefined. */
  next(nowMs: number): SenderOutput | undefined {
    for (const lane of this.#lanes.values()) {
      if (!lane.reading && lane.readNext < lane.durable && lane.readyBytes < readBytes / 2) {
        lane.reading = true
        return { kind: 'read', lane: lane.id, from: lane.readNext, bytesMax: readBytes }
      }
    }
    const id = this.#scheduler.next(this.#readyLanes(nowMs))
    if (id === undefined) {
      this.#limited = false
      return this.#wait(nowMs)
    }
    if (this.#inFlightBytes >= this.inFlightBytesMax || this.#inFlightRawBytes >= rawWindowsMax * this.#windowBytes) {
      this.#limited = true
      return undefined
    }
    const lane = this.#lanes.get(id)!
    const output = this.#isSlow() && lane.ready[0]!.bytes.length > partBytes || lane.partPosition > 0
      ? this.#sendPart(lane, nowMs)
      : this.#sendBatches(lane, nowMs)
    lane.sentMs = nowMs
    this.#scheduler.sent(id, output.bytes)
    return output
  }

  /** The cloud got so many bytes of parts of batches that it has not whole yet: they are in flight no more (SES-24). */
  partsArrived(partBytes: number, nowMs: number): void {
    let left = partBytes
    while (this.#parts.length > 0 && this.#parts[0]!.bytes <= left) {
      const { bytes, mark } = this.#parts.shift()!
      left -= bytes
      this.#inFlightBytes -= bytes
      this.#rate.acknowledged(bytes, mark, nowMs)
    }
  }

  /** The cloud's acknowledgement; gives what is newly acknowledged, per lane. */
  acknowledged(watermarks: readonly Watermark[], nowMs: number): Acknowledged[] {
    const result: Acknowledged[] = []
    for (const watermark of watermarks) {
      const lane = this.#lanes.get(watermark.lane)
      if (lane === undefined) continue
      let count = 0
      let bytes = 0
      while (count < lane.inFlight.length && lane.inFlight[count]!.next <= watermark.next) {
        bytes += lane.inFlight[count]!.wireBytes
        this.#inFlightRawBytes -= lane.inFlight[count]!.bytes
        count++
      }
      if (count === 0) continue
      const batches = lane.inFlight.splice(0, count)
      this.#inFlightBytes -= bytes
      this.#rate.acknowledged(bytes, batches.at(-1)!.mark, nowMs)
      result.push({ lane: lane.id, next: batches.at(-1)!.next, batches })
    }
    return result
  }

  * #readyLanes(nowMs: number): Generator<number> {
    for (const lane of this.#lanes.values()) if (lane.ready.length > 0 && !this.#isLonely(lane, nowMs)) yield lane.id
  }

  #isLonely(lane: Lane, nowMs: number): boolean {
    return lane.patient && lane.readyBytes < lonelyBytes && nowMs < lane.sentMs + companyMs
  }

  /** Until the first lane has waited long enough for company. */
  #wait(nowMs: number): SenderOutput | undefined {
    let delayMs = Infinity
    for (const lane of this.#lanes.values()) {
      if (lane.ready.length > 0) delayMs = Math.min(delayMs, lane.sentMs + companyMs - nowMs)
    }
    // A rest smaller than the clock can tell would go round at once, for ever.
    return delayMs === Infinity ? undefined : { kind: 'wait', delayMs: Math.max(1, Math.ceil(delayMs)) }
  }

  /**
   * True where one part already takes long. An unknown rate counts as fast: the bound on bytes in flight holds anyway.
   */
  #isSlow(): boolean {
    const rate = this.#rate.bytesPerSecond
    return rate > 0 && rate < partBytes * 1000 / partMs
  }

  #sendPart(lane: Lane, nowMs: number): Extract<SenderOutput, { kind: 'send' }> {
    const batch = lane.ready[0]!
    const data = batch.bytes.subarray(lane.partPosition, lane.partPosition + partBytes)
    const frame: LogPart = {
      kind: 'log-part', lane: lane.id, batchLength: batch.bytes.length, position: lane.partPosition, data
    }
    lane.partPosition += data.length
    const mark = this.#rate.mark(nowMs, this.#inFlightBytes, this.#limited)
    this.#inFlightBytes += data.length
    if (lane.partPosition === batch.bytes.length) {
      lane.partPosition = 0
      this.#taken(lane, 1)
      this.#inFlightRawBytes += batch.bytes.length
      lane.inFlight.push({ base: batch.base, next: batch.next, bytes: batch.bytes.length, wireBytes: data.length,
        mark })
    } else this.#parts.push({ bytes: data.length, mark })
    return { kind: 'send', lane: lane.id, frame, bytes: data.length }
  }

  #sendBatches(lane: Lane, nowMs: number): Extract<SenderOutput, { kind: 'send' }> {
    const target = this.#isSlow() ? partBytes : frameBytesTarget
    let count = 1
    let bytes = lane.ready[0]!.bytes.length
    while (count < lane.ready.length &&
      bytes + lane.ready[count]!.bytes.length <= target) bytes += lane.ready[count++]!.bytes.length
    const batches = this.#taken(lane, count)
    const whole = count === 1 ? batches[0]!.bytes : Buffer.concat(batches.map(batch => batch.bytes), bytes)
    let body = whole
    if (bytes >= compressBytesMin && bytes < count * smallBatchBytes) {
      const compressed = compress(whole)
      if (compressed.length < bytes) body = compressed
    }
    const mark = this.#rate.mark(nowMs, this.#inFlightBytes, this.#limited)
    const perByte = body.length / bytes
    let accounted = 0
    for (const [i, batch] of batches.entries()) {
      const wireBytes = i === count - 1 ? body.length - accounted : Math.floor(batch.bytes.length * perByte)
      accounted += wireBytes
      lane.inFlight.push({ base: batch.base, next: batch.next, bytes: batch.bytes.length, wireBytes, mark })
    }
    this.#inFlightBytes += body.length
    this.#inFlightRawBytes += bytes
    const frame: LogBatches = { kind: 'log-batches', rawLength: body === whole ? 0 : bytes, batches: body }
    return { kind: 'send', lane: lane.id, frame, bytes: body.length }
  }

  #taken(lane: Lane, count: number): SendableBatch[] {
    const batches = lane.ready.splice(0, count)
    for (const batch of batches) lane.readyBytes -= batch.bytes.length
    return batches
  }
}

