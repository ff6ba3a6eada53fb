import { createServer } from 'node:http'
import type { IncomingMessage, Server } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { WebSocketServer, createWebSocketStream } from 'ws'
import type { WebSocket } from 'ws'
import type { Log, Service } from '@holdfast/runtime'
import type { Broker } from './broker.ts'
import { brokerLimits as limits } from './limits.ts'
import { ListeningServer } from './listening-server.ts'

export interface WebSocketListenerOptions {
  readonly host: string
  /** 0: any free one. */
  readonly port: number
  /** Longest WebSocket message: `mqtt.packetBytesMax` and its header. */
  readonly messageBytesMax: number
  /** Web pages that may connect, as in the Origin header. Whoever sends no such header is no web page, and may. */
  readonly origins: readonly string[]
}

/** [MQTT-6.0.0-3] */
const subprotocol = 'mqtt'
const checkingIntervalMs = 1000
const pongBytesMax = 64 * 1024

/**
 * MQTT over WebSocket [MQTT-6]: any path, subprotocol `mqtt`, binary messages. What is in them is one stream of bytes to the
 * broker, with the bounds of any other.
 *
 * A browser lets every page connect to this machine: so one that is not listed is refused. Ends after the broker: give it to
 * `runAll` before the one that closes that.
 */
export class WebSocketListener implements Service {
  readonly name = 'mqtt-web-socket'
  readonly #options: WebSocketListenerOptions
  readonly #broker: Broker
  readonly #server: Server
  readonly #listening: ListeningServer
  readonly #webSockets: WebSocketServer

  constructor(options: WebSocketListenerOptions, components: { readonly broker: Broker, readonly log: Log }) {
    this.#options = options
    this.#broker = components.broker
    this.#webSockets = new WebSocketServer({
      noServer: true, maxPayload: options.messageBytesMax, perMessageDeflate: false, skipUTF8Validation: true, clientTracking: false,
      autoPong: false,
      handleProtocols: protocols => protocols.has(subprotocol) ? subprotocol : false
    })
    this.#server = createServer({
      headersTimeout: limits.connectTimeoutMs.value, requestTimeout: limits.connectTimeoutMs.value,
      connectionsCheckingInterval: checkingIntervalMs, noDelay: true
    }, (_request, response) => {
      response.writeHead(426, { connection: 'close', upgrade: 'websocket' }).end()
    })
    this.#server.maxConnections = limits.webSocketConnections.value
    this.#listening = new ListeningServer(this.#server, components.log)
    this.#server.on('upgrade', (request, socket, head) => this.#upgrade(request, socket as Socket, head))
  }

  /** `ws://host:port` as bound, after the wills that the last process left. Rejects with `LISTEN_FAILED`. */
  async listen(): Promise<string> {
    const { host, port } = this.#options
    await this.#broker.publishWills()
    return `ws://${await this.#listening.listen(this.name, { host, port })}`
  }

  async run(signal: AbortSignal): Promise<void> {
    await this.#listening.run(signal, () => { this.#server.closeAllConnections() })
  }

  #upgrade(request: IncomingMessage, socket: Socket, head: Buffer): void {
    socket.on('error', () => {})
    const { origin, 'sec-websocket-protocol': protocols = '' } = request.headers
    if (origin !== undefined && !this.#options.origins.includes(origin)) {
      refuse(socket, '403 Forbidden', 'pages of this origin may not connect: mqtt.webSocket.origins')
    } else if (!protocols.split(',').some(each => each.trim() === subprotocol)) {
      refuse(socket, '400 Bad Request', `subprotocol ${subprotocol} is asked for`)
    } else this.#webSockets.handleUpgrade(request, socket, head, webSocket => this.#accept(webSocket, socket))
  }

  #accept(webSocket: WebSocket, socket: Socket): void {
    webSocket.on('message', (_data, isBinary) => {
      // [MQTT-6.0.0-1]
      if (!isBinary) stream.destroy()
    })
    webSocket.on('ping', data => {
      // One that reads nothing is owed no more answers.
      if (webSocket.bufferedAmount < pongBytesMax && webSocket.readyState === webSocket.OPEN) webSocket.pong(data)
    })
    // Too long, or no WebSocket: what is said of it goes out, and the descriptor is not held for the closing handshake's 30 s.
    webSocket.on('error', () => socket.destroySoon())
    // Behind ours, which are asked first.
    const stream = createWebSocketStream(webSocket)
    this.#broker.accept(stream)
  }
}

function refuse(socket: Duplex, status: string, reason: string): void {
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\n${reason}\n`)
}
