import { describe, expect, test } from 'vitest'
import type { Json, JsonObject } from '../object.ts'
import { compileSchema, type SchemaDocument } from './structural-schema.ts'
import { instanceCauses } from './instance-causes.ts'

function causes(schema: JsonObject, value: Json, current?: Json): string[] {
  return instanceCauses(value, compileSchema(schema as SchemaDocument), 'spec', 100, current).map(({ reason, field, message }) =>
    `${reason} ${field}: ${message}`)
}

describe('a value is refused', () => {
  test.each<[string, JsonObject, Json, string[]]>([
    ['of another type', { type: 'string' }, 5, ['FieldValueTypeInvalid spec: Invalid value: "integer": spec in body must be of type string: "integer"']],
    ['that is no integer', { type: 'integer' }, 1.5,
      ['FieldValueTypeInvalid spec: Invalid value: "number": spec in body must be of type integer: "number"']],
    ['that is null where that is not allowed', { type: 'string' }, null,
      ['FieldValueTypeInvalid spec: Invalid value: "null": spec in body must be of type string: "null"']],
    ['that is neither integer nor string', { 'x-kubernetes-int-or-string': true }, true,
      ['FieldValueTypeInvalid spec: Invalid value: "boolean": spec in body must be of type integer,string: "boolean"']],
    ['that is not among those', { type: 'string', enum: ['a', 'b'] }, 'c', ['FieldValueNotSupported spec: Unsupported value: "c": supported values: "a", "b"']],
    ['below the minimum', { type: 'number', minimum: 2 }, 1.5,
      ['FieldValueInvalid spec: Invalid value: 1.5: spec in body should be greater than or equal to 2']],
    ['at an exclusive minimum', { type: 'number', minimum: 2, exclusiveMinimum: true }, 2,
      ['FieldValueInvalid spec: Invalid value: 2: spec in body should be greater than 2']],
    ['that is no multiple', { type: 'number', multipleOf: 0.1 }, 0.35, ['FieldValueInvalid spec: Invalid value: 0.35: spec in body should be a multiple of 0.1']],
    ['that does not fit its format', { type: 'integer', format: 'int32' }, 3_000_000_000,
      ['FieldValueInvalid spec: Invalid value: 3000000000: spec in body must be of type int32']],
    ['that is no time', { type: 'string', format: 'date-time' }, 'today',
      ['FieldValueTypeInvalid spec: Invalid value: "today": spec in body must be of type date-time: "today"']],
    ['with too few elements', { type: 'array', minItems: 2, items: { type: 'string' } }, ['a'],
      ['FieldValueInvalid spec: Invalid value: 1: spec in body should have at least 2 items']],
    ['with too few members', { type: 'object', minProperties: 1 }, {},
      ['FieldValueInvalid spec: Invalid value: 0: spec in body should have at least 1 properties']],
    ['with an element twice in a set', { 'type': 'array', 'x-kubernetes-list-type': 'set', 'items': { type: 'object' } }, [{ a: 1, b: 2 }, { b: 2, a: 1 }],
      ['FieldValueDuplicate spec[1]: Duplicate value: {"b":2,"a":1}']],
    ['that no schema of anyOf takes', { type: 'integer', anyOf: [{ minimum: 5 }, { maximum: 1 }] }, 3,
      ['FieldValueInvalid spec: Invalid value: "": "spec" must validate at least one schema (anyOf)']],
    ['that no schema of oneOf takes', { type: 'integer', oneOf: [{ minimum: 5 }, { maximum: 1 }] }, 3,
      ['FieldValueInvalid spec: Invalid value: "": "spec" must validate one and only one schema (oneOf). Found none valid']],
    ['that two schemas of oneOf take', { type: 'integer', oneOf: [{ minimum: 1 }, { maximum: 5 }] }, 3,
      ['FieldValueInvalid spec: Invalid value: "": "spec" must validate one and only one schema (oneOf). Found 2 valid alternatives']],
    ['that not all of allOf take', { type: 'integer', allOf: [{ minimum: 5 }, { maximum: 5 }] }, 3, [
      'FieldValueInvalid spec: Invalid value: "": "spec" must validate all the schemas (allOf)',
      'FieldValueInvalid spec: Invalid value: 3: spec in body should be greater than or equal to 5'
    ]],
    ['that not takes', { type: 'integer', not: { minimum: 3 } }, 3, ['FieldValueInvalid spec: Invalid value: "": "spec" must not validate the schema (not)']],
    ['of a resource inside without kind', { 'type': 'object', 'x-kubernetes-embedded-resource': true, 'x-kubernetes-preserve-unknown-fields': true },
      { apiVersion: 'v1', metadata: { name: 'Upper' } }, [
        'FieldValueRequired spec.kind: Required value: must not be empty',
        expect.stringContaining('FieldValueInvalid spec.metadata.name: Invalid value: "Upper": a lowercase RFC 1123 subdomain') as string
      ]]
  ])('%s', (_what, schema, value, expected) => {
    expect(causes(schema, value)).toEqual(expected)
  })
})

test.each<[string, string[], string[]]>([
  ['ipv4', ['10.0.0.1'], ['10.0.0.256', 'x']],
  ['ipv6', ['::1'], ['10.0.0.1']],
  ['cidr', ['10.0.0.0/8', 'fd00::/64'], ['10.0.0.0/33', '10.0.0.0', '10.0.0.0/8/8', '10.0.0.0/08']],
  ['date', ['2024-02-29'], ['2023-02-29', '2024-2-9']],
  ['date-time', ['2024-02-29T00:00:00Z'], ['2024-02-29']],
  ['uuid', ['123e4567-e89b-12d3-a456-426614174000'], ['123e4567']],
  ['uuid4', ['123e4567-e89b-42d3-a456-426614174000'], ['123e4567-e89b-12d3-a456-426614174000']],
  ['byte', ['', 'YQ=='], ['YQ', '*']],
  ['email', ['a@b.example'], ['a', '@b', 'a@']],
  ['hostname', ['a.example'], ['', '-a', 'a..b', 'ä']],
  ['uri', ['https://a.example/b?c'], ['no uri']],
  ['mac', ['00:1a:2b:3c:4d:5e', '00-1a-2b-3c-4d-5e'], ['00:1a']],
  ['duration', ['1h30m', '1.5s', '3 days', '0'], ['soon', '5']],
  ['whatever-else', ['anything'], []]
])('the format %s', (format, right, wrong) => {
  for (const text of right) expect([text, causes({ type: 'string', format }, text)]).toEqual([text, []])
  for (const text of wrong) expect([text, causes({ type: 'string', format }, text).length]).toEqual([text, 1])
})

describe('what is right', () => {
  test.each<[string, JsonObject, Json]>([
    ['null where it is allowed', { type: 'string', nullable: true, enum: [null, 'a'] }, null],
    ['an integer for a number', { type: 'number' }, 5],
    ['characters beyond the basic plane, counted once', { type: 'string', maxLength: 2 }, '𝔘𝔙'],
    ['members that are not described', { type: 'object', properties: { a: { type: 'string' } } }, { b: 1 }],
    ['a member called like one of every object', { type: 'object', required: ['a'], properties: { a: {} } }, { a: 'constructor' }],
    ['elements of a map with different keys', {
      'type': 'array', 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': ['name', 'protocol'],
      'items': { type: 'object', required: ['name'], properties: { name: { type: 'string' }, protocol: { type: 'string', default: 'TCP' } } }
    }, [{ name: 'a' }, { name: 'a', protocol: 'UDP' }]]
  ])('%s', (_what, schema, value) => {
    expect(causes(schema, value)).toEqual([])
  })

  test('a key that a default fills in is a key', () => {
    const schema = {
      'type': 'array', 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': ['name', 'protocol'],
      'items': { type: 'object', required: ['name'], properties: { name: { type: 'string' }, protocol: { type: 'string', default: 'TCP' } } }
    }
    expect(causes(schema, [{ name: 'a' }, { name: 'a', protocol: 'TCP' }])).toHaveLength(1)
  })
})

describe('an update', () => {
  const schema = {
    type: 'object',
    properties: {
      level: { type: 'integer', maximum: 5 }, mode: { type: 'string', enum: ['a'] },
      list: {
        'type': 'array', 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': ['name'],
        'items': { type: 'object', properties: { name: { type: 'string' }, level: { type: 'integer', maximum: 5 } } }
      }
    }
  }

  test('is not refused for what it leaves as it was before the schema said so', () => {
    const before = { level: 9, list: [{ name: 'a', level: 9 }] }
    expect(causes(schema, { level: 9, mode: 'a', list: [{ name: 'b', level: 1 }, { name: 'a', level: 9 }] }, before)).toEqual([])
  })

  test('is refused for what it changes', () => {
    expect(causes(schema, { level: 8, list: [{ name: 'b', level: 9 }] }, { level: 9, list: [{ name: 'a', level: 9 }] })).toHaveLength(2)
  })
})

describe('however large it is', () => {
  test('as many causes as are told are looked for', () => {
    const value = Array.from({ length: 100_000 }, () => 'x')
    expect(causes({ type: 'array', items: { type: 'integer' } }, value)).toHaveLength(100)
  })

  test('the work has a bound, and what is beyond is refused', () => {
    const value = Array.from({ length: 20_000 }, () => 'a'.repeat(50))
    const found = causes({ type: 'array', items: { type: 'string', pattern: '^(a{1,50}){1,50}$' } }, value)
    expect(found).toEqual(['FieldValueInvalid spec: Invalid value: "": the schema makes too much work of this object'])
  })
})

test('a value is one of those that are allowed whatever the order of its members, and however many are nearly it', { timeout: 5000 }, () => {
  const one = (last: number): Json => ({ a: Array.from({ length: 60 }, () => 1), b: last })
  const allowed = Array.from({ length: 6000 }, (_, i) => one(i))
  const schema = { type: 'array', items: { 'type': 'object', 'x-kubernetes-preserve-unknown-fields': true, 'enum': allowed } }
  const { a, b } = one(5999) as JsonObject
  expect(causes(schema, Array.from({ length: 6000 }, () => ({ b: b!, a: a! })))).toEqual([])
})
