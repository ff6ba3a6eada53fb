import { createConnection } from 'node:net'
import type { Socket } from 'node:net'
import { once } from 'node:events'
import { createWebSocketStream, WebSocket } from 'ws'
import { connectAsync } from 'mqtt'
import type { MqttClient } from 'mqtt'
import { runAll, silentLog } from '@holdfast/runtime'
import { afterEach, expect, test } from 'vitest'
import { TestBroker, connectPacket, publishPacket, subscribePacket, until } from '../testing/broker-harness.ts'
import { brokerLimits } from './limits.ts'
import { WebSocketListener } from './web-socket-listener.ts'

const ends: (() => unknown)[] = []
afterEach(async () => { for (const end of ends.splice(0).reverse()) await end() })

const messageBytesMax = 257 * 1024 + 5
const telemetry = 'devices/a/b/telemetry'

interface Fixture {
  readonly broker: TestBroker
  readonly url: string
  readonly stop: () => Promise<void>
}

async function start(origins: readonly string[] = []): Promise<Fixture> {
  const broker = await TestBroker.start()
  const listener = new WebSocketListener({ host: '127.0.0.1', port: 0, messageBytesMax, origins }, {
    broker: broker.broker, log: silentLog
  })
  const url = await listener.listen()
  const controller = new AbortController()
  const ended = runAll([listener], controller.signal)
  let stopped = false
  // As in edgecore: the broker first.
  const stop = async (): Promise<void> => {
    if (stopped) return
    stopped = true
    await broker.stop()
    controller.abort()
    await ended
  }
  ends.push(stop)
  return { broker, url, stop }
}

async function client(url: string, options: Parameters<typeof connectAsync>[1] = {}): Promise<MqttClient> {
  const connected = await connectAsync(url, { protocolVersion: 4, reconnectPeriod: 0, ...options })
  ends.push(() => connected.endAsync(true))
  return connected
}

async function socket(url: string, protocols: string | string[] = 'mqtt', headers: Record<string, string> = {}): Promise<WebSocket> {
  const opened = new WebSocket(url, protocols, { headers })
  ends.push(() => opened.terminate())
  await once(opened, 'open')
  return opened
}

const closed = async (of: WebSocket): Promise<number> => {
  of.on('error', () => {})
  const [code] = await once(of, 'close') as [number]
  return code
}

const rawOf = (of: WebSocket): Socket => (of as unknown as { _socket: Socket })._socket

test('publishes, acknowledgements and subscriptions are those of any client', async () => {
  const { broker, url } = await start()
  const [over, tcp] = [await client(url), await broker.connect()]
  ends.push(() => tcp.endAsync(true))
  const got: string[] = []
  over.on('message', (topic, payload) => { got.push(`${topic} ${payload.toString()}`) })
  await over.subscribeAsync('devices/#', { qos: 1 })
  await tcp.publishAsync(telemetry, 'from tcp', { qos: 1 })
  await over.publishAsync(telemetry, 'from the web', { qos: 2 })
  await until(() => got.length === 2, 'both')
  expect([got, broker.sink.records.map(({ payload }) => payload)])
    .toEqual([[`${telemetry} from tcp`, `${telemetry} from the web`], ['from tcp', 'from the web']])
})

test('the path does not matter; the subprotocol does, and what is no upgrade is told so', async () => {
  const { url } = await start()
  await client(`${url}/mqtt/anything?x=1`)
  const refused = new WebSocket(url, 'other')
  const [, response] = await once(refused.on('error', () => {}), 'unexpected-response') as [unknown, { statusCode: number }]
  expect(response.statusCode).toBe(400)
  expect((await fetch(url.replace('ws:', 'http:'))).status).toBe(426)
})

test('a web page connects only where its origin is listed', async () => {
  const { url } = await start(['https://dashboard.example'])
  await socket(url, 'mqtt', { origin: 'https://dashboard.example' })
  for (const origin of ['https://evil.example', 'null', url.replace('ws:', 'http:')]) {
    const refused = new WebSocket(url, 'mqtt', { headers: { origin } })
    const [, response] = await once(refused.on('error', () => {}), 'unexpected-response') as [unknown, { statusCode: number }]
    expect(response.statusCode).toBe(403)
  }
})

test('packets may be cut anywhere, and come several in a message', async () => {
  const { broker, url } = await start()
  const opened = await socket(url)
  const bytes = Buffer.concat([connectPacket('cut'), publishPacket(telemetry, '1', 1, 1), publishPacket(telemetry, '2', 1, 2)])
  for (const byte of bytes) opened.send(Buffer.from([byte]))
  opened.send(Buffer.concat([publishPacket(telemetry, '3', 1, 3), publishPacket(telemetry, '4', 1, 4)]))
  await until(() => broker.sink.records.length === 4, 'records')
  expect(broker.sink.records.map(({ payload }) => payload)).toEqual(['1', '2', '3', '4'])
})

test('text ends the connection, and says nothing to the broker', async () => {
  const { broker, url } = await start()
  const opened = await socket(url)
  opened.send(connectPacket('text'))
  await once(opened, 'message')
  opened.send(publishPacket(telemetry, 'x').toString('latin1'))
  await closed(opened)
  await until(() => broker.broker.connections === 0, 'the end')
  expect(broker.sink.records).toEqual([])
})

test('the largest packet is taken; a longer message, or packet, ends the connection before it is there', async () => {
  const { broker, url } = await start()
  const over = await client(url)
  await over.publishAsync(telemetry, Buffer.alloc(256 * 1024), { qos: 1 })
  expect(broker.sink.records[0]!.payload.length).toBe(256 * 1024)
  const opened = await socket(url)
  // Its header alone, RFC 6455 §5.2.
  const header = Buffer.from([0x82, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4])
  header.writeUInt32BE(messageBytesMax + 1, 6)
  rawOf(opened).write(header)
  expect([1006, 1009]).toContain(await closed(opened))
  const second = await socket(url)
  second.send(Buffer.concat([connectPacket('long'), Buffer.from([0x30, 0xff, 0xff, 0xff, 0x7f])]))
  await closed(second)
  expect(broker.broker.counters.closed['too-large']).toBe(1)
})

test('a client that reads nothing costs no more than its bound, whatever it asks for', async () => {
  const { broker, url } = await start()
  const [slow, publisher] = [await socket(url), await broker.connect()]
  ends.push(() => publisher.endAsync(true))
  slow.send(Buffer.concat([connectPacket('slow'), subscribePacket(1, ['#', 0])]))
  await until(() => broker.broker.subscriptions === 1, 'the subscription')
  slow.pause()
  const payload = Buffer.alloc(64 * 1024)
  const { counters } = broker.broker
  for (let i = 0; i < 400 && counters.droppedToSlow === 0; i++) await publisher.publishAsync('t', payload, { qos: 1 })
  expect(counters.droppedToSlow).toBeGreaterThan(0)
  expect(broker.broker.outgoingBytes).toBeLessThan(2 * brokerLimits.outgoingBytesPerClient.value)
})

test('a flood of pings is answered while it is read, and no more', async () => {
  const { url } = await start()
  const flooding = await socket(url)
  flooding.send(connectPacket('ping'))
  await once(flooding, 'message')
  const pongs: string[] = []
  flooding.on('pong', data => { pongs.push(data.toString()) })
  flooding.ping('first')
  await until(() => pongs.length === 1, 'a pong')
  const raw = rawOf(flooding)
  raw.pause()
  const count = 200_000
  for (let i = 0; i < count; i++) {
    flooding.ping('x'.repeat(125))
    if (i % 5000 === 0) await until(() => raw.writableLength < 1024 * 1024, 'that they are sent')
  }
  await until(() => raw.writableLength === 0, 'that they are sent')
  raw.resume()
  await until(async () => {
    flooding.ping('last')
    await once(flooding, 'pong')
    return pongs.includes('last')
  }, 'the last pong')
  expect(pongs.length).toBeLessThan(count)
}, 30_000)

test('connections have a bound of their own', async () => {
  const { url } = await start()
  const { port } = new URL(url)
  const most = brokerLimits.webSocketConnections.value
  const sockets = await Promise.all(Array.from({ length: most }, async () => {
    const opened = createConnection({ host: '127.0.0.1', port: Number(port) })
    ends.push(() => opened.destroy())
    opened.on('error', () => {})
    await once(opened, 'connect')
    return opened
  }))
  const further = new WebSocket(url, 'mqtt')
  await once(further, 'error')
  sockets[0]!.destroy()
  await until(async () => {
    const again = new WebSocket(url, 'mqtt')
    const opened = await new Promise<boolean>(resolve => {
      again.on('open', () => resolve(true))
      again.on('error', () => resolve(false))
    })
    again.terminate()
    return opened
  }, 'a place')
})

test('a stop acknowledges what waits for its commit, then closes', async () => {
  const { broker, url, stop } = await start()
  const opened = await socket(url)
  const stream = createWebSocketStream(opened)
  const got: Buffer[] = []
  stream.on('data', (chunk: Buffer) => { got.push(chunk) })
  opened.send(connectPacket('stop'))
  await until(() => got.length > 0, 'CONNACK')
  broker.store.shut()
  opened.send(publishPacket(telemetry, 'last', 1, 9))
  await until(() => broker.store.held > 0, 'the write')
  const ended = once(opened, 'close')
  await stop()
  await ended
  expect(Buffer.concat(got).subarray(-4)).toEqual(Buffer.from([0x40, 2, 0, 9]))
})
