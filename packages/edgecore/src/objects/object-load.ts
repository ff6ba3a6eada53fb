import type { Log, Random } from '@holdfast/runtime'
import { tables, writeSynced } from '@holdfast/store'
import type { Store, WriteOp } from '@holdfast/store'
import { SortedKeys, contentVersion } from '@holdfast/sync'
import { objectLimits } from './limits.ts'
import {
  decodeHead, decodeItem, decodeText, encodeHead, encodeItem, encodeText, headKey, itemKey, nameKey, nameOfKey, objectTableRange,
  readItemKey
} from './object-format.ts'
import type { StoredItem } from './object-format.ts'

/** An up item that exists because a down item does: a pod's status. Comes and goes in the same commit. */
export interface Companion {
  /** Up collection; the key is that of the down item. */
  readonly collection: string
  /** What to put; undefined where `current` may stay. `value` is one that can be held. */
  make(key: string, value: Buffer, current: Buffer | undefined): Buffer | undefined
}

export interface HeldItem {
  /** Latin-1: half the size of a Buffer. */
  readonly version: string
  readonly sequence: number
}

export interface HeldUpItem extends HeldItem { readonly value: Buffer }

export interface HeldNamespace {
  /** Down items in it. */
  readonly items: number
  /** At which it came. */
  readonly sequence: number
}

/** What memory holds of the objects on disk. */
export interface HeldObjects {
  readonly down: Map<string, SortedKeys<HeldItem>>
  readonly up: Map<string, SortedKeys<HeldUpItem>>
  readonly positions: Map<string, string>
  readonly namespaces: Map<string, HeldNamespace>
  /** Of the versions of up items that this start gives; 8 random bytes (STA-30). */
  readonly epoch: Buffer
  sequence: number
  /** Items that were dropped. */
  readonly damaged: number
}

export interface ObjectLoadOptions {
  readonly down: readonly string[]
  readonly up: readonly string[]
  /** The newest entries of the store may be missing. */
  readonly suspect: boolean
  /** Highest sequence that this process has given out. */
  readonly sequenceMin: number
}

export interface ObjectLoadComponents {
  readonly random: Random
  readonly log: Log
  /** By down collection. */
  readonly companions: Readonly<Record<string, Companion>>
}

const epochBytes = 8

/** More than could have been given out since the last entry that is known. */
const sequenceJump = 2 ** 32

/**
 * Reads all objects, drops what is damaged, and writes what follows from that before it resolves. Rejects with the store's
 * errors.
 *
 * Where the head is lost or the newest entries may be, sequences go on far ahead: what was given out before is never given
 * out again.
 */
export async function loadObjects(
  options: ObjectLoadOptions, store: Store, components: ObjectLoadComponents
): Promise<HeldObjects> {
  const loading = new ObjectLoading(options, store, components)
  return await loading.run()
}

class ObjectLoading {
  readonly #options: ObjectLoadOptions
  readonly #store: Store
  readonly #components: ObjectLoadComponents
  readonly #repairs: WriteOp[] = []
  readonly #down: Map<string, SortedKeys<HeldItem>>
  readonly #up: Map<string, SortedKeys<HeldUpItem>>
  readonly #epoch: Buffer
  #sequence: number
  #damaged = 0

  constructor(options: ObjectLoadOptions, store: Store, components: ObjectLoadComponents) {
    this.#options = options
    this.#store = store
    this.#components = components
    this.#down = new Map(options.down.map(name => [name, new SortedKeys()]))
    this.#up = new Map(options.up.map(name => [name, new SortedKeys()]))
    this.#epoch = Buffer.from(components.random.bytes(epochBytes))
    this.#sequence = Math.max(options.sequenceMin, 1)
  }

  async run(): Promise<HeldObjects> {
    const { log, companions } = this.#components
    await this.#loadDown()
    await this.#loadUp()
    const positions = await this.#loadPositions()
    const stored = await this.#store.get(headKey)
    const head = stored === undefined ? undefined : decodeHead(stored)
    const fresh = stored === undefined && this.#sequence === 1 && this.#damaged === 0 && !this.#options.suspect
    const believed = head !== undefined && !this.#options.suspect
    this.#sequence = Math.max(this.#sequence, head ?? 0) + (believed || fresh ? 0 : sequenceJump)
    const namespaces = await this.#loadNamespaces()
    for (const [collection, companion] of Object.entries(companions)) await this.#pair(collection, companion)
    if (this.#damaged > 0) {
      log.error('damaged objects were dropped; the cloud sends them again when it is connected', { count: this.#damaged })
    }
    if (!believed && !fresh) {
      log.warn('the objects may be older than they were: resourceVersions go on far ahead', { sequence: this.#sequence })
    }
    if (!believed || this.#repairs.length > 0) {
      const value = encodeHead(this.#sequence)
      await writeSynced(this.#store, [...this.#repairs, { type: 'put', key: headKey, value }])
    }
    return {
      down: this.#down, up: this.#up, positions, namespaces,
      epoch: this.#epoch, sequence: this.#sequence, damaged: this.#damaged
    }
  }

  async #loadDown(): Promise<void> {
    for await (const { key: stored, value } of entries(this.#store, objectTableRange(tables.objectDown))) {
      const read = soundItem(stored, value)
      if (read === undefined) this.#drop(stored)
      else {
        const { version, sequence } = read.item
        this.#sequence = Math.max(this.#sequence, sequence)
        // A collection that an older or newer release keeps stays on disk.
        this.#down.get(read.collection)?.set(read.key, { version: version.toString('latin1'), sequence })
      }
    }
  }

  async #loadUp(): Promise<void> {
    for await (const { key: stored, value } of entries(this.#store, objectTableRange(tables.objectUp))) {
      const named = readItemKey(stored)
      const item = decodeItem(stored, value)
      if (named === undefined || item === undefined) this.#drop(stored)
      else {
        const { version, sequence } = item
        this.#sequence = Math.max(this.#sequence, sequence)
        this.#up.get(named.collection)?.set(named.key, {
          version: version.toString('latin1'), sequence, value: Buffer.from(item.value)
        })
      }
    }
  }

  #drop(stored: Buffer): void {
    this.#damaged++
    this.#repairs.push({ type: 'del', key: stored })
  }

  async #loadPositions(): Promise<Map<string, string>> {
    const positions = new Map<string, string>()
    for await (const { key, value } of entries(this.#store, objectTableRange(tables.objectPosition))) {
      const position = decodeText(key, value)
      if (position === undefined) this.#repairs.push({ type: 'del', key })
      else positions.set(nameOfKey(key), position)
    }
    return positions
  }

  #putUp(collection: string, key: string, value: Buffer): void {
    const sequence = ++this.#sequence
    const version = upVersion(this.#epoch, sequence)
    const stored = itemKey(tables.objectUp, collection, key)
    this.#repairs.push({ type: 'put', key: stored, value: encodeItem(stored, { sequence, version, value }) })
    this.#up.get(collection)?.set(key, { version: version.toString('latin1'), sequence, value })
  }

  /** A crash does not part a companion from its item; damage does. */
  async #pair(collection: string, companion: Companion): Promise<void> {
    const items = this.#down.get(collection)
    const companions = this.#up.get(companion.collection)
    if (items === undefined || companions === undefined) return
    for (const [key] of items.from('')) {
      const stored = itemKey(tables.objectDown, collection, key)
      const item = decodeItem(stored, await this.#store.get(stored) ?? noBytes)
      const made = item && companion.make(key, item.value, companions.get(key)?.value)
      if (made !== undefined) this.#putUp(companion.collection, key, made)
    }
    for (const [key] of companions.from('')) {
      if (items.get(key) !== undefined) continue
      this.#repairs.push({ type: 'del', key: itemKey(tables.objectUp, companion.collection, key) })
      companions.delete(key)
      this.#sequence++
    }
  }

  async #loadNamespaces(): Promise<Map<string, HeldNamespace>> {
    const stored = new Map<string, number>()
    for await (const { key, value } of entries(this.#store, objectTableRange(tables.objectNamespace))) {
      const sequence = Number(decodeText(key, value) ?? NaN)
      if (Number.isSafeInteger(sequence)) stored.set(nameOfKey(key), sequence)
      else this.#repairs.push({ type: 'del', key })
    }
    const namespaces = new Map<string, HeldNamespace>()
    for (const items of this.#down.values()) {
      for (const [key, { sequence }] of items.from('')) {
        const name = namespaceOfKey(key)
        if (name === undefined) continue
        const known = namespaces.get(name)
        namespaces.set(name, {
          items: (known?.items ?? 0) + 1,
          sequence: stored.get(name) ?? Math.min(known?.sequence ?? Infinity, sequence)
        })
      }
    }
    for (const [name, { sequence }] of namespaces) {
      const key = nameKey(tables.objectNamespace, name)
      if (!stored.has(name)) this.#repairs.push({ type: 'put', key, value: encodeText(key, String(sequence)) })
    }
    for (const name of stored.keys()) {
      if (!namespaces.has(name)) this.#repairs.push({ type: 'del', key: nameKey(tables.objectNamespace, name) })
    }
    return namespaces
  }
}

const noBytes = Buffer.alloc(0)

/** Version of an up item (STA-30). */
export function upVersion(epoch: Buffer, sequence: number): Buffer {
  const version = Buffer.allocUnsafeSlow(epochBytes + 8)
  epoch.copy(version)
  version.writeBigUInt64BE(BigInt(sequence), epochBytes)
  return version
}

/** True where both are of one epoch, and `other` has the higher counter. */
export function isLaterVersion(other: Buffer, version: Buffer): boolean {
  return other.length === epochBytes + 8 && version.length === other.length &&
    other.subarray(0, epochBytes).equals(version.subarray(0, epochBytes)) && Buffer.compare(other, version) > 0
}

/** Printable ASCII, as Kubernetes' names are: then all orders of keys are the same. */
const keyPattern = /^[!-.0-~]+(\/[!-.0-~]+)?$/

/** `namespace/name` or `name`. */
export function isItemKey(key: string): boolean { return key.length <= objectLimits.keyBytes.value && keyPattern.test(key) }

export function namespaceOfKey(key: string): string | undefined {
  const slash = key.indexOf('/')
  return slash === -1 ? undefined : key.slice(0, slash)
}

/** A down item that is what it says it is: key, value and version fit together. */
export function soundItem(
  stored: Buffer, bytes: Buffer
): { readonly collection: string, readonly key: string, readonly item: StoredItem } | undefined {
  const named = readItemKey(stored)
  const item = decodeItem(stored, bytes)
  return named === undefined || item === undefined || !isItemKey(named.key) || !item.version.equals(contentVersion(item.value))
    ? undefined : { ...named, item }
}

/** Every entry of a range, read a page at a time. */
export async function* entries(
  store: Store, range: { readonly gte: Buffer, readonly lt: Buffer }
): AsyncGenerator<{ readonly key: Buffer, readonly value: Buffer }> {
  let { gte } = range
  for (;;) {
    const page = await store.scan({ gte, lt: range.lt, bytesMax: objectLimits.loadPageBytes.value })
    if (page.length === 0) return
    yield* page
    gte = Buffer.concat([page.at(-1)!.key, Buffer.from([0])])
  }
}
