import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { EmbeddedKubeApi, writeKubeconfig } from '@holdfast/kube-api'
import { SeededRandom, silentLog, SystemClock, SystemRandom } from '@holdfast/runtime'
import { Committer, LevelStore } from '@holdfast/store'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Authority } from '../identity/index.ts'
import { RestClient } from './rest-client.ts'
import type { KubeClient } from './kube-client.ts'
import { kubeStatus } from './kube-error.ts'
import { kubeKinds } from './kube-kinds.ts'
import { ListInformer } from './list-informer.ts'
import { Churn, LibraryInformer, versionsIn, versionsOf } from './testing/churn.ts'

const token = 'a-token-of-this-test'
/** So few that a watch is often behind them. */
const historyEventsMax = 12
const clock = new SystemClock()

let folder: string
let authority: Authority
let port = 0
let close: () => Promise<void>

/** The API over TLS, from a LevelDB, where it was before. */
async function open(): Promise<void> {
  const store = await LevelStore.open({ path: join(folder, 'objects') })
  const committer = new Committer({}, { store, clock, onFailure: error => { throw error } })
  const api = await EmbeddedKubeApi.open({
    server: {
      name: 'kube-api', host: '127.0.0.1', port,
      tls: { certificatePem: authority.server.certificate, keyPem: authority.server.key },
      tokens: [{ token, user: { name: 'churner', groups: ['system:masters'] } }],
      version: { major: '1', minor: '32', gitVersion: 'v1.32.0', gitCommit: '', buildDate: '', platform: '' }
    },
    objects: { historyEventsMax }
  }, { store, committer, clock, random: new SystemRandom(), log: silentLog })
  port = api.server.port
  close = async () => {
    await api.close()
    await committer.close()
    await store.close()
  }
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'holdfast-churn-'))
  authority = await Authority.open({ folder: join(folder, 'identity'), serverNames: [], hostname: 'cloud' }, { clock, log: silentLog })
  await open()
})

afterEach(async () => {
  await close()
  await rm(folder, { recursive: true })
})

test('an informer ends with the exact set of objects after churn, compaction and restarts of the API', { timeout: 120_000 }, async () => {
  const path = join(folder, 'kubeconfig')
  await writeKubeconfig(path, {
    name: 'embedded', server: `https://127.0.0.1:${port}`, caPem: authority.caPem, token
  })
  const random = new SeededRandom(Number(process.env['SEED'] ?? 3))
  await using client = await RestClient.open({ access: { kind: 'file', path }, listPage: 16 }, { clock, random })
  /** Watches whose version was gone. */
  let expired = 0
  const counted: Pick<KubeClient, 'list' | 'watch'> = {
    list: (...parameters) => client.list(...parameters),
    watch: (...parameters) => client.watch(...parameters).catch((error: unknown) => {
      if (kubeStatus(error) === 410) expired++
      throw error
    })
  }
  const informer = new ListInformer({ kind: kubeKinds.configMaps, backoff: { baseMs: 250, maxMs: 500 } }, { client: counted, clock, random, log: silentLog })
  const followed = new Map<string, string>()
  informer.subscribe({
    onChange(before, after) {
      const [key] = Object.keys(versionsOf([(after ?? before)!]))
      // Each change begins where the one before it ended.
      expect(followed.get(key!)).toBe(before && versionsOf([before])[key!])
      if (after === undefined) followed.delete(key!)
      else followed.set(key!, versionsOf([after])[key!]!)
    }
  })
  const stop = new AbortController()
  const running = informer.run(stop.signal)
  const library = new LibraryInformer(path, 100)
  await library.start()
  const churn = new Churn({ names: 60 }, { client, random })
  const churning = churn.run()
  for (let round = 0; round < 5 || expired === 0; round++) {
    const enough = churn.writes + 60
    await expect.poll(() => churn.writes, { timeout: 20_000 }).toBeGreaterThan(enough)
    const before = churn.outages
    await close()
    await expect.poll(() => churn.outages, { timeout: 20_000 }).toBeGreaterThan(before)
    await open()
  }
  churn.stop()
  await churning
  const there = await versionsIn(client)
  expect(Object.keys(there).length).toBeGreaterThan(20)
  await expect.poll(() => versionsOf(informer.objects()), { timeout: 20_000 }).toEqual(there)
  expect(Object.fromEntries(followed)).toEqual(there)
  expect(informer.synced).toBe(true)
  // After watches that were too late one after the other it rests, for up to 30 s.
  await expect.poll(() => library.versions(), { timeout: 50_000 }).toEqual(there)
  await library.stop()
  stop.abort()
  await running
})
