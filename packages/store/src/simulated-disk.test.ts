import { SeededRandom } from '@holdfast/runtime'
import { describe, expect, it } from 'vitest'
import { isDiskFull } from './error-codes.ts'
import { SimulatedDisk } from './simulated-disk.ts'
import type { SimulatedDiskOptions } from './simulated-disk.ts'
import type { StoreEntry, Store, WriteOp } from './store.ts'
import { collected, storeSuite, written } from './testing/store-suite.ts'

function put(key: string, value = ''): WriteOp {
  return { type: 'put', key: Buffer.from(key), value: Buffer.from(value) }
}

async function held(store: Store): Promise<string[]> {
  const entries = await store.scan({ gte: Buffer.of(0), lt: Buffer.of(0xff, 0xff) })
  return entries.map(({ key, value }) => `${key}=${value}`)
}

/** A disk whose writes complete in microtasks. */
function diskOf(options: SimulatedDiskOptions = {}, seed = 1): SimulatedDisk {
  return new SimulatedDisk(options, { schedule: task => queueMicrotask(task), random: new SeededRandom(seed) })
}

storeSuite('SimulatedDisk', async () => {
  const disk = diskOf()
  return {
    open: () => disk.open(),
    crash: () => disk.crash(),
    failNextWrite: () => disk.failNextWrite('EIO'),
    dispose: async () => {}
  }
}, { endures: true, crashes: true, fails: true })

describe('a simulated disk', () => {
  it('completes writes only when the simulator runs them, in order whichever task it runs', async () => {
    const tasks: (() => void)[] = []
    const disk = new SimulatedDisk({}, { schedule: task => tasks.push(task), random: new SeededRandom(1) })
    const store = await disk.open()
    const done: string[] = []
    store.write([put('a')], { sync: true }, () => done.push('a'))
    store.write([put('b')], { sync: true }, () => done.push('b'))
    expect(await held(store)).toEqual([])
    tasks[1]!()
    expect(done).toEqual(['a'])
    expect(await held(store)).toEqual(['a='])
    tasks[0]!()
    expect(done).toEqual(['a', 'b'])
    expect([disk.writes, disk.syncs]).toEqual([2, 2])
  })

  it('replays the same run from the same seed', async () => {
    const run = async (seed: number): Promise<string[]> => {
      const disk = diskOf({ tearBatches: true }, seed)
      const trace: string[] = []
      for (let round = 0; round < 20; round++) {
        const store = await disk.open()
        for (let n = 0; n < 5; n++) {
          const ops = [put(`${round}.${n}a`), put(`${round}.${n}b`)]
          store.write(ops, { sync: n === 1 }, error => trace.push(error?.message ?? 'done'))
        }
        if (round % 2 === 0) await written(store, [], false)
        if (round % 5 === 4) disk.flipBit()
        disk.crash()
        if (round % 7 === 6) disk.dropCommit()
        trace.push((await held(await disk.open())).join())
        disk.crash()
      }
      return trace
    }
    expect(await run(5)).toEqual(await run(5))
    expect(await run(5)).not.toEqual(await run(6))
  })

  it('loses at a crash some of what was not synced: all, part and nothing of it, over the seeds', async () => {
    const left = new Set<number>()
    for (let seed = 0; seed < 40; seed++) {
      const disk = diskOf({}, seed)
      const store = await disk.open()
      await written(store, [put('0')], true)
      for (const key of ['1', '2', '3']) await written(store, [put(key)], false)
      disk.crash()
      const keys = await held(await disk.open())
      expect(keys).toEqual(['0=', '1=', '2=', '3='].slice(0, keys.length))
      left.add(keys.length)
    }
    expect([...left].toSorted()).toEqual([1, 2, 3, 4])
  })

  it('shows a build without sync that it loses what it acknowledged', async () => {
    let lost = 0
    for (let seed = 0; seed < 20; seed++) {
      const disk = diskOf({ honourSync: false }, seed)
      const store = await disk.open()
      for (const key of ['1', '2', '3']) await written(store, [put(key)], true)
      expect([disk.writes, disk.syncs]).toEqual([3, 0])
      disk.crash()
      lost += 3 - (await held(await disk.open())).length
    }
    expect(lost).toBeGreaterThan(20)
  })

  it('forgets for good what a crash took', async () => {
    const disk = diskOf({}, 3)
    const store = await disk.open()
    await written(store, [put('1')], false)
    disk.crash()
    const first = await held(await disk.open())
    for (let n = 0; n < 10; n++) {
      disk.crash()
      expect(await held(await disk.open())).toEqual(first)
    }
  })

  it('leaves a prefix of a batch in flight at a crash only where batches tear', async () => {
    const sizes = async (options: SimulatedDiskOptions): Promise<number[]> => {
      const seen = new Set<number>()
      for (let seed = 0; seed < 60; seed++) {
        const disk = diskOf(options, seed)
        const store = await disk.open()
        store.write(['a', 'b', 'c'].map(key => put(key)), { sync: true }, () => {})
        disk.crash()
        seen.add((await held(await disk.open())).length)
      }
      return [...seen].toSorted()
    }
    expect(await sizes({})).toEqual([0, 3])
    expect(await sizes({ tearBatches: true })).toEqual([0, 1, 2, 3])
  })

  it('is gone for reads and writes after a crash', async () => {
    const disk = diskOf()
    const store = await disk.open()
    disk.crash()
    await expect(store.get(Buffer.from('a'))).rejects.toMatchObject({ code: 'STORE_FAILED' })
    await expect(written(store, [put('a')])).rejects.toMatchObject({ code: 'STORE_FAILED' })
    expect(await held(await disk.open())).toEqual([])
  })

  it('drops one synced commit from between others', async () => {
    const disk = diskOf({}, 2)
    const store = await disk.open()
    for (const key of ['1', '2', '3', '4']) await written(store, [put(key)])
    await store.close()
    expect(disk.dropCommit()).toBe(true)
    const keys = await held(await disk.open())
    expect(keys).toHaveLength(3)
    expect(keys).toContain('4=')
  })

  it('has no commit to drop where none lies behind', async () => {
    const disk = diskOf()
    expect(disk.dropCommit()).toBe(false)
    const store = await disk.open()
    await written(store, [put('1')])
    await store.close()
    expect(disk.dropCommit()).toBe(false)
  })

  it('loses the last synced commits, as far as they are within reach', async () => {
    const disk = diskOf({ recentCommits: 3 })
    const store = await disk.open()
    await written(store, [put('1')], false)
    for (const key of ['2', '3', '4', '5']) await written(store, [put(key)])
    await store.close()
    expect(disk.loseTail(2)).toBe(2)
    expect(await held(await disk.open())).toEqual(['1=', '2=', '3='])
    disk.crash()
    expect(disk.loseTail(9)).toBe(1)
    expect(await held(await disk.open())).toEqual(['1=', '2='])
  })

  it('flips one bit, in what is recent and in what is old, and not in memory that others hold', async () => {
    for (const recentCommits of [1, 64]) {
      for (let seed = 0; seed < 20; seed++) {
        const disk = diskOf({ recentCommits }, seed)
        expect(disk.flipBit()).toBe(false)
        const store = await disk.open()
        const ops = [put('key1', 'value1'), put('key2', 'value2')]
        for (const op of ops) await written(store, [op])
        expect(disk.flipBit()).toBe(true)
        const stored = (await store.scan({ gte: Buffer.of(0), lt: Buffer.of(0xff, 0xff) }))
          .map(({ key, value }) => Buffer.concat([key, value]))
        const before = [Buffer.from('key1value1'), Buffer.from('key2value2')]
        const changed = stored.filter(bytes => !before.some(same => same.equals(bytes)))
        expect(changed).toHaveLength(1)
        expect(Math.min(...before.map(bytes => bitsApart(bytes, changed[0]!)))).toBe(1)
        expect(ops).toEqual([put('key1', 'value1'), put('key2', 'value2')])
        disk.crash()
        expect((await held(await disk.open()))).toHaveLength(2)
      }
    }
  })

  it('is full at its size and stays failed until it is opened again, and room comes back by deleting', async () => {
    const disk = diskOf()
    let store = await disk.open()
    await written(store, [put('old', 'x'.repeat(97))])
    disk.fillUp(10)
    await written(store, [put('a', '1234')])
    const full = written(store, [put('b', '123456')])
    await expect(full).rejects.toMatchObject({ code: 'STORE_FAILED' })
    await full.catch((error: unknown) => expect(isDiskFull(error)).toBe(true))
    disk.free()
    await expect(written(store, [put('c')])).rejects.toMatchObject({ code: 'STORE_FAILED' })
    await store.close()
    store = await disk.open()
    disk.fillUp(5)
    await written(store, [{ type: 'del', key: Buffer.from('old') }])
    await written(store, [put('d', 'x'.repeat(90))])
    expect(await held(store)).toEqual(['a=1234', `d=${'x'.repeat(90)}`])
  })

  it('holds a batch whose write failed or does not, over the seeds', async () => {
    const seen = new Set<number>()
    for (let seed = 0; seed < 20; seed++) {
      const disk = diskOf({}, seed)
      const store = await disk.open()
      disk.failNextWrite('EIO')
      await expect(written(store, [put('a'), put('b')])).rejects.toThrow('EIO')
      await store.close()
      seen.add((await held(await disk.open())).length)
    }
    expect([...seen].toSorted()).toEqual([0, 2])
  })

  it('is quarantined when unreadable, and salvaged with losses (L11)', async () => {
    const disk = diskOf()
    let store = await disk.open()
    for (let n = 0; n < 100; n++) await written(store, [put(`k${n}`)])
    await store.close()
    disk.becomeUnreadable(0.3)
    await expect(disk.open()).rejects.toMatchObject({ code: 'STORE_CORRUPT' })
    let salvaged: readonly StoreEntry[] = []
    await disk.rebuild(async entries => { salvaged = await collected(entries) })
    store = await disk.open()
    expect(await held(store)).toEqual([])
    expect(salvaged.length).toBeGreaterThan(40)
    expect(salvaged.length).toBeLessThan(95)
  })

  it('does not count as rebuilt before that is through, and is suspect from then on until it is trusted', async () => {
    const disk = diskOf()
    let store = await disk.open()
    for (let n = 0; n < 10; n++) await written(store, [put(`k${n}`)])
    await store.close()
    disk.becomeUnreadable(0)
    await expect(disk.rebuild(async (entries, parts) => {
      for await (const { key, value } of entries) {
        await written(parts, [{ type: 'put', key, value }])
        disk.crash()
      }
    })).rejects.toMatchObject({ code: 'STORE_FAILED' })
    await expect(disk.open()).rejects.toMatchObject({ code: 'STORE_CORRUPT' })
    await disk.rebuild(async (entries, parts) => {
      for await (const { key, value } of entries) await written(parts, [{ type: 'put', key, value }])
    })
    expect(await disk.suspect()).toBe(true)
    store = await disk.open()
    expect(await held(store)).toHaveLength(10)
    await disk.trust()
    expect(await disk.suspect()).toBe(false)
  })
})

function bitsApart(a: Buffer, b: Buffer): number {
  let bits = 0
  for (let i = 0; i < a.length; i++) for (let x = a[i]! ^ b[i]!; x !== 0; x &= x - 1) bits++
  return bits
}
