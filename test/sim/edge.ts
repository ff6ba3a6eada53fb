import { bootIdFromBytes } from '@holdfast/protos'
import type { Epoch } from '@holdfast/protos'
import { HoldfastError } from '@holdfast/runtime'
import type { NodeName } from '@holdfast/runtime'
import { Database, Outbox, salvageOutbox } from '@holdfast/store'
import type { LaneOptions, OutboxLane } from '@holdfast/store'
import type { Connection, Dialer } from '@holdfast/sync'
import { Link } from '../../packages/edgecore/src/link/link.ts'
import { PeerMemory } from '../../packages/edgecore/src/link/peer-memory.ts'
import type { Cloud } from './cloud.ts'
import { Machine } from './machine.ts'
import type { SimulatedProcess } from './machine.ts'
import { SimulatedConnection, Wire } from './network.ts'
import type { Publisher } from './publisher.ts'
import type { EdgeSide, StateBeside } from './state-beside.ts'
import type { World } from './world.ts'

export interface EdgeOptions {
  readonly name: NodeName
  readonly honourSync: boolean
  readonly lanes: Readonly<Record<string, LaneOptions>>
}

export interface RunningEdge {
  readonly process: SimulatedProcess
  readonly database: Database
  readonly outbox: Outbox
  readonly link: Link
  readonly state: EdgeSide | undefined
}

/** A stretch in which nothing but appends moves a lane's offsets: from one open to the next. */
export interface LaneGeneration {
  next: number
  /** Attempts that were appended and not reported durable, in order. */
  readonly order: number[]
}

/** What a lane looked like after the last event, for invariants that span events. */
interface LaneView { acked: number, durable: number, epoch: Epoch | undefined }

const memoryBytesMax = 2 * 1024 * 1024 + 64 * 1024

/** An edge node: its machine, its wire, and the real outbox and link when its process runs. */
export class Edge {
  readonly options: EdgeOptions
  readonly machine: Machine
  readonly wire = new Wire()
  readonly publishers: Publisher[] = []
  /** Undefined: the seed is about the Log alone. */
  stateSimulation: StateBeside | undefined
  running: RunningEdge | undefined
  /** Lanes that the configuration lacks at the moment. */
  readonly missingLanes = new Set<string>()
  /** True while nothing may start it. */
  down = false
  starts = 0
  crashes = 0
  /** False from the first fault that takes written data away: then offsets may go back. */
  honest = true
  readonly #world: World
  readonly #cloud: Cloud
  #connection: SimulatedConnection | undefined
  #generations = new Map<OutboxLane, LaneGeneration>()
  #views = new Map<OutboxLane, LaneView>()
  #starting = 0

  constructor(options: EdgeOptions, cloud: Cloud, world: World) {
    this.options = options
    this.#world = world
    this.#cloud = cloud
    this.machine = new Machine(options.name, world, world.random, options.honourSync,
      () => { this.crash('died in mid-code', 'kill') })
  }

  get name(): string { return this.machine.name }

  generation(lane: OutboxLane): LaneGeneration { return this.#generations.get(lane)! }

  /** Starts the process; a start that fails is tried again, as a supervisor does. */
  start(): void {
    if (this.down || this.machine.process !== undefined) return
    const attempt = ++this.#starting
    const run = async (): Promise<void> => {
      await this.machine.released
      if (attempt !== this.#starting || this.down) return
      const process = this.machine.boot()
      this.starts++
      try {
        await this.#boot(process)
      } catch (error) {
        if (!(error instanceof HoldfastError)) throw error
        this.#world.note(`${this.name} does not start: ${error.message}`)
        if (process.alive) this.crash('did not start', 'kill', 2000)
      }
    }
    run().catch((error: unknown) => { this.#world.fail(error) })
  }

  async #boot(process: SimulatedProcess): Promise<void> {
    const { machine } = this
    const world = this.#world
    const clock = machine.clock(process)
    const log = machine.log()
    const random = { next: () => world.random.next(), bytes: (length: number) => world.random.bytes(length) }
    const bootId = bootIdFromBytes(random.bytes(8))
    const { failpoint } = process
    const database = await Database.open({ freeFloorBytes: 1024 * 1024 }, {
      opener: machine.opener(process), space: machine.space(), clock, log, salvage: salvageOutbox, failpoint
    })
    const lanes = Object.fromEntries(Object.entries(this.options.lanes).filter(([name]) =>
      !this.missingLanes.has(name)))
    const clockSynchronised = (): boolean => machine.clockSynchronised
    const outbox = await Outbox.open({ lanes, bootId, suspect: database.suspect }, database.store, {
      committer: database.committer, clock, random, log, clockSynchronised, failpoint
    })
    await database.trust()
    const peer = await PeerMemory.open(database.store, database.committer)
    const state = await this.stateSimulation?.openEdge(this, { database, outbox, process, clock, random, log, clockTrusted: clockSynchronised })
    database.onLow(low => {
      const refusal = low ? new HoldfastError('DISK_FULL', 'simulated') : undefined
      outbox.refuse(refusal)
      state?.refuse(refusal)
    })
    const link = new Link({
      bootId, software: 'simulated', probeMs: 10_000, deadMs: 25_000, retryDelayMs: 100, retryDelayMaxMs: 30_000
    }, {
      outbox, peer, clock, random, log, clockSynchronised, failpoint,
      dialer: this.#dialer(process), stateDown: state?.down, stateUp: state?.up
    })
    const opened = (): void => {
      this.#generations = new Map(outbox.lanes.map(lane => [lane, { next: lane.next, order: [] }]))
      this.#views = new Map()
    }
    database.onReopened(async (store, suspect) => {
      link.pause()
      await outbox.reopen(store, suspect)
      await state?.reopen(store, suspect)
      if (!process.alive) return
      opened()
      link.resume()
    })
    if (!process.alive) return
    opened()
    this.running = { process, database, outbox, link, state }
    world.note(`${this.name} runs as ${bootId}: ${this.describe()}`)
    link.start()
    for (const publisher of this.publishers) publisher.pump()
  }

  /** The process ends now; it comes back after `restartMs`, or not at all by itself. */
  crash(why: string, kind: 'kill' | 'power', restartMs?: number): void {
    this.#world.note(`${this.name} ${kind === 'kill' ? 'killed' : 'lost power'}: ${why}`)
    this.crashes++
    this.#starting++
    this.running = undefined
    if (kind === 'kill') this.machine.kill()
    else this.machine.cutPower()
    this.#connection?.orphaned()
    this.#connection = undefined
    for (const publisher of this.publishers) publisher.disconnected()
    this.#world.after(restartMs ?? 100 + this.#world.random.next() * 5000, () => { this.start() })
  }

  /** Stops it until `start` with `down` false. Resolves when its disk is released. */
  async takeDown(kind: 'kill' | 'power'): Promise<void> {
    this.down = true
    this.crash('taken down', kind)
    await this.machine.released
  }

  bringUp(): void {
    this.down = false
    this.start()
  }

  cutLink(why: string): void { this.#connection?.reset(why) }

  #dialer(process: SimulatedProcess): Dialer {
    return {
      dial: events => {
        if (!process.output()) return { send() {}, close() {}, bytesReceived: 0 }
        return this.#dial(process, events)
      }
    }
  }

  #dial(process: SimulatedProcess, events: Parameters<Dialer['dial']>[0]): Connection {
    const world = this.#world
    const { wire } = this
    let closed = false
    let through: Connection | undefined
    const refuse = (why: string): void => {
      world.after(wire.latencyMs,
        () => { if (!closed) process.input(() => { if (!closed) { closed = true; events.onClose(why) } }) })
    }
    world.after(2 * wire.latencyMs, () => {
      if (closed || !process.alive) return
      if (!wire.up) { refuse('network unreachable'); return }
      if (wire.lostUp || wire.lostDown) return
      const cloud = this.#cloud.running
      if (cloud === undefined) { refuse('connection refused'); return }
      const connection = new SimulatedConnection(this.name, world, wire, process, cloud.process)
      connection.edge.events = events
      const mine = connection.side(connection.edge)
      const state = this.stateSimulation
      if (state !== undefined) connection.onFromEdge = frame => { state.heard(this, frame) }
      this.#cloud.accept(this.options.name, connection)
      this.#connection = connection
      through = mine
      process.input(() => { events.onOpen() })
    })
    return {
      get bytesReceived() { return through?.bytesReceived ?? 0 },
      send: message => { through?.send(message) },
      close: (code, reason) => {
        if (through !== undefined) { through.close(code, reason); return }
        if (closed) return
        closed = true
        world.after(0, () => { process.input(() => { events.onClose('given up') }) })
      }
    }
  }

  /** Everything that waits has been acknowledged by the cloud. */
  get drained(): boolean {
    const { running } = this
    return running !== undefined && running.process.alive && running.database.committer.failure === undefined &&
      running.link.live && running.outbox.lanes.every(lane => lane.acked === lane.durable && lane.pendingBytes === 0)
  }

  /** Cheap invariants, checked after every event. */
  check(): void {
    const { running } = this
    if (running === undefined || !running.process.alive || running.database.committer.failure !== undefined) return
    let tailBytes = 0
    for (const lane of running.outbox.lanes) {
      const { first, acked, durable, next } = lane
      if (!(first <= acked && acked <= durable && durable <= next) || lane.storedBytes < 0 || lane.pendingBytes < 0 ||
        lane.keptBytes < 0) {
        this.#world.expect(false,
          () => `${this.name}: first ≤ acked ≤ durable ≤ next does not hold: ${this.describe()}`)
      }
      for (const { bytes } of lane.tail) tailBytes += bytes.length
      const view = this.#views.get(lane)
      if (view === undefined) {
        this.#views.set(lane, { acked, durable, epoch: lane.epoch })
        continue
      }
      if (durable !== view.durable) {
        this.#world.expect(durable > view.durable,
          () => `${this.name}/${lane.name}: durable went back from ${view.durable} to ${durable}`)
        view.durable = durable
      }
      if (acked !== view.acked) {
        if (acked > view.acked) this.#cloud.checkAcknowledged(this, lane)
        view.acked = acked
      }
    }
    this.#world.expect(tailBytes <= memoryBytesMax, () => `${this.name}: ${tailBytes} bytes of tail in memory`)
    const { inFlightBytes } = running.link
    this.#world.expect(inFlightBytes <= this.#cloud.windowBytes + 640 * 1024,
      () => `${this.name}: ${inFlightBytes} bytes in flight`)
  }

  describe(): string {
    return this.running?.outbox.lanes.map(lane =>
      `${lane.name} ${lane.first}≤${lane.acked}≤${lane.durable}≤${lane.next} ` +
      `stored ${lane.storedBytes} kept ${lane.keptBytes} pending ${lane.pendingBytes} ` +
      `epochs ${lane.epochs.map(({ epoch, start }) => `${epoch.slice(0, 4)}@${start}`).join(',')}`)
      .join('; ') ?? 'down'
  }
}
