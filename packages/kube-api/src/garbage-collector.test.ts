import { afterEach, describe, expect, test } from 'vitest'
import { SeededRandom, silentLog } from '@holdfast/runtime'
import type { HandClock } from '@holdfast/runtime/testing'
import fc from 'fast-check'
import { GarbageCollector } from './garbage-collector.ts'
import type { ResourceDirectory } from './garbage-collector.ts'
import type { KubeObject, ObjectMeta, OwnerReference } from './object.ts'
import { decideDeletion, released } from './object-store-deletion.ts'
import type { PropagationPolicy } from './object-store-deletion.ts'
import type { ObjectStore } from './object-store.ts'
import type { ObjectKey } from './object-store-types.ts'
import type { Resource } from './resource.ts'
import { openObjectStore } from './testing/object-store-fixture.ts'

const runs = { numRuns: Number(process.env['RUNS'] ?? 60), ...process.env['SEED'] !== undefined && { seed: Number(process.env['SEED']) } }

/** As much of a resource as owners are looked up by. */
const resource = (group: string, plural: string, kind: string, namespaced: boolean): Resource =>
  ({ group, version: 'v1', plural, kind, namespaced } as unknown as Resource)

class Directory implements ResourceDirectory {
  readonly resources = [resource('', 'configmaps', 'ConfigMap', true), resource('', 'nodes', 'Node', false)]
  findKind(group: string, kind: string): { resource: Resource } | undefined {
    const found = this.resources.find(one => one.group === group && one.kind === kind)
    return found === undefined ? undefined : { resource: found }
  }
}

/** A store with a collector, and what the REST server would do to objects. */
class World {
  readonly directory = new Directory()
  readonly clock: HandClock
  readonly objects: ObjectStore
  readonly collector: GarbageCollector

  constructor(objects: ObjectStore, clock: HandClock) {
    this.objects = objects
    this.clock = clock
    this.collector = new GarbageCollector({
      store: objects, resources: this.directory, clock, random: new SeededRandom(1), log: silentLog
    })
  }

  key(name: string): ObjectKey { return { resource: 'configmaps', namespace: 'ns', name } }

  async create(name: string, metadata: Partial<ObjectMeta> = {}): Promise<OwnerReference> {
    const uid = metadata.uid ?? `uid-${name}`
    await this.objects.write(this.key(name), () => ({
      kind: 'put', object: { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace: 'ns', ...metadata, uid } }
    }))
    return { apiVersion: 'v1', kind: 'ConfigMap', name, uid }
  }

  async delete(name: string, propagationPolicy?: PropagationPolicy): Promise<void> {
    await this.objects.write(this.key(name), current => current === undefined ? { kind: 'none' }
      : decideDeletion(current, { nowMs: this.clock.wallMs(), propagationPolicy }, undefined))
  }

  async release(name: string): Promise<void> {
    await this.objects.write(this.key(name), current => {
      const { finalizers: _, ...metadata } = current!.object.metadata
      return released({ ...current!.object, metadata })
    })
  }

  meta(name: string): ObjectMeta | undefined { return this.objects.get(this.key(name))?.object.metadata }
  get names(): string[] { return [...this.objects.all()].map(({ name }) => name).toSorted() }
  idle(): Promise<void> { return this.collector.idle() }
}

const worlds: World[] = []
afterEach(async () => {
  for (const world of worlds.splice(0)) {
    await world.collector.close()
    world.objects.close()
  }
})

async function made(): Promise<World> {
  const { objects, clock } = await openObjectStore()
  const world = new World(objects, clock)
  worlds.push(world)
  world.collector.start()
  return world
}

describe('a deletion', () => {
  test('in the background takes the dependents after the owner', async () => {
    const world = await made()
    const owner = await world.create('owner')
    await world.create('dependent', { ownerReferences: [{ ...owner, controller: true, blockOwnerDeletion: true }] })
    const order: string[] = []
    world.objects.subscribe(({ current, name }) => { if (current === undefined) order.push(name) })
    await world.delete('owner', 'Background')
    await world.idle()
    expect([order, world.objects.revision]).toEqual([['owner', 'dependent'], 4])
  })

  test('in the foreground waits for the dependents that block', async () => {
    const world = await made()
    const owner = await world.create('owner')
    await world.create('dependent', { ownerReferences: [{ ...owner, blockOwnerDeletion: true }], finalizers: ['example.com/f'] })
    await world.create('free', { ownerReferences: [owner] })
    await world.delete('owner', 'Foreground')
    expect(world.meta('owner')).toMatchObject({ finalizers: ['foregroundDeletion'], deletionGracePeriodSeconds: 0 })
    await world.idle()
    expect(world.meta('owner')!.resourceVersion).toBe('4')
    expect(world.meta('dependent')).toMatchObject({ deletionTimestamp: '1970-01-01T00:00:00Z', finalizers: ['example.com/f'] })
    expect(world.names).toEqual(['dependent', 'owner'])
    await world.release('dependent')
    await world.idle()
    expect(world.names).toEqual([])
  })

  test('in the foreground without dependents is over at once', async () => {
    const world = await made()
    await world.create('owner')
    await world.delete('owner', 'Foreground')
    await world.idle()
    expect(world.names).toEqual([])
  })

  test('that orphans leaves the dependents behind, without the owner', async () => {
    const world = await made()
    const owner = await world.create('owner')
    await world.create('dependent', { ownerReferences: [owner] })
    await world.delete('owner', 'Orphan')
    expect(world.meta('owner')!.finalizers).toEqual(['orphan'])
    await world.idle()
    expect(world.names).toEqual(['dependent'])
    expect(world.meta('dependent')).toEqual({ name: 'dependent', namespace: 'ns', uid: 'uid-dependent', resourceVersion: '4' })
    expect(world.objects.revision).toBe(5)
  })

  test('that orphans keeps an owner that others hold, and does its part', async () => {
    const world = await made()
    const owner = await world.create('owner', { finalizers: ['example.com/f'] })
    await world.create('dependent', { ownerReferences: [owner] })
    await world.delete('owner', 'Orphan')
    await world.idle()
    expect([world.meta('owner')!.finalizers, world.meta('dependent')!.ownerReferences]).toEqual([['example.com/f'], undefined])
    await world.release('owner')
    await world.idle()
    expect(world.names).toEqual(['dependent'])
  })
})

describe('an object', () => {
  test('of two owners stays with the other one, and goes with the last', async () => {
    const world = await made()
    const [a, b] = [await world.create('a'), await world.create('b')]
    await world.create('dependent', { ownerReferences: [a, b] })
    await world.delete('a')
    await world.idle()
    expect([world.meta('dependent')!.ownerReferences, world.objects.revision]).toEqual([[b], 5])
    await world.delete('b')
    await world.idle()
    expect(world.names).toEqual([])
  })

  test('of an owner that never was goes at once', async () => {
    const world = await made()
    await world.create('dependent', { ownerReferences: [{ apiVersion: 'v1', kind: 'ConfigMap', name: 'never-was', uid: 'x' }] })
    await world.idle()
    expect(world.names).toEqual([])
  })

  test('of an owner that was replaced by another of its name goes', async () => {
    const world = await made()
    const owner = await world.create('owner')
    await world.create('dependent', { ownerReferences: [owner] })
    await world.create('owner', { uid: 'other' })
    await world.idle()
    expect(world.names).toEqual(['owner'])
  })

  test('of an owner in another namespace goes, of one that is nowhere in particular stays', async () => {
    const world = await made()
    const node = { apiVersion: 'v1', kind: 'Node', name: 'n', uid: 'node' }
    await world.objects.write({ resource: 'nodes', namespace: '', name: 'n' },
      () => ({ kind: 'put', object: { apiVersion: 'v1', kind: 'Node', metadata: { name: 'n', uid: 'node' } } }))
    const owner = await world.create('owner')
    await world.create('of-node', { ownerReferences: [node] })
    await world.objects.write({ resource: 'configmaps', namespace: 'other', name: 'stray' }, () => ({ kind: 'put', object: {
      apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'stray', namespace: 'other', uid: 's', ownerReferences: [owner] }
    } }))
    // A Node cannot be owned by something in a namespace: nothing is known of such an owner.
    await world.objects.write({ resource: 'nodes', namespace: '', name: 'm' }, () => ({ kind: 'put', object: {
      apiVersion: 'v1', kind: 'Node', metadata: { name: 'm', uid: 'm', ownerReferences: [owner] }
    } }))
    await world.idle()
    expect(world.names).toEqual(['m', 'n', 'of-node', 'owner'])
  })

  test('of an owner of an unknown kind stays until the kind is known', async () => {
    const world = await made()
    const gadget = { apiVersion: 'example.com/v1', kind: 'Gadget', name: 'g', uid: 'g' }
    await world.create('dependent', { ownerReferences: [gadget] })
    await world.idle()
    expect(world.names).toEqual(['dependent'])
    world.directory.resources.push(resource('example.com', 'gadgets', 'Gadget', true))
    world.collector.recheck()
    await world.idle()
    expect(world.names).toEqual([])
  })

  test('whose owner went while nobody looked goes at the start', async () => {
    const { objects, clock } = await openObjectStore()
    const world = new World(objects, clock)
    worlds.push(world)
    const [owner, foreground, orphan] = [await world.create('owner'), await world.create('foreground'), await world.create('orphan')]
    await world.create('a', { ownerReferences: [owner] })
    await world.create('b', { ownerReferences: [foreground] })
    await world.create('c', { ownerReferences: [orphan] })
    await world.delete('owner')
    await world.delete('foreground', 'Foreground')
    await world.delete('orphan', 'Orphan')
    world.collector.start()
    await world.idle()
    expect(world.names).toEqual(['c'])
  })

  test('that owns others takes the whole tree with it, to the leaves first in the foreground', async () => {
    const world = await made()
    let above = await world.create('n0')
    const order: string[] = []
    for (let i = 1; i < 6; i++) above = await world.create(`n${i}`, { ownerReferences: [{ ...above, blockOwnerDeletion: true }] })
    world.objects.subscribe(({ current, name }) => { if (current === undefined) order.push(name) })
    await world.delete('n0', 'Foreground')
    await world.idle()
    expect(order).toEqual(['n5', 'n4', 'n3', 'n2', 'n1', 'n0'])
  })

  test('in a ring of owners does not hold the ring up', async () => {
    const world = await made()
    const b: OwnerReference = { apiVersion: 'v1', kind: 'ConfigMap', name: 'b', uid: 'uid-b', blockOwnerDeletion: true }
    const a = { ...b, name: 'a', uid: 'uid-a' }
    await Promise.all([world.create('a', { ownerReferences: [b] }), world.create('b', { ownerReferences: [a] })])
    await world.idle()
    expect(world.names).toEqual(['a', 'b'])
    await world.delete('a', 'Foreground')
    await world.idle()
    expect(world.names).toEqual([])
  })
})

test('a write that fails is tried again', async () => {
  const world = await made()
  const owner = await world.create('owner')
  await world.create('dependent', { ownerReferences: [owner] })
  const write = world.objects.write.bind(world.objects)
  let failures = 2
  world.objects.write = (key, decide) => key.name === 'dependent' && failures-- > 0
    ? Promise.reject(new Error('disk')) : write(key, decide)
  await world.delete('owner')
  await world.idle()
  expect(world.names).toEqual(['dependent'])
  while (world.clock.timers > 0) {
    world.clock.advance(60_000)
    await world.idle()
  }
  expect([world.names, failures]).toEqual([[], -1])
})

test('whatever owns whatever: in the end nothing refers to an owner that is gone, and what had a living owner lives', async () => {
  const plan = fc.record({
    owners: fc.array(fc.array(fc.nat(7), { maxLength: 3 }), { minLength: 8, maxLength: 8 }),
    deletions: fc.array(fc.record({ of: fc.nat(7), policy: fc.constantFrom<PropagationPolicy>('Background', 'Foreground') }), { maxLength: 4 })
  })
  await fc.assert(fc.asyncProperty(plan, async ({ owners, deletions }) => {
    const world = await made()
    // An object is owned by earlier ones only: a forest, with several roots for one.
    const references = owners.map((of, i) => [...new Set(of.filter(one => one < i))])
    for (const [i, of] of references.entries()) {
      await world.create(`n${i}`, { ownerReferences: of.map(one => ({
        apiVersion: 'v1', kind: 'ConfigMap', name: `n${one}`, uid: `uid-n${one}`, blockOwnerDeletion: one % 2 === 0
      })) })
    }
    await world.idle()
    expect(world.names).toHaveLength(8)
    for (const { of, policy } of deletions) await world.delete(`n${of}`, policy)
    await world.idle()
    const deleted = new Set(deletions.map(({ of }) => of))
    const alive: boolean[] = []
    for (const [i, of] of references.entries()) {
      alive.push(!deleted.has(i) && (of.length === 0 || of.some(one => alive[one])))
    }
    expect(world.names).toEqual(alive.flatMap((is, i) => is ? [`n${i}`] : []))
    for (const { object } of world.objects.all() as Iterable<{ object: KubeObject }>) {
      for (const { name } of object.metadata.ownerReferences ?? []) expect(world.names).toContain(name)
    }
    await world.collector.close()
  }), runs)
})
