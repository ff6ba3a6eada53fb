import type { KubeKind } from '../kube/kube-client.ts'

/** What goes down to a node, dependencies first (STA-40). */
export const downCollections = ['serviceaccounts', 'secrets', 'configmaps', 'services', 'pods', 'nodes'] as const

export type DownCollection = (typeof downCollections)[number]

const core = (plural: DownCollection): KubeKind => ({ group: '', version: 'v1', plural, namespaced: plural !== 'nodes' })

/** Where the objects of each collection are served. */
export const viewKinds: Readonly<Record<DownCollection, KubeKind>> = {
  serviceaccounts: core('serviceaccounts'), secrets: core('secrets'), configmaps: core('configmaps'), services: core('services'),
  pods: core('pods'), nodes: core('nodes')
}

/** `kind` of the objects in each collection: a list of the API leaves it out of its items. */
export const kindNames: Readonly<Record<DownCollection, string>> = {
  serviceaccounts: 'ServiceAccount', secrets: 'Secret', configmaps: 'ConfigMap', services: 'Service', pods: 'Pod', nodes: 'Node'
}

/** The informers that decide what a collection of a node holds: those of its objects, and of what names them (STA-45). */
export const informersBehind: Readonly<Record<DownCollection, readonly DownCollection[]>> = {
  serviceaccounts: ['serviceaccounts', 'pods'],
  secrets: ['secrets', 'pods', 'serviceaccounts'],
  configmaps: ['configmaps', 'pods'],
  services: ['services', 'pods'],
  pods: ['pods'],
  nodes: ['nodes']
}
