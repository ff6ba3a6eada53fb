import { batchNext } from '@holdfast/protos'
import type { Store } from '@holdfast/store'
import { indexKey } from './entry.ts'
import type { LogState } from './log-state.ts'
import { segmentOps } from './log-state.ts'
import type { OffsetRange } from './offset-ranges.ts'
import { subtractRanges } from './offset-ranges.ts'
import { soundEntries } from './read-entry.ts'
import type { StreamState } from './registry.ts'
import { addRange, Segment } from './segment.ts'
import { SegmentIndex, segmentView } from './segment-index.ts'
import { writeSynced } from './write-synced.ts'

/**
 * Makes the rows of segments whose checkpoint is lost anew. Segments follow one another without a hole, so a lost one
 * shows. Its commit held the streams' rows too: streams that end in it get their offsets back from its entries. What
 * lies between its neighbours and is not there stands in the new rows, so that readers get gaps for it.
 */
export async function repairIndex(store: Store, state: LogState): Promise<void> {
  const found: FoundSegment[] = []
  for (const range of await missingSegments(store, state)) found.push(await readSegment(store, state, range))
  if (found.length === 0) return
  const index = new SegmentIndex(store, state)
  const segments = found.map(({ segment }) => segment)
  // All are read before any is completed: each bounds the others' offsets.
  const lost: LostShare[][] = []
  for (const { segment, present, sound } of found) {
    const { first } = segment
    const end = segment.last + 1
    const list: LostShare[] = []
    if (sound.size < end - first) {
      for (const node of state.registry.nodes) {
        for (const [stream, implied] of await index.impliedRanges(node, first, end, segments)) {
          const there = present.get(stream) ?? []
          const start = implied.first ?? there[0]?.first ?? implied.end
          for (const range of subtractRanges({ first: start, end: implied.end }, there)) list.push({ stream, range })
        }
      }
    }
    lost.push(list)
  }
  const ops = found.flatMap(({ segment, sound }, i) => {
    for (const { stream, range } of lost[i]!) addLost(segment, stream, range, sound)
    return segmentOps(segment)
  })
  await writeSynced(store, [...ops, ...state.changedOps()])
}

interface FoundSegment {
  readonly segment: Segment
  /** Offsets of the sound entries. */
  readonly present: ReadonlyMap<StreamState, readonly OffsetRange[]>
  /** Sequence numbers of the sound entries. */
  readonly sound: ReadonlySet<number>
}

interface LostShare { readonly stream: StreamState, readonly range: OffsetRange }

/** Builds the rows from what is there, and lets streams catch up with it. */
async function readSegment(store: Store, state: LogState, { first, end }: OffsetRange): Promise<FoundSegment> {
  const segment = new Segment(first)
  const present = new Map<StreamState, OffsetRange[]>()
  const sound = new Set<number>()
  for await (const { seq, entry } of soundEntries(store, state, first, end)) {
    const { stream, header } = entry
    const range = { first: header.base, end: batchNext(header) }
    const ranges = present.get(stream)
    if (ranges === undefined) present.set(stream, [range])
    else ranges.push(range)
    sound.add(seq)
    segment.add(seq, stream, header, entry.receivedAtMs)
    if (range.end <= stream.next) continue
    state.count(seq, stream, header, entry.repair)
    stream.durable = { next: stream.next, crc: stream.crc }
  }
  segment.last = end - 1
  return { segment, present, sound }
}

/** Lets readers look for offsets at every place of the segment where an entry is missing. */
function addLost(segment: Segment, stream: StreamState, range: OffsetRange, sound: ReadonlySet<number>): void {
  const share = segment.share(stream.nodeState)
  addRange(share, stream.id, range)
  const seqs = new Set(share.seqs)
  for (let seq = segment.first; seq <= segment.last; seq++) if (!sound.has(seq)) seqs.add(seq)
  share.seqs.splice(0, share.seqs.length, ...[...seqs].sort((a, b) => a - b))
}

/** Runs of entries between floor and checkpoint that no segment's row names. */
async function missingSegments(store: Store, state: LogState): Promise<OffsetRange[]> {
  const missing: OffsetRange[] = []
  const end = state.openSegment.first
  let reached = state.floor
  let next = state.floor
  for (;;) {
    const page = await store.scan({ gte: indexKey(0, next), lt: indexKey(0, end), limit: 1024 })
    if (page.length === 0) break
    for (const { key, value } of page) {
      next = key.readUIntBE(7, 6) + 1
      const view = segmentView(key, value)
      if (view === undefined) continue
      if (view.first > reached) missing.push({ first: reached, end: view.first })
      reached = Math.max(reached, view.end)
    }
  }
  if (reached < end) missing.push({ first: reached, end })
  return missing
}
