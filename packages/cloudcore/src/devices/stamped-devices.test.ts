import { desiredAnnotation } from '@holdfast/device-twin'
import type { KubeObject } from '@holdfast/kube-api'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { HandClock } from '@holdfast/runtime/testing'
import { ScriptedCluster } from '../state/testing/up-cluster.ts'
import { DeviceCloud, devicePlace, newDevice, setReady } from './testing/device-cluster.ts'

let clock: HandClock
let cluster: ScriptedCluster
let cloud: DeviceCloud

beforeEach(async () => {
  clock = new HandClock()
  cluster = new ScriptedCluster(clock)
  setReady(cluster, 'edge-1', 'True')
  cluster.set(devicePlace('lamp'), () => newDevice('lamp', 'edge-1'))
  cloud = new DeviceCloud(cluster, clock)
  await clock.pass(1000)
})

afterEach(() => { cloud.close() })

const stampOf = (device: KubeObject | undefined): string | undefined => device?.metadata.annotations?.[desiredAnnotation]
const inCluster = (): KubeObject => cluster.at(devicePlace('lamp'))!

/** As kubectl does it. */
function desire(power: string): void {
  cluster.set(devicePlace('lamp'), device => ({ ...device!, spec: { ...device!['spec'] as object, properties: [{ name: 'power', desired: { value: power } }] } }))
}

test('a node is shown a desired value with the version that is being written, and nothing else once it is', async () => {
  const told: KubeObject[] = []
  cloud.devices.stamped.subscribe({ onChange: (_before, after) => { if (stampOf(after) !== undefined) told.push(after!) } })
  desire('on')
  expect(stampOf(inCluster())).toBeUndefined()
  expect(told).toHaveLength(1)
  await clock.pass(1000)
  expect(stampOf(inCluster())).toBe(stampOf(told[0]))
  for (const device of [...told, cloud.devices.stamped.get('default/lamp')!]) expect(stampOf(device)).toBe(stampOf(told[0]))
})

test('the same value keeps its version until it is written, another one gets a later one', async () => {
  cluster.fault = verb => verb === 'get' ? undefined : { kind: 'answer', status: 503 }
  desire('on')
  const first = stampOf(cloud.devices.stamped.get('default/lamp'))
  await clock.pass(60_000)
  expect(stampOf(cloud.devices.stamped.get('default/lamp'))).toBe(first)
  desire('off')
  const second = stampOf(cloud.devices.stamped.get('default/lamp'))
  expect(second).not.toBe(first)
  cluster.fault = () => undefined
  await clock.pass(60_000)
  expect(stampOf(inCluster())).toBe(second)
})

test('before all is known that a Device is decided by, it is shown as it is', () => {
  cloud.close()
  cloud = new DeviceCloud(cluster, clock, { late: ['deviceModels'] })
  desire('on')
  expect(cloud.devices.stamped.get('default/lamp')).toEqual(inCluster())
})
