import type { BatchHeader, BootId, ReaderBatch } from '@holdfast/protos'
import { BatchError, batchNext, checkBatchBody, cursorIndexEnd, encodeGap, readBatchHeader } from '@holdfast/protos'
import type { Store } from '@holdfast/store'
import type { LogPage } from './cloud-log.ts'
import type { CursorPlace } from './cursor.ts'
import { cursorPrefix } from './cursor.ts'
import { entryBatch, entryKey, entrySeq } from './entry.ts'
import type { ReadEntry } from './read-entry.ts'
import { readEntry } from './read-entry.ts'
import type { LogState } from './log-state.ts'
import type { StreamState } from './registry.ts'
import type { SegmentIndex } from './segment-index.ts'

export interface EntryFilter { readonly node: string | undefined, readonly lane: string | undefined }

export interface EntryReaderComponents {
  readonly store: Store
  readonly state: LogState
  readonly index: SegmentIndex
  /** Told of each missing or damaged entry, perhaps several times. */
  readonly onCorrupt: (seq: number) => void
}

/** A boot id that no daemon has: the cloud's own gaps. */
export const cloudBootId = '0000000000000000' as BootId

/** Reads pages of entries from a place on. Durable entries only. */
export class EntryReader {
  readonly #components: EntryReaderComponents

  constructor(components: EntryReaderComponents) { this.#components = components }

  /** One page and the place behind it. No page is longer than `bytesMax` and one entry. */
  async page(place: CursorPlace, filter: EntryFilter, bytesMax: number):
  Promise<{ readonly entries: LogPage, readonly place: CursorPlace }> {
    const { state, index } = this.#components
    const end = state.durableSeq
    if (place.seq >= end) return { entries: [], place }
    if (filter.node === undefined) return this.#run(place, end, bytesMax, filter)
    const node = state.registry.node(filter.node)
    if (node === undefined) return { entries: [], place: at(end) }
    const run = await index.nodeRun(node, place.seq)
    if (run.first >= run.end) return { entries: [], place: at(run.end) }
    return this.#run(run.first === place.seq ? place : at(run.first), run.end, bytesMax, filter)
  }

  /** Entries from `place` up to, not including, `end`. */
  async #run(place: CursorPlace, end: number, bytesMax: number, filter: EntryFilter):
  Promise<{ readonly entries: LogPage, readonly place: CursorPlace }> {
    const rows = await this.#components.store.scan({ gte: entryKey(place.seq), lt: entryKey(end), bytesMax })
    const entries: ReaderBatch[] = []
    let bytes = 0
    let next = place.seq
    const skipOf = (seq: number): number => seq === place.seq ? place.index : 0
    for (const { key, value } of rows) {
      bytes += key.length + value.length
      const seq = entrySeq(key)
      if (seq > next) await this.#missing(next, seq, skipOf(next), filter, entries)
      next = seq + 1
      const entry = readEntry(this.#components.state, seq, value)
      if (entry === undefined) await this.#missing(seq, next, skipOf(seq), filter, entries)
      else if (passes(filter, entry.stream)) this.#sound(seq, entry, value, skipOf(seq), entries)
    }
    if (bytes < bytesMax && next < end) {
      await this.#missing(next, end, skipOf(next), filter, entries)
      next = end
    }
    return { entries, place: at(next) }
  }

  #sound(seq: number, entry: ReadEntry, value: Buffer, skip: number, entries: ReaderBatch[]): void {
    const { header, stream } = entry
    if (skip >= (header.kind === 'gap' ? 1 : header.count)) return
    const batch = entryBatch(value)
    const shown = {
      node: stream.node, lane: stream.lane.name, correctionMs: entry.correctionMs, endIndex: cursorIndexEnd,
      cursorPrefix: cursorPrefix(this.#components.state.tag, seq, header.crc)
    }
    if (bodyHolds(batch, header)) {
      entries.push({ ...shown, batch, header, skip })
      return
    }
    this.#components.onCorrupt(seq)
    const first = header.kind === 'gap' ? header.base : header.base + skip
    entries.push({ ...shown, ...corruptGap(stream, first, batchNext(header), entry.receivedAtMs), skip: 0 })
  }

  /** Shows gaps for the entries `first` up to `end`, none of which can be read. */
  async #missing(first: number, end: number, skip: number, filter: EntryFilter, entries: ReaderBatch[]): Promise<void> {
    const { index, state, onCorrupt } = this.#components
    let seq = first
    while (seq < end) {
      if (seq < state.floor) return
      const segment = await index.segmentAt(seq)
      const parts = await index.lostParts(segment)
      const places = [...parts.keys()].filter(place => place >= seq && place < end).sort((a, b) => a - b)
      for (const place of places) {
        const lost = parts.get(place)!
        onCorrupt(place)
        for (const [i, part] of lost.entries()) {
          if ((place === first && i < skip) || !passes(filter, part.stream)) continue
          entries.push({
            node: part.stream.node, lane: part.stream.lane.name, correctionMs: 0, skip: 0,
            cursorPrefix: cursorPrefix(state.tag, place, 0),
            endIndex: i === lost.length - 1 ? cursorIndexEnd : i + 1,
            ...corruptGap(part.stream, part.first, part.end, 0)
          })
        }
      }
      if (segment.end <= seq) break
      seq = segment.end
    }
  }
}

function passes(filter: EntryFilter, stream: StreamState): boolean {
  return (filter.node === undefined || stream.node === filter.node) &&
    (filter.lane === undefined || stream.lane.name === filter.lane)
}

function bodyHolds(batch: Buffer, header: BatchHeader): boolean {
  try {
    checkBatchBody(batch, header)
    return true
  } catch (error) {
    if (error instanceof BatchError) return false
    throw error
  }
}

function corruptGap(stream: StreamState, first: number, end: number, wallMs: number): { batch: Buffer, header: BatchHeader } {
  const batch = encodeGap(end - first, { reason: 'cloud-corrupt', records: end - first }, {
    lane: stream.lane.id, epoch: stream.epoch, base: first, bootId: cloudBootId, wallMs, uptimeMs: 0, clockSynchronised: true
  })
  return { batch, header: readBatchHeader(batch) }
}

function at(seq: number): CursorPlace { return { seq, index: 0, crc: 0 } }
