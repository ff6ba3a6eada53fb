import { randomUUID } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import type { JsonObject, KubeObject } from '@holdfast/kube-api'
import type { Clock } from '@holdfast/runtime'
import type {
  Informer, InformerListener, KubeClient, KubeKind, KubeList, ObjectPlace, WatchEvent
} from '../../kube/kube-client.ts'
import { refusal, unanswered } from '../../kube/kube-error.ts'
import { kubeKinds } from '../../kube/kube-kinds.ts'
import { isObject, objectKey } from '../status-document.ts'

/** What becomes of a request. */
export type Fault =
  | { readonly kind: 'answer', readonly status: number, readonly retryAfterSeconds?: number }
  /** No answer ever; done after `landsAfterMs`, where that is given. */
  | { readonly kind: 'hang', readonly landsAfterMs?: number }
  /** Done, and the connection breaks before the answer. */
  | { readonly kind: 'answer-lost' }

export interface RequestMade { readonly verb: string, readonly place: string, readonly body: unknown, readonly atMs: number }

/**
 * A Kubernetes API in memory, with faults. Pods and Nodes take annotations with a status, as the real one does; custom kinds have
 * a status subresource where `subresources` says so, and otherwise a status like any other member.
 */
export class ScriptedCluster implements KubeClient {
  readonly objects = new Map<string, KubeObject>()
  readonly requests: RequestMade[] = []
  /** Every object as it was stored. */
  readonly history: KubeObject[] = []
  revision = 100
  latencyMs = 0
  fault: (verb: string, place: ObjectPlace) => Fault | undefined = () => undefined
  /** Custom kinds that have a status subresource, by plural. */
  readonly subresources = new Set<string>()
  /** Members of statuses that a definition drops, by plural. */
  readonly dropped = new Map<string, readonly string[]>()
  /** Runs in mid-write, before it lands. */
  beforeWrite: (place: ObjectPlace) => void = () => {}
  readonly #clock: Clock
  readonly #informers = new Set<ScriptedInformer>()

  constructor(clock: Clock) { this.#clock = clock }

  informer(kind: KubeKind): ScriptedInformer {
    const informer = new ScriptedInformer(kind, this)
    this.#informers.add(informer)
    return informer
  }

  at(place: ObjectPlace): KubeObject | undefined { return this.objects.get(keyOf(place)) }

  count(verb: string): number { return this.requests.filter(request => request.verb === verb).length }

  /** Stores, without a request. */
  set(place: ObjectPlace, change: (current: KubeObject | undefined) => KubeObject | undefined): void {
    const key = keyOf(place)
    const before = this.objects.get(key)
    const made = change(before === undefined ? undefined : structuredClone(before))
    this.revision++
    if (made === undefined) this.objects.delete(key)
    else {
      const object: KubeObject = {
        ...made, metadata: { uid: randomUUID(), ...made.metadata, resourceVersion: String(this.revision) }
      }
      this.objects.set(key, object)
      this.history.push(object)
    }
    for (const informer of this.#informers) informer.follow()
  }

  get(place: ObjectPlace): Promise<KubeObject | undefined> {
    return this.#request('get', place, undefined, () => structuredClone(this.at(place)))
  }

  list(kind: KubeKind): Promise<KubeList> {
    return this.#request('list', { kind, name: '' }, undefined, () => ({
      items: [...this.objects].filter(([key]) => key.startsWith(`${kind.plural} `)).map(([, object]) => structuredClone(object)),
      resourceVersion: String(this.revision)
    }))
  }

  watch(_kind: KubeKind, _selection: object, _version: string, _onEvent: (event: WatchEvent) => void, signal: AbortSignal): Promise<void> {
    return new Promise(resolve => { signal.addEventListener('abort', () => { resolve() }) })
  }

  create(kind: KubeKind, object: KubeObject): Promise<KubeObject> {
    const place = { kind, namespace: object.metadata.namespace, name: object.metadata.name! }
    return this.#request('create', place, object, () => {
      if (this.at(place) !== undefined) throw refusal('create', 409, { reason: 'AlreadyExists', message: 'already exists' })
      const { status, ...rest } = structuredClone(object)
      const metadata = { ...rest.metadata, ...isCustom(kind) && { generation: 1 } }
      const isKept = status !== undefined && !(isCustom(kind) && this.#hasSubresource(kind))
      this.set(place, () => ({ ...rest, metadata, ...isKept && { status: this.#keptStatus(kind, status as JsonObject) } }))
      return structuredClone(this.at(place)!)
    })
  }

  replace(place: ObjectPlace, object: KubeObject): Promise<KubeObject> {
    return this.#request('replace', place, object, () => {
      this.set(place, () => structuredClone(object))
      return structuredClone(this.at(place)!)
    })
  }

  mergePatch(place: ObjectPlace, patch: object, subresource?: 'status'): Promise<KubeObject> {
    return this.#request(subresource === undefined ? 'patch' : 'patch-status', place, patch, () => {
      this.beforeWrite(place)
      const current = this.at(place)
      if (current === undefined) throw refusal('patch', 404, { reason: 'NotFound', message: 'not found' })
      const { metadata = {}, status, ...others } = patch as { metadata?: JsonObject, status?: JsonObject }
      const { resourceVersion, ...rest } = metadata
      if (resourceVersion !== undefined && resourceVersion !== current.metadata.resourceVersion) {
        throw refusal('patch', 409, { reason: 'Conflict', message: 'the object has been modified' })
      }
      const isStatus = subresource !== undefined
      if (isStatus && isCustom(place.kind) && !this.#hasSubresource(place.kind)) {
        throw refusal('patch', 404, { reason: 'NotFound', message: 'no such subresource' })
      }
      const takesStatus = isStatus || !this.#hasSubresource(place.kind)
      const part: JsonObject = {
        ...(!isStatus || !isCustom(place.kind)) && { metadata: rest }, ...!isStatus && others,
        ...takesStatus && status !== undefined && { status }
      }
      this.set(place, object => {
        const made = merge(object as unknown as JsonObject, part) as unknown as KubeObject
        if (isObject(made['status'])) made['status'] = this.#keptStatus(place.kind, made['status'])
        // Everything but the metadata counts, and a status where it is none of its own.
        const counts = (one: KubeObject): unknown =>
          ({ ...one, metadata: undefined, ...this.#hasSubresource(place.kind) && { status: undefined } })
        if (!isCustom(place.kind) || isDeepStrictEqual(counts(made), counts(object!))) return made
        return { ...made, metadata: { ...made.metadata, generation: (made.metadata.generation ?? 0) + 1 } }
      })
      return structuredClone(this.at(place)!)
    })
  }

  #hasSubresource(kind: KubeKind): boolean { return !isCustom(kind) || this.subresources.has(kind.plural) }

  #keptStatus({ plural }: KubeKind, status: JsonObject): JsonObject {
    return Object.fromEntries(Object.entries(status).filter(([name]) => this.dropped.get(plural)?.includes(name) !== true))
  }

  delete(place: ObjectPlace, options: { readonly gracePeriodSeconds?: number, readonly uid?: string } = {}): Promise<void> {
    return this.#request('delete', place, options, () => {
      const current = this.at(place)
      if (current === undefined) return
      if (options.uid !== undefined && options.uid !== current.metadata.uid) {
        throw refusal('delete', 409, { reason: 'Conflict', message: 'the UID in the precondition does not match' })
      }
      this.set(place, () => undefined)
    })
  }

  async #request<T>(verb: string, place: ObjectPlace, body: unknown, work: () => T): Promise<T> {
    this.requests.push({ verb, place: keyOf(place), body, atMs: this.#clock.monotonicMs() })
    const fault = this.fault(verb, place)
    if (fault?.kind === 'hang') {
      const { landsAfterMs } = fault
      if (landsAfterMs !== undefined) this.#clock.after(landsAfterMs, () => { attempt(work) })
      return new Promise(() => {})
    }
    if (this.latencyMs > 0) await new Promise<void>(resolve => { this.#clock.after(this.latencyMs, resolve) })
    if (fault?.kind === 'answer') {
      const { status, retryAfterSeconds } = fault
      throw refusal(verb, status, { message: 'scripted', reason: '' }, retryAfterSeconds === undefined ? undefined : String(retryAfterSeconds))
    }
    const done = work()
    if (fault?.kind === 'answer-lost') throw unanswered('Unreachable', 'the connection broke')
    return done
  }
}

/** Shows a cluster, at once or as far as it is let. */
export class ScriptedInformer implements Informer {
  readonly kind: KubeKind
  synced = true
  position: string | undefined
  /** While held it shows nothing new. */
  held = false
  readonly #cluster: ScriptedCluster
  readonly #listeners = new Set<InformerListener>()
  #view = new Map<string, KubeObject>()

  constructor(kind: KubeKind, cluster: ScriptedCluster) {
    this.kind = kind
    this.#cluster = cluster
    this.follow()
  }

  get(key: string): KubeObject | undefined { return this.#view.get(key) }
  objects(): Iterable<KubeObject> { return this.#view.values() }
  subscribe(listener: InformerListener): () => void {
    this.#listeners.add(listener)
    return () => { this.#listeners.delete(listener) }
  }

  relist(): Promise<void> {
    this.follow()
    return Promise.resolve()
  }

  /** As before its first list. */
  forget(): void {
    this.synced = false
    this.#view = new Map()
  }

  follow(): void {
    if (this.held || !this.synced) return
    const before = this.#view
    const prefix = `${this.kind.plural} `
    this.#view = new Map([...this.#cluster.objects].filter(([key]) => key.startsWith(prefix)).map(([, object]) => [objectKey(object), object]))
    this.position = String(this.#cluster.revision)
    for (const key of new Set([...before.keys(), ...this.#view.keys()])) {
      const [was, is] = [before.get(key), this.#view.get(key)]
      if (was !== is) for (const listener of this.#listeners) listener.onChange?.(was, is)
    }
    for (const listener of this.#listeners) listener.onPosition?.()
  }
}

export const podPlace = (name: string, namespace = 'default'): ObjectPlace => ({ kind: kubeKinds.pods, namespace, name })
export const nodePlace = (name: string): ObjectPlace => ({ kind: kubeKinds.nodes, name })

export function newPod(name: string, nodeName: string, uid: string = randomUUID()): KubeObject {
  return {
    apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace: 'default', uid }, spec: { nodeName, containers: [] },
    status: { phase: 'Pending', qosClass: 'BestEffort' }
  }
}

export function newNode(name: string): KubeObject {
  return { apiVersion: 'v1', kind: 'Node', metadata: { name }, spec: {}, status: {} }
}

function keyOf({ kind, namespace, name }: ObjectPlace): string {
  return `${kind.plural} ${namespace === undefined ? '' : `${namespace}/`}${name}`
}

const isCustom = ({ group }: KubeKind): boolean => group.includes('.') && !group.endsWith('.k8s.io')

function attempt(work: () => unknown): void {
  try {
    work()
  } catch {
    // Nobody hears of it.
  }
}

/** RFC 7396. */
function merge(target: JsonObject, patch: JsonObject): JsonObject {
  const merged: JsonObject = { ...target }
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete merged[name]
    else if (isObject(value)) merged[name] = merge(isObject(merged[name]) ? merged[name] : {}, value)
    else merged[name] = value
  }
  return merged
}
