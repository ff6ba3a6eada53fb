import { expect, test } from 'vitest'
import { RecordTopic, batchNext, bootIdFromBytes, decodeFrame, encodeFrame, readBatchHeader } from '@holdfast/protos'
import type { Frame, Hello } from '@holdfast/protos'
import { SeededRandom, inertFailpoint, silentLog } from '@holdfast/runtime'
import { HandClock, turns } from '@holdfast/runtime/testing'
import { Committer, MemoryStore, Outbox } from '@holdfast/store'
import type { ScanOptions } from '@holdfast/store'
import type { Dialer } from '@holdfast/sync'
import { Link } from './link.ts'
import { PeerMemory } from './peer-memory.ts'

const topic = new RecordTopic('devices/plant/pump/telemetry', 'plant/pump')
const random = new SeededRandom(7)
const settle = (): Promise<void> => turns(30)

/** Scans wait while `held` is set, one after the other, until the test lets them through. */
class SlowStore extends MemoryStore {
  held: (() => void)[] | undefined

  override async scan(options: ScanOptions): ReturnType<MemoryStore['scan']> {
    if (this.held !== undefined) await new Promise<void>(resolve => { this.held!.push(resolve) })
    return await super.scan(options)
  }
}

type ConnectionEvents = Parameters<Dialer['dial']>[0]

/** A cloud that welcomes everybody with empty hands and says nothing of what it gets. */
class Cloud implements Dialer {
  readonly hellos: Hello[] = []
  events: ConnectionEvents | undefined
  /** One past the last offset that came up, by epoch. */
  readonly received = new Map<string, number>()

  dial(events: ConnectionEvents): ReturnType<Dialer['dial']> {
    this.events = events
    setImmediate(() => { events.onOpen() })
    return {
      bytesReceived: 0,
      close: () => {},
      send: message => { this.#onFrame(decodeFrame(message), events) }
    }
  }

  #onFrame(frame: Frame, events: ConnectionEvents): void {
    if (frame.kind === 'log-batches' && frame.rawLength === 0) {
      const header = readBatchHeader(frame.batches)
      this.received.set(header.epoch, batchNext(header))
    }
    if (frame.kind !== 'hello') return
    this.hellos.push(frame)
    const watermarks = frame.lanes.flatMap(({ id, epochs }) => epochs.map(({ epoch, start }) =>
      ({ lane: id, epoch, next: start, crc: 0 })))
    setImmediate(() => {
      events.onMessage(encodeFrame({
        kind: 'welcome', protocol: 1, clusterUid: 'c', logId: 'l', wallMs: 1, software: 'test', windowBytes: 2 ** 20, watermarks,
        stateVerdicts: [], stateDigests: []
      }))
    })
  }
}

test('while the outbox is opened again no session is told anything, and none begins', async () => {
  const clock = new HandClock()
  const store = new SlowStore()
  const committer = new Committer({}, { store, clock, onFailure: () => {} })
  const outbox = await Outbox.open({
    lanes: {
      telemetry: {
        priority: 'normal', bytesMax: 2 ** 30, ageMaxMs: undefined, overflow: 'reject', commitIntervalMs: 0, keepBytes: 0, keepAgeMs: 0
      }
    },
    bootId: bootIdFromBytes(random.bytes(8)), suspect: false
  }, store, { committer, clock, random, log: silentLog, clockSynchronised: () => true })
  const cloud = new Cloud()
  const link = new Link({
    bootId: bootIdFromBytes(random.bytes(8)), software: 'test', probeMs: 10_000, deadMs: 25_000, retryDelayMs: 100, retryDelayMaxMs: 1000
  }, {
    outbox, peer: await PeerMemory.open(store, committer), dialer: cloud, clock, random, log: silentLog,
    clockSynchronised: () => true, failpoint: inertFailpoint
  })
  link.start()
  await settle()
  expect(link.live).toBe(true)
  const lane = outbox.lane('telemetry')!
  const commit = outbox.gather(lane, 1)
  outbox.append(commit, lane, topic, Buffer.from('a'))
  await settle()
  const [[epoch, next]] = [...cloud.received] as [[typeof lane.epochs[0]['epoch'], number]]
  expect(next).toBe(1)
  const old = cloud.events!

  // As runEdgecore does after a failed write.
  link.pause()
  store.held = []
  const reopened = outbox.reopen(store, false)
  for (let scans = 0; lane.durable !== 0 && scans < 20; scans++) {
    await settle()
    store.held.shift()?.()
  }
  expect([lane.durable, lane.epochs]).toEqual([0, []])
  old.onMessage(encodeFrame({ kind: 'log-ack', watermarks: [{ lane: lane.id, epoch, next, crc: 0 }], partBytes: 0 }))
  for (let i = 0; i < 20; i++) {
    await clock.pass(1000)
    await settle()
  }
  expect(cloud.hellos).toHaveLength(1)
  for (const scan of store.held.splice(0)) scan()
  store.held = undefined
  await reopened
  link.resume()
  await settle()
  for (let i = 0; i < 5 && cloud.hellos.length === 1; i++) {
    await clock.pass(1000)
    await settle()
  }
  expect(cloud.hellos[1]!.lanes[0]!.epochs.map(({ start, next: end }) => [start, end])).toEqual([[0, 1], [1, 1]])
  expect(link.live).toBe(true)
  link.stop()
  outbox.close()
})

test('a start while the outbox is opened again dials afterwards, a stop not', async () => {
  for (const stopped of [false, true]) {
    const clock = new HandClock()
    const store = new MemoryStore()
    const committer = new Committer({}, { store, clock, onFailure: () => {} })
    const outbox = await Outbox.open({ lanes: {}, bootId: bootIdFromBytes(random.bytes(8)), suspect: false }, store, {
      committer, clock, random, log: silentLog, clockSynchronised: () => true
    })
    const cloud = new Cloud()
    const link = new Link({
      bootId: bootIdFromBytes(random.bytes(8)), software: 'test', probeMs: 10_000, deadMs: 25_000, retryDelayMs: 100, retryDelayMaxMs: 1000
    }, {
      outbox, peer: await PeerMemory.open(store, committer), dialer: cloud, clock, random, log: silentLog,
      clockSynchronised: () => true, failpoint: inertFailpoint
    })
    link.pause()
    link.start()
    await clock.pass(5000)
    await settle()
    expect(cloud.hellos).toHaveLength(0)
    if (stopped) link.stop()
    link.resume()
    await settle()
    expect(cloud.hellos).toHaveLength(stopped ? 0 : 1)
    link.stop()
    outbox.close()
  }
})
