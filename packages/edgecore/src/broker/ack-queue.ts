import type { Commit } from '@holdfast/store'

/** aedes' callback of a publish: it acknowledges and delivers, or closes the connection. */
export type PublishDone = (error?: Error | null) => void

/** Publishes of one client that ride in one commit, in the order of arrival; or a single one that waits for several. */
interface AckGroup {
  /** Undefined: no other publish joins by its commit. */
  readonly commit: Commit | undefined
  readonly done: PublishDone[]
  readonly startMs: number
  bytes: number
  settled: boolean
  error: Error | undefined
}

/**
 * Acknowledgements of one client, first in, first out [MQTT-4.6.0-2], whatever the order in which commits of different
 * lanes return; a publish that needs no commit waits behind earlier ones that do. One entry a commit, not a publish.
 */
export class AckQueue {
  readonly #release: (bytes: number) => void
  readonly #failed: () => void
  #groups: AckGroup[] = []
  #head = 0

  /** `release` is told of the bytes of what has been acknowledged or given up, `failed` before a failed commit's end. */
  constructor(release: (bytes: number) => void, failed: () => void) {
    this.#release = release
    this.#failed = failed
  }

  get empty(): boolean { return this.#head === this.#groups.length }

  /** Acknowledges after `commit` is durable and all earlier ones have been acknowledged. */
  add(commit: Commit, bytes: number, done: PublishDone, nowMs: () => number, onAcks: OnAcks): void {
    const tail = this.#groups.at(-1)
    if (tail !== undefined && tail.commit === commit && !tail.settled) {
      tail.done.push(done)
      tail.bytes += bytes
      return
    }
    const group: AckGroup = { commit, done: [done], startMs: nowMs(), bytes, settled: false, error: undefined }
    this.#groups.push(group)
    commit.onDurable(error => {
      group.settled = true
      group.error = error
      this.#drain(nowMs, onAcks)
    })
  }

  /** The same for a publish that waits for several commits, whatever the order in which they return. */
  addAll(commits: ReadonlySet<Commit>, bytes: number, done: PublishDone, nowMs: () => number, onAcks: OnAcks): void {
    const group: AckGroup = { commit: undefined, done: [done], startMs: nowMs(), bytes, settled: false, error: undefined }
    this.#groups.push(group)
    let waiting = commits.size
    for (const commit of commits) {
      commit.onDurable(error => {
        group.error ??= error
        if (--waiting > 0) return
        group.settled = true
        this.#drain(nowMs, onAcks)
      })
    }
  }

  /** Acknowledges after all earlier ones: at once where there are none. */
  addSettled(bytes: number, done: PublishDone, onAcks: OnAcks): void {
    const tail = this.#groups.at(-1)
    if (tail !== undefined) {
      tail.done.push(done)
      tail.bytes += bytes
      return
    }
    this.#release(bytes)
    onAcks(1, 0, undefined)
    done(null)
  }

  /** A publish that is not acknowledged. */
  discard(bytes: number): void { this.#release(bytes) }

  #drain(nowMs: () => number, onAcks: OnAcks): void {
    while (this.#head < this.#groups.length) {
      const group = this.#groups[this.#head]!
      if (!group.settled) return
      if (++this.#head === this.#groups.length) {
        this.#groups = []
        this.#head = 0
      } else if (this.#head >= 64) {
        this.#groups.splice(0, this.#head)
        this.#head = 0
      }
      onAcks(group.done.length, nowMs() - group.startMs, group.error)
      if (group.error !== undefined) this.#failed()
      for (const done of group.done) done(group.error ?? null)
      this.#release(group.bytes)
    }
  }
}

/** Told of publishes whose commit has returned: how many, how long the first of them waited, and what went wrong. */
export type OnAcks = (count: number, latencyMs: number, error: Error | undefined) => void
