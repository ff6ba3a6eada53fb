import type { JsonObject } from '@holdfast/kube-api'
import { SeededRandom, parseNodeName, silentLog } from '@holdfast/runtime'
import { HandClock, turns } from '@holdfast/runtime/testing'
import { stateDigest } from '@holdfast/sync'
import type { StateTarget } from '@holdfast/sync'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { kubeKinds } from '../kube/kube-kinds.ts'
import { recordedVersion } from './status-document.ts'
import { statusLimits } from './status-limits.ts'
import { StatusWriter, statusWriterDefaults } from './status-writer.ts'
import { ScriptedCluster, newNode, newPod, nodePlace, podPlace } from './testing/up-cluster.ts'
import type { ScriptedInformer } from './testing/up-cluster.ts'
import { nodeStatuses, podStatuses } from './up-collection.ts'
import { UpTargets } from './up-target.ts'

const edge = parseNodeName('edge-1')!

let clock: HandClock
let cluster: ScriptedCluster
let pods: ScriptedInformer
let nodes: ScriptedInformer
let writer: StatusWriter
let targets: UpTargets
let target: StateTarget
let connected: boolean
let compared: string[]

beforeEach(() => {
  clock = new HandClock()
  cluster = new ScriptedCluster(clock)
  connected = true
  pods = cluster.informer(kubeKinds.pods)
  nodes = cluster.informer(kubeKinds.nodes)
  cluster.set(nodePlace('edge-1'), () => newNode('edge-1'))
  cluster.set(podPlace('web'), () => newPod('web', 'edge-1', 'uid-web'))
  cluster.set(podPlace('foreign'), () => newPod('foreign', 'edge-2', 'uid-foreign'))
  start()
})

/** As cloudcore does when it starts. */
function start(): void {
  writer = new StatusWriter(statusWriterDefaults, { client: cluster, informers: [pods, nodes], clock, random: new SeededRandom(3), log: silentLog })
  targets = new UpTargets({
    collections: [podStatuses({ pods, writer }), nodeStatuses({ nodes, writer, links: { connected: () => connected } })], clock, log: silentLog
  })
  target = targets.of(edge)
  compared = []
  target.subscribe!(collection => { compared.push(collection) })
}

function stop(): void {
  targets.close()
  writer.close()
}

afterEach(stop)

function version(epoch: number, counter: number): Buffer {
  const bytes = Buffer.alloc(16)
  bytes.writeUInt32BE(epoch, 0)
  bytes.writeBigUInt64BE(BigInt(counter), 8)
  return bytes
}

const podValue = (name: string, phase: string, uid = `uid-${name}`): Buffer => Buffer.from(JSON.stringify({
  apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace: 'default', uid }, status: { phase }
}))

interface Put { readonly key: string, readonly version: Buffer, readonly value: Buffer }

function apply(collection: string, puts: readonly Put[], deletes: readonly string[] = []): (Error | undefined)[] {
  const applied: (Error | undefined)[] = []
  target.apply({ collection, puts, deletes, synced: true, position: '' }, error => { applied.push(error) })
  return applied
}

const putPod = (name: string, of: Buffer, phase: string, uid?: string): (Error | undefined)[] =>
  apply('pod-status', [{ key: `default/${name}`, version: of, value: podValue(name, phase, uid) }])

const phase = (name: string): unknown => (cluster.at(podPlace(name))?.['status'] as JsonObject | undefined)?.['phase']
const recorded = (name: string): string | undefined => recordedVersion(cluster.at(podPlace(name)))

describe('what the cloud holds of a node', () => {
  test('is what the objects say: a restart of cloudcore finds the same', async () => {
    expect(await target.digest('pod-status')).toEqual(stateDigest([]))
    putPod('web', version(1, 5), 'Running')
    await clock.pass(100)
    stop()
    start()
    expect(target.digest('pod-status')).toEqual(stateDigest([['default/web', version(1, 5)]]))
    expect([...target.keysFrom('pod-status', '')]).toEqual([['default/web', version(1, 5)]])
    expect([...target.keysFrom('pod-status', 'default/web')]).toEqual([])
  })

  test('waits for the informer, and for what was taken in before', async () => {
    cluster.latencyMs = 500
    await target.digest('pod-status')
    putPod('web', version(1, 5), 'Running')
    nodes.synced = false
    const told: string[] = []
    void Promise.resolve(target.digest('pod-status')).then(digest => told.push(digest.equals(stateDigest([['default/web', version(1, 5)]])) ? 'pods' : 'wrong'))
    void Promise.resolve(target.digest('node-status')).then(() => told.push('node'))
    await clock.pass(400)
    expect(told).toEqual([])
    await clock.pass(200)
    expect(told).toEqual(['pods'])
    nodes.synced = true
    nodes.follow()
    await turns()
    expect(told).toEqual(['pods', 'node'])
  })

  test('shows a write of ours that the informer does not show yet', async () => {
    await target.digest('pod-status')
    pods.held = true
    putPod('web', version(1, 5), 'Running')
    await clock.pass(100)
    expect(target.digest('pod-status')).toEqual(stateDigest([['default/web', version(1, 5)]]))
    pods.held = false
    pods.follow()
    await clock.pass(20_000)
    expect([compared, target.digest('pod-status')]).toEqual([[], stateDigest([['default/web', version(1, 5)]])])
  })

  test('is told although one status cannot be written: what waits too long is given up', async () => {
    await target.digest('pod-status')
    cluster.set(podPlace('b'), () => newPod('b', 'edge-1', 'uid-b'))
    cluster.fault = (_verb, { name }) => name === 'web' ? { kind: 'answer', status: 500 } : undefined
    putPod('web', version(1, 5), 'Running')
    putPod('b', version(1, 6), 'Running')
    let digest: Buffer | undefined
    void Promise.resolve(target.digest('pod-status')).then(told => { digest = told })
    await clock.pass(29_000)
    expect(digest).toBeUndefined()
    await clock.pass(2000)
    expect(digest).toEqual(stateDigest([['default/b', version(1, 6)]]))
    cluster.fault = () => undefined
    await clock.pass(120_000)
    expect(phase('web')).toBe('Pending')
  })
})

describe('an item that comes up', () => {
  beforeEach(async () => {
    await target.digest('pod-status')
    await target.digest('node-status')
  })

  test('is acknowledged when it is taken in, and written', async () => {
    cluster.latencyMs = 1000
    expect(putPod('web', version(1, 5), 'Running')).toEqual([undefined])
    expect(phase('web')).toBe('Pending')
    await clock.pass(1000)
    expect([phase('web'), recorded('web')]).toEqual(['Running', version(1, 5).toString('hex')])
  })

  test('may be of this node\'s objects only', async () => {
    cluster.set(nodePlace('edge-2'), () => newNode('edge-2'))
    await clock.pass(0)
    putPod('foreign', version(1, 5), 'Failed')
    const other = Buffer.from(JSON.stringify({ apiVersion: 'v1', kind: 'Node', metadata: { name: 'edge-2' }, status: { capacity: { cpu: '64' } } }))
    expect(apply('node-status', [{ key: 'edge-2', version: version(1, 6), value: other }])).toEqual([undefined])
    await clock.pass(10_000)
    expect([phase('foreign'), cluster.at(nodePlace('edge-2'))!['status']]).toEqual(['Pending', {}])
    expect([writer.stats.dropped.another, targets.stats.rejectedItems]).toEqual([1, 1])
  })

  test('is of the Pod that it names, not of another one by that name', async () => {
    cluster.set(podPlace('web'), () => undefined)
    cluster.set(podPlace('web'), () => newPod('web', 'edge-1', 'uid-new'))
    putPod('web', version(1, 5), 'Failed')
    await clock.pass(10_000)
    expect(phase('web')).toBe('Pending')
    putPod('web', version(1, 6), 'Running', 'uid-new')
    await clock.pass(10_000)
    expect(phase('web')).toBe('Running')
  })

  test('stands whatever other nodes say of the same name, at the same time', async () => {
    putPod('web', version(1, 1), 'Pending')
    await clock.pass(10)
    putPod('web', version(1, 2), 'Running')
    const other = targets.of(parseNodeName('edge-2')!)
    await other.digest('pod-status')
    const applied: (Error | undefined)[] = []
    const value = podValue('web', 'Failed', 'uid-of-before')
    const puts = [{ key: 'default/web', version: version(2, 1), value }]
    other.apply({ collection: 'pod-status', puts, deletes: [], synced: true, position: '' }, error => { applied.push(error) })
    other.apply({ collection: 'pod-status', puts: [], deletes: ['default/web'], synced: true, position: '' }, error => { applied.push(error) })
    await clock.pass(1000)
    expect([cluster.at(podPlace('web'))!['status'], applied, writer.pending])
      .toEqual([expect.objectContaining({ phase: 'Running' }), [undefined, undefined], 0])
    expect(await target.digest('pod-status')).toEqual(stateDigest([['default/web', version(1, 2)]]))
  })

  test('that is late is dropped (STA-31)', async () => {
    putPod('web', version(1, 7), 'Running')
    await clock.pass(2000)
    putPod('web', version(1, 6), 'Pending')
    await clock.pass(2000)
    expect([phase('web'), writer.stats.dropped.recorded]).toEqual(['Running', 1])
  })

  test('of a new start takes the place of what both sides went by', async () => {
    putPod('web', version(1, 7), 'Running')
    await clock.pass(2000)
    putPod('web', version(9, 1), 'Failed')
    await clock.pass(2000)
    expect([phase('web'), compared]).toEqual(['Failed', []])
  })

  test('does not take the place of what another replica wrote: both sides compare again', async () => {
    putPod('web', version(1, 7), 'Running')
    await clock.pass(20_000)
    pods.held = true
    cluster.set(podPlace('web'), pod => ({
      ...pod!, metadata: { ...pod!.metadata, annotations: { 'holdfast.dev/state': version(2, 3).toString('hex') } }
    }))
    putPod('web', version(1, 8), 'Failed')
    await clock.pass(2000)
    expect([phase('web'), recorded('web'), compared]).toEqual(['Running', version(2, 3).toString('hex'), ['pod-status']])
    pods.held = false
    pods.follow()
    expect(target.digest('pod-status')).toEqual(stateDigest([['default/web', version(2, 3)]]))
    // What the node says then, it says now.
    putPod('web', version(1, 8), 'Failed')
    await clock.pass(2000)
    expect(phase('web')).toBe('Failed')
  })

  test('is a copy: the bytes of the batch are used again', async () => {
    const value = podValue('web', 'Running')
    const of = version(1, 5)
    apply('pod-status', [{ key: 'default/web', version: of, value }])
    of.fill(0)
    value.fill(0)
    await clock.pass(2000)
    expect([phase('web'), recorded('web')]).toEqual(['Running', version(1, 5).toString('hex')])
  })

  test('that is gone takes the record away, and leaves the status', async () => {
    putPod('web', version(1, 5), 'Running')
    await clock.pass(2000)
    apply('pod-status', [], ['default/web', 'default/never', 'nonsense'])
    await clock.pass(2000)
    expect([phase('web'), recorded('web')]).toEqual(['Running', undefined])
    expect(target.digest('pod-status')).toEqual(stateDigest([]))
  })

  test('that makes no sense is given up, and the others go on', async () => {
    const applied = apply('pod-status', [
      { key: 'default/web', version: Buffer.alloc(3), value: podValue('web', 'Failed') },
      { key: 'default/web2', version: version(1, 1), value: Buffer.from('nonsense') },
      { key: 'default/web', version: version(1, 5), value: podValue('web', 'Running') }
    ])
    await clock.pass(2000)
    expect([applied, phase('web'), targets.stats.rejectedItems]).toEqual([[undefined], 'Running', 2])
  })

  test('of the Node is not written while it is away, and is said again', async () => {
    const value = Buffer.from(JSON.stringify({
      apiVersion: 'v1', kind: 'Node', metadata: { name: 'edge-1' }, status: { conditions: [{ type: 'Ready', status: 'True' }] }
    }))
    connected = false
    apply('node-status', [{ key: 'edge-1', version: version(1, 5), value }])
    await clock.pass(2000)
    expect(cluster.at(nodePlace('edge-1'))!['status']).toEqual({})
    expect(target.digest('node-status')).toEqual(stateDigest([]))
    connected = true
    apply('node-status', [{ key: 'edge-1', version: version(1, 5), value }])
    await clock.pass(2000)
    expect(cluster.at(nodePlace('edge-1'))!['status']).toEqual({ conditions: [{ type: 'Ready', status: 'True' }] })
  })

  test('of a Node that is not registered yet waits for it', async () => {
    cluster.set(nodePlace('edge-1'), () => undefined)
    await target.digest('node-status')
    const value = (message: string): Buffer => Buffer.from(JSON.stringify({
      apiVersion: 'v1', kind: 'Node', metadata: { name: 'edge-1' },
      status: { conditions: [{ type: 'Ready', status: 'True', reason: 'EdgeReady', message }] }
    }))
    apply('node-status', [{ key: 'edge-1', version: version(1, 1), value: value('first') }])
    await clock.pass(1500)
    apply('node-status', [{ key: 'edge-1', version: version(1, 2), value: value('second') }])
    await clock.pass(1500)
    expect([writer.stats.dropped.gone, writer.pending]).toEqual([2, 0])
    cluster.set(nodePlace('edge-1'), () => newNode('edge-1'))
    await clock.pass(2000)
    expect(JSON.stringify(cluster.at(nodePlace('edge-1'))?.['status'])).toContain('"second"')
    expect(recordedVersion(cluster.at(nodePlace('edge-1')))).toBe(version(1, 2).toString('hex'))
    expect(writer.stats.written).toBe(1)
  })

  test('of an unknown collection is refused', () => {
    expect(apply('device-state', [])[0]?.message).toMatch(/device-state/)
  })
})

describe('bounds', () => {
  beforeEach(async () => { await target.digest('pod-status') })

  test('a node has so many items and no more', () => {
    const puts = Array.from({ length: statusLimits.itemsPerNode.value + 1 }, (_, i) =>
      ({ key: `default/p${i}`, version: version(1, i + 1), value: Buffer.from('{}') }))
    expect(apply('pod-status', puts)[0]?.message).toMatch(/50001 items/)
  })

  test('keys that a node takes back without having reported them cost nothing', async () => {
    const deletes = Array.from({ length: 4096 }, (_, i) => `default/p${i}`)
    expect(apply('pod-status', [], deletes)).toEqual([undefined])
    await clock.pass(0)
    expect([writer.pending, cluster.requests.length]).toEqual([0, 0])
  })

  test('what waits to be written is not acknowledged past a bound', async () => {
    cluster.fault = verb => verb === 'patch-status' ? { kind: 'answer', status: 503 } : undefined
    const acknowledged: number[] = []
    for (let i = 0; i < 40; i++) {
      cluster.set(podPlace(`p${i}`), () => newPod(`p${i}`, 'edge-1', `uid-p${i}`))
      const value = podValue(`p${i}`, 'x'.repeat(200_000))
      target.apply({
        collection: 'pod-status', puts: [{ key: `default/p${i}`, version: version(1, i + 1), value }], deletes: [], synced: false, position: ''
      }, () => { acknowledged.push(i) })
    }
    await clock.pass(5000)
    expect(acknowledged.length).toBeLessThan(22)
    cluster.fault = () => undefined
    await clock.pass(60_000)
    expect(acknowledged).toEqual(Array.from({ length: 40 }, (_, i) => i))
  })
})

describe('both sides compare again in mid-session', () => {
  beforeEach(async () => {
    await target.digest('pod-status')
    putPod('web', version(1, 5), 'Running')
    await clock.pass(20_000)
  })

  const annotate = (text: string | undefined): void => cluster.set(podPlace('web'), pod => ({
    ...pod!, metadata: { ...pod!.metadata, annotations: text === undefined ? {} : { 'holdfast.dev/state': text } }
  }))

  test('when an object lost its record, or has another one; at most so often', async () => {
    annotate(undefined)
    await clock.pass(0)
    expect(compared).toEqual(['pod-status'])
    await target.digest('pod-status')
    annotate(version(3, 1).toString('hex'))
    annotate(version(3, 2).toString('hex'))
    await clock.pass(9999)
    expect(compared).toHaveLength(1)
    await clock.pass(60_000)
    expect(compared).toHaveLength(2)
  })

  test('not for changes that are none of ours', async () => {
    cluster.set(podPlace('web'), pod => ({ ...pod!, metadata: { ...pod!.metadata, labels: { a: 'b' } } }))
    cluster.set(podPlace('web'), () => undefined)
    cluster.set(podPlace('web'), () => newPod('web', 'edge-1', 'uid-again'))
    await clock.pass(60_000)
    expect(compared).toEqual([])
  })

  test('some time after Kubernetes refused', async () => {
    cluster.fault = () => ({ kind: 'answer', status: 403 })
    putPod('web', version(1, 6), 'Failed')
    await clock.pass(299_000)
    expect(compared).toEqual([])
    await clock.pass(2000)
    expect(compared).toEqual(['pod-status'])
  })
})
