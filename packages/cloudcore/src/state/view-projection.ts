import type { KubeObject } from '@holdfast/kube-api'
import { groupVersion } from '../kube/kube-kinds.ts'
import { unreachableTaint } from '../kube/node-controller-decision.ts'
import { canonicalJson } from './canonical-json.ts'
import { stateAnnotation } from './status-document.ts'
import { kindNames, viewKinds } from './view-collections.ts'
import type { DownCollection } from './view-collections.ts'

/** Annotations that say nothing to a node: kubectl's copy of the object, and the version of the status that came up (STA-30). */
const leftOutAnnotations: ReadonlySet<string> = new Set(['kubectl.kubernetes.io/last-applied-configuration', stateAnnotation])

/** Taints that the cluster and cloudcore make from a Node's conditions, and so from whether its tunnel is up. */
const conditionTaints: ReadonlySet<string> = new Set([
  unreachableTaint.key, ...['not-ready', 'unreachable', 'memory-pressure', 'disk-pressure', 'pid-pressure', 'network-unavailable']
    .map(name => `node.kubernetes.io/${name}`)
])

/** Whose status is not the node's to read: it reports it, or it is made of what it reports. */
const withoutStatus: ReadonlySet<DownCollection> = new Set(['pods', 'nodes', 'devices'])

/** An object as a node is shown it (STA-43), as canonical JSON. */
export function projectedValue(collection: DownCollection, object: KubeObject): Buffer {
  const { managedFields: _, resourceVersion: __, annotations, ...metadata } = object.metadata
  const kept = Object.entries(annotations ?? {}).filter(([name]) => !leftOutAnnotations.has(name))
  return Buffer.from(canonicalJson({
    ...object,
    apiVersion: groupVersion(viewKinds[collection]),
    kind: kindNames[collection],
    metadata: {
      ...metadata, selfLink: undefined, annotations: kept.length > 0 ? Object.fromEntries(kept) : undefined,
      // A kind without a status subresource counts the writes of its status as well.
      ...collection === 'devices' && { generation: undefined }
    },
    ...withoutStatus.has(collection) && { status: undefined },
    ...collection === 'nodes' && { spec: withoutConditionTaints(object['spec']) }
  }))
}

function withoutConditionTaints(spec: unknown): unknown {
  const { taints, ...rest } = (spec ?? {}) as { readonly taints?: unknown }
  if (!Array.isArray(taints)) return rest
  const kept = (taints as readonly ({ readonly key?: string } | null)[]).filter(taint => !conditionTaints.has(taint?.key ?? ''))
  return kept.length > 0 ? { ...rest, taints: kept } : rest
}
