import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { HoldfastError, SystemClock, silentLog } from '@holdfast/runtime'
import { HandClock } from '@holdfast/runtime/testing'
import { Database, LevelStore, MemoryStore, levelStoreOpener, salvageOutbox, tables, writeSynced } from '@holdfast/store'
import type { Store, StoreEntry, WriteOp } from '@holdfast/store'
import { contentVersion } from '@holdfast/sync'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { GatedStore } from '../testing/device-api-fixture.ts'
import { itemKey } from '../objects/object-format.ts'
import { ObjectSalvage } from '../objects/index.ts'
import { sealValue } from '../sealed-value.ts'
import type { DeviceId, TwinChange } from './device-twins.ts'
import { decodeStoredTwin, decodeUpTwin, twinKey } from './twin-format.ts'
import { TwinSalvage } from './twin-salvage.ts'
import { desired, device, durable, openTwins, reported, stamped, startMs, valuesOf } from './testing/twin-harness.ts'
import type { TwinsHarness, TwinsHarnessOptions } from './testing/twin-harness.ts'

/** For machines that have much else to do. */
const patiently = { timeout: 15_000 }

const ids = ['default/a', 'default/b', 'default/c'] as DeviceId[]
const [a, b] = ids as [DeviceId, DeviceId]

async function open(store: Store, options: Partial<TwinsHarnessOptions> = {}): Promise<TwinsHarness> {
  const harness = await openTwins(store, { clock: new HandClock(startMs), ...options })
  onTestFinished(() => harness[Symbol.asyncDispose]())
  return harness
}

const wanting = (id: string, value = 'on', uid = `uid-${id}`) => stamped(device(id, { uid, properties: [{ name: 'n', desired: { value } }] }))

/** Three devices, each desired `n` = on and reported `n` = 1, all durable. */
async function filled(store: Store, options: Partial<TwinsHarnessOptions> = {}): Promise<TwinsHarness> {
  const harness = await open(store, options)
  await harness.receive(Object.fromEntries(ids.map(id => [id, wanting(id)])))
  await Promise.all(ids.map(id => durable(harness.twins.write(id, reported({ n: 1 }), 'mqtt'))))
  return harness
}

const flip = (bytes: Buffer): Buffer => {
  const flipped = Buffer.from(bytes)
  flipped[flipped.length >> 1]! ^= 1
  return flipped
}

async function harm(store: Store, ...keys: readonly Buffer[]): Promise<void> {
  const ops: WriteOp[] = []
  for (const key of keys) ops.push({ type: 'put', key, value: flip((await store.get(key))!) })
  await writeSynced(store, ops)
}

describe('a start', () => {
  test('finds everything as it was, and writes nothing', async () => {
    const store = new MemoryStore()
    const first = await filled(store)
    const before = [...first.twins.all()]
    await first[Symbol.asyncDispose]()
    const { twins, committer } = await open(store, { seed: 2 })
    expect([...twins.all()]).toEqual(before)
    await committer.flush()
    expect(committer.stats.commits).toBe(0)
  })

  test('TWN-39: brings twins in line with Devices that came, changed and went behind a crash', async () => {
    const store = new MemoryStore()
    const first = await filled(store)
    const stale = new Map<DeviceId, Buffer>()
    for (const id of ids) stale.set(id, (await store.get(twinKey(id)))!)
    await first.receive({ [a]: undefined, [b]: wanting(b, 'off', 'another'), 'default/d': wanting('default/d') })
    await first[Symbol.asyncDispose]()
    // As if the twins' part of it had not been written any more.
    await writeSynced(store, [
      ...[...stale].map(([id, value]) => ({ type: 'put' as const, key: twinKey(id), value })),
      { type: 'del', key: twinKey('default/d' as DeviceId) }
    ])
    const { twins } = await open(store, { seed: 2 })
    expect([...twins.all()].map(({ id, uid }) => [id, uid])).toEqual([
      [b, 'another'], ['default/c', 'uid-default/c'], ['default/d', 'uid-default/d']
    ])
    expect([valuesOf(twins, b, 'desired'), valuesOf(twins, b, 'reported')]).toEqual([{ n: 'off' }, {}])
    expect(await store.get(twinKey(a))).toBeUndefined()
    const again = decodeStoredTwin(twinKey(b), (await store.get(twinKey(b)))!)
    expect(again).toMatchObject({ uid: 'another' })
  })

  test('L11: a damaged twin is dropped, counted, and begins anew with what is desired', async () => {
    const store = new MemoryStore()
    await (await filled(store))[Symbol.asyncDispose]()
    await harm(store, twinKey(b))
    const { twins } = await open(store, { seed: 2 })
    expect(twins.stats.damagedTwins).toBe(1)
    expect(ids.map(id => valuesOf(twins, id, 'reported'))).toEqual([{ n: 1 }, {}, { n: 1 }])
    expect(valuesOf(twins, b, 'desired')).toEqual({ n: 'on' })
  })

  test('TWN-39: not knowing is not deleting: a twin whose Device is damaged waits for it to come again', async () => {
    const store = new MemoryStore()
    await (await filled(store))[Symbol.asyncDispose]()
    await harm(store, itemKey(tables.objectDown, 'devices', a), itemKey(tables.objectDown, 'devices', b))
    const harness = await open(store, { seed: 2 })
    const { twins, receive, committer } = harness
    expect(twins.size).toBe(1)
    await receive({ [a]: wanting(a) }, { synced: false })
    expect(valuesOf(twins, a, 'reported')).toEqual({ n: 1 })
    // With the last of it the cloud says that there is no other one.
    await receive({ [a]: wanting(a, 'off') })
    await committer.flush()
    expect(twins.size).toBe(2)
    expect(await store.get(twinKey(b))).toBeUndefined()
    expect(harness.table.upItem('twins', b)).toBeUndefined()
  })

  test('looks for what the cloud does not have when that has said so for the first time, and not behind every change', async () => {
    const store = new MemoryStore()
    await (await filled(store))[Symbol.asyncDispose]()
    const { table, receive } = await open(store, { seed: 2 })
    await receive({ [a]: wanting(a, 'off') })
    const looks = vi.spyOn(table.up, 'keysFrom')
    await receive({ [a]: wanting(a) })
    expect(looks).not.toHaveBeenCalled()
  })

  test.each([
    ['whose Device is damaged', async (store: Store) => harm(store, itemKey(tables.objectDown, 'devices', b)), false],
    ['whose Device was lost', async (store: Store) => writeSynced(store, [{ type: 'del', key: itemKey(tables.objectDown, 'devices', b) }]), true]
  ] as const)('TWN-39: a twin %s stays through further starts without the cloud', async (_, lose, suspect) => {
    const store = new MemoryStore()
    await (await filled(store))[Symbol.asyncDispose]()
    await lose(store)
    await (await open(store, { seed: 2, suspect }))[Symbol.asyncDispose]()
    await (await open(store, { seed: 3 }))[Symbol.asyncDispose]()
    const { twins, table, receive } = await open(store, { seed: 4 })
    expect([twins.size, twins.stats.damagedTwins]).toEqual([2, 0])
    expect(table.upItem('twins', b)).toBeDefined()
    await receive({ [b]: wanting(b) })
    expect(valuesOf(twins, b, 'reported')).toEqual({ n: 1 })
  })

  test('reads more twins than fit into a page', async () => {
    const store = new MemoryStore()
    const many = Array.from({ length: 40 }, (_, n) => `many/device-${n}` as DeviceId)
    const first = await open(store)
    await first.receive(Object.fromEntries(many.map(id => [id, device(id)])))
    await Promise.all(many.map(id => durable(first.twins.write(id, reported({ text: id.padEnd(16_000, '.') }), 'mqtt'))))
    await first[Symbol.asyncDispose]()
    const { twins } = await open(store, { seed: 2 })
    expect(many.map(id => (valuesOf(twins, id, 'reported')!['text'] as string).split('.')[0])).toEqual(many)
  })

  test('refuses what a newer release wrote, with a sentence', async () => {
    const store = new MemoryStore()
    await (await filled(store))[Symbol.asyncDispose]()
    const key = twinKey(a)
    await writeSynced(store, [{ type: 'put', key, value: sealValue(key, Buffer.from([2, 0, 0])) }])
    await expect(openTwins(store, { clock: new HandClock(startMs), seed: 2 })).rejects.toMatchObject({
      code: 'TWINS_NEWER', message: expect.stringContaining('format 2') as string
    })
  })
})

describe('a Device that turns out damaged while the daemon runs', () => {
  test('stays, with its twin, until the cloud has said what there is', async () => {
    const store = new MemoryStore()
    const { twins, table, receive } = await filled(store)
    await harm(store, itemKey(tables.objectDown, 'devices', a), itemKey(tables.objectDown, 'devices', b))
    await table.down.digest('devices')
    expect(table.count('devices')).toBe(1)
    expect(twins.size).toBe(3)
    await durable(twins.write(a, reported({ n: 2 }), 'mqtt'))
    await receive({ [a]: wanting(a) })
    expect([...twins.all()].map(({ id }) => id)).toEqual([a, 'default/c'])
    expect(valuesOf(twins, a, 'reported')).toEqual({ n: 2 })
  })
})

describe('a store that fails', () => {
  async function failing() {
    const store = new GatedStore()
    const harness = await filled(store)
    const told: TwinChange[] = []
    harness.twins.subscribe(change => { told.push(change) })
    const reopen = async (suspect = false) => {
      store.mode = 'pass'
      await harness.outbox.reopen(store, suspect)
      await harness.table.reopen(store, suspect)
      await harness.twins.reopen(store, suspect)
      harness.committer.resume(store)
    }
    return { ...harness, store, told, reopen }
  }

  test('drops what was not durable, refuses writes meanwhile, and goes on', async () => {
    const { twins, store, told, reopen, failures } = await failing()
    store.mode = 'fail'
    const lost = [2, 3].map(n => durable(twins.write(a, reported({ n }), 'mqtt')))
    for (const { status } of await Promise.allSettled(lost)) expect(status).toBe('rejected')
    expect(failures).toHaveLength(1)
    expect(valuesOf(twins, a, 'reported')).toEqual({ n: 1 })
    expect(() => twins.write(a, reported({ n: 4 }), 'mqtt')).toThrow(expect.objectContaining({ code: 'STORE_FAILED' }))
    expect(twins.write(a, reported({ n: 1 }), 'mqtt').kind).toBe('unchanged')
    await reopen()
    expect(told).toEqual([])
    await durable(twins.write(a, reported({ n: 5 }), 'mqtt'))
    expect(valuesOf(twins, a, 'reported')).toEqual({ n: 5 })
    expect(told).toMatchObject([{ id: a, reported: ['n'] }])
  })

  test('what a failed commit left behind counts', async () => {
    const { twins, store, told, reopen } = await failing()
    const written: WriteOp[][] = []
    const { inner } = store
    const original = inner.write.bind(inner)
    inner.write = (ops, _options, onDone) => {
      written.push([...ops])
      queueMicrotask(() => onDone(new Error('the disk went away')))
    }
    await expect(durable(twins.write(a, reported({ n: 2 }), 'mqtt'))).rejects.toThrow('the disk went away')
    inner.write = original
    await writeSynced(inner, written[0]!)
    await reopen()
    expect(valuesOf(twins, a, 'reported')).toEqual({ n: 2 })
    expect(told).toMatchObject([{ id: a, reported: ['n'] }])
    expect(twins.write(a, reported({ n: 2 }), 'mqtt').kind).toBe('unchanged')
  })

  test('what was acknowledged and is not there any more is written again', async () => {
    const { twins, store, told, reopen, receive } = await failing()
    const before = await store.get(twinKey(a))
    await durable(twins.write(a, reported({ n: 2 }), 'mqtt'))
    await writeSynced(store.inner, [
      { type: 'put', key: twinKey(a), value: before! }, { type: 'del', key: twinKey(b) },
      { type: 'del', key: itemKey(tables.objectDown, 'devices', 'default/c') }
    ])
    told.length = 0
    await reopen(true)
    expect(ids.map(id => valuesOf(twins, id, 'reported'))).toEqual([{ n: 2 }, { n: 1 }, { n: 1 }])
    expect(told).toEqual([])
    expect(decodeStoredTwin(twinKey(a), (await store.get(twinKey(a)))!)!.twin.reported.get('n')!.value).toBe(2)
    expect(await store.get(twinKey(b))).toBeDefined()
    await receive({ [a]: wanting(a, 'off') })
    expect([...twins.all()].map(({ id }) => id)).toEqual([a, b])
  })

  test('what waited to be sent is sent when the store is back, and not into one that is not', async () => {
    const clock = new HandClock(startMs)
    const store = new GatedStore()
    const { twins, table, outbox, committer } = await filled(store, { clock })
    const value = () => decodeUpTwin(table.upItem('twins', a)!.value)!.twin.reported.get('n')!.value
    await clock.pass(2000)
    await committer.flush()
    await durable(twins.write(a, reported({ n: 2 }), 'mqtt'))
    await durable(twins.write(a, reported({ n: 3 }), 'mqtt'))
    expect([value(), twins.reports.pending]).toEqual([2, 1])
    store.mode = 'fail'
    await expect(durable(twins.write(a, reported({ n: 4 }), 'mqtt'))).rejects.toThrow('no such luck')
    await clock.pass(1000)
    store.mode = 'pass'
    await outbox.reopen(store, false)
    await table.reopen(store, false)
    await twins.reopen(store, false)
    for (let turn = 0; turn < 3; turn++) await clock.pass(0)
    committer.resume(store)
    await clock.pass(2000)
    await committer.flush()
    expect([value(), valuesOf(twins, a, 'reported')]).toEqual([3, { n: 3 }])
  })

  test('a Device that comes with a failing commit is not there, and comes again', async () => {
    const { twins, store, reopen, receive } = await failing()
    store.mode = 'fail'
    await expect(receive({ 'default/d': wanting('default/d') })).rejects.toThrow('no such luck')
    expect(twins.size).toBe(3)
    await reopen()
    await receive({ 'default/d': wanting('default/d') })
    expect(valuesOf(twins, 'default/d' as DeviceId, 'desired')).toEqual({ n: 'on' })
  })

  test('a Device is durable and its twin is not: it counts already, and opening the store again brings it in', async () => {
    const { twins, store, reopen, table, committer } = await failing()
    const original = store.write.bind(store)
    let writes = 0
    store.write = (...args) => {
      if (++writes === 2) store.mode = 'fail'
      original(...args)
    }
    const value = Buffer.from(JSON.stringify(wanting('default/d')))
    await new Promise<void>((resolve, reject) => table.down.apply({
      collection: 'devices', puts: [{ key: 'default/d', version: contentVersion(value), value }], deletes: [], synced: false, position: ''
    }, error => { if (error === undefined) resolve(); else reject(error) }))
    // It waits a moment, for company.
    await committer.flush()
    expect(store.mode).toBe('fail')
    store.write = original
    // Told at once, since the Device is durable, and found there again.
    expect(valuesOf(twins, 'default/d' as DeviceId, 'desired')).toEqual({ n: 'on' })
    await reopen()
    expect(twins.size).toBe(4)
    expect(valuesOf(twins, 'default/d' as DeviceId, 'desired')).toEqual({ n: 'on' })
  })
})

test('L11: a salvage takes over what is sound, counts the rest, and passes on what is no twin', async () => {
  const store = new MemoryStore()
  await (await filled(store))[Symbol.asyncDispose]()
  await harm(store, twinKey(b))
  const salvaged = new MemoryStore()
  const salvage = new TwinSalvage(salvaged)
  const everything = await store.scan({ gte: Buffer.from([0]), lt: Buffer.from([0xff]), bytesMax: 1 << 24 })
  const passed: StoreEntry[] = []
  for await (const entry of salvage.taking((async function* () { yield* everything })())) passed.push(entry)
  expect(salvage.counts).toEqual({ twins: 2, damagedTwins: 1 })
  expect(passed.length).toBe(everything.length - 3)
  await writeSynced(salvaged, passed.map(entry => ({ type: 'put' as const, ...entry })))
  const { twins } = await open(salvaged, { suspect: true, seed: 2 })
  expect(ids.map(id => valuesOf(twins, id, 'reported'))).toEqual([{ n: 1 }, {}, { n: 1 }])
})

test('with the database: a write that fails, and one that corrupts, cost nothing that was acknowledged', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-twins-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  const clock = new SystemClock()
  const opener = levelStoreOpener({ path: join(folder, 'db'), quarantineDir: join(folder, 'quarantine') }, { log: silentLog, clock })
  const stores: GatedStore[] = []
  let failure: Error | undefined
  const database = await Database.open({ freeFloorBytes: 0 }, {
    opener: {
      open: async () => {
        const store = new GatedStore(await opener.open())
        const write = store.write.bind(store)
        store.write = (ops, options, onDone) => {
          const error = failure
          failure = undefined
          if (error === undefined) write(ops, options, onDone)
          else queueMicrotask(() => onDone(error))
        }
        store.close = () => store.inner.close()
        stores.push(store)
        return store
      },
      suspect: () => opener.suspect(), trust: () => opener.trust(), rebuild: fill => opener.rebuild(fill)
    },
    space: { ballastBytes: 0, freeBytes: async () => 1e12, keepBallast: async () => {}, giveUpBallast: async () => {} },
    clock, log: silentLog,
    salvage: async (entries, store) => {
      const [objects, twins] = [new ObjectSalvage(store), new TwinSalvage(store)]
      return { ...await salvageOutbox(twins.taking(objects.taking(entries)), store), ...objects.counts, ...twins.counts }
    }
  })
  onTestFinished(() => database.close())
  const { twins, table, outbox, receive } = await openTwins(database.store, { clock, committer: database.committer })
  onTestFinished(() => {
    twins.close()
    outbox.close()
  })
  database.onReopened(async (store, suspect) => {
    await outbox.reopen(store, suspect)
    await table.reopen(store, suspect)
    await twins.reopen(store, suspect)
  })
  await receive(Object.fromEntries(ids.map(id => [id, wanting(id)])))
  const errors = [new HoldfastError('STORE_FAILED', 'EIO'), new HoldfastError('STORE_CORRUPT', 'a checksum')]
  for (const [n, error] of errors.entries()) {
    await Promise.all(ids.map(id => durable(twins.write(id, reported({ n }), 'mqtt'))))
    failure = error
    await expect(durable(twins.write(a, reported({ n: 'lost' }), 'mqtt'))).rejects.toBe(error)
    await expect.poll(() => database.reopens, patiently).toBe(n + 1)
    expect(ids.map(id => valuesOf(twins, id, 'reported'))).toEqual([{ n }, { n }, { n }])
    expect(ids.map(id => valuesOf(twins, id, 'desired'))).toEqual([{ n: 'on' }, { n: 'on' }, { n: 'on' }])
  }
  expect([stores.length, database.quarantines, twins.stats.damagedTwins]).toEqual([3, 1, 0])
  await durable(twins.write(a, reported({ n: 'on' }), 'mqtt'))
  expect(valuesOf(twins, a, 'reported')).toEqual({ n: 'on' })
})

test('over LevelDB, desired and reported values survive restarts without a network', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-twins-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  for (let n = 0; n < 8; n++) {
    const store = await LevelStore.open({ path: join(folder, 'db') })
    await using harness = await openTwins(store, { clock: new SystemClock(), seed: n, log: silentLog })
    const { twins, receive } = harness
    if (n === 0) await receive(Object.fromEntries(ids.map(id => [id, wanting(id)])))
    else expect([valuesOf(twins, a, 'reported'), valuesOf(twins, b, 'desired')]).toEqual([{ n: n - 1 }, { n: n - 1 }])
    await Promise.all([twins.write(a, reported({ n }), 'mqtt'), twins.write(b, desired({ n }), 'http')].map(durable))
    await harness[Symbol.asyncDispose]()
    await store.close()
  }
})
