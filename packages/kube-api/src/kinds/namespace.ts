import type { KubeObject } from '../object.ts'
import type { Resource, Subresource } from '../resource.ts'
import type { StatusCause } from '../status-error.ts'
import { invalidValue } from '../validation/causes.ts'
import { builtInFinalizerCauses, dns1123LabelErrors, qualifiedNameErrors } from '../validation/names.ts'
import { ageColumn, ageOf, builtInResource, column, keepMember, nameColumn, nameOf } from './built-in-resource.ts'
import { eachCause } from './each-cause.ts'
import { mergeSchemas } from './merge-schemas.ts'

interface NamespaceSpec { readonly finalizers?: readonly string[] }
interface NamespaceStatus { readonly phase?: string, readonly conditions?: readonly unknown[] }

const specOf = (object: KubeObject): NamespaceSpec => object['spec'] ?? {}
const statusOf = (object: KubeObject): NamespaceStatus => object['status'] ?? {}

/** By this finalizer the server itself holds a Namespace until its contents are gone. */
export const namespaceFinalizer = 'kubernetes'

/** Every Namespace carries its name as a label, whatever a client says. */
function labelWithName({ metadata }: KubeObject): void {
  if (metadata.name === undefined) return
  metadata.labels = { ...metadata.labels, 'kubernetes.io/metadata.name': metadata.name }
}

function setDefaults(object: KubeObject): void {
  object['spec'] ??= {}
  object['status'] ??= {}
  labelWithName(object)
}

function prepareForCreate(object: KubeObject): void {
  const { finalizers = [] } = specOf(object)
  object['spec'] = { finalizers: finalizers.includes(namespaceFinalizer) ? finalizers : [...finalizers, namespaceFinalizer] }
  object['status'] = { phase: 'Active' }
  labelWithName(object)
}

function prepareForUpdate(next: KubeObject, current: KubeObject, subresource: Subresource | undefined): void {
  // What holds a Namespace changes through /finalize only.
  if (subresource !== 'finalize') keepMember(next, current, 'spec')
  if (subresource !== 'status') keepMember(next, current, 'status')
  labelWithName(next)
}

function causes(object: KubeObject, current: KubeObject | undefined): StatusCause[] {
  const { finalizers = [] } = specOf(object)
  const finalizerCauses = eachCause(finalizers, (name, i) => [
    ...qualifiedNameErrors(name).map(error => invalidValue(`spec.finalizers[${i}]`, name, error)),
    ...builtInFinalizerCauses([name], 'spec.finalizers').map(cause => ({ ...cause, field: `spec.finalizers[${i}]` }))
  ])
  const { phase = '' } = statusOf(object)
  const deleting = object.metadata.deletionTimestamp !== undefined
  if (current === undefined || phase === (deleting ? 'Terminating' : 'Active')) return finalizerCauses
  return [...finalizerCauses, invalidValue('status.Phase', phase, deleting
    ? 'may only be \'Terminating\' if `deletionTimestamp` is not empty'
    : 'may only be \'Active\' if `deletionTimestamp` is empty')]
}

export const namespaces = (): Resource => builtInResource({
  plural: 'namespaces', singular: 'namespace', kind: 'Namespace', shortNames: ['ns'], namespaced: false,
  verbs: ['create', 'delete', 'get', 'list', 'patch', 'update', 'watch'], subresources: ['finalize', 'status'],
  nameErrors: dns1123LabelErrors,
  columns: [nameColumn, column('Status', 'The status of the namespace'), ageColumn],
  cells: (object, nowMs) => [nameOf(object), statusOf(object).phase ?? '', ageOf(object, nowMs)],
  setDefaults, prepareForCreate, prepareForUpdate, causes,
  selectableFields: object => ({ 'status.phase': statusOf(object).phase ?? '', name: nameOf(object) }),
  mergeSchema: mergeSchemas.Namespace
})
