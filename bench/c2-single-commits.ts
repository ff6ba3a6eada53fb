import { existsSync } from 'node:fs'
import { cp, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ChaosProxy } from '../test/harness/chaos-proxy.ts'
import { check } from '../test/harness/checker.ts'
import { Daemon, outboxOf, until } from '../test/harness/daemons.ts'
import type { AckFile } from '../test/harness/load-generator.ts'
import { ReaderProcess } from '../test/harness/measuring-process.ts'
import type { ArrivalsFile } from '../test/harness/reader.ts'
import { MeasuredSystem } from '../test/harness/system.ts'
import { repeat, round3, type BenchRow, type Round } from './bench-row.ts'

type Key = 'catchUp' | 'bytesPerRecord'

const backlog = 300_000

/** Fills an outbox with one-record batches; in memory where that is possible, since nothing is measured. */
async function prepare(folder: string): Promise<AckFile> {
  const memory = '/dev/shm'
  await using system = await MeasuredSystem.start({ proxy: true, ...(existsSync(memory) && { parent: memory }) })
  system.proxy!.cut()
  const load = await system.load({ connections: 1, window: 1, count: backlog, size: 128 })
  await load.result
  const ackFile = JSON.parse(await readFile(join(system.fleet.folder, 'acks-0.json'), 'utf8')) as AckFile
  await system.edge.stop()
  await system.cloud.stop()
  await cp(system.edge.dataDir, join(folder, 'edge'), { recursive: true })
  await cp(system.cloud.dataDir, join(folder, 'cloud'), { recursive: true })
  return ackFile
}

async function catchUp(prepared: string, acks: AckFile): Promise<Round<Key>> {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-bench-'))
  await cp(prepared, folder, { recursive: true })
  await using stack = new AsyncDisposableStack()
  stack.defer(async () => { await rm(folder, { recursive: true, force: true }) })
  const cloud = new Daemon('cloudcore', join(folder, 'cloud'))
  stack.defer(async () => { await cloud.kill() })
  await cloud.start()
  const proxy = stack.use(await ChaosProxy.open(() => Number(new URL(cloud.endpoints.tunnel!).port)))
  proxy.cut()
  const edge = new Daemon('edgecore', join(folder, 'edge'), { set: [`server=wss://127.0.0.1:${proxy.port}`] })
  stack.defer(async () => { await edge.kill() })
  await edge.start()
  const reportFile = join(folder, 'arrivals.json')
  const reader = stack.use(ReaderProcess.start({ url: cloud.endpoints.ops!, reportFile }))
  const waiting = async (): Promise<number> => (await outboxOf(edge)).reduce((count, lane) => count + lane.records, 0)
  const queued = await waiting()
  proxy.heal()
  await until('the edge connects', () => proxy.connections > 0, 60_000)
  await until('the backlog is acknowledged', async () => await waiting() === 0, 120_000)
  const seconds = (performance.now() - proxy.connectedMs) / 1000
  await reader.reached(queued)
  await reader.stop()
  const { up, down } = proxy.bytes
  return {
    values: { catchUp: Math.round(queued / seconds), bytesPerRecord: round3((up + down) / queued) },
    verdict: check([acks], JSON.parse(await readFile(reportFile, 'utf8')) as ArrivalsFile)
  }
}

/** A week of records that came one at a time. */
export const singleCommits: BenchRow<Key> = {
  id: 'c2',
  question: 'The same for 300,000 records that were committed one by one, as a week at one in two seconds leaves them',
  how: 'One publisher with one unacknowledged record at a time fills the outbox (in memory, without measuring); a '
    + 'copy on the disk catches up through a proxy that counts bytes, TLS and WebSocket included, both directions.',
  columns: {
    catchUp: { title: 'catch-up', unit: '/s', atLeast: 50_000 },
    bytesPerRecord: { title: 'on the wire per record', unit: 'B', atMost: 100 }
  },
  measure: async context => {
    const folder = await mkdtemp(join(tmpdir(), 'holdfast-bench-'))
    try {
      const acks = await prepare(folder)
      context.say(`${backlog} records are queued, each in a batch of its own`)
      return await repeat(context, async () => await catchUp(folder, acks))
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  }
}
