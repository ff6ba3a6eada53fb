import type { KubeObject } from '@holdfast/kube-api'
import type { Informer, InformerListener, KubeKind } from '../../kube/kube-client.ts'
import { groupVersion } from '../../kube/kube-kinds.ts'
import { downCollections, kindNames, viewKinds } from '../view-collections.ts'
import type { DownCollection } from '../view-collections.ts'

/** What a cluster's API holds, by `collection key`, and how far it is. */
export interface ClusterState { readonly revision: number, readonly objects: ReadonlyMap<string, KubeObject> }

/** The API of a cluster, in memory. */
export class MemoryCluster {
  revision = 100
  objects = new Map<string, KubeObject>()
  readonly #followers = new Set<(collection: DownCollection, key: string, object: KubeObject | undefined) => void>()
  readonly #step: number
  #restores = 0
  #uids = 0

  /** With steps above 1 no revision is given twice in as many timelines: a restore goes back, and on with others. */
  constructor(step = 1) { this.#step = step }

  /** An object that is there keeps its uid. */
  put(collection: DownCollection, key: string, body: object = {}, metadata: object = {}): void {
    const [name, namespace] = key.split('/').toReversed() as [string, string | undefined]
    const uid = this.objects.get(`${collection} ${key}`)?.metadata.uid ?? `uid-${++this.#uids}`
    const resourceVersion = String(this.revision += this.#step)
    this.#set(collection, key, {
      apiVersion: groupVersion(viewKinds[collection]), kind: kindNames[collection],
      metadata: { name, ...namespace !== undefined && { namespace }, uid, resourceVersion, ...metadata }, ...body
    })
  }

  delete(collection: DownCollection, key: string): void {
    this.revision += this.#step
    this.#set(collection, key, undefined)
  }

  get state(): ClusterState { return { revision: this.revision, objects: new Map(this.objects) } }

  /** As a backup of etcd does. Nobody is told. */
  restore({ revision, objects }: ClusterState): void {
    this.revision = revision - revision % this.#step + ++this.#restores % this.#step
    this.objects = new Map(objects)
  }

  follow(follower: (collection: DownCollection, key: string, object: KubeObject | undefined) => void): () => void {
    this.#followers.add(follower)
    return () => { this.#followers.delete(follower) }
  }

  #set(collection: DownCollection, key: string, object: KubeObject | undefined): void {
    if (object === undefined) this.objects.delete(`${collection} ${key}`)
    else this.objects.set(`${collection} ${key}`, object)
    for (const follower of this.#followers) follower(collection, key, object)
  }
}

/** Reads one kind of a MemoryCluster when it is told to. */
export class MemoryInformer implements Informer {
  readonly kind: KubeKind
  synced = false
  position: string | undefined
  /** Each change of the cluster is seen at once; otherwise none. */
  following = false
  /** `relist` was called so often. */
  relists = 0
  /** What `relist` waits for, or fails with. */
  answer: () => Promise<void> = () => Promise.resolve()
  readonly #collection: DownCollection
  readonly #cluster: MemoryCluster
  #objects = new Map<string, KubeObject>()
  readonly #listeners = new Set<InformerListener>()
  readonly stop: () => void

  constructor(collection: DownCollection, cluster: MemoryCluster) {
    this.kind = viewKinds[collection]
    this.#collection = collection
    this.#cluster = cluster
    this.stop = cluster.follow((changed, key, object) => {
      if (this.following && changed === collection) this.#event(key, object)
    })
  }

  get(key: string): KubeObject | undefined { return this.#objects.get(key) }
  objects(): Iterable<KubeObject> { return this.#objects.values() }
  subscribe(listener: InformerListener): () => void {
    this.#listeners.add(listener)
    return () => { this.#listeners.delete(listener) }
  }

  get listeners(): number { return this.#listeners.size }

  async relist(): Promise<void> {
    this.relists++
    await this.answer()
    this.list()
  }

  /** Reads a list and follows from there on; one of a replica that lags, and that nothing follows. */
  list(replica?: ClusterState): void {
    const from = replica ?? this.#cluster.state
    const before = this.#objects
    this.#objects = new Map([...from.objects].filter(([id]) => id.startsWith(`${this.#collection} `))
      .map(([id, object]) => [id.slice(this.#collection.length + 1), object]))
    this.position = String(from.revision)
    this.synced = true
    this.following = replica === undefined
    for (const key of new Set([...before.keys(), ...this.#objects.keys()])) {
      // Not by resourceVersion: one that was given again after a restore names something else.
      if (before.get(key) !== this.#objects.get(key)) this.#tell(before.get(key), this.#objects.get(key))
    }
    this.#moved()
  }

  /** The API is so far, and nothing of this kind changed. */
  bookmark(): void {
    this.position = String(this.#cluster.revision)
    this.#moved()
  }

  #event(key: string, object: KubeObject | undefined): void {
    const before = this.#objects.get(key)
    if (object === undefined) this.#objects.delete(key)
    else this.#objects.set(key, object)
    this.position = String(this.#cluster.revision)
    this.#tell(before, object)
    this.#moved()
  }

  #tell(before: KubeObject | undefined, after: KubeObject | undefined): void {
    if (before === undefined && after === undefined) return
    for (const listener of this.#listeners) listener.onChange?.(before, after)
  }

  #moved(): void { for (const listener of this.#listeners) listener.onPosition?.() }
}

/** One informer of each kind. */
export function memoryInformers(cluster: MemoryCluster): Record<DownCollection, MemoryInformer> {
  return Object.fromEntries(downCollections.map(name => [name, new MemoryInformer(name, cluster)])) as Record<DownCollection, MemoryInformer>
}
