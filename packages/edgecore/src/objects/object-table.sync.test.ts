import { decodeFrame, encodeFrame } from '@holdfast/protos'
import { MemoryStore, tables } from '@holdfast/store'
import { StateReader, StateWriter, contentVersion, newStateStats, stateDigest } from '@holdfast/sync'
import type { StateItem, StateSource, StateTarget } from '@holdfast/sync'
import { expect, test } from 'vitest'
import { downCollections } from './collections.ts'
import { itemKey } from './object-format.ts'
import { openTable, putUp, sentObject } from './testing/object-harness.ts'

/** What a cloud wants for a node, in memory. */
class Wanted implements StateSource {
  readonly collections = downCollections
  readonly items = new Map<string, Map<string, StateItem>>(downCollections.map(name => [name, new Map()]))

  put(collection: string, key: string, value = sentObject(collection, key)): void {
    this.items.get(collection)!.set(key, { version: contentVersion(value), value })
  }

  ready(): boolean { return true }
  position(): string { return 'here' }
  digest(collection: string): Buffer { return stateDigest(this.keysFrom(collection, '')) }
  version(collection: string, key: string): Buffer | undefined { return this.items.get(collection)!.get(key)?.version }
  value(collection: string, key: string): Buffer | undefined { return this.items.get(collection)!.get(key)?.value }
  *keysFrom(collection: string, after: string): Iterable<readonly [string, Buffer]> {
    const items = this.items.get(collection)!
    for (const key of [...items.keys()].toSorted()) if (key > after) yield [key, items.get(key)!.version]
  }
  subscribe(): () => void { return () => {} }
}

/** One session between them, over encoded frames, until nothing moves. Resolves with what was sent down. */
async function session(source: StateSource, target: StateTarget): Promise<{ items: number, frames: number, inventories: number }> {
  const stats = newStateStats()
  let woken = (): void => {}
  const writer = new StateWriter(source, { onReady: () => woken(), onWithheld: message => { throw new Error(message) }, stats })
  const reader = new StateReader(target, {
    onReady: () => woken(), onFailed: message => { throw new Error(message) }, stats: newStateStats()
  })
  await expect.poll(() => reader.digested).toBe(true)
  writer.told(reader.takeDigests())
  reader.verdicts(writer.takeVerdicts())
  let [frames, inventories, nowMs] = [0, 0, 0]
  for (;;) {
    const waiting = new Promise<void>(resolve => { woken = resolve })
    let moved = false
    for (let output = writer.next(++nowMs); output !== undefined; output = writer.next(++nowMs)) {
      const frame = decodeFrame(encodeFrame(output.frame))
      if (frame.kind === 'state-verdict') reader.verdicts(frame.verdicts)
      else if (frame.kind === 'state-changes') reader.receive(frame)
      frames++
      moved = true
    }
    for (let frame = reader.next(); frame !== undefined; frame = reader.next()) {
      const arrived = decodeFrame(encodeFrame(frame))
      if (arrived.kind === 'state-inventory') {
        inventories++
        writer.inventory(arrived)
      } else if (arrived.kind === 'state-ack') writer.acknowledged(arrived, ++nowMs)
      else if (arrived.kind === 'state-digest') writer.told(arrived.digests)
      moved = true
    }
    if (writer.settled) break
    if (!moved) await waiting
  }
  writer.close()
  reader.close()
  return { items: stats.itemsPut + stats.itemsDeleted, frames, inventories }
}

test('a thousand objects come down; a session with nothing changed costs digests alone', async () => {
  const wanted = new Wanted()
  for (let i = 0; i < 1000; i++) {
    wanted.put('configmaps', `ns-${i % 7}/map-${i}`, sentObject('configmaps', `ns-${i % 7}/map-${i}`, { data: { text: `${i}`.repeat(300) } }))
  }
  wanted.put('pods', 'ns-0/web')
  const store = new MemoryStore()
  const first = await openTable(store)
  const { table } = first
  expect(await session(wanted, table.down)).toMatchObject({ items: 1001 })
  for (const name of downCollections) expect(await table.down.digest(name)).toEqual(wanted.digest(name))
  expect(table.down.position('configmaps')).toBe('here')
  expect(await session(wanted, table.down)).toEqual({ items: 0, frames: 0, inventories: 0 })
  await first.committer.close()
  await using again = await openTable(store)
  expect(await session(wanted, again.table.down)).toEqual({ items: 0, frames: 0, inventories: 0 })
})

test('what was deleted, re-created and damaged while the link was down is right after it, and only that is sent', async () => {
  const wanted = new Wanted()
  for (let i = 0; i < 50; i++) wanted.put('configmaps', `ns/map-${i}`)
  wanted.put('pods', 'ns/web')
  const store = new MemoryStore()
  await using harness = await openTable(store)
  const { table } = harness
  await session(wanted, table.down)
  wanted.items.get('configmaps')!.delete('ns/map-7')
  wanted.put('pods', 'ns/web', sentObject('pods', 'ns/web', {}, { uid: 'another' }))
  const damaged = itemKey(tables.objectDown, 'configmaps', 'ns/map-30')
  const bytes = Buffer.from((await store.get(damaged))!)
  bytes[60]! ^= 1
  store.write([{ type: 'put', key: damaged, value: bytes }], { sync: true }, () => {})
  expect((await session(wanted, table.down)).items).toBe(3)
  for (const name of downCollections) expect(await table.down.digest(name)).toEqual(wanted.digest(name))
  expect(table.up.value('pod-status', 'ns/web')!.toString()).toContain('"uid":"another"')
})

test('statuses go up, and a session with nothing changed sends none', async () => {
  const store = new MemoryStore()
  await using edge = await openTable(store)
  const wanted = new Wanted()
  wanted.put('pods', 'ns/web')
  await session(wanted, edge.table.down)
  await putUp(edge.table, 'node-status', 'edge-1', Buffer.from('{}'))
  const held = new Map<string, Buffer>()
  const cloud: StateTarget = {
    collections: edge.table.up.collections,
    digest: collection => stateDigest(cloud.keysFrom(collection, '')),
    position: () => '',
    *keysFrom(collection, after) {
      for (const path of [...held.keys()].toSorted()) {
        const [name, ...rest] = path.split(' ')
        if (name === collection && rest[0]! > after) yield [rest[0]!, held.get(path)!] as const
      }
    },
    apply({ collection, puts, deletes }, onApplied) {
      for (const { key, version } of puts) held.set(`${collection} ${key}`, Buffer.from(version))
      for (const key of deletes) held.delete(`${collection} ${key}`)
      onApplied()
    }
  }
  expect(await session(edge.table.up, cloud)).toMatchObject({ items: 2 })
  expect([...held.keys()].toSorted()).toEqual(['node-status edge-1', 'pod-status ns/web'])
  expect(await session(edge.table.up, cloud)).toEqual({ items: 0, frames: 0, inventories: 0 })
  wanted.items.get('pods')!.clear()
  await session(wanted, edge.table.down)
  expect(await session(edge.table.up, cloud)).toMatchObject({ items: 1 })
  expect([...held.keys()]).toEqual(['node-status edge-1'])
})
