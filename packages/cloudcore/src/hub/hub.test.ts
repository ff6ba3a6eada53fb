import { crc32 } from 'node:zlib'
import { beforeEach, describe, expect, test } from 'vitest'
import { decodeFrame, encodeFrame, encodeGap } from '@holdfast/protos'
import type { BootId, Epoch, Frame, HelloLane } from '@holdfast/protos'
import { inertFailpoint, SeededRandom, silentLog } from '@holdfast/runtime'
import type { NodeName } from '@holdfast/runtime'
import { HandClock, turns } from '@holdfast/runtime/testing'
import { MemoryStore } from '@holdfast/store'
import type { Store } from '@holdfast/store'
import { fenceHoldMs } from '@holdfast/sync'
import type { ConnectionEvents } from '@holdfast/sync'
import { LevelLog } from '../log/level-log.ts'
import { Hub } from './hub.ts'

const node = 'edge-1' as NodeName
const old = 'e'.repeat(16) as Epoch
const current = 'f'.repeat(16) as Epoch
const bootOf = (digit: string): BootId => digit.repeat(16) as BootId
const lanes: HelloLane[] = [{
  id: 1,
  name: 'telemetry',
  epochs: [
    { epoch: old, predecessor: undefined, start: 0, first: 100, next: 150, reason: 'started' },
    { epoch: current, predecessor: old, start: 150, first: 150, next: 150, reason: 'started' }
  ]
}]

const settle = (): Promise<void> => turns(40)

let clock: HandClock
let cloudLog: LevelLog
let hub: Hub
let gate: { held: (() => void)[] | undefined }

beforeEach(async () => {
  clock = new HandClock()
  const memory = new MemoryStore()
  gate = { held: undefined }
  const store: Store = {
    write: (ops, options, onDone) => {
      const go = (): void => { memory.write(ops, options, onDone) }
      if (gate.held === undefined) go()
      else gate.held.push(go)
    },
    get: key => memory.get(key),
    scan: options => memory.scan(options),
    compact: () => memory.compact(),
    close: () => memory.close()
  }
  cloudLog = await LevelLog.open({ retentionBytesMax: 2 ** 40, retentionAgeMaxMs: 2 ** 40 }, {
    opener: {
      open: () => Promise.resolve(store),
      suspect: () => Promise.resolve(false),
      trust: () => Promise.resolve(),
      rebuild: () => Promise.reject(new Error('not here'))
    },
    clock, random: new SeededRandom(1), log: silentLog
  })
  hub = new Hub({
    helloMs: 10_000, deadMs: 25_000, software: 'test', clusterUid: 'c', windowBytes: 4 * 1024 * 1024, nodesMax: 4
  }, { cloudLog, clock, log: silentLog, failpoint: inertFailpoint })
})

interface Peer {
  readonly events: ConnectionEvents
  readonly frames: Frame[]
  bytesReceived: number
  kinds(): string[]
}

function connect(boot: string, connectCounter: number, of: readonly HelloLane[] = lanes): Peer {
  const frames: Frame[] = []
  const peer: Peer = {
    frames,
    bytesReceived: 1,
    kinds: () => frames.map(frame => frame.kind === 'refuse' ? frame.code : frame.kind),
    events: hub.accept(node, {
      get bytesReceived() { return peer.bytesReceived },
      send: message => { frames.push(decodeFrame(message)) },
      close: () => {}
    })
  }
  peer.events.onMessage(encodeFrame({
    kind: 'hello', protocolMin: 1, protocolMax: 1, bootId: bootOf(boot), connectCounter, clusterUid: '', logId: '',
    wallMs: 1, uptimeMs: 1, clockSynchronised: true, software: 'test', lanes: of, stateDigests: []
  }))
  return peer
}

describe('two connections of one node', () => {
  test('what the first has in the log\'s hands is waited for, a gap too: it is not written twice', async () => {
    gate.held = []
    const first = connect('a', 1)
    await settle()
    expect(gate.held).toHaveLength(1)
    first.events.onClose('cut')
    const second = connect('a', 2)
    await settle()
    for (const go of gate.held) go()
    gate.held = undefined
    await settle()
    expect(second.frames[0]).toMatchObject({ kind: 'welcome' })
    expect(second.frames[0]).toMatchObject({ watermarks: [{ epoch: old, next: 100 }, { epoch: current, next: 150 }] })
    expect(hub.stats.gaps).toBe(1)
  })

  test('a fenced boot stays out for as long as its successor lives, however long that is', async () => {
    const machine = connect('a', 1)
    await settle()
    expect(machine.kinds()).toEqual(['welcome'])
    const copy = connect('b', 1)
    await settle()
    expect(copy.kinds()).toEqual(['welcome'])
    for (let passedMs = 0; passedMs < 2 * fenceHoldMs; passedMs += 10_000) {
      await clock.pass(10_000)
      await settle()
      copy.bytesReceived++
    }
    const again = connect('a', 2)
    await settle()
    expect(again.kinds()).toEqual(['DUPLICATE_IDENTITY'])
    expect(copy.kinds()).toEqual(['welcome'])
  })
})

test('a gap that says nothing ends its session, and nobody else\'s', async () => {
  const peer = connect('a', 1)
  const other: Frame[] = []
  hub.accept('edge-2' as NodeName, { bytesReceived: 1, send: message => { other.push(decodeFrame(message)) }, close: () => {} })
    .onMessage(encodeFrame({
      kind: 'hello', protocolMin: 1, protocolMax: 1, bootId: bootOf('c'), connectCounter: 1, clusterUid: '', logId: '',
      wallMs: 1, uptimeMs: 1, clockSynchronised: true, software: 'test', lanes: [], stateDigests: []
    }))
  await settle()
  const stamp = {
    lane: 1, epoch: old, bootId: bootOf('a'), wallMs: 1, uptimeMs: 1, clockSynchronised: true
  }
  const gap = encodeGap(40, { reason: 'corrupt', records: 40 }, { ...stamp, base: 100 })
  const body = Buffer.from([0x0a, 100, 1])
  const forged = Buffer.concat([gap.subarray(0, 72), body])
  forged.writeUInt32BE(body.length, 56)
  forged.writeUInt32BE(body.length, 60)
  forged.writeUInt32BE(crc32(body), 64)
  forged.writeUInt32BE(crc32(forged.subarray(0, 68)), 68)
  peer.events.onMessage(encodeFrame({ kind: 'log-batches', rawLength: 0, batches: forged }))
  await settle()
  expect(peer.kinds()).toEqual(['welcome', 'BATCH_CORRUPT'])
  expect(other.map(({ kind }) => kind)).toEqual(['welcome'])
})
