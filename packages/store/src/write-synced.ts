import type { Store, WriteOp } from './store.ts'

/** Resolves when `ops` are durable. For opening and salvage; what runs goes through the committer. */
export function writeSynced(store: Store, ops: readonly WriteOp[]): Promise<void> {
  return new Promise((resolve, reject) => {
    store.write(ops, { sync: true }, error => {
      if (error === undefined) resolve()
      else reject(error)
    })
  })
}
