import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ChaosProxy } from './chaos-proxy.ts'
import { check, type Verdict } from './checker.ts'
import { Fleet, outboxOf, until, type Daemon, type DaemonOptions, type OutboxLaneStatus } from './daemons.ts'
import type { AckFile, LoadProgress } from './load-generator.ts'
import { LoadProcess, ReaderProcess, type LoadOptions, type ReaderOptions } from './measuring-process.ts'
import { usageOf, type ProcessUsage } from './process-usage.ts'
import type { ArrivalsFile } from './reader.ts'

export interface SystemOptions {
  readonly edge?: DaemonOptions
  readonly cloud?: DaemonOptions
  /** Between edge and cloud; the default is a direct connection. */
  readonly proxy?: boolean
  /** Folder that the system's own folder is made in; the default is the system's for temporary files. */
  readonly parent?: string
  readonly node?: string
  /** Of the edge, such as one on a file system of its own; it stays after disposal. */
  readonly edgeDataDir?: string
}

/** A cloudcore, an edgecore that has joined it, a proxy between them, and the processes that load and read them. */
export class MeasuredSystem implements AsyncDisposable {
  readonly fleet: Fleet
  readonly edge: Daemon
  /** There where `proxy: true` was asked for. */
  readonly proxy: ChaosProxy | undefined
  readonly #measuring: AsyncDisposable[] = []
  readonly #ackFiles: string[] = []
  #reportFile: string | undefined

  private constructor(fleet: Fleet, edge: Daemon, proxy: ChaosProxy | undefined) {
    this.fleet = fleet
    this.edge = edge
    this.proxy = proxy
  }

  /** Both daemons are ready and the link is up. */
  static async start(options: SystemOptions = {}): Promise<MeasuredSystem> {
    const { cloud, parent } = options
    const fleet = await Fleet.start({ ...(cloud && { cloud }), ...(parent !== undefined && { parent }) })
    const tunnelPort = (): number => Number(new URL(fleet.cloud.endpoints.tunnel!).port)
    let proxy: ChaosProxy | undefined
    try {
      proxy = options.proxy === true ? await ChaosProxy.open(tunnelPort) : undefined
      const edge = await fleet.join(options.node ?? 'edge-1', {
        ...options.edge,
        set: [...options.edge?.set ?? [], ...proxy === undefined ? [] : [`server=wss://127.0.0.1:${proxy.port}`]]
      }, options.edgeDataDir)
      const system = new MeasuredSystem(fleet, edge, proxy)
      await edge.start()
      await system.linked()
      return system
    } catch (error) {
      await fleet[Symbol.asyncDispose]()
      await proxy?.[Symbol.asyncDispose]()
      throw error
    }
  }

  get cloud(): Daemon { return this.fleet.cloud }
  get mqttPort(): number { return Number(new URL(this.edge.endpoints.mqtt!).port) }

  /** Waits until records can be sent to the cloud. */
  async linked(withinMs = 60_000): Promise<void> {
    await until('the link is up', async () => await this.metric(this.edge, 'holdfast_edge_link_up') === 1, withinMs)
  }

  /** A load generator on the edge's MQTT port; what it was told counts in `verdict`. */
  async load(
    options: Omit<LoadOptions, 'port' | 'ackFile'> = {}, onProgress?: (line: LoadProgress) => void
  ): Promise<LoadProcess> {
    const ackFile = join(this.fleet.folder, `acks-${this.#ackFiles.length}.json`)
    const load = await LoadProcess.start({ ...options, port: this.mqttPort, ackFile }, onProgress)
    this.#ackFiles.push(ackFile)
    this.#measuring.push(load)
    return load
  }

  /** The reader whose account counts in `verdict`: one at a time. */
  reader(options: Omit<ReaderOptions, 'url' | 'reportFile'> = {}): ReaderProcess {
    this.#reportFile = join(this.fleet.folder, 'arrivals.json')
    const reader = ReaderProcess.start({ ...options, url: this.cloud.endpoints.ops!, reportFile: this.#reportFile })
    this.#measuring.push(reader)
    return reader
  }

  /** What became of all that was sent. Call after the load generators and the reader have ended. */
  async verdict(): Promise<Verdict> {
    const read = async (path: string): Promise<unknown> => JSON.parse(await readFile(path, 'utf8'))
    const acks = await Promise.all(this.#ackFiles.map(read))
    return check(acks as AckFile[], await read(this.#reportFile!) as ArrivalsFile)
  }

  usage(): { readonly edge: ProcessUsage, readonly cloud: ProcessUsage } {
    return { edge: usageOf(this.edge.pid!), cloud: usageOf(this.cloud.pid!) }
  }

  /** The value of a metric without labels, or the sum over its labels. */
  async metric(daemon: Daemon, name: string): Promise<number> {
    const text = await (await fetch(`${daemon.endpoints.ops}/metrics`)).text()
    const lines = text.matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, 'gm'))
    return [...lines].reduce((sum, line) => sum + Number(line[1]), 0)
  }

  async outbox(lane = 'telemetry'): Promise<OutboxLaneStatus> {
    const status = (await outboxOf(this.edge)).filter(each => each.lane === lane).at(-1)
    if (status === undefined) throw new Error(`no lane ${lane}`)
    return status
  }

  /** Waits until the cloud has acknowledged all that the edge holds. */
  async drained(withinMs = 60_000): Promise<void> {
    const empty = async (): Promise<boolean> => (await outboxOf(this.edge)).every(lane => lane.records === 0)
    await until('the outbox is drained', empty, withinMs)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#measuring.map(each => each[Symbol.asyncDispose]()))
    await this.fleet[Symbol.asyncDispose]()
    await this.proxy?.[Symbol.asyncDispose]()
  }
}
