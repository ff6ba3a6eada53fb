import { contentVersion, stateDigest } from '../state-digest.ts'
import type { StateItem, StateListener, StateSource } from '../state-source.ts'
import type { StateBatch, StateTarget } from '../state-target.ts'

type Items = Map<string, Map<string, StateItem>>

function itemsOf(collections: readonly string[]): Items { return new Map(collections.map(name => [name, new Map()])) }

function* sorted(items: ReadonlyMap<string, StateItem>, after: string): Generator<readonly [string, Buffer]> {
  for (const key of [...items.keys()].toSorted()) if (key > after) yield [key, items.get(key)!.version]
}

/** A source in memory, with versions by content. */
export class MemorySource implements StateSource {
  readonly collections: readonly string[]
  readonly #items: Items
  readonly #notReady = new Set<string>()
  readonly #listeners = new Set<StateListener>()
  met: (collection: string, key: string, version: Buffer) => void = () => {}
  /** Counts the changes: the position. */
  #changes = 0

  constructor(collections: readonly string[]) {
    this.collections = collections
    this.#items = itemsOf(collections)
  }

  put(collection: string, key: string, value: string | Buffer): void {
    const bytes = Buffer.from(value)
    this.#items.get(collection)!.set(key, { version: contentVersion(bytes), value: bytes })
    this.#changed(collection, key)
  }

  delete(collection: string, key: string): void {
    this.#items.get(collection)!.delete(key)
    this.#changed(collection, key)
  }

  setReady(collection: string, ready: boolean): void {
    if (ready) this.#notReady.delete(collection)
    else this.#notReady.add(collection)
    for (const listener of this.#listeners) listener.collectionChanged(collection)
  }

  /** Like another process: it has seen no more changes than that. */
  startAt(changes: number): void { this.#changes = changes }

  ready(collection: string, position: string): boolean {
    return !this.#notReady.has(collection) && Number(position) <= this.#changes
  }

  position(_collection: string): string { return String(this.#changes) }
  digest(collection: string): Buffer { return stateDigest(this.keysFrom(collection, '')) }
  version(collection: string, key: string): Buffer | undefined { return this.#items.get(collection)!.get(key)?.version }
  value(collection: string, key: string): Buffer | undefined { return this.#items.get(collection)!.get(key)?.value }
  keysFrom(collection: string, after: string): Iterable<readonly [key: string, version: Buffer]> {
    return sorted(this.#items.get(collection)!, after)
  }

  subscribe(listener: StateListener): () => void {
    this.#listeners.add(listener)
    return () => { this.#listeners.delete(listener) }
  }

  get listeners(): number { return this.#listeners.size }

  #changed(collection: string, key: string): void {
    this.#changes++
    for (const listener of this.#listeners) listener.keyChanged(collection, key)
  }
}

/** A target in memory. Batches wait in `waiting` until `settle` lets the oldest be applied; unless `immediate`. */
export class MemoryTarget implements StateTarget {
  readonly collections: readonly string[]
  readonly batches: StateBatch[] = []
  readonly waiting: (() => void)[] = []
  immediate = true
  /** Refuses a batch by throwing. */
  check: (batch: StateBatch) => void = () => {}
  readonly items: Items
  readonly #positions = new Map<string, string>()
  readonly #listeners = new Set<(collection: string) => void>()

  constructor(collections: readonly string[]) {
    this.collections = collections
    this.items = itemsOf(collections)
  }

  digest(collection: string): Promise<Buffer> | Buffer { return stateDigest(this.keysFrom(collection, '')) }
  position(collection: string): string { return this.#positions.get(collection) ?? '' }
  keysFrom(collection: string, after: string): Iterable<readonly [key: string, version: Buffer]> {
    return sorted(this.items.get(collection)!, after)
  }

  apply(batch: StateBatch, onApplied: (error?: Error) => void): void {
    const work = (): void => {
      try {
        this.check(batch)
      } catch (error) {
        onApplied(error as Error)
        return
      }
      const items = this.items.get(batch.collection)!
      for (const { key, version, value } of batch.puts) items.set(key, { version: Buffer.from(version), value: Buffer.from(value) })
      for (const key of batch.deletes) items.delete(key)
      this.#positions.set(batch.collection, batch.position)
      this.batches.push(batch)
      onApplied()
    }
    if (this.immediate) work()
    else this.waiting.push(work)
  }

  subscribe(listener: (collection: string) => void): () => void {
    this.#listeners.add(listener)
    return () => { this.#listeners.delete(listener) }
  }

  /** The item turns out to be unreadable, and is gone. */
  damage(collection: string, key: string): void {
    if (!this.items.get(collection)!.delete(key)) return
    for (const listener of this.#listeners) listener(collection)
  }

  settle(): void { this.waiting.shift()?.() }

  /** All of it, as text. */
  show(): Record<string, Record<string, string>> {
    return Object.fromEntries([...this.items].map(([name, items]) =>
      [name, Object.fromEntries([...items].toSorted(([a], [b]) => a < b ? -1 : 1).map(([key, { value }]) => [key, value.toString()]))]))
  }
}
