import type { KubeObject } from '@holdfast/kube-api'
import type { Clock, Log, NodeName } from '@holdfast/runtime'
import { Devices } from '../../packages/cloudcore/src/devices/devices.ts'
import type { NodeState } from '../../packages/cloudcore/src/hub/hub.ts'
import type { Informer, InformerListener, KubeClient, KubeKind, KubeList, ObjectPlace } from '../../packages/cloudcore/src/kube/kube-client.ts'
import { kubeKinds } from '../../packages/cloudcore/src/kube/kube-kinds.ts'
import { NodeSources } from '../../packages/cloudcore/src/state/node-source.ts'
import { objectKey } from '../../packages/cloudcore/src/state/status-document.ts'
import type { ScriptedCluster, ScriptedInformer } from '../../packages/cloudcore/src/state/testing/up-cluster.ts'
import { UpTargets } from '../../packages/cloudcore/src/state/up-target.ts'
import { downCollections, viewKinds } from '../../packages/cloudcore/src/state/view-collections.ts'
import type { DownCollection } from '../../packages/cloudcore/src/state/view-collections.ts'
import type { SimulatedProcess } from './machine.ts'
import type { World } from './world.ts'

/** What a cluster holds of each kind, at once. */
export type Truth = ReadonlyMap<KubeKind, ScriptedInformer>

/** One process' client: what a dead one asks for does not happen, and nothing comes back to it. */
class ProcessClient implements KubeClient {
  readonly #cluster: ScriptedCluster
  readonly #process: SimulatedProcess

  constructor(cluster: ScriptedCluster, process: SimulatedProcess) {
    this.#cluster = cluster
    this.#process = process
  }

  get(place: ObjectPlace): Promise<KubeObject | undefined> { return this.#ask(() => this.#cluster.get(place)) }
  list(kind: KubeKind): Promise<KubeList> { return this.#ask(() => this.#cluster.list(kind)) }
  watch(...[, , , , signal]: Parameters<KubeClient['watch']>): Promise<void> {
    return new Promise(resolve => { signal.addEventListener('abort', () => { resolve() }) })
  }

  create(kind: KubeKind, object: KubeObject): Promise<KubeObject> { return this.#ask(() => this.#cluster.create(kind, object)) }
  replace(place: ObjectPlace, object: KubeObject): Promise<KubeObject> { return this.#ask(() => this.#cluster.replace(place, object)) }
  mergePatch(place: ObjectPlace, patch: object, subresource?: 'status'): Promise<KubeObject> {
    return this.#ask(() => this.#cluster.mergePatch(place, patch, subresource))
  }

  delete(place: ObjectPlace, options?: { readonly gracePeriodSeconds?: number, readonly uid?: string }): Promise<void> {
    return this.#ask(() => this.#cluster.delete(place, options))
  }

  #ask<T>(request: () => Promise<T>): Promise<T> {
    if (!this.#process.output()) return new Promise(() => {})
    return new Promise((resolve, reject) => {
      request().then(value => { this.#process.input(() => { resolve(value) }) }, (error: Error) => { this.#process.input(() => { reject(error) }) })
    })
  }
}

/** Sees one kind of the cluster later than it is, and now and then not at all. */
class LateInformer implements Informer {
  readonly kind: KubeKind
  synced = false
  position: string | undefined
  readonly #truth: ScriptedInformer
  readonly #world: World
  readonly #clock: Clock
  readonly #listeners = new Set<InformerListener>()
  readonly #stop: () => void
  #view = new Map<string, KubeObject>()
  #isDue = false
  #heldUntilMs = -Infinity

  constructor(truth: ScriptedInformer, world: World, clock: Clock, calm: boolean) {
    this.kind = truth.kind
    this.#truth = truth
    this.#world = world
    this.#clock = clock
    this.#stop = truth.subscribe({ onPosition: () => { this.#followSoon() } })
    const { random } = world
    clock.after(calm || random.chance(0.5) ? random.integer(1, 300) : random.integer(500, 10_000), () => { this.#list() })
  }

  get(key: string): KubeObject | undefined { return this.#view.get(key) }
  objects(): Iterable<KubeObject> { return this.#view.values() }
  subscribe(listener: InformerListener): () => void {
    this.#listeners.add(listener)
    return () => { this.#listeners.delete(listener) }
  }

  async relist(): Promise<void> {
    await new Promise<void>(resolve => { this.#clock.after(this.#world.random.integer(1, 500), resolve) })
    this.#list()
  }

  /** The watch ended, and is made anew sooner or later; or what serves it lags. */
  breakOff(): void {
    const { random, nowMs } = this.#world
    this.#heldUntilMs = nowMs + random.integer(500, 15_000)
    if (random.chance(0.5)) this.synced = false
    this.#clock.after(this.#heldUntilMs - nowMs, () => { this.#list() })
  }

  close(): void { this.#stop() }

  #followSoon(): void {
    if (this.#isDue || !this.synced) return
    this.#isDue = true
    this.#clock.after(this.#world.random.integer(1, 60), () => {
      this.#isDue = false
      if (this.synced && this.#world.nowMs >= this.#heldUntilMs) this.#list()
    })
  }

  #list(): void {
    const before = this.#view
    this.#view = new Map([...this.#truth.objects()].map(object => [objectKey(object), object]))
    this.position = this.#truth.position
    this.synced = true
    for (const key of new Set([...before.keys(), ...this.#view.keys()])) {
      const [was, is] = [before.get(key), this.#view.get(key)]
      if (was !== is) for (const listener of this.#listeners) listener.onChange?.(was, is)
    }
    for (const listener of this.#listeners) listener.onPosition?.()
  }
}

/** The cloud's side of twins as cloudcore puts it together, for one process of it. */
export class TwinsCloud {
  readonly devices: Devices
  readonly #informers: Readonly<Record<DownCollection, LateInformer>>
  readonly #deviceStatuses: LateInformer
  readonly #sources: NodeSources
  readonly #targets: UpTargets
  readonly #world: World

  constructor(cluster: ScriptedCluster, truth: Truth, { world, clock, log, process, calm }: {
    readonly world: World, readonly clock: Clock, readonly log: Log, readonly process: SimulatedProcess, readonly calm: boolean
  }) {
    this.#world = world
    const random = { next: () => world.random.next(), bytes: (length: number) => world.random.bytes(length) }
    const informer = (kind: KubeKind): LateInformer => new LateInformer(truth.get(kind)!, world, clock, calm)
    const informers = Object.fromEntries(downCollections.map(name => [name, informer(viewKinds[name])])) as Record<DownCollection, LateInformer>
    this.#informers = informers
    this.#deviceStatuses = informer(kubeKinds.deviceStatuses)
    this.devices = new Devices({ api: 'embedded' }, {
      client: new ProcessClient(cluster, process), devices: informers.devices, deviceModels: informers.devicemodels,
      deviceStatuses: this.#deviceStatuses, nodes: informers.nodes, clock, random, log
    })
    this.#sources = new NodeSources({ informers: { ...informers, devices: this.devices.stamped }, clock, log })
    this.#sources.identify('cluster-of-twins')
    this.#targets = new UpTargets({ collections: [this.devices.twins], clock, log })
  }

  stateOf(node: NodeName): NodeState { return { down: this.#sources.of(node), up: this.#targets.of(node) } }

  breakOff(): void {
    const all = [this.#informers.devices, this.#informers.devicemodels, this.#deviceStatuses]
    all[this.#world.random.integer(0, all.length - 1)]!.breakOff()
  }

  /** When its process is dead. */
  close(): void {
    for (const informer of [...Object.values(this.#informers), this.#deviceStatuses]) informer.close()
    this.#targets.close()
    this.#sources.close()
    this.devices.close()
  }
}

/** Every kind that there is something of. */
export function truthOf(cluster: ScriptedCluster): Truth {
  return new Map([...downCollections.map(name => viewKinds[name]), kubeKinds.deviceStatuses].map(kind => [kind, cluster.informer(kind)]))
}
