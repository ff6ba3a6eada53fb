import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { batchHeaderBytes, cursorAt } from '@holdfast/protos'
import type { Clock, LogFields } from '@holdfast/runtime'
import { HoldfastError, SeededRandom, silentLog, SystemClock, SystemRandom } from '@holdfast/runtime'
import type { Store, StoreOpener } from '@holdfast/store'
import { levelStoreOpener, MemoryStore, SimulatedDisk, tables } from '@holdfast/store'
import { decodeEntry, entryHeaderBytes, entryKey, indexKey, metaKey, nodeKey, streamKey } from './entry.ts'
import type { LevelLogOptions } from './level-log.ts'
import { LevelLog } from './level-log.ts'
import type { CloudLogHarness } from './testing/cloud-log-suite.ts'
import {
  append, cloudLogSuite, describeEntries, epochOf, offsets, openSample, readAll, sampleBatch, sampleGap
} from './testing/cloud-log-suite.ts'

const plenty: LevelLogOptions = { retentionBytesMax: 2 ** 40, retentionAgeMaxMs: 2 ** 50 }
/** Segments so small that every test crosses several. */
const small: LevelLogOptions = { ...plenty, segmentEntries: 4 }

class SettableClock extends SystemClock {
  nowMs = Date.now()
  override wallMs(): number { return this.nowMs }
}

interface Place { readonly opener: StoreOpener, readonly clock?: Clock, readonly options?: LevelLogOptions }

function openLog({ opener, clock = new SystemClock(), options = small }: Place): Promise<LevelLog> {
  return LevelLog.open(options, { opener, clock, random: new SystemRandom(), log: silentLog })
}

function disk(seed = 1): SimulatedDisk {
  return new SimulatedDisk({ recentCommits: 1000 }, { schedule: task => setImmediate(task), random: new SeededRandom(seed) })
}

/** Opens one MemoryStore again and again; what is in it outlives `close`. */
function memoryOpener(): StoreOpener & { readonly store: MemoryStore } {
  const store = new MemoryStore()
  const lasting: Store = {
    write: (ops, options, onDone) => store.write(ops, options, onDone),
    get: key => store.get(key),
    scan: options => store.scan(options),
    compact: async () => {},
    close: async () => {}
  }
  return {
    store,
    open: async () => lasting,
    suspect: async () => false,
    trust: async () => {},
    rebuild: async () => { throw new Error('memory does not fail') }
  }
}

cloudLogSuite('LevelLog on a MemoryStore', async (): Promise<CloudLogHarness> => {
  const opener = memoryOpener()
  return { open: () => openLog({ opener }), dispose: async () => {} }
}, { crashes: false })

cloudLogSuite('LevelLog on a MemoryStore with large segments', async (): Promise<CloudLogHarness> => {
  const opener = memoryOpener()
  return { open: () => openLog({ opener, options: plenty }), dispose: async () => {} }
}, { crashes: false })

cloudLogSuite('LevelLog on a SimulatedDisk', async (): Promise<CloudLogHarness> => {
  const simulated = disk()
  return { open: () => openLog({ opener: simulated }), crash: () => simulated.crash(), dispose: async () => {} }
}, { crashes: true })

cloudLogSuite('LevelLog on a LevelStore', async (): Promise<CloudLogHarness> => {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-log-'))
  const opener = levelStoreOpener({ path: join(folder, 'db'), quarantineDir: join(folder, 'quarantine') },
    { log: silentLog, clock: new SystemClock() })
  return { open: () => openLog({ opener }), dispose: () => rm(folder, { recursive: true, force: true }) }
}, { crashes: false })

/** Writes to the store beside the log. */
async function patch(opener: StoreOpener, change: (store: Store) => Promise<void>): Promise<void> {
  const store = await opener.open()
  await change(store)
  await store.close()
}

async function remove(store: Store, key: Buffer): Promise<void> {
  await new Promise<void>(resolve => store.write([{ type: 'del', key }], { sync: true }, () => resolve()))
}

async function flip(store: Store, key: Buffer, at: number): Promise<void> {
  const value = Buffer.from((await store.get(key))!)
  value[at]! ^= 1
  await new Promise<void>(resolve => store.write([{ type: 'put', key, value }], { sync: true }, () => resolve()))
}

async function fill(log: LevelLog, node: string, epoch: number, batches: number, from = 0): Promise<void> {
  const stream = await openSample(log, node, epoch)
  for (let i = 0; i < batches; i++) await append(log, stream, sampleBatch(epochOf(epoch), from + i * 5, 5))
}

describe('a log with damaged entries', () => {
  it('shows a gap for a body that is damaged, and goes on behind it', async () => {
    const opener = disk()
    const log = await openLog({ opener })
    await fill(log, 'n1', 1, 10)
    const cursors = (await readAll(log)).map(entry => cursorAt(entry.cursorPrefix, 2))
    await log.close()
    await patch(opener, store => flip(store, entryKey(2), entryHeaderBytes + batchHeaderBytes + 3))
    const again = await openLog({ opener })
    expect(describeEntries(await readAll(again))).toEqual(
      [...offsets('n1', 0, 10), 'n1/telemetry gap 10-14 cloud-corrupt', ...offsets('n1', 15, 50)])
    expect(describeEntries(await readAll(again, { cursor: cursors[2]! }))).toEqual(
      ['n1/telemetry gap 12-14 cloud-corrupt', ...offsets('n1', 15, 50)])
    expect(again.stats.corruptEntries).toBe(1)
    await again.close()
  })

  const damages = ['missing', 'entry header damaged', 'batch header damaged']
  it.each(damages)('shows gaps for an entry of a sealed segment that is %s', async how => {
    const opener = disk()
    const log = await openLog({ opener })
    const streams = [await openSample(log, 'n1', 1), await openSample(log, 'n2', 2)]
    for (let i = 0; i < 10; i++) for (const stream of streams) await append(log, stream, sampleBatch(stream.epoch, i * 5, 5))
    await log.close()
    await patch(opener, async store => {
      for (const seq of [5, 6, 8]) {
        if (how === 'missing') await remove(store, entryKey(seq))
        else await flip(store, entryKey(seq), how === 'entry header damaged' ? 9 : entryHeaderBytes + 20)
      }
    })
    const again = await openLog({ opener })
    expect(describeEntries(await readAll(again, { node: 'n1' }))).toEqual(
      [...offsets('n1', 0, 15), 'n1/telemetry gap 15-19 cloud-corrupt', 'n1/telemetry gap 20-24 cloud-corrupt', ...offsets('n1', 25, 50)])
    const all = await readAll(again, { pageBytesMax: 200 })
    const lines = describeEntries(all)
    expect(lines.filter(line => line.startsWith('n2'))).toEqual(
      [...offsets('n2', 0, 10), 'n2/telemetry gap 10-14 cloud-corrupt', ...offsets('n2', 15, 50)])
    expect(again.stats.corruptEntries).toBe(3)
    for (const [i, entry] of all.entries()) {
      const rest = await readAll(again, { cursor: cursorAt(entry.cursorPrefix, entry.endIndex) })
      expect(describeEntries(rest)).toEqual(describeEntries(all.slice(i + 1)))
    }
    await again.close()
  })

  it('covers a hole behind the last checkpoint with a gap at the end, once', async () => {
    const opener = disk()
    const log = await openLog({ opener, options: plenty })
    await fill(log, 'n1', 1, 6)
    await fill(log, 'n2', 2, 6)
    await log.close()
    await patch(opener, async store => {
      await remove(store, entryKey(2))
      await remove(store, entryKey(3))
    })
    const expected = [
      ...offsets('n1', 0, 10), ...offsets('n1', 20, 30), ...offsets('n2', 0, 30), 'n1/telemetry gap 10-19 cloud-corrupt'
    ]
    for (let round = 0; round < 3; round++) {
      const again = await openLog({ opener, options: plenty })
      expect(describeEntries(await readAll(again))).toEqual(expected)
      const stream = await openSample(again, 'n1', 1)
      expect(again.watermark(stream).next).toBe(30)
      expect(await append(again, stream, sampleBatch(epochOf(1), 10, 5))).toEqual({ kind: 'phantom', next: 30 })
      expect(await append(again, stream, sampleBatch(epochOf(1), 0, 5, 'other'))).toEqual({ kind: 'conflict', next: 30 })
      expect(again.nodes()[0]).toMatchObject({ lanes: [{ nextOffset: 30, records: 20, gaps: 1 }] })
      await again.close()
    }
  })

  it('shows a later hole at its own place in a segment where an earlier one has its gap already', async () => {
    const opener = disk()
    const options = { ...plenty, segmentEntries: 8 }
    const log = await openLog({ opener, options })
    await fill(log, 'n1', 1, 5)
    await log.close()
    await patch(opener, store => remove(store, entryKey(1)))
    const repaired = await openLog({ opener, options })
    await fill(repaired, 'n1', 1, 4, 25)
    await repaired.close()
    // Without its row all of the segment counts as the node's, the place of the first hole too.
    await patch(opener, async store => {
      await remove(store, entryKey(3))
      await remove(store, indexKey(1, 0))
    })
    const again = await openLog({ opener, options })
    expect(describeEntries(await readAll(again))).toEqual([
      ...offsets('n1', 0, 5), ...offsets('n1', 10, 15), 'n1/telemetry gap 15-19 cloud-corrupt', ...offsets('n1', 20, 25),
      'n1/telemetry gap 5-9 cloud-corrupt', ...offsets('n1', 25, 45)
    ])
    await again.close()
  })

  it('lowers the watermark where its tail is lost, and refuses the cursors that were further', async () => {
    const opener = disk()
    const log = await openLog({ opener, options: plenty })
    await fill(log, 'n1', 1, 8)
    const last = (await readAll(log)).at(-1)!
    const cursor = cursorAt(last.cursorPrefix, last.endIndex)
    await log.close()
    expect(opener.loseTail(3)).toBe(3)
    const again = await openLog({ opener, options: plenty })
    const stream = await openSample(again, 'n1', 1)
    expect(again.watermark(stream)).toEqual({ next: 25, crc: sampleBatch(epochOf(1), 20, 5).header.crc })
    await expect(readAll(again, { cursor })).rejects.toMatchObject({ code: 'CURSOR_FOREIGN' })
    for (let i = 5; i < 9; i++) await append(again, stream, sampleBatch(epochOf(1), i * 5, 5, 'later'))
    await expect(readAll(again, { cursor })).rejects.toMatchObject({ code: 'CURSOR_FOREIGN' })
    await again.close()
  })

  it('reads a node whose index row is lost, in sealed segments and the last one', async () => {
    const opener = disk()
    const log = await openLog({ opener })
    for (let i = 0; i < 5; i++) {
      await fill(log, 'n1', 1, 2, i * 10)
      await fill(log, 'n2', 2, 2, i * 10)
    }
    await log.close()
    for (const first of [0, 4, 8, 12, 16]) {
      const row = await (async () => {
        const store = await opener.open()
        const value = await store.get(indexKey(1, first))
        if (value !== undefined) await remove(store, indexKey(1, first))
        await store.close()
        return value
      })()
      const again = await openLog({ opener })
      expect(describeEntries(await readAll(again, { node: 'n1' }))).toEqual(offsets('n1', 0, 50))
      await again.close()
      await patch(opener, store => new Promise(resolve =>
        store.write([{ type: 'put', key: indexKey(1, first), value: row! }], { sync: true }, () => resolve())))
    }
  })

  it('makes a lost checkpoint anew, with the offsets of streams that ended in it', async () => {
    const opener = memoryOpener()
    const log = await openLog({ opener })
    await fill(log, 'n1', 1, 4)
    const older = (await opener.store.get(streamKey(1)))!
    await fill(log, 'n1', 1, 4, 20)
    await fill(log, 'n2', 2, 20)
    await log.close()
    for (const key of [entryKey(5), indexKey(0, 4), indexKey(1, 4)]) await remove(opener.store, key)
    await new Promise<void>(resolve =>
      opener.store.write([{ type: 'put', key: streamKey(1), value: older }], { sync: true }, () => resolve()))
    for (let round = 0; round < 2; round++) {
      const again = await openLog({ opener })
      expect(describeEntries(await readAll(again, { node: 'n1' })))
        .toEqual([...offsets('n1', 0, 25), 'n1/telemetry gap 25-29 cloud-corrupt', ...offsets('n1', 30, 40)])
      expect(describeEntries(await readAll(again, { node: 'n2' }))).toEqual(offsets('n2', 0, 100))
      const stream = await openSample(again, 'n1', 1)
      expect(again.watermark(stream)).toEqual({ next: 40, crc: sampleBatch(epochOf(1), 35, 5).header.crc })
      await again.close()
    }
  })

  it('is not led far away by an entry under a damaged key', async () => {
    const opener = disk()
    const log = await openLog({ opener })
    await fill(log, 'n1', 1, 6)
    await log.close()
    await patch(opener, async store => {
      const value = (await store.get(entryKey(5)))!
      await remove(store, entryKey(5))
      await new Promise<void>(resolve =>
        store.write([{ type: 'put', key: entryKey(5 + 2 ** 45), value }], { sync: true }, () => resolve()))
    })
    const again = await openLog({ opener })
    expect(again.stats.corruptEntries).toBe(1)
    const stream = await openSample(again, 'n1', 1)
    expect(again.watermark(stream).next).toBe(25)
    expect((await append(again, stream, sampleBatch(epochOf(1), 25, 5))).kind).toBe('appended')
    expect(describeEntries(await readAll(again))).toEqual(offsets('n1', 0, 30))
    await again.close()
    const third = await openLog({ opener })
    expect(third.stats.corruptEntries).toBe(0)
    await third.close()
  })

  it.each(Array.from({ length: 40 }, (_, i) => i))('never shows wrong data and never loses silently, seed %i', async seed => {
    const opener = disk(seed)
    const random = new SeededRandom(seed)
    const log = await openLog({ opener })
    await Promise.all([fill(log, 'n1', 1, 20), fill(log, 'n2', 2, 20)])
    await log.close()
    for (let faults = random.integer(1, 3); faults > 0; faults--) {
      if (random.chance(0.5)) opener.dropCommit()
      else opener.flipBit()
    }
    const again = await openLog({ opener })
    for (const node of again.nodes()) {
      const covered = new Set<number>()
      for (const { batch, header } of await readAll(again, { node: node.name })) {
        const sample = header.kind === 'gap' ? undefined : sampleBatch(header.epoch, header.base, header.count)
        if (sample !== undefined) expect(batch.equals(sample.batch)).toBe(true)
        for (let offset = header.base; offset < header.base + header.count; offset++) {
          expect(covered.has(offset)).toBe(false)
          covered.add(offset)
        }
      }
      // What was lost before the registry was made anew is told by the new log id, not by gaps.
      if (again.stats.salvages === 0) expect(covered.size).toBe(node.lanes[0]!.nextOffset)
    }
    await again.close()
  })
})

describe('a log that cannot be trusted', () => {
  it.each([
    ['its first row', (store: Store) => remove(store, metaKey)],
    ['a node row', (store: Store) => flip(store, nodeKey(1), 8)],
    ['a stream row', (store: Store) => remove(store, streamKey(1))]
  ])('is made anew from what can be salvaged when %s is damaged', async (what, damage) => {
    const opener = disk()
    const log = await openLog({ opener })
    const { logId } = log
    await fill(log, 'n1', 1, 10)
    await fill(log, 'n2', 2, 10)
    const [entry] = await readAll(log)
    await log.close()
    await patch(opener, damage)
    const again = await openLog({ opener })
    expect(again.logId).not.toBe(logId)
    expect(again.stats.salvages).toBe(1)
    const lines = describeEntries(await readAll(again))
    expect(lines).toEqual(what === 'its first row' ? [...offsets('n1', 0, 50), ...offsets('n2', 0, 50)] : offsets('n2', 0, 50))
    await expect(readAll(again, { cursor: cursorAt(entry!.cursorPrefix, 1) })).rejects.toMatchObject({ code: 'CURSOR_FOREIGN' })
    const stream = await openSample(again, 'n2', 2)
    expect(await append(again, stream, sampleBatch(epochOf(2), 5, 5))).toEqual({ kind: 'phantom', next: 50 })
    expect(await append(again, stream, sampleBatch(epochOf(2), 50, 5))).toMatchObject({ kind: 'appended', next: 55 })
    await again.close()
    const third = await openLog({ opener })
    expect(third.logId).toBe(again.logId)
    await third.close()
  })

  it('is salvaged again where a salvage was cut short, and loses nothing by it', async () => {
    const opener = disk()
    const log = await openLog({ opener })
    await fill(log, 'n1', 1, 10)
    await log.close()
    await patch(opener, store => remove(store, metaKey))
    let entries = 0
    const dying: StoreOpener = {
      open: () => opener.open(), suspect: () => opener.suspect(), trust: () => opener.trust(),
      rebuild: fillStore => opener.rebuild((from, store) => fillStore((async function* () {
        for await (const entry of from) {
          if (++entries === 8) throw new HoldfastError('STORE_FAILED', 'killed here')
          yield entry
        }
      })(), store))
    }
    await expect(openLog({ opener: dying })).rejects.toMatchObject({ code: 'STORE_FAILED' })
    const again = await openLog({ opener })
    expect(describeEntries(await readAll(again))).toEqual(offsets('n1', 0, 50))
    expect(again.stats.salvages).toBe(1)
    await again.close()
  })

  it('is salvaged where the store does not open; what is missing between is a gap', async () => {
    const opener = disk(3)
    const log = await openLog({ opener })
    await fill(log, 'n1', 1, 40)
    await log.close()
    opener.becomeUnreadable(0.2)
    const again = await openLog({ opener })
    const stream = await openSample(again, 'n1', 1)
    const covered = (await readAll(again)).reduce((sum, { header }) => sum + header.count, 0)
    const first = (await readAll(again))[0]!.header.base
    expect(covered).toBe(again.watermark(stream).next - first)
    expect(covered).toBeGreaterThan(100)
    await again.close()
  })
})

describe('a log whose store fails', () => {
  it('fails what is in flight, opens the store again and goes on', async () => {
    const opener = disk()
    const log = await openLog({ opener })
    const stream = await openSample(log, 'n1', 1)
    await append(log, stream, sampleBatch(epochOf(1), 0, 5))
    opener.failNextWrite('EIO')
    expect((await append(log, stream, sampleBatch(epochOf(1), 5, 5))).kind).toBe('failed')
    expect((await append(log, stream, sampleBatch(epochOf(1), 5, 5))).kind).toBe('failed')
    await expect.poll(() => log.stats.reopens, { timeout: 5000 }).toBe(1)
    const again = await openSample(log, 'n1', 1)
    expect((await append(log, stream, sampleBatch(epochOf(1), 5, 5))).kind).toBe('failed')
    const { next } = log.watermark(again)
    expect([5, 10]).toContain(next)
    expect((await append(log, again, sampleBatch(epochOf(1), 5, 5))).kind).toBe(next === 5 ? 'appended' : 'phantom')
    expect(describeEntries(await readAll(log))).toEqual(offsets('n1', 0, 10))
    await log.close()
  })

  it.each(Array.from({ length: 8 }, (_, i) => i))(
    'tells no watermark over what a failed fsync left readable before that is durable (LOG-22), seed %i', async seed => {
      const opener = disk(seed)
      const log = await openLog({ opener })
      const stream = await openSample(log, 'n1', 1)
      await append(log, stream, sampleBatch(epochOf(1), 0, 5))
      opener.failNextWrite('EIO')
      expect((await append(log, stream, sampleBatch(epochOf(1), 5, 5))).kind).toBe('failed')
      await expect.poll(() => log.stats.reopens, { timeout: 5000 }).toBe(1)
      const told = log.watermark(await openSample(log, 'n1', 1)).next
      opener.crash()
      const again = await openLog({ opener })
      expect(again.watermark(await openSample(again, 'n1', 1)).next).toBe(told)
      expect(describeEntries(await readAll(again))).toEqual(offsets('n1', 0, told))
      await again.close()
    })
})

describe('retention', () => {
  const options: LevelLogOptions = { retentionBytesMax: 4000, retentionAgeMaxMs: 2 ** 50, segmentEntries: 4, segmentBytes: 2 ** 20 }

  it('drops the oldest segments past bytesMax; readers behind are told where to go on', async () => {
    const opener = memoryOpener()
    const log = await openLog({ opener, options })
    await fill(log, 'n1', 1, 4)
    const [oldest] = await readAll(log)
    const slow = log.read({ pageBytesMax: 1 }, new AbortController().signal)[Symbol.asyncIterator]()
    await slow.next()
    await fill(log, 'n1', 1, 200, 20)
    await log.retain()
    await expect(slow.next()).rejects.toMatchObject({ code: 'CURSOR_EXPIRED' })
    const error = await readAll(log, { cursor: cursorAt(oldest!.cursorPrefix, 1) }).catch((caught: unknown) => caught)
    expect(error).toMatchObject({ code: 'CURSOR_EXPIRED' })
    const entries = await readAll(log, { cursor: (error as { firstCursor: string }).firstCursor })
    expect(describeEntries(entries)).toEqual(offsets('n1', entries[0]!.header.base, 1020))
    const bytes = entries.reduce((sum, { batch }) => sum + batch.length, 0)
    expect(bytes).toBeGreaterThan(2500)
    expect(bytes).toBeLessThanOrEqual(4000)
    const keys = await opener.store.scan({ gte: Buffer.from([tables.cloudEntry]), lt: Buffer.from([0xff]) })
    expect(keys.filter(({ key }) => key[0] === tables.cloudEntry)).toHaveLength(entries.length)
    expect(keys.filter(({ key }) => key[0] === tables.cloudNodeIndex).length).toBeLessThan(entries.length)
    expect(log.nodes()[0]).toMatchObject({ lanes: [{ nextOffset: 1020, records: 1020 }] })
    await log.close()
    const again = await openLog({ opener, options })
    expect(describeEntries(await readAll(again, { node: 'n1' }))).toEqual(describeEntries(entries))
    expect(again.nodes()[0]).toMatchObject({ lanes: [{ nextOffset: 1020, records: 1020 }] })
    await again.close()
  })

  it('does not expire a reader that has read all of what was removed', async () => {
    const clock = new SettableClock()
    const log = await openLog({ opener: memoryOpener(), clock, options: { ...plenty, retentionAgeMaxMs: 80_000 } })
    const stream = await openSample(log, 'n1', 1)
    await append(log, stream, sampleBatch(epochOf(1), 0, 5), clock.nowMs)
    const last = (await readAll(log)).at(-1)!
    clock.nowMs += 200_000
    await log.retain()
    expect(await readAll(log)).toEqual([])
    await append(log, stream, sampleBatch(epochOf(1), 5, 5), clock.nowMs)
    const resume = (index: number): ReturnType<typeof readAll> => readAll(log, { cursor: cursorAt(last.cursorPrefix, index) })
    expect(describeEntries(await resume(last.endIndex))).toEqual(offsets('n1', 5, 10))
    await expect(resume(4)).rejects.toMatchObject({ code: 'CURSOR_EXPIRED' })
    await log.close()
  })

  it('drops what was received too long ago, counted from arrival in the cloud', async () => {
    const clock = new SettableClock()
    const log = await openLog({ opener: memoryOpener(), clock, options: { ...plenty, retentionAgeMaxMs: 80_000 } })
    const stream = await openSample(log, 'n1', 1)
    await append(log, stream, sampleBatch(epochOf(1), 0, 5), clock.nowMs)
    await log.retain()
    expect(await readAll(log)).toHaveLength(1)
    clock.nowMs += 60_000
    await log.retain()
    await append(log, stream, sampleBatch(epochOf(1), 5, 5), clock.nowMs)
    expect(await readAll(log)).toHaveLength(2)
    clock.nowMs += 60_000
    await log.retain()
    expect(describeEntries(await readAll(log))).toEqual(offsets('n1', 5, 10))
    expect(await append(log, stream, sampleBatch(epochOf(1), 10, 5))).toMatchObject({ kind: 'appended', next: 15 })
    await log.close()
  })

  it('forgets old epochs without records, and keeps their totals', async () => {
    const opener = memoryOpener()
    const log = await openLog({ opener, options })
    for (let epoch = 1; epoch <= 200; epoch++) {
      await append(log, await openSample(log, 'n1', epoch, epoch * 5), sampleBatch(epochOf(epoch), epoch * 5, 5))
    }
    await log.retain()
    const rows = await opener.store.scan({ gte: Buffer.from([tables.cloudStream]), lt: Buffer.from([tables.cloudEntry]) })
    expect(rows.length).toBeLessThan(100)
    expect(log.nodes()).toMatchObject([{ lanes: [{ epoch: epochOf(200), records: 1000 }] }])
    await log.close()
    const again = await openLog({ opener, options })
    expect(again.nodes()).toMatchObject([{ lanes: [{ epoch: epochOf(200), records: 1000 }] }])
    await again.close()
  })
})

describe('what is written', () => {
  it('is one entry a batch, and a checkpoint once a segment', async () => {
    const opener = memoryOpener()
    const writes: number[] = []
    const counted: StoreOpener = {
      ...opener,
      open: async () => {
        const store = await opener.open()
        return { ...store, write: (ops, options, onDone) => { writes.push(ops.length); store.write(ops, options, onDone) } }
      }
    }
    const log = await openLog({ opener: counted, options: { ...plenty, segmentEntries: 8 } })
    writes.length = 0
    await fill(log, 'n1', 1, 16)
    // First: node and stream. Eighth: segment, node in segment, new node once more, stream, meta.
    expect(writes).toEqual([3, 1, 1, 1, 1, 1, 1, 6, 1, 1, 1, 1, 1, 1, 1, 5])
    const [row] = await opener.store.scan({ gte: indexKey(1, 0), lt: indexKey(2, 0), limit: 1 })
    expect(row!.value.length).toBeLessThan(100)
    expect(decodeEntry(3, (await opener.store.get(entryKey(3)))!)).toMatchObject({ nodeId: 1, streamId: 1, repair: false })
    await log.close()
  })

  it('says what was lost in one line each', async () => {
    const opener = disk()
    const log = await openLog({ opener, options: plenty })
    await fill(log, 'n1', 1, 5)
    await append(log, await openSample(log, 'n1', 1), sampleGap(epochOf(1), 25, 5))
    await log.close()
    await patch(opener, store => remove(store, entryKey(1)))
    const lines: LogFields[] = []
    const again = await LevelLog.open(plenty, {
      opener, clock: new SystemClock(), random: new SystemRandom(),
      log: { ...silentLog, error: (_message, fields) => lines.push(fields ?? {}) }
    })
    expect(lines).toEqual([
      { node: 'n1', lane: 'telemetry', epoch: epochOf(1), first: 5, last: 9 }, { corruptEntries: 1, gaps: 1 }
    ])
    await again.close()
  })
})
