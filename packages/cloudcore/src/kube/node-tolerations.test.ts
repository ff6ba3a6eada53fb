import type { JsonObject, KubeObject } from '@holdfast/kube-api'
import { SeededRandom, silentLog } from '@holdfast/runtime'
import { HandClock } from '@holdfast/runtime/testing'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { ScriptedCluster, newNode, newPod, nodePlace, podPlace } from '../state/testing/up-cluster.ts'
import type { ScriptedInformer } from '../state/testing/up-cluster.ts'
import { kubeKinds } from './kube-kinds.ts'
import { NodeTolerations } from './node-tolerations.ts'

let clock: HandClock
let cluster: ScriptedCluster
let pods: ScriptedInformer
let tolerations: NodeTolerations

const byDefault = (name: string, tolerationSeconds: number | undefined = 300): JsonObject => ({
  key: `node.kubernetes.io/${name}`, operator: 'Exists', effect: 'NoExecute', ...tolerationSeconds !== undefined && { tolerationSeconds }
})
const lasting = (name: string): JsonObject => ({ key: `node.kubernetes.io/${name}`, operator: 'Exists', effect: 'NoExecute' })

const registered = (name: string): KubeObject => {
  const node = newNode(name)
  return { ...node, metadata: { ...node.metadata, annotations: { 'holdfast.dev/registered': 'then' } } }
}

const podWith = (name: string, node: string, of: readonly JsonObject[]): KubeObject => {
  const pod = newPod(name, node)
  return { ...pod, spec: { ...pod['spec'] as JsonObject, tolerations: of } }
}

const tolerationsOf = (name: string): unknown => (cluster.at(podPlace(name))!['spec'] as JsonObject)['tolerations']

beforeEach(() => {
  clock = new HandClock()
  cluster = new ScriptedCluster(clock)
  pods = cluster.informer(kubeKinds.pods)
  const nodes = cluster.informer(kubeKinds.nodes)
  tolerations = new NodeTolerations({ client: cluster, pods, nodes, clock, random: new SeededRandom(2), log: silentLog })
  cluster.set(nodePlace('edge-1'), () => registered('edge-1'))
  cluster.set(nodePlace('worker'), () => newNode('worker'))
})

afterEach(() => {
  tolerations.close()
  expect(clock.timers).toBe(0)
})

test('a Pod of an edge node tolerates for ever that its node is away; nothing else of it changes', async () => {
  const other = { key: 'a', operator: 'Equal', value: 'b', effect: 'NoExecute', tolerationSeconds: 300 }
  cluster.set(podPlace('web'), () => podWith('web', 'edge-1', [other, byDefault('not-ready'), byDefault('unreachable')]))
  await clock.pass(100)
  expect(tolerationsOf('web')).toEqual([other, lasting('not-ready'), lasting('unreachable')])
  expect([cluster.requests.length, tolerations.changed]).toEqual([1, 1])
})

test('Pods of other nodes, Pods that are going and seconds that somebody chose are left alone', async () => {
  cluster.set(podPlace('a'), () => podWith('a', 'worker', [byDefault('unreachable')]))
  cluster.set(podPlace('b'), () => podWith('b', 'edge-1', [byDefault('unreachable', 60)]))
  cluster.set(podPlace('c'), () => {
    const pod = podWith('c', 'edge-1', [byDefault('unreachable')])
    return { ...pod, metadata: { ...pod.metadata, deletionTimestamp: '2027-01-15T08:00:00Z' } }
  })
  await clock.pass(60_000)
  expect(cluster.requests).toEqual([])
})

test('Pods that were there before their node was registered follow', async () => {
  cluster.set(podPlace('a'), () => podWith('a', 'edge-2', [byDefault('unreachable')]))
  await clock.pass(1000)
  cluster.set(nodePlace('edge-2'), () => registered('edge-2'))
  await clock.pass(100)
  expect(tolerationsOf('a')).toEqual([lasting('unreachable')])
})

test('a conflict, an outage and a refusal are tried again', async () => {
  let tries = 0
  cluster.fault = () => ({ kind: 'answer', status: [409, 503, 403][tries++ % 3]! })
  cluster.set(podPlace('a'), () => podWith('a', 'edge-1', [byDefault('unreachable')]))
  await clock.pass(120_000)
  expect(tries).toBeGreaterThan(3)
  cluster.fault = () => undefined
  await clock.pass(61_000)
  expect(tolerationsOf('a')).toEqual([lasting('unreachable')])
})
