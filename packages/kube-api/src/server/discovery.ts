import { createHash } from 'node:crypto'
import type { JsonObject } from '../object.ts'
import type { Registry, ServedGroup, ServedResource, ServedVersion } from '../registry.ts'
import type { Subresource } from '../resource.ts'

const verbsOfSubresource: Readonly<Record<Subresource, readonly string[]>> = {
  status: ['get', 'patch', 'update'],
  finalize: ['update']
}

const groupVersion = (group: string, version: string): string => group === '' ? version : `${group}/${version}`

/** `/api` */
export function coreVersions(registry: Registry, serverAddress: string): JsonObject {
  return {
    kind: 'APIVersions',
    versions: registry.group('')?.versions.map(({ version }) => version) ?? [],
    serverAddressByClientCIDRs: [{ clientCIDR: '0.0.0.0/0', serverAddress }]
  }
}

/** `/apis` */
export function groupList(registry: Registry): JsonObject {
  return {
    kind: 'APIGroupList',
    apiVersion: 'v1',
    groups: registry.groups.filter(({ name }) => name !== '').map(groupEntry)
  }
}

/** `/apis/<group>` */
export function groupDocument(group: ServedGroup): JsonObject {
  return { kind: 'APIGroup', apiVersion: 'v1', ...groupEntry(group) }
}

function groupEntry({ name, versions }: ServedGroup): JsonObject {
  const entries = versions.map(({ version }) => ({ groupVersion: groupVersion(name, version), version }))
  return { name, versions: entries, preferredVersion: entries[0]! }
}

/** `/api/v1`, `/apis/<group>/<version>` */
export function resourceList(group: string, { version, resources }: ServedVersion): JsonObject {
  return {
    kind: 'APIResourceList',
    ...group !== '' && { apiVersion: 'v1' },
    groupVersion: groupVersion(group, version),
    resources: resources.flatMap(served => {
      const { plural, singular, namespaced, kind, verbs, shortNames, categories, subresources } = served.resource
      return [
        {
          name: plural,
          singularName: singular,
          namespaced,
          kind,
          verbs: [...verbs],
          ...shortNames.length > 0 && { shortNames: [...shortNames] },
          ...categories.length > 0 && { categories: [...categories] },
          storageVersionHash: storageVersionHash(served)
        },
        ...subresources.toSorted().map(subresource => ({
          name: `${plural}/${subresource}`,
          singularName: '',
          namespaced,
          kind,
          verbs: [...verbsOfSubresource[subresource]]
        }))
      ]
    })
  }
}

/** apiserver, pkg/endpoints/discovery/storageversionhash.go */
function storageVersionHash({ resource: { group, kind }, storageVersion }: ServedResource): string {
  return createHash('sha256').update(`${group}/${storageVersion}/${kind}`).digest().subarray(0, 8).toString('base64')
}

/** An aggregated document of discovery and what tells it from another. */
export interface AggregatedDiscovery {
  readonly document: JsonObject
  readonly etag: string
}

/** `/api` or `/apis` for clients that accept an APIGroupDiscoveryList of `version`. */
export function aggregatedDiscovery(registry: Registry, core: boolean, version: 'v2' | 'v2beta1'): AggregatedDiscovery {
  const items = registry.groups.filter(({ name }) => (name === '') === core).map(({ name, versions }) => ({
    metadata: { ...name !== '' && { name }, creationTimestamp: null },
    versions: versions.map(entry => ({
      version: entry.version,
      resources: entry.resources.map(aggregatedResource),
      freshness: 'Current'
    }))
  }))
  const etag = createHash('sha512').update(JSON.stringify(items)).digest('hex').toUpperCase()
  return {
    document: {
      kind: 'APIGroupDiscoveryList', apiVersion: `apidiscovery.k8s.io/${version}`, metadata: {}, items
    },
    etag: `"${etag}"`
  }
}

function aggregatedResource({ resource, isCustom }: ServedResource): JsonObject {
  const { group, version, plural, singular, kind, namespaced, verbs, shortNames, categories, subresources } = resource
  const responseKind = { group: isCustom ? group : '', version: isCustom ? version : '', kind }
  return {
    resource: plural,
    responseKind,
    scope: namespaced ? 'Namespaced' : 'Cluster',
    singularResource: singular,
    verbs: [...verbs],
    ...shortNames.length > 0 && { shortNames: [...shortNames] },
    ...categories.length > 0 && { categories: [...categories] },
    ...subresources.length > 0 && {
      subresources: subresources.toSorted().map(subresource =>
        ({ subresource, responseKind, verbs: [...verbsOfSubresource[subresource]] }))
    }
  }
}
