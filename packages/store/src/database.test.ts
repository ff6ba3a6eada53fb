import { describe, expect, test } from 'vitest'
import { HoldfastError, SeededRandom, silentLog } from '@holdfast/runtime'
import type { Clock } from '@holdfast/runtime'
import { Database } from './database.ts'
import { writeSynced } from './write-synced.ts'
import { SimulatedDisk } from './simulated-disk.ts'
import type { Store, StoreEntry, StoreOpener } from './store.ts'

const floorBytes = 1000

/** A database on a simulated disk; time passes only where the test lets it. */
class Bench {
  nowMs = 0
  freeBytes = 1e9
  ballast = true
  /** How long it takes to write the ballast. */
  ballastWritten: Promise<void> | undefined
  /** Errors that the next openings fail with. */
  readonly openErrors: HoldfastError[] = []
  readonly salvaged: string[] = []
  /** A salvage ends here, as if the process did. */
  salvageStopsAt = Infinity
  readonly disk = new SimulatedDisk({}, { random: new SeededRandom(3), schedule: task => { setImmediate(task) } })
  readonly #timers = new Set<{ readonly atMs: number, readonly task: () => void }>()

  readonly clock: Clock = {
    wallMs: () => this.nowMs,
    monotonicMs: () => this.nowMs,
    soon: task => { setImmediate(task) },
    after: (delayMs, task) => {
      const timer = { atMs: this.nowMs + delayMs, task }
      this.#timers.add(timer)
      return { cancel: () => { this.#timers.delete(timer) } }
    }
  }

  readonly #opener: StoreOpener = {
    suspect: async () => await this.disk.suspect(),
    open: async () => {
      const error = this.openErrors.shift()
      if (error !== undefined) throw error
      return await this.disk.open()
    },
    trust: async () => { await this.disk.trust() },
    rebuild: async fill => await this.disk.rebuild(fill)
  }

  async open(): Promise<Database> {
    return await Database.open({ freeFloorBytes: floorBytes }, {
      opener: this.#opener, clock: this.clock, log: silentLog,
      space: {
        ballastBytes: 100,
        freeBytes: async () => this.freeBytes,
        keepBallast: async () => {
          await this.ballastWritten
          this.ballast = true
        },
        giveUpBallast: async () => { this.ballast = false }
      },
      salvage: async (entries: AsyncIterable<StoreEntry>, store: Store) => {
        this.salvaged.length = 0
        for await (const { key, value } of entries) {
          if (this.salvaged.length === this.salvageStopsAt) throw new Error('killed here')
          this.salvaged.push(key.toString())
          await writeSynced(store, [{ type: 'put', key, value }])
        }
        return { entries: this.salvaged.length }
      }
    })
  }

  /** Lets time pass until `done`, in steps; fails after a simulated minute. */
  async until(done: () => boolean): Promise<void> {
    for (let step = 0; step < 600 && !done(); step++) {
      for (let turn = 0; turn < 5; turn++) await new Promise(resolve => { setImmediate(resolve) })
      if (done()) break
      this.nowMs += 100
      for (const timer of [...this.#timers].filter(({ atMs }) => atMs <= this.nowMs)) {
        this.#timers.delete(timer)
        timer.task()
      }
    }
    expect(done()).toBe(true)
  }
}

function put(database: Database, name: string): Promise<void> {
  const commit = database.committer.gather({ bytes: 1 })
  commit.put(Buffer.from(name), Buffer.from(name))
  return new Promise((resolve,
    reject) => { commit.onDurable(error => { if (error === undefined) resolve(); else reject(error) }) })
}

describe('after a failed write', () => {
  test('the store is opened again, hooks run in order with it, and then commits succeed', async () => {
    const bench = new Bench()
    const database = await bench.open()
    const hooks: string[] = []
    for (const name of ['first', 'second']) {
      database.onReopened(async store => {
        hooks.push(name)
        expect(store).toBe(database.store)
        await expect(put(database, 'too early')).rejects.toThrow()
      })
    }
    bench.disk.failNextWrite('EIO')
    await expect(put(database, 'a')).rejects.toMatchObject({ code: 'STORE_FAILED' })
    await bench.until(() => database.committer.failure === undefined)
    expect(hooks).toEqual(['first', 'second'])
    expect([database.reopens, database.quarantines]).toEqual([1, 0])
    await put(database, 'b')
    expect((await database.store.get(Buffer.from('b')))?.toString()).toBe('b')
    await database.close()
  })

  test('a hook that fails is tried again with another opening', async () => {
    const bench = new Bench()
    const database = await bench.open()
    let calls = 0
    database.onReopened(async () => { if (++calls === 1) throw new Error('not yet') })
    bench.disk.failNextWrite('EIO')
    await expect(put(database, 'a')).rejects.toThrow()
    await bench.until(() => database.committer.failure === undefined)
    expect(calls).toBe(2)
    await put(database, 'b')
    await database.close()
  })

  test('a full disk gets room from the ballast, which comes back with the space', async () => {
    const bench = new Bench()
    const database = await bench.open()
    bench.freeBytes = 10
    bench.disk.fillUp(0)
    await expect(put(database, 'a')).rejects.toMatchObject({ code: 'STORE_FAILED' })
    await bench.until(() => !bench.ballast)
    bench.disk.free()
    bench.freeBytes = 1e9
    await bench.until(() => bench.ballast && database.committer.failure === undefined)
    await database.close()
  })
})

describe('an unreadable store', () => {
  test('is set aside at the open, what can be read is taken over, and its end is suspect', async () => {
    const bench = new Bench()
    const before = await bench.open()
    await put(before, 'a')
    await before.close()
    bench.disk.becomeUnreadable(0)
    const database = await bench.open()
    expect([bench.salvaged, database.quarantines, database.suspect]).toEqual([['a'], 1, true])
    await put(database, 'b')
    await database.close()
  })

  test('is salvaged again from what was set aside where a salvage was cut short, and what is missing is told', async () => {
    const bench = new Bench()
    const before = await bench.open()
    for (const name of ['a', 'b', 'c', 'd']) await put(before, name)
    await before.close()
    bench.disk.becomeUnreadable(0)
    bench.salvageStopsAt = 2
    for (let start = 0; start < 3; start++) await expect(bench.open()).rejects.toThrow()
    bench.salvageStopsAt = Infinity
    const database = await bench.open()
    expect([bench.salvaged, database.suspect]).toEqual([['a', 'b', 'c', 'd'], true])
    expect((await database.store.get(Buffer.from('d')))?.toString()).toBe('d')
    await database.close()
  })

  test('is suspect at every start until what may be missing has been written down', async () => {
    const bench = new Bench()
    await (await bench.open()).close()
    bench.disk.becomeUnreadable(0)
    for (let start = 0; start < 3; start++) {
      const database = await bench.open()
      expect(database.suspect).toBe(true)
      await database.close()
    }
    const database = await bench.open()
    await database.trust()
    expect(database.suspect).toBe(false)
    await database.close()
    expect((await bench.open()).suspect).toBe(false)
  })

  test('met by a write is salvaged as often as it takes, and never the copy', async () => {
    const bench = new Bench()
    const database = await bench.open()
    for (const name of ['a', 'b', 'c', 'd']) await put(database, name)
    const suspects: boolean[] = []
    let hookFails = true
    database.onReopened(async (_store, suspect) => {
      suspects.push(suspect)
      if (hookFails) { hookFails = false; throw new Error('not yet') }
    })
    bench.salvageStopsAt = 2
    database.committer.fail(new HoldfastError('STORE_CORRUPT', 'a damaged table'))
    await bench.until(() => bench.salvaged.length === 2)
    bench.salvageStopsAt = Infinity
    await bench.until(() => database.committer.failure === undefined)
    expect([bench.salvaged, database.quarantines, suspects, database.suspect]).toEqual([['a', 'b', 'c', 'd'], 1, [true, true], false])
    await database.close()
  })

  test('is salvaged as far as the disk has room', async () => {
    const bench = new Bench()
    const before = await bench.open()
    await put(before, 'a')
    await before.close()
    bench.disk.becomeUnreadable(0)
    bench.freeBytes = floorBytes / 2 - 1
    const database = await bench.open()
    expect([bench.salvaged, bench.ballast, database.suspect]).toEqual([[], false, true])
    await database.close()
  })

  test('is one that does not open three times in a row, for whatever reason', async () => {
    const bench = new Bench()
    for (let i = 0; i < 3; i++) bench.openErrors.push(new HoldfastError('STORE_FAILED', 'EIO'))
    let database: Database | undefined
    const opening = bench.open().then(opened => { database = opened })
    await bench.until(() => database !== undefined)
    await opening
    expect(database!.quarantines).toBe(1)
    await database!.close()
  })

  test('is not one that another process holds', async () => {
    const bench = new Bench()
    bench.openErrors.push(new HoldfastError('STORE_LOCKED', 'held'))
    await expect(bench.open()).rejects.toMatchObject({ code: 'STORE_LOCKED' })
  })
})

test('the floor holds while the ballast is being written', async () => {
  const bench = new Bench()
  const written = Promise.withResolvers<void>()
  bench.ballastWritten = written.promise
  const database = await bench.open()
  bench.freeBytes = floorBytes - 1
  await bench.until(() => database.low)
  written.resolve()
  await database.close()
})

test('the listener learns when space falls below the floor and when it is back', async () => {
  const bench = new Bench()
  const database = await bench.open()
  const heard: boolean[] = []
  database.onLow(low => { heard.push(low) })
  bench.freeBytes = floorBytes - 1
  await bench.until(() => heard.length === 2)
  bench.freeBytes = 1e9
  await bench.until(() => heard.length === 3)
  expect(heard).toEqual([false, true, false])
  await database.close()
})

test('close writes out what waits, and nothing is committed afterwards', async () => {
  const bench = new Bench()
  const database = await bench.open()
  const commit = database.committer.gather({ bytes: 1, delayMs: 60_000 })
  commit.put(Buffer.from('patient'), Buffer.from(''))
  const durable = new Promise<Error | undefined>(resolve => { commit.onDurable(resolve) })
  await database.close()
  expect(await durable).toBeUndefined()
  const store = await bench.disk.open()
  expect(await store.get(Buffer.from('patient'))).toBeDefined()
})
