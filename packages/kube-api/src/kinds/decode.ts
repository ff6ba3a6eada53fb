import type { Json, JsonObject, KubeObject, ObjectMeta } from '../object.ts'
import { canonicalQuantity, QuantityError } from '../quantity.ts'
import type { DecodedObject, FieldValidation } from '../resource.ts'
import { StatusError } from '../status-error.ts'
import { quote } from '../validation/causes.ts'
import { definitionTypes } from '../crd/definition-types.ts'
import { kindTypes } from './kind-types.ts'
import { kindLimits } from './limits.ts'
import { microTimeText, parseTimestamp, timeText } from './timestamps.ts'

const toldFieldsMax = kindLimits.toldFieldsMax.value

interface FieldType {
  readonly shape: 'single' | 'list' | 'map'
  /** A scalar's, or that of a type in the table. */
  readonly name: string
  /** An empty string, zero or false is the same as absence. */
  readonly zeroLeftOut: boolean
}

type ObjectType = ReadonlyMap<string, FieldType>

const scalarTypes: ReadonlySet<string> = new Set([
  'string', 'int32', 'int64', 'number', 'boolean', 'date-time', 'micro-time', 'bytes', 'quantity', 'int-or-string', 'any',
  'schema-or-boolean', 'schema-or-list'
])

function parseFieldType(text: string): FieldType {
  const prefix = text.slice(0, 2)
  const shape = prefix === '[]' ? 'list' : prefix === '{}' ? 'map' : 'single'
  const name = (shape === 'single' ? text : text.slice(2)).replace('?', '')
  return { shape, name, zeroLeftOut: text.endsWith('?') }
}

const types: ReadonlyMap<string, ObjectType> = new Map(Object.entries({ ...kindTypes, ...definitionTypes }).map(([name, fields]) =>
  [name, new Map(Object.entries(fields).map(([field, type]) => [field, parseFieldType(type)]))]))

/** What is wrong with a document's form. Its text is what follows `… cannot be handled as a …: `. */
class FormError extends Error {}

const isObject = (value: Json): value is JsonObject => typeof value === 'object' && value !== null && !Array.isArray(value)

function jsonTypeOf(value: Json): string {
  if (Array.isArray(value)) return 'array'
  return typeof value === 'boolean' ? 'bool' : typeof value
}

/** Where in a document a decoder is; paths are made only where they are told. */
interface Position {
  readonly parent: Position | undefined
  /** `.name`, `[0]` or `[key]`. */
  readonly step: string
  /** Name in Go of the innermost object's type. */
  readonly owner: string
}

function pathOf(position: Position, withIndexes: boolean): string {
  const steps: string[] = []
  for (let at: Position | undefined = position; at !== undefined; at = at.parent) {
    if (withIndexes || at.step.startsWith('.')) steps.push(at.step)
  }
  return steps.toReversed().join('').replace(/^\./, '')
}

/** Reads one document by the table of types. */
class Decoder {
  readonly unknownFields: string[] = []
  readonly #collectsUnknown: boolean

  constructor(collectsUnknown: boolean) {
    this.#collectsUnknown = collectsUnknown
  }

  /** Members in the order of the table, whatever the order in the document: how somebody writes does not show. */
  object(typeName: string, value: JsonObject, parent: Position | undefined): JsonObject {
    const type = types.get(typeName)!
    const members = new Map<string, Json>()
    // In the order of the document: that is the order in which faults are told.
    for (const name of Object.keys(value)) {
      const field = type.get(name)
      const position = { parent, step: `.${name}`, owner: typeName }
      if (field === undefined) {
        if (this.#collectsUnknown && this.unknownFields.length < toldFieldsMax) this.unknownFields.push(pathOf(position, true))
        continue
      }
      const decoded = value[name] === null ? undefined : this.#field(field, value[name]!, position)
      if (decoded !== undefined) members.set(name, decoded)
    }
    const result: JsonObject = {}
    for (const name of type.keys()) {
      const decoded = members.get(name)
      if (decoded !== undefined) result[name] = decoded
    }
    return result
  }

  #field(field: FieldType, value: Json, position: Position): Json | undefined {
    const { name, shape } = field
    switch (shape) {
      case 'single': {
        const decoded = this.#single(name, value, position)
        return field.zeroLeftOut && (decoded === '' || decoded === 0 || decoded === false) ? undefined : decoded
      }
      case 'list': {
        if (!Array.isArray(value)) throw this.#mismatch(value, `[]${goType(name)}`, position)
        const decoded = value.map((element, i) =>
          this.#element(name, element, { parent: position, step: `[${i}]`, owner: position.owner }))
        return decoded.length === 0 ? undefined : decoded
      }
      case 'map': {
        if (!isObject(value)) throw this.#mismatch(value, `map[string]${goType(name)}`, position)
        const entries = Object.keys(value).toSorted().map((key): [string, Json] =>
          [key, this.#element(name, value[key]!, { parent: position, step: `[${key}]`, owner: position.owner })])
        // fromEntries defines members of its own, also one that is called __proto__.
        return entries.length === 0 ? undefined : Object.fromEntries(entries)
      }
    }
  }

  /** `null` in a list or a map is the type's zero, as it is for Go. */
  #element(name: string, value: Json, position: Position): Json {
    if (value !== null) return this.#single(name, value, position)
    if (name === 'any') return null
    if (!scalarTypes.has(name)) return {}
    if (name === 'boolean') return false
    return name === 'int32' || name === 'int64' || name === 'number' || name === 'int-or-string' ? 0 : name === 'quantity' ? '0' : ''
  }

  #single(name: string, value: Json, position: Position): Json {
    switch (name) {
      case 'string':
        if (typeof value !== 'string') throw this.#mismatch(value, 'string', position)
        return value
      case 'boolean':
        if (typeof value !== 'boolean') throw this.#mismatch(value, 'bool', position)
        return value
      case 'int32':
      case 'int64':
        return this.#integer(name, value, position)
      case 'number':
        if (typeof value !== 'number') throw this.#mismatch(value, 'float64', position)
        return value
      case 'int-or-string':
        return typeof value === 'string' ? value : this.#integer('int32', value, position)
      case 'date-time':
        return timeText(this.#time(value, position))
      case 'micro-time':
        return microTimeText(this.#time(value, position))
      case 'bytes':
        if (typeof value !== 'string') throw this.#mismatch(value, '[]uint8', position)
        return canonicalBase64(value)
      case 'quantity':
        return quantityText(value)
      case 'any':
        return value
      case 'schema-or-boolean':
        if (typeof value === 'boolean') return value
        return this.#single('JSONSchemaProps', value, position)
      case 'schema-or-list':
        if (Array.isArray(value)) {
          return value.map((element, i) =>
            this.#element('JSONSchemaProps', element, { parent: position, step: `[${i}]`, owner: position.owner }))
        }
        return this.#single('JSONSchemaProps', value, position)
      default:
        if (!isObject(value)) throw this.#mismatch(value, goType(name), position)
        return this.object(name, value, position)
    }
  }

  #integer(name: 'int32' | 'int64', value: Json, position: Position): number {
    if (typeof value !== 'number') throw this.#mismatch(value, name, position)
    const fits = name === 'int32' ? value === (value | 0) : Number.isInteger(value) && Math.abs(value) < 2 ** 63
    // `-0` is not an integer of its own.
    if (fits) return value === 0 ? 0 : value
    throw this.#mismatch(value, name, position, ` ${value}`)
  }

  #time(value: Json, position: Position): NonNullable<ReturnType<typeof parseTimestamp>> {
    if (typeof value !== 'string') throw this.#mismatch(value, 'string', position)
    const parsed = parseTimestamp(value)
    if (parsed !== undefined) return parsed
    throw new FormError(`parsing time ${quote(value)} as "2006-01-02T15:04:05Z07:00": cannot parse ${quote(value)} as "2006"`)
  }

  #mismatch(value: Json, expected: string, position: Position, shown = ''): FormError {
    return new FormError(`json: cannot unmarshal ${jsonTypeOf(value)}${shown} into Go struct field ${
      position.owner}.${pathOf(position, false)} of type ${expected}`)
  }
}

function goType(name: string): string {
  switch (name) {
    case 'boolean': return 'bool'
    case 'number': return 'float64'
    case 'bytes': return '[]uint8'
    case 'date-time': return 'v1.Time'
    case 'micro-time': return 'v1.MicroTime'
    case 'quantity': return 'resource.Quantity'
    case 'int-or-string': return 'intstr.IntOrString'
    default: return scalarTypes.has(name) ? name : `v1.${name}`
  }
}

function quantityText(value: Json): string {
  const text = typeof value === 'number' ? String(value) : value
  try {
    return canonicalQuantity(typeof text === 'string' ? text : '')
  } catch (error) {
    if (error instanceof QuantityError) throw new FormError(error.message)
    throw error
  }
}

/** Padded base64 of the standard alphabet; line ends in it are passed over, as Go does. */
function canonicalBase64(text: string): string {
  const foreign = /[^A-Za-z0-9+/=\r\n]/.exec(text)
  if (foreign !== null) throw new FormError(`illegal base64 data at input byte ${Buffer.byteLength(text.slice(0, foreign.index))}`)
  const digits = text.replaceAll(/[\r\n]/g, '')
  const padding = digits.indexOf('=')
  const wrong = padding !== -1 && !/^={1,2}$/.test(digits.slice(padding)) ? padding : digits.length % 4 !== 0 ? digits.length : -1
  if (wrong !== -1) throw new FormError(`illegal base64 data at input byte ${wrong}`)
  return Buffer.from(digits, 'base64').toString('base64')
}

export interface DecodedMetadata {
  readonly metadata: ObjectMeta
  /** Paths of fields that do not exist: `metadata.lables`. */
  readonly unknownFields: readonly string[]
}

/**
 * Reads `metadata` of an object of any kind, also of one that a CustomResourceDefinition describes. Throws StatusError 400
 * with the text of the real server; `document` tells kind and version for it.
 */
export function decodeMetadata(value: Json, document: DocumentKind): DecodedMetadata {
  const decoder = new Decoder(true)
  const position = { parent: undefined, step: '.metadata', owner: document.kind }
  return decodeForm(document, () => {
    if (value !== null && !isObject(value)) {
      throw new FormError(`json: cannot unmarshal ${jsonTypeOf(value)} into Go struct field ${document.kind}.metadata of type `
        + 'v1.ObjectMeta')
    }
    const metadata = decoder.object('ObjectMeta', value ?? {}, position) as ObjectMeta
    return { metadata, unknownFields: decoder.unknownFields }
  })
}

/** What a document says it is, and what it should be. */
export interface DocumentKind {
  readonly apiVersion: string
  readonly kind: string
  readonly expectedKind: string
}

const handledAs = ({ apiVersion, kind, expectedKind }: DocumentKind, why: string): StatusError => new StatusError(400, 'BadRequest',
  `${kind} in version ${quote(apiVersion.slice(apiVersion.lastIndexOf('/') + 1))} cannot be handled as a ${expectedKind}: ${why}`)

function decodeForm<T>(document: DocumentKind, decode: () => T): T {
  try {
    return decode()
  } catch (error) {
    if (error instanceof FormError) throw handledAs(document, error.message)
    throw error
  }
}

/**
 * Turns what was found wrong with a document's fields into a refusal (Strict), warnings (Warn) or nothing (Ignore), as the
 * real server words them.
 */
export function fieldWarnings(document: DocumentKind, mode: FieldValidation, faults: readonly string[]): readonly string[] {
  if (mode === 'Ignore' || faults.length === 0) return []
  const told = faults.slice(0, toldFieldsMax)
  if (mode === 'Warn') return told
  throw handledAs(document, `strict decoding error: ${told.join(', ')}`)
}

/** Kind and version that a document names, absent ones filled in. Throws StatusError 400 where they cannot be read. */
export function documentKind(
  document: Json, expected: { readonly group: string, readonly version: string, readonly kind: string }
): DocumentKind & { readonly document: JsonObject } {
  const expectedApiVersion = apiVersionOf(expected)
  const unreadable = (why: string): StatusError => new StatusError(400, 'BadRequest', 'the object provided is unrecognized '
    + `(must be of type ${expected.kind}): couldn't get version/kind; json parse error: json: cannot unmarshal ${why}`)
  if (document !== null && !isObject(document)) {
    throw unreadable(`${jsonTypeOf(document)} into Go value of type struct { APIVersion string "json:\\"apiVersion,omitempty\\""; `
      + 'Kind string "json:\\"kind,omitempty\\"" }')
  }
  const given = document ?? {}
  const text = (name: 'apiVersion' | 'kind', absent: string): string => {
    const value = Object.hasOwn(given, name) ? given[name]! : null
    if (value === null || value === '') return absent
    if (typeof value !== 'string') throw unreadable(`${jsonTypeOf(value)} into Go struct field .${name} of type string`)
    return value
  }
  return {
    document: given, apiVersion: text('apiVersion', expectedApiVersion), kind: text('kind', expected.kind), expectedKind: expected.kind
  }
}

export const apiVersionOf = ({ group, version }: { readonly group: string, readonly version: string }): string =>
  group === '' ? version : `${group}/${version}`

/** A kind that is in the table of types. */
export interface DecodedKind {
  readonly group: string
  readonly version: string
  readonly kind: string
}

/**
 * Takes in a document of a built-in kind: types are checked, unknown fields dropped and told as `mode` says, times, bytes
 * and quantities written as the real server writes them, and what means the same as absence is left out.
 *
 * `duplicateFields` are paths that the document's text has more than once (duplicate-fields.ts), which a parsed document
 * no longer shows.
 */
export function decodeBuiltIn(
  expected: DecodedKind, document: Json, mode: FieldValidation, duplicateFields: readonly string[]
): DecodedObject {
  const named = documentKind(document, expected)
  const apiVersion = apiVersionOf(expected)
  if (named.kind !== expected.kind || named.apiVersion !== apiVersion) {
    const known = named.apiVersion === 'v1' || named.apiVersion === 'coordination.k8s.io/v1'
    const goPackage = expected.group === '' ? 'core' : expected.group.split('.')[0]
    throw handledAs(named, known && types.has(named.kind)
      ? `converting (v1.${named.kind}) to (${goPackage}.${expected.kind}): unknown conversion`
      : `no kind ${quote(named.kind)} is registered for version ${quote(named.apiVersion)} in scheme `
        + '"k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30"')
  }
  const decoder = new Decoder(mode !== 'Ignore')
  const members = decodeForm(named, () => decoder.object(expected.kind, named.document, undefined))
  const faults = [
    ...duplicateFields.map(path => `duplicate field ${quote(path)}`), ...decoder.unknownFields.map(path => `unknown field ${quote(path)}`)
  ]
  const warnings = fieldWarnings(named, mode, faults)
  const { apiVersion: _apiVersion, kind: _kind, metadata, ...rest } = members
  const object: KubeObject = { apiVersion, kind: expected.kind, metadata: (metadata ?? {}) as ObjectMeta, ...rest }
  return { object, warnings }
}
