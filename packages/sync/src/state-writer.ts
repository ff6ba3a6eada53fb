import {
  compress, encodeStateBatch, isStateKey, stateChangeBytes, stateChangesMax, stateValueBytesMax, stateVersionBytesMax
} from '@holdfast/protos'
import type {
  CollectionDigest, CollectionVerdict, StateAck, StateBatch, StateChanges, StateInventory, StateVerdictFrame, StateVerdictKind
} from '@holdfast/protos'
import { DeliveryRate } from './delivery-rate.ts'
import type { RateMark } from './delivery-rate.ts'
import { stateLimits } from './limits.ts'
import { ReceiveError } from './receive-error.ts'
import type { StateListener, StateSource } from './state-source.ts'
import { countItems } from './state-stats.ts'
import type { StateStats } from './state-stats.ts'

export interface StateWriterOptions {
  /** `next` may have something to say that it did not have before. Called in the middle of anything. */
  readonly onReady: () => void
  /** An item cannot be sent, and why. */
  readonly onWithheld: (message: string) => void
  readonly stats: StateStats
}

/** A frame to be sent, and its bytes of bodies: what the link is shared by. */
export interface StateOutput { readonly frame: StateVerdictFrame | StateChanges, readonly bytes: number }

/**
 * - `untold`: the reader has not told its digest; changes do not matter yet.
 * - `waiting`: it has, and there is no verdict yet: the source is not ready. Nothing of the collection is sent.
 * - `comparing`: they differ, and the reader's inventory is coming in.
 * - `live`: what differs is in `puts` and `deletes`.
 */
type Phase = 'untold' | 'waiting' | 'comparing' | 'live'

interface Collection {
  readonly name: string
  phase: Phase
  /** A verdict but `not-ready` was given in this session: from then on every change is noted. */
  noted: boolean
  /** Told by the reader, and from then on as it went out with the last batch. */
  position: string
  digest: Buffer | undefined
  saidNotReady: boolean
  /** Behind which key the next page of the inventory begins. */
  after: string
  /** Keys whose newest value is to be sent. */
  readonly puts: Set<string>
  readonly deletes: Set<string>
  /** The reader is to be told that it has everything. */
  markDue: boolean
}

/** Bytes in flight that any link may have; beyond that, what it delivers in `inFlightMs`. */
const inFlightBytesMin = 16 * 1024
const inFlightMs = 250
/** Parts of batches, on a link that takes longer than `slowPartMs` for the small one, and on one that does not. */
const slowPartBytes = 16 * 1024
const fastPartBytes = 128 * 1024
const slowPartMs = 50
/** Smaller bodies gain nothing worth the work. */
const compressBytesMin = 256

/**
 * Keeps a reader on the other side of a tunnel at what a source holds (docs/spec/state.md), for one session. Pure: the
 * host hands in what was received, then sends what `next` gives, and tells the time.
 *
 * What is to be sent of a key is decided when the frame is made; until then only the key is noted. A key is noted from the
 * moment of the verdict on, whenever it changes or an inventory shows another version, so that the last batch that names
 * it holds its newest value.
 */
export class StateWriter {
  readonly #source: StateSource
  readonly #options: StateWriterOptions
  readonly #collections: readonly Collection[]
  readonly #byName: ReadonlyMap<string, Collection>
  readonly #verdicts: CollectionVerdict[] = []
  readonly #rate = new DeliveryRate()
  readonly #unsubscribe: () => void
  #sequence = 0
  #acknowledged = 0
  /** Batches made and not acknowledged, oldest first. */
  readonly #unacknowledged: { readonly bytes: number, readonly rawBytes: number }[] = []
  #unacknowledgedBytes = 0
  #unacknowledgedRawBytes = 0
  /** The batch that goes out in parts. */
  #current: { readonly body: Buffer, readonly rawLength: number, position: number } | undefined
  #sentBytes = 0
  #receivedBytes = 0
  /** Frames whose arrival is not known, oldest first; `end` is the count of bytes sent with and before each. */
  readonly #frames: { readonly end: number, readonly bytes: number, readonly mark: RateMark }[] = []
  #limited = false
  #refused = ''

  constructor(source: StateSource, options: StateWriterOptions) {
    this.#source = source
    this.#options = options
    this.#collections = source.collections.map(name => ({
      name, phase: 'untold', noted: false, position: '', digest: undefined, saidNotReady: false, after: '', puts: new Set(),
      deletes: new Set(), markDue: false
    }))
    this.#byName = new Map(this.#collections.map(collection => [collection.name, collection]))
    const listener: StateListener = {
      keyChanged: (name, key) => {
        const collection = this.#byName.get(name)
        if (collection?.noted !== true) return
        this.#note(collection, key)
        options.onReady()
      },
      collectionChanged: name => {
        const collection = this.#byName.get(name)
        if (collection === undefined) return
        if (collection.phase === 'waiting') this.#look(collection)
        options.onReady()
      }
    }
    this.#unsubscribe = source.subscribe(listener)
  }

  /** Bytes of bodies sent and not known to have arrived. */
  get inFlightBytes(): number { return this.#sentBytes - this.#receivedBytes }

  get bytesPerSecond(): number { return this.#rate.bytesPerSecond }

  /** Collections that the reader waits for because the source is not ready. */
  get notReady(): string[] { return this.#collections.filter(({ phase }) => phase === 'waiting').map(({ name }) => name) }

  /** Why the reader takes nothing more in this session; empty: it does. */
  get refused(): string { return this.#refused }

  /** Everything that the source holds is with the reader, acknowledged. */
  get settled(): boolean {
    return this.#unacknowledged.length === 0 && this.#verdicts.length === 0 &&
      this.#collections.every(({ phase, puts, deletes, markDue }) =>
        phase === 'live' && puts.size === 0 && deletes.size === 0 && !markDue)
  }

  /** The session is over. */
  close(): void { this.#unsubscribe() }

  /** The reader told digests, with Hello, with Welcome or in a frame; where it told one before, both compare again. */
  told(digests: readonly CollectionDigest[]): void {
    for (const { collection: name, digest, position } of digests) {
      const collection = this.#byName.get(name)
      if (collection === undefined) {
        this.#say(name, 'not-ready')
        continue
      }
      collection.phase = 'waiting'
      collection.digest = digest
      collection.position = position
      collection.saidNotReady = false
      collection.after = ''
      this.#look(collection)
    }
  }

  /** Verdicts that are due, for Welcome. Otherwise `next` gives them. */
  takeVerdicts(): CollectionVerdict[] { return this.#verdicts.splice(0) }

  /** A page of the reader's inventory (STA-13). Throws ReceiveError. */
  inventory(page: StateInventory): void {
    const collection = this.#byName.get(page.collection)
    if (collection === undefined || collection.phase === 'untold') {
      throw new ReceiveError('FRAME_UNEXPECTED', `a page of collection ${page.collection} was not asked for`)
    }
    // Asked for before the reader told another digest.
    if (collection.phase !== 'comparing' || collection.after !== page.after) return
    const end = page.last ? undefined : page.entries.at(-1)![0]
    let at = 0
    for (const [key, version] of this.#source.keysFrom(page.collection, page.after)) {
      if (end !== undefined && key > end) break
      while (at < page.entries.length && page.entries[at]![0] < key) collection.deletes.add(page.entries[at++]![0])
      const theirs = page.entries[at]
      if (theirs?.[0] === key) at++
      if (theirs?.[0] === key && theirs[1].equals(version)) continue
      this.#note(collection, key)
      if (theirs?.[0] === key) this.#source.met?.(collection.name, key, theirs[1])
    }
    while (at < page.entries.length) collection.deletes.add(page.entries[at++]![0])
    if (end === undefined) {
      collection.phase = 'live'
      collection.markDue = true
    } else {
      collection.after = end
      this.#verdicts.push({ collection: collection.name, verdict: 'differs', after: end })
    }
  }

  /** Throws ReceiveError. */
  acknowledged(ack: StateAck, nowMs: number): void {
    const { sequence, receivedBytes } = ack
    const made = this.#sequence - (this.#current === undefined ? 0 : 1)
    if (sequence < this.#acknowledged || sequence > made || receivedBytes < this.#receivedBytes || receivedBytes > this.#sentBytes) {
      throw new ReceiveError('FRAME_UNEXPECTED', `batch ${sequence} and ${receivedBytes} bytes are acknowledged; ` +
        `${this.#acknowledged} to ${made} and ${this.#receivedBytes} to ${this.#sentBytes} may be`)
    }
    for (const { bytes, rawBytes } of this.#unacknowledged.splice(0, sequence - this.#acknowledged)) {
      this.#unacknowledgedBytes -= bytes
      this.#unacknowledgedRawBytes -= rawBytes
    }
    this.#acknowledged = sequence
    this.#receivedBytes = receivedBytes
    while (this.#frames.length > 0 && this.#frames[0]!.end <= receivedBytes) {
      const { bytes, mark } = this.#frames.shift()!
      this.#rate.acknowledged(bytes, mark, nowMs)
    }
    if (ack.refused === '' || this.#refused !== '') return
    this.#refused = ack.refused
    this.#options.stats.refusals++
  }

  /** The next frame to send, or undefined: then an event has to come first. Call until undefined. */
  next(nowMs: number): StateOutput | undefined {
    if (this.#verdicts.length > 0) return { frame: { kind: 'state-verdict', verdicts: this.#takeFirstVerdicts() }, bytes: 0 }
    if (this.#refused !== '') return undefined
    if (this.#current === undefined) {
      if (this.#unacknowledgedBytes >= stateLimits.windowBytes.value ||
        this.#unacknowledgedRawBytes >= stateLimits.windowRawBytes.value) return undefined
      const batch = this.inFlightBytes < this.#inFlightBytesMax ? this.#nextBatch() : undefined
      if (batch === undefined) {
        this.#limited = this.inFlightBytes >= this.#inFlightBytesMax
        return undefined
      }
      this.#begin(batch)
    }
    if (this.inFlightBytes >= this.#inFlightBytesMax) {
      this.#limited = true
      return undefined
    }
    return this.#sendPart(nowMs)
  }

  get #inFlightBytesMax(): number { return Math.max(inFlightBytesMin, this.#rate.bytesPerSecond * inFlightMs / 1000) }

  /** A collection has one verdict in a frame. */
  #takeFirstVerdicts(): CollectionVerdict[] {
    const taken = new Map<string, CollectionVerdict>()
    let count = 0
    for (const verdict of this.#verdicts) {
      if (taken.has(verdict.collection)) break
      taken.set(verdict.collection, verdict)
      count++
    }
    this.#verdicts.splice(0, count)
    return [...taken.values()]
  }

  #say(collection: string, verdict: StateVerdictKind): void {
    this.#options.stats.verdicts[verdict]++
    this.#verdicts.push({ collection, verdict, after: '' })
  }

  /** Gives the verdict, if the source can (STA-12). */
  #look(collection: Collection): void {
    const { name, digest, position } = collection
    if (!this.#source.ready(name, position)) {
      if (!collection.saidNotReady) this.#say(name, 'not-ready')
      collection.saidNotReady = true
      return
    }
    const isEqual = this.#source.digest(name).equals(digest!)
    collection.phase = isEqual ? 'live' : 'comparing'
    collection.noted = true
    this.#say(name, isEqual ? 'equal' : 'differs')
  }

  /** A key that is noted already keeps its place, or one that changes all the time would never have its turn. */
  #note(collection: Collection, key: string): void {
    const isThere = this.#source.version(collection.name, key) !== undefined
    const [from, to] = isThere ? [collection.deletes, collection.puts] : [collection.puts, collection.deletes]
    from.delete(key)
    to.add(key)
  }

  /**
   * Puts go out in the order of the collections, then deletions in the opposite one (STA-20). While a collection is being
   * compared nothing behind it is put, since what it depends on may be missing yet, and nothing is deleted.
   */
  #nextBatch(): StateBatch | undefined {
    for (const collection of this.#collections) {
      const { phase, puts, deletes, markDue } = collection
      if (isCompared(collection) && (puts.size > 0 || (markDue && deletes.size === 0 && phase === 'live')) && this.#isReady(collection)) {
        return this.#makeBatch(collection)
      }
      if (phase === 'comparing') return undefined
    }
    const last = this.#collections.findLast(collection => collection.deletes.size > 0 && this.#isReady(collection))
    return last === undefined ? undefined : this.#makeBatch(last)
  }

  #isReady({ name, position }: Collection): boolean { return this.#source.ready(name, position) }

  #makeBatch(collection: Collection): StateBatch {
    const { name } = collection
    const puts: StateBatch['puts'][number][] = []
    const deletes: string[] = []
    let bytes = 0
    /** True where the change still fits, and is taken. */
    const take = (changeBytes: number): boolean => {
      const count = puts.length + deletes.length
      if (count > 0 && (bytes + changeBytes > stateLimits.batchBytes.value || count >= stateChangesMax)) return false
      bytes += changeBytes
      return true
    }
    for (const key of collection.puts) {
      const version = this.#source.version(name, key)
      const value = this.#source.value(name, key)
      if (version === undefined || value === undefined || !this.#isSendable(name, key, version, value)) {
        collection.puts.delete(key)
        continue
      }
      if (!take(stateChangeBytes(key, version, value))) break
      collection.puts.delete(key)
      puts.push({ key, version, value })
    }
    if (collection.puts.size === 0 && this.#mayDelete(collection)) {
      for (const key of collection.deletes) {
        if (!take(stateChangeBytes(key))) break
        collection.deletes.delete(key)
        deletes.push(key)
      }
    }
    const synced = collection.phase === 'live' && collection.puts.size === 0 && collection.deletes.size === 0
    if (synced) collection.markDue = false
    collection.position = this.#source.position(name)
    countItems(this.#options.stats, name, puts.length, deletes.length)
    return { collection: name, puts, deletes, synced, position: collection.position }
  }

  /** Nothing is to be put anywhere, and nothing is to be deleted of what depends on this. */
  #mayDelete(collection: Collection): boolean {
    if (this.#collections.some(({ phase }) => phase === 'comparing')) return false
    if (this.#collections.some(other => other.puts.size > 0 && this.#isReady(other))) return false
    return this.#collections.findLast(other => other.deletes.size > 0 && this.#isReady(other)) === collection
  }

  #isSendable(name: string, key: string, version: Buffer, value: Buffer): boolean {
    const why = !isStateKey(key) ? 'its key is malformed'
      : version.length === 0 || version.length > stateVersionBytesMax ? `its version has ${version.length} bytes`
        : value.length > stateValueBytesMax ? `its value has ${value.length} bytes, bound ${stateValueBytesMax}` : undefined
    if (why === undefined) return true
    this.#options.stats.withheld++
    this.#options.onWithheld(`${name}: item "${key.slice(0, 512)}" is not sent: ${why}`)
    return false
  }

  #begin(batch: StateBatch): void {
    const raw = encodeStateBatch(batch)
    const compressed = raw.length < compressBytesMin ? raw : compress(raw)
    const isSmaller = compressed.length < raw.length
    const body = isSmaller ? compressed : raw
    this.#sequence++
    this.#current = { body, rawLength: isSmaller ? raw.length : 0, position: 0 }
    this.#unacknowledged.push({ bytes: body.length, rawBytes: raw.length })
    this.#unacknowledgedBytes += body.length
    this.#unacknowledgedRawBytes += raw.length
  }

  #sendPart(nowMs: number): StateOutput {
    const current = this.#current!
    const { body, rawLength, position } = current
    // What a link delivers that nobody knows yet is not for State to find out the hard way.
    const isSlow = this.#rate.bytesPerSecond < slowPartBytes * 1000 / slowPartMs
    const data = body.subarray(position, position + (isSlow ? slowPartBytes : fastPartBytes))
    const frame: StateChanges = { kind: 'state-changes', sequence: this.#sequence, bodyLength: body.length, rawLength, position, data }
    const mark = this.#rate.mark(nowMs, this.inFlightBytes, this.#limited)
    this.#limited = false
    this.#sentBytes += data.length
    this.#frames.push({ end: this.#sentBytes, bytes: data.length, mark })
    current.position += data.length
    if (current.position === body.length) this.#current = undefined
    const { stats } = this.#options
    stats.frames++
    stats.bytes += data.length
    return { frame, bytes: data.length }
  }
}

function isCompared({ phase }: Collection): boolean { return phase === 'comparing' || phase === 'live' }
