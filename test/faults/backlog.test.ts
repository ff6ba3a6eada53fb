import { describe, expect, it } from 'vitest'
import { outboxOf } from '../harness/daemons.ts'
import { usageOf } from '../harness/process-usage.ts'
import { report } from './fault-report.ts'
import { FaultSystem } from './fault-system.ts'

const records = process.env['ROUNDS'] === undefined ? 100_000 : 1_000_000

describe('a long backlog', () => {
  it('starts with less than three seconds of work, in bounded memory, and drains in order', async context => {
    await using system = await FaultSystem.start({ publishers: ['north', 'south', 'east', 'west'].map(name =>
      ({ name, qos: 1, window: 2000, payloadBytesMax: 100 })) })
    await system.cloud.stop()
    await Promise.all(system.publishers.map(publisher => publisher.publish(records / 4, 300_000)))
    await system.edge.kill()
    const startedMs = performance.now()
    await system.edge.start()
    const startMs = performance.now() - startedMs
    expect((await outboxOf(system.edge)).reduce((sum, lane) => sum + lane.records, 0)).toBeGreaterThanOrEqual(records)
    const { cpuSeconds, rssAnonBytes } = usageOf(system.edge.pid!)
    const megabytes = rssAnonBytes / 1024 ** 2
    // Processor time, not the clock's: whatever else runs on the machine is not the start's.
    expect(cpuSeconds).toBeLessThan(3)
    expect(megabytes).toBeLessThan(150)
    const drainedMs = performance.now()
    await system.cloud.start()
    await system.settleFlawless('after the restart', 120_000)
    report(context, {
      rows: [24], fault: `${records.toLocaleString('en')} records queued, then a restart`, injection: 'publishers with the cloud stopped, SIGKILL',
      rounds: 1, outcome: `ready ${(startMs / 1000).toFixed(1)} s after the start, with ${cpuSeconds.toFixed(1)} s of processor time and ${Math.round(megabytes)} MB of own memory; all in the cloud and compared ` +
        `${Math.ceil((performance.now() - drainedMs) / 1000)} s after the cloud's start; 0 lost, 0 twice, 0 out of order`
    })
  })
})
