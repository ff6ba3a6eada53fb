import type { JsonObject, KubeObject } from '@holdfast/kube-api'
import { SeededRandom, silentLog } from '@holdfast/runtime'
import { HandClock } from '@holdfast/runtime/testing'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { conditionsOf, statusOf } from '../state/status-document.ts'
import { ScriptedCluster, nodePlace } from '../state/testing/up-cluster.ts'
import type { ScriptedInformer } from '../state/testing/up-cluster.ts'
import { HandLinks } from '../state/testing/up-node-links.ts'
import { kubeKinds } from './kube-kinds.ts'
import { NodeController, nodeControllerDefaults } from './node-controller.ts'
import { NodeLeases, leaseNamespace } from './node-lease.ts'

let clock: HandClock
let cluster: ScriptedCluster
let links: HandLinks
let nodes: ScriptedInformer
let leases: NodeLeases
let controller: NodeController

beforeEach(() => {
  clock = new HandClock()
  cluster = new ScriptedCluster(clock)
  nodes = cluster.informer(kubeKinds.nodes)
  links = new HandLinks()
  start()
})

function start(): void {
  const random = new SeededRandom(5)
  leases = new NodeLeases({ client: cluster, nodes, links, clock, random, log: silentLog })
  controller = new NodeController(nodeControllerDefaults, { client: cluster, nodes, links, leases, clock, random, log: silentLog })
}

function stop(): void {
  controller.close()
  leases.close()
}

/** Another process: its tunnels are new. */
function restart(): void {
  stop()
  links = new HandLinks()
  start()
}

afterEach(() => {
  stop()
  expect(clock.timers).toBe(0)
})

const node = (name = 'edge-1'): KubeObject => cluster.at(nodePlace(name))!
const condition = (type: string, name = 'edge-1'): JsonObject | undefined => conditionsOf(statusOf(node(name))).find(one => one.type === type)
const ready = (name = 'edge-1'): unknown => condition('Ready', name)?.['status']
const taints = (name = 'edge-1'): unknown[] => ((node(name)['spec'] as JsonObject)['taints'] ?? []) as JsonObject[]
const lease = (name = 'edge-1'): KubeObject | undefined => cluster.at({ kind: kubeKinds.leases, namespace: leaseNamespace, name })
const edit = (change: (current: KubeObject) => KubeObject, name = 'edge-1'): void =>
  cluster.set(nodePlace(name), current => change(current!))
const writes = (): number => cluster.requests.filter(({ verb, place }) => verb !== 'get' && place.startsWith('nodes ')).length

const roleTaint = { key: 'node-role.kubernetes.io/edge', effect: 'NoSchedule' }
const awayTaint = { key: 'holdfast.dev/unreachable', effect: 'NoSchedule' }

describe('a node that connects', () => {
  test('is registered, Ready at once', async () => {
    links.connect('edge-1')
    await clock.pass(100)
    expect(node()).toMatchObject({
      kind: 'Node',
      metadata: { name: 'edge-1', labels: { 'kubernetes.io/hostname': 'edge-1', 'node-role.kubernetes.io/edge': '' } },
      spec: { taints: [roleTaint] },
      status: { conditions: [{ type: 'Ready', status: 'True', reason: 'TunnelOpen' }] }
    })
    expect([writes(), controller.stats.registered]).toEqual([1, 1])
  })

  test('has labels of what its machine is, once it says so', async () => {
    links.connect('edge-1')
    await clock.pass(100)
    edit(object => ({ ...object, status: { ...statusOf(object), nodeInfo: { operatingSystem: 'linux', architecture: 'arm64' } } }))
    await clock.pass(100)
    expect(node().metadata.labels).toMatchObject({ 'kubernetes.io/os': 'linux', 'kubernetes.io/arch': 'arm64' })
  })

  test('keeps what an operator set on it, before and after', async () => {
    cluster.set(nodePlace('edge-1'), () => ({
      apiVersion: 'v1', kind: 'Node', metadata: { name: 'edge-1', labels: { 'kubernetes.io/hostname': 'mine', a: 'b' }, annotations: { c: 'd' } },
      spec: { unschedulable: true, taints: [{ key: 'e', effect: 'NoExecute' }] }, status: {}
    }))
    links.connect('edge-1')
    await clock.pass(100)
    links.disconnect('edge-1')
    await clock.pass(60_000)
    links.connect('edge-1')
    await clock.pass(100)
    expect(node()).toMatchObject({
      metadata: { labels: { 'kubernetes.io/hostname': 'mine', a: 'b', 'node-role.kubernetes.io/edge': '' }, annotations: { c: 'd' } },
      spec: { unschedulable: true, taints: [{ key: 'e', effect: 'NoExecute' }] }
    })
  })

  test('is not given back the role and the taint that an operator took off', async () => {
    links.connect('edge-1')
    await clock.pass(100)
    edit(object => {
      const { 'node-role.kubernetes.io/edge': _, ...labels } = object.metadata.labels!
      return { ...object, metadata: { ...object.metadata, labels }, spec: {} }
    })
    links.connect('edge-1')
    await clock.pass(100)
    expect([node().metadata.labels, taints()]).toEqual([{ 'kubernetes.io/hostname': 'edge-1' }, []])
  })

  test('and is taken away by an operator stays away until it connects again', async () => {
    links.connect('edge-1')
    await clock.pass(100)
    cluster.set(nodePlace('edge-1'), () => undefined)
    await clock.pass(120_000)
    expect(cluster.at(nodePlace('edge-1'))).toBeUndefined()
    links.connect('edge-1')
    await clock.pass(100)
    expect(ready()).toBe('True')
  })

  test('is registered as soon as Kubernetes answers', async () => {
    cluster.fault = () => ({ kind: 'answer', status: 503 })
    links.connect('edge-1')
    await clock.pass(120_000)
    cluster.fault = () => undefined
    await clock.pass(11_000)
    expect(ready()).toBe('True')
  })

  test('leaves a Ready that it reported False', async () => {
    links.connect('edge-1')
    await clock.pass(100)
    edit(object => ({ ...object, status: { conditions: [{ type: 'Ready', status: 'False', reason: 'EdgecoreStopping' }] } }))
    links.connect('edge-1')
    await clock.pass(60_000)
    expect(ready()).toBe('False')
  })
})

describe('a node that goes', () => {
  beforeEach(async () => {
    links.connect('edge-1')
    await clock.pass(100)
    edit(object => ({
      ...object, metadata: { ...object.metadata, annotations: { ...object.metadata.annotations, 'holdfast.dev/state': '0'.repeat(32) } },
      status: { conditions: [...conditionsOf(statusOf(object)), { type: 'DiskPressure', status: 'False' }, { type: 'NetworkUnavailable', status: 'False' }] }
    }))
    await clock.pass(100)
  })

  test('is marked after the stated time: Ready unknown, tainted, its own word taken back; nothing that evicts', async () => {
    links.disconnect('edge-1')
    await clock.pass(19_900)
    expect([ready(), taints()]).toEqual(['True', [roleTaint]])
    await clock.pass(200)
    expect(condition('Ready')).toMatchObject({ status: 'Unknown', reason: 'NodeAway' })
    expect([condition('DiskPressure')?.['status'], condition('NetworkUnavailable')?.['status']]).toEqual(['Unknown', 'False'])
    expect(taints()).toEqual([roleTaint, awayTaint])
    expect(node().metadata.annotations).not.toHaveProperty('holdfast.dev/state')
    expect(controller.stats.markedAway).toBe(1)
  })

  test('costs no writes while it is away', async () => {
    links.disconnect('edge-1')
    await clock.pass(30_000)
    const before = cluster.requests.length
    await clock.pass(2 * 3_600_000)
    expect(cluster.requests.length).toBe(before)
  })

  test('and comes back in time is not touched', async () => {
    const before = writes()
    for (let i = 0; i < 20; i++) {
      links.disconnect('edge-1')
      await clock.pass(10_000)
      links.connect('edge-1')
      await clock.pass(1000)
    }
    expect([ready(), writes()]).toEqual(['True', before])
  })

  test('and comes back later is Ready within a second, without the taint', async () => {
    links.disconnect('edge-1')
    await clock.pass(600_000)
    links.connect('edge-1')
    await clock.pass(200)
    expect([ready(), taints(), controller.stats.markedBack]).toEqual(['True', [roleTaint], 1])
  })

  test('and comes back in the middle of being marked is Ready', async () => {
    cluster.latencyMs = 50
    links.disconnect('edge-1')
    await clock.pass(20_060)
    links.connect('edge-1')
    await clock.pass(1000)
    expect([ready(), taints()]).toEqual(['True', [roleTaint]])
  })

  test('in the middle of being put right is marked no earlier than any other', async () => {
    links.disconnect('edge-1')
    await clock.pass(60_000)
    cluster.latencyMs = 50
    links.connect('edge-1')
    await clock.pass(30)
    links.disconnect('edge-1')
    await clock.pass(19_000)
    expect(taints()).toEqual([roleTaint])
    await clock.pass(2000)
    expect([ready(), taints()]).toEqual(['Unknown', [roleTaint, awayTaint]])
  })

  test('is left alone while another cloudcore renews its Lease', async () => {
    links.disconnect('edge-1')
    const renew = (time: string): void => cluster.set({ kind: kubeKinds.leases, namespace: leaseNamespace, name: 'edge-1' },
      current => ({ ...current!, spec: { ...current!['spec'] as object, renewTime: time } }))
    renew('2030-01-01T00:00:00.000000Z')
    await clock.pass(50_000)
    renew('2030-01-01T00:00:30.000000Z')
    await clock.pass(20_000)
    expect(ready()).toBe('True')
    await clock.pass(60_000)
    expect(ready()).toBe('Unknown')
  })

  test('is marked though Leases may not be read', async () => {
    cluster.fault = (_verb, { kind }) => kind === kubeKinds.leases ? { kind: 'answer', status: 403 } : undefined
    links.disconnect('edge-1')
    await clock.pass(21_000)
    expect(ready()).toBe('Unknown')
  })
})

describe('a restart of cloudcore', () => {
  beforeEach(async () => {
    links.connect('edge-1')
    links.connect('edge-2')
    await clock.pass(30_000)
    restart()
  })

  test('does not touch nodes that come back in time, and marks those that do not', async () => {
    const before = writes()
    await clock.pass(50_000)
    links.connect('edge-1')
    await clock.pass(9000)
    expect([ready('edge-1'), ready('edge-2'), writes()]).toEqual(['True', 'True', before])
    await clock.pass(2000)
    expect([ready('edge-1'), ready('edge-2')]).toEqual(['True', 'Unknown'])
  })

  test('that takes over a Node which the cluster took for lost puts it right', async () => {
    edit(object => ({ ...object, status: { conditions: [{ type: 'Ready', status: 'Unknown', reason: 'NodeStatusUnknown' }] } }))
    links.connect('edge-1')
    await clock.pass(500)
    expect(ready()).toBe('True')
  })
})

test('Nodes that are none of ours are never touched', async () => {
  cluster.set(nodePlace('worker'), () => ({ apiVersion: 'v1', kind: 'Node', metadata: { name: 'worker' }, spec: {}, status: {} }))
  await clock.pass(300_000)
  expect(cluster.requests).toEqual([])
})

test('two machines with one identity show as a condition, and no more when there is one', async () => {
  links.connect('edge-1')
  await clock.pass(100)
  links.duplicates.add('edge-1')
  await clock.pass(6000)
  expect(condition('DuplicateIdentity')).toMatchObject({ status: 'True' })
  expect(ready()).toBe('True')
  links.duplicates.delete('edge-1')
  await clock.pass(6000)
  expect(condition('DuplicateIdentity')).toMatchObject({ status: 'False' })
})

test('a refusal is tried again, and other nodes are served', async () => {
  cluster.fault = (_verb, { name }) => name === 'edge-1' ? { kind: 'answer', status: 403 } : undefined
  links.connect('edge-1')
  links.connect('edge-2')
  await clock.pass(1000)
  expect(ready('edge-2')).toBe('True')
  cluster.fault = () => undefined
  await clock.pass(61_000)
  expect(ready('edge-1')).toBe('True')
})

describe('the Lease', () => {
  test('is as a kubelet keeps it, and renewed while the tunnel is open only', async () => {
    links.connect('edge-1')
    await clock.pass(2000)
    expect(lease()).toMatchObject({
      metadata: { name: 'edge-1', namespace: 'kube-node-lease', ownerReferences: [{ kind: 'Node', name: 'edge-1', uid: node().metadata.uid }] },
      spec: { holderIdentity: 'edge-1', leaseDurationSeconds: 40 }
    })
    expect((lease()!['spec'] as JsonObject)['renewTime']).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/)
    await clock.pass(60_000)
    expect(leases.renewals).toBeGreaterThanOrEqual(4)
    expect(leases.renewals).toBeLessThanOrEqual(7)
    links.disconnect('edge-1')
    const before = leases.renewals
    await clock.pass(600_000)
    expect(leases.renewals).toBe(before)
  })

  test('of four hundred nodes that come at once are renewed without a storm', async () => {
    for (let i = 0; i < 400; i++) links.connect(`edge-${i}`)
    await clock.pass(60_000)
    const renewed = cluster.requests.filter(({ verb, place, atMs }) => verb === 'patch' && place.startsWith('leases ') && atMs > 31_000)
    const perSecond = Map.groupBy(renewed, ({ atMs }) => Math.floor(atMs / 1000))
    expect(Math.max(...[...perSecond.values()].map(({ length }) => length))).toBeLessThanOrEqual(100)
    const late = Array.from({ length: 400 }, (_, i) => lease(`edge-${i}`)).filter(one => one === undefined)
    expect(late).toEqual([])
  })

  test('is not made for a node whose Node an operator took away', async () => {
    links.connect('edge-1')
    await clock.pass(2000)
    cluster.set(nodePlace('edge-1'), () => undefined)
    cluster.set({ kind: kubeKinds.leases, namespace: leaseNamespace, name: 'edge-1' }, () => undefined)
    await clock.pass(60_000)
    expect(lease()).toBeUndefined()
  })
})
