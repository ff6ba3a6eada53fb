import type { ScanOptions, StoreEntry, WriteOp } from './store.ts'

/** A page of a scan stops at this many bytes where the caller names no bound. */
export const scanBytesMaxDefault = 1024 * 1024

const noValue = Buffer.alloc(0)

/**
 * Key-value pairs in one sorted array: a plain model of what a store holds. Inserting costs a move of what lies behind,
 * so it is meant for tests and simulations. Buffers are shared, never modified.
 */
export class SortedEntries {
  #entries: StoreEntry[]

  constructor(entries: readonly StoreEntry[] = []) { this.#entries = [...entries] }

  get size(): number { return this.#entries.length }

  all(): readonly StoreEntry[] { return this.#entries }

  clone(): SortedEntries { return new SortedEntries(this.#entries) }

  get(key: Uint8Array): Buffer | undefined {
    const i = this.#lowerBound(key)
    return this.#holdsAt(i, key) ? this.#entries[i]!.value : undefined
  }

  apply(ops: readonly WriteOp[]): void {
    for (const op of ops) {
      const i = this.#lowerBound(op.key)
      const replaced = this.#holdsAt(i, op.key) ? 1 : 0
      if (op.type === 'del') this.#entries.splice(i, replaced)
      else this.#entries.splice(i, replaced, { key: asBuffer(op.key), value: asBuffer(op.value) })
    }
  }

  /** `Store.scan` over what is held now. */
  page(options: ScanOptions): StoreEntry[] {
    const { limit = Infinity, bytesMax = scanBytesMaxDefault, reverse = false, values = true } = options
    const low = this.#lowerBound(options.gte)
    const high = this.#lowerBound(options.lt)
    const page: StoreEntry[] = []
    let bytes = 0
    for (let n = 0; n < high - low && page.length < limit; n++) {
      const { key, value } = this.#entries[reverse ? high - 1 - n : low + n]!
      const entry = { key, value: values ? value : noValue }
      page.push(entry)
      bytes += entry.key.length + entry.value.length
      if (bytes >= bytesMax) break
    }
    return page
  }

  #holdsAt(i: number, key: Uint8Array): boolean {
    const entry = this.#entries[i]
    return entry !== undefined && Buffer.compare(entry.key, key) === 0
  }

  /** Index of the first entry whose key is not below `key`. */
  #lowerBound(key: Uint8Array): number {
    let low = 0
    let high = this.#entries.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (Buffer.compare(this.#entries[middle]!.key, key) < 0) low = middle + 1
      else high = middle
    }
    return low
  }
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
