import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { constants, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Endpoints } from '@holdfast/runtime'
import { join as joinNode } from '../../packages/cli/src/join.ts'
import { lastingPort } from './ports.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const launchers = {
  cloudcore: join(root, 'packages/cloudcore/bin/cloudcore.js'),
  edgecore: join(root, 'packages/edgecore/bin/edgecore.js')
} as const

/** Sections of the configuration that have a port, each with the endpoint that it becomes. */
const listening: Readonly<Record<keyof typeof launchers, readonly (readonly [section: string, endpoint: keyof Endpoints])[]>> = {
  cloudcore: [['tunnel', 'tunnel'], ['https', 'https'], ['ops', 'ops'], ['kube', 'kubernetes']],
  edgecore: [['mqtt', 'mqtt'], ['http', 'http'], ['localApi', 'localApi'], ['ops', 'ops']]
}

/** Polls `condition` until it gives something truthy; rejects with `what` at the deadline. */
export async function until<T>(what: string, condition: () => T | Promise<T>, withinMs = 20_000): Promise<NonNullable<T>> {
  const deadline = performance.now() + withinMs
  for (;;) {
    const value = await condition()
    if (value) return value
    if (performance.now() > deadline) throw new Error(`not within ${withinMs} ms: ${what}`)
    await new Promise(resolve => setTimeout(resolve, 10))
  }
}

export interface DaemonOptions {
  /** `path=value`, as for --set; ports are 0 unless given. */
  readonly set?: readonly string[]
  readonly environment?: Readonly<Record<string, string>>
  /** Runs the daemon under another program, such as `['strace', '-f', …]`. */
  readonly under?: readonly string[]
}

/** One daemon on a data directory: started, stopped, killed and started again. */
export class Daemon {
  readonly name: 'cloudcore' | 'edgecore'
  readonly dataDir: string
  /** Standard error of all starts, newest at the end, at most about 256 KiB. */
  log = ''
  endpoints: Endpoints = {}
  /** Settings of starts to come, beside those of the options. */
  settings: readonly string[] = []
  /** Starts that ended so. */
  aborts = 0
  readonly #options: DaemonOptions
  #child: ChildProcess | undefined

  constructor(name: 'cloudcore' | 'edgecore', dataDir: string, options: DaemonOptions = {}) {
    this.name = name
    this.dataDir = dataDir
    this.#options = options
  }

  get pid(): number | undefined { return this.#child?.pid }
  get running(): boolean { return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null }

  /** It ended by abort(), which a launcher of an older Node hands on as a code. */
  get aborted(): boolean { return this.signal === 'SIGABRT' || this.#child?.exitCode === 128 + constants.signals.SIGABRT }

  /** The signal that ended it, if one did. */
  get signal(): NodeJS.Signals | null { return this.#child?.signalCode ?? null }

  /**
   * Starts it and waits until it is ready. A later start listens where the first one did, so that the other side finds
   * it again; a port that somebody else has got meanwhile is tried again. So it is, as a supervisor does it, where LevelDB
   * aborted it on damaged files; twice at most.
   * `environment` adds to the options'.
   */
  async start(environment: Readonly<Record<string, string>> = {}): Promise<void> {
    for (const deadline = performance.now() + 20_000; ;) {
      try {
        return await this.#startOnce(environment)
      } catch (error) {
        if (this.running || performance.now() > deadline) throw error
        if (this.aborted && this.aborts < 2) this.aborts++
        else if (!this.log.slice(-4000).includes('EADDRINUSE')) throw error
      }
    }
  }

  async #startOnce(environment: Readonly<Record<string, string>>): Promise<void> {
    await rm(join(this.dataDir, 'endpoints.json'), { force: true })
    const ports = await Promise.all(listening[this.name].map(async ([section, endpoint]) =>
      `${section}.port=${this.endpoints[endpoint]?.split(':').at(-1) ?? await lastingPort()}`))
    const sets = [
      `dataDir=${this.dataDir}`,
      ...ports,
      ...this.#options.set ?? [],
      ...this.settings
    ]
    const command = [...this.#options.under ?? [], process.execPath, launchers[this.name], ...sets.flatMap(set => ['--set', set])]
    const child = spawn(command[0]!, command.slice(1), {
      stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, ...this.#options.environment, ...environment }
    })
    this.#child = child
    child.stderr.setEncoding('utf8').on('data', (text: string) => { this.log = (this.log + text).slice(-256 * 1024) })
    const closed = once(child, 'close')
    this.endpoints = await until(`${this.name} is ready`, async () => {
      if (!this.running) {
        // Its last words may still be on their way.
        await closed
        throw new Error(`${this.name} ended: ${this.log.slice(-2000)}`)
      }
      const text = await readFile(join(this.dataDir, 'endpoints.json'), 'utf8').catch(() => undefined)
      return text === undefined ? undefined : JSON.parse(text) as Endpoints
    })
  }

  /** SIGTERM, and waits for the end. Resolves with the exit code. */
  async stop(): Promise<number | null> { return await this.#end('SIGTERM') }

  /** SIGKILL, and waits for the end. */
  async kill(): Promise<void> { await this.#end('SIGKILL') }

  /** Waits until it has ended by itself, as at a failpoint. */
  async ended(withinMs = 20_000): Promise<void> { await until(`${this.name} ends`, () => !this.running, withinMs) }

  async #end(signal: NodeJS.Signals): Promise<number | null> {
    const child = this.#child
    if (child === undefined || !this.running) return child?.exitCode ?? null
    const exit = once(child, 'exit')
    child.kill(signal)
    await exit
    return child.exitCode
  }
}

/** A cloudcore and nodes that joined it, in a folder of their own; disposal ends and removes everything. */
export class Fleet implements AsyncDisposable {
  readonly folder: string
  readonly cloud: Daemon
  readonly edges: Daemon[] = []

  private constructor(folder: string, cloud: Daemon) {
    this.folder = folder
    this.cloud = cloud
  }

  /** In a new folder under `parent`; the default is the system's folder for temporary files. */
  static async start(options: { readonly cloud?: DaemonOptions, readonly parent?: string } = {}): Promise<Fleet> {
    const folder = await mkdtemp(join(options.parent ?? tmpdir(), 'holdfast-fleet-'))
    const fleet = new Fleet(folder, new Daemon('cloudcore', join(folder, 'cloud'), options.cloud))
    try {
      await fleet.cloud.start()
      return fleet
    } catch (error) {
      await fleet[Symbol.asyncDispose]()
      throw error
    }
  }

  /** A node that has joined; not started. Its data directory is `<folder>/<node>` unless another is given. */
  async join(node: string, options: DaemonOptions = {}, dataDir = join(this.folder, node)): Promise<Daemon> {
    const { ops, https } = this.cloud.endpoints
    const answer = await fetch(`${ops}/v1/tokens`, { method: 'POST' })
    const { token } = await answer.json() as { token: string }
    const edge = new Daemon('edgecore', dataDir, options)
    await joinNode({ server: https!, token, node, dataDir: edge.dataDir })
    this.edges.push(edge)
    return edge
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.cloud, ...this.edges].map(daemon => daemon.kill()))
    await rm(this.folder, { recursive: true, force: true })
  }
}

/** One lane of `GET <edge ops>/v1/outbox`. */
export interface OutboxLaneStatus {
  readonly lane: string
  readonly epoch: string | null
  readonly firstOffset: number
  readonly nextOffset: number
  readonly ackedOffset: number
  readonly records: number
  readonly bytes: number
  readonly oldestAgeSeconds: number
  readonly droppedRecords: number
}

export async function outboxOf(edge: Daemon): Promise<OutboxLaneStatus[]> {
  return await (await fetch(`${edge.endpoints.ops}/v1/outbox`)).json() as OutboxLaneStatus[]
}

/** Waits until the cloud has acknowledged all that the edge holds. */
export async function drained(edge: Daemon, withinMs = 30_000): Promise<void> {
  await until('the outbox is drained', async () => (await outboxOf(edge)).every(lane => lane.records === 0), withinMs)
}

/** One line of `GET <cloud ops>/v1/records`: a record or a gap. */
export interface RecordLine {
  readonly node: string
  readonly epoch: string
  readonly lane: string
  readonly cursor: string
  readonly offset?: number
  readonly timestamp?: string
  readonly device?: string
  readonly topic?: string
  readonly payload?: string
  readonly gap?: { readonly first: number, readonly last: number, readonly records: number, readonly reason: string }
}

/** Everything that a records endpoint holds; payloads as text. For tests of moderate size. */
export async function recordsOf(url: string, query = ''): Promise<RecordLine[]> {
  const answer = await fetch(`${url}/v1/records?encoding=utf8${query === '' ? '' : `&${query}`}`)
  if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`)
  return (await answer.text()).split('\n').filter(line => line !== '').map(line => JSON.parse(line) as RecordLine)
}
