import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { BatchHeader, BootId, Epoch, GapReason, ReaderBatch } from '@holdfast/protos'
import {
  BatchBuilder, cursorAt, encodeGap, parseEpoch, readBatchHeader, readGap, readRecords, RecordTopic
} from '@holdfast/protos'
import type { NodeName } from '@holdfast/runtime'
import { parseNodeName } from '@holdfast/runtime'
import type { AppendResult, CloudLog, CloudStream, LogPage, ReadOptions } from '../cloud-log.ts'

/** One place for a cloud log, made anew for every test. */
export interface CloudLogHarness {
  /** Opens the log; after `close` of the log, the same one again. */
  open(): Promise<CloudLog & { close(): Promise<void> }>
  /** Needed where `crashes`: what is not durable may go, and so does the open log. */
  crash?(): void
  dispose(): Promise<void>
}

export interface CloudLogAbilities {
  /** A power cut can be had. */
  readonly crashes: boolean
}

export function nodeName(text: string): NodeName { return parseNodeName(text)! }
export function epochOf(number: number): Epoch { return parseEpoch(number.toString(16).padStart(16, '0'))! }

const bootId = '00000000000000b1' as BootId
const topics = ['a', 'b', 'c'].map(name => new RecordTopic(`devices/default/${name}/telemetry`, `default/${name}`))

export interface SampleBatch { readonly batch: Buffer, readonly header: BatchHeader }

/** `count` records from `base` of an epoch; devices a, b, c in turn; payload `<offset>`, or `salt` and offset. */
export function sampleBatch(epoch: Epoch, base: number, count: number, salt = ''): SampleBatch {
  const builder = new BatchBuilder()
  for (let i = 0; i < count; i++) builder.add(topics[(base + i) % 3]!, Buffer.from(`${salt}${base + i}`), i)
  const batch = builder.encode({ lane: 1, epoch, base, bootId, wallMs: 1_700_000_000_000, uptimeMs: 5000, clockSynchronised: true })
  return { batch, header: readBatchHeader(batch) }
}

export function sampleGap(epoch: Epoch, base: number, count: number, reason: GapReason = 'overflow', records = count): SampleBatch {
  const batch = encodeGap(count, { reason, records }, {
    lane: 1, epoch, base, bootId, wallMs: 1_700_000_000_000, uptimeMs: 5000, clockSynchronised: true
  })
  return { batch, header: readBatchHeader(batch) }
}

export function openSample(log: CloudLog, node: string, epoch: number, start = 0, lane = 'telemetry'): Promise<CloudStream> {
  return log.openStream(nodeName(node), { id: 1, name: lane }, {
    epoch: epochOf(epoch), predecessor: undefined, start, reason: 'started'
  })
}

export function append(log: CloudLog, stream: CloudStream, { batch, header }: SampleBatch,
  receivedAtMs = 1_700_000_000_000): Promise<AppendResult> {
  return new Promise(resolve => log.append(stream, batch, header, { receivedAtMs, correctionMs: 0 }, resolve))
}

/** Every entry from the cursor to the end. */
export async function readAll(log: CloudLog, options: ReadOptions = {}): Promise<ReaderBatch[]> {
  const all: ReaderBatch[] = []
  for await (const page of log.read(options, new AbortController().signal)) all.push(...page)
  return all
}

/** `node/lane offset` of each record, `node/lane gap first-last reason` of each gap, in reading order. */
export function describeEntries(entries: readonly ReaderBatch[]): string[] {
  return entries.flatMap(({ node, lane, batch, header, skip }) => header.kind === 'gap'
    ? [`${node}/${lane} gap ${header.base}-${header.base + header.count - 1} ${readGap(batch, header).reason}`]
    : readRecords(batch, header).slice(skip).map(record => `${node}/${lane} ${record.offset}`))
}

export function offsets(node: string, first: number, end: number, lane = 'telemetry'): string[] {
  return Array.from({ length: end - first }, (_, i) => `${node}/${lane} ${first + i}`)
}

/** What every implementation of `CloudLog` must do, whatever its medium. */
export function cloudLogSuite(name: string, makeHarness: () => Promise<CloudLogHarness>, abilities: CloudLogAbilities): void {
  describe(`${name} as a cloud log`, () => {
    let harness: CloudLogHarness
    let log: CloudLog & { close(): Promise<void> }
    beforeEach(async () => {
      harness = await makeHarness()
      log = await harness.open()
    })
    afterEach(async () => {
      await log.close()
      await harness.dispose()
    })
    const reopen = async (): Promise<void> => {
      await log.close()
      log = await harness.open()
    }

    it('appends at the next offset and moves the watermark with the data', async () => {
      const stream = await openSample(log, 'n1', 1)
      const one = sampleBatch(epochOf(1), 0, 10)
      expect(log.watermark(stream)).toEqual({ next: 0, crc: 0 })
      expect(await append(log, stream, one)).toEqual({ kind: 'appended', next: 10, crc: one.header.crc })
      expect(log.watermark(stream)).toEqual({ next: 10, crc: one.header.crc })
      expect(describeEntries(await readAll(log))).toEqual(offsets('n1', 0, 10))
    })

    it('answers batches that were handed in together in their order', async () => {
      const stream = await openSample(log, 'n1', 1)
      const results: AppendResult[] = []
      for (let i = 0; i < 20; i++) {
        const { batch, header } = sampleBatch(epochOf(1), i * 5, 5)
        log.append(stream, batch, header, { receivedAtMs: 1, correctionMs: 0 }, result => results.push(result))
      }
      expect(results).toEqual([])
      await append(log, stream, sampleBatch(epochOf(1), 100, 1))
      expect(results.map(result => result.kind === 'appended' ? result.next : result.kind))
        .toEqual(Array.from({ length: 20 }, (_, i) => i * 5 + 5))
    })

    it('takes an epoch that begins at another offset than 0', async () => {
      const stream = await openSample(log, 'n1', 2, 500)
      expect((await append(log, stream, sampleBatch(epochOf(2), 0, 5))).kind).toBe('conflict')
      expect(await append(log, stream, sampleBatch(epochOf(2), 500, 5))).toMatchObject({ kind: 'appended', next: 505 })
    })

    it('refuses a batch above the next offset: no hole is ever stored (L2)', async () => {
      const stream = await openSample(log, 'n1', 1)
      await append(log, stream, sampleBatch(epochOf(1), 0, 5))
      expect(await append(log, stream, sampleBatch(epochOf(1), 6, 5))).toEqual({ kind: 'conflict', next: 5 })
      expect(describeEntries(await readAll(log))).toEqual(offsets('n1', 0, 5))
    })

    it('drops what is sent again with equal content, and refuses other content at the same offsets (L2, L3)', async () => {
      const stream = await openSample(log, 'n1', 1)
      await append(log, stream, sampleBatch(epochOf(1), 0, 5))
      await append(log, stream, sampleBatch(epochOf(1), 5, 5))
      expect(await append(log, stream, sampleBatch(epochOf(1), 0, 5))).toEqual({ kind: 'phantom', next: 10 })
      expect(await append(log, stream, sampleBatch(epochOf(1), 0, 5, 'other'))).toEqual({ kind: 'conflict', next: 10 })
      expect(await append(log, stream, sampleBatch(epochOf(1), 1, 4))).toEqual({ kind: 'conflict', next: 10 })
      expect(await append(log, stream, sampleBatch(epochOf(1), 8, 4))).toEqual({ kind: 'conflict', next: 10 })
      expect(describeEntries(await readAll(log))).toEqual(offsets('n1', 0, 10))
    })

    it('takes a gap whose reason a later edge gives, cuts it, and knows it again', async () => {
      const reason = 'a-reason-of-2031' as GapReason
      const stream = await openSample(log, 'n1', 1)
      await append(log, stream, sampleBatch(epochOf(1), 0, 5))
      expect(await append(log, stream, sampleGap(epochOf(1), 3, 10, reason))).toMatchObject({ kind: 'appended', next: 13 })
      expect(await append(log, stream, sampleGap(epochOf(1), 13, 2, reason))).toMatchObject({ kind: 'appended', next: 15 })
      await reopen()
      const again = await openSample(log, 'n1', 1)
      expect(await append(log, again, sampleGap(epochOf(1), 3, 10, reason))).toEqual({ kind: 'phantom', next: 15 })
      expect(await append(log, again, sampleBatch(epochOf(1), 6, 2))).toEqual({ kind: 'conflict', next: 15 })
      expect(describeEntries(await readAll(log))).toEqual([...offsets('n1', 0, 5), `n1/telemetry gap 5-12 ${reason}`,
        `n1/telemetry gap 13-14 ${reason}`])
    })

    it('refuses a gap whose body is none, wherever it begins, and stores nothing of it', async () => {
      const stream = await openSample(log, 'n1', 1)
      await append(log, stream, sampleBatch(epochOf(1), 0, 5))
      for (const base of [3, 5]) {
        const malformed = sampleGap(epochOf(1), base, 10, 'No Reason' as GapReason)
        expect(await append(log, stream, malformed)).toEqual({ kind: 'conflict', next: 5 })
      }
      expect(await append(log, stream, sampleBatch(epochOf(1), 5, 5))).toMatchObject({ kind: 'appended', next: 10 })
    })

    it('knows a batch that was sent before it was opened again', async () => {
      const first = await openSample(log, 'n1', 1)
      for (let i = 0; i < 10; i++) await append(log, first, sampleBatch(epochOf(1), i * 5, 5))
      await reopen()
      const stream = await openSample(log, 'n1', 1)
      expect(await append(log, stream, sampleBatch(epochOf(1), 10, 5))).toEqual({ kind: 'phantom', next: 50 })
      expect(await append(log, stream, sampleBatch(epochOf(1), 10, 5, 'other'))).toEqual({ kind: 'conflict', next: 50 })
    })

    it('answers a phantom only when the original is durable', async () => {
      const stream = await openSample(log, 'n1', 1)
      const { batch, header } = sampleBatch(epochOf(1), 0, 5)
      const order: string[] = []
      const push = (result: AppendResult): void => { order.push(result.kind) }
      log.append(stream, batch, header, { receivedAtMs: 1, correctionMs: 0 }, push)
      log.append(stream, batch, header, { receivedAtMs: 1, correctionMs: 0 }, push)
      await append(log, stream, sampleBatch(epochOf(1), 5, 1))
      expect(order).toEqual(['appended', 'phantom'])
    })

    it('cuts a gap that reaches below the next offset, and drops one that lies wholly below', async () => {
      const stream = await openSample(log, 'n1', 1)
      await append(log, stream, sampleBatch(epochOf(1), 0, 10))
      expect(await append(log, stream, sampleGap(epochOf(1), 4, 6))).toEqual({ kind: 'phantom', next: 10 })
      expect(await append(log, stream, sampleGap(epochOf(1), 4, 20))).toMatchObject({ kind: 'appended', next: 24 })
      expect(await append(log, stream, sampleGap(epochOf(1), 25, 5))).toMatchObject({ kind: 'conflict', next: 24 })
      const entries = await readAll(log)
      expect(describeEntries(entries)).toEqual([...offsets('n1', 0, 10), 'n1/telemetry gap 10-23 overflow'])
      const gap = entries[1]!
      expect(readGap(gap.batch, gap.header).records).toBe(14)
      expect(log.watermark(stream)).toEqual({ next: 24, crc: gap.header.crc })
    })

    it('writes gaps of its own, and drops what an edge sends for their offsets later', async () => {
      const stream = await openSample(log, 'n1', 1)
      const result = await new Promise<AppendResult>(resolve =>
        log.writeGap(stream, 7, { reason: 'cloud-lost', records: 0 }, 1, resolve))
      expect(result).toMatchObject({ kind: 'appended', next: 7 })
      await append(log, stream, sampleBatch(epochOf(1), 7, 3))
      expect(await append(log, stream, sampleBatch(epochOf(1), 2, 3))).toEqual({ kind: 'phantom', next: 10 })
      expect(describeEntries(await readAll(log))).toEqual(['n1/telemetry gap 0-6 cloud-lost', ...offsets('n1', 7, 10)])
    })

    it('keeps identity, watermarks, totals and entries when it is opened again', async () => {
      const { logId } = log
      for (const [node, epoch] of [['n1', 1], ['n2', 2]] as const) {
        const stream = await openSample(log, node, epoch)
        for (let i = 0; i < 30; i++) await append(log, stream, sampleBatch(epochOf(epoch), i * 5, 5))
        await append(log, stream, sampleGap(epochOf(epoch), 150, 5))
      }
      const before = log.nodes()
      const entries = describeEntries(await readAll(log))
      const watermark = log.watermark(await openSample(log, 'n1', 1))
      await reopen()
      expect(log.logId).toBe(logId)
      expect(log.nodes()).toEqual(before)
      expect(before[0]).toMatchObject({ name: 'n1', lanes: [{ lane: 'telemetry', nextOffset: 155, records: 150, gaps: 1 }] })
      expect(describeEntries(await readAll(log))).toEqual(entries)
      expect(log.watermark(await openSample(log, 'n1', 1))).toEqual(watermark)
    })

    it('counts a lane over its epochs and shows the newest', async () => {
      const old = await openSample(log, 'n1', 1)
      await append(log, old, sampleBatch(epochOf(1), 0, 5))
      await append(log, await openSample(log, 'n1', 2, 5), sampleBatch(epochOf(2), 5, 5))
      expect(log.nodes()).toMatchObject([{ name: 'n1', lanes: [{ epoch: epochOf(2), nextOffset: 10, records: 10 }] }])
    })

    it('reads one node or one lane alone, in commit order', async () => {
      const streams = [
        await openSample(log, 'n1', 1), await openSample(log, 'n2', 2), await openSample(log, 'n1', 3, 0, 'alarms')
      ]
      for (let i = 0; i < 20; i++) for (const stream of streams) await append(log, stream, sampleBatch(stream.epoch, i * 2, 2))
      expect(describeEntries(await readAll(log, { node: 'n2' }))).toEqual(offsets('n2', 0, 40))
      expect(describeEntries(await readAll(log, { lane: 'alarms' }))).toEqual(offsets('n1', 0, 40, 'alarms'))
      expect(describeEntries(await readAll(log, { node: 'n1', lane: 'telemetry' }))).toEqual(offsets('n1', 0, 40))
      expect(await readAll(log, { node: 'nobody' })).toEqual([])
      await reopen()
      expect(describeEntries(await readAll(log, { node: 'n2', pageBytesMax: 1 }))).toEqual(offsets('n2', 0, 40))
    })

    it('reads in pages of a bounded size', async () => {
      const stream = await openSample(log, 'n1', 1)
      for (let i = 0; i < 30; i++) await append(log, stream, sampleBatch(epochOf(1), i * 10, 10))
      const sizes: number[] = []
      for await (const page of log.read({ pageBytesMax: 1000 }, new AbortController().signal)) sizes.push(page.length)
      expect(Math.max(...sizes)).toBeLessThan(10)
      expect(sizes.reduce((sum, size) => sum + size)).toBe(30)
    })

    it('goes on from any cursor, between batches and within one', async () => {
      const stream = await openSample(log, 'n1', 1)
      for (let i = 0; i < 6; i++) await append(log, stream, sampleBatch(epochOf(1), i * 5, 5))
      await reopen()
      for (const { cursorPrefix, header, endIndex } of await readAll(log)) {
        for (let read = 1; read <= header.count; read++) {
          const cursor = cursorAt(cursorPrefix, read === header.count ? endIndex : read)
          expect(describeEntries(await readAll(log, { cursor }))).toEqual(offsets('n1', header.base + read, 30))
        }
      }
    })

    it('refuses a cursor that is none, and one of another log', async () => {
      await append(log, await openSample(log, 'n1', 1), sampleBatch(epochOf(1), 0, 1))
      await expect(readAll(log, { cursor: 'x' })).rejects.toMatchObject({ code: 'CURSOR_INVALID' })
      const other = await makeHarness()
      const otherLog = await other.open()
      await append(otherLog, await openSample(otherLog, 'n1', 1), sampleBatch(epochOf(1), 0, 1))
      const [entry] = await readAll(otherLog)
      const error = await readAll(log, { cursor: cursorAt(entry!.cursorPrefix, entry!.endIndex) }).catch((caught: unknown) => caught)
      expect(error).toMatchObject({ code: 'CURSOR_FOREIGN' })
      const { firstCursor } = error as { firstCursor: string }
      expect(describeEntries(await readAll(log, { cursor: firstCursor }))).toEqual(offsets('n1', 0, 1))
      await otherLog.close()
      await other.dispose()
    })

    it('follows: one wake for a commit, until the signal aborts', async () => {
      const stream = await openSample(log, 'n1', 1)
      await append(log, stream, sampleBatch(epochOf(1), 0, 2))
      const stop = new AbortController()
      const pages = log.read({ follow: true }, stop.signal)[Symbol.asyncIterator]()
      const next = async (): Promise<LogPage> => (await pages.next()).value as LogPage
      expect(describeEntries(await next())).toEqual(offsets('n1', 0, 2))
      const waiting = next()
      await append(log, stream, sampleBatch(epochOf(1), 2, 2))
      expect(describeEntries(await waiting)).toEqual(offsets('n1', 2, 4))
      const last = pages.next()
      stop.abort(new Error('enough'))
      await expect(last).rejects.toThrow('enough')
    })

    it('follows one node past the commits of others', async () => {
      const other = await openSample(log, 'n2', 2)
      const stop = new AbortController()
      const pages = log.read({ follow: true, node: 'n1' }, stop.signal)[Symbol.asyncIterator]()
      expect((await pages.next()).value).toEqual([])
      const waiting = pages.next()
      await append(log, other, sampleBatch(epochOf(2), 0, 2))
      await append(log, await openSample(log, 'n1', 1), sampleBatch(epochOf(1), 0, 2))
      expect(describeEntries((await waiting).value as LogPage)).toEqual(offsets('n1', 0, 2))
      stop.abort()
      await expect(pages.next()).rejects.toThrow()
    })

    it('takes nothing after close, and ends its readers', async () => {
      const stream = await openSample(log, 'n1', 1)
      const pages = log.read({ follow: true }, new AbortController().signal)[Symbol.asyncIterator]()
      await pages.next()
      const waiting = pages.next()
      waiting.catch(() => {})
      await log.close()
      await expect(waiting).rejects.toMatchObject({ code: 'LOG_UNAVAILABLE' })
      expect((await append(log, stream, sampleBatch(epochOf(1), 0, 1))).kind).toBe('failed')
    })

    if (abilities.crashes) {
      it('after a power cut holds all that was acknowledged, without a hole, and nothing twice', async () => {
        for (let round = 0; round < 10; round++) {
          const stream = await openSample(log, 'n1', 1)
          let acknowledged = log.watermark(stream).next
          let handedIn = 0
          await new Promise<void>(resolve => {
            for (let base = acknowledged; handedIn < 12; base += 3, handedIn++) {
              const { batch, header } = sampleBatch(epochOf(1), base, 3)
              log.append(stream, batch, header, { receivedAtMs: 1, correctionMs: 0 }, result => {
                if (result.kind !== 'appended') return
                acknowledged = result.next
                resolve()
              })
            }
          })
          for (let more = 0; more < 5; more++) {
            const { batch, header } = sampleBatch(epochOf(1), stream.next, 3)
            log.append(stream, batch, header, { receivedAtMs: 1, correctionMs: 0 }, () => {})
          }
          harness.crash!()
          await log.close()
          log = await harness.open()
          const next = log.watermark(await openSample(log, 'n1', 1)).next
          expect(next).toBeGreaterThanOrEqual(acknowledged)
          expect(describeEntries(await readAll(log))).toEqual(offsets('n1', 0, next))
        }
      })
    }
  })
}
