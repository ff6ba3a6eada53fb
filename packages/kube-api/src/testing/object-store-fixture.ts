import { silentLog } from '@holdfast/runtime'
import { HandClock } from '@holdfast/runtime/testing'
import { Committer, MemoryStore } from '@holdfast/store'
import type { Store } from '@holdfast/store'
import { ObjectStore } from '../object-store.ts'
import type { ObjectStoreOptions } from '../object-store.ts'

export interface ObjectStoreFixture<DiskStore extends Store> {
  readonly store: DiskStore
  readonly clock: HandClock
  readonly committer: Committer
  readonly objects: ObjectStore
}

/** An object store over a disk store that the test keeps. */
export async function openObjectStore(options?: ObjectStoreOptions): Promise<ObjectStoreFixture<MemoryStore>>
export async function openObjectStore<DiskStore extends Store>(
  options: ObjectStoreOptions, store: DiskStore): Promise<ObjectStoreFixture<DiskStore>>
export async function openObjectStore(options: ObjectStoreOptions = {}, store: Store = new MemoryStore()): Promise<ObjectStoreFixture<Store>> {
  const clock = new HandClock(0)
  const committer = new Committer({}, { store, clock, onFailure: () => {} })
  const objects = await ObjectStore.open(options, store, { committer, clock, log: silentLog })
  return { store, clock, committer, objects }
}
