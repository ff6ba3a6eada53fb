import { decodeFrame, encodeFrame } from '@holdfast/protos'
import type { StateFrame } from '@holdfast/protos'
import { SeededRandom, parseNodeName, silentLog } from '@holdfast/runtime'
import { HandClock } from '@holdfast/runtime/testing'
import { StateReader, StateWriter, newStateStats, stateDigest } from '@holdfast/sync'
import type { StateItem, StateListener, StateSource } from '@holdfast/sync'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { kubeKinds } from '../kube/kube-kinds.ts'
import { NodeController, nodeControllerDefaults } from '../kube/node-controller.ts'
import { NodeLeases } from '../kube/node-lease.ts'
import { conditionsOf, recordedVersion, statusOf } from './status-document.ts'
import { StatusWriter, statusWriterDefaults } from './status-writer.ts'
import { ScriptedCluster, newPod, nodePlace, podPlace } from './testing/up-cluster.ts'
import type { ScriptedInformer } from './testing/up-cluster.ts'
import { HandLinks } from './testing/up-node-links.ts'
import { nodeStatuses, podStatuses } from './up-collection.ts'
import { UpTargets } from './up-target.ts'

const edge = parseNodeName('edge-1')!

/** What edgecore holds of its statuses. */
class EdgeReports implements StateSource {
  readonly collections = ['pod-status', 'node-status']
  readonly #items = new Map<string, Map<string, StateItem>>(this.collections.map(name => [name, new Map()]))
  readonly #listeners = new Set<StateListener>()
  #counter = 0

  put(collection: string, key: string, object: object): void {
    const version = Buffer.alloc(16, 7)
    version.writeBigUInt64BE(BigInt(++this.#counter), 8)
    this.#items.get(collection)!.set(key, { version, value: Buffer.from(JSON.stringify(object)) })
    for (const listener of this.#listeners) listener.keyChanged(collection, key)
  }

  ready(): boolean { return true }
  position(): string { return '' }
  digest(collection: string): Buffer { return stateDigest(this.keysFrom(collection, '')) }
  version(collection: string, key: string): Buffer | undefined { return this.#items.get(collection)!.get(key)?.version }
  value(collection: string, key: string): Buffer | undefined { return this.#items.get(collection)!.get(key)?.value }
  keysFrom(collection: string, after: string): (readonly [string, Buffer])[] {
    return [...this.#items.get(collection)!].filter(([key]) => key > after).map(([key, { version }]) => [key, version] as const)
      .toSorted(([a], [b]) => a < b ? -1 : 1)
  }

  subscribe(listener: StateListener): () => void {
    this.#listeners.add(listener)
    return () => { this.#listeners.delete(listener) }
  }
}

let clock: HandClock
let cluster: ScriptedCluster
let links: HandLinks
let informers: { readonly pods: ScriptedInformer, readonly nodes: ScriptedInformer }
let targets: UpTargets
let reports: EdgeReports
let stopCloud: () => void
let cut: () => void
/** Frames of the newest session, in both directions. */
let frames: StateFrame[]

function startCloud(): void {
  const random = new SeededRandom(4)
  links = new HandLinks()
  const components = { client: cluster, clock, random, log: silentLog }
  const writer = new StatusWriter(statusWriterDefaults, { ...components, informers: [informers.pods, informers.nodes] })
  const { nodes } = informers
  targets = new UpTargets({ collections: [podStatuses({ ...informers, writer }), nodeStatuses({ ...informers, links, writer })], clock, log: silentLog })
  const leases = new NodeLeases({ ...components, nodes, links })
  const controller = new NodeController(nodeControllerDefaults, { ...components, nodes, links, leases })
  stopCloud = () => { for (const part of [controller, leases, targets, writer]) part.close() }
}

/** A tunnel's State that goes up, as Link and Hub carry it. */
function connect(): void {
  frames = []
  let isOpen = true
  const pump = (): void => {
    if (!isOpen) return
    const carry = (frame: StateFrame): void => {
      frames.push(frame)
      const arrived = decodeFrame(encodeFrame(frame))
      clock.after(1, () => { if (isOpen) arrive(arrived as StateFrame) })
    }
    for (let frame = reader.next(); frame !== undefined; frame = reader.next()) carry(frame)
    for (let output = writer.next(clock.monotonicMs()); output !== undefined; output = writer.next(clock.monotonicMs())) carry(output.frame)
  }
  const arrive = (frame: StateFrame): void => {
    if (frame.kind === 'state-verdict') reader.verdicts(frame.verdicts)
    else if (frame.kind === 'state-changes') reader.receive(frame)
    else if (frame.kind === 'state-digest') writer.told(frame.digests)
    else if (frame.kind === 'state-inventory') writer.inventory(frame)
    else writer.acknowledged(frame, clock.monotonicMs())
    pump()
  }
  const onReady = (): void => { clock.after(0, pump) }
  const fail = (message: string): void => { throw new Error(message) }
  const writer = new StateWriter(reports, { onReady, onWithheld: fail, stats: newStateStats() })
  const reader = new StateReader(targets.of(edge), { onReady, onFailed: fail, stats: newStateStats() })
  links.connect('edge-1')
  onReady()
  cut = () => {
    isOpen = false
    reader.close()
    writer.close()
    links.disconnect('edge-1')
  }
}

const sendNode = (condition: string): void => reports.put('node-status', 'edge-1', {
  apiVersion: 'v1', kind: 'Node', metadata: { name: 'edge-1' }, status: { conditions: [{ type: 'Ready', status: 'True', reason: condition }] }
})
const sendPod = (phase: string): void => reports.put('pod-status', 'default/web', {
  apiVersion: 'v1', kind: 'Pod', metadata: { name: 'web', namespace: 'default', uid: 'uid-web' }, status: { phase }
})
const ready = (): unknown => conditionsOf(statusOf(cluster.at(nodePlace('edge-1'))!)).find(({ type }) => type === 'Ready')?.['reason']
const phase = (): unknown => statusOf(cluster.at(podPlace('web'))!)['phase']
const changes = (): number => frames.filter(({ kind }) => kind === 'state-changes').length

beforeEach(async () => {
  clock = new HandClock()
  cluster = new ScriptedCluster(clock)
  informers = { pods: cluster.informer(kubeKinds.pods), nodes: cluster.informer(kubeKinds.nodes) }
  cluster.set(podPlace('web'), () => newPod('web', 'edge-1', 'uid-web'))
  reports = new EdgeReports()
  sendNode('EdgecoreReady')
  sendPod('Pending')
  startCloud()
  connect()
  await clock.pass(3000)
})

afterEach(() => {
  cut()
  stopCloud()
})

test('what a node reports is in the cluster, and what changes follows', async () => {
  expect([ready(), phase()]).toEqual(['EdgecoreReady', 'Pending'])
  sendPod('Running')
  await clock.pass(100)
  expect(phase()).toBe('Running')
})

test('a reconnect with nothing changed sends digests and no item; so does a restart of cloudcore', async () => {
  for (const restart of [false, true]) {
    cut()
    if (restart) {
      stopCloud()
      startCloud()
    }
    await clock.pass(5000)
    connect()
    await clock.pass(5000)
    expect([changes(), frames.filter(({ kind }) => kind === 'state-inventory').length]).toEqual([0, 0])
    expect([ready(), phase()]).toEqual(['EdgecoreReady', 'Pending'])
  }
})

test('what was taken in by a cloudcore that died before it was written is sent again', async () => {
  cluster.fault = verb => verb === 'patch-status' ? { kind: 'hang' } : undefined
  sendPod('Running')
  await clock.pass(500)
  cut()
  stopCloud()
  cluster.fault = () => undefined
  startCloud()
  connect()
  await clock.pass(1000)
  expect(phase()).toBe('Running')
})

test('after an outage the Node is what it says of itself, within a second', async () => {
  cut()
  await clock.pass(600_000)
  expect(ready()).toBe('NodeAway')
  connect()
  await clock.pass(1000)
  expect(ready()).toBe('EdgecoreReady')
})

test('a Node that the cluster took for lost meanwhile is put right in the session, too', async () => {
  cut()
  stopCloud()
  cluster.set(nodePlace('edge-1'), node => ({ ...node!, status: { conditions: [{ type: 'Ready', status: 'Unknown', reason: 'NodeStatusUnknown' }] } }))
  startCloud()
  connect()
  await clock.pass(1000)
  expect(ready()).toBe('EdgecoreReady')
})

test('a record that an operator took away is made again', async () => {
  cluster.set(podPlace('web'), pod => ({ ...pod!, metadata: { ...pod!.metadata, annotations: {} }, status: { phase: 'Unknown' } }))
  await clock.pass(2000)
  expect([phase(), recordedVersion(cluster.at(podPlace('web'))) === undefined]).toEqual(['Pending', false])
})

test('a cluster restored from a backup gets what came after', async () => {
  const backup = structuredClone(cluster.at(podPlace('web'))!)
  sendPod('Running')
  await clock.pass(20_000)
  cluster.set(podPlace('web'), () => backup)
  await clock.pass(2000)
  expect(phase()).toBe('Running')
})
