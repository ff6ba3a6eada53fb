import { decodeFrame } from '@holdfast/protos'
import type { Frame } from '@holdfast/protos'
import type { Connection, ConnectionEvents } from '@holdfast/sync'
import type { SimulatedProcess } from './machine.ts'
import type { World } from './world.ts'

/** What an edge's way to the cloud is like now. */
export class Wire {
  /** One-way delay, milliseconds. */
  latencyMs = 5
  /** Bytes per second, each way. */
  rate = Infinity
  /** False: nothing connects, everything is reset. */
  up = true
  /** Bytes vanish this way, and nobody is told. */
  lostUp = false
  lostDown = false
}

interface End {
  readonly process: SimulatedProcess
  events: ConnectionEvents
  received: number
  closed: boolean
  /** Messages on their way here. */
  arriving: { readonly atMs: number, readonly startMs: number, readonly bytes: number }[]
  freeAtMs: number
}

/**
 * A connection between two processes: whole messages, in order, each way at the wire's rate. What is on its way when
 * the
 * connection breaks is lost.
 */
export class SimulatedConnection {
  broken = false
  readonly #world: World
  readonly name: string
  readonly wire: Wire
  readonly edge: End
  readonly cloud: End
  /** Told of every frame that the cloud hands over. */
  onFromCloud: (frame: Frame) => void = () => {}
  /** Told of every frame that the edge hands over; undefined: nobody asks. */
  onFromEdge: ((frame: Frame) => void) | undefined

  constructor(name: string, world: World, wire: Wire, edge: SimulatedProcess, cloud: SimulatedProcess) {
    this.name = name
    this.#world = world
    this.wire = wire
    const end = (process: SimulatedProcess): End => ({
      process, received: 0, closed: false, arriving: [], freeAtMs: 0, events: { onMessage() {}, onClose() {} }
    })
    this.edge = end(edge)
    this.cloud = end(cloud)
  }

  /** The connection as one of its ends sees it. */
  side(own: End): Connection {
    const other = own === this.edge ? this.cloud : this.edge
    const bytesReceived = (): number => own.received + this.#partly(own)
    return {
      get bytesReceived() { return bytesReceived() },
      send: message => {
        if (own.closed || this.broken || !own.process.output()) return
        this.#send(own, other, message)
      },
      close: (_code, reason) => {
        if (own.closed || !own.process.alive) return
        own.closed = true
        this.#world.after(0, () => { own.process.input(() => { own.events.onClose(`closed here: ${reason}`) }) })
        if (!this.broken) this.#sendClose(own, other, reason)
      }
    }
  }

  /** Breaks both ways; ends that the news can reach learn it. */
  reset(why: string): void {
    if (this.broken) return
    this.broken = true
    for (const end of [this.edge, this.cloud]) this.#closeEnd(end, why, 0.5)
  }

  /** An end's process died: its machine answers with a reset, if anything gets through. */
  orphaned(): void {
    const lost = this.wire.lostUp || this.wire.lostDown
    if (this.broken) return
    this.broken = true
    if (lost) return
    for (const end of [this.edge, this.cloud]) this.#closeEnd(end, 'reset by peer', this.wire.latencyMs)
  }

  #closeEnd(end: End, why: string, delayMs: number): void {
    if (end.closed) return
    this.#world.after(delayMs, () => {
      if (end.closed) return
      end.closed = true
      end.process.input(() => { end.events.onClose(why) })
    })
  }

  #arrival(other: End, bytes: number): { startMs: number, atMs: number } {
    const startMs = Math.max(this.#world.nowMs, other.freeAtMs)
    other.freeAtMs = startMs + bytes * 1000 / this.wire.rate
    return { startMs: startMs + this.wire.latencyMs, atMs: other.freeAtMs + this.wire.latencyMs }
  }

  #isLost(own: End): boolean { return own === this.edge ? this.wire.lostUp : this.wire.lostDown }

  #send(own: End, other: End, message: Buffer): void {
    const { startMs, atMs } = this.#arrival(other, message.length)
    // The receiver gets bytes of its own, as from a socket.
    const copy = Buffer.from(message)
    if (own === this.cloud) this.onFromCloud(decodeFrame(copy))
    else this.onFromEdge?.(decodeFrame(copy))
    if (this.#world.trace !== undefined) {
      const { kind } = decodeFrame(copy)
      this.#world.note(`${this.name} ${own === this.edge ? '→' : '←'} ${kind}, ${copy.length} bytes, ` +
        `there in ${(atMs - this.#world.nowMs).toFixed(1)} ms`)
    }
    const onWay = { startMs, atMs: Math.max(atMs, other.arriving.at(-1)?.atMs ?? 0), bytes: message.length }
    other.arriving.push(onWay)
    this.#world.at(onWay.atMs, () => {
      other.arriving.shift()
      if (this.broken || other.closed) return
      if (this.#isLost(own)) {
        // TCP delivers nothing behind what is missing.
        if (own === this.edge) this.#deafCloud = true
        else this.#deafEdge = true
        return
      }
      if (other === this.cloud ? this.#deafCloud : this.#deafEdge) return
      other.received += message.length
      other.process.input(() => { if (!other.closed) other.events.onMessage(copy) })
    })
  }

  #deafCloud = false
  #deafEdge = false

  #sendClose(own: End, other: End, reason: string): void {
    const { atMs } = this.#arrival(other, 2)
    this.#world.at(Math.max(atMs, other.arriving.at(-1)?.atMs ?? 0), () => {
      if (this.broken || this.#isLost(own) || (other === this.cloud ? this.#deafCloud : this.#deafEdge)) return
      this.broken = true
      this.#closeEnd(other, `closed there: ${reason}`, 0)
    })
  }

  /** Bytes of the message that is just coming in. */
  #partly(own: End): number {
    const first = own.arriving[0]
    if (first === undefined || this.broken || first.atMs <= first.startMs) return 0
    if (own === this.edge ? this.wire.lostDown || this.#deafEdge : this.wire.lostUp || this.#deafCloud) return 0
    const share = (this.#world.nowMs - first.startMs) / (first.atMs - first.startMs)
    return Math.floor(first.bytes * Math.min(1, Math.max(0, share)))
  }
}
