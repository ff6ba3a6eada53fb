import { batchNext } from '@holdfast/protos'
import type { Store } from '@holdfast/store'
import { decodeRow, indexFirst, indexKey } from './entry.ts'
import type { LogState } from './log-state.ts'
import type { OffsetRange } from './offset-ranges.ts'
import { subtractRanges } from './offset-ranges.ts'
import { soundEntries, tryGap } from './read-entry.ts'
import type { NodeState, StreamState } from './registry.ts'
import type { NodeShare, Segment, SegmentRow, ShareRow } from './segment.ts'
import { shareFromRow } from './segment.ts'

/** What a segment ought to hold: entries `first` up to, not including, `end`. */
export interface SegmentView { readonly first: number, readonly end: number, readonly nodeIds: readonly number[] }

/** Entries `first` up to, not including, `end`. */
export interface EntryRun { readonly first: number, readonly end: number }

/** Entries of others between two of the wanted node that are read along rather than sought past. */
const runGapMax = 8

/** A batch as the log holds it. */
interface HeldBatch extends OffsetRange { readonly crc: number, readonly ofCloud: boolean }

/** A lost range and the stream it is of. */
export interface LostPart extends OffsetRange { readonly stream: StreamState }

/** Looks entries up by node and by offset, in memory for the newest segments and in index rows for the others. */
export class SegmentIndex {
  readonly #store: Store
  readonly #state: LogState
  readonly #heldBatches = new WeakMap<StreamState, { readonly segment: number, readonly batches: readonly HeldBatch[] }>()
  #lostParts: { readonly segment: number, readonly durableSeq: number, readonly parts: Promise<Map<number, LostPart[]>> } | undefined

  constructor(store: Store, state: LogState) {
    this.#store = store
    this.#state = state
  }

  /** The segment that entry `seq` belongs to; where its row is damaged, what lies between its neighbours, of all nodes. */
  async segmentAt(seq: number): Promise<SegmentView> {
    const inMemory = this.#inMemory(seq)
    if (inMemory !== undefined) return inMemory
    const { floor, segments, registry } = this.#state
    const below = await this.#store.scan({ gte: indexKey(0, floor), lt: indexKey(0, seq + 1), reverse: true, limit: 16 })
    const before = below.map(({ key, value }) => segmentView(key, value)).find(view => view !== undefined)
    if (before !== undefined && before.end > seq) return before
    const above = await this.#store.scan({ gte: indexKey(0, seq + 1), lt: indexKey(1, 0), limit: 16 })
    const after = above.map(({ key, value }) => segmentView(key, value)).find(view => view !== undefined)
    return { first: before?.end ?? floor, end: after?.first ?? segments[0]!.first, nodeIds: [...registry.nodesById.keys()] }
  }

  /**
   * The next run of entries, from `from` on, in which a node has some; durable ones only. Empty: none below its `end`.
   * Where a row of the node is lost or damaged, the run is all of the log that it may have stood for.
   */
  async nodeRun(node: NodeState, from: number): Promise<EntryRun> {
    const { durableSeq, segments } = this.#state
    const memoryFirst = segments[0]!.first
    const inMemory = segments.flatMap(segment => segment.nodes.get(node.id) ?? [])
    if (from < memoryFirst) {
      const within = runOf(await this.#shareBelow(node, from + 1), from)
      if (within !== undefined) return within
      for await (const share of this.#sharesBehind(node, from + 1)) {
        const run = runOf(share, from)
        if (run === undefined) continue
        if (share.before >= from) return { first: from, end: run.first }
        if (run.first < durableSeq) return { first: run.first, end: Math.min(run.end, durableSeq) }
        break
      }
      if (inMemory.length === 0 && node.lastSeq >= from) return { first: from, end: memoryFirst }
      return { first: durableSeq, end: durableSeq }
    }
    const share = { before: -1, ranges: new Map(), seqs: inMemory.flatMap(({ seqs }) => seqs).filter(seq => seq < durableSeq) }
    return runOf(share, from) ?? { first: durableSeq, end: durableSeq }
  }

  /** True where the batch is held with this content, or where a gap of the cloud's own settled its offsets. */
  async holds(stream: StreamState, batch: OffsetRange & { readonly crc: number }): Promise<boolean> {
    const matches = (held: HeldBatch): boolean => held.ofCloud
      ? held.first <= batch.first && batch.end <= held.end
      : held.first === batch.first && held.end === batch.end && held.crc === batch.crc
    const known = this.#heldBatches.get(stream)
    if (known?.batches.some(matches) === true) return true
    for await (const { segment, share } of this.#sharesOf(stream.nodeState)) {
      if (known?.segment === segment) continue
      const ranges = share.ranges.get(stream.id) ?? []
      if (!ranges.some(range => range.first <= batch.first && batch.first < range.end)) continue
      const batches = await this.#batchesOf(stream, share)
      if (segment < this.#state.segments[0]!.first) this.#heldBatches.set(stream, { segment, batches })
      if (batches.some(matches)) return true
    }
    return false
  }

  /**
   * What is missing in a segment, by the sequence number at whose place a reader is told. Each lost range stands behind
   * the entries of its stream that come before it (docs/spec/log.md, LOG-27).
   */
  lostParts(segment: SegmentView): Promise<Map<number, LostPart[]>> {
    const { durableSeq } = this.#state
    if (this.#lostParts?.segment !== segment.first || this.#lostParts.durableSeq !== durableSeq) {
      this.#lostParts = { segment: segment.first, durableSeq, parts: this.#findLostParts(segment) }
    }
    return this.#lostParts.parts
  }

  async #findLostParts(segment: SegmentView): Promise<Map<number, LostPart[]>> {
    const durableSeq = this.#state.durableSeq
    const durableNext = new Map<StreamState, number>()
    const shares = new Map<number, NodeShare>()
    for (const nodeId of segment.nodeIds) {
      const share = await this.#shareIn(segment.first, nodeId) ?? await this.#impliedShare(segment, nodeId)
      if (share === undefined) continue
      shares.set(nodeId, share)
      for (const streamId of share.ranges.keys()) {
        const stream = this.#state.registry.streamsById.get(streamId)
        if (stream !== undefined) durableNext.set(stream, stream.durable.next)
      }
    }
    const sound = new Set<number>()
    const present = new Map<StreamState, { readonly seq: number, readonly first: number, readonly end: number }[]>()
    for await (const { seq, entry } of soundEntries(this.#store, this.#state, segment.first, segment.end)) {
      sound.add(seq)
      const list = present.get(entry.stream)
      const range = { seq, first: entry.header.base, end: batchNext(entry.header) }
      if (list === undefined) present.set(entry.stream, [range])
      else list.push(range)
    }
    const parts = new Map<number, LostPart[]>()
    for (const share of shares.values()) {
      const missing = share.seqs.filter(seq => seq < durableSeq && !sound.has(seq))
      if (missing.length === 0) continue
      for (const [streamId, ranges] of share.ranges) {
        const stream = this.#state.registry.streamsById.get(streamId)
        if (stream === undefined) continue
        const there = present.get(stream) ?? []
        for (const range of ranges) {
          const whole = { first: range.first, end: Math.min(range.end, durableNext.get(stream)!) }
          for (const lost of subtractRanges(whole, there)) {
            // Repairs come late: what lies nearest below by offset, not by place.
            const below = there.filter(entry => entry.end <= lost.first).toSorted((a, b) => a.end - b.end)
            const before = below.at(-1)?.seq ?? -1
            const place = missing.find(seq => seq > before) ?? missing[0]!
            const list = parts.get(place)
            if (list === undefined) parts.set(place, [{ stream, ...lost }])
            else list.push({ stream, ...lost })
          }
        }
      }
    }
    return parts
  }

  /** What a node ought to have in a segment whose row of it is damaged: all sequence numbers, offsets between the neighbours. */
  async #impliedShare(segment: SegmentView, nodeId: number): Promise<NodeShare | undefined> {
    const node = this.#state.registry.nodesById.get(nodeId)
    if (node === undefined) return undefined
    const ranges = new Map<number, OffsetRange[]>()
    for (const [stream, { first, end }] of await this.impliedRanges(node, segment.first, segment.end)) {
      if (first !== undefined) ranges.set(stream.id, [{ first, end }])
    }
    return { before: -1, seqs: Array.from({ length: segment.end - segment.first }, (_, i) => segment.first + i), ranges }
  }

  /**
   * Offsets that a node's streams have between two entries, by what the index, and segments whose rows are not written
   * yet, say of the entries before and behind. `first` undefined: retention has removed what was before.
   */
  async impliedRanges(node: NodeState, from: number, end: number, unwritten: readonly Segment[] = []):
  Promise<Map<StreamState, { readonly first: number | undefined, readonly end: number }>> {
    const streams = [...node.lanes.values()].flatMap(lane => lane.streams)
    const starts = new Map<StreamState, number>()
    for await (const { share } of this.#sharesOf(node, from)) {
      for (const stream of streams) {
        const ranges = starts.has(stream) ? undefined : share.ranges.get(stream.id)
        if (ranges !== undefined) starts.set(stream, Math.max(...ranges.map(range => range.end)))
      }
      if (starts.size === streams.length) break
    }
    for (const segment of unwritten) {
      if (segment.first >= from) continue
      for (const stream of streams) {
        const ranges = segment.nodes.get(node.id)?.ranges.get(stream.id) ?? []
        for (const range of ranges) starts.set(stream, Math.max(starts.get(stream) ?? 0, range.end))
      }
    }
    const ends = new Map<StreamState, number>()
    const noteEnds = (share: NodeShare, stream: StreamState): void => {
      const start = starts.get(stream) ?? stream.start
      const firsts = share.ranges.get(stream.id)?.map(range => range.first).filter(first => first >= start) ?? []
      if (firsts.length > 0) ends.set(stream, Math.min(ends.get(stream) ?? Infinity, ...firsts))
    }
    for await (const share of this.#sharesBehind(node, end)) {
      for (const stream of streams) if (!ends.has(stream)) noteEnds(share, stream)
      if (ends.size === streams.length) break
    }
    for (const segment of unwritten) {
      const share = segment.first >= end ? segment.nodes.get(node.id) : undefined
      if (share !== undefined) for (const stream of streams) noteEnds(share, stream)
    }
    return new Map(streams.map(stream => [stream, {
      first: starts.get(stream) ?? (this.#state.floor === 0 ? stream.start : undefined),
      end: ends.get(stream) ?? stream.durable.next
    }]))
  }

  async #batchesOf(stream: StreamState, share: NodeShare): Promise<HeldBatch[]> {
    const batches: HeldBatch[] = []
    for await (const { entry, batch } of soundEntries(this.#store, this.#state, share.seqs[0]!, share.seqs.at(-1)! + 1)) {
      if (entry.stream !== stream) continue
      const { header } = entry
      batches.push({
        first: header.base, end: batchNext(header), crc: header.crc,
        ofCloud: header.kind === 'gap' && tryGap(batch, header)?.reason.startsWith('cloud-') === true
      })
    }
    return batches
  }

  /** Shares of a node in segments that begin below `before`, newest first. */
  async* #sharesOf(node: NodeState, before = Number.MAX_SAFE_INTEGER): AsyncGenerator<{
    readonly segment: number, readonly share: NodeShare
  }> {
    for (const segment of this.#state.segments.toReversed()) {
      const share = segment.first < before ? segment.nodes.get(node.id) : undefined
      if (share !== undefined) yield { segment: segment.first, share }
    }
    let below = Math.min(before, this.#state.segments[0]!.first)
    for (;;) {
      const page = await this.#store.scan({
        gte: indexKey(node.id, 0), lt: indexKey(node.id, below), reverse: true, limit: 64
      })
      if (page.length === 0) return
      for (const { key, value } of page) {
        below = indexFirst(key)
        const share = shareOf(key, value)
        if (share !== undefined) yield { segment: below, share }
      }
    }
  }

  /** Shares of a node in segments that begin at or above `from`, oldest first. */
  async* #sharesBehind(node: NodeState, from: number): AsyncGenerator<NodeShare> {
    const inMemory = this.#state.segments.filter(segment => segment.first >= from)
    const rowsEnd = this.#state.segments[0]!.first
    let next = from
    while (next < rowsEnd) {
      const page = await this.#store.scan({ gte: indexKey(node.id, next), lt: indexKey(node.id, rowsEnd), limit: 64 })
      if (page.length === 0) break
      for (const { key, value } of page) {
        next = indexFirst(key) + 1
        const share = shareOf(key, value)
        if (share !== undefined) yield share
      }
    }
    for (const segment of inMemory) {
      const share = segment.nodes.get(node.id)
      if (share !== undefined) yield share
    }
  }

  /** The share of the newest segment that begins below `before`, in an index row. */
  async #shareBelow(node: NodeState, before: number): Promise<NodeShare | undefined> {
    const [row] = await this.#store.scan({ gte: indexKey(node.id, 0), lt: indexKey(node.id, before), reverse: true, limit: 1 })
    return row === undefined ? undefined : shareOf(row.key, row.value)
  }

  async #shareIn(segmentFirst: number, nodeId: number): Promise<NodeShare | undefined> {
    const segment = this.#state.segments.find(candidate => candidate.first === segmentFirst)
    if (segment !== undefined) return segment.nodes.get(nodeId)
    const key = indexKey(nodeId, segmentFirst)
    const value = await this.#store.get(key)
    return value === undefined ? undefined : shareOf(key, value)
  }

  #inMemory(seq: number): SegmentView | undefined {
    const { segments, nextSeq } = this.#state
    const at = segments.findLastIndex(segment => segment.first <= seq)
    const segment = segments[at]
    if (segment === undefined) return undefined
    return { first: segment.first, end: segments[at + 1]?.first ?? nextSeq, nodeIds: [...segment.nodes.keys()] }
  }
}

/** Undefined where the row is damaged, or another's. */
export function segmentView(key: Buffer, value: Buffer): SegmentView | undefined {
  const row = decodeRow<SegmentRow>(value)
  return row?.first === indexFirst(key) ? { first: row.first, end: row.last + 1, nodeIds: row.nodes } : undefined
}

function shareOf(key: Buffer, value: Buffer): NodeShare | undefined {
  const row = decodeRow<ShareRow>(value)
  return row?.first === indexFirst(key) && row.node === key.readUInt32BE(1) ? shareFromRow(row) : undefined
}

/** The first run of a share at or above `from`. */
function runOf(share: NodeShare | undefined, from: number): EntryRun | undefined {
  const seqs = share?.seqs ?? []
  const at = seqs.findIndex(seq => seq >= from)
  if (at === -1) return undefined
  let last = at
  while (last + 1 < seqs.length && seqs[last + 1]! - seqs[last]! <= runGapMax) last++
  return { first: seqs[at]!, end: seqs[last]! + 1 }
}
