import type { LoadOptions, ReaderProcess } from '../test/harness/measuring-process.ts'
import { usageOf } from '../test/harness/process-usage.ts'
import { MeasuredSystem } from '../test/harness/system.ts'
import { pause, repeat, round3, type BenchRow } from './bench-row.ts'

type Key = 'rate' | 'rate512' | 'rateIncompressible' | 'ackP50' | 'ackP99' | 'recordsPerCommit'
  | 'cpuEdge' | 'cpuCloud' | 'cpuLoad' | 'cpuReader' | 'cpu'

/** Rate at the reader over `seconds`, after `warmSeconds` of the same. */
export async function sustained(
  system: MeasuredSystem, reader: ReaderProcess, phase: string, options: Omit<LoadOptions, 'port'>,
  warmSeconds: number, seconds: number
) {
  const load = await system.load(options)
  await pause(warmSeconds * 1000)
  reader.phase(phase)
  load.phase(phase)
  const pids = [system.edge.pid!, system.cloud.pid!, load.pid, reader.pid] as const
  const count = async () => ({
    cpuSeconds: pids.map(pid => usageOf(pid).cpuSeconds),
    commits: await system.metric(system.edge, 'holdfast_edge_commits_total')
  })
  const before = await count()
  await pause(seconds * 1000)
  const after = await count()
  reader.phase(`after-${phase}`)
  load.phase(`after-${phase}`)
  const result = await load.stop()
  await system.drained()
  return {
    load: result,
    /** Of the phase. */
    commits: after.commits - before.commits,
    /** Of the phase: edgecore, cloudcore, load generator, reader. */
    cpuSeconds: after.cpuSeconds.map((each, i) => each - before.cpuSeconds[i]!)
  }
}

/** Device → edge → cloud → reader. */
export const throughput: BenchRow<Key> = {
  id: 'a',
  question: 'How many records a second go from devices through edge and cloud to a reader, all fsynced on both ends?',
  how: '50 publishers, QoS 1, 20 unacknowledged each, as fast as they are acknowledged; 2 s of warm-up, then 6 s (128 B '
    + 'of JSON), 3 s (512 B of JSON), 3 s (128 B that nothing compresses). Counted at the reader process, which verifies '
    + 'every record.',
  columns: {
    rate: { title: 'records/s, 128 B', unit: '/s', atLeast: 100_000 },
    rate512: { title: 'records/s, 512 B', unit: '/s' },
    rateIncompressible: { title: 'records/s, 128 B incompressible', unit: '/s' },
    ackP50: { title: 'PUBACK p50 at that load', unit: 'ms' },
    ackP99: { title: 'PUBACK p99 at that load', unit: 'ms' },
    recordsPerCommit: { title: 'records per fsync on the edge', unit: '' },
    cpuEdge: { title: 'edgecore, CPU per million', unit: 's' },
    cpuCloud: { title: 'cloudcore, CPU per million', unit: 's' },
    cpuLoad: { title: 'load generator, CPU per million', unit: 's' },
    cpuReader: { title: 'reader, CPU per million', unit: 's' },
    cpu: { title: 'all four, CPU per million', unit: 's', atMost: 10 }
  },
  measure: async context => await repeat(context, async () => {
    await using system = await MeasuredSystem.start()
    const reader = system.reader()
    const main = await sustained(system, reader, 'main', {}, 2, 6)
    const large = await sustained(system, reader, 'large', { size: 512, firstDevice: 100 }, 1, 3)
    const dense = await sustained(system, reader, 'dense', { payload: 'incompressible', firstDevice: 200 }, 1, 3)
    await reader.reached(main.load.acknowledged + large.load.acknowledged + dense.load.acknowledged)
    const read = await reader.stop()
    const phase = read.phases['main']!
    const millions = phase.records / 1e6
    const [cpuEdge = 0, cpuCloud = 0, cpuLoad = 0, cpuReader = 0] = main.cpuSeconds.map(seconds => seconds / millions)
    const ack = main.load.phases['main']!.ack
    return {
      values: {
        rate: phase.ratePerSecond,
        rate512: read.phases['large']!.ratePerSecond,
        rateIncompressible: read.phases['dense']!.ratePerSecond,
        ackP50: ack.p50Ms,
        ackP99: ack.p99Ms,
        recordsPerCommit: round3(phase.records / main.commits),
        cpuEdge: round3(cpuEdge),
        cpuCloud: round3(cpuCloud),
        cpuLoad: round3(cpuLoad),
        cpuReader: round3(cpuReader),
        cpu: round3(cpuEdge + cpuCloud + cpuLoad + cpuReader)
      },
      verdict: await system.verdict()
    }
  })
}
