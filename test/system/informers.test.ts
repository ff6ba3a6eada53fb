import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { Authority } from '../../packages/cloudcore/src/identity/index.ts'
import { RestClient } from '../../packages/cloudcore/src/kube/rest-client.ts'
import { kubeKinds } from '../../packages/cloudcore/src/kube/kube-kinds.ts'
import { ListInformer } from '../../packages/cloudcore/src/kube/list-informer.ts'
import { Churn, LibraryInformer, versionsIn, versionsOf } from '../../packages/cloudcore/src/kube/testing/churn.ts'
import { writeKubeconfig } from '../../packages/kube-api/src/server/kubeconfig.ts'
import { SeededRandom, silentLog, SystemClock } from '../../packages/runtime/src/index.ts'
import { until } from '../harness/daemons.ts'

const churnMs = 60_000
/** Compaction is never far behind. */
const historyEventsMax = 40
const token = 'a-token-of-this-test'
const clock = new SystemClock()

let folder: string
let host: ChildProcess
let port = 0

async function start(): Promise<void> {
  host = spawn(process.execPath, [join(import.meta.dirname, 'kube-api-host.ts'), folder, String(port), token, String(historyEventsMax)], {
    stdio: ['ignore', 'pipe', 'inherit']
  })
  let printed = ''
  host.stdout!.setEncoding('utf8').on('data', (text: string) => { printed += text })
  await until('the API says its port', () => {
    if (host.exitCode !== null) throw new Error(`the API ended with ${host.exitCode}`)
    return printed.includes('\n')
  })
  port = Number(printed)
}

async function kill(): Promise<void> {
  if (host.exitCode !== null || host.signalCode !== null) return
  const ended = once(host, 'exit')
  host.kill('SIGKILL')
  await ended
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'holdfast-informers-'))
  await start()
})

afterEach(async () => {
  await kill()
  await rm(folder, { recursive: true })
})

it('informers end with the exact set of objects after a minute of churn, compaction and kill -9 of the API', async () => {
  const { caPem } = await Authority.open({ folder: join(folder, 'identity'), serverNames: [], hostname: 'cloud' }, { clock, log: silentLog })
  const path = join(folder, 'kubeconfig')
  await writeKubeconfig(path, { name: 'hosted', server: `https://127.0.0.1:${port}`, caPem, token })
  const random = new SeededRandom(Number(process.env['SEED'] ?? 1))
  await using client = await RestClient.open({ access: { kind: 'file', path }, listPage: 50 }, { clock, random })
  const informer = new ListInformer({ kind: kubeKinds.configMaps }, { client, clock, random, log: silentLog })
  const stop = new AbortController()
  const running = informer.run(stop.signal)
  const library = new LibraryInformer(path, 1000)
  await library.start()
  const churn = new Churn({ names: 300 }, { client, random })
  const churning = churn.run()
  const endMs = clock.monotonicMs() + churnMs
  let kills = 0
  // A slow machine takes longer than the minute.
  while (clock.monotonicMs() < endMs || kills <= 5 || churn.writes <= 1000) {
    const enough = churn.writes + random.integer(50, 1000)
    const latestMs = clock.monotonicMs() + churnMs / 10
    await until('the API is written to', () => churn.writes > enough || clock.monotonicMs() > latestMs)
    await kill()
    kills++
    const outages = churn.outages
    await until('a write fails', () => churn.outages > outages)
    await start()
  }
  churn.stop()
  await churning
  const there = await versionsIn(client)
  expect(kills).toBeGreaterThan(5)
  expect(churn.writes).toBeGreaterThan(1000)
  expect(Object.keys(there).length).toBeGreaterThan(100)
  await expect.poll(() => versionsOf(informer.objects()), { timeout: 60_000 }).toEqual(there)
  await expect.poll(() => library.versions(), { timeout: 60_000 }).toEqual(there)
  await library.stop()
  stop.abort()
  await running
})
