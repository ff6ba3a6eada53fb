import { expect, test } from 'vitest'
import { RecordTopic, readBatchHeader, readGap, readRecords } from '@holdfast/protos'
import type { BootId } from '@holdfast/protos'
import { SeededRandom, SystemClock, silentLog } from '@holdfast/runtime'
import { Database } from './database.ts'
import { Outbox } from './outbox.ts'
import type { LaneOptions } from './outbox-lane.ts'
import { salvageOutbox } from './outbox-load.ts'
import { SimulatedDisk } from './simulated-disk.ts'

const topic = new RecordTopic('devices/plant/pump/telemetry', 'plant/pump')
const lane: LaneOptions = {
  priority: 'normal', bytesMax: 2 ** 30, ageMaxMs: undefined, overflow: 'reject', commitIntervalMs: 0, keepBytes: 0, keepAgeMs: 0
}
const lanes = { alarms: { ...lane, priority: 'high' as const }, telemetry: lane }
/** Several steps of a salvage for each lane. */
const payloadBytes = 100_000
const recordsPerLane = 24

/** A node that loses power at the n-th write of a start, wherever that is. */
class Node {
  readonly random = new SeededRandom(5)
  crashAtWrite = Infinity
  #writes = 0
  #boots = 0
  readonly disk = new SimulatedDisk({ recentCommits: 1000 }, {
    random: this.random,
    schedule: task => {
      setImmediate(task)
      if (++this.#writes === this.crashAtWrite) this.disk.crash()
    }
  })

  async start(): Promise<{ readonly database: Database, readonly outbox: Outbox }> {
    this.#writes = 0
    const clock = new SystemClock()
    const { random } = this
    const database = await Database.open({ freeFloorBytes: 0 }, {
      opener: this.disk, clock, log: silentLog, salvage: salvageOutbox,
      space: { ballastBytes: 0, freeBytes: async () => 2 ** 40, keepBallast: async () => {}, giveUpBallast: async () => {} }
    })
    const bootId = String(++this.#boots).padStart(16, '0') as BootId
    try {
      const outbox = await Outbox.open({ lanes, bootId, suspect: database.suspect }, database.store, {
        committer: database.committer, clock, random, log: silentLog, clockSynchronised: () => true
      })
      await database.trust()
      return { database, outbox }
    } catch (error) {
      await database.close()
      throw error
    }
  }
}

test('a power cut at any write of a salvage loses nothing of what can be read, and what may be missing is told (L5)', async () => {
  const noise = new SeededRandom(6).bytes(payloadBytes - 1)
  for (let crashAtWrite = 1; crashAtWrite <= 10; crashAtWrite++) {
    const node = new Node()
    const before = await node.start()
    for (let i = 0; i < recordsPerLane; i++) {
      for (const name of Object.keys(lanes)) {
        const into = before.outbox.lane(name)!
        const commit = before.outbox.gather(into, payloadBytes)
        before.outbox.append(commit, into, topic, Buffer.concat([Buffer.of(i), noise]))
        await new Promise<void>(resolve => { commit.onDurable(() => { resolve() }) })
      }
    }
    before.outbox.close()
    await before.database.close()
    node.disk.becomeUnreadable(0)
    node.crashAtWrite = crashAtWrite
    const first = await node.start().then(({ database, outbox }) => ({ database, outbox }), () => undefined)
    first?.outbox.close()
    await first?.database.close()
    node.crashAtWrite = Infinity
    const { database, outbox } = await node.start()
    for (const name of Object.keys(lanes)) {
      const held = await outbox.scan(outbox.lane(name)!, 0, 2 ** 30)
      const records: number[] = []
      const gaps: string[] = []
      for (const { bytes } of held) {
        const header = readBatchHeader(bytes)
        if (header.kind === 'gap') gaps.push(readGap(bytes, header).reason)
        else records.push(...readRecords(bytes, header).map(({ payload }) => payload[0]!))
      }
      expect(records, `${name}, power cut at write ${crashAtWrite}`).toEqual(Array.from({ length: recordsPerLane }, (_, i) => i))
      expect(gaps.length, `${name}, power cut at write ${crashAtWrite}`).toBeGreaterThan(0)
    }
    outbox.close()
    await database.close()
  }
})
