import { desiredAnnotation, formatVersion } from '@holdfast/device-twin'
import type { JsonObject, KubeObject } from '@holdfast/kube-api'
import { parseNodeName } from '@holdfast/runtime'
import { HandClock } from '@holdfast/runtime/testing'
import { stateDigest } from '@holdfast/sync'
import type { StateTarget } from '@holdfast/sync'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { kubeKinds } from '../kube/kube-kinds.ts'
import { conditionsOf, recordedVersion, stateAnnotation, statusOf } from '../state/status-document.ts'
import { ScriptedCluster } from '../state/testing/up-cluster.ts'
import { hash } from './device-planner.ts'
import { nodeAnnotation, recordingNode, troubleAnnotation } from './device-status.ts'
import { deviceLimits } from './limits.ts'
import {
  DeviceCloud, TwinNode, devicePlace, deviceStatusPlace, edge, modelPlace, newDevice, newModel, saidOf, setReady
} from './testing/device-cluster.ts'

let clock: HandClock
let cluster: ScriptedCluster
let cloud: DeviceCloud
let node: TwinNode
let target: StateTarget
let compared: string[]
let uid: string

beforeEach(async () => {
  clock = new HandClock()
  cluster = new ScriptedCluster(clock)
  node = new TwinNode('edge-1', () => clock.wallMs())
  setReady(cluster, 'edge-1', 'True')
  cluster.set(devicePlace('lamp'), () => newDevice('lamp', 'edge-1'))
  uid = uidOf('lamp')
  await start()
  // What is learned of the kinds with the first write.
  cluster.set(devicePlace('first'), () => newDevice('first', 'edge-1'))
  node.report('first', uidOf('first'), { a: 1 })
  node.say(target, 'first')
  await clock.pass(1000)
})

async function start(): Promise<void> {
  cloud = new DeviceCloud(cluster, clock)
  target = cloud.targets.of(edge)
  compared = []
  target.subscribe!(collection => { compared.push(collection) })
  await target.digest('twins')
}

afterEach(() => { cloud.close() })

const uidOf = (name: string): string => cluster.at(devicePlace(name))!.metadata.uid!
const shown = (name = 'lamp'): KubeObject | undefined => cluster.at(deviceStatusPlace(name))
const status = (name = 'lamp'): JsonObject => statusOf(shown(name)!)
const twins = (): JsonObject[] => status()['twins'] as JsonObject[]
const record = (): (string | undefined)[] => [recordedVersion(shown()), recordingNode(shown())]
const recorded = (of = node): string[] => [of.item('lamp').version.toString('hex'), of.name]
/** Requests that change the objects of this name, from now on. */
function requestsSince(name = 'lamp'): () => string[] {
  const first = cluster.requests.length
  return () => cluster.requests.slice(first).filter(({ verb, place }) => verb !== 'get' && place.endsWith(`/${name}`))
    .map(({ verb, place }) => `${verb} ${place.slice(0, place.indexOf(' '))}`)
}

function change(place: ReturnType<typeof devicePlace>, with_: (object: KubeObject) => KubeObject): void {
  cluster.set(place, object => with_(object!))
}

describe('the DeviceStatus', () => {
  test('is made with the first item: its owner, what is reported, and the record, in one request', async () => {
    node.report('lamp', uid, { power: 'on', level: 40 })
    node.change('lamp', uid, { state: { value: 'online', timestamp: clock.wallMs() }, lastOnlineTime: 1_700_000_000_123 })
    const requests = requestsSince()
    expect(node.say(target, 'lamp')).toEqual([undefined])
    await clock.pass(100)
    expect(requests()).toEqual(['create devicestatuses'])
    const timestamp = String(node.twin('lamp').reported.get('power')!.timestamp)
    expect(shown()!.metadata.ownerReferences).toEqual([
      { apiVersion: 'devices.kubeedge.io/v1beta1', kind: 'Device', name: 'lamp', uid, controller: true }
    ])
    expect([record(), status()]).toEqual([recorded(), { state: 'online', lastOnlineTime: '2023-11-14T22:13:20Z', twins: [
      { propertyName: 'power', reported: { value: 'on', metadata: { timestamp } } },
      { propertyName: 'level', reported: { value: '40', metadata: { timestamp, type: 'int' } } }
    ] }])
    expect(new Map(target.keysFrom('twins', '')).get('default/lamp')).toEqual(node.item('lamp').version)
  })

  test('says of a value what type the model gives it, whatever the value, unless its sender said one', async () => {
    cluster.set(modelPlace('lamp'), () => newModel('lamp', [
      { name: 'power', type: 'STRING', accessMode: 'ReadWrite' }, { name: 'level', type: 'FLOAT', accessMode: 'ReadWrite' }
    ]))
    change(devicePlace('lamp'), device => ({ ...device, spec: { ...device['spec'] as JsonObject, deviceModelRef: { name: 'lamp' } } }))
    await clock.pass(1000)
    node.report('lamp', uid, { power: 'on', level: 40, other: 1 })
    node.say(target, 'lamp')
    await clock.pass(1000)
    expect(twins().map(({ reported }) => ((reported as JsonObject)['metadata'] as JsonObject)['type'])).toEqual(['string', 'float', 'int'])
  })

  test('counts although the watch has not shown it', async () => {
    cloud.informers.deviceStatuses.held = true
    node.report('lamp', uid, { power: 'on' })
    node.say(target, 'lamp')
    await clock.pass(100)
    const digest = stateDigest([['default/first', node.item('first').version], ['default/lamp', node.item('lamp').version]])
    expect(await target.digest('twins')).toEqual(digest)
    cloud.informers.deviceStatuses.held = false
    cloud.informers.deviceStatuses.follow()
    await clock.pass(20_000)
    expect([await target.digest('twins'), compared]).toEqual([digest, []])
  })

  test('costs one request a change from then on, and none where nothing changed', async () => {
    node.report('lamp', uid, { power: 'on' })
    node.say(target, 'lamp')
    await clock.pass(100)
    const requests = requestsSince()
    node.report('lamp', uid, { power: 'off' })
    node.say(target, 'lamp')
    node.say(target, 'lamp')
    await clock.pass(100)
    expect([requests(), twins()[0]!['reported']]).toEqual([['patch devicestatuses'], expect.objectContaining({ value: 'off' })])
  })

  test('keeps what the item says nothing of, and what others wrote; tombstones take away', async () => {
    node.report('lamp', uid, { power: 'on', level: 3 })
    node.say(target, 'lamp')
    await clock.pass(100)
    change(deviceStatusPlace('lamp'), object => ({ ...object, status: {
      ...statusOf(object), extensions: { battery: 7 },
      twins: [{ propertyName: 'else', note: 'x' }, ...twins(), { propertyName: 'absent', reported: { value: '1', metadata: {} } }]
    } }))
    node.change('lamp', uid, { reported: new Map([['level', node.entry(null, { deleted: true })], ['power', node.entry('off')]]) })
    node.say(target, 'lamp')
    await clock.pass(100)
    expect([status()['extensions'], twins().map(({ propertyName }) => propertyName)]).toEqual([{ battery: 7 }, ['else', 'power', 'absent']])
  })

  test('that nobody owns, or somebody else, gets its owner', async () => {
    const other = { apiVersion: 'v1', kind: 'ConfigMap', name: 'x', uid: 'u-x', controller: true }
    cluster.set(deviceStatusPlace('lamp'), () => ({
      apiVersion: 'devices.kubeedge.io/v1beta1', kind: 'DeviceStatus', metadata: { namespace: 'default', name: 'lamp', ownerReferences: [other] },
      status: { extensions: { kept: true } }
    }))
    node.report('lamp', uid, { power: 'on' })
    node.say(target, 'lamp')
    await clock.pass(100)
    expect(shown()!.metadata.ownerReferences).toEqual([other, expect.objectContaining({ kind: 'Device', uid, controller: false })])
    expect(status()).toMatchObject({ extensions: { kept: true }, twins: [{ propertyName: 'power' }] })
  })

  test('that somebody deletes, or whose record somebody takes away, is said again', async () => {
    node.report('lamp', uid, { power: 'on' })
    node.say(target, 'lamp')
    await clock.pass(20_000)
    cluster.set(deviceStatusPlace('lamp'), () => undefined)
    await clock.pass(0)
    expect(compared).toEqual(['twins'])
    expect(new Map(await target.digest('twins') && target.keysFrom('twins', '')).has('default/lamp')).toBe(false)
    node.say(target, 'lamp')
    await clock.pass(20_000)
    expect(record()).toEqual(recorded())
    change(deviceStatusPlace('lamp'), object => ({ ...object, metadata: { ...object.metadata, annotations: {} } }))
    await clock.pass(0)
    expect(compared).toEqual(['twins', 'twins'])
  })

  test('goes with the Device, and then nobody asks for it', async () => {
    node.report('lamp', uid, { power: 'on' })
    node.say(target, 'lamp')
    await clock.pass(20_000)
    cluster.set(devicePlace('lamp'), () => undefined)
    cluster.set(deviceStatusPlace('lamp'), () => undefined)
    node.twins.delete('lamp')
    node.say(target, 'lamp')
    await clock.pass(20_000)
    expect([compared, shown()]).toEqual([[], undefined])
  })

  describe('has what keeps the device from being served, and the Device\'s condition says it (TWN-42)', () => {
    const served = (): unknown[] => {
      const said = conditionsOf(statusOf(cluster.at(devicePlace('lamp'))!)).find(({ type }) => type === 'Served')
      return ['status', 'reason', 'message'].map(member => said?.[member])
    }
    const annotation = (): string | undefined => shown()!.metadata.annotations?.[troubleAnnotation]
    const say = async (trouble: string | undefined): Promise<void> => {
      if (trouble === undefined) node.troubles.delete('lamp')
      else node.troubles.set('lamp', trouble)
      node.report('lamp', uid, { level: clock.wallMs() })
      node.say(target, 'lamp')
      await clock.pass(1000)
    }

    test('as long as its node says so', async () => {
      await say('level: pointer "x" is no JSON pointer')
      expect(annotation()).toBe('level: pointer "x" is no JSON pointer')
      expect(served()).toEqual(['False', 'Trouble', 'The node says: level: pointer "x" is no JSON pointer.'])
      expect(conditionsOf(statusOf(cluster.at(devicePlace('lamp'))!)).map(({ type }) => type)).toEqual(['Synced', 'Served', 'Reachable', 'InDesiredState'])
      await say(`\u001b\n${'x'.repeat(deviceLimits.troubleLength.value)}`)
      expect(annotation()).toBe(`  ${'x'.repeat(deviceLimits.troubleLength.value - 2)}`)
      await say('')
      expect([record(), annotation()]).toEqual([recorded(), ''])
      expect(served()).toEqual(['True', 'NoTrouble', 'The node knows of no trouble with the device.'])
      setReady(cluster, 'edge-1', 'Unknown')
      await clock.pass(1000)
      expect(served().slice(0, 2)).toEqual(['Unknown', 'NodeUnreachable'])
    })

    test('and not where it has not said anything: one that has just come, of an older release, or moved', async () => {
      await say(undefined)
      expect([record(), annotation()]).toEqual([recorded(), undefined])
      expect(served().slice(0, 2)).toEqual(['Unknown', 'NotReported'])
      await say('it is broken')
      await say(undefined)
      expect([annotation(), ...served().slice(0, 2)]).toEqual([undefined, 'Unknown', 'NotReported'])
      await say('it is broken')
      change(devicePlace('lamp'), device => ({ ...device, spec: { ...device['spec'] as JsonObject, nodeName: 'edge-2' } }))
      setReady(cluster, 'edge-2', 'True')
      await clock.pass(1000)
      expect(served().slice(0, 2)).toEqual(['Unknown', 'NotReported'])
    })

    test('also while Kubernetes does not take what the node desires', async () => {
      await say('it is broken')
      cluster.fault = (verb, place) => verb === 'patch' && place.kind === kubeKinds.devices
        && (cluster.requests.at(-1)!.body as JsonObject | undefined)?.['spec'] !== undefined ? { kind: 'answer', status: 422 } : undefined
      node.desire('lamp', uid, { power: 'on' })
      const before = recordedVersion(shown())
      await say('it is broken')
      expect([recordedVersion(shown()), ...served().slice(0, 2)]).toEqual([before, 'False', 'Trouble'])
      await say('')
      expect([recordedVersion(shown()), ...served().slice(0, 2)]).toEqual([before, 'True', 'NoTrouble'])
      // Where nothing else is different.
      node.troubles.set('lamp', 'it is broken again')
      node.change('lamp', uid, {})
      node.say(target, 'lamp')
      await clock.pass(1000)
      expect([annotation(), served()[0]]).toEqual(['it is broken again', 'False'])
    })
  })

  test('loses its record with the item, and keeps what it shows (STA-36)', async () => {
    node.report('lamp', uid, { power: 'on' })
    node.say(target, 'lamp')
    await clock.pass(100)
    node.twins.delete('lamp')
    node.say(target, 'lamp')
    await clock.pass(100)
    expect([shown()!.metadata.annotations, twins().length, compared]).toEqual([{}, 1, []])
  })
})

describe('a desired value of the node', () => {
  test('is in the Device before it is recorded, with its version, and makes no condition false (TWN-33)', async () => {
    node.report('lamp', uid, { power: 'on' })
    node.say(target, 'lamp')
    await clock.pass(1000)
    const requests = requestsSince()
    node.desire('lamp', uid, { power: 'off' })
    node.say(target, 'lamp')
    await clock.pass(10)
    const { version, timestamp } = node.twin('lamp').desired.get('power')!
    const device = cluster.at(devicePlace('lamp'))!
    expect(requests()).toEqual(['patch devices', 'patch devicestatuses'])
    expect(device['spec']).toMatchObject({ nodeName: 'edge-1', properties: [{ name: 'power', desired: { value: 'off' } }] })
    expect(JSON.parse(device.metadata.annotations![desiredAnnotation]!)).toEqual({ power: { version: formatVersion(version), hash: hash('off') } })
    expect(twins()[0]!['observedDesired']).toEqual({ value: 'off', metadata: { timestamp: String(timestamp), version: formatVersion(version) } })
    await clock.pass(60_000)
    expect([saidOf(device)[0], requests().length]).toEqual(['Synced: True DesiredObserved', 2])
  })

  test('does not take the place of a later one of the cloud; the node learns what holds', async () => {
    node.desire('lamp', uid, { power: 'off' })
    await clock.pass(1000)
    change(devicePlace('lamp'), device => ({ ...device, spec: newDevice('lamp', 'edge-1', { power: 'on' })['spec'] }))
    await clock.pass(1000)
    node.say(target, 'lamp')
    await clock.pass(1000)
    const device = cluster.at(devicePlace('lamp'))!
    expect([device['spec'], saidOf(device)[0], record()]).toEqual([
      expect.objectContaining({ properties: [{ name: 'power', desired: { value: 'on' } }] }), 'Synced: False DesiredPending', recorded()
    ])
    node.take(device)
    node.say(target, 'lamp')
    await clock.pass(1000)
    expect(saidOf(cluster.at(devicePlace('lamp')))[0]).toBe('Synced: True DesiredObserved')
  })

  test('and one of kubectl at the same time both survive, whatever the order', async () => {
    cluster.beforeWrite = place => {
      if (place.kind !== kubeKinds.devices || place.name !== 'lamp') return
      cluster.beforeWrite = () => {}
      change(devicePlace('lamp'), device => ({ ...device, spec: newDevice('lamp', 'edge-1', { level: '7' })['spec'] }))
    }
    node.desire('lamp', uid, { power: 'off' })
    node.say(target, 'lamp')
    await clock.pass(1000)
    const device = cluster.at(devicePlace('lamp'))!
    expect((device['spec'] as JsonObject)['properties']).toEqual([
      { name: 'level', desired: { value: '7' } }, { name: 'power', desired: { value: 'off' } }
    ])
    expect(Object.keys(JSON.parse(device.metadata.annotations![desiredAnnotation]!) as object)).toEqual(['level', 'power'])
  })

  test('of the future is stamped anew, and the node takes that (TWN-16)', async () => {
    const version = { time: clock.wallMs() + 86_400_000, counter: 0, origin: 'edge-1/00000001' }
    node.change('lamp', uid, { desired: new Map([['power', { value: 'off', version, timestamp: 1 }]]) })
    node.say(target, 'lamp')
    await clock.pass(1000)
    const device = cluster.at(devicePlace('lamp'))!
    expect(JSON.parse(device.metadata.annotations![desiredAnnotation]!)).toMatchObject({ power: { replaces: formatVersion(version) } })
    node.take(device)
    expect(node.twin('lamp').desired.get('power')!.version.time).toBeLessThan(version.time)
    node.say(target, 'lamp')
    await clock.pass(1000)
    expect(saidOf(cluster.at(devicePlace('lamp')))[0]).toBe('Synced: True DesiredObserved')
  })
})

describe('a node says of its own Devices only (TWN-34)', () => {
  test.each([
    ['another node\'s', () => newDevice('lamp', 'edge-2')],
    ['one without a node', () => newDevice('lamp', undefined)],
    ['another one of that name', () => newDevice('lamp', 'edge-1')]
  ])('not of %s', async (_what, make) => {
    node.report('lamp', uid, { power: 'on' })
    node.desire('lamp', uid, { power: 'on' })
    cluster.set(devicePlace('lamp'), () => undefined)
    cluster.set(devicePlace('lamp'), make)
    await clock.pass(1000)
    const requests = requestsSince()
    node.say(target, 'lamp')
    await clock.pass(60_000)
    expect([requests(), shown(), cloud.devices.writer.stats.dropped.another]).toEqual([[], undefined, 1])
  })

  test('not of one that does not exist', async () => {
    node.report('ghost', 'u-ghost', { power: 'on' })
    const requests = requestsSince('ghost')
    node.say(target, 'ghost')
    await clock.pass(60_000)
    expect([requests(), cloud.devices.writer.stats.dropped.gone]).toEqual([[], 1])
  })

  test.each<[string, (item: { key: string, value: Buffer }) => { key?: string, value?: Buffer }]>([
    ['no JSON', () => ({ value: Buffer.from('{') })],
    ['another kind', ({ value }) => ({ value: Buffer.from(value.toString().replace('"Device"', '"Pod"')) })],
    ['another name inside', ({ value }) => ({ value: Buffer.from(value.toString().replace('"lamp"', '"other"')) })],
    ['no uid', ({ value }) => ({ value: Buffer.from(value.toString().replace(/"uid":"[^"]*"/, '"uid":""')) })],
    ['no twin', ({ value }) => ({ value: Buffer.from(value.toString().replace('"twin"', '"twins"')) })],
    ['a key of one part', () => ({ key: 'lamp' })],
    ['a path for a key', () => ({ key: '../lamp' })],
    ['too much', () => ({ value: Buffer.alloc(deviceLimits.itemBytes.value + 1, 0x20) })]
  ])('an item with %s is given up, and the others go on', async (_what, spoil) => {
    node.report('lamp', uid, { power: 'on' })
    const item = node.item('lamp')
    const spoilt = { ...item, key: 'default/spoilt', ...spoil(item) }
    if (spoil(item).key === undefined) spoilt.key = 'default/lamp'
    node.report('first', uidOf('first'), { a: 2 })
    target.apply({ collection: 'twins', puts: [spoilt, node.item('first')], deletes: [], synced: true, position: '' }, () => {})
    await clock.pass(1000)
    expect([cloud.targets.stats.rejectedItems, shown(), recordedVersion(shown('first'))])
      .toEqual([1, undefined, node.item('first').version.toString('hex')])
  })
})

describe('a Device that is created anew under its name (TWN-36)', () => {
  test.each(['that follows', 'that lags'])('gets a DeviceStatus of its own, with a watch %s', async watch => {
    node.report('lamp', uid, { power: 'on', level: 3 })
    node.say(target, 'lamp')
    await clock.pass(1000)
    cloud.informers.deviceStatuses.held = watch === 'that lags'
    const old = shown()!.metadata.uid
    cluster.set(devicePlace('lamp'), () => undefined)
    cluster.set(devicePlace('lamp'), () => newDevice('lamp', 'edge-1'))
    node.report('lamp', uidOf('lamp'), { power: 'off' })
    node.say(target, 'lamp')
    await clock.pass(1000)
    expect([twins().map(({ propertyName }) => propertyName), record(), shown()!.metadata.uid === old])
      .toEqual([['power'], recorded(), false])
    expect(shown()!.metadata.ownerReferences![0]!.uid).toBe(uidOf('lamp'))
  })
})

describe('a Device that moves (TWN-37)', () => {
  const other = parseNodeName('edge-2')!
  let theirs: TwinNode

  beforeEach(async () => {
    setReady(cluster, 'edge-2', 'True')
    theirs = new TwinNode('edge-2', () => clock.wallMs())
    theirs.epoch = 2
    change(devicePlace('lamp'), device => ({ ...device, spec: newDevice('lamp', 'edge-1', { power: 'on' })['spec'] }))
    await clock.pass(1000)
    node.take(cluster.at(devicePlace('lamp'))!)
    node.report('lamp', uid, { power: 'on', level: 3 })
    node.say(target, 'lamp')
    await clock.pass(1000)
    expect(saidOf(cluster.at(devicePlace('lamp')))[0]).toBe('Synced: True DesiredObserved')
  })

  const move = (nodeName = 'edge-2'): void => {
    change(devicePlace('lamp'), device => ({ ...device, spec: { ...device['spec'] as JsonObject, nodeName } }))
  }

  test('keeps what the old node said last until the new one says others; what the old one knew to be desired does not count', async () => {
    move()
    await clock.pass(1000)
    expect([saidOf(cluster.at(devicePlace('lamp')))[0], twins().length]).toEqual(['Synced: False DesiredPending', 2])
    const second = cloud.targets.of(other)
    await second.digest('twins')
    theirs.report('lamp', uid, { power: 'off' })
    theirs.say(second, 'lamp')
    await clock.pass(1000)
    expect(twins()).toEqual([
      { propertyName: 'power', reported: expect.objectContaining({ value: 'off' }) as object },
      { propertyName: 'level', reported: expect.objectContaining({ value: '3' }) as object }
    ])
    expect([record(), saidOf(cluster.at(devicePlace('lamp')))[0]]).toEqual([recorded(theirs), 'Synced: False DesiredPending'])
    theirs.take(cluster.at(devicePlace('lamp'))!)
    theirs.say(second, 'lamp')
    await clock.pass(1000)
    expect(saidOf(cluster.at(devicePlace('lamp')))[0]).toBe('Synced: True DesiredObserved')
    expect(new Map(target.keysFrom('twins', '')).has('default/lamp')).toBe(false)
  })

  test('and back, before the old node saw that it was gone: what that one says is asked for again', async () => {
    move()
    const second = cloud.targets.of(other)
    await second.digest('twins')
    theirs.report('lamp', uid, { power: 'off' })
    theirs.say(second, 'lamp')
    await clock.pass(1000)
    expect([record(), compared]).toEqual([recorded(theirs), []])
    move('edge-1')
    await clock.pass(10_000)
    expect(compared).toEqual(['twins'])
    await target.digest('twins')
    expect(new Map(target.keysFrom('twins', '')).has('default/lamp')).toBe(false)
    node.say(target, 'lamp')
    await clock.pass(1000)
    expect(record()).toEqual(recorded())
  })

  test('is reachable as the new node says, which has not heard of it yet', async () => {
    node.change('lamp', uid, { state: { value: 'online', timestamp: clock.wallMs() } })
    node.say(target, 'lamp')
    await clock.pass(1000)
    expect(saidOf(cluster.at(devicePlace('lamp')))[1]).toBe('Reachable: True DeviceOnline')
    move()
    await clock.pass(1000)
    expect(saidOf(cluster.at(devicePlace('lamp')))[1]).toBe('Reachable: Unknown StateNotReported')
    const second = cloud.targets.of(other)
    await second.digest('twins')
    theirs.report('lamp', uid, { power: 'off' })
    theirs.say(second, 'lamp')
    await clock.pass(1000)
    expect([saidOf(cluster.at(devicePlace('lamp')))[1], recordingNode(shown())]).toEqual(['Reachable: Unknown StateNotReported', 'edge-2'])
  })

  test('takes no late word of the old node, also where the watch lags', async () => {
    const second = cloud.targets.of(other)
    await second.digest('twins')
    cloud.informers.devices.held = true
    move()
    theirs.report('lamp', uid, { power: 'theirs' })
    theirs.say(second, 'lamp')
    // Nothing else of the Device is written meanwhile, which would show where it is.
    await clock.pass(10)
    expect(record()).toEqual(recorded(theirs))
    node.report('lamp', uid, { power: 'late' })
    node.say(target, 'lamp')
    await clock.pass(60_000)
    expect([record(), JSON.stringify(twins()).includes('late')]).toEqual([recorded(theirs), false])
  })

  test('forgets the old node with its item', async () => {
    move()
    node.twins.delete('lamp')
    node.say(target, 'lamp')
    await clock.pass(1000)
    expect([shown()!.metadata.annotations, twins().length]).toEqual([{}, 2])
  })
})

describe('where the kind has a status subresource', () => {
  beforeEach(async () => {
    cloud.close()
    cluster.subresources.add('devicestatuses')
    await start()
  })

  test('the status lands before its record', async () => {
    node.report('lamp', uid, { power: 'on' })
    node.say(target, 'lamp')
    await clock.pass(1000)
    expect([record(), twins().length]).toEqual([recorded(), 1])
    const requests = requestsSince()
    node.report('lamp', uid, { power: 'off' })
    node.say(target, 'lamp')
    await clock.pass(1000)
    expect([requests(), record(), twins()[0]!['reported']])
      .toEqual([['patch-status devicestatuses', 'patch devicestatuses'], recorded(), expect.objectContaining({ value: 'off' })])
    // No object ever has a record of what it does not show.
    for (const object of cluster.history.filter(({ kind, metadata }) => kind === 'DeviceStatus' && metadata.name === 'lamp')) {
      if (object.metadata.annotations?.[stateAnnotation] !== undefined) expect(statusOf(object)['twins']).toHaveLength(1)
    }
  })

  test('a lost answer in between is found out', async () => {
    let left = 2
    cluster.fault = verb => verb.startsWith('patch') && left-- > 0 ? { kind: 'answer-lost' } : undefined
    node.report('lamp', uid, { power: 'on' })
    node.say(target, 'lamp')
    await clock.pass(10_000)
    expect([record(), twins()[0]!['reported']]).toEqual([recorded(), expect.objectContaining({ value: 'on' })])
  })
})

describe('without success', () => {
  test('a lost answer is no double, and a conflict is decided anew', async () => {
    let first = true
    cluster.fault = verb => {
      if (verb !== 'create' || !first) return undefined
      first = false
      return { kind: 'answer-lost' }
    }
    node.report('lamp', uid, { power: 'on' })
    node.say(target, 'lamp')
    await clock.pass(10_000)
    expect([record(), cluster.requests.filter(({ verb, place }) => verb === 'create' && place.endsWith('/lamp')).length]).toEqual([recorded(), 1])
    cluster.beforeWrite = place => {
      cluster.beforeWrite = () => {}
      change(place, object => ({ ...object, metadata: { ...object.metadata, labels: { by: 'somebody' } } }))
    }
    node.report('lamp', uid, { power: 'off' })
    node.say(target, 'lamp')
    await clock.pass(1000)
    expect([record(), shown()!.metadata.labels, cloud.devices.writer.stats.conflicts]).toEqual([recorded(), { by: 'somebody' }, 1])
  })

  test('one that Kubernetes refuses holds up no other, and is compared again later', async () => {
    cluster.fault = (verb, { name }) => verb !== 'get' && name === 'lamp' ? { kind: 'answer', status: 403 } : undefined
    node.report('lamp', uid, { power: 'on' })
    node.report('first', uidOf('first'), { a: 5 })
    node.say(target, 'lamp', 'first')
    await clock.pass(1000)
    expect([shown(), recordedVersion(shown('first'))]).toEqual([undefined, node.item('first').version.toString('hex')])
    await clock.pass(300_000)
    expect(compared).toEqual(['twins'])
  })

  test('where Kubernetes does not take what the node desires, it has what the device reports, without a record', async () => {
    cluster.fault = (verb, { kind }) => verb !== 'get' && kind.plural === 'devices' ? { kind: 'answer', status: 403 } : undefined
    node.desire('lamp', uid, { power: 'on' })
    node.report('lamp', uid, { temperature: 21 })
    node.say(target, 'lamp')
    await clock.pass(1000)
    expect(statusOf(shown()!)['twins']).toMatchObject([{ propertyName: 'temperature', reported: { value: '21' } }])
    expect(recordedVersion(shown())).toBeUndefined()
    await clock.pass(300_000)
    expect(compared).toEqual(['twins'])
    const statusWrites = () => cluster.requests.filter(({ verb, place }) => verb !== 'get' && place.includes('devicestatuses')).length
    const before = statusWrites()
    expect(before).toBeGreaterThan(0)
    node.say(target, 'lamp')
    await clock.pass(1000)
    expect(statusWrites()).toBe(before)
    cluster.fault = () => undefined
    node.say(target, 'lamp')
    await clock.pass(1000)
    expect(record()).toEqual(recorded())
    expect(cluster.at(devicePlace('lamp'))!['spec']).toMatchObject({ properties: [{ name: 'power', desired: { value: 'on' } }] })
  })

  test('one that hangs holds up no other, and a digest waits for it no longer than it may', async () => {
    cluster.fault = (verb, { name }) => verb !== 'get' && name === 'lamp' ? { kind: 'hang' } : undefined
    node.report('lamp', uid, { power: 'on' })
    node.report('first', uidOf('first'), { a: 5 })
    node.say(target, 'lamp', 'first')
    await clock.pass(0)
    expect(recordedVersion(shown('first'))).toBe(node.item('first').version.toString('hex'))
    let digest: Buffer | undefined
    void Promise.resolve(target.digest('twins')).then(told => { digest = told })
    await clock.pass(31_000)
    expect(digest).toEqual(stateDigest([['default/first', node.item('first').version]]))
  })

  test('a restart of cloudcore finds what is recorded', async () => {
    node.report('lamp', uid, { power: 'on' })
    node.say(target, 'lamp')
    await clock.pass(1000)
    const digest = await target.digest('twins')
    cloud.close()
    await start()
    expect(await target.digest('twins')).toEqual(digest)
  })

  test('items are taken only when the models and Devices are known', async () => {
    cloud.close()
    cloud = new DeviceCloud(cluster, clock, { late: ['deviceModels'] })
    target = cloud.targets.of(edge)
    let isTold = false
    void Promise.resolve(target.digest('twins')).then(() => { isTold = true })
    await clock.pass(10_000)
    expect(isTold).toBe(false)
    cloud.sync('deviceModels')
    await clock.pass(0)
    expect(isTold).toBe(true)
  })
})

describe('hundreds of devices at once', () => {
  test('are written with a request each, without one waiting for another', async () => {
    const names = Array.from({ length: 300 }, (_, i) => `d${i}`)
    for (const name of names) cluster.objects.set(`devices default/${name}`, { ...newDevice(name, 'edge-1'), metadata: { ...newDevice(name, 'edge-1').metadata, uid: `u-${name}`, resourceVersion: '1' } })
    cloud.informers.devices.follow()
    await clock.pass(60_000)
    cluster.latencyMs = 1
    for (const name of names) node.report(name, `u-${name}`, { a: 1 })
    const before = cluster.requests.length
    node.say(target, ...names)
    await clock.pass(100)
    expect([cluster.requests.length - before, recordedVersion(shown('d299'))]).toEqual([300, node.item('d299').version.toString('hex')])
    // What somebody desires meanwhile does not wait for them.
    cluster.latencyMs = 10
    for (const name of names) node.report(name, `u-${name}`, { a: 2 })
    node.say(target, ...names)
    change(devicePlace('lamp'), device => ({ ...device, spec: newDevice('lamp', 'edge-1', { power: 'on' })['spec'] }))
    await clock.pass(25)
    expect([cluster.at(devicePlace('lamp'))!.metadata.annotations?.[desiredAnnotation] !== undefined, cloud.devices.writer.pending > 200]).toEqual([true, true])
    await clock.pass(1000)
  })
})

test('changes of state are Events, so many and no more', async () => {
  const events = (): KubeObject[] => [...cluster.objects].filter(([key]) => key.startsWith('events ')).map(([, object]) => object)
  const say = async (value: 'online' | 'offline', ms: number): Promise<void> => {
    node.change('lamp', uid, { state: { value, timestamp: clock.wallMs() } })
    node.say(target, 'lamp')
    await clock.pass(ms)
  }
  await say('online', 100)
  await say('offline', 100)
  expect(events().map(({ reason, type, count, message, involvedObject }) => [reason, type, count, message, (involvedObject as JsonObject)['uid']])).toEqual([
    ['DeviceOnline', 'Normal', 1, 'The device is online.', uid], ['DeviceOffline', 'Warning', 1, 'The device is offline; it was online.', uid]
  ])
  const before = cluster.requests.filter(({ place }) => place.startsWith('events ')).length
  // Some happen while the Event is being written.
  cluster.latencyMs = 30
  for (let i = 0; i < 100; i++) await say(i % 2 === 0 ? 'online' : 'offline', 100)
  await clock.pass(60_000)
  expect(events().map(({ reason, count }) => [reason, count])).toEqual([['DeviceOnline', 51], ['DeviceOffline', 51]])
  expect(cluster.requests.filter(({ place }) => place.startsWith('events ')).length - before).toBeLessThan(14)
  node.report('lamp', uid, { power: 'on' })
  node.say(target, 'lamp')
  await clock.pass(60_000)
  expect(events().map(({ count }) => count)).toEqual([51, 51])
  expect(shown()!.metadata.annotations![nodeAnnotation]).toBe('edge-1')
})
