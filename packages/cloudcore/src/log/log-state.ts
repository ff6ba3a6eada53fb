import type { BatchHeader } from '@holdfast/protos'
import { batchNext, batchHeaderBytes } from '@holdfast/protos'
import type { WriteOp } from '@holdfast/store'
import { logTag } from './cursor.ts'
import { encodeRow, indexKey, metaKey, nodeKey, streamKey } from './entry.ts'
import type { NodeState, StreamState } from './registry.ts'
import { nodeRow, Registry } from './registry.ts'
import type { SegmentRow } from './segment.ts'
import { shareRow, Segment } from './segment.ts'

/** The one row that says where the log stands; rewritten at checkpoints and by retention only. */
export interface MetaRow {
  readonly logId: string
  readonly createdAtMs: number
  /** First entry behind the last checkpoint: the scan at open begins here. */
  readonly seq: number
  /** Oldest entry that is kept. */
  readonly floor: number
  /** Bytes of the entries from `floor` up to `seq`. */
  readonly bytes: number
  /** Rows that there are at least. Fewer: the registry is damaged. */
  readonly nodes: number
  readonly streams: number
  /** No smaller number is given to a new node or stream. */
  readonly nextNodeId: number
  readonly nextStreamId: number
}

/** What the log holds in memory. All changes of it, and the rows that make them durable, are here. */
export class LogState {
  readonly logId: string
  readonly tag: Buffer
  readonly createdAtMs: number
  readonly registry = new Registry()
  /** Oldest entry that is kept; ahead of the disk while a commit that deletes is under way. */
  floor: number
  /** Bytes of entries in sealed segments. */
  sealedBytes: number
  /** Sealed segments whose rows are not durable yet, oldest first, and the open one last. */
  readonly segments: Segment[]
  nextSeq: number
  /** One past the newest durable entry: readers see what is below. */
  durableSeq: number
  readonly #changed = new Set<StreamState>()
  /** Nodes whose row stands in one commit only; a second one follows at the checkpoint. */
  readonly #newNodes = new Set<NodeState>()
  #nodeRows: number
  #streamRows: number

  constructor(meta: MetaRow) {
    this.logId = meta.logId
    this.tag = logTag(meta.logId)
    this.createdAtMs = meta.createdAtMs
    this.floor = meta.floor
    this.sealedBytes = meta.bytes
    this.segments = [new Segment(meta.seq)]
    this.nextSeq = meta.seq
    this.durableSeq = meta.seq
    this.registry.nextNodeId = meta.nextNodeId
    this.registry.nextStreamId = meta.nextStreamId
    this.#nodeRows = 0
    this.#streamRows = 0
  }

  get openSegment(): Segment { return this.segments.at(-1)! }

  /** Rows found at open. */
  countRows(nodes: number, streams: number): void {
    this.#nodeRows = nodes
    this.#streamRows = streams
  }

  meta(): MetaRow {
    return {
      logId: this.logId, createdAtMs: this.createdAtMs, seq: this.openSegment.first, floor: this.floor,
      bytes: this.sealedBytes, nodes: this.#nodeRows, streams: this.#streamRows,
      nextNodeId: this.registry.nextNodeId, nextStreamId: this.registry.nextStreamId
    }
  }

  /** Rows of a stream, and of its node, that have to stand in the commit of its first entry. */
  registerOps(stream: StreamState): WriteOp[] {
    if (stream.stored) return []
    const ops: WriteOp[] = []
    if (!stream.nodeState.stored) {
      stream.nodeState.stored = true
      this.#nodeRows++
      this.#newNodes.add(stream.nodeState)
      ops.push(this.#nodeOp(stream.nodeState))
    }
    stream.stored = true
    this.#streamRows++
    ops.push({ type: 'put', key: streamKey(stream.id), value: encodeRow(stream.row()) })
    return ops
  }

  /** Takes an entry in: at open from the disk, else on its way there. */
  admit(seq: number, stream: StreamState, header: BatchHeader, repair: boolean, receivedAtMs: number): void {
    this.openSegment.add(seq, stream, header, receivedAtMs)
    this.nextSeq = seq + 1
    this.count(seq, stream, header, repair)
  }

  /** Takes an entry into its stream's offsets and totals. */
  count(seq: number, stream: StreamState, header: BatchHeader, repair: boolean): void {
    stream.lastSeq = seq
    stream.nodeState.lastSeq = Math.max(stream.nodeState.lastSeq, seq)
    if (!repair) {
      stream.next = batchNext(header)
      stream.crc = header.crc
      stream.nextUnknown = false
      stream.remember(header.base, header.crc)
    }
    if (header.kind === 'records') stream.totals.records += header.count
    else stream.totals.gaps++
    stream.totals.bytes += batchHeaderBytes + header.bodyLength
    this.#changed.add(stream)
  }

  /** Ends the open segment: its index rows, the rows of what changed in it, and the checkpoint. */
  sealOps(): WriteOp[] {
    const segment = this.openSegment
    segment.last = this.nextSeq - 1
    const ops = [...segmentOps(segment), ...this.changedOps()]
    this.sealedBytes += segment.bytes
    this.segments.push(new Segment(this.nextSeq))
    ops.push(this.metaOp())
    return ops
  }

  /** Rows of the streams that have changed since they were written, and of new nodes. */
  changedOps(): WriteOp[] {
    const ops: WriteOp[] = []
    for (const node of this.#newNodes) ops.push(this.#nodeOp(node))
    for (const stream of this.#changed) {
      if (!stream.stale) ops.push({ type: 'put', key: streamKey(stream.id), value: encodeRow(stream.row()) })
    }
    this.#newNodes.clear()
    this.#changed.clear()
    return ops
  }

  /** A sealed segment's rows are on the disk. */
  sealed(segment: Segment): void {
    const at = this.segments.indexOf(segment)
    if (at !== -1 && at < this.segments.length - 1) this.segments.splice(at, 1)
  }

  /** Drops the segment that begins at `first`; `keys`: the entries there are from the floor to its end. */
  dropOps(first: number, row: SegmentRow, keys: readonly Buffer[]): WriteOp[] {
    const end = row.last + 1
    const ops: WriteOp[] = keys.map(key => ({ type: 'del', key }))
    ops.push({ type: 'del', key: indexKey(0, first) })
    this.floor = end
    this.sealedBytes = Math.max(0, this.sealedBytes - row.bytes)
    for (const nodeId of row.nodes) {
      ops.push({ type: 'del', key: indexKey(nodeId, first) })
      const node = this.registry.nodesById.get(nodeId)
      if (node === undefined) continue
      const forgotten = this.registry.forget(node, end)
      for (const id of forgotten) ops.push({ type: 'del', key: streamKey(id) })
      this.#streamRows -= forgotten.length
      if (forgotten.length > 0) ops.push(this.#nodeOp(node))
    }
    ops.push(this.metaOp())
    return ops
  }

  metaOp(): WriteOp { return { type: 'put', key: metaKey, value: encodeRow(this.meta()) } }

  #nodeOp(node: NodeState): WriteOp { return { type: 'put', key: nodeKey(node.id), value: encodeRow(nodeRow(node)) } }
}

/** Index rows of a segment. */
export function segmentOps(segment: Segment): WriteOp[] {
  const ops: WriteOp[] = [{ type: 'put', key: indexKey(0, segment.first), value: encodeRow(segment.row()) }]
  for (const [nodeId, share] of segment.nodes) {
    ops.push({ type: 'put', key: indexKey(nodeId, segment.first), value: encodeRow(shareRow(nodeId, share, segment.first)) })
  }
  return ops
}
