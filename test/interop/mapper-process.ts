import { fork } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { until } from '../harness/daemons.ts'

export interface MapperOptions {
  /** Path of edgecore's socket, and of the mapper's own. */
  readonly manager: string
  readonly address: string
  readonly protocol: string
  /** False: it starts without registering. */
  readonly register: boolean
  /** Its devices take what is desired, and report it. */
  readonly obedient: boolean
  /** What happens to calls for a device, by its name. */
  readonly trouble: Readonly<Record<string, 'refuse' | 'hang' | 'crash'>>
}

/** What a mapper has, by `<namespace>/<name>`. */
export interface MapperView {
  readonly models: Readonly<Record<string, Readonly<Record<string, string>>>>
  readonly devices: Readonly<Record<string, {
    readonly model: string
    readonly settings: Readonly<Record<string, unknown>>
    readonly desired: Readonly<Record<string, string>>
    readonly types: Readonly<Record<string, string | undefined>>
    readonly visitors: Readonly<Record<string, Readonly<Record<string, unknown>>>>
  }>>
}

export type Command =
  | { readonly kind: 'ask', readonly method: 'ReportDeviceStatus' | 'ReportDeviceStates', readonly request: object }
  | { readonly kind: 'trouble', readonly trouble: MapperOptions['trouble'] }

/** The name of a gRPC status, and its message. */
export interface CommandAnswer { readonly code: string, readonly details: string }

type FromMapper =
  | { readonly kind: 'ready', readonly view: MapperView }
  /** `UpdateDevice pump` when it is called; empty after it. */
  | { readonly kind: 'called', readonly call: string, readonly view: MapperView }
  | { readonly kind: 'answer', readonly id: number } & CommandAnswer

/** A mapper in a process of its own: started, killed, stopped for a while, and started again. */
export class MapperProcess implements AsyncDisposable {
  readonly options: MapperOptions
  /** Since the last start. */
  calls: string[] = []
  view: MapperView = { models: {}, devices: {} }
  #child: ChildProcess | undefined
  #answers = new Map<number, (answer: CommandAnswer) => void>()
  #commands = 0

  constructor(options: Pick<MapperOptions, 'manager' | 'address' | 'protocol'> & Partial<MapperOptions>) {
    this.options = { register: true, obedient: true, trouble: {}, ...options }
  }

  get running(): boolean { return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null }

  async start(more: Partial<MapperOptions> = {}): Promise<void> {
    this.calls = []
    this.view = { models: {}, devices: {} }
    const program = fileURLToPath(new URL('mapper-program.ts', import.meta.url))
    const child = fork(program, [JSON.stringify({ ...this.options, ...more })], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
    this.#child = child
    let isReady = false
    child.on('message', (message: FromMapper) => {
      if (message.kind === 'answer') {
        this.#answers.get(message.id)?.({ code: message.code, details: message.details })
        this.#answers.delete(message.id)
        return
      }
      this.view = message.view
      if (message.kind === 'ready') isReady = true
      else if (message.call !== '') this.calls.push(message.call)
    })
    await until('the mapper is ready', () => {
      // One that is to crash may have been ready, and called, since the last look.
      if (!this.running && !isReady) throw new Error('the mapper ended')
      return isReady
    })
  }

  async command(command: Command): Promise<CommandAnswer> {
    const id = ++this.#commands
    return await new Promise(resolve => {
      this.#answers.set(id, resolve)
      this.#child!.send({ ...command, id })
    })
  }

  async report(deviceName: string, values: Readonly<Record<string, string>>, metadata: Readonly<Record<string, string>> = {}): Promise<CommandAnswer> {
    const twins = Object.entries(values).map(([propertyName, value]) => ({ propertyName, observedDesired: {}, reported: { value, metadata } }))
    return await this.command({ kind: 'ask', method: 'ReportDeviceStatus', request: { deviceName, deviceNamespace: 'default', reportedDevice: { twins } } })
  }

  async reportState(deviceName: string, state: string): Promise<CommandAnswer> {
    return await this.command({ kind: 'ask', method: 'ReportDeviceStates', request: { deviceName, deviceNamespace: 'default', state } })
  }

  async trouble(trouble: MapperOptions['trouble']): Promise<void> { await this.command({ kind: 'trouble', trouble }) }

  /** Its process takes no more turns, and its connections stay. */
  pause(): void { this.#child!.kill('SIGSTOP') }
  resume(): void { this.#child!.kill('SIGCONT') }

  async kill(): Promise<void> {
    const child = this.#child
    if (child === undefined || !this.running) return
    const exit = once(child, 'exit')
    child.kill('SIGKILL')
    await exit
  }

  /** What `device` of namespace `default` is to be, as the mapper has it. */
  desired(device: string): Readonly<Record<string, string>> | undefined { return this.view.devices[`default/${device}`]?.desired }

  async [Symbol.asyncDispose](): Promise<void> { await this.kill() }
}
