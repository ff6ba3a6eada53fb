import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { definitionTypes } from '../crd/definition-types.ts'
import type { Json, JsonObject, KubeObject } from '../object.ts'
import { StatusError } from '../status-error.ts'
import { builtInResources } from './built-in-resources.ts'
import { kindTypes } from './kind-types.ts'
import { nowMs } from './testing/objects.ts'

const resources = builtInResources()
const types = { ...kindTypes, ...definitionTypes }
/** Schemas hold schemas; so deep are those that are made here. */
const schemaDepthMax = 6

/** Documents made along the table of types, some of them wrong somewhere. */
class DocumentMaker {
  #state: number
  readonly #faulty: number
  #schemaDepth = 0

  /** `faulty` is the share of values that are of any type. */
  constructor(seed: number, faulty: number) {
    this.#state = seed >>> 0
    this.#faulty = faulty
  }

  #next(below: number): number {
    this.#state = (Math.imul(this.#state ^ (this.#state >>> 15), 0x2c1b3c6d) + 0x9e3779b9) >>> 0
    return ((this.#state ^ (this.#state >>> 16)) >>> 0) % below
  }

  #pick<T>(values: readonly T[]): T { return values[this.#next(values.length)]! }

  #junk(): Json {
    return this.#pick<Json>([null, true, -1, 1.5, 2 ** 53, '', 'x', [], {}, [[]], [null], { __proto__: null, a: 1 }, 'Ünï\ud800', '2026-11-21T11:00:00Z'])
  }

  object(type: string): JsonObject {
    const fields = Object.entries(types[type]!)
    const members = fields.flatMap(([name, field]): [string, Json][] => this.#next(3) === 0 ? [[name, this.#value(field)]] : [])
    if (this.#faulty > 0 && this.#next(20) === 0) members.push([this.#pick(['__proto__', 'constructor', 'bogus', '']), this.#junk()])
    return Object.fromEntries(members)
  }

  #value(field: string): Json {
    if (this.#faulty > 0 && this.#next(1000) < this.#faulty * 1000) return this.#junk()
    const name = field.replace(/^(\[\]|\{\})/, '').replace('?', '')
    if (field.startsWith('[]')) return Array.from({ length: this.#next(3) }, () => this.#single(name))
    if (field.startsWith('{}')) {
      return Object.fromEntries(Array.from({ length: this.#next(3) }, () => [this.#pick(['a', 'cpu', 'memory', 'x/y', '__proto__', '']), this.#single(name)]))
    }
    return this.#single(name)
  }

  #schema(): JsonObject {
    if (this.#schemaDepth >= schemaDepthMax || this.#next(3) === 0) return { type: this.#pick(['string', 'integer', 'object']) }
    this.#schemaDepth++
    const schema = this.object('JSONSchemaProps')
    this.#schemaDepth--
    return schema
  }

  #single(name: string): Json {
    switch (name) {
      case 'string': return this.#pick(['', 'a', 'Always', 'TCP', 'ClientIP', 'None', 'x'.repeat(300), '/a/../b', 'a.example/b', '10.0.0.1', 'Init:0/1'])
      case 'int32':
      case 'int64': return this.#pick([0, 1, -1, 80, 70_000, 2 ** 31 - 1])
      case 'number': return this.#pick([0, 0.5])
      case 'boolean': return this.#next(2) === 0
      case 'date-time':
      case 'micro-time': return this.#pick(['2026-11-21T11:00:00Z', '2026-11-21T11:00:00.123456+01:00', '0001-01-01T00:00:00Z'])
      case 'bytes': return this.#pick(['', 'YQ==', 'AAEC'])
      case 'quantity': return this.#pick(['0', '1', '500m', '-1', '1Gi', '0.5', '1e3'])
      case 'int-or-string': return this.#pick<Json>([0, 80, 'http', ''])
      case 'any': return this.#junk()
      case 'schema-or-boolean': return this.#next(4) === 0 ? this.#next(2) === 0 : this.#schema()
      case 'schema-or-list': return this.#next(8) === 0 ? [this.#schema()] : this.#schema()
      case 'JSONSchemaProps': return this.#schema()
      default: return this.object(name)
    }
  }
}

const runs = { numRuns: Number(process.env['RUNS'] ?? 300), ...process.env['SEED'] === undefined ? {} : { seed: Number(process.env['SEED']) } }
const seeds = fc.integer({ min: 1, max: 2 ** 31 })

test.each(resources.map(resource => [resource.kind, resource] as const))('a %s of any form is taken in, or refused', (kind, resource) => {
  fc.assert(fc.property(seeds, fc.constantFrom(0, 0.001, 0.02), (seed, faulty) => {
    const document = { ...new DocumentMaker(seed, faulty).object(kind), apiVersion: null, kind: null }
    let object: KubeObject
    try {
      ({ object } = resource.decode(document, 'Ignore'))
    } catch (error) {
      expect(error).toBeInstanceOf(StatusError)
      expect(error).toMatchObject({ code: 400, reason: 'BadRequest' })
      return
    }
    // What was decoded is what it is: again it gives the same, and a client may send it back.
    const sent = JSON.parse(JSON.stringify(object)) as Json
    const again = resource.decode(sent, 'Strict')
    expect(again.object).toEqual(sent)
    // A definition may say what means nothing here.
    expect(again.warnings.filter(warning => !/not enforced|unrecognized format/.test(warning))).toEqual([])
    const current = structuredClone(object)
    resource.prepareForCreate(object)
    expect(resource.validate(object, undefined).every(({ field, message, reason }) => [field, message, reason].every(part => typeof part === 'string'))).toBe(true)
    const cells = resource.cells(object, nowMs)
    expect(cells).toHaveLength(resource.columns.length)
    expect(cells.every(cell => typeof cell === 'string' || typeof cell === 'number')).toBe(true)
    expect(Object.values(resource.selectableFields(object)).every(value => typeof value === 'string')).toBe(true)
    for (const subresource of [undefined, ...resource.subresources]) {
      const next = structuredClone(current)
      resource.prepareForUpdate(next, object, subresource)
      resource.validate(next, object)
    }
    expect(({} as Record<string, unknown>)['a']).toBeUndefined()
  }), runs)
}, 60_000)

test.each<[string, string, JsonObject]>([
  ['labels', 'ConfigMap', { metadata: { labels: Object.fromEntries(Array.from({ length: 30_000 }, (_, i) => [`-${i}`, '!'])) } }],
  ['annotations', 'Secret', { metadata: { annotations: Object.fromEntries(Array.from({ length: 30_000 }, (_, i) => [`-${i}`, ''])) } }],
  ['finalizers', 'Lease', { metadata: { finalizers: Array.from({ length: 30_000 }, () => '!') } }],
  ['owners', 'Node', { metadata: { ownerReferences: Array.from({ length: 30_000 }, () => ({ controller: true })) } }],
  ['keys', 'ConfigMap', { data: Object.fromEntries(Array.from({ length: 30_000 }, (_, i) => [`!${i}`, ''])) }],
  ['containers', 'Pod', { spec: { containers: Array.from({ length: 30_000 }, () => ({ name: 'A' })) } }],
  ['volumes', 'PodTemplate', { template: { spec: { volumes: Array.from({ length: 30_000 }, () => ({ name: 'v' })) } } }],
  ['ports', 'Service', { spec: { ports: Array.from({ length: 30_000 }, () => ({ port: 0 })) } }]
])('very many wrong %s are refused with a reply that can be sent', (_name, kind, document) => {
  const resource = resources.find(candidate => candidate.kind === kind)!
  const { object } = resource.decode(document, 'Strict')
  resource.prepareForCreate(object)
  const causes = resource.validate(object, undefined)
  expect(causes.length).toBeGreaterThan(100)
  expect(causes.length).toBeLessThanOrEqual(1_000)
  const current = structuredClone(object)
  resource.prepareForUpdate(object, { ...current, metadata: { deletionTimestamp: '2026-11-21T11:00:00Z' } }, undefined)
  expect(resource.validate(object, { ...current, metadata: { deletionTimestamp: '2026-11-21T11:00:00Z' } }).length).toBeLessThanOrEqual(1_000)
})

describe('the list of built-in kinds', () => {
  test('says of each what discovery tells', () => {
    const told = Object.fromEntries(resources.map(({ plural, singular, kind, listKind, group, version, shortNames, categories, namespaced, subresources }) =>
      [plural, [singular, kind, listKind, group, version, shortNames.join(), categories.join(), namespaced, subresources.join()]]))
    expect(told).toEqual({
      configmaps: ['configmap', 'ConfigMap', 'ConfigMapList', '', 'v1', 'cm', '', true, ''],
      events: ['event', 'Event', 'EventList', '', 'v1', 'ev', '', true, ''],
      namespaces: ['namespace', 'Namespace', 'NamespaceList', '', 'v1', 'ns', '', false, 'finalize,status'],
      nodes: ['node', 'Node', 'NodeList', '', 'v1', 'no', '', false, 'status'],
      pods: ['pod', 'Pod', 'PodList', '', 'v1', 'po', 'all', true, 'status'],
      podtemplates: ['podtemplate', 'PodTemplate', 'PodTemplateList', '', 'v1', '', '', true, ''],
      secrets: ['secret', 'Secret', 'SecretList', '', 'v1', '', '', true, ''],
      serviceaccounts: ['serviceaccount', 'ServiceAccount', 'ServiceAccountList', '', 'v1', 'sa', '', true, ''],
      services: ['service', 'Service', 'ServiceList', '', 'v1', 'svc', 'all', true, 'status'],
      customresourcedefinitions: ['customresourcedefinition', 'CustomResourceDefinition', 'CustomResourceDefinitionList',
        'apiextensions.k8s.io', 'v1', 'crd,crds', 'api-extensions', false, 'status'],
      leases: ['lease', 'Lease', 'LeaseList', 'coordination.k8s.io', 'v1', '', '', true, '']
    })
    const verbs = ['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'update', 'watch']
    for (const resource of resources) expect(resource.verbs).toEqual(resource.plural === 'namespaces' ? verbs.filter(verb => verb !== 'deletecollection') : verbs)
  })

  test('each tells its fields of an object that has nothing, so that a selector can be checked without one', () => {
    const empty = Object.freeze({ apiVersion: 'v1', kind: '', metadata: Object.freeze({}) })
    const fields = Object.fromEntries(resources.map(resource => [resource.kind, Object.keys(resource.selectableFields(empty)).toSorted()]))
    expect(fields).toMatchObject({
      ConfigMap: [], Secret: ['type'], Node: ['spec.unschedulable'], Namespace: ['name', 'status.phase'],
      Pod: ['spec.hostNetwork', 'spec.nodeName', 'spec.restartPolicy', 'spec.schedulerName', 'spec.serviceAccountName',
        'status.nominatedNodeName', 'status.phase', 'status.podIP']
    })
  })

  test('each can be patched strategically', () => {
    expect(resources.filter(({ mergeSchema }) => mergeSchema === undefined)).toEqual([])
  })
})
