import { describe, expect, test } from 'vitest'
import type { Json, KubeObject } from '../object.ts'
import type { Resource } from '../resource.ts'
import { configMaps } from './config-map.ts'
import { secrets } from './secret.ts'

const made = (resource: Resource, document: Json): KubeObject => {
  const { object } = resource.decode(document, 'Strict')
  resource.prepareForCreate(object)
  object.metadata = { namespace: 'n', ...object.metadata, uid: 'u', resourceVersion: '1', creationTimestamp: '2026-11-21T11:00:00Z' }
  return object
}

/** `[field, reason]` of each cause of a change by `document`, each told once. */
const changeCauses = (resource: Resource, current: KubeObject, document: { [member: string]: Json }): string[][] => {
  const { object } = resource.decode({ ...document, metadata: { ...current.metadata } as Json }, 'Strict')
  resource.prepareForUpdate(object, current, undefined)
  return resource.validate(object, current).map(({ field, reason }) => [field, reason])
}

const key = 'a valid config key must consist of alphanumeric characters, \'-\', \'_\' or \'.\' (e.g. \'key.name\',  or \'KEY_NAME\',  or '
  + '\'key-name\', regex used for validation is \'[-._a-zA-Z0-9]+\')'

describe('a ConfigMap', () => {
  const resource = configMaps()

  test('is stored as it came', () => {
    const object = made(resource, { metadata: { name: 'a', selfLink: '/x', deletionTimestamp: '2001-01-01T00:00:00Z', generation: 4 }, data: { k: 'v' } })
    expect(object).toMatchObject({ data: { k: 'v' }, metadata: { name: 'a', generation: 4 } })
    expect(object.metadata).not.toHaveProperty('selfLink')
    expect(object.metadata).not.toHaveProperty('deletionTimestamp')
    expect(resource.validate(object, undefined)).toEqual([])
  })

  test('has keys that can be names of files', () => {
    const object = made(resource, { metadata: { name: 'k' }, data: { 'a b': '1', '../x': '2' } })
    expect(resource.validate(object, undefined)).toEqual([
      { reason: 'FieldValueInvalid', message: `Invalid value: "../x": ${key}`, field: 'data[../x]' },
      { reason: 'FieldValueInvalid', message: 'Invalid value: "../x": must not start with \'..\'', field: 'data[../x]' },
      { reason: 'FieldValueInvalid', message: `Invalid value: "a b": ${key}`, field: 'data[a b]' }
    ])
  })

  test('has each key in data or in binaryData', () => {
    const object = made(resource, { metadata: { name: 'k' }, data: { t: 'x' }, binaryData: { t: 'AAEC' } })
    expect(resource.validate(object, undefined))
      .toEqual([{ reason: 'FieldValueInvalid', message: 'Invalid value: "t": duplicate of key present in binaryData', field: 'data[t]' }])
  })

  test('holds at most a mebibyte', () => {
    const half = 'x'.repeat(512 * 1024)
    const fits = made(resource, { metadata: { name: 'k' }, data: { a: half }, binaryData: { b: Buffer.from(half).toString('base64') } })
    expect(resource.validate(fits, undefined)).toEqual([])
    const over = made(resource, { metadata: { name: 'k' }, data: { a: `${half}é` }, binaryData: { b: Buffer.from(half).toString('base64') } })
    expect(resource.validate(over, undefined)).toEqual([{ reason: 'FieldValueTooLong', message: 'Too long: may not be more than 1048576 bytes', field: '' }])
  })

  test('does not change once it is immutable', () => {
    const current = made(resource, { metadata: { name: 'im' }, data: { a: '1' }, immutable: true })
    expect(changeCauses(resource, current, { data: { a: '2' }, immutable: true })).toEqual([['data', 'FieldValueForbidden']])
    expect(changeCauses(resource, current, { data: { a: '1' }, immutable: false })).toEqual([['immutable', 'FieldValueForbidden']])
    expect(changeCauses(resource, current, { data: { a: '1' } })).toEqual([['immutable', 'FieldValueForbidden']])
    expect(changeCauses(resource, current, { data: { a: '1' }, immutable: true, binaryData: { b: 'AA==' } })).toEqual([['binaryData', 'FieldValueForbidden']])
    expect(changeCauses(resource, current, { data: { a: '1' }, immutable: true })).toEqual([])
  })

  test('columns', () => {
    const object = made(resource, { metadata: { name: 'k' }, data: { a: '1', b: '2' }, binaryData: { c: '' } })
    expect(resource.columns.map(({ name, priority }) => [name, priority])).toEqual([['Name', 0], ['Data', 0], ['Age', 0]])
    expect(resource.cells(object, Date.parse('2026-11-21T11:00:30Z'))).toEqual(['k', 3, '30s'])
  })
})

describe('a Secret', () => {
  const resource = secrets()
  const causes = (document: Json): string[][] =>
    resource.validate(made(resource, document), undefined).map(({ field, reason }) => [field, reason])

  test('is opaque unless it says otherwise, and holds what stringData said', () => {
    expect(made(resource, { metadata: { name: 's2' }, stringData: { a: 'plain', b: 'x' }, data: { b: 'b2xk', c: 'Yw==' } }))
      .toMatchObject({ type: 'Opaque', data: { a: 'cGxhaW4=', b: 'eA==', c: 'Yw==' } })
    expect(made(resource, { metadata: { name: 's2' }, stringData: { a: '' } })).not.toHaveProperty('stringData')
    expect(made(resource, { metadata: { name: 's7' }, type: 'demo.holdfast.dev/x' })).toMatchObject({ type: 'demo.holdfast.dev/x' })
  })

  test('of some types has some keys', () => {
    const metadata = { name: 's' }
    const required = (...fields: string[]) => fields.map(field => [field, 'FieldValueRequired'])
    expect(causes({ metadata, type: 'kubernetes.io/tls' })).toEqual(required('data[tls.crt]', 'data[tls.key]'))
    expect(causes({ metadata, type: 'kubernetes.io/tls', data: { 'tls.crt': '', 'tls.key': 'YQ==' } })).toEqual([])
    expect(causes({ metadata, type: 'kubernetes.io/basic-auth' })).toEqual(required('data[username]', 'data[password]'))
    expect(causes({ metadata, type: 'kubernetes.io/basic-auth', data: { username: 'YQ==' } })).toEqual([])
    expect(causes({ metadata, type: 'kubernetes.io/ssh-auth' })).toEqual(required('data[ssh-privatekey]'))
    expect(causes({ metadata, type: 'kubernetes.io/dockercfg' })).toEqual(required('data[.dockercfg]'))
    expect(causes({ metadata, type: 'kubernetes.io/service-account-token' }))
      .toEqual(required('metadata.annotations[kubernetes.io/service-account.name]'))
  })

  test('of docker configuration holds a JSON object, and its refusal does not repeat it', () => {
    const bad = made(resource, { metadata: { name: 's6' }, type: 'kubernetes.io/dockerconfigjson', data: { '.dockerconfigjson': 'bm90anNvbg==' } })
    expect(resource.validate(bad, undefined)).toEqual([{ reason: 'FieldValueInvalid', field: 'data[.dockerconfigjson]',
      message: 'Invalid value: "<secret contents redacted>": must be a JSON object' }])
    expect(causes({ metadata: { name: 's' }, type: 'kubernetes.io/dockerconfigjson', stringData: { '.dockerconfigjson': '{"auths":{}}' } })).toEqual([])
  })

  test('keeps its type, and its data once it is immutable', () => {
    const current = made(resource, { metadata: { name: 's1' }, data: { p: 'cGFzcw==' } })
    expect(changeCauses(resource, current, { type: 'kubernetes.io/tls', data: { p: 'cGFzcw==' } }))
      .toEqual([['type', 'FieldValueInvalid'], ['data[tls.crt]', 'FieldValueRequired'], ['data[tls.key]', 'FieldValueRequired']])
    const sealed = made(resource, { metadata: { name: 's4' }, immutable: true, data: { a: 'YQ==' } })
    expect(changeCauses(resource, sealed, { immutable: true, data: { a: 'Yg==' } })).toEqual([['data', 'FieldValueForbidden']])
  })

  test('columns and fields', () => {
    const object = made(resource, { metadata: { name: 's' }, data: { a: 'YQ==' } })
    expect(resource.columns.map(({ name }) => name)).toEqual(['Name', 'Type', 'Data', 'Age'])
    expect(resource.cells(object, Date.parse('2026-11-21T11:00:30Z'))).toEqual(['s', 'Opaque', 1, '30s'])
    expect(resource.selectableFields(object)).toEqual({ type: 'Opaque' })
  })
})
