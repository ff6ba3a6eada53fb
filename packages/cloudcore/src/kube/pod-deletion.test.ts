import type { KubeObject } from '@holdfast/kube-api'
import { SeededRandom, silentLog } from '@holdfast/runtime'
import { HandClock } from '@holdfast/runtime/testing'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { ScriptedCluster, newNode, newPod, nodePlace, podPlace } from '../state/testing/up-cluster.ts'
import type { ScriptedInformer } from '../state/testing/up-cluster.ts'
import { HandLinks } from '../state/testing/up-node-links.ts'
import { kubeKinds } from './kube-kinds.ts'
import { PodDeletions } from './pod-deletion.ts'

let clock: HandClock
let cluster: ScriptedCluster
let links: HandLinks
let pods: ScriptedInformer
let nodes: ScriptedInformer
let deletions: PodDeletions

const held = { phase: 'Pending', reason: 'NoContainerRuntime' }

beforeEach(async () => {
  clock = new HandClock()
  cluster = new ScriptedCluster(clock)
  pods = cluster.informer(kubeKinds.pods)
  nodes = cluster.informer(kubeKinds.nodes)
  for (const name of ['edge-1', 'worker']) cluster.set(nodePlace(name), () => newNode(name))
  links = new HandLinks()
  deletions = new PodDeletions({ client: cluster, pods, nodes, links, clock, random: new SeededRandom(2), log: silentLog })
  links.connect('edge-1')
  await clock.pass(60_000)
})

afterEach(() => {
  deletions.close()
  expect(clock.timers).toBe(0)
})

const create = (name = 'web', node = 'edge-1'): void => cluster.set(podPlace(name), () => newPod(name, node, `uid-${name}`))
const change = (changed: (pod: KubeObject) => KubeObject, name = 'web'): void => cluster.set(podPlace(name), pod => changed(pod!))
const report = (status: object, name = 'web'): void => change(pod => ({
  ...pod, metadata: { ...pod.metadata, annotations: { 'holdfast.dev/state': '0'.repeat(32) } }, status
}), name)
const remove = (name = 'web'): void => change(pod => ({
  ...pod, metadata: { ...pod.metadata, deletionTimestamp: '2027-01-15T08:00:00Z', deletionGracePeriodSeconds: 30 }
}), name)
const isThere = (name = 'web'): boolean => cluster.at(podPlace(name)) !== undefined

describe('a deleted Pod goes', () => {
  test('at once where its node holds it and never started it', async () => {
    create()
    report(held)
    remove()
    await clock.pass(100)
    expect(cluster.requests).toEqual([expect.objectContaining({ verb: 'delete', body: { gracePeriodSeconds: 0, uid: 'uid-web' } })])
    expect([isThere(), deletions.confirmed, deletions.pending]).toEqual([false, 1, 0])
  })

  test.each(['Succeeded', 'Failed'])('once its node says that it has ended: %s', async phase => {
    create()
    report({ phase: 'Running' })
    remove()
    await clock.pass(600_000)
    expect(isThere()).toBe(true)
    report({ phase })
    await clock.pass(100)
    expect(isThere()).toBe(false)
  })

  test('that its node never had, once the node could have said so for long', async () => {
    create()
    remove()
    await clock.pass(299_000)
    expect(isThere()).toBe(true)
    await clock.pass(2000)
    expect(isThere()).toBe(false)
  })

  test('when its node comes back, after what it says then has come up', async () => {
    create()
    report(held)
    links.disconnect('edge-1')
    remove()
    await clock.pass(3_600_000)
    expect(isThere()).toBe(true)
    links.connect('edge-1')
    await clock.pass(4900)
    expect(isThere()).toBe(true)
    await clock.pass(200)
    expect(isThere()).toBe(false)
  })

  test('whose Node does not exist, after a while in which it could have been registered', async () => {
    create('lost', 'no-such-node')
    remove('lost')
    await clock.pass(39_000)
    expect(isThere('lost')).toBe(true)
    await clock.pass(2000)
    expect(isThere('lost')).toBe(false)
  })

  test('when the Node of a node that is away is deleted', async () => {
    links.disconnect('edge-1')
    create()
    report({ phase: 'Running' })
    remove()
    await clock.pass(3_600_000)
    expect(isThere()).toBe(true)
    cluster.set(nodePlace('edge-1'), () => undefined)
    await clock.pass(100)
    expect(isThere()).toBe(false)
  })

  test('as soon as Kubernetes takes it', async () => {
    cluster.fault = () => ({ kind: 'answer', status: clock.monotonicMs() < 80_000 ? 503 : 403 })
    create()
    report(held)
    remove()
    await clock.pass(120_000)
    expect(isThere()).toBe(true)
    cluster.fault = () => undefined
    await clock.pass(61_000)
    expect(isThere()).toBe(false)
  })
})

describe('a Pod stays', () => {
  test('that is not deleted', async () => {
    create()
    report(held)
    await clock.pass(3_600_000)
    expect(isThere()).toBe(true)
  })

  test('on a node that is away, or that is none of ours', async () => {
    create('other', 'worker')
    report({ phase: 'Failed' }, 'other')
    remove('other')
    links.disconnect('edge-1')
    create()
    remove()
    await clock.pass(3_600_000)
    expect([isThere(), isThere('other'), cluster.requests]).toEqual([true, true, []])
  })

  test('whose Node is not known yet', async () => {
    nodes.synced = false
    create('lost', 'no-such-node')
    remove('lost')
    await clock.pass(3_600_000)
    expect(isThere('lost')).toBe(true)
    nodes.synced = true
    nodes.follow()
    await clock.pass(100)
    expect(isThere('lost')).toBe(false)
  })

  test('that has the name of the one that was to go', async () => {
    create()
    report(held)
    cluster.latencyMs = 100
    remove()
    await clock.pass(50)
    expect(cluster.count('delete')).toBe(1)
    cluster.set(podPlace('web'), () => undefined)
    cluster.set(podPlace('web'), () => newPod('web', 'edge-1', 'uid-new'))
    await clock.pass(60_000)
    expect([cluster.at(podPlace('web'))?.metadata.uid, deletions.confirmed]).toEqual(['uid-new', 0])
  })

  test('that finalizers hold, without being asked for again', async () => {
    create()
    report(held)
    change(pod => ({
      ...pod, metadata: { ...pod.metadata, deletionTimestamp: '2027-01-15T08:00:00Z', deletionGracePeriodSeconds: 0, finalizers: ['a.b/c'] }
    }))
    await clock.pass(3_600_000)
    expect(cluster.requests).toEqual([])
  })
})
