import type { JsonObject, KubeObject } from '@holdfast/kube-api'
import { SystemClock, SystemRandom } from '@holdfast/runtime'
import { afterEach, describe, expect, test, vi } from 'vitest'
import type { InProcessApi } from './in-process-transport.ts'
import type { ObjectPlace, WatchEvent } from './kube-client.ts'
import { KubeError } from './kube-error.ts'
import { kubeKinds } from './kube-kinds.ts'
import { RestClient, type RestClientOptions } from './rest-client.ts'
import { openMemoryApi, type MemoryApi } from './testing/memory-api.ts'

const { configMaps } = kubeKinds
const [clock, random] = [new SystemClock(), new SystemRandom()]
const never = new AbortController().signal

const closers: (() => Promise<void>)[] = []
afterEach(async () => { for (const close of closers.splice(0).toReversed()) await close() })

async function openApi(historyEventsMax?: number): Promise<MemoryApi> {
  const memory = await openMemoryApi(historyEventsMax === undefined ? {} : { historyEventsMax })
  closers.push(async () => { await memory[Symbol.asyncDispose]() })
  return memory
}

async function clientOf(api: InProcessApi, options: Omit<RestClientOptions, 'access'> = {}): Promise<RestClient> {
  const client = await RestClient.open({ access: { kind: 'in-process', api }, ...options }, { clock, random })
  closers.push(() => client.close())
  return client
}

const soon = (check: () => void): Promise<void> => vi.waitFor(check, 10_000)

/** An API whose answers the test gives. */
const handMade = (answer: InProcessApi['answer']): InProcessApi => ({ url: 'https://by-hand', answer })

const place = (name: string): ObjectPlace => ({ kind: configMaps, namespace: 'default', name })
const configMap = (name: string, data: JsonObject = {}): KubeObject =>
  ({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace: 'default' }, data })

async function rejection(promise: Promise<unknown>): Promise<KubeError> {
  const error: unknown = await promise.then(() => undefined, (reason: unknown) => reason)
  expect(error).toBeInstanceOf(KubeError)
  return error as KubeError
}

/** `ADDED a` of each event but bookmarks. */
const told = (events: readonly WatchEvent[]): string[] =>
  events.flatMap(event => event.type === 'BOOKMARK' ? [] : [`${event.type} ${event.object.metadata.name}`])

describe('an object of the API of this process', () => {
  test('is created, read, patched, replaced and deleted', async () => {
    const { api, access } = await openApi()
    const client = await clientOf(access.api)
    expect(client.server).toBe(api.server.url)
    expect(await client.get(place('a'))).toBeUndefined()
    const created = await client.create(configMaps, configMap('a', { k: 'ä' }))
    expect(created).toMatchObject({ apiVersion: 'v1', kind: 'ConfigMap', data: { k: 'ä' } })
    expect(created.metadata.uid).toBeTypeOf('string')
    expect(await client.get(place('a'))).toEqual(created)
    const patched = await client.mergePatch(place('a'), { data: { more: '1' } })
    expect(patched['data']).toEqual({ k: 'ä', more: '1' })
    const replaced = await client.replace(place('a'), { ...patched, data: { other: '2' } })
    expect(await client.get(place('a'))).toEqual(replaced)
    expect(replaced['data']).toEqual({ other: '2' })
    await client.delete(place('a'), { uid: created.metadata.uid! })
    expect(await client.get(place('a'))).toBeUndefined()
  })

  test('that was changed meanwhile, or is there already, is a conflict', async () => {
    const { api, access } = await openApi()
    const client = await clientOf(access.api)
    const created = await client.create(configMaps, configMap('a'))
    const changed = await client.mergePatch(place('a'), { data: { k: '1' } })
    expect(await rejection(client.replace(place('a'), created))).toMatchObject({
      status: 409, reason: 'Conflict', code: 'KUBE_CONFLICT', isRetryable: true,
      message: expect.stringContaining(`PUT ${api.server.url}/api/v1/namespaces/default/configmaps/a: 409: `) as string
    })
    expect(await rejection(client.create(configMaps, configMap('a')))).toMatchObject({ status: 409, reason: 'AlreadyExists' })
    expect(await client.get(place('a'))).toEqual(changed)
  })

  test('is nobody else\'s, wherever it was read', async () => {
    const client = await clientOf((await openApi()).access.api)
    const given = configMap('a', { k: 'before' })
    const created = await client.create(configMaps, given)
    const stop = new AbortController()
    const seen: KubeObject[] = []
    const onEvent = (event: WatchEvent): void => { if (event.type !== 'BOOKMARK') seen.push(event.object) }
    const watches = [1, 2].map(() => client.watch(configMaps, {}, '1', onEvent, stop.signal))
    await soon(() => { expect(seen.length).toBe(2) })
    const { items } = await client.list(configMaps, { fieldSelector: 'metadata.name=a' }, never)
    const read = await client.get(place('a'))
    const objects = [given, created, read!, ...items, ...seen]
    expect(objects).toHaveLength(6)
    for (const [i, object] of objects.entries()) {
      expect(object['data']).toEqual({ k: 'before' })
      ;(object['data'] as Record<string, string>)['k'] = `changed ${i}`
      object.metadata.name = 'other'
      const again = await client.get(place('a'))
      expect([again?.metadata.name, again?.['data']]).toEqual(['a', { k: 'before' }])
    }
    stop.abort()
    await Promise.all(watches)
  })
})

test('a list is read page by page', async () => {
  const { access } = await openApi()
  const asked: URLSearchParams[] = []
  const own = access.api
  const client = await clientOf({
    url: own.url, answer: exchange => {
      if (exchange.request.method === 'GET') asked.push(new URL(exchange.request.url!, own.url).searchParams)
      return own.answer(exchange)
    }
  }, { listPage: 2 })
  for (const name of ['a', 'b', 'c', 'd', 'e']) await client.create(configMaps, configMap(name))
  const { items, resourceVersion } = await client.list(configMaps, { namespace: 'default' }, never)
  expect(items.map(({ metadata }) => metadata.name)).toEqual(['a', 'b', 'c', 'd', 'e'])
  expect(resourceVersion).toMatch(/^\d+$/)
  expect(asked.map(query => [query.get('limit'), query.has('continue')])).toEqual([['2', false], ['2', true], ['2', true]])
})

describe('a watch of the API of this process', () => {
  test('tells what happens, and leaves nothing behind when its signal aborts', async () => {
    const { api, access } = await openApi()
    const client = await clientOf(access.api)
    const { metadata: { resourceVersion = '' } } = await client.create(configMaps, configMap('before'))
    const stop = new AbortController()
    const seen: WatchEvent[] = []
    const watched = client.watch(configMaps, { namespace: 'default' }, resourceVersion, event => { seen.push(event) }, stop.signal)
    await soon(() => { expect(api.objects.stats.watches).toBe(1) })
    await client.create(configMaps, configMap('a'))
    await client.mergePatch(place('a'), { data: { k: '1' } })
    await client.delete(place('a'))
    await soon(() => { expect(told(seen)).toEqual(['ADDED a', 'MODIFIED a', 'DELETED a']) })
    expect(seen[1]).toMatchObject({ object: { apiVersion: 'v1', kind: 'ConfigMap', data: { k: '1' } } })
    stop.abort()
    await watched
    expect(api.objects.stats.watches).toBe(0)
    await client.create(configMaps, configMap('after'))
    expect(told(seen)).toHaveLength(3)
  })

  test('of a version that is too old is 410', async () => {
    const { api, access } = await openApi(4)
    const client = await clientOf(access.api)
    const { metadata: { resourceVersion = '' } } = await client.create(configMaps, configMap('a'))
    for (let i = 0; i < 20; i++) await client.mergePatch(place('a'), { data: { i: String(i) } })
    const seen: WatchEvent[] = []
    expect(await rejection(client.watch(configMaps, {}, resourceVersion, event => { seen.push(event) }, never)))
      .toMatchObject({ status: 410, reason: 'Expired', code: 'KUBE_EXPIRED' })
    expect([seen.length, api.objects.stats.watches]).toEqual([0, 0])
  })

  test('whose reader comes too late is cut, with nothing told across the hole', async () => {
    const { api, access } = await openApi(4)
    const own = access.api
    const writer = await clientOf(own)
    const { metadata: { resourceVersion = '' } } = await writer.create(configMaps, configMap('a'))
    const client = await clientOf({
      url: own.url, answer: async exchange => {
        const reply = await own.answer(exchange)
        expect(api.objects.stats.watches).toBe(1)
        for (let i = 0; i < 20; i++) await writer.mergePatch(place('a'), { data: { i: String(i) } })
        expect(api.objects.stats.watches).toBe(0)
        return reply
      }
    })
    const seen: WatchEvent[] = []
    expect(await rejection(client.watch(configMaps, {}, resourceVersion, event => { seen.push(event) }, never))).toMatchObject({
      status: 0, reason: 'Unreachable', code: 'KUBE_UNREACHABLE', message: expect.stringContaining('did not keep up') as string
    })
    expect(seen).toEqual([])
  })

  test('that is cut tells what came before that, and no more', async () => {
    const cut = new AbortController()
    const event = (name: string): string => `${JSON.stringify({
      type: 'ADDED', object: { ...configMap(name), metadata: { name, resourceVersion: '7' } }
    })}\n`
    const client = await clientOf(handMade(async () => ({
      status: 200, cut: cut.signal, body: (async function* () {
        yield event('a')
        cut.abort(new Error('the watch did not keep up'))
        yield event('b')
      })()
    })))
    const seen: WatchEvent[] = []
    expect(await rejection(client.watch(configMaps, {}, '1', each => { seen.push(each) }, never)))
      .toMatchObject({ status: 0, message: expect.stringContaining('did not keep up') as string })
    expect(told(seen)).toEqual(['ADDED a'])
  })

  test('of which nothing is heard for too long is given up, on both sides', async () => {
    const { api, access } = await openApi()
    const client = await clientOf(access.api, { watchSilenceMs: 200 })
    const watched = rejection(client.watch(configMaps, {}, '1', () => {}, never))
    await soon(() => { expect(api.objects.stats.watches).toBe(1) })
    expect(await watched).toMatchObject({ status: 0, reason: 'Silent' })
    expect(api.objects.stats.watches).toBe(0)
  })
})

test('an answer that never comes is waited for no longer than a request may take', async () => {
  const signals: AbortSignal[] = []
  const client = await clientOf(handMade(exchange => {
    signals.push(exchange.signal())
    return new Promise(() => {})
  }), { requestMs: 20 })
  expect(await rejection(client.get(place('a')))).toMatchObject({
    status: 0, reason: 'Silent', code: 'KUBE_UNREACHABLE',
    message: 'GET https://by-hand/api/v1/namespaces/default/configmaps/a: not answered within 20 ms'
  })
  expect(signals.map(({ aborted }) => aborted)).toEqual([true])
})

test('closing the client ends what is under way', async () => {
  const { api, access } = await openApi()
  const own = access.api
  const client = await clientOf({
    url: own.url, answer: exchange => exchange.request.url!.includes('watch=true') ? own.answer(exchange) : new Promise(() => {})
  })
  const underWay = [client.get(place('a')), client.watch(configMaps, {}, '1', () => {}, never)].map(rejection)
  await soon(() => { expect(api.objects.stats.watches).toBe(1) })
  await client.close()
  for (const ended of underWay) expect(await ended).toMatchObject({ status: 0, reason: 'Closed' })
  expect(api.objects.stats.watches).toBe(0)
  expect(await rejection(client.get(place('a')))).toMatchObject({ status: 0, reason: 'Closed' })
})
