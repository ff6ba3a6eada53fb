import { MemoryStore, tables } from '@holdfast/store'
import type { Store, StoreEntry } from '@holdfast/store'
import { expect, test } from 'vitest'
import { itemKey } from './object-format.ts'
import { ObjectSalvage } from './object-salvage.ts'
import { apply, batchOf, openTable, putUp, sentObject } from './testing/object-harness.ts'

const everything = { gte: Buffer.from([0]), lt: Buffer.from([0xff]) }

async function* found(store: Store): AsyncGenerator<StoreEntry> { yield* await store.scan(everything) }

test('L11: what is sound is taken over, the rest is counted, what is not an object is passed on', async () => {
  const store = new MemoryStore()
  const before = await openTable(store)
  await apply(before.table.down, batchOf('configmaps', { 'a/1': sentObject('configmaps', 'a/1'), 'a/2': sentObject('configmaps', 'a/2') }, [], 'p4'))
  await apply(before.table.down, batchOf('pods', { 'a/web': sentObject('pods', 'a/web') }))
  await putUp(before.table, 'node-status', 'edge-1', Buffer.from('{}'))
  await before.committer.close()
  const harmed = itemKey(tables.objectDown, 'configmaps', 'a/2')
  const other = { key: Buffer.from([tables.meta, 1]), value: Buffer.from('kept by others') }
  await new Promise<void>(resolve => store.write([
    { type: 'put', key: harmed, value: Buffer.from('nonsense') }, { type: 'put', ...other }
  ], { sync: true }, () => resolve()))
  const salvaged = new MemoryStore()
  const salvage = new ObjectSalvage(salvaged)
  const passed: StoreEntry[] = []
  for await (const entry of salvage.taking(found(store))) passed.push(entry)
  expect(passed).toEqual([other])
  expect(salvage.counts).toEqual({ objects: 2, damagedObjects: 1 })
  await using after = await openTable(salvaged, { suspect: true })
  expect([...after.table.heads('configmaps')]).toEqual([['a/1', 2]])
  expect(after.table.down.position('configmaps')).toBe('p4')
  expect(after.table.upItem('pod-status', 'a/web')!.value).toEqual(before.table.upItem('pod-status', 'a/web')!.value)
  expect(after.table.sequence).toBeGreaterThanOrEqual(before.table.sequence + 2 ** 32)
})
