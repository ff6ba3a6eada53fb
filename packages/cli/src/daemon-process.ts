import { spawn, type ChildProcess } from 'node:child_process'
import { open, readFile, rename } from 'node:fs/promises'
import { createServer } from 'node:net'
import { constants } from 'node:os'
import { fileURLToPath } from 'node:url'
import { HoldfastError, wait, type Clock, type Endpoints } from '@holdfast/runtime'
import { readEndpoints, type FoundEndpoints } from './data-folder.ts'

export type DaemonName = 'cloudcore' | 'edgecore'

export interface DaemonProcessOptions {
  readonly name: DaemonName
  /** The Node.js that runs it. */
  readonly nodePath: string
  /** Must exist. */
  readonly dataDir: string
  /** Its standard error goes there; that of the start before is kept beside it as `<path>.1`. */
  readonly logPath: string
  /** `path=value`, as for --set. */
  readonly settings: readonly string[]
}

const pollMs = 20
/** A daemon stops within five seconds of its own accord; `up` has to be done by then. */
const stopWithinMs = 4500

/**
 * A daemon as a child, in a process group of its own, so that Ctrl-C in a terminal reaches it once: through the parent.
 */
export class DaemonProcess {
  readonly name: DaemonName
  readonly pid: number
  readonly logPath: string
  /** Resolves when it has ended, with its exit code, or with 128 and the number of the signal that ended it. */
  readonly ended: Promise<number>
  #exitCode: number | undefined
  readonly #child: ChildProcess
  readonly #clock: Clock
  readonly #dataDir: string
  /** `readySince` of what a daemon before has left there. */
  readonly #leftBehind: string | undefined

  private constructor(
    options: DaemonProcessOptions, child: ChildProcess, clock: Clock, ended: Promise<number>, leftBehind: string | undefined
  ) {
    this.name = options.name
    this.logPath = options.logPath
    this.#child = child
    this.#clock = clock
    this.#dataDir = options.dataDir
    this.#leftBehind = leftBehind
    this.pid = child.pid ?? 0
    this.ended = ended.then(code => this.#exitCode = code)
  }

  /** Starts it; `ready` says when it can be used. Rejects where there is no such program. */
  static async start(options: DaemonProcessOptions, clock: Clock): Promise<DaemonProcess> {
    const { name, nodePath, dataDir, logPath, settings } = options
    // What a crash left there would look like readiness. It is the daemon's to remove, under its lock.
    const leftBehind = await readEndpoints(dataDir)
    await rename(logPath, `${logPath}.1`).catch(() => undefined)
    const log = await open(logPath, 'w')
    try {
      const launcher = fileURLToPath(new URL(`../../${name}/bin/${name}.js`, import.meta.url))
      const sets = [`dataDir=${JSON.stringify(dataDir)}`, ...settings].flatMap(setting => ['--set', setting])
      const child = spawn(nodePath, [launcher, ...sets], { stdio: ['ignore', log.fd, log.fd], detached: true })
      const ended = new Promise<number>(resolve => {
        child.on('exit', (code, signal) => resolve(code ?? 128 + constants.signals[signal!]))
      })
      await new Promise<void>((resolve, reject) => child.on('spawn', resolve).on('error', reject))
      return new DaemonProcess(options, child, clock, ended, leftBehind && sinceOf(leftBehind))
    } finally {
      await log.close()
    }
  }

  get running(): boolean { return this.#exitCode === undefined }

  /** Waits until it can be used. Rejects with `UP_DAEMON_ENDED`, `UP_NOT_READY`, or with the signal's reason. */
  async ready(withinMs: number, signal: AbortSignal): Promise<Endpoints> {
    return await this.waitFor('is not ready', async () => {
      const endpoints = await readEndpoints(this.#dataDir)
      return endpoints === undefined || sinceOf(endpoints) === this.#leftBehind ? undefined : endpoints
    }, withinMs, signal)
  }

  /**
   * Asks again and again until there is an answer. Rejects with `UP_DAEMON_ENDED` when the daemon ends meanwhile, with
   * `UP_NOT_READY` at the deadline (`what` says why), or with the signal's reason.
   */
  async waitFor<T>(what: string, ask: () => Promise<T | undefined>, withinMs: number, signal: AbortSignal): Promise<T> {
    const deadlineMs = this.#clock.monotonicMs() + withinMs
    for (;;) {
      if (!this.running) {
        const end = `${this.name} ended with code ${this.#exitCode}`
        throw new HoldfastError('UP_DAEMON_ENDED', end + await this.lastLines())
      }
      const answer = await ask()
      if (answer !== undefined) return answer
      if (this.#clock.monotonicMs() > deadlineMs) {
        const state = `${this.name} ${what} after ${withinMs / 1000} s`
        throw new HoldfastError('UP_NOT_READY', state + await this.lastLines())
      }
      await wait(this.#clock, pollMs, signal)
    }
  }

  /** The end of its log, for a message. */
  async lastLines(): Promise<string> {
    const text = await readFile(this.logPath, 'utf8').catch(() => '')
    const lines = text.trimEnd().split('\n').slice(-5).map(line => `\n  ${line.slice(0, 400)}`)
    return text === '' ? `; its log ${this.logPath} is empty` : `; the end of ${this.logPath}:${lines.join('')}`
  }

  /** SIGTERM, and SIGKILL to one that does not heed it. Resolves with the exit code. */
  async stop(): Promise<number> {
    if (this.running) this.#child.kill('SIGTERM')
    const timer = this.#clock.after(stopWithinMs, () => { if (this.running) this.#child.kill('SIGKILL') })
    try {
      return await this.ended
    } finally {
      timer.cancel()
    }
  }

  /** SIGKILL, without waiting. */
  kill(): void { if (this.running) this.#child.kill('SIGKILL') }
}

/** '' of a release that did not write it yet. */
const sinceOf = ({ readySince = '' }: FoundEndpoints): string => readySince

/** The port, where it is free on 127.0.0.1, else 0: any free one. */
export async function portOrFree(port: number): Promise<number> {
  const server = createServer()
  return await new Promise(resolve => {
    server.on('error', () => resolve(0))
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => server.close(() => resolve(port)))
  })
}
