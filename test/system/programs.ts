import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import type { Daemon } from '../harness/daemons.ts'
import { until } from '../harness/daemons.ts'

/** Debian packages of the programs that tests use; install.sh installs them. */
const packages: Readonly<Record<string, string>> = {
  mosquitto_pub: 'mosquitto-clients', mosquitto_sub: 'mosquitto-clients', mosquitto: 'mosquitto', strace: 'strace', openssl: 'openssl', curl: 'curl',
  git: 'git', 'systemd-analyze': 'systemd', 'mkfs.ext4': 'e2fsprogs'
}

/** Why tests of these programs are not run here; undefined where all of them are there. */
export function missing(...programs: readonly string[]): string | undefined {
  const absent = programs.filter(program => !isInstalled(program))
  if (absent.length === 0) return undefined
  return `needs ${absent.join(' and ')} (Debian: apt-get install ${[...new Set(absent.map(name => packages[name] ?? name))].join(' ')})`
}

function isInstalled(program: string): boolean {
  return (process.env['PATH'] ?? '').split(delimiter).some(folder => {
    try {
      accessSync(join(folder, program), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

export interface Ran {
  /** Null where a signal ended it. */
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface RunOptions {
  readonly input?: string
  readonly cwd?: string
  readonly environment?: NodeJS.ProcessEnv
  readonly withinMs?: number
}

/** Runs a program to its end; past the deadline it is killed, and `code` is null. */
export async function run(program: string, args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const child = spawn(program, args, {
    stdio: 'pipe', timeout: options.withinMs ?? 30_000, killSignal: 'SIGKILL',
    env: options.environment ?? process.env, ...options.cwd === undefined ? {} : { cwd: options.cwd }
  })
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => { stdout += text })
  child.stderr.setEncoding('utf8').on('data', (text: string) => { stderr += text })
  // It may end without having read its input.
  child.stdin.on('error', () => undefined).end(options.input ?? '')
  const [code] = await once(child, 'close') as [number | null]
  return { code, stdout, stderr }
}

/** As `run`; rejects with what it wrote where it did not end with 0. Resolves with standard output. */
export async function check(program: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  const { code, stdout, stderr } = await run(program, args, options)
  if (code !== 0) throw new Error(`${program} ${args.join(' ')}: ended with ${code}\n${stdout}${stderr}`)
  return stdout
}

const portOf = (edge: Daemon): string => new URL(edge.endpoints.mqtt!).port

/**
 * `mosquitto_pub` with its conversation on standard output (-d): 7 says that the connection was lost. `message` is a
 * payload, or the arguments that say where it is.
 */
export async function publish(edge: Daemon, topic: string, message: string | readonly string[], ...more: readonly string[]): Promise<Ran> {
  const payload = typeof message === 'string' ? ['-m', message] : message
  return await run('mosquitto_pub', ['-h', '127.0.0.1', '-p', portOf(edge), '-d', '-t', topic, ...payload, ...more])
}

/** Each line of `payloads` in a publish of its own, over one connection; rejects where not all were acknowledged. */
export async function publishLines(edge: Daemon, topic: string, payloads: readonly string[], ...more: readonly string[]): Promise<void> {
  await check('mosquitto_pub', ['-h', '127.0.0.1', '-p', portOf(edge), '-t', topic, '-l', ...more], { input: payloads.join('\n') + '\n' })
}

/** A program of mosquitto that stays connected. */
export class MosquittoClient implements AsyncDisposable {
  readonly #child: ChildProcess
  output = ''

  private constructor(child: ChildProcess) {
    this.#child = child
    child.stdout!.setEncoding('utf8').on('data', (text: string) => { this.output += text })
    child.stdin!.on('error', () => undefined)
  }

  /** `mosquitto_sub`, when its subscriptions are acknowledged. */
  static async subscribe(edge: Daemon, ...args: readonly string[]): Promise<MosquittoClient> {
    const client = MosquittoClient.#start('mosquitto_sub', edge, ['-F', '> %t %q %r %p', ...args])
    await client.shows('Subscribed (mid')
    return client
  }

  /** `mosquitto_pub`, connected and waiting for lines that do not come. */
  static async connect(edge: Daemon, ...args: readonly string[]): Promise<MosquittoClient> {
    const client = MosquittoClient.#start('mosquitto_pub', edge, ['-t', 'idle', '-l', ...args])
    await client.shows('received CONNACK (0)')
    return client
  }

  static #start(program: string, edge: Daemon, args: readonly string[]): MosquittoClient {
    // Both write their conversation to standard output, which is a pipe here: line by line, please.
    return new MosquittoClient(spawn('stdbuf', ['-oL', program, '-h', '127.0.0.1', '-p', portOf(edge), '-d', ...args],
      { stdio: ['pipe', 'pipe', 'inherit'] }))
  }

  /** What came so far: `<topic> <qos> <1 if retained> <payload>` each. */
  get messages(): string[] {
    return this.output.split('\n').filter(line => line.startsWith('> ')).map(line => line.slice(2))
  }

  async shows(text: string): Promise<void> {
    await until(`${text} in the client's output`, () => {
      if (this.output.includes(text)) return true
      if (this.#child.exitCode !== null) throw new Error(`the client ended with ${this.#child.exitCode}: ${this.output}`)
      return false
    })
  }

  /** Waits for a message that is `last` as shown, and gives all. */
  async until(last: string): Promise<string[]> {
    await this.shows(`> ${last}\n`)
    return this.messages
  }

  /** SIGTERM ends it with DISCONNECT, SIGKILL without; SIGSTOP leaves it connected and deaf. */
  async signal(signal: 'SIGTERM' | 'SIGKILL' | 'SIGSTOP'): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const exit = once(this.#child, 'exit')
    this.#child.kill(signal)
    if (signal !== 'SIGSTOP') await exit
  }

  async [Symbol.asyncDispose](): Promise<void> { await this.signal('SIGKILL') }
}

/** The value of one line of `/metrics`, such as `holdfast_edge_mqtt_closed_total{reason="too-large"}`; 0 where it is not there. */
export async function metric(daemon: Daemon, series: string): Promise<number> {
  const text = await (await fetch(`${daemon.endpoints.ops}/metrics`)).text()
  const line = text.split('\n').find(candidate => candidate.startsWith(`${series} `))
  return line === undefined ? 0 : Number(line.slice(series.length + 1))
}
