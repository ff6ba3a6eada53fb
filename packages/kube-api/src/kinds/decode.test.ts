import { describe, expect, test } from 'vitest'
import type { Json } from '../object.ts'
import type { FieldValidation } from '../resource.ts'
import { StatusError } from '../status-error.ts'
import { decodeBuiltIn, decodeMetadata } from './decode.ts'
import { duplicateFields } from './duplicate-fields.ts'

const configMap = { group: '', version: 'v1', kind: 'ConfigMap' }
const pod = { group: '', version: 'v1', kind: 'Pod' }

const decode = (document: Json, mode: FieldValidation = 'Warn', duplicates: readonly string[] = [], kind = configMap) =>
  decodeBuiltIn(kind, document, mode, duplicates)

function refusal(act: () => unknown): StatusError {
  try {
    act()
  } catch (error) {
    if (error instanceof StatusError) return error
    throw error
  }
  throw new Error('expected a refusal')
}

describe('what a document says it is', () => {
  test('kind and version are filled in where they are absent', () => {
    expect(decode({ metadata: { name: 'min' } }).object).toEqual({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'min' } })
    expect(decode(null).object).toEqual({ apiVersion: 'v1', kind: 'ConfigMap', metadata: {} })
  })

  test('another kind is refused', () => {
    const error = refusal(() => decode({ apiVersion: 'v1', kind: 'Secret', metadata: { name: 'x' } }))
    expect(error).toMatchObject({ code: 400, reason: 'BadRequest',
      message: 'Secret in version "v1" cannot be handled as a ConfigMap: converting (v1.Secret) to (core.ConfigMap): unknown conversion' })
  })

  test('another version is refused', () => {
    expect(refusal(() => decode({ apiVersion: 'v9', kind: 'ConfigMap' })).message).toBe('ConfigMap in version "v9" cannot be handled '
      + 'as a ConfigMap: no kind "ConfigMap" is registered for version "v9" in scheme "k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30"')
  })

  test('what is not an object is refused', () => {
    expect(refusal(() => decode([]))).toMatchObject({ code: 400, message: expect.stringContaining('cannot unmarshal array into Go value') })
    expect(refusal(() => decode({ kind: 5 }))).toMatchObject({ code: 400, message: expect.stringContaining('field .kind of type string') })
  })
})

describe('types', () => {
  test.each<[string, Json, string]>([
    ['data', { k: 5 }, 'json: cannot unmarshal number into Go struct field ConfigMap.data of type string'],
    ['data', 'x', 'json: cannot unmarshal string into Go struct field ConfigMap.data of type map[string]string'],
    ['data', [], 'json: cannot unmarshal array into Go struct field ConfigMap.data of type map[string]string'],
    ['immutable', 'yes', 'json: cannot unmarshal string into Go struct field ConfigMap.immutable of type bool'],
    ['metadata', { labels: { a: 5 } }, 'json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string'],
    ['metadata', 'x', 'json: cannot unmarshal string into Go struct field ConfigMap.metadata of type v1.ObjectMeta'],
    ['metadata', { creationTimestamp: 'now' }, 'parsing time "now" as "2006-01-02T15:04:05Z07:00": cannot parse "now" as "2006"'],
    ['binaryData', { b: '***' }, 'illegal base64 data at input byte 0'],
    ['binaryData', { b: 'AAA' }, 'illegal base64 data at input byte 3'],
    ['binaryData', { b: 'A=AA' }, 'illegal base64 data at input byte 1']
  ])('%s: %j is refused', (name, value, why) => {
    expect(refusal(() => decode({ [name]: value }))).toMatchObject({
      code: 400, reason: 'BadRequest', message: `ConfigMap in version "v1" cannot be handled as a ConfigMap: ${why}` })
  })

  test.each<[string, Json, string]>([
    ['containers', [{ name: 5 }], 'json: cannot unmarshal number into Go struct field Container.spec.containers.name of type string'],
    ['containers', {}, 'json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container'],
    ['priority', 3_000_000_000, 'json: cannot unmarshal number 3000000000 into Go struct field PodSpec.spec.priority of type int32'],
    ['priority', 1.5, 'json: cannot unmarshal number 1.5 into Go struct field PodSpec.spec.priority of type int32'],
    ['priority', '1', 'json: cannot unmarshal string into Go struct field PodSpec.spec.priority of type int32'],
    ['overhead', { cpu: 'lots' }, 'quantities must match the regular expression \'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$\'']
  ])('spec.%s: %j is refused', (name, value, why) => {
    expect(refusal(() => decode({ spec: { [name]: value } }, 'Warn', [], pod)).message)
      .toBe(`Pod in version "v1" cannot be handled as a Pod: ${why}`)
  })

  test('null is the zero of its type, and zeros that mean nothing are left out', () => {
    expect(decode({ metadata: { name: 'nulls', labels: null, creationTimestamp: null, generateName: '' }, data: { a: '', b: null },
      binaryData: null }).object).toEqual({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'nulls' }, data: { a: '', b: '' } })
    expect(decode({ data: {} }).object).toEqual({ apiVersion: 'v1', kind: 'ConfigMap', metadata: {} })
    const { object } = decode({ spec: { hostNetwork: false, priority: 0, automountServiceAccountToken: false, containers: [null],
      nodeName: '', runtimeClassName: '' } }, 'Warn', [], pod)
    expect(object['spec']).toEqual({ priority: 0, automountServiceAccountToken: false, containers: [{}], runtimeClassName: '' })
  })

  test('times are written in UTC, bytes with padding, numbers as quantities', () => {
    const { object } = decode({
      metadata: { creationTimestamp: '2026-11-21T12:14:49.5+01:00' }, binaryData: { b: 'AAEC\n/w==' }
    })
    expect(object.metadata.creationTimestamp).toBe('2026-11-21T11:14:49Z')
    expect(object['binaryData']).toEqual({ b: 'AAEC/w==' })
    expect(decode({ spec: { overhead: { cpu: 2 } } }, 'Warn', [], pod).object['spec']).toEqual({ overhead: { cpu: '2' } })
  })

  test('the order of a document\'s members does not show', () => {
    const one = decode({ data: { b: '1', a: '2' }, immutable: true, metadata: { name: 'x', labels: { z: '1', y: '2' } } }).object
    const other = decode({ metadata: { labels: { y: '2', z: '1' }, name: 'x' }, immutable: true, data: { a: '2', b: '1' } }).object
    expect(JSON.stringify(one)).toBe(JSON.stringify(other))
  })

  test('a key named __proto__ is data', () => {
    const { object } = decode(JSON.parse('{"data":{"__proto__":"x","constructor":"y"},"__proto__":{"data":{}}}') as Json, 'Ignore')
    expect(Object.keys(object['data'] as object)).toEqual(['__proto__', 'constructor'])
    expect(({} as Record<string, unknown>)['x']).toBeUndefined()
    expect(Object.getPrototypeOf(object)).toBe(Object.prototype)
  })
})

describe('unknown and duplicate fields', () => {
  const document: Json = { metadata: { name: 'uf', lables: { a: 'b' } }, data: { a: '1' }, extra: 1, Data: {} }
  const unknown = ['unknown field "metadata.lables"', 'unknown field "extra"', 'unknown field "Data"']

  test('Warn drops and tells them, Ignore drops them', () => {
    expect(decode(document, 'Warn').warnings).toEqual(unknown)
    expect(decode(document, 'Ignore').warnings).toEqual([])
    for (const mode of ['Warn', 'Ignore'] as const) expect(decode(document, mode).object).not.toHaveProperty('extra')
  })

  test('Strict refuses them', () => {
    const error = refusal(() => decode({ metadata: { lables: {} }, extra: 1 }, 'Strict'))
    expect(error).toMatchObject({ code: 400, reason: 'BadRequest' })
    expect(error.message).toContain('cannot be handled as a ConfigMap: strict decoding error: unknown field ')
    expect(refusal(() => decode({}, 'Strict', ['data.a'])).message).toContain('strict decoding error: duplicate field "data.a"')
  })

  test('paths name the elements of lists', () => {
    expect(decode({ spec: { containers: [{ name: 'a' }, { nme: 'b', env: [{ vaule: 'x' }] }] } }, 'Warn', [], pod).warnings)
      .toEqual(['unknown field "spec.containers[1].nme"', 'unknown field "spec.containers[1].env[0].vaule"'])
  })

  test('no more of them are told than a response can carry', () => {
    const many = Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`f${i}`, 1]))
    expect(decode(many, 'Warn').warnings).toHaveLength(100)
  })

  test.each<[string, string[]]>([
    ['{"data":{"a":"1","a":"2"}}', ['data.a']],
    ['{"a":1,"b":{"a":1},"a":[{"x":1,"\\u0078":2},{"x":1}]}', ['a', 'a[0].x']],
    ['{"a":"{\\"b\\":1,\\"b\\":2}","b":["a","a"]}', []],
    ['{"a":{"a":{"a":1}}, "b" : {"a":1 , "a" : 1 , "a":2}}', ['b.a', 'b.a']],
    ['[[1,{"x":1,"x":2}]]', ['[0][1].x'.slice(1)]],
    ['{"a":"x\\\\","a":1}', ['a']],
    ['{"x":"\\"","y":1,"y":2}', ['y']],
    ['"\\', []]
  ])('duplicates of %s', (text, expected) => {
    expect(duplicateFields(text)).toEqual(expected)
  })

  test('a deep text is scanned without recursion', () => {
    expect(duplicateFields('['.repeat(200_000))).toEqual([])
  })
})

test('metadata of other kinds is read the same way', () => {
  const kind = { apiVersion: 'demo.holdfast.dev/v1', kind: 'Gadget', expectedKind: 'Gadget' }
  expect(decodeMetadata({ name: 'g', lables: {} }, kind)).toEqual({ metadata: { name: 'g' }, unknownFields: ['metadata.lables'] })
  expect(decodeMetadata(null, kind)).toEqual({ metadata: {}, unknownFields: [] })
  expect(refusal(() => decodeMetadata({ labels: { a: 5 } }, kind)).message)
    .toBe('Gadget in version "v1" cannot be handled as a Gadget: json: cannot unmarshal number into Go struct field '
      + 'ObjectMeta.metadata.labels of type string')
})
