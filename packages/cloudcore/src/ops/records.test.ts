import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { request } from 'node:http'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  BatchBuilder, BatchStreamDecoder, cursorAt, encodeGap, readBatchHeader, readRecords, RecordTopic, type BootId, type ReaderBatch
} from '@holdfast/protos'
import { HttpServer, SeededRandom, silentLog, SystemClock } from '@holdfast/runtime'
import { SimulatedDisk } from '@holdfast/store'
import type { CloudLog, LogPage, ReadOptions } from '../log/cloud-log.ts'
import { LevelLog } from '../log/level-log.ts'
import { append, epochOf, nodeName, openSample, sampleBatch } from '../log/testing/cloud-log-suite.ts'
import { nodesRoute } from './nodes.ts'
import { recordsRoute } from './records.ts'

interface Line {
  readonly node: string
  readonly offset: number
  readonly timestamp: string
  readonly device: string
  readonly payload: string
  readonly cursor: string
  readonly gap?: unknown
}

/** A CloudLog that counts the pages it gives out and the readers that have not ended. */
class WatchedLog {
  pages = 0
  readers = 0
  readonly log: LevelLog
  constructor(log: LevelLog) { this.log = log }

  asCloudLog(): CloudLog {
    return new Proxy<CloudLog>(this.log, {
      get: (target, name) => {
        if (name === 'read') return (options: ReadOptions, signal: AbortSignal) => this.#read(options, signal)
        const value: unknown = Reflect.get(target, name, target)
        return typeof value === 'function' ? value.bind(target) as unknown : value
      }
    })
  }

  async* #read(options: ReadOptions, signal: AbortSignal): AsyncGenerator<LogPage> {
    this.readers++
    try {
      for await (const page of this.log.read({ ...options, pageBytesMax: 64 * 1024 }, signal)) {
        this.pages++
        yield page
      }
    } finally {
      this.readers--
    }
  }
}

describe('GET /v1/records', () => {
  let log: LevelLog
  let watched: WatchedLog
  let server: HttpServer
  beforeEach(async () => {
    log = await LevelLog.open({ retentionBytesMax: 2 ** 40, retentionAgeMaxMs: 2 ** 50, segmentEntries: 16 }, {
      opener: new SimulatedDisk({}, { schedule: task => setImmediate(task), random: new SeededRandom(1) }),
      clock: new SystemClock(), random: new SeededRandom(2), log: silentLog
    })
    watched = new WatchedLog(log)
    const presence = {
      nodes: () => [
        { name: nodeName('n1'), connected: true, lastSeenMs: 1_700_000_000_000 },
        { name: nodeName('n9'), connected: false, lastSeenMs: 0 }
      ]
    }
    server = await HttpServer.open({
      name: 'test', host: '127.0.0.1', port: 0, bodyBytesMax: 1024, connectionsMax: 100, requestsInFlightMax: 100,
      headersTimeoutMs: 5000, requestTimeoutMs: 5000, idleTimeoutMs: 5000, drainMs: 100
    }, [
      recordsRoute({ cloudLog: watched.asCloudLog(), log: silentLog }), nodesRoute({ cloudLog: log, presence })
    ], { log: silentLog })
  })
  afterEach(async () => {
    await server.close()
    await log.close()
  })

  const get = (query: string, headers: Record<string, string> = {}): Promise<Response> =>
    fetch(`${server.url}/v1/records${query}`, { headers })
  const lines = async (query: string): Promise<Line[]> => {
    const response = await get(query)
    expect(response.status).toBe(200)
    return (await response.text()).split('\n').filter(line => line !== '').map(line => JSON.parse(line) as Line)
  }
  const fill = async (node: string, epoch: number, batches: number): Promise<void> => {
    const stream = await openSample(log, node, epoch)
    const first = stream.next
    for (let i = 0; i < batches; i++) await append(log, stream, sampleBatch(epochOf(epoch), first + i * 5, 5))
  }

  it('gives one line of JSON for each record, in commit order', async () => {
    await fill('n1', 1, 3)
    const response = await get('')
    expect(response.headers.get('content-type')).toBe('application/x-ndjson')
    const [first, ...rest] = (await response.text()).trimEnd().split('\n').map(line => JSON.parse(line) as Line)
    expect(first).toEqual({
      node: 'n1', epoch: epochOf(1), lane: 'telemetry', offset: 0, timestamp: '2023-11-14T22:13:20.000Z', device: 'default/a',
      topic: 'devices/default/a/telemetry', payload: Buffer.from('0').toString('base64'), cursor: expect.any(String) as string
    })
    expect(rest.map(line => line.offset)).toEqual(Array.from({ length: 14 }, (_, i) => i + 1))
  })

  it('shows gaps, text payloads and what JSON has to escape', async () => {
    const stream = await openSample(log, 'n1', 1)
    const builder = new BatchBuilder()
    builder.add(new RecordTopic('devices/ü"/\n', 'd/"1"'), Buffer.from('{"a":"é\u2028"}'), 0)
    const stamp = {
      lane: 1, epoch: epochOf(1), base: 0, bootId: '00000000000000b1' as BootId, wallMs: 1, uptimeMs: 0, clockSynchronised: true
    }
    const batch = builder.encode(stamp)
    await append(log, stream, { batch, header: readBatchHeader(batch) })
    const gap = encodeGap(4, { reason: 'expired', records: 3 }, { ...stamp, base: 1 })
    await append(log, stream, { batch: gap, header: readBatchHeader(gap) })
    expect(await lines('?encoding=utf8')).toMatchObject([
      { topic: 'devices/ü"/\n', device: 'd/"1"', payload: '{"a":"é\u2028"}', timestamp: '1970-01-01T00:00:00.001Z' },
      { node: 'n1', epoch: epochOf(1), lane: 'telemetry', gap: { first: 1, last: 4, records: 3, reason: 'expired' } }
    ])
  })

  it('resumes from any cursor of a device, within batches too, without loss or repeat', async () => {
    await fill('n1', 1, 12)
    const all = await lines('?device=default/b')
    expect(all.map(line => line.offset)).toEqual(Array.from({ length: 20 }, (_, i) => i * 3 + 1))
    for (const [i, { cursor }] of all.entries()) {
      expect(await lines(`?device=default/b&cursor=${cursor}`)).toEqual(all.slice(i + 1))
    }
    const joined: Line[] = []
    for (;;) {
      const page: Line[] = await lines(`?device=default/b&limit=3${joined.length > 0 ? `&cursor=${joined.at(-1)!.cursor}` : ''}`)
      if (page.length === 0) break
      joined.push(...page)
    }
    expect(joined).toEqual(all)
  })

  it.each([
    ['limit=0', 'limit', '0'], ['limit=1e3', 'limit', '1e3'], ['follow=yes', 'follow', 'yes'], ['encoding=hex', 'encoding', 'hex'],
    ['node=-bad-', 'node', '-bad-'], ['lane=UP', 'lane', 'UP'], ['cursor=nonsense', 'cursor', 'nonsense'], ['nod=x', 'nod', 'x'],
    ['device=', 'device', ''], ['limit=1&limit=2', 'limit', '1, 2']
  ])('refuses ?%s with 400, the parameter and its value', async (query, parameter, value) => {
    const response = await get(`?${query}`)
    expect(response.status).toBe(400)
    expect(response.headers.get('content-type')).toBe('application/problem+json')
    expect(await response.json()).toMatchObject({ status: 400, parameter, value, bound: expect.any(String) as string })
  })

  it('answers a cursor of another log with 410 and the first cursor of this one', async () => {
    await fill('n1', 1, 1)
    const [line] = await lines('')
    const response = await get(`?cursor=${cursorAt('A'.repeat(24), 0)}`)
    expect(response.status).toBe(410)
    const problem = await response.json() as { code: string, firstCursor: string }
    expect(problem.code).toBe('CURSOR_FOREIGN')
    expect((await lines(`?cursor=${problem.firstCursor}`))[0]).toEqual(line)
  })

  it('follows, and is cleaned up when the client goes', async () => {
    await fill('n1', 1, 1)
    const stop = new AbortController()
    const response = await fetch(`${server.url}/v1/records?follow=true&cursor=${(await lines('')).at(-1)!.cursor}`, { signal: stop.signal })
    const body = response.body!.getReader()
    await fill('n1', 1, 1)
    const { value } = await body.read()
    const received = Buffer.from(value ?? []).toString().trimEnd().split('\n')
    expect(received.map(line => (JSON.parse(line) as Line).offset)).toEqual([5, 6, 7, 8, 9])
    expect(watched.readers).toBe(1)
    stop.abort()
    await expect.poll(() => watched.readers).toBe(0)
  })

  it('reads no further for a slow reader, and serves the others meanwhile', async () => {
    const stream = await openSample(log, 'n1', 1)
    const random = new SeededRandom(7)
    const topic = new RecordTopic('t', 'd/d')
    for (let base = 0; base < 400; base++) {
      const builder = new BatchBuilder()
      builder.add(topic, random.bytes(60_000), 0)
      const batch = builder.encode({
        lane: 1, epoch: epochOf(1), base, bootId: '00000000000000b1' as BootId, wallMs: 1, uptimeMs: 0, clockSynchronised: true
      })
      await append(log, stream, { batch, header: readBatchHeader(batch) })
    }
    const slow = request(`${server.url}/v1/records`)
    slow.end()
    const [response] = await once(slow, 'response') as [IncomingMessage]
    expect(await lines('')).toHaveLength(400)
    const fast = watched.pages
    expect(await lines('')).toHaveLength(400)
    expect(watched.readers).toBe(1)
    // A reader that takes all costs as many pages as there are; the slow one got what fits into the sockets' buffers.
    const whole = watched.pages - fast
    expect(fast - whole).toBeLessThan(whole * 0.75)
    response.destroy()
    await expect.poll(() => watched.readers).toBe(0)
  })

  it('streams the stored batches as they are', async () => {
    await fill('n1', 1, 12)
    const [, , third] = await lines('')
    const response = await get(`?cursor=${third!.cursor}`, { accept: 'application/vnd.holdfast.batch' })
    expect(response.headers.get('content-type')).toBe('application/vnd.holdfast.batch')
    const decoder = new BatchStreamDecoder()
    const batches: ReaderBatch[] = []
    for await (const chunk of response.body!) for (const item of decoder.push(chunk)) batches.push(item)
    decoder.end()
    expect(batches.map(item => item.skip)).toEqual([3, ...Array.from({ length: 11 }, () => 0)])
    expect(batches.flatMap(item => readRecords(item.batch, item.header).slice(item.skip).map(record => record.offset)))
      .toEqual(Array.from({ length: 57 }, (_, i) => i + 3))
    const { cursorPrefix, endIndex } = batches[4]!
    expect((await lines(`?cursor=${cursorAt(cursorPrefix, endIndex)}`))[0]!.offset).toBe(25)
    expect((await get('?device=a/b', { accept: 'application/vnd.holdfast.batch' })).status).toBe(400)
  })

  it('answers 503 while the log cannot be used', async () => {
    await log.close()
    const response = await get('')
    expect(response.status).toBe(503)
    expect(response.headers.get('retry-after')).toBe('1')
    expect(await response.json()).toMatchObject({ code: 'LOG_UNAVAILABLE' })
    const nodes = await fetch(`${server.url}/v1/nodes`)
    expect([nodes.status, await nodes.json()]).toMatchObject([503, { code: 'LOG_UNAVAILABLE' }])
    expect(await (await get('?limit=0')).json()).toMatchObject({ code: 'PARAMETER_INVALID' })
  })

  it('GET /v1/nodes joins what the log and the hub know', async () => {
    await fill('n1', 1, 2)
    await fill('n5', 5, 1)
    const response = await fetch(`${server.url}/v1/nodes`)
    expect(await response.json()).toMatchObject([
      {
        name: 'n1', connected: true, lastSeen: '2023-11-14T22:13:20.000Z',
        lanes: [{ lane: 'telemetry', epoch: epochOf(1), nextOffset: 10, records: 10, gaps: 0 }]
      },
      { name: 'n5', connected: false, lastSeen: null, lanes: [{ nextOffset: 5 }] },
      { name: 'n9', connected: false, lanes: [] }
    ])
  })
})
