import { salvageTables, tables } from '@holdfast/store'
import type { Store, StoreEntry } from '@holdfast/store'
import { decodeJson, decodeMessage } from './persistence-format.ts'

/**
 * Takes what is sound of the broker's tables in a quarantined store over into a new one: retained messages, sessions,
 * subscriptions, queued messages, wills. What was deleted after the damage may come out again, and is delivered again.
 *
 * QoS 2 markers stay behind: one that had been deleted would make a new message with its identifier and bytes look like a
 * repetition, and lose it. Without them a publish whose PUBREL had not come may be taken twice.
 */
export class BrokerSalvage {
  readonly counts = { brokerEntries: 0, damagedBrokerEntries: 0 }
  readonly #store: Store

  constructor(store: Store) { this.#store = store }

  /** Passes on the entries that are not the broker's; what is taken over is on the disk when it ends. */
  taking(entries: AsyncIterable<StoreEntry>): AsyncGenerator<StoreEntry> {
    return salvageTables(entries, this.#store, ({ key, value }) => {
      const sound = isSound(key[0], value)
      if (sound === undefined) return 'pass'
      this.counts[sound ? 'brokerEntries' : 'damagedBrokerEntries']++
      return sound ? 'take' : 'leave'
    })
  }
}

/** Undefined for what is not the broker's, or stays behind. */
function isSound(table: number | undefined, value: Buffer): boolean | undefined {
  switch (table) {
    case tables.brokerRetained:
    case tables.brokerOutgoing:
    case tables.brokerIncoming:
    case tables.brokerWill: return decodeMessage(value) !== undefined
    case tables.brokerSession:
    case tables.brokerSubscription: return decodeJson(value) !== undefined
    default: return undefined
  }
}
