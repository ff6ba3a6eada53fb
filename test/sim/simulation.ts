import { createHash } from 'node:crypto'
import type { SeededRandom } from '@holdfast/runtime'
import { checkLog } from './checker.ts'
import { Cloud } from './cloud.ts'
import { Edge } from './edge.ts'
import { faults } from './faults.ts'
import { Ledger } from './ledger.ts'
import type { FaultKind, Plan } from './plan.ts'
import { planOf } from './plan.ts'
import { Publisher } from './publisher.ts'
import { attemptsOn, readCloudLog } from './reader.ts'
import { StateSimulation } from './state.ts'
import type { StateBeside } from './state-beside.ts'
import { TwinSimulation } from './twins.ts'
import { SimulationFailure, World } from './world.ts'

export interface SimulationOptions {
  readonly plan: Plan
  readonly traced?: boolean
  /** The disks of this side lose at a power cut what they said they had synced. Default: none do. */
  readonly forgetful?: 'edge' | 'cloud' | undefined
}

export interface Outcome {
  readonly seed: number
  readonly faultClass: Plan['faultClass']
  readonly steps: number
  readonly faults: number
  readonly restarts: number
  readonly records: number
  readonly acknowledged: number
  readonly repeated: number
  readonly gaps: number
  readonly stateChanges: number
  /** Items that edges took in, and verdicts `not-ready`. */
  readonly stateItemsMoved: number
  readonly notReady: number
  /** Two runs of a seed give the same one. */
  readonly digest: string
  readonly failure: string | undefined
  readonly trace: readonly string[]
}

/** One seed: a cloud, its edges, their devices, and what goes wrong. */
export class Simulation {
  readonly plan: Plan
  readonly world: World
  readonly cloud: Cloud
  readonly edges: Edge[]
  /** Machines that run a copy of an edge's data directory. */
  readonly clones: Edge[] = []
  readonly ledger: Ledger
  readonly publishers: Publisher[] = []
  readonly happened: FaultKind[] = []
  /** Undefined: the seed is about the Log alone. */
  readonly state: StateBeside | undefined
  /** Nothing new goes wrong from here on. */
  healed = false

  constructor(options: SimulationOptions) {
    const { plan } = options
    this.plan = plan
    this.world = new World(plan.seed, options.traced ?? false)
    this.ledger = new Ledger(this.world)
    this.cloud = new Cloud({ honourSync: options.forgetful !== 'cloud', windowBytes: plan.windowBytes,
      segmentEntries: plan.segmentEntries,
      disksHonest: !['edge-damage', 'cloud-damage'].includes(plan.faultClass) && options.forgetful === undefined },
        this.world)
    this.edges = plan.edges.map(({ name, devices }) => {
      const edge = new Edge({ name, honourSync: options.forgetful !== 'edge', lanes: plan.lanes }, this.cloud,
        this.world)
      for (const { device, lane, window } of devices) this.#addPublisher(edge, device, lane, window)
      return edge
    })
    this.state = plan.stateChanges === undefined ? undefined
      : plan.faultClass === 'twins' ? new TwinSimulation(this) : new StateSimulation(this)
    for (const each of [this.cloud, ...this.edges]) each.stateSimulation = this.state
  }

  get random(): SeededRandom { return this.world.random }

  #addPublisher(edge: Edge, device: string, lane: string, window: number): void {
    const publisher = new Publisher({ device, lane, window, payloadBytesMax: this.plan.payloadBytesMax }, edge,
      this.ledger, this.world)
    edge.publishers.push(publisher)
    this.publishers.push(publisher)
  }

  async run(): Promise<Omit<Outcome, 'seed' | 'faultClass' | 'failure' | 'trace'>> {
    const { world, plan, cloud, edges } = this
    cloud.start()
    for (const edge of edges) edge.start()
    this.#publishFor(plan.chaosMs)
    this.state?.start(plan.chaosMs, plan.stateChanges!)
    for (const { kind, atMs } of plan.faults) world.after(atMs, () => { this.inject(kind) })
    const check = (): void => {
      for (const edge of edges) edge.check()
      for (const clone of this.clones) clone.check()
    }
    await world.run(plan.chaosMs, () => false, check)
    world.note('all is healed')
    this.#heal()
    const healedMs = world.nowMs
    const converged = await world.run(healedMs + plan.convergeMs, () => this.#converged(), check)
    world.expect(converged, () => `not everything is acknowledged ${plan.convergeMs} ms after healing: ` +
      edges.map(edge =>
        `${edge.name} (${edge.running?.link.state}, ${edge.running?.link.lastEnd}): ${edge.describe()}; publishers ` +
        edge.publishers.filter(({ idle }) => !idle).map(publisher => publisher.describe()).join(', ')).join('\n  ') +
      `; ${this.state?.describe() ?? ''}`)
    // Without new records, trimming comes ten seconds after the last that was written down.
    await world.run(world.nowMs + 15_000, () => false, check)
    const summary = await this.#verify()
    return {
      steps: world.steps,
      faults: this.happened.length,
      restarts: [cloud, ...edges, ...this.clones].reduce((sum, { starts }) => sum + starts - 1, 0),
      records: this.ledger.attempts.length,
      acknowledged: this.ledger.attempts.filter(({ acknowledged }) => acknowledged).length,
      stateChanges: this.state?.changes ?? 0,
      stateItemsMoved: this.state?.itemsMoved ?? 0,
      notReady: this.state?.notReady ?? 0,
      ...summary
    }
  }

  inject(kind: FaultKind): void {
    const edge = this.edges[this.random.integer(0, this.edges.length - 1)]!
    this.world.note(`fault: ${kind} (${edge.name})`)
    this.happened.push(kind)
    Promise.resolve(faults[kind](this, edge)).catch((error: unknown) => { this.world.fail(error) })
  }

  /** A second machine for the same node, with devices of its own. */
  addClone(original: Edge): Edge {
    const clone = new Edge(original.options, this.cloud, this.world)
    clone.machine.name = `${original.name}-copy`
    clone.down = true
    clone.honest = false
    this.clones.push(clone)
    this.#addPublisher(clone, `${this.plan.edges[0]!.devices[0]!.device}-copy`, 'telemetry', 5)
    return clone
  }

  /** The copy's devices fall silent; it is switched off when it has drained, or after two minutes. */
  endClone(clone: Edge): void {
    const [publisher] = clone.publishers
    publisher!.backlog = 0
    const deadlineMs = this.world.nowMs + 120_000
    const poll = (): void => {
      if (!(clone.drained && publisher!.idle) && this.world.nowMs < deadlineMs) {
        this.world.after(1000, poll)
        return
      }
      void this.destroying(clone, 'the copy was switched off', async () => {
        await clone.takeDown('power')
        await clone.machine.restore([])
      })
    }
    poll()
  }

  /** What is on the disk of `edge` before `work` and not afterwards may be missing in the end. */
  async destroying(edge: Edge, why: string, work: () => Promise<void>): Promise<void> {
    if (!edge.down) await edge.takeDown('power')
    const before = attemptsOn(await edge.machine.entries(), this.ledger)
    await work()
    const left = attemptsOn(await edge.machine.entries(), this.ledger)
    for (const id of before) if (!left.has(id)) this.ledger.attempts[id]!.excused = why
  }

  #publishFor(chaosMs: number): void {
    const { world, random, publishers, plan } = this
    const bursts = Math.ceil(plan.records / 3)
    for (let i = 0; i < bursts; i++) {
      world.after(random.next() * chaosMs, () => {
        if (this.healed) return
        const publisher = publishers[random.integer(0, publishers.length - 1)]!
        if (publisher.edge.down && this.clones.includes(publisher.edge)) return
        publisher.publish(random.chance(0.1) ? random.integer(5, 25) : random.integer(1, 3))
      })
    }
  }

  #heal(): void {
    const { world, cloud } = this
    this.healed = true
    cloud.machine.full = false
    cloud.machine.disk.free()
    cloud.machine.process?.spare()
    for (const publisher of this.publishers) publisher.backlog = 0
    for (const edge of this.edges) {
      edge.machine.full = false
      edge.machine.disk.free()
      edge.wire.up = true
      edge.wire.lostUp = edge.wire.lostDown = false
      edge.wire.rate = Infinity
      edge.wire.latencyMs = 5
      edge.machine.process?.spare()
      // A lane that stays away is drained all the same.
      if (edge.missingLanes.size > 0 && this.random.chance(0.5)) {
        edge.missingLanes.clear()
        if (!edge.down) edge.crash('old configuration', 'kill', 500)
      }
    }
    this.state?.heal()
    world.note(`publishers wait for ${this.publishers.filter(({ idle }) => !idle).length}`)
  }

  #converged(): boolean {
    return this.cloud.running !== undefined && this.clones.every(({ down }) => down) &&
      this.edges.every(edge => edge.drained &&
        edge.publishers.every(({ idle, options }) => idle || edge.missingLanes.has(options.lane))) &&
      (this.state?.converged ?? true)
  }

  async #verify(): Promise<{ repeated: number, gaps: number, digest: string }> {
    const entries = await readCloudLog(this.cloud.running!.log, this.ledger)
    const summary = checkLog(this, entries)
    for (const edge of this.edges) this.#checkTrimmed(edge)
    const state = await this.state?.verify() ?? ''
    const hash = createHash('sha256').update(this.ledger.digest()).update(String(this.world.steps)).update(state)
    for (const { node, lane, epoch, base, next } of entries) hash.update(`${node} ${lane} ${epoch} ${base} ${next}\n`)
    return { ...summary, digest: hash.digest('hex').slice(0, 16) }
  }

  /** What is acknowledged goes, but for the local cache and each lane's last batch. */
  #checkTrimmed(edge: Edge): void {
    for (const lane of edge.running!.outbox.lanes) {
      const last = lane.kept.at(-1)?.bytes ?? 0
      this.world.expect(lane.keptBytes <= lane.options.keepBytes + last, () =>
        `${edge.name}/${lane.name}: ${lane.keptBytes} bytes are kept, ` +
        `bound ${lane.options.keepBytes} and the last batch`)
      this.world.expect(lane.storedBytes === 0,
        () => `${edge.name}/${lane.name}: ${lane.storedBytes} bytes wait, nothing should`)
    }
  }
}

/** Runs one seed to its end; never throws. */
export async function simulate(seed: number, options: Partial<SimulationOptions> = {}): Promise<Outcome> {
  const plan = options.plan ?? planOf(seed)
  const simulation = new Simulation({ ...options, plan })
  const { world } = simulation
  const onRejection = (error: unknown): void => { world.fail(error) }
  process.on('unhandledRejection', onRejection)
  let failure: string | undefined
  let summary: Awaited<ReturnType<Simulation['run']>> | undefined
  try {
    summary = await simulation.run()
  } catch (error) {
    failure = error instanceof SimulationFailure ? error.message : error instanceof Error ?
      error.stack ?? error.message : String(error)
    world.note(`FAILED: ${failure}`)
  } finally {
    process.off('unhandledRejection', onRejection)
  }
  return {
    seed, faultClass: plan.faultClass,
    ...summary ?? { steps: world.steps, faults: simulation.happened.length, restarts: 0, records: 0, acknowledged: 0,
      repeated: 0, gaps: 0, stateChanges: 0, stateItemsMoved: 0, notReady: 0, digest: '' },
    failure,
    trace: world.trace ?? []
  }
}
