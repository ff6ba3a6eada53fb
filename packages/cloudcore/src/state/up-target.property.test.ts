import { SeededRandom, parseNodeName, silentLog } from '@holdfast/runtime'
import { HandClock, turns } from '@holdfast/runtime/testing'
import { stateDigest } from '@holdfast/sync'
import type { JsonObject } from '@holdfast/kube-api'
import { expect, test } from 'vitest'
import { kubeKinds } from '../kube/kube-kinds.ts'
import { recordedVersion } from './status-document.ts'
import { StatusWriter, statusWriterDefaults } from './status-writer.ts'
import { ScriptedCluster, newPod, podPlace } from './testing/up-cluster.ts'
import { nodeStatuses, podStatuses } from './up-collection.ts'
import { UpTargets } from './up-target.ts'

const edge = parseNodeName('edge-1')!
const names = ['a', 'b', 'c', 'd']
const collection = 'pod-status'

interface Item { version: Buffer, uid: string, phase: string }

/** A node as simple as can be: what it reports, its epoch, and one session. */
class Node {
  items = new Map<string, Item>()
  epoch = 1
  /** Highest epoch ever given out. */
  epochs = 1
  counter = 0
  readonly random: SeededRandom
  constructor(random: SeededRandom) { this.random = random }

  put(name: string, uid: string): void {
    const version = Buffer.alloc(16)
    version.writeUInt32BE(this.epoch, 0)
    version.writeBigUInt64BE(BigInt(++this.counter), 8)
    this.items.set(name, { version, uid, phase: `${this.epoch}-${this.counter}` })
  }

  /** A new start; perhaps of an older disk. */
  restart(disk: Map<string, Item> | undefined): void {
    this.epoch = ++this.epochs
    this.counter = disk === undefined ? this.counter : 0
    if (disk !== undefined) this.items = new Map(disk)
  }
}

const valueOf = (name: string, { uid, phase }: Item): Buffer => Buffer.from(JSON.stringify({
  apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace: 'default', uid }, status: { phase }
}))

/** One schedule of faults. Afterwards every object has what its node says, and no epoch ever went backwards on any object. */
async function run(seed: number): Promise<void> {
  const random = new SeededRandom(seed)
  const clock = new HandClock()
  const cluster = new ScriptedCluster(clock)
  const informer = cluster.informer(kubeKinds.pods)
  const nodes = cluster.informer(kubeKinds.nodes)
  const node = new Node(random)
  let link = 0
  let told: { collection: string } | undefined
  let comparing = false
  let live = false
  let writer!: StatusWriter
  let targets!: UpTargets
  let again: (() => void) | undefined

  const open = (): void => {
    writer = new StatusWriter(statusWriterDefaults, { client: cluster, informers: [informer, nodes], clock, random, log: silentLog })
    const links = { connected: () => live }
    targets = new UpTargets({ collections: [podStatuses({ pods: informer, writer }), nodeStatuses({ nodes, links, writer })], clock, log: silentLog })
  }
  const send = (keys: Iterable<string>): void => {
    const puts = [...keys].flatMap(name => {
      const item = node.items.get(name)
      return item === undefined ? [] : [{ key: `default/${name}`, version: Buffer.from(item.version), value: valueOf(name, item) }]
    })
    const deletes = [...keys].filter(name => !node.items.has(name)).map(name => `default/${name}`)
    if (puts.length + deletes.length > 0) targets.of(edge).apply({ collection, puts, deletes, synced: true, position: '' }, () => {})
  }
  /** What a StateReader and a StateWriter do between them. */
  const compare = (session: number): void => {
    if (comparing) { told = { collection }; return }
    comparing = true
    const target = targets.of(edge)
    void Promise.resolve(target.digest(collection)).then(digest => {
      comparing = false
      if (session !== link) return
      const mine = [...node.items].map(([name, { version }]) => [`default/${name}`, version] as const).toSorted(([a], [b]) => a < b ? -1 : 1)
      live = true
      if (!digest.equals(stateDigest(mine))) {
        const theirs = new Map(target.keysFrom(collection, ''))
        const differing = new Set<string>()
        for (const name of new Set([...node.items.keys(), ...[...theirs.keys()].map(key => key.slice(8))])) {
          const [own, other] = [node.items.get(name)?.version, theirs.get(`default/${name}`)]
          if (own !== undefined && other !== undefined && own.equals(other)) continue
          // STA-34
          if (own !== undefined && other !== undefined && own.subarray(0, 8).equals(other.subarray(0, 8)) && Buffer.compare(other, own) > 0) {
            node.put(name, node.items.get(name)!.uid)
          }
          differing.add(name)
        }
        send(differing)
      }
      if (told !== undefined) { told = undefined; compare(session) }
    })
  }
  const connect = (): void => {
    const session = ++link
    live = false
    comparing = false
    again?.()
    again = targets.of(edge).subscribe!(() => { if (session === link) compare(session) })
    compare(session)
  }
  const cut = (): void => { link++; live = false; again?.(); again = undefined }

  for (const name of names) cluster.set(podPlace(name), () => newPod(name, 'edge-1', `${name}-0`))
  open()
  const disks: Map<string, Item>[] = []
  let faulty = true
  cluster.fault = () => {
    if (!faulty || random.chance(0.6)) return undefined
    const dice = random.next()
    if (dice < 0.25) return { kind: 'answer', status: 409 }
    if (dice < 0.45) return { kind: 'answer', status: 429, retryAfterSeconds: random.integer(1, 3) }
    if (dice < 0.65) return { kind: 'answer', status: 500 }
    if (dice < 0.8) return { kind: 'answer-lost' }
    if (dice < 0.85) return { kind: 'answer', status: 422 }
    return { kind: 'hang', ...random.chance(0.7) && { landsAfterMs: random.integer(1, 70_000) } }
  }
  cluster.beforeWrite = place => {
    if (faulty && random.chance(0.1)) cluster.set(place, () => newPod(place.name, 'edge-1', `${place.name}-${cluster.revision}`))
  }
  connect()
  for (let i = 0; i < 60; i++) {
    const dice = random.next()
    const name = names[random.integer(0, names.length - 1)]!
    if (dice < 0.5) {
      // The node follows the Pod that is there, in its own time.
      const uid = cluster.at(podPlace(name))?.metadata.uid
      if (uid === undefined) node.items.delete(name)
      else node.put(name, random.chance(0.9) ? uid : node.items.get(name)?.uid ?? uid)
      if (live) send([name])
    } else if (dice < 0.58) cut()
    else if (dice < 0.68) connect()
    else if (dice < 0.73) { cut(); disks.push(new Map(node.items)); node.restart(undefined); connect() }
    else if (dice < 0.76 && disks.length > 0) { cut(); node.restart(disks[random.integer(0, disks.length - 1)]); connect() }
    else if (dice < 0.8) informer.held = !informer.held
    else if (dice < 0.83) { cut(); targets.close(); writer.close(); open(); connect() }
    else if (dice < 0.86) cluster.set(podPlace(name), pod => pod === undefined ? newPod(name, 'edge-1', `${name}-${cluster.revision}`) : undefined)
    else if (dice < 0.9) cluster.set(podPlace(name), pod => pod === undefined ? undefined : { ...pod, metadata: { ...pod.metadata, annotations: {} } })
    if (!informer.held) informer.follow()
    await clock.pass(random.chance(0.5) ? random.integer(0, 200) : random.integer(0, 20_000))
  }
  faulty = false
  informer.held = false
  informer.follow()
  await clock.pass(120_000)
  for (const name of names) {
    const uid = cluster.at(podPlace(name))?.metadata.uid
    if (uid === undefined) node.items.delete(name)
    else if (node.items.get(name)?.uid !== uid) node.put(name, uid)
  }
  cut()
  connect()
  await clock.pass(400_000)
  await turns()

  for (const name of names) {
    const object = cluster.at(podPlace(name))
    const item = node.items.get(name)
    expect([name, recordedVersion(object), (object?.['status'] as JsonObject | undefined)?.['phase']])
      .toEqual(object === undefined ? [name, undefined, undefined] : [name, item!.version.toString('hex'), item!.phase])
  }
  // An epoch's counter never goes back on an object, whatever lands late; and no status is recorded under another's version.
  const last = new Map<string, string>()
  for (const object of cluster.history) {
    const version = recordedVersion(object)
    if (version === undefined) continue
    const id = `${object.metadata.uid} ${version.slice(0, 16)}`
    const before = last.get(id) ?? ''
    expect(version >= before, `seed ${seed}: ${id} went from ${before} to ${version}`).toBe(true)
    last.set(id, version)
    const phase = (object['status'] as JsonObject)['phase']
    expect(phase).toBe(`${parseInt(version.slice(0, 8), 16)}-${parseInt(version.slice(16), 16)}`)
  }
  targets.close()
  writer.close()
}

test('whatever fails, each object ends with what its node says, and nothing older lands on it (STA-31)', async () => {
  const first = Number(process.env['SEED'] ?? 1)
  const runs = Number(process.env['RUNS'] ?? 60)
  for (let seed = first; seed < first + runs; seed++) {
    try {
      await run(seed)
    } catch (error) {
      throw new Error(`seed ${seed}`, { cause: error })
    }
  }
})
