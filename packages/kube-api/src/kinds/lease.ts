import type { KubeObject } from '../object.ts'
import type { Resource } from '../resource.ts'
import type { StatusCause } from '../status-error.ts'
import { invalidValue } from '../validation/causes.ts'
import { dns1123SubdomainErrors } from '../validation/names.ts'
import { ageColumn, ageOf, builtInResource, column, nameColumn, nameOf } from './built-in-resource.ts'
import { mergeSchemas } from './merge-schemas.ts'

interface LeaseSpec { readonly holderIdentity?: string, readonly leaseDurationSeconds?: number, readonly leaseTransitions?: number }

const specOf = (object: KubeObject): LeaseSpec => object['spec'] ?? {}

function causes(object: KubeObject): StatusCause[] {
  const { leaseDurationSeconds = 1, leaseTransitions = 0 } = specOf(object)
  return [
    ...leaseDurationSeconds > 0 ? [] : [invalidValue('spec.leaseDurationSeconds', leaseDurationSeconds, 'must be greater than 0')],
    ...leaseTransitions >= 0 ? [] : [invalidValue('spec.leaseTransitions', leaseTransitions, 'must be greater than or equal to 0')]
  ]
}

export const leases = (): Resource => builtInResource({
  group: 'coordination.k8s.io', plural: 'leases', singular: 'lease', kind: 'Lease', namespaced: true,
  nameErrors: dns1123SubdomainErrors, allowsUnconditionalUpdate: false, allowsCreateOnUpdate: true,
  columns: [nameColumn, column('Holder', 'holderIdentity contains the identity of the holder of a current lease.'), ageColumn],
  cells: (object, nowMs) => [nameOf(object), specOf(object).holderIdentity ?? '', ageOf(object, nowMs)],
  setDefaults: object => { object['spec'] ??= {} },
  causes,
  mergeSchema: mergeSchemas.Lease
})
