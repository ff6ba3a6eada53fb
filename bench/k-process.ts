import { spawn, type ChildProcessByStdio } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'

/** One end of row k's load: a program beside this file that takes a line of JSON and answers with one. */
export class FanOutProcess implements AsyncDisposable {
  readonly #program: string
  readonly #child: ChildProcessByStdio<Writable, Readable, null>
  readonly #answers: string[] = []
  #waiting: (() => void) | undefined
  #ended = false

  constructor(program: string, args: readonly string[], flags: readonly string[] = []) {
    this.#program = program
    const path = fileURLToPath(new URL(program, import.meta.url))
    this.#child = spawn(process.execPath, [...flags, path, ...args], { stdio: ['pipe', 'pipe', 'inherit'] })
    this.#child.stdin.on('error', () => {})
    createInterface({ input: this.#child.stdout }).on('line', text => {
      this.#answers.push(text)
      this.#waiting?.()
    })
    const end = (): void => {
      this.#ended = true
      this.#waiting?.()
    }
    this.#child.on('error', end).on('close', end)
  }

  get pid(): number { return this.#child.pid! }

  /** The next line that it prints. Rejects where it ends without one. */
  async line(): Promise<string> {
    while (this.#answers.length === 0) {
      if (this.#ended) throw new Error(`${this.#program} has ended`)
      await new Promise<void>(resolve => { this.#waiting = resolve })
    }
    return this.#answers.shift()!
  }

  async ask<Answer>(command: object): Promise<Answer> {
    this.#child.stdin.write(`${JSON.stringify(command)}\n`)
    return JSON.parse(await this.line()) as Answer
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#ended) return
    const closed = new Promise<void>(resolve => { this.#child.on('close', () => resolve()) })
    this.#child.kill('SIGTERM')
    await closed
  }
}

/** Microseconds of a clock that all processes of a machine share. */
export const sharedUs = (): number => Number(process.hrtime.bigint() / 1000n)
