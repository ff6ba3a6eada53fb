import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Store, StoreEntry, WriteOp } from '../store.ts'

/** One place for a store, made anew for every test. */
export interface StoreHarness {
  /** Opens the store; after `close`, the same one again where the abilities say that it endures. */
  open(): Promise<Store>
  /** Needed where `crashes`: everything that is not durable may go, and so does the open store. */
  crash?(): void
  /** Needed where `fails`: the next write fails as a bad disk makes it fail. */
  failNextWrite?(): void
  dispose(): Promise<void>
}

export interface StoreAbilities {
  /** What was written is there after close and open. */
  readonly endures: boolean
  /** A power cut can be had. */
  readonly crashes: boolean
  /** A write can be made to fail. */
  readonly fails: boolean
}

/** What every implementation of `Store` must do, whatever its medium. */
export function storeSuite(name: string, makeHarness: () => Promise<StoreHarness>, abilities: StoreAbilities): void {
  describe(`${name} as a store`, () => {
    let harness: StoreHarness
    let store: Store
    beforeEach(async () => {
      harness = await makeHarness()
      store = await harness.open()
    })
    afterEach(async () => {
      await store.close()
      await harness.dispose()
    })

    const everything = (): Promise<StoreEntry[]> => store.scan({ gte: bytes(''), lt: Buffer.from([0xff, 0xff]) })

    it('gives back the value of a key, and undefined for one that is absent', async () => {
      await written(store, [put('a', 'one'), put('b', '')])
      expect(await store.get(bytes('a'))).toEqual(bytes('one'))
      expect(await store.get(bytes('b'))).toEqual(bytes(''))
      expect(await store.get(bytes('c'))).toBeUndefined()
    })

    it('takes plain Uint8Arrays and gives Buffers', async () => {
      const padded = new Uint8Array([9, 1, 2, 9])
      await written(store, [{ type: 'put', key: padded.subarray(1, 2), value: padded.subarray(2, 3) }])
      const value = await store.get(padded.subarray(1, 2))
      expect(Buffer.isBuffer(value)).toBe(true)
      expect(value).toEqual(Buffer.from([2]))
      const [entry] = await everything()
      expect(Buffer.isBuffer(entry?.key) && Buffer.isBuffer(entry.value)).toBe(true)
      expect(entry?.key).toEqual(Buffer.from([1]))
    })

    it('applies the operations of a batch in their order', async () => {
      await written(store, [put('a', '1'), del('a'), put('b', '1'), put('b', '2'), del('c'), put('c', '3')])
      expect(texts(await everything())).toEqual(['b=2', 'c=3'])
    })

    it('replaces and deletes what earlier batches wrote', async () => {
      await written(store, [put('a', '1'), put('b', '1')])
      await written(store, [put('a', '2'), del('b'), del('never')])
      expect(texts(await everything())).toEqual(['a=2'])
    })

    it('orders keys as unsigned bytes, a prefix before what it begins', async () => {
      const keys = ['ff', '00', '7f', '80', '0000', '8000', '7fff', 'fe'].map(hex => Buffer.from(hex, 'hex'))
      await written(store, keys.map(key => ({ type: 'put', key, value: key })))
      const scanned = (await everything()).map(({ key }) => key.toString('hex'))
      expect(scanned).toEqual(['00', '0000', '7f', '7fff', '80', '8000', 'fe', 'ff'])
    })

    it('scans a range with its first key and without its end', async () => {
      await written(store, ['a', 'b', 'c', 'd'].map(key => put(key, key)))
      expect(texts(await store.scan({ gte: bytes('b'), lt: bytes('d') }))).toEqual(['b=b', 'c=c'])
      expect(texts(await store.scan({ gte: bytes('b'), lt: bytes('d'), reverse: true }))).toEqual(['c=c', 'b=b'])
    })

    it('scans an empty range, a backward range and an empty store as nothing', async () => {
      expect(await everything()).toEqual([])
      await written(store, [put('b', '')])
      expect(await store.scan({ gte: bytes('a'), lt: bytes('b') })).toEqual([])
      expect(await store.scan({ gte: bytes('b'), lt: bytes('b') })).toEqual([])
      expect(await store.scan({ gte: bytes('c'), lt: bytes('a') })).toEqual([])
      expect(await store.scan({ gte: bytes('c'), lt: bytes('a'), reverse: true })).toEqual([])
    })

    it('ends a page at the limit', async () => {
      await written(store, ['a', 'b', 'c'].map(key => put(key, '')))
      const range = { gte: bytes('a'), lt: bytes('z') }
      expect(texts(await store.scan({ ...range, limit: 2 }))).toEqual(['a=', 'b='])
      expect(texts(await store.scan({ ...range, limit: 2, reverse: true }))).toEqual(['c=', 'b='])
      expect(await store.scan({ ...range, limit: 0 })).toEqual([])
      expect(await store.scan({ ...range, limit: 3000 })).toHaveLength(3)
    })

    it('ends a page with the entry that brings it to bytesMax, and never before the first', async () => {
      await written(store, ['a', 'b', 'c', 'd'].map(key => put(key, 'x'.repeat(9))))
      const range = { gte: bytes('a'), lt: bytes('z') }
      for (const [bytesMax, length] of [[0, 1], [1, 1], [10, 1], [11, 2], [20, 2], [21, 3], [1000, 4]] as const) {
        expect(await store.scan({ ...range, bytesMax }), `${bytesMax} bytes`).toHaveLength(length)
        expect(await store.scan({ ...range, bytesMax, reverse: true }), `${bytesMax} bytes`).toHaveLength(length)
      }
      expect(await store.scan({ ...range, bytesMax: 2, values: false })).toHaveLength(2)
    })

    it('ends a page at 1 MiB where no bound is given', async () => {
      for (const key of ['a', 'b', 'c', 'd', 'e']) {
        await written(store, [{ type: 'put', key: bytes(key), value: Buffer.alloc(300_000, key) }])
      }
      expect(await everything()).toHaveLength(4)
    })

    it('scans thousands of small entries in one page', async () => {
      const keys = Array.from({ length: 5000 }, (_, i) => String(i).padStart(6, '0'))
      await written(store, keys.map(key => put(key, key)))
      expect((await everything()).map(({ key }) => key.toString())).toEqual(keys)
      expect(await store.scan({ gte: bytes(''), lt: bytes('z'), limit: 2500 })).toHaveLength(2500)
      // Twelve bytes each.
      expect(await store.scan({ gte: bytes(''), lt: bytes('z'), bytesMax: 12 * 1500 })).toHaveLength(1500)
    })

    it('scans keys alone with empty values', async () => {
      await written(store, [put('a', '1'), put('b', '2')])
      expect(texts(await store.scan({ gte: bytes('a'), lt: bytes('z'), values: false }))).toEqual(['a=', 'b='])
    })

    it('calls back in the order of the calls, once each, and never within the call', async () => {
      const calls: string[] = []
      const done = Array.from({ length: 20 }, (_, i) => new Promise<void>(resolve => {
        store.write([put(`k${i % 3}`, String(i))], { sync: i % 4 !== 0 }, error => {
          calls.push(`${i} ${error?.message ?? 'done'}`)
          resolve()
        })
        calls.push(`called ${i}`)
      }))
      await Promise.all(done)
      expect(calls).toEqual([
        ...done.map((_, i) => `called ${i}`),
        ...done.map((_, i) => `${i} done`)
      ])
      expect(texts(await everything())).toEqual(['k0=18', 'k1=19', 'k2=17'])
    })

    it('shows a write to reads from its callback on', async () => {
      await written(store, [put('a', '1')])
      const seen = new Promise<Buffer | undefined>((resolve, reject) => {
        store.write([put('a', '2')], { sync: true }, () => { store.get(bytes('a')).then(resolve, reject) })
      })
      expect(await seen).toEqual(bytes('2'))
    })

    it('shows a batch whole or not at all', async () => {
      const keys = Array.from({ length: 50 }, (_, i) => `k${i}`)
      const pages: Promise<StoreEntry[]>[] = []
      const writes: Promise<void>[] = []
      for (let round = 0; round < 20; round++) {
        writes.push(written(store, keys.map(key => put(key, String(round)))))
        pages.push(everything())
      }
      await Promise.all(writes)
      for (const page of await Promise.all(pages)) {
        expect(new Set(page.map(({ value }) => value.toString())).size).toBeLessThanOrEqual(1)
        expect([0, keys.length]).toContain(page.length)
      }
    })

    it('answers an empty batch after what came before it', async () => {
      const order: string[] = []
      const first = written(store, [put('a', '1')]).then(() => order.push('first'))
      await written(store, []).then(() => order.push('empty'))
      await first
      expect(order).toEqual(['first', 'empty'])
    })

    it('closes once what was handed in is done, however often it is asked', async () => {
      const order: string[] = []
      for (const key of ['a', 'b', 'c']) {
        store.write([put(key, '1')], { sync: true }, error => { order.push(error?.message ?? `${key} written`) })
      }
      await Promise.all([store.close().then(() => order.push('closed')), store.close()])
      await store.close()
      expect(order).toEqual(['a written', 'b written', 'c written', 'closed'])
    })

    it('answers reads that were running when it was closed', async () => {
      await written(store, [put('a', '1')])
      const reads = Promise.all([store.get(bytes('a')), everything()])
      await store.close()
      expect((await reads)[1]).toHaveLength(1)
    })

    it('refuses every use after close', async () => {
      const order: string[] = []
      const before = written(store, [put('a', '1')]).then(() => order.push('before'))
      const closing = store.close()
      const after = expect(written(store, [put('b', '1')])).rejects.toMatchObject({ code: 'STORE_CLOSED' })
        .then(() => order.push('after'))
      await expect(store.get(bytes('a'))).rejects.toMatchObject({ code: 'STORE_CLOSED' })
      await expect(everything()).rejects.toMatchObject({ code: 'STORE_CLOSED' })
      await Promise.all([before, closing, after])
      expect(order).toEqual(['before', 'after'])
      await expect(written(store, [put('c', '1')])).rejects.toMatchObject({ code: 'STORE_CLOSED' })
    })

    if (abilities.endures) it('holds after close and open what it held before', async () => {
      await written(store, [put('a', '1'), put('b', '1')])
      await written(store, [del('a')], false)
      await store.close()
      store = await harness.open()
      expect(texts(await everything())).toEqual(['b=1'])
    })

    if (abilities.endures) it('is locked for a second opening', async () => {
      await expect(harness.open()).rejects.toMatchObject({ code: 'STORE_LOCKED' })
      await written(store, [put('a', '1')])
    })

    if (abilities.crashes) it('keeps what a synced write answered, and every write before it (L1)', async () => {
      for (let round = 0; round < 50; round++) {
        await written(store, [put(`unsynced${round}`, '')], false)
        await written(store, [put(`synced${round}`, '')], true)
        await written(store, [put(`lost${round}`, '')], false)
        harness.crash!()
        await store.close()
        store = await harness.open()
        expect(await store.get(bytes(`unsynced${round}`))).toBeDefined()
        expect(await store.get(bytes(`synced${round}`))).toBeDefined()
      }
    })

    if (abilities.crashes) it('leaves of batches in flight at a crash the first ones, each whole', async () => {
      for (let round = 0; round < 50; round++) {
        const failures = [0, 1, 2].map(n =>
          expect(written(store, [put(`${round}.${n}a`, ''), put(`${round}.${n}b`, '')])).rejects
            .toMatchObject({ code: 'STORE_FAILED' }))
        harness.crash!()
        await Promise.all(failures)
        await store.close()
        store = await harness.open()
        const entries = await store.scan({ gte: bytes(`${round}.`), lt: bytes(`${round}/`) })
        const left = entries.map(({ key }) => key.toString())
        const whole = [0, 1, 2].flatMap(n => [`${round}.${n}a`, `${round}.${n}b`])
        expect(left.length % 2).toBe(0)
        expect(left).toEqual(whole.slice(0, left.length))
      }
    })

    if (abilities.fails) it('fails every write after a failed one, until it is opened again', async () => {
      await written(store, [put('a', '1')])
      harness.failNextWrite!()
      const outcomes = ['b', 'c', 'd'].map(key =>
        expect(written(store, [put(key, '1')])).rejects.toMatchObject({ code: 'STORE_FAILED' }))
      await Promise.all(outcomes)
      await expect(written(store, [])).rejects.toMatchObject({ code: 'STORE_FAILED' })
      expect(await store.get(bytes('a'))).toEqual(bytes('1'))
      await store.close()
      store = await harness.open()
      await written(store, [put('e', '1')])
      const held = texts(await everything())
      expect(held.filter(text => text !== 'b=1')).toEqual(['a=1', 'e=1'])
    })
  })
}

/** All of it in an array. */
export async function collected<T>(values: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const value of values) all.push(value)
  return all
}

/** A write as a promise. */
export function written(store: Store, ops: readonly WriteOp[], sync = true): Promise<void> {
  return new Promise((resolve, reject) => {
    store.write(ops, { sync }, error => { if (error === undefined) resolve(); else reject(error) })
  })
}

function put(key: string, value: string): WriteOp { return { type: 'put', key: bytes(key), value: bytes(value) } }

function del(key: string): WriteOp { return { type: 'del', key: bytes(key) } }

function bytes(text: string): Buffer { return Buffer.from(text) }

function texts(entries: readonly StoreEntry[]): string[] { return entries.map(({ key, value }) => `${key}=${value}`) }
