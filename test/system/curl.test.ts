import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, expect, it, onTestFinished } from 'vitest'
import { Fleet, drained, outboxOf } from '../harness/daemons.ts'
import type { Daemon } from '../harness/daemons.ts'
import { check, missing } from './programs.ts'

const absent = missing('curl')
let fleet: Fleet
let edge: Daemon

beforeAll(async () => {
  if (absent !== undefined) return
  fleet = await Fleet.start()
  edge = await fleet.join('edge-1')
  await edge.start()
})
afterAll(async () => { if (absent === undefined) await fleet[Symbol.asyncDispose]() })
beforeEach(({ skip }) => { skip(absent !== undefined, absent) })

interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
  /** Of a problem document. */
  readonly code: unknown
}

async function curl(url: string, args: readonly string[], input = ''): Promise<Answer> {
  const text = await check('curl', ['-sS', '-i', '-H', 'Expect:', ...args, url], { input })
  const [head = '', body = ''] = text.split(/\r\n\r\n([\s\S]*)/)
  const [first = '', ...lines] = head.split('\r\n')
  const headers = Object.fromEntries(lines.map(line => [line.split(':')[0]!.toLowerCase(), line.slice(line.indexOf(':') + 1).trim()]))
  const problem = headers['content-type']?.startsWith('application/problem+json') === true
  return { status: Number(first.split(' ')[1]), headers, body, code: problem ? (JSON.parse(body) as { code: unknown }).code : undefined }
}

const single = (): string => `${edge.endpoints.http}/v1/devices/shop/m1/telemetry`
const many = (): string => `${edge.endpoints.http}/v1/telemetry`
const ndjson = ['-H', 'Content-Type: application/x-ndjson', '--data-binary', '@-']

it('a record, then lines of records, are answered with 200 and reach the cloud in order', async () => {
  expect(await curl(single(), ['--data-binary', '@-'], 'first')).toMatchObject({ status: 200, body: '{"records":1,"lanes":{"telemetry":1}}\n' })
  const lines = Array.from({ length: 50 }, (_, i) => JSON.stringify({ device: 'shop/m1', payload: { i } })).join('\n')
  expect(await curl(many(), ndjson, lines)).toMatchObject({ status: 200, body: '{"records":50,"lanes":{"telemetry":50}}\n' })
  await drained(edge)
  const expected = ['first', ...Array.from({ length: 50 }, (_, i) => `{"i":${i}}`)]
  for (const url of [fleet.cloud.endpoints.ops!, edge.endpoints.http!]) {
    const { body } = await curl(`${url}/v1/records?device=shop/m1&encoding=utf8`, [])
    expect(body.split('\n').filter(line => line !== '').map(line => (JSON.parse(line) as { payload: string }).payload)).toEqual(expected)
  }
})

it('what cannot be taken is refused with a problem that has a code, and nothing of it is stored', async () => {
  const before = await outboxOf(edge)
  const large = 'x'.repeat(256 * 1024 + 1)
  expect(await curl(single(), ['--data-binary', '@-'], large)).toMatchObject({ status: 413, code: 'RECORD_TOO_LARGE' })
  expect(await curl(single(), ['-H', 'Transfer-Encoding: chunked', '--data-binary', '@-'], large))
    .toMatchObject({ status: 413, code: 'RECORD_TOO_LARGE' })
  expect(await curl(many(), ndjson, 'x'.repeat(1024 * 1024 + 1))).toMatchObject({ status: 413, code: 'BODY_TOO_LARGE' })
  expect(await curl(many(), ['--json', '{"device":"shop/m1","payload":1}'])).toMatchObject({ status: 415, code: 'MEDIA_TYPE_UNSUPPORTED' })
  expect(await curl(many(), [...ndjson, '-H', 'Content-Encoding: gzip'], 'x')).toMatchObject({ status: 415, code: 'MEDIA_TYPE_UNSUPPORTED' })
  expect(await curl(many(), ndjson, '{"device":"shop/m1","payload":1}\n{"device":"nobody","payload":1}\n'))
    .toMatchObject({ status: 400, code: 'RECORD_INVALID' })
  const next = (lanes: typeof before): unknown => lanes.map(({ lane, nextOffset }) => [lane, nextOffset])
  expect(next(await outboxOf(edge))).toEqual(next(before))
})

it('the operations ports say how both daemons are', async () => {
  const cloud = fleet.cloud.endpoints.ops!
  for (const url of [cloud, edge.endpoints.ops!]) {
    expect(await curl(`${url}/healthz`, [])).toMatchObject({ status: 200, body: 'ok' })
    expect(await curl(`${url}/readyz`, [])).toMatchObject({ status: 200, body: 'ok' })
    expect((await curl(`${url}/metrics`, [])).body).toMatch(/^# HELP holdfast_/m)
  }
  expect((await curl(`${edge.endpoints.ops}/readyz?verbose`, [])).body)
    .toMatch(/^\[i\]link \S.*\n\[\+\]database ok\n\[\+\]disk-space ok\n\[\+\]mqtt ok\nreadyz check passed\n$/)
  expect(JSON.parse((await curl(`${cloud}/v1/nodes`, [])).body)).toMatchObject([{ name: 'edge-1', connected: true }])
})

/** Text that hardly compresses: a lane counts bytes as they are stored. */
const noise = (length: number): string => randomBytes(length).toString('base64').slice(0, length)

it('a full lane is answered with 429 and Retry-After, and takes records again when it has drained', async () => {
  const small = await fleet.join('edge-small', { set: ['lanes.telemetry.bytesMax=64KiB', 'link.retryMax=1s'] })
  await fleet.cloud.kill()
  onTestFinished(() => small.kill())
  await small.start()
  const url = `${small.endpoints.http}/v1/devices/shop/m1/telemetry`
  let taken = 0
  let answer: Answer
  for (;;) {
    answer = await curl(url, ['--data-binary', '@-'], noise(8000))
    if (answer.status !== 200) break
    taken++
    expect(taken).toBeLessThan(20)
  }
  expect(answer).toMatchObject({ status: 429, code: 'OUTBOX_FULL', headers: { 'retry-after': '5' } })
  await fleet.cloud.start()
  await drained(small)
  expect((await curl(url, ['--data-binary', '@-'], 'after')).status).toBe(200)
  await drained(small)
  const { body } = await curl(`${fleet.cloud.endpoints.ops}/v1/records?node=edge-small`, [])
  expect(body.trim().split('\n')).toHaveLength(taken + 1)
})
