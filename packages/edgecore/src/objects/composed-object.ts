import type { KubeObject, StoredObject } from '@holdfast/kube-api'
import { collectionOf, objectKinds } from './collections.ts'
import type { ObjectTable } from './object-table.ts'
import { ownBytes, parseObject } from './object-json.ts'

/** Up collection that the status of a resource's objects is in; an object's revision counts its changes too. */
const statusCollections: Readonly<Record<string, string>> = { pods: 'pod-status', nodes: 'node-status' }

/** Resource whose objects have their status in an up collection. */
export function resourceOfStatus(upCollection: string): string | undefined {
  return Object.entries(statusCollections).find(([, collection]) => collection === upCollection)?.[0]
}

/** The up item with the status of an object. */
export function statusItem(
  table: ObjectTable, resource: string, key: string
): { readonly value: Buffer, readonly sequence: number } | undefined {
  const collection = statusCollections[resource]
  return collection === undefined ? undefined : table.upItem(collection, key)
}

/** Sequence of the newest change of an object that is there, or of its status; undefined: there is none. */
export function revisionOf(table: ObjectTable, resource: string, key: string): number | undefined {
  const sequence = resource === 'namespaces' ? table.namespaceSequence(key) : table.sequenceOf(collectionOf(resource), key)
  return sequence === undefined ? undefined : Math.max(sequence, statusItem(table, resource, key)?.sequence ?? 0)
}

/** `default/web` → namespace `default`, name `web`; `edge-1` → no namespace. */
export function placeOf(key: string): { readonly namespace: string, readonly name: string } {
  const slash = key.indexOf('/')
  return slash === -1 ? { namespace: '', name: key } : { namespace: key.slice(0, slash), name: key.slice(slash + 1) }
}

/** An object as local clients see it: what came down, the status that this node reports, the sequence as resourceVersion. */
export function composeObject(
  resource: string, key: string, revision: number, value: Buffer, status: Buffer | undefined
): StoredObject {
  const { kind, apiVersion, metadata, ...rest } = parseObject(value)
  const reported = status === undefined ? undefined : parseObject(status)
  // A status is of one pod, not of another one by the same name.
  const fits = reported?.metadata.uid === undefined || reported.metadata.uid === metadata.uid
  return stored(resource, key, revision, {
    kind, apiVersion,
    metadata: { ...metadata, resourceVersion: String(revision) },
    ...rest,
    ...reported !== undefined && fits && { status: reported.status }
  })
}

/** A namespace is there while something in it is; what the cluster says of it does not come down. */
export function composeNamespace(name: string, revision: number): StoredObject {
  return stored('namespaces', name, revision, {
    kind: 'Namespace',
    apiVersion: 'v1',
    metadata: {
      name,
      resourceVersion: String(revision),
      labels: { 'kubernetes.io/metadata.name': name },
      annotations: { 'holdfast.dev/derived': 'from the objects that are on this node' }
    },
    spec: {},
    status: { phase: 'Active' }
  })
}

/** For an object that is gone and could not be read any more. */
export function composeLost(resource: string, key: string, revision: number): StoredObject {
  const { namespace, name } = placeOf(key)
  return stored(resource, key, revision, {
    ...objectKinds[collectionOf(resource)] ?? { kind: '', apiVersion: '' },
    metadata: { name, ...namespace !== '' && { namespace }, resourceVersion: String(revision) }
  })
}

function stored(resource: string, key: string, revision: number, object: KubeObject): StoredObject {
  return { resource, ...placeOf(key), revision, object, json: ownBytes(JSON.stringify(object)) }
}
