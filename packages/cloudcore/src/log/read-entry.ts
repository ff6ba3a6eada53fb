import type { BatchHeader, GapBody } from '@holdfast/protos'
import { BatchError, batchHeaderBytes, checkBatchBody, readBatchHeader, readGap } from '@holdfast/protos'
import type { Store } from '@holdfast/store'
import { decodeEntry, entryBatch, entryHeaderBytes, entryKey, entrySeq } from './entry.ts'
import type { LogState } from './log-state.ts'
import type { StreamState } from './registry.ts'

export interface ReadEntry {
  readonly stream: StreamState
  readonly header: BatchHeader
  readonly repair: boolean
  readonly receivedAtMs: number
  readonly correctionMs: number
}

/** What an entry says of itself, checked against the registry; the body is not looked at. Undefined where it is damaged. */
export function readEntry(state: LogState, seq: number, value: Buffer): ReadEntry | undefined {
  const entry = decodeEntry(seq, value)
  const stream = entry === undefined ? undefined : state.registry.streamsById.get(entry.streamId)
  if (entry === undefined || stream === undefined || stream.nodeState.id !== entry.nodeId) return undefined
  try {
    const header = readBatchHeader(value, entryHeaderBytes)
    if (header.epoch !== stream.epoch || value.length !== entryHeaderBytes + batchHeaderBytes + header.bodyLength) return undefined
    return { stream, header, repair: entry.repair, receivedAtMs: entry.receivedAtMs, correctionMs: entry.correctionMs }
  } catch (error) {
    if (error instanceof BatchError) return undefined
    throw error
  }
}

/** What a gap says, or undefined where its body is none. */
export function tryGap(batch: Buffer, header: BatchHeader): GapBody | undefined {
  try {
    checkBatchBody(batch, header)
    return readGap(batch, header)
  } catch (error) {
    if (error instanceof BatchError) return undefined
    throw error
  }
}

/** The sound entries from `first` up to, not including, `end`; page by page. */
export async function* soundEntries(store: Store, state: LogState, first: number, end: number): AsyncGenerator<{
  readonly seq: number, readonly entry: ReadEntry, readonly batch: Buffer
}> {
  let next = first
  while (next < end) {
    const page = await store.scan({ gte: entryKey(next), lt: entryKey(end) })
    if (page.length === 0) return
    for (const { key, value } of page) {
      const seq = entrySeq(key)
      const entry = readEntry(state, seq, value)
      next = seq + 1
      if (entry !== undefined) yield { seq, entry, batch: entryBatch(value) }
    }
  }
}
