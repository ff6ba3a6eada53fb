import { createConnection } from 'node:net'
import type { Socket } from 'node:net'
import { once } from 'node:events'
import { Aedes } from 'aedes'
import { connectAsync } from 'mqtt'
import type { IClientOptions, MqttClient } from 'mqtt'
import type { RecordTopic } from '@holdfast/protos'
import { HoldfastError, SystemClock, silentLog } from '@holdfast/runtime'
import type { Failpoint } from '@holdfast/runtime'
import { Committer, MemoryStore } from '@holdfast/store'
import type { Commit, OnDurable, OutboxLane, ScanOptions, Store, StoreEntry, WriteOp } from '@holdfast/store'
import type { RecordSink } from '../ingest.ts'
import { Routes } from '../routes.ts'
import { Broker } from '../broker/broker.ts'
import type { BrokerOptions } from '../broker/broker.ts'
import { MqttListener } from '../broker/listener.ts'
import type { PersistenceOptions } from '../broker/persistence.ts'

export const persistenceOptions: PersistenceOptions = {
  retainedCountMax: 10_000, retainedBytesMax: 2 ** 24, sessionsMax: 1000, sessionExpiryMs: 1000,
  offlineQueueCountMax: 1000, offlineQueueBytesMax: 2 ** 20, offlineBytesMax: 2 ** 24, qos2MarkersMax: 1000
}

/** A memory store whose writes can be held before they happen: held ones are what a crash loses. */
export class GateStore implements Store {
  inner = new MemoryStore()
  writes = 0
  #held: (() => void)[] = []
  #shut = false
  #failure: Error | undefined

  get held(): number { return this.#held.length }
  shut(): void { this.#shut = true }
  open(): void {
    this.#shut = false
    for (const write of this.#held.splice(0)) write()
  }
  /** The oldest one that is held; the others, and what comes, stay. */
  openOne(): void { this.#held.shift()?.() }
  /** What is held never happens. */
  crash(): void { this.#held = [] }
  fail(error: Error): void { this.#failure = error }

  write(ops: readonly WriteOp[], options: { readonly sync: boolean }, onDone: (error?: Error) => void): void {
    this.writes++
    const write = (): void => {
      if (this.#failure === undefined) this.inner.write(ops, options, onDone)
      else onDone(this.#failure)
    }
    if (this.#shut) this.#held.push(write)
    else write()
  }
  get(key: Uint8Array): Promise<Buffer | undefined> { return this.inner.get(key) }
  scan(options: ScanOptions): Promise<StoreEntry[]> { return this.inner.scan(options) }
  async compact(): Promise<void> {}
  close(): Promise<void> { return Promise.resolve() }
}

export interface TestRecord { readonly lane: string, readonly device: string, readonly topic: string, readonly payload: string }

/** Records in the order in which they became durable; a lane can be made full. */
export class TestSink implements RecordSink {
  readonly records: TestRecord[] = []
  readonly full = new Set<string>()
  /** How long commits of the lane `slow` wait for company. */
  slowMs = 150
  readonly #committer: Committer
  readonly #lanes: Record<string, OutboxLane> = {}
  #appended = 0

  constructor(committer: Committer) { this.#committer = committer }

  lane(name: string): OutboxLane | undefined {
    return name === 'alarms' || name === 'telemetry' || name === 'slow'
      ? this.#lanes[name] ??= { name } as OutboxLane : undefined
  }
  gather(lane: OutboxLane, bytes: number): Commit {
    if (this.full.has(lane.name)) throw new HoldfastError('OUTBOX_FULL', `lane ${lane.name} is full`)
    return this.#committer.gather({ bytes, urgent: lane.name === 'alarms', delayMs: lane.name === 'slow' ? this.slowMs : 0 })
  }
  append(commit: Commit, lane: OutboxLane, topic: RecordTopic, payload: Uint8Array): void {
    const record = { lane: lane.name, device: topic.device, topic: topic.topic, payload: Buffer.from(payload).toString() }
    commit.put(Buffer.from([0x12, ...Buffer.from(String(this.#appended++))]), Buffer.from(payload))
    const durable: OnDurable = error => { if (error === undefined) this.records.push(record) }
    commit.onDurable(durable)
  }
}

export const testRules = [
  { filter: 'devices/{namespace}/{name}/telemetry', device: '{namespace}/{name}', lane: 'telemetry' },
  { filter: 'devices/{namespace}/{name}/alarms', device: '{namespace}/{name}', lane: 'alarms' },
  { filter: 'slow/#', device: 'node', lane: 'slow' },
  { filter: 'quiet/#', device: 'node', lane: 'local' }
]

/** A broker on a port of its own, over a store that outlives it. */
export class TestBroker {
  readonly store: GateStore
  readonly committer: Committer
  readonly sink: TestSink
  readonly broker: Broker
  readonly port: number
  readonly acks: number[] = []
  readonly #stop = new AbortController()
  readonly #ended: Promise<void>

  private constructor(parts: { store: GateStore, committer: Committer, sink: TestSink, broker: Broker,
    listener: MqttListener, url: string }) {
    this.store = parts.store
    this.committer = parts.committer
    this.sink = parts.sink
    this.broker = parts.broker
    this.port = Number(new URL(parts.url).port)
    this.#ended = parts.listener.run(this.#stop.signal)
  }

  /** `prepare` is called before anybody can connect. */
  static async start(options: BrokerOptions = {}, store = new GateStore(), failpoint?: Failpoint,
    prepare: (broker: Broker, committer: Committer) => void = () => {}): Promise<TestBroker> {
    const clock = new SystemClock()
    const committer = new Committer({}, { store, clock, onFailure: () => {} })
    const sink = new TestSink(committer)
    const routes = new Routes({ rules: testRules, lane: name => sink.lane(name) })
    const broker = await Broker.open(options, {
      store, committer, sink, routes, clock, log: silentLog, uptimeMs: () => clock.monotonicMs(),
      ...failpoint === undefined ? {} : { failpoint }
    })
    prepare(broker, committer)
    const listener = new MqttListener({ host: '127.0.0.1', port: 0 }, { broker, log: silentLog })
    return new TestBroker({ store, committer, sink, broker, listener, url: await listener.listen() })
  }

  /** An orderly stop. */
  async stop(): Promise<void> {
    this.store.open()
    this.#stop.abort()
    await this.#ended
  }

  /**
   * What a kill -9 leaves: the entries of the store as they are now. The process's own end is tidied up afterwards, over
   * a store that nobody looks at.
   */
  async kill(): Promise<GateStore> {
    const left = new GateStore()
    const entries = await this.store.scan({ gte: Buffer.from([0]), lt: Buffer.from([255]), bytesMax: Infinity })
    await new Promise<void>((resolve, reject) => {
      left.write(entries.map(({ key, value }) => ({ type: 'put', key: Buffer.from(key), value: Buffer.from(value) })),
        { sync: true }, error => { if (error === undefined) resolve(); else reject(error) })
    })
    await this.stop()
    return left
  }

  connect(options: IClientOptions = {}): Promise<MqttClient> { return connectTo(this.port, options) }
  raw(): Promise<RawClient> { return RawClient.open(this.port) }
}

export function connectTo(port: number, options: IClientOptions = {}): Promise<MqttClient> {
  return connectAsync({ host: '127.0.0.1', port, protocol: 'mqtt', protocolVersion: 4, reconnectPeriod: 0, ...options })
}

/** aedes as it comes, on a port of its own: what our tests must fail with. */
export async function startPlainAedes(options: ConstructorParameters<typeof Aedes>[0] = {}):
  Promise<{ port: number, aedes: Aedes, stop(): Promise<void> }> {
  const { createServer } = await import('node:net')
  const aedes = await Aedes.createBroker(options)
  const sockets = new Set<Socket>()
  const server = createServer(socket => {
    sockets.add(socket)
    aedes.handle(socket)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as { port: number }).port,
    aedes,
    stop: async () => {
      for (const socket of sockets) socket.destroy()
      await new Promise<void>(resolve => { aedes.close(resolve) })
      await new Promise(resolve => { server.close(resolve) })
    }
  }
}

/** Polls until `holds`; fails with `what` at the deadline. */
export async function until(holds: () => boolean | Promise<boolean>, what: string, deadlineMs = 8000): Promise<void> {
  const end = performance.now() + deadlineMs
  while (!await holds()) {
    if (performance.now() > end) throw new Error(`not in ${deadlineMs} ms: ${what}`)
    await new Promise(resolve => { setTimeout(resolve, 5) })
  }
}

export interface RawPacket { readonly type: number, readonly flags: number, readonly body: Buffer }

/** MQTT by hand. */
export class RawClient {
  readonly socket: Socket
  readonly packets: RawPacket[] = []
  closed = false
  #rest = Buffer.alloc(0)

  private constructor(socket: Socket) {
    this.socket = socket
    socket.on('error', () => {})
    socket.on('close', () => { this.closed = true })
    socket.on('data', (chunk: Buffer) => {
      this.#rest = Buffer.concat([this.#rest, chunk])
      for (;;) {
        let length = 0
        let at = 1
        let shift = 0
        for (;;) {
          const byte = this.#rest[at++]
          if (byte === undefined) return
          length += (byte & 127) << shift
          shift += 7
          if (byte < 128) break
        }
        if (this.#rest.length < at + length) return
        this.packets.push({
          type: this.#rest[0]! >> 4, flags: this.#rest[0]! & 15, body: Buffer.from(this.#rest.subarray(at, at + length))
        })
        this.#rest = this.#rest.subarray(at + length)
      }
    })
  }

  static async open(port: number): Promise<RawClient> {
    const socket = createConnection({ host: '127.0.0.1', port, noDelay: true })
    const client = new RawClient(socket)
    await once(socket, 'connect')
    return client
  }

  send(...packets: Buffer[]): void { this.socket.write(Buffer.concat(packets)) }

  /** CONNECT, and the CONNACK. */
  async connect(id: string, options: ConnectFields = {}): Promise<RawPacket> {
    this.send(connectPacket(id, options))
    await until(() => this.packets.length > 0 || this.closed, 'CONNACK')
    return this.packets[0] ?? { type: 0, flags: 0, body: Buffer.alloc(0) }
  }

  /** Packet ids of what came of one type. */
  ids(type: number): number[] {
    return this.packets.filter(packet => packet.type === type).map(packet => packet.body.readUInt16BE(0))
  }

  /** Publishes that came: topic and payload. */
  messages(): { topic: string, payload: string, qos: number, dup: boolean, retain: boolean, id: number }[] {
    return this.packets.filter(packet => packet.type === 3).map(({ flags, body }) => {
      const topicEnd = 2 + body.readUInt16BE(0)
      const qos = flags >> 1 & 3
      return {
        topic: body.toString('utf8', 2, topicEnd), payload: body.toString('utf8', topicEnd + (qos > 0 ? 2 : 0)), qos,
        dup: (flags & 8) !== 0, retain: (flags & 1) !== 0, id: qos > 0 ? body.readUInt16BE(topicEnd) : 0
      }
    })
  }

  end(): void { this.socket.destroy() }
}

export interface ConnectFields {
  readonly clean?: boolean
  readonly keepalive?: number
  readonly will?: { topic: string, payload: string, qos?: number, retain?: boolean }
}

export function packet(first: number, ...parts: (Buffer | string)[]): Buffer {
  const body = Buffer.concat(parts.map(part => typeof part === 'string' ? text(part) : part))
  const header = [first]
  let left = body.length
  do {
    header.push(left % 128 | (left > 127 ? 128 : 0))
    left = Math.floor(left / 128)
  } while (left > 0)
  return Buffer.concat([Buffer.from(header), body])
}

export function text(value: string): Buffer {
  const bytes = Buffer.from(value)
  return Buffer.concat([u16(bytes.length), bytes])
}

export function u16(value: number): Buffer { return Buffer.from([value >> 8, value & 255]) }

export function connectPacket(id: string, { clean = true, keepalive = 0, will }: ConnectFields = {}): Buffer {
  const flags = (clean ? 2 : 0) | (will === undefined ? 0 : 4 | (will.qos ?? 0) << 3 | (will.retain === true ? 32 : 0))
  return packet(0x10, 'MQTT', Buffer.from([4, flags]), u16(keepalive), id,
    ...(will === undefined ? [] : [will.topic, will.payload]))
}

export function publishPacket(topic: string, payload: string | Buffer, qos = 0, id = 0, flags = 0): Buffer {
  return packet(0x30 | qos << 1 | flags, topic, ...(qos > 0 ? [u16(id)] : []), Buffer.from(payload as string))
}

export function subscribePacket(id: number, ...filters: [string, number][]): Buffer {
  return packet(0x82, u16(id), ...filters.flatMap(([filter, qos]) => [filter, Buffer.from([qos])]))
}

export const ackPacket = (type: number, id: number): Buffer => packet(type << 4 | (type === 6 ? 2 : 0), u16(id))
export const pingPacket = Buffer.from([0xc0, 0])
export const disconnectPacket = Buffer.from([0xe0, 0])
