import type { Store, StoreEntry, WriteOp } from './store.ts'
import { writeSynced } from './write-synced.ts'

const stepBytes = 1024 * 1024

/** What becomes of an entry out of a quarantined store: it is copied, left behind, or for somebody else to judge. */
export type SalvageVerdict = 'take' | 'leave' | 'pass'

/**
 * Copies the entries that `judge` takes into `store`, in steps of about 1 MiB, and passes on those that are not its
 * business; all that was taken is durable when it ends.
 */
export async function* salvageTables(entries: AsyncIterable<StoreEntry>, store: Store,
  judge: (entry: StoreEntry) => SalvageVerdict): AsyncGenerator<StoreEntry> {
  let ops: WriteOp[] = []
  let bytes = 0
  for await (const entry of entries) {
    const verdict = judge(entry)
    if (verdict === 'pass') yield entry
    if (verdict !== 'take') continue
    ops.push({ type: 'put', ...entry })
    bytes += entry.value.length
    if (bytes < stepBytes) continue
    await writeSynced(store, ops)
    ops = []
    bytes = 0
  }
  if (ops.length > 0) await writeSynced(store, ops)
}
