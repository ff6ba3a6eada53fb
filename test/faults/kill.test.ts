import { describe, expect, it } from 'vitest'
import { report } from './fault-report.ts'
import { FaultSystem, randomOf, rounds } from './fault-system.ts'

/** Recovery without help (O6): from the last kill until all that was acknowledged is in the cloud and compared. */
const recoveryMs = 15_000

const victims = [
  { who: 'edgecore', edge: true, cloud: false },
  { who: 'cloudcore', edge: false, cloud: true },
  { who: 'both', edge: true, cloud: true }
]

describe('kill -9 at random moments under load', () => {
  for (const [number, { who, edge, cloud }] of victims.entries()) {
    it(`of ${who} loses nothing acknowledged, doubles nothing and keeps the order`, async context => {
      const random = randomOf(number)
      const count = rounds(2)
      let slowestMs = 0
      await using system = await FaultSystem.start()
      for (let round = 0; round < count; round++) {
        system.run()
        await system.progress(1 + Math.floor(random.next() * 200))
        const killedMs = performance.now()
        await Promise.all([edge ? system.edge.kill() : undefined, cloud ? system.cloud.kill() : undefined])
        if (cloud && !edge) await system.progress(1 + Math.floor(random.next() * 200))
        await Promise.all([edge ? system.edge.start() : undefined, cloud ? system.cloud.start() : undefined])
        await system.progress(20)
        await system.settleFlawless(`round ${round}`, recoveryMs)
        slowestMs = Math.max(slowestMs, performance.now() - killedMs)
      }
      const verdict = system.ledger.verdict()
      expect(verdict.acknowledged).toBeGreaterThan(count * 20 * system.publishers.length)
      report(context, {
        rows: [1], fault: `kill -9 of ${who} under load`, injection: 'SIGKILL at a random moment; QoS 1, QoS 2 and alarms go on',
        rounds: count, outcome: `0 lost, 0 twice, 0 out of order; back and drained within ${Math.ceil(slowestMs / 1000)} s`
      })
    })
  }
})
