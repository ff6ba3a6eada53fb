import type { Clock, Log, Random } from '@holdfast/runtime'
import type { KubeObject, OwnerReference } from './object.ts'
import { decideDeletion, foregroundFinalizer, orphanFinalizer, released, withoutFinalizer } from './object-store-deletion.ts'
import type { PropagationPolicy } from './object-store-deletion.ts'
import type { ObjectChange, ObjectKey, StoredObject } from './object-store-types.ts'
import { WorkQueue } from './object-store-work-queue.ts'
import type { ObjectStore } from './object-store.ts'
import { resourceName } from './resource.ts'
import type { Resource } from './resource.ts'

/** Which resources there are; Registry is one. */
export interface ResourceDirectory {
  /** By group and kind, whatever the version. */
  findKind(group: string, kind: string): { readonly resource: Resource } | undefined
}

export interface ControllerComponents {
  readonly store: ObjectStore
  readonly resources: ResourceDirectory
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

/** Objects looked at a time. */
const togetherMax = 64

type OwnerState =
  | 'solid'
  /** No object of that uid has the place that the reference names. */
  | 'absent'
  /** Being deleted, and waiting for its dependents to go first. */
  | 'waiting'
  /** Of a kind that is not served, or not to be had from where the dependent is: not knowing is not deleting. */
  | 'unknown'

/**
 * Deletes objects whose owners are gone, and lets owners go that wait for their dependents or shall leave them behind
 * (background, foreground, orphan). Follows the changes of the store; a reference counts by its uid.
 *
 * Every decision is made from one version of an object and is void if the object has changed since: that change is looked
 * at in its turn.
 */
export class GarbageCollector {
  readonly #components: ControllerComponents
  readonly #queue: WorkQueue
  /** Places of the objects that refer to an owner's uid. */
  readonly #dependents = new Map<string, Map<string, ObjectKey>>()
  #unsubscribe: (() => void) | undefined

  constructor(components: ControllerComponents) {
    this.#components = components
    const { clock, random, log } = components
    this.#queue = new WorkQueue({ togetherMax }, {
      clock, random, log: log.with({ part: 'garbage-collector' }), work: key => this.#lookAt(parsePlace(key))
    })
  }

  /** Takes in what is there, and follows it from now on. */
  start(): void {
    this.#unsubscribe = this.#components.store.subscribe(change => { this.#follow(change) })
    for (const stored of this.#components.store.all()) {
      this.#index(stored)
      if (concerns(stored.object)) this.#enqueue(stored)
    }
  }

  /** Looks again at what refers to owners: a kind has come or gone. */
  recheck(): void {
    for (const places of this.#dependents.values()) for (const place of places.values()) this.#enqueue(place)
  }

  get isIdle(): boolean { return this.#queue.isIdle }

  /** Resolves when nothing is left to do. */
  idle(): Promise<void> { return this.#queue.idle() }

  async close(): Promise<void> {
    this.#unsubscribe?.()
    await this.#queue.close()
  }

  #follow({ current, previous }: ObjectChange): void {
    const [is, was] = [current?.object.metadata, previous?.object.metadata]
    if (previous !== undefined) this.#unindex(previous)
    if (current !== undefined) this.#index(current)
    if (previous !== undefined && was?.uid !== is?.uid) {
      // What it owned has lost an owner …
      for (const place of this.#dependentsOf(previous)) this.#enqueue(place)
    }
    // … and an owner that waits for it may go on.
    for (const owner of [...was?.ownerReferences ?? [], ...is?.ownerReferences ?? []]) {
      const found = this.#ownerOf((current ?? previous)!, owner)
      if (found?.object.metadata.deletionTimestamp !== undefined) this.#enqueue(found)
    }
    if (current !== undefined && concerns(current.object)) this.#enqueue(current)
  }

  #enqueue(key: ObjectKey): void { this.#queue.add(placeOf(key)) }

  async #lookAt(key: ObjectKey): Promise<void> {
    const stored = this.#components.store.get(key)
    if (stored === undefined) return
    const { deletionTimestamp, finalizers = [], ownerReferences = [] } = stored.object.metadata
    if (deletionTimestamp !== undefined) {
      if (finalizers.includes(orphanFinalizer)) await this.#orphan(stored)
      else if (finalizers.includes(foregroundFinalizer)) await this.#letGo(stored)
      return
    }
    if (ownerReferences.length > 0) await this.#checkOwners(stored, ownerReferences)
  }

  /** Takes an owner that is being deleted out of its dependents, then its finalizer away. */
  async #orphan(owner: StoredObject): Promise<void> {
    const { uid } = owner.object.metadata
    await Promise.all(this.#dependentsOf(owner).map(place => this.#components.store.write(place, current => {
      const references = current?.object.metadata.ownerReferences ?? []
      if (current === undefined || !references.some(reference => reference.uid === uid)) return { kind: 'none' }
      return { kind: 'put', object: withOwners(current.object, references.filter(reference => reference.uid !== uid)) }
    })))
    await this.#change(owner, ({ object }) => released(withoutFinalizer(object, orphanFinalizer)))
  }

  /** Lets an owner in foreground deletion go when nothing blocks it; otherwise its dependents go first. */
  async #letGo(owner: StoredObject): Promise<void> {
    const { uid } = owner.object.metadata
    const dependents = this.#dependentsOf(owner).map(place => this.#components.store.get(place)).filter(stored => stored !== undefined)
    const blocked = dependents.some(({ object }) => object.metadata.ownerReferences
      ?.some(reference => reference.uid === uid && reference.blockOwnerDeletion === true))
    if (!blocked) await this.#change(owner, ({ object }) => released(withoutFinalizer(object, foregroundFinalizer)))
    for (const dependent of dependents) {
      if (dependent.object.metadata.deletionTimestamp === undefined) this.#enqueue(dependent)
    }
  }

  /** One solid owner keeps an object, which then loses its references to the others; without any it goes. */
  async #checkOwners(dependent: StoredObject, references: readonly OwnerReference[]): Promise<void> {
    const states = references.map(reference => this.#stateOf(dependent, reference))
    if (states.includes('unknown')) return
    if (states.includes('solid')) {
      const solid = references.filter((_, i) => states[i] === 'solid')
      if (solid.length === references.length) return
      await this.#change(dependent, ({ object }) => ({ kind: 'put', object: withOwners(object, solid) }))
      return
    }
    const own = states.includes('waiting') ? this.#dependentsOf(dependent) : []
    if (own.some(place => isWaiting(this.#components.store.get(place)?.object))) {
      // A ring of owners that wait for each other: this one blocks nothing any more.
      await this.#change(dependent, ({ object }) => ({
        kind: 'put', object: withOwners(object, references.map(reference => ({ ...reference, blockOwnerDeletion: false })))
      }))
    }
    await this.#delete(dependent, own.length > 0 ? 'Foreground' : undefined)
  }

  async #delete({ object: { metadata: { uid } }, ...place }: StoredObject, policy: PropagationPolicy | undefined): Promise<void> {
    const { store, clock } = this.#components
    await store.write(place, current => {
      if (current === undefined || current.object.metadata.uid !== uid) return { kind: 'none' }
      const references = current.object.metadata.ownerReferences ?? []
      const keeps = references.length === 0 || references.some(reference => {
        const state = this.#stateOf(current, reference)
        return state === 'solid' || state === 'unknown'
      })
      if (keeps) return { kind: 'none' }
      return decideDeletion(current, { nowMs: clock.wallMs(), propagationPolicy: policy }, this.#resourceOf(current.object))
    })
  }

  async #change(stored: StoredObject, decide: (current: StoredObject) => ReturnType<typeof released>): Promise<void> {
    await this.#components.store.write(stored, current =>
      current === undefined || current.revision !== stored.revision ? { kind: 'none' } : decide(current))
  }

  // ── who owns what ──────────────────────────────────────────────────────────────────────────────────────────────────

  #stateOf(dependent: StoredObject, reference: OwnerReference): OwnerState {
    const resource = this.#resourceOf(reference)
    if (resource === undefined || (resource.namespaced && dependent.namespace === '')) return 'unknown'
    const owner = this.#ownerOf(dependent, reference)
    if (owner === undefined) return 'absent'
    return isWaiting(owner.object) ? 'waiting' : 'solid'
  }

  /** The newest state counts, durable or not: an owner on its way is an owner. */
  #ownerOf(dependent: ObjectKey, reference: OwnerReference): StoredObject | undefined {
    const resource = this.#resourceOf(reference)
    if (resource === undefined) return undefined
    const owner = this.#components.store.latest({
      resource: resourceName(resource), namespace: resource.namespaced ? dependent.namespace : '', name: reference.name
    })
    return owner?.object.metadata.uid === reference.uid ? owner : undefined
  }

  #resourceOf({ apiVersion, kind }: { readonly apiVersion: string, readonly kind: string }): Resource | undefined {
    const group = apiVersion.includes('/') ? apiVersion.slice(0, apiVersion.indexOf('/')) : ''
    return this.#components.resources.findKind(group, kind)?.resource
  }

  #dependentsOf({ object }: StoredObject): ObjectKey[] {
    return [...this.#dependents.get(object.metadata.uid ?? '')?.values() ?? []]
  }

  #index(stored: StoredObject): void {
    for (const { uid } of stored.object.metadata.ownerReferences ?? []) {
      let places = this.#dependents.get(uid)
      if (places === undefined) {
        places = new Map()
        this.#dependents.set(uid, places)
      }
      const { resource, namespace, name } = stored
      places.set(placeOf(stored), { resource, namespace, name })
    }
  }

  #unindex(stored: StoredObject): void {
    for (const { uid } of stored.object.metadata.ownerReferences ?? []) {
      const places = this.#dependents.get(uid)
      places?.delete(placeOf(stored))
      if (places?.size === 0) this.#dependents.delete(uid)
    }
  }
}

/** Whether there may be something to do for an object itself. */
function concerns({ metadata: { ownerReferences = [], deletionTimestamp, finalizers = [] } }: KubeObject): boolean {
  if (deletionTimestamp === undefined) return ownerReferences.length > 0
  return finalizers.includes(orphanFinalizer) || finalizers.includes(foregroundFinalizer)
}

const isWaiting = (object: KubeObject | undefined): boolean => object?.metadata.deletionTimestamp !== undefined
  && (object.metadata.finalizers ?? []).includes(foregroundFinalizer)

function withOwners(object: KubeObject, ownerReferences: OwnerReference[]): KubeObject {
  const metadata = { ...object.metadata, ownerReferences }
  if (ownerReferences.length === 0) delete (metadata as KubeObject['metadata']).ownerReferences
  return { ...object, metadata }
}

const placeOf = ({ resource, namespace, name }: ObjectKey): string => `${resource}/${namespace}/${name}`

function parsePlace(place: string): ObjectKey {
  const [resource = '', namespace = '', name = ''] = place.split('/')
  return { resource, namespace, name }
}
