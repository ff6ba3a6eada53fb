import type { BatchHeader, GapBody, GapReason } from '@holdfast/protos'
import { batchNext, cursorIndexEnd, encodeGap, readBatchHeader } from '@holdfast/protos'
import { backoffDelayMs, describeError, hasCode, invariant } from '@holdfast/runtime'
import type { Clock, Failpoint, Log, NodeName, Random, Timer } from '@holdfast/runtime'
import type { CommitPart, Store, StoreOpener, WriteOp } from '@holdfast/store'
import { Committer } from '@holdfast/store'
import type {
  AppendResult, Arrival, CloudLog, CloudLogStats, CloudStream, LogPage, NodeTotals, OnAppended, ReadOptions, StreamEpoch,
  StreamLane, StreamWatermark
} from './cloud-log.ts'
import { cloudLogError, CursorError } from './cloud-log.ts'
import type { CursorPlace } from './cursor.ts'
import { decodeCursor, encodeCursor } from './cursor.ts'
import { decodeRow, encodeEntry, entryCrc, entryKey, indexFirst, indexKey } from './entry.ts'
import { cloudBootId, EntryReader } from './entry-reader.ts'
import { cloudLogLimits } from './limits.ts'
import { tryGap } from './read-entry.ts'
import type { LoadedLog, SegmentBounds } from './log-load.ts'
import { createLog, loadLog, salvageLog } from './log-load.ts'
import type { LogState } from './log-state.ts'
import { StreamState } from './registry.ts'
import type { SegmentRow } from './segment.ts'
import { SegmentIndex } from './segment-index.ts'
import { writeSynced } from './write-synced.ts'

export interface LevelLogOptions {
  /** Bytes of batches that are kept; the oldest segments go first. */
  readonly retentionBytesMax: number
  /** Batches received longer ago go, segment by segment. Milliseconds. */
  readonly retentionAgeMaxMs: number
  /** Default: `segmentBytes` of the limits, or a sixteenth of `retentionBytesMax` where that is less. */
  readonly segmentBytes?: number
  /** Default: `segmentEntries` of the limits. */
  readonly segmentEntries?: number
}

export interface LevelLogComponents {
  readonly opener: StoreOpener
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  /** Told of every group commit. */
  readonly onCommit?: (durationMs: number, bytes: number) => void
  readonly failpoint?: Failpoint
}

/** How often age is looked at. */
const retentionIntervalMs = 60_000
const reopenBackoff = { baseMs: 500, maxMs: 30_000 }
/** Damaged entries are counted once as long as so many are known. */
const knownCorruptMax = 4096

/** What is there while the store is open. */
interface OpenLog {
  readonly store: Store
  readonly committer: Committer
  readonly state: LogState
  readonly index: SegmentIndex
  readonly reader: EntryReader
}

/**
 * The cloud log over a Store: one entry a batch, keyed by a dense commit sequence number; group commits; a checkpoint
 * every segment, from which offsets are derived at open (docs/spec/log.md, "Cloud log").
 *
 * A failed write makes every stream stale; the log opens its store again by itself, with back-off. A store that cannot be
 * trusted is quarantined, salvaged into a new one, and the log then has a new `logId`.
 */
export class LevelLog implements CloudLog {
  readonly stats: CloudLogStats = {
    batches: 0, records: 0, bytes: 0, phantoms: 0, conflicts: 0, gaps: 0, corruptEntries: 0, entriesDropped: 0, reopens: 0,
    salvages: 0
  }
  readonly #options: LevelLogOptions
  readonly #bounds: SegmentBounds
  readonly #components: LevelLogComponents
  readonly #corrupt = new Set<number>()
  readonly #wakeReaders = new Set<() => void>()
  #open: OpenLog | undefined
  #logId = ''
  #timer: Timer | undefined
  #retaining: Promise<void> | undefined
  #recovering: Promise<void> | undefined
  #endRecoveryWait: (() => void) | undefined
  #closed: Promise<void> | undefined

  private constructor(options: LevelLogOptions, components: LevelLogComponents) {
    this.#options = options
    this.#components = components
    this.#bounds = {
      segmentBytes: options.segmentBytes ?? Math.min(cloudLogLimits.segmentBytes.value, Math.ceil(options.retentionBytesMax / 16)),
      segmentEntries: options.segmentEntries ?? cloudLogLimits.segmentEntries.value
    }
  }

  /**
   * Opens the log, makes one where there is none, and makes one anew from what can be salvaged where the store or its
   * registry is damaged. Rejects with STORE_LOCKED or STORE_FAILED.
   */
  static async open(options: LevelLogOptions, components: LevelLogComponents): Promise<LevelLog> {
    const log = new LevelLog(options, components)
    await log.#openStore()
    log.#armRetention()
    return log
  }

  get logId(): string { return this.#logId }

  async openStream(node: NodeName, lane: StreamLane, epoch: StreamEpoch): Promise<CloudStream> {
    return this.#requireOpen().state.registry.stream(node, lane, epoch)
  }

  lineEnd(node: NodeName, lane: string, { epoch, predecessor }: StreamEpoch): number | undefined {
    const streams = this.#requireOpen().state.registry.node(node)?.lanes.get(lane)?.streams.filter(({ stored }) => stored) ?? []
    if (streams.some(stream => stream.epoch === epoch)) return undefined
    const before = streams.findLast(stream => stream.epoch === predecessor)
    return before?.durable.next ?? streams.reduce((end, { durable }) => Math.max(end, durable.next), 0)
  }

  append(stream: CloudStream, batch: Buffer, header: BatchHeader, arrival: Arrival, onDone: OnAppended): void {
    const open = this.#usable(stream, onDone)
    if (open === undefined) return
    const state = ownStream(stream)
    invariant(header.epoch === state.epoch, 'a batch goes to the stream of its epoch', { batch: header.epoch, stream: state.epoch })
    const end = batchNext(header)
    const gap = header.kind === 'gap' ? tryGap(batch, header) : undefined
    if (header.kind === 'gap' && gap === undefined) {
      this.#afterPending(open, onDone, () => this.#conflict(state))
    } else if (header.base === state.next && (header.kind === 'gap' || header.count <= header.rawLength)) {
      this.#write(open, state, batch, header, arrival, false, onDone)
    } else if (gap !== undefined && header.base < state.next) {
      if (end <= state.next) this.#afterPending(open, onDone, () => this.#phantom(state))
      else this.#clipGap(open, state, gap, header, arrival, onDone)
    } else if (end <= state.next) {
      this.#compare(open, state, header, onDone)
    } else {
      this.#afterPending(open, onDone, () => this.#conflict(state))
    }
  }

  writeGap(stream: CloudStream, count: number, gap: { readonly reason: GapReason, readonly records: number },
    receivedAtMs: number, onDone: OnAppended): void {
    const open = this.#usable(stream, onDone)
    if (open === undefined) return
    const state = ownStream(stream)
    this.#writeGap(open, state, state.next, count, gap, receivedAtMs, false, onDone)
  }

  watermark(stream: CloudStream): StreamWatermark { return ownStream(stream).durable }

  nodes(): NodeTotals[] { return this.#requireOpen().state.registry.totals() }

  async* read(options: ReadOptions, signal: AbortSignal): AsyncGenerator<LogPage> {
    signal.throwIfAborted()
    const bytesMax = options.pageBytesMax ?? cloudLogLimits.pageBytes.value
    const filter = { node: options.node, lane: options.lane }
    const logId = this.#logId
    let place = options.cursor === undefined ? this.#firstPlace() : await this.#placeOf(options.cursor)
    let started = options.cursor !== undefined
    let idle = false
    for (let first = true; ; first = false) {
      signal.throwIfAborted()
      const open = this.#requireOpen()
      if (this.#logId !== logId || place.seq > open.state.nextSeq) throw this.#foreign('the log was made anew while it was read')
      // A reader without a cursor has lost nothing as long as it has seen nothing.
      if (!started && place.seq < open.state.floor) place = this.#firstPlace()
      const page = await open.reader.page(place, filter, bytesMax)
      // Deletions move the floor before they reach the disk: what was read above it was whole.
      if (place.seq < open.state.floor) {
        if (!started) continue
        throw this.#expired(place)
      }
      idle = page.place.seq === place.seq
      place = page.place
      if (page.entries.length > 0 || first) {
        started ||= page.entries.length > 0
        yield page.entries
      }
      if (place.seq < open.state.durableSeq && !idle) continue
      if (options.follow !== true) return
      await this.#nextCommit(place.seq, signal)
    }
  }

  /** Drops what retention allows to drop; also runs by itself, after each segment and every minute. */
  retain(): Promise<void> {
    this.#retaining ??= this.#retain().finally(() => { this.#retaining = undefined })
    return this.#retaining
  }

  [Symbol.asyncDispose](): Promise<void> { return this.close() }

  /** Finishes what was handed in, then releases the store. Idempotent. */
  close(): Promise<void> {
    this.#closed ??= this.#shutDown()
    return this.#closed
  }

  async #shutDown(): Promise<void> {
    this.#timer?.cancel()
    this.#endRecoveryWait?.()
    await this.#recovering
    const open = this.#open
    await open?.committer.close()
    this.#open = undefined
    this.#wake()
    await this.#retaining
    await open?.store.close()
  }

  /** Everything that is appended goes through here. */
  #write(open: OpenLog, stream: StreamState, batch: Buffer, header: BatchHeader, arrival: Arrival, repair: boolean,
    onDone: OnAppended): void {
    const { state, committer } = open
    const commit = committer.gather({ bytes: batch.length + 64 })
    for (const op of state.registerOps(stream)) commit.put(op.key, (op as WriteOp & { type: 'put' }).value)
    const seq = state.nextSeq
    commit.put(entryKey(seq), encodeEntry({ seq, nodeId: stream.nodeState.id, streamId: stream.id, repair, ...arrival }, batch))
    state.admit(seq, stream, header, repair, arrival.receivedAtMs)
    const { next, crc } = stream
    commit.part(this, () => new DurablePart(open, () => this.#wake())).endSeq = seq + 1
    commit.onDurable(error => {
      if (error !== undefined) {
        onDone(failed(error))
        return
      }
      stream.durable = { next, crc }
      this.stats.batches++
      this.stats.bytes += batch.length
      if (header.kind === 'records') this.stats.records += header.count
      else this.stats.gaps++
      onDone({ kind: 'appended', next, crc })
    })
    const segment = state.openSegment
    if (segment.bytes < this.#bounds.segmentBytes && segment.entries < this.#bounds.segmentEntries) return
    this.#seal(open)
  }

  /** In the commit that is being gathered in this turn. */
  #seal(open: OpenLog): void {
    const segment = open.state.openSegment
    const commit = open.committer.gather({ bytes: 0 })
    for (const op of open.state.sealOps()) if (op.type === 'put') commit.put(op.key, op.value)
    commit.onDurable(error => {
      if (error !== undefined) return
      open.state.sealed(segment)
      this.#retainLater()
    })
  }

  #clipGap(open: OpenLog, stream: StreamState, { reason, records }: GapBody, header: BatchHeader, arrival: Arrival,
    onDone: OnAppended): void {
    const count = batchNext(header) - stream.next
    const clipped = encodeGap(count, { reason, records: Math.min(records, count) }, {
      lane: header.lane, epoch: header.epoch, base: stream.next, bootId: header.bootId, wallMs: header.wallMs,
      uptimeMs: header.uptimeMs, clockSynchronised: header.clockSynchronised
    })
    this.#write(open, stream, clipped, readBatchHeader(clipped), arrival, false, onDone)
  }

  #writeGap(open: OpenLog, stream: StreamState, base: number, count: number,
    gap: { readonly reason: GapReason, readonly records: number }, receivedAtMs: number, repair: boolean, onDone: OnAppended): void {
    const batch = encodeGap(count, gap, {
      lane: stream.lane.id, epoch: stream.epoch, base, bootId: cloudBootId, wallMs: receivedAtMs, uptimeMs: 0,
      clockSynchronised: true
    })
    this.#write(open, stream, batch, readBatchHeader(batch), { receivedAtMs, correctionMs: 0 }, repair, onDone)
  }

  /** For a batch wholly below `next`: has it been stored, with this content? */
  #compare(open: OpenLog, stream: StreamState, header: BatchHeader, onDone: OnAppended): void {
    if (stream.recentCrc(header.base) === header.crc) {
      this.#afterPending(open, onDone, () => this.#phantom(stream))
      return
    }
    // Looked for on the disk once all that was handed in before is there.
    open.committer.gather({ bytes: 0 }).onDurable(error => {
      if (error !== undefined) {
        onDone(failed(error))
        return
      }
      open.index.holds(stream, { first: header.base, end: batchNext(header), crc: header.crc }).then(
        held => onDone(held ? this.#phantom(stream) : this.#conflict(stream)),
        (cause: unknown) => onDone(failed(asError(cause)))
      )
    })
  }

  /** Answers when all that was handed in before is durable. */
  #afterPending(open: OpenLog, onDone: OnAppended, result: () => AppendResult): void {
    open.committer.gather({ bytes: 0 }).onDurable(error => onDone(error === undefined ? result() : failed(error)))
  }

  #phantom(stream: StreamState): AppendResult {
    this.stats.phantoms++
    return { kind: 'phantom', next: stream.durable.next }
  }

  #conflict(stream: StreamState): AppendResult {
    this.stats.conflicts++
    return { kind: 'conflict', next: stream.durable.next }
  }

  /** The open log, or undefined after `onDone` has been promised a failure. */
  #usable(stream: CloudStream, onDone: OnAppended): OpenLog | undefined {
    if (this.#open !== undefined && !ownStream(stream).stale) return this.#open
    this.#components.clock.soon(() => onDone(failed(this.#unavailable())))
    return undefined
  }

  #requireOpen(): OpenLog {
    if (this.#open === undefined) throw this.#unavailable()
    return this.#open
  }

  #unavailable(): Error {
    return cloudLogError('LOG_UNAVAILABLE', this.#closed === undefined
      ? 'the cloud log was opened again after a failed write, or is about to be: open the stream again'
      : 'the cloud log is closed')
  }

  #firstPlace(): CursorPlace { return { seq: this.#requireOpen().state.floor, index: 0, crc: 0 } }

  async #placeOf(cursor: string): Promise<CursorPlace> {
    const { state, store } = this.#requireOpen()
    const place = decodeCursor(state.tag, cursor)
    if (place === undefined) throw cloudLogError('CURSOR_INVALID', `cursor "${cursor.slice(0, 64)}": not one of this service`)
    if (place === 'foreign') throw this.#foreign(`cursor ${cursor} belongs to another cloud log than ${state.logId}`)
    const wholeRead = place.index === cursorIndexEnd
    if (wholeRead ? place.seq + 1 < state.floor : place.seq < state.floor) throw this.#expired(place)
    const untouched = place.index === 0 && place.crc === 0
    if (place.seq > state.durableSeq || (place.seq === state.durableSeq && !untouched)) {
      throw this.#foreign(`cursor ${cursor} is behind the end of the log: what it has read was lost`)
    }
    if (place.crc !== 0 && place.seq >= state.floor) {
      const value = await store.get(entryKey(place.seq))
      if (value !== undefined && entryCrc(value) !== place.crc) {
        throw this.#foreign(`cursor ${cursor} has read another entry than the one that is there now`)
      }
    }
    return wholeRead ? { seq: place.seq + 1, index: 0, crc: 0 } : place
  }

  #expired(place: CursorPlace): CursorError {
    const { floor } = this.#requireOpen().state
    return new CursorError('CURSOR_EXPIRED',
      `the reader is at entry ${place.seq}, retention has removed those below ${floor}`, this.#firstCursor())
  }

  #foreign(message: string): CursorError { return new CursorError('CURSOR_FOREIGN', message, this.#firstCursor()) }

  #firstCursor(): string { return encodeCursor(this.#requireOpen().state.tag, this.#firstPlace()) }

  /** Resolves when there may be an entry at or above `seq`, once for a commit; rejects with the signal's reason. */
  #nextCommit(seq: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) {
        reject(asError(signal.reason))
        return
      }
      if (this.#open === undefined || this.#open.state.durableSeq > seq) {
        resolve()
        return
      }
      const wake = (): void => {
        signal.removeEventListener('abort', abort)
        resolve()
      }
      const abort = (): void => {
        this.#wakeReaders.delete(wake)
        reject(asError(signal.reason))
      }
      this.#wakeReaders.add(wake)
      signal.addEventListener('abort', abort, { once: true })
    })
  }

  #wake(): void {
    const waiting = [...this.#wakeReaders]
    this.#wakeReaders.clear()
    for (const wake of waiting) wake()
  }

  #noteCorrupt(seq: number): void {
    if (this.#corrupt.has(seq)) return
    if (this.#corrupt.size >= knownCorruptMax) this.#corrupt.clear()
    this.#corrupt.add(seq)
    this.stats.corruptEntries++
    this.#components.log.error('an entry of the cloud log is damaged; readers get a gap in its place', { seq })
  }

  async #openStore(): Promise<void> {
    const { opener, clock, log } = this.#components
    let store: Store | undefined
    try {
      if (await opener.suspect()) log.warn('the store of the cloud log is damaged: it is checked and goes on with what is left')
      store = await opener.open()
      const loaded = await this.#loadOrCreate(store)
      await this.#start(store, loaded)
    } catch (error) {
      await store?.close()
      if (!hasCode(error, 'STORE_CORRUPT')) throw error
      log.error('the cloud log cannot be opened and is moved aside', { error: describeError(error) })
      const place = await opener.rebuild((entries, fresh) => salvageLog(entries, fresh, this.#newLogId(), clock.wallMs(), log))
      log.warn('the cloud log was taken over from quarantine', { place })
      this.stats.salvages++
      const fresh = await opener.open()
      try {
        await this.#start(fresh, await this.#loadOrCreate(fresh))
      } catch (startError) {
        await fresh.close()
        throw startError
      }
    }
    // What is missing is known by now: by gaps, or by another log's id.
    await opener.trust().catch((error: unknown) => {
      log.warn('the store of the cloud log stays marked as damaged', { error: describeError(error) })
    })
  }

  async #loadOrCreate(store: Store): Promise<LoadedLog> {
    const loaded = await loadLog(store, this.#bounds)
    if (loaded !== undefined) return loaded
    await createLog(store, this.#newLogId(), this.#components.clock.wallMs(), 0)
    const created = await loadLog(store, this.#bounds)
    invariant(created !== undefined, 'a log that was made can be loaded')
    return created
  }

  /** Version 4 UUID [RFC 9562 §5.4]. */
  #newLogId(): string {
    const bytes = Buffer.from(this.#components.random.bytes(16))
    bytes[6] = (bytes[6]! & 0x0f) | 0x40
    bytes[8] = (bytes[8]! & 0x3f) | 0x80
    const hex = bytes.toString('hex')
    return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-')
  }

  /** Takes a loaded log into use; what was lost is covered by gap records before anything else is appended. */
  async #start(store: Store, { state, lost, corruptEntries }: LoadedLog): Promise<void> {
    const { clock, log, onCommit, failpoint } = this.#components
    // What a failed fsync left behind can be read, and a power cut may still take it: nothing here counts as durable, and
    // no watermark is told, before a synced write has succeeded behind it (design §4.3).
    await writeSynced(store, [state.metaOp()])
    const index = new SegmentIndex(store, state)
    const committer = new Committer({}, {
      store, clock, ...(onCommit === undefined ? {} : { onCommit }), ...(failpoint === undefined ? {} : { failpoint }),
      onFailure: error => this.#fail(error)
    })
    const reader = new EntryReader({ store, state, index, onCorrupt: seq => this.#noteCorrupt(seq) })
    const open: OpenLog = { store, committer, state, index, reader }
    this.#corrupt.clear()
    this.stats.corruptEntries += corruptEntries
    const results = lost.map(range => new Promise<AppendResult>(resolve => {
      log.error('acknowledged records are lost; a gap is written for them', {
        node: range.stream.node, lane: range.stream.lane.name, epoch: range.stream.epoch, first: range.first, last: range.end - 1
      })
      const count = range.end - range.first
      this.#writeGap(open, range.stream, range.first, count, { reason: 'cloud-corrupt', records: count }, clock.wallMs(), true, resolve)
    }))
    for (const result of await Promise.all(results)) if (result.kind === 'failed') throw result.error
    if (corruptEntries > 0) log.error('entries of the cloud log are missing or damaged', { corruptEntries, gaps: lost.length })
    this.#logId = state.logId
    this.#open = open
  }

  #fail(error: Error): void {
    const open = this.#open
    if (open === undefined || this.#recovering !== undefined) return
    this.#components.log.error('the cloud log cannot write; it will be opened again', { error: describeError(error) })
    this.#open = undefined
    for (const stream of open.state.registry.streamsById.values()) stream.stale = true
    this.#recovering = this.#recover(open).finally(() => { this.#recovering = undefined })
  }

  /** Closes, opens again, verifies, goes on (design §4.3); until that has succeeded or the log is closed. */
  async #recover(failedLog: OpenLog): Promise<void> {
    const { clock, random, log } = this.#components
    await failedLog.committer.close()
    await failedLog.store.close()
    for (let attempt = 0; this.#closed === undefined; attempt++) {
      try {
        await this.#openStore()
        this.stats.reopens++
        log.info('the cloud log writes again', { attempt })
        break
      } catch (error) {
        log.error('the cloud log cannot be opened', { attempt, error: describeError(error) })
      }
      if (this.#closed !== undefined) break
      await new Promise<void>(resolve => {
        const timer = clock.after(backoffDelayMs(attempt, reopenBackoff, random), resolve)
        this.#endRecoveryWait = () => { timer.cancel(); resolve() }
      })
    }
    this.#wake()
  }

  #armRetention(): void {
    this.#timer = this.#components.clock.after(retentionIntervalMs, () => {
      this.#retainLater()
      this.#armRetention()
    })
  }

  #retainLater(): void {
    this.retain().catch((error: unknown) => {
      if (this.#open !== undefined) this.#components.log.error('retention failed', { error: describeError(error) })
    })
  }

  async #retain(): Promise<void> {
    const { retentionBytesMax, retentionAgeMaxMs } = this.#options
    const { clock } = this.#components
    const open = this.#open
    while (open !== undefined && open === this.#open) {
      const { state, store, committer } = open
      const oldestMs = clock.wallMs() - retentionAgeMaxMs
      if (state.openSegment.oldestMs < clock.wallMs() - retentionAgeMaxMs / 8) {
        this.#seal(open)
        await committer.flush()
      }
      const sealedEnd = state.segments[0]!.first
      const [oldest] = await store.scan({ gte: indexKey(0, state.floor), lt: indexKey(0, sealedEnd), limit: 1 })
      if (oldest === undefined || open !== this.#open) return
      const first = indexFirst(oldest.key)
      const row = decodeRow<SegmentRow>(oldest.value) ?? { first, last: first, entries: 0, bytes: 0, newestMs: 0, nodes: [] }
      const tooMuch = state.sealedBytes + state.openSegment.bytes > retentionBytesMax
      if (!tooMuch && row.newestMs >= oldestMs) return
      const keys = await store.scan({
        gte: entryKey(state.floor), lt: entryKey(row.last + 1), values: false, bytesMax: Number.MAX_SAFE_INTEGER
      })
      if (open !== this.#open) return
      const commit = committer.gather({ bytes: 9 * keys.length })
      this.stats.entriesDropped += keys.length
      for (const op of state.dropOps(first, row, keys.map(({ key }) => key))) {
        if (op.type === 'put') commit.put(op.key, op.value)
        else commit.del(op.key)
      }
      await new Promise<void>((resolve, reject) => {
        commit.onDurable(error => { if (error === undefined) resolve(); else reject(error) })
      })
    }
  }
}

/** Moves the readers' end of the log once a commit is durable. */
class DurablePart implements CommitPart {
  endSeq = 0
  readonly #open: OpenLog
  readonly #wake: () => void

  constructor(open: OpenLog, wake: () => void) {
    this.#open = open
    this.#wake = wake
  }

  write(): void {}

  settled(error?: Error): void {
    if (error !== undefined) return
    this.#open.state.durableSeq = this.endSeq
    this.#wake()
  }
}

function ownStream(stream: CloudStream): StreamState {
  invariant(stream instanceof StreamState, 'a stream is used with the log that opened it')
  return stream
}

function failed(error: Error): AppendResult { return { kind: 'failed', error } }

function asError(cause: unknown): Error { return cause instanceof Error ? cause : new Error(String(cause)) }
