import { describe, it } from 'vitest'
import { until } from '../harness/daemons.ts'
import { flawless } from '../harness/ledger.ts'
import { report } from './fault-report.ts'
import { FaultSystem, randomOf, rounds } from './fault-system.ts'

describe('QoS 2', () => {
  it('has one effect each through kill -9, with persistent and with clean sessions, packet ids used again', async context => {
    const random = randomOf(400)
    const count = rounds(2)
    await using system = await FaultSystem.start({ publishers: [
      { name: 'keeper', qos: 2, window: 50, payloadBytesMax: 100 },
      { name: 'reuser', qos: 2, window: 4, payloadBytesMax: 100, idsMax: 5 },
      { name: 'single', qos: 2, window: 1, payloadBytesMax: 100, idsMax: 1 },
      { name: 'cleaner', qos: 2, window: 20, payloadBytesMax: 100, cleanSession: true },
      { name: 'cleanone', qos: 2, window: 1, payloadBytesMax: 100, cleanSession: true, idsMax: 1 }
    ] })
    const stop = new AbortController()
    /** For the next start only. */
    let environment: Record<string, string> = {}
    const supervisor = (async () => {
      while (!stop.signal.aborted) {
        const next = environment
        environment = {}
        if (!system.edge.running) await system.edge.start(next).catch(() => undefined)
        await until('the end of the daemon or of the test', () => stop.signal.aborted || !system.edge.running, 600_000)
      }
    })()
    try {
      for (let round = 0; round < count; round++) {
        system.run()
        await system.progress(1 + Math.floor(random.next() * 60))
        if (random.chance(0.5)) {
          const when = random.chance(0.5) ? 'before' : 'after'
          environment = { HOLDFAST_FAILPOINT: `puback:${when}:${20 + Math.floor(random.next() * 200)}` }
        }
        await system.edge.kill()
        await system.progress(30)
        const verdict = await system.settle()
        system.expectVerdict(verdict, { ...flawless, repeated: 0 }, `round ${round}`)
      }
    } finally {
      stop.abort()
      await supervisor
    }
    report(context, {
      rows: [36], fault: 'QoS 2 through kill -9', injection: 'SIGKILL at random and around PUBREC; persistent and clean sessions; 1, 5 and all packet ids',
      rounds: count, outcome: 'exactly one effect of every acknowledged publish, none of more than one, no repeat'
    })
  })
})
