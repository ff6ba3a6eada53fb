import fc from 'fast-check'
import { expect, test } from 'vitest'
import { DeliveryRate } from './delivery-rate.ts'
import { FrameScheduler } from './frame-scheduler.ts'

const runs = { numRuns: Number(process.env['RUNS'] ?? 200), ...process.env['SEED'] !== undefined &&
  { seed: Number(process.env['SEED']) } }

test('nothing ready, nothing next', () => {
  expect(new FrameScheduler<string>().next([])).toBeUndefined()
})

test('busy classes get their weights’ shares', () => {
  fc.assert(fc.property(fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 2, maxLength: 5 }),
    fc.integer({ min: 100, max: 5000 }),
    (weights, frameBytes) => {
      const scheduler = new FrameScheduler<number>()
      for (const [id, weight] of weights.entries()) scheduler.setClass(id, weight)
      const sent = weights.map(() => 0)
      const ids = [...weights.keys()]
      const total = weights.reduce((sum, weight) => sum + weight, 0)
      for (let i = 0; i < total * 20; i++) {
        const id = scheduler.next(ids)!
        sent[id]! += frameBytes
        scheduler.sent(id, frameBytes)
      }
      for (const [id, weight] of weights.entries()) {
        expect(Math.abs(sent[id]! / frameBytes - weight * 20)).toBeLessThanOrEqual(weights.length + 1)
      }
    }), runs)
})

test('a class that was idle gets no credit for it', () => {
  const scheduler = new FrameScheduler<string>()
  scheduler.setClass('busy', 1)
  scheduler.setClass('idle', 1)
  for (let i = 0; i < 1000; i++) scheduler.sent('busy', 1000)
  let turns = 0
  for (let i = 0; i < 100; i++) {
    const id = scheduler.next(['busy', 'idle'])!
    if (id === 'idle') turns++
    scheduler.sent(id, 1000)
  }
  expect(turns).toBeGreaterThanOrEqual(49)
  expect(turns).toBeLessThanOrEqual(51)
})

test('an urgent class that was idle goes next', () => {
  const scheduler = new FrameScheduler<string>()
  scheduler.setClass('bulk', 4)
  scheduler.setClass('alarms', 16)
  for (let i = 0; i < 50; i++) scheduler.sent('bulk', 100_000)
  expect(scheduler.next(['bulk', 'alarms'])).toBe('alarms')
})

test('the delivery rate finds a link’s rate and forgets what was faster', () => {
  const rate = new DeliveryRate()
  expect(rate.bytesPerSecond).toBe(0)
  const deliver = (bytesPerSecond: number, fromMs: number, untilMs: number): void => {
    for (let nowMs = fromMs; nowMs < untilMs; nowMs += 100) {
      const mark = rate.mark(nowMs, 0, true)
      rate.acknowledged(bytesPerSecond / 10, mark, nowMs + 100)
    }
  }
  deliver(1_000_000, 0, 2000)
  expect(rate.bytesPerSecond).toBeCloseTo(1_000_000, -3)
  deliver(10_000, 2000, 6000)
  expect(rate.bytesPerSecond).toBeCloseTo(10_000, -2)
})

test('too little to send never lowers the estimate', () => {
  const rate = new DeliveryRate()
  rate.acknowledged(100_000, rate.mark(0, 0, true), 100)
  const known = rate.bytesPerSecond
  for (let nowMs = 200; nowMs < 10_000; nowMs += 100) rate.acknowledged(10, rate.mark(nowMs, 0, false), nowMs + 90)
  expect(rate.bytesPerSecond).toBe(known)
})
