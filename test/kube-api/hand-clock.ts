import type { Clock, Timer } from '../../packages/runtime/src/index.ts'

/** Time that passes when it is told to, in no time. */
export class HandClock implements Clock {
  readonly #startMs: number
  #nowMs = 0
  readonly #timers = new Set<{ readonly atMs: number, readonly task: () => void }>()

  constructor(startMs: number) { this.#startMs = startMs }

  wallMs(): number { return this.#startMs + this.#nowMs }
  monotonicMs(): number { return this.#nowMs }
  soon(task: () => void): void { setImmediate(task) }

  after(delayMs: number, task: () => void): Timer {
    const timer = { atMs: this.#nowMs + delayMs, task }
    this.#timers.add(timer)
    return { cancel: () => { this.#timers.delete(timer) } }
  }

  /** Runs what is due on the way, in its order. */
  passTo(ms: number): void {
    for (;;) {
      const [next] = [...this.#timers].filter(({ atMs }) => atMs <= ms).toSorted((a, b) => a.atMs - b.atMs)
      if (next === undefined) break
      this.#timers.delete(next)
      this.#nowMs = Math.max(this.#nowMs, next.atMs)
      next.task()
    }
    this.#nowMs = Math.max(this.#nowMs, ms)
  }
}
