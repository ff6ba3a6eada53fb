import type { KubeObject } from '../object.ts'
import type { Resource, Subresource } from '../resource.ts'
import type { StatusCause } from '../status-error.ts'
import { dns1123SubdomainErrors } from '../validation/names.ts'
import { builtInResource, keepMember } from './built-in-resource.ts'
import { mergeSchemas } from './merge-schemas.ts'
import { podCells, podColumns } from './pod-cells.ts'
import { setPodDefaults, setPodSpecDefaults } from './pod-defaults.ts'
import { qosClassOf } from './pod-qos.ts'
import { podSpecCauses } from './pod-spec-causes.ts'
import type { PodSpec, PodStatus, Toleration } from './pod-types.ts'
import { podUpdateCauses } from './pod-update-causes.ts'

const specOf = (object: KubeObject): PodSpec => object['spec'] ?? {}
const statusOf = (object: KubeObject): PodStatus => object['status'] ?? {}

/** Seconds that a Pod stays on a node that is not ready or not reachable, unless it says otherwise. */
const tolerationSeconds = 300

const nodeFailures = ['node.kubernetes.io/not-ready', 'node.kubernetes.io/unreachable'] as const

const systemPriorities: Readonly<Record<string, number>> = {
  'system-node-critical': 2_000_001_000, 'system-cluster-critical': 2_000_000_000
}

function setDefaults(object: KubeObject): void {
  const spec = specOf(object)
  object['spec'] = spec
  setPodSpecDefaults(spec)
  setPodDefaults(spec)
  object['status'] ??= {}
}

/**
 * What admission plugins of the real server fill in: tolerations (DefaultTolerationSeconds), priority (Priority; classes other
 * than those of the system are unknown here and count as 0). Of ServiceAccount only the name: no token is mounted, as none is
 * issued.
 */
function admit(spec: PodSpec): void {
  const tolerated = (key: string) => ({ key: given = '', effect = '' }: Toleration): boolean =>
    (given === key || given === '') && (effect === 'NoExecute' || effect === '')
  for (const key of nodeFailures) {
    const tolerations = spec.tolerations ?? []
    if (tolerations.some(tolerated(key))) continue
    spec.tolerations = [...tolerations, { key, operator: 'Exists', effect: 'NoExecute', tolerationSeconds }]
  }
  spec.priority ??= systemPriorities[spec.priorityClassName ?? ''] ?? 0
  spec.preemptionPolicy ??= 'PreemptLowerPriority'
}

function prepareForCreate(object: KubeObject): void {
  const spec = specOf(object)
  spec.serviceAccountName ??= 'default'
  spec.serviceAccount = spec.serviceAccountName
  admit(spec)
  const isGated = (spec.schedulingGates ?? []).length > 0
  const gated = {
    type: 'PodScheduled', status: 'False', reason: 'SchedulingGated',
    message: 'Scheduling is blocked due to non-empty scheduling gates'
  }
  const status: PodStatus = { phase: 'Pending', qosClass: qosClassOf(spec), ...isGated ? { conditions: [gated] } : {} }
  object['status'] = status
}

function prepareForUpdate(next: KubeObject, current: KubeObject, subresource: Subresource | undefined): void {
  if (subresource === undefined) {
    keepMember(next, current, 'status')
    const { priority } = specOf(current)
    if (priority !== undefined) specOf(next).priority ??= priority
    admit(specOf(next))
    return
  }
  keepMember(next, current, 'spec')
  const { ownerReferences } = current.metadata
  if (ownerReferences === undefined) delete next.metadata.ownerReferences
  else next.metadata.ownerReferences = ownerReferences
  const { qosClass } = statusOf(current)
  next['status'] = { ...qosClass === undefined ? {} : { qosClass }, ...statusOf(next) }
}

function causes(object: KubeObject, current: KubeObject | undefined): StatusCause[] {
  const spec = specOf(object)
  return [...podSpecCauses(spec, 'spec'), ...current === undefined ? [] : podUpdateCauses(spec, specOf(current))]
}

/**
 * A Pod that a node may have begun ends in its own time: it stays, marked as deleted, until the node has ended it. One
 * without a node, or that has ended, goes at once.
 */
function deletionGraceSeconds(object: KubeObject, requestedSeconds: number | undefined): number {
  const { nodeName = '', terminationGracePeriodSeconds = 30 } = specOf(object)
  const { phase } = statusOf(object)
  if (nodeName === '' || phase === 'Failed' || phase === 'Succeeded') return 0
  const seconds = requestedSeconds ?? terminationGracePeriodSeconds
  return seconds < 0 ? 1 : seconds
}

export const pods = (): Resource => builtInResource({
  plural: 'pods', singular: 'pod', kind: 'Pod', shortNames: ['po'], categories: ['all'], namespaced: true, subresources: ['status'],
  nameErrors: dns1123SubdomainErrors, columns: podColumns, cells: podCells,
  setDefaults, prepareForCreate, prepareForUpdate, causes, deletionGraceSeconds,
  selectableFields: object => {
    const { nodeName = '', restartPolicy = '', schedulerName = '', serviceAccountName = '', hostNetwork = false } = specOf(object)
    const { phase = '', podIP, podIPs, nominatedNodeName = '' } = statusOf(object)
    return {
      'spec.nodeName': nodeName, 'spec.restartPolicy': restartPolicy, 'spec.schedulerName': schedulerName,
      'spec.serviceAccountName': serviceAccountName, 'spec.hostNetwork': String(hostNetwork), 'status.phase': phase,
      'status.podIP': podIPs?.[0]?.ip ?? podIP ?? '', 'status.nominatedNodeName': nominatedNodeName
    }
  },
  mergeSchema: mergeSchemas.Pod
})
