import { SystemClock, silentLog } from '@holdfast/runtime'
import { MemoryStore, tables } from '@holdfast/store'
import type { Store } from '@holdfast/store'
import type { Selection, StatusError, StoredObject, Watch, WatchEvent } from '@holdfast/kube-api'
import { expect, onTestFinished, test } from 'vitest'
import { NodeObjects } from './node-objects.ts'
import { itemKey } from './object-format.ts'
import type { ObjectTable } from './object-table.ts'
import { apply, batchOf, openTable, putUp, sentObject } from './testing/object-harness.ts'

async function openObjects(store: Store = new MemoryStore()): Promise<{ table: ObjectTable, objects: NodeObjects }> {
  const harness = await openTable(store)
  onTestFinished(() => harness.committer.close())
  const objects = new NodeObjects({ table: harness.table, clock: new SystemClock(), log: silentLog })
  return { table: harness.table, objects }
}

const all = (resource: string, matches?: Selection['matches']): Selection => ({ resource, namespace: undefined, matches })
const names = (items: readonly StoredObject[]): string[] => items.map(({ namespace, name }) => namespace === '' ? name : `${namespace}/${name}`)
const configMap = (key: string, data = '1', labels?: Record<string, string>): Buffer =>
  sentObject('configmaps', key, { data: { a: data } }, labels === undefined ? {} : { labels })

async function put(table: ObjectTable, ...keys: string[]): Promise<void> {
  await apply(table.down, batchOf('configmaps', Object.fromEntries(keys.map(key => [key, configMap(key)]))))
}

/** Reads a watch; events as `TYPE key revision`. */
function reading(watch: Watch): { next(): Promise<string[]>, take(count: number): Promise<string[]>, events: WatchEvent[], closed: Promise<void> } {
  onTestFinished(() => watch.close())
  const iterator = watch[Symbol.asyncIterator]()
  const events: WatchEvent[] = []
  let onClosed = (): void => {}
  return {
    events,
    closed: new Promise(resolve => { onClosed = resolve }),
    async take(count) {
      const texts: string[] = []
      while (texts.length < count) texts.push(...await this.next())
      return texts
    },
    async next() {
      const { value, done } = await iterator.next()
      if (done === true) {
        onClosed()
        return ['END']
      }
      events.push(...value)
      return value.map(event => event.kind === 'bookmark' ? `BOOKMARK ${event.revision}${event.initialEventsEnd ? ' initial' : ''}`
        : `${event.type} ${names([event.stored])[0]} ${event.revision}`)
    }
  }
}

function refusal(call: () => unknown): StatusError {
  try {
    call()
  } catch (error) {
    return error as StatusError
  }
  throw new Error('nothing was refused')
}

test('an object is what came down, with this node\'s sequence', async () => {
  const { table, objects } = await openObjects()
  await put(table, 'default/settings')
  const stored = await objects.get({ resource: 'configmaps', namespace: 'default', name: 'settings' })
  expect(stored).toMatchObject({ resource: 'configmaps', namespace: 'default', name: 'settings', revision: 2 })
  expect(stored!.json.toString()).toBe('{"kind":"ConfigMap","apiVersion":"v1","metadata":{"creationTimestamp":"2026-11-21T12:00:00Z",'
    + '"name":"settings","namespace":"default","uid":"uid-default/settings","resourceVersion":"2"},"data":{"a":"1"}}')
  expect(JSON.parse(stored!.json.toString())).toEqual(stored!.object)
  expect(await objects.get({ resource: 'configmaps', namespace: 'default', name: 'other' })).toBeUndefined()
})

test('a pod has the status that this node reports, and the resourceVersion of the newer of both', async () => {
  const { table, objects } = await openObjects()
  await apply(table.down, batchOf('pods', { 'default/web': sentObject('pods', 'default/web', { spec: { nodeName: 'edge-1' } }) }))
  const key = { resource: 'pods', namespace: 'default', name: 'web' }
  expect(await objects.get(key)).toMatchObject({
    revision: 3, object: { spec: { nodeName: 'edge-1' }, status: { phase: 'Pending', reason: 'NoContainerRuntime' } }
  })
  await putUp(table, 'pod-status', 'default/web', Buffer.from(JSON.stringify({
    metadata: { name: 'web', namespace: 'default', uid: 'uid-default/web' }, status: { phase: 'Running' }
  })))
  expect(await objects.get(key)).toMatchObject({ revision: 4, object: { status: { phase: 'Running' } } })
})

test('a status that is another pod\'s is not shown', async () => {
  const { table, objects } = await openObjects()
  await apply(table.down, batchOf('pods', { 'default/web': sentObject('pods', 'default/web') }))
  await putUp(table, 'pod-status', 'default/web', Buffer.from(JSON.stringify({
    metadata: { name: 'web', namespace: 'default', uid: 'earlier' }, status: { phase: 'Running' }
  })))
  expect((await objects.get({ resource: 'pods', namespace: 'default', name: 'web' }))!.object['status']).toBeUndefined()
})

test('the Node shows what this node reports, once the cluster knows it', async () => {
  const { table, objects } = await openObjects()
  await putUp(table, 'node-status', 'edge-1', Buffer.from(JSON.stringify({ metadata: { name: 'edge-1' }, status: { capacity: { cpu: '4' } } })))
  expect((await objects.list(all('nodes'), {})).items).toEqual([])
  await apply(table.down, batchOf('nodes', { 'edge-1': sentObject('nodes', 'edge-1') }))
  const { items, revision } = await objects.list(all('nodes'), {})
  expect(revision).toBe(3)
  expect(items[0]).toMatchObject({ namespace: '', name: 'edge-1', revision: 3, object: { status: { capacity: { cpu: '4' } } } })
})

test('a page ends at its bytes where it is asked for, and all that is there comes in turn', { timeout: 60_000 }, async () => {
  const { table, objects } = await openObjects()
  const data = 'x'.repeat(3_000_000)
  const keys = Array.from({ length: 15 }, (_, i) => `default/c${String(i).padStart(2, '0')}`)
  for (const key of keys) await apply(table.down, batchOf('configmaps', { [key]: configMap(key, data) }))
  await expect(objects.list(all('configmaps'), {})).rejects.toMatchObject({ code: 413 })
  const first = await objects.list(all('configmaps'), { limit: 500 })
  expect([names(first.items), first.remainingItemCount]).toEqual([keys.slice(0, 11), 4])
  const rest = await objects.list(all('configmaps'), { limit: 500, continue: first.continue })
  expect([names(rest.items), rest.continue, rest.revision]).toEqual([keys.slice(11), '', first.revision])
  const last = await objects.list(all('configmaps', ({ name }) => name === 'c14'), {})
  expect(names(last.items)).toEqual(['default/c14'])
})

test('namespaces are those that something is in', async () => {
  const { table, objects } = await openObjects()
  const watch = reading(objects.watch(all('namespaces'), { resourceVersion: '1' }))
  await put(table, 'b/one', 'a/two', 'a/three')
  expect(names((await objects.list(all('namespaces'), {})).items)).toEqual(['a', 'b'])
  expect(await watch.next()).toEqual(['ADDED b 2', 'ADDED a 3'])
  expect(await objects.get({ resource: 'namespaces', namespace: '', name: 'a' })).toMatchObject({
    revision: 3, object: { metadata: { name: 'a', labels: { 'kubernetes.io/metadata.name': 'a' } }, status: { phase: 'Active' } }
  })
  await apply(table.down, batchOf('configmaps', {}, ['a/two']))
  await apply(table.down, batchOf('configmaps', {}, ['a/three']))
  expect(await watch.next()).toEqual(['DELETED a 6'])
  expect(names((await objects.list(all('namespaces'), {})).items)).toEqual(['b'])
})

test('lists have selections, and pages of one state', async () => {
  const { table, objects } = await openObjects()
  await apply(table.down, batchOf('configmaps', Object.fromEntries(['a/1', 'a/2', 'b/1', 'b/2', 'b/3'].map(key =>
    [key, configMap(key, '1', { side: key.startsWith('a') ? 'left' : 'right' })]))))
  const right = all('configmaps', ({ object }) => object.metadata.labels?.['side'] === 'right')
  expect(names((await objects.list(right, {})).items)).toEqual(['b/1', 'b/2', 'b/3'])
  expect(names((await objects.list({ resource: 'configmaps', namespace: 'a' }, {})).items)).toEqual(['a/1', 'a/2'])
  const page = await objects.list(all('configmaps'), { limit: 2 })
  expect([names(page.items), page.remainingItemCount, page.revision]).toEqual([['a/1', 'a/2'], 3, 6])
  // What changes from now on is not in the pages that follow.
  await apply(table.down, batchOf('configmaps', { 'b/1': configMap('b/1', '2'), 'b/9': configMap('b/9') }, ['b/2']))
  await apply(table.down, batchOf('configmaps', { 'b/1': configMap('b/1', '3') }))
  const rest = await objects.list(all('configmaps'), { limit: 2, continue: page.continue })
  expect([names(rest.items), rest.remainingItemCount, rest.revision]).toEqual([['b/1', 'b/2'], 1, 6])
  expect(rest.items.map(({ revision, object }) => [revision, object['data']])).toEqual([[4, { a: '1' }], [5, { a: '1' }]])
  const last = await objects.list(all('configmaps'), { limit: 2, continue: rest.continue })
  expect([names(last.items), last.continue, last.revision]).toEqual([['b/3'], '', 6])
  expect(names((await objects.list(all('configmaps'), {})).items)).toEqual(['a/1', 'a/2', 'b/1', 'b/3', 'b/9'])
  const inOne = await objects.list({ resource: 'configmaps', namespace: 'b' }, { limit: 1 })
  expect(names((await objects.list({ resource: 'configmaps', namespace: 'b' }, { continue: inOne.continue })).items)).toEqual(['b/3', 'b/9'])
  const selected = await objects.list(right, { limit: 1 })
  expect([names(selected.items), selected.remainingItemCount]).toEqual([['b/3'], undefined])
})

test('a list of many is whole, whatever changes meanwhile', async () => {
  const { table, objects } = await openObjects()
  const keys = Array.from({ length: 300 }, (_, i) => `ns/${String(i).padStart(4, '0')}`)
  await put(table, ...keys)
  const listing = objects.list(all('configmaps'), {})
  await apply(table.down, batchOf('configmaps', { 'ns/0299': configMap('ns/0299', 'new'), 'ns/9999': configMap('ns/9999') }, ['ns/0298']))
  const { items, revision } = await listing
  const shown = new Map(items.map(stored => [stored.name, stored]))
  if (revision === 301) {
    expect(shown.size).toBe(300)
    expect(shown.get('0299')!.object['data']).toEqual({ a: '1' })
  } else {
    expect(shown.has('0298')).toBe(false)
    expect(shown.has('9999')).toBe(true)
  }
  for (const stored of items) expect(stored.revision).toBeLessThanOrEqual(revision)
})

test('a watch begins with what is there, and goes on with what changes', async () => {
  const { table, objects } = await openObjects()
  await put(table, 'a/1', 'b/1')
  const watch = reading(objects.watch({ resource: 'configmaps', namespace: 'a' }, {}))
  expect(await watch.next()).toEqual(['ADDED a/1 2'])
  await apply(table.down, batchOf('configmaps', { 'a/1': configMap('a/1', '2'), 'b/1': configMap('b/1', '2') }))
  await apply(table.down, batchOf('configmaps', {}, ['a/1']))
  expect(await watch.take(2)).toEqual(['MODIFIED a/1 4', 'DELETED a/1 6'])
  expect((watch.events.at(-1) as { stored: StoredObject }).stored.object).toMatchObject({ metadata: { resourceVersion: '6' }, data: { a: '2' } })
})

test('a watch of a selection sees what enters it and what leaves it', async () => {
  const { table, objects } = await openObjects()
  const labelled = all('configmaps', ({ object }) => object.metadata.labels?.['on'] === 'yes')
  await apply(table.down, batchOf('configmaps', { 'a/1': configMap('a/1', '1', { on: 'no' }) }))
  const watch = reading(objects.watch(labelled, { resourceVersion: '1' }))
  for (const on of ['yes', 'no']) await apply(table.down, batchOf('configmaps', { 'a/1': configMap('a/1', on, { on }) }))
  expect(await watch.take(2)).toEqual(['ADDED a/1 3', 'DELETED a/1 4'])
})

test('initial events end with a bookmark where that is asked for', async () => {
  const { table, objects } = await openObjects()
  await put(table, 'a/1')
  const watch = reading(objects.watch(all('configmaps'), {
    sendInitialEvents: true, resourceVersionMatch: 'NotOlderThan', allowWatchBookmarks: true
  }))
  expect(await watch.take(2)).toEqual(['ADDED a/1 2', 'BOOKMARK 2 initial'])
})

test('changes of a pod and of its status in one commit are one event; a status alone is another', async () => {
  const { table, objects } = await openObjects()
  const watch = reading(objects.watch(all('pods'), { resourceVersion: '1' }))
  await apply(table.down, batchOf('pods', { 'a/web': sentObject('pods', 'a/web') }))
  expect(await watch.next()).toEqual(['ADDED a/web 3'])
  await putUp(table, 'pod-status', 'a/web', Buffer.from('{"metadata":{},"status":{"phase":"Running"}}'))
  expect(await watch.next()).toEqual(['MODIFIED a/web 4'])
  await apply(table.down, batchOf('pods', {}, ['a/web']))
  expect(await watch.next()).toEqual(['DELETED a/web 6'])
  expect((watch.events.at(-1) as { stored: StoredObject }).stored.object['status']).toEqual({ phase: 'Running' })
})

test('an object that was damaged is DELETED for those who watch', async () => {
  const store = new MemoryStore()
  const { table, objects } = await openObjects(store)
  await put(table, 'a/1')
  const watch = reading(objects.watch(all('configmaps'), { resourceVersion: '2' }))
  store.write([{ type: 'put', key: itemKey(tables.objectDown, 'configmaps', 'a/1'), value: Buffer.from('nonsense') }], { sync: true }, () => {})
  await table.down.digest('configmaps')
  expect(await watch.next()).toEqual(['DELETED a/1 3'])
  expect((watch.events[0] as { stored: StoredObject }).stored.object).toEqual({
    kind: 'ConfigMap', apiVersion: 'v1', metadata: { name: '1', namespace: 'a', resourceVersion: '3' }
  })
})

test('resourceVersions: what is too old is 410, what is to come 504, what is none 500', async () => {
  const store = new MemoryStore()
  {
    const { table } = await openObjects(store)
    await put(table, 'a/1', 'a/2')
  }
  const { objects } = await openObjects(store)
  expect(objects.revision).toBe(3)
  expect(refusal(() => objects.watch(all('configmaps'), { resourceVersion: '2' }))).toMatchObject({ code: 410, reason: 'Expired' })
  reading(objects.watch(all('configmaps'), { resourceVersion: '3' }))
  await expect(objects.get({ resource: 'configmaps', namespace: 'a', name: '1' }, '4')).rejects.toMatchObject({ code: 504 })
  await expect(objects.get({ resource: 'configmaps', namespace: 'a', name: '1' }, 'x')).rejects.toMatchObject({ code: 500 })
  await expect(objects.list(all('configmaps'), { resourceVersion: '4' })).rejects.toMatchObject({ code: 504 })
  await expect(objects.list(all('configmaps'), { resourceVersion: '2', resourceVersionMatch: 'Exact' })).rejects.toMatchObject({ code: 410 })
  expect((await objects.list(all('configmaps'), { resourceVersion: '2', resourceVersionMatch: 'NotOlderThan' })).revision).toBe(3)
})

test('the past is bounded: a watch whose reader stays behind ends, and older resourceVersions expire', async () => {
  const { table, objects } = await openObjects()
  await put(table, 'a/1')
  const slow = objects.watch(all('configmaps'), { resourceVersion: '2' })
  const big = 'x'.repeat(200_000)
  for (let n = 0; n < 8; n++) await apply(table.down, batchOf('configmaps', { 'a/1': configMap('a/1', `${n}${big}`) }))
  await expect.poll(() => slow.end).toBe('overflow')
  expect(refusal(() => objects.watch(all('configmaps'), { resourceVersion: '2' }))).toMatchObject({ code: 410 })
  expect((await objects.list(all('configmaps'), {})).items).toHaveLength(1)
})

test('when the store was opened again, watches end as expired and the next list shows what is there', async () => {
  const store = new MemoryStore()
  const { table, objects } = await openObjects(store)
  await put(table, 'a/1')
  const watch = reading(objects.watch(all('configmaps'), { resourceVersion: '2' }))
  const other = new MemoryStore()
  await table.reopen(other, true)
  expect(await watch.next()).toEqual(['END'])
  await watch.closed
  const { items, revision } = await objects.list(all('configmaps'), {})
  expect(items).toEqual([])
  expect(revision).toBeGreaterThan(2 ** 32)
})

test('while the database is opened again, reading is refused for a moment', async () => {
  const store = new MemoryStore()
  const { table, objects } = await openObjects(store)
  await put(table, 'a/1')
  await store.close()
  const refused = { code: 503, reason: 'ServiceUnavailable', details: { retryAfterSeconds: 1 } }
  await expect(objects.get({ resource: 'configmaps', namespace: 'a', name: '1' })).rejects.toMatchObject(refused)
  await expect(objects.list(all('configmaps'), {})).rejects.toMatchObject(refused)
})
