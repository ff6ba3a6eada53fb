import { mkdtemp, rm } from 'node:fs/promises'
import { once } from 'node:events'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { HoldfastError } from '@holdfast/runtime'
import { LevelStore, MemoryStore, tables } from '@holdfast/store'
import type { Store } from '@holdfast/store'
import { expect, onTestFinished, test } from 'vitest'
import { httpLimits } from './limits.ts'
import { GatedStore, openEdge, telemetryLane, until } from '../testing/device-api-fixture.ts'
import type { Edge, EdgeOptions } from '../testing/device-api-fixture.ts'

async function edgeOf(options: EdgeOptions = {}): Promise<Edge> {
  const edge = await openEdge(options)
  onTestFinished(async () => { await edge[Symbol.asyncDispose]() })
  return edge
}

const post = (edge: Edge, path: string, body: string | Uint8Array<ArrayBuffer>, headers: Record<string, string> = {}): Promise<Response> =>
  fetch(edge.url + path, { method: 'POST', body, headers })
const lines = (edge: Edge, body: string, headers: Record<string, string> = {}): Promise<Response> =>
  post(edge, '/v1/telemetry', body, { 'content-type': 'application/x-ndjson', ...headers })
const one = '/v1/devices/ns/n/telemetry'
const line = (device: string, payload: unknown): string => JSON.stringify({ device, payload }) + '\n'
const problemOf = async (response: Response): Promise<Record<string, unknown>> => {
  expect(response.headers.get('content-type')).toBe('application/problem+json')
  return await response.json() as Record<string, unknown>
}
async function storedKeys(store: Store): Promise<number> {
  const entries = await store.scan({ gte: Buffer.from([tables.httpIdempotency]), lt: Buffer.from([tables.httpIdempotency + 1]) })
  return entries.length
}

test('one record is its body, byte for byte, whatever its content type', async () => {
  const edge = await edgeOf()
  const response = await post(edge, one, new Uint8Array([0, 255, 10]), { 'content-type': 'image/x-odd' })
  expect(response.status).toBe(200)
  expect(await response.json()).toEqual({ records: 1, lanes: { telemetry: 1 } })
  const text = await (await fetch(`${edge.url}/v1/records`)).text()
  expect(JSON.parse(text)).toMatchObject({
    node: 'edge-1', lane: 'telemetry', offset: 0, device: 'ns/n', topic: 'devices/ns/n/telemetry', payload: 'AP8K'
  })
})

test('L1: success is told after the fsync, not before', async () => {
  const store = new GatedStore()
  const edge = await edgeOf({ store })
  store.mode = 'hold'
  let answered = 0
  const answers = [post(edge, one, 'a'), lines(edge, line('ns/n', 1))].map(async pending => {
    const response = await pending
    answered++
    return response.status
  })
  await until(() => store.held === 1)
  await until(() => edge.api.requestsInFlight === 2)
  expect(answered).toBe(0)
  expect(edge.outbox.status().map(({ records }) => records)).toEqual([0, 0])
  store.release()
  expect(await Promise.all(answers)).toEqual([200, 200])
})

test('lines become records in their order, each where its route leads', async () => {
  const edge = await edgeOf({ rules: [
    { filter: 'devices/urgent/{name}/telemetry', device: 'urgent/{name}', lane: 'alarms' },
    { filter: 'devices/{namespace}/{name}/telemetry', device: '{namespace}/{name}', lane: 'telemetry' }
  ] })
  const body = line('ns/a', { v: 1 }) + line('urgent/b', 'x') + line('ns/a', 2) + '{"device":"ns/c","payloadBase64":"aGk="}'
  expect(await (await lines(edge, body)).json()).toEqual({ records: 4, lanes: { telemetry: 3, alarms: 1 } })
  expect((await edge.records()).map(({ lane, device, payload }) => [lane, device, payload])).toEqual([
    ['alarms', 'urgent/b', '"x"'], ['telemetry', 'ns/a', '{"v":1}'], ['telemetry', 'ns/a', '2'], ['telemetry', 'ns/c', 'hi']
  ])
})

test('all lines are one commit, across lanes of different urgency and past the size at which commits are cut', async () => {
  const writes: number[] = []
  const inner = new MemoryStore()
  const store = new GatedStore(inner)
  const edge = await edgeOf({ store, http: { bodyBytesMax: 4 * 1024 * 1024 }, rules: [
    { filter: 'devices/urgent/{name}/telemetry', device: 'urgent/{name}', lane: 'alarms' },
    { filter: 'devices/{namespace}/{name}/telemetry', device: '{namespace}/{name}', lane: 'telemetry' }
  ] })
  const write = inner.write.bind(inner)
  inner.write = (ops, options, onDone) => {
    writes.push(ops.filter(op => op.key[0] === tables.outboxBatch).length)
    write(ops, options, onDone)
  }
  const long = 'x'.repeat(200_000)
  const body = Array.from({ length: 10 }, (_, i) => line(i % 3 === 0 ? 'urgent/b' : 'ns/a', long)).join('')
  expect((await lines(edge, body)).status).toBe(200)
  expect(writes.filter(batches => batches > 0)).toEqual([10])
})

test('a bad line refuses them all and stores none', async () => {
  const edge = await edgeOf()
  const response = await lines(edge, line('ns/n', 1) + '{"device":"ns/n","payload":}\n')
  expect(response.status).toBe(400)
  expect(await problemOf(response)).toMatchObject({ type: 'RECORD_INVALID', code: 'RECORD_INVALID', status: 400, line: 2 })
  expect(await edge.records()).toEqual([])
  expect(edge.api.counters.refused.get('RECORD_INVALID')).toBe(1)
})

test('bounds are 413, each with its number: body, records, record', async () => {
  const edge = await edgeOf({ http: { bodyBytesMax: 2048, recordsPerRequestMax: 3 } })
  const four = await lines(edge, line('ns/n', 1).repeat(4))
  expect([four.status, await problemOf(four)]).toMatchObject([413, {
    code: 'RECORDS_TOO_MANY', line: 4, bound: 3, detail: expect.stringContaining('(http.recordsPerRequestMax)') as string
  }])
  const long = await lines(edge, line('ns/n', 'x'.repeat(2048)))
  expect([long.status, await problemOf(long)]).toMatchObject([413, {
    code: 'BODY_TOO_LARGE', bound: 2048, detail: 'the body may have 2048 bytes (http.bodyBytesMax)'
  }])
  const wide = await edgeOf()
  const record = await post(wide, one, 'x'.repeat(httpLimits.recordBytes.value + 1))
  expect([record.status, await problemOf(record)]).toMatchObject([413, {
    code: 'RECORD_TOO_LARGE', bound: 262_144, detail: 'the body may have 262144 bytes'
  }])
  expect((await post(wide, one, 'x'.repeat(httpLimits.recordBytes.value))).status).toBe(200)
  expect(await edge.records()).toEqual([])
})

test('a record that is declared too long is refused before it is read', async () => {
  const edge = await edgeOf()
  const socket = connect(Number(new URL(edge.url).port), '127.0.0.1')
  let text = ''
  socket.on('data', chunk => { text += chunk.toString() })
  socket.on('error', () => {})
  socket.write(`POST ${one} HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: 262145\r\n\r\n`)
  await once(socket, 'close')
  expect(text).toMatch(/^HTTP\/1\.1 413 /)
})

test('a body that is chunked is bounded as it comes', async () => {
  const edge = await edgeOf({ http: { bodyBytesMax: 1024 } })
  const body = ReadableStream.from([Buffer.alloc(600), Buffer.alloc(600)])
  const response = await fetch(edge.url + one, { method: 'POST', body, duplex: 'half' })
  expect([response.status, await problemOf(response)]).toMatchObject([413, {
    code: 'RECORD_TOO_LARGE', bound: 1024, detail: 'the body may have 1024 bytes (http.bodyBytesMax)'
  }])
  const wide = await edgeOf()
  const record = ReadableStream.from([Buffer.alloc(httpLimits.recordBytes.value), Buffer.alloc(1)])
  expect((await fetch(wide.url + one, { method: 'POST', body: record, duplex: 'half' })).status).toBe(413)
  expect(await wide.records()).toEqual([])
})

test('content types other than lines, and content encodings, are 415', async () => {
  const edge = await edgeOf()
  const json = await post(edge, '/v1/telemetry', line('ns/n', 1), { 'content-type': 'application/json' })
  expect([json.status, await problemOf(json), json.headers.get('accept-post')]).toMatchObject([
    415, { code: 'MEDIA_TYPE_UNSUPPORTED' }, 'application/x-ndjson, application/jsonl'
  ])
  const packed = await post(edge, one, 'x', { 'content-encoding': 'gzip' })
  expect([packed.status, packed.headers.get('accept-encoding')]).toEqual([415, 'identity'])
  expect((await lines(edge, line('ns/n', 1), { 'content-type': 'Application/JSONL; charset=utf-8' })).status).toBe(200)
})

test('what no route leads to a lane is refused: 404 alone, 400 with its line among others', async () => {
  const edge = await edgeOf({ rules: [
    { filter: 'devices/home/{name}/telemetry', device: 'home/{name}', lane: 'telemetry' },
    { filter: 'devices/local/{name}/telemetry', device: 'local/{name}', lane: 'local' }
  ] })
  for (const namespace of ['ns', 'local']) {
    const alone = await post(edge, `/v1/devices/${namespace}/n/telemetry`, 'x')
    expect([alone.status, await problemOf(alone)]).toMatchObject([404, { code: 'TOPIC_NOT_ROUTED' }])
  }
  const among = await lines(edge, line('home/n', 1) + line('ns/n', 2))
  expect([among.status, await problemOf(among)]).toMatchObject([400, { code: 'TOPIC_NOT_ROUTED', line: 2, field: 'device' }])
  expect(await edge.records()).toEqual([])
})

test.each(['a%2Fb/n', 'a/%2B', '%23/n', 'a/b%20c', '-a/n', 'a/%F0%9F%98%80'])('%s in the path is no device', async device => {
  const edge = await edgeOf()
  const response = await post(edge, `/v1/devices/${device}/telemetry`, 'x')
  expect([response.status, await problemOf(response)]).toMatchObject([400, { code: 'DEVICE_INVALID' }])
})

test('no line at all is 400', async () => {
  const edge = await edgeOf()
  expect((await lines(edge, '\n \n')).status).toBe(400)
  expect((await lines(edge, '')).status).toBe(400)
})

test('L8: a full lane is 429 with Retry-After, all or nothing over all lanes', async () => {
  const edge = await edgeOf({
    lanes: { alarms: telemetryLane, telemetry: { ...telemetryLane, bytesMax: 65_536 } },
    rules: [
      { filter: 'devices/urgent/{name}/telemetry', device: 'urgent/{name}', lane: 'alarms' },
      { filter: 'devices/{namespace}/{name}/telemetry', device: '{namespace}/{name}', lane: 'telemetry' }
    ]
  })
  const random = Buffer.from(crypto.getRandomValues(new Uint8Array(40_000)))
  expect((await post(edge, one, new Uint8Array(random))).status).toBe(200)
  const payloadBase64 = random.subarray(0, 30_000).toString('base64')
  const refused = await lines(edge, line('urgent/n', 1) + JSON.stringify({ device: 'ns/n', payloadBase64 }))
  expect([refused.status, refused.headers.get('retry-after'), await problemOf(refused)]).toMatchObject([429, '5', { code: 'OUTBOX_FULL' }])
  expect((await edge.records()).map(({ lane }) => lane)).toEqual(['telemetry'])
  const never = await post(edge, one, 'x'.repeat(70_000))
  expect([never.status, await problemOf(never)]).toMatchObject([413, { code: 'RECORD_TOO_LARGE', bound: 65_536 }])
})

test('a full disk is 503 with Retry-After', async () => {
  const edge = await edgeOf()
  edge.outbox.refuse(new HoldfastError('DISK_FULL', 'nearly full'))
  const refused = await post(edge, one, 'x')
  expect([refused.status, refused.headers.get('retry-after'), await problemOf(refused)]).toMatchObject([503, '10', { code: 'DISK_FULL' }])
  edge.outbox.refuse(undefined)
  expect((await post(edge, one, 'x')).status).toBe(200)
})

test('L1: a commit that fails is 503 with Retry-After, and so is what comes before the database is open again', async () => {
  const store = new GatedStore()
  const edge = await edgeOf({ store })
  store.mode = 'fail'
  for (const attempt of ['in the commit', 'after it']) {
    const refused = await post(edge, one, 'x', { 'idempotency-key': 'k' })
    expect([refused.status, refused.headers.get('retry-after'), await problemOf(refused)], attempt)
      .toMatchObject([503, '1', { code: 'STORE_FAILED' }])
  }
  store.mode = 'pass'
  expect((await fetch(`${edge.url}/v1/records`)).status).toBe(503)
  await edge.outbox.reopen(store, false)
  await edge.api.reopen(store)
  edge.committer.resume(store)
  expect((await post(edge, one, 'again')).status).toBe(200)
  expect((await edge.records()).map(({ payload }) => payload)).toEqual(['again'])
})

test('acknowledgements are counted with their latency', async () => {
  const acks: number[] = []
  const edge = await edgeOf({ onAcks: (count, latencyMs) => { acks.push(count, latencyMs) } })
  await lines(edge, line('ns/n', 1).repeat(3))
  expect(acks).toEqual([3, expect.any(Number)])
  expect(edge.api.counters).toMatchObject({ records: 3, requests: 1, replayed: 0 })
})

test('an Idempotency-Key stores once: a repetition gets the same answer and makes no record', async () => {
  const edge = await edgeOf()
  const body = line('ns/n', 1) + line('ns/n', 2)
  const first = await lines(edge, body, { 'idempotency-key': 'k1' })
  const again = await lines(edge, body, { 'idempotency-key': 'k1' })
  expect([first.headers.get('idempotency-replayed'), again.headers.get('idempotency-replayed')]).toEqual([null, 'true'])
  expect(await again.text()).toBe(await first.text())
  expect(await edge.records()).toHaveLength(2)
  expect(edge.api.counters).toMatchObject({ records: 2, requests: 1, replayed: 1 })
})

test.each([
  ['another body', '/v1/telemetry', line('ns/n', 2), 'application/x-ndjson'],
  ['another path', one, line('ns/n', 1), 'application/x-ndjson'],
  ['another content type', '/v1/telemetry', line('ns/n', 1), 'application/jsonl']
])('an Idempotency-Key with %s is 422', async (_what, path, body, type) => {
  const edge = await edgeOf()
  expect((await lines(edge, line('ns/n', 1), { 'idempotency-key': 'k' })).status).toBe(200)
  const response = await post(edge, path, body, { 'idempotency-key': 'k', 'content-type': type })
  expect([response.status, await problemOf(response)]).toMatchObject([422, { code: 'IDEMPOTENCY_KEY_REUSED' }])
  expect(await edge.records()).toHaveLength(1)
})

test('L3: the key is in the commit of its records', async () => {
  const store = new GatedStore()
  const edge = await edgeOf({ store })
  store.mode = 'hold'
  const pending = post(edge, one, 'x', { 'idempotency-key': 'k' })
  await until(() => store.held === 1)
  const seen: number[][] = []
  const write = store.inner.write.bind(store.inner)
  store.inner.write = (ops, options, onDone) => {
    seen.push(ops.map(op => op.key[0]!))
    write(ops, options, onDone)
  }
  store.release()
  expect((await pending).status).toBe(200)
  expect(seen[0]!.toSorted((a, b) => a - b)).toEqual([tables.outboxBatch, tables.httpIdempotency])
})

test('a repetition while the first is being handled waits for its answer', async () => {
  const store = new GatedStore()
  const edge = await edgeOf({ store })
  store.mode = 'hold'
  const headers = { 'idempotency-key': 'k' }
  const both = [post(edge, one, 'x', headers), post(edge, one, 'x', headers)]
  await until(() => store.held === 1 && edge.api.requestsInFlight === 2)
  const other = await post(edge, one, 'y', headers)
  expect(other.status).toBe(422)
  store.release()
  const answers = await Promise.all(both)
  expect(answers.map(({ status }) => status)).toEqual([200, 200])
  expect(answers.map(answer => answer.headers.get('idempotency-replayed')).toSorted()).toEqual([null, 'true'])
  expect(await edge.records()).toHaveLength(1)
})

test('a failure is shared by the repetitions that wait, and not remembered', async () => {
  const store = new GatedStore()
  const failing = await edgeOf({ store })
  store.mode = 'hold'
  const headers = { 'idempotency-key': 'k' }
  const both = [post(failing, one, 'x', headers), post(failing, one, 'x', headers)]
  await until(() => store.held === 1 && failing.api.requestsInFlight === 2)
  const write = store.inner.write.bind(store.inner)
  store.inner.write = (_ops, _options, onDone) => { queueMicrotask(() => onDone(new Error('no such luck'))) }
  store.release()
  expect((await Promise.all(both)).map(({ status }) => status)).toEqual([503, 503])
  store.inner.write = write
  const edge = await edgeOf()
  edge.outbox.refuse(new HoldfastError('DISK_FULL', 'nearly full'))
  expect((await post(edge, one, 'x', headers)).status).toBe(503)
  edge.outbox.refuse(undefined)
  const answer = await post(edge, one, 'x', headers)
  expect([answer.status, answer.headers.get('idempotency-replayed')]).toEqual([200, null])
})

test.each(['', ' ', 'a b', 'é', 'x'.repeat(256)])('Idempotency-Key "%s" is 400', async key => {
  const edge = await edgeOf()
  const response = await post(edge, one, 'x', { 'idempotency-key': key })
  expect([response.status, await problemOf(response)]).toMatchObject([400, { code: 'IDEMPOTENCY_KEY_INVALID' }])
  expect(await edge.records()).toEqual([])
})

test('keys are remembered over a restart', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-http-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  const answers: string[] = []
  for (let start = 0; start < 2; start++) {
    const store = await LevelStore.open({ path: join(folder, 'db') })
    const edge = await openEdge({ store })
    try {
      const response = await lines(edge, line('ns/n', 1), { 'idempotency-key': 'k' })
      answers.push(`${response.status} ${response.headers.get('idempotency-replayed')} ${await response.text()}`)
      expect(await edge.records()).toHaveLength(1)
    } finally {
      await edge[Symbol.asyncDispose]()
      await store.close()
    }
  }
  expect(answers).toEqual(['200 null {"records":1,"lanes":{"telemetry":1}}\n', '200 true {"records":1,"lanes":{"telemetry":1}}\n'])
})

test('keys are read anew when the database was opened again: what a failed commit left behind counts', async () => {
  const store = new GatedStore()
  const edge = await edgeOf({ store })
  const write = store.inner.write.bind(store.inner)
  store.inner.write = (ops, options, onDone) => { write(ops, options, () => onDone(new Error('written, but not known to be'))) }
  const headers = { 'idempotency-key': 'k' }
  expect((await post(edge, one, 'x', headers)).status).toBe(503)
  store.inner.write = write
  await edge.outbox.reopen(store, false)
  await edge.api.reopen(store)
  edge.committer.resume(store)
  const again = await post(edge, one, 'x', headers)
  expect([again.status, again.headers.get('idempotency-replayed')]).toEqual([200, 'true'])
  expect(await edge.records()).toHaveLength(1)
})

test('L8: the oldest keys make room, in memory and on disk', async () => {
  const edge = await edgeOf({ http: { idempotencyKeysMax: 3 } })
  for (let i = 0; i < 10; i++) expect((await post(edge, one, String(i), { 'idempotency-key': `k${i}` })).status).toBe(200)
  expect([edge.api.idempotencyKeys, await storedKeys(edge.store)]).toEqual([3, 3])
  const replayed = async (i: number): Promise<string | null> =>
    (await post(edge, one, String(i), { 'idempotency-key': `k${i}` })).headers.get('idempotency-replayed')
  expect([await replayed(9), await replayed(7), await replayed(6)]).toEqual(['true', 'true', null])
})

test('keys expire by uptime, and are deleted by later commits', async () => {
  const edge = await edgeOf({ http: { idempotencyAge: 40 } })
  for (const key of ['a', 'b']) await post(edge, one, 'x', { 'idempotency-key': key })
  const startMs = edge.outbox.uptimeMs()
  await until(() => edge.outbox.uptimeMs() - startMs > 60)
  const again = await post(edge, one, 'other', { 'idempotency-key': 'a' })
  expect([again.status, again.headers.get('idempotency-replayed')]).toEqual([200, null])
  expect(await storedKeys(edge.store)).toBe(1)
})

test('a damaged key is passed over at open, and deleted', async () => {
  const store = new MemoryStore()
  const damaged = Buffer.alloc(33, 7)
  damaged[0] = tables.httpIdempotency
  store.write([{ type: 'put', key: damaged, value: Buffer.from([9]) }], { sync: true }, () => {})
  const edge = await edgeOf({ store })
  expect((await post(edge, one, 'x', { 'idempotency-key': 'k' })).status).toBe(200)
  expect(await storedKeys(store)).toBe(1)
})

test('a stop answers what is in flight', async () => {
  const store = new GatedStore()
  const edge = await edgeOf({ store })
  store.mode = 'hold'
  const pending = post(edge, one, 'x')
  await until(() => store.held === 1)
  const stopped = edge.api.run(AbortSignal.abort())
  store.release()
  expect((await pending).status).toBe(200)
  await stopped
})
