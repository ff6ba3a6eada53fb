import type { JsonObject } from './object.ts'
import type { Resource } from './resource.ts'

/** A resource as it is served under one version. */
export interface ServedResource {
  readonly resource: Resource
  /** Described by a CustomResourceDefinition. */
  readonly isCustom: boolean
  /** The version under which its objects are stored. */
  readonly storageVersion: string
  /** Sent as a Warning header with every answer; of a deprecated version. */
  readonly deprecationWarning?: string
  /** Its definition is being deleted: no new objects. */
  readonly isTerminating?: boolean
  /** The definition's openAPIV3Schema, for the OpenAPI documents. */
  readonly openApiSchema?: JsonObject
}

export interface ServedVersion {
  readonly version: string
  /** Sorted by name. */
  readonly resources: readonly ServedResource[]
}

export interface ServedGroup {
  /** Empty for the core group. */
  readonly name: string
  readonly isCustom: boolean
  /** The preferred one first. */
  readonly versions: readonly ServedVersion[]
}

/**
 * Which resources are served: the built-in kinds and what the definitions describe. Looked up once per request; a change of
 * the definitions replaces everything that depends on them.
 */
export class Registry {
  readonly #builtIns: readonly ServedResource[]
  #byPath = new Map<string, ServedResource>()
  #groups: readonly ServedGroup[] = []
  #generation = 0

  constructor(builtIns: readonly Resource[]) {
    this.#builtIns = builtIns.map(resource => ({ resource, isCustom: false, storageVersion: resource.version }))
    this.#replace([])
  }

  /** Goes up with every change; for what is derived from the groups. */
  get generation(): number { return this.#generation }

  /** Built-in groups first, as they were given, then those of the definitions by name. */
  get groups(): readonly ServedGroup[] { return this.#groups }

  find(group: string, version: string, plural: string): ServedResource | undefined {
    return this.#byPath.get(pathKey(group, version, plural))
  }

  /** By kind, whatever the version; what an ownerReference names. */
  findKind(group: string, kind: string): ServedResource | undefined {
    for (const served of this.#byPath.values()) {
      if (served.resource.group === group && served.resource.kind === kind) return served
    }
    return undefined
  }

  /** A resource of each name once, under its storage version. */
  stored(): ServedResource[] {
    return [...this.#byPath.values()].filter(({ resource, storageVersion }) => resource.version === storageVersion)
  }

  group(name: string): ServedGroup | undefined { return this.#groups.find(group => group.name === name) }

  /** Replaces what the definitions describe. */
  setCustom(custom: readonly ServedResource[]): void {
    this.#replace(custom)
  }

  #replace(custom: readonly ServedResource[]): void {
    const groups = new Map<string, Map<string, ServedResource[]>>()
    const byPath = new Map<string, ServedResource>()
    const sorted = custom.toSorted((a, b) => a.resource.group < b.resource.group ? -1 : 1)
    for (const served of [...this.#builtIns, ...sorted]) {
      const { group, version, plural } = served.resource
      const key = pathKey(group, version, plural)
      if (byPath.has(key)) continue
      byPath.set(key, served)
      const versions = groups.get(group) ?? new Map<string, ServedResource[]>()
      groups.set(group, versions)
      const resources = versions.get(version) ?? []
      versions.set(version, resources)
      resources.push(served)
    }
    this.#byPath = byPath
    this.#groups = [...groups].map(([name, versions]) => ({
      name,
      isCustom: ![...versions.values()].flat().some(({ isCustom }) => !isCustom),
      versions: [...versions].toSorted(([a], [b]) => compareVersions(a, b)).map(([version, resources]) => ({
        version,
        resources: resources.toSorted((a, b) => a.resource.plural < b.resource.plural ? -1 : 1)
      }))
    }))
    this.#generation++
  }
}

const pathKey = (group: string, version: string, plural: string): string => `${group}/${version}/${plural}`

const stages = ['alpha', 'beta', '']

/**
 * The order of Kubernetes' versions, the preferred one first: `v2`, `v1`, `v1beta2`, `v1beta1`, `v1alpha1`, then names of
 * another form by their text (apimachinery, pkg/version/helpers.go).
 */
export function compareVersions(a: string, b: string): number {
  const [left, right] = [versionParts(a), versionParts(b)]
  if (left === undefined || right === undefined) {
    if (left !== undefined) return -1
    if (right !== undefined) return 1
    return a < b ? -1 : a > b ? 1 : 0
  }
  return right.stage - left.stage || right.major - left.major || right.minor - left.minor
}

function versionParts(version: string): { stage: number, major: number, minor: number } | undefined {
  const match = /^v([1-9]\d*)(?:(alpha|beta)([1-9]\d*))?$/.exec(version)
  if (match === null) return undefined
  return { stage: stages.indexOf(match[2] ?? ''), major: Number(match[1]), minor: Number(match[3] ?? 0) }
}
