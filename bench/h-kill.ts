import { until } from '../test/harness/daemons.ts'
import { MeasuredSystem } from '../test/harness/system.ts'
import { firstPuback } from './first-puback.ts'
import { pause, repeat, type BenchRow } from './bench-row.ts'

type Key = 'kills' | 'acknowledged' | 'lost' | 'twice' | 'outOfOrder' | 'repeatedBySender' | 'startMedian'
  | 'startWorst' | 'startMillion'

/** Per round; three rounds make 30. */
const killsPerRound = 16
const probeTopic = 'devices/bench/probe/telemetry'

/** kill -9. */
export const kill: BenchRow<Key> = {
  id: 'h',
  question: 'What does kill -9 of edgecore under load cost: records, and time until the first new one is safe?',
  how: `${killsPerRound} kills a round at random moments, 0.3 to 1.2 s after the last start, while 40 publishers `
    + 'send at QoS 1 and 10 at QoS 2 as fast as they are acknowledged, and send again what was not. Time is from the '
    + 'start of the process to the PUBACK of a fresh connection; once more with a million records queued.',
  columns: {
    kills: { title: 'kills', unit: '' },
    acknowledged: { title: 'acknowledged records', unit: '' },
    lost: { title: 'lost', unit: '', atMost: 0 },
    twice: { title: 'twice', unit: '', atMost: 0 },
    outOfOrder: { title: 'out of order', unit: '', atMost: 0 },
    repeatedBySender: { title: 'repeated by the sender (QoS 1)', unit: '' },
    startMedian: { title: 'start to first PUBACK, median', unit: 'ms', atMost: 1000 },
    startWorst: { title: 'start to first PUBACK, worst', unit: 'ms' },
    startMillion: { title: 'start to first PUBACK with a million queued', unit: 'ms', atMost: 3000 }
  },
  measure: async context => await repeat(context, async () => {
    await using system = await MeasuredSystem.start({ proxy: true })
    const reader = system.reader()
    const starts: number[] = []
    /** Kills, starts, and waits for the first PUBACK. */
    const restart = async (): Promise<number> => {
      await system.edge.kill()
      const startMs = performance.now()
      const ready = system.edge.start()
      const ackMs = await firstPuback(system.mqttPort, probeTopic)
      await ready
      return Math.round(ackMs - startMs)
    }
    const loads = [
      await system.load({ connections: 40, resend: true }),
      await system.load({ connections: 10, qos: 2, firstDevice: 100, resend: true, clientPrefix: 'exact' })
    ]
    while (starts.length < killsPerRound) {
      await pause(300 + Math.random() * 900)
      starts.push(await restart())
    }
    await pause(500)
    const results = await Promise.all(loads.map(load => load.stop()))
    system.proxy!.cut()
    const queued = await (await system.load({ count: 1_000_000, firstDevice: 200 })).result
    const startMillion = await restart()
    system.proxy!.heal()
    await until('the outbox is drained', async () => (await system.outbox()).records === 0, 120_000)
    await reader.reached(queued.acknowledged + results.reduce((sum, result) => sum + result.acknowledged, 0), 3000)
    await reader.stop()
    const verdict = await system.verdict()
    starts.sort((a, b) => a - b)
    return {
      values: {
        kills: killsPerRound + 1,
        acknowledged: verdict.acknowledged,
        lost: verdict.lost,
        twice: verdict.twice,
        outOfOrder: verdict.outOfOrder,
        repeatedBySender: verdict.repeatedBySender,
        startMedian: starts[starts.length >> 1]!,
        startWorst: starts.at(-1)!,
        startMillion
      },
      verdict
    }
  })
}
