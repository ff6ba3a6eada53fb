import type { Json, KubeObject } from './object.ts'
import type { StatusCause } from './status-error.ts'

export type FieldValidation = 'Ignore' | 'Warn' | 'Strict'

export interface PrinterColumn {
  readonly name: string
  readonly type: 'string' | 'integer' | 'number' | 'boolean' | 'date'
  readonly format: string
  readonly description: string
  /** 0 is shown always, more only in wide output. */
  readonly priority: number
}

/** How lists inside an object are merged by a strategic merge patch; undefined members merge as plain JSON does. */
export interface MergeSchema {
  /** Of the object's members. */
  readonly fields: Readonly<Record<string, MergeField>>
}

export interface MergeField {
  /** The schema of the member, or of a list's elements or a map's values, where it matters. */
  readonly schema?: MergeSchema
  /** Of a list: `merge` by `mergeKey` (objects) or as a set (primitives); absent: replaced as a whole. */
  readonly patchStrategy?: readonly ('merge' | 'retainKeys')[]
  readonly mergeKey?: string
}

export type Subresource = 'status' | 'finalize'

export interface DecodedObject {
  readonly object: KubeObject
  /** Sent to the client as Warning headers. */
  readonly warnings: readonly string[]
}

/**
 * What the server knows of one resource: a built-in kind, or one that a CustomResourceDefinition describes. All
 * functions are pure but for what they say they change.
 */
export interface Resource {
  /** Empty for the core group. */
  readonly group: string
  readonly version: string
  readonly plural: string
  readonly singular: string
  readonly kind: string
  readonly listKind: string
  readonly shortNames: readonly string[]
  readonly categories: readonly string[]
  readonly namespaced: boolean
  readonly verbs: readonly string[]
  readonly subresources: readonly Subresource[]
  readonly columns: readonly PrinterColumn[]
  /** One cell for each column. */
  cells(object: KubeObject, nowMs: number): Json[]
  /**
   * Takes in a document as a client sent it: checks types, drops or refuses unknown fields (`mode`), fills in defaults.
   * Throws StatusError 400 or 422. The result is the caller's.
   *
   * `duplicateFields` are paths that the document's text gives more than once (kinds/duplicate-fields.ts); they are told as
   * unknown fields are.
   */
  decode(document: Json, mode: FieldValidation, duplicateFields?: readonly string[]): DecodedObject
  /** Brings a new object into the state in which it is stored: status cleared, generation, derived fields. Changes it. */
  prepareForCreate(object: KubeObject): void
  /** The same for a change through the object itself or through a subresource; keeps what it must not change. */
  prepareForUpdate(next: KubeObject, current: KubeObject, subresource: Subresource | undefined): void
  /** Everything that is wrong, metadata included; nothing where all is well. */
  validate(object: KubeObject, current: KubeObject | undefined): StatusCause[]
  /** Fields that a fieldSelector may name, besides metadata.name and metadata.namespace. */
  selectableFields(object: KubeObject): Readonly<Record<string, string>>
  /** Whether an update without a resourceVersion is taken as one of the current object; absent: no. */
  readonly allowsUnconditionalUpdate?: boolean
  /** Whether an update of an object that is not there creates it; absent: no. */
  readonly allowsCreateOnUpdate?: boolean
  /**
   * Grace period with which a deletion begins, where the kind has such; `requestedSeconds` is what the client asked for. Above
   * 0 the object stays, marked as deleted, until it is deleted again with 0. Absent: 0.
   */
  deletionGraceSeconds?(object: KubeObject, requestedSeconds: number | undefined): number
  /**
   * What a deletion makes of an object that stays until something of its own is done; what holds it then is a finalizer.
   * Absent: it is marked as deleted, or goes, as objects do.
   */
  markDeleted?(object: KubeObject, nowMs: number): KubeObject
  /** Absent: a strategic merge patch is 415. */
  readonly mergeSchema: MergeSchema | undefined
}

/** `configmaps`, `gadgets.demo.holdfast.dev`: names the resource whatever its version. */
export function resourceName({ group, plural }: { readonly group: string, readonly plural: string }): string {
  return group === '' ? plural : `${plural}.${group}`
}
