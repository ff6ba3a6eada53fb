import { createServer } from 'node:net'
import type { Server, Socket } from 'node:net'
import { listenFailure } from '@holdfast/runtime'
import type { Log, Service } from '@holdfast/runtime'
import type { Broker } from './broker.ts'

export interface MqttListenerOptions {
  readonly host: string
  /** 0: any free one. */
  readonly port: number
}

/** A dead peer that has no keep-alive is noticed by TCP. */
const tcpKeepaliveMs = 60_000

/**
 * MQTT over TCP. Listeners for other transports hand their streams to `Broker.accept` in the same way.
 *
 * `listen` first, so that ports are known before `run`; `run` ends when its signal aborts and all is closed: no new
 * connection, then every publish that waits for its commit is acknowledged, then the connections end.
 */
export class MqttListener implements Service {
  readonly name = 'mqtt'
  readonly #options: MqttListenerOptions
  readonly #broker: Broker
  readonly #log: Log
  readonly #server: Server
  #faulted: (error: Error) => void = () => {}

  constructor(options: MqttListenerOptions, components: { readonly broker: Broker, readonly log: Log }) {
    this.#options = options
    this.#broker = components.broker
    this.#log = components.log
    this.#server = createServer({ noDelay: true, keepAlive: true, keepAliveInitialDelay: tcpKeepaliveMs },
      (socket: Socket) => this.#broker.accept(socket))
  }

  /**
   * `mqtt://host:port` as bound, after the wills that the last process left: whoever takes messages listens before this.
   * Rejects with `LISTEN_FAILED`.
   */
  async listen(): Promise<string> {
    const { host, port } = this.#options
    await this.#broker.publishWills()
    await new Promise<void>((resolve, reject) => {
      const failed = (cause: Error): void => reject(listenFailure('mqtt', { host, port }, cause))
      this.#server.once('error', failed)
      this.#server.listen({ host, port, backlog: 1024 }, () => {
        this.#server.off('error', failed)
        // Out of descriptors, for instance: connections that stand go on.
        this.#server.on('error', error => {
          if (this.#server.listening) this.#log.warn('mqtt: accepting failed', { error: error.message })
          else this.#faulted(error)
        })
        resolve()
      })
    })
    const address = this.#server.address()
    const bound = typeof address === 'object' && address !== null ? address : { family: 'IPv4', address: host, port }
    return `mqtt://${bound.family === 'IPv6' ? `[${bound.address}]` : bound.address}:${bound.port}`
  }

  async run(signal: AbortSignal): Promise<void> {
    let fault: Error | undefined
    await new Promise<void>(resolve => {
      this.#faulted = error => { fault = error; resolve() }
      if (signal.aborted) resolve()
      else signal.addEventListener('abort', () => resolve(), { once: true })
    })
    const closed = new Promise<void>(resolve => { this.#server.close(() => resolve()) })
    await this.#broker.close()
    await closed
    if (fault !== undefined) throw fault
  }
}
