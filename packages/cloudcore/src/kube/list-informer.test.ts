import { SeededRandom, silentLog, type Log, type Timer } from '@holdfast/runtime'
import { HandClock } from '@holdfast/runtime/testing'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { RestClient } from './rest-client.ts'
import { kubeKinds } from './kube-kinds.ts'
import { kubeClientLimits as limits } from './limits.ts'
import { ListInformer, type ListInformerOptions } from './list-informer.ts'
import { compareResourceVersions } from './resource-version.ts'
import { configMap, configMapList, type Exchange, failure, ScriptedApi } from './testing/scripted-api.ts'

/** Pauses pass at once, and are noted; the other timers run when told to. */
class PausingClock extends HandClock {
  readonly pausesMs: number[] = []
  override after(delayMs: number, task: () => void): Timer {
    if (delayMs >= limits.requestMs.value) return super.after(delayMs, task)
    this.pausesMs.push(delayMs)
    const handle = setImmediate(task)
    return { cancel: () => { clearImmediate(handle) } }
  }
}

let api: ScriptedApi
let clock: PausingClock
let client: RestClient
let stop: AbortController
let informer: ListInformer
let running: Promise<void>
/** `key: before → after`, by resourceVersion; `@` and the position behind them. */
let told: string[]
let logged: string[]

beforeEach(async () => {
  api = await ScriptedApi.open()
  clock = new PausingClock()
  client = await RestClient.open({ access: api.access }, { clock, random: new SeededRandom(1) })
  logged = []
})

afterEach(async () => {
  stop.abort()
  await running
  await client.close()
  await api[Symbol.asyncDispose]()
})

function start(options: Partial<ListInformerOptions> = {}): void {
  stop = new AbortController()
  told = []
  const note = (message: string): void => { logged.push(message) }
  const log: Log = { ...silentLog, warn: note, info: note, with: () => log }
  informer = new ListInformer({ kind: kubeKinds.configMaps, ...options }, { client, clock, random: new SeededRandom(2), log })
  informer.subscribe({
    onChange(before, after) {
      told.push(`${(after ?? before)!.metadata.name}: ${before?.metadata.resourceVersion ?? ''} → ${after?.metadata.resourceVersion ?? ''}`)
    },
    onPosition() { told.push(`@${informer.position}`) }
  })
  running = informer.run(stop.signal)
}

/** What was told since the last time, once the informer has come to `position`. */
async function toldUpTo(position: number): Promise<string[]> {
  await expect.poll(() => told.includes(`@${position}`)).toBe(true)
  return told.splice(0)
}

const held = (): Record<string, string> =>
  Object.fromEntries(Array.from(informer.objects(), ({ metadata }) => [`${metadata.namespace}/${metadata.name}`, metadata.resourceVersion!]))

const added = (object: object): object => ({ type: 'ADDED', object })
const modified = (object: object): object => ({ type: 'MODIFIED', object })
const deleted = (object: object): object => ({ type: 'DELETED', object })
const bookmark = (version: number): object => ({ type: 'BOOKMARK', object: { kind: 'ConfigMap', metadata: { resourceVersion: String(version) } } })

/** The next request, which has to be a list of everything. */
async function list(): Promise<Exchange> {
  const exchange = await api.next()
  expect([exchange.isWatch, exchange.url.searchParams.get('fieldSelector')]).toEqual([false, null])
  return exchange
}

/** The next request, which has to be a watch from `version`. */
async function watch(version: number): Promise<Exchange> {
  const exchange = await api.next()
  expect([exchange.isWatch, exchange.url.searchParams.get('resourceVersion')]).toEqual([true, String(version)])
  exchange.send()
  return exchange
}

/** The next request, which has to ask for the version only; it is given. */
async function probe(version: number): Promise<void> {
  const exchange = await api.next()
  expect([exchange.isWatch, exchange.url.searchParams.get('fieldSelector')]).toEqual([false, expect.stringMatching(/^metadata\.name=/)])
  exchange.reply(200, configMapList(version, []))
}

/** Starts with these objects, the newest at `version`, and gives the watch that follows. */
async function startWith(version: number, items: readonly object[], options: Partial<ListInformerOptions> = {}): Promise<Exchange> {
  start(options);
  (await list()).reply(200, configMapList(version, items))
  const exchange = await watch(version)
  told.splice(0)
  return exchange
}

describe('following', () => {
  test('begins with a list, then tells each change, and the position behind it', async () => {
    start()
    expect([informer.synced, informer.position]).toEqual([false, undefined]);
    (await list()).reply(200, configMapList(9, [configMap('a', 3), configMap('b', 5)]))
    expect(await toldUpTo(9)).toEqual(['a:  → 3', 'b:  → 5', '@9'])
    expect([informer.synced, informer.position, held()]).toEqual([true, '9', { 'default/a': '3', 'default/b': '5' }])
    const watching = await watch(9)
    watching.send(added(configMap('c', 10)), modified(configMap('a', 11, { k: '1' })), deleted(configMap('b', 12)), bookmark(20))
    expect(await toldUpTo(20)).toEqual(['c:  → 10', '@10', 'a: 3 → 11', '@11', 'b: 5 → ', '@12', '@20'])
    expect(informer.get('default/a')).toMatchObject({ apiVersion: 'v1', kind: 'ConfigMap', data: { k: '1' } })
    expect(held()).toEqual({ 'default/a': '11', 'default/c': '10' })
  })

  test('goes on where it was when the server ends a watch', async () => {
    const watching = await startWith(9, [])
    watching.send(bookmark(15))
    await toldUpTo(15)
    watching.end()
    await probe(16)
    expect((await watch(15)).isWatch).toBe(true)
    expect(clock.pausesMs).toEqual([])
  })

  test('of a selection asks for no more than that', async () => {
    start({ selection: { namespace: 'default', labelSelector: 'app=x' } })
    const first = await list()
    expect([first.url.pathname, first.url.searchParams.get('labelSelector')]).toEqual(['/api/v1/namespaces/default/configmaps', 'app=x'])
    first.reply(200, configMapList(9, []))
    expect((await watch(9)).url.searchParams.get('labelSelector')).toBe('app=x')
  })

  test('ends with its signal', async () => {
    const watching = await startWith(9, [])
    const left = watching.left()
    stop.abort()
    await running
    await left
    await expect(informer.relist()).rejects.toMatchObject({ name: 'AbortError' })
  })

  test('ends with what a listener throws', async () => {
    const watching = await startWith(9, [])
    const fault = new TypeError('a fault of the listener')
    informer.subscribe({ onChange() { throw fault } })
    const ended = expect(running).rejects.toBe(fault)
    watching.send(added(configMap('a', 10)))
    await ended
    running = Promise.resolve()
  })

  test('no longer tells whoever has left', async () => {
    const watching = await startWith(9, [])
    const seen: string[] = []
    const leave = informer.subscribe({ onPosition() { seen.push(informer.position!) } })
    watching.send(bookmark(10))
    await toldUpTo(10)
    leave()
    watching.send(bookmark(11))
    await toldUpTo(11)
    expect(seen).toEqual(['10'])
  })
})

describe('an interruption', () => {
  test('in the middle of an event tells nothing of it, and the watch goes on behind the last whole one', async () => {
    const watching = await startWith(9, [configMap('a', 3)])
    watching.send(modified(configMap('a', 10)), JSON.stringify(deleted(configMap('a', 11))).slice(0, 60))
    expect(await toldUpTo(10)).toEqual(['a: 3 → 10', '@10'])
    await watching.cut()
    await probe(12)
    const again = await watch(10)
    again.send(deleted(configMap('a', 11)))
    expect(await toldUpTo(11)).toEqual(['a: 10 → ', '@11'])
    expect(clock.pausesMs).toHaveLength(1)
    expect(logged).toEqual([])
  })

  test('of silence ends the watch, and the next one goes on', async () => {
    const watching = await startWith(9, [configMap('a', 3)])
    clock.advance(limits.watchSilenceMs.value)
    await watching.left()
    await probe(9)
    await watch(9)
    expect(held()).toEqual({ 'default/a': '3' })
  })

  test('after which the version is gone (410, as an event and as an answer) lists again', async () => {
    const watching = await startWith(9, [configMap('a', 3), configMap('b', 4), configMap('c', 5)])
    watching.send({ type: 'ERROR', object: failure(410, 'Expired', 'too old resource version: 9 (219)') });
    (await list()).reply(200, configMapList(300, [configMap('a', 3), configMap('b', 250), configMap('d', 260)]))
    expect(await toldUpTo(300)).toEqual(['b: 4 → 250', 'd:  → 260', 'c: 5 → ', '@300'])
    const second = await watch(300)
    second.send(bookmark(301))
    await toldUpTo(301)
    second.end()
    await probe(400);
    (await api.next()).reply(410, failure(410, 'Expired', 'gone'));
    (await list()).reply(200, configMapList(400, []))
    expect(await toldUpTo(400)).toEqual(['a: 3 → ', 'b: 250 → ', 'd: 260 → ', '@400'])
  })

  test('in which an object was deleted and made anew tells of one change, from the old one to the new one', async () => {
    const watching = await startWith(9, [configMap('a', 3)])
    await watching.cut()
    await probe(30);
    (await api.next()).reply(410, failure(410, 'Expired', 'gone'));
    // Restored from a backup: the same version, and not the same object.
    (await list()).reply(200, configMapList(30, [configMap('a', 3, {}, 'another uid')]))
    expect(await toldUpTo(30)).toEqual(['a: 3 → 3', '@30'])
    expect(informer.get('default/a')!.metadata.uid).toBe('another uid')
  })

  test('by an event that is too large is got over by a list', async () => {
    const large = { large: 'x'.repeat(5 * 1024 * 1024) }
    const watching = await startWith(9, [])
    watching.send(added(configMap('a', 10, large)));
    (await list()).reply(200, configMapList(11, [configMap('a', 10, large)]))
    expect(await toldUpTo(11)).toEqual(['a:  → 10', '@11'])
    await watch(11)
  })

  test('by an event out of order, or one that is none, is got over by a list', async () => {
    const watching = await startWith(9, [])
    watching.send(added(configMap('a', 12)), added(configMap('b', 11)));
    (await list()).reply(200, configMapList(13, [configMap('a', 12), configMap('b', 11)]))
    expect(await toldUpTo(13)).toEqual(['a:  → 12', '@12', 'b:  → 11', '@13'])
    const second = await watch(13)
    second.send('nonsense\n');
    (await list()).reply(200, configMapList(13, []))
    expect(await toldUpTo(13)).toEqual(['a: 12 → ', 'b: 11 → ', '@13'])
  })

  test('by a server that is too busy leaves what is known, for as long as it asks', async () => {
    const watching = await startWith(9, [configMap('a', 3)])
    watching.send(bookmark(10))
    await toldUpTo(10)
    watching.end()
    await probe(10);
    (await api.next()).reply(429, failure(429, 'TooManyRequests', 'wait'), { 'retry-after': '7' })
    await probe(10)
    await watch(10)
    expect(clock.pausesMs).toEqual([7000])
  })
})

describe('a list that fails', () => {
  test('for ever neither empties what is known nor takes synced back, and is tried ever more slowly', async () => {
    const watching = await startWith(9, [configMap('a', 3)], { backoff: { baseMs: 100, maxMs: 3000 } })
    watching.send({ type: 'ERROR', object: failure(410, 'Expired', 'gone') })
    for (let i = 0; i < 12; i++) (await list()).reply(i % 3 === 0 ? 403 : 500, failure(i % 3 === 0 ? 403 : 500, i % 3 === 0 ? 'Forbidden' : '', 'no'))
    expect([informer.synced, informer.position, held()]).toEqual([true, '9', { 'default/a': '3' }])
    expect(told).toEqual([])
    for (const [i, pauseMs] of clock.pausesMs.entries()) expect(pauseMs).toBeLessThan(Math.min(3000, 100 * 2 ** i))
    expect(Math.max(...clock.pausesMs.slice(5))).toBeGreaterThan(500);
    (await list()).reply(200, configMapList(20, []))
    expect(await toldUpTo(20)).toEqual(['a: 3 → ', '@20'])
    const second = await watch(20)
    second.send(bookmark(21))
    await toldUpTo(21)
    expect(logged.at(-1)).toBe('objects are followed again')
    const before = clock.pausesMs.length
    await second.cut()
    await probe(21)
    expect(clock.pausesMs.slice(before)[0]).toBeLessThan(100)
  })

  test('from the start is not an empty one', async () => {
    start()
    for (let i = 0; i < 3; i++) (await list()).reply(403, failure(403, 'Forbidden', 'configmaps is forbidden'))
    expect([informer.synced, informer.position, told]).toEqual([false, undefined, []])
    expect(logged).toEqual(['objects cannot be followed; what is known stays, and it is tried again']);
    (await list()).reply(200, configMapList(4, []))
    expect(await toldUpTo(4)).toEqual(['@4'])
    expect(informer.synced).toBe(true)
  })

  test('in the middle of its pages (410) begins again', async () => {
    start();
    (await list()).reply(200, configMapList(4, [configMap('old', 1)], 'next'));
    (await list()).reply(410, failure(410, 'Expired', 'too old'));
    (await list()).reply(200, configMapList(6, [configMap('a', 5)]))
    expect(await toldUpTo(6)).toEqual(['a:  → 5', '@6'])
  })

  test('has more objects than are kept: they are not taken, and the others stay', async () => {
    const watching = await startWith(9, [configMap('a', 3)], { objectsMax: 2 })
    watching.send(added(configMap('b', 10)), added(configMap('c', 11)))
    await toldUpTo(10);
    (await list()).reply(500, failure(500, '', 'no'))
    expect([informer.position, held()]).toEqual(['10', { 'default/a': '3', 'default/b': '10' }])
  })
})

describe('a relist', () => {
  test('takes a new list over by its difference, and the watch begins there', async () => {
    const watching = await startWith(9, [configMap('a', 3), configMap('b', 4)])
    const done = informer.relist();
    (await list()).reply(200, configMapList(12, [configMap('a', 3), configMap('b', 11)]))
    await done
    expect(told.splice(0)).toEqual(['b: 4 → 11', '@12'])
    await watching.left()
    await watch(12)
    expect(clock.pausesMs).toEqual([])
  })

  test('that the watch got ahead of changes nothing', async () => {
    const watching = await startWith(9, [configMap('a', 3)])
    const done = informer.relist()
    const listing = await list()
    watching.send(modified(configMap('a', 14)))
    expect(await toldUpTo(14)).toEqual(['a: 3 → 14', '@14'])
    listing.reply(200, configMapList(12, [configMap('a', 3)]))
    await done
    expect([told, informer.position, held()]).toEqual([[], '14', { 'default/a': '14' }])
    watching.send(bookmark(15))
    await toldUpTo(15)
  })

  test('is made after it was asked for, and one for all who asked meanwhile', async () => {
    await startWith(9, [])
    const first = informer.relist()
    const underWay = await list()
    const second = informer.relist()
    const third = informer.relist()
    underWay.reply(200, configMapList(10, []))
    await first
    const requests = [await api.next(), await api.next()]
    const behind = requests.find(request => !request.isWatch)!
    behind.reply(200, configMapList(11, []))
    await Promise.all([second, third])
    expect(informer.position).toBe('11')
    await watch(11)
    expect(api.unread).toBe(0)
  })

  test('that fails says so, and nothing changes', async () => {
    await startWith(9, [configMap('a', 3)])
    const done = informer.relist();
    (await list()).reply(503, failure(503, 'ServiceUnavailable', 'later'))
    await expect(done).rejects.toMatchObject({ status: 503 })
    expect([informer.synced, informer.position, held(), told]).toEqual([true, '9', { 'default/a': '3' }, []])
  })

  test('ends a pause: the watch goes on at once', async () => {
    const watching = await startWith(9, [])
    await watching.cut();
    (await api.next()).reply(429, failure(429, 'TooManyRequests', 'wait'), { 'retry-after': '59' })
    await expect.poll(() => clock.pausesMs.length).toBe(1)
    const done = informer.relist();
    (await list()).reply(200, configMapList(10, []))
    await done
    await watch(10)
  })
})

describe('a source that went back', () => {
  test('(etcd restored from a backup) is believed when two lists say so', async () => {
    await startWith(90, [configMap('a', 30), configMap('new', 80), configMap('b', 85)])
    const done = informer.relist();
    (await list()).reply(200, configMapList(50, [configMap('a', 30), configMap('b', 40)]));
    (await list()).reply(200, configMapList(51, [configMap('a', 30), configMap('b', 40)]))
    await done
    expect(told.splice(0)).toEqual(['a: 30 → 30', 'b: 85 → 40', 'new: 80 → ', '@51'])
    expect([informer.synced, informer.position]).toEqual([true, '51'])
    expect(logged).toEqual(['the Kubernetes API went back; what is known is taken back too'])
    const watching = await watch(51)
    watching.send(added(configMap('c', 52)))
    expect(await toldUpTo(52)).toEqual(['c:  → 52', '@52'])
  })

  test('was a server that lags, where the second list says otherwise', async () => {
    await startWith(90, [configMap('a', 30), configMap('new', 80)])
    const done = informer.relist();
    (await list()).reply(200, configMapList(50, [configMap('a', 30)]));
    (await list()).reply(200, configMapList(91, [configMap('a', 30), configMap('new', 80)]))
    await done
    expect(told.splice(0)).toEqual(['@91'])
    expect(logged).toEqual([])
  })

  test('is not believed of servers that do not agree', async () => {
    await startWith(90, [configMap('a', 30)])
    const done = informer.relist();
    (await list()).reply(200, configMapList(50, []));
    (await list()).reply(200, configMapList(40, []))
    await expect(done).rejects.toMatchObject({ status: 410, reason: 'OutOfOrder' })
    expect([informer.position, held(), told]).toEqual(['90', { 'default/a': '30' }, []])
  })

  test('is noticed before a watch goes on, which would wait in silence for its version', async () => {
    const watching = await startWith(90, [configMap('a', 30)])
    await watching.cut()
    await probe(50);
    (await list()).reply(200, configMapList(50, []));
    (await list()).reply(200, configMapList(50, []))
    expect(await toldUpTo(50)).toEqual(['a: 30 → ', '@50'])
    await watch(50)
  })
})

test('versions are ordered where they are decimal, whatever their length', () => {
  expect(compareResourceVersions('9', '10')).toBeLessThan(0)
  expect(compareResourceVersions('18446744073709551616', '18446744073709551615')).toBeGreaterThan(0)
  expect(compareResourceVersions('007', '7')).toBe(0)
  expect(compareResourceVersions('abc', 'abc')).toBe(0)
  expect(compareResourceVersions('abc', '7')).toBeUndefined()
  expect(compareResourceVersions('', '7')).toBeUndefined()
})
