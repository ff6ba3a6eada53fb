import type { JsonObject, Json, KubeObject } from '@holdfast/kube-api'
import type { NodeName } from '@holdfast/runtime'
import type { KubeKind, ObjectPlace } from '../kube/kube-client.ts'
import { kubeKinds } from '../kube/kube-kinds.ts'
import { statusLimits } from './status-limits.ts'

/** Up collections whose items are a `status` (packages/edgecore/src/objects/collections.ts). */
export type StatusCollection = 'pod-status' | 'node-status'

/** What a node reports of one object. */
export interface StatusReport {
  readonly place: ObjectPlace
  /** Of the Pod that the status is of; undefined for a Node. */
  readonly uid: string | undefined
  readonly status: JsonObject
}

/** Where the version of the item that was written last is recorded on its object (STA-30): 32 hexadecimal digits. */
export const stateAnnotation = 'holdfast.dev/state'

const versionPattern = /^[0-9a-f]{32}$/

/** (state epoch, counter) as the annotation has it; undefined where the version is none of these (STA-30). */
export function versionText(version: Uint8Array): string | undefined {
  return version.length === 16 ? Buffer.from(version).toString('hex') : undefined
}

/** The version that is recorded on an object; undefined: none, or one that makes no sense. */
export function recordedVersion(object: KubeObject | undefined): string | undefined {
  const text = object?.metadata.annotations?.[stateAnnotation]
  return text !== undefined && versionPattern.test(text) ? text : undefined
}

/** The epoch is the one there, and the counter is not above it (STA-31). */
export function isLateVersion(version: string, there: string): boolean {
  return version.slice(0, 16) === there.slice(0, 16) && version <= there
}

/** `namespace/name` or `name`. */
export function objectKey({ metadata: { namespace, name = '' } }: KubeObject): string {
  return namespace === undefined || namespace === '' ? name : `${namespace}/${name}`
}

/** As the API has names of Pods and namespaces; `..` in the path of a request would be another path. */
const namePattern = /^[a-z0-9](?:[-.a-z0-9]*[a-z0-9])?$/

/** The object that an item is the status of; undefined where the key names none that the node may report on. */
export function placeOf(node: NodeName, collection: StatusCollection, key: string): ObjectPlace | undefined {
  if (collection === 'node-status') return key === node ? { kind: kubeKinds.nodes, name: node } : undefined
  return namespacedPlace(kubeKinds.pods, key)
}

/** Of `namespace/name`; undefined where the key is none. */
export function namespacedPlace(kind: KubeKind, key: string): (ObjectPlace & { readonly namespace: string }) | undefined {
  const [namespace, name, more] = key.split('/')
  if (namespace === undefined || name === undefined || more !== undefined) return undefined
  if (!namePattern.test(namespace) || !namePattern.test(name)) return undefined
  return { kind, namespace, name }
}

/** Reads an item; a text says why it is none. The value is not kept. */
export function readReport(node: NodeName, collection: StatusCollection, key: string, value: Buffer): StatusReport | string {
  const place = placeOf(node, collection, key)
  if (place === undefined) return `node ${node} may not report on it`
  if (value.length > statusLimits.statusBytes.value) {
    return `${value.length} bytes, more than ${statusLimits.statusBytes.value}`
  }
  const document = readDocument(value)
  if (typeof document === 'string') return document
  const { apiVersion, kind, metadata, status } = document
  if (apiVersion !== 'v1' || kind !== (collection === 'node-status' ? 'Node' : 'Pod')) return 'not of its collection\'s kind'
  if (!isObject(metadata) || metadata['name'] !== place.name || metadata['namespace'] !== place.namespace) {
    return 'its metadata names another object'
  }
  const { uid } = metadata
  if (collection === 'pod-status' && (typeof uid !== 'string' || uid === '' || uid.length > 64)) return 'without the uid of its Pod'
  if (!isObject(status)) return 'without a status'
  if (!isPlain(status, statusLimits.statusDepth.value)) {
    return `nested deeper than ${statusLimits.statusDepth.value}, or with a member __proto__`
  }
  const conditions = status['conditions']
  if (conditions !== undefined && !(Array.isArray(conditions) && conditions.every(isCondition))) return 'with conditions that have no type'
  return { place, uid: typeof uid === 'string' ? uid : undefined, status }
}

/** The object that is in an item; a text says why there is none. */
export function readDocument(value: Buffer): JsonObject | string {
  let document: unknown
  try {
    document = JSON.parse(value.toString('utf8'))
  } catch {
    return 'not JSON'
  }
  return isObject(document) ? document : 'not an object'
}

/** What a node says of its machine; all else of a Node's status is others'. */
const nodeFields = ['capacity', 'allocatable', 'addresses', 'nodeInfo'] as const
export const nodeConditions: ReadonlySet<string> = new Set(['Ready', 'MemoryPressure', 'DiskPressure', 'PIDPressure'])

/** What a node says of a Pod; `qosClass` and `nominatedNodeName` are the API server's and the scheduler's. */
const podFields = [
  'phase', 'reason', 'message', 'hostIP', 'hostIPs', 'podIP', 'podIPs', 'startTime', 'initContainerStatuses', 'containerStatuses',
  'ephemeralContainerStatuses', 'observedGeneration'
] as const
/** Those that the node takes back by leaving them out; others stay, as readiness gates and controllers set them. */
const podConditions = new Set(['Initialized', 'Ready', 'ContainersReady', 'PodReadyToStartContainers'])

/** The status of the Node with what the node reports. */
export function mergedNodeStatus(current: JsonObject, reported: JsonObject): JsonObject {
  const conditions = conditionsOf(reported).filter(condition => nodeConditions.has(condition.type) && !isUnknownReady(condition))
  const said = new Set(conditions.map(({ type }) => type))
  const kept = conditionsOf(current).filter(({ type }) => !said.has(type))
  return withFields(current, reported, nodeFields, mergeInPlace(conditionsOf(current), [...kept, ...conditions]))
}

/** Whether a node is there at all is what the tunnel shows, not what it says. */
function isUnknownReady({ type, status }: Condition): boolean { return type === 'Ready' && status !== 'True' && status !== 'False' }

/** The status of the Pod with what its node reports. */
export function mergedPodStatus(current: JsonObject, reported: JsonObject): JsonObject {
  const there = conditionsOf(current)
  // Whether it is scheduled is the scheduler's to say, where there is one.
  const isScheduled = there.some(({ type }) => type === 'PodScheduled')
  const conditions = conditionsOf(reported).filter(({ type }) => !(isScheduled && type === 'PodScheduled'))
  const said = new Set(conditions.map(({ type }) => type))
  const kept = there.filter(({ type }) => !said.has(type) && !podConditions.has(type))
  return withFields(current, reported, podFields, mergeInPlace(there, [...kept, ...conditions]))
}

export interface Condition extends JsonObject { type: string }

/** Conditions of a status; what is none is left out. */
export function conditionsOf(status: JsonObject): Condition[] {
  const conditions = status['conditions']
  return Array.isArray(conditions) ? conditions.filter(isCondition) : []
}

function isCondition(value: Json): value is Condition { return isObject(value) && typeof value['type'] === 'string' }

/** In the order in which the types are there already, new ones behind. */
function mergeInPlace(order: readonly Condition[], conditions: readonly Condition[]): Condition[] {
  const byType = new Map(conditions.map(condition => [condition.type, condition]))
  const known = order.flatMap(({ type }) => {
    const condition = byType.get(type)
    byType.delete(type)
    return condition === undefined ? [] : [condition]
  })
  return [...known, ...byType.values()]
}

function withFields(current: JsonObject, reported: JsonObject, fields: readonly string[], conditions: Condition[]): JsonObject {
  const merged: JsonObject = { ...current }
  for (const field of fields) {
    const value = reported[field]
    if (value === undefined || value === null) delete merged[field]
    else merged[field] = value
  }
  if (conditions.length > 0) merged['conditions'] = conditions
  else delete merged['conditions']
  return merged
}

/** Status of an object, as JSON. */
export function statusOf(object: KubeObject): JsonObject {
  const status = object['status']
  return isObject(status) ? status : {}
}

/**
 * JSON merge patch (RFC 7396) for `/status` that makes `status` of `base` and records `version` (undefined: takes the record
 * away), provided that the object is still the one that `base` is.
 *
 * A `/status` request of Pods and Nodes takes annotations as well (kubelets rely on that), so that both land together; one of a
 * custom resource would not.
 */
export function statusPatch(base: KubeObject, status: JsonObject, version: string | undefined): JsonObject {
  const { resourceVersion = '' } = base.metadata
  const difference = mergePatchOf(statusOf(base), status)
  return {
    metadata: { resourceVersion, annotations: { [stateAnnotation]: version ?? null } },
    ...Object.keys(difference).length > 0 && { status: difference }
  }
}

/** The merge patch that makes `after` of `before`. Members that are null count as absent; lists are replaced whole. */
export function mergePatchOf(before: JsonObject, after: JsonObject): JsonObject {
  const patch: JsonObject = {}
  for (const name of Object.keys(before)) if (before[name] !== null && (after[name] ?? null) === null) patch[name] = null
  for (const [name, value] of Object.entries(after)) {
    if (value === null) continue
    const old = before[name]
    if (isObject(value) && isObject(old)) {
      const inner = mergePatchOf(old, value)
      if (Object.keys(inner).length > 0) patch[name] = inner
    } else if (!sameJson(old, value)) patch[name] = isObject(value) ? mergePatchOf({}, value) : value
  }
  return patch
}

/** Equal whatever the order of members. */
export function sameJson(a: Json | undefined, b: Json | undefined): boolean {
  if (a === b) return true
  if (Array.isArray(a) && Array.isArray(b)) return a.length === b.length && a.every((one, i) => sameJson(one, b[i]))
  if (!isObject(a) || !isObject(b)) return false
  const names = Object.keys(a)
  return names.length === Object.keys(b).length && names.every(name => Object.hasOwn(b, name) && sameJson(a[name], b[name]))
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isPlain(value: Json, depthMax: number): boolean {
  if (typeof value !== 'object' || value === null) return true
  if (depthMax === 0 || Object.hasOwn(value, '__proto__')) return false
  return Object.values(value).every(inner => isPlain(inner, depthMax - 1))
}
