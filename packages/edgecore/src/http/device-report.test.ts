import { HoldfastError, HttpServer, SystemClock, silentLog } from '@holdfast/runtime'
import type { Commit, OnDurable } from '@holdfast/store'
import { expect, onTestFinished, test } from 'vitest'
import type { DeviceReports } from '../mappers/index.ts'
import { deviceReportRoute } from './device-report.ts'

interface Answer { readonly status: number, readonly retryAfter: string | null, readonly body: Record<string, unknown> }

interface Site {
  readonly post: (path: string, body?: string) => Promise<Answer>
  readonly refused: Map<string, number>
}

async function openSite(take: DeviceReports['take']): Promise<Site> {
  const refused = new Map<string, number>()
  const server = await HttpServer.open({
    name: 'http', host: '127.0.0.1', port: 0, bodyBytesMax: 4096, connectionsMax: 8, requestsInFlightMax: 8, headersTimeoutMs: 5000,
    requestTimeoutMs: 5000, idleTimeoutMs: 5000, drainMs: 100
  }, [deviceReportRoute({ bodyBytesMax: 4096 }, { reports: { take }, clock: new SystemClock(), refused })], { log: silentLog })
  onTestFinished(() => server[Symbol.asyncDispose]())
  return {
    refused,
    async post(path, body = '{}') {
      const response = await fetch(`${server.url}${path}`, { method: 'POST', body })
      return { status: response.status, retryAfter: response.headers.get('retry-after'), body: await response.json() as Record<string, unknown> }
    }
  }
}

const path = '/v1/devices/default/door-1/report'

function held(): { readonly commit: Commit, readonly settle: OnDurable } {
  const waiting: OnDurable[] = []
  return {
    commit: { put() {}, del() {}, onDurable: callback => { waiting.push(callback) }, part: (_owner, make) => make() },
    settle: error => { for (const callback of waiting) callback(error) }
  }
}

test('a device that calls is answered after the commit, with the properties that were found', async () => {
  const { commit, settle } = held()
  const taken: string[] = []
  const site = await openSite((id, body) => {
    taken.push(`${id} ${body}`)
    queueMicrotask(() => settle())
    return { properties: ['open'], problems: [{ property: 'level', reason: 'no number' }], commit }
  })
  expect(await site.post(path, '{"open":true}')).toMatchObject({ status: 200, body: { properties: ['open'], problems: [{ property: 'level', reason: 'no number' }] } })
  expect(taken).toEqual(['default/door-1 {"open":true}'])
})

test('a commit that failed is no 200', async () => {
  const { commit, settle } = held()
  const site = await openSite(() => {
    queueMicrotask(() => settle(new Error('no such luck')))
    return { properties: ['open'], problems: [{ property: 'level', reason: 'no number' }], commit }
  })
  expect(await site.post(path)).toMatchObject({ status: 503, retryAfter: '1', body: { code: 'STORE_FAILED' } })
})

test('a full disk is said, and when to come again', async () => {
  const site = await openSite(() => { throw new HoldfastError('DISK_FULL', 'less than 64 MiB is free') })
  expect(await site.post(path)).toMatchObject({ status: 503, retryAfter: '10', body: { code: 'DISK_FULL' } })
  expect(site.refused).toEqual(new Map([['DISK_FULL', 1]]))
})

test.each([path, '/v1/devices/default/No_Device/report'])('%s without such a device is 404', async where => {
  const site = await openSite(() => undefined)
  expect(await site.post(where)).toMatchObject({ status: 404, body: { code: 'TWIN_DEVICE_UNKNOWN' } })
})

test('a body past its bound is 413', async () => {
  const site = await openSite(() => undefined)
  expect(await site.post(path, 'x'.repeat(5000))).toMatchObject({ status: 413, body: { code: 'BODY_TOO_LARGE' } })
})
