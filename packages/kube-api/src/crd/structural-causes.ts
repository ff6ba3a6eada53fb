import type { Json } from '../object.ts'
import type { StatusCause } from '../status-error.ts'
import { forbiddenValue, invalidValue, requiredValue, unsupportedValue } from '../validation/causes.ts'
import { instanceCauses } from './instance-causes.ts'
import { crdLimits } from './limits.ts'
import { Pattern, PatternError } from './pattern.ts'
import { defaultsAllowance, prune, setDefaults } from './pruning.ts'
import { compileSchema, itemsOf, type SchemaDocument } from './structural-schema.ts'

const types = ['array', 'boolean', 'integer', 'number', 'object', 'string'] as const
/** What the real server refuses whatever it says. */
const unsupported = ['$ref', '$schema', 'id', 'definitions', 'patternProperties', 'dependencies', 'additionalItems'] as const
/** What may stand only where structure is, not inside allOf, anyOf, oneOf and not. */
const structural = [
  'description', 'title', 'type', 'default', 'nullable', 'additionalProperties', 'x-kubernetes-preserve-unknown-fields',
  'x-kubernetes-embedded-resource', 'x-kubernetes-int-or-string', 'x-kubernetes-list-map-keys', 'x-kubernetes-list-type',
  'x-kubernetes-map-type'
] as const
const junctors = ['allOf', 'anyOf', 'oneOf'] as const

type Place = 'root' | 'field' | 'item'

/**
 * What keeps a schema from being structural (apiextensions-apiserver, pkg/apis/apiextensions/validation and
 * pkg/apiserver/schema/validation.go); `field` is its own path.
 */
export function structuralCauses(document: SchemaDocument, field: string, toldMax: number): StatusCause[] {
  const check = new StructuralCheck(toldMax)
  check.structure(document, field, 'root', 1)
  // What follows rests on a sound structure.
  if (check.causes.length === 0) check.defaults(document, field)
  return check.causes
}

class StructuralCheck {
  readonly causes: StatusCause[] = []
  readonly #toldMax: number
  #nodes = 0
  #patternInstructions = 0
  /** For the defaults in all defaults together. */
  readonly #allowance = defaultsAllowance()

  constructor(toldMax: number) { this.#toldMax = toldMax }

  #add(...causes: readonly StatusCause[]): void {
    for (const cause of causes) if (this.causes.length < this.#toldMax) this.causes.push(cause)
  }

  /** False where there are too many schemas, or too deep ones. */
  #counts(field: string, depth: number): boolean {
    const { schemaNodes, schemaDepth } = crdLimits
    if (++this.#nodes > schemaNodes.value) {
      if (this.#nodes === schemaNodes.value + 1) this.#add(forbiddenValue(field, `more than ${schemaNodes.value} schemas in a schema`))
      return false
    }
    if (depth > schemaDepth.value) {
      this.#add(forbiddenValue(field, `schemas are nested deeper than ${schemaDepth.value} levels`))
      return false
    }
    return true
  }

  structure(schema: SchemaDocument, field: string, place: Place, depth: number): void {
    if (!this.#counts(field, depth)) return
    this.#unsupported(schema, field)
    this.#type(schema, field, place)
    this.#lists(schema, field)
    this.#values(schema, field)
    if (place === 'root') this.#root(schema, field)
    for (const [name, property] of Object.entries(schema.properties ?? {})) {
      this.structure(property, `${field}.properties[${name}]`, 'field', depth + 1)
    }
    const { additionalProperties } = schema
    if (additionalProperties !== undefined && typeof additionalProperties !== 'boolean') {
      this.structure(additionalProperties, `${field}.additionalProperties`, 'field', depth + 1)
    }
    const items = itemsOf(schema)
    if (items !== undefined) this.structure(items, `${field}.items`, 'item', depth + 1)
    for (const junctor of junctors) {
      for (const [i, inner] of (schema[junctor] ?? []).entries()) {
        this.#valueSchema(inner, schema, `${field}.${junctor}[${i}]`, schema, depth + 1)
      }
    }
    if (schema.not !== undefined) this.#valueSchema(schema.not, schema, `${field}.not`, schema, depth + 1)
  }

  #unsupported(schema: SchemaDocument, field: string): void {
    for (const name of unsupported) {
      if (Object.hasOwn(schema, name)) this.#add(forbiddenValue(`${field}.${name}`, `${name} is not supported`))
    }
    if (schema.uniqueItems === true) {
      this.#add(forbiddenValue(`${field}.uniqueItems`,
        'uniqueItems cannot be set to true since the runtime complexity becomes quadratic'))
    }
    if (schema.additionalProperties === false) {
      this.#add(forbiddenValue(`${field}.additionalProperties`, 'additionalProperties cannot be set to false'))
    }
    if (schema.additionalProperties !== undefined && schema.properties !== undefined) {
      this.#add(forbiddenValue(`${field}.additionalProperties`, 'additionalProperties and properties are mutual exclusive'))
    }
    if (Array.isArray(schema.items)) {
      this.#add(forbiddenValue(`${field}.items`, 'items must be a schema object and not an array'))
    }
    if (schema['x-kubernetes-preserve-unknown-fields'] === false) {
      this.#add(invalidValue(`${field}.x-kubernetes-preserve-unknown-fields`, false, 'must be true or undefined'))
    }
  }

  #type(schema: SchemaDocument, field: string, place: Place): void {
    const { type = '' } = schema
    const isIntOrString = schema['x-kubernetes-int-or-string'] === true
    const keepsUnknown = schema['x-kubernetes-preserve-unknown-fields'] === true
    const at = `${field}.type`
    if (schema['x-kubernetes-embedded-resource'] === true && type !== 'object') {
      const rule = 'must be object if x-kubernetes-embedded-resource is true'
      this.#add(type === '' ? requiredValue(at, rule) : invalidValue(at, type, rule))
    } else if (place === 'root' && type !== 'object') {
      this.#add(type === '' ? requiredValue(at, 'must not be empty at the root') : invalidValue(at, type, 'must be object at the root'))
    } else if (type === '' && !isIntOrString && !keepsUnknown) {
      this.#add(requiredValue(at, place === 'item' ? 'must not be empty for specified array items'
        : 'must not be empty for specified object fields'))
    } else if (type !== '' && isIntOrString) {
      this.#add(invalidValue(at, type, 'must be empty if x-kubernetes-int-or-string is true'))
    } else if (type !== '' && !(types as readonly string[]).includes(type)) {
      this.#add(unsupportedValue(at, type, types))
    }
    if (schema.properties !== undefined && type !== 'object' && type !== '') {
      this.#add(invalidValue(at, type, 'must be object if properties is specified'))
    }
    if (schema['x-kubernetes-embedded-resource'] === true && !keepsUnknown && schema.properties === undefined) {
      this.#add(requiredValue(`${field}.properties`,
        'must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields'))
    }
    if (type === 'array' && schema.items === undefined) this.#add(requiredValue(`${field}.items`, 'must be specified'))
    if (schema.nullable === true && schema.enum !== undefined && !schema.enum.includes(null)) {
      this.#add(requiredValue(`${field}.enum`, 'must contain null if nullable is true'))
    }
  }

  #lists(schema: SchemaDocument, field: string): void {
    const listType = schema['x-kubernetes-list-type']
    const keys = schema['x-kubernetes-list-map-keys'] ?? []
    const keysField = `${field}.x-kubernetes-list-map-keys`
    const mapType = schema['x-kubernetes-map-type']
    if (mapType !== undefined && mapType !== 'atomic' && mapType !== 'granular') {
      this.#add(unsupportedValue(`${field}.x-kubernetes-map-type`, mapType, ['granular', 'atomic']))
    }
    if (listType === undefined) {
      if (keys.length > 0) this.#add(forbiddenValue(keysField, 'must be undefined if x-kubernetes-list-type is not map'))
      return
    }
    const typeField = `${field}.x-kubernetes-list-type`
    if (!['atomic', 'set', 'map'].includes(listType)) this.#add(unsupportedValue(typeField, listType, ['atomic', 'map', 'set']))
    if (schema.type !== 'array') {
      this.#add(invalidValue(`${field}.type`, schema.type ?? '', 'must be array if x-kubernetes-list-type is specified'))
    }
    const items = itemsOf(schema)
    if (listType !== 'map') {
      if (keys.length > 0) this.#add(forbiddenValue(keysField, 'must be undefined if x-kubernetes-list-type is not map'))
      return
    }
    if (keys.length === 0) this.#add(requiredValue(keysField, 'must not be empty if x-kubernetes-list-type is map'))
    if (items === undefined) {
      this.#add(requiredValue(`${field}.items`, 'must have a schema if x-kubernetes-list-type is map'))
      return
    }
    if (items.type !== 'object') {
      this.#add(invalidValue(`${field}.items.type`, items.type ?? '', 'must be object if parent array\'s x-kubernetes-list-type is map'))
    }
    for (const [i, key] of keys.entries()) {
      const property = Object.hasOwn(items.properties ?? {}, key) ? items.properties![key]! : undefined
      if (property === undefined) {
        this.#add(invalidValue(`${keysField}[${i}]`, key, 'entries must all be names of item properties'))
      } else if (!(items.required ?? []).includes(key) && property.default === undefined) {
        this.#add(requiredValue(`${field}.items.properties[${key}].default`,
          'this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property'))
      }
    }
    if (new Set(keys).size < keys.length) this.#add(invalidValue(keysField, [...keys], 'must not contain duplicate entries'))
  }

  #values(schema: SchemaDocument, field: string): void {
    for (const name of ['minLength', 'maxLength', 'minItems', 'maxItems', 'minProperties', 'maxProperties'] as const) {
      const value = schema[name]
      if (value !== undefined && value < 0) this.#add(invalidValue(`${field}.${name}`, value, 'must be greater than or equal to 0'))
    }
    const { multipleOf, pattern } = schema
    if (multipleOf !== undefined && multipleOf <= 0) this.#add(invalidValue(`${field}.multipleOf`, multipleOf, 'must be greater than 0'))
    const instructionsMax = crdLimits.schemaPatternInstructions.value
    if (pattern === undefined || this.#patternInstructions > instructionsMax) return
    try {
      this.#patternInstructions += new Pattern(pattern).size
      if (this.#patternInstructions <= instructionsMax) return
      this.#add(forbiddenValue(`${field}.pattern`, `the patterns of a schema together take more than ${instructionsMax} instructions`))
    } catch (error) {
      if (!(error instanceof PatternError)) throw error
      this.#add(invalidValue(`${field}.pattern`, pattern, `must be a valid regular expression, but isn't: ${error.message}`))
    }
  }

  /** Of metadata a definition may only restrict the names. */
  #root(schema: SchemaDocument, field: string): void {
    const metadata = Object.hasOwn(schema.properties ?? {}, 'metadata') ? schema.properties!['metadata']! : {}
    for (const [name, property] of Object.entries(metadata.properties ?? {})) {
      if (name !== 'name' && name !== 'generateName') {
        this.#add(forbiddenValue(`${field}.properties[metadata]`,
          'must not specify anything other than name and generateName, but metadata is implicitly specified'))
      }
      if (property.default !== undefined) {
        this.#add(forbiddenValue(`${field}.properties[metadata].properties[${name}].default`, 'must not be set'))
      }
    }
    for (const name of ['apiVersion', 'kind', 'metadata']) {
      const property = Object.hasOwn(schema.properties ?? {}, name) ? schema.properties![name]! : {}
      if (property.default !== undefined) this.#add(forbiddenValue(`${field}.properties[${name}].default`, 'must not be set'))
      const wanted = name === 'metadata' ? 'object' : 'string'
      if (property.type !== undefined && property.type !== wanted) {
        this.#add(invalidValue(`${field}.properties[${name}].type`, property.type, `must be ${wanted}`))
      }
    }
  }

  /** A schema inside a logical one: it tells values apart, and names only what the structure has. */
  #valueSchema(inner: SchemaDocument, shape: SchemaDocument | undefined, field: string, holder: SchemaDocument, depth: number): void {
    if (!this.#counts(field, depth)) return
    this.#unsupported(inner, field)
    this.#values(inner, field)
    const isIntOrString = holder['x-kubernetes-int-or-string'] === true
    for (const name of structural) {
      if (inner[name] === undefined || (name === 'type' && isIntOrString)) continue
      this.#add(forbiddenValue(`${field}.${name}`, 'must be empty to be structural'))
    }
    for (const [name, property] of Object.entries(inner.properties ?? {})) {
      const known = shape === undefined ? undefined : memberShape(shape, name)
      if (known === undefined) {
        this.#add(requiredValue(`${outerField(field)}.properties[${name}]`, `because it is defined in ${field}.properties[${name}]`))
      }
      this.#valueSchema(property, known, `${field}.properties[${name}]`, {}, depth + 1)
    }
    const items = itemsOf(inner)
    if (items !== undefined) {
      const known = shape === undefined ? undefined : itemsOf(shape)
      if (known === undefined) this.#add(requiredValue(`${outerField(field)}.items`, `because it is defined in ${field}.items`))
      this.#valueSchema(items, known, `${field}.items`, {}, depth + 1)
    }
    for (const junctor of junctors) {
      for (const [i, next] of (inner[junctor] ?? []).entries()) {
        this.#valueSchema(next, shape, `${field}.${junctor}[${i}]`, holder, depth + 1)
      }
    }
    if (inner.not !== undefined) this.#valueSchema(inner.not, shape, `${field}.not`, holder, depth + 1)
  }

  /** Every default is what its own schema takes. */
  defaults(schema: SchemaDocument, field: string): void {
    if (schema.default !== undefined) this.#default(schema, schema.default, `${field}.default`)
    for (const [name, property] of Object.entries(schema.properties ?? {})) this.defaults(property, `${field}.properties[${name}]`)
    const { additionalProperties } = schema
    if (additionalProperties !== undefined && typeof additionalProperties !== 'boolean') {
      this.defaults(additionalProperties, `${field}.additionalProperties`)
    }
    const items = itemsOf(schema)
    if (items !== undefined) this.defaults(items, `${field}.items`)
  }

  #default(schema: SchemaDocument, given: Json, field: string): void {
    const compiled = compileSchema(schema)
    const value = structuredClone(given)
    if (prune(value, compiled, 1).length > 0) {
      this.#add(invalidValue(field, given, 'must not have unknown fields'))
      return
    }
    setDefaults(value, compiled, this.#allowance)
    this.#add(...instanceCauses(value, compiled, '', this.#toldMax).map(cause =>
      ({ ...cause, field: cause.field === '' ? field : `${field}.${cause.field}` })))
  }
}

function memberShape(shape: SchemaDocument, name: string): SchemaDocument | undefined {
  if (Object.hasOwn(shape.properties ?? {}, name)) return shape.properties![name]
  const { additionalProperties } = shape
  return typeof additionalProperties === 'object' ? additionalProperties : undefined
}

/** The path without the logical steps in it: where the structure would be. */
const outerField = (field: string): string => field.replaceAll(/\.(allOf|anyOf|oneOf)\[\d+\]|\.not(?=\.|$)/g, '')

/** Paths of rules in CEL, which are kept and not applied. */
export function ruledPaths(schema: SchemaDocument, field: string): string[] {
  const rules = schema['x-kubernetes-validations'] ?? []
  const { additionalProperties } = schema
  const items = itemsOf(schema)
  return [
    ...rules.length > 0 ? [`${field}.x-kubernetes-validations`] : [],
    ...Object.entries(schema.properties ?? {}).flatMap(([name, property]) => ruledPaths(property, `${field}.properties[${name}]`)),
    ...typeof additionalProperties === 'object' ? ruledPaths(additionalProperties, `${field}.additionalProperties`) : [],
    ...items === undefined ? [] : ruledPaths(items, `${field}.items`)
  ]
}
