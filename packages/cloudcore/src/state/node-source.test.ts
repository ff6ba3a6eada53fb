import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { parseNodeName, silentLog } from '@holdfast/runtime'
import type { Log, NodeName } from '@holdfast/runtime'
import { HandClock } from '@holdfast/runtime/testing'
import { stateDigest } from '@holdfast/sync'
import type { StateListener, StateSource } from '@holdfast/sync'
import { nodeViewLimits } from './limits.ts'
import { NodeSources } from './node-source.ts'
import { NodeViews } from './node-view.ts'
import { MemoryCluster, memoryInformers } from './testing/memory-cluster.ts'
import type { MemoryInformer } from './testing/memory-cluster.ts'
import { MemoryNode, MemorySession } from './testing/memory-node.ts'
import { downCollections } from './view-collections.ts'
import type { DownCollection } from './view-collections.ts'
import { formatPosition, parsePosition } from './view-position.ts'

const runs = { numRuns: Number(process.env['RUNS'] ?? 100), ...process.env['SEED'] !== undefined &&
  { seed: Number(process.env['SEED']) } }

const edge = parseNodeName('edge-1')!
const uid = '6f1c'
const aheadMs = nodeViewLimits.positionAheadMs.value
const intervalMs = nodeViewLimits.askIntervalMs.value

/** A cloudcore: informers of a cluster, and what goes down from them. */
class Cloud {
  readonly informers: Record<DownCollection, MemoryInformer>
  readonly sources: NodeSources

  constructor(cluster: MemoryCluster, clock: HandClock, log: Log = silentLog) {
    this.informers = memoryInformers(cluster)
    this.sources = new NodeSources({ informers: this.informers, clock, log })
  }

  start(): this {
    this.sources.identify(uid)
    for (const informer of Object.values(this.informers)) informer.list()
    return this
  }

  close(): void {
    this.sources.close()
    for (const informer of Object.values(this.informers)) informer.stop()
  }

  get relists(): number { return Object.values(this.informers).reduce((sum, { relists }) => sum + relists, 0) }
}

let cluster: MemoryCluster
let clock: HandClock
let clouds: Cloud[]

beforeEach(() => {
  cluster = new MemoryCluster()
  clock = new HandClock()
  clouds = []
  fill(cluster)
})

afterEach(() => { for (const cloud of clouds) cloud.close() })

function newCloud(log?: Log): Cloud {
  const cloud = new Cloud(cluster, clock, log)
  clouds.push(cloud)
  return cloud
}

/** A pod that uses one object of each kind, and a Secret that nobody uses. */
function fill(target: MemoryCluster): void {
  target.put('nodes', edge)
  target.put('serviceaccounts', 'x/default', { imagePullSecrets: [{ name: 'pull' }] })
  target.put('secrets', 'x/pull')
  target.put('secrets', 'x/mounted', { data: { a: 'YQ==' } })
  target.put('secrets', 'x/other')
  target.put('configmaps', 'x/settings', { data: { a: '1' } })
  target.put('services', 'x/web', { spec: { selector: { app: 'web' } } })
  target.put('pods', 'x/web', podOn(edge), { labels: { app: 'web' } })
}

const podOn = (nodeName: string): object => ({ spec: {
  nodeName, containers: [{ envFrom: [{ configMapRef: { name: 'settings' } }] }], volumes: [{ secret: { secretName: 'mounted' } }]
} })

/** The view from scratch, as a node would hold it. */
function expected(of: MemoryCluster, node: NodeName = edge): Record<string, string> {
  const views = new NodeViews({ lookUp: (collection, key) => of.objects.get(`${collection} ${key}`), onChanged: () => {} })
  for (const [id, object] of of.objects) views.changed(...id.split(' ') as [DownCollection, string], object)
  const view = views.open(node)
  return Object.fromEntries(downCollections.flatMap(collection => [...view.keysFrom(collection, '')]
    .map(([key]) => [`${collection} ${key}`, view.value(collection, key)!.toString()] as const)).toSorted(([a], [b]) => a < b ? -1 : 1))
}

/** Listens as a session does. */
function listen(source: StateSource): { keys: string[], collections: string[], stop: () => void } {
  const keys: string[] = []
  const collections: string[] = []
  const listener: StateListener = {
    keyChanged: (collection, key) => { keys.push(`${collection} ${key}`) },
    collectionChanged: collection => { collections.push(collection) }
  }
  return { keys, collections, stop: source.subscribe(listener) }
}

const readyOf = (source: StateSource, positions: (collection: DownCollection) => string = () => ''): string[] =>
  downCollections.filter(collection => source.ready(collection, positions(collection)))

describe('positions', () => {
  test('a position names the API and each informer that the collection is made of (STA-46)', () => {
    const source = newCloud().start().sources.of(edge)
    expect(source.position('nodes')).toBe('6f1c nodes=108')
    expect(source.position('secrets')).toBe('6f1c secrets=108,pods=108,serviceaccounts=108')
    expect(source.position('services')).toBe('6f1c services=108,pods=108')
    expect(source.position('devicemodels')).toBe('6f1c devicemodels=108,devices=108')
    expect(source.position('jobs')).toBe('')
  })

  test('the longest fits what a frame takes', () => {
    const long = formatPosition('u'.repeat(128), downCollections.map(name => [name, '18446744073709551615']))
    expect(long.length).toBeLessThanOrEqual(512)
    expect(parsePosition('u'.repeat(128), long).size).toBe(downCollections.length)
  })

  test('what cannot be read, or is of another API, says nothing', () => {
    const all = ['', uid, `${uid} `, `${uid} pods`, `${uid} pods=`, `${uid} pods=-1`, `${uid} pods=01`, `${uid} pods=1,pods=2`, `${uid}  pods=1`,
      `${uid} pods=${'9'.repeat(21)}`, `${uid} ${'pods=1,'.repeat(100)}`, `other pods=1`, `${uid}x pods=1`, `${uid} pods=1 `]
    expect(all.filter(text => parsePosition(uid, text).size > 0)).toEqual([])
    expect([...parsePosition(uid, `${uid} pods=0,nodes=18446744073709551615`)]).toEqual([['pods', '0'], ['nodes', '18446744073709551615']])
    expect(() => { newCloud().sources.identify('a b') }).toThrow(/invariant/)
  })

  test('a bookmark moves the position of a quiet collection', () => {
    const { informers, sources } = newCloud().start()
    cluster.put('pods', 'x/elsewhere', podOn('edge-2'))
    expect(sources.of(edge).position('nodes')).toBe('6f1c nodes=108')
    informers.nodes.bookmark()
    expect(sources.of(edge).position('nodes')).toBe('6f1c nodes=109')
  })
})

describe('not knowing is not deleting (STA-12)', () => {
  test('a collection is ready when all that it is made of was listed, and the API is known', async () => {
    const { informers, sources } = newCloud()
    const source = sources.of(edge)
    const { collections } = listen(source)
    expect(readyOf(source)).toEqual([])
    informers.nodes.list()
    informers.secrets.list()
    informers.configmaps.list()
    await clock.pass(1000)
    expect([readyOf(source), collections]).toEqual([[], []])
    sources.identify(uid)
    await clock.pass(1000)
    expect([readyOf(source), collections]).toEqual([['nodes'], ['nodes']])
    informers.pods.list()
    await clock.pass(1000)
    expect(readyOf(source)).toEqual(['configmaps', 'pods', 'nodes'])
    informers.serviceaccounts.list()
    informers.services.list()
    informers.devicemodels.list()
    await clock.pass(1000)
    expect(readyOf(source)).toEqual(downCollections.slice(0, -2))
    informers.devices.list()
    await clock.pass(1000)
    expect(readyOf(source)).toEqual([...downCollections])
    expect(collections.toSorted()).toEqual([...downCollections].toSorted())
  })

  test('a list whose objects are there already when the sources are made counts', () => {
    const informers = memoryInformers(cluster)
    for (const informer of Object.values(informers)) informer.list()
    const sources = new NodeSources({ informers, clock, log: silentLog })
    sources.identify(uid)
    expect(readyOf(sources.of(edge))).toEqual([...downCollections])
    expect(sources.of(edge).version('secrets', 'x/mounted')).toBeDefined()
    sources.close()
    expect(Object.values(informers).map(({ listeners }) => listeners)).toEqual(downCollections.map(() => 0))
  })

  test('an informer that lags keeps everything back that depends on it, until it has come so far', async () => {
    const before = newCloud().start().sources.of(edge)
    const positions = Object.fromEntries(downCollections.map(name => [name, before.position(name)]))
    const { informers, sources } = newCloud()
    sources.identify(uid)
    for (const informer of Object.values(informers)) informer.list()
    informers.pods.list({ revision: 104, objects: new Map() })
    const source = sources.of(edge)
    const { collections, keys } = listen(source)
    expect(readyOf(source, name => positions[name]!)).toEqual(['nodes', 'devicemodels', 'devices'])
    expect(readyOf(source)).toEqual([...downCollections])
    expect(readyOf(source, name => positions[name]!)).toEqual(['nodes', 'devicemodels', 'devices'])
    informers.pods.list()
    await clock.pass(nodeViewLimits.lookAgainMs.value)
    expect(collections.toSorted()).toEqual(['configmaps', 'pods', 'secrets', 'serviceaccounts', 'services'])
    expect(keys).toContain('secrets x/mounted')
    expect(readyOf(source, name => positions[name]!)).toEqual([...downCollections])
    expect(informers.pods.relists).toBe(0)
  })

  test('an informer that dropped what it had is not ready', () => {
    const { informers, sources } = newCloud().start()
    const source = sources.of(edge)
    informers.serviceaccounts.synced = false
    expect(readyOf(source)).toEqual(['configmaps', 'services', 'pods', 'nodes', 'devicemodels', 'devices'])
  })

  test('positions of another API, and of none, hold nothing up', () => {
    const source = newCloud().start().sources.of(edge)
    for (const told of ['other pods=999999', 'nonsense', `${uid} pods=999999999999999999999999`]) expect(source.ready('pods', told)).toBe(true)
    expect(source.ready('jobs', '')).toBe(false)
  })
})

describe('a source that went back', () => {
  const ahead = (version: number): string => `${uid} pods=${version}`

  test('the API is asked once a position has been ahead for a while, and its answer counts', async () => {
    const { informers, sources } = newCloud().start()
    const source = sources.of(edge)
    const { collections } = listen(source)
    expect(source.ready('pods', ahead(500))).toBe(false)
    await clock.pass(aheadMs - 1)
    expect([informers.pods.relists, source.ready('pods', ahead(500))]).toEqual([0, false])
    await clock.pass(100)
    expect([informers.pods.relists, collections]).toEqual([1, ['pods']])
    expect(source.ready('pods', ahead(500))).toBe(true)
    expect(source.ready('configmaps', `${uid} configmaps=9,pods=500`)).toBe(false)
  })

  test('where the API did not go back, nothing is ready until the informer is there', async () => {
    const { informers, sources } = newCloud().start()
    const source = sources.of(edge)
    informers.pods.following = false
    cluster.put('pods', 'x/new', podOn(edge))
    listen(source)
    expect(source.ready('pods', ahead(109))).toBe(false)
    await clock.pass(aheadMs + 100)
    expect(source.position('pods')).toBe(ahead(109))
    expect(source.ready('pods', ahead(109))).toBe(true)
    expect(source.version('pods', 'x/new')).toBeDefined()
  })

  test('a list that fails says nothing; it is asked again, less and less often', async () => {
    const told: unknown[] = []
    const { informers, sources } = newCloud({ ...silentLog, warn: (message, fields) => { told.push([message, fields]) } }).start()
    const source = sources.of(edge)
    informers.pods.answer = () => Promise.reject(new Error('Forbidden'))
    listen(source)
    expect(source.ready('pods', ahead(500))).toBe(false)
    await clock.pass(10 * intervalMs)
    expect(informers.pods.relists).toBe(3)
    expect(source.ready('pods', ahead(500))).toBe(false)
    expect(told[0]).toEqual([expect.stringContaining('does not say'), { kind: 'pods', error: 'Forbidden' }])
    informers.pods.answer = () => Promise.resolve()
    await clock.pass(10 * intervalMs)
    expect(source.ready('pods', ahead(500))).toBe(true)
    expect(told.at(-1)).toEqual([expect.stringContaining('went back'), { kind: 'pods', told: '500', before: '108', now: '108' }])
  })

  test('a thousand nodes share one list, and those that come later the next one', async () => {
    const { informers, sources } = newCloud().start()
    const nodes = Array.from({ length: 1000 }, (_, i) => sources.of(parseNodeName(`edge-${i}`)!))
    const heard = nodes.map(listen)
    nodes.forEach((source, i) => { expect(source.ready('pods', ahead(1000 + i))).toBe(false) })
    await clock.pass(aheadMs + 100)
    expect(informers.pods.relists).toBe(1)
    expect(heard.every(({ collections }) => collections.length === 1)).toBe(true)
    expect(nodes.every((source, i) => source.ready('pods', ahead(1000 + i)))).toBe(true)
    for (const each of heard) each.stop()
    nodes.forEach(listen)
    nodes.forEach((source, i) => { expect(source.ready('pods', ahead(2000 + i))).toBe(false) })
    await clock.pass(aheadMs + 100)
    expect(informers.pods.relists).toBe(1)
    await clock.pass(intervalMs)
    expect(informers.pods.relists).toBe(2)
    expect(nodes.every((source, i) => source.ready('pods', ahead(2000 + i)))).toBe(true)
  })

  test('a list that had begun when a position was told says nothing of it', async () => {
    const { informers, sources } = newCloud().start()
    const [early, late] = ['edge-1', 'edge-2'].map(name => sources.of(parseNodeName(name)!))
    let answer = (): void => {}
    informers.pods.answer = () => new Promise(resolve => { answer = resolve })
    listen(early!)
    listen(late!)
    expect(early!.ready('pods', ahead(500))).toBe(false)
    await clock.pass(aheadMs)
    expect(late!.ready('pods', ahead(500))).toBe(false)
    answer()
    await clock.pass(100)
    expect([early!.ready('pods', ahead(500)), late!.ready('pods', ahead(500))]).toEqual([true, false])
  })

  test('an answer is old once the source goes back again, and for the next session', async () => {
    const { informers, sources } = newCloud().start()
    const source = sources.of(edge)
    const first = listen(source)
    expect(source.ready('pods', ahead(500))).toBe(false)
    await clock.pass(aheadMs + 100)
    expect(source.ready('pods', ahead(500))).toBe(true)
    cluster.restore({ revision: 50, objects: new Map() })
    informers.pods.list()
    expect(source.ready('pods', ahead(500))).toBe(false)
    cluster.revision = 200
    informers.pods.bookmark()
    expect(source.ready('pods', ahead(500))).toBe(false)
    await clock.pass(intervalMs)
    expect([informers.pods.relists, source.ready('pods', ahead(500))]).toEqual([2, true])
    first.stop()
    listen(source)
    expect(source.ready('pods', ahead(500))).toBe(false)
  })

  test('where nobody waits any more nothing is asked, and nothing is left behind', async () => {
    const { informers, sources } = newCloud().start()
    const source = sources.of(edge)
    const { stop, collections } = listen(source)
    expect(source.ready('pods', ahead(500))).toBe(false)
    stop()
    await clock.pass(10 * intervalMs)
    expect([informers.pods.relists, collections]).toEqual([0, []])
    listen(source)
    expect(source.ready('pods', ahead(500))).toBe(false)
    sources.close()
    expect(clock.timers).toBe(0)
  })
})

describe('a node', () => {
  const connect = (source: StateSource, node: MemoryNode): MemorySession => {
    const session = new MemorySession(source, node)
    session.run()
    return session
  }

  test('gets its view and nothing else, and what changes of it', () => {
    const { sources } = newCloud().start()
    const node = new MemoryNode()
    const session = connect(sources.of(edge), node)
    expect(node.show()).toEqual(expected(cluster))
    expect(Object.keys(node.show())).toEqual([
      'configmaps x/settings', 'nodes edge-1', 'pods x/web', 'secrets x/mounted', 'secrets x/pull', 'serviceaccounts x/default', 'services x/web'
    ])
    cluster.put('secrets', 'x/other', { data: { a: 'Yg==' } })
    cluster.put('configmaps', 'x/settings', { data: { a: '2' } })
    cluster.delete('secrets', 'x/pull')
    session.run()
    expect(node.show()).toEqual(expected(cluster))
    cluster.delete('pods', 'x/web')
    session.run()
    expect(Object.keys(node.show())).toEqual(['nodes edge-1'])
    expect(session.writer.settled).toBe(true)
  })

  test('sends one digest a collection and is sent nothing where nothing changed, after a restart of cloudcore too (STA-14)', () => {
    const node = new MemoryNode()
    connect(newCloud().start().sources.of(edge), node).close()
    // Statuses and heartbeats are not what goes down.
    cluster.put('pods', 'x/web', { ...podOn(edge), status: { phase: 'Running' } }, { labels: { app: 'web' } })
    cluster.put('nodes', edge, { status: { conditions: [] } }, { annotations: { 'holdfast.dev/state': 'e:1' } })
    node.batches.length = 0
    const session = connect(newCloud().start().sources.of(edge), node)
    expect(session.stats.verdicts).toEqual({ ...session.stats.verdicts, equal: downCollections.length, differs: 0, 'not-ready': 0 })
    expect(node.batches).toEqual([])
  })

  test('keeps everything while lists fail or lag, whatever else comes', async () => {
    const node = new MemoryNode()
    connect(newCloud().start().sources.of(edge), node).close()
    const before = node.show()
    const { informers, sources } = newCloud()
    sources.identify(uid)
    // Secrets cannot be listed at all; ConfigMaps come from a replica that does not have them yet.
    for (const name of ['serviceaccounts', 'services', 'pods', 'nodes'] as const) informers[name].list()
    informers.configmaps.answer = () => Promise.reject(new Error('unavailable'))
    informers.configmaps.list({ revision: 103, objects: new Map() })
    const session = connect(sources.of(edge), node)
    cluster.put('pods', 'x/second', podOn(edge))
    await clock.pass(aheadMs + intervalMs)
    session.run()
    expect(node.show()).toEqual({ ...before, 'pods x/second': expected(cluster)['pods x/second'] })
    expect(session.writer.notReady).toEqual(['secrets', 'configmaps', 'devicemodels', 'devices'])
    for (const name of ['secrets', 'configmaps', 'devicemodels', 'devices'] as const) informers[name].list()
    await clock.pass(100)
    session.run()
    expect(node.show()).toEqual(expected(cluster))
    expect(session.writer.notReady).toEqual([])
  })

  test('keeps its devices while the cluster does not know the kinds any more, and is sent the rest (STA-12)', async () => {
    cluster.put('devicemodels', 'x/m')
    cluster.put('devices', 'x/d', { spec: { nodeName: edge, deviceModelRef: { name: 'm' } } })
    const node = new MemoryNode()
    connect(newCloud().start().sources.of(edge), node).close()
    const before = node.show()
    expect(Object.keys(before)).toEqual(expect.arrayContaining(['devicemodels x/m', 'devices x/d']))
    const { informers, sources } = newCloud()
    sources.identify(uid)
    for (const name of downCollections) if (name !== 'devices' && name !== 'devicemodels') informers[name].list()
    cluster.delete('devices', 'x/d')
    cluster.put('pods', 'x/second', podOn(edge))
    const session = connect(sources.of(edge), node)
    await clock.pass(intervalMs)
    session.run()
    expect(node.show()).toEqual({ ...before, 'pods x/second': expected(cluster)['pods x/second'] })
    for (const name of ['devicemodels', 'devices'] as const) informers[name].list()
    await clock.pass(100)
    session.run()
    expect(node.show()).toEqual(expected(cluster))
  })

  test('follows a cluster that was restored from a backup, in mid-session and at connect', async () => {
    const backup = cluster.state
    cluster.put('configmaps', 'x/settings', { data: { a: 'after the backup' } })
    cluster.put('pods', 'x/second', podOn(edge))
    cluster.delete('secrets', 'x/pull')
    const [live, away] = [new MemoryNode(), new MemoryNode()]
    const cloud = newCloud().start()
    const session = connect(cloud.sources.of(edge), live)
    connect(cloud.sources.of(edge), away).close()
    const again = connect(cloud.sources.of(edge), live)
    session.close()
    cluster.restore(backup)
    for (const informer of Object.values(cloud.informers)) informer.list()
    again.run()
    expect(Object.keys(live.show())).toContain('pods x/second')
    await clock.pass(aheadMs + 100)
    again.run()
    expect(live.show()).toEqual(expected(cluster))
    again.close()
    const later = connect(newCloud().start().sources.of(edge), away)
    expect(later.writer.notReady.length).toBeGreaterThan(0)
    await clock.pass(aheadMs + 100)
    later.run()
    expect(away.show()).toEqual(expected(cluster))
  })

  test('drops what is gone and takes what was made anew, after it was away', () => {
    const node = new MemoryNode()
    const { sources } = newCloud().start()
    connect(sources.of(edge), node).close()
    cluster.delete('secrets', 'x/mounted')
    cluster.delete('configmaps', 'x/settings')
    cluster.put('configmaps', 'x/settings', { data: { a: '1' } })
    connect(sources.of(edge), node)
    expect(node.show()).toEqual(expected(cluster))
    expect(node.show()['configmaps x/settings']).toContain(cluster.objects.get('configmaps x/settings')!.metadata.uid)
  })

  test('its digest is not made anew as long as nothing changes', () => {
    const source = newCloud().start().sources.of(edge)
    const digest = source.digest('secrets')
    expect(source.digest('secrets')).toBe(digest)
    cluster.put('secrets', 'x/other', { data: { a: 'Yg==' } })
    expect(source.digest('secrets')).toBe(digest)
    cluster.put('secrets', 'x/pull', { data: { a: 'Yg==' } })
    expect(source.digest('secrets')).not.toEqual(digest)
    expect(source.digest('secrets')).toEqual(stateDigest(source.keysFrom('secrets', '')))
  })
})

// ── anything, in any order ───────────────────────────────────────────────────────────────────────────────────────────

const collection = fc.constantFrom(...downCollections)
const name = fc.constantFrom('a', 'b')
const cloudStep = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('put'), collection: fc.constantFrom('secrets' as const, 'configmaps' as const), name, value: fc.nat(3) }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('pod'), name, node: fc.constantFrom('edge-1', 'edge-1', 'edge-2'), uses: name }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('account'), uses: name }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('device'), name, node: fc.constantFrom('edge-1', 'edge-1', 'edge-2'), uses: name }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('model'), name, value: fc.nat(3) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('delete'), collection: fc.constantFrom(
    'secrets' as const, 'configmaps' as const, 'pods' as const, 'devices' as const, 'devicemodels' as const), name }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('break'), collection }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('list'), collection, lag: fc.nat(12) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('fail'), collection, fails: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('bookmark'), collection }) },
  { weight: 8, arbitrary: fc.record({ kind: fc.constant('run'), frames: fc.integer({ min: 1, max: 12 }) }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('pass'), ms: fc.constantFrom(20, 1000, 12_000) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('reconnect') }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('restart') }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('restore'), back: fc.nat(15) }) }
)

test('whatever fails, lags, restarts or is restored, a node loses nothing that was there all along, and is right in the end (L6)', async () => {
  await fc.assert(fc.asyncProperty(fc.array(cloudStep, { maxLength: 60, size: 'max' }), async steps => {
    const of = new MemoryCluster()
    const hand = new HandClock()
    // Of the namespace x: there from the start, and never touched.
    fill(of)
    of.put('devicemodels', 'x/m')
    of.put('devices', 'x/d', { spec: { nodeName: edge, deviceModelRef: { name: 'm' } } })
    const always = Object.entries(expected(of)).filter(([id]) => id.includes(' x/') || id === 'nodes edge-1')
    const node = new MemoryNode()
    const history = [of.state]
    let cloud = new Cloud(of, hand).start()
    let session = new MemorySession(cloud.sources.of(edge), node)
    session.run()
    const check = (): void => { for (const [id, value] of always) expect(node.show()[id], id).toBe(value) }
    check()
    const connectAgain = (): void => {
      session.close()
      session = new MemorySession(cloud.sources.of(edge), node)
    }
    for (const each of steps) {
      const { informers } = cloud
      switch (each.kind) {
        case 'put': of.put(each.collection, `y/${each.name}`, { data: { value: each.value } }); break
        case 'pod': of.put('pods', `y/${each.name}`, { spec: {
          nodeName: each.node, volumes: [{ secret: { secretName: each.uses } }, { configMap: { name: each.uses } }]
        } }); break
        case 'account': of.put('serviceaccounts', 'y/default', { secrets: [{ name: each.uses }] }); break
        case 'device': of.put('devices', `y/${each.name}`, { spec: { nodeName: each.node, deviceModelRef: { name: each.uses } } }); break
        case 'model': of.put('devicemodels', `y/${each.name}`, { spec: { properties: [{ name: 't', unit: String(each.value) }] } }); break
        case 'delete': of.delete(each.collection, `y/${each.name}`); break
        case 'break': informers[each.collection].following = false; break
        case 'list': {
          if (informers[each.collection].following) break
          // From a replica: older than what the informer had, perhaps.
          informers[each.collection].list(each.lag > 8 ? undefined : history.at(-1 - Math.min(each.lag, history.length - 1)))
          break
        }
        case 'fail': informers[each.collection].answer = () => each.fails ? Promise.reject(new Error('down')) : Promise.resolve(); break
        case 'bookmark': if (informers[each.collection].following) informers[each.collection].bookmark(); break
        case 'run': session.run(each.frames); break
        case 'pass': await hand.pass(each.ms); break
        case 'reconnect': connectAgain(); break
        case 'restart': {
          cloud.close()
          for (const informer of Object.values(cloud.informers)) informer.stop()
          cloud = new Cloud(of, hand)
          cloud.sources.identify(uid)
          connectAgain()
          break
        }
        case 'restore': {
          of.restore(history.at(-1 - Math.min(each.back, history.length - 1))!)
          for (const informer of Object.values(informers)) informer.following = false
          break
        }
      }
      history.push(of.state)
      check()
    }
    for (const informer of Object.values(cloud.informers)) {
      informer.answer = () => Promise.resolve()
      if (!informer.following) informer.list()
    }
    for (let round = 0; round < 50 && !session.writer.settled; round++) {
      session.run()
      await hand.pass(intervalMs)
    }
    session.run()
    check()
    expect(session.writer.settled).toBe(true)
    expect(node.show()).toEqual(expected(of))
    session.close()
    cloud.close()
    expect(hand.timers).toBe(0)
  }), runs)
})
