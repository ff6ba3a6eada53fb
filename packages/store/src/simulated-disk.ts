import { HoldfastError, invariant } from '@holdfast/runtime'
import type { Random } from '@holdfast/runtime'
import { SortedEntries } from './sorted-entries.ts'
import type { FillStore, ScanOptions, Store, StoreEntry, StoreOpener, WriteOp } from './store.ts'

export interface SimulatedDiskOptions {
  /** False: the disk takes every write as unsynced, as if the build had `sync: false` everywhere. Default true. */
  readonly honourSync?: boolean
  /** True: of a batch in flight at a crash, a prefix of its operations may be all that is left. Default false. */
  readonly tearBatches?: boolean
  /** The last commits that are kept apart, within reach of `dropCommit` and `loseTail`. Default 64. */
  readonly recentCommits?: number
}

export interface SimulatedDiskComponents {
  /** Runs the task at a moment of the simulator's choice: the completion of one write. Order does not matter. */
  readonly schedule: (task: () => void) => void
  readonly random: Random
}

/** A batch that the disk has taken, in the order of the writes. */
interface Commit { ops: readonly WriteOp[]; synced: boolean }

interface PendingWrite {
  readonly ops: readonly WriteOp[]
  readonly sync: boolean
  readonly onDone: (error?: Error) => void
  /** Set where the outcome is settled before its turn to call back. */
  error?: HoldfastError
}

/**
 * A disk with at most one open store on it, for seeded simulations: no clock, no I/O; the same seed and the same
 * calls give the same outcome. Reads resolve in microtasks, writes complete in `schedule`.
 *
 * What is synced survives `crash`; of what is not, a prefix of random length does. Faults that an honest disk does
 * not have (`dropCommit`, `loseTail`, `flipBit`, `becomeUnreadable`) come only where they are called for.
 */
export class SimulatedDisk implements StoreOpener {
  readonly #options: Required<SimulatedDiskOptions>
  readonly #components: SimulatedDiskComponents
  /** What lies below the recent commits; durable. */
  #base = new SortedEntries()
  #commits: Commit[] = []
  /** `#base` with all of `#commits` applied: what reads see. */
  #entries = new SortedEntries()
  #store: SimulatedStore | undefined
  #bytesFree = Infinity
  #nextWriteError: string | undefined
  #unreadable: { readonly lostShare: number } | undefined
  /** What was set aside by a rebuilding that has not ended: durable, and what is stored meanwhile does not count. */
  #aside: readonly StoreEntry[] | undefined
  #quarantines = 0
  #suspect = false
  #writes = 0
  #syncs = 0

  constructor(options: SimulatedDiskOptions, components: SimulatedDiskComponents) {
    this.#options = { honourSync: true, tearBatches: false, recentCommits: 64, ...options }
    this.#components = components
  }

  /** Batches taken without an error. */
  get writes(): number { return this.#writes }

  /** Batches that were durable when they were answered: none while `honourSync` is false. */
  get syncs(): number { return this.#syncs }

  /**
   * Rejects with `STORE_LOCKED` while another store is open, with `STORE_CORRUPT` after `becomeUnreadable` and after a
   * rebuilding that was cut short.
   */
  async open(): Promise<Store> {
    if (this.#unreadable !== undefined) throw new HoldfastError('STORE_CORRUPT', 'simulated disk: unreadable')
    if (this.#aside !== undefined) throw new HoldfastError('STORE_CORRUPT', 'simulated disk: not rebuilt')
    return this.#open()
  }

  #open(): SimulatedStore {
    if (this.#store !== undefined) throw new HoldfastError('STORE_LOCKED', 'simulated disk: a store is open on it')
    this.#apply()
    return this.#store = new SimulatedStore({
      schedule: this.#components.schedule,
      page: options => this.#entries.page(options),
      read: key => this.#entries.get(key),
      take: (ops, sync) => this.#take(ops, sync),
      release: store => { if (this.#store === store) this.#store = undefined }
    })
  }

  /** After `rebuild`. What else is lost here is lost without a trace. */
  async suspect(): Promise<boolean> { return this.#suspect }

  async trust(): Promise<void> { this.#suspect = false }

  /** What is set aside takes no room; what an unfinished rebuilding has written gives its room back. */
  async rebuild(fill: FillStore): Promise<string> {
    invariant(this.#store === undefined, 'only a closed store is rebuilt')
    const lostShare = this.#unreadable?.lostShare ?? 0
    if (this.#aside === undefined) this.#quarantines++
    this.#aside ??= this.#entries.all().filter(() => this.#components.random.next() >= lostShare)
    this.#bytesFree += this.#entries.all().reduce((sum, { key, value }) => sum + key.length + value.length, 0)
    this.#base = new SortedEntries()
    this.#commits = []
    this.#unreadable = undefined
    const store = this.#open()
    try {
      await fill(each(this.#aside), store)
    } finally {
      await store.close()
    }
    this.#aside = undefined
    this.#suspect = true
    return `quarantine-${this.#quarantines - 1}`
  }

  /**
   * Cuts the power. The open store is gone: its writes in flight fail, each when its completion is run, and may be
   * there or not. A synced write is never lost, and nothing is kept behind something that is lost.
   */
  crash(): void {
    const inFlight = this.#store?.die(failure('power cut')) ?? []
    const surely = this.#commits.findLastIndex(commit => commit.synced) + 1
    const candidates = [...this.#commits.slice(surely), ...inFlight.map(({ ops }) => ({ ops, synced: false }))]
    const kept = this.#below(candidates.length + 1)
    const survivors = candidates.slice(0, kept)
    const torn = candidates[kept]
    if (this.#options.tearBatches && torn !== undefined && surely + kept >= this.#commits.length) {
      survivors.push({ ops: torn.ops.slice(0, this.#below(torn.ops.length + 1)), synced: false })
    }
    // What is on the medium after a power cut stays there.
    this.#commits = [...this.#commits.slice(0, surely), ...survivors.map(({ ops }) => ({ ops, synced: true }))]
    this.#store = undefined
    this.#apply()
  }

  /**
   * One recent synced commit vanishes from between others, as a damaged log record does. Only while no store is open.
   * False where there is none with a synced commit behind it.
   */
  dropCommit(): boolean {
    invariant(this.#store === undefined, 'a commit is dropped while no store is open')
    const last = this.#commits.findLastIndex(commit => commit.synced)
    const candidates = [...this.#commits.keys()].filter(i => i < last && this.#commits[i]!.synced)
    if (candidates.length === 0) return false
    this.#commits.splice(candidates[this.#below(candidates.length)]!, 1)
    this.#apply()
    return true
  }

  /**
   * The last `count` synced commits vanish, with all that came after them, as on a disk that lies about fsync. Only
   * while no store is open. Returns how many synced commits were lost, fewer where fewer are within reach.
   */
  loseTail(count: number): number {
    invariant(this.#store === undefined, 'a tail is lost while no store is open')
    let lost = 0
    while (lost < count && this.#commits.some(commit => commit.synced)) if (this.#commits.pop()!.synced) lost++
    this.#apply()
    return lost
  }

  /** One bit of one stored value or key flips, whether a store is open or not. False where nothing is stored. */
  flipBit(): boolean {
    if (this.#entries.size === 0) return false
    const { key, value } = this.#entries.all()[this.#below(this.#entries.size)]!
    const bit = this.#below((key.length + value.length) * 8)
    const bytes = Buffer.concat([key, value])
    bytes[bit >> 3]! ^= 1 << (bit & 7)
    const flipped: WriteOp = { type: 'put', key: bytes.subarray(0, key.length), value: bytes.subarray(key.length) }
    const isVictim = (op: WriteOp): boolean => op.type === 'put' && Buffer.compare(op.key, key) === 0
    const commit = this.#commits.findLast(({ ops }) => ops.some(isVictim))
    if (commit === undefined) {
      this.#base.apply([{ type: 'del', key }, flipped])
    } else {
      const at = commit.ops.findLastIndex(isVictim)
      commit.ops = commit.ops.map((op, i) => i === at ? flipped : op)
    }
    this.#apply()
    return true
  }

  /** `open` rejects with `STORE_CORRUPT` until `rebuild`, which misses this share of the entries. */
  becomeUnreadable(lostShare: number): void {
    invariant(this.#store === undefined, 'a disk becomes unreadable while no store is open')
    this.#unreadable = { lostShare }
  }

  /**
   * Leaves room for so many bytes of keys and values. Deletions take the bytes of their keys first and give back what
   * they deleted afterwards. A write that does not fit fails with ENOSPC, and the store stays failed until it is
   * opened again.
   */
  fillUp(bytesFree: number): void { this.#bytesFree = bytesFree }

  /** Ends `fillUp`. */
  free(): void { this.#bytesFree = Infinity }

  /** The next write fails with this system error (such as EIO), once; after a reopening it is there or not. */
  failNextWrite(code: string): void { this.#nextWriteError = code }

  /** Applies one write at its completion, or says why it failed. */
  #take(ops: readonly WriteOp[], sync: boolean): HoldfastError | undefined {
    if (this.#nextWriteError !== undefined) {
      const error = failure(this.#nextWriteError)
      this.#nextWriteError = undefined
      if (this.#below(2) === 0) this.#commits.push({ ops, synced: false })
      return error
    }
    const bytes = ops.reduce((sum, op) => sum + op.key.length + (op.type === 'put' ? op.value.length : 0), 0)
    if (bytes > this.#bytesFree) return failure('ENOSPC')
    const synced = sync && this.#options.honourSync
    this.#bytesFree += this.#storedBytes(ops) - bytes
    this.#commits.push({ ops, synced })
    this.#entries.apply(ops)
    this.#writes++
    if (synced) {
      this.#syncs++
      for (const commit of this.#commits) commit.synced = true
    }
    this.#settleOldest()
    return undefined
  }

  /** Bytes held under keys that the batch replaces or deletes. */
  #storedBytes(ops: readonly WriteOp[]): number {
    if (this.#bytesFree === Infinity) return 0
    const keys = new Map(ops.map(({ key }) => [Buffer.from(key).toString('latin1'), key]))
    let bytes = 0
    for (const key of keys.values()) {
      const value = this.#entries.get(key)
      if (value !== undefined) bytes += key.length + value.length
    }
    return bytes
  }

  /** Moves synced commits beyond the recent ones into the base. */
  #settleOldest(): void {
    while (this.#commits.length > this.#options.recentCommits && this.#commits[0]!.synced) {
      this.#base.apply(this.#commits.shift()!.ops)
    }
  }

  #apply(): void {
    this.#entries = this.#base.clone()
    for (const { ops } of this.#commits) this.#entries.apply(ops)
  }

  /** Uniform integer in [0, bound). */
  #below(bound: number): number { return Math.floor(this.#components.random.next() * bound) }
}

/** What an open store may do to its disk. */
interface DiskAccess {
  readonly schedule: (task: () => void) => void
  page(options: ScanOptions): StoreEntry[]
  read(key: Uint8Array): Buffer | undefined
  take(ops: readonly WriteOp[], sync: boolean): HoldfastError | undefined
  release(store: SimulatedStore): void
}

class SimulatedStore implements Store {
  readonly #disk: DiskAccess
  readonly #pending: PendingWrite[] = []
  #failure: HoldfastError | undefined
  #dead: HoldfastError | undefined
  #closing: Promise<void> | undefined
  #onDrained: (() => void) | undefined

  constructor(disk: DiskAccess) { this.#disk = disk }

  write(ops: readonly WriteOp[], options: { readonly sync: boolean }, onDone: (error?: Error) => void): void {
    this.#pending.push({
      ops, sync: options.sync, onDone,
      ...this.#closing !== undefined && { error: closedError() }
    })
    this.#disk.schedule(() => this.#completeOldest())
  }

  async get(key: Uint8Array): Promise<Buffer | undefined> {
    this.#assertReadable()
    return this.#disk.read(key)
  }

  async scan(options: ScanOptions): Promise<StoreEntry[]> {
    this.#assertReadable()
    return this.#disk.page(options)
  }

  async compact(): Promise<void> {}

  close(): Promise<void> {
    return this.#closing ??= this.#shutDown()
  }

  /** The machine went down. Returns the writes that were in flight; each still calls back, with the error. */
  die(error: HoldfastError): readonly PendingWrite[] {
    // After a failed write, what is queued has never reached the disk.
    const inFlight = this.#failure === undefined ? this.#pending.filter(write => write.error === undefined) : []
    for (const write of inFlight) write.error = error
    this.#failure ??= error
    this.#dead = error
    return inFlight
  }

  async #shutDown(): Promise<void> {
    if (this.#pending.length > 0) await new Promise<void>(resolve => { this.#onDrained = resolve })
    this.#disk.release(this)
  }

  /** One completion per write, in the order of the writes, whichever task the simulator runs first. */
  #completeOldest(): void {
    const write = this.#pending.shift()
    invariant(write !== undefined, 'a completion has its write')
    const error = write.error ?? this.#commit(write)
    write.onDone(error)
    if (this.#pending.length === 0) this.#onDrained?.()
  }

  #commit(write: PendingWrite): HoldfastError | undefined {
    if (this.#failure !== undefined) {
      return new HoldfastError('STORE_FAILED', 'simulated disk: refused after an earlier failure, open it again',
        { cause: this.#failure })
    }
    return this.#failure = this.#disk.take(write.ops, write.sync)
  }

  #assertReadable(): void {
    if (this.#closing !== undefined) throw closedError()
    if (this.#dead !== undefined) throw this.#dead
  }
}

async function* each(entries: readonly StoreEntry[]): AsyncGenerator<StoreEntry> { yield* entries }

function failure(what: string): HoldfastError {
  return new HoldfastError('STORE_FAILED', `simulated disk: write: ${what}`)
}

function closedError(): HoldfastError {
  return new HoldfastError('STORE_CLOSED', 'simulated disk: used after close')
}
