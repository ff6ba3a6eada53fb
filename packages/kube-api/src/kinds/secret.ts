import type { KubeObject } from '../object.ts'
import type { Resource } from '../resource.ts'
import type { StatusCause } from '../status-error.ts'
import { invalidValue, requiredValue } from '../validation/causes.ts'
import { dns1123SubdomainErrors } from '../validation/names.ts'
import { ageColumn, ageOf, builtInResource, column, nameColumn, nameOf } from './built-in-resource.ts'
import { base64Bytes, dataKeyCauses, dataSizeCauses, immutableCauses } from './data-causes.ts'
import { mergeSchemas } from './merge-schemas.ts'

interface Secret {
  /** Base64. */
  readonly data?: Readonly<Record<string, string>>
  readonly type?: string
  readonly immutable?: boolean
}

const view = (object: KubeObject): Secret => object as Secret

/** `stringData` is a way to write only: it is folded into `data` and never stored. */
function setDefaults(object: KubeObject): void {
  const { data = {}, stringData } = object as { data?: Record<string, string>, stringData?: Record<string, string> }
  if (stringData !== undefined) {
    const added = Object.entries(stringData).map(([key, text]): [string, string] => [key, Buffer.from(text).toString('base64')])
    object['data'] = Object.fromEntries([...Object.entries(data), ...added].toSorted(([a], [b]) => a < b ? -1 : 1))
    delete object['stringData']
  }
  object['type'] ??= 'Opaque'
}

function causes(object: KubeObject, current: KubeObject | undefined): StatusCause[] {
  const { data = {}, type = '' } = view(object)
  const currentType = current === undefined ? type : view(current).type ?? ''
  return [
    ...type === currentType ? [] : [invalidValue('type', type, 'field is immutable')],
    ...current === undefined ? [] : immutableCauses(view(object), view(current), ['data']),
    ...dataKeyCauses(data, 'data'), ...dataSizeCauses(base64Bytes(data), 'data'), ...typeCauses(object)
  ]
}

/** What each type of Secret asks of its data. */
function typeCauses(object: KubeObject): StatusCause[] {
  const { data = {}, type } = view(object)
  const missing = (...keys: string[]): StatusCause[] =>
    keys.filter(key => !Object.hasOwn(data, key)).map(key => requiredValue(`data[${key}]`))
  switch (type) {
    case 'kubernetes.io/service-account-token': {
      const annotation = 'kubernetes.io/service-account.name'
      return (object.metadata.annotations?.[annotation] ?? '') === '' ? [requiredValue(`metadata.annotations[${annotation}]`)] : []
    }
    case 'kubernetes.io/dockercfg': return dockerConfigCauses(data, '.dockercfg')
    case 'kubernetes.io/dockerconfigjson': return dockerConfigCauses(data, '.dockerconfigjson')
    case 'kubernetes.io/basic-auth': {
      const absent = missing('username', 'password')
      return absent.length === 2 ? absent : []
    }
    case 'kubernetes.io/ssh-auth': return (data['ssh-privatekey'] ?? '') === '' ? [requiredValue('data[ssh-privatekey]')] : []
    case 'kubernetes.io/tls': return missing('tls.crt', 'tls.key')
    default: return []
  }
}

function dockerConfigCauses(data: Readonly<Record<string, string>>, key: string): StatusCause[] {
  const field = `data[${key}]`
  if (!Object.hasOwn(data, key)) return [requiredValue(field)]
  try {
    const value: unknown = JSON.parse(Buffer.from(data[key]!, 'base64').toString())
    if (typeof value === 'object' && !Array.isArray(value)) return []
  } catch {
    // Told below; what JSON.parse says would repeat what is secret.
  }
  return [invalidValue(field, '<secret contents redacted>', 'must be a JSON object')]
}

export const secrets = (): Resource => builtInResource({
  plural: 'secrets', singular: 'secret', kind: 'Secret', namespaced: true, nameErrors: dns1123SubdomainErrors,
  columns: [
    nameColumn, column('Type', 'Used to facilitate programmatic handling of secret data.'),
    column('Data', 'Data contains the secret data. Each key must consist of alphanumeric characters, \'-\', \'_\' or \'.\'.'), ageColumn
  ],
  cells: (object, nowMs) => {
    const { data = {}, type = '' } = view(object)
    return [nameOf(object), type, Object.keys(data).length, ageOf(object, nowMs)]
  },
  setDefaults, causes,
  selectableFields: object => ({ type: view(object).type ?? '' }),
  mergeSchema: mergeSchemas.Secret
})
