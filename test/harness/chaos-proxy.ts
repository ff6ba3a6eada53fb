import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import type { Server, Socket } from 'node:net'

/** What the link does to the bytes of each direction; nothing where it is left out. */
export interface LinkShape {
  /** One way, in order. */
  readonly delayMs?: number
  /** Up to so much more, each chunk its own. */
  readonly jitterMs?: number
  readonly bytesPerSecond?: number
  /** Written in pieces of so many bytes. */
  readonly sliceBytes?: number
}

/** Seen from the side that connects: `up` is from it. */
export type LinkDirection = 'up' | 'down'

/** On a slow link, so many bytes are on their way in a direction; then its sender is not read. */
const slowQueueBytesMax = 64 * 1024
const queueBytesMax = 8 * 1024 * 1024

interface Piece { readonly bytes: Buffer, readonly dueMs: number }

/** One direction of a connection. */
class Lane {
  readonly direction: LinkDirection
  readonly #source: Socket
  readonly #target: Socket
  readonly #proxy: ChaosProxy
  readonly #queue: Piece[] = []
  #queuedBytes = 0
  #freeAtMs = 0
  #lastDueMs = 0
  #timer: NodeJS.Timeout | undefined
  #blocked = false

  constructor(direction: LinkDirection, source: Socket, target: Socket, proxy: ChaosProxy) {
    this.direction = direction
    this.#source = source
    this.#target = target
    this.#proxy = proxy
    source.on('data', chunk => { proxy.onBytes(this, chunk) })
    target.on('drain', () => {
      this.#blocked = false
      this.#deliver()
      this.update()
    })
  }

  /** Reads on, or not. */
  update(): void {
    const bytesMax = this.#proxy.shape.bytesPerSecond === undefined ? queueBytesMax : slowQueueBytesMax
    if (this.#proxy.paused || this.#blocked || this.#queuedBytes > bytesMax) this.#source.pause()
    else this.#source.resume()
  }

  relay(chunk: Buffer): void {
    const { delayMs, jitterMs = 0, bytesPerSecond, sliceBytes } = this.#proxy.shape
    if (delayMs === undefined && bytesPerSecond === undefined && sliceBytes === undefined && this.#queue.length === 0) {
      if (!this.#target.write(chunk)) this.#blocked = true
      if (this.#blocked) this.update()
      return
    }
    const nowMs = performance.now()
    for (let at = 0; at < chunk.length; at += sliceBytes ?? chunk.length) {
      const bytes = chunk.subarray(at, at + (sliceBytes ?? chunk.length))
      if (bytesPerSecond !== undefined) {
        this.#freeAtMs = Math.max(this.#freeAtMs, nowMs) + bytes.length * 1000 / bytesPerSecond
      }
      const wanted = Math.max(nowMs, this.#freeAtMs) + (delayMs ?? 0) + jitterMs * Math.random()
      this.#lastDueMs = Math.max(this.#lastDueMs, wanted)
      this.#queue.push({ bytes, dueMs: this.#lastDueMs })
      this.#queuedBytes += bytes.length
    }
    this.#deliver()
    this.update()
  }

  close(): void { clearTimeout(this.#timer) }

  #deliver(): void {
    clearTimeout(this.#timer)
    const nowMs = performance.now()
    while (!this.#blocked && !this.#proxy.paused) {
      const piece = this.#queue[0]
      if (piece === undefined) return
      if (piece.dueMs > nowMs) {
        this.#timer = setTimeout(() => {
          this.#deliver()
          this.update()
        }, Math.max(1, piece.dueMs - nowMs))
        return
      }
      this.#queue.shift()
      this.#queuedBytes -= piece.bytes.length
      if (!this.#target.write(piece.bytes)) this.#blocked = true
    }
  }

  /** After a pause. */
  resume(): void {
    this.#deliver()
    this.update()
  }
}

interface Pair {
  readonly near: Socket
  readonly far: Socket
  readonly up: Lane
  readonly down: Lane
  /** It lost bytes. */
  poisoned: boolean
}

/** A TCP relay on a free port of 127.0.0.1 that does to a link what bad networks do. Knows bytes, not frames. */
export class ChaosProxy implements AsyncDisposable {
  readonly port: number
  /** Bytes relayed, by direction. */
  readonly bytes: Record<LinkDirection, number> = { up: 0, down: 0 }
  /** Bytes that a black hole took. */
  swallowed = 0
  connections = 0
  /** When the newest connection came, by `performance.now()`. */
  connectedMs = 0
  shape: LinkShape = {}
  paused = false
  readonly #server: Server
  readonly #pairs = new Set<Pair>()
  #refusing = false
  readonly #dropping = new Set<LinkDirection>()
  #resetAt: { direction: LinkDirection, bytes: number } | undefined

  private constructor(server: Server, port: number, far: () => number) {
    this.#server = server
    this.port = port
    server.on('connection', near => { this.#accept(near, far()) })
  }

  /** Relays to the port that `far` gives at each connection. */
  static async open(far: () => number): Promise<ChaosProxy> {
    const server = createServer()
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    return new ChaosProxy(server, (server.address() as { port: number }).port, far)
  }

  /** Resets every connection; new ones are refused until `heal`. */
  cut(): void {
    this.#refusing = true
    this.reset()
  }

  /** Resets every connection once. */
  reset(): void { for (const { near, far } of this.#pairs) destroy(near, far) }

  /** Reads and writes nothing; nobody is told, and nothing is lost. */
  pause(): void {
    this.paused = true
    for (const { up, down } of this.#pairs) {
      up.update()
      down.update()
    }
  }

  /** Takes the bytes of one direction, or both, and throws them away. `heal` resets connections that lost some. */
  blackhole(...directions: readonly LinkDirection[]): void {
    for (const direction of directions) this.#dropping.add(direction)
  }

  /** Resets once, in the middle of whatever it is, when `bytes` more have gone in that direction. */
  resetAfter(bytes: number, direction: LinkDirection = 'up'): void {
    this.#resetAt = { direction, bytes: this.bytes[direction] + bytes }
  }

  /** Lets everything through again. The shape stays. */
  heal(): void {
    this.#refusing = false
    this.#dropping.clear()
    this.paused = false
    for (const { near, far, up, down, poisoned } of this.#pairs) {
      if (poisoned) destroy(near, far)
      up.resume()
      down.resume()
    }
  }

  /** Of a lane: bytes came in. */
  onBytes(lane: Lane, chunk: Buffer): void {
    const { direction } = lane
    const pair = [...this.#pairs].find(({ up, down }) => up === lane || down === lane)
    if (pair === undefined) return
    if (this.#dropping.has(direction)) {
      pair.poisoned = true
      this.swallowed += chunk.length
      return
    }
    const at = this.#resetAt
    if (at === undefined || at.direction !== direction || this.bytes[direction] + chunk.length < at.bytes) {
      this.bytes[direction] += chunk.length
      lane.relay(chunk)
      return
    }
    const part = chunk.subarray(0, at.bytes - this.bytes[direction])
    this.bytes[direction] += part.length
    this.#resetAt = undefined
    const [source, target] = direction === 'up' ? [pair.near, pair.far] : [pair.far, pair.near]
    // A frame that was begun, then the end.
    target.end(part)
    source.resetAndDestroy()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#server, 'close')
    this.#server.close()
    this.cut()
    await closed
  }

  #accept(near: Socket, farPort: number): void {
    near.on('error', () => {})
    if (this.#refusing) {
      near.resetAndDestroy()
      return
    }
    this.connections++
    this.connectedMs = performance.now()
    const far = connect(farPort, '127.0.0.1')
    near.setNoDelay(true)
    far.setNoDelay(true)
    const pair: Pair = {
      near, far, up: new Lane('up', near, far, this), down: new Lane('down', far, near, this), poisoned: false
    }
    this.#pairs.add(pair)
    far.on('error', () => {})
    for (const [socket, other] of [[near, far], [far, near]] as const) {
      socket.on('close', () => {
        pair.up.close()
        pair.down.close()
        this.#pairs.delete(pair)
        other.destroySoon()
      })
    }
    pair.up.update()
    pair.down.update()
  }
}

function destroy(...sockets: readonly Socket[]): void { for (const socket of sockets) socket.resetAndDestroy() }
