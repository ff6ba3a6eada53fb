import { once } from 'node:events'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { SeededRandom, silentLog } from '@holdfast/runtime'
import { HandClock } from '@holdfast/runtime/testing'
import { Committer, MemoryStore, type Store } from '@holdfast/store'
import { afterEach, describe, expect, test } from 'vitest'
import { EmbeddedKubeApi } from '../embedded-kube-api.ts'
import type { JsonObject, KubeObject } from '../object.ts'
import { conditionOf, definitionResource } from './definition.ts'
import { nowMs, widgetDocument } from './testing/definitions.ts'

/** A server over a store that may outlive it. */
class Served implements AsyncDisposable {
  readonly api: EmbeddedKubeApi
  readonly #committer: Committer
  readonly #clock: HandClock

  private constructor(api: EmbeddedKubeApi, committer: Committer, clock: HandClock) {
    this.api = api
    this.#committer = committer
    this.#clock = clock
  }

  static async open(store: Store): Promise<Served> {
    const clock = new HandClock(nowMs)
    const committer = new Committer({}, { store, clock, onFailure: error => { throw error } })
    const api = await EmbeddedKubeApi.open({
      server: {
        name: 'test', host: '127.0.0.1', port: 0, tokens: [{ token: 't', user: { name: 'admin', groups: ['system:masters'] } }],
        version: { major: '1', minor: '32', gitVersion: 'v1.32.0', gitCommit: '', buildDate: '2026-01-01T00:00:00Z', platform: '' }
      },
      objects: {}
    }, { store, committer, clock, random: new SeededRandom(1), log: silentLog })
    return new Served(api, committer, clock)
  }

  async call(method: string, path: string, body?: JsonObject, type = 'application/json'): Promise<{ status: number, body: JsonObject, warning: string }> {
    const response = await fetch(`${this.api.server.url}${path}`, {
      method, headers: { 'authorization': 'Bearer t', 'content-type': type }, ...body !== undefined && { body: JSON.stringify(body) }
    })
    const text = await response.text()
    return { status: response.status, body: text.startsWith('{') ? JSON.parse(text) as JsonObject : {}, warning: response.headers.get('warning') ?? '' }
  }

  async define(document: JsonObject): Promise<void> {
    const { status, body } = await this.call('POST', '/apis/apiextensions.k8s.io/v1/customresourcedefinitions', document)
    expect([status, body['message']]).toEqual([201, undefined])
    await this.api.idle()
  }

  definition(name = 'widgets.example.com'): KubeObject | undefined {
    return this.api.objects.get({ resource: definitionResource, namespace: '', name })?.object
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = this.api.close()
    this.#clock.advance(60_000)
    await closed
    await this.#committer.close()
  }
}

const open: Served[] = []
async function serve(store: Store = new MemoryStore()): Promise<Served> {
  const served = await Served.open(store)
  open.push(served)
  return served
}
afterEach(async () => { for (const served of open.splice(0)) await served[Symbol.asyncDispose]() })

const definitions = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions'
const collection = '/apis/example.com/v1/namespaces/default/widgets'
const mergePatch = 'application/merge-patch+json'
const document = (schema: JsonObject = { type: 'object', properties: { level: { type: 'integer' } } }, version: JsonObject = {}): JsonObject =>
  widgetDocument(schema, version)
const widget = (name: string, spec: JsonObject = {}, metadata: JsonObject = {}): JsonObject =>
  ({ apiVersion: 'example.com/v1', kind: 'Widget', metadata: { name, ...metadata }, spec })

describe('a definition', () => {
  test('is served once it is established, and again at once after a restart', async () => {
    const store = new MemoryStore()
    const first = await serve(store)
    expect((await first.call('GET', collection)).status).toBe(404)
    await first.define(document())
    expect((await first.call('POST', collection, widget('a', { level: 1 }))).status).toBe(201)
    await open.pop()![Symbol.asyncDispose]()
    const second = await serve(store)
    const { status, body } = await second.call('GET', collection)
    expect([status, (body['items'] as JsonObject[]).map(item => item['spec'])]).toEqual([200, [{ level: 1 }]])
    expect((await second.call('GET', '/apis/example.com/v1')).body['resources']).toMatchObject([{ name: 'widgets', kind: 'Widget' }])
  })

  test('that changes is another one at once: for what is stored, and for who watches', async () => {
    const served = await serve()
    await served.define(document())
    await served.call('POST', collection, widget('a', { level: 1 }))
    const watch = await fetch(`${served.api.server.url}${collection}?watch=true&resourceVersion=0`, { headers: { authorization: 'Bearer t' } })
    const labels = await served.call('PATCH', `${definitions}/widgets.example.com`, { metadata: { labels: { a: 'b' } } }, mergePatch)
    expect(labels.status).toBe(200)
    const current = (await served.call('GET', `${definitions}/widgets.example.com`)).body
    const changed = document({ type: 'object', properties: { mode: { type: 'string', default: 'auto' } } })
    const put = await served.call('PUT', `${definitions}/widgets.example.com`, { ...changed, metadata: current['metadata']! })
    expect(put.body['metadata']).toMatchObject({ generation: 2 })
    // The watch ends, so that its client begins again.
    expect((await watch.text()).split('\n')).toHaveLength(2)
    expect((await served.call('GET', `${collection}/a`)).body['spec']).toEqual({ mode: 'auto' })
  })

  test('gets a name once another one has given it back', async () => {
    const served = await serve()
    await served.define(document())
    const other = widgetDocument({ type: 'object' }, {}, { names: { plural: 'wodgets', singular: 'widget', kind: 'Wodget' } })
    await served.define({ ...other, metadata: { name: 'wodgets.example.com' } })
    const established = () => conditionOf(served.definition('wodgets.example.com')!, 'Established')!.status
    expect(established()).toBe('False')
    expect((await served.call('GET', '/apis/example.com/v1/namespaces/default/wodgets')).status).toBe(404)
    await served.call('DELETE', `${definitions}/widgets.example.com`)
    await served.api.idle()
    expect(established()).toBe('True')
    expect((await served.call('GET', '/apis/example.com/v1/namespaces/default/wodgets')).status).toBe(200)
  })

  test('that is deleted waits for an instance that somebody holds, takes no new ones, and goes with the last', async () => {
    const served = await serve()
    await served.define(document())
    await served.call('POST', collection, widget('a'))
    await served.call('POST', collection, widget('held', {}, { finalizers: ['example.com/mine'] }))
    expect((await served.call('DELETE', `${definitions}/widgets.example.com`)).body['metadata']).toMatchObject({ finalizers: ['customresourcecleanup.apiextensions.k8s.io'] })
    await served.api.idle()
    expect(conditionOf(served.definition()!, 'Terminating')).toMatchObject({ status: 'True', reason: 'InstanceDeletionInProgress' })
    expect((await served.call('GET', `${collection}/a`)).status).toBe(404)
    expect((await served.call('POST', collection, widget('late'))).status).toBe(405)
    expect((await served.call('DELETE', `${definitions}/widgets.example.com`)).status).toBe(200)
    await served.call('PATCH', `${collection}/held`, { metadata: { finalizers: null } }, mergePatch)
    await served.api.idle()
    expect(served.definition()).toBeUndefined()
    expect((await served.call('GET', collection)).status).toBe(404)
  })

  test('that goes while a body is on its way takes nothing in', async () => {
    const served = await serve()
    await served.define(document())
    const text = JSON.stringify(widget('late'))
    const request = httpRequest(`${served.api.server.url}${collection}`, {
      method: 'POST', headers: { 'authorization': 'Bearer t', 'content-type': 'application/json', 'content-length': text.length }
    })
    const answered = once(request, 'response') as Promise<[IncomingMessage]>
    request.write(text.slice(0, 10))
    while (served.api.server.requestsInFlight === 0) await served.call('GET', '/livez')
    await served.call('DELETE', `${definitions}/widgets.example.com`)
    await served.api.idle()
    expect(served.definition()).toBeUndefined()
    request.end(text.slice(10))
    const [response] = await answered
    response.resume()
    expect(response.statusCode).toBe(405)
    expect([...served.api.objects.all()].map(({ resource }) => resource)).not.toContain('widgets.example.com')
  })

  test('that was being deleted when the server stopped is gone after it has started', async () => {
    const store = new MemoryStore()
    const first = await serve(store)
    await first.define(document())
    await first.call('POST', collection, widget('held', {}, { finalizers: ['example.com/mine'] }))
    await first.call('DELETE', `${definitions}/widgets.example.com`)
    await first.api.idle()
    await open.pop()![Symbol.asyncDispose]()
    const second = await serve(store)
    await second.call('PATCH', `${collection}/held`, { metadata: { finalizers: null } }, mergePatch)
    await second.api.idle()
    expect(second.definition()).toBeUndefined()
  })

  test('brings its objects into the garbage collector\'s view when it comes', async () => {
    const served = await serve()
    const owner = { apiVersion: 'example.com/v1', kind: 'Widget', name: 'gone', uid: '123e4567-e89b-42d3-a456-426614174000' }
    const dependent = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'dependent', ownerReferences: [owner] } }
    await served.call('POST', '/api/v1/namespaces/default/configmaps', dependent)
    await served.api.idle()
    const path = '/api/v1/namespaces/default/configmaps/dependent'
    // Of a kind that is not served nobody knows whether it is there.
    expect((await served.call('GET', path)).status).toBe(200)
    await served.define(document())
    expect((await served.call('GET', path)).status).toBe(404)
  })

  test('with several versions shows each object under every one of them', async () => {
    const served = await serve()
    const version = (name: string, storage: boolean, schema: JsonObject): JsonObject =>
      ({ name, served: true, storage, schema: { openAPIV3Schema: { type: 'object', properties: { spec: schema } } } })
    await served.define(widgetDocument({}, {}, {
      versions: [
        version('v1', true, { type: 'object', properties: { level: { type: 'integer' }, mode: { type: 'string', default: 'auto' } } }),
        { ...version('v1beta1', false, { type: 'object', properties: { level: { type: 'integer' } } }), deprecated: true, deprecationWarning: 'use v1' }
      ]
    }))
    const old = '/apis/example.com/v1beta1/namespaces/default/widgets'
    const made = await served.call('POST', old, { ...widget('a', { level: 1 }), apiVersion: 'example.com/v1beta1' })
    expect(made).toMatchObject({ status: 201, warning: '299 - "use v1"', body: { apiVersion: 'example.com/v1beta1', spec: { level: 1 } } })
    expect((await served.call('GET', `${collection}/a`)).body).toMatchObject({ apiVersion: 'example.com/v1', spec: { level: 1, mode: 'auto' } })
    expect((await served.call('GET', `${old}/a`)).body['spec']).toEqual({ level: 1 })
  })
})

test('a namespace that is deleted takes the custom resources in it along', async () => {
  const served = await serve()
  await served.define(document())
  await served.call('POST', '/api/v1/namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'away' } })
  expect((await served.call('POST', '/apis/example.com/v1/namespaces/away/widgets', widget('a'))).status).toBe(201)
  await served.call('DELETE', '/api/v1/namespaces/away')
  await served.api.idle()
  expect((await served.call('GET', '/api/v1/namespaces/away')).status).toBe(404)
  expect((await served.call('GET', '/apis/example.com/v1/widgets')).body['items']).toEqual([])
})
