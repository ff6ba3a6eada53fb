import type { Clock, Timer } from '../clock.ts'

/** Lets what follows from what has happened run: this many turns of the event loop. */
export async function turns(count = 4): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise(resolve => { setImmediate(resolve) })
}

/** Time that the test moves; turns of the event loop are real. */
export class HandClock implements Clock {
  /** The monotonic time. To set it runs no timer. */
  nowMs: number
  readonly #wallAheadMs: number
  readonly #timers = new Set<{ readonly atMs: number, readonly task: () => void }>()

  /** Both times begin at `startMs`. Where it is left out they lie far apart, so that neither passes for the other. */
  constructor(startMs?: number) {
    this.nowMs = startMs ?? 1000
    this.#wallAheadMs = startMs === undefined ? 1_800_000_000_000 : 0
  }

  /** Timers that have not run. */
  get timers(): number { return this.#timers.size }
  /** How long each of them has to wait yet, the nearest first. */
  get waiting(): number[] { return Array.from(this.#timers, ({ atMs }) => atMs - this.nowMs).toSorted((a, b) => a - b) }

  wallMs(): number { return this.#wallAheadMs + this.nowMs }
  monotonicMs(): number { return this.nowMs }
  soon(task: () => void): void { setImmediate(task) }
  after(delayMs: number, task: () => void): Timer {
    const timer = { atMs: this.nowMs + delayMs, task }
    this.#timers.add(timer)
    return { cancel: () => { this.#timers.delete(timer) } }
  }

  /** Runs what is due, in order and each at its time, all in this turn. */
  advance(ms: number): void {
    const untilMs = this.nowMs + ms
    while (this.#runNext(untilMs));
    this.nowMs = untilMs
  }

  /** The same, with turns of the event loop before each timer and behind the last. */
  async pass(ms: number): Promise<void> {
    const untilMs = this.nowMs + ms
    do await turns()
    while (this.#runNext(untilMs))
    this.nowMs = untilMs
  }

  /** False where nothing is due. */
  #runNext(untilMs: number): boolean {
    const [next] = [...this.#timers].filter(({ atMs }) => atMs <= untilMs).toSorted((a, b) => a.atMs - b.atMs)
    if (next === undefined) return false
    this.#timers.delete(next)
    this.nowMs = Math.max(this.nowMs, next.atMs)
    next.task()
    return true
  }
}
