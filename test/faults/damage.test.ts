import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { drained } from '../harness/daemons.ts'
import { Ledger, flawlessButForGaps } from '../harness/ledger.ts'
import { report } from './fault-report.ts'
import { FaultSystem, metricOf, randomOf, rounds, seed } from './fault-system.ts'
import { damage, damageKinds } from './files.ts'

const quarantined = async (dataDir: string): Promise<number> => (await readdir(join(dataDir, 'quarantine')).catch(() => [])).length

const restarted = (aborts: number): string => aborts === 0 ? '' : `; LevelDB aborted ${aborts} times, and the next start found the damage`

/** A round of damage takes seconds; `npm run faults` takes them all. */
const damageRoundsMax = process.env['RECORD_FAULTS'] === undefined ? 8 : Infinity

describe('a damaged database', () => {
  it('of the node: it starts, salvages, drains, and shows what is gone as gap records', async context => {
    const random = randomOf(300)
    const count = rounds(2, damageRoundsMax)
    const first = Math.floor(random.next() * damageKinds.length)
    let covered = 0
    let unseen = 0
    let quarantines = 0
    let aborts = 0
    for (let round = 0; round < count; round++) {
      await using system = await FaultSystem.start()
      system.run()
      await system.progress(30)
      await system.settleFlawless(`round ${round}, before`)
      await system.cloud.kill()
      // A restart writes a table; what follows stays in the log.
      system.run()
      await system.progress(1 + Math.floor(random.next() * 300))
      await system.edge.kill()
      await system.edge.start()
      await system.progress(1 + Math.floor(random.next() * 100))
      await Promise.all(system.publishers.map(publisher => publisher.pause()))
      const killed = random.chance(0.5)
      if (killed) await system.edge.kill()
      else expect(await system.edge.stop()).toBe(0)
      const folder = join(system.edge.dataDir, 'db')
      const kind = damageKinds[(first + round) % damageKinds.length]!
      const what = await damage(folder, kind, random)
      await system.edge.start()
      await system.cloud.start()
      system.run()
      await system.progress(20)
      const verdict = await system.settle()
      const ledger = system.ledger
      // Behind a crash, an end that was taken away looks like one that was never acknowledged.
      const unknowable = killed && what !== undefined && /(truncate|empty|zero)-\w+ \d+\.log/.test(what)
      system.expectVerdict(verdict, unknowable ? { wrong: 0, twice: 0, inversions: 0, holes: 0 } : flawlessButForGaps,
        `round ${round}, ${killed ? 'killed' : 'stopped'}: ${what}`)
      if (unknowable) unseen += verdict.lostTail + verdict.lostMiddle + verdict.lostPrefix
      const reasons = [...new Set(ledger.gaps.map(gap => gap.reason))]
      // `cloud-lost` where the node has lost the note of what it had trimmed, and so cannot say that it is its own loss.
      expect(reasons.filter(reason => reason !== 'corrupt' && reason !== 'cloud-lost'), `${what}, seed ${seed}`).toEqual([])
      covered += verdict.covered
      quarantines += await quarantined(system.edge.dataDir)
      aborts += system.edge.aborts
      if (verdict.covered > 0) expect(system.edge.log, `${what}, seed ${seed}`).toMatch(/lost to corruption|set aside|damaged/)
    }
    report(context, {
      rows: [4, 5], fault: 'damaged database on the node',
      injection: 'bit flips, truncations, zeroed blocks, empty and missing files of log, table, MANIFEST and CURRENT, between two runs',
      rounds: count,
      outcome: `started and drained every time; ${covered} records gone, all covered by gap records` +
        `${unseen === 0 ? '' : `, but for ${unseen} at the end of a log that was cut after kill -9`}; ${quarantines} databases set aside; ` +
        `no wrong byte${restarted(aborts)}`
    })
  })

  it('of the cloud: it starts, salvages, gets back what nodes hold, and shows the rest as gap records', async context => {
    const random = randomOf(301)
    const count = rounds(2, damageRoundsMax)
    const first = Math.floor(random.next() * damageKinds.length)
    let covered = 0
    let quarantines = 0
    let aborts = 0
    for (let round = 0; round < count; round++) {
      const trims = random.chance(0.5)
      await using system = await FaultSystem.start({ edge: { set: trims ? ['lanes.telemetry.keepBytes=0B', 'lanes.alarms.keepBytes=0B'] : [] } })
      system.run()
      await system.progress(1 + Math.floor(random.next() * 300))
      await system.settleFlawless(`round ${round}, before`)
      await system.cloud.kill()
      await system.cloud.start()
      system.run()
      await system.progress(1 + Math.floor(random.next() * 100))
      await system.settleFlawless(`round ${round}, after a restart`)
      if (random.chance(0.5)) await system.cloud.kill()
      else await system.cloud.stop()
      const folder = join(system.cloud.dataDir, 'log')
      const kind = damageKinds[(first + round) % damageKinds.length]!
      const what = await damage(folder, kind, random)
      await system.cloud.start()
      system.run()
      await system.progress(20)
      await Promise.all(system.publishers.map(publisher => publisher.pause()))
      await drained(system.edge)
      system.ledger = new Ledger('edge-1', system.publishers)
      const verdict = await system.compare()
      system.expectVerdict(verdict, flawlessButForGaps, `round ${round}: ${what}${trims ? ', trimmed' : ''}`)
      covered += verdict.covered
      quarantines += await quarantined(system.cloud.dataDir)
      aborts += system.cloud.aborts
      if (verdict.covered > 0) {
        expect(system.ledger.gaps.length, `${what}, seed ${seed}`).toBeGreaterThan(0)
        expect(await metricOf(system.cloud, 'holdfast_cloud_gaps_total') + await metricOf(system.cloud, 'holdfast_cloud_log_corrupt_entries_total'),
          `${what}, seed ${seed}`).toBeGreaterThan(0)
      }
    }
    report(context, {
      rows: [4, 5], fault: 'damaged cloud log',
      injection: 'as on the node; the node had trimmed in half of the rounds', rounds: count,
      outcome: `started and drained every time; ${covered} records gone, all covered by gap records; ${quarantines} logs set aside; no wrong byte${restarted(aborts)}`
    })
  })
})
