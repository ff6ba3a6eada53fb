import { cp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { outboxOf, until } from '../harness/daemons.ts'
import { Ledger, flawless, flawlessButForGaps } from '../harness/ledger.ts'
import { report } from './fault-report.ts'
import { FaultSystem, metricOf, rounds } from './fault-system.ts'
import { copyOf } from './files.ts'

/** Nothing that is acknowledged stays on the node. */
const trimmed = ['lanes.telemetry.keepBytes=0B', 'lanes.alarms.keepBytes=0B']

async function waitForTrim(system: FaultSystem): Promise<void> {
  // The last batch of a lane always stays.
  await until('the node has trimmed', async () => (await outboxOf(system.edge))
    .every(lane => lane.nextOffset === 0 || lane.firstOffset > lane.nextOffset / 2))
}

describe('the cloud log', () => {
  it('wiped with its identity kept gets everything that the node still holds, and gap records for the rest', async context => {
    const count = rounds(1, 5)
    let covered = 0
    for (let round = 0; round < count; round++) {
      await using system = await FaultSystem.start({ edge: { set: trimmed } })
      system.run()
      await system.progress(100)
      await system.settleFlawless('before')
      await waitForTrim(system)
      await system.cloud.kill()
      system.run()
      await system.progress(100)
      await rm(join(system.cloud.dataDir, 'log'), { recursive: true })
      await system.cloud.start()
      await system.progress(20)
      system.ledger = new Ledger('edge-1', system.publishers)
      const verdict = await system.settle()
      system.expectVerdict(verdict, flawlessButForGaps, `round ${round}`)
      expect(verdict.covered).toBeGreaterThan(0)
      covered += verdict.covered
      expect(new Set(system.ledger.gaps.map(gap => gap.reason))).toEqual(new Set(['cloud-log-new']))
      expect(await metricOf(system.edge, 'holdfast_edge_link_log_changes_total')).toBe(1)
    }
    report(context, {
      rows: [37], fault: 'cloud log wiped, identity kept', injection: 'log/ removed while cloudcore was killed; node had trimmed',
      rounds: count, outcome: `everything still held was sent again; every trimmed record is covered by a gap \`cloud-log-new\``
    })
    expect(covered).toBeGreaterThan(0)
  })

  it('wiped while the node still holds everything is whole again', async context => {
    await using system = await FaultSystem.start()
    system.run()
    await system.progress(100)
    await system.settleFlawless('before')
    await system.cloud.stop()
    await rm(join(system.cloud.dataDir, 'log'), { recursive: true })
    await system.cloud.start()
    system.run()
    await system.progress(100)
    system.ledger = new Ledger('edge-1', system.publishers)
    await until('the new log has been met', async () => await metricOf(system.edge, 'holdfast_edge_link_log_changes_total') === 1)
    await system.settleFlawless('after')
    expect(system.ledger.gaps).toEqual([])
    report(context, {
      rows: [37], fault: 'cloud log wiped, all still in the node\'s cache', injection: 'log/ removed while cloudcore was stopped',
      rounds: 1, outcome: 'the log was filled again from the node, without a gap'
    })
  })

  for (const cached of [true, false]) {
    it(`restored from an older backup ${cached ? 'is filled again from the node\'s cache' : 'shows a gap for what the node had trimmed'}`, async context => {
      const count = rounds(1, 5)
      for (let round = 0; round < count; round++) {
        await using system = await FaultSystem.start({ edge: { set: cached ? [] : trimmed } })
        system.run()
        await system.progress(50)
        await system.settleFlawless('before the backup')
        await system.cloud.stop()
        const backup = await copyOf(system.cloud.dataDir)
        await system.cloud.start()
        system.run()
        await system.progress(200)
        await system.settleFlawless('after the backup')
        if (!cached) await waitForTrim(system)
        await system.cloud.kill()
        await rm(system.cloud.dataDir, { recursive: true })
        await cp(backup, system.cloud.dataDir, { recursive: true })
        await system.cloud.start()
        system.run()
        await system.progress(20)
        system.ledger = new Ledger('edge-1', system.publishers)
        await until('the link is up again', async () => await metricOf(system.edge, 'holdfast_edge_link_up') === 1)
        const verdict = await system.settle()
        system.expectVerdict(verdict, cached ? flawless : flawlessButForGaps, `round ${round}`)
        expect(verdict.covered > 0).toBe(!cached)
        expect([...new Set(system.ledger.gaps.map(gap => gap.reason))]).toEqual(cached ? [] : ['cloud-lost'])
      }
      report(context, {
        rows: [37], fault: `cloud restored from an older backup, ${cached ? 'node has all' : 'node had trimmed'}`,
        injection: 'data directory copied while stopped, put back later', rounds: count,
        outcome: cached ? 'filled again from the node; 0 lost, no gap' : 'what the node had trimmed is covered by a gap `cloud-lost`; 0 lost otherwise'
      })
    })
  }
})

describe('the node', () => {
  it('restored from an older backup goes on under the same name; what only the lost disk held is not taken for delivered', async context => {
    const count = rounds(1, 5)
    for (let round = 0; round < count; round++) {
      await using system = await FaultSystem.start()
      system.run()
      await system.progress(50)
      await system.settleFlawless('before the backup')
      // A backup taken while records wait: they reach the cloud from the first disk, and are offered again by the second.
      await system.cloud.stop()
      system.run()
      await system.progress(50)
      await Promise.all(system.publishers.map(publisher => publisher.pause()))
      await system.edge.stop()
      const backup = await copyOf(system.edge.dataDir)
      await system.edge.start()
      await system.cloud.start()
      system.run()
      await system.progress(100)
      await system.settleFlawless('after the backup')
      await system.edge.kill()
      await rm(system.edge.dataDir, { recursive: true })
      await cp(backup, system.edge.dataDir, { recursive: true })
      await system.edge.start()
      system.run()
      await system.progress(50)
      await system.settleFlawless(`round ${round}`)
    }
    report(context, {
      rows: [10], fault: 'node restored from an older backup', injection: 'data directory copied while stopped, put back later',
      rounds: count, outcome: '0 lost, 0 twice, 0 out of order: what the cloud had from the lost disk was recognised'
    })
  })
})
