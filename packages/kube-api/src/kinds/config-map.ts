import type { KubeObject } from '../object.ts'
import type { Resource } from '../resource.ts'
import type { StatusCause } from '../status-error.ts'
import { invalidValue } from '../validation/causes.ts'
import { dns1123SubdomainErrors } from '../validation/names.ts'
import { ageColumn, ageOf, builtInResource, column, nameColumn, nameOf } from './built-in-resource.ts'
import { base64Bytes, dataKeyCauses, dataSizeCauses, immutableCauses, textBytes } from './data-causes.ts'
import { eachCause } from './each-cause.ts'
import { mergeSchemas } from './merge-schemas.ts'

interface ConfigMap {
  readonly data?: Readonly<Record<string, string>>
  /** Base64. */
  readonly binaryData?: Readonly<Record<string, string>>
  readonly immutable?: boolean
}

const view = (object: KubeObject): ConfigMap => object as ConfigMap

function causes(object: KubeObject, current: KubeObject | undefined): StatusCause[] {
  const { data = {}, binaryData = {} } = view(object)
  const dataCauses = eachCause(Object.keys(data).toSorted(), key => [
    ...dataKeyCauses({ [key]: '' }, 'data'),
    ...Object.hasOwn(binaryData, key) ? [invalidValue(`data[${key}]`, key, 'duplicate of key present in binaryData')] : []
  ])
  return [
    ...current === undefined ? [] : immutableCauses(view(object), view(current), ['data', 'binaryData']),
    ...dataCauses, ...dataKeyCauses(binaryData, 'binaryData'), ...dataSizeCauses(textBytes(data) + base64Bytes(binaryData), '')
  ]
}

export const configMaps = (): Resource => builtInResource({
  plural: 'configmaps', singular: 'configmap', kind: 'ConfigMap', shortNames: ['cm'], namespaced: true,
  nameErrors: dns1123SubdomainErrors,
  columns: [nameColumn, column('Data', 'Data contains the configuration data.'), ageColumn],
  cells: (object, nowMs) => {
    const { data = {}, binaryData = {} } = view(object)
    return [nameOf(object), Object.keys(data).length + Object.keys(binaryData).length, ageOf(object, nowMs)]
  },
  causes,
  mergeSchema: mergeSchemas.ConfigMap
})
