import { MeasuredSystem } from '../test/harness/system.ts'
import { pause, repeat, round3, type BenchRow } from './bench-row.ts'

type Key = 'steady' | 'steadyUp' | 'flatOut' | 'catchUp' | 'idle'

const idleSeconds = 21

/** Bytes on the link. */
export const wireBytes: BenchRow<Key> = {
  id: 'e',
  question: 'How many bytes does a record of 128 B cost on the link, and how many does an idle link?',
  how: 'Bytes of TCP payload in both directions, counted at a proxy between edge and cloud: TLS, WebSocket and '
    + 'acknowledgements included, TCP and IP headers not. 1 k/s for 5 s, flat out for 4 s, catch-up of 300,000 '
    + 'queued records, 21 s without a record.',
  columns: {
    steady: { title: '1 k/s, per record', unit: 'B', atMost: 220 },
    steadyUp: { title: '1 k/s, of that from the edge', unit: 'B' },
    flatOut: { title: 'flat out, per record', unit: 'B', atMost: 50 },
    catchUp: { title: 'catch-up, per record', unit: 'B', atMost: 50 },
    idle: { title: 'idle link', unit: 'B/s', atMost: 30 }
  },
  measure: async context => await repeat(context, async () => {
    await using system = await MeasuredSystem.start({ proxy: true })
    const proxy = system.proxy!
    const total = (): number => proxy.bytes.up + proxy.bytes.down
    const steadyStart = { all: total(), up: proxy.bytes.up }
    const steady = await (await system.load({ rate: 1000, seconds: 5 })).result
    await system.drained()
    const steadyBytes = { all: total() - steadyStart.all, up: proxy.bytes.up - steadyStart.up }
    const flatStart = total()
    const flat = await (await system.load({ seconds: 4, firstDevice: 100 })).result
    await system.drained()
    const flatBytes = total() - flatStart
    proxy.cut()
    const queued = await (await system.load({ count: 300_000, firstDevice: 200 })).result
    const queueStart = total()
    proxy.heal()
    await system.drained()
    const queuedBytes = total() - queueStart
    await pause(500)
    const idleStart = total()
    await pause(idleSeconds * 1000)
    return {
      values: {
        steady: round3(steadyBytes.all / steady.acknowledged),
        steadyUp: round3(steadyBytes.up / steady.acknowledged),
        flatOut: round3(flatBytes / flat.acknowledged),
        catchUp: round3(queuedBytes / queued.acknowledged),
        idle: round3((total() - idleStart) / idleSeconds)
      }
    }
  })
}
