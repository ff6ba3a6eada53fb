import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants } from 'node:fs'
import { join } from 'node:path'
import { until } from '../harness/daemons.ts'
import { check, missing, run } from './programs.ts'

/** Debian's, unpacked by install.sh. */
const debian = join(process.env['TMPDIR'] ?? '/tmp', 'holdfast-system/kubernetes-client/usr/bin/kubectl')

function isThere(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

export interface KubectlProgram {
  readonly name: string
  /** A label for what a test makes with it. */
  readonly id: string
  readonly path: string
  /** Why it is not run here; undefined where it is there. */
  readonly absent: string | undefined
}

export const kubectlPrograms: readonly KubectlProgram[] = [
  { name: 'the kubectl that is installed', id: 'installed', path: 'kubectl', absent: missing('kubectl') },
  {
    name: 'the kubectl of Debian', id: 'debian', path: debian,
    absent: isThere(debian) ? undefined : `needs ${debian} (test/system/install.sh)`
  }
]

/** One kubectl with one kubeconfig. */
export class Kubectl {
  readonly #path: string
  readonly #common: readonly string[]

  /** `kubeconfig` is read at every call. */
  constructor(path: string, kubeconfig: string, cacheDir: string) {
    this.#path = path
    this.#common = ['--kubeconfig', kubeconfig, '--cache-dir', cacheDir]
  }

  /** What it writes; rejects where it does not end with 0. */
  async run(args: readonly string[], input = ''): Promise<string> {
    return await check(this.#path, [...this.#common, ...args], { input })
  }

  /** What it says on standard error, where it does not end with 0. */
  async refused(args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await run(this.#path, [...this.#common, ...args])
    if (code === 0) throw new Error(`kubectl ${args.join(' ')} was expected to fail, and wrote ${stdout}`)
    return stderr
  }

  async json<T>(args: readonly string[]): Promise<T> { return JSON.parse(await this.run([...args, '-o', 'json'])) as T }

  /** `pod/web` and so on, sorted. */
  async names(args: readonly string[]): Promise<string[]> {
    return (await this.run([...args, '-o', 'name'])).split('\n').filter(line => line !== '').toSorted()
  }

  watch(args: readonly string[]): KubectlWatch { return new KubectlWatch(spawn(this.#path, [...this.#common, ...args])) }
}

/** A kubectl that does not end by itself. */
export class KubectlWatch implements AsyncDisposable {
  output = ''
  readonly #child: ChildProcess
  readonly #ended: Promise<unknown>

  constructor(child: ChildProcess) {
    this.#child = child
    this.#ended = once(child, 'close')
    for (const stream of [child.stdout!, child.stderr!]) {
      stream.setEncoding('utf8').on('data', (text: string) => { this.output += text })
    }
  }

  async shows(pattern: RegExp, withinMs = 20_000): Promise<void> {
    await until(`${pattern} in what kubectl shows`, () => {
      if (pattern.test(this.output)) return true
      if (this.#child.exitCode !== null) throw new Error(`kubectl ended with ${this.#child.exitCode}: ${this.output}`)
      return false
    }, withinMs)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL')
    await this.#ended
  }
}
