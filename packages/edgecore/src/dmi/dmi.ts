import { createServer } from 'node:net'
import type { Server, Socket } from 'node:net'
import { join } from 'node:path'
import { describeError } from '@holdfast/runtime'
import type { Clock, Log, Random, Service } from '@holdfast/runtime'
import type { DeviceTwin, DeviceTwins } from '../twins/device-twins.ts'
import type { DeviceManager, DmiCounters } from './device-manager.ts'
import { dmiLimits as limits } from './limits.ts'
import type { MapperMemory } from './mapper-memory.ts'
import type { MapperStatus } from './mapper-queue.ts'
import { listenOnSocket } from './unix-socket.ts'

export interface DmiOptions {
  /** `off`: there is no socket, and no mapper is told anything. */
  readonly mode: 'socket' | 'off'
  /** Path of the socket; undefined: `dmi.sock` in the data directory. */
  readonly socket?: string | undefined
  readonly dataDir: string
  readonly callTimeoutMs: number
  readonly callsMax: number
}

export interface DmiComponents {
  readonly twins: DeviceTwins
  readonly isBuiltIn: (device: DeviceTwin) => boolean
  readonly memory: MapperMemory
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

/**
 * The interface to mappers (docs/spec/dmi.md): DeviceManagerService on a Unix socket, and calls to the mappers that have
 * registered. What speaks gRPC is loaded when there is a mapper to speak with.
 */
export class Dmi implements Service {
  readonly name = 'dmi'
  readonly counters: DmiCounters = { registrations: 0, reports: 0, refusals: new Map(), applied: 0, refused: 0, unanswered: 0 }
  /** `unix:<path>`; undefined where it is off. */
  readonly url: string | undefined
  readonly #options: DmiOptions
  readonly #components: DmiComponents
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  #loading: Promise<DeviceManager> | undefined
  #manager: DeviceManager | undefined

  private constructor(options: DmiOptions, components: DmiComponents, path: string) {
    this.#options = options
    this.#components = components
    this.url = options.mode === 'socket' ? `unix:${path}` : undefined
    this.#server = createServer(socket => this.#accept(socket))
    this.#server.maxConnections = limits.connections.value
  }

  /** Listens from now on. Rejects with `LISTEN_FAILED`. */
  static async open(options: DmiOptions, components: DmiComponents): Promise<Dmi> {
    const path = options.socket ?? join(options.dataDir, 'dmi.sock')
    const dmi = new Dmi(options, components, path)
    if (options.mode === 'off') return dmi
    await listenOnSocket(dmi.#server, path)
    dmi.#server.on('error', error => components.log.warn('dmi: accepting failed', { error: error.message }))
    return dmi
  }

  /** Mappers that have registered. */
  get mappers(): MapperStatus[] {
    if (this.#manager !== undefined) return this.#manager.mappers
    const { registrations } = this.#components.memory
    return registrations.map(each => ({ ...each, connected: false, devices: 0, waiting: 0, failing: [] }))
  }

  /** Protocols that mappers have registered for; none where it is off. */
  get protocols(): string[] {
    return this.#options.mode === 'off' ? [] : this.#components.memory.registrations.map(({ protocol }) => protocol)
  }

  /** What keeps the mapper of its protocol from serving a device; '': nothing. Undefined: that is not known yet. */
  troubleOf(device: DeviceTwin): string | undefined { return this.#manager?.troubleOf(device) }

  async run(signal: AbortSignal): Promise<void> {
    const isOn = this.#options.mode === 'socket'
    if (isOn && this.#components.memory.size > 0) await this.#load()
    if (!signal.aborted) await new Promise<void>(resolve => { signal.addEventListener('abort', () => resolve(), { once: true }) })
    if (!isOn) return
    const closed = new Promise<void>(resolve => { this.#server.close(() => resolve()) })
    const patience = this.#components.clock.after(limits.stopMs.value, () => {
      for (const socket of this.#sockets) socket.destroy()
    })
    await this.#loading
    await this.#manager?.close()
    await closed
    patience.cancel()
  }

  #load(): Promise<DeviceManager> {
    const { twins, memory, isBuiltIn, clock, random, log } = this.#components
    const { callTimeoutMs, callsMax } = this.#options
    this.#loading ??= import('./device-manager.ts').then(module => {
      this.#manager = new module.DeviceManager({ callTimeoutMs, callsMax }, {
        twins, memory, isBuiltIn, clock, random, log, counters: this.counters
      })
      return this.#manager
    })
    return this.#loading
  }

  #accept(socket: Socket): void {
    this.#sockets.add(socket)
    socket.on('close', () => this.#sockets.delete(socket))
    socket.on('error', () => socket.destroy())
    // The last byte of the last answer is with the peer, which need not end its side.
    socket.on('finish', () => socket.destroy())
    this.#load().then(manager => manager.accept(socket), (error: unknown) => {
      this.#components.log.error('dmi: what speaks with mappers cannot be loaded', { error: describeError(error) })
      socket.destroy()
    })
  }
}
