import { SeededRandom, silentLog } from '@holdfast/runtime'
import { HandClock } from '@holdfast/runtime/testing'
import { afterEach, expect, test } from 'vitest'
import { refusal } from '../kube/kube-error.ts'
import { ReconcileQueue, TokenBucket } from './status-queue.ts'
import type { ReconcileQueueOptions } from './status-queue.ts'

let clock = new HandClock()
let queue: ReconcileQueue | undefined

interface Run { readonly key: string, readonly atMs: number, readonly signal: AbortSignal }

function open(
  reconcile: (key: string, signal: AbortSignal) => Promise<void>, options: Partial<ReconcileQueueOptions> = {},
  rate = { perSecond: 1_000_000, burst: 1_000_000 }, laneOf = (key: string): string => key.split('/')[0]!
): Run[] {
  clock = new HandClock()
  const runs: Run[] = []
  const startMs = clock.monotonicMs()
  queue = new ReconcileQueue({
    name: 'test', intervalMs: 0, backoff: { baseMs: 100, maxMs: 10_000 }, runningMax: 100, runMs: 5000, ...options
  }, {
    clock, random: new SeededRandom(1), log: silentLog, bucket: new TokenBucket(rate, startMs), laneOf,
    reconcile: (key, signal) => {
      runs.push({ key, atMs: clock.monotonicMs() - startMs, signal })
      return reconcile(key, signal)
    }
  })
  return runs
}

afterEach(() => { queue?.close() })

const keysOf = (runs: readonly Run[]): string[] => runs.map(({ key }) => key)

test('the first run is at once, what is asked for in the interval is one run at its end', async () => {
  const runs = open(() => Promise.resolve(), { intervalMs: 1000 })
  queue!.add('a/1')
  await clock.pass(10)
  for (let i = 0; i < 5; i++) queue!.add('a/1')
  await clock.pass(5000)
  expect(runs.map(({ atMs }) => atMs)).toEqual([0, 1000])
  expect(queue!.size).toBe(0)
  queue!.add('a/1')
  expect(runs).toHaveLength(3)
})

test('a key runs once at a time', async () => {
  const ends: (() => void)[] = []
  const runs = open(() => new Promise(resolve => { ends.push(resolve) }))
  queue!.add('a/1')
  queue!.add('a/1')
  await clock.pass(100)
  expect(runs).toHaveLength(1)
  ends.shift()!()
  await clock.pass(100)
  expect(runs).toHaveLength(2)
  ends.shift()!()
  await clock.pass(100)
  expect([runs.length, queue!.size]).toEqual([2, 0])
})

test('a key that fails backs off by itself, at least for as long as it was told', async () => {
  let failures = 0
  const runs = open(key => {
    if (key === 'a/1' && failures++ < 2) return Promise.reject(refusal('x', 429, {}, '7'))
    return Promise.resolve()
  })
  queue!.add('a/1')
  queue!.add('a/2')
  await clock.pass(6999)
  expect(keysOf(runs)).toEqual(['a/1', 'a/2'])
  queue!.add('a/1')
  await clock.pass(20_000)
  expect(keysOf(runs)).toEqual(['a/1', 'a/2', 'a/1', 'a/1'])
  expect([queue!.retries, queue!.size]).toEqual([2, 0])
})

test('lanes take turns, and a lane with much to do keeps nobody waiting', async () => {
  const runs = open(() => Promise.resolve(), { runningMax: 1 })
  queue!.add('a/0')
  for (let i = 1; i <= 4; i++) queue!.add(`a/${i}`)
  queue!.add('b/1')
  queue!.add('c/1')
  await clock.pass(100)
  expect(keysOf(runs)).toEqual(['a/0', 'a/1', 'b/1', 'c/1', 'a/2', 'a/3', 'a/4'])
})

test('the rate holds over all keys, after a burst', async () => {
  const runs = open(() => Promise.resolve(), {}, { perSecond: 10, burst: 5 })
  for (let i = 0; i < 30; i++) queue!.add(`a/${i}`)
  await clock.pass(0)
  expect(runs).toHaveLength(5)
  await clock.pass(1000)
  expect(runs).toHaveLength(15)
  await clock.pass(10_000)
  expect(runs).toHaveLength(30)
})

test('a key whose lane is another one by the time it is asked for again runs once at a time', async () => {
  let lane = 'a'
  const ends: (() => void)[] = []
  const runs = open(() => new Promise(resolve => { ends.push(resolve) }), { runningMax: 2 }, undefined, () => lane)
  for (const key of ['1', '2', '3']) queue!.add(key)
  lane = 'b'
  queue!.add('3')
  for (const end of ends.splice(0)) end()
  await clock.pass(100)
  queue!.add('3')
  await clock.pass(100)
  expect(keysOf(runs)).toEqual(['1', '2', '3'])
  ends.shift()!()
  await clock.pass(100)
  expect(keysOf(runs)).toEqual(['1', '2', '3', '3'])
})

test('a run without an end is cut off, and its place is free', async () => {
  const runs = open(key => key === 'a/1' ? new Promise(() => {}) : Promise.resolve(), { runningMax: 1, backoff: { baseMs: 60_000, maxMs: 60_000 } })
  queue!.add('a/1')
  queue!.add('b/1')
  await clock.pass(4999)
  expect(keysOf(runs)).toEqual(['a/1'])
  await clock.pass(1)
  expect(runs[0]!.signal.aborted).toBe(true)
  expect(keysOf(runs)).toEqual(['a/1', 'b/1'])
})

test('what is asked for later runs then, or when it is asked for before', async () => {
  const runs = open(() => Promise.resolve())
  queue!.addLater('a/1', 1000)
  queue!.addLater('a/1', 3000)
  queue!.addLater('b/1', 1000)
  queue!.add('b/1')
  await clock.pass(10_000)
  expect(runs.map(({ key, atMs }) => [key, atMs])).toEqual([['b/1', 0], ['a/1', 1000]])
})

test('after closing nothing runs, and no timer is left', async () => {
  const runs = open(key => key === 'a/1' ? new Promise(() => {}) : Promise.reject(new Error('no')), { intervalMs: 500 })
  queue!.add('a/1')
  queue!.add('a/2')
  queue!.addLater('a/3', 1000)
  await clock.pass(10)
  queue!.close()
  queue!.add('a/4')
  await clock.pass(60_000)
  expect(keysOf(runs)).toEqual(['a/1', 'a/2'])
  expect(runs[0]!.signal.aborted).toBe(true)
})
