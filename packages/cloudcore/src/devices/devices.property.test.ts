import { compareVersions, desiredAnnotation, desiredOfDevice, parseVersion, readRules, textOf } from '@holdfast/device-twin'
import type { Version } from '@holdfast/device-twin'
import type { JsonObject, KubeObject } from '@holdfast/kube-api'
import { SeededRandom, parseNodeName } from '@holdfast/runtime'
import { HandClock } from '@holdfast/runtime/testing'
import { stateDigest } from '@holdfast/sync'
import { expect, test } from 'vitest'
import { kubeKinds } from '../kube/kube-kinds.ts'
import { recordedVersion, statusOf } from '../state/status-document.ts'
import { nodeOf } from '../state/up-collection.ts'
import { ScriptedCluster } from '../state/testing/up-cluster.ts'
import { hash } from './device-planner.ts'
import { ownerOf, readDeviceStatus, recordingNode } from './device-status.ts'
import { DeviceCloud, TwinNode, devicePlace, deviceStatusPlace, newDevice, saidOf, setReady } from './testing/device-cluster.ts'

const names = ['a', 'b', 'c']
const properties = ['p', 'q']
const nodes = ['edge-1', 'edge-2'] as const

/** A node with one session at a time, to either cloudcore. */
class Edge {
  readonly node: TwinNode
  #session = 0
  #cloud: DeviceCloud | undefined
  #stop: (() => void) | undefined
  /** Changes may be sent: both sides have compared. */
  #isLive = false
  #mustCompare = false
  #isComparing = false

  constructor(node: TwinNode) { this.node = node }

  get isConnected(): boolean { return this.#cloud !== undefined }

  connect(cloud: DeviceCloud): void {
    this.cut()
    const session = ++this.#session
    this.#cloud = cloud
    this.#stop = cloud.targets.of(parseNodeName(this.node.name)!).subscribe!(() => { if (session === this.#session) this.#compare() })
    this.#compare()
  }

  cut(): void {
    this.#session++
    this.#stop?.()
    this.#cloud = undefined
    this.#isLive = false
    this.#isComparing = false
    this.#mustCompare = false
  }

  say(...keys: readonly string[]): void {
    if (this.#isLive && keys.length > 0) this.node.say(this.#target(), ...keys)
  }

  #target(): ReturnType<DeviceCloud['targets']['of']> { return this.#cloud!.targets.of(parseNodeName(this.node.name)!) }

  /** What a StateReader and a StateWriter do between them. */
  #compare(): void {
    if (this.#isComparing) {
      this.#mustCompare = true
      return
    }
    this.#isComparing = true
    const session = this.#session
    const target = this.#target()
    void Promise.resolve(target.digest('twins')).then(digest => {
      if (session !== this.#session) return
      this.#isComparing = false
      this.#isLive = true
      const mine = [...this.node.twins].map(([name, { version }]) => [`default/${name}`, version] as const).toSorted(([a], [b]) => a < b ? -1 : 1)
      if (!digest.equals(stateDigest(mine))) {
        const theirs = new Map<string, Buffer>(target.keysFrom('twins', ''))
        const own = new Map<string, Buffer>(mine)
        const differing = [...new Set([...own.keys(), ...theirs.keys()])].filter(key => {
          const [a, b] = [own.get(key), theirs.get(key)]
          return a === undefined || b === undefined || !a.equals(b)
        }).map(key => key.slice(8))
        this.say(...differing)
      }
      if (this.#mustCompare) {
        this.#mustCompare = false
        this.#compare()
      }
    })
  }
}

/** One schedule of kubectl, nodes, moves, restarts and faults; afterwards all sides hold the same. */
async function run(seed: number): Promise<void> {
  const random = new SeededRandom(seed)
  const clock = new HandClock()
  const cluster = new ScriptedCluster(clock)
  if (random.chance(0.2)) cluster.subresources.add('devicestatuses')
  if (random.chance(0.2)) cluster.subresources.add('devices')
  let faulty = true
  cluster.fault = () => {
    if (!faulty || random.chance(0.75)) return undefined
    const dice = random.next()
    if (dice < 0.3) return { kind: 'answer', status: 409 }
    if (dice < 0.6) return { kind: 'answer', status: 503 }
    if (dice < 0.8) return { kind: 'answer-lost' }
    return { kind: 'hang', ...random.chance(0.7) && { landsAfterMs: random.integer(1, 70_000) } }
  }
  const pick = <T>(of: readonly T[]): T => of[random.integer(0, of.length - 1)]!
  for (const name of nodes) setReady(cluster, name, 'True')
  const clouds = [new DeviceCloud(cluster, clock, { seed }), new DeviceCloud(cluster, clock, { seed: seed + 1 })]
  const edges = nodes.map((name, i) => {
    const edge = new Edge(new TwinNode(name, () => clock.wallMs()))
    edge.node.epoch = i + 1
    edge.connect(clouds[i]!)
    return edge
  })
  const edgeAt = (object: KubeObject | undefined): Edge | undefined => edges.find(({ node }) => node.name === nodeOf(object))
  const device = (name: string): KubeObject | undefined => cluster.at(devicePlace(name))
  /** What goes down: a node's Devices, in its own time. */
  const follow = (edge: Edge): void => {
    for (const name of names) {
      const object = device(name)
      const isOurs = object !== undefined && edgeAt(object) === edge
      if (isOurs) {
        const before = JSON.stringify([...edge.node.twin(name, object.metadata.uid).desired])
        const version = edge.node.twins.get(name)?.version
        const isNew = edge.node.twins.get(name)?.uid !== object.metadata.uid
        const known = edge.node.twins.get(name)
        edge.node.take(object)
        if (!isNew && known !== undefined && before === JSON.stringify([...edge.node.twin(name).desired])) {
          edge.node.twins.set(name, { ...known, version: version! })
        } else edge.say(name)
      } else if (edge.node.twins.delete(name)) edge.say(name)
    }
  }
  for (const name of names) cluster.set(devicePlace(name), () => newDevice(name, pick(nodes)))
  await clock.pass(1000)
  /** What each property was last wanted to be, by whoever was last. */
  for (let i = 0; i < 60; i++) {
    const name = pick(names)
    const object = device(name)
    const edge = edgeAt(object)
    const dice = random.next()
    if (dice < 0.25 && object !== undefined) {
      const desired = Object.fromEntries(properties.filter(() => random.chance(0.6)).map(property => [property, `k${i}`]))
      cluster.set(devicePlace(name), one => ({ ...one!, spec: newDevice(name, nodeOf(one), desired)['spec'] }))
    } else if (dice < 0.45 && edge !== undefined && edge.node.twins.has(name)) {
      edge.node.desire(name, edge.node.twins.get(name)!.uid, { [pick(properties)]: random.chance(0.2) ? null : `n${i}` })
      edge.say(name)
    } else if (dice < 0.6 && edge !== undefined && edge.node.twins.has(name)) {
      edge.node.report(name, edge.node.twins.get(name)!.uid, { [pick(properties)]: i })
      edge.say(name)
    } else if (dice < 0.66) pick(edges).cut()
    else if (dice < 0.76) pick(edges).connect(pick(clouds))
    else if (dice < 0.8 && object !== undefined) {
      cluster.set(devicePlace(name), one => ({ ...one!, spec: { ...one!['spec'] as JsonObject, nodeName: pick(nodes) } }))
    } else if (dice < 0.83) {
      // With its owner goes what it owns, in its own time.
      cluster.set(devicePlace(name), one => one === undefined ? newDevice(name, pick(nodes)) : undefined)
      if (random.chance(0.5)) collectGarbage()
    } else if (dice < 0.86) {
      const informer = pick(Object.values(pick(clouds).informers))
      informer.held = !informer.held
    } else if (dice < 0.89) {
      for (const one of edges) one.cut()
      const at = random.integer(0, 1)
      clouds[at]!.close()
      clouds[at] = new DeviceCloud(cluster, clock, { seed: seed + 10 + i })
    } else if (dice < 0.92) cluster.set(deviceStatusPlace(name), () => undefined)
    for (const one of edges) if (one.isConnected && random.chance(0.6)) follow(one)
    await clock.pass(random.chance(0.6) ? random.integer(0, 200) : random.integer(0, 20_000))
  }

  function collectGarbage(): void {
    for (const name of names) {
      const owned = cluster.at(deviceStatusPlace(name))
      if (owned !== undefined && ownerOf(owned) !== device(name)?.metadata.uid) cluster.set(deviceStatusPlace(name), () => undefined)
    }
  }

  faulty = false
  for (const { informers } of clouds) for (const informer of Object.values(informers)) informer.held = false
  for (const { informers } of clouds) for (const informer of Object.values(informers)) informer.follow()
  await clock.pass(120_000)
  collectGarbage()
  for (const edge of edges) edge.connect(clouds[0]!)
  for (let i = 0; i < 12; i++) {
    for (const edge of edges) follow(edge)
    await clock.pass(20_000)
  }
  for (const name of names) {
    const object = device(name)
    const status = cluster.at(deviceStatusPlace(name))
    if (object === undefined) continue
    const edge = edgeAt(object)!
    const rules = readRules({ device: object, model: undefined, freshnessMs: 0 })
    const inCloud = [...desiredOfDevice(object, rules, hash)].filter(([, { deleted }]) => deleted !== true)
      .map(([property, { value, version }]) => [property, textOf(value), version])
    const atNode = [...edge.node.twin(name).desired].filter(([, { deleted }]) => deleted !== true)
      .map(([property, { value, version }]) => [property, textOf(value), version])
    expect(new Set(atNode), `${name}: desired`).toEqual(new Set(inCloud))
    // What stands in the spec is all stamped, and what is shown is what the node says.
    const spec = (object['spec'] as { properties: { name: string, desired?: { value: string } }[] }).properties
    expect(spec.filter(({ desired }) => desired !== undefined).length, `${name}: stamped`).toBe(inCloud.length)
    if (edge.node.twins.has(name)) {
      expect([recordedVersion(status), recordingNode(status), ownerOf(status!)], `${name}: record`)
        .toEqual([edge.node.item(name).version.toString('hex'), edge.node.name, object.metadata.uid])
      const { reported } = readDeviceStatus(statusOf(status!))
      for (const [property, { value }] of edge.node.twin(name).reported) expect(reported.get(property)?.value).toBe(textOf(value))
    }
    expect(saidOf(object)[0], `${name}: ${JSON.stringify(statusOf(object))}`).toBe('Synced: True DesiredObserved')
  }
  // Versions of one Device's desired values never go back, whoever writes.
  const last = new Map<string, Version>()
  for (const { metadata, kind } of cluster.history) {
    if (kind !== 'Device') continue
    const stamps = JSON.parse(metadata.annotations?.[desiredAnnotation] ?? '{}') as Record<string, { version: string }>
    for (const [property, { version }] of Object.entries(stamps)) {
      const id = `${metadata.uid} ${property}`
      const [before, now] = [last.get(id), parseVersion(version)!]
      expect(before === undefined || compareVersions(before, now) <= 0, `${id} went back`).toBe(true)
      last.set(id, now)
    }
  }
  // Nobody writes any more.
  const requests = cluster.requests.length
  await clock.pass(60_000)
  expect(cluster.requests.slice(requests).filter(({ verb, place }) => verb !== 'get' && !place.startsWith(kubeKinds.events.plural))).toEqual([])
  for (const cloud of clouds) cloud.close()
}

test('whatever fails, Devices, DeviceStatuses and nodes end alike, and versions never go back (TWN-12, TWN-33)', async () => {
  const first = Number(process.env['SEED'] ?? 1)
  const runs = Number(process.env['RUNS'] ?? 40)
  for (let seed = first; seed < first + runs; seed++) {
    try {
      await run(seed)
    } catch (error) {
      throw new Error(`seed ${seed}`, { cause: error })
    }
  }
}, 60_000)
