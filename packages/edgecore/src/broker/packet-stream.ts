import { Duplex } from 'node:stream'
import { AckQueue } from './ack-queue.ts'
import type { IngestBudget } from './ingest-budget.ts'

/** Why a connection ended. Closed union: one counter each. */
export const closeReasons = [
  'disconnect', 'connection-lost', 'taken-over', 'stopping', 'too-many-connections', 'connect-timeout', 'packet-timeout',
  'keepalive', 'too-large', 'malformed', 'not-connect', 'protocol', 'refused', 'bad-topic', 'incomplete-bytes',
  'outbox-full', 'store-failed', 'not-taken', 'retained-full', 'too-many-qos2', 'slow-subscriber'
] as const
export type CloseReason = (typeof closeReasons)[number]

export interface PacketStreamOptions {
  readonly packetBytesMax: number
  readonly pendingBytesMaxPerClient: number
  readonly pendingPacketsMaxPerClient: number
  readonly incompleteBytesMax: number
  readonly keepaliveMaxMs: number
  readonly connectTimeoutMs: number
  readonly packetTimeoutMs: number
  readonly outgoingBytesMaxPerClient: number
  readonly outgoingBytesMax: number
  readonly drainTimeoutMs: number
}

/** What all streams of a broker share. */
export interface PacketStreamHost {
  readonly options: PacketStreamOptions
  readonly budget: IngestBudget
  /** Bytes that wait to be taken by sockets, over all streams. */
  outgoingBytes: number
  /** The whole CONNECT packet is there. Gives what parses and handles the bytes handed to it. */
  open(stream: PacketStream): (bytes: Buffer) => void
  /** Called once per stream. */
  closed(stream: PacketStream, reason: CloseReason): void
  /** Calls `stream.flush()` in a later turn of the event loop, after the I/O that is ready now; sooner with acknowledgements. */
  flushSoon(stream: PacketStream): void
}

/** How often `tick` is called. Time is counted in ticks, so that a stall of our own is nobody's timeout. */
export const tickMs = 250

/** Counted for each publish beside its bytes: the objects around it. */
export const publishOverheadBytes = 128
const largeIncompleteBytes = 64 * 1024
const outgoingBytesMin = 64 * 1024
/** Given to the socket at a time, so that progress is seen. */
const socketBytesMax = 64 * 1024
/** What a client is told at once is a few acknowledgements as a rule: room for 32 of them, then twice as much. */
const outgoingBytesFirst = 128
const copyBytesMax = 4096
const lingerTicks = 4
/** CONNACK 1 */
const unacceptableLevel = Buffer.from([0x20, 2, 0, 1])
const pingResponse = Buffer.from([0xd0, 0])
const empty = Buffer.alloc(0)

// MQTT 3.1.1 §2.2.1
const typeConnect = 1
const typePublish = 3
const typePuback = 4
const typePubcomp = 7
const typeSubscribe = 8
const typeUnsubscribe = 10
const typePingreq = 12
const typeDisconnect = 14

const stageFirst = 0
const stageLength = 1
const stageBody = 2

/**
 * One client's connection, as aedes sees it. aedes reads without bound, buffers packets of any size and drops clients
 * whose publishes are held; so this stream reads fixed headers itself, before anything is buffered:
 *
 * - closes at a packet above `packetBytesMax`, a remaining length of more than four bytes, reserved flags, types that a
 *   client does not send, anything before CONNECT and a second CONNECT;
 * - hands bytes on in whole chunks, and stops reading the socket while the publishes that wait for their commit are at
 *   their bound (L8);
 * - answers PINGREQ itself and owns the keep-alive (aedes is told 0), not counting while it does not read: a client whose
 *   publish is held is not dropped;
 * - gathers what is sent, one write to the socket a turn, bounded.
 *
 * The readable side is not used: bytes go straight to aedes' parser, one call a chunk.
 */
export class PacketStream extends Duplex {
  /** Set by aedes. */
  client: unknown
  /** True from the outgoing bound until half of it. */
  override writableNeedDrain = false
  readonly acks: AckQueue
  /** Filters granted to the client, with their QoS. Kept by the broker. */
  readonly subscriptions = new Map<string, number>()
  /** CONNACK: [MQTT-3.2.2-2] says what aedes does not know, that a session without subscriptions is one too. */
  sessionPresent = false
  /** True once CONNACK has been sent: what came behind CONNECT is handed on from then. */
  accepted = false
  /** CONNECT came with no client id. */
  anonymous = false
  /** The persistent session that this connection holds. */
  sessionId: string | undefined

  readonly #host: PacketStreamHost
  readonly #transport: Duplex
  #reason: CloseReason | undefined
  #parse: ((bytes: Buffer) => void) | undefined
  /** Chunks behind CONNECT. */
  #held: Buffer[] = []

  #stage = stageFirst
  #first = 0
  #length = 0
  #shift = 0
  #bodyLeft = 0
  readonly #header = Buffer.alloc(5)
  #headerBytes = 0
  #incomplete = 0
  #connect: Buffer[] | undefined = []

  /** Bytes of publishes handed on and not yet acknowledged. */
  #pendingBytes = 0
  /** Of these, not yet seen by `enter`. */
  #enteringBytes = 0
  #packets = 0
  #paused = false
  #waiting = false
  /** Nothing more is read: the broker stops. */
  #muted = false

  #idleTicks = 0
  #packetTicks = 0
  #ageTicks = 0
  #keepaliveTicks = Infinity

  #out: Buffer | undefined
  #outLength = 0
  #queue: Buffer[] = []
  #outgoing = 0
  #flushing = false
  #drainTicks = 0
  #connackSeen = false

  constructor(transport: Duplex, host: PacketStreamHost) {
    super({ autoDestroy: true, emitClose: true })
    this.#transport = transport
    this.#host = host
    this.acks = new AckQueue(bytes => this.#release(bytes), () => this.closeFor('store-failed'))
    // mqtt-packet corks and schedules an uncork for every packet where the stream can; this one gathers by itself.
    Object.defineProperty(this, 'cork', { value: undefined })
    transport.on('data', (chunk: Buffer) => this.#receive(chunk))
    transport.on('end', () => this.closeFor('connection-lost'))
    transport.on('close', () => this.closeFor('connection-lost'))
    transport.on('error', () => this.closeFor('connection-lost'))
    transport.on('drain', () => this.#pump())
  }

  /** Closes the connection for `reason`; the first reason holds. What is gathered for the client still goes out. */
  closeFor(reason: CloseReason): void {
    this.#reason ??= reason
    if (!this.destroyed) this.destroy()
  }

  /** Names the reason of a close that somebody else is about to do. */
  closingFor(reason: CloseReason): void { this.#reason ??= reason }

  /** True while publishes wait for their acknowledgement. */
  get busy(): boolean { return !this.acks.empty }

  /** Reads nothing more; what is pending is still answered. */
  mute(): void {
    this.#muted = true
    this.#transport.pause()
  }

  /** CONNACK is out: what came behind CONNECT goes on. */
  accept(): void {
    this.accepted = true
    const held = this.#held
    this.#held = []
    for (const chunk of held) if (!this.destroyed) this.#scan(chunk)
    if (!this.destroyed) this.#afterHandOver()
  }

  // ── what is read ───────────────────────────────────────────────────────────────────────────────────────────────────

  #receive(chunk: Buffer): void {
    if (this.destroyed || this.#muted) return
    this.#idleTicks = 0
    if (!this.accepted && this.#connect === undefined) {
      this.#hold(chunk)
      return
    }
    this.#scan(chunk)
    if (!this.destroyed) this.#afterHandOver()
  }

  /** One read beyond CONNECT is kept until CONNACK. */
  #hold(chunk: Buffer): void {
    if (chunk.length === 0) return
    this.#held.push(chunk)
    this.#pause()
  }

  #scan(chunk: Buffer): void {
    const end = chunk.length
    let at = 0
    /** Begin of what is to be handed on; what lies before was. */
    let start = 0
    let publishBytes = 0
    let packets = 0
    while (at < end) {
      if (this.#stage === stageFirst) {
        this.#first = chunk[at++]!
        this.#length = 0
        this.#shift = 0
        this.#stage = stageLength
        this.#header[0] = this.#first
        this.#headerBytes = 1
        continue
      }
      if (this.#stage === stageLength) {
        const byte = chunk[at++]!
        this.#header[this.#headerBytes++] = byte
        this.#length += (byte & 0x7f) * 2 ** this.#shift
        this.#shift += 7
        if (byte > 0x7f) {
          // [MQTT-2.2.3]: at most four bytes.
          if (this.#headerBytes === 5) { this.closeFor('malformed'); return }
          continue
        }
        const problem = this.#headerProblem(this.#first, this.#length)
        if (problem !== undefined) { this.closeFor(problem); return }
        const headerStart = at - this.#headerBytes
        this.#stage = stageBody
        this.#bodyLeft = this.#length
        this.#packetTicks = 0
        if (this.#first === typePingreq << 4) {
          this.#handOver(chunk, start, Math.max(start, headerStart), publishBytes, packets)
          publishBytes = packets = 0
          if (this.destroyed) return
          start = at
          this.write(pingResponse)
        } else if (headerStart < 0) {
          // The header began in an earlier chunk, which kept it back.
          this.#handOver(this.#header, 0, this.#headerBytes, 0, 0, true)
          if (this.destroyed) return
          start = at
        }
      }
      const take = Math.min(this.#bodyLeft, end - at)
      at += take
      this.#bodyLeft -= take
      if (this.#bodyLeft > 0) break
      this.#stage = stageFirst
      const type = this.#first >> 4
      if (type === typePublish) publishBytes += this.#length + publishOverheadBytes
      if (type !== typePingreq) packets++
      if (type === typeDisconnect) this.#reason ??= 'disconnect'
      if (this.#connect !== undefined) {
        this.#openWith(chunk.subarray(start, at))
        if (!this.destroyed && at < end) this.#hold(chunk.subarray(at))
        return
      }
    }
    // An unfinished header is kept back: if it is a PINGREQ's, aedes must not see it.
    const handEnd = this.#stage === stageLength ? Math.max(start, end - this.#headerBytes) : end
    if (this.#connect !== undefined) {
      if (handEnd > start) this.#connect.push(chunk.subarray(start, handEnd))
    } else {
      this.#handOver(chunk, start, handEnd, publishBytes, packets)
    }
    if (!this.destroyed) this.#countIncomplete()
  }

  #handOver(source: Buffer, start: number, end: number, publishBytes: number, packets: number, copy = false): void {
    this.#packets += packets
    if (publishBytes > 0) {
      this.#pendingBytes += publishBytes
      this.#enteringBytes += publishBytes
      this.#host.budget.bytes += publishBytes
    }
    if (end <= start) return
    const part = start === 0 && end === source.length ? source : source.subarray(start, end)
    const bytes = copy ? Buffer.from(part) : part
    if (this.#connect !== undefined) this.#connect.push(bytes)
    else this.#parse!(bytes)
  }

  /** MQTT 3.1.1 §2.2.2 and §2.2.3, before a byte of the body is kept. */
  #headerProblem(first: number, length: number): CloseReason | undefined {
    const type = first >> 4
    if (this.#connect !== undefined) {
      if (type !== typeConnect) return 'not-connect'
      if (first !== typeConnect << 4) return 'malformed'
    } else if (type === typeConnect) return 'protocol'
    if (length > this.#host.options.packetBytesMax) return 'too-large'
    if (type === typePublish) {
      const qos = (first >> 1) & 3
      // [MQTT-3.3.1-4], [MQTT-3.3.1-2]; a topic of one character is the shortest.
      return qos === 3 || (qos === 0 && (first & 8) !== 0) || length < (qos === 0 ? 3 : 5) ? 'malformed' : undefined
    }
    if (type >= typePuback && type <= typePubcomp) {
      return first !== (type << 4 | (type === 6 ? 2 : 0)) || length !== 2 ? 'malformed' : undefined
    }
    if (type === typeSubscribe || type === typeUnsubscribe) {
      return first !== (type << 4 | 2) || length < 5 ? 'malformed' : undefined
    }
    if (type === typePingreq || type === typeDisconnect) {
      return first !== type << 4 || length !== 0 ? 'malformed' : undefined
    }
    return type === typeConnect ? undefined : 'protocol'
  }

  /** CONNECT is complete: aedes gets to know of this connection now, with a keep-alive of 0. */
  #openWith(last: Buffer): void {
    const packet = Buffer.concat([...this.#connect!, last])
    this.#connect = undefined
    this.#countIncomplete()
    let at = 1
    while (packet[at]! > 0x7f) at++
    at++
    // Protocol name, level and flags come before the keep-alive (§3.1.2).
    if (at + 2 > packet.length) { this.closeFor('malformed'); return }
    const nameEnd = at + 2 + packet.readUInt16BE(at)
    const name = packet.toString('latin1', at + 2, nameEnd)
    at = nameEnd + 2
    if (at + 4 > packet.length) { this.closeFor('malformed'); return }
    const problem = connectProblem(name, packet[nameEnd]!, packet[nameEnd + 1]!)
    if (problem !== undefined) {
      // [MQTT-3.1.2-2]
      if (problem === 'refused') this.write(unacceptableLevel)
      this.closeFor(problem)
      return
    }
    const { keepaliveMaxMs } = this.#host.options
    const keepaliveMs = packet.readUInt16BE(at) * 1000
    packet.writeUInt16BE(0, at)
    // [MQTT-3.1.2-24]; one tick more, since the first may come at once.
    this.#keepaliveTicks =
      Math.ceil(1.5 * (keepaliveMs === 0 ? keepaliveMaxMs : Math.min(keepaliveMs, keepaliveMaxMs)) / tickMs) + 1
    this.#packets = 1
    this.#parse = this.#host.open(this)
    this.#parse(packet)
  }

  #countIncomplete(): void {
    const { budget, options } = this.#host
    const now = this.#stage === stageBody ? this.#length - this.#bodyLeft : 0
    budget.incompleteBytes += now - this.#incomplete
    this.#incomplete = now
    if (now > largeIncompleteBytes && budget.incompleteBytes > options.incompleteBytesMax) this.closeFor('incomplete-bytes')
  }

  // ── back-pressure ──────────────────────────────────────────────────────────────────────────────────────────────────

  /** The bytes that a publish of aedes counts for; called once for each, when it is authorized. */
  enter(length: number): number {
    const bytes = length + publishOverheadBytes
    this.#enteringBytes -= bytes
    return bytes
  }

  /** aedes has finished with one packet. */
  packetDone(): void {
    this.#packets--
    if (this.#paused) this.resumeReading()
  }

  #release(bytes: number): void {
    this.#pendingBytes -= bytes
    this.#host.budget.release(bytes)
    if (this.#paused) this.resumeReading()
  }

  #afterHandOver(): void {
    const { options, budget } = this.#host
    if (this.#pendingBytes >= options.pendingBytesMaxPerClient || this.#packets >= options.pendingPacketsMaxPerClient ||
      this.writableNeedDrain || budget.exhausted) this.#pause()
    else if (this.#paused) this.resumeReading()
  }

  #pause(): void {
    if (!this.#paused) {
      this.#paused = true
      this.#transport.pause()
    }
    if (this.#host.budget.exhausted && !this.#waiting) {
      this.#waiting = true
      this.#host.budget.wait({ resume: () => { this.#waiting = false; this.resumeReading() } })
    }
  }

  /** Goes on reading if nothing is against it. */
  resumeReading(): void {
    const { options, budget } = this.#host
    if (!this.#paused || this.#muted || this.#waiting || this.writableNeedDrain || !this.accepted || this.destroyed) return
    if (this.#pendingBytes * 2 > options.pendingBytesMaxPerClient) return
    if (this.#packets * 2 > options.pendingPacketsMaxPerClient) return
    if (budget.exhausted) { this.#pause(); return }
    this.#paused = false
    this.#idleTicks = 0
    this.#transport.resume()
  }

  /** Called every `tickMs`. */
  tick(): void {
    const { options } = this.#host
    if (this.#connect !== undefined) {
      if (++this.#ageTicks * tickMs > options.connectTimeoutMs) this.closeFor('connect-timeout')
      return
    }
    if (this.writableNeedDrain && ++this.#drainTicks * tickMs > options.drainTimeoutMs) { this.closeFor('slow-subscriber'); return }
    if (this.#paused || this.#muted) return
    if (++this.#idleTicks > this.#keepaliveTicks) { this.closeFor('keepalive'); return }
    if (this.#stage !== stageFirst && ++this.#packetTicks * tickMs > options.packetTimeoutMs) this.closeFor('packet-timeout')
  }

  // ── what is written ────────────────────────────────────────────────────────────────────────────────────────────────

  /** Gathers; false once the outgoing bound is reached, until `drain`. */
  override write(chunk: string | Uint8Array): boolean {
    if (this.destroyed) return true
    const text = typeof chunk === 'string'
    const length = text ? Buffer.byteLength(chunk) : chunk.length
    if (length > copyBytesMax) {
      this.#seal()
      this.#queue.push(text ? Buffer.from(chunk) : Buffer.from(chunk.buffer, chunk.byteOffset, length))
    } else {
      let out = this.#out
      if (out === undefined || this.#outLength + length > out.length) out = this.#room(length)
      if (text) out.write(chunk, this.#outLength)
      else if (length < 8) for (let i = 0; i < length; i++) out[this.#outLength + i] = chunk[i]!
      else out.set(chunk, this.#outLength)
      this.#outLength += length
    }
    this.#outgoing += length
    this.#host.outgoingBytes += length
    if (!this.#flushing) {
      this.#flushing = true
      this.#host.flushSoon(this)
    }
    const { options } = this.#host
    if (this.#outgoing >= options.outgoingBytesMaxPerClient ||
      (this.#outgoing >= outgoingBytesMin && this.#host.outgoingBytes >= options.outgoingBytesMax)) {
      if (!this.writableNeedDrain) {
        this.writableNeedDrain = true
        this.#drainTicks = 0
      }
    }
    return !this.writableNeedDrain
  }

  /** Gives to the socket what it takes. */
  flush(): void {
    this.#flushing = false
    if (!this.destroyed) this.#pump()
  }

  #room(length: number): Buffer {
    const size = this.#out === undefined ? outgoingBytesFirst : Math.min(this.#out.length * 2, 16 * 1024)
    if (this.#out !== undefined && this.#out.length < 16 * 1024) {
      const larger = Buffer.allocUnsafe(Math.max(size, this.#outLength + length))
      this.#out.copy(larger, 0, 0, this.#outLength)
      this.#out = larger
    } else {
      this.#seal()
      this.#out = Buffer.allocUnsafe(Math.max(size, length))
    }
    return this.#out
  }

  #seal(): void {
    if (this.#out === undefined) return
    if (this.#outLength > 0) this.#queue.push(this.#out.subarray(0, this.#outLength))
    this.#out = undefined
    this.#outLength = 0
  }

  #pump(): void {
    if (this.destroyed) return
    this.#seal()
    if (!this.#connackSeen && this.#queue.length > 0) this.#markConnack(this.#queue[0]!)
    const transport = this.#transport
    let given = 0
    let taken = 0
    transport.cork()
    while (taken < this.#queue.length && transport.writableLength < socketBytesMax) {
      const bytes = this.#queue[taken++]!
      given += bytes.length
      transport.write(bytes)
    }
    transport.uncork()
    if (taken > 0) this.#queue.splice(0, taken)
    // What lies in the socket's buffer is at most 64 KiB and one message; the bound is on what lies here.
    this.#outgoing -= given
    this.#host.outgoingBytes -= given
    if (this.writableNeedDrain && this.#outgoing * 2 <= this.#host.options.outgoingBytesMaxPerClient) {
      this.writableNeedDrain = false
      this.emit('drain')
      if (this.#paused) this.resumeReading()
    }
  }

  /** The first packet of an accepted connection is CONNACK: `20 02 flags code`. */
  #markConnack(first: Buffer): void {
    this.#connackSeen = true
    if (this.sessionPresent && first[0] === 0x20 && first[3] === 0) first[2] = 1
  }

  override _read(): void {}
  override _write(_chunk: unknown, _encoding: BufferEncoding, done: (error?: Error | null) => void): void { done() }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    const reason = this.#reason ?? reasonOf(error)
    const host = this.#host
    host.budget.incompleteBytes -= this.#incomplete
    host.budget.release(this.#enteringBytes)
    this.#held = []
    this.#connect = undefined
    this.#seal()
    const rest = this.#queue.length === 0 ? empty : Buffer.concat(this.#queue)
    host.outgoingBytes -= this.#outgoing
    this.#queue = []
    if (!this.#connackSeen && rest.length > 3) this.#markConnack(rest)
    const transport = this.#transport
    this.#ageTicks = 0
    if (rest.length <= socketBytesMax && !transport.writableNeedDrain && !transport.destroyed && !this.writableNeedDrain) {
      // A refusal is read by a client only if it arrives before the reset.
      transport.end(rest)
      transport.resume()
    } else {
      transport.destroy()
    }
    host.closed(this, reason)
    done(error)
  }

  /** Ticks since the end; the socket is torn down after a second, whatever its peer does. */
  linger(): boolean {
    if (this.#transport.destroyed) return false
    if (++this.#ageTicks <= lingerTicks) return true
    this.#transport.destroy()
    return false
  }
}

/** What is wrong with the beginning of a CONNECT packet: `refused` is the level of a protocol that is not spoken here. */
function connectProblem(name: string, level: number, flags: number): 'refused' | 'malformed' | undefined {
  if (name !== 'MQTT' && name !== 'MQIsdp') return 'malformed'
  // Bridges of the field set the highest bit.
  if ((level & 0x7f) !== (name === 'MQTT' ? 4 : 3)) return 'refused'
  const willQos = (flags >> 3) & 3
  const hasWill = (flags & 4) !== 0
  const hasPasswordAlone = (flags & 0xc0) === 0x40
  // [MQTT-3.1.2-3], [MQTT-3.1.2-14], [MQTT-3.1.2-13], [MQTT-3.1.2-15], [MQTT-3.1.2-22]
  return (flags & 1) !== 0 || willQos === 3 || (!hasWill && (flags & 0x38) !== 0) || hasPasswordAlone ? 'malformed' : undefined
}

function reasonOf(error: Error | null): CloseReason {
  if (error === null) return 'protocol'
  return error.message === 'drain timeout' ? 'slow-subscriber' : 'protocol'
}
