import type { ControllerComponents } from './garbage-collector.ts'
import type { KubeObject } from './object.ts'
import { decideDeletion, released, timestamp } from './object-store-deletion.ts'
import type { ObjectKey, StoredObject, WriteDecision } from './object-store-types.ts'
import { WorkQueue } from './object-store-work-queue.ts'
import type { Resource } from './resource.ts'

/** There from the first start on. */
export const defaultNamespaces = ['default', 'kube-system', 'kube-public', 'kube-node-lease'] as const
/** In the spec of a Namespace: it stays until its contents are gone. */
const contentFinalizer = 'kubernetes'
/** Namespaces looked at a time, and contents of one deleted at a time. */
const togetherMax = 64

interface Condition {
  readonly type: string
  readonly status: string
  readonly lastTransitionTime: string
  readonly reason: string
  readonly message: string
}

/**
 * Namespaces at their beginning and their end: creates the default ones, and removes everything in one that is being
 * deleted, with the conditions that say what it waits for. What may be created in which is decided where objects are
 * created: nothing in one that is missing or being deleted.
 */
export class NamespaceLifecycle {
  readonly #components: ControllerComponents
  readonly #queue: WorkQueue
  #unsubscribe: (() => void) | undefined

  constructor(components: ControllerComponents) {
    this.#components = components
    const { clock, random, log } = components
    this.#queue = new WorkQueue({ togetherMax }, {
      clock, random, log: log.with({ part: 'namespace-lifecycle' }), work: name => this.#lookAt(name)
    })
  }

  /** Creates the default namespaces where they are missing, and follows the store from now on. */
  async start(): Promise<void> {
    const { store, clock, random } = this.#components
    this.#unsubscribe = store.subscribe(({ resource, namespace, name }) => {
      if (namespace !== '' || resource === 'namespaces') this.#enqueue(namespace === '' ? name : namespace)
    })
    for (const stored of store.all()) if (stored.resource === 'namespaces') this.#enqueue(stored.name)
    const creationTimestamp = timestamp(clock.wallMs())
    await Promise.all(defaultNamespaces.map(name => store.write(namespaceKey(name), current => current !== undefined
      ? { kind: 'none' }
      : { kind: 'put', object: newNamespace(name, uuid(random.bytes(16)), creationTimestamp) })))
  }

  get isIdle(): boolean { return this.#queue.isIdle }

  /** Resolves when nothing is left to do. */
  idle(): Promise<void> { return this.#queue.idle() }

  async close(): Promise<void> {
    this.#unsubscribe?.()
    await this.#queue.close()
  }

  #enqueue(name: string): void {
    const stored = this.#components.store.get(namespaceKey(name))
    if (stored?.object.metadata.deletionTimestamp !== undefined) this.#queue.add(name)
  }

  async #lookAt(name: string): Promise<void> {
    const { store, clock } = this.#components
    const key = namespaceKey(name)
    const uid = store.get(key)?.object.metadata.uid
    /** Only while it is this one, and is being deleted. */
    const change = (decide: (current: StoredObject) => WriteDecision): Promise<unknown> => store.write(key, current =>
      current === undefined || current.object.metadata.uid !== uid || current.object.metadata.deletionTimestamp === undefined
        ? { kind: 'none' }
        : decide(current))
    if (uid === undefined) return
    if (finalizersOf(store.get(key)!.object).includes(contentFinalizer)) {
      await this.#removeContents(name)
      const left = [...store.inNamespace(name)]
      await change(({ object }) => ({ kind: 'put', object: withConditions(object, left, timestamp(clock.wallMs())) }))
      if (left.length > 0) return
    }
    await change(({ object }) => store.inNamespace(name).next().done === true
      ? released(withFinalizers(object, finalizersOf(object).filter(finalizer => finalizer !== contentFinalizer)))
      : { kind: 'none' })
  }

  async #removeContents(name: string): Promise<void> {
    const { store, clock } = this.#components
    const contents = [...store.inNamespace(name)].filter(({ object }) => object.metadata.deletionTimestamp === undefined)
    for (let i = 0; i < contents.length; i += togetherMax) {
      await Promise.all(contents.slice(i, i + togetherMax).map(stored => store.write(stored, current =>
        current === undefined || current.object.metadata.deletionTimestamp !== undefined
          ? { kind: 'none' }
          : decideDeletion(current, { nowMs: clock.wallMs(), propagationPolicy: 'Background' }, this.#resourceOf(current)))))
    }
  }

  #resourceOf({ object: { apiVersion, kind } }: StoredObject): Resource | undefined {
    const group = apiVersion.includes('/') ? apiVersion.slice(0, apiVersion.indexOf('/')) : ''
    return this.#components.resources.findKind(group, kind)?.resource
  }
}

const namespaceKey = (name: string): ObjectKey => ({ resource: 'namespaces', namespace: '', name })

function newNamespace(name: string, uid: string, creationTimestamp: string): KubeObject {
  return {
    kind: 'Namespace', apiVersion: 'v1',
    metadata: { name, uid, creationTimestamp, labels: { 'kubernetes.io/metadata.name': name } },
    spec: { finalizers: [contentFinalizer] },
    status: { phase: 'Active' }
  }
}

function finalizersOf(namespace: KubeObject): readonly string[] {
  return (namespace['spec'] as { readonly finalizers?: readonly string[] } | undefined)?.finalizers ?? []
}

function withFinalizers(namespace: KubeObject, finalizers: readonly string[]): KubeObject {
  const { finalizers: _, ...spec } = namespace['spec'] as { readonly finalizers?: readonly string[] }
  return { ...namespace, spec: finalizers.length === 0 ? spec : { ...spec, finalizers } }
}

/** What the removal of contents waits for (kubernetes, pkg/controller/namespace/deletion/status_condition_utils.go). */
function withConditions(namespace: KubeObject, left: readonly StoredObject[], now: string): KubeObject {
  const status = namespace['status'] as { readonly conditions?: readonly Condition[] } | undefined
  const remaining = counted(left.map(({ resource }) => resource.includes('.') ? resource : `${resource}.`))
  const finalizers = counted(left.flatMap(({ object }) => object.metadata.finalizers ?? []))
  const next: readonly (readonly [type: string, status: 'True' | 'False', reason: string, message: string])[] = [
    ['NamespaceDeletionDiscoveryFailure', 'False', 'ResourcesDiscovered', 'All resources successfully discovered'],
    ['NamespaceDeletionGroupVersionParsingFailure', 'False', 'ParsedGroupVersions', 'All legacy kube types successfully parsed'],
    ['NamespaceDeletionContentFailure', 'False', 'ContentDeleted',
      'All content successfully deleted, may be waiting on finalization'],
    remaining.length > 0
      ? ['NamespaceContentRemaining', 'True', 'SomeResourcesRemain', 'Some resources are remaining: '
        + remaining.map(([resource, count]) => `${resource} has ${count} resource instances`).join(', ')]
      : ['NamespaceContentRemaining', 'False', 'ContentRemoved', 'All content successfully removed'],
    finalizers.length > 0
      ? ['NamespaceFinalizersRemaining', 'True', 'SomeFinalizersRemain', 'Some content in the namespace has finalizers remaining: '
        + finalizers.map(([finalizer, count]) => `${finalizer} in ${count} resource instances`).join(', ')]
      : ['NamespaceFinalizersRemaining', 'False', 'ContentHasNoFinalizers', 'All content-preserving finalizers finished']
  ]
  const conditions = next.map(([type, state, reason, message]): Condition => {
    const before = status?.conditions?.find(condition => condition.type === type)
    return { type, status: state, lastTransitionTime: before?.status === state ? before.lastTransitionTime : now, reason, message }
  })
  const others = (status?.conditions ?? []).filter(({ type }) => !next.some(([name]) => name === type))
  return { ...namespace, status: { ...status, conditions: [...others, ...conditions] } }
}

/** Each text with how often it is there, sorted. */
function counted(texts: readonly string[]): [string, number][] {
  const counts = new Map<string, number>()
  for (const text of texts) counts.set(text, (counts.get(text) ?? 0) + 1)
  return [...counts].toSorted(([a], [b]) => a < b ? -1 : 1)
}

/** A random UUID (RFC 9562, version 4) of 16 random bytes. */
function uuid(random: Uint8Array): string {
  const bytes = Buffer.from(random)
  bytes[6] = (bytes[6]! & 0x0f) | 0x40
  bytes[8] = (bytes[8]! & 0x3f) | 0x80
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}
