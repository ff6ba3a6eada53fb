import type { Duplex } from 'node:stream'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import type { Server, Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createServer as createTlsServer } from 'node:tls'
import { HoldfastError, SeededRandom, SystemClock, silentLog } from '@holdfast/runtime'
import { Committer } from '@holdfast/store'
import { afterEach, expect, test } from 'vitest'
import type { MessageTaker } from '../messages.ts'
import { loadServingCertificate } from '../objects/serving-certificate.ts'
import { Routes } from '../routes.ts'
import { GateStore, TestBroker, TestSink, testRules, until } from '../testing/broker-harness.ts'
import { ExternalBroker } from './external-broker.ts'
import type { ExternalBrokerOptions } from './external-broker.ts'

const started: (() => Promise<void>)[] = []
afterEach(async () => { for (const stop of started.splice(0).toReversed()) await stop() })

/** The broker that devices publish to: another process' in reality, so its own store here. */
async function startBroker(): Promise<TestBroker> {
  const broker = await TestBroker.start()
  started.push(() => broker.stop())
  return broker
}

interface Client {
  readonly broker: ExternalBroker
  readonly store: GateStore
  readonly sink: TestSink
  readonly committer: Committer
  readonly stop: () => Promise<void>
}

/** edgecore's side, over a store of its own. */
function startClient(port: number, options: Partial<ExternalBrokerOptions> = {}, store = new GateStore()): Client {
  const clock = new SystemClock()
  const committer = new Committer({}, { store, clock, onFailure: () => {} })
  const sink = new TestSink(committer)
  const broker = new ExternalBroker({
    url: `mqtt://127.0.0.1:${port}`, clientId: 'holdfast-edge-1', packetBytesMax: 257 * 1024, pendingBytesMax: 2 ** 20,
    filters: ['devices/+/+/telemetry', 'devices/+/+/alarms', 'slow/#'], ...options
  }, {
    sink, routes: new Routes({ rules: testRules, lane: name => sink.lane(name) }), clock, random: new SeededRandom(1), log: silentLog
  })
  const abort = new AbortController()
  const running = broker.run(abort.signal)
  let stopped: Promise<void> | undefined
  const stop = (): Promise<void> => {
    abort.abort()
    stopped ??= running
    return stopped
  }
  started.push(async () => {
    store.open()
    await stop()
  })
  return { broker, store, sink, committer, stop }
}

const topic = 'devices/default/s1/telemetry'

test('what devices publish becomes records, in order', async () => {
  const { port, ...peer } = await startBroker().then(broker => ({ broker, port: broker.port }))
  const { broker, sink } = startClient(port)
  await until(() => broker.connected, 'connected')
  const device = await peer.broker.connect()
  for (let i = 0; i < 100; i++) device.publish(topic, String(i), { qos: 1 })
  await until(() => sink.records.length === 100, 'records')
  expect(sink.records.map(({ payload }) => Number(payload))).toEqual([...Array(100).keys()])
  expect(sink.records[0]).toMatchObject({ lane: 'telemetry', device: 'default/s1', topic })
  await until(() => broker.counters.acknowledged === 100, 'acknowledged')
  await device.endAsync(true)
})

test('PUBACK waits for the commit, which many messages share; the library does not wait', async () => {
  const peer = await startBroker()
  const proxy = await startProxy(peer.port)
  const { broker, store, sink } = startClient(proxy.port)
  await until(() => broker.connected, 'connected')
  store.shut()
  const device = await peer.connect()
  for (let i = 0; i < 50; i++) device.publish(topic, String(i), { qos: 1 })
  await until(() => broker.counters.received[1] === 50, 'all handed over')
  expect(proxy.pubacks()).toBe(0)
  store.open()
  await until(() => proxy.pubacks() === 50, 'acknowledged')
  expect(sink.records).toHaveLength(50)
  await device.endAsync(true)
})

test('what was not acknowledged comes again to the next process, and nothing else', async () => {
  const peer = await startBroker()
  const proxy = await startProxy(peer.port)
  const first = startClient(proxy.port)
  await until(() => first.broker.connected, 'connected')
  const device = await peer.connect()
  await device.publishAsync(topic, 'durable', { qos: 1 })
  await until(() => proxy.pubacks() === 1, 'acknowledged')
  first.store.shut()
  await device.publishAsync(topic, 'lost', { qos: 1 })
  await until(() => first.broker.counters.received[1] === 2, 'handed over')
  proxy.cut()
  proxy.refuse(true)
  await until(() => !first.broker.connected, 'cut')
  await device.publishAsync(topic, 'while away', { qos: 1 })
  void first.stop()
  proxy.refuse(false)
  const second = startClient(proxy.port)
  await until(() => second.sink.records.length === 2, 'records')
  expect(second.sink.records.map(({ payload }) => payload)).toEqual(['lost', 'while away'])
  await device.endAsync(true)
})

test('a failed commit ends the connection, and the message comes again', async () => {
  const peer = await startBroker()
  const { broker, sink, store, committer } = startClient(peer.port)
  await until(() => broker.connected, 'connected')
  store.fail(new Error('no such luck'))
  const device = await peer.connect()
  await device.publishAsync(topic, 'again', { qos: 1 })
  await until(() => broker.counters.lost > 0, 'connection lost')
  expect(sink.records).toEqual([])
  committer.resume(new GateStore())
  await until(() => sink.records.length === 1, 'record')
  expect(sink.records[0]!.payload).toBe('again')
  await device.endAsync(true)
})

test('a full lane holds messages back, a connection lives through it, and all are there afterwards', async () => {
  const peer = await startBroker()
  const { broker, sink } = startClient(peer.port)
  await until(() => broker.connected, 'connected')
  sink.full.add('telemetry')
  const device = await peer.connect()
  for (let i = 0; i < 30; i++) device.publish(topic, String(i), { qos: 1 })
  await until(() => peer.broker.counters.publishes[1] === 30, 'published')
  expect(broker.counters.received[1]).toBe(0)
  sink.full.delete('telemetry')
  await until(() => sink.records.length === 30, 'records')
  expect(broker.counters.connected).toBe(1)
  await device.endAsync(true)
})

test('takers get what they listen to, also what is retained; a retained message is no record', async () => {
  const peer = await startBroker()
  const device = await peer.connect()
  await device.publishAsync(topic, 'old', { qos: 1, retain: true })
  await device.publishAsync('tele/plug/LWT', 'Online', { qos: 1, retain: true })
  const { broker, sink } = startClient(peer.port)
  const taken: string[] = []
  const taker: MessageTaker = { take(name, payload) { taken.push(`${name} ${payload}`); return undefined } }
  await until(() => broker.connected, 'connected')
  broker.listen('tele/+/LWT', taker)
  const stop = broker.listen(topic, taker)
  // A subscription that is asked for anew sends what is retained once more.
  await until(() => new Set(taken).size === 2, 'retained')
  expect([...new Set(taken)].toSorted()).toEqual([`${topic} old`, 'tele/plug/LWT Online'])
  expect(sink.records).toEqual([])
  stop()
  await device.publishAsync(topic, 'new', { qos: 1 })
  await until(() => sink.records.length === 1, 'record')
  expect(taken).not.toContain(`${topic} new`)
  await device.endAsync(true)
})

test('a taker without room holds the message back, with its record', async () => {
  const peer = await startBroker()
  const { broker, sink } = startClient(peer.port)
  let full = true
  const taken: string[] = []
  broker.listen(topic, {
    take(_name, payload) {
      if (full) throw new HoldfastError('DISK_FULL', 'no room')
      taken.push(payload.toString())
      return undefined
    }
  })
  await until(() => broker.connected, 'connected')
  const device = await peer.connect()
  await device.publishAsync(topic, 'a', { qos: 1 })
  await device.publishAsync(topic, 'b', { qos: 1 })
  expect(sink.records).toEqual([])
  full = false
  await until(() => sink.records.length === 2, 'records')
  expect(taken).toEqual(['a', 'b'])
  await device.endAsync(true)
})

test('a message too long for a record is acknowledged, counted, and delays nobody', async () => {
  const peer = await startBroker()
  const proxy = await startProxy(peer.port)
  const { broker, sink } = startClient(proxy.port, { packetBytesMax: 4096 })
  await until(() => broker.connected, 'connected')
  const device = await peer.connect()
  await device.publishAsync(topic, Buffer.alloc(100_000), { qos: 1 })
  await device.publishAsync(topic, 'short', { qos: 1 })
  await until(() => sink.records.length === 1 && proxy.pubacks() === 2, 'acknowledged')
  expect(broker.counters.oversized).toBe(1)
  await device.endAsync(true)
})

test('what the daemon publishes arrives; at QoS 1 over a lost connection too', async () => {
  const peer = await startBroker()
  const proxy = await startProxy(peer.port)
  proxy.refuse(true)
  const { broker } = startClient(proxy.port)
  const device = await peer.connect()
  const got: string[] = []
  device.on('message', (name, payload) => { got.push(`${name} ${payload}`) })
  await device.subscribeAsync('cmnd/#', { qos: 1 })
  broker.publish({ topic: 'cmnd/early', payload: Buffer.from('lost'), qos: 0, retain: false })
  expect(broker.counters.outgoingDropped).toBe(1)
  broker.publish({ topic: 'cmnd/a', payload: Buffer.from('1'), qos: 1, retain: false })
  proxy.refuse(false)
  // What is not acknowledged when the connection is cut comes twice.
  await until(() => got.length === 1 && proxy.pubacksBack() === 1, 'first')
  proxy.cut()
  await until(() => !broker.connected, 'cut')
  broker.publish({ topic: 'cmnd/b', payload: Buffer.from('2'), qos: 1, retain: false })
  await until(() => got.length === 2, 'second')
  expect(got).toEqual(['cmnd/a 1', 'cmnd/b 2'])
  await device.endAsync(true)
})

test('a broker that is away, or refuses, is what the node is not ready for; it is tried again', async () => {
  const peer = await startBroker()
  const proxy = await startProxy(peer.port)
  proxy.refuse(true)
  const { broker } = startClient(proxy.port)
  await until(() => broker.counters.lost > 0, 'an attempt')
  expect(broker.ready).toMatchObject({ reason: expect.stringContaining('no connection to the MQTT broker') as string })
  proxy.refuse(false)
  await until(() => broker.connected, 'connected')
  expect(broker.ready).toBe('ok')
})

test('a password that cannot be read is said', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-external-'))
  started.push(() => rm(folder, { recursive: true }))
  const peer = await startBroker()
  const passwordFile = join(folder, 'password')
  const { broker } = startClient(peer.port, { username: 'edge', passwordFile })
  await until(() => broker.counters.lost > 0, 'an attempt')
  expect(broker.ready).toMatchObject({ reason: expect.stringContaining(passwordFile) as string })
  await writeFile(passwordFile, 'secret\n')
  await until(() => broker.connected, 'connected')
})

test('over TLS: the CA is checked, user and password go along', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-external-'))
  started.push(() => rm(folder, { recursive: true }))
  const { certificatePem, keyPem } = await loadServingCertificate(folder, ['127.0.0.1'], { random: new SeededRandom(2) })
  const other = await mkdtemp(join(tmpdir(), 'holdfast-external-'))
  started.push(() => rm(other, { recursive: true }))
  await loadServingCertificate(other, ['127.0.0.1'], { random: new SeededRandom(3) })
  await writeFile(join(folder, 'password'), 'secret\n')
  const connects: Buffer[] = []
  const server = createTlsServer({ cert: certificatePem, key: keyPem }, socket => {
    socket.on('error', () => {})
    socket.on('data', (bytes: Buffer) => {
      connects.push(bytes)
      if (Buffer.concat(connects).includes('secret')) socket.write(Buffer.from([0x20, 2, 0, 0]))
    })
  })
  server.on('tlsClientError', () => {})
  server.listen(0, '127.0.0.1')
  await until(() => server.listening, 'listening')
  started.push(() => new Promise(resolve => { server.close(() => resolve()) }))
  const url = `mqtts://127.0.0.1:${(server.address() as { port: number }).port}`
  const wrong = startClient(0, { url, caFile: join(other, 'tls.crt') })
  await until(() => wrong.broker.counters.lost > 0, 'refused')
  expect(wrong.broker.ready).toMatchObject({ reason: expect.stringMatching(/certificate/) as string })
  expect(connects).toEqual([])
  const right = startClient(0, {
    url, caFile: join(folder, 'tls.crt'), username: 'edge', passwordFile: join(folder, 'password')
  })
  await until(() => right.broker.connected, 'connected')
  expect(Buffer.concat(connects).toString('latin1')).toContain('holdfast-edge-1\0\u0004edge\0\u0006secret')
})

interface Proxy {
  readonly port: number
  /** PUBACKs that went to the broker. */
  readonly pubacks: () => number
  /** PUBACKs that came from it. */
  readonly pubacksBack: () => number
  readonly cut: () => void
  readonly refuse: (does: boolean) => void
}

/** Between edgecore and its broker: counts, cuts, refuses. */
async function startProxy(port: number): Promise<Proxy> {
  const sockets = new Set<Duplex>()
  let [pubacks, pubacksBack] = [0, 0]
  let refuses = false
  const server: Server = createServer((socket: Socket) => {
    if (refuses) {
      socket.destroy()
      return
    }
    const other = connect({ host: '127.0.0.1', port, noDelay: true })
    for (const [from, to] of [[socket, other], [other, socket]] as const) {
      sockets.add(from)
      from.on('error', () => {})
      from.on('close', () => {
        sockets.delete(from)
        to.destroy()
      })
    }
    const [up, down] = [new PacketCount(), new PacketCount()]
    socket.on('data', (bytes: Buffer) => {
      pubacks += up.count(bytes)
      other.write(bytes)
    })
    other.on('data', (bytes: Buffer) => {
      pubacksBack += down.count(bytes)
      socket.write(bytes)
    })
  })
  server.listen(0, '127.0.0.1')
  await until(() => server.listening, 'listening')
  const cut = (): void => { for (const socket of sockets) socket.destroy() }
  started.push(async () => {
    cut()
    await new Promise(resolve => { server.close(resolve) })
  })
  return {
    port: (server.address() as { port: number }).port, pubacks: () => pubacks, pubacksBack: () => pubacksBack, cut,
    refuse: does => { refuses = does }
  }
}

/** Counts PUBACKs in a stream of packets. */
class PacketCount {
  #rest = Buffer.alloc(0)

  count(bytes: Buffer): number {
    this.#rest = Buffer.concat([this.#rest, bytes])
    let found = 0
    while (this.#rest.length >= 2) {
      let length = 0
      let at = 1
      let byte: number | undefined
      do {
        byte = this.#rest[at]
        if (byte === undefined) return found
        length += (byte & 127) * 128 ** (at++ - 1)
      } while (byte >= 128)
      if (this.#rest.length < at + length) return found
      if (this.#rest[0]! >> 4 === 4) found++
      this.#rest = this.#rest.subarray(at + length)
    }
    return found
  }
}
