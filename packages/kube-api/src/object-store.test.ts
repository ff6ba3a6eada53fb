import { afterEach, describe, expect, test } from 'vitest'
import { MemoryStore } from '@holdfast/store'
import type { Store, WriteOp } from '@holdfast/store'
import { encodeContinue } from './continue-token.ts'
import type { KubeObject } from './object.ts'
import type { ObjectStore, ObjectStoreOptions } from './object-store.ts'
import { objectRange, revisionKey } from './object-store-keys.ts'
import type { ListOptions, ObjectKey, StoredObject, Watch, WatchEnd, WatchEvent, WatchOptions, WriteDecision } from './object-store-types.ts'
import { StatusError } from './status-error.ts'
import { openObjectStore } from './testing/object-store-fixture.ts'
import type { ObjectStoreFixture } from './testing/object-store-fixture.ts'

/** A store whose writes become durable when the test says so. */
class GatedStore extends MemoryStore {
  readonly writes: (() => void)[] = []
  open = true
  failure: Error | undefined

  override write(ops: readonly WriteOp[], options: { readonly sync: boolean }, onDone: (error?: Error) => void): void {
    const run = (): void => {
      if (this.failure === undefined) super.write(ops, options, onDone)
      else onDone(this.failure)
    }
    if (this.open) run()
    else this.writes.push(run)
  }

  /** Lets the oldest write through. */
  release(): void { this.writes.shift()!() }
}

type Made = ObjectStoreFixture<GatedStore>

const opened: ObjectStore[] = []
afterEach(() => { for (const objects of opened.splice(0)) objects.close() })

async function made(options: ObjectStoreOptions = {}, store = new GatedStore()): Promise<Made> {
  const fixture = await openObjectStore(options, store)
  opened.push(fixture.objects)
  return fixture
}

const keyOf = (name: string, namespace = 'default', resource = 'configmaps'): ObjectKey => ({ resource, namespace, name })

function configMap(name: string, data: Record<string, string> = {}, labels?: Record<string, string>, namespace = 'default'): KubeObject {
  return { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace, ...labels === undefined ? {} : { labels } }, data }
}

const putting = (object: KubeObject) => (): WriteDecision => ({ kind: 'put', object })
const deleting = (): WriteDecision => ({ kind: 'delete' })

const put = (objects: ObjectStore, name: string, data: Record<string, string> = {}, labels?: Record<string, string>, namespace = 'default') =>
  objects.write(keyOf(name, namespace), putting(configMap(name, data, labels, namespace)))
const remove = (objects: ObjectStore, name: string, namespace = 'default') => objects.write(keyOf(name, namespace), deleting)

const names = (items: readonly StoredObject[]): string[] => items.map(({ name }) => name)
const selection = { resource: 'configmaps', namespace: 'default' } as const
const list = (objects: ObjectStore, options: ListOptions = {}) => objects.list(selection, options)
const labelled = (name: string, value: string) => ({ object }: StoredObject): boolean => object.metadata.labels?.[name] === value

function refusal(run: () => unknown): { code: number, reason: string, message: string } {
  try {
    run()
  } catch (error) {
    expect(error).toBeInstanceOf(StatusError)
    const { code, reason, message } = error as StatusError
    return { code, reason, message }
  }
  throw new Error('was not refused')
}

/** The turn of the event loop ends, and what it put on its way is done. */
const turn = (): Promise<void> => new Promise(resolve => { setImmediate(resolve) })

/** Reads a watch in the background; the texts are `ADDED a@3`. */
class Reader {
  readonly events: WatchEvent[] = []
  readonly ends: WatchEnd[] = []
  readonly watch: Watch
  constructor(objects: ObjectStore, options: WatchOptions = {}, matches?: (stored: StoredObject) => boolean, namespace: string | undefined = 'default') {
    this.watch = objects.watch({ resource: 'configmaps', namespace, matches }, options, { ended: end => { this.ends.push(end) } })
    void this.#read()
  }

  async #read(): Promise<void> { for await (const events of this.watch) this.events.push(...events) }

  get texts(): string[] {
    return this.events.map(event => event.kind === 'bookmark'
      ? `BOOKMARK @${event.revision}${event.initialEventsEnd ? ' initial' : ''}`
      : `${event.type} ${event.stored.name}@${event.revision}`)
  }
}

describe('writing', () => {
  test('a revision counts every change, and is the resourceVersion of what is stored', async () => {
    const { objects } = await made()
    const [a, b] = await Promise.all([put(objects, 'a', { k: '1' }), put(objects, 'b')])
    expect([a, b].map(result => result.kind === 'put' && result.stored.revision)).toEqual([1, 2])
    expect(objects.get(keyOf('a'))!.object).toEqual({ ...configMap('a', { k: '1' }), metadata: { name: 'a', namespace: 'default', resourceVersion: '1' } })
    expect(JSON.parse(objects.get(keyOf('a'))!.json.toString())).toEqual(objects.get(keyOf('a'))!.object)
    expect(objects.revision).toBe(2)
    expect(await remove(objects, 'a')).toMatchObject({ kind: 'deleted', revision: 3, previous: { revision: 1 } })
    expect(await remove(objects, 'a')).toEqual({ kind: 'none', stored: undefined })
    expect(objects.revision).toBe(3)
  })

  test('what changes nothing keeps its revision', async () => {
    const { objects } = await made()
    await put(objects, 'a', { k: '1' })
    const same = { ...configMap('a', { k: '1' }), metadata: { resourceVersion: '77', namespace: 'default', name: 'a', labels: undefined } }
    const result = await objects.write(keyOf('a'), putting(same as unknown as KubeObject))
    expect(result).toMatchObject({ kind: 'none', stored: { revision: 1 } })
    expect(objects.revision).toBe(1)
  })

  test('nothing is visible before it is durable, and the next writer sees it all the same', async () => {
    const { objects, store } = await made()
    const reader = new Reader(objects)
    store.open = false
    let answered = 0
    const first = put(objects, 'a', { k: '1' }).then(() => { answered++ })
    await turn()
    expect([objects.get(keyOf('a')), objects.revision, list(objects).items, reader.texts, answered]).toEqual([undefined, 0, [], [], 0])
    const seen: unknown[] = []
    const second = objects.write(keyOf('a'), current => {
      seen.push(current?.object['data'])
      return { kind: 'put', object: configMap('a', { k: '2' }) }
    })
    expect(seen).toEqual([{ k: '1' }])
    const conflict = objects.write(keyOf('a'), () => { throw new StatusError(409, 'AlreadyExists', 'there') }).catch((error: unknown) => error)
    await turn()
    store.release()
    await first
    await turn()
    expect([objects.get(keyOf('a'))!.object['data'], reader.texts]).toEqual([{ k: '1' }, ['ADDED a@1']])
    store.release()
    await second
    expect(await conflict).toMatchObject({ code: 409 })
    expect([objects.get(keyOf('a'))!.object['data'], reader.texts]).toEqual([{ k: '2' }, ['ADDED a@1', 'MODIFIED a@2']])
  })

  test('many writes of one turn share a commit', async () => {
    const { objects, committer } = await made()
    await Promise.all(Array.from({ length: 50 }, (_, i) => put(objects, `n${i}`)))
    expect([committer.stats.commits, objects.revision]).toEqual([1, 50])
  })

  test('a refusal that rests on a write in flight waits for it', async () => {
    const { objects, store } = await made()
    store.open = false
    const first = put(objects, 'a')
    let refused = false
    const second = objects.write(keyOf('a'), () => { throw new StatusError(409, 'AlreadyExists', 'there') })
      .catch(() => { refused = true })
    await turn()
    expect(refused).toBe(false)
    store.release()
    await Promise.all([first, second])
    expect(refused).toBe(true)
  })

  test('an object that is too large is 413', async () => {
    const { objects } = await made()
    await expect(put(objects, 'a', { k: 'x'.repeat(1_572_864) })).rejects.toMatchObject({ code: 413, reason: 'RequestEntityTooLarge' })
    expect((await put(objects, 'a', { k: 'x'.repeat(1_572_700) })).kind).toBe('put')
  })

  test('beyond the bound of objects new ones are 403, changes and deletions are not', async () => {
    const { objects } = await made({ objectsMax: 2 })
    await put(objects, 'a')
    await put(objects, 'b')
    await expect(put(objects, 'c')).rejects.toMatchObject({ code: 403, reason: 'Forbidden' })
    await put(objects, 'a', { k: 'v' })
    await remove(objects, 'a')
    await put(objects, 'c')
    expect(objects.stats.objects).toBe(2)
  })

  test('beyond the bound of bytes nothing grows', async () => {
    const { objects } = await made({ storeBytesMax: 1000 })
    await put(objects, 'a', { k: 'x'.repeat(800) })
    await expect(put(objects, 'b', { k: 'x'.repeat(200) })).rejects.toMatchObject({ code: 403 })
    await put(objects, 'a', { k: 'x'.repeat(100) })
    await put(objects, 'b', { k: 'x'.repeat(200) })
    expect(objects.stats.bytes).toBe([...objects.all()].reduce((sum, { json }) => sum + json.length, 0))
  })
})

test('while growth is refused, what makes room goes on', async () => {
  const { objects } = await made()
  await put(objects, 'a', { k: 'x'.repeat(100) })
  await put(objects, 'b')
  objects.refuseGrowth(new StatusError(429, 'TooManyRequests', 'the disk is nearly full', { retryAfterSeconds: 10 }))
  await expect(put(objects, 'c')).rejects.toMatchObject({ code: 429 })
  await expect(put(objects, 'b', { k: 'x' })).rejects.toMatchObject({ code: 429 })
  expect([(await put(objects, 'a')).kind, (await remove(objects, 'b')).kind]).toEqual(['put', 'deleted'])
  objects.refuseGrowth(undefined)
  await put(objects, 'c')
})

test('a hundred watches see every one of a thousand changes, in order, and nothing piles up', async () => {
  const { objects, clock } = await made({ historyEventsMax: 200 })
  const lasts = Array.from({ length: 100 }, () => 0)
  const ends: WatchEnd[] = []
  const reading = lasts.map(async (_, i) => {
    const watch = objects.watch({ resource: 'configmaps', namespace: undefined }, {}, { ended: end => { ends.push(end) } })
    for await (const events of watch) {
      for (const event of events) {
        if (event.revision !== lasts[i]! + 1) throw new Error(`after ${lasts[i]} came ${event.revision}`)
        lasts[i] = event.revision
      }
      if (lasts[i] === 1000) break
    }
  })
  for (let n = 0; n < 100; n++) {
    await Promise.all(Array.from({ length: 10 }, (_, i) => put(objects, `c${i}`, { n: String(n) })))
    expect(objects.stats.historyEvents).toBeLessThanOrEqual(200)
    clock.advance(5)
  }
  await Promise.all(reading)
  expect([new Set(lasts), new Set(ends), objects.stats.watches]).toEqual([new Set([1000]), new Set(['closed']), 0])
})

describe('the disk', () => {
  async function restarted(before: Made, options: ObjectStoreOptions = {}): Promise<Made> {
    await before.committer.close()
    return made(options, before.store)
  }

  test('everything is there after a restart, in the order of keys', async () => {
    const one = await made()
    const wanted: string[] = []
    for (const [namespace, name] of [['b', 'x'], ['a', 'z'], ['a', 'y'], ['a-b', 'w'], ['a', 'y.1']] as const) {
      await put(one.objects, name, {}, undefined, namespace)
    }
    for (const stored of one.objects.list({ resource: 'configmaps', namespace: undefined }, {}).items) wanted.push(stored.json.toString())
    const two = await restarted(one)
    const found = two.objects.list({ resource: 'configmaps', namespace: undefined }, {})
    expect(found.items.map(({ json }) => json.toString())).toEqual(wanted)
    expect(found.items.map(({ namespace, name }) => `${namespace}/${name}`)).toEqual(['a-b/w', 'a/y', 'a/y.1', 'a/z', 'b/x'])
    expect(found.revision).toBe(5)
    const { objects, bytes } = one.objects.stats
    expect(two.objects.stats).toMatchObject({ objects, bytes })
  })

  test('the revision does not go back, also when a deletion was the last change', async () => {
    let current = await made()
    await put(current.objects, 'a')
    await put(current.objects, 'b')
    await remove(current.objects, 'b')
    current = await restarted(current)
    expect(current.objects.revision).toBe(3)
    await remove(current.objects, 'a')
    current = await restarted(current)
    expect([current.objects.revision, [...current.objects.all()]]).toEqual([4, []])
    await put(current.objects, 'a')
    await Promise.all([remove(current.objects, 'a'), put(current.objects, 'c'), put(current.objects, 'd'), remove(current.objects, 'd')])
    current = await restarted(current)
    expect(current.objects.revision).toBe(9)
    expect(await put(current.objects, 'e')).toMatchObject({ stored: { revision: 10 } })
  })

  test('a damaged object is taken out, and revisions leap so that none has two meanings', async () => {
    const one = await made()
    await put(one.objects, 'a', { k: '1' })
    await put(one.objects, 'b', { k: '1' })
    await one.committer.close()
    const [first] = await one.store.scan({ ...objectRange })
    const value = Buffer.from(first!.value)
    value[value.length - 5]! ^= 1
    await new Promise<void>(resolve => { one.store.write([{ type: 'put', key: first!.key, value }], { sync: true }, () => { resolve() }) })
    const two = await made({}, one.store)
    expect(names([...two.objects.all()])).toEqual(['b'])
    expect(two.objects.revision).toBeGreaterThan(1_000_000)
    expect((await one.store.scan({ ...objectRange }))).toHaveLength(1)
    const three = await restarted(two)
    expect(three.objects.revision).toBe(two.objects.revision)
    const four = await restarted(three, { suspect: true })
    expect(four.objects.revision).toBeGreaterThan(three.objects.revision)
  })

  test('what a newer release wrote is refused with a sentence', async () => {
    const one = await made()
    await put(one.objects, 'a')
    await remove(one.objects, 'a')
    await one.committer.close()
    const { crc32 } = await import('node:zlib')
    const value = Buffer.from((await one.store.get(revisionKey))!)
    value[0] = 2
    value.writeUInt32BE(crc32(value.subarray(5), crc32(value.subarray(0, 1), crc32(revisionKey))), 1)
    await new Promise<void>(resolve => { one.store.write([{ type: 'put', key: revisionKey, value }], { sync: true }, () => { resolve() }) })
    await expect(made({}, one.store)).rejects.toMatchObject({ code: 'OBJECT_FORMAT_NEWER' })
  })
})

describe('a write that fails', () => {
  const diskError = new Error('no space left')

  async function reopened(made: Made, store: Store = made.store): Promise<void> {
    await made.objects.reopen(store, false)
    made.committer.resume(store)
  }

  test('takes with it what was decided from it, and shows nothing of either', async () => {
    const all = await made()
    const { objects, store } = all
    await put(objects, 'a', { k: '0' })
    const reader = new Reader(objects, { resourceVersion: '1' })
    store.open = false
    store.failure = diskError
    const first = put(objects, 'a', { k: '1' }).catch((error: unknown) => error)
    await turn()
    const second = put(objects, 'a', { k: '2' }).catch((error: unknown) => error)
    const unchanged = put(objects, 'a', { k: '2' }).catch((error: unknown) => error)
    const refused = objects.write(keyOf('a'), () => { throw new StatusError(409, 'Conflict', 'x') }).catch((error: unknown) => error)
    store.release()
    for (const failed of [first, second, unchanged, refused]) expect(await failed).toMatchObject({ code: 'STORE_FAILED' })
    expect(await put(objects, 'b').catch((error: unknown) => error)).toMatchObject({ code: 'STORE_FAILED' })
    expect(objects.get(keyOf('a'))!.object['data']).toEqual({ k: '0' })
    store.failure = undefined
    store.open = true
    await reopened(all)
    expect([objects.revision, reader.texts, reader.ends, objects.stats.objects]).toEqual([1, [], [], 1])
    expect(await put(objects, 'a', { k: '3' })).toMatchObject({ stored: { revision: 4 } })
    await turn()
    expect(reader.texts).toEqual(['MODIFIED a@4'])
  })

  test('and reached the disk all the same: clients list again', async () => {
    const all = await made()
    const { objects, store } = all
    await put(objects, 'a')
    const reader = new Reader(objects)
    const changes: string[] = []
    objects.subscribe(({ name, current }) => { changes.push(`${name} ${current === undefined ? 'gone' : 'there'}`) })
    store.failure = diskError
    await put(objects, 'b').catch(() => {})
    store.failure = undefined
    const other = new GatedStore()
    const rebuilt = await made({}, other)
    await put(rebuilt.objects, 'b')
    await rebuilt.committer.close()
    await reopened(all, other)
    expect(names(list(objects).items)).toEqual(['b'])
    expect(changes.toSorted()).toEqual(['a gone', 'b there'])
    expect(reader.ends).toEqual(['expired'])
    expect(refusal(() => objects.watch(selection, { resourceVersion: '1' }))).toMatchObject({ code: 410 })
    expect(objects.revision).toBeGreaterThan(1)
  })

  test('what was on its way during a reopening is not written', async () => {
    const all = await made()
    const { objects, store, committer } = all
    store.open = false
    const before = put(objects, 'a')
    await turn()
    const gathered = put(objects, 'b').catch((error: unknown) => error)
    store.open = true
    const reopening = objects.reopen(store, false)
    store.release()
    await Promise.allSettled([before, reopening])
    expect(await gathered).toMatchObject({ code: 'STORE_FAILED' })
    await committer.flush()
    expect(await store.scan({ ...objectRange })).toHaveLength(1)
  })
})

describe('lists', () => {
  async function filled(): Promise<Made> {
    const all = await made()
    for (let i = 0; i < 7; i++) await put(all.objects, `i${i}`, {}, { app: i % 2 === 0 ? 'even' : 'odd', n: String(i) })
    await put(all.objects, 'kube-root-ca.crt')
    await put(all.objects, 'other', {}, undefined, 'elsewhere')
    return all
  }

  test('pages show the state of the first one, whatever happens meanwhile', async () => {
    const { objects } = await filled()
    const first = list(objects, { limit: 3 })
    expect([names(first.items), first.remainingItemCount, first.revision]).toEqual([['i0', 'i1', 'i2'], 5, 9])
    await put(objects, 'i9')
    await put(objects, 'i4', { k: 'later' })
    await remove(objects, 'i5')
    await put(objects, 'i3a')
    await remove(objects, 'i3a')
    const second = list(objects, { limit: 3, continue: first.continue })
    expect([names(second.items), second.remainingItemCount, second.revision]).toEqual([['i3', 'i4', 'i5'], 2, 9])
    expect(second.items[1]!.object['data']).toEqual({})
    const third = list(objects, { limit: 3, continue: second.continue, resourceVersion: '0' })
    expect([names(third.items), third.remainingItemCount, third.continue, third.revision]).toEqual([['i6', 'kube-root-ca.crt'], undefined, '', 9])
    expect(names(list(objects, { continue: first.continue }).items)).toEqual(['i3', 'i4', 'i5', 'i6', 'kube-root-ca.crt'])
  })

  test('pages with a selector have no count of the rest', async () => {
    const { objects } = await filled()
    const odd = { ...selection, matches: labelled('app', 'odd') }
    const first = objects.list(odd, { limit: 2 })
    expect([names(first.items), first.remainingItemCount, first.continue === '']).toEqual([['i1', 'i3'], undefined, false])
    expect(names(objects.list(odd, { limit: 2, continue: first.continue }).items)).toEqual(['i5'])
  })

  test('a page that ends with the last object is the last', async () => {
    const { objects } = await filled()
    expect(list(objects, { limit: 8 })).toMatchObject({ continue: '', remainingItemCount: undefined })
    for (const limit of [0, -1]) expect(list(objects, { limit }).items).toHaveLength(8)
  })

  test('all namespaces are pages of one list', async () => {
    const { objects } = await filled()
    const all = { resource: 'configmaps', namespace: undefined }
    const found: string[] = []
    let token = ''
    do {
      const page = objects.list(all, { limit: 4, continue: token })
      found.push(...names(page.items))
      token = page.continue
    } while (token !== '')
    expect(found).toEqual(['i0', 'i1', 'i2', 'i3', 'i4', 'i5', 'i6', 'kube-root-ca.crt', 'other'])
  })

  test('the state of an older revision is listed while it is remembered', async () => {
    const { objects } = await filled()
    expect(list(objects, { resourceVersion: '2', resourceVersionMatch: 'Exact' })).toMatchObject({ revision: 2, items: [{ name: 'i0' }, { name: 'i1' }] })
    expect(list(objects, { resourceVersion: '2', resourceVersionMatch: 'Exact', limit: 1 })).toMatchObject({ revision: 2, items: [{ name: 'i0' }], remainingItemCount: 1 })
    expect(list(objects, { resourceVersion: '2', limit: 1 })).toMatchObject({ revision: 2, remainingItemCount: 1 })
    for (const options of [{ resourceVersion: '2' }, { resourceVersion: '2', resourceVersionMatch: 'NotOlderThan' }, { resourceVersion: '0', limit: 3 }]) {
      const page = list(objects, options)
      expect([page.revision, page.items.length, page.continue]).toEqual([9, 8, ''])
    }
  })

  test('a forgotten state is 410, with a token to go on without consistency', async () => {
    const { objects } = await filled()
    const { continue: token } = list(objects, { limit: 3 })
    await put(objects, 'i9')
    objects.forgetHistory()
    let error: StatusError | undefined
    try { list(objects, { limit: 3, continue: token }) } catch (thrown) { error = thrown as StatusError }
    expect(error).toMatchObject({ code: 410, reason: 'Expired' })
    expect(error!.message).toMatch(/^The provided continue parameter is too old to display a consistent list result\./)
    expect(error!.continueToken).toBe(encodeContinue({ revision: -1, start: 'i2\0' }))
    const rest = list(objects, { limit: 3, continue: error!.continueToken })
    expect([names(rest.items), rest.revision, rest.remainingItemCount]).toEqual([['i3', 'i4', 'i5'], 10, 3])
    expect(refusal(() => list(objects, { resourceVersion: '2', resourceVersionMatch: 'Exact' })))
      .toEqual({ code: 410, reason: 'Expired', message: 'The resourceVersion for the provided list is too old.' })
    expect(list(objects, { resourceVersion: '2', resourceVersionMatch: 'NotOlderThan' }).items).toHaveLength(9)
  })

  const refused: readonly (readonly [string, ListOptions, { code: number, reason: string, message: string }])[] = [
    ['exact 0', { resourceVersion: '0', resourceVersionMatch: 'Exact' }, { code: 422, reason: 'Invalid',
      message: 'ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0"' }],
    ['match alone', { resourceVersionMatch: 'Exact' }, { code: 422, reason: 'Invalid',
      message: 'ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided' }],
    ['unknown match', { resourceVersion: '2', resourceVersionMatch: 'Sometimes' }, { code: 422, reason: 'Invalid',
      message: 'ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Unsupported value: "Sometimes": supported values: "Exact", "NotOlderThan", ""' }],
    ['no number', { resourceVersion: 'abc' }, { code: 500, reason: '',
      message: 'resourceVersion: Invalid value: "abc": strconv.ParseUint: parsing "abc": invalid syntax' }],
    ['future', { resourceVersion: '99999999' }, { code: 504, reason: 'Timeout', message: 'Timeout: Too large resource version: 99999999, current: 9' }],
    ['future exact', { resourceVersion: '99999999', resourceVersionMatch: 'Exact' }, { code: 500, reason: '',
      message: 'etcdserver: mvcc: required revision is a future revision' }],
    ['garbage token', { limit: 3, continue: 'garbage' }, { code: 400, reason: 'BadRequest',
      message: 'invalid continue token: continue key is not valid: invalid character \'\\u0081\' looking for beginning of value' }],
    ['token and revision', { continue: encodeContinue({ revision: 3, start: 'i2\0' }), resourceVersion: '5' }, { code: 400, reason: 'BadRequest',
      message: 'specifying resource version is not allowed when using continue' }]
  ]
  test.each(refused)('%s is refused in the words of the real server', async (_, options, expected) => {
    const { objects } = await filled()
    expect(refusal(() => list(objects, options))).toEqual(expected)
  })

  test('a get waits for no revision', async () => {
    const { objects } = await filled()
    for (const revision of ['', '0', '1', '9']) expect(objects.get(keyOf('i3'), revision)!.revision).toBe(4)
    expect(refusal(() => objects.get(keyOf('i3'), '10'))).toMatchObject({ code: 504, reason: 'Timeout' })
    expect(refusal(() => objects.get(keyOf('i3'), 'abc'))).toMatchObject({ code: 500, reason: '' })
  })
})

describe('watches', () => {
  test('begin with what is there, or after a revision', async () => {
    const { objects } = await made()
    await put(objects, 'b')
    await put(objects, 'a')
    await put(objects, 'b', { k: '2' })
    await remove(objects, 'a')
    await put(objects, 'a')
    const readers = [{}, { resourceVersion: '0' }, { resourceVersion: '2' }, { resourceVersion: '5' }].map(options => new Reader(objects, options))
    await put(objects, 'c')
    await turn()
    expect(readers.map(({ texts }) => texts)).toEqual([
      ['ADDED a@5', 'ADDED b@3', 'ADDED c@6'],
      ['ADDED a@5', 'ADDED b@3', 'ADDED c@6'],
      ['MODIFIED b@3', 'DELETED a@4', 'ADDED a@5', 'ADDED c@6'],
      ['ADDED c@6']
    ])
  })

  test('tell of a deletion with the last version under the revision of the deletion', async () => {
    const { objects } = await made()
    await put(objects, 'a', { k: 'v' })
    const reader = new Reader(objects, { resourceVersion: '1' })
    await remove(objects, 'a')
    await turn()
    const [event] = reader.events
    expect(event).toMatchObject({ type: 'DELETED', revision: 2, stored: { object: { metadata: { resourceVersion: '2' }, data: { k: 'v' } } } })
    expect(event?.kind === 'change' && event.line().toString())
      .toBe('{"type":"DELETED","object":{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"default","resourceVersion":"2"},"data":{"k":"v"}}}\n')
  })

  test('see objects enter and leave their selection', async () => {
    const { objects } = await made()
    const live = new Reader(objects, {}, labelled('app', 'x'))
    await put(objects, 'a', { k: '1' }, { app: 'x' })
    await put(objects, 'a', { k: '2' }, { app: 'x' })
    await put(objects, 'a', { k: '2' }, { app: 'y' })
    await put(objects, 'a', { k: '3' }, { app: 'y' })
    await put(objects, 'a', { k: '3' }, { app: 'x' })
    await put(objects, 'b')
    await remove(objects, 'a')
    await put(objects, 'c', {}, { app: 'x' }, 'elsewhere')
    await turn()
    const expected = ['ADDED a@1', 'MODIFIED a@2', 'DELETED a@3', 'ADDED a@5', 'DELETED a@7']
    expect(live.texts).toEqual(expected)
    expect(live.events[2]).toMatchObject({ stored: { object: { metadata: { labels: { app: 'x' }, resourceVersion: '3' }, data: { k: '2' } } } })
    const fromMiddle = new Reader(objects, { resourceVersion: '2' }, labelled('app', 'x'))
    await turn()
    expect(fromMiddle.texts).toEqual(expected.slice(2))
  })

  test('share one encoding of an event', async () => {
    const { objects } = await made()
    const [one, other] = [new Reader(objects), new Reader(objects, {}, () => true)]
    await put(objects, 'a')
    await turn()
    const lines = [one, other].map(({ events: [event] }) => (event?.kind === 'change' ? event.line() : undefined))
    expect(lines[0]).toBe(lines[1])
  })

  test('mark the end of what was there, where bookmarks are allowed', async () => {
    const { objects } = await made()
    await put(objects, 'a')
    await put(objects, 'elsewhere', {}, undefined, 'other')
    const initial = { sendInitialEvents: true, resourceVersionMatch: 'NotOlderThan' }
    const readers = [
      { ...initial, allowWatchBookmarks: true }, { ...initial, allowWatchBookmarks: true, resourceVersion: '1' },
      { allowWatchBookmarks: true }, initial, { ...initial, sendInitialEvents: false, allowWatchBookmarks: true }
    ].map(options => new Reader(objects, options))
    await turn()
    expect(readers.map(({ texts }) => texts)).toEqual([
      ['ADDED a@1', 'BOOKMARK @2 initial'], ['ADDED a@1', 'BOOKMARK @2 initial'], ['ADDED a@1', 'BOOKMARK @2 initial'], ['ADDED a@1'], []
    ])
  })

  test('send bookmarks once a minute and before the end, and end in time', async () => {
    const { objects, clock } = await made()
    const reader = new Reader(objects, { resourceVersion: '0', allowWatchBookmarks: true, sendInitialEvents: false, resourceVersionMatch: 'NotOlderThan', timeoutMs: 100_000 })
    const silent = new Reader(objects, { timeoutMs: 100_000 })
    clock.advance(59_999)
    await turn()
    expect(reader.texts).toEqual([])
    await put(objects, 'elsewhere', {}, undefined, 'other')
    clock.advance(1)
    await turn()
    expect(reader.texts).toEqual(['BOOKMARK @1'])
    clock.advance(38_000)
    await turn()
    expect(reader.texts).toEqual(['BOOKMARK @1', 'BOOKMARK @1'])
    clock.advance(2000)
    await turn()
    expect([reader.ends, silent.ends, silent.texts, clock.timers]).toEqual([['timeout'], ['timeout'], [], 0])
  })

  test('wait for a revision that is still to come, and bookmark nothing before it', async () => {
    const { objects, clock } = await made()
    const reader = new Reader(objects, { resourceVersion: '3', allowWatchBookmarks: true })
    for (const name of ['a', 'b', 'c']) await put(objects, name)
    clock.advance(60_000)
    await put(objects, 'd')
    await turn()
    expect(reader.texts).toEqual(['BOOKMARK @3', 'ADDED d@4'])
    const early = new Reader(objects, { resourceVersion: '9', allowWatchBookmarks: true })
    clock.advance(60_000)
    await turn()
    expect(early.texts).toEqual([])
    expect(refusal(() => objects.watch(selection, { resourceVersion: '9', sendInitialEvents: true, resourceVersionMatch: 'NotOlderThan' }))).toMatchObject({ code: 504 })
  })

  test('from before the history are 410, per resource', async () => {
    const { objects } = await made({ historyEventsMax: 3 })
    await objects.write(keyOf('n', '', 'nodes'), putting({ apiVersion: 'v1', kind: 'Node', metadata: { name: 'n' } }))
    await put(objects, 'a')
    await put(objects, 'b')
    await put(objects, 'c')
    await put(objects, 'd')
    expect(refusal(() => objects.watch(selection, { resourceVersion: '1' })))
      .toEqual({ code: 410, reason: 'Expired', message: 'too old resource version: 1 (2)' })
    const reader = new Reader(objects, { resourceVersion: '2' })
    await turn()
    expect(reader.texts).toEqual(['ADDED b@3', 'ADDED c@4', 'ADDED d@5'])
    expect(refusal(() => objects.watch({ resource: 'nodes', namespace: undefined }, { resourceVersion: '0', resourceVersionMatch: 'Exact' }))).toMatchObject({ code: 422 })
    objects.watch({ resource: 'nodes', namespace: undefined }, { resourceVersion: '1' }).close()
  })

  test('after a restart every older revision is 410, and the current one is not', async () => {
    const one = await made()
    await put(one.objects, 'a')
    await put(one.objects, 'b')
    await one.committer.close()
    const two = await made({}, one.store)
    expect(refusal(() => two.objects.watch(selection, { resourceVersion: '1' }))).toMatchObject({ code: 410, message: 'too old resource version: 1 (2)' })
    const reader = new Reader(two.objects, { resourceVersion: '2' })
    await put(two.objects, 'c')
    await turn()
    expect(reader.texts).toEqual(['ADDED c@3'])
  })

  test('a reader that does not keep up loses its watch, others do not notice', async () => {
    const { objects } = await made({ historyEventsMax: 5 })
    const ends: WatchEnd[] = []
    const stuck = objects.watch(selection, {}, { ended: end => { ends.push(end) } })
    const iterator = stuck[Symbol.asyncIterator]()
    const first = iterator.next()
    const reader = new Reader(objects)
    await put(objects, 'a0')
    expect((await first).done).toBe(false)
    for (let i = 1; i <= 5; i++) await put(objects, `a${i}`)
    expect([ends, stuck.end]).toEqual([[], undefined])
    await put(objects, 'a6')
    expect([ends, stuck.end, (await iterator.next()).done]).toEqual([['overflow'], 'overflow', true])
    await turn()
    expect([reader.texts.length, objects.stats.watches]).toEqual([7, 1])
  })

  test('one commit larger than the history ends even a waiting watch, for it has missed something', async () => {
    const { objects } = await made({ historyEventsMax: 5 })
    const reader = new Reader(objects)
    await Promise.all(Array.from({ length: 6 }, (_, i) => put(objects, `a${i}`)))
    expect(reader.ends).toEqual(['overflow'])
  })

  test('the history is bounded in bytes, lines for watches included', async () => {
    const { objects } = await made({ historyBytesMax: 20_000 })
    const reader = new Reader(objects)
    for (let i = 0; i < 50; i++) {
      await put(objects, 'a', { k: `${i}`.repeat(500) })
      for (const event of reader.events.splice(0)) if (event.kind === 'change') event.line()
      expect(objects.stats.historyBytes).toBeLessThan(22_000)
    }
    expect(objects.stats.historyEvents).toBeGreaterThan(2)
    objects.forgetHistory('configmaps')
    expect(objects.stats).toMatchObject({ historyBytes: 0, historyEvents: 0 })
    await put(objects, 'b')
    await turn()
    expect([reader.ends, reader.texts.at(-1)]).toEqual([[], 'ADDED b@51'])
  })

  test('a watch that keeps up survives a forgotten history of other resources', async () => {
    const { objects } = await made()
    const reader = new Reader(objects)
    await objects.write(keyOf('n', '', 'nodes'), putting({ apiVersion: 'v1', kind: 'Node', metadata: { name: 'n' } }))
    objects.forgetHistory()
    await put(objects, 'a')
    await turn()
    expect([reader.ends, reader.texts]).toEqual([[], ['ADDED a@2']])
  })

  test('are bounded in number', async () => {
    const { objects } = await made({ watchesMax: 2 })
    const first = new Reader(objects)
    const second = new Reader(objects)
    expect(refusal(() => objects.watch(selection, {}))).toMatchObject({ code: 429, reason: 'TooManyRequests' })
    first.watch.close()
    second.watch.close()
    expect([first.ends, objects.stats.watches]).toEqual([['closed'], 0])
    objects.watch(selection, {}).close()
  })

  test('what existed at the start is read in batches, and may be dropped half way', async () => {
    const { objects } = await made()
    await Promise.all(Array.from({ length: 600 }, (_, i) => put(objects, `n${i}`, { k: 'x'.repeat(1000) })))
    const batches: number[] = []
    const watch = objects.watch(selection, {})
    for await (const events of watch) {
      batches.push(events.length)
      if (batches.length === 2) break
    }
    expect(batches[0]).toBeGreaterThan(100)
    expect(batches[0]).toBeLessThan(300)
    expect(watch.end).toBe('closed')
  })

  const refused: readonly (readonly [string, WatchOptions, string])[] = [
    ['no match', { sendInitialEvents: true, allowWatchBookmarks: true },
      'resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan'],
    ['exact', { sendInitialEvents: true, resourceVersionMatch: 'Exact' },
      '[resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan, resourceVersionMatch: Unsupported value: "Exact": supported values: "NotOlderThan"]'],
    ['match alone', { resourceVersionMatch: 'NotOlderThan', resourceVersion: '0' },
      'resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided']
  ]
  test.each(refused)('%s is refused in the words of the real server', async (_, options, causes) => {
    const { objects } = await made()
    expect(refusal(() => objects.watch(selection, options)))
      .toEqual({ code: 422, reason: 'Invalid', message: `ListOptions.meta.k8s.io "" is invalid: ${causes}` })
  })

  test('a closed store ends them and takes no writes', async () => {
    const { objects } = await made()
    const reader = new Reader(objects)
    objects.close()
    expect(reader.ends).toEqual(['store-closed'])
    await expect(put(objects, 'a')).rejects.toMatchObject({ code: 'OBJECT_STORE_CLOSED' })
    expect(() => objects.watch(selection, {})).toThrow('closed')
  })
})
