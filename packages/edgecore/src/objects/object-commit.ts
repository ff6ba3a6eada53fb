import { tables } from '@holdfast/store'
import type { Commit } from '@holdfast/store'
import { encodeHead, encodeItem, encodeText, headKey, itemKey, nameKey } from './object-format.ts'
import { namespaceOfKey, upVersion } from './object-load.ts'
import type { Companion, HeldNamespace, HeldObjects } from './object-load.ts'

/** One thing that a commit changed. What is down, up, or a namespace that came or went with its items. */
export interface ObjectChange {
  readonly sequence: number
  readonly what: 'down' | 'up' | 'namespace'
  /** Empty for a namespace. */
  readonly collection: string
  readonly key: string
  /** Undefined: deleted. Empty for a namespace. */
  readonly value: Buffer | undefined
  /** What was there before; undefined: nothing, or nothing that could be read. */
  readonly previous: Buffer | undefined
  /** Of the change before; 0: nothing was there. */
  readonly previousSequence: number
}

export interface ObjectCommitComponents {
  /** What is durable now; it may be another one when the commit is settled. */
  held(): HeldObjects
  nextSequence(): number
}

/**
 * Changes on their way into one commit, with what follows from them: companions, namespaces, the head. What memory holds
 * follows when they are durable. Valid in one turn of the event loop; one at a time may change down items.
 */
export class ObjectCommit {
  readonly #commit: Commit
  readonly #companions: Readonly<Record<string, Companion>>
  readonly #components: ObjectCommitComponents
  readonly #changes: ObjectChange[] = []
  readonly #effects: ((held: HeldObjects) => void)[] = []
  readonly #namespaces = new Map<string, HeldNamespace>()

  constructor(commit: Commit, companions: Readonly<Record<string, Companion>>, components: ObjectCommitComponents) {
    this.#commit = commit
    this.#companions = companions
    this.#components = components
  }

  putDown(collection: string, key: string, version: Buffer, value: Buffer, previous: Buffer | undefined): void {
    const { down, up } = this.#components.held()
    const sequence = this.#components.nextSequence()
    const stored = itemKey(tables.objectDown, collection, key)
    this.#commit.put(stored, encodeItem(stored, { sequence, version, value }))
    const before = down.get(collection)?.get(key)
    if (before === undefined) this.#countNamespace(key, sequence, 1)
    this.#changes.push({ sequence, what: 'down', collection, key, value, previous, previousSequence: before?.sequence ?? 0 })
    this.#effects.push(held => { held.down.get(collection)?.set(key, { version: version.toString('latin1'), sequence }) })
    const companion = this.#companions[collection]
    const made = companion?.make(key, value, up.get(companion.collection)?.get(key)?.value)
    if (companion !== undefined && made !== undefined) this.putUp(companion.collection, key, made)
  }

  deleteDown(collection: string, key: string, previous: Buffer | undefined): void {
    const { down, up } = this.#components.held()
    this.#commit.del(itemKey(tables.objectDown, collection, key))
    const before = down.get(collection)?.get(key)
    if (before === undefined) return
    const sequence = this.#components.nextSequence()
    this.#changes.push({ sequence, what: 'down', collection, key, value: undefined, previous, previousSequence: before.sequence })
    this.#countNamespace(key, sequence, -1)
    this.#effects.push(held => { held.down.get(collection)?.delete(key) })
    const companion = this.#companions[collection]
    if (companion !== undefined && up.get(companion.collection)?.get(key) !== undefined) this.deleteUp(companion.collection, key)
  }

  putUp(collection: string, key: string, value: Buffer): void {
    const { up, epoch } = this.#components.held()
    const sequence = this.#components.nextSequence()
    const version = upVersion(epoch, sequence)
    const stored = itemKey(tables.objectUp, collection, key)
    this.#commit.put(stored, encodeItem(stored, { sequence, version, value }))
    const before = up.get(collection)?.get(key)
    this.#changes.push({
      sequence, what: 'up', collection, key, value, previous: before?.value, previousSequence: before?.sequence ?? 0
    })
    this.#effects.push(held => {
      held.up.get(collection)?.set(key, { version: version.toString('latin1'), sequence, value })
    })
  }

  /** Also one that is not durable yet. */
  deleteUp(collection: string, key: string): void {
    const before = this.#components.held().up.get(collection)?.get(key)
    const sequence = this.#components.nextSequence()
    this.#commit.del(itemKey(tables.objectUp, collection, key))
    this.#changes.push({
      sequence, what: 'up', collection, key, value: undefined, previous: before?.value, previousSequence: before?.sequence ?? 0
    })
    this.#effects.push(held => { held.up.get(collection)?.delete(key) })
  }

  /** Deletes bytes that are no item. */
  deleteStored(stored: Buffer): void { this.#commit.del(stored) }

  position(collection: string, position: string): void {
    const stored = nameKey(tables.objectPosition, collection)
    this.#commit.put(stored, encodeText(stored, position))
    this.#effects.push(held => { held.positions.set(collection, position) })
  }

  /** Nothing more comes. `onSettled` runs after memory follows, with what has changed, or with the committer's error. */
  finish(sequence: number, onSettled: (changes: readonly ObjectChange[], error?: Error) => void): void {
    if (this.#changes.length > 0) this.#commit.put(headKey, encodeHead(sequence))
    this.#commit.onDurable(error => {
      if (error === undefined) {
        const held = this.#components.held()
        for (const effect of this.#effects) effect(held)
        held.sequence = Math.max(held.sequence, this.#changes.at(-1)?.sequence ?? 0)
      }
      onSettled(this.#changes, error)
    })
  }

  #countNamespace(key: string, sequence: number, added: number): void {
    const name = namespaceOfKey(key)
    if (name === undefined) return
    const known = this.#namespaces.get(name) ?? this.#components.held().namespaces.get(name)
    const before = known?.items ?? 0
    const counted = { items: before + added, sequence: known === undefined || before === 0 ? sequence : known.sequence }
    this.#namespaces.set(name, counted)
    const stored = nameKey(tables.objectNamespace, name)
    const previousSequence = before === 0 ? 0 : counted.sequence
    const change = { sequence, what: 'namespace' as const, collection: '', key: name, previousSequence }
    if (before === 0) {
      this.#commit.put(stored, encodeText(stored, String(sequence)))
      this.#changes.push({ ...change, value: noBytes, previous: undefined })
    } else if (counted.items === 0) {
      this.#commit.del(stored)
      this.#changes.push({ ...change, value: undefined, previous: noBytes })
    }
    this.#effects.push(held => {
      if (counted.items === 0) held.namespaces.delete(name)
      else held.namespaces.set(name, counted)
    })
  }
}

const noBytes = Buffer.alloc(0)
