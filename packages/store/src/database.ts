import { describeError, hasCode, wait } from '@holdfast/runtime'
import type { Clock, Failpoint, Log } from '@holdfast/runtime'
import { Committer } from './committer.ts'
import type { DiskSpace } from './disk-space.ts'
import { isDiskFull } from './error-codes.ts'
import type { Store, StoreEntry, StoreOpener } from './store.ts'

export interface DatabaseOptions {
  /** Below this much free space `low` is true: ways in stop, what is stored drains. */
  readonly freeFloorBytes: number
}

export interface DatabaseComponents {
  readonly opener: StoreOpener
  readonly space: DiskSpace
  readonly clock: Clock
  readonly log: Log
  /** Takes over what can be read of a quarantined store into one that counts only when this has resolved. */
  readonly salvage: (entries: AsyncIterable<StoreEntry>, store: Store) => Promise<Readonly<Record<string, number>>>
  readonly failpoint?: Failpoint
  /** Told of every commit: milliseconds from write to fsync, bytes. */
  readonly onCommit?: (durationMs: number, bytes: number) => void
}

/** Puts itself in line with a store that was opened anew. `suspect`: its newest entries may be missing. */
export type OnReopened = (store: Store, suspect: boolean) => Promise<void>

const spaceCheckIntervalMs = 1000
/** While the disk is nearly full, what was trimmed is given back this often. */
const reclaimIntervalMs = 5000
const reopenDelayMs = 200
const reopenDelayMaxMs = 5000
/** A store that fails to open so often in a row is treated as unreadable (L11: start anyway). */
const openAttemptsMax = 3
/** What is taken over from a quarantine stops at half the floor, looked at each time so much was copied. */
const salvageCheckBytes = 4 * 1024 * 1024
/** The ballast comes back when so many times the floor is free again. */
const restoreFactor = 2

/**
 * A store with its committer, kept alive: an unreadable one is quarantined and salvaged (L11), one whose write failed is
 * opened again (design §4.3), and a full disk gets room from the ballast so that the backlog can be trimmed.
 */
export class Database {
  readonly committer: Committer
  /** Quarantines since this process started. */
  quarantines = 0
  reopens = 0
  /** True while free space is below the floor. */
  low = false
  freeBytes = Infinity
  readonly #options: DatabaseOptions
  readonly #components: DatabaseComponents
  readonly #hooks: OnReopened[] = []
  #store: Store
  #suspect: boolean
  #onLow: (low: boolean) => void = () => {}
  #recovering: Promise<void> | undefined
  #reclaim: () => Promise<void> = async () => {}
  #reclaimedMs = -Infinity
  /** Committed since free space was last looked at. */
  #uncheckedBytes = 0
  #checking = false
  #spaceTimer: { cancel(): void } | undefined
  #restoring: Promise<void> | undefined
  #closed = false

  private constructor(options: DatabaseOptions, components: DatabaseComponents, opened: Opened) {
    this.#options = options
    this.#components = components
    this.#store = opened.store
    this.#suspect = opened.suspect
    this.quarantines = opened.rebuilt ? 1 : 0
    const { clock, onCommit, failpoint } = components
    this.committer = new Committer({}, {
      store: opened.store,
      clock,
      onCommit: (durationMs, bytes) => {
        onCommit?.(durationMs, bytes)
        this.#committed(bytes)
      },
      ...failpoint === undefined ? {} : { failpoint },
      onFailure: error => { this.#recovering = this.#recover(error) }
    })
  }

  /** Rejects only where the place itself cannot be used: `STORE_LOCKED`, or a folder that cannot be written. */
  static async open(options: DatabaseOptions, components: DatabaseComponents): Promise<Database> {
    const { space, log } = components
    try {
      // A start writes and sorts, too, before anything can be trimmed.
      if (await space.freeBytes() < Math.max(options.freeFloorBytes, space.ballastBytes)) await space.giveUpBallast()
    } catch (error) {
      log.warn('looking after free space failed', { error: describeError(error) })
    }
    const database = new Database(options, components, await openStore(options, components))
    await database.#checkSpace()
    return database
  }

  get store(): Store { return this.#store }

  /** True where the newest entries may have been lost at open, at this one or at an earlier one, until `trust`. */
  get suspect(): boolean { return this.#suspect }

  /**
   * Everybody who keeps something here has opened it and written down what may be missing. Until then a store that is
   * suspect stays so over restarts, and the next start verifies it whole. After a reopening this happens by itself, behind
   * the hooks.
   */
  async trust(): Promise<void> {
    await this.#components.opener.trust()
    this.#suspect = false
  }

  /** Hooks run in the order of the calls, one after the other. */
  onReopened(hook: OnReopened): void { this.#hooks.push(hook) }

  /** `listener` learns when free space falls below the floor or is back; at once, of the state now. */
  onLow(listener: (low: boolean) => void): void {
    this.#onLow = listener
    listener(this.low)
  }

  /** `reclaim` gives the space of deleted entries back; called now and then while the disk is nearly full. */
  onReclaim(reclaim: () => Promise<void>): void { this.#reclaim = reclaim }

  /** Commits what waits, then closes. */
  async close(): Promise<void> {
    this.#closed = true
    this.#spaceTimer?.cancel()
    await this.#recovering
    if (this.#restoring !== undefined) await this.#components.space.giveUpBallast()
    await this.#restoring
    await this.committer.close()
    await this.#store.close()
  }

  async #recover(failure: Error): Promise<void> {
    const { log, clock, space } = this.#components
    log.error('a write failed; the database is opened again', { error: describeError(failure) })
    let unreadable = hasCode(failure, 'STORE_CORRUPT')
    for (let attempt = 0; !this.#closed; attempt++) {
      try {
        await this.#store.close().catch((error: unknown) => {
          log.debug('closing a failed store', { error: describeError(error) })
        })
        if (isDiskFull(failure)) await space.giveUpBallast()
        if (unreadable) {
          await rebuild(this.#options, this.#components, failure)
          unreadable = false
          this.quarantines++
        }
        const opened = await openStore(this.#options, this.#components)
        this.#store = opened.store
        this.#suspect = opened.suspect
        if (opened.rebuilt) this.quarantines++
        for (const hook of this.#hooks) await hook(opened.store, opened.suspect)
        await this.trust()
        this.reopens++
        this.committer.resume(opened.store)
        log.info('the database is open again', { attempt })
        await this.#checkSpace()
        return
      } catch (error) {
        log.error('the database does not open', { attempt, error: describeError(error) })
        if (isDiskFull(error)) await space.giveUpBallast().catch(() => undefined)
        await wait(clock, Math.min(reopenDelayMaxMs, reopenDelayMs * 2 ** attempt))
      }
    }
  }

  /** Fast writers reach the floor between two looks at the clock: the bytes are counted, too. */
  #committed(bytes: number): void {
    this.#uncheckedBytes += bytes
    if (!this.low && !this.#checking && this.#uncheckedBytes > (this.freeBytes - this.#options.freeFloorBytes) / 4) void this.#checkSpace()
  }

  async #checkSpace(): Promise<void> {
    const { space, clock, log } = this.#components
    this.#checking = true
    this.#uncheckedBytes = 0
    try {
      this.freeBytes = await space.freeBytes()
      const low = this.freeBytes < this.#options.freeFloorBytes
      if (low !== this.low) {
        this.low = low
        log.warn(low ? 'disk nearly full: new records are refused' : 'disk space is back', {
          freeBytes: this.freeBytes, floorBytes: this.#options.freeFloorBytes
        })
        this.#onLow(low)
      }
      if (this.freeBytes > restoreFactor * this.#options.freeFloorBytes + space.ballastBytes) {
        // Not waited for: whoever writes meanwhile may reach the floor.
        this.#restoring ??= this.#restoreBallast()
      }
      if (low && this.committer.failure === undefined && clock.monotonicMs() - this.#reclaimedMs > reclaimIntervalMs) {
        this.#reclaimedMs = clock.monotonicMs()
        await this.#reclaim()
      }
    } catch (error) {
      log.warn('looking after free space failed', { error: describeError(error) })
    }
    this.#checking = false
    this.#spaceTimer?.cancel()
    if (!this.#closed) this.#spaceTimer = clock.after(spaceCheckIntervalMs, () => { void this.#checkSpace() })
  }

  async #restoreBallast(): Promise<void> {
    try {
      await this.#components.space.keepBallast()
    } catch (error) {
      this.#components.log.warn('the ballast could not be written', { error: describeError(error) })
    }
    this.#restoring = undefined
  }
}

interface Opened { readonly store: Store, readonly suspect: boolean, readonly rebuilt: boolean }

async function openStore(options: DatabaseOptions, components: DatabaseComponents): Promise<Opened> {
  const { opener, clock, space } = components
  let rebuilt = false
  for (let attempt = 1; ; attempt++) {
    let store: Store | undefined
    try {
      const suspect = await opener.suspect()
      store = await opener.open()
      await walk(store)
      return { store, suspect, rebuilt }
    } catch (error) {
      await store?.close()
      const corrupt = hasCode(error, 'STORE_CORRUPT')
      if (rebuilt || (!corrupt && !hasCode(error, 'STORE_FAILED'))) throw error
      if (isDiskFull(error)) await space.giveUpBallast()
      if (corrupt || (attempt >= openAttemptsMax && !isDiskFull(error))) {
        await rebuild(options, components, error)
        rebuilt = true
      } else await wait(clock, reopenDelayMs)
    }
  }
}

/** Rejects where it was cut short, by a full disk perhaps; the next call, after a restart too, begins again. */
async function rebuild(options: DatabaseOptions, components: DatabaseComponents, cause: unknown): Promise<void> {
  const { opener, log } = components
  log.error('the database is unreadable and is set aside; what can be read of it is taken over', { error: describeError(cause) })
  let counts: Readonly<Record<string, number>> = {}
  const quarantine = await opener.rebuild(async (entries, store) => {
    counts = await components.salvage(asFarAsFits(entries, options, components), store)
  })
  log.warn('taken over from quarantine', { ...counts, quarantine })
}

/**
 * Ends early where the disk has no room for a second copy: the daemon starts all the same (L11), what is missing shows as
 * gaps, and is still in quarantine.
 */
async function* asFarAsFits(entries: AsyncIterable<StoreEntry>, { freeFloorBytes }: DatabaseOptions,
  { space, log }: DatabaseComponents): AsyncGenerator<StoreEntry> {
  let unchecked = Infinity
  for await (const entry of entries) {
    unchecked += entry.key.length + entry.value.length
    if (unchecked > salvageCheckBytes) {
      unchecked = 0
      if (await space.freeBytes() < freeFloorBytes / 2) await space.giveUpBallast()
      const freeBytes = await space.freeBytes()
      if (freeBytes < freeFloorBytes / 2) {
        log.error('the disk has no room for all of the salvaged database; the rest stays in quarantine', { freeBytes })
        return
      }
    }
    yield entry
  }
}

/** Passes by every key, so that what LevelDB cannot read shows now, and not in the middle of somebody's work. */
async function walk(store: Store): Promise<void> {
  const lt = Buffer.from([0xff])
  let gte: Buffer = Buffer.alloc(0)
  for (;;) {
    const page = await store.scan({ gte, lt, values: false, bytesMax: 256 * 1024 })
    if (page.length === 0) return
    gte = Buffer.concat([page.at(-1)!.key, Buffer.from([0])])
  }
}
