import { SeededRandom } from '@holdfast/runtime'
import type { Timer } from '@holdfast/runtime'

/** What the simulation found wrong. */
export class SimulationFailure extends Error {}

/** Far more than any seed takes. */
const stepsMax = 200_000

interface Event { readonly atMs: number, readonly order: number, task: (() => void) | undefined }

/** Wall time at which every simulation begins: 2026-01-01. */
export const epochStartMs = 1_767_225_600_000

/**
 * Simulated time: one queue of events, run in order of time, then of scheduling. Between two events all promises that
 * can
 * settle do, so that the interleaving is the queue's alone and one seed replays everything.
 */
export class World {
  readonly random: SeededRandom
  nowMs = 0
  steps = 0
  /** Lines of the trace; undefined: not wanted. */
  readonly trace: string[] | undefined
  readonly #heap: Event[] = []
  #order = 0
  #failure: Error | undefined

  constructor(seed: number, traced: boolean) {
    this.random = new SeededRandom(seed)
    this.trace = traced ? [] : undefined
  }

  note(text: string): void {
    this.trace?.push(`${this.nowMs.toFixed(2).padStart(10)} #${this.steps} ${text}`)
  }

  /** Ends the run with this error, from wherever it is found. */
  fail(error: unknown): void { this.#failure ??= error instanceof Error ? error : new Error(String(error)) }

  /** Throws, and ends the run also where the code under test catches what is thrown. */
  expect(holds: boolean, what: () => string): void {
    if (holds) return
    const failure = new SimulationFailure(what())
    this.fail(failure)
    throw failure
  }

  after(delayMs: number, task: () => void): Timer {
    const atMs = this.nowMs + delayMs
    // What is left of a wait may be less than the time can be told apart by: time must go on all the same.
    return this.at(delayMs > 0 && atMs === this.nowMs ? this.nowMs + 0.001 : atMs, task)
  }

  /** Tasks for the same moment run in the order of the calls: a delay added to the time might round either way. */
  at(atMs: number, task: () => void): Timer {
    const event: Event = { atMs: Math.max(this.nowMs, atMs), order: this.#order++, task }
    this.#push(event)
    return { cancel: () => { event.task = undefined } }
  }

  /**
   * Runs events until `done` holds or the time is over; `check` runs behind every event. Resolves with whether `done`
   * held.
   */
  async run(untilMs: number, done: () => boolean, check: () => void): Promise<boolean> {
    for (;;) {
      await settle()
      if (this.#failure !== undefined) throw this.#failure
      if (done()) return true
      const event = this.#heap[0]
      if (event === undefined || event.atMs > untilMs) {
        this.nowMs = Math.max(this.nowMs, untilMs)
        return false
      }
      this.#pop()
      if (event.task === undefined) continue
      this.nowMs = event.atMs
      this.steps++
      if (this.steps > stepsMax) throw new SimulationFailure(`more than ${stepsMax} steps: something goes round`)
      event.task()
      check()
    }
  }

  #push(event: Event): void {
    const heap = this.#heap
    let at = heap.push(event) - 1
    while (at > 0) {
      const parent = (at - 1) >> 1
      if (!before(event, heap[parent]!)) break
      heap[at] = heap[parent]!
      at = parent
    }
    heap[at] = event
  }

  #pop(): void {
    const heap = this.#heap
    const last = heap.pop()!
    if (heap.length === 0) return
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++
      if (!before(heap[child]!, last)) break
      heap[at] = heap[child]!
      at = child
    }
    heap[at] = last
  }
}

function before(a: Event, b: Event): boolean { return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order) }

/** Lets every promise settle that can: the event loop runs a check callback only when no microtask is left. */
function settle(): Promise<void> { return new Promise(resolve => { setImmediate(resolve) }) }
