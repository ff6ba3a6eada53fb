import { spawn } from 'node:child_process'
import type { ChildProcessByStdio } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import type { LoadProgress, LoadResult } from './load-generator.ts'
import type { ReaderProgress, ReaderResult } from './reader.ts'

interface Line { readonly kind: string }

/** A measuring process: commands in, lines of JSON out. It ends with its owner. */
class MeasuringProcess<Result extends Line, Progress extends Line> implements AsyncDisposable {
  /** The last line; rejects where the process ends without one. */
  readonly result: Promise<Result>
  readonly #child: ChildProcessByStdio<Writable, Readable, null>
  readonly #waiting: ((line: Progress) => void)[] = []
  readonly #onLine: ((line: Progress) => void) | undefined

  constructor(program: string, args: readonly string[], onLine?: (line: Progress) => void) {
    this.#onLine = onLine
    const path = fileURLToPath(new URL(program, import.meta.url))
    const child = spawn(process.execPath, [path, '--owned', ...args], { stdio: ['pipe', 'pipe', 'inherit'] })
    this.#child = child
    child.stdin.on('error', () => {})
    this.result = new Promise((resolve, reject) => {
      createInterface({ input: child.stdout }).on('line', text => {
        const line = JSON.parse(text) as Line
        if (line.kind === 'final') resolve(line as Result)
        else this.#take(line as Progress)
      })
      child.on('error', reject)
      child.on('close', code => reject(new Error(`${program} ended with ${code}`)))
    })
    this.result.catch(() => {})
  }

  get pid(): number { return this.#child.pid! }

  /** Begins a phase; what is counted from now on is reported under its name. */
  phase(name: string): void { this.command(`phase ${name}`) }

  command(text: string): void { this.#child.stdin.write(`${text}\n`) }

  /** The next line that is not the last. */
  async nextLine(): Promise<Progress> {
    return await Promise.race([
      new Promise<Progress>(resolve => { this.#waiting.push(resolve) }),
      this.result.then(() => { throw new Error('the measuring process has ended') })
    ])
  }

  async stop(): Promise<Result> {
    this.command('stop')
    return await this.result
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { exitCode, signalCode } = this.#child
    if (exitCode !== null || signalCode !== null) return
    const closed = new Promise<void>(resolve => { this.#child.on('close', () => resolve()) })
    this.#child.kill('SIGKILL')
    await closed
  }

  #take(line: Progress): void {
    this.#onLine?.(line)
    for (const waiting of this.#waiting.splice(0)) waiting(line)
  }
}

export interface LoadOptions {
  readonly port: number
  readonly connections?: number
  /** Without it and `seconds`, until `stop`. */
  readonly count?: number
  readonly seconds?: number
  /** Records per second; without it as fast as the windows allow. */
  readonly rate?: number
  readonly size?: number
  readonly payload?: 'json' | 'incompressible'
  readonly qos?: 0 | 1 | 2
  readonly window?: number
  readonly topics?: readonly string[]
  readonly firstDevice?: number
  readonly sequenceBase?: number
  readonly resend?: boolean
  readonly ackFile?: string
  readonly progressMs?: number
  readonly drainSeconds?: number
  readonly clientPrefix?: string
}

/** test/harness/load-generator.ts, running. */
export class LoadProcess extends MeasuringProcess<LoadResult, LoadProgress> {
  /** `onProgress` gets a line every `progressMs`. Resolves when all connections are up. */
  static async start(options: LoadOptions, onProgress?: (line: LoadProgress) => void): Promise<LoadProcess> {
    const args = [
      ...flag('port', options.port), ...flag('connections', options.connections), ...flag('count', options.count),
      ...flag('seconds', options.seconds), ...flag('rate', options.rate), ...flag('size', options.size),
      ...flag('payload', options.payload), ...flag('qos', options.qos), ...flag('window', options.window),
      ...(options.topics ?? []).flatMap(topic => flag('topic', topic)), ...flag('first-device', options.firstDevice),
      ...flag('sequence-base', options.sequenceBase), ...(options.resend === true ? ['--resend'] : []),
      ...flag('ack-file', options.ackFile), ...flag('progress-ms', options.progressMs),
      ...flag('drain-seconds', options.drainSeconds), ...flag('client-prefix', options.clientPrefix)
    ]
    const load = new LoadProcess('./load-generator.ts', args, line => {
      if (line.kind === 'progress') onProgress?.(line)
    })
    await load.nextLine()
    return load
  }

  /** Ends at once: what is not acknowledged now is reported so. */
  async abandon(): Promise<LoadResult> {
    this.command('abandon')
    return await this.result
  }
}

export interface ReaderOptions {
  /** Operations URL of cloudcore. */
  readonly url: string
  readonly format?: 'batch' | 'ndjson'
  readonly cursor?: string
  /** Only this one. */
  readonly lane?: string
  readonly groups?: Readonly<Record<string, readonly [number, number]>>
  readonly reportFile?: string
}

/** test/harness/reader.ts, running. */
export class ReaderProcess extends MeasuringProcess<ReaderResult, ReaderProgress> {
  static start(options: ReaderOptions): ReaderProcess {
    return new ReaderProcess('./reader.ts', [
      ...flag('url', options.url), ...flag('format', options.format), ...flag('cursor', options.cursor),
      ...flag('lane', options.lane),
      ...Object.entries(options.groups ?? {})
        .flatMap(([name, [first, last]]) => flag('group', `${name}:${first}-${last}`)),
      ...flag('report-file', options.reportFile)
    ])
  }

  async progress(): Promise<ReaderProgress> {
    const line = this.nextLine()
    this.command('progress')
    return await line
  }

  /** Waits until so many different records have arrived. False: nothing new came for `idleMs`. */
  async reached(unique: number, idleMs = 10_000): Promise<boolean> {
    let last = -1
    let lastMs = performance.now()
    for (;;) {
      const progress = await this.progress()
      if (progress.unique >= unique) return true
      if (progress.unique !== last) lastMs = performance.now()
      else if (performance.now() - lastMs > idleMs) return false
      last = progress.unique
      await new Promise(resolve => setTimeout(resolve, 20))
    }
  }
}

function flag(name: string, value: string | number | undefined): string[] {
  return value === undefined ? [] : [`--${name}`, String(value)]
}
