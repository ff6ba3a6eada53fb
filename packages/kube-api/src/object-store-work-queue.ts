import { backoffDelayMs, describeError } from '@holdfast/runtime'
import type { Clock, Log, Random, Timer } from '@holdfast/runtime'

export interface WorkQueueOptions {
  /** Pieces of work under way at a time; so many writes may share a commit. */
  readonly togetherMax: number
}

export interface WorkQueueComponents {
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  /** Brings what `key` names to where it should be; level-triggered, so once more does no harm. */
  readonly work: (key: string) => Promise<void>
}

const retryDelays = { baseMs: 500, maxMs: 30_000 }

/**
 * Keys of objects to look at, each once however often it is added, and never twice at a time. What fails is tried again
 * with back-off; nothing else is done without an occasion.
 */
export class WorkQueue {
  readonly #options: WorkQueueOptions
  readonly #components: WorkQueueComponents
  readonly #waiting = new Set<string>()
  readonly #underWay = new Set<string>()
  /** Failures in a row, and the timer of the next try. */
  readonly #failures = new Map<string, { count: number, timer: Timer | undefined }>()
  #scheduled = false
  #closed = false
  #idleWaiters: (() => void)[] = []

  constructor(options: WorkQueueOptions, components: WorkQueueComponents) {
    this.#options = options
    this.#components = components
  }

  add(key: string): void {
    if (this.#closed) return
    this.#waiting.add(key)
    if (this.#scheduled) return
    this.#scheduled = true
    this.#components.clock.soon(() => {
      this.#scheduled = false
      this.#next()
    })
  }

  /** Nothing waits but what failed. */
  get isIdle(): boolean { return this.#waiting.size + this.#underWay.size === 0 }

  /** Resolves when nothing waits but what failed. */
  async idle(): Promise<void> {
    while (!this.isIdle) {
      await new Promise<void>(resolve => { this.#idleWaiters.push(resolve) })
    }
  }

  /** Begins nothing more, and waits for what is under way. */
  async close(): Promise<void> {
    this.#closed = true
    this.#waiting.clear()
    for (const { timer } of this.#failures.values()) timer?.cancel()
    await this.idle()
  }

  #next(): void {
    for (const key of this.#waiting) {
      if (this.#closed || this.#underWay.size >= this.#options.togetherMax) break
      if (this.#underWay.has(key)) continue
      this.#waiting.delete(key)
      this.#underWay.add(key)
      void this.#run(key)
    }
    if (!this.isIdle) return
    for (const wake of this.#idleWaiters.splice(0)) wake()
  }

  async #run(key: string): Promise<void> {
    try {
      await this.#components.work(key)
      this.#failures.get(key)?.timer?.cancel()
      this.#failures.delete(key)
    } catch (error) {
      this.#retry(key, error)
    }
    this.#underWay.delete(key)
    this.#next()
  }

  #retry(key: string, error: unknown): void {
    if (this.#closed) return
    const { clock, random, log } = this.#components
    const failure = this.#failures.get(key) ?? { count: 0, timer: undefined }
    log[failure.count === 0 ? 'warn' : 'debug']('will be tried again', { object: key, error: describeError(error) })
    failure.timer?.cancel()
    failure.timer = clock.after(backoffDelayMs(failure.count++, retryDelays, random), () => { this.add(key) })
    this.#failures.set(key, failure)
  }
}
