import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { LoadProcess } from '../test/harness/measuring-process.ts'
import { repeat, type BenchRow } from './bench-row.ts'

type Key = 'qos1' | 'qos2' | 'ackP50'

/** The generator against a broker that only acknowledges. */
export const generatorCeiling: BenchRow<Key> = {
  id: 'generator',
  question: 'How fast is the load generator itself, so that what the other rows show is not its limit?',
  how: '50 connections, 128 B, 20 unacknowledged each, for 3 s against a process that does nothing but acknowledge.',
  columns: {
    qos1: { title: 'QoS 1', unit: '/s', atLeast: 300_000 },
    qos2: { title: 'QoS 2', unit: '/s' },
    ackP50: { title: 'PUBACK p50', unit: 'ms' }
  },
  measure: async context => await repeat(context, async () => {
    const sink = spawn(process.execPath, [fileURLToPath(new URL('acking-sink.ts', import.meta.url))], {
      stdio: ['pipe', 'pipe', 'inherit']
    })
    try {
      const [printed] = await once(sink.stdout, 'data') as [Buffer]
      const port = Number(printed.toString())
      await using once1 = await LoadProcess.start({ port, seconds: 3 })
      const qos1 = await once1.result
      await using once2 = await LoadProcess.start({ port, seconds: 3, qos: 2 })
      return { values: { qos1: qos1.ratePerSecond, qos2: (await once2.result).ratePerSecond, ackP50: qos1.ack.p50Ms } }
    } finally {
      sink.kill()
    }
  })
}
