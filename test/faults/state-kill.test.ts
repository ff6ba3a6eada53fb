import { describe, expect, it } from 'vitest'
import { report } from './fault-report.ts'
import { randomOf, rounds } from './fault-system.ts'
import { StateSystem, isFull } from './state-system.ts'

const victims = [
  { who: 'edgecore', edge: true, cloud: false },
  { who: 'cloudcore', edge: false, cloud: true },
  { who: 'both', edge: true, cloud: true }
]

describe('kill -9 at random moments while objects change', () => {
  for (const [number, { who, edge, cloud }] of [...victims.entries()].filter(([, { who }]) => isFull || who === 'both')) {
    it(`of ${who}: both sides are equal again, and nothing went that was wanted`, async context => {
      const random = randomOf(600 + number)
      const count = rounds(1)
      let slowestMs = 0
      await using system = await StateSystem.start({ test: 610 + number })
      for (let round = 0; round < count; round++) {
        system.churn.run()
        await system.churn.progress(random.integer(1, 150))
        await Promise.all([edge ? system.edge.kill() : undefined, cloud ? system.cloud.kill() : undefined])
        if (edge && !cloud) await system.churn.progress(random.integer(1, 100))
        await Promise.all([edge ? system.edge.start() : undefined, cloud ? system.cloud.start() : undefined])
        await system.churn.progress(random.integer(1, 50))
        slowestMs = Math.max(slowestMs, await system.converged(`round ${round}`))
      }
      expect(system.watch.changes).toBeGreaterThan(count)
      report(context, {
        rows: [1], fault: `kill -9 of ${who} while objects change`,
        injection: 'SIGKILL at a random moment; objects are created, changed, deleted and created again under their names',
        rounds: count,
        outcome: `both sides equal within ${Math.ceil(slowestMs / 1000)} s; nothing went that was wanted, no acknowledged write lost`
      })
    })
  }
})
