import { silentLog } from '@holdfast/runtime'
import type { Check } from '@holdfast/runtime'
import { expect, onTestFinished, test } from 'vitest'
import { openEdge } from '../testing/device-api-fixture.ts'
import { openEdgeOperations } from './operations.ts'
import type { EdgeOperationsComponents } from './operations.ts'

async function openOps(changes: Partial<EdgeOperationsComponents> = {}): Promise<string> {
  const server = await openEdgeOperations({ host: '127.0.0.1', port: 0 }, {
    outbox: { status: () => [] },
    database: { low: false, freeBytes: 5, committer: { failure: undefined } },
    link: { state: 'live', lastEnd: '', inTrouble: false },
    waysIn: { mqtt: () => 'ok' },
    mappers: { status: () => [] },
    dmi: { mappers: [] },
    metrics: () => 'a_metric 1\n',
    log: silentLog,
    ...changes
  })
  onTestFinished(() => server.close())
  return server.url
}

test('GET /v1/outbox tells each lane', async () => {
  await using edge = await openEdge()
  await fetch(`${edge.url}/v1/devices/ns/n/telemetry`, { method: 'POST', body: 'x' })
  const url = await openOps({ outbox: edge.outbox })
  const epoch = expect.stringMatching(/^[0-9a-f]{16}$/)
  const none = { firstOffset: 0, nextOffset: 0, ackedOffset: 0, records: 0, bytes: 0, oldestAgeSeconds: 0, droppedRecords: 0 }
  expect(await (await fetch(`${url}/v1/outbox`)).json()).toEqual([
    { lane: 'alarms', epoch, ...none },
    { lane: 'telemetry', epoch, ...none, nextOffset: 1, records: 1, bytes: expect.any(Number), oldestAgeSeconds: expect.any(Number) }
  ])
})

test('metrics and health are served', async () => {
  const url = await openOps()
  expect(await (await fetch(`${url}/metrics`)).text()).toBe('a_metric 1\n')
  expect(await (await fetch(`${url}/healthz`)).text()).toBe('ok')
  expect(await (await fetch(`${url}/readyz`)).text()).toBe('ok')
})

test('L7: without a link the node is ready, and says how the link is', async () => {
  const url = await openOps({ link: { state: 'waiting', lastEnd: 'closed: ECONNREFUSED', inTrouble: false } })
  expect((await fetch(`${url}/readyz`)).status).toBe(200)
  expect(await (await fetch(`${url}/readyz?verbose`)).text()).toBe([
    '[i]link waiting (closed: ECONNREFUSED), offline is normal',
    '[+]database ok', '[+]disk-space ok', '[+]mqtt ok', 'readyz check passed', ''
  ].join('\n'))
  const refused = await openOps({ link: { state: 'waiting', lastEnd: 'refused: DUPLICATE_IDENTITY: two', inTrouble: true } })
  expect(await (await fetch(`${refused}/readyz?verbose`)).text())
    .toContain('[i]link waiting (refused: DUPLICATE_IDENTITY: two), this does not pass by itself\n')
  const live = await openOps()
  expect(await (await fetch(`${live}/readyz?verbose`)).text()).toContain('[i]link live\n')
})

const noLink: EdgeOperationsComponents['link'] = { state: 'dialing', lastEnd: '', inTrouble: false }
const closed: Check = () => ({ reason: 'not listening' })

test.each<[string, Partial<EdgeOperationsComponents>]>([
  ['[-]database failed: EIO', { database: { low: false, freeBytes: 5, committer: { failure: new Error('EIO') } } }],
  ['[-]disk-space failed: 5 bytes are free', { database: { low: true, freeBytes: 5, committer: { failure: undefined } } }],
  ['[-]mqtt failed: not listening', { waysIn: { mqtt: closed } }]
])('not ready: %s', async (line, changes) => {
  const url = await openOps({ ...changes, link: noLink })
  const response = await fetch(`${url}/readyz`)
  expect(response.status).toBe(503)
  const text = await response.text()
  expect(text).toContain(line)
  expect(text).toContain('[i]link dialing, offline is normal\n')
})
