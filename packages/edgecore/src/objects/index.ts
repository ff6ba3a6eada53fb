import type { Clock, Log, Random } from '@holdfast/runtime'
import type { Committer, Store } from '@holdfast/store'
import { downCollections, upCollections } from './collections.ts'
import { heldPods } from './held-pods.ts'
import { itemRefusal } from './object-json.ts'
import { ObjectTable } from './object-table.ts'

export { LocalApi } from './local-api.ts'
export { NodeObjects } from './node-objects.ts'
export { nodeReports } from './node-reports.ts'
export { ObjectSalvage } from './object-salvage.ts'
export type { ObjectChange } from './object-commit.ts'
export { parseObject } from './object-json.ts'
export type { ObjectTable } from './object-table.ts'

/** The table of this node's objects: what comes down is an object that can be served, and pods are held. */
export function openObjectTable(
  options: { readonly suspect: boolean }, store: Store,
  { clock, ...components }: {
    readonly committer: Committer, readonly clock: Clock, readonly random: Random, readonly log: Log
  }
): Promise<ObjectTable> {
  return ObjectTable.open({ down: downCollections, up: upCollections, ...options }, store, {
    ...components, refusal: itemRefusal, companions: { pods: heldPods(clock) }
  })
}
