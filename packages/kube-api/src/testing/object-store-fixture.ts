import { silentLog } from '@holdfast/runtime'
import type { Clock } from '@holdfast/runtime'
import { Committer, MemoryStore } from '@holdfast/store'
import type { Store } from '@holdfast/store'
import { ObjectStore } from '../object-store.ts'
import type { ObjectStoreOptions } from '../object-store.ts'

/** Time that the test moves; turns of the event loop are real. */
export class HandClock implements Clock {
  nowMs = 0
  readonly #timers = new Set<{ readonly atMs: number, readonly task: () => void }>()
  wallMs(): number { return this.nowMs }
  monotonicMs(): number { return this.nowMs }
  soon(task: () => void): void { setImmediate(task) }
  after(delayMs: number, task: () => void): { cancel(): void } {
    const timer = { atMs: this.nowMs + delayMs, task }
    this.#timers.add(timer)
    return { cancel: () => { this.#timers.delete(timer) } }
  }

  /** Timers that have not run. */
  get timers(): number { return this.#timers.size }

  pass(ms: number): void {
    const untilMs = this.nowMs + ms
    for (;;) {
      const [next] = [...this.#timers].filter(({ atMs }) => atMs <= untilMs).toSorted((a, b) => a.atMs - b.atMs)
      if (next === undefined) break
      this.#timers.delete(next)
      this.nowMs = next.atMs
      next.task()
    }
    this.nowMs = untilMs
  }
}

export interface ObjectStoreFixture<DiskStore extends Store> {
  readonly store: DiskStore
  readonly clock: HandClock
  readonly committer: Committer
  readonly objects: ObjectStore
}

/** An object store over a disk store that the test keeps. */
export async function openObjectStore(options?: ObjectStoreOptions): Promise<ObjectStoreFixture<MemoryStore>>
export async function openObjectStore<DiskStore extends Store>(
  options: ObjectStoreOptions, store: DiskStore): Promise<ObjectStoreFixture<DiskStore>>
export async function openObjectStore(options: ObjectStoreOptions = {}, store: Store = new MemoryStore()): Promise<ObjectStoreFixture<Store>> {
  const clock = new HandClock()
  const committer = new Committer({}, { store, clock, onFailure: () => {} })
  const objects = await ObjectStore.open(options, store, { committer, clock, log: silentLog })
  return { store, clock, committer, objects }
}
