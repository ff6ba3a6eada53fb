import type { GarbageCollector, ControllerComponents } from '../garbage-collector.ts'
import type { JsonObject, KubeObject } from '../object.ts'
import { decideDeletion, released } from '../object-store-deletion.ts'
import type { ObjectChange, ObjectKey, StoredObject } from '../object-store-types.ts'
import { WorkQueue } from '../object-store-work-queue.ts'
import { compareVersions, type Registry, type ServedResource } from '../registry.ts'
import type { Resource } from '../resource.ts'
import { nextStep, removalStep } from './crd-lifecycle.ts'
import { customResource } from './custom-resource.ts'
import { definitionResource, isEstablished, specOf, storageVersionOf } from './definition.ts'

/** Definitions looked at a time, and instances of one deleted at a time. */
const togetherMax = 64

export interface DefinitionsComponents extends ControllerComponents {
  readonly registry: Registry
  readonly garbage: GarbageCollector
}

/**
 * Serves what CustomResourceDefinitions describe: accepts their names, establishes them, tells the registry, and empties those
 * that are being deleted. What decides is crd-lifecycle.ts; this follows the store and carries it out.
 */
export class Definitions {
  readonly #components: DefinitionsComponents
  readonly #queue: WorkQueue
  /** What each version of a definition makes, so that a change of one leaves the others as they are. */
  readonly #served = new WeakMap<StoredObject, readonly ServedResource[]>()
  /** Which kinds are served, in a text. */
  #kinds = ''
  #unsubscribe: (() => void) | undefined

  constructor(components: DefinitionsComponents) {
    this.#components = components
    const { clock, random, log } = components
    this.#queue = new WorkQueue({ togetherMax }, {
      clock, random, log: log.with({ part: 'definitions' }), work: name => this.#lookAt(name)
    })
  }

  /** Serves what is established already, at once, and follows the store from now on. */
  start(): void {
    this.#unsubscribe = this.#components.store.subscribe(change => { this.#follow(change) })
    this.#publish()
    for (const { name } of this.#stored()) this.#queue.add(name)
  }

  get isIdle(): boolean { return this.#queue.isIdle }

  /** Resolves when nothing is left to do. */
  idle(): Promise<void> { return this.#queue.idle() }

  async close(): Promise<void> {
    this.#unsubscribe?.()
    await this.#queue.close()
  }

  #follow({ resource, current, previous }: ObjectChange): void {
    if (resource !== definitionResource) {
      if (current === undefined) this.#instanceGone(resource)
      return
    }
    this.#publish()
    // A name that is given back may be what another one waits for.
    const { group } = specOf((current ?? previous)!.object)
    for (const stored of this.#stored()) if (specOf(stored.object).group === group) this.#queue.add(stored.name)
    this.#endWatches(current, previous)
  }

  /** A definition that is being deleted waits for the last one. */
  #instanceGone(resource: string): void {
    const definition = this.#components.store.get(keyOf(resource))
    if (definition?.object.metadata.deletionTimestamp !== undefined) this.#queue.add(definition.name)
  }

  /** Who watches what is shown otherwise from now on, or no longer, has to begin again. */
  #endWatches(current: StoredObject | undefined, previous: StoredObject | undefined): void {
    if (previous === undefined || !isEstablished(previous.object)) return
    const isSame = current !== undefined && isEstablished(current.object)
      && current.object.metadata.uid === previous.object.metadata.uid
      && current.object.metadata.generation === previous.object.metadata.generation
    if (!isSame) this.#components.store.endWatches(previous.name)
  }

  #publish(): void {
    const { registry, garbage } = this.#components
    const custom = [...this.#stored()].flatMap(stored => this.#servedBy(stored))
    registry.setCustom(custom)
    const kinds = custom.map(({ resource: { group, kind } }) => `${group}/${kind}`).toSorted().join(' ')
    if (kinds === this.#kinds) return
    this.#kinds = kinds
    garbage.recheck()
  }

  #servedBy(stored: StoredObject): readonly ServedResource[] {
    let served = this.#served.get(stored)
    if (served === undefined) {
      served = servedResources(stored.object)
      this.#served.set(stored, served)
    }
    return served
  }

  * #stored(): Generator<StoredObject> {
    yield* this.#components.store.list({ resource: definitionResource, namespace: undefined }, {}).items
  }

  async #lookAt(name: string): Promise<void> {
    const { store } = this.#components
    const stored = store.get(keyOf(name))
    if (stored === undefined) return
    if (stored.object.metadata.deletionTimestamp === undefined) await this.#accept(stored)
    else await this.#remove(stored)
  }

  async #accept(stored: StoredObject): Promise<void> {
    const { store, clock } = this.#components
    await store.write(keyOf(stored.name), current => {
      if (current === undefined || current.object.metadata.deletionTimestamp !== undefined) return { kind: 'none' }
      // The newest states count, durable or not: two of them never take the same name.
      const others = [...this.#stored()].flatMap(other => store.latest(other)?.object ?? [])
      return nextStep(current.object, others, clock.wallMs()) ?? { kind: 'none' }
    })
  }

  async #remove(stored: StoredObject): Promise<void> {
    const { store, clock } = this.#components
    const instances = store.list({ resource: stored.name, namespace: undefined }, {}).items
    let deletes = false
    await store.write(keyOf(stored.name), current => {
      if (current === undefined) return { kind: 'none' }
      const step = removalStep(current.object, instances.length, clock.wallMs())
      switch (step.kind) {
        case 'put': return step
        case 'release': return released(step.object)
        case 'delete-instances':
          deletes = true
          return { kind: 'none' }
        case 'none': return { kind: 'none' }
      }
    })
    if (deletes) await this.#deleteInstances(stored, instances)
  }

  async #deleteInstances(definition: StoredObject, instances: readonly StoredObject[]): Promise<void> {
    const { store, clock } = this.#components
    const resource = this.#servedBy(definition)[0]?.resource
    const left = instances.filter(({ object }) => object.metadata.deletionTimestamp === undefined)
    for (let i = 0; i < left.length; i += togetherMax) {
      await Promise.all(left.slice(i, i + togetherMax).map(instance => store.write(instance, current =>
        current === undefined || current.object.metadata.deletionTimestamp !== undefined
          ? { kind: 'none' }
          : decideDeletion(current, { nowMs: clock.wallMs() }, resource))))
    }
  }
}

const keyOf = (name: string): ObjectKey => ({ resource: definitionResource, namespace: '', name })

/** What a definition makes the server serve: nothing until it is established. */
export function servedResources(definition: KubeObject): ServedResource[] {
  if (!isEstablished(definition)) return []
  const spec = specOf(definition)
  const storageVersion = storageVersionOf(spec)
  if (storageVersion === undefined) return []
  const isTerminating = definition.metadata.deletionTimestamp !== undefined
  const served = (spec.versions ?? []).filter(version => version.served === true)
  const supported = served.filter(({ deprecated }) => deprecated !== true).map(({ name = '' }) => name).toSorted(compareVersions)
  return served.map(version => {
    const resource = customResource(definition, version)
    const { deprecated = false, deprecationWarning, schema } = version
    return {
      resource, isCustom: true, storageVersion,
      ...deprecated && { deprecationWarning: deprecationWarning ?? deprecationText(resource, supported[0]) },
      ...isTerminating && { isTerminating },
      openApiSchema: (schema?.openAPIV3Schema ?? {}) as unknown as JsonObject
    }
  })
}

function deprecationText({ group, version, kind }: Resource, preferred: string | undefined): string {
  const text = `${group}/${version} ${kind} is deprecated`
  return preferred === undefined ? text : `${text}; use ${group}/${preferred} ${kind}`
}
