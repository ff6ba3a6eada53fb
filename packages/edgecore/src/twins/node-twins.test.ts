import { describe, expect, onTestFinished, test } from 'vitest'
import { GatedStore } from '../testing/device-api-fixture.ts'
import { HandClock } from '../testing/hand-clock.ts'
import type { DeviceId, TwinChange } from './device-twins.ts'
import { decodeUpTwin } from './twin-format.ts'
import { device, durable, openTwins, reported, stamped, startMs, valuesOf } from './testing/twin-harness.ts'
import type { TwinsHarness, TwinsHarnessOptions } from './testing/twin-harness.ts'

const id = 'default/plug' as DeviceId

async function open(store = new GatedStore(), options: Partial<TwinsHarnessOptions> = {}): Promise<TwinsHarness & {
  readonly store: GatedStore, readonly clock: HandClock, readonly changes: TwinChange[]
}> {
  const clock = options.clock as HandClock | undefined ?? new HandClock(startMs)
  const harness = await openTwins(store, { clock, ...options })
  onTestFinished(() => harness[Symbol.asyncDispose]())
  const changes: TwinChange[] = []
  harness.twins.subscribe(change => { changes.push(change) })
  return { ...harness, store, clock, changes }
}

/** The twin's item among what goes up. */
function sent({ table }: Pick<TwinsHarness, 'table'>, of: DeviceId = id): Record<string, unknown> | undefined {
  const item = table.upItem('twins', of)
  const twin = item && decodeUpTwin(item.value)?.twin
  return twin && Object.fromEntries([...twin.reported].map(([name, { value }]) => [name, value]))
}

describe('devices', () => {
  test('a Device that comes down is a device here, with what it desires', async () => {
    const { twins, receive, changes } = await open()
    expect(twins.get(id)).toBeUndefined()
    expect(() => twins.write(id, reported({ power: true }), 'http')).toThrow(
      expect.objectContaining({ code: 'TWIN_DEVICE_UNKNOWN', message: expect.stringContaining('default/plug') }))
    await receive({ [id]: stamped(device(id, { properties: [{ name: 'power', desired: { value: 'on' } }] })) })
    expect(twins.size).toBe(1)
    expect(valuesOf(twins, id, 'desired')).toEqual({ power: 'on' })
    expect(changes).toMatchObject([{ id, before: undefined, desired: ['power'], reported: [], specChanged: true }])
  })

  test('a Device without desired values is there at once, and stores nothing', async () => {
    const { twins, receive, committer } = await open()
    await receive({ [id]: device(id) })
    expect(twins.size).toBe(1)
    expect([...twins.all()].map(held => held.id)).toEqual([id])
    const { commits } = committer.stats
    await committer.flush()
    expect(committer.stats.commits).toBe(commits)
  })
})

test('a report is visible and told when it is durable', async () => {
  const { twins, receive, store, changes } = await open()
  await receive({ [id]: device(id) })
  changes.length = 0
  store.mode = 'hold'
  const writing = twins.write(id, reported({ power: true }), 'mqtt')
  expect(writing).toMatchObject({ kind: 'stored', stale: [] })
  expect(valuesOf(twins, id, 'reported')).toEqual({})
  expect(changes).toEqual([])
  store.release()
  await durable(writing)
  expect(valuesOf(twins, id, 'reported')).toEqual({ power: true })
  expect(changes).toMatchObject([{ id, reported: ['power'], desired: [], stateChanged: false, specChanged: false }])
})

test('a change goes up with its commit, later ones at the end of the interval, newest only', async () => {
  const { twins, table, receive, clock, committer } = await open()
  await receive({ [id]: device(id) })
  await clock.pass(2000)
  const first = twins.write(id, reported({ power: 1 }), 'mqtt')
  await durable(first)
  expect(sent({ table })).toEqual({ power: 1 })
  for (let n = 2; n <= 200; n++) twins.write(id, reported({ power: n }), 'mqtt')
  await committer.flush()
  expect(sent({ table })).toEqual({ power: 1 })
  const { puts } = twins.reports
  await clock.pass(1000)
  await committer.flush()
  expect(sent({ table })).toEqual({ power: 200 })
  expect(twins.reports.puts).toBe(puts + 1)
  expect(valuesOf(twins, id, 'reported')).toEqual({ power: 200 })
})
