import { HoldfastError, describeError, invariant } from '@holdfast/runtime'
import type { Clock, Log } from '@holdfast/runtime'
import type { CommitPart, Committer, Store, WriteOp } from '@holdfast/store'
import { decodeContinue, encodeContinue } from './continue-token.ts'
import { kubeApiLimits } from './limits.ts'
import type { KubeObject } from './object.ts'
import { collectionOf, namespaceRange, ObjectCollection } from './object-store-collection.ts'
import { equalJson } from './object-store-equality.ts'
import { History } from './object-store-history.ts'
import { compareUtf8, diskKey, encodeObject, encodeRevision, pathOf, revisionKey } from './object-store-keys.ts'
import { loadObjects } from './object-store-load.ts'
import type { LoadedObjects } from './object-store-load.ts'
import { parseResourceVersion, tooLargeResourceVersion, validateListOptions } from './object-store-options.ts'
import type {
  ListOptions, ObjectChange, ObjectKey, ObjectList, ObjectWriter, Selection, StoredObject, Watch, WatchListener, WatchOptions,
  WriteDecision, WriteResult
} from './object-store-types.ts'
import { StatusError } from './status-error.ts'
import { WatchHub } from './watch-hub.ts'

/** Bounds that a smaller machine may set lower; the defaults are those of `kubeApiLimits`. */
export interface ObjectStoreOptions {
  /** The newest entries of the store may have been lost without a trace: revisions go on far above. Default false. */
  readonly suspect?: boolean
  readonly objectsMax?: number
  readonly storeBytesMax?: number
  readonly historyEventsMax?: number
  readonly historyBytesMax?: number
  readonly watchesMax?: number
}

export interface ObjectStoreComponents {
  readonly committer: Committer
  readonly clock: Clock
  readonly log: Log
}

/** What one write has changed, on its way to the disk. */
interface PendingChange {
  readonly id: string
  readonly key: ObjectKey
  readonly diskKey: Buffer
  readonly revision: number
  readonly current: StoredObject | undefined
  readonly previous: StoredObject | undefined
  /** Undefined: a deletion. */
  readonly diskValue: Buffer | undefined
  readonly batch: ChangeBatch
}

/**
 * Objects of all resources, in memory and on the disk.
 *
 * The revision counts changes, one by one, and never goes back over restarts: the largest one is that of an object, or is
 * kept beside them when a deletion used it. Nothing is visible before it is durable (L1); what is visible is always the
 * state after some revision, whole. `reopen` belongs into the hook that follows a failed write (store: Database).
 */
export class ObjectStore implements ObjectWriter {
  readonly #components: ObjectStoreComponents
  readonly #objectsMax: number
  readonly #storeBytesMax: number
  readonly #history: History
  readonly #hub: WatchHub
  readonly #listeners = new Set<(change: ObjectChange) => void>()
  #collections: Map<string, ObjectCollection>
  /** The newest change that is visible. */
  #revision: number
  /** The newest revision that was given to a change. */
  #assigned: number
  /** Newest changes that are not durable yet, by resource and path. */
  readonly #pending = new Map<string, PendingChange>()
  readonly #batches = new Set<ChangeBatch>()
  /** Objects and their JSON, with what is on its way. */
  #objects: number
  #bytes: number
  #growthRefusal: StatusError | undefined
  /** A commit of ours failed: what is on the disk is known again after `reopen`. */
  #failed = false
  #closed = false

  private constructor(options: ObjectStoreOptions, components: ObjectStoreComponents, loaded: LoadedObjects) {
    this.#components = components
    this.#objectsMax = options.objectsMax ?? kubeApiLimits.objects.value
    this.#storeBytesMax = options.storeBytesMax ?? kubeApiLimits.storeBytes.value
    this.#collections = loaded.collections
    this.#revision = loaded.revision
    this.#assigned = loaded.revision
    this.#objects = loaded.objects
    this.#bytes = loaded.bytes
    this.#history = new History({
      eventsMax: options.historyEventsMax ?? kubeApiLimits.historyEvents.value,
      bytesMax: options.historyBytesMax ?? kubeApiLimits.historyBytes.value
    }, loaded.revision)
    const watched = {
      history: this.#history,
      revision: () => this.#revision,
      selected: (selection: Selection) => this.#selected(selection)
    }
    this.#hub = new WatchHub({
      watchesMax: options.watchesMax ?? kubeApiLimits.watches.value,
      batchBytesMax: kubeApiLimits.watchBatchBytes.value
    }, { store: watched, clock: components.clock })
  }

  /** Reads what is stored. Rejects with HoldfastError `OBJECT_FORMAT_NEWER` or what the store says. */
  static async open(options: ObjectStoreOptions, store: Store, components: ObjectStoreComponents): Promise<ObjectStore> {
    return new ObjectStore(options, components, await loadObjects(store, options.suspect ?? false, 0, components.log))
  }

  get revision(): number { return this.#revision }

  /** Objects of all resources and bytes of their JSON, those on their way included; and the watches. */
  get stats(): { readonly objects: number, readonly bytes: number, readonly watches: number, readonly historyEvents: number,
    readonly historyBytes: number } {
    return {
      objects: this.#objects, bytes: this.#bytes, watches: this.#hub.count,
      historyEvents: this.#history.events, historyBytes: this.#history.bytes
    }
  }

  // ── reading ────────────────────────────────────────────────────────────────────────────────────────────────────────

  get(key: ObjectKey, resourceVersion?: string): StoredObject | undefined {
    const wanted = parseResourceVersion(resourceVersion)
    if (wanted > this.#revision) throw tooLargeResourceVersion(resourceVersion!, this.#revision)
    return this.#collections.get(key.resource)?.get(pathOf(key))
  }

  list(selection: Selection, options: ListOptions): ObjectList {
    const { resource, namespace, matches } = selection
    validateListOptions(options)
    const range = namespaceRange(namespace)
    const { revision, from, limit } = this.#place(resource, namespace, options)
    if (limit === undefined && revision === this.#revision) {
      const all = this.#collections.get(resource)?.range(from ?? range.from, range.to) ?? []
      return { revision, items: matches === undefined ? all : all.filter(matches), continue: '', remainingItemCount: undefined }
    }
    const { count, entries } = this.#at(resource, revision, from ?? range.from, range.to)
    const items: StoredObject[] = []
    let read = 0
    let last = ''
    for (const [path, stored] of entries) {
      if (matches === undefined || matches(stored)) items.push(stored)
      read++
      last = path
      if (items.length === limit) break
    }
    if (read === count) return { revision, items, continue: '', remainingItemCount: undefined }
    // What follows the last key that was read: its text and a NUL, relative to what is listed.
    const start = `${namespace === undefined ? last : last.slice(range.from.length)}\0`
    return {
      revision, items,
      continue: encodeContinue({ revision, start }),
      remainingItemCount: matches === undefined ? count - read : undefined
    }
  }

  watch(selection: Selection, options: WatchOptions, listener?: WatchListener): Watch {
    if (this.#closed) throw closedError()
    return this.#hub.watch(selection, options, listener)
  }

  latest(key: ObjectKey): StoredObject | undefined {
    const pending = this.#pending.get(idOf(key))
    return pending === undefined ? this.#collections.get(key.resource)?.get(pathOf(key)) : pending.current
  }

  /** Everything that is visible, resource by resource in no order, each in the order of paths. */
  * all(): Generator<StoredObject> {
    for (const collection of this.#collections.values()) yield* collection.range('', undefined)
  }

  /** Everything visible in one namespace, in the same order. */
  * inNamespace(namespace: string): Generator<StoredObject> {
    const { from, to } = namespaceRange(namespace)
    for (const collection of this.#collections.values()) yield* collection.range(from, to)
  }

  /** `listener` is told of every change once it is visible, in the order of revisions. Returns how to stop it. */
  subscribe(listener: (change: ObjectChange) => void): () => void {
    this.#listeners.add(listener)
    return () => { this.#listeners.delete(listener) }
  }

  /**
   * Forgets the past: of one resource or of all. Lists and watches of older revisions are 410 from now on; watches that
   * keep up go on.
   */
  forgetHistory(resource?: string): void {
    this.#hub.forget(() => { this.#history.forget(this.#revision, resource) })
  }

  /** Ends the watches of one resource: what it is shown as has changed, and their clients begin again. */
  endWatches(resource: string): void { this.#hub.endAll('closed', resource) }

  /** Which state a list shows, from which path on, and how much of it. */
  #place(resource: string, namespace: string | undefined, options: ListOptions):
  { readonly revision: number, readonly from: string | undefined, readonly limit: number | undefined } {
    const { limit: asked = 0, resourceVersion = '', resourceVersionMatch: match = '' } = options
    const limit = asked > 0 ? Math.min(asked, kubeApiLimits.listPage.value) : undefined
    const current = this.#revision
    const token = options.continue ?? ''
    if (token !== '') {
      if (resourceVersion !== '' && resourceVersion !== '0') {
        throw new StatusError(400, 'BadRequest', 'specifying resource version is not allowed when using continue')
      }
      const { revision, start } = decodeContinue(token)
      const relative = namespace === undefined ? start : start.replace(/^\//, '')
      const from = namespace === undefined ? relative : `${namespace}/${relative}`
      if (revision === -1) return { revision: current, from, limit }
      if (revision > current) throw futureRevision()
      if (revision < this.#history.floor(resource)) throw continueExpired(relative)
      return { revision, from, limit }
    }
    const wanted = parseResourceVersion(resourceVersion)
    // Whatever is at hand: the real server answers from its cache then, which does not make pages.
    if (resourceVersion === '0') return { revision: current, from: undefined, limit: undefined }
    if (wanted === 0) return { revision: current, from: undefined, limit }
    if (match === 'Exact' || (match === '' && limit !== undefined)) {
      if (wanted > current) throw futureRevision()
      if (wanted < this.#history.floor(resource)) {
        throw new StatusError(410, 'Expired', 'The resourceVersion for the provided list is too old.')
      }
      return { revision: wanted, from: undefined, limit }
    }
    if (wanted > current) throw tooLargeResourceVersion(resourceVersion, current)
    return { revision: current, from: undefined, limit }
  }

  /** Objects as they were at a revision that the history reaches, in the order of paths; and how many. */
  #at(resource: string, revision: number, from: string, to: string | undefined): Stretch {
    const now = this.#collections.get(resource) ?? new ObjectCollection()
    const stretch = { count: now.count(from, to), entries: now.entries(from, to) }
    const { changes, from: firstLater } = this.#history.after(resource, revision)
    // The first change after that revision says what was there before it.
    const then = new Map<string, StoredObject | undefined>()
    for (let i = firstLater; i < changes.length; i++) {
      const change = changes[i]!
      const path = pathOf(change)
      const inRange = compareUtf8(path, from) >= 0 && (to === undefined || compareUtf8(path, to) < 0)
      if (inRange && !then.has(path)) then.set(path, change.previous)
    }
    if (then.size === 0) return stretch
    let { count } = stretch
    for (const [path, stored] of then) count += (stored === undefined ? 0 : 1) - (now.get(path) === undefined ? 0 : 1)
    return { count, entries: asBefore(stretch.entries, then) }
  }

  #selected({ resource, namespace, matches }: Selection): StoredObject[] {
    const { from, to } = namespaceRange(namespace)
    const all = this.#collections.get(resource)?.range(from, to) ?? []
    return matches === undefined ? all : all.filter(matches)
  }

  // ── writing ────────────────────────────────────────────────────────────────────────────────────────────────────────

  write(key: ObjectKey, decide: (current: StoredObject | undefined) => WriteDecision): Promise<WriteResult> {
    return new Promise((resolve, reject) => {
      const { committer } = this.#components
      if (this.#closed) throw closedError()
      if (this.#failed || committer.failure !== undefined) throw failedError(committer.failure)
      const current = this.latest(key)
      const basis = this.#pending.get(idOf(key))?.batch
      let decision: WriteDecision
      let change: PendingChange | undefined
      try {
        decision = decide(current)
        change = this.#change(key, current, decision)
      } catch (error) {
        // A refusal that rests on what is not durable waits for it, and fails with it.
        const refusal = error instanceof Error ? error : new Error(String(error))
        settleAfter(basis, () => { reject(refusal) }, reject)
        return
      }
      if (change === undefined) settleAfter(basis, () => { resolve({ kind: 'none', stored: current }) }, reject)
      else settleAfter(change.batch, () => { resolve(resultOf(change)) }, reject)
    })
  }

  /**
   * New objects, and changes that make one larger, are refused with this until it is taken back with `undefined`; what makes
   * room goes on. For a disk that is nearly full.
   */
  refuseGrowth(refusal: StatusError | undefined): void { this.#growthRefusal = refusal }

  /** Puts what was decided on its way; undefined where it changes nothing. Throws StatusError at a bound. */
  #change(key: ObjectKey, previous: StoredObject | undefined, decision: WriteDecision): PendingChange | undefined {
    switch (decision.kind) {
      case 'none': return undefined
      case 'delete': {
        if (previous === undefined) return undefined
        const revision = ++this.#assigned
        this.#objects--
        this.#bytes -= previous.json.length
        return this.#gather({ key, diskKey: diskKey(key), revision, current: undefined, previous, diskValue: undefined })
      }
      case 'put': {
        if (previous !== undefined && equalJson(content(decision.object), content(previous.object))) return undefined
        const revision = this.#assigned + 1
        const { object, shownBy } = decision
        const place = diskKey(key)
        const stamped = { ...object, metadata: { ...object.metadata, resourceVersion: String(revision) } }
        const [diskValue, stored] = encodeObject(key, place, revision, stamped, shownBy)
        this.#refuseAtBound(key, stored, previous)
        this.#assigned = revision
        this.#objects += previous === undefined ? 1 : 0
        this.#bytes += stored.json.length - (previous?.json.length ?? 0)
        return this.#gather({ key, diskKey: place, revision, current: stored, previous, diskValue })
      }
    }
  }

  #refuseAtBound({ resource, name }: ObjectKey, next: StoredObject, previous: StoredObject | undefined): void {
    const bytesMax = kubeApiLimits.objectBytes.value
    if (next.json.length > bytesMax) {
      throw new StatusError(413, 'RequestEntityTooLarge',
        `Request entity too large: ${resource} "${name}" has ${next.json.length} bytes as JSON, the limit is ${bytesMax}`)
    }
    const grown = next.json.length - (previous?.json.length ?? 0)
    if (grown > 0 && this.#growthRefusal !== undefined) throw this.#growthRefusal
    const bound = previous === undefined && this.#objects >= this.#objectsMax
      ? `${this.#objectsMax} objects`
      : grown > 0 && this.#bytes + grown > this.#storeBytesMax ? `${this.#storeBytesMax} bytes of objects` : undefined
    if (bound !== undefined) {
      throw new StatusError(403, 'Forbidden', `${resource} "${name}" is forbidden: this server holds at most ${bound}; `
        + 'delete some that are not needed', { name, kind: resource })
    }
  }

  #gather(change: Omit<PendingChange, 'id' | 'batch'>): PendingChange {
    const bytes = change.diskKey.length + (change.diskValue?.length ?? 0)
    const commit = this.#components.committer.gather({ bytes })
    const batch = commit.part(this, () => {
      const part = new ChangeBatch((settled, error) => { this.#settled(settled, error) })
      this.#batches.add(part)
      return part
    })
    const pending: PendingChange = { ...change, id: idOf(change.key), batch }
    batch.changes.push(pending)
    this.#pending.set(pending.id, pending)
    return pending
  }

  #settled(batch: ChangeBatch, error: Error | undefined): void {
    this.#batches.delete(batch)
    for (const change of batch.changes) if (this.#pending.get(change.id) === change) this.#pending.delete(change.id)
    if (error !== undefined || batch.isVoid) {
      this.#failed = true
      batch.settle(failedError(error))
      return
    }
    const resources = new Set<string>()
    const changes = batch.changes.map(({ key, revision, current, previous }) => {
      invariant(revision > this.#revision, 'changes become visible in order', { revision, visible: this.#revision })
      const collection = collectionOf(this.#collections, key.resource)
      if (current === undefined) collection.delete(pathOf(key))
      else collection.put(current)
      this.#revision = revision
      resources.add(key.resource)
      return this.#history.add(revision, current, previous)
    })
    for (const change of changes) for (const listener of this.#listeners) listener(change)
    this.#hub.wake(resources)
    batch.settle(undefined)
  }

  // ── life cycle ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Goes on with a store that was opened anew after a failed write. Where it holds something else than was visible (a
   * write of which nothing was known, or a loss), the past is forgotten and all watches end with `expired`.
   */
  async reopen(store: Store, suspect: boolean): Promise<void> {
    for (const batch of this.#batches) batch.isVoid = true
    const loaded = await loadObjects(store, suspect, this.#assigned, this.#components.log)
    const changes = differences(this.#collections, loaded.collections)
    this.#collections = loaded.collections
    this.#objects = loaded.objects
    this.#bytes = loaded.bytes
    this.#assigned = loaded.revision
    this.#failed = false
    if (changes.length === 0) return
    this.#components.log.warn('the objects are not those from before the failure; clients list again', { objects: changes.length })
    this.#revision = loaded.revision
    this.#history.forget(loaded.revision)
    for (const { current, previous } of changes) {
      const { resource, namespace, name } = (current ?? previous)!
      const change = { resource, namespace, name, revision: loaded.revision, current, previous }
      for (const listener of this.#listeners) listener(change)
    }
    this.#hub.endAll('expired')
  }

  /** Ends watches and refuses writes; what is on its way is the committer's to finish. */
  close(): void {
    this.#closed = true
    this.#hub.endAll('store-closed')
  }
}

/** The changes that one commit makes durable. */
class ChangeBatch implements CommitPart {
  readonly changes: PendingChange[] = []
  /** Decided from a state that is no longer the one to go on from: nothing of it is written. */
  isVoid = false
  readonly #onSettled: (batch: ChangeBatch, error: Error | undefined) => void
  readonly #waiters: { readonly done: () => void, readonly failed: (error: Error) => void }[] = []

  constructor(onSettled: (batch: ChangeBatch, error: Error | undefined) => void) { this.#onSettled = onSettled }

  onSettled(done: () => void, failed: (error: Error) => void): void { this.#waiters.push({ done, failed }) }

  write(ops: WriteOp[]): void {
    if (this.isVoid) return
    let last = 0
    let deletes = false
    for (const { diskKey: key, diskValue: value, revision } of this.changes) {
      if (value === undefined) {
        ops.push({ type: 'del', key })
        deletes = true
      } else ops.push({ type: 'put', key, value })
      last = revision
    }
    if (deletes) ops.push({ type: 'put', key: revisionKey, value: encodeRevision(last) })
  }

  settled(error?: Error): void { this.#onSettled(this, error) }

  settle(error: Error | undefined): void {
    for (const { done, failed } of this.#waiters) {
      if (error === undefined) done()
      else failed(error)
    }
  }
}

const idOf = (key: ObjectKey): string => `${key.resource}/${pathOf(key)}`

function settleAfter(batch: ChangeBatch | undefined, done: () => void, failed: (error: Error) => void): void {
  if (batch === undefined) done()
  else batch.onSettled(done, failed)
}

function resultOf({ revision, current, previous }: PendingChange): WriteResult {
  return current === undefined ? { kind: 'deleted', revision, previous: previous! } : { kind: 'put', stored: current, previous }
}

/** What an object says but for its resourceVersion. */
function content(object: KubeObject): KubeObject {
  const { resourceVersion: _, ...metadata } = object.metadata
  return { ...object, metadata }
}

/** Objects in the order of their paths, to be read at once; and how many they are. */
interface Stretch {
  readonly count: number
  readonly entries: Iterable<readonly [path: string, stored: StoredObject]>
}

/** `now`, but for the paths in `then`: what these had is in their places. */
function* asBefore(
  now: Stretch['entries'], then: ReadonlyMap<string, StoredObject | undefined>
): Generator<readonly [path: string, stored: StoredObject]> {
  const others = [...then].filter((entry): entry is [string, StoredObject] => entry[1] !== undefined)
    .sort(([a], [b]) => compareUtf8(a, b))
  let i = 0
  for (const entry of now) {
    if (then.has(entry[0])) continue
    while (i < others.length && compareUtf8(others[i]![0], entry[0]) < 0) yield others[i++]!
    yield entry
  }
  yield* others.slice(i)
}

/** What is in one and not, or otherwise, in the other. */
function differences(
  before: ReadonlyMap<string, ObjectCollection>, after: ReadonlyMap<string, ObjectCollection>
): { readonly current: StoredObject | undefined, readonly previous: StoredObject | undefined }[] {
  const found: { current: StoredObject | undefined, previous: StoredObject | undefined }[] = []
  for (const [resource, collection] of before) {
    for (const previous of collection.range('', undefined)) {
      const current = after.get(resource)?.get(pathOf(previous))
      if (current === undefined || !current.json.equals(previous.json)) found.push({ current, previous })
    }
  }
  for (const [resource, collection] of after) {
    for (const current of collection.range('', undefined)) {
      if (before.get(resource)?.get(pathOf(current)) === undefined) found.push({ current, previous: undefined })
    }
  }
  return found
}

function futureRevision(): StatusError {
  return new StatusError(500, '', 'etcdserver: mvcc: required revision is a future revision')
}

/** Carries a token with which the client may go on in the state of the moment. */
function continueExpired(start: string): StatusError {
  return new StatusError(410, 'Expired', 'The provided continue parameter is too old to display a consistent list result. You can '
    + 'start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of '
    + 'the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or '
    + 'deleted between the time the first chunk was returned and now may show up in the list.', undefined,
  encodeContinue({ revision: -1, start }))
}

function closedError(): HoldfastError {
  return new HoldfastError('OBJECT_STORE_CLOSED', 'the object store is closed')
}

function failedError(cause: Error | undefined): HoldfastError {
  return new HoldfastError('STORE_FAILED', 'the objects are being read again after a failed write: '
    + (cause === undefined ? 'whether this one is stored will be known then' : describeError(cause)))
}
