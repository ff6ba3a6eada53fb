import { desiredAnnotation, formatVersion } from '@holdfast/device-twin'
import type { JsonObject } from '@holdfast/kube-api'
import { stateDigest } from '@holdfast/sync'
import type { StateTarget } from '@holdfast/sync'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { recordedVersion, statusOf } from '../state/status-document.ts'
import { HandClock, ScriptedCluster } from '../state/testing/up-cluster.ts'
import { hash } from './device-planner.ts'
import { recordingNode } from './device-status.ts'
import {
  DeviceCloud, TwinNode, devicePlace, deviceStatusPlace, edge, newDevice, setReady
} from './testing/device-cluster.ts'

let clock: HandClock
let cluster: ScriptedCluster
let cloud: DeviceCloud
let node: TwinNode
let target: StateTarget
let uid: string

beforeEach(async () => {
  clock = new HandClock()
  cluster = new ScriptedCluster(clock)
  node = new TwinNode('edge-1', () => clock.wallMs())
  setReady(cluster, 'edge-1', 'True')
  cluster.set(devicePlace('lamp'), () => newDevice('lamp', 'edge-1'))
  uid = cluster.at(devicePlace('lamp'))!.metadata.uid!
  await start()
})

async function start(): Promise<void> {
  cloud = new DeviceCloud(cluster, clock)
  target = cloud.targets.of(edge)
  await target.digest('twins')
}

afterEach(() => { cloud.close() })

const status = (): JsonObject => statusOf(cluster.at(deviceStatusPlace('lamp'))!)

test('a first item makes the DeviceStatus, with its owner and the record', async () => {
  node.report('lamp', uid, { power: 'on', level: 40 })
  const { timestamp } = node.twin('lamp').reported.get('power')!
  expect(node.say(target, 'lamp')).toEqual([undefined])
  await clock.pass(100)
  const made = cluster.at(deviceStatusPlace('lamp'))!
  expect([recordedVersion(made), recordingNode(made)]).toEqual([node.item('lamp').version.toString('hex'), 'edge-1'])
  expect(made.metadata.ownerReferences).toEqual([
    { apiVersion: 'devices.kubeedge.io/v1beta1', kind: 'Device', name: 'lamp', uid, controller: true }
  ])
  expect(status()).toEqual({ twins: [
    { propertyName: 'power', reported: { value: 'on', metadata: { timestamp: String(timestamp) } } },
    { propertyName: 'level', reported: { value: '40', metadata: { timestamp: String(timestamp), type: 'int' } } }
  ] })
  expect(target.digest('twins')).toEqual(stateDigest([['default/lamp', node.item('lamp').version]]))
})

test('a desired value of the node is in the Device before it is recorded (TWN-33)', async () => {
  node.desire('lamp', uid, { power: 'off' })
  node.say(target, 'lamp')
  await clock.pass(100)
  const { version } = node.twin('lamp').desired.get('power')!
  const device = cluster.at(devicePlace('lamp'))!
  expect(device['spec']).toMatchObject({ nodeName: 'edge-1', properties: [{ name: 'power', desired: { value: 'off' } }] })
  expect(JSON.parse(device.metadata.annotations![desiredAnnotation]!)).toEqual({ power: { version: formatVersion(version), hash: hash('off') } })
  expect(status()['twins']).toEqual([{ propertyName: 'power', observedDesired: {
    value: 'off', metadata: { timestamp: String(node.twin('lamp').desired.get('power')!.timestamp), version: formatVersion(version) }
  } }])
  const writes = cluster.requests.filter(({ verb }) => verb !== 'get').map(({ verb, place }) => `${verb} ${place}`)
  expect(writes.indexOf('patch devices default/lamp')).toBeLessThan(writes.indexOf('create devicestatuses default/lamp'))
})

describe('what kubectl desires', () => {
  test('is stamped at once', async () => {
    cluster.set(devicePlace('lamp'), device => ({ ...device!, ...newDevice('lamp', 'edge-1', { power: 'on' }), metadata: device!.metadata }))
    await clock.pass(0)
    const stamps = JSON.parse(cluster.at(devicePlace('lamp'))!.metadata.annotations![desiredAnnotation]!) as JsonObject
    expect(stamps).toEqual({ power: { version: expect.stringMatching(/\.cloud\/[0-9a-f]{8}$/) as string, hash: hash('on') } })
  })
})
