import { builtInResource, nameColumn, nameOf } from '../kinds/built-in-resource.ts'
import { kindLimits } from '../kinds/limits.ts'
import { mergeSchemas } from '../kinds/merge-schemas.ts'
import { raiseGeneration } from '../meta-rules.ts'
import { equalJson } from '../object-store-equality.ts'
import type { KubeObject } from '../object.ts'
import type { PrinterColumn, Resource, Subresource } from '../resource.ts'
import { dns1123SubdomainErrors } from '../validation/names.ts'
import { definitionCauses, versionFields } from './definition-causes.ts'
import { definitionGroup, definitionPlural, specOf, statusOf, storageVersionOf } from './definition.ts'
import { markDeleted } from './crd-lifecycle.ts'
import { numberFormats, textFormats } from './formats.ts'
import { ruledPaths } from './structural-causes.ts'
import { itemsOf, type SchemaDocument } from './structural-schema.ts'

const createdAtColumn: PrinterColumn = {
  name: 'Created At', type: 'date', format: '', priority: 0,
  description: 'CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to '
    + 'be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 '
    + 'form and is in UTC.'
}

function setDefaults(object: KubeObject): void {
  const spec = specOf(object)
  object['spec'] = spec
  spec.group ??= ''
  spec.scope ??= ''
  const { plural = '', kind = '', singular, shortNames, listKind, categories } = spec.names ?? {}
  spec.names = {
    plural,
    singular: singular ?? kind.toLowerCase(),
    ...shortNames !== undefined && { shortNames },
    kind,
    listKind: listKind ?? (kind === '' ? '' : `${kind}List`),
    ...categories !== undefined && { categories }
  }
  spec.conversion = { ...spec.conversion, strategy: spec.conversion?.strategy ?? 'None' }
  for (const version of spec.versions ?? []) {
    version.served ??= false
    version.storage ??= false
  }
  if (object['status'] !== undefined) object['status'] = statusOf(object)
}

function prepareForCreate(object: KubeObject): void {
  object.metadata.generation = 1
  const version = storageVersionOf(specOf(object))
  const storedVersions = version === undefined ? null : [version]
  object['status'] = { conditions: null, acceptedNames: { plural: '', kind: '' }, storedVersions }
}

function prepareForUpdate(next: KubeObject, current: KubeObject, subresource: Subresource | undefined): void {
  if (subresource === 'status') {
    const { labels, annotations, finalizers, ownerReferences } = current.metadata
    next['spec'] = current['spec']
    for (const [name, value] of Object.entries({ labels, annotations, finalizers, ownerReferences })) {
      if (value === undefined) delete next.metadata[name as 'labels']
      else next.metadata[name as 'labels'] = value as Record<string, string>
    }
    next['status'] = statusOf(next)
    return
  }
  const status = statusOf(current)
  const version = storageVersionOf(specOf(next))
  const storedVersions = status.storedVersions ?? []
  next['status'] = version === undefined || storedVersions.includes(version)
    ? status : { ...status, storedVersions: [...storedVersions, version] }
  raiseGeneration(next, current, !equalJson(next['spec'], current['spec']))
}

/** What of a definition is taken and does nothing here. */
function warningsOf(object: KubeObject): string[] {
  const spec = specOf(object)
  const fields = versionFields(spec)
  const warnings = (spec.versions ?? []).flatMap(({ schema }, i) => {
    const document = schema?.openAPIV3Schema
    if (document === undefined) return []
    const field = fields[i]!.schema
    return [
      ...unknownFormats(document, field),
      ...ruledPaths(document, field).map(path => `${path}: rules in CEL are kept but not enforced by this server`)
    ]
  })
  return [...new Set(warnings)].slice(0, kindLimits.toldFieldsMax.value)
}

function unknownFormats(schema: SchemaDocument, field: string): string[] {
  const { format = '', properties = {}, additionalProperties } = schema
  const items = itemsOf(schema)
  const isKnown = format === '' || format === 'password' || format === 'int-or-string'
    || Object.hasOwn(textFormats, format) || Object.hasOwn(numberFormats, format) || extraFormats.has(format)
  return [
    ...isKnown ? [] : [`unrecognized format ${JSON.stringify(format)}`],
    ...Object.entries(properties).flatMap(([name, property]) => unknownFormats(property, `${field}.properties[${name}]`)),
    ...typeof additionalProperties === 'object' ? unknownFormats(additionalProperties, `${field}.additionalProperties`) : [],
    ...items === undefined ? [] : unknownFormats(items, `${field}.items`)
  ]
}

/** Formats that the real server knows, and that are not checked here. */
const extraFormats: ReadonlySet<string> = new Set(['isbn', 'isbn10', 'isbn13', 'creditcard', 'ssn', 'hexcolor', 'rgbcolor', 'binary'])

/**
 * CustomResourceDefinitions themselves; what they define is custom-resource.ts. `builtInGroups` are those of the other kinds
 * that the server has by itself.
 */
export function customResourceDefinitions(builtInGroups: readonly string[]): Resource {
  const groups = new Set([...builtInGroups, definitionGroup])
  const resource = builtInResource({
    group: definitionGroup, plural: definitionPlural, singular: 'customresourcedefinition', kind: 'CustomResourceDefinition',
    shortNames: ['crd', 'crds'], categories: ['api-extensions'], namespaced: false, subresources: ['status'],
    nameErrors: dns1123SubdomainErrors, allowsUnconditionalUpdate: false,
    columns: [nameColumn, createdAtColumn],
    cells: object => [nameOf(object), object.metadata.creationTimestamp ?? '<unknown>'],
    setDefaults, prepareForCreate, prepareForUpdate,
    causes: (object, current) => definitionCauses(object, current, groups, kindLimits.toldCausesMax.value),
    mergeSchema: mergeSchemas.CustomResourceDefinition
  })
  return {
    ...resource,
    decode(document, mode, duplicateFields) {
      const decoded = resource.decode(document, mode, duplicateFields)
      return mode === 'Ignore' ? decoded : { ...decoded, warnings: [...decoded.warnings, ...warningsOf(decoded.object)] }
    },
    markDeleted
  }
}
