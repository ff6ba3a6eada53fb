import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { HoldfastError, hasCode } from '@holdfast/runtime'
import { LevelStore, MemoryStore, tables } from '@holdfast/store'
import type { Store } from '@holdfast/store'
import { contentVersion, stateDigest } from '@holdfast/sync'
import { expect, onTestFinished, test, vi } from 'vitest'
import { headKey, itemKey, nameKey } from './object-format.ts'
import type { ObjectChange } from './object-commit.ts'
import type { ObjectTable } from './object-table.ts'
import { apply, batchOf, openTable, putUp, sentObject } from './testing/object-harness.ts'

const settings = (data: string): Buffer => sentObject('configmaps', 'default/settings', { data: { a: data } })

/** Everything that somebody can see of a table. */
async function seen(table: ObjectTable): Promise<unknown> {
  const items: unknown[] = []
  for (const collection of table.down.collections) {
    for (const [key, sequence] of table.heads(collection)) {
      const item = await table.read(collection, key)
      items.push([collection, key, sequence, item?.sequence, item?.value.toString()])
    }
    items.push([collection, table.down.position(collection), (await table.down.digest(collection)).toString('hex')])
  }
  for (const collection of table.up.collections) {
    for (const [key, version] of table.up.keysFrom(collection, '')) {
      items.push([collection, key, version.toString('hex'), table.up.value(collection, key)?.toString()])
    }
  }
  return { items, namespaces: table.namespaces(), sequence: table.sequence }
}

function recordChanges(table: ObjectTable): ObjectChange[] {
  const changes: ObjectChange[] = []
  table.subscribe({ changed: made => changes.push(...made), reset() {} })
  return changes
}

/** Overwrites what is stored. */
function tamper(store: Store, key: Buffer, change: (value: Buffer) => Buffer | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    void store.get(key).then(value => {
      const changed = change(value!)
      store.write([changed === undefined ? { type: 'del', key } : { type: 'put', key, value: changed }], { sync: true }, error => {
        if (error === undefined) resolve()
        else reject(error)
      })
    })
  })
}

const flipped = (at: number) => (value: Buffer): Buffer => {
  const copy = Buffer.from(value)
  copy[at < 0 ? copy.length + at : at]! ^= 0x10
  return copy
}

async function levelFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-objects-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  return join(folder, 'db')
}

test('what was there before a change is not read again where it came lately, and is read where it is large or from before the start', async () => {
  const store = new MemoryStore()
  const large = settings('x'.repeat(16_384))
  await (async () => {
    await using harness = await openTable(store)
    await apply(harness.table.down, batchOf('configmaps', { 'default/settings': settings('1') }, [], ''))
  })()
  await using harness = await openTable(store)
  const { table } = harness
  const changes = recordChanges(table)
  const reads = vi.spyOn(store, 'get')
  const counts: number[] = []
  for (const value of [settings('2'), settings('3'), large, settings('4')]) {
    reads.mockClear()
    await apply(table.down, batchOf('configmaps', { 'default/settings': value }, [], ''))
    counts.push(reads.mock.calls.length)
  }
  await apply(table.down, batchOf('configmaps', {}, ['default/settings'], ''))
  expect(counts).toEqual([1, 0, 0, 1])
  expect(changes.filter(({ what }) => what === 'down').map(({ previous }) => previous))
    .toEqual([settings('1'), settings('2'), settings('3'), large, settings('4')])
})

test('a batch is visible as a whole, with a sequence for every change', async () => {
  await using harness = await openTable(new MemoryStore())
  const { table } = harness
  const changes = recordChanges(table)
  const other = sentObject('configmaps', 'other/b')
  expect(table.sequence).toBe(1)
  await apply(table.down, batchOf('configmaps', { 'default/settings': settings('1'), 'other/b': other }, [], 'p1'))
  expect([...table.heads('configmaps')]).toEqual([['default/settings', 2], ['other/b', 3]])
  expect((await table.read('configmaps', 'default/settings'))?.value).toEqual(settings('1'))
  expect(table.sequence).toBe(3)
  expect(table.down.position('configmaps')).toBe('p1')
  expect(table.namespaces()).toEqual([['default', 2], ['other', 3]])
  await apply(table.down, batchOf('configmaps', { 'default/settings': settings('2') }, ['other/b', 'other/none'], 'p2'))
  expect([...table.heads('configmaps')]).toEqual([['default/settings', 4]])
  expect(table.sequence).toBe(5)
  expect(table.down.position('configmaps')).toBe('p2')
  expect(changes.map(({ sequence, what, key, value, previous }) =>
    [sequence, what, key, value?.toString(), previous?.toString()])).toEqual([
    [2, 'namespace', 'default', '', undefined],
    [2, 'down', 'default/settings', settings('1').toString(), undefined],
    [3, 'namespace', 'other', '', undefined],
    [3, 'down', 'other/b', other.toString(), undefined],
    [4, 'down', 'default/settings', settings('2').toString(), settings('1').toString()],
    [5, 'down', 'other/b', undefined, other.toString()],
    [5, 'namespace', 'other', undefined, '']
  ])
})

test('the digest is that of the values', async () => {
  await using harness = await openTable(new MemoryStore())
  const { down } = harness.table
  expect(await down.digest('secrets')).toEqual(stateDigest([]))
  const values = Object.fromEntries(['b/y', 'a/z', 'a/b'].map(key => [key, sentObject('secrets', key)]))
  await apply(down, batchOf('secrets', values))
  const versions = ['a/b', 'a/z', 'b/y'].map(key => [key, contentVersion(values[key]!)] as const)
  expect(await down.digest('secrets')).toEqual(stateDigest(versions))
  expect([...down.keysFrom('secrets', '')]).toEqual(versions)
  expect([...down.keysFrom('secrets', 'a/b')]).toEqual(versions.slice(1))
})

test('L7: a hundred restarts without a network serve the same', async () => {
  const path = await levelFolder()
  let first: unknown
  for (let start = 0; start < 100; start++) {
    const store = await LevelStore.open({ path })
    const { table, committer } = await openTable(store)
    if (start === 0) {
      await apply(table.down, batchOf('configmaps', { 'default/settings': settings('1'), 'default/gone': sentObject('configmaps', 'default/gone') }))
      await apply(table.down, batchOf('pods', { 'default/web': sentObject('pods', 'default/web') }, [], 'p7'))
      await putUp(table, 'node-status', 'edge-1', Buffer.from('{}'))
      // A deletion is the last change: its sequence must not be given out again.
      await apply(table.down, batchOf('configmaps', {}, ['default/gone']))
      first = await seen(table)
      expect(table.sequence).toBe(7)
    }
    expect(await seen(table)).toEqual(first)
    await committer.close()
    await store.close()
  }
})

test.each<[string, string, Buffer]>([
  ['the value is not JSON', 'default/settings', Buffer.from('{')],
  ['the value is not an object with metadata', 'default/settings', Buffer.from('{"metadata":[]}')],
  ['expected kind ConfigMap of v1', 'default/settings', sentObject('secrets', 'default/settings')],
  ['the object is "default/settings"', 'default/other', settings('1')],
  ['the namespace does not fit the kind', 'settings', sentObject('configmaps', 'settings')],
  ['the object has no uid', 'default/settings', sentObject('configmaps', 'default/settings', {}, { uid: undefined })],
  ['the labels are not text', 'default/settings', sentObject('configmaps', 'default/settings', {}, { labels: { a: 1 } })],
  ['not a key', 'default/é', settings('1')],
  ['not a key', 'a/b/c', settings('1')],
  ['not a key', 'x'.repeat(513), settings('1')],
  ['more than 3145728', 'default/settings', Buffer.alloc(3 * 1024 * 1024 + 1, ' ')]
])('an item that cannot be held refuses its batch: %s', async (why, key, value) => {
  await using harness = await openTable(new MemoryStore())
  const { table } = harness
  const refusal = apply(table.down, batchOf('configmaps', { 'default/fine': sentObject('configmaps', 'default/fine'), [key]: value }))
  await expect(refusal).rejects.toThrow(why)
  await expect(refusal).rejects.toMatchObject({ code: 'OBJECT_REFUSED' })
  expect(table.count('configmaps')).toBe(0)
  expect(table.stats).toMatchObject({ refusedBatches: 1, putItems: 0 })
})

test('a batch is refused whose versions are not those of the values, that names a key twice, or an unknown collection', async () => {
  await using harness = await openTable(new MemoryStore())
  const { down } = harness.table
  const [put] = batchOf('configmaps', { 'default/settings': settings('1') }).puts
  const refused = (batch: Partial<ReturnType<typeof batchOf>>): Promise<void> =>
    expect(apply(down, { ...batchOf('configmaps', {}), ...batch })).rejects.toMatchObject({ code: 'OBJECT_REFUSED' })
  await refused({ puts: [{ ...put!, version: Buffer.alloc(16) }] })
  await refused({ puts: [put!, put!] })
  await refused({ puts: [put!], deletes: ['default/settings'] })
  await refused({ collection: 'gadgets' })
})

test('behind a failed batch nothing of the same session is applied, and the next session begins afresh', async () => {
  await using harness = await openTable(new MemoryStore())
  const { down } = harness.table
  const outcomes = await Promise.allSettled([
    apply(down, batchOf('configmaps', { 'default/settings': settings('1') })),
    apply(down, batchOf('configmaps', { 'default/wrong': settings('1') })),
    apply(down, batchOf('configmaps', { 'default/settings': settings('2') }, [], 'p2'))
  ])
  expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'rejected'])
  expect(down.position('configmaps')).toBe('')
  expect((await harness.table.read('configmaps', 'default/settings'))?.value).toEqual(settings('1'))
  await apply(down, batchOf('configmaps', { 'default/settings': settings('3') }, [], 'p3'))
  expect(down.position('configmaps')).toBe('p3')
})

const damage: [string, (store: Store, stored: Buffer) => Promise<void>][] = [
  ...[0, 3, 9, 12, 40, -1].map((at): [string, (store: Store, stored: Buffer) => Promise<void>] =>
    [`bit flipped at ${at}`, (store, stored) => tamper(store, stored, flipped(at))]),
  ['vanished', (store, stored) => tamper(store, stored, () => undefined)],
  ['another item\'s value', async (store, stored) => {
    const other = await store.get(itemKey(tables.objectDown, 'configmaps', 'default/other'))
    await tamper(store, stored, () => other)
  }],
  ['cut short', (store, stored) => tamper(store, stored, value => value.subarray(0, 20))]
]

test.each(damage)('a damaged item makes the digest differ, is dropped, and can be sent again: %s', async (_what, harm) => {
  const store = new MemoryStore()
  await using harness = await openTable(store)
  const { table } = harness
  const other = sentObject('configmaps', 'default/other')
  await apply(table.down, batchOf('configmaps', { 'default/settings': settings('1'), 'default/other': other }))
  const sound = await table.down.digest('configmaps')
  const changes = recordChanges(table)
  await harm(store, itemKey(tables.objectDown, 'configmaps', 'default/settings'))
  const rest = stateDigest([['default/other', contentVersion(other)]])
  expect(await table.down.digest('configmaps')).toEqual(rest)
  expect([...table.down.keysFrom('configmaps', '')].map(([key]) => key)).toEqual(['default/other'])
  expect(table.stats.damagedItems).toBe(1)
  expect(changes.map(({ what, key, value }) => [what, key, value])).toEqual([['down', 'default/settings', undefined]])
  await apply(table.down, batchOf('configmaps', { 'default/settings': settings('1') }))
  expect(await table.down.digest('configmaps')).toEqual(sound)
  expect(table.stats.damagedItems).toBe(1)
})

test.each(damage)('a damaged item is not loaded: %s', async (what, harm) => {
  const store = new MemoryStore()
  const other = sentObject('configmaps', 'default/other')
  {
    await using harness = await openTable(store)
    await apply(harness.table.down, batchOf('configmaps', { 'default/settings': settings('1'), 'default/other': other }))
  }
  await harm(store, itemKey(tables.objectDown, 'configmaps', 'default/settings'))
  await using harness = await openTable(store)
  expect([...harness.table.heads('configmaps')].map(([key]) => key)).toEqual(['default/other'])
  expect(harness.table.stats.damagedItems).toBe(what === 'vanished' ? 0 : 1)
  expect(await harness.table.down.digest('configmaps')).toEqual(stateDigest([['default/other', contentVersion(other)]]))
  expect(await store.scan({ gte: Buffer.from([tables.objectDown]), lt: Buffer.from([tables.objectUp]) })).toHaveLength(1)
})

test('a reader who meets damage gets nothing, and the cloud is asked to compare again', async () => {
  const store = new MemoryStore()
  await using harness = await openTable(store)
  const { table } = harness
  await apply(table.down, batchOf('configmaps', { 'default/settings': settings('1') }))
  await tamper(store, itemKey(tables.objectDown, 'configmaps', 'default/settings'), flipped(30))
  const damaged = new Promise<string>(resolve => table.down.subscribe!(resolve))
  expect(await table.read('configmaps', 'default/settings')).toBeUndefined()
  expect(await damaged).toBe('configmaps')
  expect(table.count('configmaps')).toBe(0)
})

test('a pod that is held says why, once for each uid, and its status goes with it', async () => {
  const store = new MemoryStore()
  const harness = await openTable(store)
  const { table } = harness
  const told: string[] = []
  table.up.subscribe({ keyChanged: (collection, key) => told.push(`${collection} ${key}`), collectionChanged() {} })
  await apply(table.down, batchOf('pods', { 'default/web': sentObject('pods', 'default/web') }))
  const status = (): Record<string, unknown> => JSON.parse(table.up.value('pod-status', 'default/web')!.toString()) as Record<string, unknown>
  expect(status()).toMatchObject({
    metadata: { name: 'web', namespace: 'default', uid: 'uid-default/web' },
    status: { phase: 'Pending', reason: 'NoContainerRuntime', message: 'held on this node; no container runtime is configured' }
  })
  const version = table.up.version('pod-status', 'default/web')!
  expect(version.toString('hex')).toBe(`${table.epoch}0000000000000003`)
  expect(table.up.digest('pod-status')).toEqual(stateDigest([['default/web', version]]))
  await apply(table.down, batchOf('pods', { 'default/web': sentObject('pods', 'default/web', { spec: { hostname: 'x' } }) }))
  expect(table.up.version('pod-status', 'default/web')).toEqual(version)
  await apply(table.down, batchOf('pods', { 'default/web': sentObject('pods', 'default/web', {}, { uid: 'second' }) }))
  expect(status()).toMatchObject({ metadata: { uid: 'second' } })
  await apply(table.down, batchOf('pods', {}, ['default/web']))
  expect([...table.up.keysFrom('pod-status', '')]).toEqual([])
  expect(told).toEqual(Array(3).fill('pod-status default/web'))
  await harness.committer.close()
  await using again = await openTable(store)
  expect([...again.table.up.keysFrom('pod-status', '')]).toEqual([])
  expect(again.table.sequence).toBe(table.sequence)
})

test('a status whose pod is lost goes, and a pod whose status is lost gets one', async () => {
  const store = new MemoryStore()
  {
    await using harness = await openTable(store)
    await apply(harness.table.down, batchOf('pods', { 'a/one': sentObject('pods', 'a/one'), 'b/two': sentObject('pods', 'b/two') }))
  }
  await tamper(store, itemKey(tables.objectDown, 'pods', 'a/one'), flipped(30))
  await tamper(store, itemKey(tables.objectUp, 'pod-status', 'b/two'), flipped(30))
  await tamper(store, nameKey(tables.objectNamespace, 'b'), flipped(-1))
  const harness = await openTable(store)
  expect([...harness.table.up.keysFrom('pod-status', '')].map(([key]) => key)).toEqual(['b/two'])
  expect(harness.table.namespaces().map(([name]) => name)).toEqual(['b'])
  const now = await seen(harness.table)
  await harness.committer.close()
  await using again = await openTable(store)
  expect(await seen(again.table)).toEqual(now)
})

test.each<[string, boolean, (store: Store) => Promise<void>]>([
  ['the store may have lost its end', true, async () => {}],
  ['the head is damaged', false, store => tamper(store, headKey, flipped(5))],
  ['the head is lost', false, store => tamper(store, headKey, () => undefined)]
])('no resourceVersion is given out twice where %s', async (_what, suspect, harm) => {
  const store = new MemoryStore()
  const before = await openTable(store)
  await apply(before.table.down, batchOf('pods', { 'a/one': sentObject('pods', 'a/one') }))
  await before.committer.close()
  await harm(store)
  await using after = await openTable(store, { suspect })
  expect(after.table.sequence).toBeGreaterThanOrEqual(before.table.sequence + 2 ** 32)
  expect([...after.table.heads('pods')]).toEqual([...before.table.heads('pods')])
  const { sequence } = after.table
  await after.committer.close()
  await using again = await openTable(store)
  expect(again.table.sequence).toBe(sequence)
})

test('STA-30: every start gives versions of an epoch of its own, and what does not change keeps the one that it has', async () => {
  const store = new MemoryStore()
  const first = await openTable(store)
  await putUp(first.table, 'node-status', 'edge-1', Buffer.from('{"n":1}'))
  const version = first.table.up.version('node-status', 'edge-1')!
  expect(version.toString('hex')).toBe(`${first.table.epoch}0000000000000002`)
  await first.committer.close()
  await using second = await openTable(store)
  expect(second.table.epoch).not.toBe(first.table.epoch)
  expect(second.table.up.version('node-status', 'edge-1')).toEqual(version)
  await putUp(second.table, 'node-status', 'edge-1', Buffer.from('{"n":2}'))
  expect(second.table.up.version('node-status', 'edge-1')!.toString('hex')).toBe(`${second.table.epoch}0000000000000003`)
})

test('STA-34: a status of which the cloud has a later version of the same epoch is stamped anew', async () => {
  const store = new MemoryStore()
  const first = await openTable(store)
  await apply(first.table.down, batchOf('pods', { 'a/one': sentObject('pods', 'a/one'), 'a/two': sentObject('pods', 'a/two') }))
  await first.committer.close()
  await using harness = await openTable(store)
  const { table } = harness
  const version = (key: string): Buffer => table.up.version('pod-status', key)!
  const before = version('a/one')
  const value = table.up.value('pod-status', 'a/one')
  const told: string[] = []
  table.up.subscribe({ keyChanged: (_collection, key) => told.push(key), collectionChanged() {} })
  const counted = (epoch: Buffer, counter: number): Buffer => {
    const bytes = Buffer.concat([epoch.subarray(0, 8), Buffer.alloc(8)])
    bytes.writeBigUInt64BE(BigInt(counter), 8)
    return bytes
  }
  for (const other of [counted(Buffer.alloc(8, 7), 1000), Buffer.from('short'), counted(before, 0), before]) {
    table.up.met!('pod-status', 'a/one', other)
  }
  await harness.committer.flush()
  expect(version('a/one')).toEqual(before)
  table.up.met!('pod-status', 'a/one', counted(before, 1000))
  expect(told).toEqual([])
  await harness.committer.flush()
  expect(told).toEqual(['a/one'])
  expect(version('a/one').toString('hex')).toMatch(new RegExp(`^${table.epoch}`))
  expect(table.up.value('pod-status', 'a/one')).toEqual(value)
  expect(version('a/two').subarray(0, 8)).toEqual(before.subarray(0, 8))
})

test('on a nearly full disk what comes down waits, but deletions go on', async () => {
  await using harness = await openTable(new MemoryStore())
  const { table } = harness
  await apply(table.down, batchOf('configmaps', { 'default/settings': settings('1') }))
  table.hold(true)
  table.hold(true)
  await apply(table.down, batchOf('configmaps', {}, ['default/settings']))
  let applied = false
  const waiting = apply(table.down, batchOf('configmaps', { 'default/settings': settings('2') })).then(() => { applied = true })
  await putUp(table, 'node-status', 'edge-1', Buffer.from('{}'))
  expect([applied, table.count('configmaps')]).toEqual([false, 0])
  table.hold(false)
  await waiting
  expect(table.count('configmaps')).toBe(1)
})

test('what a newer release wrote is refused with a sentence', async () => {
  const store = new MemoryStore()
  {
    await using harness = await openTable(store)
    await apply(harness.table.down, batchOf('configmaps', { 'default/settings': settings('1') }))
  }
  const key = itemKey(tables.objectDown, 'configmaps', 'default/settings')
  await tamper(store, key, value => {
    const newer = Buffer.from(value)
    newer[0] = 9
    newer.writeUInt32BE(crc32(newer.subarray(0, -4), crc32(key)), newer.length - 4)
    return newer
  })
  await expect(openTable(store)).rejects.toMatchObject({ code: 'OBJECTS_NEWER', message: expect.stringContaining('format 9') as string })
})

/** Fails the writes from the n-th on, after which nothing is stored. */
class FailingStore extends MemoryStore {
  left = Infinity

  override write(...[ops, options, onDone]: Parameters<Store['write']>): void {
    if (this.left-- > 0) super.write(ops, options, onDone)
    else queueMicrotask(() => onDone(new HoldfastError('STORE_FAILED', 'EIO')))
  }
}

test('a commit that fails is not visible; after the reopening it goes on, and no sequence comes twice', async () => {
  const store = new FailingStore()
  await using harness = await openTable(store)
  const { table, committer } = harness
  await apply(table.down, batchOf('configmaps', { 'default/settings': settings('1') }, [], 'p1'))
  const changes = recordChanges(table)
  store.left = 0
  const failed = await apply(table.down, batchOf('configmaps', { 'more/b': sentObject('configmaps', 'more/b') }, [], 'p2'))
    .catch((error: unknown) => error)
  expect(hasCode(failed, 'STORE_FAILED')).toBe(true)
  await expect(putUp(table, 'node-status', 'edge-1', Buffer.from('{}'))).rejects.toThrow('EIO')
  expect(changes).toEqual([])
  expect(table.down.position('configmaps')).toBe('p1')
  expect(table.count('configmaps')).toBe(1)
  expect(table.namespaces().map(([name]) => name)).toEqual(['default'])
  expect(table.sequence).toBe(2)
  let resets = 0
  table.subscribe({ changed() {}, reset: () => { resets++ } })
  store.left = Infinity
  await table.reopen(store, false)
  committer.resume(store)
  expect(resets).toBe(1)
  await apply(table.down, batchOf('configmaps', { 'more/b': sentObject('configmaps', 'more/b') }, [], 'p2'))
  expect(changes.at(-1)!.sequence).toBeGreaterThan(4)
  expect(table.down.position('configmaps')).toBe('p2')
})
