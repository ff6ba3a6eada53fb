import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Json } from '@holdfast/device-twin'
import { SeededRandom } from '@holdfast/runtime'
import type { Clock } from '@holdfast/runtime'
import { describe, expect, test } from 'vitest'
import type { DeviceId } from '../twins/device-twins.ts'
import { HttpProtocol } from './http-protocol.ts'
import { mapperSuite, play } from './testing/mapper-suite.ts'
import type { MapperFixture, PlayedDevice } from './testing/mapper-suite.ts'

interface Site extends MapperFixture {
  readonly protocol: HttpProtocol
  /** Requests that came, in order: method and path. */
  readonly requests: string[]
  /** Requests being handled now, by device; and the most there were. */
  readonly atOnce: { now: number, most: number }
  readonly answer: { status: number, headers: Record<string, string>, body: string | undefined }
}

/** Devices behind one server: `/<name>/state` has all values, `PUT /<name>/<property>` tells one. */
async function openSite(clock: Clock): Promise<Site> {
  const values = new Map<string, Record<string, Json>>()
  const told = new Map<string, { property: string, value: Json }[]>()
  const hanging = new Set<string>()
  const requests: string[] = []
  const atOnce = { now: 0, most: 0 }
  const answer: Site['answer'] = { status: 200, headers: {}, body: undefined }
  const server = createServer((request, response) => {
    const [, name = '', property = ''] = request.url!.split('/')
    requests.push(`${request.method} ${request.url}`)
    if (hanging.has(name)) return
    atOnce.most = Math.max(atOnce.most, ++atOnce.now)
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      atOnce.now--
      const body = Buffer.concat(chunks).toString()
      if (request.method === 'PUT') told.set(name, [...told.get(name) ?? [], { property, value: JSON.parse(body) as Json }])
      response.writeHead(answer.status, answer.headers).end(answer.body ?? JSON.stringify(values.get(name) ?? {}))
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return {
    protocol: new HttpProtocol({ clock, random: new SeededRandom(1) }),
    requests, atOnce, answer, isRemote: true,
    device: (name): PlayedDevice => ({
      settings: { url: `${base}/${name}` },
      visitor: property => ({ path: '/state', pointer: `/${property}`, write: { path: `/${property}`, body: '{{json}}' } }),
      brokenVisitor: { settings: { path: 'state' }, names: 'visitors.configData.path' },
      say: said => { values.set(name, said) },
      get told() { return told.get(name) ?? [] },
      hang: () => { hanging.add(name) }
    }),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise(resolve => { server.close(resolve) })
    }
  }
}

// Every millisecond on the test's clock is one for the sockets, and on a slow machine several.
describe('the mapper for HTTP', { timeout: 60_000 }, () => {
  mapperSuite(openSite)

  test('properties of one path cost one request an interval', async () => {
    await using played = await play(openSite)
    const site = played.fixture as Site
    await site.device('plug').say({ power: true, level: 3 })
    await played.receive({ plug: ['power', 'level'] })
    await played.until(() => played.reported('plug'), { power: true, level: 3 })
    expect(site.requests).toEqual(['GET /plug/state'])
    await played.pass(900)
    expect(site.requests).toHaveLength(1)
    await played.pass(200)
    await played.until(() => site.requests.length, 2)
  })

  test('a collectCycle longer than timers can be is a day', async () => {
    const timers: number[] = []
    await using played = await play(async clock => {
      const site = await openSite({
        wallMs: () => clock.wallMs(), monotonicMs: () => clock.monotonicMs(), soon: task => clock.soon(task),
        after: (delayMs, task) => { timers.push(delayMs); return clock.after(delayMs, task) }
      })
      return { ...site, [Symbol.asyncDispose]: () => site[Symbol.asyncDispose]() }
    })
    await played.receive({ plug: ['power'] }, {}, {}, 1e15)
    await played.until(() => timers.length > 1, true)
    expect(Math.max(...timers)).toBeLessThanOrEqual(86_400_000)
  })

  test('a device is offline after three failures in a row, and online after an answer', async () => {
    await using played = await play(openSite)
    const site = played.fixture as Site
    await played.receive({ plug: ['power'] })
    await played.until(() => played.twin('plug').twin.state?.value, 'online')
    site.device('plug').hang()
    for (let i = 1; i <= 3; i++) {
      await played.until(() => site.requests.length > i, true)
      expect(played.twin('plug').twin.state?.value).toBe('online')
      await played.pass(5000)
    }
    await played.until(() => played.twin('plug').twin.state?.value, 'offline')
    expect(played.problems('plug')[0]!.reason).toContain('was not answered within 5000 ms')
  })

  test.each([
    ['an error', { status: 500 }, 'was answered 500'],
    ['a redirect', { status: 302, headers: { location: '/elsewhere' } }, 'was answered 302'],
    ['what is not JSON', { body: '<html>' }, 'expected JSON, since the visitor has a pointer, got <html>'],
    ['too much', { body: 'x'.repeat(256 * 1024 + 1) }, 'more than 262144 bytes']
  ])('a device that answers %s is told, and asked again', async (_what, answer, reason) => {
    await using played = await play(openSite)
    const site = played.fixture as Site
    Object.assign(site.answer, answer)
    await played.receive({ plug: ['power', 'level'] })
    const told = (property: string): object => ({ property, reason: expect.stringContaining(reason) as string })
    await played.until(() => played.problems('plug'), [told('power'), told('level')])
    // It answers again, and has nothing to say of the other one.
    await site.device('plug').say({ power: true })
    Object.assign(site.answer, { status: 200, headers: {}, body: undefined })
    await played.pass(2000)
    await played.until(() => [played.reported('plug'), played.problems('plug')], [{ power: true }, []])
    expect(site.requests.every(request => request === 'GET /plug/state')).toBe(true)
  })

  test('a device gets one request at a time, and a written value is read back at once', async () => {
    await using played = await play(openSite)
    const site = played.fixture as Site
    await played.receive({ plug: ['power', 'level'] }, { power: 'true', level: '9' })
    await played.until(() => site.device('plug').told.length, 2)
    await site.device('plug').say({ power: true, level: 9 })
    await played.until(() => played.reported('plug'), { power: true, level: 9 })
    expect(site.atOnce.most).toBe(1)
  })

  test('where nothing reads a property back, the device\'s answer is its report', async () => {
    await using played = await play(openSite)
    await played.receive({ plug: ['level'] }, { level: '12' }, { level: { write: { path: '/level', body: '{{value}}' } } })
    await played.until(() => played.reported('plug'), { level: 12 })
    expect(played.fixture.device('plug').told).toEqual([{ property: 'level', value: 12 }])
  })

  test.each([
    [{ path: 'status' }, 'visitors.configData.path: expected a path such as /status'],
    [{}, 'expected path (asked at each collectCycle), webhook: true (the device calls), write, or several of them'],
    [{ path: '/s', method: 'DELETE' }, 'visitors.configData.method: expected GET or POST, got "DELETE"'],
    [{ write: { body: '1' } }, 'visitors.configData.write.path'],
    [{ write: { path: '/a', methods: 'PUT' } }, 'visitors.configData.write: no such setting: methods']
  ])('settings %j are told so that somebody can act on it', async (settings, reason) => {
    await using played = await play(openSite)
    await played.receive({ plug: ['level'] }, {}, { level: settings })
    expect(played.problems('plug')).toEqual([{ property: 'level', reason: expect.stringContaining(reason) as string }])
  })

  test.each([
    [{ url: 'ftp://a' }, 'spec.protocol.configData.url: expected a base address such as http://192.168.1.20'],
    [{ url: 'http://a/?b' }, 'spec.protocol.configData.url'],
    [{ url: 'http://127.0.0.1', timeout: 60_000 }, 'spec.protocol.configData.timeout: expected milliseconds, a whole number from 100 to 10000, got 60000'],
    [{ url: 'http://127.0.0.1', headers: { 'a b': 'c' } }, 'spec.protocol.configData.headers']
  ])('a device with settings %j is not served, and told', async (settings, reason) => {
    await using played = await play(async clock => {
      const site = await openSite(clock)
      return { ...site, device: name => ({ ...site.device(name), settings }), [Symbol.asyncDispose]: () => site[Symbol.asyncDispose]() }
    })
    await played.receive({ plug: ['level'] })
    expect(played.problems('plug')).toEqual([{ property: undefined, reason: expect.stringContaining(reason) as string }])
  })

  test('a device that calls is taken by its visitors', async () => {
    await using played = await play(openSite)
    const { protocol } = played.fixture as Site
    await played.receive({ plug: ['power', 'level'] }, {}, {
      power: { webhook: true, pointer: '/state', conversion: { map: { on: true, off: false } } }
    })
    const taken = protocol.take('default/plug' as DeviceId, Buffer.from('{"state":"on","level":4}'))
    expect(taken!.properties).toEqual(['power'])
    await new Promise<void>(resolve => { taken!.commit!.onDurable(() => resolve()) })
    expect([played.reported('plug'), played.twin('plug').twin.state?.value]).toEqual([{ power: true }, 'online'])
    expect(protocol.take('default/lamp' as DeviceId, Buffer.from('{}'))).toBeUndefined()
    expect(protocol.take('default/plug' as DeviceId, Buffer.from('{"state":"dim"}'))).toMatchObject({
      properties: [], problems: [{ property: 'power', reason: expect.stringContaining('the webhook: expected') as string }]
    })
    expect(protocol.take('default/plug' as DeviceId, Buffer.from('{"state":'))!.problems).toEqual(
      [{ property: 'power', reason: 'the webhook: expected JSON, since the visitor has a pointer, got {"state":' }])
  })

  test('a device that calls is told of a value that its model does not allow, and the others are stored', async () => {
    await using played = await play(openSite)
    const { protocol } = played.fixture as Site
    await played.receive({ plug: ['power', 'level'] }, {}, {
      power: { webhook: true, pointer: '/power' }, level: { webhook: true, pointer: '/level' }
    })
    const taken = protocol.take('default/plug' as DeviceId, Buffer.from('{"power":true,"level":"high"}'))
    expect(taken).toMatchObject({ properties: ['power'], problems: [{ property: 'level', reason: expect.stringContaining('"high"') as string }] })
    await new Promise<void>(resolve => { taken!.commit!.onDurable(() => resolve()) })
    expect(played.reported('plug')).toEqual({ power: true })
  })
})
