import { once } from 'node:events'
import { request as httpRequest, type IncomingMessage, type OutgoingHttpHeaders } from 'node:http'
import { connect } from 'node:net'
import { SeededRandom, SystemClock, silentLog, type Log } from '@holdfast/runtime'
import { Committer, MemoryStore } from '@holdfast/store'
import { afterEach, expect, test } from 'vitest'
import { EmbeddedKubeApi } from '../embedded-kube-api.ts'
import type { ObjectStoreOptions } from '../object-store.ts'
import type { User } from './authentication.ts'
import { forbiddenTo, type Authorizer } from './authorization.ts'
import { KubeApiServer } from './kube-api-server.ts'
import { kubeApiServerLimits as limits } from './limits.ts'

const closers: (() => Promise<void>)[] = []
afterEach(async () => { for (const close of closers.splice(0).toReversed()) await close() })

async function open(objects: ObjectStoreOptions = {}, store = new MemoryStore(), log: Log = silentLog): Promise<EmbeddedKubeApi> {
  const clock = new SystemClock()
  const committer = new Committer({}, { store, clock, onFailure: () => undefined })
  const api = await EmbeddedKubeApi.open({
    server: {
      name: 'kube-api', host: '127.0.0.1', port: 0,
      tokens: [
        { token: 'one', user: { name: 'one', groups: [] } }, { token: 'two', user: { name: 'two', groups: [] } }
      ],
      version: { major: '1', minor: '32', gitVersion: 'v1.32.0', gitCommit: '', buildDate: '', platform: '' }
    },
    objects
  }, { store, committer, clock, random: new SeededRandom(7), log })
  closers.push(() => committer.close(), () => api.close())
  return api
}

interface Answer { readonly status: number, readonly headers: IncomingMessage['headers'], readonly body: string }

async function send(
  api: EmbeddedKubeApi, method: string, path: string, options: { headers?: OutgoingHttpHeaders, body?: string | Buffer, token?: string } = {}
): Promise<Answer> {
  const { headers = {}, body, token = 'one' } = options
  const authorization = token === '' ? {} : { authorization: `Bearer ${token}` }
  const request = httpRequest(`${api.server.url}${path}`, { method, headers: { ...authorization, ...headers }, agent: false })
  request.end(body)
  const [response] = await once(request, 'response') as [IncomingMessage]
  let text = ''
  for await (const chunk of response.setEncoding('utf8')) text += chunk as string
  return { status: response.statusCode!, headers: response.headers, body: text }
}

const statusOf = ({ body }: Answer): unknown => JSON.parse(body)
const configMap = (name: string, data: Record<string, string> = {}): string => JSON.stringify({ metadata: { name }, data })

test('whoever is not known may read the version and health, and nothing else', async () => {
  const api = await open()
  for (const path of ['/version', '/livez', '/readyz', '/healthz', '/livez/ping']) {
    expect(await send(api, 'GET', path, { token: '' })).toMatchObject({ status: 200 })
  }
  expect(statusOf(await send(api, 'GET', '/apis', { token: '' }))).toMatchObject({
    kind: 'Status', code: 403, reason: 'Forbidden', message: 'forbidden: User "system:anonymous" cannot get path "/apis"'
  })
  expect(statusOf(await send(api, 'GET', '/api/v1/namespaces/default/secrets', { token: '' }))).toMatchObject({
    code: 403,
    message: 'secrets is forbidden: User "system:anonymous" cannot list resource "secrets" in API group "" in the namespace "default"',
    details: { kind: 'secrets' }
  })
  const wrong = await send(api, 'GET', '/version', { token: 'three' })
  expect(wrong).toMatchObject({ status: 401, headers: { 'www-authenticate': 'Bearer' } })
  expect(statusOf(wrong)).toMatchObject({ code: 401, reason: 'Unauthorized' })
  expect(await send(api, 'GET', '/version', { token: '', headers: { authorization: 'Basic b25lOm9uZQ==' } })).toMatchObject({ status: 401 })
})

test('a server on loopback answers to its own names only', async () => {
  const api = await open()
  for (const host of [`127.0.0.1:${api.server.port}`, 'localhost', 'LOCALHOST:1', '[::1]:6443']) {
    expect(await send(api, 'GET', '/version', { headers: { host } })).toMatchObject({ status: 200 })
  }
  for (const host of ['evil.example', 'evil.example:6443', '127.0.0.1.evil.example', '192.0.2.1']) {
    expect(await send(api, 'GET', '/api/v1/secrets', { headers: { host } })).toMatchObject({ status: 403 })
  }
})

test('what is below a resource and not served is named, as kubectl shows nothing but the message', async () => {
  const api = await open()
  for (const [method, path] of [['GET', 'pods/web/log'], ['POST', 'pods/web/exec'], ['POST', 'serviceaccounts/default/token']] as const) {
    const [plural, , subresource] = path.split('/')
    expect(statusOf(await send(api, method, `/api/v1/namespaces/default/${path}`))).toMatchObject({
      code: 404, reason: 'NotFound', details: {},
      message: `the server could not find the requested resource: ${plural}/${subresource} is not served here`
    })
  }
})

test('a body is refused at its bound, whether its length is declared or not', async () => {
  const api = await open()
  const path = '/api/v1/namespaces/default/configmaps'
  const body = configMap('large', { a: 'x'.repeat(limits.bodyBytesMax.value) })
  const declared = await send(api, 'POST', path, { body, headers: { 'content-length': Buffer.byteLength(body) } })
  expect(statusOf(declared)).toMatchObject({ code: 413, reason: 'RequestEntityTooLarge' })
  const chunked = await send(api, 'POST', path, { body, headers: { 'transfer-encoding': 'chunked' } })
  expect(statusOf(chunked)).toMatchObject({ code: 413, reason: 'RequestEntityTooLarge' })
  const deep = await send(api, 'POST', path, { body: `{"a":${'['.repeat(1000)}${']'.repeat(1000)}}` })
  expect(statusOf(deep)).toMatchObject({ code: 400, reason: 'BadRequest' })
})

test('one client with too many requests under way is put off, another one is not', async () => {
  const api = await open()
  const sockets = await Promise.all(Array.from({ length: limits.requestsPerClientMax.value }, async () => {
    const socket = connect(api.server.port, '127.0.0.1')
    await once(socket, 'connect')
    socket.write('POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer one\r\n'
      + 'content-length: 100\r\n\r\n{')
    return socket
  }))
  closers.push(async () => { for (const socket of sockets) socket.destroy() })
  const deadline = performance.now() + 5_000
  while (api.server.requestsInFlight < sockets.length && performance.now() < deadline) await new Promise(resolve => { setImmediate(resolve) })
  const refused = await send(api, 'GET', '/api/v1/namespaces')
  expect(refused).toMatchObject({ status: 429, headers: { 'retry-after': '1' } })
  expect(statusOf(refused)).toMatchObject({ reason: 'TooManyRequests', details: { retryAfterSeconds: 1 } })
  expect(await send(api, 'GET', '/api/v1/namespaces', { token: 'two' })).toMatchObject({ status: 200 })
  for (const socket of sockets) socket.destroy()
  while (api.server.requestsInFlight > 0 && performance.now() < deadline) await new Promise(resolve => { setImmediate(resolve) })
  expect(await send(api, 'GET', '/api/v1/namespaces')).toMatchObject({ status: 200 })
})

test('a write that the disk refuses says why, and reading goes on', async () => {
  class FullStore extends MemoryStore {
    full = false
    override write(...[ops, options, onDone]: Parameters<MemoryStore['write']>): void {
      if (this.full) onDone(new Error('No space left on device'))
      else super.write(ops, options, onDone)
    }
  }
  const store = new FullStore()
  const said: string[] = []
  const api = await open({}, store, { ...silentLog, error: message => { said.push(message) } })
  const path = '/api/v1/namespaces/default/configmaps'
  expect(await send(api, 'POST', path, { body: configMap('a') })).toMatchObject({ status: 201 })
  store.full = true
  for (const name of ['b', 'c']) {
    expect(statusOf(await send(api, 'POST', path, { body: configMap(name) }))).toMatchObject({
      code: 500, reason: 'InternalError',
      message: 'Internal error occurred: the objects are being read again after a failed write: No space left on device'
    })
  }
  expect(await send(api, 'GET', `${path}/a`)).toMatchObject({ status: 200 })
  expect(said).toEqual([])
})

test('a watcher that takes nothing is cut off, and nothing waits for it', async () => {
  const api = await open({ historyEventsMax: 20 })
  const socket = connect(api.server.port, '127.0.0.1')
  const closed = once(socket, 'close')
  await once(socket, 'connect')
  socket.write('GET /api/v1/namespaces/default/configmaps?watch=true HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer one\r\n\r\n')
  await once(socket, 'readable')
  socket.on('error', () => {})
  const body = configMap('noise', { text: 'x'.repeat(400_000) })
  const path = '/api/v1/namespaces/default/configmaps'
  await send(api, 'POST', path, { body })
  for (let i = 0; api.objects.stats.watches > 0 && i < 200; i++) {
    await send(api, 'PATCH', `${path}/noise`, {
      body: JSON.stringify({ data: { i: String(i) } }), headers: { 'content-type': 'application/merge-patch+json' }
    })
  }
  expect(api.objects.stats.watches).toBe(0)
  // What was under way may still be read; then the connection ends in the middle of the stream.
  socket.resume()
  await closed
})

test('a watch ends with its client, and with the server', async () => {
  const api = await open()
  const watch = httpRequest(`${api.server.url}/api/v1/configmaps?watch=true`, { headers: { authorization: 'Bearer one' } })
  watch.on('error', () => {})
  watch.end()
  const [response] = await once(watch, 'response') as [IncomingMessage]
  response.on('error', () => {})
  expect(api.objects.stats.watches).toBe(1)
  watch.destroy()
  const deadline = performance.now() + 5_000
  while (api.objects.stats.watches > 0 && performance.now() < deadline) await new Promise(resolve => { setImmediate(resolve) })
  expect(api.objects.stats.watches).toBe(0)

  const other = httpRequest(`${api.server.url}/api/v1/configmaps?watch=true`, { headers: { authorization: 'Bearer one' } })
  other.end()
  const [stream] = await once(other, 'response') as [IncomingMessage]
  const ended = once(stream.resume(), 'end')
  await api.close()
  await ended
})

test('writers of one object follow each other, and each sees the one before', async () => {
  const api = await open()
  const path = '/api/v1/namespaces/default/configmaps'
  await send(api, 'POST', path, { body: configMap('counter') })
  await Promise.all(Array.from({ length: 50 }, (_, i) => send(api, 'PATCH', `${path}/counter`, {
    body: JSON.stringify({ data: { [`k${i}`]: 'x' } }), headers: { 'content-type': 'application/merge-patch+json' }
  })))
  const { data } = JSON.parse((await send(api, 'GET', `${path}/counter`)).body) as { data: Record<string, string> }
  expect(Object.keys(data)).toHaveLength(50)
})

test('what this process asks is asked as the user that it names, whatever its headers say', async () => {
  const { registry, objects } = await open()
  const clock = new SystemClock()
  const [reader, stranger]: User[] = [{ name: 'reader', groups: ['of-this-process'] }, { name: 'stranger', groups: [] }]
  const asked: { readonly user: User, readonly verb: string, readonly path: string }[] = []
  const authorizer: Authorizer = (user, attributes) => {
    asked.push({ user, verb: attributes.verb, path: attributes.path })
    return user === reader ? undefined : forbiddenTo(user, attributes)
  }
  const server = await KubeApiServer.open({
    name: 'kube-api', host: '127.0.0.1', port: 0, tokens: [{ token: 'one', user: { name: 'one', groups: [] } }],
    version: { major: '1', minor: '32', gitVersion: 'v1.32.0', gitCommit: '', buildDate: '', platform: '' }
  }, { registry, objects, clock, random: new SeededRandom(7), log: silentLog, authorizer })
  closers.push(() => server.close())
  const path = '/api/v1/namespaces/default/configmaps'
  const ask = (user: User, headers: Record<string, string> = {}): ReturnType<KubeApiServer['answer']> => server.answer({
    request: { method: 'GET', url: `${path}?limit=1`, headers }, signal: () => new AbortController().signal, body: async () => Buffer.alloc(0)
  }, user)
  expect(await ask(reader!)).toMatchObject({ status: 200 })
  expect(await ask(reader!, { host: 'evil.example', authorization: 'Bearer wrong' })).toMatchObject({ status: 200 })
  const refused = await ask(stranger!, { authorization: 'Bearer one' })
  expect(refused.status).toBe(403)
  expect(JSON.parse(refused.body as string)).toMatchObject({
    message: 'configmaps is forbidden: User "stranger" cannot list resource "configmaps" in API group "" in the namespace "default"'
  })
  expect(asked).toEqual([reader, reader, stranger].map(user => ({ user, verb: 'list', path })))
})
