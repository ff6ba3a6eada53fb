import { describe, expect, it } from 'vitest'
import { failpoints } from '@holdfast/runtime'
import { report } from './fault-report.ts'
import { randomOf, rounds } from './fault-system.ts'
import { StateSystem, isFull } from './state-system.ts'

const places = [
  { name: 'state-apply:after', side: 'edge', few: true },
  { name: 'commit:after-write', side: 'cloud', few: true },
  { name: 'state-apply:before', side: 'edge', few: false },
  { name: 'commit:before-write', side: 'edge', few: false },
  { name: 'commit:after-write', side: 'edge', few: false },
  { name: 'commit:before-write', side: 'cloud', few: false }
] as const

describe('kill at a named place while objects change', () => {
  for (const [number, { name, side }] of places.filter(({ few }) => few || isFull).entries()) {
    it(`${name} of ${side}core: both sides are equal again, and nothing went that was wanted`, async context => {
      const random = randomOf(650 + number)
      const count = rounds(1)
      await using system = await StateSystem.start({ test: 660 + number })
      const victim = side === 'edge' ? system.edge : system.cloud
      for (let round = 0; round < count; round++) {
        await victim.stop()
        await victim.start({ HOLDFAST_FAILPOINT: `${name}:${random.integer(1, 60)}` })
        system.churn.run()
        // Nobody else ends it: that it ends by SIGKILL is the failpoint seen to fire.
        await victim.ended(60_000)
        expect(victim.signal).toBe('SIGKILL')
        await victim.start()
        await system.churn.progress(random.integer(1, 40))
        await system.converged(`round ${round} at ${name}`)
      }
      report(context, {
        rows: side === 'cloud' ? [2, 15] : [2], fault: `${side}core dies at ${name} while objects change`,
        injection: `${failpoints[name]}; HOLDFAST_FAILPOINT${side === 'cloud' ? '; the database is that of the embedded API\'s objects' : ''}`,
        rounds: count,
        outcome: 'fired every time; both sides equal, nothing went that was wanted, no acknowledged write lost'
      })
    })
  }
})
