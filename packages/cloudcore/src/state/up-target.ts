import type { KubeObject } from '@holdfast/kube-api'
import { HoldfastError } from '@holdfast/runtime'
import type { Clock, Log, NodeName, Timer } from '@holdfast/runtime'
import { stateDigest } from '@holdfast/sync'
import type { StateBatch, StateTarget } from '@holdfast/sync'
import { isLateVersion, objectKey, versionText } from './status-document.ts'
import { statusLimits } from './status-limits.ts'
import type { StatusOutcome, StatusWrite } from './status-writer.ts'
import { nodeOf, recordOf } from './up-collection.ts'
import type { UpCollection, UpItem } from './up-collection.ts'

export interface UpTargetsComponents {
  /** In the order in which they are told. */
  readonly collections: readonly UpCollection[]
  readonly clock: Clock
  readonly log: Log
}

/** Counts since start, for metrics. */
export interface UpStats {
  /** Items that no status can be made of, or that the node may not report. */
  rejectedItems: number
  /** Comparisons asked for in mid-session, because an object said something else than was written. */
  comparisons: number
}

/**
 * Where what comes up from nodes is taken in: one StateTarget per node, over informers for all of them. What a node's up
 * collections hold is what the objects in the cluster say (STA-31), and nothing is kept beside them but what is on its way.
 */
export class UpTargets {
  readonly stats: UpStats = { rejectedItems: 0, comparisons: 0 }
  readonly components: UpTargetsComponents
  readonly #targets = new Map<NodeName, UpTarget>()
  /** Keys of the objects that may be the record of a node's items, by collection and node. */
  readonly #keysOf: ReadonlyMap<UpCollection, Map<string, Set<string>>>
  /** Targets that wait for something before they can tell a digest. */
  readonly #waiting = new Set<UpTarget>()
  readonly #unsubscribe: readonly (() => void)[]

  constructor(components: UpTargetsComponents) {
    this.components = components
    const { collections } = components
    this.#keysOf = new Map(collections.map(collection => [collection, new Map<string, Set<string>>()]))
    for (const collection of collections) {
      for (const object of collection.informer.objects()) this.#index(collection, undefined, object)
    }
    const onPosition = (): void => { this.#look() }
    this.#unsubscribe = collections.flatMap(collection => [
      collection.informer.subscribe({
        onChange: (before, after) => {
          for (const node of this.#index(collection, before, after)) {
            this.#targets.get(node as NodeName)?.changed(collection, before, after)
          }
        },
        onPosition
      }),
      ...collection.references.map(informer => informer.subscribe({ onPosition })),
      ...collection.owners === undefined ? [] : [collection.owners.subscribe({
        onChange: (before, after) => {
          const [from, to] = [nodeOf(before), nodeOf(after)]
          if (from !== undefined && to !== undefined && from !== to) this.#targets.get(to as NodeName)?.movedHere(collection)
        }
      })]
    ])
  }

  /** The node's; the same one for as long as this lasts. */
  of(node: NodeName): StateTarget {
    let target = this.#targets.get(node)
    if (target === undefined) {
      target = new UpTarget(node, this)
      this.#targets.set(node, target)
    }
    return target
  }

  close(): void {
    for (const unsubscribe of this.#unsubscribe) unsubscribe()
    for (const target of this.#targets.values()) target.close()
    this.#waiting.clear()
  }

  /** For UpTarget. */
  wait(target: UpTarget): void { this.#waiting.add(target) }

  /** For UpTarget: objects that are, or may be, the record of its items; in no order. */
  *objectsOf(node: NodeName, collection: UpCollection): Generator<KubeObject> {
    for (const key of this.#keysOf.get(collection)!.get(node) ?? []) {
      const object = collection.informer.get(key)
      if (object !== undefined) yield object
    }
  }

  #look(): void {
    for (const target of this.#waiting) if (target.look()) this.#waiting.delete(target)
  }

  /** Gives the nodes whose concern the change is. */
  #index(collection: UpCollection, before: KubeObject | undefined, after: KubeObject | undefined): Set<string> {
    const [from, to] = [before, after].map(object => object === undefined ? undefined : collection.nodeOf(object))
    const keysOf = this.#keysOf.get(collection)!
    const key = objectKey((after ?? before)!)
    if (from !== undefined && from !== to) {
      const keys = keysOf.get(from)
      keys?.delete(key)
      if (keys?.size === 0) keysOf.delete(from)
    }
    if (to !== undefined) {
      const keys = keysOf.get(to)
      if (keys === undefined) keysOf.set(to, new Set([key]))
      else keys.add(key)
    }
    return new Set([from, to].filter(node => node !== undefined))
  }
}

/** What is known of one collection apart from the objects. */
interface Held {
  readonly collection: UpCollection
  /**
   * Version by key that both sides go by: what the digest of this session said, and what was written since. An object that says
   * something else was written by somebody else.
   */
  readonly known: Map<string, string>
  /** Writes of ours that the informer has not shown, with what it may show until then. */
  readonly unseen: Map<string, { readonly older: Set<string | undefined>, readonly atMs: number }>
  /** Newest write by key that is not settled, and the bytes of its value. */
  readonly pending: Map<string, Pending>
  /** Asked for, and not told yet. `timer` ends the wait for what is pending. */
  digest: { readonly promise: Promise<Buffer>, readonly resolve: (digest: Buffer) => void, readonly timer: Timer } | undefined
  /** The next comparison in mid-session that is to be asked for. */
  comparing: { readonly timer: Timer, readonly atMs: number } | undefined
  comparedMs: number
  /** Newest write of an item that met no object, by key, in a collection that waits for them. */
  readonly early: Map<string, Pending>
}

interface Pending { readonly write: StatusWrite, readonly bytes: number }

/** One node's statuses on their way into the cluster (STA-30 … STA-32). */
class UpTarget implements StateTarget {
  readonly collections: readonly string[]
  readonly #node: NodeName
  readonly #targets: UpTargets
  readonly #held: ReadonlyMap<string, Held>
  readonly #listeners = new Set<(collection: string) => void>()
  #pendingBytes = 0
  /** Acknowledgements that wait for room. */
  readonly #unacknowledged: (() => void)[] = []

  constructor(node: NodeName, targets: UpTargets) {
    this.#node = node
    this.#targets = targets
    const { collections } = targets.components
    this.collections = collections.map(({ name }) => name)
    this.#held = new Map(collections.map(collection => [collection.name, {
      collection, known: new Map(), unseen: new Map(), pending: new Map(), digest: undefined, comparing: undefined,
      comparedMs: -Infinity, early: new Map()
    }]))
  }

  /** At once where that is possible, so that it comes with Welcome. */
  digest(collection: string): Promise<Buffer> | Buffer {
    const held = this.#held.get(collection)
    if (held === undefined) return stateDigest([])
    if (this.#isSettled(held)) return this.#tell(held)
    if (held.digest === undefined) {
      const timer = this.#targets.components.clock.after(statusLimits.settleMs.value, () => { this.#giveUp(held) })
      held.digest = { ...Promise.withResolvers<Buffer>(), timer }
    }
    this.#targets.wait(this)
    return held.digest.promise
  }

  /** The objects are the record: nothing is remembered beside them. */
  position(): string { return '' }

  keysFrom(collection: string, after: string): Iterable<readonly [key: string, version: Buffer]> {
    const held = this.#held.get(collection)
    return held === undefined ? [] : versions([...held.known].filter(([key]) => key > after))
  }

  apply(batch: StateBatch, onApplied: (error?: Error) => void): void {
    const held = this.#held.get(batch.collection)
    const why = held === undefined ? 'no such collection' : this.#refusal(held, batch)
    if (held === undefined || why !== undefined) {
      onApplied(new HoldfastError('STATUS_REFUSED', `${batch.collection}: ${why}`))
      return
    }
    const rejected: { key: string, why: string }[] = []
    for (const { key, version, value } of batch.puts) {
      const text = versionText(version)
      const item = text === undefined ? 'its version is not 16 bytes' : held.collection.read(this.#node, key, text, value)
      if (typeof item === 'string') rejected.push({ key, why: item })
      else this.#write(held, key, value.length, this.#put(held, key, text!, item))
    }
    for (const key of batch.deletes) {
      held.early.delete(key)
      // Where nothing is recorded, nothing is to be taken away: a node may name any number of keys.
      if (!held.known.has(key) && !held.pending.has(key)) continue
      const removal = held.collection.removal(this.#node, key)
      if (removal !== undefined) this.#write(held, key, 0, this.#remove(held, key, removal))
    }
    if (rejected.length > 0) {
      this.#targets.stats.rejectedItems += rejected.length
      this.#targets.components.log.warn('items that a node reports cannot be written', {
        node: this.#node, collection: batch.collection, count: rejected.length, first: rejected.slice(0, 3)
      })
    }
    this.#unacknowledged.push(onApplied)
    this.#acknowledge()
  }

  subscribe(listener: (collection: string) => void): () => void {
    this.#listeners.add(listener)
    return () => { this.#listeners.delete(listener) }
  }

  /** An informer shows another object. */
  changed(collection: UpCollection, before: KubeObject | undefined, after: KubeObject | undefined): void {
    const held = this.#held.get(collection.name)!
    const key = objectKey((after ?? before)!)
    if (after !== undefined) this.#writeEarly(held, key)
    const isOurs = after !== undefined && collection.nodeOf(after) === this.#node
    if (!isOurs || (before !== undefined && before.metadata.uid !== after.metadata.uid)) {
      // The next item is that of another object; the node says it by itself, unless only its record was lost.
      held.unseen.delete(key)
      const isLost = held.known.delete(key) && collection.isExpected(this.#node, key)
      if (isLost && !held.pending.has(key)) this.#compare(held)
      if (recordOf(collection, this.#node, after) === undefined) return
    }
    const version = recordOf(collection, this.#node, after)
    if (version === held.known.get(key)) {
      held.unseen.delete(key)
      return
    }
    // What is being written decides by itself what to make of it.
    if (held.pending.has(key)) return
    if (this.#unseen(held, key)?.older.has(version) === true) return
    held.unseen.delete(key)
    this.#compare(held)
  }

  /** An object was another node's. */
  movedHere({ name }: UpCollection): void { this.#compare(this.#held.get(name)!) }

  /** Tells the digests that can be told. True where none is waited for any more. */
  look(): boolean {
    let done = true
    for (const held of this.#held.values()) {
      if (held.digest === undefined) continue
      if (!this.#isSettled(held)) {
        done = false
        continue
      }
      const { resolve, timer } = held.digest
      timer.cancel()
      held.digest = undefined
      resolve(this.#tell(held))
    }
    return done
  }

  close(): void {
    for (const { comparing, digest } of this.#held.values()) {
      comparing?.timer.cancel()
      digest?.timer.cancel()
    }
    this.#listeners.clear()
  }

  /** What cannot be written for so long must not keep the rest from being compared (L9): the node says it again. */
  #giveUp(held: Held): void {
    const { collection: { name, writer }, pending } = held
    // It waits for what the cluster holds, which nobody here can give up.
    if (pending.size === 0) return
    this.#targets.components.log.warn('what a node reports could not be written and is given up; the node says it again', {
      node: this.#node, collection: name, count: pending.size, first: [...pending.keys()].slice(0, 3)
    })
    for (const { write, bytes } of pending.values()) {
      writer.giveUp(write)
      this.#pendingBytes -= bytes
    }
    pending.clear()
    this.#acknowledge()
    this.look()
  }

  /** STA-32: what was taken in before is written or given up, and what the cluster holds is known. */
  #isSettled({ collection: { informer, references }, pending }: Held): boolean {
    return pending.size === 0 && informer.synced && references.every(({ synced }) => synced)
  }

  #tell(held: Held): Buffer {
    const { known } = held
    const before = new Map(known)
    known.clear()
    const keys = new Set(held.unseen.keys())
    for (const object of this.#targets.objectsOf(this.#node, held.collection)) keys.add(objectKey(object))
    for (const key of keys) {
      const shown = recordOf(held.collection, this.#node, held.collection.informer.get(key))
      const unseen = this.#unseen(held, key)
      const version = unseen?.older.has(shown) === true ? before.get(key) : shown
      if (version === undefined) held.unseen.delete(key)
      else known.set(key, version)
    }
    return stateDigest(versions([...known]))
  }

  /** What the informer may still show where it has not shown a write of ours; undefined: it has, or had time enough. */
  #unseen(held: Held, key: string): { readonly older: ReadonlySet<string | undefined> } | undefined {
    const unseen = held.unseen.get(key)
    if (unseen === undefined || this.#targets.components.clock.monotonicMs() - unseen.atMs < statusLimits.unseenMs.value) return unseen
    held.unseen.delete(key)
    return undefined
  }

  #refusal({ known, pending }: Held, { puts }: StateBatch): string | undefined {
    const max = statusLimits.itemsPerNode.value
    // As many as there can be at most, so that a batch costs nothing while there are few.
    if (known.size + pending.size + puts.length <= max) return undefined
    const added = puts.filter(({ key }) => !known.has(key) && !pending.has(key)).length
    const items = new Set([...known.keys(), ...pending.keys()]).size + added
    return added > 0 && items > max ? `${items} items of node ${this.#node}, more than ${max}` : undefined
  }

  /** There may be an object now. */
  #writeEarly(held: Held, key: string): void {
    const early = held.early.get(key)
    if (early !== undefined) this.#write(held, key, early.bytes, early.write)
  }

  #write(held: Held, key: string, bytes: number, made: Pick<StatusWrite, 'places' | 'decide'>): void {
    const write: StatusWrite = {
      ...made, lane: this.#node, settled: outcome => { this.#settled(held, key, write, outcome) }
    }
    held.early.delete(key)
    this.#pendingBytes += bytes - (held.pending.get(key)?.bytes ?? 0)
    held.pending.set(key, { write, bytes })
    held.collection.writer.put(write)
  }

  #put(held: Held, key: string, version: string, item: UpItem): Pick<StatusWrite, 'places' | 'decide'> {
    const decide: StatusWrite['decide'] = (objects, isRead) => {
      const reason = item.refusal(objects, isRead)
      if (reason !== undefined) return { kind: 'drop', reason }
      const there = recordOf(held.collection, this.#node, objects[0])
      if (there !== undefined && isLateVersion(version, there)) return { kind: 'drop', reason: 'recorded' }
      if (this.#isForeign(held, key, there, version)) return { kind: 'drop', reason: 'overtaken' }
      return item.next(objects)
    }
    return { places: item.places, decide }
  }

  /** The node has no such item any more: the object says so, its status stays as it is. */
  #remove(held: Held, key: string, item: UpItem): Pick<StatusWrite, 'places' | 'decide'> {
    const decide: StatusWrite['decide'] = (objects, isRead) => {
      const reason = item.refusal(objects, isRead)
      if (reason !== undefined) return { kind: 'drop', reason }
      const there = recordOf(held.collection, this.#node, objects[0])
      if (there === undefined) return { kind: 'drop', reason: 'recorded' }
      if (there !== held.known.get(key)) return { kind: 'drop', reason: 'overtaken' }
      return item.next(objects)
    }
    return { places: item.places, decide }
  }

  /** Of another epoch, and not what both sides went by: nobody here knows which of the two came first (STA-31). */
  #isForeign(held: Held, key: string, there: string | undefined, version: string): boolean {
    return there !== undefined && there.slice(0, 16) !== version.slice(0, 16) && there !== held.known.get(key)
  }

  #settled(held: Held, key: string, write: StatusWrite, outcome: StatusOutcome): void {
    const pending = held.pending.get(key)
    const isGivenUp = pending === undefined
    if (pending?.write === write) {
      held.pending.delete(key)
      this.#pendingBytes -= pending.bytes
    }
    switch (outcome.kind) {
      case 'written': {
        this.#written(held, key, outcome.object)
        // Both sides went by something else meanwhile.
        if (isGivenUp) this.#compare(held)
        break
      }
      case 'refused': {
        this.#compare(held, statusLimits.refusedRetryMs.value)
        break
      }
      case 'dropped': {
        // A try of ours whose answer was lost, most likely.
        if (outcome.reason === 'recorded' && outcome.object !== undefined) this.#written(held, key, outcome.object)
        if (outcome.reason === 'overtaken') this.#compare(held)
        if (outcome.reason === 'gone' && held.collection.waitsForObjects && pending?.write === write) {
          held.early.set(key, pending)
          if (held.collection.informer.get(key) !== undefined) this.#writeEarly(held, key)
        }
        break
      }
    }
    this.#acknowledge()
    this.look()
  }

  #written(held: Held, key: string, object: KubeObject): void {
    const { collection } = held
    const version = recordOf(collection, this.#node, object)
    const before = held.known.get(key)
    if (version === undefined) held.known.delete(key)
    else held.known.set(key, version)
    const shown = recordOf(collection, this.#node, collection.informer.get(key))
    if (shown === version) {
      held.unseen.delete(key)
      return
    }
    const older = held.unseen.get(key)?.older ?? new Set()
    older.add(before).add(shown)
    held.unseen.set(key, { older, atMs: this.#targets.components.clock.monotonicMs() })
  }

  #acknowledge(): void {
    while (this.#unacknowledged.length > 0 && this.#pendingBytes <= statusLimits.pendingBytes.value) this.#unacknowledged.shift()!()
  }

  /** Both sides compare anew, now or after some time: never more often than the limit says. */
  #compare(held: Held, delayMs = 0): void {
    if (this.#listeners.size === 0) return
    const { clock } = this.#targets.components
    const nowMs = clock.monotonicMs()
    const atMs = Math.max(nowMs + delayMs, held.comparedMs + statusLimits.compareIntervalMs.value)
    if (held.comparing !== undefined && held.comparing.atMs <= atMs) return
    held.comparing?.timer.cancel()
    const timer = clock.after(Math.max(0, atMs - nowMs), () => {
      held.comparing = undefined
      held.comparedMs = clock.monotonicMs()
      this.#targets.stats.comparisons++
      for (const listener of this.#listeners) listener(held.collection.name)
    })
    held.comparing = { timer, atMs }
  }
}

function versions(known: readonly (readonly [key: string, version: string])[]): (readonly [key: string, version: Buffer])[] {
  return known.toSorted(([a], [b]) => a < b ? -1 : a > b ? 1 : 0).map(([key, version]) => [key, Buffer.from(version, 'hex')] as const)
}
