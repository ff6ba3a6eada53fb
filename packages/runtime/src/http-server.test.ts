import { once } from 'node:events'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { connect, type Socket } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { HttpProblem, HttpServer, jsonReply, type HttpRoute, type HttpServerOptions } from './http-server.ts'
import { jsonLog, silentLog } from './log.ts'
import { operationsRoutes } from './operations.ts'

const options: HttpServerOptions = {
  name: 'test', host: '127.0.0.1', port: 0, bodyBytesMax: 1000, connectionsMax: 4, requestsInFlightMax: 2,
  headersTimeoutMs: 5000, requestTimeoutMs: 5000, idleTimeoutMs: 5000, drainMs: 5000
}

const echo: HttpRoute = {
  method: 'POST', path: '/v1/{namespace}/{name}/echo',
  handle: async ({ params, query, body, headers }) =>
    jsonReply({ ...params, q: query.get('q'), host: headers.host, length: (await body()).length })
}

async function open(
  routes: readonly HttpRoute[], changes: Partial<HttpServerOptions> = {}, log = silentLog
): Promise<HttpServer> {
  const server = await HttpServer.open({ ...options, ...changes }, routes, { log })
  onTestFinished(() => server.close())
  return server
}

interface Dialled {
  readonly socket: Socket
  readonly received: () => string
  readonly ended: Promise<unknown>
}

async function dial(server: HttpServer): Promise<Dialled> {
  const socket = connect(server.port, '127.0.0.1')
  let text = ''
  socket.on('data', chunk => { text += chunk.toString() })
  socket.on('error', () => {})
  const ended = once(socket, 'close')
  await once(socket, 'connect')
  onTestFinished(() => { socket.destroy() })
  return { socket, received: () => text, ended }
}

test('a route gets its named segments decoded, its query, its body and the Host header as sent', async () => {
  const server = await open([echo])
  const response = await fetch(`${server.url}/v1/a%2Fb/n/echo?q=1%202`, { method: 'POST', body: 'xyz' })
  expect(await response.json()).toEqual({
    namespace: 'a/b', name: 'n', q: '1 2', host: `127.0.0.1:${server.port}`, length: 3
  })
})

test('refusals are problem documents', async () => {
  const teapot: HttpRoute = {
    method: 'GET', path: '/teapot',
    handle: () => { throw new HttpProblem(418, { type: 'TEAPOT', title: 'A teapot', detail: 'short', headers: { 'x-a': 'b' } }) }
  }
  const server = await open([echo, teapot])
  const responses = await Promise.all([
    fetch(`${server.url}/nothing`), fetch(`${server.url}/v1//n/echo`), fetch(`${server.url}/v1/a/n/echo`),
    fetch(`${server.url}/v1/%ff/n/echo`, { method: 'POST' })
  ].map(async pending => {
    const response = await pending
    return { response, body: await response.json() as { status: number } }
  }))
  expect(responses.map(({ response }) => response.status)).toEqual([404, 404, 405, 400])
  expect(responses.every(({ response, body }) => body.status === response.status)).toBe(true)
  expect(responses.map(({ response }) => response.headers.get('content-type'))).toEqual(Array(4).fill('application/problem+json'))
  expect(responses[2]!.response.headers.get('allow')).toBe('POST')
  const short = await fetch(`${server.url}/teapot`)
  expect(await short.json()).toEqual({ type: 'TEAPOT', title: 'A teapot', status: 418, detail: 'short' })
  expect(short.headers.get('x-a')).toBe('b')
})

test('a handler that fails is a 500 without its reason, and one log line', async () => {
  const lines: string[] = []
  const server = await open([{ method: 'GET', path: '/', handle: () => { throw new Error('secret') } }], {},
    jsonLog('info', line => lines.push(line), () => 0))
  const response = await fetch(server.url)
  expect(response.status).toBe(500)
  expect(await response.text()).not.toContain('secret')
  expect(lines).toHaveLength(1)
  expect(lines[0]).toContain('secret')
})

test('a declared body past the bound is refused before it is read or continued', async () => {
  const server = await open([echo])
  const { socket, received, ended } = await dial(server)
  socket.write('POST /v1/a/b/echo HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\nconnection: close\r\ncontent-length: 1001\r\n\r\n')
  await ended
  expect(received()).toMatch(/^HTTP\/1\.1 413 /)
})

test('an awaited body within the bound is continued', async () => {
  const server = await open([echo])
  const request = httpRequest(`${server.url}/v1/a/b/echo`, { method: 'POST', headers: { expect: '100-continue' } })
  request.flushHeaders()
  await once(request, 'continue')
  request.end('12345')
  const [response] = await once(request, 'response') as [IncomingMessage]
  expect(response.statusCode).toBe(200)
  response.resume()
})

test('a body without a length is refused at the bound, and cut when it goes on', async () => {
  const server = await open([echo])
  const { socket, received, ended } = await dial(server)
  socket.write('POST /v1/a/b/echo HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n')
  const chunk = `64\r\n${'x'.repeat(100)}\r\n`
  const feed = (): void => {
    if (!socket.destroyed) socket.write(chunk, () => { setImmediate(feed) })
  }
  feed()
  await ended
  expect(received()).toMatch(/^HTTP\/1\.1 413 /)
})

test('past the requests in flight a further one is told to come again', async () => {
  const entered = { count: 0, wake: () => {} }
  const gate = Promise.withResolvers<void>()
  const server = await open([{
    method: 'GET', path: '/', handle: async () => {
      entered.count++
      entered.wake()
      await gate.promise
      return { status: 204 }
    }
  }])
  const held = [fetch(server.url), fetch(server.url)]
  await new Promise<void>(resolve => {
    entered.wake = () => { if (entered.count === 2) resolve() }
    entered.wake()
  })
  const refused = await fetch(server.url)
  expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '1'])
  gate.resolve()
  expect((await Promise.all(held)).map(({ status }) => status)).toEqual([204, 204])
})

test('headers that do not end in time are refused and the connection closed', async () => {
  const server = await open([echo], { headersTimeoutMs: 200, requestTimeoutMs: 400 })
  const { socket, received, ended } = await dial(server)
  socket.write('GET / HTTP/1.1\r\nhost: ')
  await ended
  expect(received()).toMatch(/^HTTP\/1\.1 408 /)
})

test('headers past 16 KiB are refused', async () => {
  const server = await open([echo])
  const { socket, received, ended } = await dial(server)
  socket.write(`GET / HTTP/1.1\r\nhost: h\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`)
  await ended
  expect(received()).toMatch(/^HTTP\/1\.1 431 /)
})

test('one connection more than the bound is closed', async () => {
  const server = await open([echo], { connectionsMax: 2 })
  await dial(server)
  await dial(server)
  const { ended, received } = await dial(server)
  await ended
  expect(received()).toBe('')
})

test('a stream is written at the reader\'s pace, and ends with its reader', async () => {
  let given = 0
  const ended = Promise.withResolvers<void>()
  const chunk = Buffer.alloc(65_536)
  async function* endless(signal: AbortSignal): AsyncGenerator<Buffer> {
    try {
      while (!signal.aborted) {
        given++
        yield chunk
        await new Promise(resolve => { setImmediate(resolve) })
      }
    } finally {
      ended.resolve()
    }
  }
  const server = await open([{ method: 'GET', path: '/', handle: ({ signal }) => ({ status: 200, body: endless(signal) }) }])
  const { socket } = await dial(server)
  socket.pause()
  socket.write('GET / HTTP/1.1\r\nhost: h\r\n\r\n')
  let before = -1
  let same = 0
  for (let turn = 0; same < 200 && turn < 100_000; turn++) {
    await new Promise(resolve => { setImmediate(resolve) })
    same = given === before && given > 0 ? same + 1 : 0
    before = given
  }
  expect(given).toBeLessThan(500)
  socket.destroy()
  await ended.promise
})

test('a lasting reply leaves its place to others, and is cut where nobody reads it', async () => {
  const ended = Promise.withResolvers<void>()
  let running = 0
  async function* endless(): AsyncGenerator<Buffer> {
    running++
    try {
      for (;;) {
        yield Buffer.alloc(65_536)
        await new Promise(resolve => { setImmediate(resolve) })
      }
    } finally {
      if (--running === 0) ended.resolve()
    }
  }
  const lasting: HttpRoute = {
    method: 'GET', path: '/', handle: () => ({ status: 200, body: endless(), lasting: { stallMs: 100 } })
  }
  const server = await open([lasting], { requestsInFlightMax: 1 })
  const { socket } = await dial(server)
  socket.write('GET / HTTP/1.1\r\nhost: h\r\n\r\n')
  await once(socket, 'data')
  const other = await fetch(server.url)
  expect(other.status).toBe(200)
  expect([server.requestsInFlight, running]).toEqual([0, 2])
  socket.pause()
  await other.body!.cancel()
  await ended.promise
})

test('stopping lets a request in flight finish and accepts nothing more', async () => {
  const gate = Promise.withResolvers<void>()
  const entered = Promise.withResolvers<void>()
  const server = await open([{
    method: 'GET', path: '/', handle: async () => {
      entered.resolve()
      await gate.promise
      return { status: 200, body: 'done' }
    }
  }])
  const stop = new AbortController()
  const running = server.run(stop.signal)
  const held = fetch(server.url)
  await entered.promise
  const { url } = server
  stop.abort()
  await expect(fetch(url)).rejects.toThrow()
  gate.resolve()
  expect(await (await held).text()).toBe('done')
  await running
})

test('a stream that never ends is cut when the drain is over', async () => {
  const server = await open([{
    method: 'GET', path: '/',
    handle: () => ({ status: 200, body: (async function* () { yield 'a'; await new Promise(() => {}) })() })
  }], { drainMs: 50 })
  const response = await fetch(server.url)
  await server.close()
  await expect(response.text()).rejects.toThrow()
})

test('stopping cuts a connection that never finished its TLS handshake, and one that never sent a byte', async () => {
  for (const tls of [{ handshakeTimeout: 600_000 }, undefined]) {
    const server = await open([echo], { drainMs: 50, ...tls && { tls } })
    const silent = await dial(server)
    await server.close()
    await silent.ended
  }
})

test('a port that is taken is an error that names it', async () => {
  const server = await open([])
  await expect(HttpServer.open({ ...options, port: server.port }, [], { log: silentLog }))
    .rejects.toMatchObject({
      code: 'LISTEN_FAILED', message: `test: cannot listen on 127.0.0.1:${server.port}: another process listens there: ` +
        'stop it, or set test.port to another port (0: any free one)'
    })
  await expect(HttpServer.open({ ...options, host: '192.0.2.1' }, [], { log: silentLog }))
    .rejects.toMatchObject({ message: expect.stringContaining('set test.host to one that it has') as string })
})

test('health and readiness name their checks, metrics are text', async () => {
  let synced = false
  const server = await open(operationsRoutes({
    metrics: () => 'a 1\n',
    live: { loop: () => 'ok' },
    ready: { store: () => 'ok', link: () => synced ? 'ok' : { reason: 'not connected yet' } }
  }))
  const get = async (path: string): Promise<[number, string]> => {
    const response = await fetch(server.url + path)
    return [response.status, await response.text()]
  }
  expect(await get('/metrics')).toEqual([200, 'a 1\n'])
  expect(await get('/healthz')).toEqual([200, 'ok'])
  expect(await get('/readyz')).toEqual([503, '[+]store ok\n[-]link failed: not connected yet\nreadyz check failed\n'])
  synced = true
  expect(await get('/readyz')).toEqual([200, 'ok'])
  expect(await get('/readyz?verbose')).toEqual([200, '[+]store ok\n[+]link ok\nreadyz check passed\n'])
})
