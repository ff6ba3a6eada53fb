import { eachCause } from '../kinds/each-cause.ts'
import { equalJson } from '../object-store-equality.ts'
import type { KubeObject } from '../object.ts'
import type { StatusCause } from '../status-error.ts'
import { duplicateValue, forbiddenValue, invalidValue, requiredValue, unsupportedValue } from '../validation/causes.ts'
import { dns1035LabelErrors, dns1123SubdomainErrors } from '../validation/names.ts'
import {
  isEstablished, specOf, statusOf, type DefinitionColumn, type DefinitionNames, type DefinitionSpec, type DefinitionVersion
} from './definition.ts'
import { JsonPath, JsonPathError } from './json-path.ts'
import { crdLimits } from './limits.ts'
import { structuralCauses } from './structural-causes.ts'
import type { SchemaDocument } from './structural-schema.ts'

/** Where each part of a version is told: the real server lifts what all versions have in common to the spec. */
export interface VersionFields {
  readonly schema: string
  readonly subresources: string
  readonly columns: string
  readonly selectableFields: string
}

export function versionFields({ versions = [] }: DefinitionSpec): VersionFields[] {
  const isCommon = (part: (version: DefinitionVersion) => unknown): boolean =>
    versions.every(version => equalJson(part(version) ?? null, part(versions[0]!) ?? null))
  const common = {
    schema: isCommon(({ schema }) => schema),
    subresources: isCommon(({ subresources }) => subresources),
    columns: isCommon(({ additionalPrinterColumns }) => additionalPrinterColumns),
    selectableFields: isCommon(({ selectableFields }) => selectableFields)
  }
  return versions.map((_, i) => ({
    schema: common.schema ? 'spec.validation.openAPIV3Schema' : `spec.versions[${i}].schema.openAPIV3Schema`,
    subresources: common.subresources ? 'spec.subresources' : `spec.versions[${i}].subresources`,
    columns: common.columns ? 'spec.additionalPrinterColumns' : `spec.versions[${i}].additionalPrinterColumns`,
    selectableFields: common.selectableFields ? 'spec.selectableFields' : `spec.versions[${i}].selectableFields`
  }))
}

/**
 * What is wrong with a definition beyond its metadata, at most `toldMax` causes (apiextensions-apiserver,
 * pkg/apis/apiextensions/validation). A schema that an update leaves as it was is not checked again. In the groups that are
 * served anyway nothing can be defined: what was removed with a definition would be the server's own.
 */
export function definitionCauses(
  definition: KubeObject, current: KubeObject | undefined, builtInGroups: ReadonlySet<string>, toldMax: number
): StatusCause[] {
  const spec = specOf(definition)
  const causes: StatusCause[] = [
    ...nameCauses(definition, spec),
    ...groupCauses(definition, spec, builtInGroups),
    ...scopeCauses(spec),
    ...namesCauses(spec.names ?? {}),
    ...conversionCauses(spec),
    ...versionsCauses(spec, current === undefined ? undefined : specOf(current), toldMax),
    ...statusCauses(definition, spec),
    ...current === undefined ? [] : changeCauses(definition, current)
  ]
  return dedupe(causes).slice(0, toldMax)
}

/** Versions that share a part share its faults. */
function dedupe(causes: readonly StatusCause[]): StatusCause[] {
  return [...new Map(causes.map(cause => [JSON.stringify(cause), cause])).values()]
}

/** The name of a definition is `<plural>.<group>`. */
function nameCauses({ metadata: { name = '' } }: KubeObject, { group = '', names = {} }: DefinitionSpec): StatusCause[] {
  return name === '' || name === `${names.plural ?? ''}.${group}` ? []
    : [invalidValue('metadata.name', name, 'must be spec.names.plural+"."+spec.group')]
}

const approvalAnnotation = 'api-approved.kubernetes.io'

function groupCauses(
  { metadata: { annotations = {} } }: KubeObject, { group = '' }: DefinitionSpec, builtInGroups: ReadonlySet<string>
): StatusCause[] {
  const field = 'spec.group'
  if (group === '') return [requiredValue(field)]
  const errors = dns1123SubdomainErrors(group).map(error => invalidValue(field, group, error))
  if (errors.length > 0) return errors
  if (!group.includes('.')) return [invalidValue(field, group, 'should be a domain with at least one dot')]
  if (builtInGroups.has(group)) return [forbiddenValue(field, 'this group is served by the server itself')]
  const isProtected = /(^|\.)(k8s|kubernetes)\.io$/.test(group)
  const approval = Object.hasOwn(annotations, approvalAnnotation) ? annotations[approvalAnnotation]! : ''
  return isProtected && !/^(https?:\/\/|unapproved)/.test(approval)
    ? [requiredValue(`metadata.annotations[${approvalAnnotation}]`,
        'protected groups must have approval annotation "api-approved.kubernetes.io", see https://github.com/kubernetes/enhancements/pull/1111')]
    : []
}

function scopeCauses({ scope = '' }: DefinitionSpec): StatusCause[] {
  if (scope === '') return [requiredValue('spec.scope')]
  return scope === 'Cluster' || scope === 'Namespaced' ? [] : [unsupportedValue('spec.scope', scope, ['Cluster', 'Namespaced'])]
}

function namesCauses(names: Partial<DefinitionNames>): StatusCause[] {
  const { plural = '', singular = '', kind = '', listKind = '', shortNames = [], categories = [] } = names
  const label = (field: string, name: string, text = name): StatusCause[] =>
    dns1035LabelErrors(text).map(error => invalidValue(field, name, error))
  const mixedCase = (field: string, name: string): StatusCause[] => name === '' ? [requiredValue(field)]
    : dns1035LabelErrors(name.toLowerCase()).map(error =>
        invalidValue(field, name, `may have mixed case, but should otherwise match: ${error}`))
  return [
    ...plural === '' ? [requiredValue('spec.names.plural')] : label('spec.names.plural', plural),
    ...singular === '' ? [] : label('spec.names.singular', singular),
    ...mixedCase('spec.names.kind', kind),
    ...mixedCase('spec.names.listKind', listKind),
    ...kind !== '' && kind === listKind
      ? [invalidValue('spec.names.listKind', listKind, 'kind and listKind may not be the same')] : [],
    ...eachCause(shortNames, (name, i) => label(`spec.names.shortNames[${i}]`, name)),
    ...eachCause(categories, (name, i) => label(`spec.names.categories[${i}]`, name))
  ]
}

/** There is nothing here to call a webhook. */
function conversionCauses({ conversion = {}, preserveUnknownFields = false }: DefinitionSpec): StatusCause[] {
  const { strategy = '' } = conversion
  return [
    ...strategy === 'None' ? [] : [unsupportedValue('spec.conversion.strategy', strategy, ['None'])],
    ...strategy === 'None' && conversion.webhook !== undefined
      ? [forbiddenValue('spec.conversion.webhook', 'should not be set when strategy is not set to Webhook')] : [],
    ...preserveUnknownFields
      ? [invalidValue('spec.preserveUnknownFields', true,
          'cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead')]
      : []
  ]
}

function versionsCauses(spec: DefinitionSpec, current: DefinitionSpec | undefined, toldMax: number): StatusCause[] {
  const { versions = [] } = spec
  const causes: StatusCause[] = []
  if (versions.length === 0) return [requiredValue('spec.versions', 'must have at least one version')]
  const names = new Set<string>()
  const fields = versionFields(spec)
  for (const [i, version] of versions.entries()) {
    if (causes.length >= toldMax) break
    const { name = '' } = version
    const at = `spec.versions[${i}]`
    for (const error of dns1035LabelErrors(name)) causes.push(invalidValue(`${at}.name`, name, error))
    if (names.has(name)) causes.push(invalidValue('spec.versions', name, 'must contain unique version names'))
    names.add(name)
    if (version.deprecationWarning !== undefined) causes.push(...deprecationCauses(version, at))
    const before = current?.versions?.find(other => other.name === name)
    causes.push(...versionCauses(version, before, at, fields[i]!, toldMax))
  }
  const stored = versions.filter(({ storage }) => storage === true).length
  if (stored !== 1) causes.push(invalidValue('spec.versions', stored, 'must have exactly one version marked as storage version'))
  return causes
}

function deprecationCauses({ deprecated = false, deprecationWarning = '' }: DefinitionVersion, at: string): StatusCause[] {
  const field = `${at}.deprecationWarning`
  if (!deprecated) return [invalidValue(field, deprecationWarning, 'can only be set for deprecated versions')]
  if (deprecationWarning === '') return [invalidValue(field, deprecationWarning, 'must not be an empty string')]
  if (/[^\P{C}]/u.test(deprecationWarning)) {
    return [invalidValue(field, deprecationWarning, 'must only contain printable UTF-8 characters')]
  }
  return Buffer.byteLength(deprecationWarning) > 256
    ? [invalidValue(field, deprecationWarning, 'must be <= 256 bytes')] : []
}

function versionCauses(
  version: DefinitionVersion, before: DefinitionVersion | undefined, at: string, fields: VersionFields, toldMax: number
): StatusCause[] {
  const schema = version.schema?.openAPIV3Schema
  const isSame = schema !== undefined && before?.schema?.openAPIV3Schema !== undefined && equalJson(schema, before.schema.openAPIV3Schema)
  return [
    ...schema === undefined ? [requiredValue(`${at}.schema.openAPIV3Schema`, 'schemas are required')]
      : isSame ? [] : structuralCauses(schema, fields.schema, toldMax),
    ...subresourceCauses(version, fields.subresources),
    ...eachCause(version.additionalPrinterColumns ?? [], (column, i) => columnCauses(column, `${fields.columns}[${i}]`)),
    ...selectableCauses(version, schema, fields.selectableFields)
  ]
}

function subresourceCauses({ subresources }: DefinitionVersion, field: string): StatusCause[] {
  const scale = subresources?.scale
  if (scale === undefined) return []
  const path = (name: 'specReplicasPath' | 'statusReplicasPath' | 'labelSelectorPath', below: readonly string[]): StatusCause[] => {
    const text = scale[name] ?? ''
    const at = `${field}.scale.${name}`
    if (text === '') return name === 'labelSelectorPath' ? [] : [requiredValue(at)]
    const first = membersOf(text)?.[0]
    if (first === undefined) return [invalidValue(at, text, 'should be a simple json path: only .member notation')]
    if (below.includes(first)) return []
    return [invalidValue(at, text, `should be a json path under ${below.map(member => `.${member}`).join(' or ')}`)]
  }
  return [
    ...path('specReplicasPath', ['spec']), ...path('statusReplicasPath', ['status']), ...path('labelSelectorPath', ['spec', 'status'])
  ]
}

/** Undefined where the path is none, or more than members. */
function membersOf(text: string): readonly string[] | undefined {
  try {
    return new JsonPath(text).members
  } catch (error) {
    if (error instanceof JsonPathError) return undefined
    throw error
  }
}

const columnTypes = ['boolean', 'date', 'integer', 'number', 'string']
const columnFormats = ['byte', 'date', 'date-time', 'double', 'float', 'int32', 'int64', 'password']

function columnCauses({ name = '', type = '', format = '', jsonPath = '' }: DefinitionColumn, field: string): StatusCause[] {
  const causes: StatusCause[] = []
  if (name === '') causes.push(requiredValue(`${field}.name`))
  if (type === '') causes.push(requiredValue(`${field}.type`, `must be one of ${columnTypes.join(',')}`))
  else if (!columnTypes.includes(type)) causes.push(invalidValue(`${field}.type`, type, `must be one of ${columnTypes.join(',')}`))
  if (format !== '' && !columnFormats.includes(format)) {
    causes.push(invalidValue(`${field}.format`, format, `must be one of ${columnFormats.join(',')}`))
  }
  if (jsonPath === '') return [...causes, requiredValue(`${field}.jsonPath`)]
  return [...causes, ...pathCauses(jsonPath, `${field}.jsonPath`)]
}

function pathCauses(text: string, field: string): StatusCause[] {
  try {
    new JsonPath(text)
    return []
  } catch (error) {
    if (error instanceof JsonPathError) return [invalidValue(field, text, `is an invalid path: ${error.message}`)]
    throw error
  }
}

function selectableCauses(
  { selectableFields = [] }: DefinitionVersion, schema: SchemaDocument | undefined, field: string
): StatusCause[] {
  if (selectableFields.length === 0) return []
  if (schema === undefined) {
    return [invalidValue(field, '', 'selectableFields may only be set when validations.schema is included')]
  }
  const fieldsMax = crdLimits.selectableFields.value
  if (selectableFields.length > fieldsMax) {
    return [{
      reason: 'FieldValueTooMany', message: `Too many: ${selectableFields.length}: must have at most ${fieldsMax} items`, field
    }]
  }
  const seen = new Set<string>()
  return eachCause(selectableFields, ({ jsonPath = '' }, i) => {
    const at = `${field}[${i}].jsonPath`
    if (jsonPath === '') return [requiredValue(at)]
    if (seen.has(jsonPath)) return [duplicateValue(at, jsonPath)]
    seen.add(jsonPath)
    const members = membersOf(jsonPath)
    if (members === undefined) return [invalidValue(at, jsonPath, 'is an invalid path: must be a simple path of members')]
    if (members[0] === 'metadata') return [invalidValue(at, jsonPath, 'must not point to fields in metadata')]
    let shape: SchemaDocument | undefined = schema
    for (const name of members) {
      shape = Object.hasOwn(shape?.properties ?? {}, name) ? shape!.properties![name] : undefined
    }
    if (shape === undefined) return [invalidValue(at, jsonPath, 'is an invalid path: does not refer to a valid field')]
    return ['string', 'integer', 'boolean'].includes(shape.type ?? '') ? []
      : [invalidValue(at, jsonPath, 'must point to a field of type string, boolean or integer. Enum string fields and strings with '
        + 'formats are allowed.')]
  })
}

function statusCauses(definition: KubeObject, { versions = [] }: DefinitionSpec): StatusCause[] {
  const stored = statusOf(definition).storedVersions ?? []
  if (stored.length === 0) return [invalidValue('status.storedVersions', [], 'must have at least one stored version')]
  const names = new Set(versions.map(({ name = '' }) => name))
  const storage = versions.find(version => version.storage === true)?.name
  return [
    ...eachCause(stored, (name, i) => names.has(name) ? []
      : [invalidValue(`status.storedVersions[${i}]`, name, `missing from spec.versions; ${name} was previously a storage version, `
        + 'and must remain in spec.versions until a storage migration ensures no data remains persisted in it and removes it from '
        + 'status.storedVersions')]),
    ...storage !== undefined && !stored.includes(storage)
      ? [invalidValue('status.storedVersions', [...stored], `must have the storage version ${storage}`)] : []
  ]
}

function changeCauses(definition: KubeObject, current: KubeObject): StatusCause[] {
  const [next, before] = [specOf(definition), specOf(current)]
  const fixed = (field: string, value: string | undefined, was: string | undefined): StatusCause[] =>
    value === was ? [] : [invalidValue(field, value ?? '', 'field is immutable')]
  return [
    ...isEstablished(current)
      ? [...fixed('spec.scope', next.scope, before.scope), ...fixed('spec.names.kind', next.names?.kind, before.names?.kind)] : [],
    ...fixed('spec.group', next.group, before.group),
    ...fixed('spec.names.plural', next.names?.plural, before.names?.plural)
  ]
}
