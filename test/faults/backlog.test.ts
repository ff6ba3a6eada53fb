import { readFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { outboxOf } from '../harness/daemons.ts'
import { report } from './fault-report.ts'
import { FaultSystem } from './fault-system.ts'

const records = process.env['ROUNDS'] === undefined ? 100_000 : 1_000_000

/** Memory of its own, without mapped tables, in MB. */
async function ownMegabytes(pid: number): Promise<number> {
  return Number(/RssAnon:\s+(\d+) kB/.exec(await readFile(`/proc/${pid}/status`, 'utf8'))![1]) / 1024
}

describe('a long backlog', () => {
  it('starts within three seconds, in bounded memory, and drains in order', async context => {
    await using system = await FaultSystem.start({ publishers: ['north', 'south', 'east', 'west'].map(name =>
      ({ name, qos: 1, window: 2000, payloadBytesMax: 100 })) })
    await system.cloud.stop()
    await Promise.all(system.publishers.map(publisher => publisher.publish(records / 4, 300_000)))
    await system.edge.kill()
    const startedMs = performance.now()
    await system.edge.start()
    const startMs = performance.now() - startedMs
    expect((await outboxOf(system.edge)).reduce((sum, lane) => sum + lane.records, 0)).toBeGreaterThanOrEqual(records)
    const megabytes = await ownMegabytes(system.edge.pid!)
    // Two cores shared with whatever else runs: the bound is for the start, not for the machine's worst moment.
    expect(startMs).toBeLessThan(3000)
    expect(megabytes).toBeLessThan(150)
    const drainedMs = performance.now()
    await system.cloud.start()
    await system.settleFlawless('after the restart', 120_000)
    report(context, {
      rows: [24], fault: `${records.toLocaleString('en')} records queued, then a restart`, injection: 'publishers with the cloud stopped, SIGKILL',
      rounds: 1, outcome: `ready ${(startMs / 1000).toFixed(1)} s after the start, ${Math.round(megabytes)} MB of own memory; all in the cloud and compared ` +
        `${Math.ceil((performance.now() - drainedMs) / 1000)} s after the cloud's start; 0 lost, 0 twice, 0 out of order`
    })
  })
})
