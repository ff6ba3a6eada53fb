import type { Log } from '@holdfast/runtime'
import type { Store, StoreEntry, WriteOp } from '@holdfast/store'
import { collectionOf } from './object-store-collection.ts'
import type { ObjectCollection } from './object-store-collection.ts'
import { decodeObject, decodeRevision, encodeRevision, objectRange, revisionKey } from './object-store-keys.ts'

export interface LoadedObjects {
  /** By name of the resource. */
  readonly collections: Map<string, ObjectCollection>
  /** The largest that was ever given to a change, or above. */
  readonly revision: number
  readonly objects: number
  /** JSON text of all. */
  readonly bytes: number
}

/**
 * How far revisions go on above what is found where newer ones may have been lost: more than are written between two
 * starts, so that no client ever meets one with two meanings.
 */
const revisionLeap = 1_000_000_000

/**
 * Reads all objects. Damaged ones are counted, logged and deleted. `suspect`: entries may be missing; then, and where some
 * were damaged, the revision leaps. `revisionMin`: the revision is not below. What it resolves with is durable.
 */
export async function loadObjects(store: Store, suspect: boolean, revisionMin: number, log: Log): Promise<LoadedObjects> {
  const collections = new Map<string, ObjectCollection>()
  const repairs: WriteOp[] = []
  const kept = await store.get(revisionKey)
  const keptRevision = kept === undefined ? 0 : decodeRevision(kept)
  let revision = keptRevision ?? 0
  let objects = 0
  let bytes = 0
  for await (const { key, value } of entries(store)) {
    const stored = decodeObject(key, value)
    if (stored === undefined) {
      repairs.push({ type: 'del', key })
      continue
    }
    collectionOf(collections, stored.resource).put(stored)
    revision = Math.max(revision, stored.revision)
    objects++
    bytes += stored.json.length
  }
  if (repairs.length > 0) log.error('damaged objects were found in the database and taken out', { objects: repairs.length })
  // It is there from the first start on: where it is missing beside objects, something has happened to it.
  const lost = keptRevision === undefined || (kept === undefined && objects > 0)
  if (suspect || repairs.length > 0 || lost) revision += revisionLeap
  revision = Math.max(revision, revisionMin)
  // Synced, so that what was found, perhaps of a write that was never answered, is durable before anybody sees it.
  await writeSynced(store, [...repairs, { type: 'put', key: revisionKey, value: encodeRevision(revision) }])
  return { collections, revision, objects, bytes }
}

async function* entries(store: Store): AsyncGenerator<StoreEntry> {
  let { gte } = objectRange
  for (;;) {
    const page = await store.scan({ gte, lt: objectRange.lt })
    if (page.length === 0) return
    yield* page
    gte = Buffer.concat([page.at(-1)!.key, Buffer.from([0])])
  }
}

function writeSynced(store: Store, ops: readonly WriteOp[]): Promise<void> {
  return new Promise((resolve, reject) => {
    store.write(ops, { sync: true }, error => {
      if (error === undefined) resolve()
      else reject(error)
    })
  })
}

/** Entries of a salvaged database that are no objects, for others to take over. */
export interface SalvagedObjects { readonly objects: number, readonly damaged: number }

/**
 * Takes over objects from a database that was set aside: of each the newest version that can be read. What was deleted may
 * come back; `open` the result as `suspect`.
 */
export async function salvageObjects(found: AsyncIterable<StoreEntry>, store: Store): Promise<SalvagedObjects> {
  const newest = new Map<string, { readonly revision: number, readonly entry: StoreEntry }>()
  let damaged = 0
  let revision = 0
  for await (const entry of found) {
    if (entry.key.equals(revisionKey)) revision = Math.max(revision, decodeRevision(entry.value) ?? 0)
    if (entry.key[0] !== objectRange.gte[0]) continue
    const stored = decodeObject(entry.key, entry.value)
    if (stored === undefined) {
      damaged++
      continue
    }
    const id = entry.key.toString('latin1')
    revision = Math.max(revision, stored.revision)
    if ((newest.get(id)?.revision ?? -1) < stored.revision) newest.set(id, { revision: stored.revision, entry })
  }
  let ops: WriteOp[] = [{ type: 'put', key: revisionKey, value: encodeRevision(revision) }]
  let bytes = 0
  for (const { entry: { key, value } } of newest.values()) {
    ops.push({ type: 'put', key, value })
    bytes += value.length
    if (bytes < salvageCommitBytes) continue
    await writeSynced(store, ops)
    ops = []
    bytes = 0
  }
  await writeSynced(store, ops)
  return { objects: newest.size, damaged }
}

const salvageCommitBytes = 1024 * 1024
