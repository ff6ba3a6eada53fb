import { describe, expect, it } from 'vitest'
import { failpoints } from '@holdfast/runtime'
import type { FailpointName } from '@holdfast/runtime'
import { report } from './fault-report.ts'
import { FaultSystem, randomOf, rounds } from './fault-system.ts'

const sides: Record<FailpointName, readonly ('edge' | 'cloud')[]> = {
  'commit:before-write': ['edge', 'cloud'],
  'commit:after-write': ['edge', 'cloud'],
  'puback:before': ['edge'],
  'puback:after': ['edge'],
  'send:before': ['edge'],
  'send:after': ['edge'],
  'trim:before': ['edge'],
  'trim:after': ['edge'],
  'epoch:before': ['edge'],
  'epoch:after': ['edge'],
  'reidentify:before': ['edge'],
  'reidentify:after': ['edge'],
  'state-apply:before': ['edge'],
  'state-apply:after': ['edge'],
  'append:before': ['cloud'],
  'ack:before': ['cloud'],
  'ack:after': ['cloud']
}

/** Passed while a process starts, only where a lane has diverged, or only by State (state-failpoints.test.ts). */
const notUnderLoad = /^(epoch|reidentify|state-apply):/
/** How many passings of each failpoint the random one is among: a trim comes once a second. */
const passings = (name: FailpointName): number => name.startsWith('trim') ? 2 : 60

/** Where nothing else is asked for, the one of each kind in which most can go wrong. */
const few: readonly string[] = ['commit:after-write cloud', 'puback:before edge', 'trim:before edge', 'ack:before cloud']
const isRun = (name: FailpointName, side: string): boolean => process.env['ROUNDS'] !== undefined || few.includes(`${name} ${side}`)

describe('kill at a named place', () => {
  for (const [number, name] of (Object.keys(failpoints) as FailpointName[]).filter(found => !notUnderLoad.test(found)).entries()) {
    for (const side of sides[name].filter(found => isRun(name, found))) {
      it(`${name} of ${side}core under load loses nothing acknowledged, doubles nothing and keeps the order`, async context => {
        const random = randomOf(100 + number)
        const count = rounds(1)
        await using system = await FaultSystem.start({
          // Acknowledged records are not kept on the node, so that every round trims.
          edge: { set: ['lanes.telemetry.keepBytes=0B', 'lanes.alarms.keepBytes=0B'] }
        })
        const victim = side === 'edge' ? system.edge : system.cloud
        for (let round = 0; round < count; round++) {
          await victim.stop()
          await victim.start({ HOLDFAST_FAILPOINT: `${name}:${1 + Math.floor(random.next() * passings(name))}` })
          system.run()
          // Nobody else ends it: that it ends by SIGKILL is the failpoint seen to fire.
          await victim.ended()
          expect(victim.signal).toBe('SIGKILL')
          await victim.start()
          await system.progress(20)
          await system.settleFlawless(`round ${round} at ${name}`)
        }
        report(context, {
          rows: side === 'cloud' && /^(commit|ack)/.test(name) ? [2, 15] : [2], fault: `${side}core dies at ${name}`,
          injection: `${failpoints[name]}; HOLDFAST_FAILPOINT`, rounds: count,
          outcome: 'fired every time; 0 lost, 0 twice, 0 out of order'
        })
      })
    }
  }

  for (const name of ['epoch:before', 'epoch:after'] as const) {
    it(`${name} while edgecore starts leaves a database that starts`, async context => {
      const count = rounds(1)
      await using system = await FaultSystem.start()
      for (let round = 0; round < count; round++) {
        system.run()
        await system.progress(20)
        await system.edge.kill()
        await expect(system.edge.start({ HOLDFAST_FAILPOINT: name })).rejects.toThrow('ended')
        expect(system.edge.signal).toBe('SIGKILL')
        await system.edge.start()
        await system.progress(20)
        await system.settleFlawless(`round ${round} at ${name}`)
      }
      report(context, {
        rows: [2], fault: `edgecore dies at ${name}`, injection: `${failpoints[name]}; HOLDFAST_FAILPOINT`, rounds: count,
        outcome: 'fired every time; 0 lost, 0 twice, 0 out of order'
      })
    })
  }
})
