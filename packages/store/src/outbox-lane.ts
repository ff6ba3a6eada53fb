import type { Epoch, EpochReason } from '@holdfast/protos'
import type { EpochEntry } from './outbox-format.ts'

export interface LaneOptions {
  /** `high`: committed before the others and with the largest share of the link. */
  readonly priority: 'high' | 'normal' | 'low'
  /** Bytes that may wait for the cloud, as stored. */
  readonly bytesMax: number
  /** Records that waited longer (node uptime) give way to a gap record `expired`; undefined: never. */
  readonly ageMaxMs: number | undefined
  /** At `bytesMax`: refuse new records, or let the oldest go behind a gap record `overflow`. */
  readonly overflow: 'reject' | 'drop-oldest'
  /** A record may wait so long for others to share its fsync; its acknowledgement waits too. */
  readonly commitIntervalMs: number
  /** Acknowledged records stay readable on the node up to so many bytes … */
  readonly keepBytes: number
  /** … and for so long. */
  readonly keepAgeMs: number
}

/** A lane that is stored but no longer configured: drained, then empty. */
export const vanishedLaneOptions: LaneOptions = {
  priority: 'low', bytesMax: 0, ageMaxMs: undefined, overflow: 'reject', commitIntervalMs: 0, keepBytes: 0, keepAgeMs: 0
}

/** A batch as it lies in the outbox. */
export interface HeldBatch {
  readonly base: number
  readonly next: number
  readonly bytes: Buffer
}

/** Where a batch lies, and how large it is. */
export interface BatchPlace {
  readonly base: number
  readonly next: number
  /** Stored bytes. */
  readonly bytes: number
}

export interface KeptBatch extends BatchPlace { readonly ackedUptimeMs: number }

/**
 * What is known of one lane without reading the disk. Owned by Outbox; others read it.
 *
 * `first ≤ acked ≤ durable ≤ next`; batches are stored for [first, durable), without holes.
 */
export class OutboxLane {
  readonly id: number
  readonly name: string
  readonly options: LaneOptions
  /** False: Hello of this session left it out; nothing of it is sent. */
  named = true
  /** Oldest first; each holds from its `start` to the next one's. */
  epochs: EpochEntry[] = []
  /** True once this process has begun an epoch of its own here (docs/adr/0001). */
  epochOpen = false
  /** Why the next epoch begins. */
  epochReason: EpochReason = 'started'
  /** Oldest offset held. */
  first = 0
  /** The cloud durably holds everything below. */
  acked = 0
  /** One past the last durable offset. */
  durable = 0
  /** Next offset to be given out. */
  next = 0
  /** Bytes stored and not acknowledged. */
  storedBytes = 0
  /** Payload bytes gathered and not yet durable. */
  pendingBytes = 0
  /** Acknowledged records given up to a bound or to corruption, ever. */
  dropped = 0
  /** What lies below was given to the sender in this link session and is not dropped. */
  handedOut = 0
  /** The local cache: acknowledged batches, oldest first. */
  kept: KeptBatch[] = []
  keptBytes = 0
  /** Newest durable batches, in memory: a sender that keeps up reads no disk. Contiguous up to `durable`. */
  tail: HeldBatch[] = []
  /** Batches below it may name an epoch from before the lane was re-identified, those under way at that moment too. */
  restampedBelow = 0
  /** Uptime stamp of the oldest waiting batch, as last looked up. */
  oldestUptimeMs: number | undefined
  /** A scan is going on that reads and drops must not overtake. */
  busy = false
  /** The space of everything below was given back, by so many passes. */
  reclaimed = { below: 0, passes: 0 }
  /** What `outboxAcked` would say differs from what it says. */
  dirty = false

  constructor(id: number, name: string, options: LaneOptions) {
    this.id = id
    this.name = name
    this.options = options
  }

  /** The newest epoch. */
  get epoch(): Epoch | undefined { return this.epochs.at(-1)?.epoch }

  /** The epoch that `offset` belongs to. */
  epochAt(offset: number): EpochEntry | undefined {
    for (let i = this.epochs.length - 1; i >= 0; i--) {
      if (this.epochs[i]!.start <= offset) return this.epochs[i]
    }
    return undefined
  }

  /** One past the last durable offset of an epoch. */
  epochEnd(epoch: EpochEntry): number {
    return this.epochs[this.epochs.indexOf(epoch) + 1]?.start ?? this.durable
  }

  /** Forgets everything but what is still being written; `load` fills it again. */
  reset(): void {
    this.epochs = []
    this.epochOpen = false
    this.epochReason = 'started'
    this.first = this.acked = this.durable = this.next = this.handedOut = 0
    this.storedBytes = this.keptBytes = this.dropped = 0
    this.kept = []
    this.tail = []
    this.restampedBelow = 0
    this.oldestUptimeMs = undefined
    this.busy = false
    this.dirty = false
  }
}
