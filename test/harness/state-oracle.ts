import { isDeepStrictEqual } from 'node:util'
import type { KubeHttp } from './kube-http.ts'

/** The collections that go down to a node, by the names under which both APIs serve them. */
export const collections = ['serviceaccounts', 'secrets', 'configmaps', 'services', 'pods', 'nodes'] as const
export type Collection = (typeof collections)[number]

type Json = Readonly<Record<string, unknown>>

export interface Document extends Json {
  readonly metadata: Json & {
    readonly name: string
    readonly namespace?: string
    readonly uid: string
    readonly labels?: Readonly<Record<string, string>>
    readonly annotations?: Readonly<Record<string, string>>
  }
}

/** All objects of each collection. */
export type Documents = Readonly<Record<Collection, readonly Document[]>>

/** `secrets default/key`: one place in a node's view. */
export const placeOf = (collection: Collection, { metadata: { namespace, name } }: Document): string =>
  `${collection} ${namespace === undefined ? name : `${namespace}/${name}`}`

/** A place and which object it is. */
export const identityOf = (collection: Collection, object: Document): string =>
  `${placeOf(collection, object)} ${object.metadata.uid}`

export async function documentsOf(api: KubeHttp): Promise<Documents> {
  const lists = await Promise.all(collections.map(async collection => {
    const { items } = await api.check<{ items: Document[] }>('GET', `/api/v1/${collection}`)
    return [collection, items] as const
  }))
  return Object.fromEntries(lists) as Record<Collection, Document[]>
}

/** Members that name objects of the Pod's namespace. */
const referring: Readonly<Record<string, readonly [collection: Collection, member: string]>> = {
  secretRef: ['secrets', 'name'], secretKeyRef: ['secrets', 'name'], imagePullSecrets: ['secrets', 'name'], secret: ['secrets', 'secretName'],
  configMapRef: ['configmaps', 'name'], configMapKeyRef: ['configmaps', 'name'], configMap: ['configmaps', 'name']
}

/** Naive: whatever stands anywhere under a member that names objects. */
function* namesIn(value: unknown, member = ''): Generator<readonly [collection: Collection, name: string]> {
  if (typeof value !== 'object' || value === null) return
  if (Array.isArray(value)) {
    for (const inner of value) yield* namesIn(inner, member)
    return
  }
  const [collection, naming] = referring[member] ?? []
  const name = naming === undefined ? undefined : (value as Json)[naming]
  if (collection !== undefined && typeof name === 'string') yield [collection, name]
  for (const [inner, content] of Object.entries(value)) yield* namesIn(content, inner)
}

/** What the cluster wants on a node, from all that is in it; by place. */
export function wantedOf(node: string, cluster: Documents): Map<string, Document> {
  const all = new Map(collections.flatMap(collection => cluster[collection].map(object => [placeOf(collection, object), object] as const)))
  const wanted = new Map<string, Document>()
  const want = (place: string): Document | undefined => {
    const object = all.get(place)
    if (object !== undefined) wanted.set(place, object)
    return object
  }
  want(`nodes ${node}`)
  for (const pod of cluster.pods) {
    const spec = pod['spec'] as { readonly nodeName?: string, readonly serviceAccountName?: string }
    const { namespace = '', labels = {} } = pod.metadata
    if (spec.nodeName !== node) continue
    want(placeOf('pods', pod))
    for (const [collection, name] of namesIn(spec)) want(`${collection} ${namespace}/${name}`)
    const account = want(`serviceaccounts ${namespace}/${spec.serviceAccountName ?? 'default'}`)
    for (const member of ['secrets', 'imagePullSecrets']) {
      for (const { name } of account?.[member] as { name: string }[] | undefined ?? []) want(`secrets ${namespace}/${name}`)
    }
    for (const service of cluster.services) {
      const { selector = {} } = service['spec'] as { readonly selector?: Readonly<Record<string, string>> }
      const pairs = Object.entries(selector)
      if (service.metadata.namespace === namespace && pairs.length > 0 && pairs.every(([label, value]) => labels[label] === value)) {
        want(placeOf('services', service))
      }
    }
  }
  return wanted
}

/** What an object says in both APIs: without what each adds, and what is reported. */
function contentOf(place: string, object: Document): Json {
  const { apiVersion: _, kind: __, status, ...rest } = object
  const { managedFields: ___, resourceVersion: ____, annotations, ...metadata } = object.metadata
  const kept = Object.entries(annotations ?? {}).filter(([name]) => name !== 'holdfast.dev/state')
  const content: Json = { ...rest, metadata: { ...metadata, ...kept.length > 0 && { annotations: Object.fromEntries(kept) } } }
  if (place.startsWith('pods ')) return content
  if (!place.startsWith('nodes ')) return status === undefined ? content : { ...content, status }
  const { taints: _____, ...spec } = (object['spec'] ?? {}) as Json
  return { ...content, spec }
}

/** O5, downwards: exactly what the cluster wants is on the node. One line for each difference. */
export function heldDifferences(node: string, cluster: Documents, local: Documents): string[] {
  const wanted = wantedOf(node, cluster)
  const held = new Map(collections.flatMap(collection => local[collection].map(object => [placeOf(collection, object), object] as const)))
  const differences: string[] = []
  for (const [place, object] of wanted) {
    const there = held.get(place)
    if (there === undefined) differences.push(`${place} is wanted and not on the node`)
    else if (there.metadata.uid !== object.metadata.uid) differences.push(`${place} on the node is ${there.metadata.uid}, not ${object.metadata.uid}`)
    else if (!isDeepStrictEqual(contentOf(place, there), contentOf(place, object))) {
      differences.push(`${place} is not the same: ${JSON.stringify(contentOf(place, there))} and ${JSON.stringify(contentOf(place, object))}`)
    }
  }
  for (const place of held.keys()) if (!wanted.has(place)) differences.push(`${place} is on the node and not wanted`)
  return differences
}

/** What a node says of Pods and of itself, as opposed to what others add. */
const reported: Readonly<Record<'pods' | 'nodes', readonly string[]>> = {
  pods: ['phase', 'reason', 'message', 'containerStatuses'], nodes: ['capacity', 'allocatable', 'addresses', 'nodeInfo']
}
const reportedConditions = ['Ready', 'ContainersReady', 'MemoryPressure', 'DiskPressure', 'PIDPressure']

interface Condition { readonly type: string, readonly status: string }

function saidOf(kind: 'pods' | 'nodes', object: Document): Json {
  const status = (object['status'] ?? {}) as Json
  const conditions = (status['conditions'] ?? []) as Condition[]
  return {
    ...Object.fromEntries(reported[kind].map(field => [field, status[field]])),
    ...Object.fromEntries(reportedConditions.map(type => [type, conditions.find(condition => condition.type === type)?.status]))
  }
}

/** O5, upwards: the cluster shows what the node reports, and of which report it is. */
export function reportDifferences(cluster: Documents, local: Documents): string[] {
  const differences: string[] = []
  for (const kind of ['pods', 'nodes'] as const) {
    const shown = new Map(cluster[kind].map(object => [identityOf(kind, object), object]))
    for (const object of local[kind]) {
      const there = shown.get(identityOf(kind, object))
      // That is the other direction's to say.
      if (there === undefined) continue
      const [said, seen] = [saidOf(kind, object), saidOf(kind, there)]
      if (!isDeepStrictEqual(said, seen)) {
        differences.push(`status of ${placeOf(kind, object)}: the node says ${JSON.stringify(said)}, the cluster shows ${JSON.stringify(seen)}`)
      }
      if (!/^[0-9a-f]{32}$/.test(there.metadata.annotations?.['holdfast.dev/state'] ?? '')) {
        differences.push(`${placeOf(kind, object)} does not say of which report its status is`)
      }
    }
  }
  return differences
}
