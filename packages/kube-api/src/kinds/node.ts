import type { KubeObject } from '../object.ts'
import type { Resource, Subresource } from '../resource.ts'
import type { StatusCause } from '../status-error.ts'
import { duplicateValue, forbiddenValue, invalidValue, requiredValue } from '../validation/causes.ts'
import { dns1123SubdomainErrors, labelValueErrors, qualifiedNameErrors } from '../validation/names.ts'
import { ageColumn, ageOf, builtInResource, column, keepMember, nameColumn, nameOf, wideColumn } from './built-in-resource.ts'
import { oneOf } from './choice-causes.ts'
import { eachCause } from './each-cause.ts'
import { mergeSchemas } from './merge-schemas.ts'

interface Taint { key?: string, value?: string, effect?: string }

interface NodeSpec { unschedulable?: boolean, taints?: Taint[], podCIDR?: string, podCIDRs?: string[], providerID?: string }

interface NodeStatus {
  conditions?: { type?: string, status?: string }[]
  addresses?: { type?: string, address?: string }[]
  capacity?: Record<string, string>
  allocatable?: Record<string, string>
  nodeInfo?: { osImage?: string, kernelVersion?: string, containerRuntimeVersion?: string, kubeletVersion?: string }
  daemonEndpoints?: { kubeletEndpoint?: { Port?: number } }
}

const specOf = (object: KubeObject): NodeSpec => object['spec'] ?? {}
const statusOf = (object: KubeObject): NodeStatus => object['status'] ?? {}

/** What Go writes of a Node that says nothing of itself. */
const unknownSystem = {
  machineID: '', systemUUID: '', bootID: '', kernelVersion: '', osImage: '', containerRuntimeVersion: '', kubeletVersion: '',
  kubeProxyVersion: '', operatingSystem: '', architecture: ''
} as const

function setDefaults(object: KubeObject): void {
  object['spec'] ??= {}
  const status: NodeStatus = statusOf(object)
  if (status.capacity !== undefined) status.allocatable ??= { ...status.capacity }
  status.nodeInfo = { ...unknownSystem, ...status.nodeInfo }
  status.daemonEndpoints ??= {}
  status.daemonEndpoints.kubeletEndpoint = { Port: 0, ...status.daemonEndpoints.kubeletEndpoint }
  object['status'] = status
}

function prepareForUpdate(next: KubeObject, current: KubeObject, subresource: Subresource | undefined): void {
  keepMember(next, current, subresource === undefined ? 'status' : 'spec')
}

function causes(object: KubeObject, current: KubeObject | undefined): StatusCause[] {
  const spec = specOf(object)
  const addresses = new Set<string>()
  const repeated = eachCause(statusOf(object).addresses ?? [], (address, i) => {
    const key = JSON.stringify([address.type, address.address])
    const found = addresses.has(key) ? [duplicateValue(`status.addresses[${i}]`, { ...address })] : []
    addresses.add(key)
    return found
  })
  return [
    ...taintCauses(spec.taints ?? [], 'spec.taints'),
    // A Node's addresses are looked at when they change, as the real server does.
    ...current === undefined ? [] : [...repeated, ...changeCauses(spec, specOf(current))]
  ]
}

function taintCauses(taints: readonly Taint[], field: string): StatusCause[] {
  const seen = new Set<string>()
  return eachCause(taints, (taint, i) => {
    const { key = '', value = '', effect = '' } = taint
    const at = `${field}[${i}]`
    const causes = [
      ...qualifiedNameErrors(key).map(error => invalidValue(`${at}.key`, key, error)),
      ...labelValueErrors(value).map(error => invalidValue(`${at}.value`, value, error)),
      ...effect === '' ? [requiredValue(`${at}.effect`)] : oneOf(effect, ['NoSchedule', 'PreferNoSchedule', 'NoExecute'], `${at}.effect`)
    ]
    const identity = `${effect}/${key}`
    if (seen.has(identity)) {
      const { message, ...cause } = duplicateValue(at, { ...taint })
      causes.push({ ...cause, message: `${message}: taints must be unique by key and effect pair` })
    }
    seen.add(identity)
    return causes
  })
}

/** What a Node was given once stays: its range of addresses, and whose machine it is. */
function changeCauses(next: NodeSpec, current: NodeSpec): StatusCause[] {
  const causes: StatusCause[] = []
  const ranges = current.podCIDRs ?? []
  const nextRanges = next.podCIDRs ?? []
  if (ranges.length > 0 && (ranges.length !== nextRanges.length || ranges.some((range, i) => range !== nextRanges[i]))) {
    causes.push(forbiddenValue('spec.podCIDRs', 'node updates may not change podCIDR except from "" to valid'))
  }
  if ((current.providerID ?? '') !== '' && next.providerID !== current.providerID) {
    causes.push(forbiddenValue('spec.providerID', 'node updates may not change providerID except from "" to valid'))
  }
  return causes
}

const rolePrefix = 'node-role.kubernetes.io/'

function rolesText({ metadata: { labels = {} } }: KubeObject): string {
  const roles = Object.entries(labels).flatMap(([key, value]) => {
    if (key.startsWith(rolePrefix)) return [key.slice(rolePrefix.length)]
    return key === 'kubernetes.io/role' ? [value] : []
  }).filter(role => role !== '')
  return roles.length === 0 ? '<none>' : [...new Set(roles)].toSorted().join(',')
}

function statusText(object: KubeObject): string {
  const ready = (statusOf(object).conditions ?? []).findLast(({ type }) => type === 'Ready')
  const text = ready === undefined ? 'Unknown' : ready.status === 'True' ? 'Ready' : 'NotReady'
  return specOf(object).unschedulable === true ? `${text},SchedulingDisabled` : text
}

const addressText = (object: KubeObject, wanted: string): string =>
  statusOf(object).addresses?.find(({ type }) => type === wanted)?.address ?? '<none>'

const orUnknown = (text: string | undefined): string => text === undefined || text === '' ? '<unknown>' : text

export const nodes = (): Resource => builtInResource({
  plural: 'nodes', singular: 'node', kind: 'Node', shortNames: ['no'], namespaced: false, subresources: ['status'],
  nameErrors: dns1123SubdomainErrors,
  columns: [
    nameColumn, column('Status', 'The status of the node'), column('Roles', 'The roles of the node'), ageColumn,
    column('Version', 'Kubelet Version reported by the node.'),
    wideColumn('Internal-IP', 'List of addresses reachable to the node. Queried from cloud provider, if available.'),
    wideColumn('External-IP', 'List of addresses reachable to the node. Queried from cloud provider, if available.'),
    wideColumn('OS-Image', 'OS Image reported by the node from /etc/os-release (e.g. Debian GNU/Linux 7 (wheezy)).'),
    wideColumn('Kernel-Version', 'Kernel Version reported by the node from \'uname -r\' (e.g. 3.16.0-0.bpo.4-amd64).'),
    wideColumn('Container-Runtime', 'ContainerRuntime Version reported by the node through runtime remote API (e.g. containerd://1.4.2).')
  ],
  cells: (object, nowMs) => {
    const { osImage, kernelVersion, containerRuntimeVersion, kubeletVersion = '' } = statusOf(object).nodeInfo ?? {}
    return [
      nameOf(object), statusText(object), rolesText(object), ageOf(object, nowMs), kubeletVersion,
      addressText(object, 'InternalIP'), addressText(object, 'ExternalIP'), orUnknown(osImage), orUnknown(kernelVersion),
      orUnknown(containerRuntimeVersion)
    ]
  },
  setDefaults, prepareForUpdate, causes,
  selectableFields: object => ({ 'spec.unschedulable': String(specOf(object).unschedulable ?? false) }),
  mergeSchema: mergeSchemas.Node
})
