import type { Epoch, EpochReason } from '@holdfast/protos'
import type { NodeName } from '@holdfast/runtime'
import type { CloudStream, LaneTotals, NodeTotals, StreamEpoch, StreamLane, StreamWatermark } from './cloud-log.ts'
import { cloudLogError } from './cloud-log.ts'
import { cloudLogLimits } from './limits.ts'

export interface Totals { records: number, bytes: number, gaps: number }

/** Row of a node: lanes carry the totals of epochs that have been forgotten. */
export interface NodeRow {
  readonly id: number
  readonly name: NodeName
  readonly lanes: readonly (readonly [name: string, past: Totals])[]
}

/** Row of a stream: its state at the checkpoint. `next` null: not known, the first entry found tells. */
export interface StreamRow {
  readonly id: number
  readonly node: number
  readonly lane: string
  readonly laneId: number
  readonly epoch: Epoch
  readonly predecessor: Epoch | null
  readonly start: number
  readonly reason: EpochReason
  readonly next: number | null
  readonly crc: number
  readonly lastSeq: number
  readonly totals: Totals
}

/** A lane of a node. */
export interface LaneState {
  readonly name: string
  /** Totals of epochs that have been forgotten. */
  past: Totals
  /** In order of registration; the newest last. */
  streams: StreamState[]
}

export interface NodeState {
  readonly id: number
  readonly name: NodeName
  readonly lanes: Map<string, LaneState>
  /** True once its row is in a commit. */
  stored: boolean
  /** Sequence number of its newest entry; -1: none. */
  lastSeq: number
}

/** The log's own side of a CloudStream. */
export class StreamState implements CloudStream {
  readonly id: number
  readonly nodeState: NodeState
  readonly lane: StreamLane
  readonly info: StreamEpoch
  next: number
  /** Header CRC of the batch that ends at `next`; 0: none. */
  crc = 0
  durable: StreamWatermark
  readonly totals: Totals = { records: 0, bytes: 0, gaps: 0 }
  /** Sequence number of the newest entry; -1: none. */
  lastSeq = -1
  /** True once its row is in a commit. */
  stored = false
  /** True once the log has been opened again: this object must not be used any more. */
  stale = false
  /** Whether `next` is only a guess because earlier entries are not to be trusted. */
  nextUnknown = false
  readonly #recentBases: number[] = []
  readonly #recentCrcs: number[] = []

  constructor(id: number, nodeState: NodeState, lane: StreamLane, info: StreamEpoch) {
    this.id = id
    this.nodeState = nodeState
    this.lane = lane
    this.info = info
    this.next = info.start
    this.durable = { next: info.start, crc: 0 }
  }

  get node(): NodeName { return this.nodeState.name }
  get epoch(): Epoch { return this.info.epoch }
  get start(): number { return this.info.start }

  /** Keeps a batch's CRC for `recentCrc`. */
  remember(base: number, crc: number): void {
    const bound = cloudLogLimits.recentBatches.value
    if (this.#recentBases.length >= 2 * bound) {
      this.#recentBases.splice(0, bound)
      this.#recentCrcs.splice(0, bound)
    }
    this.#recentBases.push(base)
    this.#recentCrcs.push(crc)
  }

  /** CRC of the batch that begins at `base`: `older` where memory does not reach so far, undefined where none begins there. */
  recentCrc(base: number): number | 'older' | undefined {
    const bases = this.#recentBases
    if (bases.length === 0 || base < bases[0]!) return 'older'
    let low = 0
    let high = bases.length - 1
    while (low <= high) {
      const middle = (low + high) >> 1
      if (bases[middle] === base) return this.#recentCrcs[middle]
      if (bases[middle]! < base) low = middle + 1
      else high = middle - 1
    }
    return undefined
  }

  row(): StreamRow {
    return {
      id: this.id, node: this.nodeState.id, lane: this.lane.name, laneId: this.lane.id, epoch: this.epoch,
      predecessor: this.info.predecessor ?? null, start: this.start, reason: this.info.reason,
      next: this.next, crc: this.crc, lastSeq: this.lastSeq, totals: this.totals
    }
  }
}

/** Who may append: nodes, their lanes, the lanes' epochs. In memory; the log writes the rows. */
export class Registry {
  readonly nodesById = new Map<number, NodeState>()
  readonly streamsById = new Map<number, StreamState>()
  readonly #nodesByName = new Map<string, NodeState>()
  nextNodeId = 1
  nextStreamId = 1

  get nodes(): Iterable<NodeState> { return this.#nodesByName.values() }
  node(name: string): NodeState | undefined { return this.#nodesByName.get(name) }

  /** Throws LOG_NODES_FULL, LOG_LANES_FULL or LOG_EPOCHS_FULL; nothing is registered then. */
  stream(name: NodeName, lane: StreamLane, epoch: StreamEpoch): StreamState {
    const { nodesMax, lanesPerNodeMax, epochsPerLaneMax } = cloudLogLimits
    const node = this.#nodesByName.get(name)
    if (node === undefined && this.#nodesByName.size >= nodesMax.value) {
      throw cloudLogError('LOG_NODES_FULL', `node ${name}: the cloud log knows ${nodesMax.value} nodes, its bound`)
    }
    const known = node?.lanes.get(lane.name)
    const stream = known?.streams.findLast(candidate => candidate.epoch === epoch.epoch)
    if (stream !== undefined) return stream
    if (known === undefined && (node?.lanes.size ?? 0) >= lanesPerNodeMax.value) {
      throw cloudLogError('LOG_LANES_FULL', `node ${name}: lane ${lane.name} is one more than ${lanesPerNodeMax.value}`)
    }
    if ((known?.streams.length ?? 0) >= epochsPerLaneMax.value) {
      throw cloudLogError('LOG_EPOCHS_FULL',
        `node ${name}: lane ${lane.name} has ${epochsPerLaneMax.value} epochs, its bound; retention drops old ones`)
    }
    if (known !== undefined) this.#forgetUnused(known)
    return this.addStream(this.nextStreamId, node ?? this.addNode(this.nextNodeId, name), lane, epoch)
  }

  /**
   * Every start of an edge opens streams, and most of a quiet lane never get a batch: the older half of those is forgotten.
   * One session names far fewer, so that what it opens stays.
   */
  #forgetUnused(lane: LaneState): void {
    if (lane.streams.length < cloudLogLimits.unusedEpochs.value) return
    const unused = lane.streams.filter(stream => !stream.stored)
    if (unused.length < cloudLogLimits.unusedEpochs.value) return
    const forgotten = new Set(unused.slice(0, unused.length / 2))
    lane.streams = lane.streams.filter(stream => !forgotten.has(stream))
    for (const stream of forgotten) {
      this.streamsById.delete(stream.id)
      stream.stale = true
    }
  }

  addNode(id: number, name: NodeName): NodeState {
    const node: NodeState = { id, name, lanes: new Map(), stored: false, lastSeq: -1 }
    this.nodesById.set(id, node)
    this.#nodesByName.set(name, node)
    this.nextNodeId = Math.max(this.nextNodeId, id + 1)
    return node
  }

  addLane(node: NodeState, name: string): LaneState {
    let lane = node.lanes.get(name)
    if (lane === undefined) {
      lane = { name, past: { records: 0, bytes: 0, gaps: 0 }, streams: [] }
      node.lanes.set(name, lane)
    }
    return lane
  }

  addStream(id: number, node: NodeState, lane: StreamLane, epoch: StreamEpoch): StreamState {
    const stream = new StreamState(id, node, { id: lane.id, name: lane.name }, {
      epoch: epoch.epoch, predecessor: epoch.predecessor, start: epoch.start, reason: epoch.reason
    })
    this.addLane(node, lane.name).streams.push(stream)
    this.streamsById.set(id, stream)
    this.nextStreamId = Math.max(this.nextStreamId, id + 1)
    return stream
  }

  /**
   * Forgets epochs whose records are all below `floor`, but for the newest of each lane. Their totals go to the lane.
   * Returns the ids.
   */
  forget(node: NodeState, floor: number): number[] {
    const forgotten: number[] = []
    for (const lane of node.lanes.values()) {
      let spare = lane.streams.length - cloudLogLimits.epochsKept.value
      while (spare-- > 0) {
        const oldest = lane.streams[0]!
        if (!oldest.stored || oldest.lastSeq >= floor) break
        lane.streams.shift()
        this.streamsById.delete(oldest.id)
        oldest.stale = true
        lane.past = addTotals(lane.past, oldest.totals)
        forgotten.push(oldest.id)
      }
    }
    return forgotten
  }

  totals(): NodeTotals[] {
    const all: NodeTotals[] = []
    for (const node of this.#nodesByName.values()) {
      if (!node.stored) continue
      const lanes: LaneTotals[] = []
      for (const lane of node.lanes.values()) {
        const newest = lane.streams.findLast(stream => stream.stored)
        if (newest === undefined) continue
        const totals = lane.streams.reduce((sum, stream) => addTotals(sum, stream.totals), lane.past)
        lanes.push({ lane: lane.name, epoch: newest.epoch, nextOffset: newest.durable.next, ...totals })
      }
      all.push({ name: node.name, lanes: lanes.sort((a, b) => a.lane < b.lane ? -1 : 1) })
    }
    return all.sort((a, b) => a.name < b.name ? -1 : 1)
  }
}

export function nodeRow(node: NodeState): NodeRow {
  return { id: node.id, name: node.name, lanes: [...node.lanes.values()].map(lane => [lane.name, lane.past] as const) }
}

function addTotals(a: Totals, b: Totals): Totals {
  return { records: a.records + b.records, bytes: a.bytes + b.bytes, gaps: a.gaps + b.gaps }
}
