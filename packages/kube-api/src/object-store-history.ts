import type { KubeObject } from './object.ts'
import type { ChangeEvent, ChangeType, ObjectChange, StoredObject } from './object-store-types.ts'

/** What a change costs beside the JSON of its objects, about. */
const changeBytes = 256

/** A change as the history holds it; what watches are sent of it is encoded at most once for each type. */
export class Change implements ObjectChange {
  readonly resource: string
  readonly namespace: string
  readonly name: string
  readonly revision: number
  readonly current: StoredObject | undefined
  readonly previous: StoredObject | undefined
  /** Told of the bytes of encoded lines, while the history holds this change. */
  onEncoded: ((bytes: number) => void) | undefined
  #lineBytes = 0
  readonly #events = new Map<ChangeType, ChangeEvent>()

  constructor(revision: number, current: StoredObject | undefined, previous: StoredObject | undefined) {
    const { resource, namespace, name } = (current ?? previous)!
    this.resource = resource
    this.namespace = namespace
    this.name = name
    this.revision = revision
    this.current = current
    this.previous = previous
  }

  get bytes(): number {
    return changeBytes + (this.current?.json.length ?? 0) + (this.previous?.json.length ?? 0) + this.#lineBytes
  }

  event(type: ChangeType): ChangeEvent {
    let event = this.#events.get(type)
    if (event === undefined) {
      const stored = type === 'DELETED' ? this.#departed() : this.current!
      event = new SharedEvent(type, this.revision, stored, bytes => {
        this.#lineBytes += bytes
        this.onEncoded?.(bytes)
      })
      this.#events.set(type, event)
    }
    return event
  }

  /** The last version that was there, under the revision of this change: so the real server tells that it is gone. */
  #departed(): StoredObject {
    const { object, ...place } = this.previous!
    const departed: KubeObject = { ...object, metadata: { ...object.metadata, resourceVersion: String(this.revision) } }
    return { ...place, revision: this.revision, object: departed, json: ownBytes(Buffer.from(JSON.stringify(departed))) }
  }
}

const heads = {
  ADDED: Buffer.from('{"type":"ADDED","object":'),
  MODIFIED: Buffer.from('{"type":"MODIFIED","object":'),
  DELETED: Buffer.from('{"type":"DELETED","object":')
} as const satisfies Record<ChangeType, Buffer>
const tail = Buffer.from('}\n')

/**
 * The parts in memory of their own. Small buffers share slabs: one that stays would keep a slab whose other users are gone,
 * many times its size.
 */
function ownBytes(...parts: readonly Uint8Array[]): Buffer {
  const bytes = Buffer.allocUnsafeSlow(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    bytes.set(part, at)
    at += part.length
  }
  return bytes
}

/** An event of one watch alone: what it finds at its start. */
export class OwnEvent implements ChangeEvent {
  readonly kind = 'change'
  readonly type: ChangeType
  readonly revision: number
  readonly stored: StoredObject

  constructor(type: ChangeType, revision: number, stored: StoredObject) {
    this.type = type
    this.revision = revision
    this.stored = stored
  }

  line(): Buffer { return Buffer.concat([heads[this.type], this.stored.json, tail]) }
}

class SharedEvent extends OwnEvent {
  #line: Buffer | undefined
  readonly #onEncoded: (bytes: number) => void

  constructor(type: ChangeType, revision: number, stored: StoredObject, onEncoded: (bytes: number) => void) {
    super(type, revision, stored)
    this.#onEncoded = onEncoded
  }

  override line(): Buffer {
    if (this.#line === undefined) {
      this.#line = ownBytes(super.line())
      this.#onEncoded(this.#line.length)
    }
    return this.#line
  }
}

interface Shelf {
  /** Of one resource, in the order of revisions; those before `head` are forgotten, and gone from here. */
  readonly changes: (Change | undefined)[]
  head: number
  /** Changes up to this revision are forgotten. */
  floor: number
}

export interface HistoryOptions {
  readonly eventsMax: number
  readonly bytesMax: number
}

/**
 * The last changes of all resources. The oldest of all goes first, but a resource loses its past only with its own changes:
 * a quiet one is remembered however busy others are.
 */
export class History {
  readonly #options: HistoryOptions
  readonly #shelves = new Map<string, Shelf>()
  /** The resource of each change held, oldest first, from `#head` on. */
  #order: string[] = []
  #head = 0
  #bytes = 0
  /** Of resources without a shelf. */
  #floor: number

  constructor(options: HistoryOptions, floor: number) {
    this.#options = options
    this.#floor = floor
  }

  get events(): number { return this.#order.length - this.#head }
  /** JSON text and event lines held, about. */
  get bytes(): number { return this.#bytes }

  /** The oldest revision from which all changes of a resource are known. */
  floor(resource: string): number { return this.#shelves.get(resource)?.floor ?? this.#floor }

  add(revision: number, current: StoredObject | undefined, previous: StoredObject | undefined): Change {
    const change = new Change(revision, current, previous)
    change.onEncoded = bytes => { this.#bytes += bytes }
    let shelf = this.#shelves.get(change.resource)
    if (shelf === undefined) {
      shelf = { changes: [], head: 0, floor: this.#floor }
      this.#shelves.set(change.resource, shelf)
    }
    shelf.changes.push(change)
    this.#order.push(change.resource)
    this.#bytes += change.bytes
    while (this.events > this.#options.eventsMax || (this.#bytes > this.#options.bytesMax && this.events > 0)) this.#forgetOldest()
    return change
  }

  /** Changes of a resource after `revision`, which is not below its floor; oldest first, from index `from` of the result on. */
  after(resource: string, revision: number): ChangeRange {
    const shelf = this.#shelves.get(resource)
    if (shelf === undefined) return noChanges
    const { changes } = shelf
    let low = shelf.head
    let high = changes.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (changes[middle]!.revision <= revision) low = middle + 1
      else high = middle
    }
    return { changes, from: low }
  }

  /** Forgets everything up to `revision`, the newest one; of one resource, or of all. */
  forget(revision: number, resource?: string): void {
    if (resource === undefined) {
      for (const { changes } of this.#shelves.values()) for (const change of changes) if (change !== undefined) change.onEncoded = undefined
      this.#shelves.clear()
      this.#order = []
      this.#head = 0
      this.#bytes = 0
      this.#floor = revision
      return
    }
    const shelf = this.#shelves.get(resource)
    for (const change of shelf?.changes.slice(shelf.head) ?? []) this.#release(change!)
    this.#shelves.set(resource, { changes: [], head: 0, floor: revision })
    this.#order = this.#order.slice(this.#head).filter(name => name !== resource)
    this.#head = 0
  }

  #release(change: Change): void {
    this.#bytes -= change.bytes
    change.onEncoded = undefined
  }

  #forgetOldest(): void {
    const shelf = this.#shelves.get(this.#order[this.#head]!)!
    const change = shelf.changes[shelf.head]!
    this.#release(change)
    shelf.floor = change.revision
    shelf.changes[shelf.head++] = undefined
    this.#head++
    if (shelf.head > 1024 && shelf.head * 2 > shelf.changes.length) {
      shelf.changes.splice(0, shelf.head)
      shelf.head = 0
    }
    if (this.#head > 1024 && this.#head * 2 > this.#order.length) {
      this.#order.splice(0, this.#head)
      this.#head = 0
    }
  }
}

/** A stretch of changes up to the newest one: `changes` from index `from` on, all of them there, to be read at once. */
export interface ChangeRange { readonly changes: readonly (Change | undefined)[], readonly from: number }

const noChanges: ChangeRange = { changes: [], from: 0 }
