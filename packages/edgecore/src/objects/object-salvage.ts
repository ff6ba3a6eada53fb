import { tables, writeSynced } from '@holdfast/store'
import type { Store, StoreEntry, WriteOp } from '@holdfast/store'
import { decodeHead, decodeItem, decodeText, headKey, isObjectKey } from './object-format.ts'
import { soundItem } from './object-load.ts'

const stepBytes = 1024 * 1024

/**
 * Takes what is sound of a quarantined store's objects over into a new one. What was deleted or replaced after the damage may
 * come out as it was before; the next comparison with the cloud puts that right. Open the table with `suspect: true` then.
 */
export class ObjectSalvage {
  readonly counts = { objects: 0, damagedObjects: 0 }
  readonly #store: Store

  constructor(store: Store) { this.#store = store }

  /** Passes on the entries that are no objects; objects are on the disk when it ends. */
  async* taking(entries: AsyncIterable<StoreEntry>): AsyncGenerator<StoreEntry> {
    let ops: WriteOp[] = []
    let bytes = 0
    for await (const entry of entries) {
      const { key, value } = entry
      if (!isObjectKey(key)) {
        yield entry
        continue
      }
      if (!isSound(entry)) {
        this.counts.damagedObjects++
        continue
      }
      if (key[0] === tables.objectDown) this.counts.objects++
      ops.push({ type: 'put', key, value })
      bytes += value.length
      if (bytes < stepBytes) continue
      await writeSynced(this.#store, ops)
      ops = []
      bytes = 0
    }
    if (ops.length > 0) await writeSynced(this.#store, ops)
  }
}

function isSound({ key, value }: StoreEntry): boolean {
  switch (key[0]) {
    case tables.objectDown: return soundItem(key, value) !== undefined
    case tables.objectUp: return decodeItem(key, value) !== undefined
    case tables.objectHead: return key.equals(headKey) && decodeHead(value) !== undefined
    default: return decodeText(key, value) !== undefined
  }
}
