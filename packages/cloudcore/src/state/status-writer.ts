import type { JsonObject, KubeObject } from '@holdfast/kube-api'
import { describeError } from '@holdfast/runtime'
import type { Clock, Log, Random } from '@holdfast/runtime'
import type { Informer, KubeClient, ObjectPlace } from '../kube/kube-client.ts'
import { KubeError } from '../kube/kube-error.ts'
import { ReconcileQueue, TokenBucket } from './status-queue.ts'
import { objectKey } from './status-document.ts'
import { statusLimits } from './status-limits.ts'

/**
 * Why a status is not written.
 *
 * - `recorded`: the object has this version already, or a later one of the same epoch (STA-31).
 * - `gone`: there is no such object.
 * - `another`: the object of this name is not the one that the status is of, or not the node's.
 * - `overtaken`: the object says what this cloud did not write, and did not see when both sides compared: of two epochs it
 *   cannot tell which came first.
 * - `away`: it holds only of a node that is connected.
 */
export type StatusDropReason = 'recorded' | 'gone' | 'another' | 'overtaken' | 'away'

export type StatusRequest =
  /** A merge patch, with the resourceVersion of what was there in it. */
  | { readonly verb: 'patch', readonly place: ObjectPlace, readonly patch: JsonObject, readonly subresource?: 'status' | undefined }
  | { readonly verb: 'create', readonly place: ObjectPlace, readonly object: KubeObject }
  | { readonly verb: 'delete', readonly place: ObjectPlace, readonly uid: string }

export type StatusDecision =
  /**
   * `isLast`: with it all is written; otherwise it is decided anew behind it. `landed` is told what it made of the object,
   * `missing` that the API answers 404; then all is read, and decided anew. `refused` is told that Kubernetes will never take
   * this request: what can be written without it is decided anew, and all of it counts as refused in the end. Without it
   * nothing more is written.
   */
  | {
    readonly kind: 'write', readonly request: StatusRequest, readonly isLast: boolean
    landed?(object: KubeObject): void
    missing?(): void
    refused?(): void
  }
  | { readonly kind: 'drop', readonly reason: StatusDropReason }

export type StatusOutcome =
  | { readonly kind: 'written', readonly object: KubeObject }
  /** `object` is what was there at the first place. */
  | { readonly kind: 'dropped', readonly reason: StatusDropReason, readonly object: KubeObject | undefined }
  /** Kubernetes does not want it: the same request would never succeed. */
  | { readonly kind: 'refused', readonly error: KubeError }

/** What is to be written of one object, newest only. */
export interface StatusWrite {
  /** What it is decided by. The first one is the one that it is a write of. */
  readonly places: readonly [ObjectPlace, ...ObjectPlace[]]
  /** Whose it is: writes of one lane never keep those of another waiting. */
  readonly lane: string
  /**
   * Asked anew before each request, with what is there, in the order of `places`. `isRead`: just read from the API; otherwise a
   * watch may lag, and what is dropped for another reason than `recorded` is decided once more with what is read.
   */
  decide(objects: readonly (KubeObject | undefined)[], isRead: boolean): StatusDecision
  /** Called when it is over, also where a newer one took its place meanwhile; not where that happened before it was begun. */
  settled(outcome: StatusOutcome): void
}

export interface StatusWriterOptions {
  readonly writeIntervalMs: number
  readonly writesPerSecond: number
  readonly writesBurst: number
  readonly writesInFlight: number
}

export interface StatusWriterComponents {
  readonly client: KubeClient
  /** Of the kinds whose statuses are written; another kind is read from the API each time. */
  readonly informers: readonly Informer[]
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

/** Counts since start, for metrics. */
export interface StatusWriterStats {
  written: number
  readonly dropped: Record<StatusDropReason, number>
  refused: number
  /** Answers 409: the object had changed. */
  conflicts: number
  /** Replaced by a newer one before they were written. */
  coalesced: number
}

export const statusWriterDefaults: StatusWriterOptions = {
  writeIntervalMs: statusLimits.writeIntervalMs.value,
  writesPerSecond: statusLimits.writesPerSecond.value,
  writesBurst: statusLimits.writesBurst.value,
  writesInFlight: statusLimits.writesInFlight.value
}

/** So many conflicts in one run make it one that failed. */
const conflictTriesMax = 3
/** Requests of one run; what needs more fights with somebody. */
const requestsMax = 8

/**
 * Writes statuses into Kubernetes (STA-33): the first change of an object at once, then at most one write per object and
 * interval, newest wins; limited in rate; tried again until Kubernetes takes it, or says that it never will.
 *
 * Each write is of the object that `decide` saw, by its resourceVersion: where it changed meanwhile, or where no answer came,
 * the object is read from the API and `decide` is asked anew. A request that hangs and lands late meets another
 * resourceVersion, or is itself what the next read shows.
 */
export class StatusWriter {
  readonly stats: StatusWriterStats = {
    written: 0, dropped: { recorded: 0, gone: 0, another: 0, overtaken: 0, away: 0 }, refused: 0, conflicts: 0, coalesced: 0
  }

  readonly #components: StatusWriterComponents
  readonly #queue: ReconcileQueue
  /** Newest write of each lane to each place. */
  readonly #pending = new Map<string, StatusWrite>()
  /** What a write of ours made of an object, until its informer shows it; by place. */
  readonly #written = new Map<string, KubeObject>()
  /** Writes of which only the API knows what became of them. */
  readonly #unsure = new Set<string>()
  readonly #informers: ReadonlyMap<string, Informer>
  readonly #unsubscribe: readonly (() => void)[]

  constructor(options: StatusWriterOptions, components: StatusWriterComponents) {
    const { clock, random, log, informers } = components
    this.#components = components
    this.#informers = new Map(informers.map(informer => [informer.kind.plural, informer]))
    this.#queue = new ReconcileQueue({
      name: 'status writes', intervalMs: options.writeIntervalMs, runningMax: options.writesInFlight,
      backoff: { baseMs: 100, maxMs: statusLimits.retryMs.value }, runMs: statusLimits.writeMs.value
    }, {
      clock, random, log,
      bucket: new TokenBucket({ perSecond: options.writesPerSecond, burst: options.writesBurst }, clock.monotonicMs()),
      laneOf: key => this.#pending.get(key)?.lane ?? '',
      reconcile: (key, signal) => this.#reconcile(key, signal)
    })
    this.#unsubscribe = informers.map(informer => informer.subscribe({
      onChange: (before, after) => {
        const object = after ?? before
        if (object !== undefined) this.#seen(informer, object, after)
      }
    }))
  }

  /** Writes that wait or are under way. */
  get pending(): number { return this.#pending.size }

  /** Failed tries that were or will be made again, since start. */
  get retries(): number { return this.#queue.retries }

  /** Takes the place of what the same lane was to write of the same object; what another one says of it is its own. */
  put(write: StatusWrite): void {
    const key = keyOf(write)
    if (this.#pending.has(key)) this.stats.coalesced++
    this.#pending.set(key, write)
    this.#queue.add(key)
  }

  /** The write is not tried any more, if it is still the one to be made. A try that is under way may still land. */
  giveUp(write: StatusWrite): void {
    const key = keyOf(write)
    if (this.#pending.get(key) === write) this.#forget(key)
  }

  /** Nothing is written from now on; nothing that waits is settled. */
  close(): void {
    for (const unsubscribe of this.#unsubscribe) unsubscribe()
    this.#queue.close()
    this.#pending.clear()
  }

  /** What a write of this place would be decided by now. */
  newest(place: ObjectPlace): KubeObject | undefined { return this.#base(place) }

  async #reconcile(key: string, signal: AbortSignal): Promise<void> {
    let conflicts = 0
    let refusal: KubeError | undefined
    for (let requests = 0; requests < requestsMax; requests++) {
      const write = this.#pending.get(key)
      if (write === undefined) return
      const { decision, object } = await this.#decide(key, write, signal)
      if (decision.kind === 'drop') {
        this.stats.dropped[decision.reason]++
        this.#settle(key, write, refusal === undefined ? { kind: 'dropped', reason: decision.reason, object }
          : { kind: 'refused', error: refusal })
        return
      }
      // A run that is cut off never learns what became of it.
      this.#unsure.add(key)
      try {
        const made = await this.#request(decision.request)
        signal.throwIfAborted()
        // A watch shows for some time what was deleted: that is asked.
        if (made === undefined) continue
        this.#unsure.delete(key)
        this.#remember(decision.request.place, made)
        decision.landed?.(made)
        if (!decision.isLast) continue
        this.stats.written++
        this.#settle(key, write, refusal === undefined ? { kind: 'written', object: made } : { kind: 'refused', error: refusal })
        return
      } catch (error) {
        if (signal.aborted || !(error instanceof KubeError)) throw error
        if (error.status === 409 || error.status === 404) {
          if (error.status === 409) this.stats.conflicts++
          else decision.missing?.()
          if (++conflicts === conflictTriesMax) throw error
          continue
        }
        if (error.isRetryable) throw error
        this.stats.refused++
        this.#components.log.warn('Kubernetes refuses a write of a status; it is compared and tried again later', {
          object: textOf(write.places[0]), lane: write.lane, error: describeError(error)
        })
        if (decision.refused !== undefined) {
          decision.refused()
          refusal = error
          continue
        }
        this.#settle(key, write, { kind: 'refused', error })
        return
      }
    }
    throw new Error(`${key} changes all the time`)
  }

  async #decide(
    key: string, write: StatusWrite, signal: AbortSignal
  ): Promise<{ readonly decision: StatusDecision, readonly object: KubeObject | undefined }> {
    const { places } = write
    if (!this.#unsure.has(key)) {
      const objects = places.map(place => this.#base(place))
      const decision = write.decide(objects, false)
      if (decision.kind === 'write' || decision.reason === 'recorded') return { decision, object: objects[0] }
    }
    // A watch may lag: what it does not show is asked.
    const objects = await Promise.all(places.map(place => this.#components.client.get(place)))
    signal.throwIfAborted()
    this.#unsure.delete(key)
    return { decision: write.decide(objects, true), object: objects[0] }
  }

  /** What it made of the object; undefined: it is gone. */
  async #request(request: StatusRequest): Promise<KubeObject | undefined> {
    const { client } = this.#components
    switch (request.verb) {
      case 'patch': return await client.mergePatch(request.place, request.patch, request.subresource)
      case 'create': return await client.create(request.place.kind, request.object)
      case 'delete': {
        await client.delete(request.place, { uid: request.uid })
        return undefined
      }
    }
  }

  #settle(key: string, write: StatusWrite, outcome: StatusOutcome): void {
    if (this.#pending.get(key) === write) this.#forget(key)
    write.settled(outcome)
  }

  #forget(key: string): void {
    this.#pending.delete(key)
    this.#unsure.delete(key)
    this.#queue.drop(key)
  }

  /** What is known of the object without asking: newest of what the informer shows and what a write of ours made of it. */
  #base(place: ObjectPlace): KubeObject | undefined {
    const key = textOf(place)
    const informer = this.#informers.get(place.kind.plural)
    const shown = informer?.get(place.namespace === undefined ? place.name : `${place.namespace}/${place.name}`)
    const written = this.#written.get(key)
    if (written === undefined) return shown
    if (!hasReached(informer?.position, written) && !hasReached(shown?.metadata.resourceVersion, written)) return written
    this.#written.delete(key)
    return shown
  }

  #remember(place: ObjectPlace, object: KubeObject): void {
    if (!hasReached(this.#informers.get(place.kind.plural)?.position, object)) this.#written.set(textOf(place), object)
  }

  #seen(informer: Informer, object: KubeObject, after: KubeObject | undefined): void {
    const { kind } = informer
    const { namespace, name = '' } = object.metadata
    const key = textOf({ kind, namespace: kind.namespaced ? namespace : undefined, name })
    const written = this.#written.get(key)
    if (written === undefined) return
    if (after === undefined || hasReached(after.metadata.resourceVersion, written)) this.#written.delete(key)
  }
}

const keyOf = ({ lane, places: [place] }: StatusWrite): string => `${lane} ${textOf(place)}`

function textOf({ kind, namespace, name }: ObjectPlace): string {
  return `${kind.plural} ${objectKey({ apiVersion: '', kind: '', metadata: { name, ...namespace !== undefined && { namespace } } })}`
}

/**
 * A position or version is at or behind that of `object`, as far as it can be told: versions of an API that are not decimal
 * numbers have no order.
 */
function hasReached(position: string | undefined, { metadata: { resourceVersion = '' } }: KubeObject): boolean {
  if (position === undefined || !/^\d{1,40}$/.test(position) || !/^\d{1,40}$/.test(resourceVersion)) return position === resourceVersion
  return BigInt(position) >= BigInt(resourceVersion)
}
