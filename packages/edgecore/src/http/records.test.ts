import { once } from 'node:events'
import { get } from 'node:http'
import type { IncomingMessage } from 'node:http'
import { BatchStreamDecoder, RecordTopic, readRecords } from '@holdfast/protos'
import type { ReaderBatch } from '@holdfast/protos'
import { MemoryStore } from '@holdfast/store'
import type { OutboxLane } from '@holdfast/store'
import { expect, onTestFinished, test } from 'vitest'
import { httpLimits } from './limits.ts'
import { encodePlaces, epochTag } from './records-cursor.ts'
import { openEdge, telemetryLane, until } from '../testing/device-api-fixture.ts'
import type { Edge, EdgeOptions } from '../testing/device-api-fixture.ts'

interface Line {
  readonly node: string
  readonly lane: string
  readonly offset: number
  readonly device: string
  readonly payload: string
  readonly cursor: string
  readonly gap?: { readonly first: number, readonly last: number, readonly reason: string }
}

async function edgeOf(options: EdgeOptions = {}): Promise<Edge> {
  const edge = await openEdge(options)
  onTestFinished(async () => { await edge[Symbol.asyncDispose]() })
  return edge
}

/** Appends payloads in one commit. */
async function put(edge: Edge, laneName: string, payloads: readonly (string | Buffer)[], device = 'ns/n'): Promise<void> {
  const lane = edge.outbox.lane(laneName)!
  const topic = new RecordTopic(`devices/${device}/telemetry`, device)
  const commit = edge.outbox.gather(lane, 1)
  for (const payload of payloads) edge.outbox.append(commit, lane, topic, Buffer.from(payload))
  await new Promise<void>((resolve, reject) => {
    commit.onDurable(error => { if (error === undefined) resolve(); else reject(error) })
  })
}

/** More than may lie acknowledged and not trimmed for long. */
async function putMuch(edge: Edge): Promise<void> {
  for (let i = 0; i < 20; i++) await put(edge, 'telemetry', [Buffer.from(crypto.getRandomValues(new Uint8Array(60_000)))])
}

async function acknowledge(edge: Edge, lane: OutboxLane): Promise<void> {
  const batches = await edge.outbox.scan(lane, lane.acked, 2 ** 30)
  edge.outbox.acknowledge(lane, lane.durable, batches.map(({ base, next, bytes }) => ({ base, next, bytes: bytes.length })))
}

const fetchRecords = (edge: Edge, query = ''): Promise<Response> => fetch(`${edge.url}/v1/records?encoding=utf8${query}`)
const parse = (text: string): Line[] => text.split('\n').filter(line => line !== '').map(line => JSON.parse(line))
const read = async (edge: Edge, query = ''): Promise<Line[]> => {
  const response = await fetchRecords(edge, query)
  expect(response.status).toBe(200)
  return parse(await response.text())
}
const payloads = (lines: readonly Line[]): string[] => lines.map(({ payload }) => payload)

/** A streaming request; `lines` grows as they come. */
async function follow(edge: Edge, query = ''): Promise<{ lines: Line[], response: IncomingMessage, ended: Promise<unknown> }> {
  const request = get(`${edge.url}/v1/records?encoding=utf8&follow=true${query}`)
  onTestFinished(() => { request.destroy() })
  const [response] = await once(request, 'response') as [IncomingMessage]
  const lines: Line[] = []
  let rest = ''
  response.setEncoding('utf8')
  response.on('data', (chunk: string) => {
    rest += chunk
    const end = rest.lastIndexOf('\n') + 1
    lines.push(...parse(rest.slice(0, end)))
    rest = rest.slice(end)
  })
  response.on('error', () => {})
  return { lines, response, ended: new Promise(resolve => { response.on('close', resolve) }) }
}

test('what is held comes lane by lane in commit order, acknowledged or waiting', async () => {
  const edge = await edgeOf()
  await put(edge, 'telemetry', ['a', 'b'])
  await put(edge, 'alarms', ['!'])
  await put(edge, 'telemetry', ['c'])
  await acknowledge(edge, edge.outbox.lane('telemetry')!)
  const response = await fetchRecords(edge)
  expect(response.headers.get('content-type')).toBe('application/x-ndjson')
  const lines = parse(await response.text())
  expect(lines.map(({ node, lane, offset, payload }) => [node, lane, offset, payload])).toEqual([
    ['edge-1', 'alarms', 0, '!'], ['edge-1', 'telemetry', 0, 'a'], ['edge-1', 'telemetry', 1, 'b'], ['edge-1', 'telemetry', 2, 'c']
  ])
  expect(payloads(await read(edge, '&lane=telemetry'))).toEqual(['a', 'b', 'c'])
})

test('every cursor leads behind its record, in every lane, and one stays good for what comes later', async () => {
  const edge = await edgeOf()
  await put(edge, 'alarms', ['A', 'B'])
  await put(edge, 'telemetry', ['a', 'b', 'c'])
  await put(edge, 'telemetry', ['d'])
  const all = await read(edge)
  for (const [i, { cursor }] of all.entries()) {
    expect(payloads(await read(edge, `&cursor=${cursor}`)), all[i]!.payload).toEqual(payloads(all.slice(i + 1)))
  }
  const last = all.at(-1)!.cursor
  await put(edge, 'alarms', ['C'])
  await put(edge, 'telemetry', ['e'])
  expect(payloads(await read(edge, `&cursor=${last}`))).toEqual(['C', 'e'])
  expect(payloads(await read(edge, `&cursor=${last}&lane=telemetry`))).toEqual(['e'])
})

test('device and limit narrow what comes', async () => {
  const edge = await edgeOf()
  await put(edge, 'telemetry', ['a', 'b'], 'ns/one')
  await put(edge, 'telemetry', ['c', 'd'], 'ns/two')
  expect(payloads(await read(edge, '&device=ns/two'))).toEqual(['c', 'd'])
  const first = await read(edge, '&limit=3')
  expect(payloads(first)).toEqual(['a', 'b', 'c'])
  expect(payloads(await read(edge, `&limit=1&cursor=${first[2]!.cursor}`))).toEqual(['d'])
})

test('follow goes on with what becomes durable in any lane, in order', async () => {
  const edge = await edgeOf()
  await put(edge, 'telemetry', ['a'])
  const { lines, response } = await follow(edge)
  expect(response.statusCode).toBe(200)
  await until(() => lines.length === 1)
  await put(edge, 'alarms', ['!'])
  await until(() => lines.length === 2)
  await put(edge, 'telemetry', ['b', 'c'])
  await until(() => lines.length === 4)
  expect(payloads(lines)).toEqual(['a', '!', 'b', 'c'])
  expect(payloads(await read(edge, `&cursor=${lines[2]!.cursor}`))).toEqual(['c'])
})

test('follow misses nothing that becomes durable while it reads', async () => {
  const edge = await edgeOf()
  await put(edge, 'telemetry', ['a'])
  const scan = edge.outbox.scan.bind(edge.outbox)
  let late = false
  edge.outbox.scan = async (lane, from, bytesMax) => {
    const page = await scan(lane, from, bytesMax)
    if (!late) {
      late = true
      await put(edge, 'alarms', ['late'])
    }
    return page
  }
  const { lines } = await follow(edge)
  await until(() => lines.length === 2)
  expect(payloads(lines)).toEqual(['a', 'late'])
})

test('follow answers at once where there is nothing yet, and ends when the server stops', async () => {
  const edge = await edgeOf()
  const { lines, response, ended } = await follow(edge)
  expect(response.statusCode).toBe(200)
  await put(edge, 'telemetry', ['a'])
  await until(() => lines.length === 1)
  await edge.api.run(AbortSignal.abort())
  await ended
  expect(response.complete).toBe(true)
})

test('the batch stream is the stored bytes, with cursors that lines understand', async () => {
  const edge = await edgeOf()
  await put(edge, 'telemetry', ['a', 'b'])
  await put(edge, 'telemetry', ['c'])
  const batches = async (query: string): Promise<ReaderBatch[]> => {
    const response = await fetch(`${edge.url}/v1/records${query}`, { headers: { accept: 'application/vnd.holdfast.batch' } })
    expect(response.headers.get('content-type')).toBe('application/vnd.holdfast.batch')
    const decoder = new BatchStreamDecoder()
    const found = [...decoder.push(Buffer.from(await response.arrayBuffer()))]
    decoder.end()
    return found
  }
  const all = await batches('')
  expect(all.map(({ node, lane }) => [node, lane])).toEqual([['edge-1', 'telemetry'], ['edge-1', 'telemetry']])
  expect(all.flatMap(({ batch, header }) => readRecords(batch, header).map(({ payload }) => payload.toString()))).toEqual(['a', 'b', 'c'])
  const stored = await edge.outbox.scan(edge.outbox.lane('telemetry')!, 0, 2 ** 20)
  expect(all.map(({ batch }) => batch)).toEqual(stored.map(({ bytes }) => bytes))
  const [, b] = await read(edge)
  expect((await batches(`?cursor=${(await read(edge))[0]!.cursor}`)).map(({ skip }) => skip)).toEqual([1, 0])
  expect((await batches(`?cursor=${b!.cursor}`)).map(({ header }) => header.base)).toEqual([2])
  expect(await batches('?limit=1')).toHaveLength(1)
  const refused = await fetch(`${edge.url}/v1/records?device=ns/n`, { headers: { accept: 'application/vnd.holdfast.batch' } })
  expect(refused.status).toBe(400)
})

test('a gap stands where records are gone, and its cursor leads behind it', async () => {
  const lanes = { telemetry: { ...telemetryLane, bytesMax: 400_000, overflow: 'drop-oldest' as const } }
  const edge = await edgeOf({ lanes })
  const random = (): Buffer => Buffer.from(crypto.getRandomValues(new Uint8Array(60_000)))
  for (let i = 0; i < 20; i++) await put(edge, 'telemetry', [random()])
  const lane = edge.outbox.lane('telemetry')!
  await until(() => lane.dropped > 0 && !lane.busy)
  const lines = await read(edge)
  const [gap] = lines
  expect(gap!.gap).toMatchObject({ first: 0, reason: 'overflow' })
  const next = gap!.gap!.last + 1
  expect(lines.slice(1).map(({ offset }) => offset)).toEqual(Array.from({ length: 20 - next }, (_, i) => next + i))
  expect((await read(edge, `&cursor=${gap!.cursor}`)).map(({ offset }) => offset)).toEqual(lines.slice(1).map(({ offset }) => offset))
})

test('a cursor behind which records were trimmed is 410, with the nearest place to go on from', async () => {
  const edge = await edgeOf({ lanes: { alarms: telemetryLane, telemetry: { ...telemetryLane, keepBytes: 0, keepAgeMs: 0 } } })
  await put(edge, 'alarms', ['A'])
  await put(edge, 'telemetry', ['a'])
  const cursor = (await read(edge)).at(-1)!.cursor
  await putMuch(edge)
  await put(edge, 'telemetry', ['c'])
  const lane = edge.outbox.lane('telemetry')!
  await acknowledge(edge, lane)
  await until(() => lane.first === lane.durable - 1)
  const response = await fetchRecords(edge, `&cursor=${cursor}`)
  expect(response.status).toBe(410)
  const problem = await response.json() as { code: string, firstCursor: string }
  expect(problem.code).toBe('CURSOR_EXPIRED')
  expect(payloads(await read(edge, `&cursor=${problem.firstCursor}`))).toEqual(['c'])
})

test('a cursor of another history is 410, even where the offsets fit', async () => {
  const [edge, other] = [await edgeOf(), await edgeOf()]
  for (const each of [edge, other]) await put(each, 'telemetry', ['a', 'b', 'c'])
  const { cursor } = (await read(other))[0]!
  const response = await fetchRecords(edge, `&cursor=${cursor}`)
  expect([response.status, await response.json()]).toMatchObject([410, { code: 'CURSOR_FOREIGN', firstCursor: null }])
  await put(other, 'telemetry', ['d'])
  const beyond = (await read(other)).at(-1)!.cursor
  expect((await fetchRecords(edge, `&cursor=${beyond}`)).status).toBe(410)
  const lane = edge.outbox.lane('telemetry')!
  const lost = encodePlaces(new Map([[lane.id, { offset: 4, epochTag: epochTag(lane.epoch!) }]]))
  expect((await fetchRecords(edge, `&cursor=${lost}`)).status).toBe(410)
})

test('cursors go on over a restart, which begins new epochs', async () => {
  const store = new MemoryStore()
  const before = await openEdge({ store })
  await put(before, 'telemetry', ['a', 'b'])
  const cursors = (await read(before)).map(({ cursor }) => cursor)
  await before[Symbol.asyncDispose]()
  const edge = await edgeOf({ store })
  await put(edge, 'telemetry', ['c'])
  expect(payloads(await read(edge, `&cursor=${cursors[0]}`))).toEqual(['b', 'c'])
  expect(payloads(await read(edge, `&cursor=${cursors[1]}`))).toEqual(['c'])
})

test('a slow reader holds a page, not the outbox', async () => {
  const edge = await edgeOf()
  for (let i = 0; i < 200; i++) await put(edge, 'telemetry', [Buffer.from(crypto.getRandomValues(new Uint8Array(60_000)))])
  const lane = edge.outbox.lane('telemetry')!
  let furthest = 0
  const scan = edge.outbox.scan.bind(edge.outbox)
  edge.outbox.scan = (of, from, bytesMax) => {
    furthest = from
    expect(bytesMax).toBe(httpLimits.recordsPageBytes.value)
    return scan(of, from, bytesMax)
  }
  const request = get(`${edge.url}/v1/records`)
  const [response] = await once(request, 'response') as [IncomingMessage]
  response.pause()
  await until(() => furthest > 0)
  await put(edge, 'telemetry', ['goes on'])
  let [seen, unchanged] = [furthest, 0]
  await until(() => {
    unchanged = furthest === seen ? unchanged + 1 : 0
    seen = furthest
    return unchanged > 2000
  })
  expect(seen).toBeLessThan(lane.durable)
  let bytes = 0
  response.on('data', (chunk: Buffer) => { bytes += chunk.length })
  response.resume()
  await once(response, 'end')
  expect(bytes).toBeGreaterThan(200 * 80_000)
})

test('a reader that is overtaken by trimming is cut off, not passed over what is gone', async () => {
  const edge = await edgeOf({ lanes: { telemetry: { ...telemetryLane, keepBytes: 0, keepAgeMs: 0 } } })
  await put(edge, 'telemetry', ['a'])
  const lane = edge.outbox.lane('telemetry')!
  const scan = edge.outbox.scan.bind(edge.outbox)
  const gate = Promise.withResolvers<void>()
  let scans = 0
  edge.outbox.scan = async (of, from, bytesMax) => {
    if (scans++ > 0) await gate.promise
    return await scan(of, from, bytesMax)
  }
  const { lines, response, ended } = await follow(edge)
  await until(() => lines.length === 1)
  await put(edge, 'telemetry', ['b'])
  await putMuch(edge)
  await until(() => scans === 2)
  edge.outbox.acknowledge(lane, lane.durable, (await scan(lane, 0, 2 ** 30)).map(({ base, next, bytes }) => ({ base, next, bytes: bytes.length })))
  await until(() => lane.first === lane.durable - 1)
  gate.resolve()
  await ended
  expect(response.complete).toBe(false)
  expect(payloads(lines)).toEqual(['a'])
  expect((await fetchRecords(edge, `&cursor=${lines[0]!.cursor}`)).status).toBe(410)
})

test('readers have a bound, below that of requests, and leave room when they go', async () => {
  const edge = await edgeOf({ http: { requestsInFlightMax: 8 } })
  const readers = [await follow(edge), await follow(edge)]
  const refused = await fetchRecords(edge)
  expect([refused.status, refused.headers.get('retry-after'), await refused.json()]).toMatchObject([503, '5', { code: 'READERS_TOO_MANY' }])
  expect((await fetch(`${edge.url}/v1/devices/ns/n/telemetry`, { method: 'POST', body: 'x' })).status).toBe(200)
  readers[0]!.response.destroy()
  await until(async () => (await fetchRecords(edge)).status === 200)
})

test.each([
  ['lane', 'nothing'], ['device', ''], ['cursor', 'AAAA'], ['cursor', 'x'.repeat(300)], ['limit', '0'], ['limit', '1e3'],
  ['follow', 'yes'], ['encoding', 'hex'], ['nodes', 'a']
])('parameter %s=%s is 400 with what is expected', async (parameter, value) => {
  const edge = await edgeOf()
  const response = await fetch(`${edge.url}/v1/records?${parameter}=${value}`)
  expect([response.status, await response.json()]).toMatchObject([400, { code: 'PARAMETER_INVALID', parameter, bound: expect.any(String) }])
})

test('a parameter given twice is 400, and HEAD has no body', async () => {
  const edge = await edgeOf()
  expect((await fetch(`${edge.url}/v1/records?limit=1&limit=2`)).status).toBe(400)
  const head = await fetch(`${edge.url}/v1/records`, { method: 'HEAD' })
  expect([head.status, await head.text()]).toEqual([200, ''])
})
