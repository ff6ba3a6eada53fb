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
  const index = new SegmentIndex(store, state)
  for (const { first, end } of await missingSegments(store, state)) {
    const segment = new Segment(first)
    const present = new Map<StreamState, OffsetRange[]>()
    const sound = new Set<number>()
    for await (const { seq, entry } of soundEntries(store, state, first, end)) {
      const { stream, header } = entry
      const range = { first: header.base, end: batchNext(header) }
      sound.add(seq)
      const ranges = present.get(stream)
      if (ranges === undefined) present.set(stream, [range])
      else ranges.push(range)
      segment.add(seq, stream, header, entry.receivedAtMs)
      if (range.end <= stream.next) continue
      state.count(seq, stream, header, entry.repair)
      stream.durable = { next: stream.next, crc: stream.crc }
    }
    segment.last = end - 1
    const absent: number[] = []
    for (let seq = first; seq < end; seq++) if (!sound.has(seq)) absent.push(seq)
    if (absent.length > 0) {
      for (const node of state.registry.nodes) {
        for (const [stream, implied] of await index.impliedRanges(node, first, end)) {
          const there = present.get(stream) ?? []
          const whole = { first: implied.first ?? there[0]?.first ?? implied.end, end: implied.end }
          const lost = subtractRanges(whole, there)
          if (lost.length === 0) continue
          const share = segment.share(node.id)
          for (const range of lost) addRange(share, stream.id, range)
          const seqs = [...new Set([...share.seqs, ...absent])].sort((a, b) => a - b)
          share.seqs.splice(0, share.seqs.length, ...seqs)
        }
      }
    }
    await writeSynced(store, [...segmentOps(segment), ...state.changedOps()])
  }
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
