import type { KubeObject } from '@holdfast/kube-api'
import { HoldfastError } from '@holdfast/runtime'
import type { Clock, Log, NodeName, Timer } from '@holdfast/runtime'
import { stateDigest } from '@holdfast/sync'
import type { StateBatch, StateTarget } from '@holdfast/sync'
import type { Informer } from '../kube/kube-client.ts'
import type { NodeLinks } from './up-links.ts'
import {
  isLateVersion, isUpCollection, mergedNodeStatus, mergedPodStatus, objectKey, placeOf, readReport, recordedVersion, statusOf,
  statusPatch, upCollections, versionText
} from './status-document.ts'
import type { StatusReport, UpCollection } from './status-document.ts'
import { statusLimits } from './status-limits.ts'
import type { StatusDecision, StatusOutcome, StatusWrite, StatusWriter } from './status-writer.ts'

export interface UpTargetsComponents {
  readonly writer: StatusWriter
  readonly pods: Informer
  readonly nodes: Informer
  readonly links: Pick<NodeLinks, 'connected'>
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
  /** Keys of Pods by the node that they are bound to. */
  readonly #podsOf = new Map<string, Set<string>>()
  /** Targets that wait for something before they can tell a digest. */
  readonly #waiting = new Set<UpTarget>()
  readonly #unsubscribe: readonly (() => void)[]

  constructor(components: UpTargetsComponents) {
    this.components = components
    const { pods, nodes } = components
    for (const pod of pods.objects()) this.#index(undefined, pod)
    this.#unsubscribe = [
      pods.subscribe({
        onChange: (before, after) => {
          this.#index(before, after)
          for (const node of new Set([nodeOf(before), nodeOf(after)])) {
            this.#targets.get(node as NodeName)?.changed('pod-status', before, after)
          }
        },
        onPosition: () => { this.#look() }
      }),
      nodes.subscribe({
        onChange: (before, after) => {
          this.#targets.get((after ?? before)?.metadata.name as NodeName)?.changed('node-status', before, after)
        },
        onPosition: () => { this.#look() }
      })
    ]
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

  /** For UpTarget: objects that its items may be the status of, in no order. */
  *objectsOf(node: NodeName, collection: UpCollection): Generator<KubeObject> {
    const { pods, nodes } = this.components
    if (collection === 'node-status') {
      const object = nodes.get(node)
      if (object !== undefined) yield object
      return
    }
    for (const key of this.#podsOf.get(node) ?? []) {
      const pod = pods.get(key)
      if (pod !== undefined) yield pod
    }
  }

  #look(): void {
    for (const target of this.#waiting) if (target.look()) this.#waiting.delete(target)
  }

  #index(before: KubeObject | undefined, after: KubeObject | undefined): void {
    const [from, to] = [nodeOf(before), nodeOf(after)]
    if (before !== undefined && from !== undefined && (from !== to || after === undefined)) {
      const keys = this.#podsOf.get(from)
      keys?.delete(objectKey(before))
      if (keys?.size === 0) this.#podsOf.delete(from)
    }
    if (after === undefined || to === undefined) return
    const keys = this.#podsOf.get(to)
    if (keys === undefined) this.#podsOf.set(to, new Set([objectKey(after)]))
    else keys.add(objectKey(after))
  }
}

/** The node that a Pod is bound to. */
export function nodeOf(pod: KubeObject | undefined): string | undefined {
  const nodeName = (pod?.['spec'] as { readonly nodeName?: unknown } | undefined)?.nodeName
  return typeof nodeName === 'string' && nodeName !== '' ? nodeName : undefined
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
  readonly pending: Map<string, { readonly write: StatusWrite, readonly bytes: number }>
  /** Asked for, and not told yet. `timer` ends the wait for what is pending. */
  digest: { readonly promise: Promise<Buffer>, readonly resolve: (digest: Buffer) => void, readonly timer: Timer } | undefined
  /** The next comparison in mid-session that is to be asked for. */
  comparing: { readonly timer: Timer, readonly atMs: number } | undefined
  comparedMs: number
}

/** One node's statuses on their way into the cluster (STA-30 … STA-32). */
class UpTarget implements StateTarget {
  readonly collections: readonly string[] = upCollections
  readonly #node: NodeName
  readonly #targets: UpTargets
  readonly #held: Readonly<Record<UpCollection, Held>>
  readonly #listeners = new Set<(collection: string) => void>()
  #pendingBytes = 0
  /** Newest status of the Node that met no Node: a node may say it before its Node is made. */
  #unregistered: { readonly write: StatusWrite, readonly bytes: number } | undefined
  /** Acknowledgements that wait for room. */
  readonly #unacknowledged: (() => void)[] = []

  constructor(node: NodeName, targets: UpTargets) {
    this.#node = node
    this.#targets = targets
    const held = (collection: UpCollection): Held => ({
      collection, known: new Map(), unseen: new Map(), pending: new Map(), digest: undefined, comparing: undefined,
      comparedMs: -Infinity
    })
    this.#held = { 'pod-status': held('pod-status'), 'node-status': held('node-status') }
  }

  /** At once where that is possible, so that it comes with Welcome. */
  digest(collection: string): Promise<Buffer> | Buffer {
    const held = this.#heldOf(collection)
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
    const held = this.#heldOf(collection)
    return held === undefined ? [] : versions([...held.known].filter(([key]) => key > after))
  }

  apply(batch: StateBatch, onApplied: (error?: Error) => void): void {
    const held = this.#heldOf(batch.collection)
    const why = held === undefined ? 'no such collection' : this.#refusal(held, batch)
    if (held === undefined || why !== undefined) {
      onApplied(new HoldfastError('STATUS_REFUSED', `${batch.collection}: ${why}`))
      return
    }
    const rejected: { key: string, why: string }[] = []
    for (const { key, version, value } of batch.puts) {
      const text = versionText(version)
      const report = readReport(this.#node, held.collection, key, value)
      if (text === undefined) rejected.push({ key, why: 'its version is not 16 bytes' })
      else if (typeof report === 'string') rejected.push({ key, why: report })
      else this.#write(held, key, value.length, write => this.#put(held, key, report, text, write))
    }
    for (const key of batch.deletes) {
      const place = placeOf(this.#node, held.collection, key)
      if (held.collection === 'node-status' && place !== undefined) this.#unregistered = undefined
      // Where nothing is recorded, nothing is to be taken away: a node may name any number of keys.
      const isHeld = held.known.has(key) || held.pending.has(key)
      if (place !== undefined && isHeld) this.#write(held, key, 0, write => this.#delete(held, key, place, write))
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
    const held = this.#held[collection]
    const object = (after ?? before)!
    const key = objectKey(object)
    if (collection === 'node-status' && after !== undefined) this.#writeUnregistered()
    const isOurs = after !== undefined && (collection === 'node-status' || nodeOf(after) === this.#node)
    if (!isOurs || (before !== undefined && before.metadata.uid !== after.metadata.uid)) {
      // The next status is that of another object; the node says it by itself.
      held.known.delete(key)
      held.unseen.delete(key)
      if (!isOurs || recordedVersion(after) === undefined) return
    }
    const version = recordedVersion(after)
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

  /** Tells the digests that can be told. True where none is waited for any more. */
  look(): boolean {
    let done = true
    for (const held of Object.values(this.#held)) {
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
    for (const { comparing, digest } of Object.values(this.#held)) {
      comparing?.timer.cancel()
      digest?.timer.cancel()
    }
    this.#listeners.clear()
  }

  #heldOf(collection: string): Held | undefined { return isUpCollection(collection) ? this.#held[collection] : undefined }

  /** What cannot be written for so long must not keep the rest from being compared (L9): the node says it again. */
  #giveUp(held: Held): void {
    const { writer, log } = this.#targets.components
    log.warn('statuses that could not be written are given up; the node says them again', {
      node: this.#node, collection: held.collection, count: held.pending.size, first: [...held.pending.keys()].slice(0, 3)
    })
    for (const { write, bytes } of held.pending.values()) {
      writer.giveUp(write)
      this.#pendingBytes -= bytes
    }
    held.pending.clear()
    this.#acknowledge()
    this.look()
  }

  /** STA-32: what was taken in before is written or given up, and what the cluster holds is known. */
  #isSettled({ collection, pending }: Held): boolean {
    const { pods, nodes } = this.#targets.components
    return pending.size === 0 && (collection === 'pod-status' ? pods : nodes).synced
  }

  #tell(held: Held): Buffer {
    const { known } = held
    const before = new Map(known)
    known.clear()
    for (const object of this.#targets.objectsOf(this.#node, held.collection)) {
      const key = objectKey(object)
      const shown = recordedVersion(object)
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

  #refusal(held: Held, batch: StateBatch): string | undefined {
    const added = batch.puts.filter(({ key }) => !held.known.has(key) && !held.pending.has(key)).length
    const items = new Set([...held.known.keys(), ...held.pending.keys()]).size + added
    return added > 0 && items > statusLimits.itemsPerNode.value
      ? `${items} items of node ${this.#node}, more than ${statusLimits.itemsPerNode.value}` : undefined
  }

  #writeUnregistered(): void {
    const unregistered = this.#unregistered
    if (unregistered === undefined) return
    this.#write(this.#held['node-status'], this.#node, unregistered.bytes, settled => ({ ...unregistered.write, settled }))
  }

  #write(held: Held, key: string, bytes: number, make: (settled: StatusWrite['settled']) => StatusWrite): void {
    const write: StatusWrite = make(outcome => {
      this.#settled(held, key, write, outcome)
    })
    if (held.collection === 'node-status') this.#unregistered = undefined
    this.#pendingBytes += bytes - (held.pending.get(key)?.bytes ?? 0)
    held.pending.set(key, { write, bytes })
    this.#targets.components.writer.put(write)
  }

  #put(held: Held, key: string, { place, uid, status }: StatusReport, version: string, settled: StatusWrite['settled']): StatusWrite {
    const decide = (base: KubeObject | undefined): StatusDecision => {
      if (base === undefined) return { kind: 'drop', reason: 'gone' }
      const isPod = held.collection === 'pod-status'
      if (isPod && (base.metadata.uid !== uid || nodeOf(base) !== this.#node)) return { kind: 'drop', reason: 'another' }
      const there = recordedVersion(base)
      if (there !== undefined && isLateVersion(version, there)) return { kind: 'drop', reason: 'recorded' }
      if (this.#isForeign(held, key, there, version)) return { kind: 'drop', reason: 'overtaken' }
      // Ready, as it was, does not hold of a node that is away, and the record must not say that it was written.
      if (!isPod && !this.#targets.components.links.connected(this.#node)) return { kind: 'drop', reason: 'away' }
      const current = statusOf(base)
      const next = isPod ? mergedPodStatus(current, status) : mergedNodeStatus(current, status)
      return { kind: 'write', patch: statusPatch(base, next, version) }
    }
    return { place, lane: this.#node, decide, settled }
  }

  /** The node has no such item any more: the object says so, its status stays as it is. */
  #delete(held: Held, key: string, place: StatusReport['place'], settled: StatusWrite['settled']): StatusWrite {
    const decide = (base: KubeObject | undefined): StatusDecision => {
      if (base === undefined) return { kind: 'drop', reason: 'gone' }
      if (held.collection === 'pod-status' && nodeOf(base) !== this.#node) return { kind: 'drop', reason: 'another' }
      const there = recordedVersion(base)
      if (there === undefined) return { kind: 'drop', reason: 'recorded' }
      if (there !== held.known.get(key)) return { kind: 'drop', reason: 'overtaken' }
      return { kind: 'write', patch: statusPatch(base, statusOf(base), undefined) }
    }
    return { place, lane: this.#node, decide, settled }
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
        if (outcome.reason === 'gone' && held.collection === 'node-status' && pending?.write === write) {
          this.#unregistered = pending
          if (this.#targets.components.nodes.get(this.#node) !== undefined) this.#writeUnregistered()
        }
        break
      }
    }
    this.#acknowledge()
    this.look()
  }

  #written(held: Held, key: string, object: KubeObject): void {
    const version = recordedVersion(object)
    const before = held.known.get(key)
    if (version === undefined) held.known.delete(key)
    else held.known.set(key, version)
    const { pods, nodes, clock } = this.#targets.components
    const shown = (held.collection === 'pod-status' ? pods : nodes).get(key)
    if (recordedVersion(shown) === version) {
      held.unseen.delete(key)
      return
    }
    const older = held.unseen.get(key)?.older ?? new Set()
    older.add(before).add(recordedVersion(shown))
    held.unseen.set(key, { older, atMs: clock.monotonicMs() })
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
      for (const listener of this.#listeners) listener(held.collection)
    })
    held.comparing = { timer, atMs }
  }
}

function versions(known: readonly (readonly [key: string, version: string])[]): (readonly [key: string, version: Buffer])[] {
  return known.toSorted(([a], [b]) => a < b ? -1 : a > b ? 1 : 0).map(([key, version]) => [key, Buffer.from(version, 'hex')] as const)
}
