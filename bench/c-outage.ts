import { until } from '../test/harness/daemons.ts'
import type { Verdict } from '../test/harness/checker.ts'
import { ReaderProcess } from '../test/harness/measuring-process.ts'
import { MeasuredSystem } from '../test/harness/system.ts'
import { pause, repeat, round3, type BenchRow } from './bench-row.ts'

type Key = 'catchUp' | 'firstRecordMs' | 'reconnectMs' | 'liveAckP99' | 'liveAlarmP99' | 'liveTelemetryP99'
  | 'queueRate' | 'catchUpFar' | 'farCost' | 'farMs'

const backlog = 1_000_000

interface Outage {
  /** Records per second, from the link's connection to the acknowledgement of the whole backlog. */
  readonly catchUp: number
  /** From the link's connection. */
  readonly firstRecordMs: number
  /** From the healed network to the link's connection: the rest of a back-off. */
  readonly reconnectMs: number
  readonly liveAckP99: number
  readonly liveAlarmP99: number
  readonly liveTelemetryP99: number
  readonly queueRate: number
  readonly verdict: Verdict
}

async function outage(delayMs: number): Promise<Outage> {
  await using system = await MeasuredSystem.start({ proxy: true })
  const proxy = system.proxy!
  if (delayMs > 0) proxy.shape = { delayMs }
  const reader = system.reader({ groups: { telemetry: [1000, 1099] } })
  await using alarmReader = ReaderProcess.start({ url: system.cloud.endpoints.ops!, lane: 'alarms' })
  proxy.cut()
  const filling = await system.load({ count: backlog })
  const filled = await filling.result
  const topics = ['devices/fleet/%d/telemetry', 'devices/fleet/%d/alarms']
  const liveTelemetry = await system.load({ connections: 25, rate: 500, firstDevice: 1000, topics: [topics[0]!] })
  const liveAlarms = await system.load({ connections: 25, rate: 500, firstDevice: 2000, topics: [topics[1]!] })
  await pause(500)
  const { connections } = proxy
  const healedMs = performance.now()
  proxy.heal()
  await until('the edge connects', () => proxy.connections > connections, 60_000)
  const { connectedMs } = proxy
  for (const each of [reader, alarmReader]) each.phase('catch-up')
  for (const load of [liveTelemetry, liveAlarms]) load.phase('catch-up')
  const { nextOffset } = await system.outbox()
  await until('the backlog is acknowledged', async () => (await system.outbox()).ackedOffset >= nextOffset, 120_000)
  const drainedMs = performance.now()
  for (const each of [reader, alarmReader]) each.phase('after')
  for (const load of [liveTelemetry, liveAlarms]) load.phase('after')
  const live = await Promise.all([liveTelemetry.stop(), liveAlarms.stop()])
  await system.drained()
  await reader.reached(filled.acknowledged + live[0].acknowledged + live[1].acknowledged)
  const during = (await reader.stop()).phases['catch-up']!
  const alarms = (await alarmReader.stop()).phases['catch-up']!
  return {
    catchUp: Math.round(nextOffset / (drainedMs - connectedMs) * 1000),
    firstRecordMs: round3((during.firstUs - during.startUs) / 1000),
    reconnectMs: Math.round(connectedMs - healedMs),
    liveAckP99: Math.max(...live.map(result => result.phases['catch-up']!.ack.p99Ms)),
    liveAlarmP99: alarms.latency['all']!.p99Ms,
    liveTelemetryP99: during.latency['telemetry']!.p99Ms,
    queueRate: filled.ratePerSecond,
    verdict: await system.verdict()
  }
}

/** A million records and a restored link. */
export const outageRow: BenchRow<Key> = {
  id: 'c',
  question: 'A million records are queued and the link comes back: how fast is everything in the cloud, and do live '
    + 'records wait?',
  how: 'The link is cut at a proxy, a million records of 128 B are published, then 1 k/s of live traffic (500/s '
    + 'telemetry, 500/s alarms) goes on while the link is restored. Counted from the new connection to the edge\'s '
    + 'acknowledged offset; the rest of the back-off before it is shown apart. Live telemetry is in the lane of the '
    + 'backlog and stays behind it by law (order); alarms have a lane of their own, and a second reader that follows '
    + 'only that. Then the same with a round trip of 50 ms, which a new connection needs five of: TCP, TLS, WebSocket, '
    + 'Hello and the last acknowledgement.',
  columns: {
    catchUp: { title: 'catch-up', unit: '/s', atLeast: 250_000 },
    firstRecordMs: { title: 'first record at the reader after', unit: 'ms', atMost: 500 },
    reconnectMs: { title: 'rest of the back-off', unit: 'ms' },
    liveAckP99: { title: 'live PUBACK p99 meanwhile', unit: 'ms' },
    liveAlarmP99: { title: 'live alarms, end to end p99 meanwhile', unit: 'ms', atMost: 300 },
    liveTelemetryP99: { title: 'live telemetry behind the backlog, end to end p99', unit: 'ms' },
    queueRate: { title: 'taken in while the link was down', unit: '/s' },
    catchUpFar: { title: 'catch-up over 50 ms round trip', unit: '/s' },
    farCost: { title: 'what 50 ms cost', unit: '%', atMost: 10 },
    farMs: { title: 'what 50 ms cost, absolutely', unit: 'ms' }
  },
  measure: async context => await repeat(context, async () => {
    const near = await outage(0)
    const far = await outage(25)
    const { verdict, ...values } = near
    const flaws = [near.verdict, far.verdict].find(each => each.lost + each.twice + each.outOfOrder > 0)
    return {
      values: {
        ...values,
        catchUpFar: far.catchUp,
        farCost: round3((1 - far.catchUp / near.catchUp) * 100),
        farMs: Math.round(backlog / far.catchUp * 1000 - backlog / near.catchUp * 1000)
      },
      verdict: flaws ?? verdict
    }
  })
}
