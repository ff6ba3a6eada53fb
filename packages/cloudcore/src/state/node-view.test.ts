import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { KubeObject } from '@holdfast/kube-api'
import { parseNodeName } from '@holdfast/runtime'
import { contentVersion, stateDigest } from '@holdfast/sync'
import { NodeViews } from './node-view.ts'
import type { NodeView } from './node-view.ts'
import { downCollections, isBoundCollection } from './view-collections.ts'
import type { DownCollection } from './view-collections.ts'
import { projectedValue } from './view-projection.ts'

const runs = { numRuns: Number(process.env['RUNS'] ?? 100), ...process.env['SEED'] !== undefined &&
  { seed: Number(process.env['SEED']) } }

type Contents = Record<string, string>

/** Objects by `collection key`, and views of them. */
class World {
  readonly objects = new Map<string, KubeObject>()
  readonly told: string[] = []
  readonly opened = new Map<string, NodeView>()
  onTold: () => void = () => {}
  #uids = 0
  readonly views = new NodeViews({
    lookUp: (collection, key) => this.objects.get(`${collection} ${key}`),
    onChanged: (node, collection, key) => {
      this.told.push(`${node} ${collection} ${key}`)
      this.onTold()
    }
  })

  uid(): string { return `uid-${++this.#uids}` }

  open(node: string): NodeView {
    const view = this.views.open(parseNodeName(node)!)
    this.opened.set(node, view)
    return view
  }

  put(collection: DownCollection, key: string, body: object = {}, metadata: object = {}): void {
    this.set(collection, key, made(key, this.uid(), body, metadata))
    this.tell(collection, key)
  }

  delete(collection: DownCollection, key: string): void {
    this.set(collection, key, undefined)
    this.tell(collection, key)
  }

  /** Without telling. */
  set(collection: DownCollection, key: string, object: KubeObject | undefined): void {
    if (object === undefined) this.objects.delete(`${collection} ${key}`)
    else this.objects.set(`${collection} ${key}`, object)
  }

  tell(collection: DownCollection, key: string): void { this.views.changed(collection, key, this.objects.get(`${collection} ${key}`)) }

  keys(node: string): string[] {
    const view = this.opened.get(node)!
    return downCollections.flatMap(collection => [...view.keysFrom(collection, '')].map(([key]) => `${collection} ${key}`))
  }
}

function made(key: string, uid: string, body: object, metadata: object): KubeObject {
  const [name, namespace] = key.split('/').toReversed() as [string, string | undefined]
  return { apiVersion: 'v1', kind: 'X', metadata: { name, ...namespace !== undefined && { namespace }, uid, ...metadata }, ...body }
}

function show(view: NodeView): Contents {
  const contents: Contents = {}
  for (const collection of downCollections) {
    for (const [key, version] of view.keysFrom(collection, '')) {
      const value = view.value(collection, key)!
      expect(contentVersion(value)).toEqual(version)
      expect(view.version(collection, key)).toEqual(version)
      contents[`${collection} ${key}`] = value.toString()
    }
    expect(view.digest(collection)).toEqual(stateDigest(view.keysFrom(collection, '')))
  }
  return contents
}

// ── the same, dumb: everything anew each time, references found by looking for names anywhere ────────────────────────

interface DumbSpec { nodeName?: string, serviceAccountName?: string, selector?: Record<string, string>, type?: string }

/** Names that stand in `{ <kind>Name: … }` or below a member that speaks of this kind. */
function namesIn(value: unknown, pattern: RegExp, member = ''): string[] {
  if (typeof value === 'string') return pattern.test(member) ? [value] : []
  if (typeof value !== 'object' || value === null) return []
  return Object.entries(value).flatMap(([name, child]) =>
    namesIn(child, pattern, Array.isArray(value) ? member : `${member}.${name}`))
}

function naive(world: World, node: string): Contents {
  const all = [...world.objects].map(([id, object]) => {
    const [collection, key] = id.split(' ') as [DownCollection, string]
    const spec: DumbSpec = object['spec'] ?? {}
    return { id, collection, key, namespace: object.metadata.namespace, object, spec }
  })
  const pods = all.filter(({ collection, spec }) => collection === 'pods' && spec.nodeName === node)
  const wanted = new Set(pods.map(({ id }) => id))
  wanted.add(`nodes ${node}`)
  for (const device of all) {
    if (device.collection !== 'devices' || device.spec.nodeName !== node) continue
    wanted.add(device.id)
    for (const name of namesIn(device.spec, /deviceModelRef.name$/)) wanted.add(`devicemodels ${device.namespace}/${name}`)
  }
  for (const { namespace, object, spec } of pods) {
    const account = spec.serviceAccountName ?? 'default'
    wanted.add(`serviceaccounts ${namespace}/${account}`)
    const accountObject = world.objects.get(`serviceaccounts ${namespace}/${account}`)
    for (const name of namesIn(spec, /[sS]ecret.*[nN]ame$/)) wanted.add(`secrets ${namespace}/${name}`)
    for (const name of namesIn(spec, /configMap.*name$/)) wanted.add(`configmaps ${namespace}/${name}`)
    for (const list of ['secrets', 'imagePullSecrets']) {
      for (const name of namesIn(accountObject?.[list], /name$/)) wanted.add(`secrets ${namespace}/${name}`)
    }
    for (const service of all) {
      if (service.collection !== 'services' || service.namespace !== namespace || service.spec.type === 'ExternalName') continue
      const pairs = Object.entries(service.spec.selector ?? {})
      if (pairs.length > 0 && pairs.every(([k, v]) => object.metadata.labels?.[k] === v)) wanted.add(service.id)
    }
  }
  return Object.fromEntries(all.filter(({ id }) => wanted.has(id)).toSorted((a, b) => a.id < b.id ? -1 : 1)
    .map(({ id, collection, object }) => [id, projectedValue(collection, object).toString()]))
}

// ── random sequences ─────────────────────────────────────────────────────────────────────────────────────────────────

// Few names, so that they meet.
const nodes = ['n1', 'n2']
const name = fc.constantFrom('a', 'b')
const key = fc.tuple(fc.constantFrom('x', 'x', 'x', 'y'), name).map(([namespace, each]) => `${namespace}/${each}`)
const labels = fc.constantFrom<Record<string, string>>({ app: '1' }, { app: '1' }, { app: '2' }, { app: '1', tier: '1' }, {})
const maybe = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> => fc.option(arbitrary, { nil: undefined, freq: 2 })

const podBody = fc.record({
  node: fc.constantFrom('n1', 'n1', 'n2', undefined), account: maybe(name), volume: maybe(name), projected: maybe(name), pull: maybe(name),
  env: maybe(name), envFrom: maybe(name), labels
}).map(of => ({
  metadata: { labels: of.labels },
  body: { status: { phase: 'Pending' }, spec: {
    ...of.node !== undefined && { nodeName: of.node }, ...of.account !== undefined && { serviceAccountName: of.account },
    ...of.pull !== undefined && { imagePullSecrets: [{ name: of.pull }] },
    volumes: [
      ...of.volume === undefined ? [] : [{ secret: { secretName: of.volume } }],
      ...of.projected === undefined ? [] : [{ projected: { sources: [{ configMap: { name: of.projected } }] } }]
    ],
    initContainers: of.envFrom === undefined ? [] : [{ envFrom: [{ secretRef: { name: of.envFrom } }] }],
    containers: of.env === undefined ? [] : [{ env: [{ valueFrom: { configMapKeyRef: { name: of.env } } }] }]
  } }
}))

interface Put { readonly collection: DownCollection, readonly key: string, readonly body: object, readonly metadata: object }

const put: fc.Arbitrary<Put> = fc.oneof(
  { weight: 5, arbitrary: fc.tuple(key, podBody).map(([each, of]) => ({ collection: 'pods' as const, key: each, ...of })) },
  { weight: 3, arbitrary: fc.tuple(fc.constantFrom('secrets' as const, 'configmaps' as const), key, fc.nat(3))
    .map(([collection, each, data]) => ({ collection, key: each, body: { data: { data } }, metadata: {} })) },
  { weight: 3, arbitrary: fc.tuple(fc.constantFrom('x/default', 'x/default', 'x/a', 'y/b'), maybe(name), maybe(name)).map(([each, secret, pull]) => ({
    collection: 'serviceaccounts' as const, key: each, metadata: {}, body: {
      ...secret !== undefined && { secrets: [{ name: secret }] }, ...pull !== undefined && { imagePullSecrets: [{ name: pull }] }
    }
  })) },
  { weight: 3, arbitrary: fc.tuple(key, labels, fc.constantFrom(false, false, false, true)).map(([each, selector, external]) => ({
    collection: 'services' as const, key: each, metadata: {}, body: { spec: { selector, ...external && { type: 'ExternalName' } } }
  })) },
  { weight: 3, arbitrary: fc.tuple(key, fc.constantFrom('n1', 'n1', 'n2', undefined), maybe(fc.constantFrom('a', 'b', '')), fc.nat(1)).map(
    ([each, node, model, reports]) => ({ collection: 'devices' as const, key: each, metadata: {}, body: {
      spec: { ...node !== undefined && { nodeName: node }, ...model !== undefined && { deviceModelRef: { name: model } } },
      status: { conditions: [{ type: 'Synced', reports }] }
    } })) },
  { weight: 2, arbitrary: fc.tuple(key, fc.nat(2)).map(([each, unit]) =>
    ({ collection: 'devicemodels' as const, key: each, metadata: {}, body: { spec: { properties: [{ name: 't', unit: `${unit}` }] } } })) },
  { weight: 1, arbitrary: fc.constantFrom(...nodes).map(each => ({ collection: 'nodes' as const, key: each, body: {}, metadata: {} })) }
)

type Step =
  | { readonly kind: 'put', readonly put: Put, readonly keepUid: boolean }
  | { readonly kind: 'delete', readonly at: number }
  | { readonly kind: 'terminate', readonly at: number }
  | { readonly kind: 'move', readonly at: number, readonly node: string }
  | { readonly kind: 'open', readonly node: string }
  | { readonly kind: 'list', readonly puts: readonly Put[], readonly deletions: readonly number[] }

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 12, arbitrary: fc.record({ kind: fc.constant('put'), put, keepUid: fc.boolean() }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('delete'), at: fc.nat(50) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('terminate'), at: fc.nat(50) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('move'), at: fc.nat(50), node: fc.constantFrom(...nodes) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('open'), node: fc.constantFrom(...nodes) }) },
  { weight: 1, arbitrary: fc.record({
    kind: fc.constant('list'), puts: fc.array(put, { maxLength: 6 }), deletions: fc.array(fc.nat(50), { maxLength: 6 })
  }) }
)

/** Makes a step: what is different then, and not told yet. */
function change(world: World, step: Step): { readonly collection: DownCollection, readonly key: string }[] {
  const ids = [...world.objects.keys()]
  const at = (index: number): readonly [DownCollection, string] | undefined =>
    ids.length === 0 ? undefined : ids[index % ids.length]!.split(' ') as [DownCollection, string]
  const make = ({ collection, key: each, body, metadata }: Put, keepUid: boolean): { collection: DownCollection, key: string } => {
    const before = world.objects.get(`${collection} ${each}`)
    world.set(collection, each, made(each, keepUid && before !== undefined ? before.metadata.uid! : world.uid(), body, metadata))
    return { collection, key: each }
  }
  const remove = (index: number): { collection: DownCollection, key: string }[] => {
    const found = at(index)
    if (found === undefined) return []
    world.set(...found, undefined)
    return [{ collection: found[0], key: found[1] }]
  }
  switch (step.kind) {
    case 'put': return [make(step.put, step.keepUid)]
    case 'delete': return remove(step.at)
    case 'terminate':
    case 'move': {
      const found = at(step.at)
      const object = found === undefined ? undefined : world.objects.get(found.join(' '))
      if (found === undefined || object === undefined || (step.kind === 'move' && !isBoundCollection(found[0]))) return []
      world.set(...found, step.kind === 'move'
        ? { ...object, spec: { ...object['spec'] as object, nodeName: step.node } }
        : { ...object, metadata: { ...object.metadata, deletionTimestamp: '2026-01-01T00:00:00Z' } })
      return [{ collection: found[0], key: found[1] }]
    }
    case 'open': world.open(step.node); return []
    case 'list': return [...step.puts.map(each => make(each, false)), ...step.deletions.flatMap(remove)]
  }
}

test('a view is what is found from scratch, after every change, and every difference is told (STA-40 to STA-44)', { timeout: 120_000 }, () => {
  fc.assert(fc.property(fc.array(step, { minLength: 1, maxLength: 50, size: 'max' }), steps => {
    const world = new World()
    world.open('n1')
    for (const each of steps) {
      const before = new Map([...world.opened].map(([node, view]) => [node, show(view)]))
      world.told.length = 0
      const changed = change(world, each)
      // What is told of one change is told when the view is right again: at no moment does it hold what it may not.
      if (changed.length === 1) {
        world.onTold = () => { for (const [node, view] of world.opened) expect(show(view)).toEqual(naive(world, node)) }
      } else world.onTold = () => {}
      for (const { collection, key: where } of changed) world.tell(collection, where)
      for (const [node, view] of world.opened) {
        const after = show(view)
        expect(after).toEqual(naive(world, node))
        const then = before.get(node)
        if (then === undefined) continue
        const different = [...new Set([...Object.keys(then), ...Object.keys(after)])].filter(id => then[id] !== after[id])
        const told = new Set(world.told.filter(id => id.startsWith(`${node} `)).map(id => id.slice(node.length + 1)))
        expect(different.filter(id => !told.has(id))).toEqual([])
        if (changed.length === 1) expect([...told].toSorted()).toEqual(different.toSorted())
      }
    }
  }), runs)
})

// ── by name ──────────────────────────────────────────────────────────────────────────────────────────────────────────

const podOn = (node: string, spec: object = {}): object => ({ spec: { nodeName: node, ...spec } })
const mounting = (secret: string): object => ({ volumes: [{ secret: { secretName: secret } }] })

test('a Secret that nothing on the node names is not in its view', () => {
  const world = new World()
  world.open('n1')
  world.open('n2')
  world.put('secrets', 'x/mine')
  world.put('secrets', 'x/other')
  world.put('secrets', 'y/mine')
  world.put('pods', 'x/p', podOn('n1', mounting('mine')))
  world.put('pods', 'x/q', podOn('n2'))
  expect(world.keys('n1')).toEqual(['secrets x/mine', 'pods x/p'])
  expect(world.keys('n2')).toEqual(['pods x/q'])
  world.delete('pods', 'x/p')
  expect(world.keys('n1')).toEqual([])
})

test('what one of two pods still names stays', () => {
  const world = new World()
  world.open('n1')
  world.put('secrets', 'x/s')
  world.put('pods', 'x/p', podOn('n1', mounting('s')))
  world.put('pods', 'x/q', podOn('n1', mounting('s')))
  world.told.length = 0
  world.delete('pods', 'x/p')
  expect(world.told).toEqual(['n1 pods x/p'])
  expect(world.keys('n1')).toEqual(['secrets x/s', 'pods x/q'])
})

test('a pod that moves takes what it names along', () => {
  const world = new World()
  world.open('n1')
  world.open('n2')
  world.put('secrets', 'x/s')
  world.put('pods', 'x/p', podOn('n1', mounting('s')))
  world.put('pods', 'x/p', podOn('n2', mounting('s')))
  expect(world.keys('n1')).toEqual([])
  expect(world.keys('n2')).toEqual(['secrets x/s', 'pods x/p'])
})

test('a pod stays while it is being deleted, until it is gone', () => {
  const world = new World()
  world.open('n1')
  world.put('pods', 'x/p', podOn('n1'))
  world.put('pods', 'x/p', podOn('n1'), { deletionTimestamp: '2026-01-01T00:00:00Z' })
  expect(JSON.parse(world.opened.get('n1')!.value('pods', 'x/p')!.toString())).toMatchObject({
    metadata: { deletionTimestamp: '2026-01-01T00:00:00Z' }
  })
  world.delete('pods', 'x/p')
  expect(world.keys('n1')).toEqual([])
})

test('a Service is in the view for as long as it selects a pod of the node', () => {
  const world = new World()
  world.open('n1')
  const select = (selector: object, more: object = {}): void => { world.put('services', 'x/web', { spec: { selector, ...more } }) }
  world.put('pods', 'x/p', podOn('n1'), { labels: { app: 'web', tier: '1' } })
  world.put('pods', 'x/q', podOn('n1'), { labels: { app: 'web' } })
  const isShown = (): boolean => world.keys('n1').includes('services x/web')
  for (const [selector, shown] of [[{ app: 'web' }, true], [{ app: 'api' }, false], [{ tier: '1' }, true], [{}, false]] as const) {
    select(selector)
    expect(isShown()).toBe(shown)
  }
  select({ app: 'web' })
  world.delete('pods', 'x/p')
  expect(isShown()).toBe(true)
  world.put('pods', 'x/q', podOn('n1'), { labels: { app: 'other' } })
  expect(isShown()).toBe(false)
  world.put('pods', 'x/q', podOn('n1'), { labels: { app: 'web' } })
  expect(isShown()).toBe(true)
  select({ app: 'web' }, { type: 'ExternalName', externalName: 'example.com' })
  expect(isShown()).toBe(false)
})

test('a Device takes its model along when it moves, and lets it go when another one is named', () => {
  const world = new World()
  world.open('n1')
  world.open('n2')
  const device = (node: string, model: string): void => {
    world.put('devices', 'x/d', { spec: { nodeName: node, deviceModelRef: { name: model } } })
  }
  device('n1', 'm')
  expect(world.keys('n1')).toEqual(['devices x/d'])
  world.put('devicemodels', 'x/m')
  world.put('devicemodels', 'x/other')
  world.put('devicemodels', 'y/m')
  expect(world.keys('n1')).toEqual(['devicemodels x/m', 'devices x/d'])
  world.delete('devicemodels', 'x/m')
  expect(world.keys('n1')).toEqual(['devices x/d'])
  device('n2', 'other')
  expect([world.keys('n1'), world.keys('n2')]).toEqual([[], ['devicemodels x/other', 'devices x/d']])
  world.put('devices', 'x/d', { spec: { deviceModelRef: { name: 'other' } } })
  expect(world.keys('n2')).toEqual([])
})

test('a status that changes makes no difference and is told to nobody', () => {
  const world = new World()
  world.open('n1')
  const object = made('x/p', 'u', podOn('n1'), {})
  for (const phase of ['Pending', 'Running']) {
    world.told.length = 0
    world.set('pods', 'x/p', { ...object, metadata: { ...object.metadata, resourceVersion: phase }, status: { phase } })
    world.tell('pods', 'x/p')
  }
  expect(world.told).toEqual([])
})

test('an object made anew with another uid and the same content is another version', () => {
  const world = new World()
  const view = world.open('n1')
  world.put('secrets', 'x/s')
  world.put('pods', 'x/p', podOn('n1', mounting('s')))
  const before = view.version('secrets', 'x/s')!
  world.put('secrets', 'x/s')
  expect(view.version('secrets', 'x/s')).not.toEqual(before)
})

test('a view that is asked for later is the same as one that was there from the start', () => {
  const world = new World()
  world.open('n1')
  world.put('services', 'x/web', { spec: { selector: { app: 'web' } } })
  world.put('secrets', 'x/pull')
  world.put('serviceaccounts', 'x/default', { imagePullSecrets: [{ name: 'pull' }] })
  for (const node of ['n1', 'n2']) {
    world.put('nodes', node)
    world.put('pods', `x/p-${node}`, podOn(node), { labels: { app: 'web' } })
  }
  world.open('n2')
  const expected = (node: string): string[] =>
    ['serviceaccounts x/default', 'secrets x/pull', 'services x/web', `pods x/p-${node}`, `nodes ${node}`]
  expect(world.keys('n1')).toEqual(expected('n1'))
  expect(world.keys('n2')).toEqual(expected('n2'))
})
