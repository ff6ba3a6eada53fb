import { describe, expect, test } from 'vitest'
import type { Json, JsonObject } from '../object.ts'
import { StatusError } from '../status-error.ts'
import { nowMs, widget, widgets } from './testing/definitions.ts'

const schema: JsonObject = {
  type: 'object', required: ['model'],
  properties: {
    'model': { type: 'string' },
    'mode': { type: 'string', default: 'auto' },
    'note': { type: 'string', nullable: true },
    'limits': { type: 'object', default: {}, properties: { max: { type: 'integer', default: 10 } } },
    'ports': { type: 'array', items: { type: 'object', properties: { name: { type: 'string', default: 'http' } } } },
    'tags': { type: 'object', additionalProperties: { type: 'object', properties: { on: { type: 'boolean', default: true } } } },
    'extra': { 'type': 'object', 'x-kubernetes-preserve-unknown-fields': true, 'properties': { known: { type: 'object', properties: { a: { type: 'string' } } } } },
    'template': { 'type': 'object', 'x-kubernetes-embedded-resource': true, 'x-kubernetes-preserve-unknown-fields': true },
    'plain': { 'type': 'object', 'x-kubernetes-embedded-resource': true, 'properties': { spec: { type: 'object' } } },
    ['__proto__']: { type: 'string' }
  }
}

const document = (spec: Json, more: JsonObject = {}): JsonObject =>
  ({ apiVersion: 'example.com/v1', kind: 'Widget', metadata: { name: 'w', namespace: 'default' }, spec, ...more })

describe('a document', () => {
  const resource = widgets(schema)

  test('gets the defaults of what is absent, at every level', () => {
    const { object, causes } = widget(resource, { model: 'm', ports: [{}, { name: 'x' }], tags: { a: {}, b: { on: false } } })
    expect(causes).toEqual([])
    expect(object['spec']).toEqual({
      model: 'm', mode: 'auto', limits: { max: 10 }, ports: [{ name: 'http' }, { name: 'x' }], tags: { a: { on: true }, b: { on: false } }
    })
  })

  test('is refused where its defaults come to more than an object may have', () => {
    const names = { type: 'array', items: { type: 'string' }, default: Array.from({ length: 100 }, () => 'a name that is long') }
    const listing = widgets({ type: 'object', properties: { all: { type: 'array', items: { type: 'object', properties: { names } } } } })
    const all = (count: number): JsonObject => ({ all: Array.from({ length: count }, () => ({})) })
    expect(widget(listing, all(500)).causes).toEqual([])
    expect(() => widget(listing, all(100_000))).toThrow(expect.objectContaining({ code: 413, reason: 'RequestEntityTooLarge' }))
  })

  test('keeps nulls where they are allowed, has defaults for them or loses them where they are not', () => {
    const { object } = widget(resource, { model: 'm', note: null, mode: null, limits: null, ports: null })
    expect(object['spec']).toEqual({ model: 'm', note: null, mode: 'auto', limits: { max: 10 } })
  })

  test('loses what the schema does not know, and it is told', () => {
    const given = document({ model: 'm', x: 1, extra: { any: { thing: [1, null] }, known: { a: 'a', b: 1 } }, ports: [{ zap: 1 }] }, { other: 1, metadata: { name: 'w', lables: {} } })
    const { object, warnings } = resource.decode(given, 'Warn')
    expect(object['spec']).toMatchObject({ extra: { any: { thing: [1, null] }, known: { a: 'a' } }, ports: [{ name: 'http' }] })
    expect(Object.keys(object)).toEqual(['apiVersion', 'kind', 'metadata', 'spec'])
    expect(warnings).toEqual(['metadata.lables', 'other', 'spec.extra.known.b', 'spec.ports[0].zap', 'spec.x'].map(path => `unknown field "${path}"`))
    expect(() => resource.decode(given, 'Strict')).toThrow('strict decoding error: unknown field "metadata.lables", unknown field "other"')
    expect(resource.decode(given, 'Ignore').warnings).toEqual([])
  })

  test('may hold other resources, whose metadata is metadata', () => {
    const inner = { apiVersion: 'v1', kind: 'X', metadata: { name: 'x', bogus: 1 }, free: 1 }
    const { object, causes } = widget(resource, { model: 'm', template: inner, plain: { ...inner, spec: {} } })
    expect(causes).toEqual([])
    expect(object['spec']).toMatchObject({ template: { ...inner, metadata: { name: 'x' } }, plain: { apiVersion: 'v1', kind: 'X', metadata: { name: 'x' }, spec: {} } })
    expect((object['spec'] as JsonObject)['plain']).not.toHaveProperty('free')
    expect(widget(resource, { model: 'm', plain: { metadata: 5 } }).causes).toEqual([
      'spec.plain.apiVersion: Required value: must not be empty', 'spec.plain.kind: Required value: must not be empty'
    ])
  })

  test('may have members that are called as those of every object are', () => {
    const spec = JSON.parse('{"model":"m","__proto__":"p","constructor":1}') as Json
    const { object } = widget(resource, spec)
    expect(Object.keys(object['spec'] as JsonObject)).toContain('__proto__')
    expect(Object.hasOwn(object['spec'] as JsonObject, 'constructor')).toBe(false)
    expect(({} as JsonObject)['p']).toBeUndefined()
  })

  test.each<[string, Json, number]>([
    ['without a kind', { apiVersion: 'example.com/v1', metadata: { name: 'w' } }, 400],
    ['without a version', { kind: 'Widget', metadata: { name: 'w' } }, 400],
    ['of another version', { apiVersion: 'example.com/v2', kind: 'Widget' }, 400],
    ['of another kind', { apiVersion: 'example.com/v1', kind: 'Gadget', metadata: { name: 'w' } }, 422],
    ['whose metadata is none', document({}, { metadata: 'w' }), 400],
    ['that is a list', [], 400]
  ])('%s is refused', (_what, given, code) => {
    expect(() => resource.decode(given, 'Ignore')).toThrow(StatusError)
    try {
      resource.decode(given, 'Ignore')
    } catch (error) {
      expect((error as StatusError).code).toBe(code)
    }
  })
})

describe('an object', () => {
  const withStatus = widgets({ type: 'object', properties: { level: { type: 'integer' } } }, { subresources: { status: {} } })
  const current = { ...widget(withStatus, { level: 1 }).object, status: { phase: 'New' } }
  const next = (spec: Json, more: JsonObject = {}) => withStatus.decode({
    ...document(spec), metadata: { name: 'w', namespace: 'default', resourceVersion: '7' }, ...more
  }, 'Ignore').object

  test('begins without a status, which has a way of its own', () => {
    const { object } = widget(withStatus, {}, { status: { phase: 'Hacked' } })
    expect(object).not.toHaveProperty('status')
    expect(object.metadata.generation).toBe(1)
  })

  test('keeps its status through a change of its spec, which counts', () => {
    const object = next({ level: 2 }, { status: { phase: 'Hacked' } })
    withStatus.prepareForUpdate(object, current, undefined)
    expect(object).toMatchObject({ spec: { level: 2 }, status: { phase: 'New' }, metadata: { generation: 2 } })
  })

  test('keeps everything else through a change of its status, which does not count', () => {
    const object = next({ level: 9 }, { status: { phase: 'Next' } })
    object.metadata.labels = { hacked: 'yes' }
    withStatus.prepareForUpdate(object, current, 'status')
    expect(object).toMatchObject({ spec: { level: 1 }, status: { phase: 'Next' }, metadata: { generation: 1, resourceVersion: '7' } })
    expect(object.metadata.labels).toBeUndefined()
    // The stored one is nobody's to change.
    expect(current.metadata).not.toHaveProperty('resourceVersion')
  })

  test('counts changes of its metadata never, and those of its status where that has no way of its own', () => {
    const labelled = next({ level: 1 }, { metadata: { name: 'w', namespace: 'default', resourceVersion: '7', labels: { a: 'b' } } })
    withStatus.prepareForUpdate(labelled, current, undefined)
    expect(labelled.metadata.generation).toBe(1)
    const plain = widgets({ type: 'object', properties: { level: { type: 'integer' } } })
    const object = next({ level: 1 }, { status: { phase: 'Next' } })
    plain.prepareForUpdate(object, current, undefined)
    expect(object.metadata.generation).toBe(2)
  })
})

describe('a table', () => {
  const columns = [
    { name: 'Model', type: 'string', jsonPath: '.spec.model' },
    { name: 'Level', type: 'integer', jsonPath: '.spec.level' },
    { name: 'Ratio', type: 'number', jsonPath: '.spec.ratio', priority: 1 },
    { name: 'On', type: 'boolean', jsonPath: '.spec.on' },
    { name: 'Seen', type: 'date', jsonPath: '.spec.seen', description: 'When it was seen.' },
    { name: 'All', type: 'string', jsonPath: '.spec.list' }
  ]
  const open = { 'type': 'object', 'x-kubernetes-preserve-unknown-fields': true }
  const resource = widgets(open, { additionalPrinterColumns: columns })

  test('has the columns that the definition says', () => {
    expect(resource.columns.map(({ name, type, description, priority }) => [name, type, description, priority]).slice(1)).toEqual([
      ['Model', 'string', 'Custom resource definition column (in JSONPath format): .spec.model', 0],
      ['Level', 'integer', 'Custom resource definition column (in JSONPath format): .spec.level', 0],
      ['Ratio', 'number', 'Custom resource definition column (in JSONPath format): .spec.ratio', 1],
      ['On', 'boolean', 'Custom resource definition column (in JSONPath format): .spec.on', 0],
      ['Seen', 'date', 'When it was seen.', 0],
      ['All', 'string', 'Custom resource definition column (in JSONPath format): .spec.list', 0]
    ])
  })

  test('shows values of the right types, ages of times, and nothing for the rest', () => {
    const cells = (spec: Json): Json[] => resource.cells(widget(resource, spec).object, nowMs)
    expect(cells({ model: 'm', level: 5.7, ratio: 0.5, on: false, seen: '2026-11-21T10:55:00Z', list: ['a'] }))
      .toEqual(['w', 'm', 5, 0.5, false, '5m', '["a"]'])
    expect(cells({ model: 5, level: '5', ratio: null, seen: 'soon' })).toEqual(['w', '5', null, null, null, '<invalid>', null])
  })

  test('has ages where nothing else is said', () => {
    const plain = widgets(open)
    expect(plain.columns.map(({ name, type }) => [name, type])).toEqual([['Name', 'string'], ['Age', 'date']])
    const { object } = widget(plain, {})
    object.metadata.creationTimestamp = '2026-11-21T10:00:00Z'
    expect(plain.cells(object, nowMs)).toEqual(['w', '60m'])
  })
})

test('fields are selectable by their text', () => {
  const resource = widgets({ type: 'object', properties: { mode: { type: 'string' }, level: { type: 'integer' }, on: { type: 'boolean' } } },
    { selectableFields: [{ jsonPath: '.spec.mode' }, { jsonPath: '.spec.level' }, { jsonPath: '.spec.on' }] })
  expect(resource.selectableFields(widget(resource, { level: 5, on: true }).object)).toEqual({ 'spec.mode': '', 'spec.level': '5', 'spec.on': 'true' })
})
