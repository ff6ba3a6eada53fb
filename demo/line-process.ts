import { spawn, type ChildProcessByStdio } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'

/** A line of JSON that a process writes. */
export interface ProcessLine { readonly kind: string }

/** A program of the test harness as a child: it writes lines of JSON, and reads commands. */
export class LineProcess {
  readonly name: string
  /** Standard error, the end of it. */
  log = ''
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>
  readonly #exit: Promise<unknown>
  #final: ProcessLine | undefined

  /** `onLine` is given every line as it comes. */
  constructor(name: string, command: readonly string[], onLine: (line: ProcessLine) => void) {
    this.name = name
    this.#child = spawn(process.execPath, command, { stdio: ['pipe', 'pipe', 'pipe'] })
    this.#exit = once(this.#child, 'close')
    // A process that is gone takes no commands; whoever waits for it hears of that.
    this.#child.stdin.on('error', () => undefined)
    this.#child.stderr.setEncoding('utf8').on('data', (text: string) => { this.log = (this.log + text).slice(-4096) })
    createInterface({ input: this.#child.stdout }).on('line', text => {
      if (!text.startsWith('{')) return
      const line = JSON.parse(text) as ProcessLine
      if (line.kind === 'final') this.#final = line
      onLine(line)
    })
  }

  get running(): boolean { return this.#child.exitCode === null && this.#child.signalCode === null }

  send(command: string): void { this.#child.stdin.write(`${command}\n`) }

  /** The line that it ends with. Rejects where it ends without one. */
  async final(withinMs: number): Promise<ProcessLine> {
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), withinMs)
    await this.#exit
    clearTimeout(timer)
    if (this.#final !== undefined) return this.#final
    const { exitCode, signalCode } = this.#child
    throw new Error(`the ${this.name} ended without its result (code ${exitCode}, signal ${signalCode})`)
  }

  async kill(): Promise<void> {
    if (this.running) this.#child.kill('SIGKILL')
    await this.#exit
  }
}
