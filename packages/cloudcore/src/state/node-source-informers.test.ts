import fc from 'fast-check'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { parseNodeName, SeededRandom, silentLog } from '@holdfast/runtime'
import { HandClock } from '@holdfast/runtime/testing'
import { ListInformer } from '../kube/list-informer.ts'
import { NodeSources } from './node-source.ts'
import { NodeViews } from './node-view.ts'
import { MemoryClient } from './testing/memory-client.ts'
import { MemoryCluster } from './testing/memory-cluster.ts'
import { MemoryNode, MemorySession } from './testing/memory-node.ts'
import { downCollections, viewKinds } from './view-collections.ts'
import type { DownCollection } from './view-collections.ts'

// What goes down to a node, with the informers that cloudcore has, from an API that fails in the ways that APIs do.

const runs = { numRuns: Number(process.env['RUNS'] ?? 60), ...process.env['SEED'] !== undefined &&
  { seed: Number(process.env['SEED']) } }
const edge = parseNodeName('edge-1')!

/** A cloudcore, a cluster, and one node with a session. */
class World {
  readonly clock = new HandClock()
  readonly cluster = new MemoryCluster(10)
  readonly client: MemoryClient
  readonly node = new MemoryNode()
  session: MemorySession
  sources: NodeSources
  #stop = new AbortController()
  #running: Promise<unknown>

  constructor() {
    this.cluster.put('nodes', edge)
    this.cluster.put('serviceaccounts', 'x/default')
    this.cluster.put('secrets', 'x/s', { data: { a: 'YQ==' } })
    this.cluster.put('secrets', 'x/other')
    this.cluster.put('configmaps', 'x/c', { data: { a: '1' } })
    this.pod('x/p', 's', 'c')
    this.client = new MemoryClient(this.cluster);
    [this.sources, this.#running] = this.#start()
    this.session = this.#connect()
  }

  pod(key: string, secret: string, configMap: string, nodeName: string = edge): void {
    this.cluster.put('pods', key, { spec: { nodeName, volumes: [{ secret: { secretName: secret } }, { configMap: { name: configMap } }] } })
  }

  #start(): [NodeSources, Promise<unknown>] {
    const { client, clock } = this
    this.#stop = new AbortController()
    const informers = Object.fromEntries(downCollections.map((name, i) => [name, new ListInformer(
      { kind: viewKinds[name] }, { client, clock, random: new SeededRandom(i), log: silentLog })])) as Record<DownCollection, ListInformer>
    const sources = new NodeSources({ informers, clock, log: silentLog })
    sources.identify('uid')
    return [sources, Promise.all(Object.values(informers).map(informer => informer.run(this.#stop.signal)))]
  }

  #connect(): MemorySession {
    const session = new MemorySession(this.sources.of(edge), this.node)
    session.run()
    return session
  }

  reconnect(): void {
    this.session.close()
    this.session = this.#connect()
  }

  /** cloudcore dies and starts anew. */
  async restart(): Promise<void> {
    await this.close();
    [this.sources, this.#running] = this.#start()
    this.session = this.#connect()
  }

  async close(): Promise<void> {
    this.session.close()
    this.sources.close()
    this.#stop.abort(new Error('stopped'))
    await this.#running
  }

  /** So much time passes, and whatever wants to be sent arrives. */
  async pass(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= 1000) {
      await this.clock.pass(Math.min(left, 1000))
      this.session.run()
    }
  }

  expected(): Record<string, string> {
    const { objects } = this.cluster
    const views = new NodeViews({ lookUp: (collection, key) => objects.get(`${collection} ${key}`), onChanged: () => {} })
    for (const [id, object] of objects) views.changed(...id.split(' ') as [DownCollection, string], object)
    const view = views.open(edge)
    return Object.fromEntries(downCollections.flatMap(collection => [...view.keysFrom(collection, '')]
      .map(([key]) => [`${collection} ${key}`, view.value(collection, key)!.toString()] as const)).toSorted(([a], [b]) => a < b ? -1 : 1))
  }
}

let world: World
beforeEach(() => { world = new World() })
afterEach(async () => { await world.close() })

test('a Secret changes on the node when it changes in the cluster', async () => {
  await world.pass(1000)
  expect(Object.keys(world.node.show())).toEqual(['configmaps x/c', 'nodes edge-1', 'pods x/p', 'secrets x/s', 'serviceaccounts x/default'])
  world.cluster.put('secrets', 'x/s', { data: { a: 'Yg==' } })
  world.cluster.put('secrets', 'x/other', { data: { a: 'Yg==' } })
  await world.pass(100)
  expect(world.node.show()).toEqual(world.expected())
})

test('where Secrets may not be read any more the node keeps those that it has, and everything else goes on', async () => {
  await world.pass(1000)
  const before = world.node.show()
  world.client.forbidden.add('secrets')
  world.client.cut(true)
  await world.restart()
  world.cluster.delete('configmaps', 'x/c')
  world.cluster.put('secrets', 'x/s', { data: { a: 'Yg==' } })
  await world.pass(120_000)
  const { 'configmaps x/c': _, ...kept } = before
  expect(world.node.show()).toEqual(kept)
  expect(world.session.writer.notReady).toEqual(['secrets'])
  world.client.forbidden.clear()
  await world.pass(60_000)
  expect(world.node.show()).toEqual(world.expected())
})

test('ten minutes without the API lose nothing, and what changed meanwhile comes', async () => {
  await world.pass(1000)
  const before = world.node.show()
  world.client.down = true
  world.client.cut(false)
  world.cluster.delete('secrets', 'x/s')
  world.cluster.delete('configmaps', 'x/c')
  world.cluster.put('configmaps', 'x/c', { data: { a: 'made anew' } })
  await world.pass(300_000)
  await world.restart()
  await world.pass(300_000)
  expect(world.node.show()).toEqual(before)
  world.client.down = false
  await world.pass(60_000)
  expect(world.node.show()).toEqual(world.expected())
})

test('a restored cluster is what the node holds in the end, whether cloudcore was there or not', async () => {
  for (const isThere of [true, false]) {
    const backup = world.cluster.state
    await world.pass(1000)
    world.cluster.put('secrets', 'x/s', { data: { a: 'after the backup' } })
    world.pod('x/later', 's', 'c')
    await world.pass(1000)
    expect(world.node.show()).toEqual(world.expected())
    world.client.restore(backup, false)
    if (!isThere) await world.restart()
    await world.pass(90_000)
    expect(world.node.show()).toEqual(world.expected())
    expect(Object.keys(world.node.show())).not.toContain('pods x/later')
  }
})

test('a server that lags takes nothing back', async () => {
  const empty = { revision: 100, objects: new Map<string, never>() }
  await world.pass(1000)
  const before = world.node.show()
  world.client.replica = empty
  await world.restart()
  // Until the API itself is asked.
  await world.pass(900)
  expect(world.session.writer.notReady).toEqual(['serviceaccounts', 'secrets', 'configmaps', 'pods', 'nodes'])
  expect(world.node.show()).toEqual(before)
  world.client.replica = undefined
  await world.pass(60_000)
  expect(world.node.show()).toEqual(world.expected())
})

const name = fc.constantFrom('a', 'b')
const kind = fc.constantFrom('secrets' as const, 'configmaps' as const)
const step = fc.oneof(
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('put'), of: kind, name, value: fc.nat(3) }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('pod'), name, uses: name, node: fc.constantFrom('edge-1', 'edge-1', 'edge-2') }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('delete'), of: fc.constantFrom('secrets' as const, 'configmaps' as const, 'pods' as const), name }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('cut'), isExpired: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('forbid'), of: fc.constantFrom(...downCollections), forbidden: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('down'), down: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('restore'), back: fc.nat(12), isRaised: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('reconnect') }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('restart') }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('frames'), count: fc.nat(6) }) },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('pass'), ms: fc.constantFrom(1, 100, 1000, 30_000) }) }
)

test('whatever the API does, the node loses nothing that was there all along, and is right in the end (L6)', { timeout: 60_000 }, async () => {
  await fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 40, size: 'max' }), async steps => {
    const of = new World()
    const { client, cluster } = of
    await of.pass(1000)
    const always = Object.entries(of.expected())
    const history = [cluster.state]
    const check = (): void => { for (const [id, value] of always) expect(of.node.show()[id], id).toBe(value) }
    for (const each of steps) {
      switch (each.kind) {
        case 'put': cluster.put(each.of, `y/${each.name}`, { data: { value: each.value } }); break
        case 'pod': of.pod(`y/${each.name}`, each.uses, each.uses, each.node); break
        case 'delete': cluster.delete(each.of, `y/${each.name}`); break
        case 'cut': client.cut(each.isExpired); break
        case 'forbid': {
          if (each.forbidden) client.forbidden.add(each.of)
          else client.forbidden.delete(each.of)
          client.cut(false)
          break
        }
        case 'down': {
          client.down = each.down
          client.cut(false)
          break
        }
        case 'restore': {
          // One that goes back, and past where it was before anybody looks, nobody can see.
          if (!each.isRaised && (client.down || client.forbidden.size > 0)) break
          client.restore(history.at(-1 - Math.min(each.back, history.length - 1))!, each.isRaised)
          if (!each.isRaised) await of.pass(90_000)
          break
        }
        case 'reconnect': of.reconnect(); break
        case 'restart': await of.restart(); break
        case 'frames': of.session.run(each.count); break
        case 'pass': await of.pass(each.ms); break
      }
      history.push(cluster.state)
      check()
    }
    client.down = false
    client.forbidden.clear()
    client.cut(true)
    // An informer pauses for half a minute at most before it tries again.
    for (let round = 0; round < 20 && !(round > 3 && of.session.writer.settled); round++) await of.pass(30_000)
    check()
    expect(of.node.show()).toEqual(of.expected())
    await of.close()
    client.stop()
  }), runs)
})
