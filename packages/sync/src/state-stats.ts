import { stateVerdicts } from '@holdfast/protos'
import type { StateVerdictKind } from '@holdfast/protos'

/** Counts of one direction since the process started, over all its sessions; for metrics. */
export interface StateStats {
  /** Frames of changes. */
  frames: number
  /** Bytes of changes, as they are sent. */
  bytes: number
  itemsPut: number
  itemsDeleted: number
  /** `itemsPut` by collection. */
  readonly putsOf: Map<string, number>
  /** Verdicts given or got, by kind; pages that were asked for are not counted again. */
  readonly verdicts: Record<StateVerdictKind, number>
  /** Batches that the reader could not hold. */
  refusals: number
  /** Items that the writer kept back because they are out of bounds. */
  withheld: number
}

export function newStateStats(): StateStats {
  return {
    frames: 0, bytes: 0, itemsPut: 0, itemsDeleted: 0, putsOf: new Map(), refusals: 0, withheld: 0,
    verdicts: Object.fromEntries(stateVerdicts.map(verdict => [verdict, 0])) as Record<StateVerdictKind, number>
  }
}

/** Items of one batch have crossed the link. */
export function countItems(stats: StateStats, collection: string, puts: number, deletes: number): void {
  stats.itemsPut += puts
  stats.itemsDeleted += deletes
  if (puts > 0) stats.putsOf.set(collection, (stats.putsOf.get(collection) ?? 0) + puts)
}
