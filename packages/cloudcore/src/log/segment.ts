import type { BatchHeader } from '@holdfast/protos'
import { batchHeaderBytes, batchNext } from '@holdfast/protos'
import type { OffsetRange } from './offset-ranges.ts'
import type { NodeState, StreamState } from './registry.ts'

/** What a node has in one segment. */
export interface NodeShare {
  /** Sequence number of the node's newest entry in an older segment; -1: none. Tells a reader of a row that is lost. */
  readonly before: number
  /** Sequence numbers of its entries, ascending. */
  readonly seqs: number[]
  /** Offsets of its entries by stream id. */
  readonly ranges: Map<number, OffsetRange[]>
}

/** Row of a segment (docs/spec/log.md, LOG-24). */
export interface SegmentRow {
  readonly first: number
  readonly last: number
  readonly entries: number
  readonly bytes: number
  readonly newestMs: number
  readonly nodes: readonly number[]
}

/** Row of a node in a segment: sequence numbers as differences, offsets as [stream, first, end, first, end …]. */
export interface ShareRow {
  readonly node: number
  readonly first: number
  readonly before: number
  readonly seqs: readonly number[]
  readonly ranges: readonly (readonly number[])[]
}

/** A run of entries between two checkpoints: what the index says of them, gathered in memory until the second one. */
export class Segment {
  readonly first: number
  last: number
  entries = 0
  bytes = 0
  oldestMs = Infinity
  newestMs = 0
  readonly nodes = new Map<number, NodeShare>()

  constructor(first: number) {
    this.first = first
    this.last = first - 1
  }

  add(seq: number, stream: StreamState, header: BatchHeader, receivedAtMs: number): void {
    const share = this.share(stream.nodeState)
    share.seqs.push(seq)
    addRange(share, stream.id, { first: header.base, end: batchNext(header) })
    this.last = seq
    this.entries++
    this.bytes += batchHeaderBytes + header.bodyLength
    this.oldestMs = Math.min(this.oldestMs, receivedAtMs)
    this.newestMs = Math.max(this.newestMs, receivedAtMs)
  }

  /** The share of a node, made where there is none. */
  share(node: NodeState): NodeShare {
    let share = this.nodes.get(node.id)
    if (share === undefined) {
      share = { before: Math.min(node.lastSeq, this.first - 1), seqs: [], ranges: new Map() }
      this.nodes.set(node.id, share)
    }
    return share
  }

  row(): SegmentRow {
    return {
      first: this.first, last: this.last, entries: this.entries, bytes: this.bytes, newestMs: this.newestMs,
      nodes: [...this.nodes.keys()]
    }
  }
}

export function addRange(share: NodeShare, streamId: number, { first, end }: OffsetRange): void {
  const ranges = share.ranges.get(streamId)
  const newest = ranges?.at(-1)
  if (ranges === undefined) share.ranges.set(streamId, [{ first, end }])
  else if (newest !== undefined && newest.end === first) ranges[ranges.length - 1] = { first: newest.first, end }
  else ranges.push({ first, end })
}

export function shareRow(node: number, share: NodeShare, first: number): ShareRow {
  let previous = first
  return {
    node,
    first,
    before: share.before,
    seqs: share.seqs.map(seq => {
      const step = seq - previous
      previous = seq
      return step
    }),
    ranges: [...share.ranges].map(([streamId, ranges]) => [streamId, ...ranges.flatMap(({ first, end }) => [first, end])])
  }
}

export function shareFromRow(row: ShareRow): NodeShare {
  let seq = row.first
  const ranges = new Map<number, OffsetRange[]>()
  for (const [streamId, ...numbers] of row.ranges) {
    const list: OffsetRange[] = []
    for (let i = 0; i + 1 < numbers.length; i += 2) list.push({ first: numbers[i]!, end: numbers[i + 1]! })
    ranges.set(streamId!, list)
  }
  return { before: row.before, seqs: row.seqs.map(step => seq += step), ranges }
}
