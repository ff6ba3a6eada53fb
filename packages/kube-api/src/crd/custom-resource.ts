import { apiVersionOf, decodeMetadata, documentKind, fieldWarnings } from '../kinds/decode.ts'
import { ageColumn, nameColumn } from '../kinds/built-in-resource.ts'
import { kindLimits } from '../kinds/limits.ts'
import { ageText, parseTimestamp } from '../kinds/timestamps.ts'
import {
  objectMetadataCauses, prepareMetadataForCreate, prepareMetadataForUpdate, raiseGeneration
} from '../meta-rules.ts'
import { equalJson } from '../object-store-equality.ts'
import type { Json, JsonObject, KubeObject } from '../object.ts'
import { copyJson, setMember } from '../patch/json-values.ts'
import type { PrinterColumn, Resource } from '../resource.ts'
import { StatusError } from '../status-error.ts'
import { invalidObject, invalidValue, quote } from '../validation/causes.ts'
import { dns1123SubdomainErrors } from '../validation/names.ts'
import { specOf, statusOf, type DefinitionColumn, type DefinitionVersion } from './definition.ts'
import { instanceCauses } from './instance-causes.ts'
import { JsonPath } from './json-path.ts'
import { prune, setDefaults } from './pruning.ts'
import { compileSchema, type StructuralSchema } from './structural-schema.ts'

/** In the order of the real server. */
const verbs = ['delete', 'deletecollection', 'get', 'list', 'patch', 'create', 'update', 'watch'] as const

const ageOfObject: DefinitionColumn =
  { name: 'Age', type: 'date', description: ageColumn.description, jsonPath: '.metadata.creationTimestamp' }

/** A column and where its cells come from. */
interface CustomColumn { readonly column: PrinterColumn, readonly path: JsonPath }

/**
 * What an established definition describes, under one of its versions: names as they were accepted. The scale subresource is
 * not served. The definition has been checked (definition-causes.ts).
 */
export function customResource(definition: KubeObject, version: DefinitionVersion): Resource {
  const { group = '', scope } = specOf(definition)
  const { plural = '', singular = '', kind = '', listKind = '', shortNames = [], categories = [] } = statusOf(definition).acceptedNames
  const identity = { group, version: version.name ?? '', kind }
  let compiled: StructuralSchema | undefined
  // When it is needed: a definition that nobody uses costs no more than its text.
  const schema = (): StructuralSchema => compiled ??= compileSchema(version.schema?.openAPIV3Schema ?? {})
  const hasStatus = version.subresources?.status !== undefined
  const columns = customColumns(version)
  const selectable = (version.selectableFields ?? []).map(({ jsonPath = '' }) =>
    ({ name: jsonPath.replace(/^\./, ''), path: new JsonPath(jsonPath) }))
  const metadataRules = { namespaced: scope === 'Namespaced', nameErrors: dns1123SubdomainErrors, finalizersQualified: false }
  return {
    ...identity, plural, singular, listKind, shortNames, categories, namespaced: scope === 'Namespaced', verbs,
    subresources: hasStatus ? ['status'] : [], columns: [nameColumn, ...columns.map(({ column }) => column)], mergeSchema: undefined,
    allowsUnconditionalUpdate: false, allowsCreateOnUpdate: false,
    cells: (object, nowMs) => [object.metadata.name ?? '', ...columns.map(column => cellOf(column, object, nowMs))],
    decode: (document, mode, duplicateFields = []) => {
      const { object, named, unknownFields } = decodeCustom(identity, schema(), document)
      const faults = [
        ...duplicateFields.map(path => `duplicate field ${quote(path)}`), ...unknownFields.map(path => `unknown field ${quote(path)}`)
      ]
      return { object, warnings: fieldWarnings(named, mode, faults) }
    },
    prepareForCreate(object) {
      prepareMetadataForCreate(object.metadata)
      object.metadata.generation = 1
      if (hasStatus) delete object['status']
    },
    prepareForUpdate(next, current, subresource) {
      prepareMetadataForUpdate(next.metadata, current.metadata)
      if (subresource === 'status') {
        keepAllButStatus(next, current)
        return
      }
      if (hasStatus) keepMember(next, current, 'status')
      raiseGeneration(next, current, !equalJson(withoutMetadata(next), withoutMetadata(current)))
    },
    validate: (object, current) => {
      const toldMax = kindLimits.toldCausesMax.value
      return [
        ...objectMetadataCauses(object, current, metadataRules),
        ...instanceCauses(object as unknown as JsonObject, schema(), '', toldMax, current as unknown as JsonObject | undefined)
      ].slice(0, toldMax)
    },
    selectableFields: object => Object.fromEntries(selectable.map(({ name, path }) => {
      const [value] = path.find(object)
      return [name, value === undefined || value === null ? '' : typeof value === 'string' ? value : JSON.stringify(value)]
    }))
  }
}

const rootMembers: ReadonlySet<string> = new Set(['apiVersion', 'kind', 'metadata'])

interface Identity { readonly group: string, readonly version: string, readonly kind: string }

interface DecodedCustom {
  readonly object: KubeObject
  readonly named: ReturnType<typeof documentKind>
  readonly unknownFields: readonly string[]
}

/** Checks what the document says it is, prunes it and fills in its defaults. */
function decodeCustom(identity: Identity, schema: StructuralSchema, document: Json): DecodedCustom {
  const named = documentKind(document, identity)
  const given = named.document
  const apiVersion = apiVersionOf(identity)
  if (!Object.hasOwn(given, 'kind') || given['kind'] === '' || given['kind'] === null) {
    const text = JSON.stringify(given)
    throw new StatusError(400, 'BadRequest', `the object provided is unrecognized (must be of type ${identity.kind}): Object 'Kind' is `
      + `missing in '${text.slice(0, 1024)}'`)
  }
  const givenVersion = Object.hasOwn(given, 'apiVersion') ? named.apiVersion : ''
  if (givenVersion !== apiVersion) {
    throw new StatusError(400, 'BadRequest',
      `the API version in the data (${givenVersion}) does not match the expected API version (${apiVersion})`)
  }
  const { metadata, unknownFields } = decodeMetadata(Object.hasOwn(given, 'metadata') ? given['metadata']! : null, named)
  if (named.kind !== identity.kind) {
    throw invalidObject({ group: identity.group, kind: named.kind }, metadata.name ?? '',
      [invalidValue('kind', named.kind, `must be ${identity.kind}`)])
  }
  // What a schema says of these three is checked, and changes nothing in them.
  const rest: JsonObject = {}
  for (const [name, value] of Object.entries(given)) if (!rootMembers.has(name)) setMember(rest, name, copyJson(value))
  const pruned = prune(rest, schema, kindLimits.toldFieldsMax.value)
  setDefaults(rest, schema)
  for (const name of rootMembers) delete rest[name]
  return {
    object: { apiVersion, kind: identity.kind, metadata, ...rest }, named,
    unknownFields: [...unknownFields, ...pruned].toSorted()
  }
}

function keepMember(target: KubeObject, source: KubeObject, name: string): void {
  if (source[name] === undefined) delete target[name]
  else target[name] = source[name]
}

/** A write through the status subresource changes nothing else. */
function keepAllButStatus(next: KubeObject, current: KubeObject): void {
  const { resourceVersion, uid } = next.metadata
  for (const name of Object.keys(next)) if (name !== 'status') keepMember(next, current, name)
  for (const name of Object.keys(current)) if (name !== 'status') next[name] = current[name]
  next.metadata = { ...current.metadata }
  if (resourceVersion !== undefined) next.metadata.resourceVersion = resourceVersion
  if (uid !== undefined) next.metadata.uid = uid
}

/** What the generation counts. */
function withoutMetadata({ metadata: _metadata, apiVersion: _apiVersion, ...rest }: KubeObject): unknown { return rest }

function customColumns({ additionalPrinterColumns = [] }: DefinitionVersion): CustomColumn[] {
  const columns = additionalPrinterColumns.length === 0 ? [ageOfObject] : additionalPrinterColumns
  return columns.map(({ name = '', type = 'string', format = '', description = '', priority = 0, jsonPath = '' }) => ({
    column: {
      name, type: type as PrinterColumn['type'], format, priority,
      description: description === '' ? `Custom resource definition column (in JSONPath format): ${jsonPath}` : description
    },
    path: new JsonPath(jsonPath)
  }))
}

/** As apiextensions-apiserver, pkg/registry/customresource/tableconvertor, makes it: null where there is nothing to show. */
function cellOf({ column: { type }, path }: CustomColumn, object: KubeObject, nowMs: number): Json {
  const [value] = path.find(object)
  if (value === undefined || value === null) return null
  switch (type) {
    case 'integer': return typeof value === 'number' ? Math.trunc(value) : null
    case 'number': return typeof value === 'number' ? value : null
    case 'boolean': return typeof value === 'boolean' ? value : null
    case 'string': return typeof value === 'string' ? value : JSON.stringify(value)
    case 'date':
      if (typeof value !== 'string') return null
      return parseTimestamp(value) === undefined ? '<invalid>' : ageText(value, nowMs)
  }
}
