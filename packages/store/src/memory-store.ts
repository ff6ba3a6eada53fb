import { HoldfastError } from '@holdfast/runtime'
import { SortedEntries } from './sorted-entries.ts'
import type { ScanOptions, Store, StoreEntry, WriteOp } from './store.ts'

/**
 * A store that lives as long as the object: the oracle for the others, and the store of tests that are not about disks.
 * A write is visible to reads at once and calls back in a microtask; nothing ever fails but use after close
 * (`STORE_CLOSED`).
 */
export class MemoryStore implements Store {
  readonly #entries = new SortedEntries()
  #closed = false

  write(ops: readonly WriteOp[], _options: { readonly sync: boolean }, onDone: (error?: Error) => void): void {
    if (this.#closed) {
      queueMicrotask(() => onDone(closedError()))
      return
    }
    this.#entries.apply(ops)
    queueMicrotask(() => onDone())
  }

  async get(key: Uint8Array): Promise<Buffer | undefined> {
    if (this.#closed) throw closedError()
    return this.#entries.get(key)
  }

  async scan(options: ScanOptions): Promise<StoreEntry[]> {
    if (this.#closed) throw closedError()
    return this.#entries.page(options)
  }

  async compact(): Promise<void> { if (this.#closed) throw closedError() }

  async close(): Promise<void> { this.#closed = true }
}

function closedError(): HoldfastError {
  return new HoldfastError('STORE_CLOSED', 'memory store: used after close')
}
