import { link, mkdir, open as openFile, readFile, readdir, rename, rm, rmdir, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { HoldfastError, describeError, hasCode, syncFolder } from '@holdfast/runtime'
import type { Clock, Log } from '@holdfast/runtime'
import { Level } from 'level'
import type { StoreErrorCode } from './error-codes.ts'
import {
  brokenSeals, forgetOpenings, isMarkedSuspect, markSuspect, namesIn, noteOpened, noteOpening, removeSeal, removeSuspectMark, sealLogs
} from './level-seal.ts'
import { damagedLogRecords, damagedTableBlocks, salvageLevelFiles } from './level-salvage.ts'
import { scanBytesMaxDefault } from './sorted-entries.ts'
import type { FillStore, ScanOptions, Store, StoreEntry, StoreOpener, WriteOp } from './store.ts'

export interface LevelStoreOptions {
  /** Folder of the database; made when absent. */
  readonly path: string
  /**
   * Bytes gathered in memory, and in the log, before a table is written. Default 4 MiB. At 64 KiB values, RssAnon
   * grows by 10 MiB with 2, 13 with 4 and 16 with 8, while the bytes written stay at twice the payload: more buys
   * nothing here.
   */
  readonly writeBufferBytes?: number
  /** Size of a table below the first level, which bounds what one compaction sorts to some 25 of them. Default 2 MiB. */
  readonly tableBytes?: number
  /** Uncompressed size of a table block, about. Default 4 KiB. A larger value has a block of its own. */
  readonly blockBytes?: number
  /**
   * Cache of blocks. Default 1 MiB: tables are mapped into memory and not compressed, so that LevelDB reads them in
   * place and caches only what lies beyond a thousand tables.
   */
  readonly cacheBytes?: number
}

/** On Node, `Level` is ClassicLevel; its types name what browsers have too. */
type Database = Level<Uint8Array, Uint8Array> & { compactRange(start: Uint8Array, end: Uint8Array): Promise<void> }

interface PendingWrite {
  readonly ops: readonly WriteOp[]
  readonly onDone: (error?: Error) => void
  /** Set where the write came after close and is only waiting for its turn to be refused. */
  readonly refusal?: HoldfastError
}

/** Entries fetched by one native call. The binding reserves memory for the number it is given, so it has a bound. */
const entriesPerFetch = 1024

const noValue = Buffer.alloc(0)

/**
 * The store of the daemons: LevelDB through `level`.
 *
 * Every write is fsynced, whatever its `sync` says. LevelDB syncs only the current log, so that a synced write does
 * not cover unsynced ones from before a log switch; with no unsynced write there is no such gap, and a batch without
 * its own fsync has no caller that would gain from it. One write is in flight at a time, because two given to the
 * thread pool may change places; whoever wants throughput puts more into a batch.
 *
 * Values can be silently wrong: LevelDB does not verify block checksums on reads, and a damaged log record is left out
 * without an error at open, which makes a hole in the middle. Callers verify checksums and density of their own.
 *
 * Errors: `STORE_FAILED`, from the first failed write on for every write; `STORE_CORRUPT` from a read, or from the
 * first failed write, that met files which are no database any more; `STORE_CLOSED` after close.
 */
export class LevelStore implements Store {
  readonly #db: Database
  readonly #path: string
  readonly #queue: PendingWrite[] = []
  readonly #reads = new Set<Promise<unknown>>()
  #draining: Promise<void> | undefined
  #failure: HoldfastError | undefined
  #closing: Promise<void> | undefined

  private constructor(db: Database, path: string) {
    this.#db = db
    this.#path = path
  }

  /** Rejects with `STORE_CORRUPT`, `STORE_LOCKED`, `STORE_INACCESSIBLE` or `STORE_FAILED`. */
  static async open(options: LevelStoreOptions): Promise<LevelStore> {
    await refuseHeadlessFiles(options.path)
    const db: Database = new Level(options.path, {
      keyEncoding: 'buffer',
      valueEncoding: 'buffer',
      // Values are compressed by their owners; level-salvage.ts reads uncompressed blocks only.
      compression: false,
      writeBufferSize: options.writeBufferBytes ?? 4 * 1024 * 1024,
      maxFileSize: options.tableBytes ?? 2 * 1024 * 1024,
      blockSize: options.blockBytes ?? 4 * 1024,
      cacheSize: options.cacheBytes ?? 1024 * 1024
    }) as Database
    try {
      await removeSeal(options.path)
      await db.open()
      // LevelDB does not fsync the names of the folder and of the log that it has just made.
      await syncFolder(options.path)
      await syncFolder(dirname(options.path))
    } catch (error) {
      await db.close()
      const failure = storeError(options.path, 'open', error)
      if (failure.code !== 'STORE_FAILED' || !await leadsNowhere(options.path)) throw failure
      throw new HoldfastError('STORE_CORRUPT', failure.message, { cause: error })
    }
    return new LevelStore(db, options.path)
  }

  write(ops: readonly WriteOp[], _options: { readonly sync: boolean }, onDone: (error?: Error) => void): void {
    this.#queue.push(this.#closing === undefined ? { ops, onDone } : { ops, onDone, refusal: this.#closedError() })
    this.#draining ??= this.#drain()
  }

  get(key: Uint8Array): Promise<Buffer | undefined> {
    return this.#read('get', async () => await this.#db.get(key) as Buffer | undefined)
  }

  scan(options: ScanOptions): Promise<StoreEntry[]> {
    return this.#read('scan', () => this.#page(options))
  }

  compact(gte: Uint8Array, lt: Uint8Array): Promise<void> {
    return this.#read('compact', async () => { await this.#db.compactRange(gte, lt) })
  }

  close(): Promise<void> {
    return this.#closing ??= this.#shutDown()
  }

  async #shutDown(): Promise<void> {
    await this.#draining
    await Promise.allSettled(this.#reads)
    await this.#db.close()
    if (this.#failure !== undefined) return
    // Best effort: without a seal the next start takes this for a crash.
    await sealLogs(this.#path).then(() => forgetOpenings(this.#path)).catch(() => undefined)
  }

  async #drain(): Promise<void> {
    for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
      next.onDone(await this.#commit(next))
    }
    this.#draining = undefined
  }

  async #commit(write: PendingWrite): Promise<HoldfastError | undefined> {
    if (write.refusal !== undefined) return write.refusal
    if (this.#failure !== undefined) {
      return new HoldfastError('STORE_FAILED', `${this.#path}: refused after an earlier failure, open it again`,
        { cause: this.#failure })
    }
    try {
      // An array batch: it costs 0.4 µs an operation more than a chained one, which keeps its native memory until the
      // next garbage collection (119 MiB against 24 after 160 MiB of writes).
      await this.#db.batch(write.ops as WriteOp[], { sync: true })
      return undefined
    } catch (error) {
      return this.#failure = storeError(this.#path, 'write', error)
    }
  }

  async #read<T>(what: string, task: () => Promise<T>): Promise<T> {
    if (this.#closing !== undefined) throw this.#closedError()
    const reading = task()
    this.#reads.add(reading)
    try {
      return await reading
    } catch (error) {
      throw storeError(this.#path, what, error)
    } finally {
      this.#reads.delete(reading)
    }
  }

  async #page(options: ScanOptions): Promise<StoreEntry[]> {
    const { gte, lt, limit = Infinity, bytesMax = scanBytesMaxDefault, reverse = false, values = true } = options
    const page: StoreEntry[] = []
    if (limit <= 0) return page
    // The native side stops after the entry that brings it *above* the mark, a page at the one that reaches bytesMax.
    const highWaterMarkBytes = Math.min(Math.max(bytesMax - 1, 0), 0xffff_ffff)
    const iterator = this.#db.iterator({ gte, lt, reverse, values, highWaterMarkBytes })
    try {
      let bytes = 0
      do {
        const entries = await iterator.nextv(Math.min(entriesPerFetch, limit - page.length))
        if (entries.length === 0) break
        for (const [key, value] of entries) {
          const entry = { key: key as Buffer, value: values ? value as Buffer : noValue }
          page.push(entry)
          bytes += entry.key.length + entry.value.length
          if (bytes >= bytesMax) break
        }
      } while (page.length < limit && bytes < bytesMax)
      return page
    } finally {
      await iterator.close()
    }
  }

  #closedError(): HoldfastError {
    return new HoldfastError('STORE_CLOSED', `${this.#path}: used after close`)
  }
}

export interface LevelStoreOpenerOptions extends LevelStoreOptions {
  /** Where unreadable stores go; on the same file system as `path`. Made when needed. */
  readonly quarantineDir: string
}

/** A quarantined store from which nothing has taken over yet bears this behind its name. */
const unfinished = '.unfinished'

/**
 * Opens the LevelStore at `path`. `rebuild` renames it to `<quarantineDir>/<wall time in ms>-<n>.unfinished`, fills
 * `<path>.new`, renames that to `path`, which is the moment from which it counts, and then takes `.unfinished` away: each
 * name says what is done, and each step is fsynced before the next. A file `SUSPECT` in the store's folder is the mark.
 * LevelDB aborts the process on some damage: the next opening then finds it by itself (level-seal.ts, `noteOpening`).
 */
export function levelStoreOpener(
  options: LevelStoreOpenerOptions,
  components: { readonly log: Log; readonly clock: Clock }
): StoreOpener {
  const { path, quarantineDir } = options
  const { log, clock } = components
  const parts = `${path}.new`
  /** What this process survived needs no note. */
  let noted = false

  /** The place of a store that was set aside and not taken over from, without its suffix; undefined where `path` is whole. */
  async function unfinishedPlace(): Promise<string | undefined> {
    const places = (await namesIn(quarantineDir)).filter(name => name.endsWith(unfinished)).toSorted()
      .map(name => join(quarantineDir, name.slice(0, -unfinished.length)))
    if (places.length === 0 || !await isThere(path)) return places.at(-1)
    for (const place of places) await rename(place + unfinished, place)
    await syncFolder(quarantineDir)
    return undefined
  }

  async function setAside(): Promise<string> {
    await mkdir(quarantineDir, { recursive: true })
    const place = await reservePlace(quarantineDir, Math.trunc(clock.wallMs()))
    try {
      await rename(path, place + unfinished)
    } catch (error) {
      await rmdir(place)
      throw error
    }
    for (const folder of new Set([quarantineDir, dirname(quarantineDir), dirname(path)])) await syncFolder(folder)
    log.warn('store quarantined', { path, place })
    return place
  }

  /** Throws away what an earlier process left; rejects with `STORE_LOCKED` where another one is at it. */
  async function discardParts(): Promise<void> {
    if (!await isThere(parts)) return
    try {
      await (await LevelStore.open({ ...options, path: parts })).close()
    } catch (error) {
      if (hasCode(error, 'STORE_LOCKED')) throw error
    }
    await rm(parts, { recursive: true })
  }

  async function fillParts(place: string, fill: FillStore): Promise<void> {
    await discardParts()
    const store = await LevelStore.open({ ...options, path: parts })
    try {
      await fill(salvageStore(place + unfinished, log), store)
    } finally {
      await store.close()
    }
    await markSuspect(parts)
  }

  async function refuseDamagedTables(): Promise<void> {
    log.warn('the last processes that had the store open did not close it: its tables are verified', { path })
    const damage = await whileLocked(path, () => damagedTableBlocks(path))
    if (damage === undefined) log.warn('they cannot be: the file system has no hard links', { path })
    if (damage === undefined || damage.length === 0) return
    const others = damage.length > 1 ? ` and ${damage.length - 1} other parts are damaged` : ''
    throw new HoldfastError('STORE_CORRUPT', `${path}: open: ${damage[0]}${others}`)
  }

  return {
    async open() {
      const place = await mapped(path, 'open', unfinishedPlace)
      if (place !== undefined) {
        throw new HoldfastError('STORE_CORRUPT', `${path}: open: what can be read of ${place} has not been taken over yet`)
      }
      if (!noted) {
        noted = true
        if (await noteOpening(path)) await refuseDamagedTables()
      }
      return await LevelStore.open(options)
    },
    suspect: () => mapped(path, 'check', async () => {
      const damage = [...await damagedLogRecords(path), ...await brokenSeals(path)]
      if (damage.length > 0) {
        log.error('records of the store are damaged and will be missing', { path, damage: damage.slice(0, damagesNamed) })
        // Opening takes the traces of the damage away.
        await markSuspect(path)
      }
      return damage.length > 0 || await isMarkedSuspect(path)
    }),
    trust: () => mapped(path, 'check', async () => {
      await noteOpened(path)
      await removeSuspectMark(path)
    }),
    rebuild: fill => mapped(path, 'rebuild', async () => {
      const place = await unfinishedPlace() ?? await setAside()
      await fillParts(place, fill)
      await rename(parts, path)
      await syncFolder(dirname(path))
      // A folder may be renamed onto an empty one: the name was reserved by it.
      await rename(place + unfinished, place)
      await syncFolder(quarantineDir)
      return place
    })
  }
}

/** Every entry that can still be read out of a LevelDB folder that is closed; verifies LevelDB's own checksums. Only reads. */
export async function* salvageStore(place: string, log: Log): AsyncGenerator<StoreEntry> {
  const damage: string[] = []
  let damages = 0
  try {
    yield* salvageLevelFiles(place, what => { if (++damages <= damagesNamed) damage.push(what) })
  } catch (error) {
    throw storeError(place, 'salvage', error)
  } finally {
    if (damages > 0) log.warn('salvage left out damaged parts', { place, damages, damage })
  }
}

/** What `link` fails with where there are none: EPERM by POSIX, the others by some kernels and file systems. */
const noLinks: ReadonlySet<unknown> = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS'])

/**
 * Runs a task while no process has the LevelDB in `path` open, without opening it: LevelDB locks the file LOCK, and here an
 * empty database has the same file, under a second name. Rejects with `STORE_LOCKED`; undefined, and nothing was run, where
 * the file system has no hard links.
 */
async function whileLocked<T>(path: string, task: () => Promise<T>): Promise<T | undefined> {
  const holder = `${path}.lock`
  await rm(holder, { recursive: true, force: true })
  await mkdir(holder)
  let db: Level | undefined
  try {
    // A copy of a folder may be without one, as is one whose making was cut short; LevelDB makes it then.
    await (await openFile(join(path, 'LOCK'), 'a')).close()
    try {
      await link(join(path, 'LOCK'), join(holder, 'LOCK'))
    } catch (error) {
      if (noLinks.has(systemCode(error))) return undefined
      throw error
    }
    // Begins to open at once.
    db = new Level(holder)
    await db.open()
    return await task()
  } catch (error) {
    throw storeError(path, 'open', error)
  } finally {
    await db?.close()
    await rm(holder, { recursive: true, force: true })
  }
}

async function mapped<T>(path: string, what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw storeError(path, what, error)
  }
}

async function isThere(path: string): Promise<boolean> {
  return await stat(path).then(() => true, (error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return false
    throw error
  })
}

/** Of the damaged parts met in a salvage, so many are named in the log. */
const damagesNamed = 20

async function reservePlace(quarantineDir: string, wallMs: number): Promise<string> {
  for (let n = 0; ; n++) {
    const place = join(quarantineDir, `${wallMs}-${n}`)
    try {
      await mkdir(place)
      return place
    } catch (error) {
      if (systemCode(error) !== 'EEXIST') throw error
    }
  }
}

/**
 * Without CURRENT, LevelDB makes a new database in the same folder and deletes the tables of the old one. A crash
 * while a database is made leaves neither tables nor logs, and may be made again.
 */
async function refuseHeadlessFiles(path: string): Promise<void> {
  let names: string[]
  try {
    names = await readdir(path)
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return
    throw storeError(path, 'open', error)
  }
  if (!names.includes('CURRENT') && names.some(name => /^\d+\.(ldb|sst|log)$/.test(name))) {
    throw new HoldfastError('STORE_CORRUPT', `${path}: open: the file CURRENT is missing beside tables and logs`)
  }
}

/**
 * After an open that failed, and not for want of the lock: true where CURRENT leads to no manifest, which LevelDB calls
 * an I/O error, but no retry brings back.
 */
async function leadsNowhere(path: string): Promise<boolean> {
  try {
    const current = await readFile(join(path, 'CURRENT'), 'latin1')
    return !/^MANIFEST-\d+\n$/.test(current) || !(await readdir(path)).includes(current.trimEnd())
  } catch {
    return false
  }
}

function systemCode(error: unknown): unknown { return (error as { code?: unknown }).code }

/** Maps an error of `level` or of the system. The innermost cause carries LevelDB's own sentence. */
function storeError(path: string, what: string, error: unknown): HoldfastError<StoreErrorCode> {
  if (error instanceof HoldfastError) return error as HoldfastError<StoreErrorCode>
  let cause = error
  while (cause instanceof Error && cause.cause instanceof Error) cause = cause.cause
  const code = codeOf(systemCode(cause), describeError(cause))
  const text = `${path}: ${what}: ${describeError(cause)}${remedies[code] ?? ''}`
  // The text of the cause is in the message already.
  return new HoldfastError(code, text)
}

const remedies: Partial<Record<StoreErrorCode, string>> = {
  STORE_LOCKED: ': another process has it open: stop that one, or set a data directory of its own for this one',
  STORE_INACCESSIBLE: ': give the files to the user that this runs as, mount the disk writable, or raise the limit of open files'
}

/** What says nothing about the content of the files, in the words of LevelDB (strerror) and of Node. */
const inaccessible = new RegExp('Permission denied|Operation not permitted|Read-only file system|Too many open files'
  + '|\\b(EACCES|EPERM|EROFS|EMFILE|ENFILE)\\b')

function codeOf(levelCode: unknown, message: string): StoreErrorCode {
  if (levelCode === 'LEVEL_LOCKED') return 'STORE_LOCKED'
  if (levelCode === 'LEVEL_CORRUPTION') return 'STORE_CORRUPT'
  if (inaccessible.test(message)) return 'STORE_INACCESSIBLE'
  // A table that is not there, or a table shorter than a footer or than its index says. LevelDB calls it an
  // I/O error, but no retry brings it back.
  if (levelCode === 'LEVEL_IO_ERROR' && /\d+\.(ldb|sst): (No such file|Invalid argument)/.test(message)) {
    return 'STORE_CORRUPT'
  }
  return 'STORE_FAILED'
}
