import type { Frame } from '@holdfast/protos'
import type { Clock, HoldfastError, Log, NodeName, Random } from '@holdfast/runtime'
import type { Database, Outbox, Store } from '@holdfast/store'
import type { StateSource, StateTarget } from '@holdfast/sync'
import type { NodeState } from '../../packages/cloudcore/src/hub/hub.ts'
import type { Edge } from './edge.ts'
import type { SimulatedProcess } from './machine.ts'

/** What an edge's process is made of when its State is opened. */
export interface EdgeParts {
  readonly database: Database
  readonly outbox: Outbox
  readonly process: SimulatedProcess
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly clockTrusted: () => boolean
}

/** State on one edge, for its link. */
export interface EdgeSide {
  readonly down: StateTarget
  readonly up: StateSource
  /** The disk is nearly full, or not any more. */
  refuse(error: HoldfastError | undefined): void
  reopen(store: Store, suspect: boolean): Promise<void>
}

/** State in one process of the cloud. */
export interface CloudSide {
  stateOf(node: NodeName): NodeState
  /** A watch ends, of this collection or of any. */
  breakOff(collection: string): void
}

/** What goes on beside the Log in a seed: changes, and the oracles for them. */
export interface StateBeside {
  readonly changes: number
  readonly itemsMoved: number
  readonly notReady: number
  start(chaosMs: number, changes: number): void
  openEdge(edge: Edge, parts: EdgeParts): Promise<EdgeSide>
  openCloud(clock: Clock, process: SimulatedProcess): CloudSide
  /** What the cloud says on a connection. */
  said(frame: Frame): void
  /** What an edge says on its connection. */
  heard(edge: Edge, frame: Frame): void
  newCluster(): void
  /** The disk of an edge is an older one from now on. */
  wentBack(edge: Edge): void
  /** Makes a backup of the cluster and puts it back later. */
  backUp(): () => void
  heal(): void
  /** Looked at now and then: it reads everything. */
  readonly converged: boolean
  describe(): string
  /** What is left to be checked in the end; resolves with what two runs of a seed have in common. */
  verify(): Promise<string>
}
