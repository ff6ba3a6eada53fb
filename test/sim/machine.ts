import { hasCode } from '@holdfast/runtime'
import type { Clock, Failpoint, FailpointName, Log, LogFields, Random } from '@holdfast/runtime'
import { SimulatedDisk } from '@holdfast/store'
import type { DiskSpace, ScanOptions, Store, StoreEntry, StoreOpener, WriteOp } from '@holdfast/store'
import { epochStartMs } from './world.ts'
import type { World } from './world.ts'

/** A promise for a process that is dead: nothing comes back to it. */
const never = <T>(): Promise<T> => new Promise<T>(() => {})

/**
 * One process on a machine. Everything that reaches it or leaves it passes here: once it is dead nothing does, wherever
 * in its code it died.
 */
export class SimulatedProcess {
  alive = true
  /** Dies when so many more outputs (writes, messages, acknowledgements) were about to be made. */
  outputsLeft = Infinity
  /** Its event loop is blocked until then. */
  stalledUntilMs = 0
  readonly #world: World
  readonly #onDeath: () => void

  constructor(world: World, onDeath: () => void) {
    this.#world = world
    this.#onDeath = onDeath
  }

  /** True where the process lives to make this output. */
  output(): boolean {
    if (this.alive && --this.outputsLeft <= 0) {
      this.alive = false
      this.#world.after(0, this.#onDeath)
    }
    return this.alive
  }

  /** For the failpoints of the code: dies at the one that `dieAt` names, the n-th time. */
  readonly failpoint: Failpoint = name => {
    if (name !== this.dieAt || !this.alive || --this.passesLeft > 0) return
    this.alive = false
    this.#world.after(0, this.#onDeath)
  }

  dieAt: FailpointName | undefined
  passesLeft = 1

  /** Takes back a death that was planned. */
  spare(): void {
    this.outputsLeft = Infinity
    this.dieAt = undefined
  }

  /** Something happens to the process: now, after its stall, or never. */
  input(task: () => void): void {
    if (!this.alive) return
    if (this.#world.nowMs < this.stalledUntilMs) {
      this.#world.at(this.stalledUntilMs, () => { this.input(task) })
      return
    }
    task()
  }
}

/** A computer: a disk, a wall clock, and at most one process. */
export class Machine {
  name: string
  readonly world: World
  readonly random: Random
  disk: SimulatedDisk
  /** Told by the opener of the store, as the real one is by what it finds. */
  suspect = false
  wallOffsetMs = 0
  clockSynchronised = true
  process: SimulatedProcess | undefined
  /** The store that the process has open, without its guard. */
  #inner: Store | undefined
  #released: Promise<void> = Promise.resolve()
  /** Longest time of a write and its fsync. */
  diskLatencyMs = 4
  diskStalledUntilMs = 0
  full = false
  ballast = true
  readonly #onDeath: () => void

  constructor(name: string, world: World, random: Random, honourSync: boolean, onDeath: () => void) {
    this.name = name
    this.world = world
    this.random = random
    this.disk = this.newDisk(honourSync)
    this.#onDeath = onDeath
  }

  newDisk(honourSync = true): SimulatedDisk {
    return new SimulatedDisk({ honourSync }, {
      random: this.random,
      schedule: task => {
        const { nowMs } = this.world
        const delayMs = 0.05 + this.random.next() * this.diskLatencyMs
        this.world.after(Math.max(delayMs, this.diskStalledUntilMs - nowMs + delayMs), task)
      }
    })
  }

  boot(): SimulatedProcess {
    this.process = new SimulatedProcess(this.world, () => { this.#onDeath() })
    return this.process
  }

  /** kill -9: what was written stays. */
  kill(): void {
    if (this.process !== undefined) this.process.alive = false
    this.process = undefined
    const inner = this.#inner
    this.#inner = undefined
    if (inner !== undefined) this.#released = inner.close()
  }

  /** What was not synced is gone, from some point on. */
  cutPower(): void {
    if (this.process !== undefined) this.process.alive = false
    this.process = undefined
    this.#inner = undefined
    this.disk.crash()
    this.#released = Promise.resolve()
  }

  /** Resolves when no store is open on the disk. */
  get released(): Promise<void> { return this.#released }

  clock(process: SimulatedProcess): Clock {
    const { world } = this
    const bootMs = world.nowMs - 1000
    return {
      wallMs: () => Math.max(0, epochStartMs + world.nowMs + this.wallOffsetMs),
      monotonicMs: () => world.nowMs - bootMs,
      after: (delayMs, task) => world.after(delayMs, () => { process.input(task) }),
      soon: task => { world.after(0, () => { process.input(task) }) }
    }
  }

  log(): Log {
    const { world, name } = this
    if (world.trace === undefined) return quiet
    const make = (fixed: LogFields): Log => {
      const line = (level: string) => (message: string, fields?: LogFields): void => {
        world.note(`${name} ${level}: ${message} ${JSON.stringify({ ...fixed, ...fields })}`)
      }
      return {
        debug: line('debug'), info: line('info'), warn: line('warn'), error: line('error'),
        with: fields => make({ ...fixed, ...fields })
      }
    }
    return make({})
  }

  space(): DiskSpace {
    return {
      ballastBytes: 64 * 1024,
      freeBytes: async () => this.full ? 0 : 2 ** 40,
      keepBallast: async () => { this.ballast = true },
      giveUpBallast: async () => {
        if (!this.ballast) return
        this.ballast = false
        if (this.full) this.disk.fillUp(64 * 1024)
      }
    }
  }

  opener(process: SimulatedProcess): StoreOpener {
    return {
      suspect: async () => process.alive ? this.suspect || await this.disk.suspect() : await never(),
      trust: async () => {
        if (!process.alive) return await never()
        this.suspect = false
        await this.disk.trust()
      },
      open: async () => {
        if (!process.alive) return await never()
        const inner = await this.disk.open()
        this.#inner = inner
        return new GuardedStore(inner, process)
      },
      rebuild: async fill => {
        if (!process.alive) return await never()
        return await this.disk.rebuild(async (entries, inner) => {
          this.#inner = inner
          await fill(entries, new GuardedStore(inner, process))
          if (!process.alive) await never()
        })
      }
    }
  }

  /**
   * A copy of everything on the disk, whether a process runs or not; undefined while the store is being opened again.
   */
  async copy(): Promise<StoreEntry[] | undefined> {
    await this.#released
    try {
      return this.#inner === undefined ? await this.entries() : await entriesOf(this.#inner)
    } catch (error) {
      if (hasCode(error, 'STORE_CLOSED') || hasCode(error, 'STORE_LOCKED')) return undefined
      throw error
    }
  }

  /** Everything on the disk. Only while no process has it open. */
  async entries(): Promise<StoreEntry[]> {
    const store = await this.disk.open()
    const all = await entriesOf(store)
    await store.close()
    return all
  }

  /** Puts a copy of these entries onto a new disk, in simulated time. */
  async restore(entries: readonly StoreEntry[]): Promise<void> {
    this.disk = this.newDisk()
    const store = await this.disk.open()
    const ops = entries.map(({ key, value }): WriteOp => ({ type: 'put', key, value }))
    if (ops.length > 0) await new Promise<void>(resolve => { store.write(ops, { sync: true }, () => resolve()) })
    await store.close()
  }
}

export async function entriesOf(store: Store): Promise<StoreEntry[]> {
  return await store.scan({ gte: Buffer.alloc(0), lt: Buffer.alloc(16, 0xff), bytesMax: Number.MAX_SAFE_INTEGER })
}

class GuardedStore implements Store {
  readonly #inner: Store
  readonly #process: SimulatedProcess

  constructor(inner: Store, process: SimulatedProcess) {
    this.#inner = inner
    this.#process = process
  }

  write(ops: readonly WriteOp[], options: { readonly sync: boolean }, onDone: (error?: Error) => void): void {
    if (!this.#process.output()) return
    this.#inner.write(ops, options, error => { this.#process.input(() => { onDone(error) }) })
  }

  async get(key: Uint8Array): Promise<Buffer | undefined> {
    if (!this.#process.alive) return await never()
    return await this.#inner.get(key)
  }

  async scan(options: ScanOptions): Promise<StoreEntry[]> {
    if (!this.#process.alive) return await never()
    return await this.#inner.scan(options)
  }

  async compact(gte: Uint8Array, lt: Uint8Array): Promise<void> {
    if (!this.#process.alive) return await never()
    await this.#inner.compact(gte, lt)
  }

  async close(): Promise<void> {
    if (!this.#process.alive) return await never()
    await this.#inner.close()
  }
}

const quiet: Log = { debug() {}, info() {}, warn() {}, error() {}, with: () => quiet }
