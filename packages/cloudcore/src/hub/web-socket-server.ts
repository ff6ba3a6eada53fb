import { createServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import type { TLSSocket, TlsOptions } from 'node:tls'
import { WebSocketServer } from 'ws'
import type { WebSocket } from 'ws'
import { frameBytesMax, tunnelPath, tunnelSubprotocol } from '@holdfast/protos'
import { describeError, listenFailure } from '@holdfast/runtime'
import type { Log, NodeName, Service } from '@holdfast/runtime'
import type { Connection } from '@holdfast/sync'
import type { Hub } from './hub.ts'
import { tunnelLimits } from './limits.ts'

export interface TunnelServerOptions {
  readonly host: string
  /** 0: any free port. */
  readonly port: number
  readonly tls: TlsOptions
  /** Sockets at a time, handshakes included; one more is closed at once. */
  readonly connectionsMax: number
}

export interface TunnelServerComponents {
  readonly hub: Hub
  readonly log: Log
  /** The node that the verified client certificate names; throws where it names none (L10). */
  readonly nodeOf: (socket: TLSSocket) => NodeName
}

/** The tunnel's listener: TLS with client certificates, upgrade at `/v1/tunnel`, subprotocol `holdfast.v1`. */
export class TunnelServer implements Service {
  readonly name = 'tunnel'
  readonly #options: TunnelServerOptions
  readonly #components: TunnelServerComponents
  readonly #server
  readonly #webSockets = new WebSocketServer({
    noServer: true, maxPayload: frameBytesMax, perMessageDeflate: false, skipUTF8Validation: true, clientTracking: false,
    handleProtocols: protocols => protocols.has(tunnelSubprotocol) ? tunnelSubprotocol : false
  })

  readonly #sockets = new Set<Socket>()

  constructor(options: TunnelServerOptions, components: TunnelServerComponents) {
    this.#options = options
    this.#components = components
    this.#server = createServer({ ...options.tls, headersTimeout: 10_000, requestTimeout: 10_000 }, (_request, response) => {
      response.writeHead(426, { connection: 'close', upgrade: 'websocket' }).end()
    })
    this.#server.maxConnections = options.connectionsMax
    this.#server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket)
      socket.setNoDelay(true)
      socket.on('close', () => this.#sockets.delete(socket))
    })
    this.#server.on('tlsClientError', (error, socket) => {
      this.#components.log.debug('tunnel: TLS refused', { peer: socket.remoteAddress, error: error.message })
    })
    this.#server.on('upgrade', (request, socket, head) => {
      socket.on('error', () => {})
      if (request.url !== tunnelPath || !(request.headers['sec-websocket-protocol'] ?? '').includes(tunnelSubprotocol)) {
        socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\n' +
          `GET ${tunnelPath} with subprotocol ${tunnelSubprotocol}\n`)
        return
      }
      let node: NodeName
      try {
        node = this.#components.nodeOf(socket as TLSSocket)
      } catch (error) {
        this.#components.log.warn('tunnel: certificate refused', { error: describeError(error) })
        socket.end('HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n')
        return
      }
      this.#webSockets.handleUpgrade(request, socket, head, webSocket => this.#accept(node, webSocket, socket as Socket))
    })
  }

  /** Resolves with the port once it listens. Rejects with `LISTEN_FAILED`. */
  async listen(): Promise<number> {
    await new Promise<void>((resolve, reject) => {
      const failed = (cause: Error): void => reject(listenFailure('tunnel', this.#options, cause))
      this.#server.once('error', failed)
      this.#server.listen(this.#options.port, this.#options.host, () => {
        this.#server.off('error', failed)
        resolve()
      })
    })
    return (this.#server.address() as AddressInfo).port
  }

  async run(signal: AbortSignal): Promise<void> {
    if (!signal.aborted) await new Promise<void>(resolve => { signal.addEventListener('abort', () => resolve(), { once: true }) })
    this.#components.hub.close()
    const closed = new Promise<void>(resolve => { this.#server.close(() => resolve()) })
    for (const socket of this.#sockets) socket.end()
    this.#server.closeAllConnections()
    for (const socket of this.#sockets) socket.destroySoon()
    await closed
  }

  #accept(node: NodeName, webSocket: WebSocket, socket: Socket): void {
    const connection: Connection = {
      get bytesReceived() { return socket.bytesRead },
      send: message => {
        if (webSocket.readyState !== webSocket.OPEN) return
        if (webSocket.bufferedAmount > tunnelLimits.outgoingBytes.value) {
          this.#components.log.warn('tunnel: the node reads nothing of what it is sent', { node, bytes: webSocket.bufferedAmount })
          webSocket.terminate()
          return
        }
        webSocket.send(message, { binary: true })
      },
      close: (code, reason) => {
        webSocket.close(code, reason)
        // What was queued goes out; a peer that is gone does not hold the descriptor for the closing handshake's 30 s.
        socket.destroySoon()
      }
    }
    const events = this.#components.hub.accept(node, connection)
    webSocket.on('message', (data, isBinary) => {
      if (isBinary) events.onMessage(data as Buffer)
      else webSocket.close(1003, 'binary frames only')
    })
    webSocket.on('error', error => this.#components.log.debug('tunnel: socket error', { node, error: error.message }))
    webSocket.on('close', (code, reason) => events.onClose(`${code} ${reason.toString()}`.trim()))
  }
}
