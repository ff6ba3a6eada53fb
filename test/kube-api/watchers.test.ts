import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import { Agent, request } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { Authority } from '../../packages/cloudcore/src/identity/index.ts'
import { EmbeddedKubeApi } from '../../packages/kube-api/src/embedded-kube-api.ts'
import { SeededRandom, SystemClock, silentLog } from '../../packages/runtime/src/index.ts'
import { Committer, LevelStore } from '../../packages/store/src/index.ts'

const watches = 20
const updates = 2000
const objects = 50
const path = '/api/v1/namespaces/default/configmaps'
const headers = { 'authorization': 'Bearer token', 'content-type': 'application/json' }
const clock = new SystemClock()

let folder: string
let store: LevelStore
let committer: Committer
let api: EmbeddedKubeApi
let agent: Agent

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'holdfast-watchers-'))
  const identity = { folder: join(folder, 'identity'), serverNames: [], hostname: 'cloud' }
  const { server, caPem } = await Authority.open(identity, { clock, log: silentLog })
  store = await LevelStore.open({ path: join(folder, 'objects') })
  committer = new Committer({}, { store, clock, onFailure: error => { throw error } })
  api = await EmbeddedKubeApi.open({
    server: {
      name: 'kube-api', host: '127.0.0.1', port: 0, tls: { certificatePem: server.certificate, keyPem: server.key },
      tokens: [{ token: 'token', user: { name: 'tester', groups: [] } }],
      version: { major: '1', minor: '32', gitVersion: 'v1.32.0', gitCommit: '', buildDate: '', platform: '' }
    },
    objects: {}
  }, { store, committer, clock, random: new SeededRandom(1), log: silentLog })
  agent = new Agent({ ca: caPem, keepAlive: true, maxSockets: Infinity, maxTotalSockets: watches + 8 })
})

afterEach(async () => {
  agent?.destroy()
  await api?.close()
  await committer?.close()
  await store?.close()
  await rm(folder, { recursive: true })
})

async function answerTo(method: string, target: string, body?: string): Promise<IncomingMessage> {
  const sent = request(`${api.server.url}${target}`, { method, headers, agent })
  sent.end(body)
  const [answer] = await once(sent, 'response') as [IncomingMessage]
  return answer
}

const documentOf = (i: number, value: number): string =>
  JSON.stringify({ metadata: { name: `object-${i}` }, data: { value: String(value), filler: 'x'.repeat(300) } })

async function put(i: number, value: number): Promise<void> {
  const answer = await answerTo('PUT', `${path}/object-${i}`, documentOf(i, value))
  if (answer.statusCode !== 200) throw new Error(`an update is answered with ${answer.statusCode}`)
  answer.resume()
  await once(answer, 'end')
}

interface Told { readonly type: string, readonly object: { readonly metadata: { readonly resourceVersion: string } } }

it(`${watches} watches over HTTPS are sent each of ${updates} updates once, in order`, { timeout: 60_000 }, async () => {
  for (let i = 0; i < objects; i++) await api.objects.write({ resource: 'configmaps', namespace: 'default', name: `object-${i}` }, () => ({
    kind: 'put',
    object: { kind: 'ConfigMap', apiVersion: 'v1', metadata: { name: `object-${i}`, namespace: 'default' } }
  }))
  const from = api.objects.revision
  // One in five has a selector that everything matches.
  const answers = await Promise.all(Array.from({ length: watches }, (_, i) =>
    answerTo('GET', `${path}?watch=true&resourceVersion=${from}${i % 5 === 0 ? '&labelSelector=none!%3Dsuch' : ''}`)))
  const reading = answers.map(async answer => {
    const told: string[] = []
    let rest = ''
    for await (const chunk of answer.setEncoding('utf8')) {
      const lines = (rest + (chunk as string)).split('\n')
      rest = lines.pop()!
      for (const line of lines) {
        const { type, object } = JSON.parse(line) as Told
        told.push(`${type} ${object.metadata.resourceVersion}`)
      }
      if (told.length >= updates) break
    }
    return told
  })
  let next = 0
  await Promise.all(Array.from({ length: 8 }, async () => { while (next < updates) await put(next % objects, ++next) }))
  const expected = Array.from({ length: updates }, (_, i) => `MODIFIED ${from + 1 + i}`)
  for (const told of await Promise.all(reading)) expect(told).toEqual(expected)
  expect(api.objects.revision).toBe(from + updates)
})
