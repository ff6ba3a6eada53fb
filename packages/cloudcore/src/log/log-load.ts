import { batchNext, BatchError, checkBatchBody, readBatchHeader } from '@holdfast/protos'
import { HoldfastError, parseNodeName } from '@holdfast/runtime'
import type { Log } from '@holdfast/runtime'
import type { Store, StoreEntry, WriteOp } from '@holdfast/store'
import { tables } from '@holdfast/store'
import {
  decodeEntry, decodeRow, encodeRow, entryBatch, entryKey, entrySeq, metaKey, nodeKey, streamKey, tableRange
} from './entry.ts'
import type { MetaRow } from './log-state.ts'
import { LogState } from './log-state.ts'
import type { OffsetRange } from './offset-ranges.ts'
import { subtractRanges } from './offset-ranges.ts'
import { repairIndex } from './index-repair.ts'
import { readEntry } from './read-entry.ts'
import { writeSynced } from './write-synced.ts'
import type { NodeRow, StreamRow, StreamState } from './registry.ts'

export interface SegmentBounds { readonly segmentBytes: number, readonly segmentEntries: number }

/** A range of acknowledged offsets that the log has lost, to be covered by a gap `cloud-corrupt`. */
export interface LostRange extends OffsetRange { readonly stream: StreamState }

export interface LoadedLog {
  readonly state: LogState
  /** What has to be covered by gap records now, in order. */
  readonly lost: readonly LostRange[]
  /** Entries missing or damaged behind the last checkpoint. */
  readonly corruptEntries: number
}

/** Makes the row of a new, empty log durable. */
export async function createLog(store: Store, logId: string, createdAtMs: number, seq: number): Promise<void> {
  const meta: MetaRow = {
    logId, createdAtMs, seq, floor: seq, bytes: 0, nodes: 0, streams: 0, nextNodeId: 1, nextStreamId: 1
  }
  await writeSynced(store, [{ type: 'put', key: metaKey, value: encodeRow(meta) }])
}

/**
 * Reads a log back: registry, then the entries behind the last checkpoint, which must be dense. Undefined: the store is
 * empty. Rejects with STORE_CORRUPT where identity or registry are damaged, so that its watermarks cannot be trusted.
 */
export async function loadLog(store: Store, bounds: SegmentBounds): Promise<LoadedLog | undefined> {
  const metaValue = await store.get(metaKey)
  if (metaValue === undefined) {
    const any = await store.scan({ gte: Buffer.from([tables.cloudNode]), lt: Buffer.from([tables.cloudNodeIndex + 1]), limit: 1 })
    if (any.length === 0) return undefined
    throw damaged('its first row is missing')
  }
  const meta = decodeRow<MetaRow>(metaValue)
  if (meta === undefined) throw damaged('its first row is damaged')
  const state = new LogState(meta)
  await loadRegistry(store, state, meta)
  await repairIndex(store, state)
  return scanTail(store, state, bounds)
}

async function loadRegistry(store: Store, state: LogState, meta: MetaRow): Promise<void> {
  let nodes = 0
  for await (const { key, value } of tableEntries(store, tables.cloudNode)) {
    const row = decodeRow<NodeRow>(value)
    if (row === undefined || row.id !== key.readUInt32BE(1)) throw damaged(`the row of node ${key.readUInt32BE(1)} is damaged`)
    const node = state.registry.addNode(key.readUInt32BE(1), row.name)
    node.stored = true
    for (const [name, past] of row.lanes) state.registry.addLane(node, name).past = past
    nodes++
  }
  let streams = 0
  for await (const { key, value } of tableEntries(store, tables.cloudStream)) {
    const id = key.readUInt32BE(1)
    const row = decodeRow<StreamRow>(value)
    const node = row === undefined ? undefined : state.registry.nodesById.get(row.node)
    if (row === undefined || node === undefined || row.id !== id) throw damaged(`the row of stream ${id} is damaged`)
    const stream = state.registry.addStream(id, node, { id: row.laneId, name: row.lane }, {
      epoch: row.epoch, predecessor: row.predecessor ?? undefined, start: row.start, reason: row.reason
    })
    stream.stored = true
    stream.next = row.next ?? row.start
    stream.nextUnknown = row.next === null
    stream.crc = row.crc
    stream.durable = { next: stream.next, crc: stream.crc }
    stream.lastSeq = row.lastSeq
    node.lastSeq = Math.max(node.lastSeq, row.lastSeq)
    Object.assign(stream.totals, row.totals)
    streams++
  }
  if (nodes < meta.nodes || streams < meta.streams) {
    throw damaged(`it has ${nodes} nodes and ${streams} streams where there were ${meta.nodes} and ${meta.streams}`)
  }
  state.countRows(nodes, streams)
}

/** Unreadable entries behind the last sound one that are removed in one start. */
const unreadableMax = 4096

async function scanTail(store: Store, state: LogState, bounds: SegmentBounds): Promise<LoadedLog> {
  const holes: LostRange[] = []
  const repaired = new Map<StreamState, OffsetRange[]>()
  const unreadable: Buffer[] = []
  let corruptEntries = 0
  for await (const { key, value } of tableEntries(store, tables.cloudEntry, entryKey(state.nextSeq))) {
    const seq = entrySeq(key)
    const entry = decodeEntry(seq, value)
    if (entry === undefined) {
      // Not to be believed in anything, its place included: it counts as missing where a sound entry follows.
      if (unreadable.length < unreadableMax) unreadable.push(key)
      continue
    }
    corruptEntries += seq - state.nextSeq
    state.nextSeq = seq + 1
    const found = readEntry(state, seq, value)
    if (found === undefined || (!found.repair && found.header.base < found.stream.next && !found.stream.nextUnknown)) {
      corruptEntries++
      // Its stream may not be known any more: its number must not be given to another one.
      state.registry.nextStreamId = Math.max(state.registry.nextStreamId, entry.streamId + 1)
      state.registry.nextNodeId = Math.max(state.registry.nextNodeId, entry.nodeId + 1)
    } else {
      const { stream, header, repair, receivedAtMs } = found
      if (repair) {
        const ranges = repaired.get(stream) ?? []
        ranges.push({ first: header.base, end: batchNext(header) })
        repaired.set(stream, ranges)
      } else if (header.base > stream.next && !stream.nextUnknown) {
        holes.push({ stream, first: stream.next, end: header.base })
      }
      state.admit(seq, stream, header, repair, receivedAtMs)
    }
    const segment = state.openSegment
    if (segment.bytes < bounds.segmentBytes && state.nextSeq - segment.first < bounds.segmentEntries) continue
    await writeSynced(store, state.sealOps())
    state.sealed(segment)
  }
  const behind = unreadable.filter(key => entrySeq(key) >= state.nextSeq)
  if (behind.length > 0) {
    corruptEntries += behind.length
    await writeSynced(store, behind.map(key => ({ type: 'del', key })))
  }
  state.durableSeq = state.nextSeq
  for (const stream of state.registry.streamsById.values()) stream.durable = { next: stream.next, crc: stream.crc }
  const lost = holes.flatMap(hole =>
    subtractRanges(hole, repaired.get(hole.stream) ?? []).map(range => ({ stream: hole.stream, ...range })))
  return { state, lost, corruptEntries }
}

/**
 * Brings what can be trusted of a quarantined log into a new store: node and stream rows, and entries whose CRCs hold.
 * Offsets are found again by the scan that follows; the log gets the identity `logId`.
 */
export async function salvageLog(entries: AsyncIterable<StoreEntry>, store: Store, logId: string, wallMs: number,
  log: Log): Promise<void> {
  const found = { nodes: 0, streams: 0, entries: 0, damaged: 0 }
  let ops: WriteOp[] = []
  let bytes = 0
  let oldest = Infinity
  let floor = 0
  let oldLogId: string | undefined
  const nodes = new Map<number, NodeRow>()
  const streams = new Map<number, StreamRow>()
  for await (const { key, value } of entries) {
    const put = salvagedRow(key, value, nodes, streams)
    if (put === 'unrelated' || put === 'registry') continue
    if (put === 'damaged') { found.damaged++; continue }
    if (put === 'meta') {
      const meta = decodeRow<MetaRow>(value)
      floor = Math.max(floor, meta?.floor ?? 0)
      oldLogId ??= meta?.logId
      continue
    }
    oldest = Math.min(oldest, entrySeq(key))
    found.entries++
    ops.push({ type: 'put', key: Buffer.from(key), value: put })
    bytes += key.length + put.length
    if (bytes >= 1024 * 1024) {
      await writeSynced(store, ops)
      ops = []
      bytes = 0
    }
  }
  for (const [id, row] of nodes) ops.push({ type: 'put', key: nodeKey(id), value: encodeRow(row) })
  for (const [id, row] of streams) {
    // Without its node a stream's entries belong to nobody: the scan leaves them out.
    if (!nodes.has(row.node)) { found.damaged++; continue }
    ops.push({ type: 'put', key: streamKey(id), value: encodeRow(row) })
    found.streams++
  }
  found.nodes = nodes.size
  await writeSynced(store, ops)
  await createLog(store, logId, wallMs, oldest === Infinity ? 0 : Math.max(oldest, floor))
  log.error('the cloud log was made anew from what could be salvaged', { ...found, oldLogId, logId })
}

/** The value of an entry, to keep under the same key; registry rows are put into the maps, without their offsets. */
function salvagedRow(key: Buffer, value: Buffer, nodes: Map<number, NodeRow>, streams: Map<number, StreamRow>):
Buffer | 'registry' | 'unrelated' | 'damaged' | 'meta' {
  if (key.equals(metaKey)) return 'meta'
  switch (key[0]) {
    case tables.cloudNode: {
      const row = key.length === 5 ? decodeRow<NodeRow>(value) : undefined
      if (row === undefined || row.id !== key.readUInt32BE(1) || parseNodeName(row.name) === undefined) return 'damaged'
      nodes.set(row.id, { id: row.id, name: row.name, lanes: [] })
      return 'registry'
    }
    case tables.cloudStream: {
      const row = key.length === 5 ? decodeRow<StreamRow>(value) : undefined
      if (row === undefined || row.id !== key.readUInt32BE(1)) return 'damaged'
      streams.set(row.id, {
        ...row, next: null, crc: 0, lastSeq: -1, totals: { records: 0, bytes: 0, gaps: 0 }
      })
      return 'registry'
    }
    case tables.cloudEntry: {
      if (key.length !== 9 || decodeEntry(entrySeq(key), value) === undefined) return 'damaged'
      try {
        const batch = entryBatch(value)
        checkBatchBody(batch, readBatchHeader(batch))
        return Buffer.from(value)
      } catch (error) {
        if (error instanceof BatchError) return 'damaged'
        throw error
      }
    }
    default: return 'unrelated'
  }
}

/** All entries of a table, page by page. */
export async function* tableEntries(store: Store, table: number, from?: Buffer): AsyncGenerator<StoreEntry> {
  const { gte, lt } = tableRange(table)
  let next = from ?? gte
  for (;;) {
    const page = await store.scan({ gte: next, lt })
    if (page.length === 0) return
    yield* page
    next = Buffer.concat([page.at(-1)!.key, Buffer.from([0])])
  }
}

function damaged(what: string): HoldfastError {
  return new HoldfastError('STORE_CORRUPT', `the cloud log cannot be trusted: ${what}`)
}
