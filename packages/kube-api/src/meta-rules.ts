import type { KubeObject, ObjectMeta, OwnerReference } from './object.ts'
import type { StatusCause } from './status-error.ts'
import { forbiddenValue, invalidValue, quote, requiredValue, tooLongValue } from './validation/causes.ts'
import {
  annotationBytesMax, asGenerateName, builtInFinalizerCauses, dns1123LabelErrors, finalizerCauses, labelCauses,
  qualifiedNameErrors, type NameCheck
} from './validation/names.ts'
import { eachCause } from './kinds/each-cause.ts'

/**
 * Rules of `metadata` that hold for objects of all kinds (apimachinery, pkg/api/validation; apiserver, pkg/registry/rest).
 * The server itself sets uid, creationTimestamp and resourceVersion; these rules keep what a client may not change.
 */

/** Characters that the server adds to `generateName`; so many of what the client gave are kept at most. */
const generatedSuffixLength = 5
const generatedBaseLengthMax = 63 - generatedSuffixLength
/** Finalizers that a refusal of new ones names. */
const toldFinalizersMax = 100

/** No vowels and nothing that looks like another: no words come out. */
const generatedAlphabet = 'bcdfghjklmnpqrstvwxz2456789'

/** A name that begins with `generateName`. `random` gives integers from 0 up to, not including, its argument. */
export function generatedName(generateName: string, random: (below: number) => number): string {
  const suffix = Array.from({ length: generatedSuffixLength }, () => generatedAlphabet[random(generatedAlphabet.length)]).join('')
  return `${generateName.slice(0, generatedBaseLengthMax)}${suffix}`
}

/** Takes away what only the server says of a new object. A generation that is given stays, as on the real server. */
export function prepareMetadataForCreate(metadata: ObjectMeta & { selfLink?: unknown }): void {
  delete metadata.deletionTimestamp
  delete metadata.deletionGracePeriodSeconds
  delete metadata.managedFields
  delete metadata.selfLink
}

/**
 * Keeps in an update what no update changes: generation (a kind raises it afterwards), creationTimestamp, and, once they
 * are there, deletionTimestamp and deletionGracePeriodSeconds. An absent uid or resourceVersion is the current one's;
 * whether a resourceVersion may be absent, and whether a given one is current, is decided before.
 */
export function prepareMetadataForUpdate(metadata: ObjectMeta & { selfLink?: unknown }, current: ObjectMeta): void {
  delete metadata.managedFields
  delete metadata.selfLink
  keep(metadata, current, 'generation')
  keep(metadata, current, 'creationTimestamp')
  if (current.deletionTimestamp !== undefined) keep(metadata, current, 'deletionTimestamp')
  if (metadata.deletionGracePeriodSeconds === undefined) keep(metadata, current, 'deletionGracePeriodSeconds')
  if (metadata.uid === undefined || metadata.uid === '') keep(metadata, current, 'uid')
  if (metadata.resourceVersion === undefined || metadata.resourceVersion === '') keep(metadata, current, 'resourceVersion')
}

/** Makes one member of `target` what it is in `source`: absent where it is absent there. */
function keep<Name extends keyof ObjectMeta>(target: ObjectMeta, source: ObjectMeta, name: Name): void {
  const value = source[name]
  if (value === undefined) delete target[name]
  else target[name] = value
}

/** Raises `metadata.generation` where the update changes what the generation counts. */
export function raiseGeneration(next: KubeObject, current: KubeObject, changed: boolean): void {
  const generation = current.metadata.generation ?? 0
  if (changed) next.metadata.generation = generation + 1
  else if (generation !== 0) next.metadata.generation = generation
}

export interface MetadataRules {
  readonly namespaced: boolean
  readonly nameErrors: NameCheck
  /** Built-in kinds refuse finalizers without a domain; those of custom resources may have them. */
  readonly finalizersQualified: boolean
}

/** Causes for a new object's metadata, in the order of the real server; `field` is `metadata` unless it is a template's. */
export function metadataCauses(metadata: ObjectMeta, rules: MetadataRules, field = 'metadata'): StatusCause[] {
  const { name = '', generateName = '', namespace = '', generation = 0, labels = {}, annotations = {}, finalizers = [] } = metadata
  const causes: StatusCause[] = []
  const each = (member: string, value: string, errors: readonly string[]): void => {
    causes.push(...errors.map(error => invalidValue(`${field}.${member}`, value, error)))
  }
  if (generateName !== '') each('generateName', generateName, asGenerateName(rules.nameErrors)(generateName))
  if (name === '') causes.push(requiredValue(`${field}.name`, 'name or generateName is required'))
  else each('name', name, rules.nameErrors(name))
  if (!rules.namespaced) {
    if (namespace !== '') causes.push(forbiddenValue(`${field}.namespace`, 'not allowed on this type'))
  } else if (namespace === '') {
    causes.push(requiredValue(`${field}.namespace`))
  } else {
    each('namespace', namespace, dns1123LabelErrors(namespace))
  }
  if (generation < 0) causes.push(invalidValue(`${field}.generation`, generation, 'must be greater than or equal to 0'))
  const both = finalizers.includes('orphan') && finalizers.includes('foregroundDeletion')
  return [
    ...causes, ...eachLabelCause(labels, `${field}.labels`), ...eachAnnotationCause(annotations, `${field}.annotations`),
    ...ownerReferenceCauses(metadata.ownerReferences ?? [], `${field}.ownerReferences`),
    ...eachCause(finalizers, name => finalizerCauses([name], `${field}.finalizers`)),
    ...both ? [invalidValue(`${field}.finalizers`, [...finalizers], 'finalizer orphan and foregroundDeletion cannot be both set')] : [],
    ...rules.finalizersQualified
      ? eachCause(finalizers, (name, i) =>
          builtInFinalizerCauses([name], '').map(cause => ({ ...cause, field: `${field}.finalizers[${i}]` })))
      : []
  ]
}

/** `labelCauses`, at most as many as are told. */
export const eachLabelCause = (labels: Readonly<Record<string, string>>, field: string): StatusCause[] =>
  eachCause(Object.keys(labels).toSorted(), key => labelCauses({ [key]: labels[key]! }, field))

/** `annotationCauses`, at most as many as are told. */
export function eachAnnotationCause(annotations: Readonly<Record<string, string>>, field: string): StatusCause[] {
  const keys = Object.keys(annotations).toSorted()
  const bytes = keys.reduce((sum, key) => sum + Buffer.byteLength(key) + Buffer.byteLength(annotations[key]!), 0)
  return [
    ...eachCause(keys, key => qualifiedNameErrors(key.toLowerCase()).map(error => invalidValue(field, key, error))),
    ...bytes > annotationBytesMax ? [tooLongValue(field, annotationBytesMax)] : []
  ]
}

function ownerReferenceCauses(references: readonly OwnerReference[], field: string): StatusCause[] {
  const [controller, second] = references.filter(reference => reference.controller === true)
  const found = eachCause(references as readonly Partial<OwnerReference>[], reference => {
    const causes: StatusCause[] = []
    const { apiVersion = '', kind = '', name = '', uid = '' } = reference
    const [group, version, more] = apiVersion.includes('/') ? apiVersion.split('/', 3) : ['', apiVersion]
    if (version === undefined || version === '' || more !== undefined) {
      causes.push(invalidValue(`${field}.apiVersion`, apiVersion, 'version must not be empty'))
    }
    if (kind === '') causes.push(invalidValue(`${field}.kind`, kind, 'kind must not be empty'))
    if (name === '') causes.push(invalidValue(`${field}.name`, name, 'name must not be empty'))
    if (uid === '') causes.push(invalidValue(`${field}.uid`, uid, 'uid must not be empty'))
    if (kind === 'Event' && apiVersion === 'v1') {
      causes.push(invalidValue(field, { ...reference }, `${group}/${version}, Kind=${kind} is disallowed from being an owner`))
    }
    return causes
  })
  if (controller !== undefined && second !== undefined) {
    found.push(invalidValue(field, references.map(reference => ({ ...reference })), 'Only one reference can have Controller set to true. '
      + `Found "true" in references for ${controller.kind}/${controller.name} and ${second.kind}/${second.name}`))
  }
  return found
}

/** Causes for what an update changes in metadata and must not, in the order of the real server. */
export function metadataUpdateCauses(metadata: ObjectMeta, current: ObjectMeta, field = 'metadata'): StatusCause[] {
  const causes: StatusCause[] = []
  if (current.deletionTimestamp !== undefined) {
    const known = new Set(current.finalizers ?? [])
    const added = (metadata.finalizers ?? []).filter(name => !known.has(name)).slice(0, toldFinalizersMax)
    if (added.length > 0) {
      causes.push(forbiddenValue(`${field}.finalizers`, 'no new finalizers can be added if the object is being deleted, found new '
        + `finalizers []string{${added.map(quote).join(', ')}}`))
    }
  }
  if ((metadata.resourceVersion ?? '') === '') {
    causes.push(invalidValue(`${field}.resourceVersion`, '', 'must be specified for an update'))
  }
  if ((metadata.generation ?? 0) < (current.generation ?? 0)) {
    causes.push(invalidValue(`${field}.generation`, metadata.generation ?? 0, 'must not be decremented'))
  }
  for (const name of ['name', 'namespace', 'uid', 'creationTimestamp', 'deletionTimestamp', 'deletionGracePeriodSeconds'] as const) {
    const value = metadata[name]
    if (value === current[name]) continue
    const isTime = name.endsWith('Timestamp') && typeof value === 'string'
    causes.push(isTime
      ? { reason: 'FieldValueInvalid', message: `Invalid value: ${goTime(value)}: field is immutable`, field: `${field}.${name}` }
      : invalidValue(`${field}.${name}`, value ?? null, 'field is immutable'))
  }
  return causes
}

/** `2001-01-01T00:00:00Z` as Go prints it. */
const goTime = (text: string): string => text.replace('T', ' ').replace('Z', ' +0000 UTC')

/**
 * Causes for an object's metadata, new or changed. For a change they are there twice, as on the real server, where the
 * registry checks and then the kind does: `details.causes` of its answers has them twice, and its message once.
 */
export function objectMetadataCauses(object: KubeObject, current: KubeObject | undefined, rules: MetadataRules): StatusCause[] {
  if (current === undefined) return metadataCauses(object.metadata, rules)
  const changes = metadataUpdateCauses(object.metadata, current.metadata)
  const registry = metadataCauses(object.metadata, { ...rules, finalizersQualified: false })
  return [...registry, ...changes, ...changes, ...metadataCauses(object.metadata, rules)]
}

export const isNamespace = ({ apiVersion, kind }: KubeObject): boolean => apiVersion === 'v1' && kind === 'Namespace'

/**
 * Whether nothing holds a deleted object any more: no finalizer of its own, none of a Namespace's spec, and no grace
 * period that has still to be confirmed.
 */
export function isReleased(object: KubeObject): boolean {
  const { metadata, spec } = object
  if (metadata.deletionTimestamp === undefined || (metadata.deletionGracePeriodSeconds ?? 0) > 0) return false
  const { finalizers = [] } = (isNamespace(object) ? spec ?? {} : {}) as { readonly finalizers?: readonly string[] }
  return (metadata.finalizers ?? []).length === 0 && finalizers.length === 0
}
