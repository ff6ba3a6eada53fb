import { SystemClock, SystemRandom, silentLog } from '@holdfast/runtime'
import type { Failpoint, Log } from '@holdfast/runtime'
import { Committer } from '@holdfast/store'
import type { Store } from '@holdfast/store'
import { contentVersion } from '@holdfast/sync'
import type { StateBatch, StateTarget } from '@holdfast/sync'
import { downCollections, objectKinds, upCollections } from '../collections.ts'
import { heldPods } from '../held-pods.ts'
import { itemRefusal } from '../object-json.ts'
import { ObjectTable } from '../object-table.ts'

export interface TableHarness extends AsyncDisposable {
  readonly table: ObjectTable
  readonly committer: Committer
  /** The failures that the committer has met. */
  readonly failures: Error[]
}

/** An ObjectTable as edgecore opens it, over a store that somebody else closes. */
export async function openTable(
  store: Store, { suspect = false, log = silentLog, failpoint }: { suspect?: boolean, log?: Log, failpoint?: Failpoint } = {}
): Promise<TableHarness> {
  const clock = new SystemClock()
  const failures: Error[] = []
  const committer = new Committer({}, {
    store, clock, onFailure: error => { failures.push(error) }, ...failpoint === undefined ? {} : { failpoint }
  })
  const table = await ObjectTable.open({ down: downCollections, up: upCollections, suspect }, store, {
    committer, random: new SystemRandom(), log, refusal: itemRefusal, companions: { pods: heldPods(clock) }
  })
  return { table, committer, failures, [Symbol.asyncDispose]: () => committer.close() }
}

/** An object of a collection as the cloud sends it. */
export function sentObject(
  collection: string, key: string, members: Record<string, unknown> = {}, metadata: Record<string, unknown> = {}
): Buffer {
  const [namespace, name] = key.includes('/') ? key.split('/') : [undefined, key]
  return Buffer.from(JSON.stringify({
    ...objectKinds[collection],
    metadata: {
      creationTimestamp: '2026-11-21T12:00:00Z', name, ...namespace !== undefined && { namespace }, uid: `uid-${key}`, ...metadata
    },
    ...members
  }))
}

/** A batch as a StateReader hands it over. */
export function batchOf(
  collection: string, puts: Readonly<Record<string, Buffer>>, deletes: readonly string[] = [], position = ''
): StateBatch {
  return {
    collection,
    puts: Object.entries(puts).map(([key, value]) => ({ key, version: contentVersion(value), value })),
    deletes,
    synced: true,
    position
  }
}

/** Resolves when the batch is applied. */
export function apply(target: StateTarget, batch: StateBatch): Promise<void> {
  return new Promise((resolve, reject) => {
    target.apply(batch, error => {
      if (error === undefined) resolve()
      else reject(error)
    })
  })
}

/** Resolves when the up item is durable. */
export function putUp(table: ObjectTable, collection: string, key: string, value: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    table.putUp(collection, key, value, error => {
      if (error === undefined) resolve()
      else reject(error)
    })
  })
}
