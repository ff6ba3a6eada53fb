import { readBatchHeader, readRecords } from '@holdfast/protos'
import { SeededRandom } from '@holdfast/runtime'
import { HandClock } from '@holdfast/runtime/testing'
import { expect, onTestFinished, test } from 'vitest'
import { GatedStore } from '../testing/device-api-fixture.ts'
import type { DeviceId } from './device-twins.ts'
import { device, deviceModel, durable, openTwins, reported, startMs, writesOf } from './testing/twin-harness.ts'
import type { TwinsHarness, TwinsHarnessOptions } from './testing/twin-harness.ts'

const id = 'default/plug' as DeviceId

interface Fixture extends TwinsHarness {
  readonly clock: HandClock
  readonly store: GatedStore
  /** Topic, device and payload of the records in the Log. */
  readonly records: () => Promise<(readonly [topic: string, device: string, payload: { data: Record<string, unknown> }])[]>
}

async function open(history: string, options: Partial<TwinsHarnessOptions> = {}): Promise<Fixture> {
  const [clock, store] = [new HandClock(startMs), new GatedStore()]
  const harness = await openTwins(store, { clock, ...options })
  onTestFinished(() => harness[Symbol.asyncDispose]())
  await harness.receive({ [id]: device(id, { annotations: { 'holdfast.dev/history': history } }) })
  return {
    ...harness, clock, store,
    async records() {
      const batches = await harness.outbox.scan(harness.outbox.lane('telemetry')!, 0, 1 << 20)
      return batches.flatMap(({ bytes }) => readRecords(bytes, readBatchHeader(bytes)).map(({ topic, device, payload }) =>
        [topic, device, JSON.parse(Buffer.from(payload).toString()) as { data: Record<string, unknown> }] as const))
    }
  }
}

test('TWN-40: changes are records of the device, in the commit of the twin', async () => {
  const { twins, records, committer, clock } = await open('changes')
  await clock.pass(5000)
  await committer.flush()
  const { commits } = committer.stats
  await durable(twins.write(id, reported({ power: 'on', level: 3 }, startMs + 1000), 'mqtt'))
  expect(committer.stats.commits).toBe(commits + 1)
  const again = twins.write(id, reported({ power: 'on', level: 3 }, startMs + 2000), 'mqtt')
  expect(again).toMatchObject({ kind: 'unchanged', commit: undefined })
  await durable(twins.write(id, reported({ power: 'on', level: 4 }, startMs + 3000), 'mqtt'))
  expect(await records()).toEqual([
    ['$ke/events/device/default/plug/data/update', 'default/plug', {
      event_id: '', timestamp: startMs + 5000,
      data: {
        power: { value: 'on', metadata: { timestamp: startMs + 1000 } }, level: { value: '3', metadata: { timestamp: startMs + 1000 } }
      }
    }],
    ['$ke/events/device/default/plug/data/update', 'default/plug', {
      event_id: '', timestamp: startMs + 5000, data: { level: { value: '4', metadata: { timestamp: startMs + 3000 } } }
    }]
  ])
})

test('TWN-40: with `all`, a report that says nothing new is a record too, which its acknowledgement waits for', async () => {
  const { twins, records, store } = await open('all')
  await durable(twins.write(id, reported({ power: 'on' }), 'mqtt'))
  store.mode = 'hold'
  const again = twins.write(id, reported({ power: 'on' }), 'mqtt')
  expect(again.kind).toBe('unchanged')
  let isAcknowledged = false
  const acknowledged = durable(again).then(() => { isAcknowledged = true })
  await Promise.resolve()
  expect(isAcknowledged).toBe(false)
  store.release()
  await acknowledged
  expect(await records()).toHaveLength(2)
})

test('TWN-40: by property; what is desired, stale or refused leaves none', async () => {
  const { twins, records, receive, clock } = await open('temperature=all, door=changes')
  clock.nowMs += 10_000
  await durable(twins.write(id, reported({ temperature: 20, door: 'open', power: 1 }, startMs + 5000), 'mqtt'))
  await durable(twins.write(id, reported({ temperature: 20, door: 'open', power: 2 }, startMs + 6000), 'mqtt'))
  twins.write(id, reported({ temperature: 21 }, startMs + 1000), 'mqtt')
  expect(() => twins.write(id, reported({ 'temperature': 22, '': 1 }), 'mqtt')).toThrow()
  await durable(twins.write(id, { section: 'both', reported: writesOf({ door: null }), desired: writesOf({ temperature: 5 }) }, 'mqtt'))
  expect((await records()).map(([, , { data }]) => Object.keys(data))).toEqual([['temperature', 'door'], ['temperature']])
  await receive({
    [id]: device(id, { model: 'm', annotations: { 'holdfast.dev/history': 'all' } }),
    'default/m': deviceModel('default/m', [{ name: 'temperature', type: 'FLOAT', accessMode: 'ReadOnly' }])
  })
  await durable(twins.write(id, reported({ temperature: '21.50' }), 'mqtt'))
  expect((await records()).at(-1)![2].data).toMatchObject({ temperature: { value: '21.5', metadata: { type: 'float' } } })
})

test('a full lane refuses the report as a whole', async () => {
  const { twins, committer } = await open('all', { laneOptions: { bytesMax: 65_536 } })
  // As it is after compression.
  const text = Buffer.from(new SeededRandom(1).bytes(22_000)).toString('base64')
  await durable(twins.write(id, reported({ text: `${text}1` }), 'mqtt'))
  await durable(twins.write(id, reported({ text: `${text}2` }), 'mqtt'))
  expect(() => twins.write(id, reported({ text: `${text}3` }), 'mqtt')).toThrow(expect.objectContaining({ code: 'OUTBOX_FULL' }))
  await committer.flush()
  expect(twins.get(id)!.twin.reported.get('text')!.value).toBe(`${text}2`)
})

test('a report that is too large for a record becomes one a property', async () => {
  const { twins, records } = await open('all')
  const text = (length: number) => ({ nested: '\\'.repeat(length) })
  await durable(twins.write(id, reported({ a: text(1000), b: text(1000), c: text(1000) }), 'mqtt'))
  expect(await records()).toHaveLength(1)
  // Within the bounds of a twin; as text in JSON each backslash is four.
  await durable(twins.write(id, reported({ a: text(30_000), b: text(30_000), c: text(30_000) }), 'mqtt'))
  expect((await records()).slice(1).map(([, , { data }]) => Object.keys(data))).toEqual([['a'], ['b'], ['c']])
})
