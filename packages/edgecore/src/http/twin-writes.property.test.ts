import { HttpProblem } from '@holdfast/runtime'
import { HandClock } from '@holdfast/runtime/testing'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { GatedStore } from '../testing/device-api-fixture.ts'
import { TwinRefused } from '../twins/device-twins.ts'
import type { DeviceId } from '../twins/device-twins.ts'
import { device, deviceModel, openTwins, startMs } from '../twins/testing/twin-harness.ts'
import { twinDocument } from './twin-documents.ts'
import { readPatch, readPatchQuery, readState, writeRefusal } from './twin-writes.ts'

const runs = Number(process.env['RUNS'] ?? 3000)
const seed = process.env['SEED'] === undefined ? {} : { seed: Number(process.env['SEED']) }

const name = fc.oneof({ weight: 4, arbitrary: fc.constantFrom('a', 'level', 'energy', 'colour') }, fc.string({ maxLength: 300 }), fc.constant('__proto__'))
const value = fc.oneof(
  fc.jsonValue({ maxDepth: 20 }), fc.integer({ min: -200, max: 200 }), fc.string({ unit: 'binary', maxLength: 40 }), fc.constantFrom('', 'x'.repeat(70_000), 1e308, -0)
)
const document = fc.uniqueArray(fc.tuple(name, value), { minLength: 1, maxLength: 6, selector: ([key]) => key }).map(members =>
  `{${members.map(([key, member]) => `${JSON.stringify(key)}:${JSON.stringify(member)}`).join(',')}}`)
const body = fc.oneof(
  { weight: 40, arbitrary: document.map(text => Buffer.from(text)) },
  // Most of a document, and something else.
  fc.tuple(document, fc.nat(400), fc.string({ maxLength: 3 })).map(([text, at, other]) => Buffer.from(text.slice(0, at) + other + text.slice(at + 1))),
  fc.uint8Array({ maxLength: 40 }).map(bytes => Buffer.from(bytes)), fc.json().map(text => Buffer.from(text))
)
const query = fc.oneof(
  { weight: 40, arbitrary: fc.record({
    section: fc.constantFrom('desired', 'reported'), timestamp: fc.constantFrom('0', '1800000000000', '8640000000000000'),
    version: fc.constantFrom('none', '1.0.cloud/0000000c')
  }, { requiredKeys: [] }) },
  fc.dictionary(fc.constantFrom('section', 'timestamp', 'version', 'x'), fc.constantFrom('', 'x', '1.0.cloud', '9e9', '-1'))
)

test('whatever a body is, it is taken, or refused with a code, and what is taken can be shown', async () => {
  await using twins = await openTwins(new GatedStore(), { clock: new HandClock(startMs) })
  const [free, ruled] = ['default/free' as DeviceId, 'default/ruled' as DeviceId]
  await twins.receive({
    'default/m': deviceModel('default/m', [{ name: 'level', type: 'INT', minimum: '0', maximum: '100' }, { name: 'energy', type: 'DOUBLE', accessMode: 'ReadOnly' }]),
    [free]: device(free), [ruled]: device(ruled, { model: 'm' })
  })
  let [passed, count] = [0, 0]
  await fc.assert(fc.asyncProperty(body, query, fc.constantFrom(free, ruled), async (bytes, parameters, id) => {
    count++
    try {
      const write = readPatch(bytes, readPatchQuery(new URLSearchParams(parameters)), undefined)
      passed++
      try {
        await new Promise<void>(resolve => {
          const { commit } = twins.twins.write(id, write, 'http')
          if (commit === undefined) resolve()
          else commit.onDurable(() => resolve())
        })
      } catch (error) {
        expect(error).toBeInstanceOf(TwinRefused)
        throw writeRefusal(error, twins.twins.get(id), write, '')
      }
    } catch (error) {
      expect(error).toBeInstanceOf(HttpProblem)
      expect([400, 412]).toContain((error as HttpProblem).status)
      expect((error as HttpProblem).fields.extensions).toHaveProperty('code')
      expect(Buffer.byteLength((error as HttpProblem).reply().body as string)).toBeLessThan(4096)
    }
    expect(JSON.parse(JSON.stringify(twinDocument(twins.twins.get(id)!)))).toMatchObject({ device: id })
  }), { numRuns: runs, ...seed })
  expect(passed / count).toBeGreaterThan(0.85)
}, 30_000 + runs * 10)

test('whatever a state is, it is taken or refused', () => {
  const states = fc.oneof(body, fc.record({ state: fc.constantFrom<unknown>('online', 'x', 1), timestamp: fc.constantFrom<unknown>(0, -1, 1e20, 'x', 5) }, { requiredKeys: [] })
    .map(each => Buffer.from(JSON.stringify(each))))
  fc.assert(fc.property(states, bytes => {
    try {
      expect(readState(bytes)).toMatchObject({ section: 'state' })
    } catch (error) {
      expect(error).toBeInstanceOf(HttpProblem)
    }
  }), { numRuns: runs, ...seed })
}, 30_000 + runs * 10)
