import type { Store, WriteOp } from '@holdfast/store'

/** Resolves when the changes are durable. */
export function writeSynced(store: Store, ops: readonly WriteOp[]): Promise<void> {
  return new Promise((resolve, reject) => {
    store.write(ops, { sync: true }, error => { if (error === undefined) resolve(); else reject(error) })
  })
}
