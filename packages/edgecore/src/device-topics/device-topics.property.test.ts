import { isUtf8 } from 'node:buffer'
import fc from 'fast-check'
import { deviceStates, twinLimits } from '@holdfast/device-twin'
import { SystemClock } from '@holdfast/runtime'
import { MemoryStore } from '@holdfast/store'
import { expect, test } from 'vitest'
import { device, deviceModel, node, openTwins, stamped } from '../twins/testing/twin-harness.ts'
import type { DeviceTwin } from '../twins/index.ts'
import { DeviceTopics } from './device-topics.ts'
import { arbitraryMessages, corpus } from './testing/arbitrary-messages.ts'
import type { ArbitraryMessage } from './testing/arbitrary-messages.ts'
import { RecordingBus } from './testing/recording-bus.ts'
import { parseRequestTopic } from './topics.ts'

/** On average; the number of runs and the seed are the environment's, as elsewhere. */
const messagesPerRun = 120
const runs = { numRuns: Number(process.env['RUNS'] ?? 1000), ...process.env['SEED'] !== undefined && { seed: Number(process.env['SEED']) } }

const model = deviceModel('plant/thermostat', [
  { name: 'temperature', type: 'INT', accessMode: 'ReadOnly', minimum: '-40', maximum: '85' },
  { name: 'target', type: 'FLOAT', accessMode: 'ReadWrite' }, { name: 'on', type: 'BOOLEAN', accessMode: 'ReadWrite' },
  { name: 'text', type: 'STRING', accessMode: 'ReadWrite' }, { name: 'blob', type: 'BYTES', accessMode: 'ReadWrite' }
])
const devices = {
  'plant/thermostat': model,
  'plant/s1': stamped(device('plant/s1', { model: 'thermostat', properties: [{ name: 'target', desired: { value: '21' } }] }), 1, model),
  'plant/s2': device('plant/s2'),
  'default/plug': device('default/plug')
}

interface Answer {
  readonly topic: string
  readonly body: Record<string, unknown>
}

interface Handlers extends AsyncDisposable {
  /** What came of one message, when all that it wrote is durable. */
  handle(message: ArbitraryMessage): Promise<{ readonly answers: readonly Answer[], readonly changed: boolean }>
}

async function openHandlers(): Promise<Handlers> {
  const clock = new SystemClock()
  const harness = await openTwins(new MemoryStore(), { clock })
  await harness.receive(devices)
  const bus = new RecordingBus()
  const topics = DeviceTopics.open({ node }, { bus, twins: harness.twins, clock })
  const { twins, committer } = harness
  const all = (): readonly DeviceTwin[] => [...twins.all()]
  return {
    async handle({ topic, payload }) {
      const before = all()
      if (topics.take(topic, payload) !== undefined) await committer.flush()
      const answers = bus.taken().filter(answer => answer.topic.endsWith('/result'))
      const after = all()
      return { answers, changed: after.some((now, i) => now !== before[i]) }
    },
    async [Symbol.asyncDispose]() {
      topics[Symbol.dispose]()
      await harness[Symbol.asyncDispose]()
    }
  }
}

/** Undefined: not past the first check. */
function membersOf(payload: Buffer): Record<string, unknown> | undefined {
  try {
    const read: unknown = isUtf8(payload) ? JSON.parse(payload.toString()) : undefined
    return typeof read === 'object' && read !== null && !Array.isArray(read) ? read as Record<string, unknown> : undefined
  } catch {
    return undefined
  }
}

/** What docs/spec/device-topics.md says of a message, whatever it is. Throws where it does not hold. */
function check(message: ArbitraryMessage, answers: readonly Answer[], changed: boolean): void {
  const topic = parseRequestTopic(message.topic)
  if (topic === undefined || (topic.kind === 'membership-get' && topic.node !== node)) {
    expect([answers, changed]).toEqual([[], false])
    return
  }
  expect(answers.map(answer => answer.topic)).toEqual([`${message.topic}/result`])
  const { body } = answers[0]!
  const members = membersOf(message.payload)
  const eventId = members?.['event_id'] ?? ''
  const readable = typeof eventId === 'string' && eventId.length <= 256 ? eventId : ''
  expect([body['event_id'], typeof body['timestamp']]).toEqual([readable, 'number'])
  if ('code' in body) {
    expect([[400, 404].includes(body['code'] as number), Object.keys(body).length, changed]).toEqual([true, 4, false])
    expect(String(body['reason'])).toMatch(/^.{8,512}$/u)
    return
  }
  expect(members).toBeDefined()
  if (topic.kind === 'twin-update') {
    const { twin } = members as { twin: object }
    const stored = body['twin'] as Record<string, { optional: unknown, metadata: unknown, actual?: ValueShape, expected?: ValueShape } | null>
    expect(Object.keys(stored).toSorted()).toEqual(Object.keys(twin).toSorted())
    for (const property of Object.values(stored)) {
      if (property === null) continue
      expect([typeof property.optional, property.actual ?? property.expected]).toEqual(['boolean', expect.anything()])
      for (const { value, metadata } of [property.actual, property.expected].filter(each => each !== undefined)) {
        expect([typeof value, Buffer.byteLength(value) <= twinLimits.valueBytes.value, Number.isSafeInteger(metadata.timestamp)])
          .toEqual(['string', true, true])
      }
    }
  } else if (topic.kind === 'state-update') {
    // A report that is older than the stored one is answered with that.
    expect([deviceStates, deviceStates]).toEqual([expect.arrayContaining([members!['state']]), expect.arrayContaining([stateOf(body)])])
  }
}

function outcomeOf(answers: readonly Answer[]): unknown {
  return answers.length === 0 ? 'ignored' : answers[0]!.body['code'] ?? 'done'
}

const stateOf = (body: Record<string, unknown>): unknown => (body['device'] as { state: unknown }).state

interface ValueShape {
  readonly value: string
  readonly metadata: { readonly timestamp: number }
}

test.each(corpus.map(({ topic, payload, outcome }, i) => [i, outcome, topic, Buffer.from(payload, 'base64')] as const))(
  'corpus %i: %s', async (_i, outcome, topic, payload) => {
    await using handlers = await openHandlers()
    const { answers, changed } = await handlers.handle({ topic, payload })
    check({ topic, payload }, answers, changed)
    expect(outcomeOf(answers)).toBe(outcome)
  })

const nested = (open: string, close: string, depth: number): string => open.repeat(depth) + close.repeat(depth)
const values = (count: number, length: number): string => JSON.stringify({
  twin: Object.fromEntries(Array.from({ length: count }, (_, i) => [`p${i}`, { actual: { value: 'x'.repeat(length) } }]))
})

test.each([
  ['256 properties', values(256, 1), 'done'], ['257 properties', values(257, 1), 400],
  ['a value of 64 KiB', values(1, 65_534), 'done'], ['a longer one', values(1, 65_535), 400],
  ['a twin of nearly 256 KiB', values(4, 63_000), 'done'],
  ['a message of more than 256 KiB', values(4, 65_530), 400],
  ['arrays without end', '['.repeat(200_000), 400], ['objects without end', '{"twin":'.repeat(30_000), 400],
  ['arrays 100,000 deep', nested('[', ']', 100_000), 400],
  ['a value 10,000 deep', `{"twin":{"p":{"actual":{"value":${nested('[', ']', 10_000)}}}}}`, 400],
  ['a value 16 deep', `{"twin":{"p":{"actual":{"value":${nested('[', ']', 16)}}}}}`, 'done'],
  ['a value 17 deep', `{"twin":{"p":{"actual":{"value":${nested('[', ']', 17)}}}}}`, 400]
] as const)('bounds: %s', async (_what, payload, outcome) => {
  await using handlers = await openHandlers()
  const message = { topic: '$hw/events/device/plant/s2/twin/update', payload: Buffer.from(payload) }
  const { answers, changed } = await handlers.handle(message)
  check(message, answers, changed)
  expect(outcomeOf(answers)).toBe(outcome)
})

test('whatever comes, each message is answered or ignored as documented, and what is refused changes nothing', async () => {
  let [handled, pastFirstCheck, stored] = [0, 0, 0]
  await fc.assert(fc.asyncProperty(fc.array(arbitraryMessages, {
    minLength: 1, maxLength: 2 * messagesPerRun - 1, size: 'max'
  }), async messages => {
    await using handlers = await openHandlers()
    for (const message of messages) {
      const { answers, changed } = await handlers.handle(message)
      check(message, answers, changed)
      handled++
      if (changed) stored++
      if (parseRequestTopic(message.topic) !== undefined && membersOf(message.payload) !== undefined) pastFirstCheck++
    }
  }), runs)
  if (runs.numRuns >= 1000) expect(handled).toBeGreaterThanOrEqual(100_000)
  expect(pastFirstCheck / handled).toBeGreaterThanOrEqual(0.9)
  expect(stored / handled).toBeGreaterThan(0.01)
}, 300_000)
