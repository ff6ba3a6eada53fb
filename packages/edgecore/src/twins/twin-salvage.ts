import { hasCode } from '@holdfast/runtime'
import { salvageTables, tables } from '@holdfast/store'
import type { Store, StoreEntry } from '@holdfast/store'
import { decodeStoredTwin, idOfTwinKey, waitingKey } from './twin-format.ts'

/**
 * Takes what is sound of a quarantined store's twins over into a new one. What was written after the damage may come out as it
 * was before. Open the twins with `suspect: true` then.
 */
export class TwinSalvage {
  readonly counts = { twins: 0, damagedTwins: 0 }
  readonly #store: Store

  constructor(store: Store) { this.#store = store }

  /** Passes on the entries that are no twins; twins are on the disk when it ends. */
  taking(entries: AsyncIterable<StoreEntry>): AsyncGenerator<StoreEntry> {
    return salvageTables(entries, this.#store, entry => {
      if (entry.key[0] !== tables.twin) return 'pass'
      // They wait anyhow, until the cloud has said what there is.
      if (waitingKey.equals(entry.key)) return 'leave'
      const sound = isSound(entry)
      this.counts[sound ? 'twins' : 'damagedTwins']++
      return sound ? 'take' : 'leave'
    })
  }
}

/** What a newer release wrote is taken over, for the load to refuse it with a sentence. */
function isSound({ key, value }: StoreEntry): boolean {
  try {
    return idOfTwinKey(key) !== undefined && decodeStoredTwin(key, value) !== undefined
  } catch (error) {
    if (hasCode(error, 'TWINS_NEWER')) return true
    throw error
  }
}
