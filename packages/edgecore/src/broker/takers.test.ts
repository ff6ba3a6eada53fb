import { afterEach, describe, expect, it } from 'vitest'
import { HoldfastError } from '@holdfast/runtime'
import type { Commit, Committer } from '@holdfast/store'
import type { MessageTaker, OutgoingMessage } from '../messages.ts'
import { RawClient, TestBroker, ackPacket, disconnectPacket, publishPacket, subscribePacket, until } from '../testing/broker-harness.ts'
import type { GateStore } from '../testing/broker-harness.ts'
import type { Broker, BrokerOptions } from './broker.ts'

const PUBACK = 4
const PUBREC = 5
const PUBCOMP = 7
const SUBACK = 9
const telemetry = 'devices/a/b/telemetry'
const alarms = 'devices/a/b/alarms'

const ends: (() => unknown)[] = []
afterEach(async () => { for (const end of ends.splice(0).reverse()) await end() })

type Told = Pick<OutgoingMessage, 'topic' | 'payload'>

/** Takes what it is given, and writes it into a commit of its own as a twin does. */
class TestTaker implements MessageTaker {
  readonly taken: string[] = []
  readonly durable: string[] = []
  readonly asked: string[] = []
  tell: Told | undefined
  /** What it throws instead. */
  refusal: Error | undefined
  /** False: what it is given changes nothing. */
  writes = true
  readonly #committer: Committer

  constructor(committer: Committer) { this.#committer = committer }

  take(topic: string, payload: Buffer): Commit | undefined {
    if (this.refusal !== undefined) throw this.refusal
    const text = `${topic} ${payload.toString()}`
    this.taken.push(text)
    if (!this.writes) return undefined
    const commit = this.#committer.gather({ bytes: payload.length })
    commit.put(Buffer.from([0x60, this.taken.length]), Buffer.from(payload))
    commit.onDurable(error => { if (error === undefined) this.durable.push(text) })
    return commit
  }

  subscribed(filter: string, tell: (message: Told) => void): void {
    this.asked.push(filter)
    if (this.tell !== undefined) tell(this.tell)
  }
}

interface Started { readonly broker: TestBroker, readonly taker: TestTaker }

async function start(filters: readonly string[], options: BrokerOptions = {}, store?: GateStore): Promise<Started> {
  let taker: TestTaker | undefined
  const broker = await TestBroker.start(options, store, undefined, (bus: Broker, committer) => {
    taker = new TestTaker(committer)
    for (const filter of filters) bus.listen(filter, taker)
  })
  let stopped = false
  ends.push(async () => { if (!stopped) await broker.stop() })
  const kill = broker.kill.bind(broker)
  broker.kill = () => { stopped = true; return kill() }
  return { broker, taker: taker! }
}

async function connect({ port }: { readonly port: number }, id: string, fields?: Parameters<RawClient['connect']>[1]): Promise<RawClient> {
  const client = await RawClient.open(port)
  ends.push(() => client.end())
  await client.connect(id, fields)
  return client
}

const turns = async (count = 20): Promise<void> => {
  for (let i = 0; i < count; i++) await new Promise(resolve => { setImmediate(resolve) })
}

describe('messages that a part of the daemon takes', () => {
  it('are acknowledged when what it wrote is durable, whether they are recorded or not', async () => {
    const { broker, taker } = await start(['#', 'devices/+/+/telemetry'])
    const client = await connect(broker, 'd')
    broker.store.shut()
    client.send(publishPacket('x', '1', 1, 1), publishPacket(telemetry, '2', 1, 2), publishPacket('x', '3', 0))
    await until(() => taker.taken.length === 3, 'taken')
    await turns()
    expect([client.ids(PUBACK), taker.durable]).toEqual([[], []])
    broker.store.open()
    await until(() => client.ids(PUBACK).length === 2, 'acknowledgements')
    expect([taker.durable, broker.sink.records.length]).toEqual([['x 1', `${telemetry} 2`, 'x 3'], 1])
    expect(broker.broker.counters.unrouted).toBe(0)
  })

  it('wait for the record of an urgent lane and for the taker, and keep their order among the others of their client', async () => {
    const { broker, taker } = await start([alarms])
    const client = await connect(broker, 'd')
    broker.store.shut()
    client.send(publishPacket(telemetry, '0', 1, 1), publishPacket(alarms, '1', 1, 2), publishPacket('quiet/x', '2', 1, 3),
      publishPacket(alarms, '3', 2, 4))
    await until(() => taker.taken.length === 2, 'taken')
    await turns()
    expect(client.packets.filter(({ type }) => type === PUBACK || type === PUBREC)).toEqual([])
    broker.store.open()
    await until(() => client.ids(PUBREC).length === 1, 'PUBREC')
    expect([client.ids(PUBACK), taker.durable.length, broker.sink.records.length]).toEqual([[1, 2, 3], 2, 3])
  })

  it('wait for both of two writes', async () => {
    const { broker, taker } = await start([alarms])
    const client = await connect(broker, 'd')
    broker.store.shut()
    // Too large to share a write.
    client.send(publishPacket(alarms, 'x'.repeat(60_000), 1, 1))
    await until(() => broker.store.held === 1, 'the first write')
    broker.store.openOne()
    await until(() => broker.store.held === 1, 'the second write')
    await turns()
    expect([client.ids(PUBACK), broker.sink.records.length, taker.durable.length]).toEqual([[], 1, 0])
    broker.store.openOne()
    await until(() => client.ids(PUBACK).length === 1, 'PUBACK')
    expect(taker.durable.length).toBe(1)
  })

  it('what a taker could not write is not acknowledged', async () => {
    const { broker, taker } = await start(['x'])
    const client = await connect(broker, 'd')
    broker.store.fail(new Error('no disk'))
    client.send(publishPacket('x', '1', 1, 1))
    await until(() => client.closed, 'the end')
    expect([client.ids(PUBACK), taker.durable, broker.broker.counters.closed['store-failed']]).toEqual([[], [], 1])
  })

  it('without a change are acknowledged at once', async () => {
    const { broker, taker } = await start(['x'])
    taker.writes = false
    const client = await connect(broker, 'd')
    const before = broker.store.writes
    client.send(publishPacket('x', '1', 1, 1))
    await until(() => client.ids(PUBACK).length === 1, 'PUBACK')
    expect(broker.store.writes).toBe(before)
  })

  it('wait on a full disk as in front of a full lane, and end with the connection after the stated wait', async () => {
    const { broker, taker } = await start(['x'], { fullWaitMs: 300 })
    const [held, other] = await Promise.all([connect(broker, 'd'), connect(broker, 'e')])
    taker.refusal = new HoldfastError('DISK_FULL', 'no room')
    held.send(publishPacket('x', '1', 1, 1), publishPacket(telemetry, '2', 1, 2))
    other.send(publishPacket(telemetry, '3', 1, 1))
    await until(() => other.ids(PUBACK).length === 1, 'the other one goes on')
    expect([held.ids(PUBACK), taker.taken]).toEqual([[], []])
    taker.refusal = undefined
    await until(() => held.ids(PUBACK).length === 2, 'room')
    expect(taker.taken).toEqual(['x 1'])
    taker.refusal = new HoldfastError('DISK_FULL', 'no room')
    held.send(publishPacket('x', '4', 1, 3))
    await until(() => held.closed, 'the end')
    expect([taker.taken, broker.broker.counters.closed['outbox-full']]).toEqual([['x 1'], 1])
  })

  it('one that breaks a taker ends its own connection and nobody else\'s', async () => {
    const { broker, taker } = await start(['x'])
    const [breaking, other] = await Promise.all([connect(broker, 'd'), connect(broker, 'e')])
    taker.refusal = new TypeError('undefined is not a function')
    breaking.send(publishPacket('x', '1', 1, 1))
    await until(() => breaking.closed, 'the end')
    taker.refusal = undefined
    other.send(publishPacket('x', '2', 1, 1))
    await until(() => other.ids(PUBACK).length === 1, 'PUBACK')
    const { counters } = broker.broker
    expect([counters.closed['not-taken'], taker.taken]).toEqual([1, ['x 2']])
  })

  it('are given once where several filters match, and no more where nobody listens any longer', async () => {
    const { broker, taker } = await start([])
    const client = await connect(broker, 'd')
    const stops = ['a/+', 'a/#', 'a/b'].map(filter => broker.broker.listen(filter, taker))
    client.send(publishPacket('a/b', '1', 1, 1))
    await until(() => client.ids(PUBACK).length === 1, 'PUBACK')
    for (const stop of [...stops, ...stops]) stop()
    client.send(publishPacket('a/b', '2', 1, 2))
    await until(() => client.ids(PUBACK).length === 2, 'PUBACK')
    expect(taker.taken).toEqual(['a/b 1'])
  })

  it('who stops listening twice has stopped once', async () => {
    const { broker, taker } = await start(['x', 'y'])
    const stop = broker.broker.listen('z', taker)
    for (let i = 0; i < 5; i++) stop()
    const client = await connect(broker, 'd')
    client.send(subscribePacket(1, ['a', 0]), publishPacket('x', '1', 1, 1))
    await until(() => client.ids(PUBACK).length === 1, 'PUBACK')
    expect([taker.asked, taker.taken]).toEqual([['a'], ['x 1']])
  })

  it('at QoS 2 are not given again when they are repeated, over a crash neither', async () => {
    const { broker, taker } = await start(['x'])
    const first = await connect(broker, 'd', { clean: false })
    first.send(publishPacket('x', '1', 2, 7), publishPacket('x', '1', 2, 7, 8))
    await until(() => first.ids(PUBREC).length === 2, 'PUBREC twice')
    expect(taker.taken).toEqual(['x 1'])
    const left = await broker.kill()
    const again = await start(['x'], {}, left)
    const second = await connect(again.broker, 'd', { clean: false })
    second.send(publishPacket('x', '1', 2, 7, 8))
    await until(() => second.ids(PUBREC).length === 1, 'PUBREC')
    expect(again.taker.taken).toEqual([])
    second.send(ackPacket(6, 7))
    await until(() => second.ids(PUBCOMP).length === 1, 'PUBCOMP')
    second.send(publishPacket('x', '1', 2, 7))
    await until(() => second.ids(PUBREC).length === 2, 'a new message')
    expect(again.taker.taken).toEqual(['x 1'])
  })

  it('that are refused for want of room to retain them are not given', async () => {
    const { broker, taker } = await start(['x'], { retainedCountMax: 0 })
    const client = await connect(broker, 'd')
    client.send(publishPacket('x', '1', 1, 1, 1))
    await until(() => client.closed, 'the end')
    expect([taker.taken, broker.broker.counters.closed['retained-full']]).toEqual([[], 1])
  })

  it('wills are among them, also those of connections that ended with the last process', async () => {
    const { broker, taker } = await start(['gone/#'])
    const lost = await connect(broker, 'd', { will: { topic: 'gone/d', payload: 'x', qos: 1 } })
    lost.end()
    await until(() => taker.durable.length === 1, 'the will')
    await connect(broker, 'e', { will: { topic: 'gone/e', payload: 'y' } })
    expect(taker.taken).toEqual(['gone/d x'])
    const again = await start(['gone/#'], {}, await broker.kill())
    await until(() => again.taker.durable.length === 1, 'the will of the last process')
    expect(again.taker.taken).toEqual(['gone/e y'])
  })
})

describe('retained messages', () => {
  it('are given to who begins to listen, before live ones', async () => {
    const { broker, taker } = await start([])
    const client = await connect(broker, 'd')
    client.send(publishPacket('r/a', '1', 1, 1, 1), publishPacket('r/b', '2', 1, 2, 1), publishPacket('s', '3', 1, 3, 1))
    await until(() => client.ids(PUBACK).length === 3, 'PUBACKs')
    broker.broker.listen('r/+', taker)
    client.send(publishPacket('r/a', '4', 1, 4, 1))
    await until(() => client.ids(PUBACK).length === 4, 'PUBACK')
    broker.broker.listen('s', taker)
    expect(taker.taken).toEqual(['r/a 1', 'r/b 2', 'r/a 4', 's 3'])
  })

  it('are not given to who ignores them', async () => {
    const { broker, taker } = await start([])
    const client = await connect(broker, 'd')
    client.send(publishPacket('r', 'old', 1, 1, 1))
    await until(() => client.ids(PUBACK).length === 1, 'PUBACK')
    const requests: MessageTaker = { ignoresRetained: true, take: (topic, payload) => taker.take(topic, payload) }
    broker.broker.listen('r', requests)
    client.send(publishPacket('r', 'new', 1, 2, 1))
    await until(() => client.ids(PUBACK).length === 2, 'PUBACK')
    expect(taker.taken).toEqual(['r new'])
  })

  it('that cannot be taken at once are given later, unless a live one came before', async () => {
    const { broker, taker } = await start([])
    const client = await connect(broker, 'd')
    client.send(publishPacket('r/a', 'old', 1, 1, 1), publishPacket('r/b', '2', 1, 2, 1))
    await until(() => client.ids(PUBACK).length === 2, 'PUBACKs')
    taker.refusal = new HoldfastError('DISK_FULL', 'no room')
    broker.broker.listen('r/+', taker)
    taker.refusal = undefined
    client.send(publishPacket('r/a', 'new', 1, 3))
    await until(() => taker.taken.length === 2, 'both')
    await turns()
    expect(taker.taken).toEqual(['r/a new', 'r/b 2'])
  })
})

describe('subscribers', () => {
  it('are told of to takers for each filter that was granted, and for those of a session that comes back', async () => {
    const { broker, taker } = await start(['x'])
    const client = await connect(broker, 's', { clean: false })
    client.send(subscribePacket(1, ['a/#', 1], ['$share/g/t', 1], ['b', 0]))
    await until(() => client.ids(SUBACK).length === 1, 'SUBACK')
    expect(taker.asked).toEqual(['a/#', 'b'])
    client.send(disconnectPacket)
    await until(() => client.closed, 'the end')
    taker.tell = { topic: 'a/hello', payload: Buffer.from('back') }
    const again = await connect(broker, 's', { clean: false })
    await until(() => again.messages().length === 2, 'both')
    expect([taker.asked.slice(2).sort(), again.messages().map(({ payload, qos }) => [payload, qos])])
      .toEqual([['a/#', 'b'], [['back', 0], ['back', 0]]])
  })

  it('what a taker tells goes to that subscriber alone', async () => {
    const { broker, taker } = await start(['x'])
    const other = await connect(broker, 'o')
    other.send(subscribePacket(1, ['a', 1]))
    await until(() => other.ids(SUBACK).length === 1, 'SUBACK')
    taker.tell = { topic: 'a', payload: Buffer.from('for you') }
    const client = await connect(broker, 'p')
    client.send(subscribePacket(1, ['a', 1]))
    await until(() => client.messages().length === 1, 'told')
    await turns()
    expect([client.messages().map(({ payload, qos }) => [payload, qos]), other.messages()]).toEqual([[['for you', 0]], []])
  })
})
