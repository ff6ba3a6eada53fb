import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { until } from './daemons.ts'

const launcher = fileURLToPath(new URL('../../packages/cli/bin/holdfast.js', import.meta.url))

/** A `holdfast` command as a process. Disposal kills it. */
export class Holdfast implements AsyncDisposable {
  output = ''
  errors = ''
  readonly #child: ChildProcess
  readonly #exit: Promise<unknown>

  constructor(...args: string[]) {
    this.#child = spawn(process.execPath, [launcher, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
    this.#child.stdout!.setEncoding('utf8').on('data', (text: string) => { this.output += text })
    this.#child.stderr!.setEncoding('utf8').on('data', (text: string) => { this.errors += text })
    this.#exit = once(this.#child, 'close')
  }

  get running(): boolean { return this.#child.exitCode === null && this.#child.signalCode === null }

  async ended(signal?: NodeJS.Signals): Promise<number | null> {
    if (signal !== undefined) this.#child.kill(signal)
    await this.#exit
    return this.#child.exitCode
  }

  /** Closes the reading end of its standard output. */
  stopReading(): void { this.#child.stdout!.destroy() }

  /** Waits for text on its standard output; what the pattern's group matched. */
  async shows(pattern: RegExp): Promise<string> {
    return await until(`${pattern} in what holdfast says`, () => {
      const match = pattern.exec(this.output)
      if (match === null && !this.running) throw new Error(`holdfast ended: ${this.output}${this.errors}`)
      return match === null ? undefined : match[1] ?? match[0]
    }, 60_000)
  }

  // SIGTERM, not SIGKILL: `up` ends what it started.
  async [Symbol.asyncDispose](): Promise<void> { if (this.running) await this.ended('SIGTERM') }
}
