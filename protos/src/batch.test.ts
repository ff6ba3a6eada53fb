import { crc32, zstdCompressSync } from 'node:zlib'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { BatchBuilder, BatchError, RecordTopic, batchBodyBytesTarget, batchBytesMax, batchHeaderBytes, batchNext,
  checkBatchBody,
  encodeGap, gapReasons, readBatchBody, readBatchHeader, readGap, readRecords, recordPayloadBytesMax, restampEpoch,
    splitBatches } from './batch.ts'
import type { BatchStamp, GapReason } from './batch.ts'
import type { BootId, Epoch } from './ids.ts'
import { VarintReader, varintLength, writeVarint } from './varint.ts'

const runs = { numRuns: Number(process.env['RUNS'] ?? 200), ...process.env['SEED'] !== undefined &&
  { seed: Number(process.env['SEED']) } }
const stamp: BatchStamp = {
  lane: 2, epoch: '00112233445566ff' as Epoch, base: 7, bootId: 'ffeeddccbbaa9988' as BootId,
    wallMs: 1_767_225_600_000, uptimeMs: 5000,
  clockSynchronised: true
}
const topics = ['devices/plant/pump/telemetry', 'a', 'ünïcode/⌁'].map((topic, i) => new RecordTopic(topic,
  `plant/device-${i}`))

function batchOf(payloads: readonly Uint8Array[], at: Partial<BatchStamp> = {}): Buffer {
  const builder = new BatchBuilder()
  for (const [i, payload] of payloads.entries()) builder.add(topics[i % topics.length]!, payload, 5000 + i * 3)
  return builder.encode({ ...stamp, ...at })
}

/** Header fields changed, and its CRC made right again. */
function forged(batch: Buffer, change: (copy: Buffer) => void): Buffer {
  const copy = Buffer.from(batch)
  change(copy)
  copy.writeUInt32BE(crc32(copy.subarray(0, 68)), 68)
  return copy
}

describe('a batch of records', () => {
  test('gives back what was put in, at dense offsets', () => {
    fc.assert(fc.property(fc.array(fc.uint8Array({ maxLength: 400 }), { minLength: 1, maxLength: 60 }),
      fc.nat({ max: Number.MAX_SAFE_INTEGER - 100 }), (payloads, base) => {
        const batch = batchOf(payloads, { base })
        const header = readBatchHeader(batch)
        checkBatchBody(batch, header)
        expect(header).toMatchObject({ kind: 'records', lane: 2, epoch: stamp.epoch, bootId: stamp.bootId, base,
          count: payloads.length,
          wallMs: stamp.wallMs, uptimeMs: 5000, clockSynchronised: true })
        expect(batchNext(header)).toBe(base + payloads.length)
        expect(readRecords(batch, header, 10).map(record => ({ ...record,
          payload: Buffer.from(record.payload) }))).toEqual(
          payloads.map((payload, i) => ({ offset: base + i, timestampMs: stamp.wallMs + 10 + i * 3,
            device: topics[i % 3]!.device,
            topic: topics[i % 3]!.topic, payload: Buffer.from(payload) })))
      }), runs)
  })

  test('is not believed with any bit flipped', () => {
    fc.assert(fc.property(fc.array(fc.uint8Array({ maxLength: 80 }), { minLength: 1, maxLength: 8 }), fc.nat(),
      (payloads, where) => {
      const batch = batchOf(payloads)
      const bit = where % (batch.length * 8)
      batch[bit >> 3]! ^= 1 << (bit & 7)
      expect(() => { checkBatchBody(batch, readBatchHeader(batch)) }).toThrow(BatchError)
    }), runs)
  })

  test('holds the largest record, and closes at its target', () => {
    const builder = new BatchBuilder()
    expect(builder.fits(recordPayloadBytesMax)).toBe(true)
    builder.add(topics[0]!, Buffer.alloc(recordPayloadBytesMax, 1), 0)
    expect(builder.fits(1)).toBe(false)
    const batch = builder.encode(stamp)
    expect(readRecords(batch, readBatchHeader(batch))[0]!.payload.length).toBe(recordPayloadBytesMax)
    expect(builder.count).toBe(0)
    while (builder.fits(100)) builder.add(topics[0]!, Buffer.alloc(100), 0)
    expect(builder.length).toBeGreaterThan(batchBodyBytesTarget - 200)
    expect(builder.length).toBeLessThanOrEqual(batchBodyBytesTarget + 200)
  })

  test('never has a time before its base', () => {
    const builder = new BatchBuilder()
    builder.add(topics[0]!, Buffer.from('a'), 1000)
    builder.add(topics[0]!, Buffer.from('b'), 400)
    const batch = builder.encode(stamp)
    expect(readRecords(batch, readBatchHeader(batch)).map(({ timestampMs }) => timestampMs)).toEqual([stamp.wallMs,
      stamp.wallMs])
  })

  test('keeps its content under another epoch', () => {
    const batch = batchOf([Buffer.from('x'), Buffer.from('y')])
    const before = Buffer.from(batch)
    const other = restampEpoch(batch, 'aaaaaaaaaaaaaaaa' as Epoch)
    expect(batch).toEqual(before)
    const header = readBatchHeader(other)
    checkBatchBody(other, header)
    expect(header.epoch).toBe('aaaaaaaaaaaaaaaa')
    expect(header.crc).not.toBe(readBatchHeader(batch).crc)
    expect(other.subarray(batchHeaderBytes)).toEqual(batch.subarray(batchHeaderBytes))
  })
})

describe('a gap', () => {
  test('keeps its reason and its count', () => {
    for (const reason of gapReasons) {
      for (const records of [0, 1, 300, 2 ** 40]) {
        const bytes = encodeGap(1000, { reason, records }, stamp)
        const header = readBatchHeader(bytes)
        expect(header).toMatchObject({ kind: 'gap', base: 7, count: 1000 })
        expect(readGap(bytes, header)).toEqual({ reason, records })
      }
    }
  })

  test('of a reason that a later release gives is read as it is; what is no reason is refused', () => {
    const gapOf = (reason: string): Buffer => encodeGap(1, { reason: reason as GapReason, records: 3 }, stamp)
    const later = gapOf('a-reason-of-2031')
    expect(readGap(later, readBatchHeader(later))).toEqual({ reason: 'a-reason-of-2031', records: 3 })
    for (const reason of ['', 'Corrupt', 'a b', '1st', 'x"', 'x'.repeat(33)]) {
      const bytes = gapOf(reason)
      expect(() => readGap(bytes, readBatchHeader(bytes))).toThrow(BatchError)
    }
  })
})

describe('hostile bytes', () => {
  const batch = batchOf([Buffer.from('payload')])

  test.each<[string, (copy: Buffer) => void]>([
    ['no records', copy => copy.fill(0, 24, 32)],
    ['an end beyond what a number holds', copy => copy.fill(0xff, 16, 24)],
    ['a body beyond the bound', copy => copy.writeUInt32BE(batchBytesMax, 60)],
    ['a decompressed body beyond the bound', copy => copy.writeUInt32BE(0x7fff_ffff, 56)],
    ['an unknown kind', copy => { copy[3] = 9 }],
    ['an unknown codec', copy => { copy[4] = 9 }],
    ['a newer format', copy => { copy[2] = 2 }],
    ['another magic', copy => { copy[0] = 0 }]
  ])('a header with %s is refused, its CRC being right', (_what, change) => {
    expect(() => readBatchHeader(forged(batch, change))).toThrow(BatchError)
  })

  test('a body that decompresses to more than it says is not decompressed', () => {
    const bomb = zstdCompressSync(Buffer.alloc(8 * 1024 * 1024))
    const whole = Buffer.concat([batch.subarray(0, batchHeaderBytes), bomb])
    const header = { ...readBatchHeader(batch), codec: 'zstd' as const, bodyLength: bomb.length, rawLength: 100 }
    expect(() => readBatchBody(whole, header)).toThrow(BatchError)
  })

  test('random bodies give records or a BatchError, nothing else', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), body => {
      const bytes = Buffer.concat([batch.subarray(0, batchHeaderBytes), body])
      const header = { ...readBatchHeader(batch), bodyLength: body.length, rawLength: body.length }
      try {
        readRecords(bytes, header)
      } catch (error) {
        expect(error).toBeInstanceOf(BatchError)
      }
    }), runs)
  })
})

test('concatenated batches are cut apart, and a cut one is refused', () => {
  const [one, two] = [batchOf([Buffer.from('one')]), batchOf([Buffer.from('two'), Buffer.from('three')], { base: 8 })]
  const joined = Buffer.concat([one, two])
  expect([...splitBatches(joined)].map(({ batch, header }) => [batch.length, header.base])).toEqual([[one.length, 7],
    [two.length, 8]])
  for (let cut = 1; cut < two.length; cut++) {
    expect(() => [...splitBatches(joined.subarray(0, joined.length - cut))]).toThrow(BatchError)
  }
})

test('varints round trip, and a truncated one is not read', () => {
  fc.assert(fc.property(fc.nat({ max: Number.MAX_SAFE_INTEGER }), value => {
    const bytes = new Uint8Array(varintLength(value))
    expect(writeVarint(bytes, 0, value)).toBe(bytes.length)
    expect(new VarintReader(bytes, 0, bytes.length).next()).toBe(value)
    const short = new VarintReader(bytes, 0, bytes.length - 1)
    short.next()
    expect(short.ok).toBe(false)
  }), runs)
  const endless = new VarintReader(new Uint8Array(20).fill(0xff), 0, 20)
  expect([endless.next(), endless.ok]).toEqual([0, false])
})
