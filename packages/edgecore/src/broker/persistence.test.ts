import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { SystemClock } from '@holdfast/runtime'
import { Committer } from '@holdfast/store'
import type { StoreEntry } from '@holdfast/store'
import { describe, expect, it } from 'vitest'
import { BrokerSalvage } from './broker-salvage.ts'
import { retainedKey } from './persistence-format.ts'
import { DurablePersistence } from './persistence.ts'
import type { PersistenceOptions, PublishPacket } from './persistence.ts'
import { GateStore, persistenceOptions } from '../testing/broker-harness.ts'

let uptime = 0

async function open(store = new GateStore(), options: Partial<PersistenceOptions> = {}): Promise<{
  store: GateStore, committer: Committer, persistence: DurablePersistence }> {
  const clock = new SystemClock()
  const committer = new Committer({}, { store, clock, onFailure: () => {} })
  const persistence = await DurablePersistence.open({ ...persistenceOptions, ...options },
    { store, committer, clock, uptimeMs: () => uptime })
  await persistence.setup({ id: 'now' })
  return { store, committer, persistence }
}

const message = (topic: string, payload: string, qos: 0 | 1 | 2 = 1, messageId?: number): PublishPacket =>
  ({ cmd: 'publish', topic, payload: Buffer.from(payload), qos, retain: false, ...messageId === undefined ? {} : { messageId } })

async function listOf(stream: AsyncIterable<PublishPacket>): Promise<PublishPacket[]> {
  const list: PublishPacket[] = []
  for await (const packet of stream) list.push(packet)
  return list
}

describe('persistence', () => {
  it('passes the abstract suite of aedes-persistence', async () => {
    const child = spawn(process.execPath,
      ['--test', '--test-reporter=tap', fileURLToPath(new URL('../testing/persistence-abstract.ts', import.meta.url))],
      { stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, NODE_TEST_CONTEXT: undefined } })
    let out = ''
    child.stdout.on('data', chunk => { out += String(chunk) })
    const [code] = await once(child, 'close')
    expect(out).toMatch(/^# fail 0$/m)
    expect(Number(/^# pass (\d+)$/m.exec(out)?.[1])).toBeGreaterThanOrEqual(50)
    expect(code).toBe(0)
  }, 60_000)

  it('has everything again after a restart', async () => {
    const { store, committer, persistence } = await open()
    await new Promise<void>(resolve => { persistence.openSession('c', {}, () => resolve()) })
    await persistence.addSubscriptions({ id: 'c' }, [{ topic: 'a/+', qos: 2 }, { topic: 'b', qos: 0 }])
    await persistence.storeRetained({ ...message('r', 'kept'), retain: true })
    await persistence.outgoingEnqueueCombi(persistence.match('a/x'), message('a/x', 'one', 2))
    await persistence.outgoingEnqueueCombi(persistence.match('a/x'), message('a/x', 'two', 1))
    await persistence.putWill({ id: 'c' }, message('w', 'gone'))
    const commit = committer.gather({ bytes: 1 })
    persistence.putQos2(commit, 'c', message('t', 'x', 2, 7))
    await committer.flush()
    const [first] = await listOf(persistence.outgoingStream({ id: 'c' }))
    await persistence.outgoingUpdate({ id: 'c' }, { ...first!, messageId: 9 })

    const again = (await open(store)).persistence
    expect(again.counters.unreadable).toBe(0)
    expect(await again.subscriptionsByClient({ id: 'c' })).toEqual([{ topic: 'a/+', qos: 2 }, { topic: 'b', qos: 0 }])
    expect((await listOf(again.createRetainedStream('#'))).map(({ topic, payload }) => [topic, String(payload)])).toEqual([['r', 'kept']])
    expect((await listOf(again.outgoingStream({ id: 'c' }))).map(({ payload, qos, messageId }) => [String(payload), qos, messageId]))
      .toEqual([['one', 2, 9], ['two', 1, undefined]])
    expect(again.qos2State('c', message('t', 'x', 2, 7))).toBe('repeated')
    expect(again.qos2State('c', message('t', 'y', 2, 7))).toBe('new')
    await again.setup({ id: 'later' })
    expect(again.orphanedWills().map(will => [will.topic, String(will.payload), will.clientId, will.brokerId])).toEqual([['w', 'gone', 'c', 'now']])
    expect(again.sessionCount).toBe(1)
  })

  it('comes out of a salvaged store, but for the QoS 2 identifiers', async () => {
    const { store, committer, persistence } = await open()
    await new Promise<void>(resolve => { persistence.openSession('c', {}, () => resolve()) })
    await persistence.addSubscriptions({ id: 'c' }, [{ topic: 'a/+', qos: 2 }])
    await persistence.storeRetained({ ...message('r', 'kept'), retain: true })
    await persistence.outgoingEnqueueCombi(persistence.match('a/x'), message('a/x', 'one', 1))
    await persistence.putWill({ id: 'c' }, message('w', 'gone'))
    const commit = committer.gather({ bytes: 1 })
    persistence.putQos2(commit, 'c', message('t', 'x', 2, 7))
    commit.put(retainedKey('harmed'), Buffer.from('nonsense'))
    commit.put(Buffer.from([1]), Buffer.from('of others'))
    await committer.flush()

    const everything = async function* (): AsyncGenerator<StoreEntry> {
      yield* await store.scan({ gte: Buffer.from([0]), lt: Buffer.from([0xff]) })
    }
    const salvaged = new GateStore()
    const salvage = new BrokerSalvage(salvaged)
    const passed: number[] = []
    for await (const { key } of salvage.taking(everything())) passed.push(key[0]!)
    expect(passed).toEqual([1, 0x26])
    expect(salvage.counts).toEqual({ brokerEntries: 5, damagedBrokerEntries: 1 })
    const again = (await open(salvaged)).persistence
    expect(again.counters.unreadable).toBe(0)
    expect(await again.subscriptionsByClient({ id: 'c' })).toEqual([{ topic: 'a/+', qos: 2 }])
    expect((await listOf(again.createRetainedStream('#'))).map(({ topic, payload }) => [topic, String(payload)])).toEqual([['r', 'kept']])
    expect((await listOf(again.outgoingStream({ id: 'c' }))).map(({ payload }) => String(payload))).toEqual(['one'])
    expect(again.qos2Count).toBe(0)
  })

  it('forgets the QoS 2 identifiers of clean sessions at a restart', async () => {
    const { store, committer, persistence } = await open()
    persistence.putQos2(committer.gather({ bytes: 1 }), 'clean', message('t', 'x', 2, 7))
    await committer.flush()
    const again = await open(store)
    expect(again.persistence.qos2Count).toBe(0)
    await again.committer.flush()
    expect(await store.scan({ gte: Buffer.from([0x26]), lt: Buffer.from([0x27]) })).toEqual([])
  })

  it('answers before it is durable to nobody', async () => {
    const { store, persistence } = await open()
    store.shut()
    let done = 0
    const count = (): void => { done++ }
    void persistence.addSubscriptions({ id: 'c' }, [{ topic: 'a', qos: 1 }]).then(count)
    void persistence.putWill({ id: 'c' }, message('w', 'x')).then(count)
    void persistence.storeRetained({ ...message('r', 'x'), retain: true }).then(count)
    await new Promise(resolve => { setImmediate(() => setImmediate(resolve)) })
    expect([store.held > 0, done]).toEqual([true, 0])
    store.open()
    await persistence.destroy()
    expect(done).toBe(3)
  })

  it('passes over a damaged entry and keeps the others', async () => {
    const { store, committer, persistence } = await open()
    await persistence.storeRetained({ ...message('good', 'x'), retain: true })
    const commit = committer.gather({ bytes: 1 })
    for (const table of [0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26]) commit.put(Buffer.from([table, 0, 1, 65]), Buffer.from([77]))
    await committer.flush()
    const again = (await open(store)).persistence
    expect([again.counters.unreadable, again.retainedCount]).toEqual([7, 1])
  })

  it('keeps a queue within its bounds, dropping the newest and counting it', async () => {
    const { persistence } = await open(undefined, { offlineQueueCountMax: 2 })
    await persistence.addSubscriptions({ id: 'c' }, [{ topic: 'a', qos: 1 }])
    for (const payload of ['1', '2', '3']) await persistence.outgoingEnqueueCombi(persistence.match('a'), message('a', payload))
    expect((await listOf(persistence.outgoingStream({ id: 'c' }))).map(packet => String(packet.payload))).toEqual(['1', '2'])
    expect(persistence.counters.offlineDropped).toBe(1)
  })

  it('queues once for a client with overlapping filters, at the highest of their QoS', async () => {
    const { persistence } = await open()
    await persistence.addSubscriptions({ id: 'c' }, [{ topic: 'a/+', qos: 1 }, { topic: 'a/#', qos: 2 }])
    await persistence.outgoingEnqueueCombi(persistence.match('a/b'), message('a/b', 'x', 2))
    expect((await listOf(persistence.outgoingStream({ id: 'c' }))).map(packet => packet.qos)).toEqual([2])
  })

  it('keeps retained messages within their bounds; replacing and deleting goes on', async () => {
    const { committer, persistence } = await open(undefined, { retainedCountMax: 1, retainedBytesMax: 100 })
    const put = (topic: string, payload: string): boolean =>
      persistence.putRetained(committer.gather({ bytes: 1 }), message(topic, payload))
    expect([put('a', 'x'), put('b', 'x'), put('a', 'y'.repeat(200)), put('a', 'z'), put('a', ''), put('b', 'x')])
      .toEqual([true, false, false, true, true, true])
    await committer.flush()
  })

  it('forgets a session after its time away, counted in uptime', async () => {
    const { store, committer, persistence } = await open(undefined, { sessionExpiryMs: 1000 })
    const owner = {}
    uptime = 0
    await new Promise<void>(resolve => { persistence.openSession('c', owner, () => resolve()) })
    await persistence.addSubscriptions({ id: 'c' }, [{ topic: 'a', qos: 1 }])
    uptime = 5000
    persistence.expireSessions()
    expect(persistence.sessionCount).toBe(1)
    persistence.leaveSession('c', owner)
    uptime = 5999
    persistence.expireSessions()
    expect(persistence.sessionCount).toBe(1)
    uptime = 6000
    persistence.expireSessions()
    expect([persistence.sessionCount, persistence.hasDurableSubscriptions, persistence.counters.sessionsExpired]).toEqual([0, false, 1])
    await committer.flush()
    expect((await open(store)).persistence.sessionCount).toBe(0)
  })

  it('stores no subscription that was refused, and commits a packet of them once', async () => {
    const { store, persistence } = await open()
    const subscriptions = [{ topic: 'a', qos: 1 as const }, { topic: 'no', qos: 1 as const }]
    const adding = subscriptions.map(() => persistence.addSubscriptions({ id: 'c' }, subscriptions))
    persistence.refuse(subscriptions[1]!)
    await Promise.all(adding)
    expect(await persistence.subscriptionsByClient({ id: 'c' })).toEqual([{ topic: 'a', qos: 1 }])
    expect(store.writes).toBe(1)
  })
})
