import type { KubeObject } from '@holdfast/kube-api'
import { backoffDelayMs, describeError, wait } from '@holdfast/runtime'
import type { BackoffOptions, Clock, Log, Random, Service } from '@holdfast/runtime'
import type {
  Informer, InformerListener, KubeClient, KubeKind, KubeList, ListSelection, WatchEvent
} from './kube-client.ts'
import { KubeError, tooLarge } from './kube-error.ts'
import { kindName } from './kube-kinds.ts'
import { kubeClientLimits as limits } from './limits.ts'
import { compareResourceVersions } from './resource-version.ts'

export interface ListInformerOptions {
  readonly kind: KubeKind
  /** Default: all objects of the kind. */
  readonly selection?: ListSelection
  /** Between attempts. Default: up to 1 s, then twice that each time, up to 30 s; all of it random. */
  readonly backoff?: BackoffOptions
  /** Default: that of `kubeClientLimits`. */
  readonly objectsMax?: number
}

export interface ListInformerComponents {
  readonly client: Pick<KubeClient, 'list' | 'watch'>
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

/** A watch that lasted so long was a good one, whether or not there was anything to see. */
const goodWatchMs = 30_000

/** Of no object, though it could be one's. */
const probedName = 'holdfast-asks-for-the-version'

/**
 * An Informer: lists, then watches from the version of the list.
 *
 * - What is known stays known: a list that fails changes nothing, and no failure takes `synced` back.
 * - A list is taken over by its difference to what is known, in one turn of the event loop.
 * - Lists are consistent ones, so one that is older than what was known *when it was asked for* means that the source went
 *   back (it was restored from a backup). That is believed when a second list says so too, and only then is what is known
 *   taken back (STA-12). A list that is merely older than what the watch told meanwhile is not taken over: it shows
 *   nothing new.
 * - A watch is begun anew where it was, until it cannot be: 410, an event out of order, an answer that makes no sense. Then
 *   the objects are listed again.
 * - A server that went back waits in silence for the version that a watch is to begin at. So before a watch is begun anew, the
 *   server is asked for its version, with a list of nothing.
 *
 * A source that went back and has passed the old version since, while nobody was watching, cannot be told from one that did
 * not. Whoever restores etcd raises its revision (`--bump-revision`), for this as for every other client.
 */
export class ListInformer implements Informer, Service {
  readonly name: string
  readonly kind: KubeKind
  readonly #selection: ListSelection
  readonly #backoff: BackoffOptions
  readonly #objectsMax: number
  readonly #components: ListInformerComponents
  readonly #log: Log
  readonly #objects = new Map<string, KubeObject>()
  readonly #listeners = new Set<InformerListener>()
  /** Aborts when `run` ends; lists end with it. */
  readonly #stopped = new AbortController()
  #synced = false
  #position: string | undefined
  /** The watch has nowhere to go on from. */
  #mustList = true
  /** There was a watch since the last list: the source may have gone back. */
  #mustProbe = false
  /** The list that is being made, and the one that begins behind it. */
  #listing: Promise<void> = Promise.resolve()
  #next: Promise<void> | undefined
  /** Ends the watch or the pause that is under way: there is a new list. */
  #cut = new AbortController()
  /** Attempts since the last progress. */
  #attempts = 0
  #lastFailure = ''

  constructor(options: ListInformerOptions, components: ListInformerComponents) {
    const { kind, selection = {}, backoff = { baseMs: 1000, maxMs: 30_000 }, objectsMax = limits.informerObjects.value } = options
    this.kind = kind
    this.name = `informer of ${kindName(kind)}`
    this.#selection = selection
    this.#backoff = backoff
    this.#objectsMax = objectsMax
    this.#components = components
    this.#log = components.log.with({ kind: kindName(kind) })
  }

  get synced(): boolean { return this.#synced }

  get position(): string | undefined { return this.#position }

  get(key: string): KubeObject | undefined { return this.#objects.get(key) }

  objects(): Iterable<KubeObject> { return this.#objects.values() }

  subscribe(listener: InformerListener): () => void {
    this.#listeners.add(listener)
    return () => { this.#listeners.delete(listener) }
  }

  /** Rejects with what the list says, or with the reason for which `run` was ended. */
  relist(): Promise<void> {
    if (this.#next === undefined) {
      const begin = (): Promise<void> => {
        this.#next = undefined
        this.#listing = this.#list(this.#stopped.signal)
        return this.#listing
      }
      // The one under way may have been answered before this was asked for.
      this.#next = this.#listing.then(begin, begin)
    }
    return this.#next
  }

  /** Resolves when `signal` aborts; rejects where a listener throws. */
  async run(signal: AbortSignal): Promise<void> {
    const stop = (): void => {
      this.#stopped.abort(signal.reason)
      this.#cut.abort()
    }
    signal.addEventListener('abort', stop, { once: true })
    if (signal.aborted) stop()
    try {
      while (!this.#stopped.signal.aborted) await this.#attempt()
    } finally {
      signal.removeEventListener('abort', stop)
      stop()
    }
  }

  // ── the watch ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Lists where that is needed, watches to the watch's end, and pauses where that was no good one. */
  async #attempt(): Promise<void> {
    this.#cut = new AbortController()
    let failure: unknown
    try {
      if (this.#mustList || (this.#mustProbe && await this.#isBehind())) await this.relist()
      // A list that was taken over has ended what came before it.
      if (this.#cut.signal.aborted) this.#cut = new AbortController()
      if (this.#stopped.signal.aborted) return
      if (await this.#watch(this.#position!, this.#cut.signal)) return
    } catch (error) {
      if (this.#stopped.signal.aborted || error === this.#cut.signal.reason) return
      if (!(error instanceof KubeError)) throw error
      failure = error
      this.#mustList ||= needsList(error)
      this.#tell(error)
    }
    if (this.#cut.signal.aborted) return
    const asked = failure instanceof KubeError ? failure.retryAfterMs ?? 0 : 0
    const pauseMs = Math.max(asked, backoffDelayMs(this.#attempts++, this.#backoff, this.#components.random))
    await wait(this.#components.clock, pauseMs, this.#cut.signal).catch(() => undefined)
  }

  /** True where there is no reason to pause before the next one. */
  async #watch(from: string, signal: AbortSignal): Promise<boolean> {
    const { client, clock } = this.#components
    const startedMs = clock.monotonicMs()
    this.#mustProbe = true
    let seen: string | undefined
    const onEvent = (event: WatchEvent): void => {
      if (signal.aborted) return
      const version = event.type === 'BOOKMARK' ? event.resourceVersion : event.object.metadata.resourceVersion!
      if ((compareResourceVersions(version, seen ?? from) ?? 0) < 0) {
        throw new KubeError('KUBE_EXPIRED', 410, 'OutOfOrder', `${this.name}: an event of ${version} behind ${seen ?? from}`)
      }
      seen = version
      if (event.type !== 'BOOKMARK') this.#take(event.type, event.object)
      this.#progress(version)
    }
    try {
      await client.watch(this.kind, this.#selection, from, onEvent, signal)
    } finally {
      if (clock.monotonicMs() - startedMs >= goodWatchMs) this.#isWell()
    }
    return signal.aborted || seen !== undefined
  }

  /** Whether the source is not where it was. Costs a list without objects. */
  async #isBehind(): Promise<boolean> {
    const { fieldSelector = '' } = this.#selection
    // Who follows one object by its name may have no right to ask for another.
    const asked = fieldSelector.includes('metadata.name=') ? fieldSelector : `metadata.name=${probedName}`
    const { resourceVersion } = await this.#components.client.list(
      this.kind, { ...this.#selection, fieldSelector: asked }, this.#stopped.signal)
    return (compareResourceVersions(resourceVersion, this.#position!) ?? 0) < 0
  }

  #take(type: 'ADDED' | 'MODIFIED' | 'DELETED', object: KubeObject): void {
    const key = keyOf(object)
    const before = this.#objects.get(key)
    if (type === 'DELETED') {
      if (before === undefined) return
      this.#objects.delete(key)
      this.#changed(before, undefined)
      return
    }
    if (before === undefined && this.#objects.size >= this.#objectsMax) {
      throw tooLarge(this.name, 200, `there are more than ${this.#objectsMax} objects`)
    }
    if (before !== undefined && isSame(before, object)) return
    this.#objects.set(key, object)
    this.#changed(before, object)
  }

  // ── lists ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  async #list(signal: AbortSignal): Promise<void> {
    const known = this.#position
    const isBehind = (list: KubeList): boolean => known !== undefined
      && (compareResourceVersions(list.resourceVersion, known) ?? 0) < 0
    let list = await this.#fetch(signal)
    if (isBehind(list)) {
      const again = await this.#fetch(signal)
      if ((compareResourceVersions(again.resourceVersion, list.resourceVersion) ?? 0) < 0) {
        throw new KubeError('KUBE_EXPIRED', 410, 'OutOfOrder', `${this.name}: a list at ${again.resourceVersion} after one at `
          + `${list.resourceVersion}, with ${known} known: the API's servers do not agree`)
      }
      list = again
      if (isBehind(list)) {
        this.#log.warn('the Kubernetes API went back; what is known is taken back too', { known, listed: list.resourceVersion })
      }
    }
    if (this.#position !== known && this.#position !== undefined) {
      const ahead = compareResourceVersions(this.#position, list.resourceVersion)
      // What the watch told meanwhile is newer, and nothing went back: only `known` could be taken back, above.
      if (ahead !== undefined && ahead > 0 && !isBehind(list)) return
    }
    this.#takeOver(list, isBehind(list))
  }

  #fetch(signal: AbortSignal): Promise<KubeList> {
    return this.#components.client.list(this.kind, this.#selection, signal)
  }

  /** Of a source that went back all objects are told: it may have given a version that is known to other content. */
  #takeOver({ items, resourceVersion }: KubeList, wentBack: boolean): void {
    this.#cut.abort()
    this.#mustList = false
    this.#mustProbe = false
    const gone = new Map(this.#objects)
    for (const object of items) {
      const key = keyOf(object)
      const before = this.#objects.get(key)
      gone.delete(key)
      if (!wentBack && before !== undefined && isSame(before, object)) continue
      this.#objects.set(key, object)
      this.#changed(before, object)
    }
    for (const [key, before] of gone) {
      this.#objects.delete(key)
      this.#changed(before, undefined)
    }
    this.#synced = true
    this.#moved(resourceVersion)
  }

  // ── what is told ───────────────────────────────────────────────────────────────────────────────────────────────────

  #changed(before: KubeObject | undefined, after: KubeObject | undefined): void {
    for (const listener of this.#listeners) listener.onChange?.(before, after)
  }

  #progress(version: string): void {
    this.#isWell()
    this.#moved(version)
  }

  #isWell(): void {
    if (this.#lastFailure !== '') this.#log.info('objects are followed again', { attempts: this.#attempts })
    this.#attempts = 0
    this.#lastFailure = ''
  }

  #moved(version: string): void {
    this.#position = version
    for (const listener of this.#listeners) listener.onPosition?.()
  }

  /** Once for each failure that is another one; what is expected in the life of a watch is no failure. */
  #tell(error: KubeError): void {
    const failure = `${error.status} ${error.reason}`
    const isExpected = error.code === 'KUBE_EXPIRED' || (this.#attempts === 0 && error.status === 0)
    if (isExpected || failure === this.#lastFailure) {
      this.#log.debug('the watch ended', { error: describeError(error), attempts: this.#attempts })
      return
    }
    this.#lastFailure = failure
    this.#log.warn('objects cannot be followed; what is known stays, and it is tried again', { error: describeError(error) })
  }
}

/** Whether a watch that was answered so may not just be begun anew where it was. */
const needsList = ({ status }: KubeError): boolean => status !== 0 && status !== 429 && status !== 503

function keyOf({ metadata }: KubeObject): string {
  return metadata.namespace === undefined ? metadata.name! : `${metadata.namespace}/${metadata.name!}`
}

function isSame({ metadata: a }: KubeObject, { metadata: b }: KubeObject): boolean {
  return a.uid === b.uid && a.resourceVersion === b.resourceVersion
}
