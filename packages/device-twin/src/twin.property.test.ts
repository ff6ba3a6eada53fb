import fc from 'fast-check'
import { expect, test } from 'vitest'
import { decodeTwin, encodeTwin, entryBytes, propertyCount } from './codec.ts'
import { delta } from './delta.ts'
import { measure, mergePatch, textOf } from './json.ts'
import type { Json } from './json.ts'
import { twinLimits } from './limits.ts'
import { mergeDesired } from './merge.ts'
import { propertyTypes, readRules } from './rules.ts'
import type { DeviceRules } from './rules.ts'
import { step } from './step.ts'
import type { TwinInput } from './step.ts'
import { deviceStates, emptyTwin } from './twin.ts'
import type { Entry, Twin } from './twin.ts'
import { coerce } from './value.ts'
import { HybridClock, compareVersions, formatVersion, parseVersion } from './version.ts'
import type { Version } from './version.ts'

const runs = { numRuns: Number(process.env['RUNS'] ?? 200), ...process.env['SEED'] !== undefined && { seed: Number(process.env['SEED']) } }

const property = fc.constantFrom('a', 'b', 'c', 'd', 'é 😀')
const text = fc.string({ unit: 'grapheme', maxLength: 8 })
const value: fc.Arbitrary<Json> = fc.oneof(
  fc.integer({ min: -5, max: 120 }), fc.constantFrom('23', 'true', 'x', '', 'AA=='), fc.boolean(), fc.double({ noNaN: true, noDefaultInfinity: true }),
  text, fc.array(fc.integer(), { maxLength: 3 }), fc.dictionary(text.filter(name => name !== '__proto__'), fc.oneof(fc.integer(), text), { maxKeys: 3 })
).map(each => JSON.parse(JSON.stringify(each)) as Json)

/** Every write has a version of its own, and what it wrote follows from it: equal versions are equal values. */
const write: fc.Arbitrary<readonly [string, Entry]> = fc.record({
  name: property, time: fc.nat(5), counter: fc.nat(2), origin: fc.constantFrom('cloud/00000000', 'cloud/00000001', 'node-1/00000000')
}).map(({ name, ...version }) => {
  const value = `${name}${formatVersion(version)}`
  return [name, version.counter === 2 ? { value: null, version, timestamp: 0, deleted: true } : { value, version, timestamp: 0 }]
})
const desired = fc.array(write, { maxLength: 12 })
const asMap = (writes: readonly (readonly [string, Entry])[]): ReadonlyMap<string, Entry> =>
  writes.reduce((held, [name, entry]) => mergeDesired(held, new Map([[name, entry]])), new Map<string, Entry>() as ReadonlyMap<string, Entry>)
const sorted = (entries: ReadonlyMap<string, Entry>): unknown => [...entries].toSorted(([a], [b]) => a < b ? -1 : 1)

test('merging is commutative, associative and idempotent (TWN-12)', () => {
  fc.assert(fc.property(desired, desired, desired, (one, two, three) => {
    const [a, b, c] = [asMap(one), asMap(two), asMap(three)]
    expect(sorted(mergeDesired(a, b))).toEqual(sorted(mergeDesired(b, a)))
    expect(sorted(mergeDesired(mergeDesired(a, b), c))).toEqual(sorted(mergeDesired(a, mergeDesired(b, c))))
    expect(sorted(mergeDesired(a, a))).toEqual(sorted(a))
  }), runs)
})

test('replicas that saw the same writes are equal, in whatever order and however often they saw them', () => {
  const orders = desired.chain(writes => fc.tuple(fc.constant(writes), fc.shuffledSubarray([...writes, ...writes, ...writes], {
    minLength: writes.length * 3
  })))
  fc.assert(fc.property(orders, ([writes, shuffled]) => {
    const replica = shuffled.reduce((twin, each) => step(twin, { kind: 'desired-received', entries: new Map([each]) }).twin, emptyTwin)
    expect(sorted(replica.desired)).toEqual(sorted(asMap(writes)))
  }), runs)
})

test('versions are totally ordered, and read back', () => {
  const version = write.map(([, entry]) => entry.version)
  fc.assert(fc.property(version, version, version, (a, b, c) => {
    expect(parseVersion(formatVersion(a))).toEqual(a)
    expect(Math.sign(compareVersions(a, b))).toBe(-Math.sign(compareVersions(b, a)) + 0)
    if (compareVersions(a, b) <= 0 && compareVersions(b, c) <= 0) expect(compareVersions(a, c)).toBeLessThanOrEqual(0)
    expect(compareVersions(a, b) === 0).toBe(formatVersion(a) === formatVersion(b))
  }), runs)
})

/** One thing that happens to a twin; times are small so that they meet. */
const happening = fc.oneof(
  fc.record({
    kind: fc.constantFrom('reported', 'desired-set'), merge: fc.boolean(), nowMs: fc.integer({ min: 0, max: 400 }),
    writes: fc.dictionary(property, fc.record({
      // A few values that meet again and again, beside all the others.
      value: fc.oneof({ weight: 6, arbitrary: fc.constantFrom<Json>(1, 2, '1', '2', true, 'true', [1]) }, { weight: 3, arbitrary: value },
        { weight: 1, arbitrary: fc.constant(null) }),
      timestamp: fc.option(fc.integer({ min: -1, max: 450 }), { nil: undefined }), type: fc.constantFrom(undefined, 'int', 'string', 'json', '')
    }), { minKeys: 1, maxKeys: 3 })
  }),
  fc.record({ kind: fc.constant('received'), writes: desired }),
  fc.record({ kind: fc.constant('state'), value: fc.constantFrom(...deviceStates), timestamp: fc.integer({ min: -1, max: 450 }), nowMs: fc.integer({ min: 0, max: 400 }) })
)

const rule = fc.record({
  name: property, type: fc.constantFrom(...propertyTypes, undefined), accessMode: fc.constantFrom('ReadWrite', 'ReadOnly'),
  minimum: fc.constantFrom(undefined, '0', '-3'), maximum: fc.constantFrom(undefined, '100')
})
const rules: fc.Arbitrary<DeviceRules> = fc.record({
  model: fc.option(fc.array(rule, { maxLength: 5 }), { nil: undefined }), listed: fc.subarray(['a', 'b'])
}).map(({ model, listed }) => readRules({
  device: { spec: { properties: listed.map(name => ({ name })) } },
  model: model === undefined ? undefined : { spec: { properties: model } }, freshnessMs: 50
}))

/** Lets everything happen in order; `see` is called with each step. */
function live(
  happenings: readonly (typeof happening extends fc.Arbitrary<infer T> ? T : never)[], laws: DeviceRules,
  see: (before: Twin, input: TwinInput, after: ReturnType<typeof step>) => void
): Twin {
  const clock = new HybridClock('node-1', '00000000')
  let twin = emptyTwin
  for (const each of happenings) {
    for (const { version } of twin.desired.values()) clock.observe(version)
    let input: TwinInput
    if ('merge' in each) {
      const { writes, merge, nowMs } = each
      input = {
        kind: each.kind as 'reported', merge, nowMs, rules: laws, version: clock.next(nowMs),
        writes: new Map(Object.entries(writes).map(([name, { value, timestamp, type }]) =>
          [name, { value, ...timestamp !== undefined && { timestamp }, ...type !== undefined && { type } }]))
      }
    } else if ('writes' in each) input = { kind: 'desired-received', entries: asMap(each.writes) }
    else input = { kind: 'state', value: each.value, timestamp: each.timestamp, nowMs: each.nowMs }
    const after = step(twin, input)
    see(twin, input, after)
    twin = after.twin
  }
  return twin
}

const life = fc.tuple(fc.array(happening, { maxLength: 25 }), rules)

test('versions never go back, and a new one is a new value (TWN-11, TWN-20)', () => {
  fc.assert(fc.property(life, ([happenings, laws]) => {
    live(happenings, laws, (before, input, { twin }) => {
      for (const section of ['desired', 'reported'] as const) {
        for (const [name, entry] of before[section]) {
          const after = twin[section].get(name)
          expect(after).toBeDefined()
          const order = compareVersions(after!.version, entry.version)
          expect(order).toBeGreaterThanOrEqual(0)
          if (order === 0) expect(textOf(after!.value)).toBe(textOf(entry.value))
          else if (input.kind !== 'desired-received') {
            expect([textOf(after!.value), after!.deleted]).not.toEqual([textOf(entry.value), entry.deleted])
          }
        }
      }
    })
  }), runs)
})

test('outputs say exactly what changed, in order; a no-op is the same twin', () => {
  fc.assert(fc.property(life, ([happenings, laws]) => {
    live(happenings, laws, (before, _input, { twin, outputs }) => {
      const order = ['persist', 'changed', 'state-changed', 'refreshed', 'stale', 'refused']
      const kinds = outputs.map(({ kind }) => order.indexOf(kind))
      expect(kinds).toEqual(kinds.toSorted((a, b) => a - b))
      expect(twin === before).toBe(outputs[0]?.kind !== 'persist')
      expect(twin.revision).toBe(before.revision + (twin === before ? 0 : 1))
      for (const section of ['desired', 'reported'] as const) {
        const names = new Set([...before[section].keys(), ...twin[section].keys()])
        const changed = [...names].filter(name => {
          const [from, to] = [before[section].get(name), twin[section].get(name)]
          return (from?.deleted === true ? undefined : from && textOf(from.value)) !== (to?.deleted === true ? undefined : to && textOf(to.value))
        })
        const told = outputs.flatMap(output => output.kind === 'changed' && output.section === section ? output.properties : [])
        expect(told.toSorted()).toEqual(changed.toSorted())
      }
    })
  }), runs)
})

test('the delta is empty if and only if reported satisfies desired (TWN-26)', () => {
  fc.assert(fc.property(life, rules, ([happenings, laws], later) => {
    const twin = live(happenings, laws, () => {})
    for (const law of [laws, later]) {
      const told = delta(twin, law)
      const unsatisfied = [...twin.desired].filter(([name, entry]) => {
        const rule = law.properties?.get(name)
        if (entry.deleted === true || (law.properties !== undefined && rule?.access !== 'ReadWrite')) return false
        const wanted = coerce(entry.value, rule, name)
        if ('error' in wanted) return false
        const reported = twin.reported.get(name)
        if (reported === undefined || reported.deleted === true) return true
        const is = coerce(reported.value, rule, name)
        return textOf('value' in is ? is.value : reported.value) !== textOf(wanted.value)
      })
      expect([...told.keys()]).toEqual(unsatisfied.map(([name]) => name))
    }
    const nowMs = 1e12
    const clock = new HybridClock('node-1', '00000001')
    const settled = step(twin, {
      kind: 'reported', merge: false, version: clock.next(nowMs), nowMs, rules: laws,
      writes: new Map([...delta(twin, laws)].map(([name, value]) => [name, { value }]))
    })
    expect(settled.outputs.filter(({ kind }) => kind === 'refused')).toEqual([])
    expect(delta(settled.twin, laws)).toEqual(new Map())
  }), runs)
})

test('a twin is read back as it was written, and takes no more than it says', () => {
  fc.assert(fc.property(life, ([happenings, laws]) => {
    const twin = live(happenings, laws, () => {})
    const json = JSON.stringify(encodeTwin(twin))
    expect(decodeTwin(JSON.parse(json))).toEqual(twin)
    expect(Buffer.byteLength(json)).toBeLessThanOrEqual(twin.bytes)
    let bytes = emptyTwin.bytes
    for (const entries of [twin.desired, twin.reported]) for (const each of entries) bytes += entryBytes(...each)
    expect(twin.bytes).toBe(bytes)
  }), runs)
})

test('a twin never leaves its bounds, and what there is of live properties stays (TWN-3)', () => {
  const name = fc.integer({ min: 0, max: 320 }).map(i => `p${i}`)
  const large = fc.oneof({ weight: 20, arbitrary: fc.constant('x') }, { weight: 1, arbitrary: fc.integer({ min: 20_000, max: 60_000 }).map(length => 'x'.repeat(length)) })
  const many = fc.array(fc.tuple(fc.boolean(), fc.array(fc.tuple(name, fc.oneof(large, fc.constant(null))), { minLength: 1, maxLength: 120 })), { maxLength: 12 })
  const laws = readRules({ device: {}, model: undefined, freshnessMs: 1 })
  fc.assert(fc.property(many, batches => {
    const clock = new HybridClock('node-1', '00000000')
    let twin = emptyTwin
    for (const [received, writes] of batches) {
      const version = clock.next(1)
      const after = received
        ? step(twin, { kind: 'desired-received', entries: new Map(writes.map(([each, value]) =>
          [each, { value, version, timestamp: 1, ...value === null && { deleted: true as const } }])) })
        : step(twin, { kind: 'reported', merge: false, version, nowMs: 1, rules: laws, writes: new Map(writes.map(([each, value]) => [each, { value }])) })
      expect(propertyCount(after.twin)).toBeLessThanOrEqual(twinLimits.properties.value)
      expect(after.twin.bytes).toBeLessThanOrEqual(twinLimits.twinBytes.value)
      const named = new Set(writes.map(([each]) => each))
      for (const section of ['desired', 'reported'] as const) {
        for (const [each, { deleted }] of twin[section]) if (deleted !== true && !named.has(each)) expect(after.twin[section].get(each)).toBeDefined()
      }
      twin = after.twin
    }
    expect(decodeTwin(encodeTwin(twin))).toEqual(twin)
  }), { ...runs, numRuns: Math.ceil(runs.numRuns / 4) })
})

test('a value is measured as JSON writes it', () => {
  fc.assert(fc.property(fc.jsonValue({ maxDepth: 6 }), each => {
    const measured = measure(each)
    const json = JSON.stringify(each)
    if ('bytes' in measured) expect(measured.bytes).toBe(Buffer.byteLength(json))
    else expect(!json.isWellFormed() || /\\ud[89a-f]|__proto__/.test(json)).toBe(true)
  }), runs)
})

test('a merge patch is what a plain reading of RFC 7396 gives, and changes neither argument', () => {
  const plain = (target: unknown, patch: unknown): unknown => {
    if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return patch
    const result: Record<string, unknown> = typeof target === 'object' && target !== null && !Array.isArray(target) ? { ...target } : {}
    for (const [name, value] of Object.entries(patch)) {
      if (value === null) delete result[name]
      else result[name] = plain(result[name], value)
    }
    return result
  }
  const { document } = fc.letrec<{ document: Json }>(tie => ({
    document: fc.oneof({ maxDepth: 4 }, fc.constantFrom(null, 1, 'x', true), fc.array(fc.integer(), { maxLength: 2 }),
      fc.dictionary(fc.constantFrom('a', 'b', 'c'), tie('document')))
  }))
  fc.assert(fc.property(document, document, (target, patch) => {
    const before = JSON.stringify([target, patch])
    expect(mergePatch(target, patch)).toEqual(plain(target, patch))
    expect(JSON.stringify([target, patch])).toBe(before)
  }), runs)
})

test('a clock gives no version twice and none that is not later than what it saw', () => {
  const event = fc.oneof(fc.record({ observe: fc.record({ time: fc.nat(50), counter: fc.nat(5) }) }), fc.record({ nowMs: fc.option(fc.nat(60), { nil: undefined }) }))
  fc.assert(fc.property(fc.array(event), events => {
    const clock = new HybridClock('node-1', '00000000')
    const seen: Version[] = []
    for (const each of events) {
      if ('observe' in each) {
        const version = { ...each.observe, origin: 'cloud/00000000' }
        clock.observe(version)
        seen.push(version)
      } else {
        const version = clock.next(each.nowMs)
        for (const other of seen) expect(compareVersions(version, other)).toBeGreaterThan(0)
        seen.push(version)
      }
    }
  }), runs)
})
