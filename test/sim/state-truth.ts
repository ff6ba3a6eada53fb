import { contentVersion } from '@holdfast/sync'
import type { StateItem } from '@holdfast/sync'
import type { World } from './world.ts'

/** Collections of the simulated State, dependencies first. */
export const downCollections = ['secrets', 'configmaps', 'pods'] as const
export const upCollections = ['node-status', 'pod-status'] as const

const versions = new WeakMap<Buffer, Buffer>()

/** The content's version, hashed once. */
export function versionOf(content: Buffer): Buffer {
  let version = versions.get(content)
  if (version === undefined) versions.set(content, version = contentVersion(content))
  return version
}

export type Contents = Map<string, Buffer>

interface Change { readonly revision: number, readonly place: string, readonly value: Buffer | undefined }

/** Where an item is: node, collection and key in one. */
export function placeOf(node: string, collection: string, key: string): string { return `${node} ${collection} ${key}` }

/** When each content that ever was in a cluster came into being; no two are alike. */
export class Contributions {
  readonly #createdMs = new Map<string, number>()
  #count = 0
  readonly #world: World

  constructor(world: World) { this.#world = world }

  make(what: string): Buffer {
    const { random, nowMs } = this.#world
    const bytes = random.chance(0.9) ? random.integer(0, 200) : random.chance(0.95) ? random.integer(200, 20_000) : 300_000
    const value = Buffer.concat([Buffer.from(`${what} #${++this.#count} `), bytes > 250_000 ? random.bytes(bytes) : Buffer.alloc(bytes, 'x')])
    this.#createdMs.set(contentVersion(value).toString('hex'), nowMs)
    return value
  }

  createdMs(version: Buffer): number | undefined { return this.#createdMs.get(version.toString('hex')) }
}

/** What a cluster holds, and held: the truth that both sides of the tunnel are to end up with. */
export class Cluster {
  revision = 0
  /** When it went back to an older state, last. */
  restoredMs = -Infinity
  /** What was written of each node's statuses: place → item. */
  up = new Map<string, StateItem>()
  #changes: Change[] = []
  /** At the newest revision. */
  #current: Contents | undefined
  /** When an item was last known not to be there; Infinity: now. Places that are not in it never were there. */
  readonly #absentMs = new Map<string, number>()
  readonly #listeners = new Set<{ changed(place: string): void, restored(): void }>()
  readonly #world: World

  constructor(world: World) { this.#world = world }

  put(place: string, value: Buffer | undefined): void {
    const wasThere = this.at(this.revision).has(place)
    if (value === undefined && !wasThere) return
    this.#changes.push({ revision: ++this.revision, place, value })
    this.#current = undefined
    this.#note(place, wasThere, value !== undefined)
    for (const listener of this.#listeners) listener.changed(place)
  }

  /** Everything as of a revision. Not to be changed. */
  at(revision: number): Contents {
    if (revision !== this.revision) return this.#replay(revision)
    this.#current ??= this.#replay(revision)
    return this.#current
  }

  #replay(revision: number): Contents {
    const contents: Contents = new Map()
    for (const change of this.#changes) {
      if (change.revision > revision) break
      if (change.value === undefined) contents.delete(change.place)
      else contents.set(change.place, change.value)
    }
    return contents
  }

  /** As etcd does when it is restored from a backup: the revision goes back too, and is used again. */
  restore(revision: number, up: ReadonlyMap<string, StateItem>): void {
    const before = this.at(this.revision)
    this.#changes = this.#changes.filter(change => change.revision <= revision)
    this.revision = revision
    this.#current = undefined
    this.restoredMs = this.#world.nowMs
    this.up = new Map(up)
    const after = this.at(revision)
    for (const place of new Set([...before.keys(), ...after.keys()])) this.#note(place, before.has(place), after.has(place))
    for (const listener of this.#listeners) listener.restored()
  }

  /** The item was away at some time after `ms`. */
  wasAbsentAfter(place: string, ms: number): boolean { return (this.#absentMs.get(place) ?? Infinity) > ms }

  listen(listener: { changed(place: string): void, restored(): void }): void { this.#listeners.add(listener) }
  unlisten(listener: { changed(place: string): void, restored(): void }): void { this.#listeners.delete(listener) }

  #note(place: string, before: boolean, after: boolean): void {
    if (!after) this.#absentMs.set(place, Infinity)
    else if (!before) this.#absentMs.set(place, this.#world.nowMs)
  }
}
