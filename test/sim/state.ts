import type { Frame } from '@holdfast/protos'
import type { Clock } from '@holdfast/runtime'
import type { StoreEntry } from '@holdfast/store'
import { tables } from '@holdfast/store'
import { stateDigest } from '@holdfast/sync'
import type { StateBatch } from '@holdfast/sync'
import type { Edge } from './edge.ts'
import type { SimulatedProcess } from './machine.ts'
import type { Simulation } from './simulation.ts'
import type { EdgeParts, EdgeSide, StateBeside } from './state-beside.ts'
import { CloudState } from './state-cloud.ts'
import { EdgeState } from './state-edge.ts'
import { Cluster, Contributions, downCollections, placeOf, upCollections, versionOf } from './state-truth.ts'

const keys = ['default/a', 'default/b', 'default/c', 'kube-system/d', 'kube-system/e', 'plant/f', 'plant/g', 'plant/h']

interface EdgeView { applied: number, base: number, state: EdgeState | undefined }

/**
 * State in both directions beside the Log: what changes in the cluster and on the nodes, and the oracles.
 *
 * - O-S1: a node deletes an item only if the cluster was without it at some time after that version of it was made;
 * - O-S2: an item goes back to an older version only if the cluster was restored, or is another one;
 * - O-S3: what a node acknowledges is on its disk;
 * - O-S4: nothing of another cluster is applied before the node is moved there;
 * - O-S5: in the end, each node's disk holds exactly what the cluster has for it, and the cluster exactly what the node says;
 * - O-S6: a reconnect with nothing changed moves no item.
 */
export class StateSimulation implements StateBeside {
  readonly contributions: Contributions
  cluster: Cluster
  clusterChangedMs = -Infinity
  changes = 0
  itemsMoved = 0
  notReady = 0
  readonly #simulation: Simulation
  readonly #views = new Map<Edge, EdgeView>()
  #checkedMs = -Infinity
  #converged = false

  constructor(simulation: Simulation) {
    this.#simulation = simulation
    this.contributions = new Contributions(simulation.world)
    this.cluster = new Cluster(simulation.world)
  }

  start(chaosMs: number, changes: number): void {
    const { world, edges } = this.#simulation
    const { random } = world
    for (const edge of edges) {
      for (const collection of downCollections) for (const key of keys) if (random.chance(0.6)) this.#put(edge, collection, key)
    }
    for (let i = 0; i < changes; i++) {
      world.after(random.next() * chaosMs, () => {
        if (this.#simulation.healed) return
        const edge = edges[random.integer(0, edges.length - 1)]!
        for (let burst = random.chance(0.1) ? random.integer(3, 20) : 1; burst > 0; burst--) this.#change(edge)
      })
    }
  }

  /** For an edge's process that has just started. */
  async openEdge(edge: Edge, { database }: EdgeParts): Promise<EdgeSide> {
    const { world } = this.#simulation
    const view: EdgeView = { applied: 0, base: 0, state: undefined }
    const state = await EdgeState.open(database, Buffer.from(world.random.bytes(8)), {
      applying: (batch, held) => { this.#checkBatch(edge, batch, held) },
      applied: () => { view.applied++ }
    })
    view.state = state
    this.#views.set(edge, view)
    return { down: state.down, up: state.up, refuse() {}, reopen: () => state.up.reload() }
  }

  openCloud(clock: Clock, process: SimulatedProcess): CloudState {
    return new CloudState(this.cluster, this.#simulation.world, clock, process, this.#simulation.healed)
  }

  /** What the cloud says on a connection. */
  said(frame: Frame): void {
    const verdicts = frame.kind === 'welcome' ? frame.stateVerdicts : frame.kind === 'state-verdict' ? frame.verdicts : []
    this.notReady += verdicts.filter(({ verdict }) => verdict === 'not-ready').length
  }

  /** What an edge says on its connection. */
  heard(edge: Edge, frame: Frame): void {
    const view = this.#views.get(edge)
    if (view === undefined) return
    if (frame.kind === 'hello') view.base = view.applied
    if (frame.kind !== 'state-ack') return
    this.#simulation.world.expect(frame.sequence <= view.applied - view.base, () =>
      `${edge.name}: State batch ${frame.sequence} is acknowledged, ${view.applied - view.base} are on the disk`)
  }

  wentBack(): void {}

  newCluster(): void {
    const { world, edges } = this.#simulation
    this.cluster = new Cluster(world)
    this.clusterChangedMs = world.nowMs
    for (const edge of edges) for (const key of keys) if (world.random.chance(0.3)) this.#put(edge, 'configmaps', key)
  }

  /** Makes a backup of the cluster and puts it back later. */
  backUp(): () => void {
    const { cluster } = this
    const { revision, up } = cluster
    const copy = new Map(up)
    return () => {
      if (cluster !== this.cluster || this.#simulation.healed) return
      this.#simulation.world.note(`the cluster goes back from revision ${cluster.revision} to ${revision}`)
      cluster.restore(revision, copy)
    }
  }

  /** Nodes are moved to the cluster that is there now. */
  heal(): void {
    const { world, edges } = this.#simulation
    const adopt = (): void => {
      for (const { running } of edges) {
        if (running?.link.clusterChanged !== true) continue
        running.link.adoptCluster().catch((error: unknown) => { world.note(`not moved: ${String(error)}`) })
      }
      if (!this.#converged) world.after(2000, adopt)
    }
    adopt()
  }

  /** Looked at now and then: it reads everything. */
  get converged(): boolean {
    const { world } = this.#simulation
    if (this.#converged || world.nowMs < this.#checkedMs + 200) return this.#converged
    this.#checkedMs = world.nowMs
    this.#converged = this.#simulation.edges.every(edge => this.#differences(edge).length === 0)
    return this.#converged
  }

  describe(): string { return this.#simulation.edges.flatMap(edge => this.#differences(edge)).join('; ') }

  /** O-S5, from the disks, and O-S6. */
  async verify(): Promise<string> {
    const { world, edges, cloud } = this.#simulation
    let text = ''
    for (const edge of edges) {
      for (const collection of downCollections) {
        const wanted = this.#wanted(edge, collection)
        const onDisk = new Map(await this.#views.get(edge)!.state!.down.read(collection))
        world.expect(wanted.size === onDisk.size && [...wanted].every(([key, value]) => onDisk.get(key)?.equals(value) === true), () =>
          `${edge.name}: ${collection} on its disk are ${[...onDisk.keys()].join()}, the cluster has ${[...wanted.keys()].join()}`)
        text += `${edge.name} ${collection} ${stateDigest([...wanted].toSorted(([a], [b]) => a < b ? -1 : 1)
          .map(([key, value]) => [key, versionOf(value)])).toString('hex')}\n`
      }
    }
    const { stateStats } = cloud.running!.hub
    const before = structuredClone(stateStats)
    for (const edge of edges) edge.cutLink('once more')
    const untilMs = world.nowMs + 60_000
    const perEdge = downCollections.length + upCollections.length
    const equal = (): number => stateStats.down.verdicts.equal + stateStats.up.verdicts.equal - before.down.verdicts.equal -
      before.up.verdicts.equal
    await world.run(untilMs, () => equal() >= perEdge * edges.length, () => {})
    world.expect(equal() === perEdge * edges.length, () => `after a reconnect ${equal()} of ${perEdge * edges.length} collections are equal`)
    for (const way of ['down', 'up'] as const) {
      world.expect(stateStats[way].itemsPut === before[way].itemsPut && stateStats[way].itemsDeleted === before[way].itemsDeleted,
        () => `a reconnect with nothing changed moved items ${way}`)
    }
    return text
  }

  #wanted(edge: Edge, collection: string): Map<string, Buffer> {
    const prefix = placeOf(edge.options.name, collection, '')
    return new Map([...this.cluster.at(this.cluster.revision)].filter(([place]) => place.startsWith(prefix))
      .map(([place, value]) => [place.slice(prefix.length), value]))
  }

  #differences(edge: Edge): string[] {
    const state = this.#views.get(edge)?.state
    if (state === undefined || edge.running?.link.live !== true) return [`${edge.name} is not there`]
    const found: string[] = []
    for (const collection of downCollections) {
      const wanted = this.#wanted(edge, collection)
      const held = new Map(state.down.keysFrom(collection, ''))
      if (wanted.size !== held.size || [...wanted].some(([key, value]) => held.get(key)?.equals(versionOf(value)) !== true)) {
        found.push(`${edge.name} holds ${held.size} ${collection}, the cluster ${wanted.size}`)
      }
    }
    for (const collection of upCollections) {
      const prefix = placeOf(edge.options.name, collection, '')
      const there = [...this.cluster.up].filter(([place]) => place.startsWith(prefix))
      const own = [...state.up.keysFrom(collection, '')]
      if (there.length !== own.length || own.some(([key, version]) => {
        const item = this.cluster.up.get(prefix + key)
        return item?.version.equals(version) !== true || !item.value.equals(state.up.value(collection, key)!)
      })) found.push(`${edge.name} says ${own.length} ${collection}, the cluster has ${there.length}`)
    }
    return found
  }

  #put(edge: Edge, collection: string, key: string): void {
    this.changes++
    this.cluster.put(placeOf(edge.options.name, collection, key), this.contributions.make(`${collection} ${key}`))
  }

  #change(edge: Edge): void {
    const { random } = this.#simulation.world
    const key = keys[random.integer(0, keys.length - 1)]!
    if (random.chance(0.3)) {
      const collection = upCollections[random.integer(0, 1)]!
      const running = edge.running
      if (running?.process.alive !== true) return
      this.changes++
      this.#views.get(edge)?.state?.up.set(collection, key, random.chance(0.75) ? this.contributions.make(`${collection} ${key}`) : undefined)
      return
    }
    const collection = downCollections[random.integer(0, downCollections.length - 1)]!
    if (random.chance(0.65)) this.#put(edge, collection, key)
    else {
      this.changes++
      this.cluster.put(placeOf(edge.options.name, collection, key), undefined)
    }
  }

  #checkBatch(edge: Edge, batch: StateBatch, held: (key: string) => Buffer | undefined): void {
    const { world } = this.#simulation
    const { cluster, contributions } = this
    const node = edge.options.name
    world.expect(edge.running?.link.clusterChanged !== true, () => `${edge.name}: a batch of another cluster is applied`)
    for (const key of batch.deletes) {
      const version = held(key)
      const madeMs = version === undefined ? undefined : contributions.createdMs(version)
      if (madeMs === undefined) continue
      world.expect(cluster.wasAbsentAfter(placeOf(node, batch.collection, key), madeMs), () =>
        `${edge.name}: ${batch.collection} ${key} is deleted, the cluster had it all the time`)
    }
    this.itemsMoved += batch.puts.length + batch.deletes.length
    for (const { key, version } of batch.puts) {
      const before = held(key)
      const beforeMs = before === undefined ? undefined : contributions.createdMs(before)
      const madeMs = contributions.createdMs(version)
      world.expect(madeMs !== undefined, () => `${edge.name}: ${batch.collection} ${key}: a content that never was`)
      world.expect(beforeMs === undefined || madeMs! >= beforeMs || Math.max(cluster.restoredMs, this.clusterChangedMs) >= beforeMs, () =>
        `${edge.name}: ${batch.collection} ${key} goes back to what was made at ${madeMs} from ${beforeMs}`)
    }
  }
}

/** One bit flips in one item or position of an edge's table; undefined where it holds none. */
export function flipStateBit(entries: readonly StoreEntry[], random: { integer(min: number, max: number): number }): StoreEntry[] | undefined {
  const ours = entries.filter(({ key }) => key[0] === tables.objectDown || key[0] === tables.objectPosition)
  if (ours.length === 0) return undefined
  const victim = ours[random.integer(0, ours.length - 1)]!
  // The table and the collection are what the row is found by; the rest may be anything.
  const bytes = Buffer.concat([victim.key, victim.value])
  const bit = random.integer(2 * 8, bytes.length * 8 - 1)
  bytes[bit >> 3]! ^= 1 << (bit & 7)
  const flipped = { key: bytes.subarray(0, victim.key.length), value: bytes.subarray(victim.key.length) }
  const others = entries.filter(entry => entry !== victim && !entry.key.equals(flipped.key))
  return [...others, flipped].toSorted((a, b) => Buffer.compare(a.key, b.key))
}
