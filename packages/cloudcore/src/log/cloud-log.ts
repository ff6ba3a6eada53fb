import type { BatchHeader, Epoch, EpochReason, GapReason, ReaderBatch } from '@holdfast/protos'
import { HoldfastError } from '@holdfast/runtime'
import type { NodeName } from '@holdfast/runtime'
import type { CloudLogErrorCode } from './error-codes.ts'

/** The lane of an epoch, as the edge's Hello names it. */
export interface StreamLane {
  /** The edge's own number; stands in batch headers. */
  readonly id: number
  readonly name: string
}

/** The part of an edge's epoch that the log keeps. A `HelloEpoch` is one. */
export interface StreamEpoch {
  readonly epoch: Epoch
  readonly predecessor: Epoch | undefined
  /** Offset of the epoch's first record ever: where the lane's line of offsets goes on. */
  readonly start: number
  readonly reason: EpochReason
}

/** One epoch of one lane of one node, as opened by `openStream`. */
export interface CloudStream {
  readonly node: NodeName
  readonly lane: StreamLane
  readonly epoch: Epoch
  readonly start: number
  /**
   * One past the newest offset handed in, durable or not. What is appended next has to begin here.
   */
  readonly next: number
}

/** When a batch arrived, and by how much its stamps are wrong. */
export interface Arrival {
  /** Wall time of the cloud; retention counts from it. */
  readonly receivedAtMs: number
  /** Milliseconds that readers add to the batch's timestamps (docs/spec/session.md, clock pair). */
  readonly correctionMs: number
}

/**
 * - `appended`: data and watermark are durable.
 * - `phantom`: these offsets were there already, with the same content; nothing was written. What is there is durable.
 * - `conflict`: nothing was written. The batch begins above `next` (a hole, L2), or lies below it with other content.
 * - `failed`: nothing is promised; the stream is stale and has to be opened again.
 */
export type AppendResult =
  | { readonly kind: 'appended', readonly next: number, readonly crc: number }
  | { readonly kind: 'phantom', readonly next: number }
  | { readonly kind: 'conflict', readonly next: number }
  | { readonly kind: 'failed', readonly error: Error }

export type OnAppended = (result: AppendResult) => void

/** Durable state of a stream. `crc` is the header CRC of the batch that ends at `next`; 0: none is known. */
export interface StreamWatermark { readonly next: number, readonly crc: number }

/** Running totals of a lane over all its epochs since the log was made; retention does not lower them. */
export interface LaneTotals {
  readonly lane: string
  /** The newest epoch. */
  readonly epoch: Epoch
  /** Its durable next offset. */
  readonly nextOffset: number
  readonly records: number
  /** Bytes of batches, as stored. */
  readonly bytes: number
  /** Gap records. */
  readonly gaps: number
}

export interface NodeTotals { readonly name: NodeName, readonly lanes: readonly LaneTotals[] }

export interface ReadOptions {
  /** Go on behind this place. Default: the oldest entry. */
  readonly cursor?: string | undefined
  readonly node?: string | undefined
  readonly lane?: string | undefined
  /** Wait for new entries at the end of the log. Default false. */
  readonly follow?: boolean | undefined
  /** Stored bytes of a page, about. */
  readonly pageBytesMax?: number | undefined
}

/** What a reader gets at a time: entries in commit order. */
export type LogPage = readonly ReaderBatch[]

/** The cursor is of no use any more; `firstCursor` is the oldest place to go on from. */
export class CursorError extends HoldfastError<'CURSOR_EXPIRED' | 'CURSOR_FOREIGN'> {
  readonly firstCursor: string

  constructor(code: 'CURSOR_EXPIRED' | 'CURSOR_FOREIGN', message: string, firstCursor: string) {
    super(code, message)
    this.firstCursor = firstCursor
  }
}

export function cloudLogError(code: CloudLogErrorCode, message: string, cause?: unknown): HoldfastError<CloudLogErrorCode> {
  return new HoldfastError(code, message, cause === undefined ? undefined : { cause })
}

/** Counts since open. */
export interface CloudLogStats {
  /** Batches written. */
  batches: number
  records: number
  bytes: number
  /** Batches dropped because they were there already. */
  phantoms: number
  conflicts: number
  /** Gap records written, the cloud's own included. */
  gaps: number
  /** Entries found missing or damaged: at open or while reading. */
  corruptEntries: number
  /** Entries removed by retention. */
  entriesDropped: number
  /** Times that the log was opened again after a failed write. */
  reopens: number
  /** Times that a log had to be made anew from what could be salvaged. */
  salvages: number
}

/**
 * The cloud's log of record batches: compare-and-append by (node, epoch, lane, offset), read in commit order.
 *
 * Invariants (docs/spec/log.md, "Cloud log"): the offsets of a stream are dense and each is committed once (L2, L3); data
 * and watermark become durable together; what readers see is durable and stays where it is in the order.
 */
export interface CloudLog extends AsyncDisposable {
  /** Random; another one means another log, whose watermarks and cursors say nothing about this one. */
  readonly logId: string
  readonly stats: Readonly<CloudLogStats>

  /**
   * Registers node, lane and epoch where they are new: durable with the first append at the latest. Idempotent.
   * Rejects with LOG_NODES_FULL, LOG_LANES_FULL, LOG_EPOCHS_FULL or LOG_UNAVAILABLE.
   */
  openStream(node: NodeName, lane: StreamLane, epoch: StreamEpoch): Promise<CloudStream>

  /**
   * Where the lane's line of offsets ends in this log before `epoch`: one past the newest durable offset of its predecessor,
   * or where that one is not known, of any epoch of the lane; 0: the log has nothing of the lane. Undefined where the log
   * has something of `epoch` itself.
   */
  lineEnd(node: NodeName, lane: string, epoch: StreamEpoch): number | undefined

  /**
   * Compare-and-append. `batch` is exactly one batch that has passed `readBatchHeader` and `checkBatchBody`, of the
   * stream's epoch; it is copied. `onDone` runs once, never before this returns; `appended` results come in append order.
   *
   * A gap that begins at or below `next` and ends above it is cut to [next, its end]; one wholly below is a phantom.
   */
  append(stream: CloudStream, batch: Buffer, header: BatchHeader, arrival: Arrival, onDone: OnAppended): void

  /**
   * Appends a gap of the cloud's own over the next `count` offsets: `cloud-lost` where the first offset that the edge holds
   * is above the watermark, `cloud-log-new` where that is so because this log is a new one. `records`: acknowledged
   * records that are gone; 0: nobody can know.
   */
  writeGap(stream: CloudStream, count: number, gap: { readonly reason: GapReason, readonly records: number },
    receivedAtMs: number, onDone: OnAppended): void

  /** What is durable. */
  watermark(stream: CloudStream): StreamWatermark

  /**
   * Pages in commit order. The first page comes at once, perhaps empty. Where an entry is missing or damaged, a gap
   * `cloud-corrupt` stands in its place. Holds one page at a time.
   *
   * Rejects with CURSOR_INVALID, with CursorError CURSOR_EXPIRED or CURSOR_FOREIGN, with LOG_UNAVAILABLE, or with the
   * signal's reason. A reader that is overtaken by retention gets CURSOR_EXPIRED in the middle.
   */
  read(options: ReadOptions, signal: AbortSignal): AsyncIterable<LogPage>

  /** Every node that has appended, by name. */
  nodes(): NodeTotals[]
}
