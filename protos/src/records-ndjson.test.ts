import { expect, test } from 'vitest'
import type { ReaderBatch } from './batch-stream.ts'
import { cursorIndexEnd } from './batch-stream.ts'
import { BatchBuilder, readBatchHeader, RecordTopic } from './batch.ts'
import { parseBootId, parseEpoch } from './ids.ts'
import { RecordsNdjson, timestampFormatter } from './records-ndjson.ts'

function item(count: number, correctionMs = 0): ReaderBatch {
  const builder = new BatchBuilder()
  const topics = [new RecordTopic('t/1', 'n/1'), new RecordTopic('t/2', 'n/2')]
  for (let i = 0; i < count; i++) builder.add(topics[i % 2]!, Buffer.from(String(i)), i)
  const batch = builder.encode({
    lane: 3, epoch: parseEpoch('00000000000000e1')!, base: 10, bootId: parseBootId('00000000000000b1')!, wallMs: 1000, uptimeMs: 6,
    clockSynchronised: true
  })
  return {
    node: 'node-1', lane: 'telemetry', batch, header: readBatchHeader(batch), correctionMs, skip: 0, cursorPrefix: 'abcd',
    endIndex: cursorIndexEnd
  }
}

const offsetsOf = (text: string): number[] =>
  text.split('\n').filter(line => line !== '').map(line => (JSON.parse(line) as { offset: number }).offset)

test('timestamps are those of Date, over the whole range', () => {
  const format = timestampFormatter()
  for (const ms of [0, 1, 999, 951_782_399_999, 951_782_400_000, 1_709_164_800_123, 4_102_444_799_999, 253_402_300_799_999]) {
    expect(format(ms)).toBe(new Date(ms).toISOString())
  }
  for (let day = 0; day < 200 * 366; day++) {
    const ms = day * 86_400_000 + day
    expect(format(ms)).toBe(new Date(ms).toISOString())
  }
  expect(format(-5)).toBe('1970-01-01T00:00:00.000Z')
  expect(format(1e300)).toBe('9999-12-31T23:59:59.999Z')
})

test('corrections move timestamps; skip, device and limit choose lines', () => {
  const options = { encoding: 'base64', unreadable: 'corrupt' } as const
  expect(new RecordsNdjson(options).lines(item(1, 500))).toContain('"timestamp":"1970-01-01T00:00:01.500Z"')
  expect(offsetsOf(new RecordsNdjson(options).lines({ ...item(6), skip: 4 }))).toEqual([14, 15])
  expect(offsetsOf(new RecordsNdjson({ ...options, device: 'n/2' }).lines(item(6)))).toEqual([11, 13, 15])
  const limited = new RecordsNdjson({ ...options, limit: 4 })
  expect(offsetsOf(limited.lines(item(3)) + limited.lines(item(3)))).toEqual([10, 11, 12, 10])
  expect(limited.done).toBe(true)
})

test('a body that cannot be decoded becomes a gap over what was not read yet', () => {
  const sound = item(100)
  const batch = Buffer.from(sound.batch)
  batch.fill(0, 80)
  const render = new RecordsNdjson({ encoding: 'base64', unreadable: 'corrupt' })
  const line = render.lines({ ...sound, batch, header: sound.header, skip: 30 })
  expect(JSON.parse(line)).toMatchObject({ gap: { first: 40, last: 109, records: 70, reason: 'corrupt' } })
  expect(render.unreadable).toBe(1)
})
