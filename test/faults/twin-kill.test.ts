import { describe, expect, it } from 'vitest'
import { report } from './fault-report.ts'
import { randomOf, rounds } from './fault-system.ts'
import { isFull } from './state-system.ts'
import { TwinSystem } from './twin-system.ts'

const victims = [
  { who: 'edgecore', edge: true, cloud: false },
  { who: 'cloudcore', edge: false, cloud: true },
  { who: 'both', edge: true, cloud: true }
]

describe('kill -9 at random moments while twins change on both sides', () => {
  for (const [number, { who, edge, cloud }] of [...victims.entries()].filter(([, { who }]) => isFull || who === 'both')) {
    it(`of ${who}: every twin is equal again, with the last value that was acknowledged`, async context => {
      const random = randomOf(800 + number)
      const count = rounds(1, 10)
      let slowestMs = 0
      await using system = await TwinSystem.start({ test: 810 + number })
      for (let round = 0; round < count; round++) {
        system.run()
        await system.progress(random.integer(1, 200))
        await Promise.all([edge ? system.edge.kill() : undefined, cloud ? system.cloud.kill() : undefined])
        await Promise.all([edge ? system.edge.start() : undefined, cloud ? system.cloud.start() : undefined])
        await system.progress(random.integer(1, 100))
        slowestMs = Math.max(slowestMs, await system.converged(`round ${round}`))
      }
      expect(system.written.cloud).toBeGreaterThan(0)
      expect(system.written.node).toBeGreaterThan(0)
      report(context, {
        rows: [1], fault: `kill -9 of ${who} while twins change on both sides`,
        injection: 'SIGKILL at a random moment; devices report over MQTT, the cluster and the node set desired values',
        rounds: count,
        outcome: `every twin equal within ${Math.ceil(slowestMs / 1000)} s, no acknowledged report lost, every desired value one that was written`
      })
    })
  }
})
