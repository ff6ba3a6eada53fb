import { connect, createServer } from 'node:net'
import type { Server, Socket } from 'node:net'
import { once } from 'node:events'

/** What a cut link looks like: refused, or silence. */
export type LinkState = 'up' | 'refusing' | 'silent'

interface Pair { readonly near: Socket, readonly far: Socket }

/** A TCP relay on a free port of 127.0.0.1 that can be cut, silenced, and cut in mid-frame. */
export class CutProxy implements AsyncDisposable {
  readonly port: number
  /** Bytes relayed from the near side (the one that connects) to the far one. */
  bytesUp = 0
  connections = 0
  cuts = 0
  readonly #server: Server
  readonly #pairs = new Set<Pair>()
  #state: LinkState = 'up'
  #cutAtBytes = Infinity

  private constructor(server: Server, port: number, far: () => number) {
    this.#server = server
    this.port = port
    server.on('connection', near => { this.#relay(near, far()) })
  }

  /** Relays to the port that `far` gives at each connection. */
  static async open(far: () => number): Promise<CutProxy> {
    const server = createServer()
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    return new CutProxy(server, (server.address() as { port: number }).port, far)
  }

  /** Resets every connection; new ones are refused until `heal`. */
  cut(): void {
    this.#state = 'refusing'
    this.reset()
  }

  /** Resets every connection once; new ones are served. */
  reset(): void {
    this.cuts++
    for (const { near, far } of this.#pairs) {
      near.resetAndDestroy()
      far.resetAndDestroy()
    }
  }

  /** Nothing passes any more in either direction, and nobody is told. */
  silence(): void {
    this.#state = 'silent'
    for (const { near, far } of this.#pairs) {
      near.pause()
      far.pause()
    }
  }

  /** Lets everything through again; connections that were silenced go on. */
  heal(): void {
    this.#state = 'up'
    for (const { near, far } of this.#pairs) {
      near.resume()
      far.resume()
    }
  }

  /** Cuts once, in the middle of whatever it is, when `bytes` more have gone up. */
  cutAfter(bytes: number): void { this.#cutAtBytes = this.bytesUp + bytes }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#server, 'close')
    this.#server.close()
    this.reset()
    await closed
  }

  #relay(near: Socket, farPort: number): void {
    if (this.#state === 'refusing') {
      near.resetAndDestroy()
      return
    }
    this.connections++
    const far = connect(farPort, '127.0.0.1')
    const pair = { near, far }
    this.#pairs.add(pair)
    near.setNoDelay(true)
    far.setNoDelay(true)
    near.on('data', chunk => { this.#up(chunk, pair) })
    far.on('data', chunk => { if (!near.write(chunk)) far.pause() })
    near.on('drain', () => { if (this.#state !== 'silent') far.resume() })
    far.on('drain', () => { if (this.#state !== 'silent') near.resume() })
    for (const [socket, other] of [[near, far], [far, near]] as const) {
      socket.on('error', () => {})
      socket.on('close', () => {
        this.#pairs.delete(pair)
        other.destroy()
      })
    }
    if (this.#state === 'silent') {
      near.pause()
      far.pause()
    }
  }

  #up(chunk: Buffer, { near, far }: Pair): void {
    if (this.bytesUp + chunk.length < this.#cutAtBytes) {
      this.bytesUp += chunk.length
      if (!far.write(chunk)) near.pause()
      return
    }
    const part = chunk.subarray(0, this.#cutAtBytes - this.bytesUp)
    this.bytesUp += part.length
    this.#cutAtBytes = Infinity
    this.cuts++
    // A half-written frame, then the end.
    far.end(part)
    near.resetAndDestroy()
  }
}
