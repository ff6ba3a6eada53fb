import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { RecordTopic, batchNext, encodeGap, lanesMax, readBatchHeader, readGap, readRecords } from '@holdfast/protos'
import type { BootId, Watermark } from '@holdfast/protos'
import { HoldfastError, SeededRandom, silentLog } from '@holdfast/runtime'
import type { Clock } from '@holdfast/runtime'
import { Committer } from './committer.ts'
import { Outbox } from './outbox.ts'
import type { HeldBatch, LaneOptions } from './outbox-lane.ts'
import { salvageOutbox } from './outbox-load.ts'
import { SimulatedDisk } from './simulated-disk.ts'
import type { Store, WriteOp } from './store.ts'
import { tables } from './tables.ts'

const topic = new RecordTopic('devices/plant/pump/telemetry', 'plant/pump')
const lane = (options: Partial<LaneOptions> = {}): LaneOptions => ({
  priority: 'normal', bytesMax: 2 ** 30, ageMaxMs: undefined, overflow: 'reject', commitIntervalMs: 0, keepBytes: 0,
    keepAgeMs: 1e12, ...options
})

/** One edge: a simulated disk whose writes complete at once, and time that the test moves. */
class Bench {
  nowMs = 1000
  readonly random = new SeededRandom(11)
  readonly disk: SimulatedDisk
  store!: Store
  outbox!: Outbox
  committer!: Committer
  lanes: Record<string, LaneOptions>
  suspect = false
  #boots = 0
  readonly #timers = new Set<{ readonly atMs: number, readonly task: () => void }>()

  constructor(lanes: Record<string, LaneOptions> = { telemetry: lane() }) {
    this.lanes = lanes
    this.disk = new SimulatedDisk({}, {
      random: this.random,
      schedule: task => { if (this.#held === undefined) setImmediate(task); else this.#held.push(task) }
    })
  }

  #held: (() => void)[] | undefined

  /** Writes complete only at `release`, in which others may follow. */
  hold(): void { this.#held ??= [] }

  async release(): Promise<void> {
    const tasks = this.#held ?? []
    this.#held = undefined
    for (const task of tasks) task()
    await this.settle()
  }

  readonly clock: Clock = {
    wallMs: () => 1_767_225_600_000 + this.nowMs,
    monotonicMs: () => this.nowMs,
    soon: task => { setImmediate(task) },
    after: (delayMs, task) => {
      const timer = { atMs: this.nowMs + delayMs, task }
      this.#timers.add(timer)
      return { cancel: () => { this.#timers.delete(timer) } }
    }
  }

  async start(): Promise<this> {
    this.store = await this.disk.open()
    this.committer = new Committer({}, { store: this.store, clock: this.clock, onFailure: () => {} })
    const bootId = String(++this.#boots).padStart(16, '0') as BootId
    this.outbox = await Outbox.open({ lanes: this.lanes, bootId, suspect: this.suspect }, this.store, {
      committer: this.committer, clock: this.clock, random: this.random, log: silentLog, clockSynchronised: () => true
    })
    return this
  }

  async stop(): Promise<this> {
    this.outbox.close()
    await this.committer.close()
    await this.store.close()
    return this
  }

  async restart(): Promise<this> { return await (await this.stop()).start() }

  async pass(ms: number): Promise<void> {
    this.nowMs += ms
    for (const timer of [...this.#timers].filter(({ atMs }) => atMs <= this.nowMs)) {
      this.#timers.delete(timer)
      timer.task()
    }
    await this.settle()
  }

  /** Until nothing is under way: every write and scan takes a few turns of the event loop. */
  async settle(): Promise<void> {
    await this.turns()
    await this.committer.flush()
  }

  async turns(): Promise<void> {
    for (let turn = 0; turn < 30; turn++) await new Promise(resolve => { setImmediate(resolve) })
  }

  /** Appends one record a commit. */
  async append(texts: readonly string[], name = 'telemetry'): Promise<void> {
    for (const text of texts) {
      const into = this.outbox.lane(name)!
      const commit = this.outbox.gather(into, text.length)
      this.outbox.append(commit, into, topic, Buffer.from(text))
      await new Promise<void>((resolve,
        reject) => { commit.onDurable(error => { if (error === undefined) resolve(); else reject(error) }) })
    }
  }

  async read(from: number, name = 'telemetry'): Promise<readonly HeldBatch[]> {
    return await new Promise(resolve => { this.outbox.read(this.outbox.lane(name)!, from, 2 ** 30, resolve) })
  }

  /** What waits, as text: records, or `reason×records` for a gap. */
  async texts(from = 0, name = 'telemetry'): Promise<string[]> {
    return (await this.read(from, name)).flatMap(({ bytes }) => {
      const header = readBatchHeader(bytes)
      if (header.kind === 'records') return readRecords(bytes, header).map(({ payload }) => payload.toString())
      const { reason, records } = readGap(bytes, header)
      return [`${reason}×${records} [${header.base}, ${batchNext(header)})`]
    })
  }

  status(name = 'telemetry') { return this.outbox.status().find(status => status.lane === name)! }

  /** Acknowledges everything below `next`, as a session does. */
  async acknowledge(next: number, name = 'telemetry'): Promise<void> {
    const from = this.outbox.lane(name)!.acked
    const batches = (await this.read(from, name)).filter(batch => batch.next <= next)
    this.outbox.acknowledge(this.outbox.lane(name)!, next, batches.map(({ base, next: end, bytes }) => ({ base,
      next: end, bytes: bytes.length })))
    await this.settle()
  }

  /** Changes what lies on the disk; only while stopped. */
  async change(work: (entries: readonly { key: Buffer, value: Buffer }[]) => readonly WriteOp[]): Promise<void> {
    const store = await this.disk.open()
    const ops = work(await store.scan({ gte: Buffer.alloc(0), lt: Buffer.alloc(16, 0xff) }))
    await new Promise<void>(resolve => { store.write(ops, { sync: true }, () => { resolve() }) })
    await store.close()
  }
}

const bench = async (lanes?: Record<string, LaneOptions>): Promise<Bench> => await new Bench(lanes).start()
const batchesIn = (entries: readonly { key: Buffer, value: Buffer }[]): readonly { key: Buffer, value: Buffer }[] =>
  entries.filter(({ key }) => key[0] === tables.outboxBatch)

/** No batch reaches over an epoch's end, and each names the epoch that it lies in. */
async function expectWithinEpochs(it: Bench): Promise<void> {
  const { epochs } = it.outbox.lane('telemetry')!
  for (const batch of await it.outbox.scan(it.outbox.lane('telemetry')!, 0, 2 ** 20)) {
    const index = epochs.findLastIndex(({ start }) => start <= batch.base)
    expect(readBatchHeader(batch.bytes).epoch).toBe(epochs[index]!.epoch)
    expect(batch.next).toBeLessThanOrEqual(epochs[index + 1]?.start ?? Infinity)
  }
}

describe('appending and reading', () => {
  test('offsets are dense over restarts, and each start has an epoch that names the one before', async () => {
    const it = await bench()
    await it.append(['a', 'b'])
    const first = it.outbox.lane('telemetry')!.epoch
    await it.restart()
    await it.append(['c'])
    expect(await it.texts()).toEqual(['a', 'b', 'c'])
    const [hello] = it.outbox.helloLanes()
    expect(hello!.epochs.map(({ start, next, predecessor }) => [start, next, predecessor])).toEqual([[0, 2, undefined],
      [2, 3, first]])
    expect(it.status()).toMatchObject({ nextOffset: 3, ackedOffset: 0, records: 3 })
    await it.stop()
  })

  test('an epoch that stayed empty is replaced', async () => {
    const it = await bench()
    await it.append(['a'])
    for (let i = 0; i < 5; i++) await it.restart()
    expect(it.outbox.helloLanes()[0]!.epochs.map(({ start, next }) => [start, next])).toEqual([[0, 1], [1, 1]])
    await it.stop()
  })

  test('records of one turn share a batch; a restart reads back what was in memory', async () => {
    const it = await bench()
    const into = it.outbox.lane('telemetry')!
    const order: string[] = []
    for (const text of ['a', 'b', 'c']) {
      const commit = it.outbox.gather(into, 1)
      it.outbox.append(commit, into, topic, Buffer.from(text))
      commit.onDurable(() => { order.push(`${text} ${into.durable}`) })
    }
    await it.settle()
    expect(order).toEqual(['a 3', 'b 3', 'c 3'])
    const [batch] = await it.read(0)
    expect(batch).toMatchObject({ base: 0, next: 3 })
    await it.restart()
    expect((await it.read(0))[0]!.bytes).toEqual(batch!.bytes)
    await it.stop()
  })

  test('a session that asks while a read of an earlier one is under way is told when that is done', async () => {
    const it = await bench()
    await it.append(['a', 'b'])
    await it.restart()
    const into = it.outbox.lane('telemetry')!
    let wanted = false
    const got: string[] = []
    it.outbox.onAvailable(() => {
      if (!wanted) return
      wanted = false
      it.outbox.read(into, 0, 2 ** 20, batches => { got.push(`told ${batches.length}`) })
    })
    it.outbox.read(into, 0, 2 ** 20, () => {})
    it.outbox.read(into, 0, 2 ** 20, batches => {
      got.push(`busy ${batches.length}`)
      wanted = true
    })
    await it.settle()
    expect(got).toEqual(['busy 0', 'told 2'])
    await it.stop()
  })

  test('a full lane refuses and writes nothing; acknowledging makes room', async () => {
    const it = await bench({ telemetry: lane({ bytesMax: 300 }) })
    await it.append(['x'.repeat(100)])
    await expect(it.append(['y'.repeat(200)])).rejects.toMatchObject({ code: 'OUTBOX_FULL' })
    expect(await it.texts()).toEqual(['x'.repeat(100)])
    await it.acknowledge(1)
    await it.append(['z'.repeat(100)])
    expect(it.status().records).toBe(1)
    await it.stop()
  })

  test('what is refused from outside is refused here', async () => {
    const it = await bench()
    it.outbox.refuse(new HoldfastError('DISK_FULL', 'no room'))
    await expect(it.append(['a'])).rejects.toMatchObject({ code: 'DISK_FULL' })
    it.outbox.refuse(undefined)
    await it.append(['a'])
    await it.stop()
  })

  test('a lane that the configuration lacks is drained; a new one gets a number of its own', async () => {
    const it = await bench({ old: lane(), telemetry: lane() })
    await it.append(['kept'], 'old')
    await it.stop()
    it.lanes = { telemetry: lane(), fresh: lane() }
    await it.start()
    expect(it.outbox.lanes.map(({ id, name }) => [id, name])).toEqual([[1, 'old'], [2, 'telemetry'], [3, 'fresh']])
    expect(it.outbox.lane('old')).toBeUndefined()
    expect(it.status('old').records).toBe(1)
    await it.stop()
  })
})

describe('lanes that the configuration lacks', () => {
  const many = Object.fromEntries(Array.from({ length: lanesMax + 3 }, (_, i) => [`old-${i}`, lane()]))

  test('are named in Hello while they wait, after those of the configuration and within its bound', async () => {
    const it = await bench(many)
    for (const name of Object.keys(many)) await it.append(['a'], name)
    await it.stop()
    it.lanes = { telemetry: lane(), alarms: lane() }
    await it.start()
    const named = it.outbox.helloLanes().map(({ name }) => name)
    expect(named).toHaveLength(lanesMax)
    expect(named.slice(0, 3)).toEqual(['telemetry', 'alarms', 'old-0'])
    const leftOut = it.outbox.lanes.filter(({ name }) => !named.includes(name))
    expect(leftOut).toHaveLength(5)
    for (const waiting of leftOut) {
      expect(await it.outbox.compare(waiting, [])).toEqual({ kind: 'position', next: 0 })
      const got = await new Promise(resolve => { it.outbox.read(waiting, 0, 2 ** 20, resolve) })
      expect(got).toEqual([])
    }
    for (const drained of it.outbox.lanes.filter(({ name }) => /^old-[0-4]$/.test(name))) {
      const batches = await new Promise<readonly HeldBatch[]>(resolve => { it.outbox.read(drained, 0, 2 ** 20, resolve) })
      it.outbox.acknowledge(drained, 1, batches.map(({ base, next, bytes }) => ({ base, next, bytes: bytes.length })))
    }
    const later = it.outbox.helloLanes().map(({ name }) => name)
    expect(later).toHaveLength(lanesMax)
    expect(later).toEqual(expect.arrayContaining(leftOut.map(({ name }) => name)))
    expect(later).not.toContain('old-0')
    expect(await new Promise<readonly HeldBatch[]>(resolve => {
      it.outbox.read(leftOut[0]!, 0, 2 ** 20, resolve)
    })).toHaveLength(1)
    await it.stop()
  })

  test('are named when they are drained, too: a cloud that was put back may lack what they held', async () => {
    const it = await bench({ unused: lane(), old: lane() })
    await it.append(['a'], 'old')
    await it.append(['b'], 'old')
    await it.acknowledge(2, 'old')
    await it.pass(11_000)
    await it.stop()
    it.lanes = { telemetry: lane() }
    await it.start()
    const old = it.outbox.lanes.find(({ name }) => name === 'old')!
    const [, named, ...rest] = it.outbox.helloLanes()
    expect(rest).toEqual([])
    expect([named!.name, named!.epochs.map(({ first, next }) => [first, next])]).toEqual(['old', [[1, 2]]])
    // What is still here waits again.
    const watermark = { lane: old.id, epoch: named!.epochs[0]!.epoch, next: 1, crc: 0 }
    expect(await it.outbox.compare(old, [watermark])).toEqual({ kind: 'position', next: 1 })
    await it.outbox.moveTo(old, 1)
    expect(it.status('old').records).toBe(1)
    await it.outbox.forgetAcknowledged()
    expect(it.outbox.helloLanes().map(({ name }) => name)).toEqual(['telemetry', 'old'])
    await it.stop()
  })
})

describe('trimming', () => {
  test('takes what is acknowledged, never the last batch, and survives a restart', async () => {
    const it = await bench()
    await it.append(['a', 'b', 'c'])
    await it.acknowledge(2)
    await it.pass(11_000)
    expect(it.status()).toMatchObject({ firstOffset: 2, ackedOffset: 2, records: 1 })
    await it.acknowledge(3)
    await it.pass(11_000)
    await it.restart()
    expect(it.status()).toMatchObject({ firstOffset: 2, ackedOffset: 3, nextOffset: 3, records: 0, bytes: 0 })
    await it.append(['d'])
    expect(it.status()).toMatchObject({ nextOffset: 4, records: 1 })
    await it.stop()
  })

  test('is written in the company of new records, and alone only after ten seconds without any', async () => {
    const it = await bench()
    await it.append(['a'])
    await it.acknowledge(1)
    await it.pass(1500)
    const before = it.committer.stats.commits
    await it.append(['b'])
    expect(it.committer.stats.commits).toBe(before + 1)
    expect(it.outbox.lane('telemetry')!.dirty).toBe(false)
    await it.acknowledge(2)
    await it.pass(8000)
    expect(it.committer.stats.commits).toBe(before + 1)
    await it.pass(11_000)
    expect(it.committer.stats.commits).toBe(before + 2)
    expect(it.outbox.lane('telemetry')!.dirty).toBe(false)
    await it.stop()
  })

  test('keeps the local cache up to its bytes', async () => {
    const it = await bench({ telemetry: lane({ keepBytes: 250 }) })
    await it.append(['a', 'b', 'c', 'd', 'e'])
    await it.acknowledge(5)
    await it.pass(11_000)
    const held = await it.outbox.scan(it.outbox.lane('telemetry')!, 0, 2 ** 20)
    expect(held.reduce((sum, { bytes }) => sum + bytes.length, 0)).toBeLessThanOrEqual(250)
    expect(held.length).toBeGreaterThan(1)
    await it.stop()
  })

  test('keeps the local cache for its age over a restart', async () => {
    const it = await bench({ telemetry: lane({ keepBytes: 2 ** 20, keepAgeMs: 3_600_000 }) })
    await it.pass(7_200_000)
    await it.append(['a', 'b', 'c'])
    await it.acknowledge(2)
    await it.pass(11_000)
    await it.restart()
    for (let i = 0; i < 3; i++) await it.pass(11_000)
    expect(it.status().firstOffset).toBe(0)
    await it.pass(3_600_000)
    await it.pass(11_000)
    expect(it.status().firstOffset).toBe(2)
    await it.stop()
  })
})

describe('giving up the oldest', () => {
  const lanes = { telemetry: lane({ bytesMax: 400, overflow: 'drop-oldest' }) }

  test('one gap stands for what went, grows, and never takes what is in flight', async () => {
    const it = await bench(lanes)
    await it.append(['in flight'])
    await it.read(0)
    for (let i = 0; i < 12; i++) {
      await it.append([`${i} ${'x'.repeat(60)}`])
      await it.settle()
    }
    const texts = await it.texts()
    expect(texts[0]).toBe('in flight')
    expect(texts[1]).toMatch(/^overflow×\d+ \[1, \d+\)$/)
    const [, records, end] = /×(\d+) \[1, (\d+)\)/.exec(texts[1]!)!
    expect(Number(records)).toBe(Number(end) - 1)
    expect(it.status()).toMatchObject({ nextOffset: 13, droppedRecords: Number(records) })
    await it.restart()
    expect(it.status()).toMatchObject({ nextOffset: 13, droppedRecords: Number(records) })
    await it.stop()
  })

  test('the row of what is acknowledged is never older than an urgent commit that was written before it', async () => {
    const it = await bench({ telemetry: lane({ bytesMax: 4000, overflow: 'drop-oldest' }), alarms: lane({
      priority: 'high' }) })
    for (let i = 0; i < 20; i++) await it.append(['x'.repeat(60)])
    const telemetry = it.outbox.lane('telemetry')!
    const sent = await new Promise<readonly HeldBatch[]>(resolve => { it.outbox.read(telemetry, 0, 1000, resolve) })
    it.hold()
    const written = [it.append(['under way'], 'alarms')]
    await it.turns()
    // Past its bound: the oldest go, in a normal commit that waits.
    written.push(it.append(['y'.repeat(1500)]))
    await it.turns()
    it.outbox.acknowledge(telemetry, sent.at(-1)!.next, sent.map(({ base, next, bytes }) => ({ base, next,
      bytes: bytes.length })))
    it.nowMs += 2000
    // Trims in its company, in an urgent commit that goes before the other.
    written.push(it.append(['urgent'], 'alarms'))
    await it.turns()
    await it.release()
    await Promise.all(written)
    await it.settle()
    const before = it.status()
    expect(before.firstOffset).toBeGreaterThan(0)
    expect(before.droppedRecords).toBeGreaterThan(0)
    await it.restart()
    expect(it.status()).toMatchObject({
      firstOffset: before.firstOffset, ackedOffset: before.ackedOffset, droppedRecords: before.droppedRecords
    })
    expect(it.outbox.lane('telemetry')!.epochs.at(-1)!.reason).toBe('started')
    await it.stop()
  })

  test('ages are node uptime: a record that waited too long gives way, however the wall clock stands', async () => {
    const it = await bench({ telemetry: lane({ ageMaxMs: 20_000 }) })
    await it.append(['old', 'older'])
    await it.pass(12_000)
    await it.append(['young', 'youngest'])
    await it.pass(5000)
    expect((await it.texts()).length).toBe(4)
    await it.restart()
    for (let i = 0; i < 4; i++) await it.pass(5000)
    expect((await it.texts())[0]).toBe('expired×2 [0, 2)')
    await it.stop()
  })
})

describe('damage', () => {
  const damaged = async (change: (entries: readonly { key: Buffer, value: Buffer }[]) =>
    readonly WriteOp[]): Promise<Bench> => {
    const it = await bench()
    await it.append(['a', 'b'])
    await it.restart()
    await it.append(['c', 'd', 'e'])
    await it.stop()
    await it.change(change)
    return await it.start()
  }

  test('a missing batch becomes a gap in its place', async () => {
    const it = await damaged(entries => [{ type: 'del', key: batchesIn(entries)[2]!.key }])
    expect(await it.texts()).toEqual(['a', 'b', 'corrupt×1 [2, 3)', 'd', 'e'])
    expect(it.status().droppedRecords).toBe(1)
    await it.stop()
  })

  test('a hole over the start of an epoch becomes a gap for each, none of which reaches into the next', async () => {
    const it = await bench()
    for (const text of ['a', 'b', 'c', 'd']) {
      await it.append([text, text])
      await it.restart()
    }
    await it.stop()
    await it.change(entries => batchesIn(entries).slice(1, 7).map(({ key }) => ({ type: 'del', key })))
    await it.start()
    expect(await it.texts()).toEqual(['a', 'corrupt×1 [1, 2)', 'corrupt×2 [2, 4)', 'corrupt×2 [4, 6)',
      'corrupt×1 [6, 7)', 'd'])
    expect(it.status()).toMatchObject({ nextOffset: 8, droppedRecords: 6 })
    await expectWithinEpochs(it)
    await it.stop()
  })

  test('an end that is lost over several epochs is a gap for each', async () => {
    const it = await bench()
    for (const text of ['a', 'b', 'c']) {
      await it.append([text, text])
      await it.restart()
    }
    await it.stop()
    await it.change(entries => batchesIn(entries).slice(1).map(({ key }) => ({ type: 'del', key })))
    await it.start()
    await it.append(['d'])
    expect(await it.texts()).toEqual(['a', 'corrupt×0 [1, 2)', 'corrupt×0 [2, 4)', 'corrupt×0 [4, 6)', 'd'])
    await expectWithinEpochs(it)
    await it.stop()
  })

  test('whatever is missing, a lane is dense, and no batch reaches over an epoch', async () => {
    await fc.assert(fc.asyncProperty(
      fc.array(fc.integer({ min: 0, max: 4 }), { minLength: 1, maxLength: 6 }), fc.array(fc.nat(23), { maxLength: 20 }),
      fc.nat(24), fc.boolean(), async (counts, missing, acked, suspect) => {
        const it = await bench({ telemetry: lane({ keepBytes: 2 ** 20 }) })
        const total = counts.reduce((sum, count) => sum + count, 0)
        for (const [i, count] of counts.entries()) {
          await it.append(Array.from({ length: count }, (_, n) => `${i} ${n}`))
          await it.restart()
        }
        if (acked > 0 && acked <= total) {
          await it.acknowledge(acked)
          await it.pass(11_000)
        }
        await it.stop()
        await it.change(entries => batchesIn(entries).filter((_, i) => missing.includes(i)).map(({ key }) => ({ type: 'del', key })))
        it.suspect = suspect
        await it.start()
        const { firstOffset, nextOffset } = it.status()
        const held = await it.outbox.scan(it.outbox.lane('telemetry')!, firstOffset, 2 ** 20)
        expect([firstOffset, ...held.map(({ next }) => next)]).toEqual([...held.map(({ base }) => base), nextOffset])
        expect(nextOffset).toBeGreaterThanOrEqual(Math.min(acked, total))
        await expectWithinEpochs(it)
        await it.stop()
      }), { numRuns: Number(process.env['RUNS'] ?? 50), ...process.env['SEED'] !== undefined && { seed: Number(process.env['SEED']) } })
  })

  test('a gap that an older release wrote over the start of an epoch is parted at the open', async () => {
    const it = await bench()
    await it.append(['a', 'b'])
    await it.restart()
    await it.append(['c', 'd'])
    await it.stop()
    await it.change(entries => {
      const [, second, third] = batchesIn(entries)
      const header = readBatchHeader(second!.value)
      const gap = encodeGap(2, { reason: 'overflow', records: 2 }, { ...header })
      return [{ type: 'put', key: second!.key, value: gap }, { type: 'del', key: third!.key }]
    })
    await it.start()
    expect(await it.texts()).toEqual(['a', 'overflow×1 [1, 2)', 'overflow×1 [2, 3)', 'd'])
    await expectWithinEpochs(it)
    const { bytes } = it.status()
    expect(bytes).toBe((await it.read(0)).reduce((sum, batch) => sum + batch.bytes.length, 0))
    await it.acknowledge(4)
    expect(it.status().bytes).toBe(0)
    await it.stop()
  })

  test('a damaged header at the open, and a damaged body at the reading, become gaps', async () => {
    for (const at of [20, 80]) {
      const it = await damaged(entries => {
        const { key, value } = batchesIn(entries)[3]!
        const changed = Buffer.from(value)
        changed[at]! ^= 4
        return [{ type: 'put', key, value: changed }]
      })
      expect(await it.texts()).toEqual(['a', 'b', 'c', 'corrupt×1 [3, 4)', 'e'])
      await it.stop()
    }
  })

  // The first byte of an offset is beyond what a number can count one by one.
  test.each([3, 4, 5])('a batch under a damaged key is a hole in its own place, not a gap up to where it lies: byte %i', async byte => {
    const it = await damaged(entries => {
      const { key, value } = batchesIn(entries)[2]!
      const moved = Buffer.from(key)
      moved[byte]! ^= 0x10
      return [{ type: 'del', key }, { type: 'put', key: moved, value }]
    })
    expect(await it.texts()).toEqual(['a', 'b', 'corrupt×1 [2, 3)', 'd', 'e', 'corrupt×0 [5, 6)'])
    expect(it.status().nextOffset).toBe(6)
    await it.stop()
  })

  test('a lost epoch entry is found again from the batches that name it', async () => {
    const it = await bench()
    await it.append(['a'])
    await it.restart()
    await it.append(['b'])
    const epochs = it.outbox.helloLanes()[0]!.epochs.map(({ epoch }) => epoch)
    await it.stop()
    await it.change(entries => entries.filter(({ key }) => key[0] === tables.outboxEpoch).map(({ key }) =>
      ({ type: 'del', key })))
    await it.start()
    expect(it.outbox.helloLanes()[0]!.epochs.map(({ epoch }) => epoch).slice(0, 2)).toEqual(epochs)
    await it.stop()
  })

  test.each([tables.outboxLane, tables.outboxEpoch,
    tables.outboxAcked])('small values of table %i are not believed with a bit flipped', async table => {
    const it = await bench()
    await it.append(['a', 'b', 'c'])
    await it.acknowledge(1)
    await it.pass(11_000)
    const hello = it.outbox.helloLanes()[0]!
    await it.stop()
    let flips = 0
    await it.change(entries => {
      const { key, value } = entries.find(entry => entry.key[0] === table)!
      flips = value.length
      return [{ type: 'put', key, value: Buffer.from(value.map((byte, i) => i === 3 ? byte ^ 1 : byte)) }]
    })
    expect(flips).toBeGreaterThan(4)
    await it.start()
    expect(it.outbox.lanes.map(({ name }) => name)).toEqual(['telemetry'])
    expect(it.outbox.helloLanes()[0]!.epochs[0]!.epoch).toBe(hello.epochs[0]!.epoch)
    expect((await it.texts(1))).toEqual(['b', 'c'])
    await it.stop()
  })

  test('a store whose end may be missing says so with a gap of unknown size, also where nothing is left', async () => {
    const it = await bench({ telemetry: lane(), empty: lane() })
    await it.append(['a'])
    await it.stop()
    it.suspect = true
    await it.start()
    expect(await it.texts()).toEqual(['a', 'corrupt×0 [1, 2)'])
    expect(await it.texts(0, 'empty')).toEqual(['corrupt×0 [0, 1)'])
    expect(it.outbox.helloLanes()[0]!.epochs.map(({ reason }) => reason)).toEqual(['started', 'salvaged', 'salvaged'])
    await it.stop()
  })

  test('an end below what was acknowledged is known to be lost', async () => {
    const it = await bench()
    await it.append(['a', 'b', 'c'])
    await it.acknowledge(3)
    await it.pass(11_000)
    await it.stop()
    await it.change(entries => batchesIn(entries).map(({ key }) => ({ type: 'del', key })))
    await it.start()
    expect(it.status().nextOffset).toBe(3)
    await it.append(['d'])
    expect((await it.texts(3))).toEqual(['d'])
    await it.stop()
  })

  test('a salvaged store keeps what is sound', async () => {
    const it = await bench()
    await it.append(['a', 'b', 'c'])
    await it.stop()
    it.disk.becomeUnreadable(0)
    await it.disk.rebuild(async (entries, store) => {
      expect(await salvageOutbox(entries, store)).toEqual({ batches: 3, damaged: 0 })
    })
    it.suspect = true
    await it.start()
    expect(await it.texts()).toEqual(['a', 'b', 'c', 'corrupt×0 [3, 4)'])
    await it.stop()
  })
})

describe('comparing with the cloud', () => {
  const mark = (it: Bench, order: number, next: number, crc = 0): Watermark =>
    ({ lane: 1, epoch: it.outbox.helloLanes()[0]!.epochs[order]!.epoch, next, crc })
  const crcAt = async (it: Bench, end: number): Promise<number> =>
    readBatchHeader((await it.read(end - 1))[0]!.bytes).crc

  const twoEpochs = async (): Promise<Bench> => {
    const it = await bench({ telemetry: lane({ keepBytes: 1e6 }) })
    await it.append(['a', 'b', 'c'])
    await it.restart()
    await it.append(['d', 'e'])
    return it
  }
  const compare = async (it: Bench, ...marks: Watermark[]) => await it.outbox.compare(it.outbox.lane('telemetry')!,
    marks)

  test('our own bytes at the watermark are believed, others mean that the lane diverged', async () => {
    const it = await twoEpochs()
    expect(await compare(it, mark(it, 0, 2, await crcAt(it, 2)), mark(it, 1, 3))).toEqual({ kind: 'position', next: 2 })
    expect(await compare(it, mark(it, 0, 2, 12345), mark(it, 1, 3))).toMatchObject({ kind: 'diverged', next: 2 })
    expect(await compare(it, mark(it, 0, 3, await crcAt(it, 3)), mark(it, 1, 4, await crcAt(it, 4)))).toEqual({
      kind: 'position', next: 4 })
    await it.stop()
  })

  test('more of an older epoch than is here comes from a later state of this disk; more of our own does not',
    async () => {
    const it = await twoEpochs()
    expect(await compare(it, mark(it, 0, 9, 777), mark(it, 1, 3))).toEqual({ kind: 'position', next: 3 })
    expect(await compare(it, mark(it, 0, 3, await crcAt(it, 3)), mark(it, 1, 9, 777))).toMatchObject({
      kind: 'diverged', next: 9 })
    await it.stop()
  })

  test('a cloud that lost its end gets again what is still here', async () => {
    const it = await twoEpochs()
    await it.acknowledge(5)
    expect(await compare(it, mark(it, 0, 1, 999), mark(it, 1, 3))).toEqual({ kind: 'position', next: 1 })
    await it.outbox.moveTo(it.outbox.lane('telemetry')!, 1)
    expect(await it.texts(1)).toEqual(['b', 'c', 'd', 'e'])
    const status = it.status()
    expect(status).toMatchObject({ ackedOffset: 1, records: 4 })
    await it.acknowledge(5)
    expect(it.status()).toMatchObject({ ackedOffset: 5, bytes: 0 })
    await it.stop()
  })

  test('what was trimmed since Hello named it is not skipped: another Hello has to say that it is gone', async () => {
    const it = await bench()
    await it.append(['a', 'b'])
    await it.acknowledge(2)
    await it.pass(11_000)
    const [hello] = it.outbox.helloLanes()
    expect(hello!.epochs[0]!.first).toBe(1)
    await it.append(['c'])
    await it.acknowledge(2)
    it.outbox.lane('telemetry')!.dirty = true
    await it.pass(16_000)
    expect(it.status().firstOffset).toBe(2)
    expect(await compare(it, mark(it, 0, 1))).toEqual({ kind: 'trimmed' })
    await it.stop()
  })

  test('a gap that reaches beyond the position waits again, whole, and counts once', async () => {
    const it = await twoEpochs()
    await it.stop()
    await it.change(entries => batchesIn(entries).slice(1, 3).map(({ key }) => ({ type: 'del', key })))
    await it.start()
    await it.acknowledge(5)
    await it.outbox.moveTo(it.outbox.lane('telemetry')!, 2)
    expect(await it.texts(2)).toEqual(['corrupt×2 [1, 3)', 'd', 'e'])
    await it.acknowledge(5)
    expect(it.status()).toMatchObject({ ackedOffset: 5, bytes: 0 })
    await it.stop()
  })

  test('a gap that the cloud has a part of waits no longer when the cloud turns out to have all', async () => {
    const it = await twoEpochs()
    await it.stop()
    await it.change(entries => batchesIn(entries).slice(1, 3).map(({ key }) => ({ type: 'del', key })))
    await it.start()
    const lane = it.outbox.lane('telemetry')!
    await it.outbox.moveTo(lane, 2)
    expect(lane.acked).toBe(2)
    expect(lane.storedBytes).toBeGreaterThan(0)
    await it.outbox.moveTo(lane, 5)
    expect([lane.acked, lane.storedBytes]).toEqual([5, 0])
    expect(lane.kept.map(({ base, next }) => [base, next])).toEqual([[0, 1], [1, 3], [3, 4], [4, 5]])
    await it.stop()
  })

  test('a diverged lane goes on under a name of its own, and nothing is trimmed', async () => {
    const it = await twoEpochs()
    await it.acknowledge(1)
    const before = it.outbox.lane('telemetry')!.epochs.map(({ epoch }) => epoch)
    await it.outbox.reidentify(it.outbox.lane('telemetry')!)
    const epochs = it.outbox.helloLanes()[0]!.epochs
    expect(epochs.map(({ start, next, reason }) => [start, next, reason])).toEqual([[0, 1, 'started'],
      [1, 5, 're-identified']])
    expect(before).not.toContain(epochs[1]!.epoch)
    for (const { bytes } of await it.read(1)) expect(readBatchHeader(bytes).epoch).toBe(epochs[1]!.epoch)
    await it.restart()
    expect(await it.texts(1)).toEqual(['b', 'c', 'd', 'e'])
    for (const { bytes } of await it.read(1)) expect(readBatchHeader(bytes).epoch).toBe(epochs[1]!.epoch)
    await it.stop()
  })

  test('a record that was under way when the lane was re-identified is sent under the new epoch', async () => {
    const it = await bench()
    it.hold()
    const written = it.append(['under way'])
    await it.turns()
    const reidentified = it.outbox.reidentify(it.outbox.lane('telemetry')!)
    await it.turns()
    await it.release()
    await Promise.all([written, reidentified])
    await it.append(['after'])
    const batches = await it.read(0)
    expect(batches.map(({ base, next }) => [base, next])).toEqual([[0, 1], [1, 2]])
    await expectWithinEpochs(it)
    for (const { bytes } of batches) expect(readBatchHeader(bytes).epoch).toBe(it.outbox.lane('telemetry')!.epoch)
    await it.stop()
  })

  test('a lane that diverges inside a gap parts it, since no batch reaches over an epoch', async () => {
    const it = await bench()
    await it.append(['a', 'b', 'c', 'd'])
    await it.stop()
    await it.change(entries => batchesIn(entries).slice(1, 3).map(({ key }) => ({ type: 'del', key })))
    await it.start()
    // Written as one gap of two offsets; the cloud has the first of them.
    expect(await it.texts()).toEqual(['a', 'corrupt×2 [1, 3)', 'd'])
    await it.outbox.moveTo(it.outbox.lane('telemetry')!, 2)
    await it.outbox.reidentify(it.outbox.lane('telemetry')!)
    expect(await it.texts(2)).toEqual(['corrupt×1 [2, 3)', 'd'])
    await expectWithinEpochs(it)
    await it.restart()
    expect(await it.texts(2)).toEqual(['corrupt×1 [2, 3)', 'd'])
    await it.acknowledge(4)
    expect(it.status()).toMatchObject({ ackedOffset: 4, bytes: 0 })
    await it.stop()
  })

  test('another cloud log holds nothing: everything still here waits again', async () => {
    const it = await twoEpochs()
    await it.acknowledge(5)
    await it.outbox.forgetAcknowledged()
    expect(it.status()).toMatchObject({ ackedOffset: 0, records: 5 })
    await it.restart()
    expect(it.status()).toMatchObject({ ackedOffset: 0, records: 5 })
    await it.stop()
  })
})

test('after a failed write the outbox goes on in new epochs with what the disk has', async () => {
  const it = await bench()
  await it.append(['a'])
  it.disk.failNextWrite('EIO')
  await expect(it.append(['b'])).rejects.toMatchObject({ code: 'STORE_FAILED' })
  await expect(it.append(['refused'])).rejects.toMatchObject({ code: 'STORE_FAILED' })
  await it.store.close()
  it.store = await it.disk.open()
  // An outbox that is being read is not an empty one.
  const waiting: number[] = []
  const { store } = it
  it.store = {
    write: (ops, options, onDone) => { store.write(ops, options, onDone) },
    get: key => store.get(key),
    scan: options => {
      waiting.push(it.status().records)
      return store.scan(options)
    },
    compact: (gte, lt) => store.compact(gte, lt),
    close: () => store.close()
  }
  await it.outbox.reopen(it.store, false)
  expect(waiting.length).toBeGreaterThan(1)
  expect(Math.min(...waiting)).toBe(1)
  it.committer.resume(it.store)
  await it.append(['c'])
  const texts = await it.texts()
  expect([['a', 'c'], ['a', 'b', 'c']]).toContainEqual(texts)
  const epochs = it.outbox.helloLanes()[0]!.epochs
  expect(epochs.at(-1)!.start).toBe(texts.length - 1)
  await it.stop()
})
