import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { report } from '../faults/fault-report.ts'
import { FaultSystem, metricOf } from '../faults/fault-system.ts'
import { missing } from './programs.ts'

/** `fdatasync` and `fsync` of LevelDB's logs under `folder` that succeeded; -y names the file. */
async function syncsOf(trace: string, folder: string): Promise<number> {
  const done = new RegExp(`f(?:data)?sync\\(\\d+<[^>]*/${folder}/\\d+\\.log>\\)\\s+= 0$|<\\.\\.\\. f(?:data)?sync resumed>\\)\\s+= 0$`)
  const failed = /f(?:data)?sync.*= -1 /
  const lines = (await readFile(trace, 'utf8')).split('\n')
  expect(lines.filter(line => failed.test(line))).toEqual([])
  const begunElsewhere = lines.filter(line => line.endsWith('<unfinished ...>') && !line.includes(`/${folder}/`)).length
  return lines.filter(line => done.test(line)).length - begunElsewhere
}

it('every commit of either side is fsynced: as many fdatasync as commits, under load', async context => {
  const absent = missing('strace')
  context.skip(absent !== undefined, absent)
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-system-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  const traced = (side: string): { under: string[] } =>
    ({ under: ['strace', '-D', '-f', '-y', '-o', join(folder, side), '-e', 'trace=fdatasync,fsync'] })
  await using system = await FaultSystem.start({ edge: traced('edge'), cloud: traced('cloud') })
  system.run()
  await system.progress(100, 120_000)
  const verdict = await system.settleFlawless('under strace', 120_000)
  const commits = {
    edge: await metricOf(system.edge, 'holdfast_edge_commits_total'), cloud: await metricOf(system.cloud, 'holdfast_cloud_commits_total')
  }
  expect(commits.edge).toBeGreaterThan(20)
  expect(commits.cloud).toBeGreaterThan(20)
  const syncs = { edge: await syncsOf(join(folder, 'edge'), 'db'), cloud: await syncsOf(join(folder, 'cloud'), 'log') }
  expect(syncs.edge).toBeGreaterThanOrEqual(commits.edge)
  expect(syncs.cloud).toBeGreaterThanOrEqual(commits.cloud)
  report(context, {
    rows: [3], fault: 'none: fdatasync counted', injection: 'strace of both daemons under load', rounds: 1,
    outcome: `${syncs.edge} fdatasync for ${commits.edge} commits of the node, ${syncs.cloud} for ${commits.cloud} of the cloud; ${verdict.acknowledged} records acknowledged`
  })
})
