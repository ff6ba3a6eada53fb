import { afterEach, expect, test } from 'vitest'
import { SeededRandom, silentLog } from '@holdfast/runtime'
import type { HandClock } from '@holdfast/runtime/testing'
import type { KubeObject } from './object.ts'
import { NamespaceLifecycle } from './namespace-lifecycle.ts'
import { decideDeletion, released } from './object-store-deletion.ts'
import type { ObjectKey } from './object-store-types.ts'
import type { ObjectStore } from './object-store.ts'
import type { Resource } from './resource.ts'
import { openObjectStore } from './testing/object-store-fixture.ts'

const podResource = {
  group: '', version: 'v1', plural: 'pods', kind: 'Pod', namespaced: true,
  deletionGraceSeconds: (_: KubeObject, requested: number | undefined) => requested ?? 30
} as unknown as Resource

interface World { readonly objects: ObjectStore, readonly clock: HandClock, readonly lifecycle: NamespaceLifecycle }

const worlds: World[] = []
afterEach(async () => {
  for (const { objects, lifecycle } of worlds.splice(0)) {
    await lifecycle.close()
    objects.close()
  }
})

async function made(start = true): Promise<World> {
  const { objects, clock } = await openObjectStore()
  const lifecycle = new NamespaceLifecycle({
    store: objects, clock, random: new SeededRandom(1), log: silentLog,
    resources: { findKind: (_, kind) => kind === 'Pod' ? { resource: podResource } : undefined }
  })
  worlds.push({ objects, clock, lifecycle })
  if (start) await lifecycle.start()
  return worlds.at(-1)!
}

const namespaceKey = (name: string): ObjectKey => ({ resource: 'namespaces', namespace: '', name })
const contentKey = (name: string, resource = 'configmaps'): ObjectKey => ({ resource, namespace: 'a', name })

async function createNamespace({ objects }: World, name: string, finalizers?: string[]): Promise<void> {
  await objects.write(namespaceKey(name), () => ({ kind: 'put', object: {
    apiVersion: 'v1', kind: 'Namespace', metadata: { name, uid: `uid-${name}`, ...finalizers && { finalizers } },
    spec: { finalizers: ['kubernetes'] }, status: { phase: 'Active' }
  } }))
}

async function createContent({ objects }: World, name: string, finalizers?: string[], kind = 'ConfigMap'): Promise<void> {
  await objects.write(contentKey(name, `${kind.toLowerCase()}s`), () => ({ kind: 'put', object: {
    apiVersion: 'v1', kind, metadata: { name, namespace: 'a', ...finalizers && { finalizers } }
  } }))
}

async function remove({ objects, clock }: World, key: ObjectKey, gracePeriodSeconds?: number): Promise<void> {
  await objects.write(key, current => decideDeletion(current!, { nowMs: clock.wallMs(), gracePeriodSeconds }, key.resource === 'pods' ? podResource : undefined))
}

async function release({ objects }: World, key: ObjectKey): Promise<void> {
  await objects.write(key, current => {
    const { finalizers: _, ...metadata } = current!.object.metadata
    return released({ ...current!.object, metadata })
  })
}

const namespaceOf = ({ objects }: World, name: string): KubeObject | undefined => objects.get(namespaceKey(name))?.object
const conditionsOf = (object: KubeObject | undefined): Record<string, string> => Object.fromEntries(
  ((object?.['status'] as { conditions?: { type: string, status: string, message: string }[] } | undefined)?.conditions ?? [])
    .map(({ type, status, message }) => [type, `${status}: ${message}`]))

test('the default namespaces are there from the first start on, and stay as they are', async () => {
  const world = await made()
  expect(['default', 'kube-system', 'kube-public', 'kube-node-lease'].map(name => namespaceOf(world, name))).toMatchObject([
    { metadata: { name: 'default', labels: { 'kubernetes.io/metadata.name': 'default' }, uid: expect.stringMatching(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab]/) },
      spec: { finalizers: ['kubernetes'] }, status: { phase: 'Active' } }, {}, {}, {}
  ])
  await world.lifecycle.close()
  const again = new NamespaceLifecycle({ store: world.objects, clock: world.clock, random: new SeededRandom(2), log: silentLog, resources: { findKind: () => undefined } })
  await again.start()
  await again.close()
  expect(world.objects.revision).toBe(4)
})

test('one that is being deleted loses its contents, then goes', async () => {
  const world = await made()
  await createNamespace(world, 'a')
  await createContent(world, 'plain')
  await createContent(world, 'held', ['example.com/f'])
  await createNamespace(world, 'b')
  await world.objects.write({ ...contentKey('elsewhere'), namespace: 'b' }, () => ({ kind: 'put', object: { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'elsewhere' } } }))
  const events: string[] = []
  world.objects.subscribe(({ resource, name, current }) => { events.push(`${current === undefined ? 'DELETED' : 'PUT'} ${resource} ${name}`) })
  world.clock.advance(5000)
  await remove(world, namespaceKey('a'))
  expect(namespaceOf(world, 'a')).toMatchObject({ metadata: { deletionTimestamp: '1970-01-01T00:00:05Z' }, status: { phase: 'Terminating' } })
  expect(namespaceOf(world, 'a')!.metadata.deletionGracePeriodSeconds).toBeUndefined()
  await world.lifecycle.idle()
  expect(world.objects.get(contentKey('held'))!.object.metadata).toMatchObject({ deletionTimestamp: '1970-01-01T00:00:05Z', deletionGracePeriodSeconds: 0 })
  expect(conditionsOf(namespaceOf(world, 'a'))).toEqual({
    NamespaceDeletionDiscoveryFailure: 'False: All resources successfully discovered',
    NamespaceDeletionGroupVersionParsingFailure: 'False: All legacy kube types successfully parsed',
    NamespaceDeletionContentFailure: 'False: All content successfully deleted, may be waiting on finalization',
    NamespaceContentRemaining: 'True: Some resources are remaining: configmaps. has 1 resource instances',
    NamespaceFinalizersRemaining: 'True: Some content in the namespace has finalizers remaining: example.com/f in 1 resource instances'
  })
  await release(world, contentKey('held'))
  await world.lifecycle.idle()
  expect(events).toEqual([
    'PUT namespaces a', 'PUT configmaps held', 'DELETED configmaps plain', 'PUT namespaces a', 'DELETED configmaps held', 'PUT namespaces a', 'DELETED namespaces a'
  ])
  expect(world.objects.get({ ...contentKey('elsewhere'), namespace: 'b' })).toBeDefined()
})

test('a finalizer of its own holds it after its contents are gone', async () => {
  const world = await made()
  await createNamespace(world, 'a', ['example.com/n'])
  await remove(world, namespaceKey('a'))
  await world.lifecycle.idle()
  expect(namespaceOf(world, 'a')).toMatchObject({ metadata: { finalizers: ['example.com/n'] }, spec: {}, status: { phase: 'Terminating' } })
  expect(namespaceOf(world, 'a')!['spec']).toEqual({})
  expect(conditionsOf(namespaceOf(world, 'a'))).toMatchObject({ NamespaceContentRemaining: 'False: All content successfully removed', NamespaceFinalizersRemaining: 'False: All content-preserving finalizers finished' })
  await release(world, namespaceKey('a'))
  await world.lifecycle.idle()
  expect(namespaceOf(world, 'a')).toBeUndefined()
})

test('Pods get their grace period, and the namespace waits for them', async () => {
  const world = await made()
  await createNamespace(world, 'a')
  await createContent(world, 'p', undefined, 'Pod')
  await remove(world, namespaceKey('a'))
  await world.lifecycle.idle()
  expect(world.objects.get(contentKey('p', 'pods'))!.object.metadata).toMatchObject({ deletionTimestamp: '1970-01-01T00:00:30Z', deletionGracePeriodSeconds: 30 })
  expect(conditionsOf(namespaceOf(world, 'a'))['NamespaceContentRemaining']).toBe('True: Some resources are remaining: pods. has 1 resource instances')
  await remove(world, contentKey('p', 'pods'), 60)
  expect(world.objects.get(contentKey('p', 'pods'))!.object.metadata.deletionGracePeriodSeconds).toBe(30)
  await remove(world, contentKey('p', 'pods'), 0)
  await world.lifecycle.idle()
  expect(namespaceOf(world, 'a')).toBeUndefined()
})

test('a deletion that was under way at the end goes on at the start', async () => {
  const world = await made(false)
  await createNamespace(world, 'a')
  for (let i = 0; i < 200; i++) await createContent(world, `c${i}`)
  await remove(world, namespaceKey('a'))
  await world.lifecycle.start()
  await world.lifecycle.idle()
  expect([...world.objects.all()].map(({ name }) => name).toSorted()).toEqual(['default', 'kube-node-lease', 'kube-public', 'kube-system'])
})
