import { once } from 'node:events'
import { request as httpRequest } from 'node:http'
import type { IncomingMessage } from 'node:http'
import { connect } from 'node:net'
import { HttpServer, HoldfastError, silentLog } from '@holdfast/runtime'
import { HandClock } from '@holdfast/runtime/testing'
import { describe, expect, onTestFinished, test } from 'vitest'
import { GatedStore, openEdge, until } from '../testing/device-api-fixture.ts'
import type { DeviceId } from '../twins/device-twins.ts'
import { device, deviceModel, durable, openTwins, reported, stamped, startMs } from '../twins/testing/twin-harness.ts'
import type { TwinsHarness } from '../twins/testing/twin-harness.ts'
import { TwinRoutes } from './twin-routes.ts'
import type { TwinRoutesOptions } from './twin-routes.ts'

const id = 'default/plug' as DeviceId
const model = deviceModel('default/plugs', [
  { name: 'power', type: 'BOOLEAN', accessMode: 'ReadWrite' },
  { name: 'level', type: 'INT', accessMode: 'ReadWrite', minimum: '0', maximum: '100', unit: '%' },
  { name: 'energy', type: 'DOUBLE', accessMode: 'ReadOnly' }
])

interface Node extends TwinsHarness {
  readonly store: GatedStore
  readonly clock: HandClock
  readonly api: TwinRoutes
  readonly server: HttpServer
  readonly refused: Map<string, number>
  readonly send: (method: string, path: string, body?: unknown, headers?: Record<string, string>) => Promise<{
    readonly status: number, readonly headers: Headers, readonly body: Record<string, unknown>
  }>
}

/** The routes over real twins; `default/plug` is a device without a model. */
async function open(options: Partial<TwinRoutesOptions> = {}): Promise<Node> {
  const [store, clock] = [new GatedStore(), new HandClock(startMs)]
  const harness = await openTwins(store, { clock })
  const refused = new Map<string, number>()
  const api = new TwinRoutes({ bodyBytesMax: 2 ** 20, watchesMax: 4, heartbeatMs: 15_000, stallMs: 60_000, ...options }, {
    twins: harness.twins, troubleOf: ({ uid }) => uid === 'troubled' ? 'it is broken' : undefined, clock, refused
  })
  const server = await HttpServer.open({
    name: 'http', host: '127.0.0.1', port: 0, bodyBytesMax: 2 ** 20, connectionsMax: 64, requestsInFlightMax: 64, headersTimeoutMs: 5000,
    requestTimeoutMs: 5000, idleTimeoutMs: 5000, drainMs: 50
  }, api.routes, { log: silentLog })
  onTestFinished(async () => {
    store.release()
    await server.close()
    await harness[Symbol.asyncDispose]()
  })
  await harness.receive({ [id]: device(id) })
  return {
    ...harness, store, clock, api, server, refused,
    async send(method, path, body, headers = {}) {
      const type: Record<string, string> = method === 'PATCH' ? { 'content-type': 'application/merge-patch+json' }
        : method === 'PUT' ? { 'content-type': 'application/json' } : {}
      const text = body === undefined || typeof body === 'string' || body instanceof Uint8Array ? body as string : JSON.stringify(body)
      const response = await fetch(`${server.url}/v1/devices${path}`, {
        method, headers: { ...type, ...headers }, ...text !== undefined && { body: text }
      })
      return { status: response.status, headers: response.headers, body: await response.json() as Record<string, unknown> }
    }
  }
}

const twin = '/default/plug/twin'

describe('reading', () => {
  test('the list has what a person looks for, page by page', async () => {
    const { receive, twins, send } = await open()
    const wanting = stamped(device('home/lamp', { model: 'lamps', properties: [{ name: 'level', desired: { value: '7' } }] }))
    const [lamps, labels] = [deviceModel('home/lamps', [{ name: 'level', type: 'INT' }]), { room: 'hall' }]
    await receive({ 'home/lamps': lamps, 'home/lamp': { ...wanting, metadata: { ...wanting.metadata, labels } }, 'a/b': device('a/b') })
    await durable(twins.write(id, { section: 'state', state: 'online' }, 'http'))
    const { body } = await send('GET', '')
    expect(body).toMatchObject({ next: null, devices: [
      { id: 'a/b', namespace: 'a', name: 'b', uid: 'uid-a/b', labels: {}, model: null, state: null, inDesiredState: true },
      { id: 'default/plug', state: 'online', lastOnlineTime: '2027-01-15T08:00:00.000Z', inDesiredState: true, pending: [] },
      { id: 'home/lamp', labels, model: 'lamps', modelKnown: true, inDesiredState: false, pending: ['level'], invalid: [] }
    ] })
    const first = await send('GET', '?limit=2')
    expect(first.body).toMatchObject({ next: 'default/plug', devices: [{ id: 'a/b' }, { id: 'default/plug' }] })
    expect((await send('GET', '?limit=2&after=default/plug')).body).toMatchObject({ next: null, devices: [{ id: 'home/lamp' }] })
  })

  test.each([
    ['?limit=0', /limit: expected a whole number from 1 to 1000, got "0"/], ['?limit=x', /limit/], ['?after=-', /after/],
    ['?labels=a', /no such parameter; there are limit, after/], ['?limit=1&limit=2', /one value/]
  ])('of a list %s is refused', async (query, detail) => {
    const { send } = await open()
    expect(await send('GET', query)).toMatchObject({ status: 400, body: { code: 'PARAMETER_INVALID', detail: expect.stringMatching(detail) as string } })
  })

  test('a device has its rules and its twin: values, versions, writers, times, and what is pending', async () => {
    const { receive, twins, send } = await open()
    await receive({
      'default/plugs': model,
      [id]: stamped(device(id, { model: 'plugs', properties: [{ name: 'level', desired: { value: '7' } }] }), startMs, model)
    })
    await durable(twins.write(id, reported({ level: 3, energy: 1.5 }, startMs - 1000), 'mqtt'))
    await receive({ 'default/troubled': device('default/troubled', { uid: 'troubled' }) })
    expect((await send('GET', '/default/troubled')).body).toMatchObject({ trouble: 'it is broken' })
    const { body, status } = await send('GET', '/default/plug')
    expect(status).toBe(200)
    expect(body).toMatchObject({
      id, model: 'plugs', modelKnown: true, protocol: null, state: null, trouble: null,
      properties: [
        { name: 'power', type: 'BOOLEAN', access: 'ReadWrite', minimum: null, maximum: null, unit: null },
        { name: 'level', type: 'INT', minimum: 0, maximum: 100, unit: '%' }, { name: 'energy', type: 'DOUBLE', access: 'ReadOnly' }
      ],
      twin: {
        device: id, inDesiredState: false, delta: { level: 7 }, invalid: [], properties: {
          energy: { reported: { value: 1.5, writer: 'edge-1' } },
          level: {
            desired: { value: 7, version: expect.stringMatching(/^\d+\.\d+\.cloud\/0000000c$/) as string, writer: 'cloud', timestamp: '2027-01-15T08:00:00.000Z' },
            reported: { value: 3, writer: 'edge-1', timestamp: '2027-01-15T07:59:59.000Z' }
          }
        }
      }
    })
    expect((await send('GET', twin)).body).toEqual(body['twin'])
  })

  test('TWN-25: a desired value that the model does not allow any more is named, and not told', async () => {
    const { receive, send } = await open()
    await send('PATCH', `${twin}?section=desired`, { level: 'high', power: true })
    await receive({ 'default/plugs': model, [id]: device(id, { model: 'plugs' }) })
    expect((await send('GET', twin)).body).toMatchObject({ inDesiredState: false, delta: { power: true }, invalid: ['level'] })
  })

  test('what is not a device of this node is 404', async () => {
    const { send, refused } = await open()
    for (const [method, path] of [
      ['GET', '/default/lamp'], ['GET', '/default/lamp/twin'], ['GET', '/default/lamp/twin?watch'], ['GET', '/Not/Allowed/twin'],
      ['PATCH', '/default/lamp/twin'], ['PUT', '/default/lamp/state']
    ] as const) {
      const answer = await send(method, path, method === 'GET' ? undefined : {})
      expect(answer).toMatchObject({ status: 404, body: { type: 'TWIN_DEVICE_UNKNOWN', code: 'TWIN_DEVICE_UNKNOWN' } })
    }
    expect(refused.get('TWIN_DEVICE_UNKNOWN')).toBe(6)
  })
})

describe('writing', () => {
  test('L1: a report is answered with the twin, when it is durable', async () => {
    const { send, store, server } = await open()
    store.mode = 'hold'
    let answered = false
    const pending = send('PATCH', twin, { power: true, colour: { r: 1, g: 2 } }).then(answer => {
      answered = true
      return answer
    })
    await until(() => store.held === 1 && server.requestsInFlight === 1)
    expect(answered).toBe(false)
    store.release()
    const { status, headers, body } = await pending
    expect([status, headers.get('etag')]).toEqual([200, '"1-uid-defa"'])
    expect(body).toMatchObject({ revision: 1, properties: { power: { reported: { value: true } }, colour: { reported: { value: { r: 1, g: 2 } } } } })
  })

  test('what is within values is merged, and null takes away (RFC 7396)', async () => {
    const { send } = await open()
    await send('PATCH', twin, { colour: { r: 1, g: 2 }, old: 1 })
    const { body } = await send('PATCH', twin, { colour: { g: null, b: 3 }, old: null }, { 'content-type': 'application/json; charset=utf-8' })
    expect(body['properties']).toMatchObject({ colour: { reported: { value: { r: 1, b: 3 } } } })
    expect(body['properties']).not.toHaveProperty('old')
  })

  test('a desired value is one more writer\'s', async () => {
    const { send, twins } = await open()
    const { body } = await send('PATCH', `${twin}?section=desired`, { power: 'on' })
    expect(body).toMatchObject({ delta: { power: 'on' }, inDesiredState: false, properties: { power: { desired: { value: 'on', writer: 'edge-1' } } } })
    expect(twins.get(id)!.twin.desired.get('power')!.value).toBe('on')
  })

  test('names that objects have by nature are properties like others', async () => {
    const { send } = await open()
    const { body } = await send('PATCH', twin, { constructor: 1, toString: 2 })
    expect(body['properties']).toMatchObject({ constructor: { reported: { value: 1 } }, toString: { reported: { value: 2 } } })
    expect(await send('PATCH', twin, '{"__proto__":1}')).toMatchObject({ status: 400, body: { code: 'TWIN_PROPERTY', property: '__proto__' } })
  })

  test('the device\'s timestamp is kept, and a report that is older than what is there is told to be stale', async () => {
    const { send } = await open()
    await send('PATCH', `${twin}?timestamp=${startMs - 1000}`, { power: true })
    const { status, body } = await send('PATCH', `${twin}?timestamp=${startMs - 2000}`, { power: false })
    expect(status).toBe(200)
    expect(body).toMatchObject({ stale: ['power'], properties: { power: { reported: { value: true, timestamp: '2027-01-15T07:59:59.000Z' } } } })
  })

  test('a refusal names property, rule and value, and nothing of the write is stored', async () => {
    const { send, receive, refused } = await open()
    await receive({ 'default/plugs': model, [id]: device(id, { model: 'plugs' }) })
    const cases = [
      [{ power: true, level: 101 }, 'TWIN_RANGE', { property: 'level', value: '101', rule: expect.stringContaining('100') as string }],
      [{ level: 'high' }, 'TWIN_TYPE', { property: 'level', value: 'high' }],
      [{ colour: 'red' }, 'TWIN_PROPERTY', { property: 'colour' }],
      [{ level: null }, 'TWIN_NOT_OPTIONAL', { property: 'level' }]
    ] as const
    for (const [patch, code, members] of cases) {
      expect(await send('PATCH', twin, patch)).toMatchObject({ status: 400, body: { type: code, code, detail: expect.stringContaining(members.property) as string, ...members } })
      expect(refused.get(code)).toBe(1)
    }
    expect(await send('PATCH', `${twin}?section=desired`, { energy: 1 })).toMatchObject({ status: 400, body: { code: 'TWIN_READ_ONLY', property: 'energy' } })
    expect((await send('GET', twin)).body).toMatchObject({ revision: 0, properties: {} })
  })

  test.each<[string, string | Uint8Array, RegExp]>([
    ['no JSON', '{"a":', /JSON object/], ['a list', '[1]', /got \[1\]/], ['text', '"x"', /got "x"/], ['null', 'null', /got null/],
    ['nothing', '', /JSON object/], ['no property', '{}', /at least one property/], ['one property twice', '{"a":1,"b":2,"a":3}', /"a" once, got it twice/],
    ['no UTF-8', new Uint8Array([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]), /UTF-8/]
  ])('%s is no patch', async (_, body, detail) => {
    const { send } = await open()
    expect(await send('PATCH', twin, body)).toMatchObject({ status: 400, body: { code: 'TWIN_DOCUMENT_INVALID', detail: expect.stringMatching(detail) as string } })
  })

  test('a value out of bounds is refused, however deep', async () => {
    const { send } = await open()
    const deep = `{"a":${'['.repeat(100_000)}${']'.repeat(100_000)}}`
    expect(await send('PATCH', twin, deep)).toMatchObject({ status: 400, body: { code: 'TWIN_VALUE', property: 'a' } })
    expect(await send('PATCH', twin, { a: 'x'.repeat(70_000) })).toMatchObject({ status: 400, body: { code: 'TWIN_VALUE' } })
    expect(await send('PATCH', twin, { a: { b: 1 }, c: Array.from({ length: 17 }).reduce<unknown>(value => [value], 1) }))
      .toMatchObject({ status: 400, body: { code: 'TWIN_VALUE', property: 'c' } })
  })

  test('bodies have a type and a bound', async () => {
    const { send } = await open()
    const typeless = await send('PATCH', twin, '{"a":1}', { 'content-type': 'application/x-www-form-urlencoded' })
    expect(typeless).toMatchObject({ status: 415, body: { code: 'MEDIA_TYPE_UNSUPPORTED' } })
    expect(typeless.headers.get('accept-patch')).toBe('application/merge-patch+json, application/json')
    expect(await send('PUT', '/default/plug/state', '{"state":"ok"}', { 'content-type': 'text/plain' })).toMatchObject({ status: 415 })
    const long = await send('PATCH', twin, `{"a":1${' '.repeat(512 * 1024)}}`)
    expect(long).toMatchObject({ status: 413, body: { code: 'BODY_TOO_LARGE', bound: 512 * 1024 } })
  })

  test.each(['?section=expected', '?timestamp=now', '?timestamp=9000000000000000', '?version=7', '?sections=desired'])('of a patch %s is refused', async query => {
    const { send } = await open()
    expect(await send('PATCH', twin + query, { a: 1 })).toMatchObject({ status: 400, body: { code: 'PARAMETER_INVALID' } })
  })

  test('a full disk and a failed write are 503 with Retry-After', async () => {
    const { send, twins, store } = await open()
    twins.refuse(new HoldfastError('DISK_FULL', 'less than disk.freeFloorBytes is free'))
    const full = await send('PATCH', twin, { a: 1 })
    expect([full.status, full.headers.get('retry-after'), full.body['code']]).toEqual([503, '10', 'DISK_FULL'])
    twins.refuse(undefined)
    store.mode = 'fail'
    const failed = await send('PATCH', twin, { a: 1 })
    expect([failed.status, failed.headers.get('retry-after'), failed.body['code']]).toEqual([503, '1', 'STORE_FAILED'])
  })
})

describe('locking', () => {
  test('If-Match lets a write through to the twin that was read, and to no other; a refusal has both', async () => {
    const { send } = await open()
    const etag = (await send('PATCH', twin, { a: 1 })).headers.get('etag')!
    expect((await send('PATCH', twin, { a: 2 }, { 'if-match': `"0-x", ${etag}` })).status).toBe(200)
    const refused = await send('PATCH', twin, { a: 3 }, { 'if-match': etag })
    expect(refused).toMatchObject({ status: 412, body: { code: 'TWIN_CONFLICT', expected: etag, actual: '"2-uid-defa"' } })
    expect(refused.headers.get('etag')).toBe('"2-uid-defa"')
    expect((await send('PATCH', twin, { a: 4 }, { 'if-match': '*' })).status).toBe(200)
    expect(await send('PATCH', twin, { a: 5 }, { 'if-match': '3' })).toMatchObject({ status: 400, body: { code: 'PARAMETER_INVALID' } })
    expect((await send('PATCH', twin, { a: 5 }, { 'if-match': `W/"3-uid-defa"` })).status).toBe(412)
  })

  test('of two at once with one ETag, one is refused', async () => {
    const { send } = await open()
    const etag = (await send('PATCH', twin, { a: 1 })).headers.get('etag')!
    const answers = await Promise.all([2, 3].map(a => send('PATCH', twin, { a }, { 'if-match': etag })))
    expect(answers.map(({ status }) => status).toSorted()).toEqual([200, 412])
    expect(answers.find(({ status }) => status === 412)!.body).toMatchObject({ code: 'TWIN_CONFLICT', expected: etag })
  })

  test('a version locks the properties that are named, and no others', async () => {
    const { send } = await open()
    const { body } = await send('PATCH', `${twin}?section=desired&version=none`, { a: 1 })
    const { version } = (body['properties'] as { a: { desired: { version: string } } }).a.desired
    await send('PATCH', `${twin}?section=desired`, { b: 1 })
    expect((await send('PATCH', `${twin}?section=desired&version=${encodeURIComponent(version)}`, { a: 2 })).status).toBe(200)
    const refused = await send('PATCH', `${twin}?section=desired&version=${encodeURIComponent(version)}`, { a: 3 })
    expect(refused).toMatchObject({ status: 412, body: { code: 'TWIN_CONFLICT', property: 'a', expected: version } })
    expect(refused.body['actual']).toMatch(/^\d+\.\d+\.edge-1\//)
    expect(await send('PATCH', `${twin}?section=desired&version=none`, { a: 3 })).toMatchObject({ status: 412, body: { expected: 'none' } })
    expect(await send('PATCH', `${twin}?section=desired&version=${encodeURIComponent(version)}`, { c: 3 })).toMatchObject({ status: 412, body: { actual: 'none' } })
  })
})

describe('state', () => {
  test('is set, with the time at which it was so', async () => {
    const { send } = await open()
    expect(await send('PUT', '/default/plug/state', { state: 'online', timestamp: startMs - 5000 }))
      .toMatchObject({ status: 200, body: { device: id, state: 'online', lastOnlineTime: '2027-01-15T07:59:55.000Z' } })
    expect((await send('GET', '/default/plug')).body).toMatchObject({ state: 'online' })
  })

  test.each<[unknown, string]>([
    [{ state: 'sleepy' }, 'TWIN_STATE'], [{ state: 1 }, 'TWIN_STATE'], [{}, 'TWIN_DOCUMENT_INVALID'], [{ state: 'ok', since: 1 }, 'TWIN_DOCUMENT_INVALID'],
    [{ state: 'ok', timestamp: 'now' }, 'TWIN_DOCUMENT_INVALID'], [[], 'TWIN_DOCUMENT_INVALID']
  ])('%j is none', async (body, code) => {
    const { send } = await open()
    expect(await send('PUT', '/default/plug/state', body)).toMatchObject({ status: 400, body: { code } })
  })
})

/** Server-sent events of one watch, as they come. */
async function watch({ server }: Node, path = twin): Promise<{ readonly response: IncomingMessage, readonly events: [string, Record<string, unknown>][], readonly text: () => string }> {
  const request = httpRequest(`${server.url}/v1/devices${path}?watch`)
  request.end()
  onTestFinished(() => { request.destroy() })
  request.on('error', () => {})
  const [response] = await once(request, 'response') as [IncomingMessage]
  let text = ''
  let read = 0
  const events: [string, Record<string, unknown>][] = []
  response.setEncoding('utf8').on('error', () => {}).on('data', (part: string) => {
    text += part
    for (let end = text.indexOf('\n\n', read); end !== -1; end = text.indexOf('\n\n', read)) {
      const match = /^event: (\w+)\ndata: (.*)$/.exec(text.slice(read, end))
      if (match !== null) events.push([match[1]!, JSON.parse(match[2]!) as Record<string, unknown>])
      read = end + 2
    }
  })
  return { response, events, text: () => text }
}

describe('watching', () => {
  test('gives the whole twin first, then what changes, then that it went', async () => {
    const node = await open()
    const { twins, send, receive } = node
    await send('PATCH', twin, { a: 1, b: 1 })
    const { response, events } = await watch(node)
    expect(response.headers).toMatchObject({ 'content-type': 'text/event-stream', 'cache-control': 'no-store' })
    await until(() => events.length === 1)
    expect(events[0]).toMatchObject(['twin', { device: id, revision: 1, properties: { a: { reported: { value: 1 } }, b: {} } }])
    await send('PATCH', `${twin}?section=desired`, { a: 2 })
    await until(() => events.length === 2)
    expect(events[1]).toMatchObject(['change', { revision: 2, inDesiredState: false, delta: { a: 2 }, properties: { a: { desired: { value: 2 }, reported: { value: 1 } } } }])
    expect(events[1]![1]['properties']).not.toHaveProperty('b')
    await send('PATCH', twin, { b: null })
    await until(() => events.length === 3)
    expect(events[2]).toMatchObject(['change', { properties: { b: null } }])
    await durable(twins.write(id, { section: 'state', state: 'ok' }, 'http'))
    await until(() => events.length === 4)
    expect(events[3]).toMatchObject(['change', { state: 'ok', properties: {} }])
    await receive({ 'default/plugs': model, [id]: device(id, { model: 'plugs' }) })
    await until(() => events.length >= 5)
    expect(events[4]).toMatchObject(['change', { invalid: ['a'], properties: {} }])
    await receive({ [id]: device(id, { uid: 'another' }) })
    await until(() => events.length === 6)
    expect(events[5]).toMatchObject(['twin', { revision: 0, state: null, properties: {} }])
    const ended = once(response, 'end')
    await receive({ [id]: undefined })
    await ended
    expect(events.at(-1)).toEqual(['deleted', { device: id }])
    await until(() => node.api.watches === 0)
  })

  test('is told nothing of other devices, and is kept alive with a comment', async () => {
    const node = await open()
    await node.receive({ 'default/other': device('default/other') })
    const { events, text } = await watch(node)
    await until(() => events.length === 1)
    await node.send('PATCH', '/default/other/twin', { a: 1 })
    await until(async () => {
      await node.clock.pass(15_000)
      return text().endsWith('\n\n:\n\n')
    })
    expect(events).toHaveLength(1)
  })

  test('a reader that takes nothing gets the newest in the end, not everything, and holds up nobody', async () => {
    const node = await open()
    const { twins, server } = node
    const socket = connect(server.port, '127.0.0.1')
    onTestFinished(() => { socket.destroy() })
    await once(socket, 'connect')
    socket.pause()
    socket.write(`GET /v1/devices${twin}?watch HTTP/1.1\r\nhost: h\r\n\r\n`)
    await until(() => node.api.watches === 1)
    let sent = 0
    for (let round = 0; round < 400; round++) {
      const value = `${round}${'x'.repeat(60_000)}`
      await durable(twins.write(id, reported({ a: value }), 'http'))
      await new Promise(resolve => { setImmediate(resolve) })
      sent += value.length
    }
    expect((await node.send('GET', twin)).status).toBe(200)
    let [text, bytes] = ['', 0]
    const values: number[] = []
    socket.on('data', (chunk: Buffer) => {
      bytes += chunk.length
      text += chunk.toString('latin1')
      for (const match of text.matchAll(/"value":"(\d+)x/g)) if (values.at(-1) !== Number(match[1])) values.push(Number(match[1]))
      text = text.slice(-32)
    })
    socket.resume()
    await until(() => values.at(-1) === 399)
    expect(bytes).toBeLessThan(sent / 2)
    expect(values).toEqual(values.toSorted((a, b) => a - b))
  })

  test('has a bound, and leaves room for requests', async () => {
    const node = await open({ watchesMax: 2 })
    const first = await watch(node)
    await watch(node)
    await until(() => node.api.watches === 2)
    const third = await node.send('GET', `${twin}?watch=true`)
    expect([third.status, third.headers.get('retry-after'), third.body['code']]).toEqual([503, '5', 'WATCHES_TOO_MANY'])
    expect(node.server.requestsInFlight).toBe(0)
    first.response.destroy()
    await until(() => node.api.watches === 1)
    expect((await watch(node)).response.statusCode).toBe(200)
    expect(await node.send('GET', `${twin}?watch=perhaps`)).toMatchObject({ status: 400 })
    expect((await node.send('GET', `${twin}?watch=false`)).body).toMatchObject({ device: id })
  })

  test('ends when the server stops', async () => {
    const node = await open()
    const { timers } = node.clock
    const { response, events } = await watch(node)
    await until(() => events.length === 1 && node.clock.timers === timers + 1)
    const ended = once(response, 'close')
    await node.server.close()
    await ended
    expect(node.clock.timers).toBe(timers)
  })
})

test('the device API serves twins beside telemetry', async () => {
  const node = await open()
  await using edge = await openEdge({ twins: node.twins })
  const answer = await fetch(`${edge.url}/v1/devices/default/plug/twin`, {
    method: 'PATCH', headers: { 'content-type': 'application/json' }, body: '{"a":1}'
  })
  expect(await answer.json()).toMatchObject({ properties: { a: { reported: { value: 1 } } } })
  expect(edge.api.watches).toBe(0)
  expect((await fetch(`${edge.url}/v1/devices/default/plug/telemetry`, { method: 'POST', body: 'x' })).status).toBe(200)
})
