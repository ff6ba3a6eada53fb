import { afterEach, describe, expect, it } from 'vitest'
import { RawClient, TestBroker, ackPacket, connectPacket, disconnectPacket, packet, pingPacket, publishPacket, startPlainAedes,
  subscribePacket, u16, until } from '../testing/broker-harness.ts'
import type { CloseReason } from './packet-stream.ts'
import type { BrokerOptions } from './broker.ts'

const topic = 'devices/a/b/telemetry'

/** CONNECT of the client `c`, with what its flags say that there is. */
function connectBytes(name: string, level: number, flags: number, ...more: readonly string[]): Buffer {
  const text = (value: string): Buffer => Buffer.concat([u16(value.length), Buffer.from(value)])
  return packet(0x10, text(name), Buffer.from([level, flags]), u16(60), text('c'), ...more.map(text))
}

let running: TestBroker | undefined
let raw: RawClient[] = []

afterEach(async () => {
  for (const client of raw) client.end()
  raw = []
  await running?.stop()
  running = undefined
})

async function start(options: BrokerOptions = {}): Promise<TestBroker> {
  running = await TestBroker.start(options)
  return running
}

async function client(broker: { readonly port: number }): Promise<RawClient> {
  const made = await RawClient.open(broker.port)
  raw.push(made)
  return made
}

async function closedFor(broker: TestBroker, made: RawClient, reason: CloseReason): Promise<void> {
  await until(() => made.closed, `closed for ${reason}`)
  expect(broker.broker.counters.closed[reason]).toBe(1)
}

describe('packet stream', () => {
  it.each<[string, CloseReason, Buffer]>([
    ['a packet above the bound, when its header is there', 'too-large', Buffer.from([0x30, 0xff, 0xff, 0xff, 0x7f])],
    ['a remaining length of five bytes', 'malformed', Buffer.from([0x30, 0xff, 0xff, 0xff, 0xff])],
    ['a second CONNECT', 'protocol', connectPacket('again')],
    ['CONNACK', 'protocol', Buffer.from([0x20, 2, 0, 0])],
    ['SUBACK', 'protocol', Buffer.from([0x90, 3, 0, 1, 0])],
    ['PINGRESP', 'protocol', Buffer.from([0xd0, 0])],
    ['type 0', 'protocol', Buffer.from([0x00, 0])],
    ['type 15', 'protocol', Buffer.from([0xf0, 0])],
    ['QoS 3', 'malformed', Buffer.from([0x36, 7, 0, 1, 97, 0, 1, 0, 0])],
    ['DUP at QoS 0', 'malformed', Buffer.from([0x38, 4, 0, 1, 97, 0])],
    ['SUBSCRIBE with reserved flags', 'malformed', Buffer.from([0x80, 6, 0, 1, 0, 1, 97, 0])],
    ['PUBREL with reserved flags', 'malformed', Buffer.from([0x60, 2, 0, 1])],
    ['PUBACK of three bytes', 'malformed', Buffer.from([0x40, 3, 0, 1, 0])],
    ['PINGREQ with a body', 'malformed', Buffer.from([0xc0, 1, 0])],
    ['a topic longer than its packet', 'protocol', Buffer.from([0x30, 5, 0, 200, 97, 98, 99])],
    ['an empty topic', 'protocol', publishPacket('', 'x')],
    ['packet id 0', 'malformed', publishPacket(topic, 'x', 1, 0)],
    ['a wildcard in a topic', 'protocol', publishPacket('devices/+/b/telemetry', 'x', 1, 1)],
    ['NUL in a topic', 'bad-topic', publishPacket('devices/a\0/b/telemetry', 'x', 1, 1)],
    ['overlong UTF-8 in a topic', 'bad-topic',
      packet(0x32, Buffer.from([0, 5, 97, 0xc0, 0xaf, 97, 97]), u16(1), Buffer.from('x'))],
    ['$SYS', 'bad-topic', publishPacket('$SYS/broker', 'x', 1, 1)],
    ['$share', 'bad-topic', publishPacket('$share/g/t', 'x', 1, 1)],
    ['a topic of 60,000 levels', 'protocol', publishPacket('/'.repeat(60_000), 'x', 0)],
    ['a topic of 33 levels', 'bad-topic', publishPacket(Array(33).fill('a').join('/'), 'x', 0)]
  ])('closes at %s', async (_what, reason, bytes) => {
    const broker = await start()
    const made = await client(broker)
    await made.connect('c')
    made.send(bytes)
    await until(() => made.closed, 'closed')
    expect(broker.broker.counters.closed[reason]).toBe(1)
    expect(broker.sink.records).toEqual([])
  })

  it('takes no more than the bound of a packet into memory (plain aedes buffers all of it)', async () => {
    const plain = await startPlainAedes()
    const broker = await start()
    const taken: number[] = []
    for (const target of [plain, broker]) {
      const made = await client(target)
      await made.connect('c')
      made.send(Buffer.from([0x30, 0x80, 0x80, 0x80, 0x40]))
      let sent = 0
      const chunk = Buffer.alloc(65536)
      while (sent < 4 * 2 ** 20 && !made.closed) {
        await new Promise<void>(resolve => { made.socket.write(chunk, () => resolve()) })
        sent += chunk.length
      }
      taken.push(sent)
      await until(() => target === plain || made.closed, 'closed')
    }
    expect(taken[0]).toBe(4 * 2 ** 20)
    expect(broker.broker.counters.closed['too-large']).toBe(1)
    expect(broker.broker.budget.incompleteBytes).toBe(0)
    await plain.stop()
  })

  it('closes when the first packet is not CONNECT', async () => {
    const broker = await start()
    const made = await client(broker)
    made.send(publishPacket(topic, 'x'))
    await closedFor(broker, made, 'not-connect')
  })

  it.each<[string, Buffer, CloseReason, readonly string[]]>([
    ['a level of MQTT that is not spoken here', connectBytes('MQTT', 5, 2), 'refused', ['2 0001']],
    ['a level that nobody knows', connectBytes('MQTT', 6, 2), 'refused', ['2 0001']],
    ['the level of another name', connectBytes('MQIsdp', 4, 2), 'refused', ['2 0001']],
    ['another protocol', connectBytes('MQXX', 4, 2), 'malformed', []],
    ['the reserved flag', connectBytes('MQTT', 4, 3), 'malformed', []],
    ['a will at QoS 3', connectBytes('MQTT', 4, 0x1e, 'w', 'x'), 'malformed', []],
    ['the QoS of no will', connectBytes('MQTT', 4, 0x0a), 'malformed', []],
    ['a password without a user name', connectBytes('MQTT', 4, 0x42, 'p'), 'malformed', []]
  ])('takes no CONNECT with %s', async (_what, bytes, reason, answer) => {
    const broker = await start()
    const made = await client(broker)
    made.send(bytes)
    await closedFor(broker, made, reason)
    expect(made.packets.map(({ type, body }) => `${type} ${body.toString('hex')}`)).toEqual(answer)
  })

  it.each([['MQTT', 4], ['MQIsdp', 3], ['MQTT', 0x84]])('takes %s of level %d', async (name, level) => {
    const made = await client(await start())
    made.send(connectBytes(name, level, 2))
    await until(() => made.packets.length > 0, 'CONNACK')
    expect(made.packets[0]!.body.toString('hex')).toBe('0000')
  })

  it('closes what does not send CONNECT in time, a byte at a time or none', async () => {
    const broker = await start({ connectTimeoutMs: 500 })
    const silent = await client(broker)
    const slow = await client(broker)
    slow.send(connectPacket('slow').subarray(0, 5))
    await until(() => silent.closed && slow.closed, 'both closed')
    expect(broker.broker.counters.closed['connect-timeout']).toBe(2)
  })

  it('works with any cut of the bytes, PINGREQ inside other chunks included', async () => {
    const broker = await start()
    const bytes = Buffer.concat([connectPacket('cut'), pingPacket, publishPacket(topic, 'x'.repeat(200), 1, 1), pingPacket,
      publishPacket(topic, 'b', 1, 2), pingPacket, subscribePacket(3, ['s', 1])])
    for (const size of [1, 2, 3, 7, bytes.length]) {
      const made = await client(broker)
      for (let at = 0; at < bytes.length; at += size) {
        await new Promise<void>(resolve => { made.socket.write(bytes.subarray(at, at + size), () => resolve()) })
      }
      await until(() => made.packets.length >= 7, `all answers at ${size} bytes`)
      expect([made.packets[0]!.type, made.ids(4), made.ids(9), made.packets.filter(({ type }) => type === 13).length])
        .toEqual([2, [1, 2], [3], 3])
      made.end()
      await until(() => broker.broker.connections === 0, 'gone')
    }
    expect(broker.sink.records.length).toBe(10)
  })

  it('takes what comes right behind CONNECT', async () => {
    const broker = await start()
    const made = await client(broker)
    made.send(connectPacket('eager'), ...Array.from({ length: 300 }, (_, i) => publishPacket(topic, String(i), 1, i + 1)))
    await until(() => made.ids(4).length === 300, 'all acknowledged')
    expect(made.packets[0]!.type).toBe(2)
  })

  it('stops reading while what waits for its commit is at the bound (plain aedes reads all of it)', async () => {
    const broker = await start({ pendingBytesMaxPerClient: 64 * 1024 })
    const made = await client(broker)
    await made.connect('flood')
    broker.store.shut()
    const payload = 'x'.repeat(1000)
    let sent = 0
    made.socket.on('error', () => {})
    const send = (): void => {
      while (sent < 6000 && made.socket.write(publishPacket(topic, payload, 1, ++sent % 65535 + 1))) { /* until the socket is full */ }
      if (sent < 6000) made.socket.once('drain', send)
    }
    send()
    await until(() => broker.broker.budget.bytes >= 64 * 1024, 'bound reached')
    // 6 MB were on their way; what is taken is the bound, one read, and no more.
    const seen = new Set<number>()
    for (let i = 0; i < 40; i++) {
      await new Promise(resolve => { setImmediate(resolve) })
      seen.add(broker.broker.budget.bytes)
    }
    expect(Math.max(...seen)).toBeLessThan(64 * 1024 + 100 * 1024)
    broker.store.open()
    await until(() => made.ids(4).length === 6000, 'all acknowledged')
    expect(broker.broker.budget.bytes).toBe(0)

    const plainPublishes: (() => void)[] = []
    const plain = await startPlainAedes({ authorizePublish: (_client, _packet, done) => { plainPublishes.push(done) } })
    const other = await client(plain)
    await other.connect('flood')
    for (let i = 0; i < 300; i++) {
      other.send(publishPacket('t', payload, 1, i + 1))
      await until(() => plainPublishes.length === i + 1, 'plain aedes takes one more')
    }
    await plain.stop()
  })

  it('one client at its bound leaves others alone', async () => {
    const broker = await start({ pendingBytesMaxPerClient: 4096 })
    broker.sink.full.add('telemetry')
    const flood = await client(broker)
    const other = await client(broker)
    await flood.connect('flood')
    await other.connect('other')
    for (let i = 0; i < 100; i++) flood.send(publishPacket(topic, 'x'.repeat(500), 1, i + 1))
    other.send(publishPacket('devices/a/b/alarms', 'y', 1, 1))
    await until(() => other.ids(4).length === 1, 'acknowledged')
    expect(flood.ids(4)).toEqual([])
  })

  it('keeps a client whose publish is held past 1.5 keep-alives, and answers its pings (plain aedes drops it)', async () => {
    const plain = await startPlainAedes({ authorizePublish: () => {} })
    const broker = await start()
    const ours = await client(broker)
    const theirs = await client(plain)
    await ours.connect('c', { keepalive: 1 })
    await theirs.connect('c', { keepalive: 1 })
    broker.store.shut()
    for (const made of [ours, theirs]) made.send(...Array.from({ length: 50 }, (_, i) => publishPacket(topic, 'x', 1, i + 1)))
    const pings = setInterval(() => { ours.send(pingPacket); theirs.send(pingPacket) }, 300)
    await until(() => theirs.closed, 'plain aedes dropped its client')
    await until(() => ours.packets.filter(({ type }) => type === 13).length >= 8, 'pings answered')
    clearInterval(pings)
    expect(ours.closed).toBe(false)
    broker.store.open()
    await until(() => ours.ids(4).length === 50, 'acknowledged')
    await plain.stop()
  })

  it('closes a silent client after 1.5 keep-alives, and one with none after the longest allowed', async () => {
    const broker = await start({ keepaliveMaxMs: 1000 })
    const one = await client(broker)
    const none = await client(broker)
    await one.connect('one', { keepalive: 1 })
    await none.connect('none', { keepalive: 0 })
    await until(() => one.closed && none.closed, 'both closed')
    expect(broker.broker.counters.closed.keepalive).toBe(2)
  })

  it('has a bound of connections', async () => {
    const broker = await start({ connectionsMax: 2 })
    const [first, second] = [await client(broker), await client(broker)]
    await first.connect('1')
    await second.connect('2')
    const third = await client(broker)
    await closedFor(broker, third, 'too-many-connections')
    first.end()
    await until(() => broker.broker.connections === 1, 'one gone')
    expect((await (await client(broker)).connect('3')).type).toBe(2)
  })

  it('gives back its share of the budget however a connection ends', async () => {
    const broker = await start()
    broker.store.shut()
    for (const last of [disconnectPacket, Buffer.from([0xff]), Buffer.alloc(0), publishPacket('', 'x')]) {
      const made = await client(broker)
      made.send(connectPacket('c'), publishPacket(topic, 'x'.repeat(500), 1, 1), publishPacket(topic, 'y', 2, 2),
        publishPacket('', 'x'), publishPacket(topic, 'z', 1, 3), Buffer.from([0x30, 100, 0, 3]), last)
      await until(() => made.packets.length > 0 || made.closed, 'connected')
      made.end()
    }
    await until(() => broker.broker.connections === 0, 'all gone')
    broker.store.open()
    await until(() => broker.broker.budget.bytes === 0 && broker.broker.budget.incompleteBytes === 0, 'budget free')
  })

  it('takes 65,535 publishes in flight', async () => {
    const broker = await start()
    const made = await client(broker)
    await made.connect('many')
    broker.store.shut()
    const all = Array.from({ length: 65_535 }, (_, i) => publishPacket(topic, '', 1, i + 1))
    made.socket.write(Buffer.concat(all))
    await until(() => broker.store.held > 0, 'first commit')
    expect(made.ids(4)).toEqual([])
    broker.store.open()
    await until(() => made.packets.length === 65_536, 'all acknowledged', 20_000)
    expect(made.ids(4)).toEqual(Array.from({ length: 65_535 }, (_, i) => i + 1))
  }, 30_000)

  it('answers ack packets for nothing without harm', async () => {
    const broker = await start()
    const made = await client(broker)
    await made.connect('c')
    made.send(...[4, 5, 6, 7].map(type => ackPacket(type, 9)), pingPacket)
    await until(() => made.ids(7).length === 1, 'PUBCOMP for an unknown PUBREL')
    expect(made.closed).toBe(false)
  })
})
