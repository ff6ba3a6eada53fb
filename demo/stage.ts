import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { formatCount } from '../packages/cli/src/render.ts'
import type { ArrivalsFile, ReaderProgress, ReaderResult } from '../test/harness/reader.ts'
import type { AckFile, LoadPhase, LoadProgress } from '../test/harness/load-generator.ts'
import { CutProxy } from '../test/harness/cut-proxy.ts'
import { Fleet, outboxOf, until, type Daemon } from '../test/harness/daemons.ts'
import type { Display } from './display.ts'
import { LineProcess, type ProcessLine } from './line-process.ts'
import { machineFirstDevice } from './machine.ts'
import { DemoDevices } from './devices.ts'
import { DemoObjects } from './objects.ts'

const script = (path: string): string => fileURLToPath(new URL(path, import.meta.url))

/** Who publishes, in the order of the table. `first` to `last` are the numbers of its devices. */
export const publisherPlan = [
  { name: 'machine', title: 'this machine', first: machineFirstDevice, last: machineFirstDevice + 99 },
  { name: 'qos1', title: 'bulk, QoS 1', first: 0, last: 23, connections: 24, ratePerSecond: 9000, qos: 1 },
  { name: 'qos2', title: 'bulk, QoS 2', first: 100, last: 107, connections: 8, ratePerSecond: 3000, qos: 2 }
] as const

export type PublisherName = (typeof publisherPlan)[number]['name']

/** Publishers and reader count latencies by these. */
export type PhaseName = 'before' | 'during' | 'after'

/** The last line of a publisher, what the demo needs of it. */
export interface PublisherResult {
  readonly acknowledged: number
  readonly reconnects: number
  readonly phases: Readonly<Record<string, Pick<LoadPhase, 'ack'>>>
}

/** What the chapters found, for the table and the exit code. */
export interface Findings {
  /** Records on the node, waiting for the cloud, right before its daemon was killed, and when it was back. */
  waitingAtEdgeKill: number
  waitingAfterEdgeKill: number
  /** Records that waited when the link came back. */
  backlog: number
  /** Records of the catch-up that were in the cloud when cloudcore was killed, and those that the node still held. */
  arrivedAtCloudKill: number
  waitingAtCloudKill: number
  edgeKills: number
  cloudKills: number
  linkCuts: number
  /** Records that became durable in the cloud per second of catching up, cloudcore's restart not counted. */
  catchUpPerSecond: number
  acknowledgedOffline: number
}

/** What publishers were told, and what the reader got. */
export interface Accounts {
  readonly acks: Readonly<Record<PublisherName, AckFile>>
  readonly arrivals: ArrivalsFile
  readonly publishers: Readonly<Record<PublisherName, PublisherResult>>
  readonly reader: ReaderResult
}

interface Counts { acknowledged: number, perSecond: number, ackP99Ms: number, connected: number }

const progressMs = 250
/** Instead of half a minute, so that the demo takes a minute. */
const retryMax = '2s'
const node = 'edge-1'

/** What the thermostat is to be in the end: the target as the cluster wants it, the mode as the node does. */
export const settledSettings = { target: '24', mode: 'eco' } as const

/**
 * The real thing in a folder of its own: cloudcore, a node whose link can be cut, publishers and a reader, each a
 * process. Disposal ends these processes, no others, and removes the folder.
 */
export class Stage implements AsyncDisposable {
  readonly display: Display
  readonly findings: Findings = {
    waitingAtEdgeKill: 0, waitingAfterEdgeKill: 0, backlog: 0, arrivedAtCloudKill: 0, waitingAtCloudKill: 0,
    edgeKills: 0, cloudKills: 0, linkCuts: 0, catchUpPerSecond: 0, acknowledgedOffline: 0
  }
  readonly #signal: AbortSignal
  readonly #counts = new Map<PublisherName, Counts>()
  readonly #publishers = new Map<PublisherName, LineProcess>()
  #fleet: Fleet | undefined
  #edge: Daemon | undefined
  #objects: DemoObjects | undefined
  #devices: DemoDevices | undefined
  #thermostat: LineProcess | undefined
  #link: CutProxy | undefined
  #reader: LineProcess | undefined
  #read: ReaderProgress | undefined
  #ticking: NodeJS.Timeout | undefined
  #linkUp = true
  #waiting = 0
  #asking = false
  #step = 'preparing'

  constructor(display: Display, signal: AbortSignal) {
    this.display = display
    this.#signal = signal
  }

  /** What is being done now, for a report of a fault. */
  get currentStep(): string { return this.#step }
  get folder(): string { return this.#fleet!.folder }
  get cloud(): Daemon { return this.#fleet!.cloud }
  get edge(): Daemon { return this.#edge! }
  get objects(): DemoObjects { return this.#objects! }
  get devices(): DemoDevices { return this.#devices! }
  /** Records acknowledged to publishers so far. */
  get acknowledged(): number { return [...this.#counts.values()].reduce((sum, { acknowledged }) => sum + acknowledged, 0) }

  /** Nothing is left of a fault: publishers have sent what was due meanwhile, and the reader has what was acknowledged. */
  get settled(): boolean {
    const onSchedule = publisherPlan.every(plan => {
      const { perSecond = 0 } = this.#counts.get(plan.name) ?? {}
      return plan.name === 'machine' || (perSecond > 0.8 * plan.ratePerSecond && perSecond < 1.2 * plan.ratePerSecond)
    })
    const perSecond = publisherPlan.reduce((sum, plan) => sum + (plan.name === 'machine' ? 0 : plan.ratePerSecond), 0)
    return onSchedule && (this.#read?.unique ?? 0) > this.acknowledged - perSecond / 2
  }

  /** Names what comes next. */
  step(what: string): void { this.#step = what }

  async startCloud(): Promise<void> { this.#fleet = await Fleet.start() }

  /** Joins the node and starts it behind a link that can be cut. */
  async startNode(): Promise<void> {
    this.#link = await CutProxy.open(() => Number(new URL(this.cloud.endpoints.tunnel!).port))
    this.#edge = await this.#fleet!.join(node, {
      set: [`server=wss://127.0.0.1:${this.#link.port}`, `link.retryMax=${retryMax}`]
    })
    await this.edge.start()
    await this.until('the node is connected', async () => (await this.cloudNode())?.connected)
  }

  /** Puts a Pod with a ConfigMap and a Secret into the Kubernetes API; resolves when the node has them and has said so. */
  async placeObjects(): Promise<void> {
    this.#objects = new DemoObjects(this.cloud, this.edge)
    await this.objects.create(node)
    await this.until('the node has the objects', async () => {
      const { speedLimit, hasSecret } = await this.objects.onNode()
      return speedLimit === '50' && hasSecret
    })
    await this.until('the cluster knows it', async () => await this.objects.podReason() === 'NoContainerRuntime')
  }

  /** Makes the thermostat and this machine Devices, and starts the thermostat; resolves when the cluster has what it reports. */
  async placeDevices(): Promise<void> {
    this.#devices = new DemoDevices(this.cloud, this.edge)
    await this.devices.create(node)
    await this.until('the node knows the thermostat', async () =>
      (await this.devices.onNode().catch(() => undefined))?.desired.target === '20')
    this.#thermostat = new LineProcess('thermostat', [script('thermostat.ts'), '--url', this.edge.endpoints.mqtt!], () => undefined)
    await this.until('the cluster knows how it is set', async () => (await this.devices.inCloud()).reported.target === '20')
  }

  startReader(): void {
    this.#reader = new LineProcess('reader', [
      script('../test/harness/reader.ts'), '--url', this.cloud.endpoints.ops!, '--report-file', this.#arrivalsFile, '--owned'
    ], line => { if (line.kind === 'progress') this.#read = line as ReaderProgress })
  }

  async startPublishers(): Promise<void> {
    const { hostname, port } = new URL(this.edge.endpoints.mqtt!)
    for (const plan of publisherPlan) {
      const common = ['--ack-file', this.#ackFile(plan.name), '--progress-ms', String(progressMs)]
      const command = plan.name === 'machine'
        ? [script('machine.ts'), '--url', this.edge.endpoints.mqtt!, ...common]
        : [script('../test/harness/load-generator.ts'), '--host', hostname, '--port', port, '--qos', String(plan.qos),
          '--connections', String(plan.connections), '--rate', String(plan.ratePerSecond), '--first-device', String(plan.first),
          '--client-prefix', plan.name, '--resend', '--owned', ...common]
      const counts = { acknowledged: 0, perSecond: 0, ackP99Ms: -1, connected: 0 }
      this.#counts.set(plan.name, counts)
      this.#publishers.set(plan.name, new LineProcess(plan.title, command, line => { takeProgress(counts, line) }))
    }
    await this.until('every publisher is connected', () => [...this.#counts.values()].every(({ connected }) => connected > 0))
    this.phase('before')
    this.#ticking = setInterval(() => { this.#tick() }, 100)
  }

  /** Latencies are counted for this phase from now on. */
  phase(name: PhaseName): void {
    for (const process of this.#processes) process.send(`phase ${name}`)
  }

  cutLink(): void {
    this.#link!.cut()
    this.#linkUp = false
    this.findings.linkCuts++
  }

  restoreLink(): void {
    this.#link!.heal()
    this.#linkUp = true
  }

  /** Records on the node that the cloud has not acknowledged. */
  async waiting(): Promise<number> { return (await outboxOf(this.edge)).reduce((sum, { records }) => sum + records, 0) }

  /** What the cloud says of the node; undefined while the cloud does not answer, or does not know it. */
  async cloudNode(): Promise<{ readonly connected: boolean, readonly records: number } | undefined> {
    try {
      const answer = await fetch(`${this.cloud.endpoints.ops}/v1/nodes`, { signal: this.#signal })
      const nodes = await answer.json() as { name: string, connected: boolean, lanes: { records: number }[] }[]
      const found = nodes.find(({ name }) => name === node)
      return found && { connected: found.connected, records: found.lanes.reduce((sum, { records }) => sum + records, 0) }
    } catch (error) {
      if (this.#signal.aborted) throw error
      return undefined
    }
  }

  /** Polls until there is something truthy. Rejects at the deadline, and when a publisher or the reader has ended. */
  async until<T>(what: string, condition: () => T | Promise<T>, withinMs = 30_000): Promise<NonNullable<T>> {
    this.step(what)
    return await until(what, () => {
      this.#signal.throwIfAborted()
      for (const process of this.#processes) {
        if (!process.running) throw new Error(`the ${process.name} ended`)
      }
      return condition()
    }, withinMs)
  }

  /** Lets it go on for so long, and for so many further acknowledgements at least. */
  async goOn(what: string, forMs: number, recordsMin: number): Promise<void> {
    const endMs = performance.now() + forMs
    const goal = this.acknowledged + recordsMin
    await this.until(what, () => performance.now() >= endMs && this.acknowledged >= goal, forMs + 20_000)
  }

  /** Publishers stop and are acknowledged; everything reaches the cloud and the reader; all accounts are handed over. */
  async finish(): Promise<Accounts> {
    this.step('publishers stop')
    const publishers: Partial<Record<PublisherName, PublisherResult>> = {}
    const acks: Partial<Record<PublisherName, AckFile>> = {}
    for (const process of this.#publishers.values()) process.send('stop')
    for (const [name, process] of this.#publishers) {
      publishers[name] = await process.final(30_000) as ProcessLine & PublisherResult
      acks[name] = JSON.parse(await readFile(this.#ackFile(name), 'utf8')) as AckFile
      this.#publishers.delete(name)
    }
    const acknowledged = Object.values(publishers).reduce((sum, result) => sum + result.acknowledged, 0)
    await this.until('the node has nothing left to send', async () => await this.waiting() === 0)
    // What is lost never comes; the table says so.
    await this.until('the reader has read everything', () => (this.#read?.unique ?? 0) >= acknowledged, 15_000)
      .catch(() => undefined)
    const { records = 0 } = await this.cloudNode() ?? {}
    await this.until('the reader is at the end of the log', () => {
      const { unique = 0, repeated = 0, foreign = 0 } = this.#read ?? {}
      return unique + repeated + foreign >= records
    })
    clearInterval(this.#ticking)
    this.step('the reader hands over its account')
    this.#reader!.send('stop')
    const reader = await this.#reader!.final(30_000) as ReaderResult
    this.#reader = undefined
    const arrivals = JSON.parse(await readFile(this.#arrivalsFile, 'utf8')) as ArrivalsFile
    return { acks: acks as Accounts['acks'], publishers: publishers as Accounts['publishers'], arrivals, reader }
  }

  /** The ends of all logs, for a report of a fault. */
  logs(): string {
    const daemons = [this.#fleet?.cloud, this.#edge].filter(daemon => daemon !== undefined)
    return [...daemons, ...this.#processes].map(({ name, log }) => {
      const lines = log.trimEnd().split('\n').slice(-8)
      return `--- ${name}\n${log === '' ? '(nothing)' : lines.map(line => line.slice(0, 500)).join('\n')}\n`
    }).join('')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#ticking)
    await Promise.all(this.#processes.map(process => process.kill()))
    await this.#link?.[Symbol.asyncDispose]()
    await this.#fleet?.[Symbol.asyncDispose]()
  }

  get #arrivalsFile(): string { return join(this.folder, 'arrivals.json') }

  /** Every process but the daemons. */
  get #processes(): LineProcess[] {
    return [...this.#publishers.values(), ...[this.#reader, this.#thermostat].filter(process => process !== undefined)]
  }

  #ackFile(name: PublisherName): string { return join(this.folder, `acks-${name}.json`) }

  /** Asks how things stand, and shows it. */
  #tick(): void {
    this.#reader?.send('progress')
    this.display.progress(() => this.#progressLines())
    if (this.#asking || !this.edge.running) return
    this.#asking = true
    this.waiting().then(count => { this.#waiting = count }, () => undefined).finally(() => { this.#asking = false })
  }

  #progressLines(): string[] {
    const counts = [...this.#counts.values()]
    const perSecond = counts.reduce((sum, count) => sum + count.perSecond, 0)
    const p99Ms = Math.max(0, ...counts.map(({ ackP99Ms }) => ackP99Ms))
    const rate = `${formatCount(perSecond)}/s, slowest 1 % after ${p99Ms.toFixed(1)} ms`
    const up = (running: boolean): string => running ? 'up' : 'DOWN'
    return [
      `edgecore ${up(this.edge.running)}, link ${this.#linkUp ? 'up' : 'CUT'}, cloudcore ${up(this.cloud.running)}`,
      `acknowledged ${formatCount(this.acknowledged).padStart(9)}, ${rate}`,
      `waiting on the node ${formatCount(this.#waiting)}`,
      `at the reader ${formatCount(this.#read?.unique ?? 0).padStart(9)}`
    ]
  }
}

function takeProgress(counts: Counts, line: ProcessLine): void {
  if (line.kind === 'connected') counts.connected = 1
  if (line.kind !== 'progress') return
  const { acknowledged, connected, ack } = line as LoadProgress
  counts.acknowledged += acknowledged
  counts.perSecond = acknowledged * 1000 / progressMs
  counts.connected = connected
  counts.ackP99Ms = ack.p99Ms
}
