import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, expect, it, onTestFinished } from 'vitest'
import { edgeService } from './edge-client.ts'
import { EdgeDevices } from './edge-devices.ts'
import type { TwinView } from './twin-view.ts'

const { signal } = new AbortController()
const state = { device: 'default/plug', state: null, lastOnlineTime: null, inDesiredState: false, delta: {}, invalid: [] }
const entry = (value: unknown): object => ({ value, version: '1.0.edge-1/0000000e', timestamp: null, writer: 'edge-1' })
const twin = { ...state, delta: { a: 2 }, properties: { a: { desired: entry(2), reported: entry(1) }, b: { reported: entry(1) } } }

async function serving(answer: RequestListener): Promise<EdgeDevices> {
  const server = createServer(answer).listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(async () => {
    server.closeAllConnections()
    server.close()
    await once(server, 'close')
  })
  return new EdgeDevices(edgeService(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, {}))
}

describe('the node to ask', () => {
  it('is the option, else the environment, else this machine', () => {
    expect(edgeService('http://a:1/', { HOLDFAST_EDGE: 'http://b:2' }).url).toBe('http://a:1')
    expect(edgeService('', { HOLDFAST_EDGE: 'http://b:2' }).url).toBe('http://b:2')
    expect(edgeService('', { HOLDFAST_EDGE: '' }).url).toBe('http://127.0.0.1:10555')
    expect(() => edgeService('node:1', {})).toThrow('--edge "node:1": expected the URL of a node\'s device API')
    expect(() => edgeService('', { HOLDFAST_EDGE: 'x' })).toThrow('HOLDFAST_EDGE "x"')
  })

  it.each<[string, RequestListener, string, RegExp]>([
    ['a refusal', (_, response) => response.writeHead(404).end('{"title":"Unknown device","code":"TWIN_DEVICE_UNKNOWN","detail":"no device"}'), 'TWIN_DEVICE_UNKNOWN', /^no device$/],
    ['a refusal without a code', (_, response) => response.writeHead(503).end('{"title":"Too many","detail":"64 requests"}'), 'EDGE_REFUSED', /^64 requests$/],
    ['a port that has no devices', (_, response) => response.writeHead(404).end('{"title":"Not found"}'), 'EDGE_ANSWER_INVALID', /not the device API of a matching edgecore/],
    ['something else', (_, response) => response.end('<h1>'), 'EDGE_ANSWER_INVALID', /not JSON/]
  ])('%s is said', async (_, answer, code, message) => {
    await expect((await serving(answer)).get('default/plug', signal)).rejects.toMatchObject({ code, message: expect.stringMatching(message) as string })
  })

  it('is said to be missing where nothing listens', async () => {
    await expect(new EdgeDevices(edgeService('http://127.0.0.1:1', {})).list({}, signal)).rejects.toMatchObject({
      code: 'EDGE_UNREACHABLE', message: expect.stringMatching(/^nothing listens at .*start edgecore.*--edge=URL/) as string
    })
  })
})

it('a list is read page by page', async () => {
  const row = (id: string): object => ({ id, model: null, state: null, lastOnlineTime: null, inDesiredState: false, pending: ['a', 'b'], invalid: ['c'], creationTimestamp: null })
  const devices = await serving((request, response) => response.end(JSON.stringify(request.url === '/v1/devices'
    ? { devices: [row('a/x'), row('b/y')], next: 'b/y' } : { devices: [row('b/z')], next: null })))
  expect((await devices.list({ namespace: 'b' }, signal)).map(({ device, inDesiredState }) => [device, inDesiredState]))
    .toEqual([['b/y', 'no, waits for a, b; not allowed: c'], ['b/z', 'no, waits for a, b; not allowed: c']])
})

it.each<[string, unknown]>([['level=7', 7], ['level=high', 'high'], ['mode=7', '7'], ['mode={"a":1}', '{"a":1}'], ['any={"a":1}', { a: 1 }], ['any=', ''], ['any="7"', '7']])(
  'what is typed as %s is sent as the model has it', async (typed, value) => {
    let sent: unknown
    let line = ''
    const devices = await serving((request, response) => {
      if (request.method === 'GET') {
        response.end(JSON.stringify({ model: 'plugs', properties: [{ name: 'level', type: 'INT' }, { name: 'mode', type: 'STRING' }], twin }))
        return
      }
      line = `${request.method} ${request.url} ${request.headers['content-type']}`
      request.setEncoding('utf8').on('data', (text: string) => {
        sent = JSON.parse(text)
        response.end(JSON.stringify(twin))
      })
    })
    const at = typed.indexOf('=')
    await devices.set('default/plug', [{ property: typed.slice(0, at), text: typed.slice(at + 1) }], 'none', signal)
    expect(sent).toEqual({ [typed.slice(0, at)]: value })
    expect(line).toBe('PATCH /v1/devices/default/plug/twin?section=desired&version=none application/merge-patch+json')
  })

describe('a watch', () => {
  const events = (texts: readonly string[], end = true): RequestListener => (request, response) => {
    if (!request.url!.endsWith('?watch')) {
      response.end(JSON.stringify({ model: null, properties: null, twin }))
      return
    }
    // Cut anywhere: an event is what stands between empty lines.
    for (const text of texts) for (const part of text.match(/[^]{1,7}/g)!) response.write(part)
    if (end) response.end()
  }
  const event = (name: string, data: object): string => `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`

  it('puts changes into the twin, until the device goes', async () => {
    const change = { ...state, state: 'ok', inDesiredState: true, properties: { a: { desired: entry(2), reported: entry(2) }, b: null, c: { reported: entry('é') } } }
    const devices = await serving(events([event('twin', twin), ':\n\n', event('change', change), event('deleted', { device: 'default/plug' })]))
    const views: TwinView[] = []
    for await (const view of devices.watch('default/plug', signal)) views.push(view)
    expect(views).toHaveLength(2)
    expect(views[0]!.properties['a']!.sync).toBe('no: the device has not reported the desired value')
    expect(views[1]).toMatchObject({ state: 'ok', inDesiredState: true })
    expect(Object.entries(views[1]!.properties).map(([name, { reported, sync }]) => [name, reported!.value, sync])).toEqual([['a', 2, 'yes'], ['c', 'é', '']])
  })

  it('that the node ends is told', async () => {
    const devices = await serving(events([event('twin', twin)]))
    const seen: TwinView[] = []
    await expect((async () => {
      for await (const view of devices.watch('default/plug', signal)) seen.push(view)
    })()).rejects.toMatchObject({ code: 'EDGE_CONNECTION_LOST', message: expect.stringContaining('edgecore ended it): watch again') as string })
    expect(seen).toHaveLength(1)
  })

  it('ends where it is told to', async () => {
    const stop = new AbortController()
    const devices = await serving(events([event('twin', twin)], false))
    await expect((async () => {
      for await (const _ of devices.watch('default/plug', stop.signal)) stop.abort(new Error('enough'))
    })()).rejects.toThrow()
    expect(stop.signal.aborted).toBe(true)
  })
})
