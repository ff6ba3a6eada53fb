import type { KubeObject } from '../object.ts'
import type { Resource } from '../resource.ts'
import { dns1123SubdomainErrors } from '../validation/names.ts'
import { ageColumn, ageOf, builtInResource, column, nameColumn, nameOf } from './built-in-resource.ts'
import { mergeSchemas } from './merge-schemas.ts'

interface ServiceAccount { readonly secrets?: readonly unknown[] }

const view = (object: KubeObject): ServiceAccount => object as ServiceAccount

export const serviceAccounts = (): Resource => builtInResource({
  plural: 'serviceaccounts', singular: 'serviceaccount', kind: 'ServiceAccount', shortNames: ['sa'], namespaced: true,
  nameErrors: dns1123SubdomainErrors, allowsUnconditionalUpdate: false,
  columns: [
    nameColumn, column('Secrets', 'Secrets is a list of the secrets in the same namespace that pods running using this ServiceAccount '
      + 'are allowed to use.'), ageColumn
  ],
  cells: (object, nowMs) => [nameOf(object), view(object).secrets?.length ?? 0, ageOf(object, nowMs)],
  mergeSchema: mergeSchemas.ServiceAccount
})
