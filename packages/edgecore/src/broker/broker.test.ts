import { afterEach, describe, expect, it, vi } from 'vitest'
import type { MqttClient } from 'mqtt'
import type { Failpoint } from '@holdfast/runtime'
import { RawClient, TestBroker, ackPacket, connectPacket, disconnectPacket, publishPacket, startPlainAedes, subscribePacket,
  until } from '../testing/broker-harness.ts'
import type { GateStore } from '../testing/broker-harness.ts'
import type { BrokerOptions } from './broker.ts'
import { PacketStream } from './packet-stream.ts'

const telemetry = 'devices/a/b/telemetry'
const alarms = 'devices/a/b/alarms'
const PUBACK = 4
const PUBREC = 5
const PUBREL = 6
const PUBCOMP = 7
const SUBACK = 9

const ends: (() => unknown)[] = []
afterEach(async () => { for (const end of ends.splice(0).reverse()) await end() })

async function start(options: BrokerOptions = {}, store?: GateStore, failpoint?: Failpoint): Promise<TestBroker> {
  const broker = await TestBroker.start(options, store, failpoint)
  let stopped = false
  ends.push(async () => { if (!stopped) await broker.stop() })
  const kill = broker.kill.bind(broker)
  const stop = broker.stop.bind(broker)
  broker.kill = () => { stopped = true; return kill() }
  broker.stop = () => { stopped = true; return stop() }
  return broker
}

async function plainAedes(options?: Parameters<typeof startPlainAedes>[0]): ReturnType<typeof startPlainAedes> {
  const plain = await startPlainAedes(options)
  ends.push(() => plain.stop())
  return plain
}

async function raw(target: { readonly port: number }, id?: string, fields?: Parameters<RawClient['connect']>[1]): Promise<RawClient> {
  const client = await RawClient.open(target.port)
  ends.push(() => client.end())
  if (id !== undefined) await client.connect(id, fields)
  return client
}

async function mqtt(broker: TestBroker, options?: Parameters<TestBroker['connect']>[0]): Promise<MqttClient> {
  const client = await broker.connect(options)
  ends.push(() => client.endAsync(true))
  return client
}

const payloads = (broker: TestBroker): string[] => broker.sink.records.map(record => record.payload)
const turns = async (count = 20): Promise<void> => {
  for (let i = 0; i < count; i++) await new Promise(resolve => { setImmediate(resolve) })
}

describe('acknowledgement', () => {
  it('comes after the fsync of record, retained message and queue entry (plain aedes acknowledges first)', async () => {
    // aedes with a persistence that never finishes: it acknowledges all the same.
    const { default: createMemory } = await import('aedes-persistence')
    const stuck = (createMemory as unknown as () => { storeRetained: unknown })()
    stuck.storeRetained = () => new Promise(() => {})
    const plain = await plainAedes({ persistence: stuck })
    const theirs = await raw(plain, 'c')
    theirs.send(publishPacket('r', 'x', 1, 1, 1))
    await until(() => theirs.ids(PUBACK).length === 1, 'plain aedes acknowledges')

    const broker = await start()
    const sub = await raw(broker, 'away', { clean: false })
    sub.send(subscribePacket(1, ['#', 1]))
    await until(() => sub.ids(SUBACK).length === 1, 'subscribed')
    sub.end()
    await until(() => broker.broker.connections === 0, 'away')
    await broker.committer.flush()
    const ours = await raw(broker, 'c')
    broker.store.shut()
    ours.send(publishPacket(telemetry, 'one', 1, 1), publishPacket('r', 'kept', 1, 2, 1), publishPacket('r', 'two', 2, 3))
    await until(() => broker.store.held > 0, 'commit on its way')
    await turns()
    expect(ours.packets.length).toBe(1)
    broker.store.open()
    await until(() => ours.packets.length === 4, 'acknowledged')
    expect([ours.ids(PUBACK), ours.ids(PUBREC)]).toEqual([[1, 2], [3]])
  })

  it('of a publish that a crash interrupts never comes, and nothing of it is left', async () => {
    const broker = await start()
    const client = await raw(broker, 'c')
    broker.store.shut()
    client.send(publishPacket(telemetry, 'lost', 1, 1, 1))
    await until(() => broker.store.held > 0, 'commit on its way')
    const left = await broker.kill()
    const again = await start({}, left)
    expect([again.broker.persistence.retainedCount, (await left.scan({ gte: Buffer.from([0]), lt: Buffer.from([255]) })).length]).toEqual([0, 0])
  })

  it('keeps the order of one client across lanes that commit at other times, local topics included (plain aedes follows its callbacks)',
    async () => {
      const plain = await plainAedes({ authorizePublish: (_client, packet, done) => {
        if (packet.topic === 'slow/x') setImmediate(() => done(null))
        else done(null)
      } })
      const theirs = await raw(plain, 'c')
      theirs.send(publishPacket('slow/x', '1', 1, 1), publishPacket('quiet/x', '2', 1, 2))
      await until(() => theirs.ids(PUBACK).length === 2, 'plain aedes')
      expect(theirs.ids(PUBACK)).toEqual([2, 1])

      const broker = await start()
      const client = await raw(broker, 'c')
      // The lane `slow` waits 150 ms, alarms go first, quiet/# needs no commit at all.
      client.send(publishPacket('slow/x', '1', 1, 1), publishPacket(alarms, '2', 1, 2), publishPacket('quiet/x', '3', 1, 3),
        publishPacket(telemetry, '4', 1, 4), publishPacket('none/x', '5', 1, 5))
      await until(() => client.ids(PUBACK).length === 5, 'all')
      expect(client.ids(PUBACK)).toEqual([1, 2, 3, 4, 5])
      expect(payloads(broker)[0]).toBe('2')
    })

  it('of others does not wait for one', async () => {
    const broker = await start()
    broker.sink.slowMs = 60_000
    const [one, other] = [await raw(broker, '1'), await raw(broker, '2')]
    one.send(publishPacket('slow/x', '1', 1, 1), publishPacket(alarms, '2', 1, 2))
    other.send(publishPacket(alarms, '3', 1, 9))
    await until(() => other.ids(PUBACK).length === 1, 'other')
    expect(one.ids(PUBACK)).toEqual([])
  })

  it('does not come when the commit fails: the connection is closed', async () => {
    const broker = await start()
    const client = await raw(broker, 'c')
    broker.store.fail(new Error('EIO'))
    client.send(publishPacket(telemetry, 'x', 1, 1), publishPacket('quiet/x', 'x', 1, 2))
    await until(() => client.closed, 'closed')
    expect([client.ids(PUBACK), broker.broker.counters.closed['store-failed']]).toEqual([[], 1])
  })

  it.each([1, 2])('passes the failpoints around it, at QoS %i', async qos => {
    const passed: string[] = []
    const broker = await start({}, undefined, name => passed.push(name))
    const client = await raw(broker, 'c')
    client.send(publishPacket(telemetry, 'zero', 0), publishPacket(telemetry, 'x', qos, 1))
    await until(() => client.ids(qos === 1 ? PUBACK : PUBREC).length === 1, 'acknowledged')
    expect(passed).toEqual(['puback:before', 'puback:after'])
  })

  it('QoS 0 telemetry is appended too', async () => {
    const broker = await start()
    const client = await mqtt(broker)
    await client.publishAsync(telemetry, 'zero')
    await until(() => payloads(broker).includes('zero'), 'appended')
    expect(broker.sink.records[0]).toEqual({ lane: 'telemetry', device: 'a/b', topic: telemetry, payload: 'zero' })
  })
})

describe('a full lane', () => {
  it('holds its client and nobody else, and goes on in order when there is room', async () => {
    const broker = await start({ fullWaitMs: 5000 })
    const [client, other] = [await raw(broker, '1'), await raw(broker, '2')]
    broker.sink.full.add('telemetry')
    client.send(publishPacket(telemetry, '1', 1, 1), publishPacket(alarms, '2', 1, 2), publishPacket('quiet/x', '3', 1, 3))
    other.send(publishPacket(alarms, 'other', 1, 1))
    await until(() => other.ids(PUBACK).length === 1, 'other acknowledged')
    expect([client.ids(PUBACK), payloads(broker)]).toEqual([[], ['other']])
    broker.sink.full.delete('telemetry')
    await until(() => client.ids(PUBACK).length === 3, 'all acknowledged')
    expect([client.ids(PUBACK), broker.broker.budget.bytes]).toEqual([[1, 2, 3], 0])
  })

  it('closes after the stated wait, without an acknowledgement', async () => {
    const broker = await start({ fullWaitMs: 300 })
    const client = await raw(broker, '1')
    broker.sink.full.add('telemetry')
    client.send(publishPacket(telemetry, '1', 1, 1), publishPacket(telemetry, '2', 1, 2))
    await until(() => client.closed, 'closed')
    expect([client.ids(PUBACK), broker.broker.counters.closed['outbox-full'], broker.broker.budget.bytes]).toEqual([[], 1, 0])
  })
})

describe('QoS 2', () => {
  it('a repeated PUBLISH is one record (plain aedes authorizes it again)', async () => {
    let authorized = 0
    const plain = await plainAedes({ authorizePublish: (_client, _packet, done) => { authorized++; done(null) } })
    const theirs = await raw(plain, 'c')
    theirs.send(publishPacket('t', 'x', 2, 1))
    await until(() => theirs.ids(PUBREC).length === 1, 'first')
    theirs.send(publishPacket('t', 'x', 2, 1, 8))
    await until(() => theirs.ids(PUBREC).length === 2, 'second')
    expect(authorized).toBe(2)

    const broker = await start()
    const client = await raw(broker, 'c')
    client.send(publishPacket(telemetry, 'x', 2, 1), publishPacket(telemetry, 'x', 2, 1, 8))
    await until(() => client.ids(PUBREC).length === 2, 'both answered')
    client.send(ackPacket(PUBREL, 1), publishPacket(telemetry, 'y', 2, 2))
    await until(() => client.ids(PUBCOMP).length === 1 && client.ids(PUBREC).length === 3, 'complete')
    expect(payloads(broker)).toEqual(['x', 'y'])
    // The same content under the released identifier is a new message.
    client.send(publishPacket(telemetry, 'x', 2, 1))
    await until(() => client.ids(PUBREC).length === 4, 'again')
    expect(payloads(broker)).toEqual(['x', 'y', 'x'])
  })

  it.each([true, false])('is delivered once to a subscriber, clean %s', async clean => {
    const broker = await start()
    const sub = await raw(broker, 'sub', { clean })
    sub.send(subscribePacket(1, ['#', 2]))
    const client = await raw(broker, 'c')
    await until(() => sub.ids(SUBACK).length === 1, 'subscribed')
    client.send(publishPacket(telemetry, 'x', 2, 1), publishPacket(telemetry, 'x', 2, 1, 8))
    await until(() => client.ids(PUBREC).length === 2 && sub.messages().length > 0, 'both answered')
    const { id } = sub.messages()[0]!
    sub.send(ackPacket(PUBREC, id))
    await until(() => sub.ids(PUBREL).length === 1, 'released')
    sub.send(ackPacket(PUBCOMP, id))
    await turns()
    expect(sub.messages().map(({ payload, qos }) => [payload, qos])).toEqual([['x', 2]])
    if (!clean) await until(() => broker.broker.persistence.offlineBytes === 0, 'queue empty')
  })

  it('after a crash between commit and PUBREC, the repetition of a persistent session is no second record', async () => {
    const broker = await start()
    const client = await raw(broker, 'c', { clean: false })
    client.send(publishPacket(telemetry, 'x', 2, 7))
    await until(() => client.ids(PUBREC).length === 1, 'durable')
    const again = await start({}, await broker.kill())
    const back = await raw(again)
    expect((await back.connect('c', { clean: false })).body[0]).toBe(1)
    back.send(publishPacket(telemetry, 'x', 2, 7, 8))
    await until(() => back.ids(PUBREC).length === 1, 'answered')
    expect([payloads(again), again.broker.counters.repeated]).toEqual([[], 1])
    // Another message under an identifier whose PUBREL never came: a client that lost its state.
    back.send(publishPacket(telemetry, 'other', 2, 7))
    await until(() => payloads(again).length === 1, 'recorded')
    back.send(ackPacket(PUBREL, 7))
    await until(() => back.ids(PUBCOMP).length === 1, 'complete')
    await again.committer.flush()
    expect(again.broker.persistence.qos2Count).toBe(0)
  })

  it('after a crash a clean session may use the identifier anew, before and after CONNACK', async () => {
    const broker = await start()
    const client = await raw(broker, 'c', { clean: true })
    client.send(publishPacket(telemetry, 'x', 2, 7))
    await until(() => client.ids(PUBREC).length === 1, 'durable')
    const again = await start({}, await broker.kill())
    const back = await raw(again)
    back.send(connectPacket('c'), publishPacket(telemetry, 'x', 2, 7))
    await until(() => back.ids(PUBREC).length === 1, 'answered')
    expect(payloads(again)).toEqual(['x'])
  })

  it('identifiers of a persistent session die with a clean CONNECT, durably before CONNACK', async () => {
    const broker = await start()
    const client = await raw(broker, 'c', { clean: false })
    client.send(publishPacket(telemetry, 'x', 2, 7))
    await until(() => client.ids(PUBREC).length === 1, 'durable')
    client.end()
    await until(() => broker.broker.connections === 0, 'gone')
    await broker.committer.flush()
    broker.store.shut()
    const back = await raw(broker)
    back.send(connectPacket('c'), publishPacket(telemetry, 'x', 2, 7))
    await until(() => broker.store.held > 0, 'deletion on its way')
    await turns()
    expect(back.packets).toEqual([])
    broker.store.open()
    await until(() => back.ids(PUBREC).length === 1, 'answered')
    expect(payloads(broker)).toEqual(['x', 'x'])
  })

  it('PUBCOMP waits until the end of the identifier is durable', async () => {
    const broker = await start()
    const client = await raw(broker, 'c', { clean: false })
    client.send(publishPacket(telemetry, 'x', 2, 7))
    await until(() => client.ids(PUBREC).length === 1, 'durable')
    broker.store.shut()
    client.send(ackPacket(PUBREL, 7))
    await until(() => broker.store.held > 0, 'deletion on its way')
    await turns()
    expect(client.ids(PUBCOMP)).toEqual([])
    broker.store.open()
    await until(() => client.ids(PUBCOMP).length === 1, 'complete')
  })

  it('a repetition over a new connection, while the first commit is on its way, waits for it', async () => {
    const broker = await start()
    const client = await raw(broker, 'c', { clean: false })
    broker.store.shut()
    client.send(publishPacket(telemetry, 'x', 2, 7))
    await until(() => broker.store.held > 0, 'commit on its way')
    client.end()
    const back = await raw(broker)
    back.send(connectPacket('c', { clean: false }), publishPacket(telemetry, 'x', 2, 7, 8))
    await until(() => back.packets.length === 1, 'CONNACK')
    await turns(50)
    expect(back.ids(PUBREC)).toEqual([])
    broker.store.open()
    await until(() => back.ids(PUBREC).length === 1, 'answered')
    expect(payloads(broker)).toEqual(['x'])
  })
})

describe('sessions', () => {
  it('survive a restart with subscriptions and messages, in order, once', async () => {
    const broker = await start()
    const sub = await mqtt(broker, { clientId: 'sub', clean: false })
    await sub.subscribeAsync('t/#', { qos: 1 })
    await sub.endAsync(true)
    const publisher = await mqtt(broker)
    for (let i = 0; i < 50; i++) await publisher.publishAsync('t/x', String(i), { qos: 1 })
    const again = await start({}, await broker.kill())
    const back = await raw(again)
    expect((await back.connect('sub', { clean: false })).body[0]).toBe(1)
    await until(() => back.messages().length >= 50, 'all delivered')
    expect(back.messages().map(({ payload }) => payload)).toEqual(Array.from({ length: 50 }, (_, i) => String(i)))
    back.send(...back.messages().map(({ id }) => ackPacket(PUBACK, id)))
    await until(() => again.broker.persistence.offlineBytes === 0, 'queue empty')
    back.send(publishPacket('t/y', 'live', 1, 1))
    await until(() => back.messages().length === 51, 'live again')
  })

  it('SUBACK comes after the subscription is durable', async () => {
    const broker = await start()
    const sub = await raw(broker, 'sub', { clean: false })
    await broker.committer.flush()
    broker.store.shut()
    sub.send(subscribePacket(1, ['a', 1], ['b', 0]))
    await until(() => broker.store.held > 0, 'commit on its way')
    await turns()
    expect(sub.ids(SUBACK)).toEqual([])
    broker.store.open()
    await until(() => sub.ids(SUBACK).length === 1, 'SUBACK')
  })

  it('session present is right without subscriptions too, and after a clean one (plain aedes says no)', async () => {
    const plain = await plainAedes()
    const broker = await start()
    const present = async (target: { readonly port: number }, clean: boolean): Promise<number> => {
      const client = await raw(target)
      const { body } = await client.connect('c', { clean })
      client.send(disconnectPacket)
      await until(() => client.closed, 'closed')
      return body[0]!
    }
    expect([await present(plain, false), await present(plain, false)]).toEqual([0, 0])
    expect([await present(broker, false), await present(broker, false), await present(broker, true), await present(broker, false)])
      .toEqual([0, 1, 0, 0])
  })

  it('what is published while the queue is sent stays behind it, and comes once', async () => {
    const broker = await start()
    const sub = await raw(broker, 'sub', { clean: false })
    sub.send(subscribePacket(1, ['t', 1]))
    await until(() => sub.ids(SUBACK).length === 1, 'subscribed')
    sub.end()
    await until(() => broker.broker.connections === 0, 'away')
    const publisher = await raw(broker, 'p')
    for (let i = 0; i < 200; i++) publisher.send(publishPacket('t', String(i), 1, i + 1))
    await until(() => publisher.ids(PUBACK).length === 200, 'queued')
    const back = await raw(broker)
    back.send(connectPacket('sub', { clean: false }))
    for (let i = 200; i < 400; i++) {
      publisher.send(publishPacket('t', String(i), 1, i + 1))
      if (i % 10 === 0) await turns(1)
    }
    await until(() => back.messages().length >= 400, 'all delivered')
    await turns()
    expect(back.messages().map(({ payload }) => Number(payload))).toEqual(Array.from({ length: 400 }, (_, i) => i))
    expect(new Set(back.messages().map(({ id }) => id)).size).toBe(400)
    expect(back.packets[0]!.type).toBe(2)
  })

  it('what was not acknowledged comes again with DUP, under the same identifier at QoS 2 after a restart', async () => {
    const broker = await start()
    const sub = await raw(broker, 'sub', { clean: false })
    sub.send(subscribePacket(1, ['t', 2]))
    await until(() => sub.ids(SUBACK).length === 1, 'subscribed')
    const publisher = await raw(broker, 'p')
    publisher.send(publishPacket('t', 'two', 2, 1))
    await until(() => sub.messages().length === 1, 'delivered')
    const { id } = sub.messages()[0]!
    const again = await start({}, await broker.kill())
    const back = await raw(again, 'sub', { clean: false })
    await until(() => back.messages().length === 1, 'again')
    expect(back.messages()[0]).toEqual({ topic: 't', payload: 'two', qos: 2, dup: true, retain: false, id })
    back.send(ackPacket(PUBREC, id))
    await until(() => back.ids(PUBREL).length === 1, 'released')
    const third = await start({}, await again.kill())
    const last = await raw(third, 'sub', { clean: false })
    await until(() => last.ids(PUBREL).length === 1, 'PUBREL again')
    expect([last.messages(), last.packets.find(({ type }) => type === PUBREL)!.flags]).toEqual([[], 2])
  })

  it('a message goes out at the QoS of the subscription, wildcards and overlaps included', async () => {
    const broker = await start()
    const sub = await raw(broker, 'sub')
    sub.send(subscribePacket(1, ['a/+', 0], ['b/+', 1], ['c/#', 0], ['c/+', 2]))
    await until(() => sub.ids(SUBACK).length === 1, 'subscribed')
    expect([...sub.packets.find(({ type }) => type === SUBACK)!.body.subarray(2)]).toEqual([0, 1, 0, 2])
    const publisher = await raw(broker, 'p')
    publisher.send(...['a/x', 'b/x', 'c/x'].map((topic, i) => publishPacket(topic, 'x', 2, i + 1)))
    await until(() => sub.messages().length >= 3, 'delivered')
    await turns()
    expect(sub.messages().map(({ topic, qos }) => [topic, qos]).sort()).toEqual([['a/x', 0], ['b/x', 1], ['c/x', 2]])
  })

  it('have a bound; a new one is refused with CONNACK 3', async () => {
    const broker = await start({ sessionsMax: 1 })
    expect((await (await raw(broker)).connect('1', { clean: false })).body[1]).toBe(0)
    expect((await (await raw(broker)).connect('2', { clean: false })).body[1]).toBe(3)
    expect((await (await raw(broker)).connect('1', { clean: false })).body[1]).toBe(0)
    expect((await (await raw(broker)).connect('3')).body[1]).toBe(0)
  })

  it('belong to whom took over: the new connection is served, the old one is closed', async () => {
    const broker = await start()
    const old = await raw(broker, 'c', { clean: false })
    old.send(subscribePacket(1, ['t', 1]))
    await until(() => old.ids(SUBACK).length === 1, 'subscribed')
    const next = await raw(broker, 'c', { clean: false })
    await until(() => old.closed, 'old one closed')
    expect(broker.broker.counters.closed['taken-over']).toBe(1)
    next.send(publishPacket('t', 'x', 1, 1))
    await until(() => next.messages().length === 1, 'delivered')
    expect(broker.broker.persistence.session('c')?.owner).toBeDefined()
  })
})

describe('retained messages', () => {
  it('survive a restart, are replaced and deleted', async () => {
    const broker = await start()
    const client = await mqtt(broker)
    for (const [topic, payload] of [['r/a', '1'], ['r/a', '2'], ['r/b', 'x'], ['r/b', '']] as const) {
      await client.publishAsync(topic, payload, { qos: 1, retain: true })
    }
    const again = await start({}, await broker.kill())
    const sub = await raw(again, 'sub')
    sub.send(subscribePacket(1, ['r/#', 1], ['r/a', 1]))
    await until(() => sub.messages().length >= 2, 'delivered')
    expect(new Set(sub.messages().map(({ topic, payload, retain }) => `${topic} ${payload} ${retain}`))).toEqual(new Set(['r/a 2 true']))
  })

  it('at the bound: QoS 1 is not acknowledged, QoS 0 is counted', async () => {
    const broker = await start({ retainedCountMax: 1 })
    const client = await raw(broker, 'c')
    client.send(publishPacket('r/1', 'x', 1, 1, 1), publishPacket('r/2', 'x', 0, 0, 1), publishPacket('r/3', 'x', 1, 2, 1))
    await until(() => client.closed, 'closed')
    const { counters } = broker.broker
    expect([counters.closed['retained-full'], broker.broker.persistence.counters.retainedRefused, broker.broker.persistence.retainedCount])
      .toEqual([1, 2, 1])
  })
})

describe('wills', () => {
  it('of a lost connection are recorded and delivered; of DISCONNECT they are not', async () => {
    const broker = await start()
    const sub = await raw(broker, 'sub')
    sub.send(subscribePacket(1, ['#', 1]))
    const will = { topic: telemetry, payload: 'gone', qos: 1 }
    const lost = await raw(broker, 'lost', { will })
    const polite = await raw(broker, 'polite', { will: { ...will, payload: 'never' } })
    polite.send(disconnectPacket)
    lost.end()
    await until(() => sub.messages().length === 1 && payloads(broker).length === 1, 'published')
    await until(() => broker.broker.connections === 1, 'both gone')
    expect([sub.messages()[0]!.payload, payloads(broker)]).toEqual(['gone', ['gone']])
  })

  it('of a client that was connected when the daemon was killed are published after the restart, once', async () => {
    const broker = await start()
    await raw(broker, 'dev', { will: { topic: telemetry, payload: 'gone', qos: 1, retain: true } })
    const entries = await broker.kill()
    const again = await start({}, entries)
    await until(() => payloads(again).length === 1, 'published')
    expect(again.broker.persistence.retainedCount).toBe(1)
    await again.committer.flush()
    const third = await start({}, await again.kill())
    expect(payloads(third)).toEqual([])
  })

  it('to topics that are not for clients are refused with the connection (plain aedes publishes them)', async () => {
    // An authorizePublish of one's own takes aedes' guard of $SYS/ away.
    const plain = await plainAedes({ authorizePublish: (_client, _packet, done) => done(null) })
    let published = 0
    plain.aedes.subscribe('$SYS/x', (_packet, done) => { published++; done() }, () => {})
    const theirs = await raw(plain, 'w', { will: { topic: '$SYS/x', payload: 'x' } })
    theirs.end()
    await until(() => published === 1, 'plain aedes publishes it')

    const broker = await start()
    for (const topic of ['$SYS/x', 'a/+/b', 'a\0']) {
      const client = await raw(broker)
      client.send(connectPacket('w', { will: { topic, payload: 'x' } }))
      await until(() => client.closed, 'closed')
      expect(client.packets).toEqual([])
    }
    expect([broker.broker.counters.badTopic, broker.broker.counters.closed['bad-topic']]).toEqual([3, 3])
  })
})

describe('topics', () => {
  it('$hw, $ke and SYS are for clients; what has no route stays local and is counted', async () => {
    const broker = await start()
    const sub = await raw(broker, 'sub')
    sub.send(subscribePacket(1, ['$hw/#', 0], ['SYS/#', 0]))
    await until(() => sub.ids(SUBACK).length === 1, 'subscribed')
    const client = await raw(broker, 'c')
    client.send(publishPacket('$hw/events/x', '1', 1, 1), publishPacket('SYS/dis/upload_records', '2', 1, 2),
      publishPacket('devices//b/telemetry', '3', 1, 3), publishPacket('quiet/x', '4', 1, 4))
    await until(() => client.ids(PUBACK).length === 4, 'acknowledged')
    await until(() => sub.messages().length === 2, 'delivered')
    expect([payloads(broker), broker.broker.counters.unrouted, broker.broker.counters.badDevice]).toEqual([[], 2, 1])
  })

  it('subscriptions have bounds and rules; a refused one is answered with failure and not kept', async () => {
    const broker = await start({ subscriptionsMaxPerClient: 3 })
    const sub = await raw(broker, 'sub', { clean: false })
    sub.send(subscribePacket(1, ['$share/g/t', 1], ['a/+b', 1], ['ok/1', 1], [Array(60).fill('x').join('/'), 1], ['ok/2', 2]))
    await until(() => sub.ids(SUBACK).length === 1, 'answered')
    expect([...sub.packets[1]!.body.subarray(2)]).toEqual([128, 128, 1, 128, 2])
    const other = await raw(broker, 'other', { clean: false })
    other.send(subscribePacket(1, ['$share/g/t', 1], ['1', 1], ['2', 0], ['3', 0], ['4', 0]))
    await until(() => other.ids(SUBACK).length === 1, 'answered')
    expect([...other.packets[1]!.body.subarray(2)]).toEqual([128, 1, 0, 0, 128])
    expect([...broker.broker.persistence.session('other')!.subscriptions.keys()]).toEqual(['1', '2', '3'])
    other.end()
    sub.end()
    await until(() => broker.broker.subscriptions === 0, 'given back')
  })

  it('60,000 levels and odd client ids are refused', async () => {
    const broker = await start()
    const deep = await raw(broker, 'deep')
    deep.send(subscribePacket(1, [Array(30_000).fill('+').join('/'), 0]))
    await until(() => deep.closed, 'closed')
    for (const id of ['a\0b', 'x'.repeat(257), '\n']) expect((await (await raw(broker)).connect(id)).body[1]).toBe(2)
    expect((await (await raw(broker)).connect('', { clean: false })).body[1]).toBe(2)
    expect((await (await raw(broker)).connect('')).body[1]).toBe(0)
  })
})

describe('slow subscribers', () => {
  it('a stuck # subscriber and a slow one leave the acknowledgements of others alone (plain aedes freezes)', async () => {
    const payload = 'x'.repeat(4096)
    const publishAll = async (target: { readonly port: number }, count: number): Promise<number> => {
      const stuck = await raw(target, 'stuck')
      stuck.send(subscribePacket(1, ['#', 1]))
      await until(() => stuck.ids(SUBACK).length === 1, 'subscribed')
      stuck.socket.pause()
      const slow = await raw(target, 'slow')
      slow.send(subscribePacket(1, ['#', 0]))
      await until(() => slow.ids(SUBACK).length === 1, 'subscribed')
      slow.socket.pause()
      const publisher = await raw(target, 'p')
      for (let i = 0; i < count && !publisher.closed; i++) {
        publisher.send(publishPacket('load', payload, 1, i % 65_535 + 1))
        if (i % 100 === 99) await turns(2)
      }
      await until(() => publisher.ids(PUBACK).length === count, 'load acknowledged', 4000).catch(() => {})
      const other = await raw(target, 'other', {})
      const startMs = performance.now()
      other.send(publishPacket('elsewhere', 'y', 1, 1), publishPacket('elsewhere', 'z', 1, 2))
      const sub = await raw(target, 'sub')
      sub.send(subscribePacket(1, ['elsewhere', 0]))
      await until(() => sub.ids(SUBACK).length === 1, 'subscribed')
      other.send(publishPacket('elsewhere', 'now', 1, 3))
      await until(() => sub.messages().length > 0, 'delivered elsewhere', 2500).catch(() => {})
      return sub.messages().length === 0 ? Infinity : performance.now() - startMs
    }
    expect(await publishAll(await plainAedes(), 3000)).toBe(Infinity)
    const broker = await start({ outgoingBytesMaxPerClient: 256 * 1024 })
    expect(await publishAll(broker, 3000)).toBeLessThan(2000)
    const { counters } = broker.broker
    expect(counters.droppedToSlow).toBeGreaterThan(0)
    await until(() => counters.closed['slow-subscriber'] >= 1, 'the QoS 1 subscriber is closed')
  }, 30_000)

  it('a client that reads nothing is closed after the drain timeout, its bytes given back', async () => {
    const broker = await start({ outgoingBytesMaxPerClient: 128 * 1024 })
    const stuck = await raw(broker, 'stuck')
    stuck.send(subscribePacket(1, ['t', 0]))
    await until(() => stuck.ids(SUBACK).length === 1, 'subscribed')
    stuck.socket.pause()
    const publisher = await raw(broker, 'p')
    const load = publishPacket('t', 'x'.repeat(60_000))
    await until(() => {
      publisher.send(load)
      return broker.broker.counters.closed['slow-subscriber'] === 1
    }, 'closed', 15_000)
    expect(broker.broker.outgoingBytes).toBe(0)
  }, 20_000)
})

describe('life cycle', () => {
  it('says whether connections are taken, and why not', async () => {
    const broker = await start({ connectionsMax: 1 })
    expect(broker.broker.ready).toBe('ok')
    await raw(broker, 'c')
    expect(broker.broker.ready).toEqual({ reason: '1 connections, as many as mqtt.connectionsMax allows' })
    const reopened = broker.broker.reopen(broker.store)
    expect(broker.broker.ready).toEqual({ reason: 'the database is being read again after a failed write' })
    await reopened
    expect(broker.broker.ready).toBe('ok')
    await broker.stop()
    expect(broker.broker.ready).toEqual({ reason: 'the broker stops' })
  })

  it('a stop acknowledges what waits for its commit, then closes', async () => {
    const broker = await start()
    const client = await raw(broker, 'c')
    broker.store.shut()
    client.send(...Array.from({ length: 100 }, (_, i) => publishPacket(telemetry, String(i), 1, i + 1)))
    await until(() => broker.broker.budget.bytes > 0 && broker.store.held > 0, 'on its way')
    const stopped = broker.stop()
    await stopped
    await until(() => client.closed, 'closed')
    expect(client.ids(PUBACK).length).toBe(100)
    expect(payloads(broker).length).toBe(100)
  })

  it('after a failed write all is read again from the store that was opened anew', async () => {
    const broker = await start()
    const client = await raw(broker, 'c', { clean: false })
    client.send(subscribePacket(1, ['t', 1]), publishPacket('r', 'kept', 1, 2, 1))
    await until(() => client.packets.length === 3, 'stored')
    broker.store.shut()
    client.send(publishPacket('r2', 'lost', 1, 3, 1))
    await until(() => broker.store.held > 0, 'on its way')
    broker.store.fail(new Error('EIO'))
    broker.store.open()
    await until(() => client.closed, 'closed')
    await broker.broker.reopen(broker.store.inner)
    broker.committer.resume(broker.store.inner)
    const { persistence } = broker.broker
    expect([persistence.retainedCount, persistence.sessionCount, persistence.hasDurableSubscriptions]).toEqual([1, 1, true])
    const back = await raw(broker)
    expect((await back.connect('c', { clean: false })).body[0]).toBe(1)
    back.send(publishPacket(telemetry, 'x', 1, 1))
    await until(() => back.ids(PUBACK).length === 1, 'acknowledged')
  })

  it('publishes of the daemon itself are stored and delivered', async () => {
    const broker = await start()
    const sub = await raw(broker, 'sub', { clean: false })
    sub.send(subscribePacket(1, ['$hw/#', 1]))
    await until(() => sub.ids(SUBACK).length === 1, 'subscribed')
    await new Promise<void>((resolve, reject) => {
      broker.broker.publish({ topic: '$hw/x', payload: Buffer.from('own'), qos: 1, retain: true },
        error => { if (error) reject(error); else resolve() })
    })
    await until(() => sub.messages().length === 1, 'delivered')
    expect(broker.broker.persistence.retainedCount).toBe(1)
  })

  it('what is delivered together is written together, whatever the QoS', async () => {
    const broker = await start()
    const sub = await raw(broker, 'sub')
    sub.send(subscribePacket(1, ['x/#', 1]))
    const publisher = await raw(broker, 'publisher')
    await until(() => sub.ids(SUBACK).length === 1, 'subscribed')
    const flush = vi.spyOn(PacketStream.prototype, 'flush')
    ends.push(() => { flush.mockRestore() })
    for (const qos of [0, 1]) {
      const before = sub.messages().length
      flush.mockClear()
      publisher.send(...Array.from({ length: 500 }, (_, i) => publishPacket('x/y', String(i), qos, i + 1)))
      await until(() => sub.messages().length === before + 500, 'delivered')
      expect(flush.mock.calls.length).toBeLessThan(50)
    }
  })
})
