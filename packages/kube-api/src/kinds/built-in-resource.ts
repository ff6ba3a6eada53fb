import type { Json, KubeObject } from '../object.ts'
import {
  objectMetadataCauses, prepareMetadataForCreate, prepareMetadataForUpdate
} from '../meta-rules.ts'
import type { MergeSchema, PrinterColumn, Resource, Subresource } from '../resource.ts'
import type { StatusCause } from '../status-error.ts'
import type { NameCheck } from '../validation/names.ts'
import { decodeBuiltIn } from './decode.ts'
import { kindLimits } from './limits.ts'
import { ageText } from './timestamps.ts'

/** What a built-in kind says of itself; `builtInResource` adds what all of them share. */
export interface BuiltInKind {
  /** Absent: the core group. */
  readonly group?: string
  readonly plural: string
  readonly singular: string
  readonly kind: string
  readonly shortNames?: readonly string[]
  readonly categories?: readonly string[]
  readonly namespaced: boolean
  /** Absent: all. */
  readonly verbs?: readonly string[]
  readonly subresources?: readonly Subresource[]
  readonly nameErrors: NameCheck
  readonly columns: readonly PrinterColumn[]
  cells(object: KubeObject, nowMs: number): Json[]
  /** Fills in what a decoded document leaves open; also what Go always writes. */
  setDefaults?(object: KubeObject): void
  prepareForCreate?(object: KubeObject): void
  prepareForUpdate?(next: KubeObject, current: KubeObject, subresource: Subresource | undefined): void
  /** Beyond metadata. */
  causes?(object: KubeObject, current: KubeObject | undefined): StatusCause[]
  selectableFields?(object: KubeObject): Readonly<Record<string, string>>
  readonly allowsUnconditionalUpdate?: boolean
  readonly allowsCreateOnUpdate?: boolean
  deletionGraceSeconds?(object: KubeObject, requestedSeconds: number | undefined): number
  readonly mergeSchema: MergeSchema | undefined
}

const allVerbs = ['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'update', 'watch'] as const

const nameDescription = 'Name must be unique within a namespace. Is required when creating resources, although some resources may '
  + 'allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation '
  + 'idempotence and configuration definition. Cannot be updated. More info: '
  + 'https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names'

const ageDescription = 'CreationTimestamp is a timestamp representing the server time when this object was created. It is not '
  + 'guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in '
  + 'RFC3339 form and is in UTC.'

export const nameColumn: PrinterColumn =
  { name: 'Name', type: 'string', format: 'name', description: nameDescription, priority: 0 }

export const ageColumn: PrinterColumn =
  { name: 'Age', type: 'string', format: '', description: ageDescription, priority: 0 }

export const column = (name: string, description: string): PrinterColumn =>
  ({ name, type: 'string', format: '', description, priority: 0 })

/** Shown in wide output only. */
export const wideColumn = (name: string, description: string): PrinterColumn =>
  ({ name, type: 'string', format: '', description, priority: 1 })

export const nameOf = ({ metadata }: KubeObject): string => metadata.name ?? ''
export const ageOf = ({ metadata }: KubeObject, nowMs: number): string => ageText(metadata.creationTimestamp, nowMs)

export function builtInResource(kind: BuiltInKind): Resource {
  const { group = '', plural, singular, namespaced, columns, mergeSchema } = kind
  const identity = { group, version: 'v1', kind: kind.kind }
  const metadataRules = { namespaced, nameErrors: kind.nameErrors, finalizersQualified: true }
  return {
    ...identity, plural, singular, listKind: `${kind.kind}List`, shortNames: kind.shortNames ?? [], categories: kind.categories ?? [],
    namespaced, verbs: kind.verbs ?? allVerbs, subresources: kind.subresources ?? [], columns, mergeSchema,
    allowsUnconditionalUpdate: kind.allowsUnconditionalUpdate ?? true, allowsCreateOnUpdate: kind.allowsCreateOnUpdate ?? false,
    cells: (object, nowMs) => kind.cells(object, nowMs),
    decode(document, mode, duplicateFields = []) {
      const decoded = decodeBuiltIn(identity, document, mode, duplicateFields)
      kind.setDefaults?.(decoded.object)
      return decoded
    },
    prepareForCreate(object) {
      prepareMetadataForCreate(object.metadata)
      kind.prepareForCreate?.(object)
    },
    prepareForUpdate(next, current, subresource) {
      prepareMetadataForUpdate(next.metadata, current.metadata)
      kind.prepareForUpdate?.(next, current, subresource)
    },
    validate: (object, current) => [...objectMetadataCauses(object, current, metadataRules), ...kind.causes?.(object, current) ?? []]
      .slice(0, kindLimits.toldCausesMax.value),
    selectableFields: object => kind.selectableFields?.(object) ?? {},
    ...kind.deletionGraceSeconds === undefined
      ? {}
      : { deletionGraceSeconds: (object, requestedSeconds) => kind.deletionGraceSeconds!(object, requestedSeconds) }
  }
}

/** Makes a member of `target` what it is in `source`: absent where it is absent there. */
export function keepMember(target: KubeObject, source: KubeObject, name: 'spec' | 'status'): void {
  if (source[name] === undefined) delete target[name]
  else target[name] = source[name]
}
