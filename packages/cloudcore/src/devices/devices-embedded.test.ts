import { desiredAnnotation, parseVersion, writerOf } from '@holdfast/device-twin'
import type { JsonObject, KubeObject } from '@holdfast/kube-api'
import { SystemClock, SystemRandom, parseNodeName, silentLog } from '@holdfast/runtime'
import type { StateTarget } from '@holdfast/sync'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { Authority } from '../identity/index.ts'
import { Controllers } from '../kube/controllers.ts'
import { EmbeddedKubernetes } from '../kube/embedded-kubernetes.ts'
import type { ObjectPlace } from '../kube/kube-client.ts'
import { kubeKinds } from '../kube/kube-kinds.ts'
import { RestClient } from '../kube/rest-client.ts'
import { statusOf } from '../state/status-document.ts'
import { HandLinks } from '../state/testing/up-node-links.ts'
import { TwinNode, devicePlace, deviceStatusPlace, newDevice, newModel, saidOf } from './testing/device-cluster.ts'

const edge = parseNodeName('edge-1')!
const [clock, random] = [new SystemClock(), new SystemRandom()]

let client: RestClient
let links: HandLinks
let controllers: Controllers
let target: StateTarget
let node: TwinNode
let close: () => Promise<void>

/** All that cloudcore does with Kubernetes, against the embedded API over TLS. */
beforeEach(async () => {
  const dataDir = await mkdtemp(join(tmpdir(), 'holdfast-devices-'))
  const log = silentLog
  const authority = await Authority.open({ folder: join(dataDir, 'identity'), serverNames: [], hostname: 'cloud' }, { clock, log })
  const embedded = await EmbeddedKubernetes.open({
    dataDir, host: '127.0.0.1', port: 0, freeFloorBytes: 1024 * 1024, version: '1.2.3', platform: 'linux/arm64'
  }, { authority, clock, random, log })
  client = await RestClient.open({ access: embedded.access }, { clock, random })
  links = new HandLinks()
  controllers = new Controllers({
    access: embedded.access, knownApi: { path: join(dataDir, 'kube-api'), adopt: undefined }, keepPods: false,
    api: 'embedded'
  }, { links, clock, random, log })
  const stop = new AbortController()
  const running = controllers.run(stop.signal)
  await vi.waitFor(() => { expect(controllers.inSync).toBe(true) }, { timeout: 10_000, interval: 10 })
  links.connect('edge-1')
  target = controllers.stateOf(edge)!.up
  await target.digest('twins')
  node = new TwinNode('edge-1', () => clock.wallMs())
  close = async () => {
    stop.abort(new Error('stop'))
    await running
    await client.close()
    await embedded[Symbol.asyncDispose]()
    await rm(dataDir, { recursive: true })
  }
})

afterEach(async () => { await close() })

async function until<T>(place: ObjectPlace, read: (object: KubeObject | undefined) => T, expected: T): Promise<void> {
  await vi.waitFor(async () => { expect(read(await client.get(place))).toEqual(expected) }, { timeout: 10_000, interval: 10 })
}

const stampOf = (device: KubeObject | undefined, property: string): JsonObject | undefined =>
  (JSON.parse(device?.metadata.annotations?.[desiredAnnotation] ?? '{}') as Record<string, JsonObject>)[property]

test('a desired value goes from kubectl to the device and comes back', async () => {
  await client.create(kubeKinds.deviceModels, newModel('lamp', [{ name: 'level', type: 'INT', accessMode: 'ReadWrite', maximum: '100' }]))
  const { metadata: { uid = '' } } = await client.create(kubeKinds.devices, newDevice('a', 'edge-1', {}, { deviceModelRef: { name: 'lamp' } }))
  node.change('a', uid, { state: { value: 'online', timestamp: clock.wallMs() }, lastOnlineTime: clock.wallMs() })
  node.report('a', uid, { level: 10 })
  node.say(target, 'a')
  await until(devicePlace('a'), saidOf, ['Synced: True DesiredObserved', 'Reachable: True DeviceOnline', 'InDesiredState: True DesiredReported'])

  await client.mergePatch(devicePlace('a'), { spec: { properties: [{ name: 'level', desired: { value: '40' } }] } })
  await until(devicePlace('a'), device => writerOf(parseVersion(stampOf(device, 'level')?.['version'] as string)!), 'cloud')
  await until(devicePlace('a'), saidOf, ['Synced: False DesiredPending', 'Reachable: True DeviceOnline', 'InDesiredState: False DesiredPending'])

  node.take((await client.get(devicePlace('a')))!, newModel('lamp', [{ name: 'level', type: 'INT', accessMode: 'ReadWrite' }]))
  node.report('a', uid, { level: 40 })
  node.say(target, 'a')
  const { version } = stampOf(await client.get(devicePlace('a')), 'level')!
  await vi.waitFor(async () => {
    expect(statusOf((await client.get(deviceStatusPlace('a')))!)['twins']).toMatchObject([
      { propertyName: 'level', reported: { value: '40' }, observedDesired: { value: '40', metadata: { version } } }
    ])
  }, { timeout: 10_000, interval: 10 })
  await until(devicePlace('a'), saidOf, ['Synced: True DesiredObserved', 'Reachable: True DeviceOnline', 'InDesiredState: True DesiredReported'])
  // Whoever waits for the Device as it is now is not told of what was.
  const device = (await client.get(devicePlace('a')))!
  for (const condition of statusOf(device)['conditions'] as JsonObject[]) expect(condition['observedGeneration']).toBe(device.metadata.generation)
  const events = await client.list(kubeKinds.events, { namespace: 'default' }, new AbortController().signal)
  expect(events.items.map(({ reason, count, message }) => [reason, count, message])).toEqual([['DeviceOnline', 1, 'The device is online.']])
  await client.delete(devicePlace('a'))
  await until(deviceStatusPlace('a'), object => object, undefined)
})
