import { HandClock } from '@holdfast/runtime/testing'
import { MemoryStore } from '@holdfast/store'
import { expect, onTestFinished, test } from 'vitest'
import type { DeviceId } from '../twins/index.ts'
import { device, node, openTwins, reported, stamped, startMs } from '../twins/testing/twin-harness.ts'
import type { TwinsHarness } from '../twins/testing/twin-harness.ts'
import { DeviceTopics } from './device-topics.ts'
import { deviceTopicsLimits } from './limits.ts'
import { RecordingBus } from './testing/recording-bus.ts'

const id = 'plant/s1' as DeviceId
const wanting = (of: string, value = 'yes', nowMs = startMs) =>
  stamped(device(of, { properties: [{ name: 'on', desired: { value } }] }), nowMs)

interface Fixture extends TwinsHarness {
  readonly clock: HandClock
  readonly bus: RecordingBus
  readonly topics: DeviceTopics
  /** Devices told since, and what. */
  readonly told: () => readonly (readonly [topic: string, value: unknown])[]
}

async function open(before: readonly string[] = []): Promise<Fixture> {
  const clock = new HandClock(startMs)
  const harness = await openTwins(new MemoryStore(), { clock })
  await harness.receive(Object.fromEntries(before.map(of => [of, wanting(of)])))
  const bus = new RecordingBus()
  const topics = DeviceTopics.open({ node }, { bus, twins: harness.twins, clock })
  onTestFinished(async () => {
    topics[Symbol.dispose]()
    await harness[Symbol.asyncDispose]()
  })
  return {
    ...harness, clock, bus, topics,
    told: () => bus.taken().filter(({ topic }) => topic.endsWith('/delta'))
      .map(({ topic, body }) => [topic.slice('$hw/events/device/'.length, -'/twin/update/delta'.length), (body['delta'] as { on: unknown }).on] as const)
  }
}

/** Seconds at which the device was told, within so many. */
async function toldAt({ clock, told }: Fixture, seconds: number): Promise<number[]> {
  const times: number[] = []
  for (let i = 1; i <= seconds; i++) {
    await clock.pass(1000)
    if (told().length > 0) times.push(i)
  }
  return times
}

test('again after 5 s, 10 s, … up to 5 min, until it is reported', async () => {
  const fixture = await open()
  const { receive, clock, told, twins, committer, topics } = fixture
  await receive({ [id]: wanting(id) })
  await clock.pass(0)
  expect(told()).toEqual([[id, 'yes']])
  const times = await toldAt(fixture, 1300)
  expect(times.map((at, i) => at - (times[i - 1] ?? 0))).toEqual([5, 10, 20, 40, 80, 160, 300, 300, 300])
  twins.write(id, reported({ on: 'yes' }), 'mqtt')
  await committer.flush()
  expect([await toldAt(fixture, 400), topics.deltas.size, clock.timers <= 1]).toEqual([[], 0, true])
})

test('another delta is told at once, and from the beginning; the same one is not', async () => {
  const fixture = await open()
  const { receive, clock, told, twins, committer } = fixture
  await receive({ [id]: wanting(id) })
  await clock.pass(20_000)
  told()
  for (let i = 0; i < 3; i++) {
    twins.write(id, reported({ on: `no ${i}`, other: i }), 'mqtt')
    await committer.flush()
    await clock.pass(0)
    expect(told()).toEqual([])
  }
  await receive({ [id]: wanting(id, 'no', startMs + 1) })
  await clock.pass(0)
  expect(told()).toEqual([[id, 'no']])
  expect(await toldAt(fixture, 16)).toEqual([5, 15])
})

test('what is written on the node is answered first, and told then', async () => {
  const { topics, bus, clock, committer } = await open([id])
  bus.taken()
  topics.take(`$hw/events/device/${id}/twin/update`, Buffer.from(JSON.stringify({ event_id: 'e', twin: { on: { expected: { value: 'no' } } } })))
  await committer.flush()
  await clock.pass(0)
  expect(bus.taken().map(({ topic }) => topic.split('/twin/')[1])).toEqual(['update/result', 'update/document', 'update/delta'])
})

test('what a device was not told before a restart it is told after it, without anything having changed', async () => {
  const fixture = await open([id])
  expect(fixture.topics.deltas.size).toBe(1)
  expect(await toldAt(fixture, 16)).toEqual([5, 15])
})

test('a device that subscribes is told at once, and again as if it were the first time', async () => {
  const fixture = await open([id])
  await toldAt(fixture, 200)
  const topics: string[] = []
  fixture.topics.subscribed('$hw/events/device/plant/s1/#', ({ topic }) => { topics.push(topic) })
  expect(topics).toEqual(['$hw/events/device/plant/s1/twin/update/delta'])
  expect(await toldAt(fixture, 16)).toEqual([5, 15])
  fixture.topics.subscribed('$hw/events/device/plant/s1/twin/get/result', () => { throw new Error('it does not ask for that') })
})

test('one that goes, or is another device by that name, is not told what the old one was to be', async () => {
  const fixture = await open([id, 'plant/s2'])
  await fixture.receive({ [id]: undefined, 'plant/s2': device('plant/s2', { uid: 'another' }) })
  expect([await toldAt(fixture, 30), fixture.topics.deltas.size]).toEqual([[], 0])
})

test('many devices are told a stated number a turn, to who subscribes to all of them as well', async () => {
  const ids = Array.from({ length: 2 * deviceTopicsLimits.deltasPerTurn.value + 50 }, (_, i) => `plant/d${i}`)
  const { receive, told, topics, clock } = await open()
  await receive(Object.fromEntries(ids.map(each => [each, wanting(each)])))
  const counts = [told().length]
  while (counts.reduce((sum, count) => sum + count, 0) < ids.length) {
    await new Promise(resolve => { setImmediate(resolve) })
    counts.push(told().length)
  }
  expect(Math.max(...counts)).toBeLessThanOrEqual(deviceTopicsLimits.deltasPerTurn.value)
  expect(counts[0]).toBe(deviceTopicsLimits.deltasPerTurn.value)
  let heard = 0
  topics.subscribed('$hw/events/device/+/+/twin/update/delta', () => { heard++ })
  expect(heard).toBe(0)
  await clock.pass(0)
  for (let i = 0; i < 10; i++) await new Promise(resolve => { setImmediate(resolve) })
  expect([heard, told()]).toEqual([ids.length, []])
})

test('subscribers with wildcards beyond the bound are told with the next repetition', async () => {
  const { topics } = await open([id])
  let heard = 0
  const many = 2 * deviceTopicsLimits.wideSubscribers.value
  for (let i = 0; i < many; i++) topics.subscribed('$hw/events/device/#', () => { heard++ })
  for (let i = 0; i < 10; i++) await new Promise(resolve => { setImmediate(resolve) })
  expect(heard).toBe(deviceTopicsLimits.wideSubscribers.value)
})

test('nothing is left to do after the end', async () => {
  const { topics, bus, clock } = await open([id])
  const before = clock.timers
  topics[Symbol.dispose]()
  expect([bus.filters.size, clock.timers]).toEqual([0, before - 1])
})
