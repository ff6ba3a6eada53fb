import type { KubeKind } from '../kube/kube-client.ts'
import { kubeKinds } from '../kube/kube-kinds.ts'

/** What goes down to a node, dependencies first (STA-40). */
export const downCollections = [
  'serviceaccounts', 'secrets', 'configmaps', 'services', 'pods', 'nodes', 'devicemodels', 'devices'
] as const

export type DownCollection = (typeof downCollections)[number]

/** Where the objects of each collection are served. */
export const viewKinds: Readonly<Record<DownCollection, KubeKind>> = {
  serviceaccounts: kubeKinds.serviceAccounts, secrets: kubeKinds.secrets, configmaps: kubeKinds.configMaps,
  services: kubeKinds.services, pods: kubeKinds.pods, nodes: kubeKinds.nodes,
  devicemodels: kubeKinds.deviceModels, devices: kubeKinds.devices
}

/** `kind` of the objects in each collection: a list of the API leaves it out of its items. */
export const kindNames: Readonly<Record<DownCollection, string>> = {
  serviceaccounts: 'ServiceAccount', secrets: 'Secret', configmaps: 'ConfigMap', services: 'Service', pods: 'Pod', nodes: 'Node',
  devicemodels: 'DeviceModel', devices: 'Device'
}

/** The informers that decide what a collection of a node holds: those of its objects, and of what names them (STA-45). */
export const informersBehind: Readonly<Record<DownCollection, readonly DownCollection[]>> = {
  serviceaccounts: ['serviceaccounts', 'pods'],
  secrets: ['secrets', 'pods', 'serviceaccounts'],
  configmaps: ['configmaps', 'pods'],
  services: ['services', 'pods'],
  pods: ['pods'],
  nodes: ['nodes'],
  devicemodels: ['devicemodels', 'devices'],
  devices: ['devices']
}

/** Kinds whose objects are of the node that their `spec.nodeName` names, and name what else it is to have. */
export const boundCollections = ['pods', 'devices'] as const satisfies readonly DownCollection[]

export type BoundCollection = (typeof boundCollections)[number]

export function isBoundCollection(name: string): name is BoundCollection { return (boundCollections as readonly string[]).includes(name) }

export function isDownCollection(name: string): name is DownCollection { return Object.hasOwn(informersBehind, name) }
