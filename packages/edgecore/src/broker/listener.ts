import { createServer } from 'node:net'
import type { Socket } from 'node:net'
import type { Log, Service } from '@holdfast/runtime'
import type { Broker } from './broker.ts'
import { ListeningServer } from './listening-server.ts'

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
  readonly #server: ListeningServer

  constructor(options: MqttListenerOptions, components: { readonly broker: Broker, readonly log: Log }) {
    this.#options = options
    this.#broker = components.broker
    const server = createServer({ noDelay: true, keepAlive: true, keepAliveInitialDelay: tcpKeepaliveMs },
      (socket: Socket) => this.#broker.accept(socket))
    this.#server = new ListeningServer(server, components.log)
  }

  /**
   * `mqtt://host:port` as bound, after the wills that the last process left: whoever takes messages listens before this.
   * Rejects with `LISTEN_FAILED`.
   */
  async listen(): Promise<string> {
    const { host, port } = this.#options
    await this.#broker.publishWills()
    return `mqtt://${await this.#server.listen(this.name, { host, port, backlog: 1024 })}`
  }

  async run(signal: AbortSignal): Promise<void> { await this.#server.run(signal, () => this.#broker.close()) }
}
