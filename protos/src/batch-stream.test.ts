import { expect, test } from 'vitest'
import type { ReaderBatch } from './batch-stream.ts'
import { batchStreamFrameBytesMax, BatchStreamDecoder, cursorAt, cursorIndexEnd, encodeBatchStream } from './batch-stream.ts'
import { BatchBuilder, readBatchHeader, RecordTopic } from './batch.ts'
import { parseBootId, parseEpoch } from './ids.ts'

function item(base: number, count: number): ReaderBatch {
  const builder = new BatchBuilder()
  const topic = new RecordTopic('t/ü', 'n/d')
  for (let i = 0; i < count; i++) builder.add(topic, Buffer.from(`payload ${base + i}`), i)
  const batch = builder.encode({
    lane: 3, epoch: parseEpoch('00000000000000e1')!, base, bootId: parseBootId('00000000000000b1')!, wallMs: 5, uptimeMs: 6,
    clockSynchronised: true
  })
  return {
    node: 'node-1', lane: 'telemetry', batch, header: readBatchHeader(batch), correctionMs: -1234.5, skip: 1,
    cursorPrefix: 'abcDEF', endIndex: cursorIndexEnd
  }
}

test('what is encoded comes out again, whatever the chunks', () => {
  const items = [item(0, 3), item(3, 200), item(203, 1)]
  const bytes = encodeBatchStream(items)
  for (const size of [1, 2, 3, 7, 64, 1000, bytes.length]) {
    const decoder = new BatchStreamDecoder()
    const out: ReaderBatch[] = []
    for (let at = 0; at < bytes.length; at += size) out.push(...decoder.push(bytes.subarray(at, at + size)))
    decoder.end()
    expect(out).toEqual(items)
  }
})

test('a cut stream, a newer format and a size beyond the bound are refused', () => {
  const bytes = encodeBatchStream([item(0, 3)])
  const cut = new BatchStreamDecoder()
  expect([...cut.push(bytes.subarray(0, -1))]).toEqual([])
  expect(() => cut.end()).toThrow('cut after')
  const newer = Buffer.from(bytes)
  newer[4] = 2
  expect(() => [...new BatchStreamDecoder().push(newer)]).toThrow('format 2')
  const large = Buffer.from(bytes)
  large.writeUInt32BE(batchStreamFrameBytesMax, 0)
  expect(() => [...new BatchStreamDecoder().push(large)]).toThrow('bound')
  const names = Buffer.from(bytes)
  names.fill(255, 5, 8)
  expect(() => [...new BatchStreamDecoder().push(names)]).toThrow('longer than their frame')
})

test('a cursor is the prefix and the index in base64url', () => {
  for (const index of [0, 1, 63, 64, 65_535, 0x12_34_56, cursorIndexEnd]) {
    const cursor = cursorAt('AAAA', index)
    expect(Buffer.from(cursor, 'base64url').readUIntBE(3, 3)).toBe(index)
  }
})
