import type { Json, JsonObject } from '../object.ts'
import { Pattern } from './pattern.ts'

export type SchemaType = 'object' | 'array' | 'string' | 'integer' | 'number' | 'boolean'

/**
 * A schema as `openAPIV3Schema` has it, ready to be used. What a definition's schema must be like is checked before
 * (structural-causes.ts); this one takes what it finds.
 */
export interface StructuralSchema {
  readonly type: SchemaType | undefined
  readonly nullable: boolean
  readonly isIntOrString: boolean
  readonly preservesUnknownFields: boolean
  /** An object with apiVersion, kind and metadata of its own. */
  readonly isEmbeddedResource: boolean
  readonly properties: ReadonlyMap<string, StructuralSchema>
  /** Of members that are not in `properties`; absent where they are unknown. */
  readonly additional: StructuralSchema | undefined
  readonly items: StructuralSchema | undefined
  readonly default: Json | undefined
  readonly listType: 'atomic' | 'set' | 'map'
  readonly listMapKeys: readonly string[]
  readonly enum: readonly Json[] | undefined
  /** `jsonKey` of each value in `enum`. */
  readonly enumKeys: ReadonlySet<string>
  readonly format: string
  readonly pattern: Pattern | undefined
  readonly minLength: number | undefined
  readonly maxLength: number | undefined
  readonly minItems: number | undefined
  readonly maxItems: number | undefined
  readonly minProperties: number | undefined
  readonly maxProperties: number | undefined
  readonly minimum: number | undefined
  readonly maximum: number | undefined
  readonly exclusiveMinimum: boolean
  readonly exclusiveMaximum: boolean
  readonly multipleOf: number | undefined
  readonly required: readonly string[]
  readonly allOf: readonly StructuralSchema[]
  readonly anyOf: readonly StructuralSchema[]
  readonly oneOf: readonly StructuralSchema[]
  readonly not: StructuralSchema | undefined
}

/** Members of `JSONSchemaProps` as a definition is decoded with them: of the right types, absent rather than empty. */
export interface SchemaDocument {
  readonly '$ref'?: string
  readonly 'type'?: string
  readonly 'format'?: string
  readonly 'title'?: string
  readonly 'description'?: string
  readonly 'default'?: Json
  readonly 'maximum'?: number
  readonly 'exclusiveMaximum'?: boolean
  readonly 'minimum'?: number
  readonly 'exclusiveMinimum'?: boolean
  readonly 'maxLength'?: number
  readonly 'minLength'?: number
  readonly 'pattern'?: string
  readonly 'maxItems'?: number
  readonly 'minItems'?: number
  readonly 'uniqueItems'?: boolean
  readonly 'multipleOf'?: number
  readonly 'enum'?: readonly Json[]
  readonly 'maxProperties'?: number
  readonly 'minProperties'?: number
  readonly 'required'?: readonly string[]
  readonly 'items'?: SchemaDocument | readonly SchemaDocument[]
  readonly 'allOf'?: readonly SchemaDocument[]
  readonly 'oneOf'?: readonly SchemaDocument[]
  readonly 'anyOf'?: readonly SchemaDocument[]
  readonly 'not'?: SchemaDocument
  readonly 'properties'?: Readonly<Record<string, SchemaDocument>>
  readonly 'additionalProperties'?: SchemaDocument | boolean
  readonly 'nullable'?: boolean
  readonly 'x-kubernetes-preserve-unknown-fields'?: boolean
  readonly 'x-kubernetes-embedded-resource'?: boolean
  readonly 'x-kubernetes-int-or-string'?: boolean
  readonly 'x-kubernetes-list-map-keys'?: readonly string[]
  readonly 'x-kubernetes-list-type'?: string
  readonly 'x-kubernetes-map-type'?: string
  readonly 'x-kubernetes-validations'?: readonly Json[]
}

export const isJsonObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** The same for equal values, whatever the order of their members. */
export function jsonKey(value: Json): string {
  if (Array.isArray(value)) return `[${value.map(jsonKey).join(',')}]`
  if (!isJsonObject(value)) return JSON.stringify(value)
  return `{${Object.keys(value).toSorted().map(name => `${JSON.stringify(name)}:${jsonKey(value[name]!)}`).join(',')}}`
}

/** The one schema of a list's elements; undefined where there is none, or a list of them. */
export function itemsOf({ items }: SchemaDocument): SchemaDocument | undefined {
  return Array.isArray(items) ? undefined : items as SchemaDocument | undefined
}

/** Throws PatternError where a pattern is none. */
export function compileSchema(document: SchemaDocument): StructuralSchema {
  const { additionalProperties } = document
  const items = itemsOf(document)
  const compiled = (documents: readonly SchemaDocument[] = []): StructuralSchema[] => documents.map(compileSchema)
  return {
    type: document.type as SchemaType | undefined,
    nullable: document.nullable === true,
    isIntOrString: document['x-kubernetes-int-or-string'] === true,
    preservesUnknownFields: document['x-kubernetes-preserve-unknown-fields'] === true,
    isEmbeddedResource: document['x-kubernetes-embedded-resource'] === true,
    properties: new Map(Object.entries(document.properties ?? {}).map(([name, schema]) => [name, compileSchema(schema)])),
    additional: additionalProperties === true ? anything
      : additionalProperties === undefined || additionalProperties === false ? undefined : compileSchema(additionalProperties),
    items: items === undefined ? undefined : compileSchema(items),
    default: document.default,
    listType: (document['x-kubernetes-list-type'] ?? 'atomic') as StructuralSchema['listType'],
    listMapKeys: document['x-kubernetes-list-map-keys'] ?? [],
    enum: document.enum,
    enumKeys: new Set(document.enum?.map(jsonKey)),
    format: document.format ?? '',
    pattern: document.pattern === undefined ? undefined : new Pattern(document.pattern),
    minLength: document.minLength,
    maxLength: document.maxLength,
    minItems: document.minItems,
    maxItems: document.maxItems,
    minProperties: document.minProperties,
    maxProperties: document.maxProperties,
    minimum: document.minimum,
    maximum: document.maximum,
    exclusiveMinimum: document.exclusiveMinimum === true,
    exclusiveMaximum: document.exclusiveMaximum === true,
    multipleOf: document.multipleOf,
    required: document.required ?? [],
    allOf: compiled(document.allOf),
    anyOf: compiled(document.anyOf),
    oneOf: compiled(document.oneOf),
    not: document.not === undefined ? undefined : compileSchema(document.not)
  }
}

/** `additionalProperties: true`: whatever comes is kept. */
const anything: StructuralSchema = {
  type: undefined, nullable: true, isIntOrString: false, preservesUnknownFields: true, isEmbeddedResource: false, properties: new Map(),
  additional: undefined, items: undefined, default: undefined, listType: 'atomic',
  listMapKeys: [], enum: undefined, enumKeys: new Set(), format: '',
  pattern: undefined, minLength: undefined, maxLength: undefined, minItems: undefined, maxItems: undefined, minProperties: undefined,
  maxProperties: undefined, minimum: undefined, maximum: undefined, exclusiveMinimum: false, exclusiveMaximum: false,
  multipleOf: undefined, required: [], allOf: [], anyOf: [], oneOf: [], not: undefined
}
