import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Json, JsonObject } from '../object.ts'
import { StatusError } from '../status-error.ts'
import { instanceCauses } from './instance-causes.ts'
import { prune, setDefaults } from './pruning.ts'
import { compileSchema, isJsonObject } from './structural-schema.ts'
import { created, widgetDocument, widgets } from './testing/definitions.ts'

const runs = { numRuns: Number(process.env['RUNS'] ?? 500), ...process.env['SEED'] === undefined ? {} : { seed: Number(process.env['SEED']) } }
/** Few, so that documents meet schemas; some are dangerous in objects of this language. */
const names = fc.constantFrom('a', 'b', 'c', 'metadata', 'kind', '__proto__', 'constructor', 'toString', '')
const scalars: fc.Arbitrary<Json> = fc.constantFrom<Json[]>(null, true, false, 0, 1, -3, 1.5, 2 ** 40, '', 'a', 'ab', '10.0.0.1', '2026-11-21T11:00:00Z')

const record = (value: fc.Arbitrary<Json>): fc.Arbitrary<JsonObject> =>
  fc.array(fc.tuple(names, value), { maxLength: 5 }).map(members => Object.fromEntries(members))

const documents = fc.letrec<{ value: Json }>(tie => ({
  value: fc.oneof({ maxDepth: 5, depthSize: 'medium' }, scalars, fc.array(tie('value'), { maxLength: 4 }), record(tie('value')))
})).value

type Schema = Record<string, Json>

/** Schemas that are structural by the way they are made; defaults are left to a test of their own. */
const schemas = fc.letrec<{ schema: Schema }>(tie => {
  const common = fc.record({ nullable: fc.constant(true) }, { requiredKeys: [] })
  const text = fc.record({
    minLength: fc.nat(2), maxLength: fc.nat(4), pattern: fc.constantFrom('^a', 'b$', '^(a|b)*$'), format: fc.constantFrom('ipv4', 'date-time', 'other'),
    default: fc.constantFrom('a', 'ab')
  }, { requiredKeys: [] }).map(rules => ({ type: 'string', ...rules }))
  const number = fc.record({ minimum: fc.integer({ min: -2, max: 2 }), maximum: fc.integer({ min: 0, max: 3 }), default: fc.constantFrom(0, 1) }, { requiredKeys: [] })
    .chain(rules => fc.constantFrom('integer', 'number').map(type => ({ type, ...rules })))
  const structure = fc.record({
    properties: fc.array(fc.tuple(names, tie('schema')), { maxLength: 5 }).map(members => Object.fromEntries(members))
  }).map(({ properties }): Schema => Object.keys(properties).length === 0 ? { type: 'object' } : { type: 'object', properties })
  const object = fc.tuple(structure, fc.record({
    'required': fc.array(names, { maxLength: 2 }), 'minProperties': fc.nat(1), 'maxProperties': fc.nat(4), 'default': fc.constant({}),
    'x-kubernetes-preserve-unknown-fields': fc.constant(true), 'anyOf': fc.constant([{ required: ['a'] }, { required: ['b'] }]),
    'not': fc.constant({ required: ['c'] }), 'oneOf': fc.constant([{ maxProperties: 2 }, { minProperties: 2 }])
  }, { requiredKeys: [] })).map(([base, rules]) => ({ ...base, ...rules }))
  const map = tie('schema').map(schema => ({ type: 'object', additionalProperties: schema }))
  const list = fc.tuple(tie('schema'), fc.record({ 'minItems': fc.nat(1), 'maxItems': fc.nat(3), 'x-kubernetes-list-type': fc.constantFrom('set', 'atomic') },
    { requiredKeys: [] })).map(([items, rules]) => ({ type: 'array', items, ...rules }))
  const open = fc.constantFrom<Schema[]>({ 'x-kubernetes-preserve-unknown-fields': true }, { 'x-kubernetes-int-or-string': true },
    { type: 'boolean' }, { 'type': 'object', 'x-kubernetes-embedded-resource': true, 'x-kubernetes-preserve-unknown-fields': true })
  return {
    schema: fc.tuple(fc.oneof({ maxDepth: 5, depthSize: 'medium' }, text, number, open, object, map, list), common)
      .map(([base, more]): Schema => ({ ...base as Schema, ...more }))
  }
}).schema

/** What a schema leaves of a value; a plain reading of the rule. */
function kept(value: Json, schema: Schema | undefined, keeps: boolean): Json {
  const keepsHere = keeps || schema?.['x-kubernetes-preserve-unknown-fields'] === true
  if (Array.isArray(value)) return value.map(element => kept(element, schema?.['items'] as Schema | undefined, keepsHere))
  if (!isJsonObject(value)) return value
  const properties = (schema?.['properties'] ?? {}) as Record<string, Schema>
  return Object.fromEntries(Object.entries(value).flatMap(([name, member]): [string, Json][] => {
    const known = Object.hasOwn(properties, name) ? properties[name] : schema?.['additionalProperties'] as Schema | undefined
    if (known !== undefined) return [[name, kept(member, known, false)]]
    return keepsHere ? [[name, member]] : []
  }))
}

/** Resources inside are a matter of their own. */
const withoutEmbedded = (schema: Schema): boolean => !JSON.stringify(schema).includes('embedded')

const normalised = (value: Json, schema: Schema): Json => {
  const copy = structuredClone(value)
  const compiled = compileSchema(schema)
  prune(copy, compiled, 100)
  setDefaults(copy, compiled)
  return copy
}

test('pruning leaves what the schema knows, and nothing else', () => {
  fc.assert(fc.property(schemas.filter(withoutEmbedded), documents, (schema, document) => {
    const pruned = structuredClone(document)
    const told = prune(pruned, compileSchema(schema), 1_000)
    expect(pruned).toEqual(kept(document, schema, false))
    expect(told.length === 0).toBe(JSON.stringify(pruned) === JSON.stringify(document))
  }), runs)
})

test('what was pruned and defaulted is so for ever, and is as right as it was', () => {
  fc.assert(fc.property(schemas, documents, (schema, document) => {
    const once = normalised(document, schema)
    const twice = normalised(once, schema)
    expect(twice).toEqual(once)
    const compiled = compileSchema(schema)
    expect(instanceCauses(twice, compiled, 'x', 50)).toEqual(instanceCauses(once, compiled, 'x', 50))
    // What is as it was is not refused; a name of a list's elements or a member alike.
    expect(instanceCauses(once, compiled, 'x', 50, structuredClone(once))).toEqual([])
  }), runs)
})

test('what a definition takes serves documents of any kind', () => {
  let taken = 0
  fc.assert(fc.property(schemas, fc.array(documents, { maxLength: 4 }), (schema, given) => {
    const { causes } = created(widgetDocument(schema))
    // A default may be refused by the rules beside it, a list or a map by what is asked of them; that is all.
    expect(causes.filter(cause => !/\.default|must be object if|must contain null/.test(cause))).toEqual([])
    if (causes.length > 0) return
    taken++
    const resource = widgets(schema)
    for (const spec of given) {
      const body = { apiVersion: 'example.com/v1', kind: 'Widget', metadata: { name: 'w', namespace: 'default' }, spec }
      const { object } = resource.decode(body, 'Warn')
      const again = resource.decode(JSON.parse(JSON.stringify(object)) as Json, 'Strict').object
      expect(again).toEqual(object)
      resource.prepareForCreate(object)
      expect(resource.validate(object, undefined).every(({ field, message }) => field !== undefined && message !== '')).toBe(true)
      expect(resource.cells(object, 0)).toHaveLength(resource.columns.length)
    }
    expect(Object.keys(Object.prototype)).toEqual([])
  }), runs)
  expect(taken).toBeGreaterThan(runs.numRuns / 4)
})

test('documents of any form are taken or refused as they should be', () => {
  const resource = widgets({ type: 'object', properties: { a: { type: 'string' } } })
  fc.assert(fc.property(documents, record(documents), (document, members) => {
    for (const given of [document, members, { apiVersion: 'example.com/v1', kind: 'Widget', ...members }]) {
      try {
        resource.validate(resource.decode(given, 'Strict').object, undefined)
      } catch (error) {
        expect(error).toBeInstanceOf(StatusError)
        expect([400, 422]).toContain((error as StatusError).code)
      }
    }
  }), runs)
})
