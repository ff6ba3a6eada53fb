import type { Socket } from 'node:net'
import type { ConnectionOptions } from 'node:tls'
import { WebSocket } from 'ws'
import { frameBytesMax, tunnelSubprotocol } from '@holdfast/protos'
import type { Connection, ConnectionEvents, Dialer } from '@holdfast/sync'
import { dialFailure } from './dial-failure.ts'

export interface WebSocketDialerOptions {
  /** `wss://host:port`, with the tunnel's path or without. */
  readonly url: string
  readonly tls: ConnectionOptions
  /** TCP, TLS and upgrade have to be through by then. */
  readonly handshakeMs: number
}

/** design §10 */
const tunnelPath = '/v1/tunnel'

/** Dials the tunnel with `ws`, TLS 1.3 and the node's certificate. */
export class WebSocketDialer implements Dialer {
  readonly #options: WebSocketDialerOptions

  constructor(options: WebSocketDialerOptions) { this.#options = options }

  dial(events: ConnectionEvents & { onOpen(): void }): Connection {
    const { url, tls, handshakeMs } = this.#options
    const socket = new WebSocket(new URL(tunnelPath, url), tunnelSubprotocol, {
      ...tls,
      maxPayload: frameBytesMax,
      perMessageDeflate: false,
      handshakeTimeout: handshakeMs,
      skipUTF8Validation: true
    })
    let raw: Socket | undefined
    let failure = ''
    let open = false
    socket.on('upgrade', response => {
      raw = response.socket
      raw.setNoDelay(true)
    })
    socket.on('open', () => {
      open = true
      events.onOpen()
    })
    socket.on('message', (data, isBinary) => {
      if (isBinary) events.onMessage(data as Buffer)
      else socket.close(1003, 'binary frames only')
    })
    socket.on('error', error => { failure = open ? error.message : dialFailure(url, error) })
    socket.on('close', (code, reason) => {
      events.onClose(failure !== '' ? failure : `${code} ${reason.toString()}`.trim())
    })
    return {
      get bytesReceived() { return raw?.bytesRead ?? 0 },
      send: message => { if (open) socket.send(message, { binary: true }) },
      close: (code, reason) => {
        // A peer that does not answer must not hold the descriptor: `ws` waits 30 s for the closing handshake.
        if (open && code === 1000) socket.close(code, reason)
        else socket.terminate()
      }
    }
  }
}
