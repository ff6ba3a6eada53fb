import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { decodeTwin, encodeTwin } from './codec.ts'
import { delta } from './delta.ts'
import { desiredOfDevice, reconcileDesired } from './desired.ts'
import type { Json, KubeJson } from './json.ts'
import { propertyTypes, readRules } from './rules.ts'
import { desiredAnnotation } from './stamps.ts'
import { step } from './step.ts'
import { emptyTwin } from './twin.ts'
import { coerce, parseJsonValue, valueOfText } from './value.ts'
import { HybridClock } from './version.ts'

// JSON has one zero: what is -0 in memory is read back as 0.
expect.addEqualityTesters([(one, other) => one === 0 && other === 0 ? true : undefined])

/** `RUNS=25000` for a hundred thousand documents in all. */
const runs = { numRuns: Number(process.env['RUNS'] ?? 2500), ...process.env['SEED'] !== undefined && { seed: Number(process.env['SEED']) } }
const hash = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 16)

const anything = fc.anything({ maxDepth: 3, maxKeys: 4, withBigInt: true, withDate: true, withMap: true, withNullPrototype: true, withSparseArray: true })
/** Mostly of the shape that is expected, with anything in any place of it. */
const nearly = (expected: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> => fc.oneof({ weight: 9, arbitrary: expected }, { weight: 1, arbitrary: anything })
const name = nearly(fc.oneof(fc.constantFrom('a', 'b', '__proto__', 'constructor', ''), fc.string({ maxLength: 5 })))
const versionText = fc.oneof(fc.constantFrom('5.0.cloud/00000000', '999999999999999.999999999999999.node-1/0000000f', '6.1.node-1/00000000', '5', '1e3.0.n/0'), fc.string({ maxLength: 9 }))

const desired = nearly(fc.record({
  value: nearly(fc.oneof(fc.constantFrom('1', '', '99', '{"a":'), fc.string())),
  metadata: nearly(fc.dictionary(fc.constantFrom('type', 'x'), nearly(fc.constantFrom('int', 'json', 'JSON', 'bytes'))))
}, { requiredKeys: [] }))
const item = nearly(fc.record({
  name, desired, type: nearly(fc.constantFrom(...propertyTypes)), accessMode: nearly(fc.constantFrom('ReadOnly', 'ReadWrite')),
  minimum: nearly(fc.constantFrom('0', 'low', '1e999')), maximum: nearly(fc.constantFrom('50', '')), unit: anything
}, { requiredKeys: [] }))
const stamp = nearly(fc.record({ version: nearly(versionText), hash: nearly(fc.constantFrom(hash('1'), hash(''), 'short')), deleted: nearly(fc.boolean()), replaces: nearly(versionText) }, { requiredKeys: [] }))
const json = (of: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> => of.map(each => {
  try {
    return JSON.stringify(each)
  } catch {
    return '{'
  }
})
const object = nearly(fc.record({
  metadata: nearly(fc.record({ annotations: nearly(fc.record({ [desiredAnnotation]: nearly(json(fc.dictionary(fc.constantFrom('a', 'b', 'c'), stamp))) })) })),
  spec: nearly(fc.record({ properties: nearly(fc.array(item, { maxLength: 4 })) }))
})) as fc.Arbitrary<KubeJson>

const entry = nearly(fc.record({
  value: nearly(fc.oneof(fc.jsonValue({ maxDepth: 2 }), fc.constant(null))), version: nearly(versionText), timestamp: nearly(fc.nat()), type: nearly(fc.constant('int')), deleted: nearly(fc.constant(true))
}, { requiredKeys: ['version', 'timestamp'] }))
const entries = nearly(fc.dictionary(fc.oneof(fc.constantFrom('a', 'b', '__proto__'), fc.string({ maxLength: 4 })), entry, { maxKeys: 3 }))
const encoded = nearly(fc.record({
  revision: nearly(fc.nat()), desired: entries, reported: entries, state: nearly(fc.record({ value: nearly(fc.constantFrom('online', 'gone')), timestamp: nearly(fc.nat()) })),
  lastOnlineTime: nearly(fc.nat())
}, { requiredKeys: ['revision', 'desired', 'reported'] }))

/** KubeJson is an object; what else arrives is the caller's to turn away. */
const isObject = (each: unknown): each is KubeJson => typeof each === 'object' && each !== null && !Array.isArray(each)

test('any value against any rule is taken or refused with a sentence', () => {
  fc.assert(fc.property(anything, fc.record({ type: fc.constantFrom(...propertyTypes, undefined), bound: fc.constantFrom(undefined, 0, 5) }), fc.string({ maxLength: 8 }), (value, { type, bound }, called) => {
    const rule = { name: 'p', type, access: 'ReadWrite' as const, minimum: bound, maximum: undefined, unit: undefined }
    for (const read of [coerce(value as Json, rule, 'p', called), coerce(value as Json, undefined, called, called)]) {
      if ('error' in read) expect(read.error.message.length).toBeGreaterThan(20)
      else expect(JSON.stringify(read.value)).toBeDefined()
    }
    const writes = new Map([[called, { value: value as Json, type: called, timestamp: value as number }]])
    const rules = readRules({ device: {}, model: undefined, freshnessMs: 1 })
    const { twin } = step(emptyTwin, { kind: 'reported', merge: true, version: new HybridClock('n', '00000000').next(5), nowMs: 5, rules, writes })
    expect(decodeTwin(encodeTwin(twin))).toEqual(twin)
  }), runs)
})

test('any text is a value, or refused with a sentence', { timeout: 60_000 }, () => {
  const document = fc.oneof(fc.string(), fc.json(), fc.string({ unit: 'binary' }), fc.stringMatching(/^[[\]{}",:0-9.eE+-]{0,20}$/))
  fc.assert(fc.property(document, fc.constantFrom(...propertyTypes, undefined), fc.constantFrom(undefined, 'json', 'int', 'bytes', ''), (text, type, called) => {
    const read = parseJsonValue(text)
    if ('error' in read) expect(read.error.message.length).toBeGreaterThan(20)
    expect(() => valueOfText(text, { name: 'p', type, access: 'ReadWrite', minimum: 1, maximum: 2, unit: '' }, called)).not.toThrow()
    expect(() => valueOfText(text, undefined, called)).not.toThrow()
  }), runs)
})

test('any document is a twin that is read back alike, or none', () => {
  let twins = 0
  fc.assert(fc.property(encoded, document => {
    const twin = decodeTwin(document)
    if (twin === undefined) return
    twins++
    expect(decodeTwin(JSON.parse(JSON.stringify(encodeTwin(twin))))).toEqual(twin)
  }), runs)
  expect(twins).toBeGreaterThan(runs.numRuns / 250)
})

test('any Device and any model give rules, desired values and a Device that stays as it is', { timeout: 60_000 }, () => {
  let stamped = 0
  fc.assert(fc.property(object.filter(isObject), fc.option(object.filter(isObject), { nil: undefined }), encoded, (device, model, item) => {
    const rules = readRules({ device, model, freshnessMs: 1 })
    const received = desiredOfDevice(device, rules, hash)
    stamped += received.size
    const { twin } = step(emptyTwin, { kind: 'desired-received', entries: received })
    expect(decodeTwin(encodeTwin(twin))).toEqual(twin)
    expect(delta(twin, rules).size).toBeLessThanOrEqual(received.size)
    const clock = new HybridClock('cloud', '00000001')
    const common = { node: decodeTwin(item)?.desired, clock, nowMs: 1000, hash }
    const done = reconcileDesired({ device, rules, ...common })
    const written = { metadata: { annotations: { [desiredAnnotation]: done.annotation } }, spec: { properties: done.properties } }
    const again = reconcileDesired({ device: written, rules, ...common })
    expect(again).toEqual({ ...done, changed: false })
    JSON.parse(done.annotation)
  }), { ...runs })
  expect(stamped).toBeGreaterThan(runs.numRuns / 50)
})
