import type { KubeObject } from '../object.ts'
import type { SchemaDocument } from './structural-schema.ts'

export const definitionGroup = 'apiextensions.k8s.io'
export const definitionPlural = 'customresourcedefinitions'
export const definitionResource = `${definitionPlural}.${definitionGroup}`

/** While a definition has it, it waits for its instances to go. */
export const cleanupFinalizer = 'customresourcecleanup.apiextensions.k8s.io'

export interface DefinitionNames {
  plural: string
  singular?: string
  shortNames?: string[]
  kind: string
  listKind?: string
  categories?: string[]
}

export interface DefinitionColumn {
  readonly name?: string
  readonly type?: string
  readonly format?: string
  readonly description?: string
  readonly priority?: number
  readonly jsonPath?: string
}

export interface DefinitionVersion {
  name?: string
  served?: boolean
  storage?: boolean
  deprecated?: boolean
  deprecationWarning?: string
  schema?: { openAPIV3Schema?: SchemaDocument }
  subresources?: { status?: object, scale?: { specReplicasPath?: string, statusReplicasPath?: string, labelSelectorPath?: string } }
  additionalPrinterColumns?: readonly DefinitionColumn[]
  selectableFields?: readonly { readonly jsonPath?: string }[]
}

export interface DefinitionSpec {
  group?: string
  names?: Partial<DefinitionNames>
  scope?: string
  versions?: DefinitionVersion[]
  conversion?: { strategy?: string, webhook?: unknown }
  preserveUnknownFields?: boolean
}

export type DefinitionConditionType = 'NamesAccepted' | 'Established' | 'Terminating'

export interface DefinitionCondition {
  type: string
  status: string
  lastTransitionTime: string
  reason: string
  message: string
}

export interface DefinitionStatus {
  /** Null where there are none, as the real server writes it. */
  conditions: DefinitionCondition[] | null
  acceptedNames: Partial<DefinitionNames>
  storedVersions: string[] | null
}

export const specOf = (definition: KubeObject): DefinitionSpec => definition['spec'] ?? {}

export function statusOf(definition: KubeObject): DefinitionStatus {
  const status: Partial<DefinitionStatus> = definition['status'] ?? {}
  const { conditions = null, acceptedNames = { plural: '', kind: '' }, storedVersions = null } = status
  return { conditions, acceptedNames, storedVersions }
}

export function conditionOf(definition: KubeObject, type: DefinitionConditionType): DefinitionCondition | undefined {
  return statusOf(definition).conditions?.find(condition => condition.type === type)
}

export const isEstablished = (definition: KubeObject): boolean => conditionOf(definition, 'Established')?.status === 'True'

/** Undefined where not exactly one version is marked. */
export function storageVersionOf({ versions = [] }: DefinitionSpec): string | undefined {
  const marked = versions.filter(({ storage }) => storage === true)
  return marked.length === 1 ? marked[0]!.name : undefined
}
