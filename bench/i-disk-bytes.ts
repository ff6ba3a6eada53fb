import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { childrenOf } from '../test/harness/process-usage.ts'
import type { LoadOptions } from '../test/harness/measuring-process.ts'
import { MeasuredSystem } from '../test/harness/system.ts'
import { LoopDisk } from './loop-disk.ts'
import { NotRun, pause, repeat, round3, type BenchRow } from './bench-row.ts'

type Key = 'flatOut' | 'flatOutProcess' | 'steady' | 'steadyDefault' | 'slowDay' | 'slowCommitsDay' | 'quietDay'
  | 'quietCommitsDay' | 'fsyncsPerCommit' | 'recordsPerFsync'

const recordBytes = 128
const slowSeconds = 8
const daySeconds = 86_400

/** Bytes on the disk and commits, for what `load` sends. */
async function written(
  disk: LoopDisk | undefined, set: readonly string[], load: Omit<LoadOptions, 'port'>, seconds: number
) {
  await using system = await MeasuredSystem.start({
    edge: { set }, ...(disk && { edgeDataDir: join(disk.path, `edge-${performance.now().toFixed(0)}`) })
  })
  const counts = async () => ({
    disk: await disk?.writtenBytes(),
    process: system.usage().edge.writtenBytes,
    commits: await system.metric(system.edge, 'holdfast_edge_commits_total')
  })
  await pause(500)
  const before = await counts()
  const sent = load.connections === 0 ? undefined : await (await system.load({ ...load, seconds })).result
  if (sent === undefined) await pause(seconds * 1000)
  else await system.drained()
  const after = await counts()
  return {
    records: sent?.acknowledged ?? 0,
    commits: after.commits - before.commits,
    process: after.process - before.process,
    /** At the device where there is one, else as the process caused them. */
    bytes: before.disk === undefined ? after.process - before.process : after.disk! - before.disk
  }
}

/** fdatasync and fsync of edgecore as the kernel sees them, beside its own count. Undefined without strace. */
async function fsyncs(): Promise<{ calls: number, commits: number, records: number } | undefined> {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-strace-'))
  const counts = join(folder, 'counts')
  const calls = ['-c', '-U', 'name,calls', '-e', 'trace=fdatasync,fsync', '-o', counts]
  try {
    await using system = await MeasuredSystem.start({ edge: { under: ['strace', '-f', '--seccomp-bpf', ...calls] } })
    const load = await (await system.load({ rate: 2000, seconds: 3 })).result
    await system.drained()
    const commits = await system.metric(system.edge, 'holdfast_edge_commits_total')
    for (const pid of childrenOf(system.edge.pid!)) process.kill(pid, 'SIGTERM')
    await system.edge.ended()
    const lines = (await readFile(counts, 'utf8')).matchAll(/^\s*f(?:data)?sync\s+(\d+)/gm)
    return { calls: [...lines].reduce((sum, line) => sum + Number(line[1]), 0), commits, records: load.acknowledged }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** What the disk of a node has to bear. */
export const diskBytes: BenchRow<Key> = {
  id: 'i',
  question: 'How many bytes reach the disk for a byte of record, and what does a quiet node write in a day?',
  how: 'Sectors written to a loop device that holds only edgecore\'s data directory, so the file system\'s own are '
    + 'in (without root: write_bytes of the process). Per byte of payload, 128 B a record. 1 k/s is with '
    + 'commitIntervalMs: 1000, every other row with the defaults. A day is 8 s, scaled. Fsyncs are counted by '
    + 'strace in a run of 2 k/s for 3 s, beside the daemon\'s own count of commits.',
  columns: {
    flatOut: { title: 'flat out, bytes per byte of record', unit: '×', atMost: 1 },
    flatOutProcess: { title: 'flat out, by the process\'s own account', unit: '×' },
    steady: { title: '1 k/s, commitIntervalMs 1000', unit: '×', atMost: 5 },
    steadyDefault: { title: '1 k/s, defaults', unit: '×' },
    slowDay: { title: 'one record a second, a day', unit: 'MB' },
    slowCommitsDay: { title: 'one record a second, commits a day', unit: '' },
    quietDay: { title: 'no record, a day', unit: 'MB' },
    quietCommitsDay: { title: 'no record, commits a day', unit: '' },
    fsyncsPerCommit: { title: 'fsyncs seen by strace per commit', unit: '', atLeast: 1 },
    recordsPerFsync: { title: 'records per fsync at 2 k/s', unit: '' }
  },
  measure: async context => {
    const disk = await LoopDisk.mount(2 ** 31).catch((error: unknown) => {
      if (!(error instanceof NotRun)) throw error
      context.say(error.message)
      return undefined
    })
    await using _unmounted = disk
    return await repeat(context, async () => {
      const flat = await written(disk, [], {}, 4)
      // Every publisher waits up to a second for its commit: the window holds what it sends meanwhile.
      const steady = await written(disk, ['lanes.telemetry.commitIntervalMs=1000'], { rate: 1000, window: 100 }, 6)
      const steadyDefault = await written(disk, [], { rate: 1000 }, 4)
      const slow = await written(disk, [], { rate: 1, connections: 1 }, slowSeconds)
      const quiet = await written(disk, [], { connections: 0 }, slowSeconds)
      const synced = await fsyncs()
      const perDay = (count: number): number => round3(count / slowSeconds * daySeconds)
      return {
        values: {
          flatOut: round3(flat.bytes / flat.records / recordBytes),
          flatOutProcess: round3(flat.process / flat.records / recordBytes),
          steady: round3(steady.bytes / steady.records / recordBytes),
          steadyDefault: round3(steadyDefault.bytes / steadyDefault.records / recordBytes),
          slowDay: round3(perDay(slow.bytes) / 1e6),
          slowCommitsDay: perDay(slow.commits),
          quietDay: round3(perDay(quiet.bytes) / 1e6),
          quietCommitsDay: perDay(quiet.commits),
          ...(synced && {
            fsyncsPerCommit: round3(synced.calls / synced.commits),
            recordsPerFsync: round3(synced.records / synced.calls)
          })
        }
      }
    })
  }
}
