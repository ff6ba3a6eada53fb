import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:https'
import type { Server } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { join } from 'node:path'
import { WebSocket, WebSocketServer } from 'ws'
import { decodeFrame, encodeFrame, tunnelPath, tunnelSubprotocol } from '@holdfast/protos'
import type { Daemon } from './daemons.ts'

/**
 * Makes both sides of a tunnel believe that the other one is older: an edge's Hello offers no more than `protocolMax`. It has the
 * cloud's certificate towards the edge and the edge's towards the cloud. Can also say again what was said in another session.
 */
export class StateRelay implements AsyncDisposable {
  readonly port: number
  /** Of what new connections may speak. */
  protocolMax: number
  /** A new session begins, behind Welcome, with frames of State that came up in the one before. */
  replays = false
  /** Frames that were sent so. */
  replayed = 0
  /** Frames with State that came up, newest last. */
  #recorded: Buffer[] = []
  /** Kinds of the frames that passed since `protocolMax` was set last, in both directions. */
  readonly kinds = new Set<string>()
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  readonly #webSockets = new WebSocketServer({ noServer: true, handleProtocols: () => tunnelSubprotocol })

  private constructor(server: Server, port: number, protocolMax: number) {
    this.#server = server
    this.port = port
    this.protocolMax = protocolMax
  }

  /** The identities of both are read from their data directories; the node has joined. */
  static async open(cloud: Daemon, edgeDataDir: string, protocolMax: number): Promise<StateRelay> {
    const [own, key, cert, ca] = await Promise.all([
      join(cloud.dataDir, 'identity/server.pem'), ...['node.key', 'node.crt', 'ca.crt'].map(name => join(edgeDataDir, 'identity', name))
    ].map(path => readFile(path, 'utf8')))
    const server = createServer({ key: own, cert: own, ca: ca!, requestCert: true, rejectUnauthorized: true, minVersion: 'TLSv1.3' })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const relay = new StateRelay(server, (server.address() as AddressInfo).port, protocolMax)
    server.on('connection', (socket: Socket) => {
      relay.#sockets.add(socket)
      socket.on('close', () => { relay.#sockets.delete(socket) })
    })
    server.on('upgrade', (request, socket, head) => {
      relay.#webSockets.handleUpgrade(request, socket, head, near => {
        const url = `wss://127.0.0.1:${new URL(cloud.endpoints.tunnel!).port}${tunnelPath}`
        relay.#join(near, new WebSocket(url, tunnelSubprotocol, { key: key!, cert: cert!, ca: ca!, perMessageDeflate: false }))
      })
    })
    return relay
  }

  /** Ends all connections; later ones speak up to this version. */
  speak(protocolMax: number): void {
    this.protocolMax = protocolMax
    this.kinds.clear()
    for (const socket of this.#sockets) socket.destroy()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#server, 'close')
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
    await closed
  }

  #join(near: WebSocket, far: WebSocket): void {
    const { protocolMax } = this
    const early: Buffer[] = []
    const old = this.#recorded
    this.#recorded = []
    near.on('message', data => {
      const message = this.#passed(data as Buffer, protocolMax)
      if (decodeFrame(message).kind === 'state-changes') this.#recorded = [...this.#recorded.slice(-2), message]
      if (far.readyState === WebSocket.OPEN) far.send(message, { binary: true })
      else early.push(message)
    })
    far.on('open', () => { for (const message of early.splice(0)) far.send(message, { binary: true }) })
    far.on('message', data => {
      near.send(this.#passed(data as Buffer, protocolMax), { binary: true })
      if (!this.replays || decodeFrame(data as Buffer).kind !== 'welcome') return
      for (const message of old) far.send(message, { binary: true })
      this.replayed += old.length
    })
    for (const [one, other] of [[near, far], [far, near]] as const) {
      one.on('error', () => {})
      one.on('close', () => { other.terminate() })
    }
  }

  #passed(message: Buffer, protocolMax: number): Buffer {
    const frame = decodeFrame(message)
    this.kinds.add(frame.kind)
    if (frame.kind !== 'hello') return message
    return Buffer.from(encodeFrame({
      ...frame, protocolMax: Math.min(frame.protocolMax, protocolMax), ...protocolMax < 2 && { stateDigests: [] }
    }))
  }
}
