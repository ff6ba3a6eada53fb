import { HoldfastError, TwoGenerationCache, describeError } from '@holdfast/runtime'
import type { Log, Random } from '@holdfast/runtime'
import { tables } from '@holdfast/store'
import type { Committer, Store } from '@holdfast/store'
import { contentVersion, stateDigest } from '@holdfast/sync'
import type { SortedKeys, StateBatch, StateListener, StateSource, StateTarget } from '@holdfast/sync'
import { objectLimits } from './limits.ts'
import { ObjectCommit } from './object-commit.ts'
import type { ObjectChange } from './object-commit.ts'
import { collectionRange, decodeItem, itemKey } from './object-format.ts'
import type { StoredItem } from './object-format.ts'
import { entries, isItemKey, isLaterVersion, loadObjects, soundItem } from './object-load.ts'
import type { Companion, HeldItem, HeldObjects } from './object-load.ts'

export interface ObjectTableOptions {
  /** Down collections, in the order of the writer's list: dependencies first. Others are kept on disk and not served. */
  readonly down: readonly string[]
  /** Up collections. */
  readonly up: readonly string[]
  /** The newest entries of the store may be missing. */
  readonly suspect: boolean
}

export interface ObjectTableComponents {
  readonly committer: Committer
  readonly random: Random
  readonly log: Log
  /** Why an item cannot be held; undefined: it can. */
  readonly refusal: (collection: string, key: string, value: Buffer) => string | undefined
  /** By down collection. */
  readonly companions: Readonly<Record<string, Companion>>
}

export interface ObjectTableListener {
  /** A commit is durable and visible. In the order of sequences. */
  changed(changes: readonly ObjectChange[]): void
  /** The store was opened again: anything may be different, and sequences may have been passed over. */
  reset(): void
  /** The collection is what the cloud holds (StateBatch.synced). */
  synced?(collection: string): void
}

/** Counts since start, for metrics. */
export interface ObjectTableStats {
  putItems: number
  deletedItems: number
  /** Items dropped because key, value or version did not fit together. */
  damagedItems: number
  refusedBatches: number
}

/** Larger ones are read again. */
const recentValueBytesMax = 8 * 1024

/**
 * What the cluster wants for this node and what the node reports of it, in the node's database (docs/spec/state.md).
 *
 * Values of down items stay on disk; versions, keys and sequences are held in memory, as are up items whole. Every
 * change has a sequence of its own, one counter for all: it is durable in the commit of the change and never goes back,
 * also when the last change was a deletion, and after damage it jumps ahead. Nothing is visible before it is durable (L1).
 *
 * One operation at a time takes down items in, so that what was there before a change is known.
 */
export class ObjectTable {
  readonly stats: ObjectTableStats = { putItems: 0, deletedItems: 0, damagedItems: 0, refusedBatches: 0 }
  /** Where the cloud's view of this node goes. */
  readonly down: StateTarget
  /** What goes up to the cloud. */
  readonly up: StateSource
  readonly #options: ObjectTableOptions
  readonly #components: ObjectTableComponents
  readonly #listeners = new Set<ObjectTableListener>()
  readonly #upListeners = new Set<StateListener>()
  readonly #damageListeners = new Set<(collection: string) => void>()
  #store: Store
  /** What is durable. */
  #held: HeldObjects
  /** Highest sequence given out. */
  #given: number
  /** What is known of the batches that are waiting: they are worth nothing after a failed one. */
  #run: { failure?: Error } = {}
  #tail: Promise<unknown> = Promise.resolve()
  readonly #repairing = new Set<string>()
  /** What came lately, by collection and key: a device that is told something every second needs no read each time. */
  readonly #recent = new TwoGenerationCache<{ readonly version: string, readonly value: Buffer }>({
    entriesMax: 1000, bytesMax: objectLimits.recentBytes.value
  })
  /** Set while nothing may be taken in. */
  #hold: { readonly over: Promise<void>, end(): void } | undefined

  private constructor(options: ObjectTableOptions, store: Store, held: HeldObjects, components: ObjectTableComponents) {
    this.#options = options
    this.#store = store
    this.#held = held
    this.#given = held.sequence
    this.#components = components
    this.stats.damagedItems += held.damaged
    this.down = this.#target()
    this.up = this.#source()
  }

  /** Reads and checks everything. Rejects with the store's errors only: what is damaged is dropped, counted and logged. */
  static async open(options: ObjectTableOptions, store: Store, components: ObjectTableComponents): Promise<ObjectTable> {
    return new ObjectTable(options, store, await loadObjects({ ...options, sequenceMin: 0 }, store, components), components)
  }

  /** Goes on with a store that was opened anew. */
  async reopen(store: Store, suspect: boolean): Promise<void> {
    const held = await loadObjects({ ...this.#options, suspect, sequenceMin: this.#given }, store, this.#components)
    const before = this.#held.up
    this.#store = store
    this.#held = held
    this.#given = Math.max(this.#given, held.sequence)
    this.stats.damagedItems += held.damaged
    for (const listener of this.#listeners) listener.reset()
    for (const [collection, items] of [...before, ...held.up]) for (const [key] of items.from('')) this.#tellUp(collection, key)
  }

  /** The newest sequence that is durable. */
  get sequence(): number { return this.#held.sequence }

  /** Hex; of the versions that this start gives to up items (STA-30). */
  get epoch(): string { return this.#held.epoch.toString('hex') }

  /** Down items, all collections. */
  get size(): number { return [...this.#held.down.values()].reduce((sum, items) => sum + items.size, 0) }

  /** Has `listener` told from now on, until the function that it returns is called. */
  subscribe(listener: ObjectTableListener): () => void {
    this.#listeners.add(listener)
    return () => { this.#listeners.delete(listener) }
  }

  /** Down items of a collection: their keys in byte order, and the sequence of each. */
  *heads(collection: string): Iterable<readonly [key: string, sequence: number]> {
    for (const [key, { sequence }] of this.#held.down.get(collection)?.from('') ?? []) yield [key, sequence]
  }

  count(collection: string): number { return this.#held.down.get(collection)?.size ?? 0 }

  /** Sequence of a down item; undefined: there is none. */
  sequenceOf(collection: string, key: string): number | undefined { return this.#held.down.get(collection)?.get(key)?.sequence }

  /** A down item as the disk has it; undefined where there is none, or where it is damaged: then it is dropped. */
  async read(collection: string, key: string): Promise<StoredItem | undefined> {
    const stored = itemKey(tables.objectDown, collection, key)
    const bytes = await this.#store.get(stored)
    if (bytes === undefined) return undefined
    const item = decodeItem(stored, bytes)
    if (item !== undefined) return item
    this.#repair(collection)
    return undefined
  }

  /** All down items of a collection, in the order of their keys; damaged ones are passed over, and dropped. */
  async *items(collection: string): AsyncGenerator<readonly [key: string, value: Buffer]> {
    for await (const { key: stored, value: bytes } of entries(this.#store, collectionRange(tables.objectDown, collection))) {
      const read = soundItem(stored, bytes)
      if (read === undefined) this.#repair(collection)
      else if (this.#held.down.get(collection)?.get(read.key) !== undefined) yield [read.key, read.item.value]
    }
  }

  #repair(collection: string): void {
    if (this.#repairing.has(collection)) return
    this.#repairing.add(collection)
    this.#enqueue(() => this.#verify(collection)).then(({ dropped }) => {
      if (dropped > 0) for (const listener of this.#damageListeners) listener(collection)
    }, (error: unknown) => {
      this.#components.log.warn('looking after a damaged object failed', { collection, error: describeError(error) })
    }).finally(() => this.#repairing.delete(collection))
  }

  /** An up item. */
  upItem(collection: string, key: string): { readonly value: Buffer, readonly sequence: number } | undefined {
    return this.#held.up.get(collection)?.get(key)
  }

  /** Namespaces that down items are in, by name, with the sequence at which each came. */
  namespaces(): readonly (readonly [name: string, sequence: number])[] {
    return [...this.#held.namespaces].map(([name, { sequence }]) => [name, sequence] as const).toSorted(([a], [b]) => a < b ? -1 : 1)
  }

  namespaceSequence(name: string): number | undefined { return this.#held.namespaces.get(name)?.sequence }

  /** Puts an up item. `onDurable` runs when it is visible, or with the committer's error. */
  putUp(collection: string, key: string, value: Buffer, onDurable: (error?: Error) => void): void {
    const changing = this.#begin(value.length)
    changing.putUp(collection, key, value)
    this.#finish(changing, onDurable)
  }

  /** Deletes an up item, one that is not durable yet too. `onDurable` as with `putUp`. */
  deleteUp(collection: string, key: string, onDurable: (error?: Error) => void): void {
    const changing = this.#begin(64)
    changing.deleteUp(collection, key)
    this.#finish(changing, onDurable)
  }

  /** While held, what comes down waits before it is written, and the cloud with it: for a disk that is nearly full. */
  hold(held: boolean): void {
    if (held && this.#hold === undefined) {
      const { promise, resolve } = Promise.withResolvers<void>()
      this.#hold = { over: promise, end: resolve }
    } else if (!held) {
      this.#hold?.end()
      this.#hold = undefined
    }
  }

  // Taking in

  #target(): StateTarget {
    return {
      collections: this.#options.down,
      digest: async collection => (await this.#enqueue(() => this.#verify(collection))).digest,
      position: collection => this.#held.positions.get(collection) ?? '',
      keysFrom: (collection, after) => versionsFrom(this.#held.down.get(collection), after),
      apply: (batch, onApplied) => {
        const run = this.#run
        this.#enqueue(async () => {
          if (run.failure !== undefined) throw run.failure
          await this.#apply(batch)
        }).then(() => onApplied(), (error: unknown) => {
          run.failure = error as Error
          if (this.#run === run) this.#run = {}
          onApplied(error as Error)
        })
      },
      subscribe: listener => {
        this.#damageListeners.add(listener)
        return () => { this.#damageListeners.delete(listener) }
      }
    }
  }

  async #apply(batch: StateBatch): Promise<void> {
    const { collection, puts, deletes } = batch
    if (puts.length > 0) while (this.#hold !== undefined) await this.#hold.over
    this.#check(batch)
    const items = this.#held.down.get(collection)
    const previous = new Map<string, Buffer>()
    for (const key of [...puts.map(put => put.key), ...deletes]) {
      const known = items?.get(key)
      if (known === undefined) continue
      const recent = this.#recent.get(`${collection} ${key}`)
      const value = recent?.version === known.version ? recent.value : (await this.read(collection, key))?.value
      if (value !== undefined) previous.set(key, value)
    }
    const changing = this.#begin(puts.reduce((sum, { value }) => sum + value.length + 64, 0))
    for (const { key, version, value } of puts) {
      changing.putDown(collection, key, version, value, previous.get(key))
      if (value.length > recentValueBytesMax) continue
      // What came is a part of its batch, and would hold all of that.
      const copy = Buffer.allocUnsafeSlow(value.length)
      value.copy(copy)
      this.#recent.set(`${collection} ${key}`, { version: version.toString('latin1'), value: copy }, value.length)
    }
    for (const key of deletes) changing.deleteDown(collection, key, previous.get(key))
    changing.position(collection, batch.position)
    await this.#committed(changing)
    if (batch.synced) for (const listener of this.#listeners) listener.synced?.(collection)
  }

  #check({ collection, puts, deletes }: StateBatch): void {
    const refuse = (key: string, why: string): never => {
      this.stats.refusedBatches++
      throw new HoldfastError('OBJECT_REFUSED', `${collection} ${key}: ${why}`)
    }
    const items = this.#held.down.get(collection)
    if (items === undefined) return refuse('', 'this node keeps no such collection')
    const keys = new Set([...puts.map(({ key }) => key), ...deletes])
    if (keys.size < puts.length + deletes.length) return refuse('', 'a key comes twice in a batch')
    let added = 0
    for (const { key, version, value } of puts) {
      if (!isItemKey(key)) refuse(key, 'not a key of at most 512 printable characters, namespace/name or name')
      if (value.length > objectLimits.valueBytes.value) {
        refuse(key, `${value.length} bytes, more than ${objectLimits.valueBytes.value}`)
      }
      if (!version.equals(contentVersion(value))) refuse(key, 'the version is not that of the value')
      const why = this.#components.refusal(collection, key, value)
      if (why !== undefined) refuse(key, why)
      if (items.get(key) === undefined) added++
    }
    const removed = deletes.reduce((sum, key) => sum + (items.get(key) === undefined ? 0 : 1), 0)
    if (items.size + added - removed > objectLimits.itemsPerCollection.value) {
      refuse('', `more than ${objectLimits.itemsPerCollection.value} items`)
    }
  }

  /**
   * Reads every item of a collection, drops what does not fit together, and gives the digest of the rest (STA-4). What is
   * in memory and not on disk, or the other way round, is brought in line too.
   */
  async #verify(collection: string): Promise<{ readonly digest: Buffer, readonly dropped: number }> {
    const items = this.#held.down.get(collection)
    if (items === undefined) return { digest: stateDigest([]), dropped: 0 }
    const versions: [string, Buffer][] = []
    const strays: Buffer[] = []
    const lost = new Set<string>([...items.from('')].map(([key]) => key))
    for await (const { key: stored, value: bytes } of entries(this.#store, collectionRange(tables.objectDown, collection))) {
      const read = soundItem(stored, bytes)
      if (read !== undefined && items.get(read.key)?.version === read.item.version.toString('latin1')) {
        versions.push([read.key, Buffer.from(read.item.version)])
        lost.delete(read.key)
      } else strays.push(stored)
    }
    const dropped = Math.max(lost.size, strays.length)
    if (dropped > 0) {
      this.#countDamage(collection, [...lost], dropped)
      const changing = this.#begin(64 * (lost.size + strays.length))
      for (const stored of strays) changing.deleteStored(stored)
      for (const key of lost) changing.deleteDown(collection, key, undefined)
      await this.#committed(changing)
    }
    return { digest: stateDigest(versions), dropped }
  }

  #countDamage(collection: string, keys: readonly string[], count: number): void {
    this.stats.damagedItems += count
    this.#components.log.error('damaged objects were dropped; the cloud sends them again when it is connected', {
      collection, count, keys: keys.slice(0, 10)
    })
  }

  #source(): StateSource {
    return {
      collections: this.#options.up,
      // What this node says of itself is known from the start on.
      ready: () => true,
      position: () => '',
      digest: collection => stateDigest(versionsFrom(this.#held.up.get(collection), '')),
      version: (collection, key) => {
        const item = this.#held.up.get(collection)?.get(key)
        return item === undefined ? undefined : Buffer.from(item.version, 'latin1')
      },
      value: (collection, key) => this.#held.up.get(collection)?.get(key)?.value,
      keysFrom: (collection, after) => versionsFrom(this.#held.up.get(collection), after),
      met: (collection, key, version) => {
        const item = this.#held.up.get(collection)?.get(key)
        if (item === undefined || !isLaterVersion(version, Buffer.from(item.version, 'latin1'))) return
        this.#components.log.warn('the cloud has a later status than this node: its disk went back, and it says it anew', {
          collection, key
        })
        this.putUp(collection, key, item.value, () => {})
      },
      subscribe: listener => {
        this.#upListeners.add(listener)
        return () => { this.#upListeners.delete(listener) }
      }
    }
  }

  #tellUp(collection: string, key: string): void {
    for (const listener of this.#upListeners) listener.keyChanged(collection, key)
  }

  /** Runs after everything that was enqueued before. */
  #enqueue<T>(task: () => Promise<T>): Promise<T> {
    const done = this.#tail.then(task)
    this.#tail = done.catch(() => undefined)
    return done
  }

  // Changing

  /** Gathers changes into the commit of this turn of the event loop. */
  #begin(bytes: number): ObjectCommit {
    return new ObjectCommit(this.#components.committer.gather({ bytes: bytes + 64 }), this.#components.companions, {
      held: () => this.#held,
      nextSequence: () => ++this.#given
    })
  }

  #finish(changing: ObjectCommit, onDurable: (error?: Error) => void): void {
    changing.finish(this.#given, (changes, error) => {
      if (error === undefined) {
        for (const { what, value } of changes) {
          if (what === 'down') this.stats[value === undefined ? 'deletedItems' : 'putItems']++
        }
        if (changes.length > 0) for (const listener of this.#listeners) listener.changed(changes)
        for (const { what, collection, key } of changes) if (what === 'up') this.#tellUp(collection, key)
      }
      onDurable(error)
    })
  }

  #committed(changing: ObjectCommit): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#finish(changing, error => {
        if (error === undefined) resolve()
        else reject(error)
      })
    })
  }
}

function* versionsFrom(items: SortedKeys<HeldItem> | undefined, after: string): Generator<readonly [string, Buffer]> {
  for (const [key, { version }] of items?.from(after) ?? []) yield [key, Buffer.from(version, 'latin1')]
}
