import type { Json } from '@holdfast/device-twin'
import { describe, expect, onTestFinished, test } from 'vitest'
import { HandClock } from '@holdfast/runtime/testing'
import { GatedStore } from '../testing/device-api-fixture.ts'
import type { DeviceId } from './device-twins.ts'
import { decodeUpTwin } from './twin-format.ts'
import { desired, device, durable, openTwins, reported, stamped, startMs } from './testing/twin-harness.ts'
import type { DeviceParts, TwinsHarness, TwinsHarnessOptions } from './testing/twin-harness.ts'

const id = 'default/plug' as DeviceId

interface Fixture extends TwinsHarness {
  readonly clock: HandClock
  /** Lets time go by, and what was put be durable. */
  readonly pass: (ms: number) => Promise<void>
  /** Reported values of the item that is to go up, or goes. */
  readonly item: () => Record<string, Json> | undefined
  readonly report: (values: Record<string, Json>) => Promise<void>
}

/** A device whose first item was put long ago. */
async function open(
  parts: DeviceParts = {}, store = new GatedStore(), options: Partial<TwinsHarnessOptions> = {}
): Promise<Fixture> {
  const clock = options.clock as HandClock | undefined ?? new HandClock(startMs)
  const harness = await openTwins(store, { clock, ...options })
  onTestFinished(() => harness[Symbol.asyncDispose]())
  const { twins, table, committer, receive } = harness
  const pass = async (ms: number) => {
    await clock.pass(ms)
    await committer.flush()
  }
  await receive({ [id]: stamped(device(id, parts)) })
  await pass(3_600_000)
  return {
    ...harness, clock, pass,
    item: () => {
      const stored = table.upItem('twins', id)
      const twin = stored && decodeUpTwin(stored.value)!.twin
      return twin && Object.fromEntries([...twin.reported].map(([name, { value }]) => [name, value]))
    },
    report: async values => { await durable(twins.write(id, reported(values), 'mqtt')) }
  }
}

describe('TWN-31', () => {
  test('what waits goes up where a session is about to begin, and nothing more at the end of the interval', async () => {
    const { twins, item, report, pass, committer } = await open()
    await report({ power: 1 })
    await report({ power: 2 })
    expect(item()).toEqual({ power: 1 })
    twins.reportAll()
    await committer.flush()
    expect(item()).toEqual({ power: 2 })
    const { puts } = twins.reports
    await pass(5000)
    twins.reportAll()
    await pass(5000)
    expect(twins.reports).toMatchObject({ puts, pending: 0 })
  })

  test('what keeps the device from being served goes up at once, and stays until something else is told (TWN-42)', async () => {
    const store = new GatedStore()
    const { twins, table, report, pass, receive, committer } = await open({ annotations: { 'holdfast.dev/report-interval': '1h' } }, store)
    const [plug, absent] = [twins.get(id)!, { id: 'default/absent' as DeviceId, uid: 'x' }]
    const trouble = (): string | undefined => decodeUpTwin(table.upItem('twins', id)!.value)!.trouble
    await report({ power: 1 })
    expect(trouble()).toBeUndefined()
    const { puts } = twins.reports
    for (const device of [plug, plug, absent, { ...plug, uid: 'another' }]) twins.tellTrouble(device, 'it is broken')
    await committer.flush()
    expect([trouble(), twins.reports.puts]).toEqual(['it is broken', puts + 1])
    // After a start nobody has looked yet.
    await twins.reopen(store, false)
    await pass(5000)
    expect([trouble(), twins.reports.puts]).toEqual(['it is broken', puts + 1])
    twins.tellTrouble(plug, '')
    await committer.flush()
    expect([trouble(), twins.reports.puts]).toEqual(['', puts + 2])
    // Of another device by the name it says nothing.
    await receive({ [id]: stamped(device(id, { uid: 'another' })) })
    await pass(1000)
    expect([decodeUpTwin(table.upItem('twins', id)!.value)!.uid, trouble()]).toEqual(['another', undefined])
  })

  test('what was open when the store was opened anew goes up, whoever looks at the device first', async () => {
    const store = new GatedStore()
    const { twins, item, report, pass } = await open({}, store)
    twins.tellTrouble(twins.get(id)!, '')
    await pass(1000)
    await report({ power: 1 })
    await report({ power: 2 })
    expect(item()).toEqual({ power: 1 })
    await twins.reopen(store, false)
    twins.tellTrouble(twins.get(id)!, '')
    await pass(1000)
    expect(item()).toEqual({ power: 2 })
  })

  test('a change goes up with its commit, later ones at the end of the interval, newest only', async () => {
    const { twins, item, report, pass, committer } = await open()
    await report({ power: 1 })
    expect(item()).toEqual({ power: 1 })
    for (let n = 2; n <= 200; n++) twins.write(id, reported({ power: n }), 'mqtt')
    await committer.flush()
    expect(item()).toEqual({ power: 1 })
    expect(twins.reports.pending).toBe(1)
    const { puts } = twins.reports
    await pass(999)
    expect(item()).toEqual({ power: 1 })
    await pass(1)
    expect(item()).toEqual({ power: 200 })
    await pass(5000)
    expect(twins.reports).toMatchObject({ puts: puts + 1, pending: 0 })
  })

  test('200 reports a second for a minute are one item an interval, and 100,000 in an outage one item', async () => {
    const { twins, table, item, pass, committer } = await open()
    const { puts } = twins.reports
    for (let tick = 0; tick < 600; tick++) {
      for (let n = 0; n < 20; n++) twins.write(id, reported({ power: tick * 20 + n }), 'mqtt')
      await pass(100)
    }
    await pass(1000)
    expect(twins.reports.puts - puts).toBeLessThanOrEqual(61)
    expect(item()).toEqual({ power: 11_999 })
    for (let n = 0; n < 100_000; n++) twins.write(id, reported({ power: n }), 'mqtt')
    await committer.flush()
    await pass(1000)
    expect(item()).toEqual({ power: 99_999 })
    expect([...table.up.keysFrom('twins', '')]).toHaveLength(1)
  })

  test('a desired value that came from the cloud waits for the interval, and goes along with a change', async () => {
    const { twins, receive, pass, report } = await open()
    const { puts } = twins.reports
    const want = (value: string, ms: number) => stamped(device(id, { properties: [{ name: 'power', desired: { value } }] }), startMs + ms)
    await receive({ [id]: want('on', 1) })
    expect(twins.reports).toMatchObject({ puts, pending: 1 })
    await pass(1000)
    expect(twins.reports).toMatchObject({ puts: puts + 1, pending: 0 })
    await pass(5000)
    await receive({ [id]: want('off', 2) })
    await report({ power: 'off' })
    expect(twins.reports).toMatchObject({ puts: puts + 2, pending: 0 })
  })

  test('a desired value that was set here goes at once, and so does a state', async () => {
    const { twins, pass } = await open()
    const { puts } = twins.reports
    await durable(twins.write(id, desired({ power: 'on' }), 'http'))
    expect(twins.reports.puts).toBe(puts + 1)
    await pass(5000)
    await durable(twins.write(id, { section: 'state', state: 'online' }, 'mqtt'))
    expect(twins.reports.puts).toBe(puts + 2)
  })

  test('a device may say its own interval; 0 is each change', async () => {
    const slow = await open({ annotations: { 'holdfast.dev/report-interval': '10s' } })
    await slow.report({ power: 1 })
    await slow.report({ power: 2 })
    await slow.pass(9999)
    expect(slow.item()).toEqual({ power: 1 })
    await slow.pass(1)
    expect(slow.item()).toEqual({ power: 2 })
    const each = await open({ annotations: { 'holdfast.dev/report-interval': '0' } })
    for (const n of [1, 2, 3]) {
      await each.report({ power: n })
      expect(each.item()).toEqual({ power: n })
    }
  })

  test('a number that moved by no more than the deadband since it was sent is no reason, however small the steps', async () => {
    const { report, item, pass } = await open({ annotations: { 'holdfast.dev/report-deadband': 'power=0.5' } })
    await report({ power: 20 })
    await pass(5000)
    for (const power of [20.2, 20.5, 19.5, 20.4]) await report({ power })
    await pass(5000)
    expect(item()).toEqual({ power: 20 })
    await report({ level: 1 })
    expect(item()).toEqual({ power: 20.4, level: 1 })
    await pass(5000)
    await report({ power: 20.95 })
    expect(item()).toEqual({ power: 20.95, level: 1 })
    await pass(5000)
    await report({ level: 1.1 })
    expect(item()).toEqual({ power: 20.95, level: 1.1 })
  })

  test('what is desired is reached, left, or was there already: the cloud is told, however small the step', async () => {
    const { report, receive, item, pass } = await open({ annotations: { 'holdfast.dev/report-deadband': '0.5' } })
    const want = (value: string, ms: number) => receive({
      [id]: stamped(device(id, {
        annotations: { 'holdfast.dev/report-deadband': '0.5' },
        properties: [{ name: 'power', desired: { value, metadata: { type: 'float' } } }]
      }), startMs + ms)
    })
    await want('21.5', 1)
    await report({ power: 21.3 })
    await pass(5000)
    await report({ power: 21.5 })
    expect(item()).toEqual({ power: 21.5 })
    await pass(5000)
    await report({ power: 21.6 })
    expect(item()).toEqual({ power: 21.6 })
    await pass(5000)
    await report({ power: 21.7 })
    await pass(5000)
    expect(item()).toEqual({ power: 21.6 })
    await want('21.7', 2)
    await pass(5000)
    expect(item()).toEqual({ power: 21.7 })
  })

  test('what is only as fresh waits for the interval', async () => {
    const { twins, report, pass, clock } = await open()
    await report({ power: 1 })
    await pass(120_000)
    const { puts } = twins.reports
    await report({ power: 1 })
    expect(twins.reports).toMatchObject({ puts, pending: 1 })
    await pass(1000)
    expect(twins.reports.puts).toBe(puts + 1)
    expect(twins.get(id)!.twin.reported.get('power')!.timestamp).toBe(clock.nowMs - 1000)
  })

  test('an annotation that says nothing sensible counts as none', async () => {
    const { report, item, pass } = await open({
      annotations: { 'holdfast.dev/report-interval': 'soon', 'holdfast.dev/report-deadband': '-1', 'holdfast.dev/history': 'power' }
    })
    await report({ power: 1 })
    await report({ power: 2 })
    await pass(1000)
    expect(item()).toEqual({ power: 2 })
  })
})

test('TWN-30: what stays on the node is not in the item, and is no reason to send it', async () => {
  const properties = (reportToCloud: boolean) => ({ properties: [{ name: 'secret', reportToCloud }] })
  const { twins, receive, report, item, pass } = await open(properties(false))
  const { puts } = twins.reports
  await report({ secret: 1 })
  await pass(5000)
  expect(twins.reports.puts).toBe(puts)
  await report({ power: 1 })
  expect(item()).toEqual({ power: 1 })
  await pass(5000)
  await receive({ [id]: device(id, properties(true)) })
  await pass(1000)
  expect(item()).toEqual({ power: 1, secret: 1 })
  await receive({ [id]: device(id, properties(false)) })
  await pass(1000)
  expect(item()).toEqual({ power: 1 })
})

describe('a start', () => {
  test('puts nothing where everything was sent', async () => {
    const store = new GatedStore()
    const first = await open({}, store)
    await first.report({ power: 1 })
    const version = Buffer.from(first.table.up.version('twins', id)!)
    await first[Symbol.asyncDispose]()
    const clock = new HandClock(startMs)
    const second = await openTwins(store, { clock, seed: 2 })
    onTestFinished(() => second[Symbol.asyncDispose]())
    await clock.pass(60_000)
    await second.committer.flush()
    expect(second.twins.reports).toMatchObject({ puts: 0, pending: 0 })
    expect(second.table.up.version('twins', id)).toEqual(version)
  })

  test('goes on measuring the deadband from what was sent', async () => {
    const store = new GatedStore()
    const annotations = { 'holdfast.dev/report-deadband': '0.5' }
    const first = await open({ annotations }, store)
    await first.report({ power: 20 })
    await first.pass(5000)
    await first.report({ power: 20.4 })
    await first[Symbol.asyncDispose]()
    const second = await open({ annotations }, store, { seed: 2 })
    expect(second.item()).toEqual({ power: 20 })
    await second.report({ power: 20.6 })
    expect(second.item()).toEqual({ power: 20.6 })
  })

  test('puts what was waiting for its interval', async () => {
    const store = new GatedStore()
    const first = await open({}, store)
    await first.report({ power: 1 })
    await first.report({ power: 2 })
    expect(first.item()).toEqual({ power: 1 })
    await first[Symbol.asyncDispose]()
    const second = await open({}, store, { seed: 2 })
    expect(second.item()).toEqual({ power: 2 })
  })
})
