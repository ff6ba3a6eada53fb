import { inertFailpoint } from '@holdfast/runtime'
import type { Failpoint } from '@holdfast/runtime'
import type { Store, WriteOp } from './store.ts'

/** Called once with the outcome of a commit. An error means: not durable, and never will be through this call. */
export type OnDurable = (error?: Error) => void

/** Contributes changes when a commit is about to be written; called at most once per commit. */
export interface CommitPart {
  /** Appends the changes to `ops`. */
  write(ops: WriteOp[]): void
  /** The commit's outcome, before any `onDurable` of that commit. */
  settled(error?: Error): void
}

/**
 * The unit of atomicity: all that is put into one Commit reaches the disk together or not at all. Obtained from
 * `Committer.gather`, valid in the same turn of the event loop only.
 */
export interface Commit {
  /** Key and value belong to the store from now on. */
  put(key: Uint8Array, value: Uint8Array): void
  del(key: Uint8Array): void
  /** Runs after the fsync, in the order of the calls within one urgency. */
  onDurable(callback: OnDurable): void
  /** The part that `owner` keeps in this commit, made by `make` at the first call. */
  part<Part extends CommitPart>(owner: object, make: () => Part): Part
}

export interface GatherOptions {
  /** Bytes about to be put in; only steers where a commit is cut. */
  readonly bytes: number
  /** Goes before everything that is not urgent and waits at this moment. Default false. */
  readonly urgent?: boolean
  /** The commit may wait so long for company, milliseconds. Default 0. */
  readonly delayMs?: number
}

export interface CommitterStats {
  commits: number
  /** Bytes handed to the store in keys and values. */
  bytes: number
  /** Writes that failed. */
  failures: number
  /** Duration of the last commit, write and fsync, milliseconds. */
  lastMs: number
}

export interface CommitterOptions {
  /** A commit is cut at about so many bytes. Default 1 MiB. */
  readonly commitBytesMax?: number
}

export interface CommitterComponents {
  readonly store: Store
  readonly clock: { monotonicMs(): number, after(delayMs: number, task: () => void): { cancel(): void }, soon(task: () => void): void }
  readonly failpoint?: Failpoint
  /** Told of every commit: its duration in milliseconds and its bytes. */
  readonly onCommit?: (durationMs: number, bytes: number) => void
  /** Told when a write has failed; from then on every commit fails with that error, until `resume` (design §4.3). */
  readonly onFailure: (error: Error) => void
}

class GatheringCommit implements Commit {
  readonly ops: WriteOp[] = []
  readonly callbacks: OnDurable[] = []
  readonly parts = new Map<object, CommitPart>()
  bytes = 0
  /** Monotonic time at which it has to go out. */
  dueMs = Infinity

  put(key: Uint8Array, value: Uint8Array): void { this.ops.push({ type: 'put', key, value }) }
  del(key: Uint8Array): void { this.ops.push({ type: 'del', key }) }
  onDurable(callback: OnDurable): void { this.callbacks.push(callback) }
  part<Part extends CommitPart>(owner: object, make: () => Part): Part {
    let part = this.parts.get(owner) as Part | undefined
    if (part === undefined) {
      part = make()
      this.parts.set(owner, part)
    }
    return part
  }
}

/**
 * A due normal commit goes along with an urgent one where both together stay within this: what it adds to the write of
 * the urgent one is less than an fsync costs, and one fsync serves both.
 */
const companyBytesMax = 64 * 1024
/** A larger one, once due, is passed by so many urgent commits in a row at most. */
const passesMax = 8

/**
 * The one way into a database (design §4.3). Self-clocked group commit: while a batch is being written and fsynced, work
 * gathers; when it returns, what gathered is the next batch. An idle database means one record, one fsync, at once; load
 * means large batches. No promise, no timer and no queue entry per record.
 *
 * Two queues; within each, completion is first in, first out. Urgent goes before normal, and neither starves the other
 * (L9): a due normal commit rides along with an urgent one where it is small, and goes alone once it was passed eight times.
 * So an alarm waits for what is being written, and behind one commit in nine for bulk that was merely gathered. In a model of
 * a disk (fsync 5 ms, 20 MiB/s) under telemetry without end and an alarm every 4 ms, median wait of an alarm and rate of the
 * telemetry are 33 ms and 17 MiB/s with one pass, 17 ms and 10 MiB/s with eight, 7 ms and nothing without a bound.
 */
export class Committer {
  readonly stats: CommitterStats = { commits: 0, bytes: 0, failures: 0, lastMs: 0 }
  #store: Store
  readonly #components: CommitterComponents
  readonly #commitBytesMax: number
  readonly #failpoint: Failpoint
  readonly #urgent: GatheringCommit[] = []
  readonly #normal: GatheringCommit[] = []
  /** Handed to the store; nothing while that has nothing to do. */
  #inFlight: readonly GatheringCommit[] = []
  /** Urgent commits since the oldest normal one that is due could have gone. */
  #passes = 0
  #scheduled = false
  #timer: { cancel(): void } | undefined
  #timerDueMs = Infinity
  #failure: Error | undefined
  #closed = false

  constructor(options: CommitterOptions, components: CommitterComponents) {
    this.#store = components.store
    this.#components = components
    this.#failpoint = components.failpoint ?? inertFailpoint
    this.#commitBytesMax = options.commitBytesMax ?? 1024 * 1024
  }

  /** Why nothing can be committed now; undefined while all is well. */
  get failure(): Error | undefined { return this.#failure }

  /** The commit that is being gathered now. Everything put into it in this turn of the event loop is atomic. */
  gather(options: GatherOptions): Commit {
    const queue = options.urgent === true ? this.#urgent : this.#normal
    let commit = queue.at(-1)
    if (commit === undefined || (commit.bytes > 0 && commit.bytes + options.bytes > this.#commitBytesMax)) {
      commit = new GatheringCommit()
      queue.push(commit)
    }
    commit.bytes += options.bytes
    const delayMs = options.delayMs ?? 0
    if (delayMs === 0) commit.dueMs = -Infinity
    else if (commit.dueMs > 0) commit.dueMs = Math.min(commit.dueMs, this.#components.clock.monotonicMs() + delayMs)
    if (!this.#writing && !this.#scheduled) this.#schedule()
    return commit
  }

  /** A read has found the store unusable: as after a failed write, every commit fails until `resume`. */
  fail(error: Error): void { this.#fail(error) }

  /** Goes on with a store that was opened anew after a failure. */
  resume(store: Store): void {
    this.#store = store
    this.#failure = undefined
  }

  /**
   * Writes out what was gathered before this call, without waiting for delays, and resolves when it is settled. What is
   * gathered meanwhile is not waited for: under load there is always some.
   */
  async flush(): Promise<void> {
    const waiting = [...this.#urgent, ...this.#normal]
    for (const commit of waiting) commit.dueMs = -Infinity
    if (waiting.length > 0 && !this.#writing && !this.#scheduled) this.#schedule()
    await Promise.all([...this.#inFlight, ...waiting].map(commit => settledOf(commit)))
  }

  /** Flushes; afterwards every commit fails, and nothing is in flight. Does not close the store. */
  async close(): Promise<void> {
    await this.flush()
    this.#closed = true
    this.#timer?.cancel()
    await this.flush()
  }

  /**
   * The commit goes out at the end of this turn's I/O, so that what arrives together (one socket read, several sockets)
   * shares a batch.
   */
  #schedule(): void {
    this.#scheduled = true
    this.#components.clock.soon(() => {
      this.#scheduled = false
      this.#next()
    })
  }

  /** Hands the next write to the store. What is `earlier` and durable is settled while that is under way, and first. */
  #next(earlier: readonly GatheringCommit[] = []): void {
    const commits = this.#writing ? [] : this.#takeDue()
    if (commits.length === 0) {
      this.#settle(earlier)
      if (!this.#writing) this.#armTimer()
      return
    }
    if (this.#failure !== undefined || this.#closed) {
      this.#settle(earlier)
      this.#settle(commits, this.#failure ?? new Error('the database is closed'))
      this.#next()
      return
    }
    const ops = this.#opsOf(commits)
    if (ops.length === 0) {
      this.#settle(earlier)
      this.#settle(commits)
      this.#next()
      return
    }
    let bytes = 0
    for (const op of ops) bytes += op.key.length + (op.type === 'put' ? op.value.length : 0)
    this.#inFlight = commits
    this.#failpoint('commit:before-write')
    const startMs = this.#components.clock.monotonicMs()
    this.#store.write(ops, { sync: true }, error => {
      const durationMs = this.#components.clock.monotonicMs() - startMs
      this.stats.commits++
      this.stats.bytes += bytes
      this.stats.lastMs = durationMs
      if (error === undefined) this.#components.onCommit?.(durationMs, bytes)
      else {
        this.stats.failures++
        this.#fail(error)
      }
      this.#failpoint('commit:after-write')
      this.#inFlight = []
      if (error === undefined) {
        // The next batch is on its way to the disk while this one's callbacks run.
        this.#next(commits)
      } else {
        this.#settle(commits, error)
        this.#next()
      }
    })
    this.#settle(earlier)
  }

  /** What goes out in one write: commits in the order in which they are settled. */
  #takeDue(): GatheringCommit[] {
    const urgent = this.#isDue(this.#urgent) ? this.#urgent[0] : undefined
    const normal = this.#isDue(this.#normal) ? this.#normal[0] : undefined
    const together = urgent !== undefined && normal !== undefined && urgent.bytes + normal.bytes <= companyBytesMax
    const passes = !together && urgent !== undefined && normal !== undefined && this.#passes < passesMax
    const taken: GatheringCommit[] = []
    if (urgent !== undefined && (together || passes || normal === undefined)) taken.push(this.#urgent.shift()!)
    if (normal !== undefined && !passes) taken.push(this.#normal.shift()!)
    this.#passes = passes ? this.#passes + 1 : 0
    return taken
  }

  /** Full commits, and all behind which others wait, are due; after a failure everything is. */
  #isDue(queue: readonly GatheringCommit[]): boolean {
    const first = queue[0]
    return first !== undefined &&
      (queue.length > 1 || this.#failure !== undefined || first.dueMs <= this.#components.clock.monotonicMs())
  }

  #opsOf(commits: readonly GatheringCommit[]): WriteOp[] {
    const ops = commits[0]!.ops
    for (const [i, commit] of commits.entries()) {
      if (i > 0) for (const op of commit.ops) ops.push(op)
      for (const part of commit.parts.values()) part.write(ops)
    }
    return ops
  }

  #armTimer(): void {
    const dueMs = Math.min(this.#urgent[0]?.dueMs ?? Infinity, this.#normal[0]?.dueMs ?? Infinity)
    if (dueMs === Infinity || dueMs === this.#timerDueMs) return
    this.#timer?.cancel()
    this.#timerDueMs = dueMs
    this.#timer = this.#components.clock.after(Math.max(1, dueMs - this.#components.clock.monotonicMs()), () => {
      this.#timerDueMs = Infinity
      this.#next()
    })
  }

  #fail(error: Error): void {
    if (this.#failure !== undefined) return
    this.#failure = error
    this.#components.onFailure(error)
  }

  #settle(commits: readonly GatheringCommit[], error?: Error): void {
    for (const commit of commits) {
      for (const part of commit.parts.values()) part.settled(error)
      for (const callback of commit.callbacks) callback(error)
    }
  }

  get #writing(): boolean { return this.#inFlight.length > 0 }
}

function settledOf(commit: GatheringCommit): Promise<void> {
  return new Promise(resolve => { commit.onDurable(() => { resolve() }) })
}
