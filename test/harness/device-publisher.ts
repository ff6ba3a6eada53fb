import { Socket } from 'node:net'
import type { DeviceAcks } from './load-generator.ts'
import { monotonicUs, rewriteMarker } from './marker.ts'
import { PayloadSource, type PayloadKind } from './payload.ts'

export interface LoadSettings {
  readonly host: string
  readonly port: number
  readonly qos: 0 | 1 | 2
  /** Records of one connection that may be unacknowledged; also the number of packet ids it uses. */
  readonly window: number
  readonly payload: PayloadKind
  readonly payloadBytes: number
  /** Connect again when the connection is lost, and send again what was not acknowledged. */
  readonly resend: boolean
  /** The broker keeps the session: what is sent again is known by its packet id. */
  readonly persistent: boolean
  readonly clientPrefix: string
  readonly sequenceBase: number
}

export interface PublishedDevice {
  readonly device: number
  /** "%d" stands for the device. */
  readonly topic: string
  /** Records that it is to send. */
  readonly count: number
}

export interface PublisherHost {
  onSent(count: number): void
  onAcknowledged(sentUs: number, nowUs: number): void
}

/** A slot of the ring: nothing, PUBLISH on its way, or PUBREL on its way. */
const free = 0
const sent = 1
const released = 2

const reconnectMs = 20
const nothing = Buffer.alloc(0)
/** All connections read into it: what is in it is used before the next read. */
const inbox = Buffer.allocUnsafeSlow(64 * 1024)

/**
 * One device: a connection and a ring of `window` encoded PUBLISH packets, each with a packet id of its own, that are
 * patched in place and sent in runs. A packet is patched only after its acknowledgement: the kernel has long read it.
 * With QoS 0 that is when the socket has nothing left to write.
 */
export class DevicePublisher {
  reconnects = 0
  sessionsLost = 0
  repeatedSends = 0
  ackInversions = 0
  bytesOut = 0
  /** The connection is gone and will not come back. */
  lost = false
  connected = false
  readonly #settings: LoadSettings
  readonly #host: PublisherHost
  readonly #device: number
  readonly #count: number
  readonly #source: PayloadSource
  readonly #ring: Buffer
  readonly #packetBytes: number
  readonly #markerAt: number
  readonly #payloadAt: number
  readonly #states: Uint8Array
  readonly #sentUs: Float64Array
  readonly #sequences: Uint32Array
  readonly #repeated: [number, number][] = []
  /** Oldest slot in use, and how many from there are in use or wait for an older one. */
  #tail = 0
  #used = 0
  #acknowledged = 0
  #next: number
  #stopped = true
  #closed = false
  #dueUs = 0
  #intervalUs = 0
  #socket: Socket | undefined
  /** Bytes of a packet that was cut by the end of a read. */
  #rest = 0
  readonly #restBytes = Buffer.alloc(4)
  #onConnected: (() => void) | undefined
  readonly #refill = (): void => { this.fill(monotonicUs()) }

  constructor(settings: LoadSettings, device: PublishedDevice, host: PublisherHost) {
    this.#settings = settings
    this.#host = host
    this.#device = device.device
    this.#count = device.count
    this.#next = settings.sequenceBase
    this.#source = new PayloadSource(settings.payload, settings.payloadBytes, device.device)
    const topic = Buffer.from(device.topic.replace('%d', String(device.device)))
    const idBytes = settings.qos === 0 ? 0 : 2
    const head = packetHead(0x30 | settings.qos << 1, 2 + topic.length + idBytes + settings.payloadBytes)
    this.#payloadAt = head.length + 2 + topic.length + idBytes
    this.#packetBytes = this.#payloadAt + settings.payloadBytes
    this.#markerAt = this.#payloadAt + this.#source.markerAt
    this.#ring = Buffer.allocUnsafeSlow(this.#packetBytes * settings.window)
    for (let slot = 0; slot < settings.window; slot++) {
      const at = slot * this.#packetBytes
      head.copy(this.#ring, at)
      this.#ring.writeUInt16BE(topic.length, at + head.length)
      topic.copy(this.#ring, at + head.length + 2)
      if (idBytes > 0) this.#ring.writeUInt16BE(slot + 1, at + this.#payloadAt - 2)
      this.#source.first.copy(this.#ring, at + this.#payloadAt)
    }
    this.#states = new Uint8Array(settings.window)
    this.#sentUs = new Float64Array(settings.window)
    this.#sequences = new Uint32Array(settings.window)
  }

  /** True when it has sent all that it was to send. */
  get finished(): boolean { return this.#next - this.#settings.sequenceBase >= this.#count || this.lost }
  /** True when nothing is on its way. */
  get settled(): boolean {
    return this.lost || (this.#settings.qos === 0 ? (this.#socket?.writableLength ?? 0) === 0 : this.#used === 0)
  }

  /** Resolves at CONNACK. Rejects where the first connection fails. */
  async connect(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#onConnected = resolve
      this.#dial(reject)
    })
  }

  /** Sends from now on; with an interval, one record at `dueUs` and then each interval. */
  begin(dueUs: number, intervalUs: number): void {
    this.#stopped = false
    this.#dueUs = dueUs
    this.#intervalUs = intervalUs
    this.fill(monotonicUs())
  }

  /** Sends nothing new. */
  stop(): void { this.#stopped = true }

  close(): void {
    this.#closed = true
    const socket = this.#socket
    if (socket === undefined || !this.connected) socket?.destroy()
    else socket.end(Buffer.from([0xe0, 0]))
  }

  acks(): DeviceAcks {
    const unacknowledged: [number, number][] = []
    for (let i = 0; i < this.#used; i++) {
      const slot = (this.#tail + i) % this.#settings.window
      if (this.#states[slot] === sent) extend(unacknowledged, this.#sequences[slot]!)
    }
    return {
      device: this.#device, first: this.#settings.sequenceBase, next: this.#next,
      unacknowledged: this.#settings.qos === 0 ? [[this.#settings.sequenceBase, this.#next - 1]] : unacknowledged,
      repeated: this.#repeated
    }
  }

  /** Sends what the window, the count and the schedule allow. */
  fill(nowUs: number): void {
    if (this.#stopped || !this.connected) return
    const { window, qos, sequenceBase } = this.#settings
    if (qos === 0 && this.#socket!.writableLength > 0) return
    const scheduled = this.#intervalUs > 0
    let room = Math.min(window - this.#used, this.#count - (this.#next - sequenceBase))
    if (scheduled) room = Math.min(room, Math.floor((nowUs - this.#dueUs) / this.#intervalUs) + 1)
    if (room <= 0) return
    let slot = (this.#tail + this.#used) % window
    let from = slot
    for (let i = 0; i < room; i++) {
      const sentUs = scheduled ? this.#dueUs : nowUs
      if (scheduled) this.#dueUs += this.#intervalUs
      const at = slot * this.#packetBytes
      if (this.#ring[at]! & 8) this.#ring[at]! &= ~8
      rewriteMarker(this.#ring, at + this.#markerAt, this.#next, sentUs)
      this.#source.drift(this.#ring, at + this.#payloadAt)
      this.#sequences[slot] = this.#next++
      this.#sentUs[slot] = sentUs
      this.#states[slot] = sent
      if (++slot === window) {
        this.#write(from, window)
        slot = 0
        from = 0
      }
    }
    if (slot > from) this.#write(from, slot)
    this.#host.onSent(room)
    if (qos > 0) {
      this.#used += room
      return
    }
    this.#tail = slot % window
    // An empty write calls back when all before it is in the kernel.
    if (!scheduled) this.#socket!.write(nothing, () => setImmediate(this.#refill))
  }

  /** Sends the packets of the slots from `from` to below `to`. */
  #write(from: number, to: number): void {
    this.bytesOut += (to - from) * this.#packetBytes
    this.#socket!.write(this.#ring.subarray(from * this.#packetBytes, to * this.#packetBytes))
  }

  #dial(reject?: (error: Error) => void): void {
    const { host, port, persistent, clientPrefix } = this.#settings
    const socket = new Socket({
      onread: {
        buffer: inbox,
        callback: bytes => {
          this.#receive(bytes)
          return true
        }
      }
    })
    this.#socket = socket
    this.#rest = 0
    let failure: Error | undefined
    socket.on('error', error => { failure = error })
    socket.on('connect', () => {
      socket.setNoDelay(true)
      const id = Buffer.from(`${clientPrefix}-${this.#device}`)
      const head = packetHead(0x10, 12 + id.length)
      const fields = [0, 4, 0x4d, 0x51, 0x54, 0x54, 4, persistent ? 0 : 2, 0, 0, 0, id.length]
      socket.write(Buffer.concat([head, Buffer.from(fields), id]))
    })
    socket.on('close', () => {
      this.connected = false
      if (this.#closed || this.lost) return
      if (this.#onConnected !== undefined && reject !== undefined) {
        return reject(failure ?? new Error('closed before CONNACK'))
      }
      if (!this.#settings.resend) this.lost = true
      else setTimeout(() => { if (!this.#closed) this.#dial() }, reconnectMs)
    })
    socket.connect(port, host)
  }

  /** Every packet that a broker sends to a publisher has 2 or 4 bytes. */
  #receive(bytes: number): void {
    const nowUs = monotonicUs()
    let at = 0
    let releases: Buffer | undefined
    let releaseCount = 0
    while (at < bytes) {
      let packet: Buffer = inbox
      let start = at
      if (this.#rest > 0 || bytes - at < (bytes - at > 1 ? 2 + inbox[at + 1]! : 2)) {
        this.#restBytes[this.#rest++] = inbox[at++]!
        if (this.#rest < 2 || this.#rest < 2 + this.#restBytes[1]!) continue
        packet = this.#restBytes
        start = 0
        this.#rest = 0
      } else at += 2 + inbox[at + 1]!
      const type = packet[start]! >> 4
      if (type === 2) {
        this.#resume(packet[start + 2]!, packet[start + 3]!)
        continue
      }
      if (type !== 4 && type !== 5 && type !== 7) continue
      const slot = (packet[start + 2]! << 8 | packet[start + 3]!) - 1
      if (type === 5) {
        releases ??= Buffer.allocUnsafe(4 * this.#settings.window * 2)
        if (releaseCount * 4 < releases.length) releases.writeUInt32BE(0x6202_0000 | slot + 1, releaseCount++ * 4)
      }
      this.#acknowledge(slot, type, nowUs)
    }
    if (releases !== undefined) this.#socket!.write(releases.subarray(0, releaseCount * 4))
    this.fill(nowUs)
  }

  #acknowledge(slot: number, type: number, nowUs: number): void {
    const state = this.#states[slot]
    if (state === sent && type !== 7) {
      if (slot !== (this.#tail + this.#acknowledged) % this.#settings.window) this.ackInversions++
      this.#acknowledged++
      this.#host.onAcknowledged(this.#sentUs[slot]!, nowUs)
    }
    if (type === 5) {
      if (state === sent) this.#states[slot] = released
      return
    }
    if (state === free || state === undefined) return
    this.#states[slot] = free
    while (this.#used > 0 && this.#states[this.#tail] === free) {
      this.#tail = this.#tail + 1 === this.#settings.window ? 0 : this.#tail + 1
      this.#used--
      this.#acknowledged--
    }
  }

  /** CONNACK: what is on its way goes out again, in order [MQTT-4.4.0-1]. */
  #resume(flags: number, code: number): void {
    if (code !== 0) {
      this.#socket!.destroy(new Error(`CONNACK ${code}`))
      return
    }
    this.connected = true
    const { qos, window, persistent } = this.#settings
    if (this.#onConnected !== undefined) {
      this.#onConnected()
      this.#onConnected = undefined
      return
    }
    this.reconnects++
    const sessionPresent = (flags & 1) === 1
    if (persistent && !sessionPresent) this.sessionsLost++
    if (qos === 0) return
    for (let i = 0; i < this.#used; i++) {
      const slot = (this.#tail + i) % window
      if (this.#states[slot] === released) this.#socket!.write(Buffer.from([0x62, 2, (slot + 1) >> 8, slot + 1 & 255]))
      if (this.#states[slot] !== sent) continue
      this.#ring[slot * this.#packetBytes]! |= 8
      if (!sessionPresent) {
        this.repeatedSends++
        extend(this.#repeated, this.#sequences[slot]!, i === 0)
      }
      this.#write(slot, slot + 1)
    }
  }
}

/** Adds a number to the last range, or begins another. */
function extend(ranges: [number, number][], value: number, fresh = false): void {
  const last = ranges.at(-1)
  if (!fresh && last !== undefined && last[1] + 1 === value) last[1] = value
  else ranges.push([value, value])
}

/** First byte and remaining length. */
function packetHead(first: number, length: number): Buffer {
  const head = [first]
  let left = length
  do {
    head.push(left % 128 | (left >= 128 ? 128 : 0))
    left = Math.floor(left / 128)
  } while (left > 0)
  return Buffer.from(head)
}
