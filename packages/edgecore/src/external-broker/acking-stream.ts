import { Duplex } from 'node:stream'

export interface AckingStreamOptions {
  /** Longest packet that is handed on. A longer PUBLISH is passed over, anything else ends the connection. */
  readonly packetBytesMax: number
}

/** A PUBLISH that was passed over. */
export interface PassedOver {
  readonly topic: string
  /** Undefined: QoS 0. */
  readonly messageId: number | undefined
  readonly bytes: number
}

const publishType = 3
const pubackType = 4
const pingreqType = 12
const nothing = Buffer.alloc(0)

/**
 * Between the client library and the broker's socket. The library acknowledges what it has handed over; what is
 * acknowledged to the broker is said by `acknowledge` alone, once it is durable (L1): PUBACKs of the library are not let
 * through. So the library goes on with the next message at once, and many share a commit.
 */
export class AckingStream extends Duplex {
  readonly #socket: Duplex
  readonly #packetBytesMax: number
  readonly #onPassedOver: (passed: PassedOver) => void
  /** Of the packet that goes out now; 0 between packets. */
  #outLeft = 0
  #outDropped = false
  #outHeader: number[] = []
  #acks: Buffer[] = []
  #inHeader: Buffer = nothing
  /** Bytes still to hand on of the packet that comes in now. */
  #inLeft = 0
  #skipping: Skipping | undefined

  /** Owns `socket` from here on. */
  constructor(socket: Duplex, options: AckingStreamOptions, onPassedOver: (passed: PassedOver) => void) {
    super({ allowHalfOpen: false })
    this.#socket = socket
    this.#packetBytesMax = options.packetBytesMax
    this.#onPassedOver = onPassedOver
    socket.on('data', (bytes: Buffer) => this.#receive(bytes))
    socket.on('error', error => this.destroy(error))
    socket.on('close', () => this.destroy())
    socket.on('end', () => { this.push(null) })
  }

  /** Sends PUBACK, behind what goes out now; those of one turn of the event loop go together. */
  acknowledge(messageId: number): void {
    if (this.destroyed) return
    if (this.#acks.length === 0) queueMicrotask(() => this.#flushAcks())
    this.#acks.push(Buffer.from([pubackType << 4, 2, messageId >> 8, messageId & 255]))
  }

  /** Sends PINGREQ as well. */
  ping(): void {
    if (this.#isBetweenPackets && !this.#socket.destroyed) this.#socket.write(Buffer.from([pingreqType << 4, 0]))
  }

  override _read(): void { this.#socket.resume() }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    const kept = this.#kept(chunk)
    const accepted = kept.length === 0 || this.#socket.write(kept)
    this.#flushAcks()
    if (accepted || this.#socket.destroyed) done()
    else this.#socket.once('drain', () => done())
  }

  /** What the library writes of a packet, or of several, at once. */
  override _writev(chunks: readonly { readonly chunk: Buffer }[], done: (error?: Error | null) => void): void {
    this._write(Buffer.concat(chunks.map(({ chunk }) => chunk)), 'binary', done)
  }

  override _final(done: () => void): void {
    this.#flushAcks()
    this.#socket.end(() => done())
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#socket.destroy()
    done(error)
  }

  get #isBetweenPackets(): boolean { return this.#outLeft === 0 && this.#outHeader.length === 0 }

  /** Only between packets. */
  #flushAcks(): void {
    if (this.#acks.length === 0 || !this.#isBetweenPackets || this.#socket.destroyed) return
    this.#socket.write(Buffer.concat(this.#acks))
    this.#acks = []
  }

  /** What goes out of what the library wrote, often in pieces of one byte or two. */
  #kept(chunk: Buffer): Buffer {
    const parts: Buffer[] = []
    let at = 0
    while (at < chunk.length) {
      if (this.#outLeft === 0) {
        this.#outHeader.push(chunk[at++]!)
        const read = readHeader(this.#outHeader, 0)
        if (read === undefined) continue
        this.#outDropped = read.type === pubackType
        if (!this.#outDropped) parts.push(Buffer.from(this.#outHeader))
        this.#outHeader = []
        this.#outLeft = read.length
        continue
      }
      const end = Math.min(chunk.length, at + this.#outLeft)
      if (!this.#outDropped) parts.push(chunk.subarray(at, end))
      this.#outLeft -= end - at
      at = end
    }
    return parts.length === 0 ? nothing : parts.length === 1 ? parts[0]! : Buffer.concat(parts)
  }

  #receive(bytes: Buffer): void {
    let at = 0
    // Where what is to be handed on in one piece begins.
    let from = 0
    while (at < bytes.length) {
      if (this.#skipping !== undefined) {
        from = at = this.#skip(bytes, at, this.#skipping)
        continue
      }
      if (this.#inLeft > 0) {
        const taken = Math.min(this.#inLeft, bytes.length - at)
        this.#inLeft -= taken
        at += taken
        continue
      }
      const start = at
      const carried = this.#inHeader.length
      const header = carried === 0 ? bytes : Buffer.concat([this.#inHeader, bytes.subarray(at, at + headerBytesMax - carried)])
      const headerAt = carried === 0 ? at : 0
      const read = readHeader(header, headerAt)
      if (read === undefined) {
        if (header.length - headerAt >= headerBytesMax) this.destroy(new Error('the broker sends what is not MQTT'))
        this.#inHeader = Buffer.from(header.subarray(headerAt))
        this.#hand(bytes, from, start)
        return
      }
      this.#inHeader = nothing
      at = start + read.headerBytes - carried
      const oversized = read.length > this.#packetBytesMax
      if (oversized || carried > 0) {
        this.#hand(bytes, from, start)
        from = at
      }
      if (!oversized) {
        if (carried > 0) this.#hand(header, 0, read.headerBytes)
        this.#inLeft = read.length
      } else if (read.type === publishType) {
        this.#skipping = { bytes: read.length, qos: header[headerAt]! >> 1 & 3, left: read.length, head: Buffer.alloc(0) }
      } else {
        const bound = `mqtt.packetBytesMax is ${this.#packetBytesMax}`
        this.destroy(new Error(`the broker sends a packet of ${read.length} bytes (${bound})`))
        return
      }
    }
    if (this.#skipping === undefined) this.#hand(bytes, from, at)
  }

  #hand(bytes: Buffer, from: number, to: number): void {
    if (to > from && !this.destroyed && !this.push(bytes.subarray(from, to))) this.#socket.pause()
  }

  /** Goes on with a PUBLISH that is passed over; keeps its beginning, topic and packet id. */
  #skip(bytes: Buffer, at: number, skipping: Skipping): number {
    const end = Math.min(bytes.length, at + skipping.left)
    if (skipping.head.length < headBytesMax) {
      const headEnd = Math.min(end, at + headBytesMax - skipping.head.length)
      skipping.head = Buffer.concat([skipping.head, bytes.subarray(at, headEnd)])
    }
    skipping.left -= end - at
    if (skipping.left > 0) return end
    this.#skipping = undefined
    const { head, qos, bytes: length } = skipping
    const topicEnd = head.length < 2 ? Infinity : 2 + head.readUInt16BE(0)
    if (head.length < topicEnd + 2) {
      this.destroy(new Error('the broker sends what is not MQTT'))
      return end
    }
    const messageId = qos > 0 ? head.readUInt16BE(topicEnd) : undefined
    this.#onPassedOver({ topic: head.toString('utf8', 2, topicEnd), messageId, bytes: length })
    return end
  }
}

interface Skipping {
  readonly bytes: number
  readonly qos: number
  left: number
  /** Topic and packet id, so far. */
  head: Buffer
}

/** The longest topic, its length and a packet id. */
const headBytesMax = 2 + 65_535 + 2
const headerBytesMax = 5

interface PacketHeader { readonly type: number, readonly headerBytes: number, readonly length: number }

/** Undefined: not all of the header is there, or it is none [MQTT-2.2.3]. */
function readHeader(bytes: ArrayLike<number>, at: number): PacketHeader | undefined {
  let length = 0
  let unit = 1
  const end = Math.min(bytes.length, at + headerBytesMax)
  for (let i = at + 1; i < end; i++) {
    const byte = bytes[i]!
    length += (byte & 127) * unit
    if (byte < 128) return { type: bytes[at]! >> 4, headerBytes: i + 1 - at, length }
    unit *= 128
  }
  return undefined
}
