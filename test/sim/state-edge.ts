import { contentVersion, stateDigest } from '@holdfast/sync'
import type { StateBatch, StateItem, StateListener, StateSource, StateTarget } from '@holdfast/sync'
import type { Database, StoreEntry } from '@holdfast/store'
import { tables } from '@holdfast/store'
import { downCollections, upCollections } from './state-truth.ts'

/** Told of what reaches the disk, for the oracles. */
export interface EdgeStateObserver {
  /** A batch was handed over; `held`: the version there is of a key. */
  applying(batch: StateBatch, held: (key: string) => Buffer | undefined): void
  applied(): void
}

const upHead = Buffer.of(tables.objectHead, 1)

function rowKey(table: number, place: number, key: string): Buffer { return Buffer.concat([Buffer.of(table, place), Buffer.from(key)]) }

function rowOf({ version, value }: StateItem): Buffer { return Buffer.concat([Buffer.of(version.length), version, value]) }

/** Undefined where the row says something that cannot be. */
function itemOf(row: Buffer): StateItem | undefined {
  const length = row[0] ?? 0
  if (length === 0 || row.length < 1 + length) return undefined
  return { version: row.subarray(1, 1 + length), value: row.subarray(1 + length) }
}

/** A node's State in its database: a plain table of what came down, and a source of what goes up. */
export class EdgeState {
  readonly down: DownTable
  readonly up: UpSource

  private constructor(down: DownTable, up: UpSource) {
    this.down = down
    this.up = up
  }

  static async open(database: Database, epoch: Buffer, observer: EdgeStateObserver): Promise<EdgeState> {
    const up = new UpSource(database, epoch)
    await up.load()
    return new EdgeState(new DownTable(database, observer), up)
  }
}

class DownTable implements StateTarget {
  readonly collections = downCollections
  readonly #database: Database
  readonly #observer: EdgeStateObserver
  /** As the last digest found it, and as it changed since. */
  readonly #held = new Map<string, Map<string, Buffer>>()
  readonly #positions = new Map<string, string>()
  #pending = 0
  #idle: (() => void)[] = []

  constructor(database: Database, observer: EdgeStateObserver) {
    this.#database = database
    this.#observer = observer
  }

  async digest(collection: string): Promise<Buffer> {
    while (this.#pending > 0) await new Promise<void>(resolve => { this.#idle.push(resolve) })
    const held = new Map<string, Buffer>()
    for (const [key, value] of await this.read(collection)) held.set(key, contentVersion(value))
    this.#held.set(collection, held)
    this.#positions.set(collection, (await this.#database.store.get(rowKey(tables.objectPosition, placeOf(collection), '')))?.toString() ?? '')
    return stateDigest(this.keysFrom(collection, ''))
  }

  position(collection: string): string { return this.#positions.get(collection) ?? '' }

  keysFrom(collection: string, after: string): (readonly [string, Buffer])[] {
    return [...this.#held.get(collection) ?? []].filter(([key]) => key > after).toSorted(([a], [b]) => a < b ? -1 : 1)
  }

  /** Values as the disk has them; what does not fit its version is not there. */
  async read(collection: string): Promise<[string, Buffer][]> {
    const place = placeOf(collection)
    const rows: StoreEntry[] = await this.#database.store.scan({ gte: rowKey(tables.objectDown, place, ''),
      lt: rowKey(tables.objectDown, place + 1, ''), bytesMax: Number.MAX_SAFE_INTEGER })
    return rows.flatMap(({ key, value }) => {
      const item = itemOf(value)
      const name = key.toString('latin1', 2)
      // A key that is none of ours cannot be named to the writer.
      if (!/^[\x21-\x7e]+$/.test(name)) return []
      return item !== undefined && contentVersion(item.value).equals(item.version) ? [[name, item.value] as [string, Buffer]] : []
    })
  }

  apply(batch: StateBatch, onApplied: (error?: Error) => void): void {
    const { collection } = batch
    const held = this.#held.get(collection)!
    this.#observer.applying(batch, key => held.get(key))
    const place = placeOf(collection)
    const commit = this.#database.committer.gather({ bytes: batch.puts.reduce((sum, { value }) => sum + value.length, 200) })
    for (const item of batch.puts) commit.put(rowKey(tables.objectDown, place, item.key), rowOf(item))
    for (const key of batch.deletes) commit.del(rowKey(tables.objectDown, place, key))
    commit.put(rowKey(tables.objectPosition, place, ''), Buffer.from(batch.position))
    this.#pending++
    commit.onDurable(error => {
      if (error === undefined) {
        for (const { key, version } of batch.puts) held.set(key, Buffer.from(version))
        for (const key of batch.deletes) held.delete(key)
        this.#positions.set(collection, batch.position)
        this.#observer.applied()
      }
      onApplied(error)
      if (--this.#pending === 0) for (const wake of this.#idle.splice(0)) wake()
    })
  }
}

/** Statuses: durable before anybody sees them; a version names the start that wrote it and the number of the change. */
class UpSource implements StateSource {
  readonly collections = upCollections
  readonly #database: Database
  /** Of this start. */
  readonly #epoch: Buffer
  readonly #items = new Map<string, Map<string, StateItem>>(upCollections.map(name => [name, new Map<string, StateItem>()]))
  readonly #listeners = new Set<StateListener>()
  #counter = 0n

  constructor(database: Database, epoch: Buffer) {
    this.#database = database
    this.#epoch = epoch
  }

  /** What a failed commit left may be there or not: the disk says so. */
  async reload(): Promise<void> {
    const before = [...this.#items].flatMap(([name, items]) => [...items.keys()].map(key => [name, key] as const))
    const counter = this.#counter
    for (const items of this.#items.values()) items.clear()
    await this.load()
    if (counter > this.#counter) this.#counter = counter
    for (const [name, items] of this.#items) for (const key of items.keys()) before.push([name, key])
    for (const [name, key] of before) for (const listener of this.#listeners) listener.keyChanged(name, key)
  }

  async load(): Promise<void> {
    this.#counter = (await this.#database.store.get(upHead))?.readBigUInt64BE() ?? 0n
    for (const [name, items] of this.#items) {
      const place = upPlaceOf(name)
      const rows = await this.#database.store.scan({ gte: rowKey(tables.objectUp, place, ''), lt: rowKey(tables.objectUp, place + 1, ''),
        bytesMax: Number.MAX_SAFE_INTEGER })
      for (const { key, value } of rows) {
        const item = itemOf(value)
        if (item?.version.length === 16) items.set(key.toString('latin1', 2), item)
      }
    }
  }

  set(collection: string, key: string, value: Buffer | undefined): void {
    if (this.#database.committer.failure !== undefined) return
    const commit = this.#database.committer.gather({ bytes: 200 })
    const head = Buffer.alloc(8)
    head.writeBigUInt64BE(++this.#counter)
    commit.put(upHead, head)
    const item = value === undefined ? undefined : { version: Buffer.concat([this.#epoch, head]), value }
    const row = rowKey(tables.objectUp, upPlaceOf(collection), key)
    if (item === undefined) commit.del(row)
    else commit.put(row, rowOf(item))
    commit.onDurable(error => {
      if (error !== undefined) return
      const items = this.#items.get(collection)!
      if (item === undefined) items.delete(key)
      else items.set(key, item)
      for (const listener of this.#listeners) listener.keyChanged(collection, key)
    })
  }

  /** The cloud has one that this very start, or one whose disk this is a backup of, wrote later: this one is stamped anew. */
  met(collection: string, key: string, version: Buffer): void {
    const item = this.#items.get(collection)!.get(key)
    if (item === undefined || !version.subarray(0, 8).equals(item.version.subarray(0, 8))) return
    if (version.readBigUInt64BE(8) > item.version.readBigUInt64BE(8)) this.set(collection, key, item.value)
  }

  ready(): boolean { return true }
  position(): string { return '' }
  digest(collection: string): Buffer { return stateDigest(this.keysFrom(collection, '')) }
  version(collection: string, key: string): Buffer | undefined { return this.#items.get(collection)!.get(key)?.version }
  value(collection: string, key: string): Buffer | undefined { return this.#items.get(collection)!.get(key)?.value }

  keysFrom(collection: string, after: string): (readonly [string, Buffer])[] {
    return [...this.#items.get(collection)!].filter(([key]) => key > after).toSorted(([a], [b]) => a < b ? -1 : 1)
      .map(([key, { version }]) => [key, version] as const)
  }

  subscribe(listener: StateListener): () => void {
    this.#listeners.add(listener)
    return () => { this.#listeners.delete(listener) }
  }
}

function placeOf(collection: string): number { return 1 + downCollections.indexOf(collection as typeof downCollections[number]) }
function upPlaceOf(collection: string): number { return 1 + upCollections.indexOf(collection as typeof upCollections[number]) }
