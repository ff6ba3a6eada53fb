import type { JsonObject, KubeObject } from '@holdfast/kube-api'
import { SystemClock, SystemRandom, parseNodeName, silentLog } from '@holdfast/runtime'
import { stateDigest } from '@holdfast/sync'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { ObjectPlace } from '../kube/kube-client.ts'
import { kubeKinds } from '../kube/kube-kinds.ts'
import { ListInformer } from '../kube/list-informer.ts'
import { NodeController } from '../kube/node-controller.ts'
import { lastingTolerations } from '../kube/node-tolerations.ts'
import { NodeLeases, leaseNamespace } from '../kube/node-lease.ts'
import { PodDeletions } from '../kube/pod-deletion.ts'
import { RestClient } from '../kube/rest-client.ts'
import { openMemoryApi } from '../kube/testing/memory-api.ts'
import { conditionsOf, recordedVersion, statusOf } from './status-document.ts'
import { StatusWriter, statusWriterDefaults } from './status-writer.ts'
import { nodePlace, podPlace } from './testing/up-cluster.ts'
import { HandLinks } from './testing/up-node-links.ts'
import { nodeStatuses, podStatuses } from './up-collection.ts'
import { UpTargets } from './up-target.ts'

const clock = new SystemClock()
const random = new SystemRandom()
const edge = parseNodeName('edge-1')!

let close: () => Promise<void>
let client: RestClient
let links: HandLinks
let targets: UpTargets

/** The whole of what comes up, against the embedded API of the same process. */
beforeEach(async () => {
  const memory = await openMemoryApi()
  client = await RestClient.open({ access: memory.access }, { clock, random })
  const components = { client, clock, random, log: silentLog }
  const [pods, nodes] = [new ListInformer({ kind: kubeKinds.pods }, components), new ListInformer({ kind: kubeKinds.nodes }, components)]
  links = new HandLinks()
  const writer = new StatusWriter(statusWriterDefaults, { ...components, informers: [pods, nodes] })
  targets = new UpTargets({ collections: [podStatuses({ pods, writer }), nodeStatuses({ nodes, links, writer })], clock, log: silentLog })
  const leases = new NodeLeases({ ...components, nodes, links })
  const controller = new NodeController({ awayAfterMs: 100, startGraceMs: 1000 }, { ...components, nodes, links, leases })
  const deletions = new PodDeletions({ ...components, pods, nodes, links })
  const stop = new AbortController()
  const running = [pods.run(stop.signal), nodes.run(stop.signal)]
  close = async () => {
    for (const part of [deletions, controller, leases, targets, writer]) part.close()
    stop.abort()
    await Promise.all(running)
    await client[Symbol.asyncDispose]()
    await memory[Symbol.asyncDispose]()
  }
})

afterEach(async () => { await close() })

async function until<T>(place: ObjectPlace, read: (object: KubeObject | undefined) => T, expected: T): Promise<void> {
  await vi.waitFor(async () => { expect(read(await client.get(place))).toEqual(expected) }, { timeout: 15_000, interval: 20 })
}

const conditionOf = (type: string) => (object: KubeObject | undefined): unknown =>
  object === undefined ? undefined : conditionsOf(statusOf(object)).find(one => one.type === type)?.['reason']

function version(counter: number): Buffer {
  const bytes = Buffer.alloc(16, 1)
  bytes.writeBigUInt64BE(BigInt(counter), 8)
  return bytes
}

async function report(collection: string, key: string, counter: number, object: JsonObject): Promise<void> {
  const target = targets.of(edge)
  await target.digest(collection)
  const value = Buffer.from(JSON.stringify({ apiVersion: 'v1', ...object }))
  target.apply({ collection, puts: [{ key, version: version(counter), value }], deletes: [], synced: true, position: '' }, () => {})
}

const nodeReport: JsonObject = {
  kind: 'Node', metadata: { name: 'edge-1' }, status: {
    capacity: { cpu: '4', memory: '1024Ki', pods: '110' }, allocatable: { cpu: '4', memory: '1000Ki', pods: '110' },
    conditions: [
      { type: 'DiskPressure', status: 'False', lastHeartbeatTime: '2026-01-01T00:00:00Z', lastTransitionTime: '2026-01-01T00:00:00Z', reason: 'EnoughDiskSpace', message: 'm' },
      { type: 'Ready', status: 'True', lastHeartbeatTime: '2026-01-01T00:00:00Z', lastTransitionTime: '2026-01-01T00:00:00Z', reason: 'EdgecoreReady', message: 'm' }
    ],
    addresses: [{ type: 'InternalIP', address: '10.0.0.7' }, { type: 'Hostname', address: 'edge-1' }],
    nodeInfo: { operatingSystem: 'linux', architecture: 'arm64', kubeletVersion: 'v1.32.0-holdfast' }
  }
}

test('a Node is registered, reports, goes away and comes back', async () => {
  links.connect('edge-1')
  await until(nodePlace('edge-1'), conditionOf('Ready'), 'TunnelOpen')
  await report('node-status', 'edge-1', 1, nodeReport)
  // Status and record are there together, and the labels follow.
  await until(nodePlace('edge-1'), object => [conditionOf('Ready')(object), recordedVersion(object), object?.metadata.labels], [
    'EdgecoreReady', version(1).toString('hex'), {
      'kubernetes.io/hostname': 'edge-1', 'kubernetes.io/os': 'linux', 'kubernetes.io/arch': 'arm64', 'node-role.kubernetes.io/edge': ''
    }
  ])
  await until({ kind: kubeKinds.leases, namespace: leaseNamespace, name: 'edge-1' }, object => object === undefined, false)
  const before = Date.now()
  links.disconnect('edge-1')
  await until(nodePlace('edge-1'), object => [conditionOf('Ready')(object), recordedVersion(object), (object!['spec'] as JsonObject)['taints']], [
    'NodeAway', undefined, [
      { key: 'node-role.kubernetes.io/edge', effect: 'NoSchedule' }, { key: 'holdfast.dev/unreachable', effect: 'NoSchedule' }
    ]
  ])
  expect(Date.now() - before).toBeLessThan(10_000)
  links.connect('edge-1')
  await until(nodePlace('edge-1'), conditionOf('Ready'), 'TunnelOpen')
  // What both sides go by then is nothing: the node says it again.
  await vi.waitFor(async () => { expect(await targets.of(edge).digest('node-status')).toEqual(stateDigest([])) }, { timeout: 10_000 })
  await report('node-status', 'edge-1', 1, nodeReport)
  await until(nodePlace('edge-1'), conditionOf('Ready'), 'EdgecoreReady')
})

test('a Pod\'s status lands with its record, and the Pod goes when it is deleted', async () => {
  links.connect('edge-1')
  const created = await client.create(kubeKinds.pods, {
    apiVersion: 'v1', kind: 'Pod', metadata: { name: 'web', namespace: 'default' },
    spec: { nodeName: 'edge-1', containers: [{ name: 'c', image: 'i' }] }
  })
  const { uid = '' } = created.metadata
  // As the API defaults them, and as it lets them change.
  const tolerations = lastingTolerations(created)
  expect(tolerations).toHaveLength(2)
  await client.mergePatch(podPlace('web'), { spec: { tolerations } })
  await until(podPlace('web'), object => object === undefined ? 1 : lastingTolerations(object), undefined)
  await report('pod-status', 'default/web', 1, {
    kind: 'Pod', metadata: { name: 'web', namespace: 'default', uid }, status: {
      phase: 'Pending', reason: 'NoContainerRuntime', message: 'held',
      conditions: [{ type: 'Ready', status: 'False', lastProbeTime: null, lastTransitionTime: '2026-01-01T00:00:00Z', reason: 'NoContainerRuntime', message: 'held' }]
    }
  })
  await until(podPlace('web'), object => [statusOf(object!)['reason'], statusOf(object!)['qosClass'], recordedVersion(object)],
    ['NoContainerRuntime', 'BestEffort', version(1).toString('hex')])
  await client.delete(podPlace('web'))
  await until(podPlace('web'), object => object === undefined, true)
})
