import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { HandClock } from '@holdfast/runtime/testing'
import { Committer } from './committer.ts'
import type { CommitPart } from './committer.ts'
import type { ScanOptions, Store, StoreEntry, WriteOp } from './store.ts'

const runs = { numRuns: Number(process.env['RUNS'] ?? 200), ...process.env['SEED'] !== undefined &&
  { seed: Number(process.env['SEED']) } }

/** A store whose writes complete when the test says so. */
class GatedStore implements Store {
  readonly writes: { readonly ops: readonly WriteOp[], readonly sync: boolean, readonly done: (error?: Error) =>
    void }[] = []
  completed = 0

  write(ops: readonly WriteOp[], options: { readonly sync: boolean }, onDone: (error?: Error) => void): void {
    this.writes.push({ ops, sync: options.sync, done: onDone })
  }

  /** Completes the oldest write in flight. */
  complete(error?: Error): void { this.writes[this.completed++]!.done(error) }
  get inFlight(): number { return this.writes.length - this.completed }
  async get(): Promise<undefined> { return undefined }
  async scan(_options: ScanOptions): Promise<StoreEntry[]> { return [] }
  async compact(): Promise<void> {}
  async close(): Promise<void> {}
}

/** The turns of its event loop are the test's too. */
class TurnedClock extends HandClock {
  readonly #soon: (() => void)[] = []
  override soon(task: () => void): void { this.#soon.push(task) }
  /** Ends this turn of the event loop. */
  turn(): void { for (const task of this.#soon.splice(0)) task() }
  override advance(ms: number): void {
    super.advance(ms)
    this.turn()
  }
}

function made(commitBytesMax?: number): { store: GatedStore, clock: TurnedClock, committer: Committer, failures: Error[],
  log: string[] } {
  const store = new GatedStore()
  const clock = new TurnedClock(0)
  const failures: Error[] = []
  const committer = new Committer(commitBytesMax === undefined ? {} : { commitBytesMax }, {
    store, clock, onFailure: error => { failures.push(error) }
  })
  return { store, clock, committer, failures, log: [] }
}

const key = (text: string): Buffer => Buffer.from(text)
const put = (committer: Committer, name: string, log: string[], options: { bytes?: number, urgent?: boolean,
  delayMs?: number } = {}): void => {
  const commit = committer.gather({ bytes: options.bytes ?? 10, ...options })
  commit.put(key(name), key(name))
  commit.onDurable(error => { log.push(error === undefined ? name : `${name}!`) })
}
const keysOf = (store: GatedStore, i: number): string[] => store.writes[i]!.ops.map(op =>
  Buffer.from(op.key).toString())

const median = (numbers: readonly number[]): number => numbers.toSorted((a, b) => a - b)[numbers.length >> 1]!

/** A modelled disk, 5 ms for an fsync and 20 MiB/s, under an alarm every 4 ms and telemetry as fast as it goes. */
function underLoad(): { readonly alarmWaitsMs: readonly number[], readonly bulkBytes: number, readonly seconds: number } {
  const { store, clock, committer } = made()
  const alarmWaitsMs: number[] = []
  let bulkBytes = 0
  let pending = 0
  const bulk = 64 * 1024
  const more = (): void => {
    for (; pending < 4 * 1024 * 1024; pending += bulk) {
      const commit = committer.gather({ bytes: bulk })
      commit.put(key('bulk'), Buffer.alloc(0))
      commit.onDurable(() => {
        pending -= bulk
        bulkBytes += bulk
      })
    }
  }
  const alarm = (): void => {
    const { nowMs } = clock
    const commit = committer.gather({ bytes: 100, urgent: true })
    commit.put(key('alarm'), Buffer.alloc(0))
    commit.onDurable(() => { alarmWaitsMs.push(clock.nowMs - nowMs) })
  }
  const durationMs = (): number => {
    const { ops } = store.writes.at(-1)!
    return 5 + ops.filter(op => op.key.length === 4).length * bulk / (20 * 1024 * 1024) * 1000
  }
  const seconds = 20
  let completesMs = Infinity
  for (let alarmMs = 0; clock.nowMs < seconds * 1000;) {
    clock.nowMs = Math.min(alarmMs, completesMs)
    if (clock.nowMs === alarmMs) {
      alarmMs += 4
      alarm()
    }
    const completed = clock.nowMs === completesMs
    if (completed) {
      completesMs = Infinity
      store.complete()
    }
    more()
    clock.turn()
    if (completesMs === Infinity && store.inFlight > 0) completesMs = clock.nowMs + durationMs()
  }
  return { alarmWaitsMs, bulkBytes, seconds }
}

describe('group commit', () => {
  test('what comes in one turn shares a synced write; nobody is told before it returns', () => {
    const { store, clock, committer, log } = made()
    put(committer, 'a', log)
    put(committer, 'b', log)
    expect(store.writes).toHaveLength(0)
    clock.turn()
    expect([keysOf(store, 0), store.writes[0]!.sync]).toEqual([['a', 'b'], true])
    expect(log).toEqual([])
    store.complete()
    expect(log).toEqual(['a', 'b'])
  })

  test('while a write is in flight work gathers, and goes out when it returns, before callbacks run', () => {
    const { store, clock, committer, log } = made()
    put(committer, 'a', log)
    clock.turn()
    put(committer, 'b', log)
    put(committer, 'c', log)
    clock.turn()
    expect(store.inFlight).toBe(1)
    committer.gather({ bytes: 0 }).onDurable(() => { log.push(`in flight ${store.inFlight}`) })
    store.complete()
    expect(keysOf(store, 1)).toEqual(['b', 'c'])
    store.complete()
    expect(log).toEqual(['a', 'b', 'c', 'in flight 0'])
  })

  test('a commit is cut at its bytes; a larger single one goes alone', () => {
    const { store, clock, committer, log } = made(100)
    put(committer, 'a', log, { bytes: 60 })
    put(committer, 'b', log, { bytes: 60 })
    put(committer, 'c', log, { bytes: 500 })
    clock.turn()
    for (let i = 0; i < 3; i++) store.complete()
    expect([0, 1, 2].map(i => keysOf(store, i))).toEqual([['a'], ['b'], ['c']])
  })

  test('urgent goes first; completion is first in, first out within each urgency', () => {
    fc.assert(fc.property(fc.array(fc.record({ urgent: fc.boolean(), turn: fc.boolean(),
      bytes: fc.integer({ min: 1, max: 80 }) }), { maxLength: 40 }),
      steps => {
        const { store, clock, committer, log } = made(100)
        for (const [i, { urgent, turn, bytes }] of steps.entries()) {
          put(committer, `${urgent ? 'u' : 'n'}${i}`, log, { urgent, bytes })
          if (turn) clock.turn()
        }
        clock.turn()
        while (store.inFlight > 0) store.complete()
        const numbers = (kind: string): number[] => log.filter(name => name.startsWith(kind)).map(name =>
          Number(name.slice(1)))
        for (const kind of ['u', 'n']) expect(numbers(kind)).toEqual(numbers(kind).toSorted((a, b) => a - b))
        expect(log).toHaveLength(steps.length)
      }), runs)
    const { store, clock, committer, log } = made()
    put(committer, 'first', log)
    clock.turn()
    put(committer, 'bulk', log, { bytes: 1024 * 1024 })
    put(committer, 'alarm', log, { urgent: true })
    store.complete()
    expect(keysOf(store, 1)).toEqual(['alarm'])
  })

  test('a small normal commit that is due shares the write of an urgent one, behind it; one that waits does not', () => {
    const { store, clock, committer, log } = made()
    put(committer, 'first', log)
    clock.turn()
    put(committer, 'record', log)
    put(committer, 'alarm', log, { urgent: true })
    store.complete()
    expect(keysOf(store, 1)).toEqual(['alarm', 'record'])
    put(committer, 'patient', log, { delayMs: 100 })
    put(committer, 'second alarm', log, { urgent: true })
    store.complete()
    store.complete()
    expect([keysOf(store, 2), log]).toEqual([['second alarm'], ['first', 'alarm', 'record', 'second alarm']])
    clock.advance(100)
    expect(keysOf(store, 3)).toEqual(['patient'])
  })

  test('an alarm in the course of every fsync starves neither a record nor bulk (L9)', () => {
    for (const bytes of [100, 1024 * 1024]) {
      const { store, clock, committer, log } = made()
      put(committer, 'alarm', log, { urgent: true })
      clock.turn()
      put(committer, 'normal', log, { bytes })
      for (let i = 0; i < 12 && !log.includes('normal'); i++) {
        put(committer, 'alarm', log, { urgent: true })
        clock.turn()
        store.complete()
      }
      expect(log).toContain('normal')
    }
  })

  test('an alarm seldom waits for bulk that was merely gathered, and bulk gets its share', () => {
    const { alarmWaitsMs, bulkBytes, seconds } = underLoad()
    expect(median(alarmWaitsMs)).toBeLessThan(20)
    expect(bulkBytes / seconds).toBeGreaterThan(8 * 1024 * 1024)
  })

  test('a commit waits for company as long as the most patient allows and no longer than the least', () => {
    const { store, clock, committer, log } = made()
    put(committer, 'a', log, { delayMs: 100 })
    clock.turn()
    clock.advance(50)
    expect(store.writes).toHaveLength(0)
    put(committer, 'b', log, { delayMs: 100 })
    clock.advance(50)
    expect(keysOf(store, 0)).toEqual(['a', 'b'])
    store.complete()
    put(committer, 'c', log, { delayMs: 1000 })
    put(committer, 'd', log)
    clock.turn()
    expect(keysOf(store, 1)).toEqual(['c', 'd'])
  })

  test('a part contributes once to its commit and hears of it before the callbacks', () => {
    const { store, clock, committer, log } = made()
    const owner = {}
    let parts = 0
    const part = (): CommitPart => {
      parts++
      return { write: ops => { ops.push({ type: 'put', key: key('part'), value: key('') }) },
        settled: () => { log.push('settled') } }
    }
    committer.gather({ bytes: 1 }).part(owner, part)
    put(committer, 'a', log)
    committer.gather({ bytes: 1 }).part(owner, part)
    clock.turn()
    store.complete()
    expect([parts, keysOf(store, 0), log]).toEqual([1, ['a', 'part'], ['settled', 'a']])
  })

  test('an empty commit is settled without a write, in its turn', () => {
    const { store, clock, committer, log } = made()
    put(committer, 'a', log)
    clock.turn()
    committer.gather({ bytes: 0 }).onDurable(() => { log.push('after a') })
    expect(log).toEqual([])
    store.complete()
    expect([log, store.writes.length]).toEqual([['a', 'after a'], 1])
  })
})

describe('failure', () => {
  test('a failed write fails what was in it and all that follows, until resume; it is reported once', () => {
    const { store, clock, committer, failures, log } = made()
    put(committer, 'a', log)
    clock.turn()
    put(committer, 'b', log)
    const error = new Error('EIO')
    store.complete(error)
    expect(log).toEqual(['a!', 'b!'])
    put(committer, 'c', log)
    clock.turn()
    expect([log, failures, store.writes.length]).toEqual([['a!', 'b!', 'c!'], [error], 1])
    expect(committer.failure).toBe(error)
    const fresh = new GatedStore()
    committer.resume(fresh)
    put(committer, 'd', log)
    clock.turn()
    fresh.complete()
    expect(log.at(-1)).toBe('d')
    expect(committer.failure).toBeUndefined()
  })

  test('what waits for company fails at once when a write has failed', () => {
    const { store, clock, committer, log } = made()
    put(committer, 'a', log, { urgent: true })
    clock.turn()
    put(committer, 'patient', log, { delayMs: 60_000 })
    store.complete(new Error('EIO'))
    expect(log).toEqual(['a!', 'patient!'])
  })
})

describe('flush and close', () => {
  test('flush writes out what waits for company, and resolves when all is done', async () => {
    const { store, clock, committer, log } = made()
    put(committer, 'a', log, { delayMs: 60_000 })
    const flushed = committer.flush()
    clock.turn()
    store.complete()
    await flushed
    expect(log).toEqual(['a'])
  })

  test('flush waits for what was gathered before it, and for nothing that comes later', async () => {
    const { store, clock, committer, log } = made()
    put(committer, 'in flight', log)
    clock.turn()
    put(committer, 'waits', log, { bytes: 1024 * 1024 })
    put(committer, 'urgent', log, { urgent: true })
    let flushed = false
    const flushing = committer.flush().then(() => { flushed = true })
    for (let i = 0; i < 3; i++) {
      await Promise.resolve()
      expect(flushed).toBe(false)
      put(committer, `later ${i}`, log, { bytes: 1024 * 1024 })
      store.complete()
    }
    await flushing
    expect(log.slice(0, 3)).toEqual(['in flight', 'urgent', 'waits'])
    expect(store.inFlight).toBe(1)
  })

  test('close ends under load, with nothing in flight', async () => {
    const { store, clock, committer, log } = made()
    put(committer, 'first', log)
    clock.turn()
    let closed = false
    const closing = committer.close().then(() => { closed = true })
    for (let i = 0; i < 5 && !closed; i++) {
      put(committer, `during ${i}`, log)
      if (store.inFlight > 0) store.complete()
      await new Promise(resolve => { setImmediate(resolve) })
    }
    await closing
    expect(store.inFlight).toBe(0)
    expect(log).toContain('first')
    expect(log.some(name => name.endsWith('!'))).toBe(true)
  })

  test('after close every commit fails', async () => {
    const { store, clock, committer, log } = made()
    put(committer, 'a', log)
    const closed = committer.close()
    clock.turn()
    store.complete()
    await closed
    put(committer, 'b', log)
    clock.turn()
    expect(log).toEqual(['a', 'b!'])
  })
})
