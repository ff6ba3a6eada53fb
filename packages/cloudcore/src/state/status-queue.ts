import { backoffDelayMs, describeError } from '@holdfast/runtime'
import type { BackoffOptions, Clock, Log, Random, Timer } from '@holdfast/runtime'
import { KubeError } from '../kube/kube-error.ts'

/** A rate with a burst: so many tokens a second, and no more than `burst` of them at a time. */
export class TokenBucket {
  readonly #perSecond: number
  readonly #burst: number
  #tokens: number
  #atMs: number

  constructor(options: { readonly perSecond: number, readonly burst: number }, nowMs: number) {
    this.#perSecond = options.perSecond
    this.#burst = options.burst
    this.#tokens = options.burst
    this.#atMs = nowMs
  }

  /** Takes a token and gives 0, or gives the milliseconds until there is one. */
  take(nowMs: number): number {
    this.#tokens = Math.min(this.#burst, this.#tokens + Math.max(0, nowMs - this.#atMs) * this.#perSecond / 1000)
    this.#atMs = nowMs
    if (this.#tokens < 1) return Math.max(1, Math.ceil((1 - this.#tokens) * 1000 / this.#perSecond))
    this.#tokens--
    return 0
  }
}

export interface ReconcileQueueOptions {
  /** From the start of one run of a key to the next, milliseconds; 0: they follow at once. The first run never waits. */
  readonly intervalMs: number
  /** After a run that failed; KubeError's `retryAfterMs` is the least. */
  readonly backoff: BackoffOptions
  /** Keys that run at a time. */
  readonly runningMax: number
  /** A run that takes longer counts as failed; its signal aborts. */
  readonly runMs: number
  /** For the log. */
  readonly name: string
}

export interface ReconcileQueueComponents {
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly bucket: TokenBucket
  /** Keys of one lane never keep those of another waiting. */
  laneOf(key: string): string
  /**
   * Brings what the key names to what it should be. Rejects where that has to be tried again. Stops when `signal` aborts: what
   * it would do after that is somebody else's.
   */
  reconcile(key: string, signal: AbortSignal): Promise<void>
}

interface Entry {
  /** Asked for, and not begun since. */
  due: boolean
  /** Set while it runs. */
  run: AbortController | undefined
  /** Runs that failed, since the last one that did not. */
  failures: number
  startedMs: number
  /** Until it ends the key does not run: its interval, or its back-off. */
  hold: Timer | undefined
  /** In line to run, in whatever lane it was then. */
  isReady: boolean
}

/**
 * Keys, each reconciled once at a time and as often as it was asked for, at the most: what is asked for while a key runs or
 * waits is one more run. A key that fails backs off by itself, without delaying another (L9).
 */
export class ReconcileQueue {
  /** Runs that failed and are tried again, since start. */
  retries = 0
  readonly #options: ReconcileQueueOptions
  readonly #components: ReconcileQueueComponents
  readonly #entries = new Map<string, Entry>()
  readonly #later = new Map<string, { readonly timer: Timer, readonly atMs: number }>()
  /** Keys that may run, by lane; the first lane has the next turn. */
  readonly #ready = new Map<string, Set<string>>()
  #running = 0
  #tokenTimer: Timer | undefined
  #closed = false

  constructor(options: ReconcileQueueOptions, components: ReconcileQueueComponents) {
    this.#options = options
    this.#components = components
  }

  /** Keys that run, wait, or may not run again yet. */
  get size(): number { return this.#entries.size }

  add(key: string): void {
    if (this.#closed) return
    this.#forgetLater(key)
    let entry = this.#entries.get(key)
    if (entry === undefined) {
      entry = { due: false, run: undefined, failures: 0, startedMs: 0, hold: undefined, isReady: false }
      this.#entries.set(key, entry)
    }
    entry.due = true
    if (entry.run === undefined && entry.hold === undefined) this.#makeReady(key, entry)
  }

  /** `add` after this time, unless it happens before. */
  addLater(key: string, delayMs: number): void {
    if (this.#closed) return
    const { clock } = this.#components
    const atMs = clock.monotonicMs() + delayMs
    const known = this.#later.get(key)
    if (known !== undefined && known.atMs <= atMs) return
    known?.timer.cancel()
    this.#later.set(key, { atMs, timer: clock.after(delayMs, () => { this.add(key) }) })
  }

  /** What the key waits for is nobody's concern any more. A run that is under way ends by itself. */
  drop(key: string): void {
    this.#forgetLater(key)
    const entry = this.#entries.get(key)
    if (entry !== undefined) entry.due = false
  }

  /** Nothing runs from now on; what runs is told by its signal. */
  close(): void {
    this.#closed = true
    this.#tokenTimer?.cancel()
    for (const { timer } of this.#later.values()) timer.cancel()
    this.#later.clear()
    this.#ready.clear()
    for (const { run, hold } of this.#entries.values()) {
      hold?.cancel()
      run?.abort(new Error(`${this.#options.name}: closed`))
    }
    this.#entries.clear()
  }

  #forgetLater(key: string): void {
    this.#later.get(key)?.timer.cancel()
    this.#later.delete(key)
  }

  #makeReady(key: string, entry: Entry): void {
    if (entry.isReady) return
    entry.isReady = true
    const lane = this.#components.laneOf(key)
    const keys = this.#ready.get(lane)
    if (keys === undefined) this.#ready.set(lane, new Set([key]))
    else keys.add(key)
    this.#pump()
  }

  #pump(): void {
    const { clock, bucket } = this.#components
    while (this.#ready.size > 0 && this.#running < this.#options.runningMax && this.#tokenTimer === undefined) {
      const waitMs = bucket.take(clock.monotonicMs())
      if (waitMs > 0) {
        this.#tokenTimer = clock.after(waitMs, () => {
          this.#tokenTimer = undefined
          this.#pump()
        })
        return
      }
      this.#run(this.#takeReady())
    }
  }

  /** The lane goes behind the others. */
  #takeReady(): string {
    const [lane, keys] = this.#ready.entries().next().value!
    const key = keys.values().next().value!
    keys.delete(key)
    this.#ready.delete(lane)
    if (keys.size > 0) this.#ready.set(lane, keys)
    return key
  }

  #run(key: string): void {
    const entry = this.#entries.get(key)!
    entry.isReady = false
    if (!entry.due) {
      this.#rest(key, entry, 0)
      return
    }
    const { clock } = this.#components
    const run = new AbortController()
    entry.due = false
    entry.run = run
    entry.startedMs = clock.monotonicMs()
    this.#running++
    const { promise: timeUp, reject } = Promise.withResolvers<void>()
    const timer = clock.after(this.#options.runMs, () => {
      const error = new Error(`no answer within ${this.#options.runMs} ms`)
      run.abort(error)
      reject(error)
    })
    const ended = (failure?: unknown): void => {
      timer.cancel()
      if (this.#closed) return
      this.#running--
      entry.run = undefined
      if (failure === undefined) {
        entry.failures = 0
        this.#rest(key, entry, entry.startedMs + this.#options.intervalMs - clock.monotonicMs())
      } else this.#failed(key, entry, failure)
      this.#pump()
    }
    // The work that is late goes on until it sees its signal: nobody waits for it.
    Promise.race([this.#components.reconcile(key, run.signal), timeUp])
      .then(() => ended(), (error: unknown) => ended(error ?? new Error('failed')))
  }

  #failed(key: string, entry: Entry, error: unknown): void {
    const { random, log } = this.#components
    const delayMs = backoffDelayMs(entry.failures, this.#options.backoff, random)
    const leastMs = error instanceof KubeError ? error.retryAfterMs ?? 0 : 0
    entry.failures++
    entry.due = true
    this.retries++
    log.debug(`${this.#options.name}: tried again later`, { key, failures: entry.failures, error: describeError(error) })
    this.#rest(key, entry, Math.max(delayMs, leastMs))
  }

  /** The key may run again after this time. */
  #rest(key: string, entry: Entry, restMs: number): void {
    if (restMs > 0) {
      entry.hold = this.#components.clock.after(restMs, () => {
        entry.hold = undefined
        this.#rest(key, entry, 0)
      })
    } else if (entry.due) this.#makeReady(key, entry)
    else this.#entries.delete(key)
  }
}
