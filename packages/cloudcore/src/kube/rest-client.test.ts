import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createSecureServer } from 'node:http2'
import type { AddressInfo, Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { writeKubeconfig } from '@holdfast/kube-api'
import { SeededRandom, silentLog, SystemClock } from '@holdfast/runtime'
import { HandClock } from '@holdfast/runtime/testing'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { Authority } from '../identity/index.ts'
import { RestClient, type RestClientOptions } from './rest-client.ts'
import type { WatchEvent } from './kube-client.ts'
import { KubeError } from './kube-error.ts'
import { kindPath, kubeKinds } from './kube-kinds.ts'
import { kubeClientLimits as limits } from './limits.ts'
import { KubeconfigFolder } from './testing/kubeconfig-folder.ts'
import { configMap, configMapList, type Exchange, failure, ScriptedApi } from './testing/scripted-api.ts'

let api: ScriptedApi
let clock: HandClock
const closers: (() => Promise<void>)[] = []

beforeEach(async () => {
  api = await ScriptedApi.open()
  clock = new HandClock()
})

afterEach(async () => {
  for (const close of closers.splice(0)) await close()
  await api[Symbol.asyncDispose]()
})

async function open(options: Partial<RestClientOptions> = {}): Promise<RestClient> {
  const client = await RestClient.open({ access: api.access, ...options }, { clock, random: new SeededRandom(1) })
  closers.push(() => client.close())
  return client
}

const never = new AbortController().signal
const { configMaps, nodes, leases } = kubeKinds
const place = { kind: configMaps, namespace: 'default', name: 'a' }
const path = kindPath(configMaps, 'default', 'a')

async function rejection(promise: Promise<unknown>): Promise<KubeError> {
  const error: unknown = await promise.then(() => undefined, (reason: unknown) => reason)
  expect(error).toBeInstanceOf(KubeError)
  return error as KubeError
}

/** Names of a list's objects. */
const names = ({ items }: { readonly items: readonly { readonly metadata: { readonly name?: string } }[] }): (string | undefined)[] =>
  items.map(item => item.metadata.name)

describe('one object', () => {
  test('is read with the credentials, and shown with its type first and without managedFields', async () => {
    const client = await open()
    const read = client.get(place)
    const { method, url, headers } = await answered(200, {
      metadata: { name: 'a', managedFields: [{ manager: 'm' }], labels: { unknown: 'kept' } }, data: {}, future: [1], apiVersion: 'v1', kind: 'ConfigMap'
    })
    expect([method, url.pathname, headers.authorization, headers.accept]).toEqual(['GET', path, 'Bearer a-token', 'application/json'])
    expect(JSON.stringify(await read)).toBe(
      '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","labels":{"unknown":"kept"}},"data":{},"future":[1]}')
  })

  test('is undefined where there is none', async () => {
    const client = await open()
    const read = client.get(place)
    await answered(404, failure(404, 'NotFound', 'configmaps "a" not found'))
    expect(await read).toBeUndefined()
  })

  test('is created, replaced and patched, its status alone too', async () => {
    const client = await open()
    const object = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'a', namespace: 'default' } }
    const writes = [
      { run: () => client.create(configMaps, object), method: 'POST', at: kindPath(configMaps, 'default'), type: 'application/json' },
      { run: () => client.replace(place, object), method: 'PUT', at: path, type: 'application/json' },
      { run: () => client.replace({ kind: nodes, name: 'a' }, object, 'status'), method: 'PUT', at: '/api/v1/nodes/a/status', type: 'application/json' },
      { run: () => client.mergePatch({ kind: leases, namespace: 'n s', name: 'a' }, object), method: 'PATCH',
        at: '/apis/coordination.k8s.io/v1/namespaces/n%20s/leases/a', type: 'application/merge-patch+json' }
    ]
    for (const { run, method, at, type } of writes) {
      const written = run()
      const exchange = await answered(200, configMap('a', 7))
      expect([exchange.method, exchange.url.pathname, exchange.headers['content-type'], exchange.body]).toEqual([method, at, type, object])
      expect((await written).metadata.resourceVersion).toBe('7')
    }
  })

  test('is deleted by its uid; one that is gone already is deleted', async () => {
    const client = await open()
    const deleted = client.delete(place, { gracePeriodSeconds: 0, uid: 'u' })
    const { method, body } = await answered(200, { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success' })
    expect([method, body]).toEqual(['DELETE', { kind: 'DeleteOptions', apiVersion: 'v1', gracePeriodSeconds: 0, preconditions: { uid: 'u' } }])
    await deleted
    const again = client.delete(place)
    await answered(404, failure(404, 'NotFound', 'gone'))
    await again
    const other = client.delete(place, { uid: 'u' })
    await answered(409, failure(409, 'Conflict', 'the UID in the precondition (u) does not match'))
    expect(await rejection(other)).toMatchObject({ status: 409, reason: 'Conflict', code: 'KUBE_CONFLICT', isRetryable: true })
  })
})

describe('a failure', () => {
  test('carries status, reason, message and Retry-After', async () => {
    const client = await open()
    const read = client.get(place)
    await answered(403, failure(403, 'Forbidden', 'configmaps "a" is forbidden: User "x" cannot get resource'))
    expect(await rejection(read)).toMatchObject({
      status: 403, reason: 'Forbidden', code: 'KUBE_REFUSED', isRetryable: false, retryAfterMs: undefined,
      message: `GET ${api.url}${path}: 403: configmaps "a" is forbidden: User "x" cannot get resource`
    })
    const busy = client.get(place)
    await answered(429, failure(429, 'TooManyRequests', 'wait'), { 'retry-after': '7' })
    expect(await rejection(busy)).toMatchObject({ status: 429, code: 'KUBE_UNAVAILABLE', isRetryable: true, retryAfterMs: 7000 })
    const ages = client.get(place)
    await answered(503, { ...failure(503, 'ServiceUnavailable', 'wait'), details: { retryAfterSeconds: 1e9 } })
    expect(await rejection(ages)).toMatchObject({ status: 503, retryAfterMs: limits.retryAfterMs.value })
    const proxy = client.get(place)
    await answered(502, '<html>Bad Gateway</html>')
    expect(await rejection(proxy)).toMatchObject({ status: 502, reason: '', message: `GET ${api.url}${path}: 502: no reason was given` })
  })

  test('of something that is no Kubernetes API says so', async () => {
    const client = await open()
    for (const [document, said] of [['<html>', '"<html>" is not JSON'], ['[]', 'the answer is no object'], ['{"kind":"ConfigMap"}', 'the answer is no object']] as const) {
      const read = client.get(place)
      await answered(200, document)
      expect(await rejection(read)).toMatchObject({ code: 'KUBE_ANSWER_INVALID', message: expect.stringContaining(said) as string })
    }
    const moved = client.get(place)
    await answered(302, '', { location: 'http://127.0.0.1:1/' })
    expect(await rejection(moved)).toMatchObject({ status: 302, code: 'KUBE_ANSWER_INVALID' })
  })

  test('to connect, or to hear anything in time, has status 0', async () => {
    const client = await open()
    const slow = client.get(place)
    await api.next()
    clock.advance(limits.requestMs.value)
    expect(await rejection(slow)).toMatchObject({ status: 0, reason: 'Silent', code: 'KUBE_UNREACHABLE', isRetryable: true })
    const broken = client.get(place)
    const exchange = await api.next()
    exchange.send('{"kind":')
    await exchange.cut()
    expect(await rejection(broken)).toMatchObject({ status: 0, reason: 'Unreachable' })
    await using kubeconfig = await KubeconfigFolder.write({
      name: 'none', server: 'http://127.0.0.1:1', token: 't'
    })
    const nowhere = await open({ access: kubeconfig.access })
    expect(await rejection(nowhere.get(place))).toMatchObject({ status: 0, message: expect.stringContaining('ECONNREFUSED') as string })
  })

  test('is what an answer past its bound is, of one object and of a Status', async () => {
    const client = await open()
    const large = 'x'.repeat(limits.answerBytes.value)
    const read = client.get(place)
    await answered(200, configMap('a', 1, { large }))
    expect(await rejection(read)).toMatchObject({ code: 'KUBE_ANSWER_TOO_LARGE', isRetryable: false })
    const refused = client.get(place)
    await answered(400, failure(400, 'BadRequest', large))
    expect(await rejection(refused)).toMatchObject({ status: 400, message: expect.stringContaining('no reason was given') as string })
  })

  test('cuts what is under way when the client is closed', async () => {
    const client = await open()
    const read = rejection(client.get(place))
    const { left } = leaving(await api.next())
    await client.close()
    expect(await read).toMatchObject({ status: 0, reason: 'Closed' })
    expect(await rejection(client.get(place))).toMatchObject({ status: 0, reason: 'Closed' })
    await left
  })
})

describe('a list', () => {
  const list = (client: RestClient, signal = never): ReturnType<RestClient['list']> =>
    client.list(configMaps, { labelSelector: 'app=x', fieldSelector: 'metadata.name!=z' }, signal)

  test('reads all pages at one version, never from a cache, and gives the items their type', async () => {
    const client = await open({ listPage: 2 })
    const read = list(client)
    const first = await answered(200, configMapList(9, [configMap('a', 1), configMap('b', 2)], 'token of b'))
    expect([first.url.pathname, Object.fromEntries(first.url.searchParams)])
      .toEqual(['/api/v1/configmaps', { labelSelector: 'app=x', fieldSelector: 'metadata.name!=z', limit: '2' }])
    const second = await answered(200, configMapList(9, [configMap('c', 3)]))
    expect(Object.fromEntries(second.url.searchParams))
      .toEqual({ labelSelector: 'app=x', fieldSelector: 'metadata.name!=z', limit: '2', continue: 'token of b' })
    const { items, resourceVersion } = await read
    expect([names({ items }), resourceVersion]).toEqual([['a', 'b', 'c'], '9'])
    expect(Object.keys(items[0]!)).toEqual(['apiVersion', 'kind', 'metadata', 'data'])
    expect(items[0]).toMatchObject({ apiVersion: 'v1', kind: 'ConfigMap' })
  })

  test('of nothing has a version too', async () => {
    const client = await open()
    const read = list(client)
    await answered(200, { kind: 'ConfigMapList', apiVersion: 'v1', metadata: { resourceVersion: '4' }, items: null })
    expect(await read).toEqual({ items: [], resourceVersion: '4' })
  })

  test('that expires between its pages begins again, in the end in one piece', async () => {
    const client = await open({ listPage: 1 })
    const read = list(client)
    for (let i = 0; i <= limits.expiredLists.value; i++) {
      expect((await answered(200, configMapList(9 + i, [configMap('old', 1)], 'next'))).url.searchParams.get('limit')).toBe('1')
      expect((await answered(410, failure(410, 'Expired', 'too old'))).url.searchParams.get('continue')).toBe('next')
    }
    const whole = await answered(200, configMapList(20, [configMap('a', 11), configMap('b', 12)]))
    expect([whole.url.searchParams.get('limit'), whole.url.searchParams.get('continue')]).toEqual([null, null])
    expect(names(await read)).toEqual(['a', 'b'])
  })

  test('that goes on at another version is not taken for one', async () => {
    const client = await open({ listPage: 1 })
    const read = list(client)
    await answered(200, configMapList(9, [configMap('a', 1)], 'next'))
    await answered(200, configMapList(10, [configMap('b', 10)]))
    await answered(200, configMapList(10, [configMap('b', 10)]))
    expect(await read).toMatchObject({ items: [{ metadata: { name: 'b' } }], resourceVersion: '10' })
  })

  test('asks for smaller pages where one is too large, and gives up at one object', async () => {
    const client = await open({ listPage: 8, listPageBytesMax: 2000 })
    const read = list(client)
    const large = 'x'.repeat(2000)
    expect((await answered(200, configMapList(9, [configMap('a', 1, { large })]))).url.searchParams.get('limit')).toBe('8')
    expect((await answered(200, configMapList(9, [configMap('a', 1, { large })]))).url.searchParams.get('limit')).toBe('1')
    expect(await rejection(read)).toMatchObject({ code: 'KUBE_ANSWER_TOO_LARGE', message: expect.stringContaining('2000 bytes') as string })
  })

  test('has a bound in objects and in bytes', async () => {
    const client = await open({ listPage: 2, objectsMax: 3 })
    const read = list(client)
    await answered(200, configMapList(9, [configMap('a', 1), configMap('b', 1)], 'next'))
    await answered(200, configMapList(9, [configMap('c', 1), configMap('d', 1)], 'more'))
    expect(await rejection(read)).toMatchObject({ message: expect.stringContaining('more than 3 configmaps') as string })
    const small = await open({ listPage: 1, listBytesMax: 500 })
    const bytes = list(small)
    await answered(200, configMapList(9, [configMap('a', 1, { k: 'x'.repeat(200) })], 'next'))
    await answered(200, configMapList(9, [configMap('b', 1, { k: 'x'.repeat(200) })]))
    expect(await rejection(bytes)).toMatchObject({ message: expect.stringContaining('more than 500 bytes') as string })
  })

  test('ends with the reason of the signal', async () => {
    const client = await open()
    const stop = new AbortController()
    const read = list(client, stop.signal)
    const { left } = leaving(await api.next())
    const reason = new Error('enough')
    stop.abort(reason)
    await expect(read).rejects.toBe(reason)
    await left
    await expect(list(client, stop.signal)).rejects.toBe(reason)
  })
})

describe('a watch', () => {
  const watch = (client: RestClient, seen: WatchEvent[], signal = never): Promise<void> =>
    client.watch(configMaps, { namespace: 'default', labelSelector: 'app=x' }, '9', event => { seen.push(event) }, signal)

  test('gives events and bookmarks in order, until the server ends it', async () => {
    const client = await open()
    const seen: WatchEvent[] = []
    const watched = watch(client, seen)
    const exchange = await api.next()
    expect([exchange.url.pathname, Object.fromEntries(exchange.url.searchParams)]).toEqual([kindPath(configMaps, 'default'), {
      labelSelector: 'app=x', watch: 'true', allowWatchBookmarks: 'true', resourceVersion: '9', timeoutSeconds: expect.stringMatching(/^[3-6]\d\d$/) as string
    }])
    const line = JSON.stringify({ type: 'MODIFIED', object: configMap('a', 11, { k: 'é' }) })
    exchange.send({ type: 'ADDED', object: configMap('a', 10) }, line.slice(0, 30), line.slice(30), '\n\n',
      { type: 'DELETED', object: configMap('a', 12) }, { type: 'BOOKMARK', object: { kind: 'ConfigMap', metadata: { resourceVersion: '15' } } })
    exchange.end()
    await watched
    expect(seen.map(event => event.type === 'BOOKMARK' ? [event.type, event.resourceVersion] : [event.type, event.object.metadata.resourceVersion]))
      .toEqual([['ADDED', '10'], ['MODIFIED', '11'], ['DELETED', '12'], ['BOOKMARK', '15']])
    expect(seen[1]).toMatchObject({ object: { apiVersion: 'v1', kind: 'ConfigMap', data: { k: 'é' } } })
  })

  test('ends by its signal, without an error', async () => {
    const client = await open()
    const stop = new AbortController()
    const watched = watch(client, [], stop.signal)
    const exchange = await api.next()
    const { left } = leaving(exchange)
    exchange.send({ type: 'ADDED', object: configMap('a', 10) })
    stop.abort()
    await watched
    await left
  })

  test('of a version that is too old is 410, as an answer and as an event', async () => {
    const client = await open()
    const answer = watch(client, [])
    await answered(410, failure(410, 'Expired', 'too old resource version: 9 (219)'))
    expect(await rejection(answer)).toMatchObject({ status: 410, reason: 'Expired', code: 'KUBE_EXPIRED' })
    const event = watch(client, [])
    const exchange = await api.next()
    exchange.send({ type: 'ERROR', object: failure(410, 'Expired', 'too old resource version: 9 (219)') })
    expect(await rejection(event)).toMatchObject({ status: 410, reason: 'Expired', message: expect.stringContaining('too old') as string })
  })

  test('that breaks off, in an event too, has status 0', async () => {
    const client = await open()
    const seen: WatchEvent[] = []
    const half = JSON.stringify({ type: 'ADDED', object: configMap('b', 11) }).slice(0, 40)
    const cut = watch(client, seen)
    const first = await api.next()
    first.send({ type: 'ADDED', object: configMap('a', 10) }, half)
    await first.cut()
    expect(await rejection(cut)).toMatchObject({ status: 0, reason: 'Unreachable' })
    const ended = watch(client, seen)
    const second = await api.next()
    second.send(half)
    second.end()
    expect(await rejection(ended)).toMatchObject({ status: 0, message: expect.stringContaining('in the middle of an event') as string })
    expect(seen).toHaveLength(1)
  })

  test('is given up when nothing was heard for too long, and only then', async () => {
    const client = await open()
    const seen: WatchEvent[] = []
    const watched = watch(client, seen)
    let failed = false
    const failure = rejection(watched).finally(() => { failed = true })
    const exchange = await api.next()
    clock.advance(limits.watchSilenceMs.value - 1)
    exchange.send({ type: 'ADDED', object: configMap('a', 10) })
    await expect.poll(() => seen.length).toBe(1)
    clock.advance(limits.watchSilenceMs.value - 1)
    expect(failed).toBe(false)
    clock.advance(1)
    expect(await failure).toMatchObject({ status: 0, reason: 'Silent' })
    await exchange.left()
  })

  test('does not take an event past its bound', async () => {
    const client = await open()
    const watched = watch(client, [])
    const exchange = await api.next()
    exchange.send({ type: 'ADDED', object: configMap('a', 10, { large: 'x'.repeat(5 * 1024 * 1024) }) })
    expect(await rejection(watched)).toMatchObject({ code: 'KUBE_ANSWER_TOO_LARGE', message: expect.stringContaining('4194304 bytes') as string })
  })

  test('ends at what is no event', async () => {
    const client = await open()
    for (const line of ['{"type":"CHANGED","object":{}}', '{"type":"ADDED","object":{}}', '{"type":"BOOKMARK"}', 'no JSON', '[]']) {
      const watched = watch(client, [])
      const exchange = await api.next()
      exchange.send(`${line}\n`)
      expect(await rejection(watched)).toMatchObject({ code: 'KUBE_ANSWER_INVALID' })
    }
  })

  test('passes on what its listener throws', async () => {
    const client = await open()
    const fault = new TypeError('a fault of the listener')
    const watched = client.watch(configMaps, {}, '9', () => { throw fault }, never)
    const exchange = await api.next()
    exchange.send({ type: 'ADDED', object: configMap('a', 10) })
    await expect(watched).rejects.toBe(fault)
  })
})

describe('a kubeconfig', () => {
  let folder: string
  beforeEach(async () => { folder = await mkdtemp(join(tmpdir(), 'holdfast-kubeconfig-')) })
  afterEach(async () => { await rm(folder, { recursive: true }) })

  const write = async (user: object, cluster: object = {}): Promise<string> => {
    const file = join(folder, 'config')
    await writeFile(file, JSON.stringify({
      apiVersion: 'v1', kind: 'Config', 'current-context': 'main',
      clusters: [{ name: 'c', cluster: { server: `${api.url}/prefix/`, ...cluster } }],
      users: [{ name: 'u', user }, { name: 'other', user: { token: 'of-another' } }],
      contexts: [{ name: 'main', context: { cluster: 'c', user: 'u' } }, { name: 'second', context: { cluster: 'c', user: 'other' } },
        { name: 'torn', context: { cluster: 'c', user: 'nobody' } }]
    }))
    return file
  }

  test('gives server, path below it, and the token of its file', async () => {
    await writeFile(join(folder, 'token'), 'first\n')
    const client = await open({ access: { kind: 'file', path: await write({ tokenFile: 'token' }) } })
    const read = client.get(place)
    const { url, headers } = await answered(404, failure(404, 'NotFound', ''))
    expect([url.pathname, headers.authorization]).toEqual([`/prefix${path}`, 'Bearer first'])
    await read
    const second = await open({ access: { kind: 'file', path: await write({ token: 't' }), context: 'second' } })
    const other = second.get(place)
    expect((await answered(404, failure(404, 'NotFound', ''))).headers.authorization).toBe('Bearer of-another')
    await other
  })

  test('has its token read again a minute after it was renewed', async () => {
    const token = join(folder, 'token')
    await writeFile(token, 'first')
    const client = await open({ access: { kind: 'file', path: await write({ tokenFile: token }) } })
    const ask = async (): Promise<string | undefined> => {
      const read = client.get(place)
      const { headers } = await answered(404, failure(404, 'NotFound', ''))
      await read
      return headers.authorization
    }
    expect(await ask()).toBe('Bearer first')
    await writeFile(token, 'second')
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 61_000 })
    try {
      expect(await ask()).toBe('Bearer second')
    } finally {
      vi.useRealTimers()
    }
  })

  test('whose program does not answer fails requests in time, and is run once for all of them', async () => {
    const credential = JSON.stringify({
      apiVersion: 'client.authentication.k8s.io/v1', kind: 'ExecCredential', status: { token: 't', expirationTimestamp: '2000-01-01T00:00:00Z' }
    })
    const program = `echo >>runs; while [ -e held ]; do sleep 0.02; done; echo '${credential}'`
    const exec = { apiVersion: 'client.authentication.k8s.io/v1', command: 'sh', args: ['-c', `cd ${folder} && { ${program}; }`] }
    const client = await open({ access: { kind: 'file', path: await write({ exec }) }, requestMs: 1000 })
    const runs = async (): Promise<number> => (await readFile(join(folder, 'runs'))).length
    const before = await runs()
    await writeFile(join(folder, 'held'), '')
    const reads = Array.from({ length: 5 }, () => rejection(client.get(place)))
    await expect.poll(runs).toBe(before + 1)
    clock.advance(1000)
    for (const read of reads) expect(await read).toMatchObject({ status: 0, reason: 'Silent' })
    expect(await runs()).toBe(before + 1)
    await rm(join(folder, 'held'))
    const read = client.get(place)
    expect((await answered(404, failure(404, 'NotFound', ''))).headers.authorization).toBe('Bearer t')
    await read
  })

  test('that leads nowhere is refused, and says why', async () => {
    const refused = async (access: RestClientOptions['access'], said: RegExp): Promise<void> => {
      await expect(open({ access })).rejects.toMatchObject({ code: 'KUBE_CONFIG_INVALID', message: expect.stringMatching(said) as string })
    }
    await refused({ kind: 'file', path: join(folder, 'absent') }, /absent.*ENOENT/)
    await refused({ kind: 'file', path: await write({}), context: 'third' }, /there is no context "third"/)
    await refused({ kind: 'file', path: await write({}), context: 'torn' }, /"torn" names no user/)
    await refused({ kind: 'file', path: await write({ tokenFile: 'gone' }) }, /credentials.*gone/)
    await refused({ kind: 'file', path: await write({}, { server: 'api:6443' }) }, /expected https:\/\/host:port, got "api:6443"/)
    await refused({ kind: 'in-cluster' }, /does not run in a cluster/)
  })
})

describe('what a real API server said', () => {
  interface Recorded {
    readonly method?: string
    readonly status: number
    readonly responseHeaders: Record<string, string>
    readonly responseBody: { readonly kind: string, readonly items?: readonly unknown[] | null, readonly reason?: string } | undefined
    readonly events?: readonly { readonly type?: string, readonly object: { readonly kind: string, readonly code?: number, readonly metadata: { readonly resourceVersion?: string } } }[]
  }
  const recorded = async (scenario: string): Promise<Recorded[]> => {
    const text = await readFile(join(import.meta.dirname, `../../../../test/fixtures/kubernetes/${scenario}.jsonl`), 'utf8')
    return text.trim().split('\n').map(line => JSON.parse(line) as Recorded).filter(({ method }) => method === 'GET')
  }

  test('in watches comes through, event by event, and ends as it ended', async () => {
    const client = await open()
    // One that asked for a table is no client's of ours.
    const watches = (await recorded('watch')).filter(({ events = [] }) =>
      events.length > 0 && events.every(({ type, object }) => type !== undefined && object.kind !== 'Table'))
    expect(watches.length).toBeGreaterThan(15)
    let failures = 0
    for (const { events = [] } of watches) {
      const seen: (string | undefined)[] = []
      const watched = client.watch(configMaps, {}, '1', event => {
        seen.push(`${event.type} ${event.type === 'BOOKMARK' ? event.resourceVersion : event.object.metadata.resourceVersion}`)
      }, never).then(() => undefined, (error: unknown) => error)
      const exchange = await api.next()
      exchange.send(...events.map(({ type, object }) => ({ type, object })))
      exchange.end()
      const error = await watched
      const failed = events.find(({ type }) => type === 'ERROR')
      if (failed === undefined) expect(error).toBeUndefined()
      else {
        failures++
        expect(error).toMatchObject({ status: failed.object.code })
      }
      expect(seen).toEqual(events.filter(({ type }) => type !== 'ERROR').map(({ type, object }) => `${type} ${object.metadata.resourceVersion}`))
    }
    expect(failures).toBeGreaterThan(1)
  })

  test('in lists comes through, and so do its refusals', async () => {
    const client = await open({ listPage: 1000 })
    let refusals = 0
    for (const { status, responseHeaders, responseBody } of await recorded('list')) {
      if (responseBody === undefined || !/^(ConfigMapList|Status)$/.test(responseBody.kind)) continue
      const asked = client.list(configMaps, {}, never).then(list => list.items.length, (error: unknown) => error)
      const document = { ...responseBody, metadata: { ...(responseBody as { metadata?: object }).metadata, continue: '' } }
      await answered(status, document, responseHeaders)
      // Expired: begun again.
      if (status === 410) await answered(500, responseBody)
      const outcome = await asked
      if (responseBody.kind === 'ConfigMapList') expect(outcome).toBe(responseBody.items?.length ?? 0)
      else {
        refusals++
        expect(outcome).toMatchObject({ status: status === 410 ? 500 : status, reason: responseBody.reason ?? '' })
      }
    }
    expect(refusals).toBeGreaterThan(10)
  })
})

describe('connections', () => {
  test('are used again, but for watches: each has one of its own, of HTTP/1.1 where the server offers HTTP/2 too', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'holdfast-connections-'))
    const authority = await Authority.open({ folder, serverNames: [], hostname: 'api' }, { clock: new SystemClock(), log: silentLog })
    const { certificate, key } = authority.server
    const requests: { readonly version: string, readonly isWatch: boolean, readonly socket: Socket }[] = []
    const socketsOf = (some: typeof requests): Set<Socket> => new Set(some.map(({ socket }) => socket))
    const server = createSecureServer({ cert: certificate, key, allowHTTP1: true }, (request, response) => {
      const isWatch = request.url.includes('watch=true')
      requests.push({ version: request.httpVersion, isWatch, socket: request.socket })
      response.writeHead(200, { 'content-type': 'application/json' })
      if (!isWatch) response.end(JSON.stringify(configMap('a', 1)))
      else response.write(`${JSON.stringify({ type: 'ADDED', object: configMap('a', 10) })}\n`)
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const fields = {
      name: 'tls', server: `https://127.0.0.1:${(server.address() as AddressInfo).port}`, caPem: authority.caPem,
      token: 't'
    } as const
    const trusting = join(folder, 'trusting')
    await writeKubeconfig(trusting, fields)
    const client = await open({ access: { kind: 'file', path: trusting } })
    for (let i = 0; i < 30; i++) await client.get(place)
    // The next request may come before the connection of the last one is seen to be free.
    expect(socketsOf(requests.splice(0)).size).toBeLessThan(3)
    const stop = new AbortController()
    let seen = 0
    const watches = [1, 2].map(() => client.watch(configMaps, {}, '9', () => { seen++ }, stop.signal))
    await expect.poll(() => seen).toBe(2)
    await client.get(place)
    expect(socketsOf(requests).size).toBe(3)
    expect(requests.map(({ version, isWatch }) => `${version} ${isWatch}`)).toEqual(['1.1 true', '1.1 true', '1.1 false'])
    stop.abort()
    await Promise.all(watches)

    const { caPem: _, ...unknown } = fields
    const unsure = join(folder, 'wary')
    await writeKubeconfig(unsure, unknown)
    const wary = await open({ access: { kind: 'file', path: unsure } })
    expect(await rejection(wary.get(place))).toMatchObject({ status: 0, message: expect.stringMatching(/certificate/) as string })
    await client.close()
    server.close()
    await once(server, 'close')
    await rm(folder, { recursive: true })
  })
})

async function answered(status: number, document: unknown, headers?: Record<string, string>): Promise<Exchange> {
  const exchange = await api.next()
  exchange.reply(status, document, headers)
  return exchange
}

/** Listens for the client's going away from now on. */
const leaving = (exchange: Exchange): { readonly left: Promise<void> } => ({ left: exchange.left() })
