import { mkdtemp, readFile, rm, stat } from 'node:fs/promises'
import { request } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { SystemClock, SystemRandom, silentLog } from '@holdfast/runtime'
import { MemoryStore } from '@holdfast/store'
import { expect, onTestFinished, test } from 'vitest'
import { LocalApi } from './local-api.ts'
import { NodeObjects } from './node-objects.ts'
import type { ObjectTable } from './object-table.ts'
import { apply, batchOf, openTable, putUp, sentObject } from './testing/object-harness.ts'

interface Answer { readonly status: number, readonly body: string, readonly json: Record<string, unknown> }

interface Fixture {
  readonly table: ObjectTable
  readonly api: LocalApi
  readonly dataDir: string
  readonly token: string
  readonly call: (path: string, options?: { token?: string, method?: string, headers?: Record<string, string>, body?: string }) => Promise<Answer>
  /** Lines of a watch as they come. */
  readonly watch: (path: string, token?: string) => { readonly lines: string[], readonly ended: Promise<void> }
}

async function openApi(options: { dataDir?: string, host?: string } = {}): Promise<Fixture> {
  const dataDir = options.dataDir ?? await mkdtemp(join(tmpdir(), 'holdfast-local-api-'))
  if (options.dataDir === undefined) onTestFinished(() => rm(dataDir, { recursive: true, force: true }))
  const harness = await openTable(new MemoryStore())
  const { table } = harness
  const [clock, random, log] = [new SystemClock(), new SystemRandom(), silentLog]
  const objects = new NodeObjects({ table, clock, log })
  const api = await LocalApi.open({
    host: options.host ?? '127.0.0.1', port: 0, dataDir, node: 'edge-1', version: '0.1.0', platform: 'linux/arm64'
  }, { objects, clock, random, log })
  const stop = new AbortController()
  const running = api.run(stop.signal)
  onTestFinished(async () => {
    stop.abort()
    await running
    await harness.committer.close()
  })
  const config = JSON.parse(await readFile(join(dataDir, 'local.kubeconfig'), 'utf8')) as {
    clusters: [{ cluster: { server: string, 'certificate-authority-data': string } }], users: [{ user: { token: string } }]
  }
  const { server, 'certificate-authority-data': ca } = config.clusters[0].cluster
  const tls = { ca: Buffer.from(ca, 'base64'), agent: false as const, servername: 'localhost' }
  return {
    table, api, dataDir, token: config.users[0].user.token,
    call: (path, { token, method = 'GET', headers = {}, body } = {}) => new Promise((resolve, reject) => {
      const sent = request(server + path, {
        ...tls, method, headers: {
          ...token !== undefined && { authorization: `Bearer ${token}` },
          ...body !== undefined && { 'content-length': String(body.length) },
          ...headers
        }
      }, response => {
        let text = ''
        response.setEncoding('utf8').on('data', (chunk: string) => { text += chunk }).on('end', () => {
          resolve({ status: response.statusCode!, body: text, json: text.startsWith('{') ? JSON.parse(text) as Record<string, unknown> : {} })
        })
      })
      sent.on('error', reject).end(body)
    }),
    watch(path, token) {
      const lines: string[] = []
      const ended = new Promise<void>(resolve => {
        const sent = request(server + path, { ...tls, headers: token === undefined ? {} : { authorization: `Bearer ${token}` } }, response => {
          let rest = ''
          response.setEncoding('utf8').on('data', (chunk: string) => {
            const parts = (rest + chunk).split('\n')
            rest = parts.pop()!
            lines.push(...parts)
          }).on('close', resolve)
        })
        sent.on('error', () => resolve()).end()
        onTestFinished(() => { sent.destroy() })
      })
      return { lines, ended }
    }
  }
}

async function fill(table: ObjectTable): Promise<void> {
  await apply(table.down, batchOf('secrets', { 'default/password': sentObject('secrets', 'default/password', { type: 'Opaque', data: { p: 'eA==' } }) }))
  await apply(table.down, batchOf('configmaps', {
    'default/settings': sentObject('configmaps', 'default/settings', { data: { a: '1' } }, { labels: { app: 'web' } }),
    'other/more': sentObject('configmaps', 'other/more')
  }))
  await apply(table.down, batchOf('pods', {
    'default/web': sentObject('pods', 'default/web', { spec: { nodeName: 'edge-1', containers: [{ name: 'web', image: 'nginx:1' }] } })
  }))
  await apply(table.down, batchOf('nodes', { 'edge-1': sentObject('nodes', 'edge-1', { spec: {} }) }))
}

const items = (answer: Answer): Record<string, unknown>[] => answer.json['items'] as Record<string, unknown>[]

test('the kubeconfig has all that a client needs, for its group to read', async () => {
  const { dataDir, api, call, token } = await openApi()
  expect((await stat(join(dataDir, 'local.kubeconfig'))).mode & 0o777).toBe(0o640)
  expect((await stat(join(dataDir, 'local-api'))).mode & 0o777).toBe(0o700)
  expect(api.url).toMatch(/^https:\/\/127\.0\.0\.1:\d+$/)
  expect((await call('/version')).json).toMatchObject({ major: '1', minor: '32', platform: 'linux/arm64' })
  expect((await call('/readyz', { token })).body).toBe('ok')
})

test('token and certificate stay over restarts', async () => {
  const first = await openApi()
  const second = await openApi({ dataDir: first.dataDir })
  expect(second.token).toBe(first.token)
  expect((await first.call('/api/v1/secrets', { token: second.token })).status).toBe(200)
})

test('what is on the node can be listed, read and selected', async () => {
  const { table, call } = await openApi()
  await fill(table)
  const pods = await call('/api/v1/pods')
  expect(pods.json).toMatchObject({ kind: 'PodList', apiVersion: 'v1', metadata: { resourceVersion: '7' } })
  expect(items(pods)).toMatchObject([{ metadata: { name: 'web', namespace: 'default' }, status: { phase: 'Pending', reason: 'NoContainerRuntime' } }])
  expect((await call('/api/v1/namespaces/default/configmaps/settings')).json).toMatchObject({
    kind: 'ConfigMap', metadata: { resourceVersion: expect.stringMatching(/^\d+$/) as string }, data: { a: '1' }
  })
  expect(items(await call('/api/v1/configmaps?labelSelector=app%3Dweb'))).toHaveLength(1)
  expect(items(await call('/api/v1/pods?fieldSelector=spec.nodeName%3Dedge-2'))).toHaveLength(0)
  expect(items(await call('/api/v1/namespaces')).map(({ metadata }) => (metadata as { name: string }).name)).toEqual(['default', 'other'])
  expect((await call('/api/v1/nodes/edge-1')).status).toBe(200)
  expect((await call('/api/v1/namespaces/default/pods/none')).json).toMatchObject({ kind: 'Status', reason: 'NotFound', code: 404 })
})

test('tables are what kubectl prints', async () => {
  const { table, call } = await openApi()
  await fill(table)
  const { json } = await call('/api/v1/pods', { headers: { accept: 'application/json;as=Table;v=v1;g=meta.k8s.io,application/json' } })
  const columns = (json['columnDefinitions'] as { name: string }[]).map(({ name }) => name)
  const [row] = json['rows'] as { cells: unknown[] }[]
  expect(json['kind']).toBe('Table')
  expect(columns.slice(0, 3)).toEqual(['Name', 'Ready', 'Status'])
  expect(row!.cells.slice(0, 3)).toEqual(['web', '0/1', 'NoContainerRuntime'])
})

test('Secrets need the token; a wrong one is no better than none', async () => {
  const { table, call, token } = await openApi()
  await fill(table)
  for (const path of ['/api/v1/secrets', '/api/v1/namespaces/default/secrets/password', '/api/v1/secrets?watch=true', '/api/v1/watch/secrets']) {
    const refused = await call(path)
    expect([path, refused.status, refused.json['reason']]).toEqual([path, 403, 'Forbidden'])
    expect(refused.body).not.toContain('eA==')
    expect((await call(path, { token: 'x'.repeat(43) })).status).toBe(401)
  }
  expect((await call('/api/v1/namespaces/default/secrets/password', { token })).json).toMatchObject({ data: { p: 'eA==' } })
})

test.each([
  ['POST', '/api/v1/namespaces/default/configmaps'], ['PUT', '/api/v1/namespaces/default/configmaps/settings'],
  ['PATCH', '/api/v1/namespaces/default/configmaps/settings'], ['DELETE', '/api/v1/namespaces/default/configmaps/settings'],
  ['DELETE', '/api/v1/namespaces/default/configmaps'], ['PUT', '/api/v1/namespaces/default/pods/web/status'],
  ['POST', '/api/v1/namespaces/default/pods/web/exec'], ['POST', '/api/v1/namespaces']
])('nothing can be written, and it says so: %s %s', async (method, path) => {
  const { table, call, token } = await openApi()
  await fill(table)
  const before = table.sequence
  for (const options of [{ token }, {}]) {
    const { status, json } = await call(path, { ...options, method, body: '{}', headers: { 'content-type': 'application/json' } })
    expect([status, json['reason']]).toEqual([403, 'Forbidden'])
    expect(json['message']).toContain('for reading only')
  }
  expect(table.sequence).toBe(before)
})

test('a page that has bound its own name to loopback is refused', async () => {
  const { call } = await openApi()
  expect((await call('/api/v1/configmaps', { headers: { host: 'evil.example' } })).status).toBe(403)
  expect((await call('/api/v1/configmaps', { headers: { host: 'localhost' } })).status).toBe(200)
})

test('beyond loopback everything but version and health needs the token', async () => {
  const { call, token } = await openApi({ host: '0.0.0.0' })
  expect((await call('/api/v1/configmaps')).status).toBe(403)
  expect((await call('/api')).status).toBe(403)
  expect((await call('/livez')).status).toBe(200)
  expect((await call('/api/v1/configmaps', { token })).status).toBe(200)
})

test('discovery names what is served and nothing else', async () => {
  const { call } = await openApi()
  const { json } = await call('/api/v1')
  const resources = json['resources'] as { name: string, verbs: string[] }[]
  expect(resources.map(({ name }) => name).toSorted()).toEqual(['configmaps', 'events', 'namespaces', 'nodes', 'pods', 'secrets', 'serviceaccounts', 'services'])
  for (const { verbs } of resources) expect(verbs).toEqual(['get', 'list', 'watch'])
  expect((await call('/apis')).json).toMatchObject({ kind: 'APIGroupList', groups: [{ name: 'devices.kubeedge.io' }] })
  expect((await call('/openapi/v2')).status).toBe(200)
  expect((await call('/apis/apps/v1/deployments')).status).toBe(404)
  expect(items(await call('/api/v1/events'))).toEqual([])
  expect((await call('/api/v1/podtemplates')).status).toBe(404)
})

test('a watch shows what is there and what changes, until the server stops', async () => {
  const { table, watch } = await openApi()
  await fill(table)
  const { lines } = watch('/api/v1/pods?watch=true')
  const told = (): string[] => lines.map(line => {
    const { type, object } = JSON.parse(line) as { type: string, object: { metadata: { name: string }, status: { phase: string } } }
    return `${type} ${object.metadata.name} ${object.status.phase}`
  })
  await expect.poll(told).toEqual(['ADDED web Pending'])
  await putUp(table, 'pod-status', 'default/web', Buffer.from('{"metadata":{"uid":"uid-default/web"},"status":{"phase":"Running"}}'))
  await apply(table.down, batchOf('pods', {}, ['default/web']))
  await expect.poll(told).toEqual(['ADDED web Pending', 'MODIFIED web Running', 'DELETED web Running'])
})

test('a watch from a resourceVersion that is too old is told so', async () => {
  const { table, watch, call } = await openApi()
  await fill(table)
  const { lines, ended } = watch('/api/v1/configmaps?watch=true&resourceVersion=1&timeoutSeconds=1')
  await ended
  expect(lines.map(line => (JSON.parse(line) as { type: string }).type)).toEqual(['ADDED', 'ADDED'])
  await table.reopen(new MemoryStore(), true)
  expect(items(await call('/api/v1/configmaps'))).toEqual([])
  const old = watch('/api/v1/configmaps?watch=true&resourceVersion=2')
  await old.ended
  expect(JSON.parse(old.lines[0]!)).toMatchObject({ type: 'ERROR', object: { code: 410, reason: 'Expired' } })
})

test('Devices and DeviceModels are served in their own group, with columns', async () => {
  const { table, call, watch } = await openApi()
  const spec = { deviceModelRef: { name: 'thermostat' }, nodeName: 'edge-1', protocol: { protocolName: 'mqtt' } }
  await apply(table.down, batchOf('devicemodels', { 'home/thermostat': sentObject('devicemodels', 'home/thermostat', { spec: { protocol: 'mqtt' } }) }))
  await apply(table.down, batchOf('devices', { 'home/t1': sentObject('devices', 'home/t1', { spec }) }))
  const group = '/apis/devices.kubeedge.io/v1beta1'
  expect((await call(group)).json['resources']).toMatchObject([{ name: 'devicemodels', verbs: ['get', 'list', 'watch'] }, { name: 'devices' }])
  const one = await call(`${group}/namespaces/home/devices/t1`)
  expect(one.json).toMatchObject({ apiVersion: 'devices.kubeedge.io/v1beta1', kind: 'Device', metadata: { name: 't1' }, spec })
  const shown = await call(`${group}/devices`, { headers: { accept: 'application/json;as=Table;v=v1;g=meta.k8s.io' } })
  expect(shown.json).toMatchObject({
    columnDefinitions: [{ name: 'Name' }, { name: 'Model' }, { name: 'Protocol' }, { name: 'Age' }],
    rows: [{ cells: ['t1', 'thermostat', 'mqtt', expect.any(String)] }]
  })
  const models = await call(`${group}/devicemodels`, { headers: { accept: 'application/json;as=Table;v=v1;g=meta.k8s.io' } })
  expect(models.json).toMatchObject({ rows: [{ cells: ['thermostat', 'mqtt', expect.any(String)] }] })
  const { lines } = watch(`${group}/devices?watch=true&resourceVersion=${table.sequence}`)
  await apply(table.down, batchOf('devices', {}, ['home/t1']))
  await expect.poll(() => lines.length).toBe(1)
  expect(JSON.parse(lines[0]!)).toMatchObject({ type: 'DELETED', object: { kind: 'Device', metadata: { name: 't1' } } })
  expect((await call(`${group}/namespaces/home/devices/t1`)).status).toBe(404)
})
