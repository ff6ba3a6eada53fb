import { bareFsyncs } from './bare-fsyncs.ts'
import { MeasuredSystem } from '../test/harness/system.ts'
import { sustained } from './a-throughput.ts'
import { repeat, type BenchRow } from './bench-row.ts'

type Key = 'loneAckP50' | 'loneEndP50' | 'ack1kP50' | 'ack1kP99' | 'end1kP50' | 'end1kP99'
  | 'ack5kP50' | 'ack5kP99' | 'end5kP50' | 'end5kP99' | 'diskP50' | 'diskP99' | 'diskMax'

/** PUBACK and end to end, open loop. */
export const latency: BenchRow<Key> = {
  id: 'b',
  question: 'How long until a device is told that its record is safe, and until a reader of the cloud has it?',
  how: 'Open loop: 50 publishers send by an absolute schedule, and latency counts from the scheduled time. 2 s '
    + 'warm-up, 10 s at each rate; the lone record is one every 100 ms for 3 s, of a process just started. The load '
    + 'generator looks at its sockets every 0.2 ms. Before each round, with nothing running, 600 bytes are appended to a '
    + 'file and fsynced every millisecond for 10 s: what this disk does by itself.',
  columns: {
    loneAckP50: { title: 'lone record: PUBACK p50', unit: 'ms', atMost: 2 },
    loneEndP50: { title: 'lone record: end to end p50', unit: 'ms' },
    ack1kP50: { title: '1 k/s: PUBACK p50', unit: 'ms' },
    ack1kP99: { title: '1 k/s: PUBACK p99', unit: 'ms' },
    end1kP50: { title: '1 k/s: end to end p50', unit: 'ms' },
    end1kP99: { title: '1 k/s: end to end p99', unit: 'ms' },
    ack5kP50: { title: '5 k/s: PUBACK p50', unit: 'ms', atMost: 1.5 },
    ack5kP99: { title: '5 k/s: PUBACK p99', unit: 'ms', atMost: 20 },
    end5kP50: { title: '5 k/s: end to end p50', unit: 'ms', atMost: 2.5 },
    end5kP99: { title: '5 k/s: end to end p99', unit: 'ms', atMost: 25 },
    diskP50: { title: 'the disk alone, append and fdatasync: p50', unit: 'ms' },
    diskP99: { title: 'the disk alone: p99', unit: 'ms' },
    diskMax: { title: 'the disk alone: longest of 10 s', unit: 'ms' }
  },
  measure: async context => await repeat(context, async () => {
    const disk = bareFsyncs(10)
    await using system = await MeasuredSystem.start()
    const reader = system.reader()
    const lone = await sustained(system, reader, 'lone', { connections: 1, rate: 10, firstDevice: 200 }, 0, 3)
    const slow = await sustained(system, reader, 'slow', { rate: 1000 }, 2, 10)
    const fast = await sustained(system, reader, 'fast', { rate: 5000, firstDevice: 100 }, 2, 10)
    await reader.reached(lone.load.acknowledged + slow.load.acknowledged + fast.load.acknowledged)
    const { phases } = await reader.stop()
    const end = (phase: string) => phases[phase]!.latency['all']!
    const [loneAck, slowAck, fastAck] = [
      lone.load.phases['lone']!.ack, slow.load.phases['slow']!.ack, fast.load.phases['fast']!.ack
    ]
    return {
      values: {
        loneAckP50: loneAck.p50Ms,
        loneEndP50: end('lone').p50Ms,
        ack1kP50: slowAck.p50Ms,
        ack1kP99: slowAck.p99Ms,
        end1kP50: end('slow').p50Ms,
        end1kP99: end('slow').p99Ms,
        ack5kP50: fastAck.p50Ms,
        ack5kP99: fastAck.p99Ms,
        end5kP50: end('fast').p50Ms,
        end5kP99: end('fast').p99Ms,
        diskP50: disk.p50Ms,
        diskP99: disk.p99Ms,
        diskMax: disk.maxMs
      },
      verdict: await system.verdict()
    }
  })
}
