import { SystemClock } from '@holdfast/runtime'
import type { Clock, Timer } from '@holdfast/runtime'

/** Time that the test moves; turns of the event loop are real. */
export class HandClock implements Clock {
  nowMs: number
  readonly #machine = new SystemClock()
  readonly #timers = new Set<{ readonly atMs: number, readonly task: () => void }>()

  constructor(nowMs: number) { this.nowMs = nowMs }

  /** Timers that have not run. */
  get timers(): number { return this.#timers.size }

  wallMs(): number { return this.nowMs }
  monotonicMs(): number { return this.nowMs }
  soon(task: () => void): void { this.#machine.soon(task) }
  after(delayMs: number, task: () => void): Timer {
    const timer = { atMs: this.nowMs + delayMs, task }
    this.#timers.add(timer)
    return { cancel: () => { this.#timers.delete(timer) } }
  }

  /** Runs what is due, in order; what is awaited in between has its turns. */
  async pass(ms: number): Promise<void> {
    const untilMs = this.nowMs + ms
    for (;;) {
      await new Promise<void>(resolve => { this.#machine.soon(resolve) })
      const [next] = [...this.#timers].filter(({ atMs }) => atMs <= untilMs).toSorted((a, b) => a.atMs - b.atMs)
      if (next === undefined) break
      this.#timers.delete(next)
      this.nowMs = next.atMs
      next.task()
    }
    this.nowMs = untilMs
  }
}
