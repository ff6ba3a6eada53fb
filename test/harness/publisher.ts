import { createHash } from 'node:crypto'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { until } from './daemons.ts'

export interface PublisherOptions {
  /** Client id, and the device's name. No "-" and no digits at its end are asked of it; "/" and "+" are not allowed. */
  readonly name: string
  readonly qos: 1 | 2
  /** Publishes that may be unacknowledged. */
  readonly window: number
  /** Payloads are this long at most, beside a head of about 20 bytes. */
  readonly payloadBytesMax: number
  readonly lane?: 'telemetry' | 'alarms'
  /**
   * With QoS 2. False, the default: the session is the broker's to keep, and what is unacknowledged is sent again under
   * its packet id. True: what was not acknowledged is given up at a new connection, and its packet ids are used again.
   */
  readonly cleanSession?: boolean
  /** Packet ids are used again after so many. Default: all that there are. */
  readonly idsMax?: number
}

interface InFlight {
  readonly sequence: number
  readonly id: number
  readonly sentMs: number
  /** QoS 2: PUBREC came, PUBCOMP did not. */
  released: boolean
}

const reconnectMs = 20

/** Text that does not compress, the same in every run. */
const noise = Array.from({ length: 24 * 1024 }, (_, i) => createHash('sha256').update(String(i)).digest('base64url')).join('')

/** What `name` sends as its `sequence`-th record: anybody can tell whether a byte of it is wrong. */
export function payloadOf(name: string, sequence: number, payloadBytesMax: number): string {
  const mixed = Math.imul(sequence + 1, 0x9e3779b1) >>> 0
  const length = mixed % (payloadBytesMax + 1)
  const at = (mixed >>> 8) % (noise.length - length)
  return `${name}-${sequence}-${noise.slice(at, at + length)}`
}

/**
 * A device over raw MQTT 3.1.1: numbers its records, keeps `window` of them unacknowledged, and after a broken connection
 * connects again and sends again what was not acknowledged, in order, as clients must [MQTT-4.4.0-1].
 */
export class Publisher {
  readonly options: PublisherOptions
  readonly topic: string
  /** By sequence: how many new messages the broker may have taken it for. */
  readonly attempts: number[] = []
  /** By sequence: true once PUBACK or PUBREC came. */
  readonly acknowledged: boolean[] = []
  acknowledgedCount = 0
  connections = 0
  /** From publish to acknowledgement, milliseconds, of those sent since this was set to an empty array. */
  latenciesMs: number[] | undefined
  readonly #url: () => string
  readonly #inFlight = new Map<number, InFlight>()
  #socket: Socket | undefined
  #accepted = false
  #received: Buffer = Buffer.alloc(0)
  #running = false
  #closed = false
  #nextSequence = 0
  #nextId = 0
  #left = 0
  #out: Buffer[] = []

  constructor(options: PublisherOptions, url: () => string) {
    this.options = options
    this.#url = url
    this.topic = `devices/shop/${options.name}/${options.lane ?? 'telemetry'}`
    this.#connect()
  }

  /** Records sent for the first time so far. */
  get sequences(): number { return this.#nextSequence }
  get unacknowledged(): number { return this.#inFlight.size }

  /** Publishes without end, or `count` records. */
  run(count = Infinity): void {
    this.#running = true
    this.#left = count
    this.#fill()
  }

  /** Starts nothing new, and resolves when everything that was sent is acknowledged. */
  async pause(withinMs = 30_000): Promise<void> {
    this.#running = false
    await until(`${this.options.name} is acknowledged`, () => this.#inFlight.size === 0, withinMs)
  }

  /** Resolves when so many more records are acknowledged. */
  async progress(count: number, withinMs = 30_000): Promise<void> {
    const goal = this.acknowledgedCount + count
    await until(`${count} more acknowledgements for ${this.options.name}`, () => this.acknowledgedCount >= goal, withinMs)
  }

  /** Publishes `count` records and resolves when they are acknowledged. */
  async publish(count: number, withinMs = 60_000): Promise<void> {
    this.run(count)
    await until(`${count} records of ${this.options.name} are sent`, () => this.#left === 0, withinMs)
    await this.pause(withinMs)
  }

  /** Starts nothing new; what is unacknowledged is sent again for ever. */
  hold(): void { this.#running = false }

  close(): void {
    this.#closed = true
    this.#running = false
    this.#socket?.destroy()
  }

  [Symbol.dispose](): void { this.close() }

  #connect(): void {
    const { port, hostname } = new URL(this.#url())
    const socket = connect(Number(port), hostname)
    this.#socket = socket
    this.#accepted = false
    this.#received = Buffer.alloc(0)
    socket.setNoDelay(true)
    socket.on('connect', () => {
      const id = Buffer.from(this.options.name)
      const clean = this.options.cleanSession === true || this.options.qos === 1
      socket.write(packet(0x10, Buffer.concat([Buffer.from([0, 4, 77, 81, 84, 84, 4, clean ? 2 : 0, 0, 0, 0, id.length]), id])))
    })
    socket.on('data', chunk => { this.#receive(chunk) })
    socket.on('error', () => {})
    socket.on('close', () => {
      if (this.#socket === socket) this.#accepted = false
      if (!this.#closed) setTimeout(() => { if (!this.#closed) this.#connect() }, reconnectMs)
    })
  }

  #receive(chunk: Buffer): void {
    const bytes = this.#received.length === 0 ? chunk : Buffer.concat([this.#received, chunk])
    let at = 0
    while (bytes.length - at >= 2 && bytes.length - at >= 2 + bytes[at + 1]!) {
      // Every packet that comes here is short.
      const body = bytes.subarray(at + 2, at + 2 + bytes[at + 1]!)
      this.#handle(bytes[at]! >> 4, body)
      at += 2 + body.length
    }
    this.#received = bytes.subarray(at)
    this.#fill()
  }

  #handle(type: number, body: Buffer): void {
    if (type === 2) {
      if (body[1] === 0) this.#resume((body[0]! & 1) === 1)
      else this.#socket!.destroy()
      return
    }
    const id = body.readUInt16BE(0)
    const entry = this.#inFlight.get(id)
    if (type === 4 || type === 5) {
      if (entry !== undefined && !entry.released) this.#acknowledge(entry)
      if (type === 4) this.#inFlight.delete(id)
      else {
        if (entry !== undefined) entry.released = true
        this.#out.push(release(id))
      }
    } else if (type === 7) this.#inFlight.delete(id)
  }

  #acknowledge(entry: InFlight): void {
    this.acknowledged[entry.sequence] = true
    this.acknowledgedCount++
    this.latenciesMs?.push(performance.now() - entry.sentMs)
  }

  /** CONNACK: what is in flight goes out again. */
  #resume(sessionPresent: boolean): void {
    this.#accepted = true
    this.connections++
    if (this.options.qos === 2 && this.options.cleanSession === true) {
      this.#inFlight.clear()
      this.#nextId = 0
      return
    }
    for (const entry of this.#inFlight.values()) {
      if (entry.released) this.#out.push(release(entry.id))
      else {
        // Under QoS 2 a session that is still there knows the packet id: no new message.
        if (this.options.qos === 1 || !sessionPresent) this.attempts[entry.sequence]!++
        this.#out.push(this.#publish(entry, true))
      }
    }
  }

  #fill(): void {
    if (!this.#accepted) return
    while (this.#running && this.#left > 0 && this.#inFlight.size < this.options.window) {
      do this.#nextId = this.#nextId % (this.options.idsMax ?? 65_535) + 1
      while (this.#inFlight.has(this.#nextId))
      const entry: InFlight = { sequence: this.#nextSequence++, id: this.#nextId, sentMs: performance.now(), released: false }
      this.#left--
      this.attempts.push(1)
      this.acknowledged.push(false)
      this.#inFlight.set(entry.id, entry)
      this.#out.push(this.#publish(entry, false))
    }
    if (this.#out.length === 0) return
    this.#socket!.write(Buffer.concat(this.#out))
    this.#out = []
  }

  #publish(entry: InFlight, repeated: boolean): Buffer {
    const { name, qos, payloadBytesMax } = this.options
    const topic = Buffer.from(this.topic)
    const payload = Buffer.from(payloadOf(name, entry.sequence, payloadBytesMax))
    const body = Buffer.allocUnsafe(2 + topic.length + 2 + payload.length)
    body.writeUInt16BE(topic.length, 0)
    topic.copy(body, 2)
    body.writeUInt16BE(entry.id, 2 + topic.length)
    payload.copy(body, 4 + topic.length)
    return packet(0x30 | qos << 1 | (repeated ? 8 : 0), body)
  }
}

const release = (id: number): Buffer => Buffer.from([0x62, 2, id >> 8, id & 255])

/** An MQTT control packet: first byte, remaining length, body. */
export function packet(first: number, body: Buffer): Buffer {
  const head = [first]
  let left = body.length
  do {
    head.push(left % 128 | (left >= 128 ? 128 : 0))
    left = Math.floor(left / 128)
  } while (left > 0)
  return Buffer.concat([Buffer.from(head), body])
}
