import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { BatchBuilder, RecordTopic, batchNext, compress, encodeGap, readBatchHeader } from '@holdfast/protos'
import type { BootId, Epoch, HelloLane, LogBatches, LogPart, Watermark } from '@holdfast/protos'
import { LogReceiver } from './log-receiver.ts'
import type { ReceivedBatch } from './log-receiver.ts'
import { ReceiveError } from './receive-error.ts'
import { LogSender } from './log-sender.ts'
import type { SendableBatch } from './log-sender.ts'

const runs = { numRuns: Number(process.env['RUNS'] ?? 60), ...process.env['SEED'] !== undefined &&
  { seed: Number(process.env['SEED']) } }
const topic = new RecordTopic('t', 'plant/d')
const old = '1111111111111111' as Epoch
const current = '2222222222222222' as Epoch
/** Bytes that do not compress. */
const noise = Buffer.alloc(300_000)
for (let i = 0, state = 5; i < noise.length; i++) {
  state = Math.imul(state, 1_664_525) + 1_013_904_223 >>> 0
  noise[i] = state >>> 24
}

/** Each lane has an epoch of its own. */
const epochOf = (lane: number): Epoch => String(lane).repeat(16) as Epoch

function batch(lane: number, epoch: Epoch, base: number, payloads: readonly number[]): SendableBatch {
  const builder = new BatchBuilder()
  for (const [i, length] of payloads.entries()) builder.add(topic, noise.subarray(i, i + length), 0)
  const bytes = builder.encode({
    lane, epoch, base, bootId: '3333333333333333' as BootId, wallMs: 0, uptimeMs: 0, clockSynchronised: true
  })
  return { base, next: base + payloads.length, bytes }
}

/** An edge's lanes, a cloud that takes everything, and a link of a stated rate between them. */
class Transfer {
  nowMs = 0
  readonly lanes: ReadonlyMap<number, readonly SendableBatch[]>
  readonly sender: LogSender
  readonly receiver: LogReceiver
  readonly arrived = new Map<number, ReceivedBatch[]>()
  readonly acknowledged = new Map<number, number>()
  frames = 0
  wireBytes = 0
  inFlightMost = 0
  readonly #rate: number

  constructor(lanes: ReadonlyMap<number, readonly SendableBatch[]>, rate: number, windowBytes: number, patient = true) {
    this.lanes = lanes
    this.#rate = rate
    const ends = [...lanes].map(([id, batches]) => ({ id, durable: batches.at(-1)?.next ?? 0 }))
    this.sender = new LogSender(ends.map(({ id, durable }) => ({ id, weight: id === 1 ? 16 : 4, patient, acked: 0,
      durable })), windowBytes)
    const hello: HelloLane[] = ends.map(({ id, durable }) => ({ id, name: `lane${id}`, epochs: [
      { epoch: epochOf(id), predecessor: undefined, start: 0, first: 0, next: durable, reason: 'started' }
    ] }))
    const marks: Watermark[] = ends.map(({ id }) => ({ lane: id, epoch: epochOf(id), next: 0, crc: 0 }))
    this.receiver = new LogReceiver(hello, marks, windowBytes)
  }

  /** Sends what there is of lane 2, alone, so that the sender knows the link. */
  learnRate(): void {
    const output = (): ReturnType<LogSender['next']> => this.sender.next(this.nowMs)
    const held: number[] = []
    for (let next = output(); next !== undefined; next = output()) {
      if (next.kind === 'read') {
        this.sender.read(next.lane, next.lane === 2 ? this.lanes.get(2)! : [])
        if (next.lane !== 2) held.push(next.lane)
      } else if (next.kind === 'send') {
        this.nowMs += next.bytes * 1000 / this.#rate
        this.#arrive(next.frame)
      } else break
    }
    for (const lane of held) this.sender.available(lane, this.lanes.get(lane)!.at(-1)!.next)
  }

  /** Runs until nothing is left to do; true where everything was acknowledged. */
  run(): boolean {
    const onWay: { readonly frame: LogBatches | LogPart, readonly atMs: number }[] = []
    let freeMs = 0
    for (let i = 0; i < 100_000; i++) {
      const output = this.sender.next(this.nowMs)
      if (output?.kind === 'read') {
        const wanted = this.lanes.get(output.lane)!.filter(({ next }) => next > output.from)
        let bytes = 0
        this.sender.read(output.lane, wanted.filter(({ bytes: { length } },
          at) => (bytes += length) <= output.bytesMax || at === 0))
        continue
      }
      if (output?.kind === 'send') {
        freeMs = Math.max(freeMs, this.nowMs) + output.bytes * 1000 / this.#rate
        onWay.push({ frame: output.frame, atMs: freeMs })
        this.frames++
        this.wireBytes += output.bytes
        this.inFlightMost = Math.max(this.inFlightMost, this.sender.inFlightBytes)
        continue
      }
      const next = onWay.shift()
      if (next === undefined) {
        if (output === undefined) return [...this.lanes].every(([id, batches]) =>
          (this.acknowledged.get(id) ?? 0) === (batches.at(-1)?.next ?? 0))
        this.nowMs += output.delayMs
        continue
      }
      this.nowMs = Math.max(this.nowMs, next.atMs)
      this.#arrive(next.frame)
    }
    return false
  }

  #arrive(frame: LogBatches | LogPart): void {
    for (const received of this.receiver.receive(frame)) {
      const list = this.arrived.get(received.lane)
      if (list === undefined) this.arrived.set(received.lane, [received])
      else list.push(received)
      this.receiver.settled(received, batchNext(received.header), received.header.crc)
    }
    const ack = this.receiver.takeAck()
    if (ack === undefined) return
    this.sender.partsArrived(ack.partBytes, this.nowMs)
    for (const { lane, next } of this.sender.acknowledged(ack.watermarks, this.nowMs)) this.acknowledged.set(lane, next)
  }
}

function batches(lane: number, sizes: readonly (readonly number[])[]): SendableBatch[] {
  let base = 0
  return sizes.map(payloads => {
    const made = batch(lane, epochOf(lane), base, payloads)
    base = made.next
    return made
  })
}

describe('from sender to receiver', () => {
  test('every batch arrives once, in order, as it was, whatever the link and the window', () => {
    fc.assert(fc.property(
      fc.array(fc.array(fc.integer({ min: 1, max: 3000 }), { minLength: 1, maxLength: 20 }), { minLength: 1,
        maxLength: 40 }),
      fc.constantFrom(4_000, 50_000, 1_000_000, 100_000_000), fc.constantFrom(10_000, 65_536, 4 * 1024 * 1024),
        fc.boolean(),
      (sizes, rate, windowBytes, patient) => {
        const lane = batches(1, sizes)
        const transfer = new Transfer(new Map([[1, lane]]), rate, windowBytes, patient)
        expect(transfer.run()).toBe(true)
        expect(transfer.arrived.get(1)!.map(({ batch: bytes }) =>
          bytes.equals(lane[transfer.arrived.get(1)!.findIndex(r => r.batch === bytes)]!.bytes))
          .every(Boolean)).toBe(true)
        expect(transfer.arrived.get(1)!.map(({ header }) => header.base)).toEqual(lane.map(({ base }) => base))
        expect(transfer.sender.inFlightBytes).toBe(0)
        expect(transfer.receiver.pendingBytes).toBe(0)
      }), runs)
  })

  test('a batch larger than what may be in flight gets through a slow link', () => {
    const lane = batches(1, [[10], [10], [250_000], [10]])
    const transfer = new Transfer(new Map([[2, batches(2, [[5000]])], [1, lane]]), 20_000, 4 * 1024 * 1024)
    transfer.learnRate()
    expect(transfer.run()).toBe(true)
    expect(transfer.frames).toBeGreaterThan(15)
    expect(transfer.inFlightMost).toBeLessThanOrEqual(64 * 1024 + 16 * 1024)
  })

  test('what compresses well does not fill the cloud’s memory, nor end the session', () => {
    const flat = new BatchBuilder()
    const lane: SendableBatch[] = []
    for (let base = 0; base < 400; base++) {
      flat.add(topic, Buffer.alloc(900, 7), 0)
      const bytes = flat.encode({ lane: 1, epoch: epochOf(1), base, bootId: '3333333333333333' as BootId, wallMs: 0,
        uptimeMs: 0, clockSynchronised: true })
      lane.push({ base, next: base + 1, bytes })
    }
    const transfer = new Transfer(new Map([[1, lane]]), 1e9, 4096)
    expect(transfer.run()).toBe(true)
  })

  test('a window smaller than a part stops nothing', () => {
    const transfer = new Transfer(new Map([[1, batches(1, [[100], [60_000], [60_000]])]]), 20_000, 1000)
    expect(transfer.run()).toBe(true)
  })

  test('bytes in flight stay within the window and a frame', () => {
    const lane = batches(1, Array.from({ length: 300 }, () => [60_000]))
    const transfer = new Transfer(new Map([[1, lane]]), 1e9, 200_000)
    expect(transfer.run()).toBe(true)
    expect(transfer.inFlightMost).toBeLessThanOrEqual(200_000 + 128 * 1024)
  })

  test('many batches of one record share frames', () => {
    const lane = batches(1, Array.from({ length: 2000 }, () => [100]))
    const transfer = new Transfer(new Map([[1, lane]]), 1e8, 4 * 1024 * 1024)
    expect(transfer.run()).toBe(true)
    expect(transfer.frames).toBeLessThan(40)
    expect(transfer.wireBytes).toBeLessThan(lane.reduce((sum, { bytes }) => sum + bytes.length, 0) * 0.8)
  })

  test('an urgent lane does not wait behind bulk', () => {
    const bulk = batches(2, Array.from({ length: 200 }, () => [30_000]))
    const transfer = new Transfer(new Map([[2, bulk], [1, batches(1, [[100]])]]), 100_000, 4 * 1024 * 1024)
    expect(transfer.run()).toBe(true)
    expect(transfer.arrived.get(1)).toHaveLength(1)
  })
})

describe('the sender', () => {
  test('never asks for a wait that rounds to nothing', () => {
    const sender = new LogSender([{ id: 1, weight: 1, patient: true, acked: 0, durable: 1 }], 1e6)
    const one = batch(1, current, 0, [10])
    expect(sender.next(0)).toMatchObject({ kind: 'read' })
    sender.read(1, [one])
    expect(sender.next(0.1)).toMatchObject({ kind: 'send' })
    sender.available(1, 2)
    expect(sender.next(0.2)).toMatchObject({ kind: 'read' })
    sender.read(1, [batch(1, current, 1, [10])])
    const wait = sender.next(2.099_999_999_999)
    expect(wait).toEqual({ kind: 'wait', delayMs: 1 })
  })

  test('takes an acknowledgement only for batches that end at or below it', () => {
    const sender = new LogSender([{ id: 1, weight: 1, patient: false, acked: 0, durable: 6 }], 1e6)
    sender.next(0)
    sender.read(1, [batch(1, current, 0, [1, 1, 1]), batch(1, current, 3, [1, 1, 1])])
    while (sender.next(0) !== undefined) { /* all of it */ }
    const at = (next: number): number[] => sender.acknowledged([{ lane: 1, epoch: current, next, crc: 0 }],
      1).map(({ next: end }) => end)
    expect(at(2)).toEqual([])
    expect(at(5)).toEqual([3])
    expect(at(5)).toEqual([])
    expect(at(6)).toEqual([6])
    expect(sender.inFlightBytes).toBe(0)
  })

  test('an acknowledgement of more parts than were sent changes nothing', () => {
    const sender = new LogSender([{ id: 1, weight: 1, patient: false, acked: 0, durable: 1 }], 1e6)
    sender.partsArrived(1_000_000, 0)
    expect(sender.inFlightBytes).toBe(0)
  })
})

describe('the receiver refuses', () => {
  const epochs = [old, current].map((epoch, i) => ({
    epoch, predecessor: undefined, start: i * 10, first: i * 10, next: i * 10 + 10, reason: 'started' as const
  }))
  const receiver = (): LogReceiver => new LogReceiver([{ id: 1, name: 'a', epochs }],
    [{ lane: 1, epoch: old, next: 5, crc: 0 }, { lane: 1, epoch: current, next: 10, crc: 0 }], 100_000)
  const frame = (...list: readonly SendableBatch[]): LogBatches =>
    ({ kind: 'log-batches', rawLength: 0, batches: Buffer.concat(list.map(({ bytes }) => bytes)) })
  const code = (act: () => unknown): string => {
    try {
      act()
    } catch (error) {
      expect(error).toBeInstanceOf(ReceiveError)
      return (error as ReceiveError).code
    }
    return 'none'
  }

  test('a hole, and an epoch after its successor; not a repetition', () => {
    expect(code(() => receiver().receive(frame(batch(1, old, 6, [1]))))).toBe('LOG_HOLE')
    expect(code(() => receiver().receive(frame(batch(1, old, 5, [1]), batch(1, old, 7, [1]))))).toBe('LOG_HOLE')
    expect(code(() => receiver().receive(frame(batch(1, current, 10, [1]), batch(1, old, 5, [1]))))).toBe('LOG_HOLE')
    expect(code(() => receiver().receive(frame(batch(1, old, 3, [1, 1]), batch(1, old, 5, [1]))))).toBe('none')
  })

  test('an epoch or a lane that Hello did not name', () => {
    expect(code(() => receiver().receive(frame(batch(1, '9999999999999999' as Epoch, 0, [1]))))).toBe('LOG_UNKNOWN_EPOCH')
    expect(code(() => receiver().receive(frame(batch(7, old, 5, [1]))))).toBe('LOG_UNKNOWN_EPOCH')
    expect(code(() => receiver().receive({ kind: 'log-part', lane: 7, batchLength: 100, position: 0,
      data: noise.subarray(0, 10) })))
      .toBe('LOG_UNKNOWN_EPOCH')
  })

  test('a batch whose bytes changed', () => {
    const changed = batch(1, old, 5, [30])
    changed.bytes[changed.bytes.length - 1]! ^= 1
    expect(code(() => receiver().receive(frame(changed)))).toBe('BATCH_CORRUPT')
  })

  test.each<[string, Partial<LogPart>]>([
    ['does not begin where the last one ended', { position: 20 }],
    ['is one again', { position: 0 }],
    ['is of another length', { batchLength: 500 }],
    ['is empty', { data: Buffer.alloc(0) }],
    ['passes the end', { data: noise.subarray(0, 1000) }]
  ])('a part that %s', (_what, change) => {
    const it = receiver()
    const part: LogPart = { kind: 'log-part', lane: 1, batchLength: 100, position: 0, data: noise.subarray(0, 10) }
    it.receive(part)
    expect(it.takeAck()).toEqual({ kind: 'log-ack', watermarks: [], partBytes: 10 })
    expect(code(() => it.receive({ ...part, position: 10, ...change }))).toBe('FRAME_MALFORMED')
  })

  test('a declared batch of two gigabytes, before it allocates', () => {
    const part: LogPart = { kind: 'log-part', lane: 1, batchLength: 2 ** 31, position: 0, data: noise.subarray(0, 10) }
    expect(code(() => receiver().receive(part))).toBe('FRAME_MALFORMED')
  })

  test('a decompression bomb', () => {
    const bomb = compress(Buffer.alloc(50 * 1024 * 1024))
    expect(code(() => receiver().receive({ kind: 'log-batches', rawLength: 1000, batches: bomb }))).toBe('FRAME_MALFORMED')
    expect(code(() => receiver().receive({ kind: 'log-batches', rawLength: 2 ** 31, batches: bomb }))).toBe('FRAME_MALFORMED')
  })

  test('more than its window, many times over', () => {
    const it = new LogReceiver([{ id: 1, name: 'a', epochs }], [], 1000)
    const list: SendableBatch[] = []
    for (let base = 0; base < 10; base++) list.push(batch(1, old, base, [200_000]))
    expect(code(() => { for (const one of list) it.receive(frame(one)) })).toBe('LOG_WINDOW_EXCEEDED')
  })

  test('nothing is acknowledged before it is durable', () => {
    const it = receiver()
    const [received] = it.receive(frame(batch(1, old, 5, [1, 1])))
    expect(it.takeAck()).toBeUndefined()
    it.settled(received!, 7, received!.header.crc)
    expect(it.takeAck()).toEqual({ kind: 'log-ack', partBytes: 0, watermarks: [{ lane: 1, epoch: old, next: 7,
      crc: received!.header.crc }] })
    expect(it.takeAck()).toBeUndefined()
  })

  test('a gap counts as what it covers', () => {
    const bytes = encodeGap(5, { reason: 'overflow', records: 5 }, { lane: 1, epoch: old, base: 5,
      bootId: '3333333333333333' as BootId, wallMs: 0, uptimeMs: 0, clockSynchronised: true })
    const it = receiver()
    it.receive({ kind: 'log-batches', rawLength: 0, batches: bytes })
    expect(batchNext(readBatchHeader(bytes))).toBe(10)
    expect(code(() => it.receive(frame(batch(1, current, 10, [1]))))).toBe('none')
  })
})
