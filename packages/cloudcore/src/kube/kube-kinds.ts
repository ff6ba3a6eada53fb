import type { KubeKind } from './kube-client.ts'

const core = { group: '', version: 'v1' } as const
/** KubeEdge's group; the kinds are in deploy/crds. */
const devices = { group: 'devices.kubeedge.io', version: 'v1beta1' } as const

/** The kinds that cloudcore reads and writes. */
export const kubeKinds = {
  namespaces: { ...core, plural: 'namespaces', namespaced: false },
  nodes: { ...core, plural: 'nodes', namespaced: false },
  pods: { ...core, plural: 'pods', namespaced: true },
  configMaps: { ...core, plural: 'configmaps', namespaced: true },
  secrets: { ...core, plural: 'secrets', namespaced: true },
  serviceAccounts: { ...core, plural: 'serviceaccounts', namespaced: true },
  services: { ...core, plural: 'services', namespaced: true },
  events: { ...core, plural: 'events', namespaced: true },
  leases: { group: 'coordination.k8s.io', version: 'v1', plural: 'leases', namespaced: true },
  customResourceDefinitions: { group: 'apiextensions.k8s.io', version: 'v1', plural: 'customresourcedefinitions', namespaced: false },
  deviceModels: { ...devices, plural: 'devicemodels', namespaced: true },
  devices: { ...devices, plural: 'devices', namespaced: true },
  deviceStatuses: { ...devices, plural: 'devicestatuses', namespaced: true }
} as const satisfies Readonly<Record<string, KubeKind>>

/** `v1` or `coordination.k8s.io/v1`. */
export const groupVersion = ({ group, version }: KubeKind): string => group === '' ? version : `${group}/${version}`

/** `pods` or `leases.coordination.k8s.io`, as messages and RBAC name it. */
export const kindName = ({ group, plural }: KubeKind): string => group === '' ? plural : `${plural}.${group}`

/**
 * Path of a collection, or of the object `name` in it, of its subresource. Without `namespace` a namespaced kind is that of
 * all namespaces.
 */
export function kindPath(kind: KubeKind, namespace?: string, name?: string, subresource?: string): string {
  const parts = [kind.group === '' ? 'api' : 'apis', groupVersion(kind)]
  if (kind.namespaced && namespace !== undefined) parts.push('namespaces', encodeURIComponent(namespace))
  parts.push(kind.plural)
  if (name !== undefined) parts.push(encodeURIComponent(name))
  if (subresource !== undefined) parts.push(subresource)
  return `/${parts.join('/')}`
}
