import type { KubeObject } from '@holdfast/kube-api'
import type { KubeClient, KubeKind, KubeList, ListSelection, WatchEvent } from '../../kube/kube-client.ts'
import { KubeError } from '../../kube/kube-error.ts'
import type { ClusterState, MemoryCluster } from './memory-cluster.ts'

interface Change { readonly revision: number, readonly plural: string, readonly event: WatchEvent }

/** Lists and watches of a MemoryCluster, as an API server answers them. */
export class MemoryClient implements Pick<KubeClient, 'list' | 'watch'> {
  /** Kinds that nothing is told of: 403, as without a role. */
  readonly forbidden = new Set<string>()
  /** Nothing answers. */
  down = false
  /** Lists come from here, as from a server that lags. */
  replica: ClusterState | undefined
  /** Lists with objects that were answered, by kind. */
  readonly lists = new Map<string, number>()
  readonly #cluster: MemoryCluster
  readonly #known: Map<string, KubeObject>
  #changes: Change[] = []
  /** Watches from before are answered 410. */
  #oldest = 0
  readonly #watches = new Set<{ readonly plural: string, readonly take: (event: WatchEvent) => void, readonly end: (error?: Error) => void }>()
  readonly stop: () => void

  constructor(cluster: MemoryCluster) {
    this.#cluster = cluster
    this.#known = new Map(cluster.objects)
    this.stop = cluster.follow((plural, key, object) => {
      const before = this.#known.get(`${plural} ${key}`)
      if (object === undefined) this.#known.delete(`${plural} ${key}`)
      else this.#known.set(`${plural} ${key}`, object)
      const { revision } = cluster
      if (object !== undefined) this.#tell({ revision, plural, event: { type: before === undefined ? 'ADDED' : 'MODIFIED', object } })
      else if (before !== undefined) {
        const deleted = { ...before, metadata: { ...before.metadata, resourceVersion: String(revision) } }
        this.#tell({ revision, plural, event: { type: 'DELETED', object: deleted } })
      }
    })
  }

  async list({ plural }: KubeKind, { fieldSelector }: ListSelection, signal: AbortSignal): Promise<KubeList> {
    await Promise.resolve()
    signal.throwIfAborted()
    this.#refuse(plural)
    const { revision, objects } = this.replica ?? this.#cluster.state
    if (fieldSelector !== undefined) return { items: [], resourceVersion: String(revision) }
    this.lists.set(plural, (this.lists.get(plural) ?? 0) + 1)
    const items = [...objects].filter(([id]) => id.startsWith(`${plural} `)).map(([, object]) => object)
    return { items, resourceVersion: String(revision) }
  }

  async watch(
    { plural }: KubeKind, _selection: ListSelection, from: string, onEvent: (event: WatchEvent) => void, signal: AbortSignal
  ): Promise<void> {
    await Promise.resolve()
    if (signal.aborted) return
    this.#refuse(plural)
    if (Number(from) < this.#oldest) throw expired()
    for (const { revision, plural: of, event } of this.#changes) if (of === plural && revision > Number(from)) onEvent(event)
    await new Promise<void>((resolve, reject) => {
      const watch = { plural, take: onEvent, end: (error?: Error) => {
        this.#watches.delete(watch)
        if (error === undefined) resolve()
        else reject(error)
      } }
      this.#watches.add(watch)
      signal.addEventListener('abort', () => { watch.end() }, { once: true })
    })
  }

  /** Watches end; with 410 where what they would go on from is gone. */
  cut(isExpired: boolean): void {
    for (const watch of this.#watches) watch.end(isExpired ? expired() : undefined)
  }

  /** As from a backup; with a revision that is raised above all that were given, what was is compacted. */
  restore(state: ClusterState, isRaised: boolean): void {
    const { revision } = this.#cluster
    this.#cluster.restore(isRaised ? { ...state, revision: revision + 1000 } : state)
    if (isRaised) this.#oldest = this.#cluster.revision
    this.#changes = isRaised ? [] : this.#changes.filter(change => change.revision <= state.revision)
    this.#known.clear()
    for (const [id, object] of state.objects) this.#known.set(id, object)
    this.cut(isRaised)
  }

  #tell(change: Change): void {
    this.#changes.push(change)
    if (this.down || this.forbidden.has(change.plural)) return
    for (const { plural, take } of this.#watches) if (plural === change.plural) take(change.event)
  }

  #refuse(plural: string): void {
    if (this.down) throw new KubeError('KUBE_UNREACHABLE', 0, 'Unreachable', 'nothing answers')
    if (this.forbidden.has(plural)) throw new KubeError('KUBE_REFUSED', 403, 'Forbidden', `${plural} is forbidden`)
  }
}

const expired = (): KubeError => new KubeError('KUBE_EXPIRED', 410, 'Expired', 'too old resource version')
