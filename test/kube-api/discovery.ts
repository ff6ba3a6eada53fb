import type { Json, JsonObject } from '../../packages/kube-api/src/object.ts'

/**
 * A recorded discovery document without the groups, resources and paths that are not served here; docs/kubernetes.md says
 * which kinds are.
 */
export function discoveryAsServed(recorded: Json, ours: Json | undefined): Json {
  if (!isObject(recorded) || !isObject(ours)) return recorded
  const { groups, items, resources, paths } = recorded
  if (isList(groups) && isList(ours['groups'])) return { ...recorded, groups: common(groups, ours['groups'], 'name') }
  if (isList(resources) && isList(ours['resources'])) {
    return { ...recorded, resources: common(resources, ours['resources'], 'name') }
  }
  if (isList(paths) && isList(ours['paths'])) {
    const served = new Set(ours['paths'])
    return { paths: paths.filter(path => served.has(path)) }
  }
  if (!isList(items) || !isList(ours['items'])) return recorded
  const kept = byKey(ours['items'], groupName)
  return {
    ...recorded,
    items: items.filter(item => kept.has(groupName(item))).map(item => {
      const group = item as JsonObject
      const versions = (kept.get(groupName(item)) as JsonObject)['versions'] as Json[]
      return { ...group, versions: common(group['versions'] as Json[], versions, 'version').map(commonResources(versions)) }
    })
  }
}

const isObject = (value: Json | undefined): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const isList = (value: Json | undefined): value is Json[] => Array.isArray(value)

const groupName = (item: Json): string => ((item as JsonObject)['metadata'] as JsonObject)['name'] as string | undefined ?? ''

const byKey = (list: readonly Json[], key: (item: Json) => string): Map<string, Json> =>
  new Map(list.map(item => [key(item), item]))

function common(recorded: readonly Json[], ours: readonly Json[], member: string): Json[] {
  const served = new Set<unknown>(ours.map(item => (item as JsonObject)[member]))
  return recorded.filter(item => served.has((item as JsonObject)[member]))
}

const commonResources = (ours: readonly Json[]) => (version: Json): Json => {
  const recorded = version as JsonObject
  const own = ours.find(item => (item as JsonObject)['version'] === recorded['version']) as JsonObject
  const resources = common(recorded['resources'] as Json[], own['resources'] as Json[], 'resource')
  return { ...recorded, resources: resources.map(resource => commonSubresources(resource, own['resources'] as Json[])) }
}

function commonSubresources(resource: Json, ours: readonly Json[]): Json {
  const recorded = resource as JsonObject
  const own = ours.find(item => (item as JsonObject)['resource'] === recorded['resource']) as JsonObject
  const { subresources, ...rest } = recorded
  const kept = common(subresources as Json[] | undefined ?? [], own['subresources'] as Json[] | undefined ?? [], 'subresource')
  return kept.length === 0 ? rest : { ...rest, subresources: kept }
}
