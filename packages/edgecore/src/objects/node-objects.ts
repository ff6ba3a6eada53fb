import { codeOfError, describeError } from '@holdfast/runtime'
import type { Clock, Log } from '@holdfast/runtime'
import {
  History, OwnEvent, StatusError, WatchHub, decodeContinue, encodeContinue, parseResourceVersion, tooLargeResourceVersion,
  validateListOptions, validateWatchOptions
} from '@holdfast/kube-api/serving'
import type {
  ListOptions, ObjectKey, ObjectList, ObjectSource, Selection, StoredObject, Watch, WatchEnd, WatchEvent, WatchListener, WatchOptions
} from '@holdfast/kube-api'
import { collectionOf, resourceOf } from './collections.ts'
import { composeLost, composeNamespace, composeObject, resourceOfStatus, revisionOf, statusItem } from './composed-object.ts'
import { objectLimits } from './limits.ts'
import type { ObjectChange } from './object-commit.ts'
import type { ObjectTable } from './object-table.ts'

export interface NodeObjectsComponents {
  readonly table: ObjectTable
  readonly clock: Clock
  readonly log: Log
}

/** One object of a list, by its key; `stored` where the history has it, otherwise it is on the disk under `revision`. */
interface Listed {
  readonly key: string
  readonly revision: number
  readonly stored: StoredObject | undefined
}

/**
 * The node's objects as the REST server reads them: composed on demand from what is on disk, what this node reports, and a
 * bounded history of changes, from which watches and pages of one list are served.
 *
 * The past is in memory only: after a restart, watches may go on from the newest resourceVersion and from no older one.
 */
export class NodeObjects implements ObjectSource {
  readonly #table: ObjectTable
  readonly #log: Log
  readonly #history: History
  readonly #hub: WatchHub
  /** What watches have been shown; the table may be ahead. */
  #revision: number
  #tail: Promise<void> = Promise.resolve()

  constructor({ table, clock, log }: NodeObjectsComponents) {
    this.#table = table
    this.#log = log
    this.#revision = table.sequence
    this.#history = new History({
      eventsMax: objectLimits.historyEvents.value, bytesMax: objectLimits.historyBytes.value
    }, this.#revision)
    this.#hub = new WatchHub({
      watchesMax: objectLimits.watches.value, batchBytesMax: objectLimits.watchBatchBytes.value
    }, {
      // Initial events are read from the disk by FirstEvents.
      store: { history: this.#history, revision: () => this.#revision, selected: () => [] },
      clock
    })
    table.subscribe({
      changed: changes => this.#enqueue(() => this.#show(changes)),
      reset: () => this.#enqueue(async () => this.#forget())
    })
  }

  get revision(): number { return this.#revision }

  get watches(): number { return this.#hub.count }

  async get({ resource, namespace, name }: ObjectKey, resourceVersion?: string): Promise<StoredObject | undefined> {
    const wanted = parseResourceVersion(resourceVersion)
    if (wanted > this.#table.sequence) throw tooLargeResourceVersion(resourceVersion!, this.#table.sequence)
    return await this.#read(resource, namespace === '' ? name : `${namespace}/${name}`)
  }

  async list(selection: Selection, options: ListOptions): Promise<ObjectList> {
    const { resource, namespace, matches } = selection
    validateListOptions(options)
    while (this.#revision < this.#table.sequence) await this.#tail
    const { revision, after, limit = Infinity } = this.#place(selection, options)
    const keys = this.#keysAt(selection, revision, after)
    const items: StoredObject[] = []
    let read = 0
    let bytes = 0
    let isFull = false
    for (; read < keys.length && items.length < limit && !isFull; read += readsAtATime) {
      // Pages end where they are asked to, or at their bound, so the last reads may be for nothing.
      for (const [i, stored] of (await this.#readAt(resource, revision, keys.slice(read, read + readsAtATime))).entries()) {
        const isShown = stored !== undefined && (matches === undefined || matches(stored))
        isFull = items.length === limit || isShown && bytes + stored.json.length > objectLimits.listBytes.value
        if (isFull) {
          if (limit === Infinity) throw listTooLarge(resource)
          read += i - readsAtATime
          break
        }
        if (!isShown) continue
        items.push(stored)
        bytes += stored.json.length
      }
    }
    if (read >= keys.length) return { revision, items, continue: '', remainingItemCount: undefined }
    const last = keys[read - 1]!.key
    return {
      revision, items,
      continue: encodeContinue({ revision, start: `${namespace === undefined ? last : last.slice(namespace.length + 1)}\0` }),
      remainingItemCount: matches === undefined ? keys.length - read : undefined
    }
  }

  watch(selection: Selection, options: WatchOptions, listener?: WatchListener): Watch {
    validateWatchOptions(options)
    const wanted = parseResourceVersion(options.resourceVersion)
    if (!(options.sendInitialEvents ?? wanted === 0)) return this.#hub.watch(selection, options, listener)
    const revision = this.#revision
    if (wanted > this.#table.sequence) throw tooLargeResourceVersion(options.resourceVersion!, this.#table.sequence)
    const { allowWatchBookmarks, timeoutMs } = options
    const changes = this.#hub.watch(selection, { resourceVersion: String(revision), allowWatchBookmarks, timeoutMs }, listener)
    return new FirstEvents(changes, async function* (this: NodeObjects) {
      for await (const items of this.#pagesAt(selection, revision)) {
        yield items.map(stored => new OwnEvent('ADDED', stored.revision, stored))
      }
      if (allowWatchBookmarks === true) yield [{ kind: 'bookmark' as const, revision, initialEventsEnd: true }]
    }.call(this))
  }

  /** Everything that has been told is shown. Ends all watches. */
  async close(): Promise<void> {
    await this.#tail
    this.#hub.endAll('store-closed')
  }

  // Reading

  /** Throws StatusError 503 while the database is being opened again. */
  async #read(resource: string, key: string): Promise<StoredObject | undefined> {
    try {
      return await this.#readNow(resource, key)
    } catch (error) {
      const code = codeOfError(error)
      if (code?.startsWith('STORE_') !== true) throw error
      throw new StatusError(503, 'ServiceUnavailable', `this node's database cannot be read now (${code}), please try again`,
        { retryAfterSeconds: 1 })
    }
  }

  async #readNow(resource: string, key: string): Promise<StoredObject | undefined> {
    if (resource === 'namespaces') {
      const sequence = this.#table.namespaceSequence(key)
      return sequence === undefined ? undefined : composeNamespace(key, sequence)
    }
    const item = await this.#table.read(collectionOf(resource), key)
    if (item === undefined) return undefined
    const status = statusItem(this.#table, resource, key)
    return composeObject(resource, key, Math.max(item.sequence, status?.sequence ?? 0), item.value, status?.value)
  }

  /** Objects of a list; undefined for one that turned out to be damaged. */
  async #readAt(resource: string, revision: number, listed: readonly Listed[]): Promise<(StoredObject | undefined)[]> {
    const found = await Promise.all(listed.map(async ({ key, stored }) => stored ?? await this.#read(resource, key)))
    if (found.every((stored, i) => stored?.revision === listed[i]!.revision)) return found
    // Some have changed since: what was there before is in the history once that change has been shown.
    while (this.#revision < this.#table.sequence) await this.#tail
    return found.map((stored, i) => {
      const { key, revision: wanted } = listed[i]!
      if (stored?.revision === wanted) return stored
      return this.#changesAfter(resource, revision).find(change => keyOf(change) === key)?.previous
    })
  }

  async* #pagesAt(selection: Selection, revision: number): AsyncGenerator<StoredObject[]> {
    while (this.#revision < this.#table.sequence) await this.#tail
    const { resource, matches } = selection
    const keys = this.#keysAt(selection, revision, '')
    for (let at = 0; at < keys.length; at += readsAtATime) {
      const page = await this.#readAt(resource, revision, keys.slice(at, at + readsAtATime))
      const items = page.filter(stored => stored !== undefined).filter(stored => matches === undefined || matches(stored))
      if (items.length > 0) yield items
    }
  }

  /** Keys of a selection as they were at a revision that the history reaches, behind `after`, in order. */
  #keysAt({ resource, namespace }: Selection, revision: number, after: string): Listed[] {
    const then = new Map<string, StoredObject | undefined>()
    for (const change of this.#changesAfter(resource, revision)) {
      const key = keyOf(change)
      if (!then.has(key)) then.set(key, change.previous)
    }
    const listed: Listed[] = []
    for (const key of this.#keys(resource)) {
      if (!then.has(key)) listed.push({ key, revision: revisionOf(this.#table, resource, key)!, stored: undefined })
    }
    for (const [key, stored] of then) if (stored !== undefined) listed.push({ key, revision: stored.revision, stored })
    if (then.size > 0) listed.sort((a, b) => a.key < b.key ? -1 : 1)
    const prefix = namespace === undefined ? '' : `${namespace}/`
    return listed.filter(({ key }) => key > after && key.startsWith(prefix))
  }

  *#keys(resource: string): Iterable<string> {
    if (resource === 'namespaces') for (const [name] of this.#table.namespaces()) yield name
    else for (const [key] of this.#table.heads(collectionOf(resource))) yield key
  }

  #changesAfter(resource: string, revision: number): Change[] {
    if (revision < this.#history.floor(resource)) throw expired(`too old resource version: ${revision}`)
    const { changes, from } = this.#history.after(resource, revision)
    return changes.slice(from).filter(change => change !== undefined)
  }

  /** Which state a list shows, behind which key, and how much of it. The same rules as ObjectStore has. */
  #place({ resource, namespace }: Selection, options: ListOptions): {
    readonly revision: number, readonly after: string, readonly limit: number | undefined
  } {
    const { limit: asked = 0, resourceVersion = '', resourceVersionMatch: match = '', continue: token = '' } = options
    const limit = asked > 0 ? asked : undefined
    const current = this.#revision
    const floor = this.#history.floor(resource)
    if (token !== '') {
      if (resourceVersion !== '' && resourceVersion !== '0') {
        throw new StatusError(400, 'BadRequest', 'specifying resource version is not allowed when using continue')
      }
      const { revision, start } = decodeContinue(token)
      const last = start.replace(/\0$/, '')
      const after = namespace === undefined ? last : `${namespace}/${last}`
      if (revision === -1) return { revision: current, after, limit }
      if (revision > current) throw futureRevision()
      if (revision < floor) {
        throw new StatusError(410, 'Expired', 'The provided continue parameter is too old to display a consistent list result. '
          + 'You can start a new list without the continue parameter, or use the continue token in this response to retrieve '
          + 'the remainder of the results.', undefined, encodeContinue({ revision: -1, start }))
      }
      return { revision, after, limit }
    }
    const wanted = parseResourceVersion(resourceVersion)
    if (wanted !== 0 && (match === 'Exact' || match === '' && limit !== undefined)) {
      if (wanted > current) throw futureRevision()
      if (wanted < floor) throw expired('The resourceVersion for the provided list is too old.')
      return { revision: wanted, after: '', limit }
    }
    if (wanted > current) throw tooLargeResourceVersion(resourceVersion, current)
    return { revision: current, after: '', limit: resourceVersion === '0' ? undefined : limit }
  }

  // Showing changes

  #enqueue(task: () => Promise<void>): void {
    this.#tail = this.#tail.then(task).catch((error: unknown) => {
      // The past has a hole now: whoever watches begins anew.
      this.#log.error('changes of objects could not be shown; watches begin anew', { error: describeError(error) })
      this.#forget()
    })
  }

  #forget(): void {
    this.#revision = Math.max(this.#revision, this.#table.sequence)
    this.#history.forget(this.#revision)
    this.#hub.endAll('expired')
  }

  async #show(changes: readonly ObjectChange[]): Promise<void> {
    const resources = new Set<string>()
    for (const { resource, key, revision, down, up } of changedObjects(changes)) {
      const [previous, current] = resource === 'namespaces'
        ? this.#namespaceVersions(key, revision, down!)
        : await this.#versions(resource, key, revision, down, up)
      if (previous === undefined && current === undefined) continue
      this.#history.add(revision, current, previous)
      resources.add(resource)
    }
    this.#revision = Math.max(this.#revision, changes.at(-1)!.sequence)
    this.#hub.wake(resources)
  }

  #namespaceVersions(
    name: string, revision: number, { value, previousSequence }: ObjectChange
  ): [StoredObject | undefined, StoredObject | undefined] {
    return value === undefined ? [composeNamespace(name, previousSequence), undefined] : [undefined, composeNamespace(name, revision)]
  }

  async #versions(
    resource: string, key: string, revision: number, down: ObjectChange | undefined, up: ObjectChange | undefined
  ): Promise<[StoredObject | undefined, StoredObject | undefined]> {
    const status = statusItem(this.#table, resource, key)
    const unchanged = down === undefined ? await this.#table.read(collectionOf(resource), key) : undefined
    const after = down === undefined ? unchanged?.value : down.value
    const before = down === undefined ? unchanged?.value : down.previous
    const revisionBefore = Math.min(revision - 1, Math.max(
      down === undefined ? unchanged?.sequence ?? 0 : down.previousSequence,
      up === undefined ? status?.sequence ?? 0 : up.previousSequence
    ))
    const previous = before === undefined ? undefined
      : composeObject(resource, key, revisionBefore, before, up === undefined ? status?.value : up.previous)
    const current = after === undefined ? undefined
      : composeObject(resource, key, revision, after, up === undefined ? status?.value : up.value)
    if (down !== undefined && current === undefined && previous === undefined) {
      return [composeLost(resource, key, down.previousSequence), undefined]
    }
    return [previous, current]
  }
}

type Change = Exclude<ReturnType<History['after']>['changes'][number], undefined>

/** What is read of the disk at a time for a list. */
const readsAtATime = 64

const keyOf = ({ namespace, name }: ObjectKey): string => namespace === '' ? name : `${namespace}/${name}`

interface ChangedObject {
  readonly resource: string
  readonly key: string
  /** Of the last of its changes. */
  readonly revision: number
  readonly down: ObjectChange | undefined
  readonly up: ObjectChange | undefined
}

/** The changes of one commit, object by object, in the order of their revisions. */
function changedObjects(changes: readonly ObjectChange[]): ChangedObject[] {
  const objects = new Map<string, ChangedObject>()
  for (const change of changes) {
    const { what, collection, key, sequence } = change
    const resource = what === 'namespace' ? 'namespaces' : what === 'up' ? resourceOfStatus(collection) : resourceOf(collection)
    if (resource === undefined) continue
    const id = `${resource} ${key}`
    const known = objects.get(id)
    objects.set(id, {
      resource, key, revision: sequence,
      down: what === 'up' ? known?.down : change,
      up: what === 'up' ? change : known?.up
    })
  }
  return [...objects.values()].sort((a, b) => a.revision - b.revision)
}

/** A watch that begins with what is there. */
class FirstEvents implements Watch {
  readonly #changes: Watch
  readonly #first: AsyncIterable<readonly WatchEvent[]>

  constructor(changes: Watch, first: AsyncIterable<readonly WatchEvent[]>) {
    this.#changes = changes
    this.#first = first
  }

  get end(): WatchEnd | undefined { return this.#changes.end }

  close(): void { this.#changes.close() }

  async *[Symbol.asyncIterator](): AsyncGenerator<readonly WatchEvent[], undefined> {
    try {
      for await (const events of this.#first) {
        if (this.#changes.end !== undefined) return
        yield events
      }
      yield* this.#changes
    } finally {
      this.close()
    }
  }
}

function futureRevision(): StatusError {
  return new StatusError(500, '', 'etcdserver: mvcc: required revision is a future revision')
}

function expired(message: string): StatusError { return new StatusError(410, 'Expired', message) }

function listTooLarge(resource: string): StatusError {
  return new StatusError(413, 'RequestEntityTooLarge', `a list of ${resource} has more than ${objectLimits.listBytes.value} bytes: ` +
    'ask for pages with limit')
}
