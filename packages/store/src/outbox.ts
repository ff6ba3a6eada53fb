import { BatchBuilder, BatchError, batchNext, checkBatchBody, encodeGap, epochFromBytes, lanesMax, readBatchHeader,
  restampEpoch } from '@holdfast/protos'
import type { BatchHeader, BootId, Epoch, GapReason, HelloLane, RecordTopic, Watermark } from '@holdfast/protos'
import { HoldfastError, describeError, inertFailpoint, invariant } from '@holdfast/runtime'
import type { Clock, Failpoint, Log, Random } from '@holdfast/runtime'
import type { Commit, CommitPart, Committer } from './committer.ts'
import { encodeAcked, encodeEpoch, encodeLane, laneKey, offsetKey, offsetOfKey } from './outbox-format.ts'
import type { EpochEntry } from './outbox-format.ts'
import { OutboxLane, vanishedLaneOptions } from './outbox-lane.ts'
import type { BatchPlace, HeldBatch, LaneOptions } from './outbox-lane.ts'
import { gapParts, loadLane, loadLaneNames, tryGap, tryHeader } from './outbox-load.ts'
import type { Store, StoreEntry, WriteOp } from './store.ts'
import { tables } from './tables.ts'
import { writeSynced } from './write-synced.ts'

export interface OutboxOptions {
  /** Lanes by name. A lane that is stored but not named here is drained at low priority. */
  readonly lanes: Readonly<Record<string, LaneOptions>>
  readonly bootId: BootId
  /** Records at the end may have been lost without a trace: the store was salvaged, or dropped bytes when it opened. */
  readonly suspect: boolean
}

export interface OutboxComponents {
  readonly committer: Committer
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  /** True where the wall clock is known to have been set; stamped into every batch. */
  readonly clockSynchronised: () => boolean
  readonly failpoint?: Failpoint
}

export interface LaneStatus {
  readonly lane: string
  readonly epoch: Epoch | null
  /** Oldest offset held, the local cache included. */
  readonly firstOffset: number
  readonly nextOffset: number
  /** The cloud durably holds everything below. */
  readonly ackedOffset: number
  /** Offsets waiting for the cloud. */
  readonly records: number
  /** Bytes waiting for the cloud, as stored. */
  readonly bytes: number
  /** Node uptime since the oldest waiting record arrived. */
  readonly oldestAgeSeconds: number
  /** Acknowledged records given up to a bound or to corruption, ever (L5). */
  readonly droppedRecords: number
}

/** What a session should do with a lane (LOG-12). */
export type Comparison =
  | { readonly kind: 'position', readonly next: number }
  | { readonly kind: 'diverged', readonly epoch: Epoch, readonly next: number }
  /** What the cloud lacks was trimmed after Hello had named it, or Hello left the lane out and now it waits: another one. */
  | { readonly kind: 'trimmed' }

/** Memory for batches that are durable and not yet read by the sender, over all lanes. */
const tailBytesMax = 2 * 1024 * 1024
/** Keys deleted in one commit at most. */
const trimBatchesMax = 512
/**
 * The acknowledged offset is written down, and what it frees is deleted, in the company of new records and no more often
 * than this …
 */
const ackedWriteIntervalMs = 1000
/** … alone after so long without any, or where there is much to trim. A restart asks the cloud anyway. */
const ackedWriteAloneMs = 10_000
const trimBytesEager = 1024 * 1024
/** Buffers kept for the batches of the next commits. */
const builderPoolMax = 8
/** A lane that drops its oldest makes room in steps of this, so that it does not scan for every record. */
const dropStepBytes = 256 * 1024
/** How far a `drop-oldest` lane may pass its bound while room is being made; then it refuses for a moment. */
const dropSlackBytes = 4 * 1024 * 1024
const ageCheckIntervalMs = 5000
const reclaimPassesMax = 2
/** What could not be read is tried again after this. */
const readRetryDelayMs = 1000
/** Epochs that Hello names over all lanes, about, and how many acknowledged ones of a lane are among them. */
const helloEpochsMax = 4096
const helloEpochsBefore = 16

/**
 * Durable log of records waiting for the cloud: the edge's half of *once* (L2, L3). docs/spec/log.md has the rules named
 * here as LOG-n.
 *
 * Each lane is one line of dense offsets for ever. Epochs are stretches of that line; each process that appends begins
 * one of its own, so that no (epoch, offset) is ever written by two histories of the same disk (docs/adr/0001). After a
 * crash the outbox may hold records that the cloud already has, never a hole that is not a gap record.
 */
export class Outbox {
  readonly #options: OutboxOptions
  readonly #components: OutboxComponents
  readonly #failpoint: Failpoint
  readonly #lanes = new Map<number, OutboxLane>()
  readonly #configured = new Map<string, OutboxLane>()
  #store: Store
  #uptimeBaseMs = 0
  #openedMs = 0
  #refusal: HoldfastError | undefined
  /** While lanes are read anew, over attempts that fail. */
  #statusBefore: LaneStatus[] | undefined
  #tailBytes = 0
  #trimmedMs = -Infinity
  #trimTimer: { cancel(): void } | undefined
  #ageTimer: { cancel(): void } | undefined
  #closed = false
  readonly #availableListeners = new Set<(lane: OutboxLane) => void>()
  readonly #builderPool: BatchBuilder[] = []

  private constructor(options: OutboxOptions, store: Store, components: OutboxComponents) {
    this.#options = options
    this.#components = components
    this.#failpoint = components.failpoint ?? inertFailpoint
    this.#store = store
  }

  /** Reads what is stored, turns holes into gap records, and is ready to append. */
  static async open(options: OutboxOptions, store: Store, components: OutboxComponents): Promise<Outbox> {
    const outbox = new Outbox(options, store, components)
    await outbox.#load(options.suspect)
    outbox.#armAgeTimer()
    return outbox
  }

  /**
   * Goes on with a store that was opened anew after a failed write. What the failed commit left behind counts, the rest is
   * gone; like every start, this one begins new epochs. No session is under way when it is called, and none begins before
   * it resolves: lanes are read anew meanwhile, and name no epochs.
   */
  async reopen(store: Store, suspect: boolean): Promise<void> {
    this.#store = store
    this.#statusBefore ??= this.status()
    await this.#load(suspect)
    this.#statusBefore = undefined
    for (const lane of this.#lanes.values()) this.#tellAvailable(lane)
  }

  /** Stops timers; what is committed stays. */
  close(): void {
    this.#closed = true
    this.#ageTimer?.cancel()
    this.#trimTimer?.cancel()
  }

  /** All lanes, vanished ones too. */
  get lanes(): readonly OutboxLane[] { return [...this.#lanes.values()] }

  /** By configured name. */
  lane(name: string): OutboxLane | undefined { return this.#configured.get(name) }

  laneById(id: number): OutboxLane | undefined { return this.#lanes.get(id) }

  /** Milliseconds that this node's daemon has run, over all its starts: the clock of every age bound. */
  uptimeMs(): number { return this.#uptimeBaseMs + this.#components.clock.monotonicMs() - this.#openedMs }

  /** New records are refused with this error until it is taken back with `undefined`; what is stored drains on. */
  refuse(error: HoldfastError | undefined): void { this.#refusal = error }

  /**
   * `listener` is told when something new is durable in a lane or a busy lane can be read again, once a commit. Returns how
   * to stop it.
   */
  onAvailable(listener: (lane: OutboxLane) => void): () => void {
    this.#availableListeners.add(listener)
    return () => { this.#availableListeners.delete(listener) }
  }

  #tellAvailable(lane: OutboxLane): void { for (const listener of this.#availableListeners) listener(lane) }

  // ── appending ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * The commit being gathered now, for `bytes` of payload in `lane`. Throws HoldfastError `OUTBOX_FULL`, `DISK_FULL` or
   * `STORE_FAILED`, all retryable; nothing was written then.
   */
  gather(lane: OutboxLane, bytes: number): Commit {
    if (this.#refusal !== undefined) throw this.#refusal
    const { committer } = this.#components
    if (committer.failure !== undefined) {
      throw new HoldfastError('STORE_FAILED', 'the database is being opened again after a failed write: ' +
        describeError(committer.failure))
    }
    const options = lane.options
    const held = lane.storedBytes + lane.pendingBytes
    if (held + bytes > options.bytesMax) {
      if (options.overflow === 'reject' || held + bytes > options.bytesMax + dropSlackBytes) {
        throw new HoldfastError('OUTBOX_FULL', `lane ${lane.name} holds ${held} bytes for the cloud; ${bytes} more would ` +
          `pass its bytesMax of ${options.bytesMax}: restore the link, or raise lanes.${lane.name}.bytesMax`)
      }
      const excess = held + bytes - options.bytesMax + dropStepBytes
      this.#dropOldest(lane, 'overflow', (_header, droppedBytes) => droppedBytes < excess)
    }
    return committer.gather({ bytes, urgent: options.priority === 'high', delayMs: options.commitIntervalMs })
  }

  /** Adds one record to a commit that `gather` gave in this turn. The payload is copied. */
  append(commit: Commit, lane: OutboxLane, topic: RecordTopic, payload: Uint8Array): void {
    commit.part(this, () => {
      if (this.#sinceTrimMs() >= ackedWriteIntervalMs) this.#trimIn(commit)
      return new AppendPart(this)
    }).add(lane, topic, payload, this.uptimeMs())
    lane.pendingBytes += payload.length
  }

  /** For AppendPart: an empty builder, which `writeBatches` takes back. */
  builder(): BatchBuilder { return this.#builderPool.pop() ?? new BatchBuilder() }

  /** For AppendPart: stamps and stores the gathered batches of one lane. */
  writeBatches(ops: WriteOp[], lane: OutboxLane, builders: readonly BatchBuilder[]): HeldBatch[] {
    const uptimeMs = this.uptimeMs()
    const wallMs = this.#components.clock.wallMs()
    return builders.map(builder => {
      const base = lane.next
      const next = base + builder.count
      const bytes = builder.encode({
        ...this.#stamp(lane, base),
        wallMs: wallMs - (uptimeMs - builder.baseUptimeMs),
        uptimeMs: builder.baseUptimeMs
      })
      ops.push({ type: 'put', key: offsetKey(tables.outboxBatch, lane.id, base), value: bytes })
      lane.next = next
      if (this.#builderPool.length < builderPoolMax) this.#builderPool.push(builder)
      return { base, next, bytes }
    })
  }

  /** For AppendPart: the batches of one lane are durable; or, with an error, are not, and `reopen` will follow. */
  batchesSettled(lane: OutboxLane, batches: readonly HeldBatch[], payloadBytes: number, error?: Error): void {
    lane.pendingBytes -= payloadBytes
    if (error !== undefined) return
    if (lane.durable === lane.acked) lane.oldestUptimeMs = this.uptimeMs()
    for (const batch of batches) {
      lane.durable = batch.next
      lane.storedBytes += batch.bytes.length
      lane.tail.push(batch)
      this.#tailBytes += batch.bytes.length
    }
    while (this.#tailBytes > tailBytesMax) this.#releaseTail(this.#longestTail(), 1)
    this.#tellAvailable(lane)
  }

  #stamp(lane: OutboxLane, base: number): Parameters<BatchBuilder['encode']>[0] {
    return {
      lane: lane.id,
      epoch: lane.epochAt(base)!.epoch,
      base,
      bootId: this.#options.bootId,
      wallMs: this.#components.clock.wallMs(),
      uptimeMs: this.uptimeMs(),
      clockSynchronised: this.#components.clockSynchronised()
    }
  }

  // ── reading ────────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Lanes and epochs as Hello tells them (LOG-11): a few epochs before the first one that waits, and what follows, within
   * the frame's bounds. A node that started thousands of times while it was away drains them over several sessions. Lanes
   * left out here are not read before another Hello names them (LOG-14).
   */
  helloLanes(): HelloLane[] {
    const named = this.#lanesToName()
    for (const lane of this.#lanes.values()) lane.named = named.includes(lane)
    return named.map(lane => ({
      id: lane.id,
      name: lane.name,
      epochs: this.#helloEpochs(lane, Math.floor(helloEpochsMax / named.length)).map(entry => {
        const end = lane.epochEnd(entry)
        return {
          epoch: entry.epoch,
          predecessor: entry.predecessor,
          start: entry.start,
          first: Math.min(Math.max(entry.start, lane.first), end),
          next: end,
          reason: entry.reason
        }
      })
    }))
  }

  /**
   * Those of the configuration, then the vanished ones that hold something, first what still waits, up to the frame's bound: of
   * a drained one, too, a cloud that was put back may have lost the end.
   */
  #lanesToName(): OutboxLane[] {
    const vanished = this.lanes.filter(lane => this.#configured.get(lane.name) !== lane && lane.first < lane.durable)
    const waits = (lane: OutboxLane): boolean => lane.acked < lane.durable
    return [...this.#configured.values(), ...vanished.filter(waits), ...vanished.filter(lane => !waits(lane))].slice(0, lanesMax)
  }

  #helloEpochs(lane: OutboxLane, share: number): readonly EpochEntry[] {
    const waiting = lane.epochs.findIndex(entry => lane.epochEnd(entry) > lane.acked)
    const from = Math.max(0, (waiting === -1 ? lane.epochs.length - 1 : waiting) - helloEpochsBefore)
    return lane.epochs.slice(from, from + Math.max(2 * helloEpochsBefore, share))
  }

  /** While a store that was opened anew is being read: what was known before. */
  status(): LaneStatus[] {
    const uptimeMs = this.uptimeMs()
    return this.#statusBefore ?? this.lanes.map(lane => ({
      lane: lane.name,
      epoch: lane.epoch ?? null,
      firstOffset: lane.first,
      nextOffset: lane.durable,
      ackedOffset: lane.acked,
      records: lane.durable - lane.acked,
      bytes: lane.storedBytes,
      oldestAgeSeconds: lane.oldestUptimeMs === undefined ? 0 : Math.max(0, uptimeMs - lane.oldestUptimeMs) / 1000,
      droppedRecords: lane.dropped
    }))
  }

  /**
   * Gives the batches from the one that holds offset `from` on, about `bytesMax` bytes of them (at least one batch), to
   * `onBatches`: at once where they are in memory. An empty array: nothing durable there yet, or the lane is busy;
   * `onAvailable` will tell. What comes from disk was checked; a damaged batch became a gap record.
   */
  read(lane: OutboxLane, from: number, bytesMax: number, onBatches: (batches: readonly HeldBatch[]) => void): void {
    if (from >= lane.durable || lane.busy || !lane.named) {
      onBatches([])
      return
    }
    const head = lane.tail[0]
    if (head !== undefined && from >= head.base) {
      onBatches(this.#handOut(lane, this.#takeTail(lane, from, bytesMax)))
      return
    }
    void this.#exclusively(lane, 'reading back', async () => await this.#readStored(lane, from, bytesMax))
      .then(batches => onBatches(this.#handOut(lane, batches ?? [])))
  }

  /** A page of what is held, cached and waiting, for local readers; nothing is handed out by it. */
  async scan(lane: OutboxLane, from: number, bytesMax: number): Promise<readonly HeldBatch[]> {
    const at = Math.max(from, lane.first)
    return at >= lane.durable ? [] : await this.#readStored(lane, at, bytesMax)
  }

  #handOut(lane: OutboxLane, batches: readonly HeldBatch[]): readonly HeldBatch[] {
    lane.handedOut = Math.max(lane.handedOut, batches.at(-1)?.next ?? 0)
    return batches
  }

  #takeTail(lane: OutboxLane, from: number, bytesMax: number): HeldBatch[] {
    const batches: HeldBatch[] = []
    let bytes = 0
    let passed = 0
    for (const batch of lane.tail) {
      if (batch.next > from) {
        if (bytes > 0 && bytes + batch.bytes.length > bytesMax) break
        batches.push(batch.base >= lane.restampedBelow ? batch
          : { ...batch, bytes: this.#underItsEpoch(lane, readBatchHeader(batch.bytes), batch.bytes) })
        bytes += batch.bytes.length
      }
      passed++
    }
    this.#releaseTail(lane, passed)
    return batches
  }

  #releaseTail(lane: OutboxLane, count: number): void {
    for (const batch of lane.tail.splice(0, count)) this.#tailBytes -= batch.bytes.length
  }

  #longestTail(): OutboxLane {
    let longest: OutboxLane | undefined
    for (const lane of this.#lanes.values()) {
      if (longest === undefined || lane.tail.length > longest.tail.length) longest = lane
    }
    return longest!
  }

  /** Runs `work` while reads and drops of the lane wait; undefined where it failed or the store was reopened meanwhile. */
  async #exclusively<T>(lane: OutboxLane, what: string, work: () => Promise<T>): Promise<T | undefined> {
    lane.busy = true
    const store = this.#store
    let result: T | undefined
    try {
      result = await work()
    } catch (error) {
      const { committer, clock, log } = this.#components
      log.error(`outbox: ${what} failed`, { lane: lane.name, error: describeError(error) })
      if (error instanceof HoldfastError && error.code === 'STORE_CORRUPT') committer.fail(error)
      // Nobody asks again by himself where nothing new arrives.
      else clock.after(readRetryDelayMs, () => { if (store === this.#store && !this.#closed) this.#tellAvailable(lane) })
    }
    if (store !== this.#store) return undefined
    lane.busy = false
    // Who asked meanwhile got nothing: perhaps a session that knows nothing of this work. Told before the answer to it, so
    // that a read that fails is not tried again at once.
    this.#tellAvailable(lane)
    return result
  }

  async #readStored(lane: OutboxLane, from: number, bytesMax: number): Promise<HeldBatch[]> {
    const store = this.#store
    const lt = offsetKey(tables.outboxBatch, lane.id, lane.durable)
    const entries = await store.scan({ gte: offsetKey(tables.outboxBatch, lane.id, from), lt, bytesMax })
    if (entries.length === 0 || offsetOfKey(entries[0]!.key) > from) {
      // `from` lies inside a batch: a gap, which the cloud clips.
      const container = await this.#batchBelow(lane, from)
      if (container !== undefined) entries.unshift(container)
    }
    if (store !== this.#store) return []
    const batches: HeldBatch[] = []
    for (const [i, { key, value }] of entries.entries()) {
      const base = offsetOfKey(key)
      let bytes: Buffer = value
      let header = tryHeader(value)
      try {
        if (header === undefined || header.base !== base) throw new BatchError('batch header')
        checkBatchBody(value, header)
      } catch (error) {
        if (!(error instanceof BatchError)) throw error
        const following = entries[i + 1]
        const end = following === undefined ? await this.#baseBehind(lane, base) : offsetOfKey(following.key)
        bytes = await this.#replaceByGap(lane, base, end, value.length)
        header = readBatchHeader(bytes)
      }
      if (batchNext(header) > from) batches.push({ base, next: batchNext(header), bytes: this.#underItsEpoch(lane, header, bytes) })
    }
    return batches
  }

  /** Base of the batch behind the one at `base`, or the lane's end. */
  async #baseBehind(lane: OutboxLane, base: number): Promise<number> {
    const [entry] = await this.#store.scan({
      gte: offsetKey(tables.outboxBatch, lane.id, base + 1),
      lt: offsetKey(tables.outboxBatch, lane.id, lane.durable),
      limit: 1
    })
    return entry === undefined ? lane.durable : offsetOfKey(entry.key)
  }

  async #replaceByGap(lane: OutboxLane, base: number, end: number, storedBytes: number): Promise<Buffer> {
    const records = end - base
    this.#components.log.error('records lost to corruption', { lane: lane.name, first: base, last: end - 1, records })
    const gap = encodeGap(records, { reason: 'corrupt', records }, this.#stamp(lane, base))
    const commit = this.#components.committer.gather({ bytes: gap.length })
    commit.put(offsetKey(tables.outboxBatch, lane.id, base), gap)
    if (base >= lane.acked) {
      this.#trimIn(commit).change(() => { countDropped(lane, records) })
      lane.storedBytes += gap.length - storedBytes
    }
    await durable(commit)
    return gap
  }

  /** Stored bytes of a re-identified stretch still name the old epoch; they are sent under the one that holds now. */
  #underItsEpoch(lane: OutboxLane, header: BatchHeader, bytes: Buffer): Buffer {
    const epoch = lane.epochAt(header.base)!.epoch
    return header.epoch === epoch ? bytes : restampEpoch(bytes, epoch)
  }

  // ── what the cloud says ────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Compares the cloud's watermarks with what is here (LOG-12). `position`: the cloud holds everything below `next`, which
   * its watermark shows by naming our own bytes, by lying at or below what is known to be acknowledged (the cloud may have
   * lost its end; it gets that again as far as it is still here), inside a gap of our own, or beyond the end of an epoch
   * that an earlier process wrote (a restored backup of this disk: what the cloud has more of that epoch, it has from us).
   * `diverged`: it names bytes that are not ours.
   */
  async compare(lane: OutboxLane, watermarks: readonly Watermark[]): Promise<Comparison> {
    if (!lane.named) return this.#lanesToName().includes(lane) ? { kind: 'trimmed' } : { kind: 'position', next: lane.acked }
    for (const entry of lane.epochs) {
      const end = lane.epochEnd(entry)
      const ours = lane.epochOpen && entry === lane.epochs.at(-1)
      if (end <= lane.first && !ours) continue
      const watermark = watermarks.find(candidate => candidate.epoch === entry.epoch)
      // Hello did not name it: an old one that is acknowledged, or one behind what a session can take.
      if (watermark === undefined && end <= lane.acked && !ours) continue
      const next = watermark?.next ?? Math.max(entry.start, lane.acked)
      if (next > end) {
        if (ours) return { kind: 'diverged', epoch: entry.epoch, next }
        continue
      }
      if (next > Math.max(lane.acked, entry.start) && !await this.#endsAt(lane, next, watermark!.crc)) {
        return { kind: 'diverged', epoch: entry.epoch, next }
      }
      if (next < end) return next < lane.first ? { kind: 'trimmed' } : { kind: 'position', next }
    }
    return { kind: 'position', next: lane.durable }
  }

  async #endsAt(lane: OutboxLane, next: number, crc: number): Promise<boolean> {
    const entry = await this.#batchBelow(lane, next)
    const header = entry === undefined ? undefined : tryHeader(entry.value)
    if (entry === undefined || header === undefined || batchNext(header) < next) return false
    if (header.kind === 'gap') return true
    return batchNext(header) === next && readBatchHeader(this.#underItsEpoch(lane, header, entry.value)).crc === crc
  }

  /**
   * The cloud acknowledged everything below `next`; `batches` are those that end there, as this session read them. Trims
   * in a later commit, never the last batch of a lane (LOG-9).
   */
  acknowledge(lane: OutboxLane, next: number, batches: readonly BatchPlace[]): void {
    if (next <= lane.acked) return
    invariant(next <= lane.durable, 'acknowledged beyond the durable end', { lane: lane.name, next, durable: lane.durable })
    const ackedUptimeMs = Math.floor(this.uptimeMs())
    for (const { base, next: end, bytes } of batches) {
      lane.kept.push({ base, next: end, bytes, ackedUptimeMs })
      lane.keptBytes += bytes
      lane.storedBytes -= bytes
    }
    lane.acked = next
    lane.handedOut = Math.max(lane.handedOut, next)
    lane.dirty = true
    const head = lane.tail[0]
    if (next === lane.durable) lane.oldestUptimeMs = undefined
    else if (head !== undefined && head.base <= next) lane.oldestUptimeMs = readBatchHeader(head.bytes).uptimeMs
    this.#trimSoon(lane)
  }

  /** Takes in what `compare` found: the cloud holds everything below `next`, and nothing from there on. */
  async moveTo(lane: OutboxLane, next: number): Promise<void> {
    if (next < lane.acked) {
      // A gap that reaches beyond `next` waits again, whole; the cloud clips it.
      while (lane.kept.length > 0 && lane.kept.at(-1)!.next > next) {
        const { bytes } = lane.kept.pop()!
        lane.keptBytes -= bytes
        lane.storedBytes += bytes
      }
      lane.acked = lane.handedOut = next
      lane.dirty = true
      await this.#lookUpAges()
      return
    }
    await this.#advance(lane, next)
  }

  async #advance(lane: OutboxLane, next: number): Promise<void> {
    const store = this.#store
    // A gap that is acknowledged in part still waits as a whole.
    const over = lane.acked < next ? await this.#containerOf(lane, lane.acked) : undefined
    let from = over === undefined ? lane.acked : readBatchHeader(over).base
    // Reopened meanwhile: what the cloud said was said to lanes as they were before.
    if (store !== this.#store) return
    while (lane.acked < next) {
      const entries = await store.scan({
        gte: offsetKey(tables.outboxBatch, lane.id, from),
        lt: offsetKey(tables.outboxBatch, lane.id, next)
      })
      if (store !== this.#store) return
      const places: BatchPlace[] = []
      for (const { key, value } of entries) {
        const header = tryHeader(value)
        const base = offsetOfKey(key)
        places.push({ base, next: header === undefined ? base + 1 : batchNext(header), bytes: value.length })
      }
      // The last one may be a gap that reaches beyond: it stays waiting, and the cloud clips it.
      if ((places.at(-1)?.next ?? 0) > next) places.pop()
      const reached = entries.length === 0 || places.length < entries.length ? next : places.at(-1)!.next
      this.acknowledge(lane, reached, places)
      from = lane.acked
    }
    lane.handedOut = lane.acked
  }

  /**
   * The lane diverged: what is not acknowledged goes to a new epoch `re-identified`, from the acknowledged offset on
   * (LOG-13). Nothing is trimmed; the stored bytes stay and get their epoch when they are read.
   */
  async reidentify(lane: OutboxLane): Promise<void> {
    const store = this.#store
    const start = lane.acked
    const container = await this.#containerOf(lane, start)
    if (store !== this.#store) return
    const commit = this.#components.committer.gather({ bytes: 128 })
    const entry: EpochEntry = {
      start,
      epoch: epochFromBytes(this.#components.random.bytes(8)),
      predecessor: (lane.epochAt(start - 1) ?? lane.epochs[0])?.epoch,
      reason: 're-identified'
    }
    for (const later of lane.epochs.filter(epoch => epoch.start > start)) {
      commit.del(offsetKey(tables.outboxEpoch, lane.id, later.start))
    }
    const key = offsetKey(tables.outboxEpoch, lane.id, start)
    commit.put(key, encodeEpoch(key, entry, lane.name))
    lane.epochs = [...lane.epochs.filter(epoch => epoch.start < start), entry]
    lane.epochOpen = true
    this.#releaseTail(lane, lane.tail.length)
    lane.restampedBelow = lane.next
    if (container !== undefined) this.#splitGap(commit, lane, container)
    this.#failpoint('reidentify:before')
    await durable(commit)
    this.#failpoint('reidentify:after')
  }

  /** A gap over which a new epoch begins becomes two, the first of them acknowledged. */
  #splitGap(commit: Commit, lane: OutboxLane, value: Buffer): void {
    const parts = gapParts(lane, readBatchHeader(value), value)
    lane.storedBytes -= value.length
    for (const { base, next, bytes } of parts) {
      commit.put(offsetKey(tables.outboxBatch, lane.id, base), bytes)
      if (next > lane.acked) {
        lane.storedBytes += bytes.length
        continue
      }
      lane.kept.push({ base, next, bytes: bytes.length, ackedUptimeMs: Math.floor(this.uptimeMs()) })
      lane.keptBytes += bytes.length
    }
  }

  /** The batch that begins below `offset` and ends above it: a gap. */
  async #containerOf(lane: OutboxLane, offset: number): Promise<Buffer | undefined> {
    const entry = await this.#batchBelow(lane, offset)
    const header = entry === undefined ? undefined : tryHeader(entry.value)
    return header !== undefined && batchNext(header) > offset ? entry!.value : undefined
  }

  /** The newest batch that begins below `offset`. */
  async #batchBelow(lane: OutboxLane, offset: number): Promise<StoreEntry | undefined> {
    const [entry] = await this.#store.scan({
      gte: offsetKey(tables.outboxBatch, lane.id, 0),
      lt: offsetKey(tables.outboxBatch, lane.id, offset),
      limit: 1,
      reverse: true
    })
    return entry
  }

  /** Another cloud log holds nothing of ours: everything that is still here waits again (design §6). */
  async forgetAcknowledged(): Promise<void> {
    const commit = this.#components.committer.gather({ bytes: 64 })
    for (const lane of this.#lanes.values()) {
      lane.storedBytes += lane.keptBytes
      lane.kept = []
      lane.keptBytes = 0
      lane.acked = lane.handedOut = lane.first
      lane.dirty = true
    }
    this.#trimIn(commit)
    await durable(commit)
    await this.#lookUpAges()
  }

  // ── trimming ───────────────────────────────────────────────────────────────────────────────────────────────────────

  #trimSoon(lane: OutboxLane): void {
    const eager = lane.keptBytes > lane.options.keepBytes + trimBytesEager || lane.kept.length > 2 * trimBatchesMax
    if (eager && this.#trimmable(lane) > 0) this.#trim()
    else this.#armTrimTimer(ackedWriteAloneMs)
  }

  #armTrimTimer(delayMs: number): void {
    this.#trimTimer ??= this.#components.clock.after(delayMs, () => {
      this.#trimTimer = undefined
      // A rest smaller than the clock can tell would go round at once, for ever.
      const remainingMs = Math.ceil(ackedWriteAloneMs - this.#sinceTrimMs())
      if (remainingMs <= 0) this.#trim()
      else if (this.lanes.some(lane => lane.dirty)) this.#armTrimTimer(remainingMs)
    })
  }

  #sinceTrimMs(): number { return this.#components.clock.monotonicMs() - this.#trimmedMs }

  #trim(): void {
    const { committer } = this.#components
    if (committer.failure !== undefined || this.#closed) return
    if (this.lanes.some(lane => lane.dirty || this.#trimmable(lane) > 0)) this.#trimIn(committer.gather({ bytes: 64 }))
  }

  /** The one way to the rows of `outboxAcked`: what they say is read when the commit is written, not when it is gathered. */
  #trimIn(commit: Commit): TrimPart {
    this.#trimmedMs = this.#components.clock.monotonicMs()
    return commit.part(TrimPart, () => new TrimPart(this))
  }

  /**
   * For TrimPart: writes down what is acknowledged and deletes what the local cache does not want any more. Tells whether
   * anything was, and whether more is left.
   */
  writeTrim(ops: WriteOp[]): TrimOutcome {
    const before = ops.length
    let more = false
    for (const lane of this.#lanes.values()) {
      const count = this.#trimmable(lane)
      if (count === 0 && !lane.dirty) continue
      for (const batch of lane.kept.splice(0, count)) {
        ops.push({ type: 'del', key: offsetKey(tables.outboxBatch, lane.id, batch.base) })
        lane.keptBytes -= batch.bytes
        lane.first = batch.next
      }
      ops.push(this.#ackedOp(lane))
      more ||= count === trimBatchesMax
    }
    const some = ops.length > before
    if (some) this.#failpoint('trim:before')
    return { some, more }
  }

  /** For TrimPart. */
  trimSettled({ some, more }: TrimOutcome, error?: Error): void {
    if (some) this.#failpoint('trim:after')
    if (more && error === undefined) this.#trim()
  }

  /** How many of the oldest acknowledged batches the local cache does not want any more. */
  #trimmable(lane: OutboxLane): number {
    const uptimeMs = this.uptimeMs()
    let bytes = lane.keptBytes
    let count = 0
    for (const batch of lane.kept) {
      const wanted = bytes <= lane.options.keepBytes && uptimeMs - batch.ackedUptimeMs < lane.options.keepAgeMs
      if (wanted || batch.next >= lane.durable || count === trimBatchesMax) break
      bytes -= batch.bytes
      count++
    }
    return count
  }

  #ackedOp(lane: OutboxLane): WriteOp {
    lane.dirty = false
    const { acked, first, dropped } = lane
    const key = laneKey(tables.outboxAcked, lane.id)
    return { type: 'put', key, value: encodeAcked(key, { acked, first, dropped }) }
  }

  /**
   * Gives the space of what was trimmed since the last call back to the file system. Where nothing was for two calls, nothing
   * is done: to sort what has to stay takes free space, and gives none. The second pass is for files that a read still
   * held in the first: LevelDB deletes them at the end of the next compaction, which may be long in coming.
   */
  async reclaim(): Promise<void> {
    for (const lane of this.#lanes.values()) {
      const { below, passes } = lane.reclaimed
      if (lane.first === 0 || (lane.first === below && passes >= reclaimPassesMax)) continue
      lane.reclaimed = { below: lane.first, passes: lane.first === below ? passes + 1 : 1 }
      await this.#store.compact(offsetKey(tables.outboxBatch, lane.id, 0), offsetKey(tables.outboxBatch, lane.id, lane.first))
    }
  }

  // ── giving up the oldest ───────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Replaces the oldest waiting batches that are not in flight by one gap record, which grows if there is one already, in
   * one commit (LOG-8).
   */
  #dropOldest(lane: OutboxLane, reason: GapReason, wanted: (header: BatchHeader, droppedBytes: number) => boolean): void {
    if (lane.busy) return
    void this.#exclusively(lane, 'dropping the oldest', async () => {
      const store = this.#store
      const run = await this.#findDroppable(lane, reason, wanted)
      if (run === undefined || store !== this.#store) return
      const records = run.gapRecords + run.records
      const gap = encodeGap(run.next - run.base, { reason, records }, this.#stamp(lane, run.base))
      const commit = this.#components.committer.gather({ bytes: 256 })
      for (const base of run.bases) {
        if (base !== run.base) commit.del(offsetKey(tables.outboxBatch, lane.id, base))
      }
      commit.put(offsetKey(tables.outboxBatch, lane.id, run.base), gap)
      this.#trimIn(commit).change(() => { countDropped(lane, run.records) })
      const inTail = lane.tail.findIndex(batch => batch.base >= run.next)
      this.#releaseTail(lane, inTail === -1 ? lane.tail.length : inTail)
      await durable(commit)
      lane.storedBytes += gap.length - run.bytes
      this.#components.log.warn('records given up', {
        lane: lane.name, reason, first: run.base, last: run.next - 1, records: run.records
      })
    }).then(async () => { await this.#lookUpAges() })
  }

  /**
   * The longest run of batches from the oldest on that `wanted` accepts, with a gap of the same reason before it; never
   * the last batch, from which the lane's end is known; never across an epoch's end.
   */
  async #findDroppable(lane: OutboxLane, reason: GapReason, wanted: (header: BatchHeader, droppedBytes: number) => boolean):
  Promise<DropRun | undefined> {
    let run: DropRun | undefined
    let from = lane.handedOut
    for (;;) {
      const entries = await this.#store.scan({
        gte: offsetKey(tables.outboxBatch, lane.id, from),
        lt: offsetKey(tables.outboxBatch, lane.id, lane.durable)
      })
      if (entries.length === 0) return done(run)
      for (const { key, value } of entries) {
        const base = offsetOfKey(key)
        const header = tryHeader(value)
        if (header === undefined || batchNext(header) >= lane.durable) return done(run)
        from = batchNext(header)
        const gap = header.kind === 'gap' ? tryGap(value, header) : undefined
        if (run !== undefined && run.epoch !== lane.epochAt(base)?.epoch) {
          if (run.records > 0) return run
          run = undefined
        }
        if (gap === undefined && !wanted(header, run?.droppedBytes ?? 0)) return done(run)
        if (gap !== undefined && gap.reason !== reason) {
          if (done(run) !== undefined) return run
          run = undefined
          continue
        }
        run ??= { base, next: base, bases: [], bytes: 0, droppedBytes: 0, records: 0, gapRecords: 0, epoch: lane.epochAt(base)?.epoch }
        run.bases.push(base)
        run.next = batchNext(header)
        run.bytes += value.length
        if (gap === undefined) {
          run.records += header.count
          run.droppedBytes += value.length
        } else run.gapRecords += gap.records
      }
    }
  }

  #armAgeTimer(): void {
    this.#ageTimer = this.#components.clock.after(ageCheckIntervalMs, () => {
      if (this.#closed) return
      this.#armAgeTimer()
      void this.#lookUpAges().then(() => { this.#expire() })
    })
  }

  #expire(): void {
    if (this.#components.committer.failure !== undefined) return
    const uptimeMs = this.uptimeMs()
    for (const lane of this.#lanes.values()) {
      const { ageMaxMs } = lane.options
      if (ageMaxMs !== undefined && lane.oldestUptimeMs !== undefined && uptimeMs - lane.oldestUptimeMs > ageMaxMs) {
        this.#dropOldest(lane, 'expired', header => uptimeMs - header.uptimeMs > ageMaxMs)
      }
      if (lane.kept.length > 0) this.#trimSoon(lane)
    }
  }

  /** Refreshes `oldestUptimeMs` of the lanes that wait, from the first waiting batch of records. */
  async #lookUpAges(): Promise<void> {
    for (const lane of this.#lanes.values()) {
      if (lane.acked === lane.durable) continue
      try {
        const [entry] = await this.#store.scan({
          gte: offsetKey(tables.outboxBatch, lane.id, lane.acked),
          lt: offsetKey(tables.outboxBatch, lane.id, lane.durable),
          limit: 1
        })
        const header = entry === undefined ? undefined : tryHeader(entry.value)
        if (header !== undefined && lane.acked < lane.durable) lane.oldestUptimeMs = header.uptimeMs
      } catch (error) {
        this.#components.log.debug('outbox: age unknown', { lane: lane.name, error: describeError(error) })
      }
    }
  }

  // ── opening ────────────────────────────────────────────────────────────────────────────────────────────────────────

  async #load(suspect: boolean): Promise<void> {
    const { clock, random, log } = this.#components
    this.#tailBytes = 0
    const { names: stored, repairs: fresh } = await loadLaneNames(this.#store, Object.keys(this.#options.lanes))
    for (const name of Object.keys(this.#options.lanes)) {
      if ([...stored.values()].includes(name)) continue
      const id = Math.max(0, ...stored.keys()) + 1
      stored.set(id, name)
      const key = laneKey(tables.outboxLane, id)
      fresh.push({ type: 'put', key, value: encodeLane(key, name) })
    }
    if (fresh.length > 0) await writeSynced(this.#store, fresh)
    let uptimeMs = this.#uptimeBaseMs === 0 ? 0 : this.uptimeMs()
    for (const [id, name] of stored) {
      let lane = this.#lanes.get(id)
      if (lane === undefined) {
        lane = new OutboxLane(id, name, this.#options.lanes[name] ?? vanishedLaneOptions)
        this.#lanes.set(id, lane)
        if (name in this.#options.lanes) this.#configured.set(name, lane)
      }
      uptimeMs = Math.max(uptimeMs, await loadLane(lane, this.#store, suspect, {
        bootId: this.#options.bootId, clock, random, log
      }))
    }
    this.#uptimeBaseMs = uptimeMs
    this.#openedMs = clock.monotonicMs()
    const begun: WriteOp[] = []
    for (const lane of this.#configured.values()) this.#beginEpoch(begun, lane)
    this.#failpoint('epoch:before')
    await writeSynced(this.#store, begun)
    this.#failpoint('epoch:after')
  }

  /** Everything that this process appends goes to an epoch of its own (LOG-4); one that stayed empty is replaced. */
  #beginEpoch(ops: WriteOp[], lane: OutboxLane): void {
    const last = lane.epochs.at(-1)
    // Forgotten: epochs of which nothing is held; the newest of them stays, as the chain's link.
    while (lane.epochs.length > 1 && lane.epochs[1]!.start <= lane.first) {
      ops.push({ type: 'del', key: offsetKey(tables.outboxEpoch, lane.id, lane.epochs.shift()!.start) })
    }
    if (last?.start === lane.next) lane.epochs.pop()
    const entry: EpochEntry = {
      start: lane.next,
      epoch: epochFromBytes(this.#components.random.bytes(8)),
      predecessor: last?.epoch,
      reason: lane.epochReason
    }
    const key = offsetKey(tables.outboxEpoch, lane.id, entry.start)
    ops.push({ type: 'put', key, value: encodeEpoch(key, entry, lane.name) })
    lane.epochs.push(entry)
    lane.epochOpen = true
  }
}

interface DropRun {
  base: number
  next: number
  bases: number[]
  /** Stored bytes of everything that goes, gaps included. */
  bytes: number
  /** Stored bytes of the batches of records that go. */
  droppedBytes: number
  records: number
  /** Records that the gaps which grow stood for already. */
  gapRecords: number
  epoch: Epoch | undefined
}

function done(run: DropRun | undefined): DropRun | undefined { return run !== undefined && run.records > 0 ? run : undefined }

function durable(commit: Commit): Promise<void> {
  return new Promise((resolve, reject) => {
    commit.onDurable(error => {
      if (error === undefined) resolve()
      else reject(error)
    })
  })
}

function countDropped(lane: OutboxLane, records: number): void {
  lane.dropped += records
  lane.dirty = true
}

interface TrimOutcome { readonly some: boolean, readonly more: boolean }

interface OpenLane {
  readonly builders: BatchBuilder[]
  payloadBytes: number
  batches: readonly HeldBatch[]
}

/** The records of one commit, by lane, gathered straight into batch bodies. */
class AppendPart implements CommitPart {
  readonly #outbox: Outbox
  readonly #lanes = new Map<OutboxLane, OpenLane>()

  constructor(outbox: Outbox) { this.#outbox = outbox }

  add(lane: OutboxLane, topic: RecordTopic, payload: Uint8Array, uptimeMs: number): void {
    let open = this.#lanes.get(lane)
    if (open === undefined) {
      open = { builders: [this.#outbox.builder()], payloadBytes: 0, batches: [] }
      this.#lanes.set(lane, open)
    }
    let builder = open.builders.at(-1)!
    if (!builder.fits(payload.length)) {
      builder = this.#outbox.builder()
      open.builders.push(builder)
    }
    builder.add(topic, payload, uptimeMs)
    open.payloadBytes += payload.length
  }

  write(ops: WriteOp[]): void {
    for (const [lane, open] of this.#lanes) open.batches = this.#outbox.writeBatches(ops, lane, open.builders)
  }

  settled(error?: Error): void {
    for (const [lane, open] of this.#lanes) this.#outbox.batchesSettled(lane, open.batches, open.payloadBytes, error)
  }
}

/** What is acknowledged, and what that frees, in the company of other changes. */
class TrimPart implements CommitPart {
  readonly #outbox: Outbox
  readonly #changes: (() => void)[] = []
  #outcome: TrimOutcome = { some: false, more: false }

  constructor(outbox: Outbox) { this.#outbox = outbox }

  /** Applied when the commit is written: no commit that is written earlier says of it. */
  change(apply: () => void): void { this.#changes.push(apply) }

  write(ops: WriteOp[]): void {
    for (const apply of this.#changes) apply()
    this.#outcome = this.#outbox.writeTrim(ops)
  }

  settled(error?: Error): void { this.#outbox.trimSettled(this.#outcome, error) }
}
