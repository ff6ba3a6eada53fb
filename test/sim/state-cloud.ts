import type { Clock, NodeName } from '@holdfast/runtime'
import { stateDigest } from '@holdfast/sync'
import type { StateBatch, StateItem, StateListener, StateSource, StateTarget } from '@holdfast/sync'
import type { NodeState } from '../../packages/cloudcore/src/hub/hub.ts'
import type { SimulatedProcess } from './machine.ts'
import type { Cluster, Contents } from './state-truth.ts'
import { downCollections, placeOf, upCollections, versionOf } from './state-truth.ts'
import type { World } from './world.ts'

/** Reads one collection of all nodes from the API, as client libraries do: a list, then what changes. */
class Informer {
  readonly collection: string
  synced = false
  revision = 0
  view: Contents = new Map()
  /** Positions above what the source has, that a consistent list has shown to be of the past. */
  readonly #past = new Map<number, number>()
  #asking = false
  /** A replica of the API that lags serves this informer until then. */
  #lagUntilMs = -Infinity
  readonly #cluster: Cluster
  readonly #world: World
  readonly #clock: Clock
  readonly #onChange: (place: string | undefined) => void

  constructor(collection: string, cluster: Cluster, world: World, clock: Clock, onChange: (place: string | undefined) => void) {
    this.collection = collection
    this.#cluster = cluster
    this.#world = world
    this.#clock = clock
    this.#onChange = onChange
  }

  /** Lists, after some time, perhaps after some failures, perhaps from a replica that lags. */
  start(calm: boolean): void {
    const { random } = this.#world
    const errors = !calm && random.chance(0.3) ? random.integer(1, 6) : 0
    if (!calm && random.chance(0.25)) this.#lagUntilMs = this.#world.nowMs + random.integer(2000, 25_000)
    this.#clock.after(calm || random.chance(0.5) ? random.integer(1, 300) : random.integer(500, 15_000), () => { this.#list(errors) })
  }

  /** The watch ended and its revision is gone: what is known stays, until a list succeeds. */
  breakOff(): void {
    this.synced = false
    if (this.#world.random.chance(0.3)) this.#lagUntilMs = this.#world.nowMs + this.#world.random.integer(2000, 15_000)
    this.#onChange(undefined)
    this.#clock.after(this.#world.random.integer(100, 2000), () => { this.#list(this.#world.random.integer(0, 5)) })
  }

  changed(): void {
    if (!this.synced) return
    this.#clock.after(this.#world.random.integer(1, 60), () => { this.#follow() })
  }

  reached(position: string): boolean {
    if (!this.synced) return false
    const wanted = /^\d+$/.test(position) ? Number(position) : 0
    if (this.revision >= wanted) return true
    const actual = this.#past.get(wanted)
    if (actual !== undefined && this.revision >= actual) return true
    // Asked again where it was answered before: the source may have gone back once more since.
    this.#ask(wanted)
    return false
  }

  #list(errorsLeft: number): void {
    if (errorsLeft > 0) {
      this.#failed()
      this.#clock.after(this.#world.random.integer(200, 6000), () => { this.#list(errorsLeft - 1) })
      return
    }
    const back = this.#isLagging ? this.#world.random.integer(1, 25) : 0
    this.#show(Math.max(0, this.#cluster.revision - back))
    this.synced = true
    this.#onChange(undefined)
    if (this.#isLagging) this.#clock.after(this.#lagUntilMs - this.#world.nowMs + 1, () => { this.#follow() })
  }

  #failed(): void { this.#world.note(`${this.collection}: a list failed`) }

  get #isLagging(): boolean { return this.#world.nowMs < this.#lagUntilMs }

  #follow(): void {
    if (this.#isLagging || !this.synced) return
    this.#show(this.#cluster.revision)
    this.#onChange(undefined)
  }

  #show(revision: number): void {
    const before = this.view
    const all = this.#cluster.at(revision)
    this.view = new Map([...all].filter(([place]) => place.split(' ')[1] === this.collection))
    this.revision = revision
    for (const place of new Set([...before.keys(), ...this.view.keys()])) {
      if (before.get(place) !== this.view.get(place)) this.#onChange(place)
    }
  }

  /** A consistent list: what the revision is now, whatever a replica says. */
  #ask(wanted: number): void {
    if (this.#asking) return
    this.#asking = true
    this.#clock.after(this.#world.random.integer(20, 800), () => {
      this.#asking = false
      const actual = this.#cluster.revision
      if (actual < wanted) this.#past.set(wanted, actual)
      this.#onChange(undefined)
      // A bookmark: nothing changed here, and the source is further all the same.
      this.#follow()
    })
  }
}

/** One process's side of Kubernetes: informers for all nodes, and per node what goes down and what comes up. */
export class CloudState {
  readonly #informers: ReadonlyMap<string, Informer>
  readonly #cluster: Cluster
  readonly #world: World
  readonly #clock: Clock
  readonly #nodes = new Map<NodeName, { readonly down: NodeSource, readonly up: NodeTarget }>()

  constructor(cluster: Cluster, world: World, clock: Clock, process: SimulatedProcess, calm: boolean) {
    this.#cluster = cluster
    this.#world = world
    this.#clock = clock
    this.#informers = new Map(downCollections.map(name =>
      [name, new Informer(name, cluster, world, clock, place => { this.#changed(name, place) })]))
    const listener = {
      changed: (place: string): void => {
        if (process.alive) this.#informers.get(place.split(' ')[1]!)?.changed()
        else cluster.unlisten(listener)
      },
      restored: (): void => {
        if (!process.alive) return
        for (const informer of this.#informers.values()) if (informer.synced) informer.breakOff()
        for (const { up } of this.#nodes.values()) up.restored()
      }
    }
    cluster.listen(listener)
    for (const informer of this.#informers.values()) informer.start(calm)
  }

  /** A watch ends in mid-session. */
  breakOff(collection: string): void {
    const informer = this.#informers.get(collection)!
    if (informer.synced) informer.breakOff()
  }

  stateOf(node: NodeName): NodeState {
    let state = this.#nodes.get(node)
    if (state === undefined) {
      state = { down: new NodeSource(node, this.#informers), up: new NodeTarget(node, this.#cluster, this.#world, this.#clock) }
      this.#nodes.set(node, state)
    }
    return state
  }

  #changed(collection: string, place: string | undefined): void {
    if (place === undefined) {
      for (const { down } of this.#nodes.values()) down.collectionChanged(collection)
      return
    }
    const [node, , key] = place.split(' ')
    this.#nodes.get(node as NodeName)?.down.keyChanged(collection, key!)
  }
}

class NodeSource implements StateSource {
  readonly collections = downCollections
  readonly #node: NodeName
  readonly #informers: ReadonlyMap<string, Informer>
  readonly #listeners = new Set<StateListener>()

  constructor(node: NodeName, informers: ReadonlyMap<string, Informer>) {
    this.#node = node
    this.#informers = informers
  }

  ready(collection: string, position: string): boolean { return this.#informers.get(collection)!.reached(position) }
  position(collection: string): string { return String(this.#informers.get(collection)!.revision) }
  digest(collection: string): Buffer { return stateDigest(this.keysFrom(collection, '')) }

  version(collection: string, key: string): Buffer | undefined {
    const value = this.value(collection, key)
    return value === undefined ? undefined : versionOf(value)
  }

  value(collection: string, key: string): Buffer | undefined {
    return this.#informers.get(collection)!.view.get(placeOf(this.#node, collection, key))
  }

  keysFrom(collection: string, after: string): Iterable<readonly [string, Buffer]> {
    const prefix = placeOf(this.#node, collection, '')
    return [...this.#informers.get(collection)!.view]
      .filter(([place]) => place.startsWith(prefix) && place.slice(prefix.length) > after)
      .map(([place, value]) => [place.slice(prefix.length), versionOf(value)] as const)
      .toSorted(([a], [b]) => a < b ? -1 : 1)
  }

  subscribe(listener: StateListener): () => void {
    this.#listeners.add(listener)
    return () => { this.#listeners.delete(listener) }
  }

  keyChanged(collection: string, key: string): void { for (const listener of this.#listeners) listener.keyChanged(collection, key) }
  collectionChanged(collection: string): void { for (const listener of this.#listeners) listener.collectionChanged(collection) }
}

/** Writes what comes up into the cluster, sooner or later; what is there is what the cluster says (STA-30 ff.). */
class NodeTarget implements StateTarget {
  readonly collections = upCollections
  readonly #node: NodeName
  readonly #cluster: Cluster
  readonly #world: World
  readonly #clock: Clock
  readonly #listeners = new Set<(collection: string) => void>()
  /** Newest item per place that is not written; undefined: to be deleted. */
  readonly #pending = new Map<string, StateItem | undefined>()
  #idle: (() => void)[] = []

  constructor(node: NodeName, cluster: Cluster, world: World, clock: Clock) {
    this.#node = node
    this.#cluster = cluster
    this.#world = world
    this.#clock = clock
  }

  async digest(collection: string): Promise<Buffer> {
    await new Promise<void>(resolve => { this.#clock.after(this.#world.random.integer(1, 400), resolve) })
    while (this.#pending.size > 0) await new Promise<void>(resolve => { this.#idle.push(resolve) })
    return stateDigest(this.keysFrom(collection, ''))
  }

  position(): string { return '' }

  keysFrom(collection: string, after: string): (readonly [string, Buffer])[] {
    const prefix = placeOf(this.#node, collection, '')
    return [...this.#cluster.up].filter(([place]) => place.startsWith(prefix) && place.slice(prefix.length) > after)
      .map(([place, { version }]) => [place.slice(prefix.length), version] as const)
      .toSorted(([a], [b]) => a < b ? -1 : 1)
  }

  apply(batch: StateBatch, onApplied: (error?: Error) => void): void {
    for (const { key, version, value } of batch.puts) {
      this.#write(placeOf(this.#node, batch.collection, key), { version: Buffer.from(version), value: Buffer.from(value) })
    }
    for (const key of batch.deletes) this.#write(placeOf(this.#node, batch.collection, key), undefined)
    onApplied()
  }

  subscribe(listener: (collection: string) => void): () => void {
    this.#listeners.add(listener)
    return () => { this.#listeners.delete(listener) }
  }

  restored(): void {
    for (const collection of upCollections) for (const listener of this.#listeners) listener(collection)
  }

  #write(place: string, item: StateItem | undefined): void {
    const isQueued = this.#pending.has(place)
    this.#pending.set(place, item)
    if (isQueued) return
    this.#clock.after(this.#world.random.chance(0.8) ? this.#world.random.integer(1, 50) : this.#world.random.integer(50, 5000), () => {
      const newest = this.#pending.get(place)
      this.#pending.delete(place)
      const there = this.#cluster.up.get(place)
      if (newest === undefined) this.#cluster.up.delete(place)
      else if (there === undefined || !isLate(newest.version, there.version)) this.#cluster.up.set(place, newest)
      if (this.#pending.size === 0) for (const wake of this.#idle.splice(0)) wake()
    })
  }
}

/** The epoch is the one there, and the counter is not above it (STA-31). */
function isLate(version: Buffer, there: Buffer): boolean {
  return version.subarray(0, 8).equals(there.subarray(0, 8)) && version.readBigUInt64BE(8) <= there.readBigUInt64BE(8)
}
