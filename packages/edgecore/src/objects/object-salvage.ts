import { hasCode } from '@holdfast/runtime'
import { salvageTables, tables } from '@holdfast/store'
import type { Store, StoreEntry } from '@holdfast/store'
import { decodeHead, decodeItem, decodeText, headKey, isObjectKey } from './object-format.ts'
import { soundItem } from './object-load.ts'

/**
 * Takes what is sound of a quarantined store's objects over into a new one. What was deleted or replaced after the damage may
 * come out as it was before; the next comparison with the cloud puts that right. Open the table with `suspect: true` then.
 */
export class ObjectSalvage {
  readonly counts = { objects: 0, damagedObjects: 0 }
  readonly #store: Store

  constructor(store: Store) { this.#store = store }

  /** Passes on the entries that are no objects; objects are on the disk when it ends. */
  taking(entries: AsyncIterable<StoreEntry>): AsyncGenerator<StoreEntry> {
    return salvageTables(entries, this.#store, entry => {
      if (!isObjectKey(entry.key)) return 'pass'
      const sound = isSound(entry)
      if (!sound) this.counts.damagedObjects++
      else if (entry.key[0] === tables.objectDown) this.counts.objects++
      return sound ? 'take' : 'leave'
    })
  }
}

/** What a newer release wrote is taken over, for the load to refuse it with a sentence. */
function isSound(entry: StoreEntry): boolean {
  try {
    return fits(entry)
  } catch (error) {
    if (hasCode(error, 'OBJECTS_NEWER')) return true
    throw error
  }
}

function fits({ key, value }: StoreEntry): boolean {
  switch (key[0]) {
    case tables.objectDown: return soundItem(key, value) !== undefined
    case tables.objectUp: return decodeItem(key, value) !== undefined
    case tables.objectHead: return key.equals(headKey) && decodeHead(value) !== undefined
    default: return decodeText(key, value) !== undefined
  }
}
