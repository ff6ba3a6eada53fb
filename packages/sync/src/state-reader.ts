import { FrameError, decodeStateBatch, decompress, isStateKey, isStatePosition, stateVersionBytesMax } from '@holdfast/protos'
import type {
  CollectionDigest, CollectionVerdict, StateAck, StateBatch, StateChanges, StateDigestFrame, StateInventory
} from '@holdfast/protos'
import { stateLimits } from './limits.ts'
import { ReceiveError } from './receive-error.ts'
import { countItems } from './state-stats.ts'
import type { StateStats } from './state-stats.ts'
import type { StateTarget } from './state-target.ts'

export interface StateReaderOptions {
  /** `next` may have something to say that it did not have before. Called in the middle of anything. */
  readonly onReady: () => void
  /** The target cannot hold something, or cannot tell what it holds. */
  readonly onFailed: (message: string) => void
  readonly stats: StateStats
}

/**
 * - `digesting`: the target has not said yet what it holds.
 * - `known`: it has; the writer has not been told.
 * - `told`: it has been.
 */
type Phase = 'digesting' | 'known' | 'told'

interface Collection {
  readonly name: string
  phase: Phase
  /** It was told in this session. */
  wasTold: boolean
  /** The verdict was `equal` or `differs`: changes may come, for the rest of the session. */
  compared: boolean
  digest: Buffer | undefined
  /** What is held changed while the target was about to tell it. */
  stale: boolean
  /** Behind which key the writer wants a page of the inventory; undefined: it does not. */
  wanted: string | undefined
}

/**
 * Takes what a writer on the other side of a tunnel sends into a target (docs/spec/state.md), for one session. Pure but
 * for the target, which it calls: the host hands in what was received and sends what `next` gives.
 */
export class StateReader {
  readonly #target: StateTarget
  readonly #options: StateReaderOptions
  readonly #collections: ReadonlyMap<string, Collection>
  readonly #unsubscribe: (() => void) | undefined
  #open = true
  #assembly: { readonly bytes: Buffer, readonly rawLength: number, filled: number } | undefined
  /** Of the batch that is to come in next. */
  #expected = 1
  #applied = 0
  /** Of batches handed to the target and not settled, decompressed. */
  #pendingRawBytes = 0
  #receivedBytes = 0
  #ackDue = false
  #refused = ''

  constructor(target: StateTarget, options: StateReaderOptions) {
    this.#target = target
    this.#options = options
    this.#collections = new Map(target.collections.map(name =>
      [name, { name, phase: 'digesting', wasTold: false, compared: false, digest: undefined, stale: false, wanted: undefined }]))
    this.#unsubscribe = target.subscribe?.(name => {
      const collection = this.#collections.get(name)
      if (collection === undefined) return
      if (collection.phase === 'digesting') collection.stale = true
      else this.#digest(collection)
      options.onReady()
    })
    for (const collection of this.#collections.values()) this.#digest(collection)
  }

  /** Every digest is known or has failed for good. */
  get digested(): boolean { return [...this.#collections.values()].every(({ phase }) => phase !== 'digesting') }

  /** Why nothing more is taken in; empty: it is. */
  get refused(): string { return this.#refused }

  /** The session is over: what is settled later is nobody's. */
  close(): void {
    this.#open = false
    this.#unsubscribe?.()
    this.#assembly = undefined
  }

  /** Digests that are known and were not told, for Hello or Welcome. Otherwise `next` gives them. */
  takeDigests(): CollectionDigest[] {
    const digests: CollectionDigest[] = []
    for (const collection of this.#collections.values()) {
      if (collection.phase !== 'known') continue
      collection.phase = 'told'
      collection.wasTold = true
      const position = this.#target.position(collection.name)
      // A damaged position must not keep the node from being greeted; without one the writer goes by what it knows.
      digests.push({ collection: collection.name, digest: collection.digest!, position: isStatePosition(position) ? position : '' })
    }
    return digests
  }

  /** The writer's verdicts. Throws ReceiveError. */
  verdicts(verdicts: readonly CollectionVerdict[]): void {
    for (const { collection: name, verdict, after } of verdicts) {
      const collection = this.#collections.get(name)
      if (collection?.wasTold !== true) {
        throw new ReceiveError('FRAME_UNEXPECTED', `a verdict on collection ${name}, of which no digest was told`)
      }
      if (after === '') this.#options.stats.verdicts[verdict]++
      collection.compared ||= verdict === 'equal' || verdict === 'differs'
      collection.wanted = verdict === 'differs' ? after : undefined
    }
  }

  /** Changes: applied when their batch is whole. Throws ReceiveError; the session then ends. */
  receive(frame: StateChanges): void {
    const { stats } = this.#options
    stats.frames++
    stats.bytes += frame.data.length
    this.#receivedBytes += frame.data.length
    if (this.#refused !== '') return
    const body = this.#assemble(frame)
    if (body === undefined) {
      this.#ackDue = true
      return
    }
    this.#expected++
    const raw = frame.rawLength === 0 ? body : unpack(body, frame.rawLength)
    this.#pendingRawBytes += raw.length
    this.#checkPending()
    this.#apply(decode(raw), raw.length)
  }

  /** The next frame to send, or undefined: then an event has to come first. Call until undefined. */
  next(): StateAck | StateDigestFrame | StateInventory | undefined {
    if (this.#ackDue) {
      this.#ackDue = false
      return { kind: 'state-ack', sequence: this.#applied, receivedBytes: this.#receivedBytes, refused: this.#refused }
    }
    const digests = this.takeDigests()
    if (digests.length > 0) return { kind: 'state-digest', digests }
    for (const collection of this.#collections.values()) {
      if (collection.wanted !== undefined) return this.#page(collection, collection.wanted)
    }
    return undefined
  }

  #digest(collection: Collection): void {
    collection.phase = 'digesting'
    const known = (digest: Buffer): void => {
      collection.digest = digest
      collection.phase = 'known'
      if (!collection.stale) return
      collection.stale = false
      this.#digest(collection)
    }
    const digest = this.#target.digest(collection.name)
    if (!(digest instanceof Promise)) {
      known(digest)
      return
    }
    digest.then(late => {
      if (!this.#open) return
      known(late)
      this.#options.onReady()
    }, (error: unknown) => {
      if (this.#open) this.#options.onFailed(`${collection.name}: what is held cannot be told: ${textOf(error)}`)
    })
  }

  #page(collection: Collection, after: string): StateInventory {
    collection.wanted = undefined
    const entries: (readonly [string, Buffer])[] = []
    let bytes = 0
    let last = true
    for (const entry of this.#target.keysFrom(collection.name, after)) {
      // Such a one cannot be named to the writer; the session goes on without it.
      if (!isStateKey(entry[0]) || entry[1].length === 0 || entry[1].length > stateVersionBytesMax) continue
      bytes += entry[0].length + entry[1].length + 6
      if (entries.length > 0 && (entries.length === stateLimits.inventoryEntries.value || bytes > stateLimits.inventoryBytes.value)) {
        last = false
        break
      }
      entries.push(entry)
    }
    return { kind: 'state-inventory', collection: collection.name, after, entries, last }
  }

  #assemble(part: StateChanges): Buffer | undefined {
    const filled = this.#assembly?.filled ?? 0
    if (part.sequence !== this.#expected || part.position !== filled ||
      (this.#assembly !== undefined && (part.bodyLength !== this.#assembly.bytes.length || part.rawLength !== this.#assembly.rawLength))) {
      throw new ReceiveError('STATE_SEQUENCE', `batch ${part.sequence} at ${part.position} of ${part.bodyLength}, ` +
        `expected ${this.#expected} at ${filled}`)
    }
    if (this.#assembly === undefined) {
      if (part.data.length === part.bodyLength) return part.data
      this.#assembly = { bytes: Buffer.allocUnsafeSlow(part.bodyLength), rawLength: part.rawLength, filled: 0 }
      this.#checkPending()
    }
    const { bytes } = this.#assembly
    part.data.copy(bytes, filled)
    this.#assembly.filled += part.data.length
    if (this.#assembly.filled < bytes.length) return undefined
    this.#assembly = undefined
    return bytes
  }

  #checkPending(): void {
    const bytes = this.#pendingRawBytes + (this.#assembly?.bytes.length ?? 0)
    if (bytes <= stateLimits.pendingRawBytes.value) return
    throw new ReceiveError('STATE_WINDOW_EXCEEDED', `${bytes} bytes of changes are not applied, bound ${stateLimits.pendingRawBytes.value}`)
  }

  #apply(batch: StateBatch, rawBytes: number): void {
    if (this.#collections.get(batch.collection)?.compared !== true) {
      throw new ReceiveError('FRAME_UNEXPECTED', `a change of collection ${batch.collection} before a verdict on it`)
    }
    this.#target.apply(batch, error => {
      if (!this.#open) return
      this.#pendingRawBytes -= rawBytes
      this.#settled(batch, error)
    })
  }

  #settled(batch: StateBatch, error: Error | undefined): void {
    if (this.#refused !== '') return
    const { stats } = this.#options
    this.#ackDue = true
    if (error === undefined) {
      this.#applied++
      countItems(stats, batch.collection, batch.puts.length, batch.deletes.length)
    } else {
      stats.refusals++
      this.#refused = `${batch.collection}: ${error.message}`.slice(0, 1000)
      this.#options.onFailed(`a batch cannot be held: ${this.#refused}`)
    }
    this.#options.onReady()
  }
}

function decode(raw: Buffer): StateBatch {
  try {
    return decodeStateBatch(raw)
  } catch (error) {
    if (!(error instanceof FrameError)) throw error
    throw new ReceiveError('FRAME_MALFORMED', error.message)
  }
}

function unpack(body: Buffer, rawLength: number): Buffer {
  try {
    const raw = decompress(body, rawLength)
    if (raw.length === rawLength) return raw
  } catch (error) {
    throw new ReceiveError('FRAME_MALFORMED', `batch does not decompress: ${textOf(error)}`)
  }
  throw new ReceiveError('FRAME_MALFORMED', `batch decompresses to another length than ${rawLength}`)
}

function textOf(error: unknown): string { return error instanceof Error ? error.message : String(error) }
