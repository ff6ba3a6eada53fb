import type { JsonObject, KubeObject } from '@holdfast/kube-api'
import { SeededRandom, silentLog } from '@holdfast/runtime'
import { HandClock } from '@holdfast/runtime/testing'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { ScriptedCluster } from '../state/testing/up-cluster.ts'
import { DeviceEvents } from './device-events.ts'
import { deviceLimits } from './limits.ts'
import { newDevice } from './testing/device-cluster.ts'

let clock: HandClock
let cluster: ScriptedCluster
let events: DeviceEvents

const start = (): DeviceEvents => new DeviceEvents({ client: cluster, clock, random: new SeededRandom(2), log: silentLog })

beforeEach(() => {
  clock = new HandClock()
  cluster = new ScriptedCluster(clock)
  events = start()
})

afterEach(() => { events.close() })

function device(name: string): KubeObject {
  const made = newDevice(name, 'edge-1')
  return { ...made, metadata: { ...made.metadata, uid: `u-${name}` } }
}

const written = (): KubeObject[] => [...cluster.objects.values()].filter(({ kind }) => kind === 'Event')

test('an Event says of which device it is, in words and in members that kubectl knows', async () => {
  events.stateChanged(device('lamp'), 'online', 'unhealthy')
  await clock.pass(10)
  expect(written()).toMatchObject([{
    apiVersion: 'v1', kind: 'Event', reason: 'DeviceUnhealthy', type: 'Warning', message: 'The device is unhealthy; it was online.', count: 1,
    involvedObject: { apiVersion: 'devices.kubeedge.io/v1beta1', kind: 'Device', namespace: 'default', name: 'lamp', uid: 'u-lamp' },
    source: { component: 'holdfast-cloudcore', host: 'edge-1' }
  }])
})

test('two cloudcores count on the same Event', async () => {
  const second = start()
  events.stateChanged(device('lamp'), undefined, 'online')
  second.stateChanged(device('lamp'), 'offline', 'online')
  await clock.pass(30_000)
  second.close()
  expect(written().map(({ count }) => count)).toEqual([2])
})

test('names that are too long, or cut in an unlucky place, are names', async () => {
  for (const name of ['x'.repeat(253), `${'x'.repeat(229)}.${'y'.repeat(20)}`, `${'x'.repeat(228)}-.${'y'.repeat(20)}`]) {
    events.stateChanged(device(name), undefined, 'online')
  }
  await clock.pass(10)
  expect(written()).toHaveLength(3)
  for (const { metadata: { name } } of written()) expect(name).toMatch(/^(?=.{1,253}$)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*$/)
})

test('what cannot be written is tried again, within bounds; what is refused is dropped', async () => {
  cluster.fault = () => ({ kind: 'answer', status: 503 })
  for (let i = 0; i < deviceLimits.eventsPending.value + 5; i++) events.stateChanged(device(`d${i}`), undefined, 'offline')
  events.stateChanged(device('d1'), 'online', 'offline')
  expect(events.stats).toEqual({ written: 0, dropped: 5 })
  events.close()
  events = start()
  events.stateChanged(device('lamp'), undefined, 'offline')
  await clock.pass(60_000)
  cluster.fault = () => undefined
  await clock.pass(60_000)
  expect([events.stats, written().map(({ involvedObject }) => (involvedObject as JsonObject)['name'])]).toEqual([{ written: 1, dropped: 0 }, ['lamp']])
  cluster.fault = verb => verb === 'get' ? undefined : { kind: 'answer', status: 403 }
  events.stateChanged(device('lamp'), 'online', 'offline')
  await clock.pass(60_000)
  const requests = cluster.requests.length
  await clock.pass(600_000)
  expect([events.stats, cluster.requests.length - requests]).toEqual([{ written: 1, dropped: 1 }, 0])
})
