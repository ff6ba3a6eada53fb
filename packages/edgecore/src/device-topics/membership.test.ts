import { emptyTwin } from '@holdfast/device-twin'
import { expect, test } from 'vitest'
import { HandClock } from '@holdfast/runtime/testing'
import type { DeviceId, DeviceTwin, TwinChange } from '../twins/index.ts'
import { device, startMs } from '../twins/testing/twin-harness.ts'
import { deviceTopicsLimits } from './limits.ts'
import { Membership } from './membership.ts'
import { RecordingBus } from './testing/recording-bus.ts'

function twin(id: string, uid = 'one', values: Readonly<Record<string, string>> = {}): DeviceTwin {
  const version = { time: 1, counter: 0, origin: 'edge-1/00000000' }
  const reported = new Map(Object.entries(values).map(([name, value]) => [name, { value, version, timestamp: 1 }]))
  return {
    id: id as DeviceId, uid, device: device(id, { uid }), model: undefined,
    rules: { properties: undefined, listed: new Set(), freshnessMs: 0 }, twin: { ...emptyTwin, reported }
  }
}

const change = (before: DeviceTwin | undefined, after: DeviceTwin | undefined): TwinChange =>
  ({ id: (before ?? after)!.id, before, after, desired: [], reported: [], stateChanged: false, specChanged: true })

interface Told { readonly added: readonly string[], readonly removed: readonly string[] | null }

function open() {
  const bus = new RecordingBus()
  const clock = new HandClock(startMs)
  const membership = new Membership('edge-1', { bus, clock, twins: { all: () => [] } })
  const names = (devices: unknown): string[] => (devices as { id: string }[]).map(({ id }) => id)
  return {
    membership,
    /** What was told in the turns that followed. */
    told: async (): Promise<Told[]> => {
      for (let i = 0; i < 20; i++) await clock.pass(0)
      return bus.taken().map(({ body }) => ({
        added: names(body['added_devices']), removed: body['removed_devices'] === null ? null : names(body['removed_devices'])
      }))
    }
  }
}

test('what came and went in one turn is told in one message, and not what came to nothing', async () => {
  const { membership, told } = open()
  const [a, b, c] = [twin('x/a'), twin('x/b'), twin('x/c')]
  membership.changed(change(undefined, a))
  membership.changed(change(a, undefined))
  expect(await told()).toEqual([])
  membership.changed(change(undefined, a))
  membership.changed(change(b, undefined))
  membership.changed(change(c, twin('x/c', 'another')))
  membership.changed(change(twin('x/d'), twin('x/d')))
  expect(await told()).toEqual([{ added: ['x/a', 'x/c'], removed: ['x/b', 'x/c'] }])
})

test('a message has a bound in bytes and devices, and what goes is told before what comes', async () => {
  const { membership, told } = open()
  const large = Object.fromEntries(Array.from({ length: 4 }, (_, i) => [`p${i}`, 'x'.repeat(30_000)]))
  for (let i = 0; i < 5; i++) membership.changed(change(undefined, twin(`x/large${i}`, 'one', large)))
  expect((await told()).map(({ added }) => added.length)).toEqual([2, 2, 1])
  const most = deviceTopicsLimits.devicesPerMessage.value
  for (let i = 0; i < most + 1; i++) membership.changed(change(twin(`x/d${i}`), twin(`x/d${i}`, 'another')))
  const messages = await told()
  expect(messages.map(({ added, removed }) => [added.length, removed?.length ?? 0])).toEqual([[0, most], [most, 1], [1, 0]])
})
