import { expect, test } from 'vitest'
import { HandClock } from '@holdfast/runtime/testing'
import type { KubeObject } from './object.ts'
import { History } from './object-store-history.ts'
import type { StoredObject } from './object-store-types.ts'
import { WatchHub } from './watch-hub.ts'

/** A hub over a history alone; `readers` take what they are given at once. */
class Broadcast {
  readonly clock = new HandClock(0)
  readonly history: History
  /** Revisions that each reader was given, batch by batch. */
  readonly given: number[][][] = []
  readonly ends: string[] = []
  readonly #hub: WatchHub
  #revision = 0

  constructor(readers: number, historyEventsMax = 10_000) {
    this.history = new History({ eventsMax: historyEventsMax, bytesMax: 1e9 }, 0)
    const store = { history: this.history, revision: () => this.#revision, selected: () => [] }
    this.#hub = new WatchHub({ watchesMax: 1000, batchBytesMax: 64 * 1024 }, { store, clock: this.clock })
    for (let i = 0; i < readers; i++) {
      const batches: number[][] = []
      this.given.push(batches)
      const watch = this.#hub.watch({ resource: 'things', namespace: undefined }, {}, {
        ended: end => { this.ends.push(end) }
      })
      void (async () => { for await (const events of watch) batches.push(events.map(({ revision }) => revision)) })()
    }
  }

  /** One commit of so many changes, and time for readers to take what it gives them. */
  async commit(changes = 1, bytes = 100): Promise<void> {
    for (let i = 0; i < changes; i++) {
      const revision = this.#revision + 1
      const object: KubeObject = { kind: 'Thing', apiVersion: 'v1', metadata: { name: 'a' } }
      const stored: StoredObject = { resource: 'things', namespace: '', name: 'a', revision, object, json: Buffer.alloc(bytes) }
      this.history.add(revision, stored, undefined)
      this.#revision = revision
    }
    this.#hub.wake(['things'])
    await this.read()
  }

  forget(): void { this.#hub.forget(() => { this.history.forget(this.#revision) }) }

  end(): void { this.#hub.endAll('closed') }

  async read(): Promise<void> { await new Promise(resolve => setImmediate(resolve)) }
}

test('a few watches are told of every commit at once', async () => {
  const broadcast = new Broadcast(3)
  await broadcast.read()
  for (let i = 0; i < 3; i++) await broadcast.commit()
  expect(broadcast.given).toEqual(Array.from({ length: 3 }, () => [[1], [2], [3]]))
  expect(broadcast.clock.timers).toBe(0)
})

test('many are told at once after a quiet time, and then of all that has happened while they rested', async () => {
  const broadcast = new Broadcast(100)
  await broadcast.read()
  for (let i = 0; i < 4; i++) await broadcast.commit()
  expect(broadcast.given).toEqual(Array.from({ length: 100 }, () => [[1]]))
  broadcast.clock.advance(5)
  await broadcast.read()
  expect(broadcast.given).toEqual(Array.from({ length: 100 }, () => [[1], [2, 3, 4]]))
  // They rest from that, too, and nothing is left to tell after it.
  broadcast.clock.advance(5)
  expect(broadcast.clock.timers).toBe(0)
  await broadcast.commit()
  expect(broadcast.given[99]).toEqual([[1], [2, 3, 4], [5]])
})

test('they do not rest while much is untold: in changes or in bytes', async () => {
  const broadcast = new Broadcast(100)
  await broadcast.read()
  await broadcast.commit()
  await broadcast.commit(63)
  expect(broadcast.given[0]).toHaveLength(1)
  await broadcast.commit()
  expect(broadcast.given[0]!.flat()).toHaveLength(65)
  const told = broadcast.given[0]!.length
  await broadcast.commit(1, 60 * 1024)
  expect(broadcast.given[0]).toHaveLength(told)
  await broadcast.commit(1, 10 * 1024)
  expect(broadcast.given[0]!.flat()).toHaveLength(67)
})

test('what they rest from is told before the past is forgotten, and no rest outlives them', async () => {
  const broadcast = new Broadcast(100)
  await broadcast.read()
  await broadcast.commit()
  await broadcast.commit()
  broadcast.forget()
  await broadcast.read()
  expect(broadcast.given[0]).toEqual([[1], [2]])
  expect(broadcast.ends).toEqual([])
  broadcast.end()
  expect(broadcast.ends).toHaveLength(100)
  expect(broadcast.clock.timers).toBe(0)
})
