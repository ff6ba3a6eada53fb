import type { KubeObject } from '@holdfast/kube-api'
import type { Clock, Log, NodeName, Timer } from '@holdfast/runtime'
import type { StateListener, StateSource } from '@holdfast/sync'
import type { Informer } from '../kube/kube-client.ts'
import { nodeViewLimits } from './limits.ts'
import { NodeViews } from './node-view.ts'
import type { NodeView } from './node-view.ts'
import { downCollections, informersBehind, isDownCollection } from './view-collections.ts'
import type { DownCollection } from './view-collections.ts'
import { checkSource, formatPosition, parsePosition } from './view-position.ts'
import { InformerProgress } from './view-progress.ts'
import type { ToldVersion } from './view-progress.ts'

export interface NodeSourcesComponents {
  /** One of each kind (`viewKinds`), of all namespaces; run by whoever made them, before or after this is made. */
  readonly informers: Readonly<Record<DownCollection, Informer>>
  readonly clock: Clock
  readonly log: Log
}

/** A position that a reader told of a collection. */
interface Telling {
  readonly source: NodeSource
  readonly collection: DownCollection
  readonly text: string
  /** The API's name when it was read. */
  readonly sourceUid: string
  readonly parts: readonly { readonly progress: InformerProgress, readonly told: ToldVersion }[]
}

/**
 * What goes down to each node (docs/spec/state.md), from one set of informers. Nothing is ready before `identify` was called: a
 * position has to say which API it is of.
 */
export class NodeSources {
  readonly #components: NodeSourcesComponents
  readonly #views: NodeViews
  readonly #sources = new Map<NodeName, NodeSource>()
  readonly #progress: Readonly<Record<DownCollection, InformerProgress>>
  readonly #unsubscribes: (() => void)[] = []
  /** Whose readers are told when it is reached. */
  readonly #waiting = new Set<Telling>()
  #sourceUid = ''
  #timer: Timer | undefined

  constructor(components: NodeSourcesComponents) {
    this.#components = components
    const { informers, clock, log } = components
    this.#views = new NodeViews({
      lookUp: (collection, key) => informers[collection].get(key),
      onChanged: (node, collection, key) => { this.#sources.get(node)?.keyChanged(collection, key) }
    })
    const onAnswered = (): void => { this.#lookSoon() }
    this.#progress = Object.fromEntries(downCollections.map(name =>
      [name, new InformerProgress({ informer: informers[name], clock, log, onAnswered })])) as Record<DownCollection, InformerProgress>
    for (const collection of downCollections) this.#follow(collection, informers[collection])
  }

  /** Names the API that the informers read: the uid of its namespace kube-system. */
  identify(sourceUid: string): void {
    checkSource(sourceUid)
    if (sourceUid === this.#sourceUid) return
    this.#sourceUid = sourceUid
    this.#lookSoon()
  }

  /** The same for the same node. One session listens to it at a time. */
  of(node: NodeName): StateSource {
    let source = this.#sources.get(node)
    if (source === undefined) {
      source = new NodeSource(this.#views.open(node), this)
      this.#sources.set(node, source)
    }
    return source
  }

  /** Ends with timers cancelled and informers no longer listened to. */
  close(): void {
    this.#timer?.cancel()
    this.#timer = undefined
    this.#waiting.clear()
    for (const unsubscribe of this.#unsubscribes.splice(0)) unsubscribe()
    for (const progress of Object.values(this.#progress)) progress.close()
  }

  /** For NodeSource: whether what was told before is still what this would be read as. */
  isCurrent({ sourceUid }: Telling): boolean { return sourceUid === this.#sourceUid }

  /** For NodeSource: a reader told this position now. */
  told(source: NodeSource, collection: DownCollection, text: string): Telling {
    const versions = parsePosition(this.#sourceUid, text)
    const parts = informersBehind[collection].map(name => {
      const progress = this.#progress[name]
      return { progress, told: progress.told(versions.get(name)) }
    })
    return { source, collection, text, sourceUid: this.#sourceUid, parts }
  }

  /** For NodeSource: where it is not reached, its reader is told later. */
  reached(telling: Telling): boolean {
    let isReached = this.#sourceUid !== ''
    // All of them, so that each informer knows who waits.
    for (const { progress, told } of telling.parts) isReached = progress.reached(told) && isReached
    if (isReached) this.#waiting.delete(telling)
    else this.#waiting.add(telling)
    return isReached
  }

  /** For NodeSource. */
  forget(telling: Telling): void {
    this.#waiting.delete(telling)
    for (const { progress, told } of telling.parts) progress.forget(told)
  }

  /** For NodeSource. */
  position(collection: DownCollection): string {
    if (this.#sourceUid === '') return ''
    return formatPosition(this.#sourceUid, informersBehind[collection].map(name => [name, this.#progress[name].position]))
  }

  #follow(collection: DownCollection, informer: Informer): void {
    this.#unsubscribes.push(informer.subscribe({
      onChange: (before, after) => { this.#views.changed(collection, keyOf((after ?? before)!), after) },
      onPosition: () => {
        this.#progress[collection].moved()
        this.#lookSoon()
      }
    }))
    for (const object of informer.objects()) this.#views.changed(collection, keyOf(object), object)
  }

  /** Once for all that moves in a while: a thousand nodes may wait. */
  #lookSoon(): void {
    if (this.#timer !== undefined || this.#waiting.size === 0) return
    this.#timer = this.#components.clock.after(nodeViewLimits.lookAgainMs.value, () => {
      this.#timer = undefined
      for (const telling of this.#waiting) if (this.reached(telling)) telling.source.collectionChanged(telling.collection)
    })
  }
}

function keyOf({ metadata: { name = '', namespace } }: KubeObject): string {
  return namespace === undefined || namespace === '' ? name : `${namespace}/${name}`
}

class NodeSource implements StateSource {
  readonly collections = downCollections
  readonly #view: NodeView
  readonly #sources: NodeSources
  readonly #listeners = new Set<StateListener>()
  /** What the reader told last, or was given with a batch. */
  readonly #tellings = new Map<DownCollection, Telling>()

  constructor(view: NodeView, sources: NodeSources) {
    this.#view = view
    this.#sources = sources
  }

  ready(collection: string, position: string): boolean {
    if (!isDownCollection(collection)) return false
    let telling = this.#tellings.get(collection)
    if (telling?.text !== position || !this.#sources.isCurrent(telling)) {
      if (telling !== undefined) this.#sources.forget(telling)
      telling = this.#sources.told(this, collection, position)
      this.#tellings.set(collection, telling)
    }
    return this.#sources.reached(telling)
  }

  position(collection: string): string { return isDownCollection(collection) ? this.#sources.position(collection) : '' }

  digest(collection: string): Buffer { return this.#view.digest(collection as DownCollection) }

  version(collection: string, key: string): Buffer | undefined { return this.#view.version(collection as DownCollection, key) }

  value(collection: string, key: string): Buffer | undefined { return this.#view.value(collection as DownCollection, key) }

  keysFrom(collection: string, after: string): Iterable<readonly [key: string, version: Buffer]> {
    return this.#view.keysFrom(collection as DownCollection, after)
  }

  subscribe(listener: StateListener): () => void {
    // What is told from now on was told after every list so far.
    this.#forget()
    this.#listeners.add(listener)
    return () => { if (this.#listeners.delete(listener) && this.#listeners.size === 0) this.#forget() }
  }

  /** For NodeSources. */
  keyChanged(collection: DownCollection, key: string): void {
    for (const listener of this.#listeners) listener.keyChanged(collection, key)
  }

  /** For NodeSources. */
  collectionChanged(collection: DownCollection): void {
    for (const listener of this.#listeners) listener.collectionChanged(collection)
  }

  #forget(): void {
    for (const telling of this.#tellings.values()) this.#sources.forget(telling)
    this.#tellings.clear()
  }
}
