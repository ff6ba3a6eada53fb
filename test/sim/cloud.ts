import { epochFromBytes } from '@holdfast/protos'
import type { Epoch } from '@holdfast/protos'
import { HoldfastError } from '@holdfast/runtime'
import type { NodeName } from '@holdfast/runtime'
import type { OutboxLane } from '@holdfast/store'
import { Hub } from '../../packages/cloudcore/src/hub/hub.ts'
import type { CloudLog } from '../../packages/cloudcore/src/log/cloud-log.ts'
import { LevelLog } from '../../packages/cloudcore/src/log/level-log.ts'
import type { Edge } from './edge.ts'
import { Machine } from './machine.ts'
import type { SimulatedProcess } from './machine.ts'
import type { SimulatedConnection } from './network.ts'
import type { CloudSide, StateBeside } from './state-beside.ts'
import type { World } from './world.ts'

export interface CloudOptions {
  readonly honourSync: boolean
  readonly windowBytes: number
  readonly segmentEntries: number
  /** No fault of this seed takes away what a disk had made durable. */
  readonly disksHonest: boolean
}

export interface RunningCloud {
  readonly process: SimulatedProcess
  readonly log: LevelLog
  readonly hub: Hub
  readonly state: CloudSide | undefined
}

/** The cloud: its machine, and the real hub over the real cloud log when its process runs. */
export class Cloud {
  readonly machine: Machine
  readonly options: CloudOptions
  running: RunningCloud | undefined
  clusterUid = 'cluster-one'
  /** Undefined: the seed is about the Log alone. */
  stateSimulation: StateBeside | undefined
  down = false
  starts = 0
  crashes = 0
  /** True once the log was made anew from what could be salvaged. */
  get salvaged(): boolean { return this.#salvaged ||= (this.running?.log.stats.salvages ?? 0) > 0 }

  #salvaged = false
  /** What the log has said to be durable, per epoch: one past the last offset. */
  readonly durable = new Map<Epoch, number>()
  /** False from the first fault that takes stored records away. */
  honest = true
  readonly #world: World
  readonly #connections = new Set<SimulatedConnection>()
  #starting = 0
  /** Processes that were let in by the hub that runs now, by node, the latest last. */
  readonly #turns = new Map<NodeName, SimulatedProcess[]>()

  constructor(options: CloudOptions, world: World) {
    this.options = options
    this.#world = world
    this.machine = new Machine('cloud', world, world.random, options.honourSync, () => { this.crash('died in mid-code',
      'kill') })
  }

  get windowBytes(): number { return this.options.windowBytes }

  start(): void {
    if (this.down || this.machine.process !== undefined) return
    const attempt = ++this.#starting
    const run = async (): Promise<void> => {
      await this.machine.released
      if (attempt !== this.#starting || this.down) return
      const process = this.machine.boot()
      this.starts++
      try {
        const clock = this.machine.clock(process)
        const log = this.machine.log()
        const world = this.#world
        const random = { next: () => world.random.next(), bytes: (length: number) => world.random.bytes(length) }
        const cloudLog = await LevelLog.open({
          retentionBytesMax: 2 ** 40, retentionAgeMaxMs: 2 ** 45, segmentEntries: this.options.segmentEntries
        }, { opener: this.machine.opener(process), clock, random, log })
        if (!process.alive) return
        const state = this.stateSimulation?.openCloud(clock, process)
        const hub = new Hub({
          helloMs: 10_000, deadMs: 25_000, software: 'simulated', clusterUid: this.clusterUid,
          windowBytes: this.options.windowBytes, nodesMax: 8
        }, {
          cloudLog: this.#observed(cloudLog), clock, log, failpoint: process.failpoint,
          stateOf: state === undefined ? undefined : node => state.stateOf(node)
        })
        this.running = { process, log: cloudLog, hub, state }
        world.note(`cloud runs, log ${cloudLog.logId}`)
      } catch (error) {
        if (!(error instanceof HoldfastError)) throw error
        this.#world.note(`cloud does not start: ${error.message}`)
        if (process.alive) this.crash('did not start', 'kill', 2000)
      }
    }
    run().catch((error: unknown) => { this.#world.fail(error) })
  }

  crash(why: string, kind: 'kill' | 'power', restartMs?: number): void {
    this.#world.note(`cloud ${kind === 'kill' ? 'killed' : 'lost power'}: ${why}`)
    this.crashes++
    this.#starting++
    void this.salvaged
    this.running = undefined
    if (kind === 'kill') this.machine.kill()
    else this.machine.cutPower()
    for (const connection of this.#connections) connection.orphaned()
    this.#connections.clear()
    this.#turns.clear()
    this.#world.after(restartMs ?? 100 + this.#world.random.next() * 5000, () => { this.start() })
  }

  async takeDown(kind: 'kill' | 'power'): Promise<void> {
    this.down = true
    this.crash('taken down', kind)
    await this.machine.released
  }

  bringUp(): void {
    this.down = false
    this.start()
  }

  accept(name: NodeName, connection: SimulatedConnection): void {
    this.#connections.add(connection)
    connection.onFromCloud = frame => {
      if (frame.kind === 'welcome') this.#welcomed(name, connection.edge.process)
      if (frame.kind === 'refuse') this.#refused(name, frame.code)
      this.stateSimulation?.said(frame)
    }
    connection.cloud.events = this.running!.hub.accept(name, connection.side(connection.cloud))
  }

  /** The edge believes that everything below `acked` is durable here (L3). */
  checkAcknowledged(edge: Edge, lane: OutboxLane): void {
    if (!this.honest || !edge.honest) return
    for (const epoch of lane.epochs) {
      const end = Math.min(lane.epochEnd(epoch), lane.acked)
      if (end <= epoch.start) continue
      const durable = this.durable.get(epoch.epoch) ?? epoch.start
      this.#world.expect(durable >= end, () =>
        `${edge.name}/${lane.name}: acknowledged up to ${lane.acked}, ` +
        `the cloud has epoch ${epoch.epoch} up to ${durable}`)
    }
  }

  /** Where all disks are honest nobody ever breaks the protocol, and nothing is anything but what was said of it. A Hello may be lost. */
  #refused(name: NodeName, code: string): void {
    const expected = ['LOG_UNAVAILABLE', 'STORE_FAILED', 'SESSION_REPLACED', 'DUPLICATE_IDENTITY', 'HELLO_TIMEOUT'].includes(code)
    this.#world.expect(expected || !this.options.disksHonest, () => `${name} was refused with ${code}`)
  }

  /**
   * A process that another one of the same node has fenced is not let in again while that one lives (no taking turns).
   */
  #welcomed(name: NodeName, process: SimulatedProcess): void {
    const turns = this.#turns.get(name) ?? []
    const at = turns.indexOf(process)
    const later = at === -1 ? [] : turns.slice(at + 1)
    this.#world.expect(!later.some(({ alive }) => alive),
      () => `${name}: a fenced process was let in beside the one that fenced it`)
    this.#turns.set(name, [...turns.filter(other => other !== process), process])
  }

  /** What the log says of its appends, told apart from what the hub makes of it. */
  #observed(log: LevelLog): CloudLog {
    const note = (epoch: Epoch, next: number): void => {
      this.durable.set(epoch, Math.max(this.durable.get(epoch) ?? 0, next))
    }
    return {
      get logId() { return log.logId },
      get stats() { return log.stats },
      openStream: async (node, lane, epoch) => {
        const stream = await log.openStream(node, lane, epoch)
        note(stream.epoch, log.watermark(stream).next)
        return stream
      },
      lineEnd: (node, lane, epoch) => log.lineEnd(node, lane, epoch),
      append: (stream, batch, header, arrival, onDone) => {
        log.append(stream, batch, header, arrival, result => {
          if (result.kind === 'appended' || result.kind === 'phantom') note(stream.epoch, result.next)
          onDone(result)
        })
      },
      writeGap: (stream, count, gap, receivedAtMs, onDone) => {
        log.writeGap(stream, count, gap, receivedAtMs, result => {
          if (result.kind === 'appended') note(stream.epoch, result.next)
          onDone(result)
        })
      },
      watermark: stream => log.watermark(stream),
      read: (options, signal) => log.read(options, signal),
      nodes: () => log.nodes(),
      [Symbol.asyncDispose]: async () => { await log.close() }
    }
  }

  /** An unused cluster id. */
  newCluster(): void { this.clusterUid = `cluster-${epochFromBytes(this.#world.random.bytes(8))}` }
}
