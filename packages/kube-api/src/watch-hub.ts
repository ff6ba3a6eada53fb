import type { Clock, Timer } from '@holdfast/runtime'
import { OwnEvent } from './object-store-history.ts'
import type { Change, History } from './object-store-history.ts'
import { parseResourceVersion, tooLargeResourceVersion, validateWatchOptions } from './object-store-options.ts'
import type {
  ChangeEvent, Selection, StoredObject, Watch, WatchEnd, WatchEvent, WatchListener, WatchOptions
} from './object-store-types.ts'
import { StatusError } from './status-error.ts'

/** A watch that allows bookmarks gets one so often … */
const bookmarkIntervalMs = 60_000
/** … and one so long before its time is over. */
const bookmarkBeforeTimeoutMs = 2000
/** What an event costs its reader beside the JSON. */
const eventBytes = 64
/** Telling one watch takes the event loop about so long, whether of one change or of ten. */
const wakeMsPerWatch = 0.05
/** Rests that are shorter are none. */
const restMsMin = 1
/** So many changes, or `batchBytesMax` of them, are told without waiting for more. */
const changesUntold = 64

export interface WatchHubOptions {
  readonly watchesMax: number
  readonly batchBytesMax: number
}

/** What watches see of the store. */
export interface WatchedStore {
  /** The newest change that is visible. */
  revision(): number
  readonly history: History
  /** What is there now, in the order of paths. */
  selected(selection: Selection): StoredObject[]
}

/**
 * All watches of a store. Each is a place in the history that they share, so that a watch costs no memory of its own
 * however far its reader is behind; where the history has to forget what it has not read, it ends with `overflow`.
 */
export class WatchHub {
  readonly #options: WatchHubOptions
  readonly #store: WatchedStore
  readonly #clock: Clock
  readonly #audiences = new Map<string, Audience>()
  #count = 0

  constructor(options: WatchHubOptions, components: { readonly store: WatchedStore, readonly clock: Clock }) {
    this.#options = options
    this.#store = components.store
    this.#clock = components.clock
  }

  get count(): number { return this.#count }

  /** `ObjectSource.watch`. */
  watch(selection: Selection, options: WatchOptions, listener: WatchListener | undefined): Watch {
    validateWatchOptions(options)
    const wanted = parseResourceVersion(options.resourceVersion)
    const { history } = this.#store
    const revision = this.#store.revision()
    const initial = options.sendInitialEvents ?? wanted === 0
    if (initial && wanted > revision) throw tooLargeResourceVersion(options.resourceVersion!, revision)
    const floor = history.floor(selection.resource)
    if (!initial && wanted !== 0 && wanted < floor) {
      throw new StatusError(410, 'Expired', `too old resource version: ${wanted} (${floor})`)
    }
    if (this.#count >= this.#options.watchesMax) {
      throw new StatusError(429, 'TooManyRequests', `there are ${this.#count} watches already, please try again later`,
        { retryAfterSeconds: 1 })
    }
    const watch = new HistoryWatch({
      selection,
      // A revision that is not there yet is waited for.
      after: initial || wanted === 0 ? revision : wanted,
      initial: initial ? this.#store.selected(selection) : [],
      initialEventsEnd: initial && options.allowWatchBookmarks === true,
      bookmarks: options.allowWatchBookmarks === true,
      timeoutMs: options.timeoutMs,
      batchBytesMax: this.#options.batchBytesMax
    }, {
      store: this.#store,
      clock: this.#clock,
      onEnd: end => {
        if (this.#audiences.get(selection.resource)?.leave(watch) === true) this.#count--
        listener?.ended(end)
      }
    })
    let audience = this.#audiences.get(selection.resource)
    if (audience === undefined) {
      audience = new Audience(selection.resource, this.#options.batchBytesMax, { store: this.#store, clock: this.#clock })
      this.#audiences.set(selection.resource, audience)
    }
    audience.join(watch)
    this.#count++
    return watch
  }

  /** The history has new changes of these resources; what it has forgotten for them ends the watches that lack it. */
  wake(resources: Iterable<string>): void {
    this.#endOverflown()
    for (const resource of resources) this.#audiences.get(resource)?.tell()
  }

  /** The past is about to be forgotten: watches whose readers are waiting have seen all of it. */
  forget(forget: () => void): void {
    this.#endOverflown()
    for (const audience of this.#audiences.values()) audience.tellNow()
    forget()
    this.#endOverflown()
  }

  /** Ends all watches; of one resource, or of all. */
  endAll(end: WatchEnd, resource?: string): void {
    for (const [name, { watches }] of this.#audiences) {
      if (resource === undefined || name === resource) for (const watch of watches) watch.finish(end)
    }
  }

  /** Where the history has forgotten what a reader has not taken yet, its watch ends. */
  #endOverflown(): void {
    for (const [resource, { watches }] of this.#audiences) {
      const floor = this.#store.history.floor(resource)
      for (const watch of watches) if (watch.position < floor) watch.finish('overflow')
    }
  }
}

/**
 * The watches of one resource. They are told of a change at once, and then rest as a whole for as long as telling them takes:
 * what happens meanwhile comes in one piece, so that however many there are, and however much happens, about half of
 * the time is left for everything else. A few watches never rest.
 */
class Audience {
  readonly watches = new Set<HistoryWatch>()
  readonly #resource: string
  readonly #untoldBytesMax: number
  readonly #components: { readonly store: WatchedStore, readonly clock: Clock }
  /** They rest. */
  #rest: Timer | undefined
  /** Changes up to this revision have been told. */
  #toldRevision = 0

  constructor(resource: string, untoldBytesMax: number, components: { readonly store: WatchedStore, readonly clock: Clock }) {
    this.#resource = resource
    this.#untoldBytesMax = untoldBytesMax
    this.#components = components
  }

  join(watch: HistoryWatch): void { this.watches.add(watch) }

  leave(watch: HistoryWatch): boolean {
    const was = this.watches.delete(watch)
    if (this.watches.size === 0) this.#endRest()
    return was
  }

  /** There are new changes. */
  tell(): void {
    if (this.#rest === undefined || this.#isMuchUntold()) this.tellNow()
  }

  tellNow(): void {
    this.#endRest()
    this.#toldRevision = this.#components.store.revision()
    for (const watch of this.watches) watch.wake()
    const restMs = this.watches.size * wakeMsPerWatch
    if (restMs < restMsMin) return
    this.#rest = this.#components.clock.after(restMs, () => {
      this.#rest = undefined
      if (this.#isAnyUntold()) this.tellNow()
    })
  }

  #isAnyUntold(): boolean {
    const { changes, from } = this.#components.store.history.after(this.#resource, this.#toldRevision)
    return from < changes.length
  }

  #isMuchUntold(): boolean {
    const { changes, from } = this.#components.store.history.after(this.#resource, this.#toldRevision)
    if (changes.length - from >= changesUntold) return true
    let bytes = 0
    for (let i = from; i < changes.length; i++) bytes += (changes[i]!.current ?? changes[i]!.previous)!.json.length
    return bytes >= this.#untoldBytesMax
  }

  #endRest(): void {
    this.#rest?.cancel()
    this.#rest = undefined
  }
}

interface HistoryWatchOptions {
  readonly selection: Selection
  /** The first change that is sent has a revision above. */
  readonly after: number
  readonly initial: readonly StoredObject[]
  readonly initialEventsEnd: boolean
  readonly bookmarks: boolean
  readonly timeoutMs: number | undefined
  readonly batchBytesMax: number
}

interface HistoryWatchComponents {
  readonly store: WatchedStore
  readonly clock: Clock
  readonly onEnd: (end: WatchEnd) => void
}

const done: IteratorResult<readonly WatchEvent[], undefined> = { done: true, value: undefined }

class HistoryWatch implements Watch {
  readonly #selection: Selection
  readonly #batchBytesMax: number
  readonly #components: HistoryWatchComponents
  /** What existed at the start; read up to `#initialRead`. */
  #initial: readonly StoredObject[]
  #initialRead = 0
  #initialEventsEnd: boolean
  #bookmarkDue = false
  #position: number
  #end: WatchEnd | undefined
  #reader: ((result: IteratorResult<readonly WatchEvent[], undefined>) => void) | undefined
  #bookmarkTimer: Timer | undefined
  #timeoutTimer: Timer | undefined

  constructor(options: HistoryWatchOptions, components: HistoryWatchComponents) {
    this.#selection = options.selection
    this.#batchBytesMax = options.batchBytesMax
    this.#components = components
    this.#initial = options.initial
    this.#initialEventsEnd = options.initialEventsEnd
    this.#position = options.after
    const { timeoutMs } = options
    if (timeoutMs !== undefined) {
      this.#timeoutTimer = components.clock.after(timeoutMs, () => { this.finish('timeout') })
    }
    if (options.bookmarks) this.#armBookmark(timeoutMs ?? Infinity)
  }

  get end(): WatchEnd | undefined { return this.#end }

  /** Everything up to this revision has been looked at. */
  get position(): number { return this.#position }

  close(): void { this.finish('closed') }

  [Symbol.asyncIterator](): AsyncIterator<readonly WatchEvent[], undefined> {
    return {
      next: () => new Promise(resolve => {
        if (this.#end !== undefined) { resolve(done); return }
        const batch = this.#take()
        if (batch.length > 0) resolve({ done: false, value: batch })
        else this.#reader = resolve
      }),
      return: async () => {
        this.close()
        return done
      }
    }
  }

  wake(): void {
    if (this.#reader === undefined) return
    const batch = this.#take()
    if (batch.length > 0) this.#answer({ done: false, value: batch })
  }

  finish(end: WatchEnd): void {
    if (this.#end !== undefined) return
    this.#end = end
    this.#bookmarkTimer?.cancel()
    this.#timeoutTimer?.cancel()
    this.#initial = []
    this.#answer(done)
    this.#components.onEnd(end)
  }

  #answer(result: IteratorResult<readonly WatchEvent[], undefined>): void {
    const reader = this.#reader
    this.#reader = undefined
    reader?.(result)
  }

  /** The next events, up to about `batchBytesMax`. */
  #take(): WatchEvent[] {
    const batch: WatchEvent[] = []
    let room = this.#batchBytesMax
    while (this.#initialRead < this.#initial.length && room > 0) {
      const stored = this.#initial[this.#initialRead++]!
      batch.push(new OwnEvent('ADDED', stored.revision, stored))
      room -= stored.json.length + eventBytes
    }
    if (this.#initialRead < this.#initial.length) return batch
    this.#initial = []
    if (this.#initialEventsEnd) {
      this.#initialEventsEnd = false
      batch.push({ kind: 'bookmark', revision: this.#position, initialEventsEnd: true })
    }
    const { store } = this.#components
    const { changes, from } = store.history.after(this.#selection.resource, this.#position)
    let i = from
    for (; i < changes.length && room > 0; i++) {
      const change = changes[i]!
      this.#position = change.revision
      const event = this.#eventOf(change)
      if (event === undefined) continue
      batch.push(event)
      room -= event.stored.json.length + eventBytes
    }
    if (i < changes.length) return batch
    const revision = store.revision()
    this.#position = Math.max(this.#position, revision)
    if (this.#bookmarkDue) {
      this.#bookmarkDue = false
      // One that waits for a revision to come has nothing to mark.
      if (this.#position === revision) batch.push({ kind: 'bookmark', revision, initialEventsEnd: false })
    }
    return batch
  }

  #eventOf(change: Change): ChangeEvent | undefined {
    const { namespace, matches } = this.#selection
    if (namespace !== undefined && namespace !== change.namespace) return undefined
    const { current, previous } = change
    const is = current !== undefined && (matches === undefined || matches(current))
    const was = previous !== undefined && (matches === undefined || matches(previous))
    if (is) return change.event(was ? 'MODIFIED' : 'ADDED')
    return was ? change.event('DELETED') : undefined
  }

  /** `leftMs`: until the timeout. */
  #armBookmark(leftMs: number): void {
    const delayMs = Math.min(bookmarkIntervalMs, leftMs - bookmarkBeforeTimeoutMs)
    if (delayMs <= 0) return
    this.#bookmarkTimer = this.#components.clock.after(delayMs, () => {
      this.#bookmarkDue = true
      this.#armBookmark(leftMs - delayMs)
      this.wake()
    })
  }
}
