import { join } from 'node:path'
import { expect } from 'vitest'
import { SeededRandom } from '@holdfast/runtime'
import { CutProxy } from '../harness/cut-proxy.ts'
import { Fleet, drained, outboxOf } from '../harness/daemons.ts'
import type { Daemon, DaemonOptions } from '../harness/daemons.ts'
import { Ledger, flawless } from '../harness/ledger.ts'
import type { Verdict } from '../harness/ledger.ts'
import { Publisher } from '../harness/publisher.ts'
import type { PublisherOptions } from '../harness/publisher.ts'

/** Rounds of a test: a few where nothing else is asked for, ROUNDS in a full run, but at most `most`. */
export const rounds = (few: number, most = Infinity): number => Math.min(most, Number(process.env['ROUNDS'] ?? few))

/**
 * The seed of this run's random moments: SEED, which `npm run faults` takes from the clock, or always the same one. Tests
 * name it when they fail. Processes have their own time, so that a seed gives like moments, not equal ones.
 */
export const seed = Number(process.env['SEED'] ?? 1)
export const randomOf = (test: number): SeededRandom => new SeededRandom(seed + test)

/** QoS 1 in two sizes, QoS 2, and alarms. */
export const mixedPublishers: readonly PublisherOptions[] = [
  { name: 'meter', qos: 1, window: 60, payloadBytesMax: 200 },
  { name: 'camera', qos: 1, window: 4, payloadBytesMax: 20_000 },
  { name: 'valve', qos: 2, window: 20, payloadBytesMax: 100 },
  { name: 'siren', qos: 1, window: 3, payloadBytesMax: 60, lane: 'alarms' }
]

export interface FaultSystemOptions {
  readonly edge?: DaemonOptions
  readonly cloud?: DaemonOptions
  readonly publishers?: readonly PublisherOptions[]
  /** The tunnel goes through a CutProxy. */
  readonly proxy?: boolean
  /** Makes a place ready before the node joins, such as a small disk under its data directory; gives how to undo it. */
  readonly prepare?: (edgeDataDir: string) => Promise<() => Promise<void>>
}

/** One cloudcore, one edgecore, devices on it, and the ledger of what they were told. Started, not yet under load. */
export class FaultSystem implements AsyncDisposable {
  readonly fleet: Fleet
  readonly edge: Daemon
  readonly proxy: CutProxy | undefined
  readonly publishers: readonly Publisher[]
  ledger: Ledger
  readonly #undo: () => Promise<void>

  private constructor(fleet: Fleet, edge: Daemon, proxy: CutProxy | undefined, publishers: readonly Publisher[], undo: () => Promise<void>) {
    this.#undo = undo
    this.fleet = fleet
    this.edge = edge
    this.proxy = proxy
    this.publishers = publishers
    this.ledger = new Ledger('edge-1', publishers)
  }

  static async start(options: FaultSystemOptions = {}): Promise<FaultSystem> {
    const fleet = await Fleet.start(options.cloud === undefined ? {} : { cloud: options.cloud })
    let proxy: CutProxy | undefined
    let undo = async (): Promise<void> => {}
    try {
      if (options.prepare !== undefined) undo = await options.prepare(join(fleet.folder, 'edge-1'))
      if (options.proxy === true) proxy = await CutProxy.open(() => Number(new URL(fleet.cloud.endpoints.tunnel!).port))
      const edge = await fleet.join('edge-1', {
        ...options.edge,
        set: [
          // Rounds of a test follow one another faster than a stable minute, after which the back-off begins anew.
          'link.retryMax=300ms',
          ...proxy === undefined ? [] : [`server=wss://127.0.0.1:${proxy.port}`],
          ...options.edge?.set ?? []
        ]
      })
      await edge.start()
      const publishers = (options.publishers ?? mixedPublishers).map(publisher => new Publisher(publisher, () => edge.endpoints.mqtt!))
      return new FaultSystem(fleet, edge, proxy, publishers, undo)
    } catch (error) {
      await proxy?.[Symbol.asyncDispose]()
      await Promise.all(fleet.edges.map(edge => edge.kill()))
      await undo()
      await fleet[Symbol.asyncDispose]()
      throw error
    }
  }

  get cloud(): Daemon { return this.fleet.cloud }

  run(): void { for (const publisher of this.publishers) publisher.run() }

  /** Every publisher has so many more acknowledgements. */
  async progress(count: number, withinMs = 30_000): Promise<void> {
    await Promise.all(this.publishers.map(publisher => publisher.progress(count, withinMs)))
  }

  /** Starts nothing new, waits until all is acknowledged and in the cloud, and compares. */
  async settle(withinMs = 30_000): Promise<Verdict> {
    await Promise.all(this.publishers.map(publisher => publisher.pause(withinMs)))
    await drained(this.edge, withinMs)
    return await this.compare()
  }

  async compare(): Promise<Verdict> {
    await this.ledger.read(this.cloud.endpoints.ops!)
    return this.ledger.verdict()
  }

  /** `settle`, and nothing may be wrong. */
  async settleFlawless(what: string, withinMs = 30_000): Promise<Verdict> {
    const verdict = await this.settle(withinMs)
    const isFlawless = (Object.keys(flawless) as (keyof typeof flawless)[]).every(name => verdict[name] === flawless[name])
    this.expectVerdict(verdict, flawless, isFlawless ? what : `${what}\n${await this.#evidence()}`)
    return verdict
  }

  /** What both sides say when something is wrong, and whether another reader sees the same. */
  async #evidence(): Promise<string> {
    const again = new Ledger('edge-1', this.publishers)
    await again.read(this.cloud.endpoints.ops!)
    return [
      `a second reader: ${JSON.stringify(again.verdict())}`,
      `the edge: ${JSON.stringify(await outboxOf(this.edge))}`,
      `the cloud: ${await (await fetch(`${this.cloud.endpoints.ops}/v1/nodes`)).text()}`,
      this.edge.log.slice(-8000),
      this.cloud.log.slice(-4000)
    ].join('\n')
  }

  expectVerdict(verdict: Verdict, expected: Partial<Verdict>, what: string): void {
    expect(verdict, `${what}, seed ${seed}\n${this.ledger.faults.join('\n')}`).toMatchObject(expected)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const publisher of this.publishers) publisher.close()
    await this.proxy?.[Symbol.asyncDispose]()
    await this.edge.kill()
    await this.#undo()
    await this.fleet[Symbol.asyncDispose]()
  }
}

/** A number of a daemon's metrics: the sum over the labels that contain `label`. */
export async function metricOf(daemon: Daemon, name: string, label = ''): Promise<number> {
  const text = await (await fetch(`${daemon.endpoints.ops}/metrics`)).text()
  return text.split('\n').filter(line => (line.startsWith(`${name} `) || line.startsWith(`${name}{`)) && line.includes(label))
    .reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0)
}
