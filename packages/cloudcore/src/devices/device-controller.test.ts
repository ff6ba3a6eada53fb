import { desiredAnnotation, parseVersion } from '@holdfast/device-twin'
import type { JsonObject, KubeObject } from '@holdfast/kube-api'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { HandClock } from '@holdfast/runtime/testing'
import { conditionsOf, statusOf } from '../state/status-document.ts'
import { ScriptedCluster, nodePlace } from '../state/testing/up-cluster.ts'
import { hash } from './device-planner.ts'
import { deviceLimits } from './limits.ts'
import {
  DeviceCloud, TwinNode, devicePlace, deviceStatusPlace, edge, modelPlace, newDevice, newModel, saidOf, setReady
} from './testing/device-cluster.ts'
import type { DeviceInformer } from './testing/device-cluster.ts'

/** Until a change is looked at. */
const soonMs = deviceLimits.lookDelayMs.value

let clock: HandClock
let cluster: ScriptedCluster
let clouds: DeviceCloud[]
let node: TwinNode

beforeEach(() => {
  clock = new HandClock()
  cluster = new ScriptedCluster(clock)
  clouds = []
  node = new TwinNode('edge-1', () => clock.wallMs())
  setReady(cluster, 'edge-1', 'True')
})

afterEach(() => { for (const cloud of clouds) cloud.close() })

function start(options: { readonly late?: readonly DeviceInformer[] } = {}): DeviceCloud {
  const cloud = new DeviceCloud(cluster, clock, { seed: 5 + clouds.length, ...options })
  clouds.push(cloud)
  return cloud
}

const device = (): KubeObject => cluster.at(devicePlace('lamp'))!
const uid = (): string => device().metadata.uid!
const writes = (): number => cluster.requests.filter(({ verb }) => verb !== 'get').length

interface Stamp { readonly version: string, readonly hash?: string, readonly deleted?: boolean, readonly replaces?: string }
const stamps = (): Record<string, Stamp> => JSON.parse(device().metadata.annotations?.[desiredAnnotation] ?? '{}') as Record<string, Stamp>

function put(desired: Readonly<Record<string, string>>, more: JsonObject = {}, nodeName: string | undefined = 'edge-1'): void {
  cluster.set(devicePlace('lamp'), before => {
    const made = newDevice('lamp', nodeName, desired, more)
    return before === undefined ? made
      : { ...before, spec: made['spec'], metadata: { ...before.metadata, generation: (before.metadata.generation ?? 0) + 1 } }
  })
}

/** The node takes what the Device desires, and says so. */
async function observe(cloud: DeviceCloud): Promise<void> {
  const target = cloud.targets.of(edge)
  await target.digest('twins')
  node.take(device())
  node.say(target, 'lamp')
  await clock.pass(1000)
}

const conditionOf = (type: string): JsonObject => conditionsOf(statusOf(device())).find(one => one.type === type)!

describe('a desired value', () => {
  test('that somebody writes is stamped at once, with the conditions that it makes false, in one request', async () => {
    const cloud = start()
    put({ power: 'on' })
    await clock.pass(1000)
    await observe(cloud)
    expect(saidOf(device())[0]).toBe('Synced: True DesiredObserved')
    const before = writes()
    put({ power: 'off' })
    await clock.pass(soonMs)
    expect([writes() - before, saidOf(device()), stamps()['power']!.hash]).toEqual([
      1, ['Synced: False DesiredPending', 'Reachable: Unknown StateNotReported', 'InDesiredState: False DesiredPending'], hash('off')
    ])
    await clock.pass(60_000)
    expect(writes() - before).toBe(1)
  })

  test('is stamped later than the one before, and a repeated one is not stamped again', async () => {
    start()
    put({ power: 'on' })
    await clock.pass(soonMs)
    const first = parseVersion(stamps()['power']!.version)!
    put({ power: 'on', level: '3' })
    await clock.pass(soonMs)
    expect(parseVersion(stamps()['power']!.version)).toEqual(first)
    put({ power: 'off', level: '3' })
    await clock.pass(soonMs)
    expect(parseVersion(stamps()['power']!.version)!.time).toBeGreaterThan(first.time)
  })

  test('that is gone from the spec gets a tombstone, which the node has to observe, too', async () => {
    const cloud = start()
    put({ power: 'on' })
    await clock.pass(soonMs)
    await observe(cloud)
    put({})
    await clock.pass(soonMs)
    expect([stamps()['power'], saidOf(device())[0]]).toEqual([
      { version: expect.any(String) as string, deleted: true }, 'Synced: False DesiredPending'
    ])
    await observe(cloud)
    expect(saidOf(device())[0]).toBe('Synced: True DesiredObserved')
    expect(statusOf(cluster.at(deviceStatusPlace('lamp'))!)['twins']).toEqual([])
  })

  test('that the model does not allow is not stamped, and Synced says why; the others are', async () => {
    start()
    cluster.set(modelPlace('lamp'), () => newModel('lamp', [
      { name: 'level', type: 'INT', accessMode: 'ReadWrite', maximum: '100' }, { name: 'power', type: 'STRING', accessMode: 'ReadWrite' },
      { name: 'meter', type: 'INT', accessMode: 'ReadOnly' }
    ]))
    put({ level: '230', power: 'on', meter: '1' }, { deviceModelRef: { name: 'lamp' } })
    await clock.pass(1000)
    expect(Object.keys(stamps())).toEqual(['power'])
    expect(conditionOf('Synced')).toMatchObject({ status: 'False', reason: 'InvalidDesired' })
    expect(conditionOf('Synced')['message']).toMatch(/^Property "level": value 230 is above the maximum 100; .*\. 1 more is wrong: meter\.$/)
    put({ level: '23', power: 'on' }, { deviceModelRef: { name: 'lamp' } })
    await clock.pass(1000)
    expect([Object.keys(stamps()), saidOf(device())[0]]).toEqual([['level', 'power'], 'Synced: False DesiredPending'])
  })

  test('that was put back to an older one with its version gives way to what the node has (TWN-15)', async () => {
    const cloud = start()
    put({ power: 'on' })
    await clock.pass(soonMs)
    const old = structuredClone(device())
    put({ power: 'off' })
    await clock.pass(1000)
    await observe(cloud)
    cluster.set(devicePlace('lamp'), () => old)
    await clock.pass(1000)
    expect([device()['spec'], saidOf(device())[0]]).toEqual([
      expect.objectContaining({ properties: [{ name: 'power', desired: { value: 'off' } }] }), 'Synced: True DesiredObserved'
    ])
  })

  test('of a Device without a node is stamped, too, and nobody has it', async () => {
    start()
    cluster.set(devicePlace('lamp'), () => newDevice('lamp', undefined, { power: 'on' }))
    await clock.pass(1000)
    expect([Object.keys(stamps()), saidOf(device())]).toEqual([
      ['power'], ['Synced: False NodeNotAssigned', 'Reachable: Unknown NodeNotAssigned', 'InDesiredState: False DesiredPending']
    ])
  })
})

test.each(['deviceModels', 'deviceStatuses', 'nodes', 'devices'] as const)(
  'what is not known is not taken for what is not there: nothing is written before %s have synced', async late => {
    cluster.set(modelPlace('lamp'), () => newModel('lamp', [{ name: 'power', type: 'BOOLEAN', accessMode: 'ReadWrite' }]))
    put({ power: 'on' }, { deviceModelRef: { name: 'lamp' } })
    const cloud = start({ late: [late] })
    await clock.pass(10_000)
    put({ power: 'dim' }, { deviceModelRef: { name: 'lamp' } })
    await clock.pass(10_000)
    expect(writes()).toBe(0)
    cloud.sync(late)
    await clock.pass(10_000)
    expect([saidOf(device())[0], stamps()]).toEqual(['Synced: False InvalidDesired', {}])
  }
)

describe('the model', () => {
  const rules = (type: string): void => cluster.set(modelPlace('lamp'), () => newModel('lamp', [{ name: 'power', type, accessMode: 'ReadWrite' }]))

  test('that is missing is named, and its rules hold when it comes', async () => {
    start()
    put({ power: 'on' }, { deviceModelRef: { name: 'lamp' } })
    await clock.pass(1000)
    expect(conditionOf('Synced')).toMatchObject({ status: 'False', reason: 'ModelNotFound' })
    expect(conditionOf('Synced')['message']).toContain('DeviceModel lamp')
    rules('BOOLEAN')
    await clock.pass(1000)
    expect(saidOf(device())).toEqual(['Synced: False InvalidDesired', 'Reachable: Unknown StateNotReported', 'InDesiredState: False InvalidDesired'])
    rules('STRING')
    await clock.pass(1000)
    expect(saidOf(device())[0]).toBe('Synced: False DesiredPending')
  })

  test('that changes, or is deleted, under a living Device (TWN-25)', async () => {
    const cloud = start()
    rules('STRING')
    put({ power: 'on' }, { deviceModelRef: { name: 'lamp' } })
    await clock.pass(soonMs)
    await observe(cloud)
    node.report('lamp', uid(), { power: 'on' })
    node.say(cloud.targets.of(edge), 'lamp')
    await clock.pass(1000)
    expect(saidOf(device())).toEqual(['Synced: True DesiredObserved', 'Reachable: Unknown StateNotReported', 'InDesiredState: True DesiredReported'])
    const version = stamps()['power']
    rules('INT')
    await clock.pass(1000)
    expect([saidOf(device()), stamps()['power']]).toEqual([
      ['Synced: False InvalidDesired', 'Reachable: Unknown StateNotReported', 'InDesiredState: False InvalidDesired'], version
    ])
    cluster.set(modelPlace('lamp'), () => undefined)
    await clock.pass(1000)
    expect(saidOf(device())).toEqual(['Synced: False ModelNotFound', 'Reachable: Unknown StateNotReported', 'InDesiredState: True DesiredReported'])
  })
})

describe('conditions', () => {
  test('of a node that is away: Reachable is Unknown, and what it does not have is said', async () => {
    const cloud = start()
    put({ power: 'on' })
    await clock.pass(soonMs)
    await observe(cloud)
    node.change('lamp', uid(), { state: { value: 'online', timestamp: clock.wallMs() } })
    node.say(cloud.targets.of(edge), 'lamp')
    await clock.pass(1000)
    expect(saidOf(device())).toEqual(['Synced: True DesiredObserved', 'Reachable: True DeviceOnline', 'InDesiredState: False DesiredPending'])
    setReady(cluster, 'edge-1', 'Unknown')
    await clock.pass(1000)
    expect(saidOf(device())).toEqual(['Synced: True DesiredObserved', 'Reachable: Unknown NodeUnreachable', 'InDesiredState: False DesiredPending'])
    put({ power: 'off' })
    await clock.pass(1000)
    expect([saidOf(device())[0], conditionOf('Synced')['message']])
      .toEqual(['Synced: False NodeUnreachable', 'Node edge-1 is away, and does not have the desired power.'])
    setReady(cluster, 'edge-1', 'True')
    await clock.pass(1000)
    expect(saidOf(device())[1]).toBe('Reachable: True DeviceOnline')
  })

  test('of a Device at a node that does not exist', async () => {
    start()
    put({}, {}, 'nowhere')
    await clock.pass(1000)
    expect(saidOf(device())).toEqual(['Synced: False NodeUnreachable', 'Reachable: Unknown NodeUnreachable', 'InDesiredState: True DesiredReported'])
    expect(conditionOf('Reachable')['message']).toContain('no Node nowhere')
    put({ power: 'on' }, {}, 'nowhere')
    await clock.pass(1000)
    expect(conditionOf('Synced')['message']).toBe('There is no Node nowhere: join the node, or correct spec.nodeName.')
  })

  test('of a value that nobody is told, since the model never allowed it: the device is not as desired', async () => {
    start()
    cluster.set(modelPlace('lamp'), () => newModel('lamp', [{ name: 'power', type: 'INT', accessMode: 'ReadWrite' }]))
    put({ power: 'on' }, { deviceModelRef: { name: 'lamp' } })
    await clock.pass(1000)
    expect([saidOf(device()), stamps()]).toEqual([
      ['Synced: False InvalidDesired', 'Reachable: Unknown StateNotReported', 'InDesiredState: False InvalidDesired'], {}
    ])
    expect(conditionOf('InDesiredState')['message']).toBe(conditionOf('Synced')['message'])
  })

  test.each([
    ['online', 'True DeviceOnline'], ['ok', 'True DeviceOk'], ['offline', 'False DeviceOffline'],
    ['unhealthy', 'False DeviceUnhealthy'], ['unknown', 'Unknown DeviceUnknown']
  ] as const)('say that a device is %s', async (state, said) => {
    const cloud = start()
    put({})
    await observe(cloud)
    node.change('lamp', uid(), { state: { value: state, timestamp: clock.wallMs() } })
    node.say(cloud.targets.of(edge), 'lamp')
    await clock.pass(1000)
    expect(saidOf(device())[1]).toBe(`Reachable: ${said}`)
  })

  test('are gathered: one write for what follows each other', async () => {
    const cloud = start()
    put({ power: 'on' })
    await clock.pass(1000)
    const target = cloud.targets.of(edge)
    await target.digest('twins')
    const before = cluster.count('patch')
    node.take(device())
    node.say(target, 'lamp')
    await clock.pass(50)
    node.report('lamp', uid(), { power: 'on' })
    node.say(target, 'lamp')
    await clock.pass(5000)
    expect(saidOf(device())).toEqual(['Synced: True DesiredObserved', 'Reachable: Unknown StateNotReported', 'InDesiredState: True DesiredReported'])
    expect(cluster.requests.filter(({ verb, place }) => verb === 'patch' && place.startsWith('devices ')).length).toBe(2)
    expect(cluster.count('patch') - before).toBeLessThanOrEqual(3)
  })

  test('keep their transition time while their status stays, and those of others stay', async () => {
    start()
    put({})
    await clock.pass(1000)
    const mine = { type: 'Calibrated', status: 'True', reason: 'Mine', message: '' }
    cluster.set(devicePlace('lamp'), one => ({
      ...one!, status: { ...statusOf(one!), reportCycle: 7, conditions: [mine, ...conditionsOf(statusOf(one!))] }
    }))
    const since = conditionOf('Synced')['lastTransitionTime']
    const reachable = conditionOf('Reachable')['lastTransitionTime']
    await clock.pass(100_000)
    put({ power: 'on' })
    await clock.pass(1000)
    expect([conditionOf('Calibrated'), statusOf(device())['reportCycle'], conditionOf('Reachable')['lastTransitionTime']]).toEqual([mine, 7, reachable])
    expect(conditionOf('Synced')['lastTransitionTime']).not.toBe(since)
  })

  test('name the generation that they are of, so that nobody waits for what was', async () => {
    start()
    put({ power: 'on' })
    await clock.pass(1000)
    for (const condition of conditionsOf(statusOf(device()))) expect(condition['observedGeneration']).toBe(device().metadata.generation)
    put({ power: 'on' }, { methods: [] })
    await clock.pass(soonMs)
    expect(conditionOf('Synced')['observedGeneration']).toBeLessThan(device().metadata.generation!)
    await clock.pass(1000)
    expect(conditionOf('Synced')['observedGeneration']).toBe(device().metadata.generation)
  })

  test('are written through a status subresource where the kind has one', async () => {
    cluster.subresources.add('devices')
    const cloud = start()
    put({ power: 'on' })
    await clock.pass(1000)
    expect([Object.keys(stamps()), saidOf(device())[0]]).toEqual([['power'], 'Synced: False DesiredPending'])
    await observe(cloud)
    expect([saidOf(device())[0], conditionOf('Synced')['observedGeneration']]).toEqual(['Synced: True DesiredObserved', device().metadata.generation])
    const before = writes()
    await clock.pass(60_000)
    expect(writes()).toBe(before)
  })

  test('are given up where the definition of the kind drops them; desired values are not', async () => {
    cluster.dropped.set('devices', ['conditions'])
    start()
    put({ power: 'on' })
    await clock.pass(60_000)
    const before = writes()
    expect(before).toBeLessThan(6)
    put({ power: 'off' })
    await clock.pass(60_000)
    expect([writes() - before, stamps()['power']!.hash]).toEqual([1, hash('off')])
  })
})

describe('writes', () => {
  test('that Kubernetes refuses are tried again later, whatever happens meanwhile', async () => {
    start()
    cluster.fault = verb => verb === 'patch' ? { kind: 'answer', status: 422 } : undefined
    for (let i = 0; i < 20; i++) {
      put({ power: `v${i}` })
      await clock.pass(1000)
    }
    expect(cluster.count('patch')).toBe(1)
    cluster.fault = () => undefined
    await clock.pass(deviceLimits.refusedRetryMs.value)
    expect(stamps()['power']!.hash).toBe(hash('v19'))
  })

  test('of one Device that hang hold up no other', async () => {
    start()
    cluster.fault = (verb, { name }) => verb === 'patch' && name === 'lamp' ? { kind: 'hang' } : undefined
    put({ power: 'on' })
    cluster.set(devicePlace('fan'), () => newDevice('fan', 'edge-1', { speed: '3' }))
    await clock.pass(10)
    expect([device(), cluster.at(devicePlace('fan'))!].map(one => one.metadata.annotations?.[desiredAnnotation] !== undefined)).toEqual([false, true])
    cluster.fault = () => undefined
    await clock.pass(60_000)
    expect(Object.keys(stamps())).toEqual(['power'])
  })

  test('of two cloudcores come to the same, and end', async () => {
    const [one] = [start(), start()]
    put({ power: 'on' })
    await clock.pass(1000)
    await observe(one)
    for (const value of ['off', 'on', 'dim']) {
      put({ power: value })
      await clock.pass(50)
    }
    await clock.pass(10_000)
    const before = writes()
    expect(stamps()['power']!.hash).toBe(hash('dim'))
    await clock.pass(600_000)
    expect(writes()).toBe(before)
    expect(before).toBeLessThan(20)
  })

  test('of a Device that is being deleted are none', async () => {
    start()
    cluster.set(devicePlace('lamp'), () => {
      const made = newDevice('lamp', 'edge-1', { power: 'on' })
      return { ...made, metadata: { ...made.metadata, deletionTimestamp: '2026-01-01T00:00:00Z', finalizers: ['x/y'] } }
    })
    await clock.pass(10_000)
    expect(writes()).toBe(0)
  })

  test('end with it: no timer is left', async () => {
    const cloud = start()
    put({ power: 'on' })
    cluster.set(nodePlace('edge-1'), () => undefined)
    await clock.pass(10)
    cloud.close()
    expect(clock.timers).toBe(0)
  })
})
