import fc from 'fast-check'
import { expect, test } from 'vitest'
import { SimulatedDisk } from '@holdfast/store'
import type { MemoryStore, Store } from '@holdfast/store'
import { SeededRandom } from '@holdfast/runtime'
import { encodeContinue, decodeContinue } from './continue-token.ts'
import { equalJson } from './object-store-equality.ts'
import { compareUtf8 } from './object-store-keys.ts'
import type { ObjectKey, Selection, StoredObject, Watch } from './object-store-types.ts'
import type { ObjectStore } from './object-store.ts'
import { StatusError } from './status-error.ts'
import { openObjectStore } from './testing/object-store-fixture.ts'
import type { ObjectStoreFixture } from './testing/object-store-fixture.ts'

const runs = { numRuns: Number(process.env['RUNS'] ?? 100), ...process.env['SEED'] !== undefined && { seed: Number(process.env['SEED']) } }

/** Changes that the store under test remembers. */
const remembered = 12

/** Every state that ever was, by revision: path → label. */
class Twin {
  readonly states: Map<string, string>[] = [new Map()]
  get revision(): number { return this.states.length - 1 }
  get now(): Map<string, string> { return this.states.at(-1)! }

  /** Undefined: a deletion. */
  write(path: string, label: string | undefined): void {
    if (this.now.get(path) === label) return
    const next = new Map(this.now)
    if (label === undefined) next.delete(path)
    else next.set(path, label)
    this.states.push(next)
  }

  /** `path=label` of what a selection chooses at a revision, in order. */
  selected(revision: number, { namespace, label }: Choice): string[] {
    return [...this.states[revision]!].filter(([path, value]) =>
      (namespace === undefined || path.startsWith(`${namespace}/`)) && (label === undefined || value === label))
      .map(([path, value]) => `${path}=${value}`).toSorted((a, b) => compareUtf8(a.split('=')[0]!, b.split('=')[0]!))
  }
}

interface Choice { readonly namespace: string | undefined, readonly label: string | undefined }

type Step =
  | { readonly kind: 'write', readonly writes: readonly { readonly path: string, readonly label: string | undefined }[] }
  | { readonly kind: 'list', readonly choice: Choice, readonly back: number, readonly limit: number }
  | { readonly kind: 'watch', readonly choice: Choice, readonly back: number }
  | { readonly kind: 'forget' }
  | { readonly kind: 'restart' }

const path = fc.constantFrom('a/x', 'a/y', 'a/y.1', 'a-b/x', 'a.b/x', 'b/x', 'b/é', 'b/\ue000', 'b/😀')
const label = fc.constantFrom('red', 'blue')
const choice = fc.record({ namespace: fc.constantFrom(undefined, 'a', 'b'), label: fc.option(label, { nil: undefined }) })
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ kind: fc.constant('write' as const),
    writes: fc.array(fc.record({ path, label: fc.option(label, { nil: undefined }) }), { minLength: 1, maxLength: 4 }) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('list' as const), choice, back: fc.nat(15), limit: fc.integer({ min: 1, max: 4 }) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('watch' as const), choice, back: fc.nat(15) }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'forget' as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'restart' as const }) }
)

const keyOf = (of: string): ObjectKey => {
  const [namespace = '', name = ''] = of.split('/')
  return { resource: 'configmaps', namespace, name }
}

function write(objects: ObjectStore, of: string, value: string | undefined): Promise<unknown> {
  const key = keyOf(of)
  return objects.write(key, () => value === undefined ? { kind: 'delete' } : {
    kind: 'put', object: { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: key.name, namespace: key.namespace, labels: { is: value } } }
  })
}

const labelOf = ({ object }: StoredObject): string => object.metadata.labels!['is']!
const selectionOf = ({ namespace, label: wanted }: Choice): Selection =>
  ({ resource: 'configmaps', namespace, matches: wanted === undefined ? undefined : stored => labelOf(stored) === wanted })
const shown = (items: readonly StoredObject[]): string[] => items.map(stored => `${stored.namespace}/${stored.name}=${labelOf(stored)}`)

/** A watch that is read to where the store is, onto what it began with. */
async function catchUp(watch: Watch, upTo: number, state: Map<string, string>): Promise<string[]> {
  const revisions: number[] = []
  let end = 0
  for await (const events of watch) {
    for (const event of events) {
      if (event.kind === 'bookmark') {
        end = event.revision
        continue
      }
      revisions.push(event.revision)
      const at = `${event.stored.namespace}/${event.stored.name}`
      expect(state.has(at)).toBe(event.type !== 'ADDED')
      if (event.type === 'DELETED') state.delete(at)
      else state.set(at, labelOf(event.stored))
      expect(event.stored.object.metadata.resourceVersion).toBe(String(event.revision))
      expect(JSON.parse(event.line().toString())).toEqual({ type: event.type, object: event.stored.object })
    }
    if (end >= upTo) break
  }
  expect(revisions).toEqual([...revisions].toSorted((a, b) => a - b))
  return [...state].map(([at, value]) => `${at}=${value}`)
}

test('whatever is written, listed, watched and forgotten: a store is the sequence of its states', async () => {
  await fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 50 }), async steps => {
    const twin = new Twin()
    let fixture: ObjectStoreFixture<MemoryStore> = await openObjectStore({ historyEventsMax: remembered })
    let floor = 0
    for (const one of steps) {
      const { objects, clock } = fixture
      switch (one.kind) {
        case 'write': {
          const written = one.writes.map(({ path: of, label: value }) => write(objects, of, value))
          for (const { path: of, label: value } of one.writes) twin.write(of, value)
          await Promise.all(written)
          break
        }
        case 'list': {
          const revision = twin.revision - one.back
          if (revision < 1) break
          const options = { resourceVersion: String(revision), resourceVersionMatch: 'Exact' }
          const expected = twin.selected(revision, one.choice)
          if (revision < Math.max(floor, twin.revision - remembered)) {
            expect(() => objects.list(selectionOf(one.choice), options)).toThrow('too old')
            break
          }
          expect(shown(objects.list(selectionOf(one.choice), options).items)).toEqual(expected)
          const found: string[] = []
          let page = objects.list(selectionOf(one.choice), { ...options, limit: one.limit })
          for (;;) {
            found.push(...shown(page.items))
            if (page.continue === '') break
            expect(page.items.length).toBe(one.limit)
            if (one.choice.label === undefined) expect(page.remainingItemCount).toBe(expected.length - found.length)
            page = objects.list(selectionOf(one.choice), { limit: one.limit, continue: page.continue })
          }
          expect(found).toEqual(expected)
          break
        }
        case 'watch': {
          const revision = twin.revision - one.back
          if (revision < 1) break
          const options = { resourceVersion: String(revision), allowWatchBookmarks: true }
          if (revision < Math.max(floor, twin.revision - remembered)) {
            expect(() => objects.watch(selectionOf(one.choice), options)).toThrow('too old')
            break
          }
          const watch = objects.watch(selectionOf(one.choice), options)
          clock.advance(60_000)
          const state = new Map(twin.selected(revision, one.choice).map(text => text.split('=') as [string, string]))
          expect((await catchUp(watch, twin.revision, state)).toSorted()).toEqual(twin.selected(twin.revision, one.choice).toSorted())
          break
        }
        case 'forget':
          objects.forgetHistory()
          floor = twin.revision
          break
        case 'restart':
          objects.close()
          await fixture.committer.close()
          fixture = await openObjectStore({ historyEventsMax: remembered }, fixture.store)
          floor = twin.revision
          break
      }
      expect(fixture.objects.revision).toBe(twin.revision)
      const everything = { namespace: undefined, label: undefined }
      expect(shown(fixture.objects.list(selectionOf(everything), {}).items)).toEqual(twin.selected(twin.revision, everything))
    }
    fixture.objects.close()
  }), runs)
})

type Mishap =
  | { readonly kind: 'write', readonly writes: readonly { readonly path: string, readonly label: string | undefined }[] }
  | { readonly kind: 'settle' | 'some' | 'crash' | 'error' }

const mishap: fc.Arbitrary<Mishap> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('write' as const),
    writes: fc.array(fc.record({ path, label: fc.option(label, { nil: undefined }) }), { minLength: 1, maxLength: 4 }) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constantFrom('settle' as const, 'some' as const) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constantFrom('crash' as const, 'error' as const) }) }
)

const turn = (): Promise<void> => new Promise(resolve => { setImmediate(resolve) })

/** What is asked of the store goes to a disk that fails and loses power. */
class Machine {
  readonly #tasks: (() => void)[] = []
  readonly disk: SimulatedDisk
  store!: Store
  fixture!: ObjectStoreFixture<Store>
  /** Every change that was decided and may be on the disk, in order; `revision` as the store must have given it. */
  decided: { readonly revision: number, readonly path: string, readonly label: string | undefined }[] = []
  /** How many of them were answered as durable. */
  acknowledged = 0
  largestSeen = 0

  constructor(seed: number) {
    this.disk = new SimulatedDisk({}, { schedule: task => { this.#tasks.push(task) }, random: new SeededRandom(seed) })
  }

  async start(): Promise<void> {
    this.store = await this.disk.open()
    const opening = openObjectStore({}, this.store)
    await this.settle()
    this.fixture = await opening
  }

  write(of: string, value: string | undefined): void {
    const { objects } = this.fixture
    const before = objects.latest(keyOf(of))
    const place = this.decided.length
    const revision = (this.decided.at(-1)?.revision ?? objects.revision) + 1
    const changes = (before === undefined ? undefined : labelOf(before)) !== value
    const epoch = this.decided
    write(objects, of, value).then(result => {
      const { kind } = result as { kind: string }
      expect(kind === 'none').toBe(!changes)
      if (this.decided === epoch && changes) this.acknowledged = Math.max(this.acknowledged, place + 1)
    }, (error: unknown) => { expect(error).toMatchObject({ code: 'STORE_FAILED' }) })
    if (changes && this.fixture.committer.failure === undefined) this.decided.push({ revision, path: of, label: value })
  }

  /** Lets the disk do one thing. */
  async some(): Promise<void> {
    await turn()
    this.#tasks.shift()?.()
  }

  async settle(): Promise<void> {
    for (let quiet = 0; quiet < 3; quiet++) {
      await turn()
      for (const task of this.#tasks.splice(0)) {
        quiet = 0
        task()
      }
    }
  }

  stateAfter(count: number): string[] {
    const state = new Map<string, string>()
    for (const { path: of, label: value } of this.decided.slice(0, count)) {
      if (value === undefined) state.delete(of)
      else state.set(of, value)
    }
    return [...state].map(([of, value]) => `${of}=${value}`).toSorted()
  }

  state(): string[] { return shown([...this.fixture.objects.all()]).toSorted() }

  /** What is there must be what some number of changes made, and no fewer than were acknowledged. */
  check(): void {
    const { objects } = this.fixture
    expect(objects.revision).toBeGreaterThanOrEqual(this.largestSeen)
    this.largestSeen = objects.revision
    const now = this.state()
    const counts = Array.from({ length: this.decided.length + 1 - this.acknowledged }, (_, i) => this.acknowledged + i)
      .filter(count => JSON.stringify(this.stateAfter(count)) === JSON.stringify(now))
    expect(counts).not.toEqual([])
    // What is there now is where the story goes on.
    this.decided = now.map(text => {
      const [of = '', value] = text.split('=')
      return { revision: objects.revision, path: of, label: value }
    })
    this.acknowledged = this.decided.length
  }
}

test('whatever fails, and whenever the power goes: what was acknowledged is there, and no revision comes twice', async () => {
  await fc.assert(fc.asyncProperty(fc.array(mishap, { maxLength: 40 }), fc.nat(), async (mishaps, seed) => {
    const machine = new Machine(seed)
    await machine.start()
    for (const one of mishaps) {
      switch (one.kind) {
        case 'write':
          for (const { path: of, label: value } of one.writes) machine.write(of, value)
          break
        case 'some':
          await machine.some()
          break
        case 'settle':
          await machine.settle()
          expect(machine.state()).toEqual(machine.stateAfter(machine.decided.length))
          machine.check()
          break
        case 'crash':
          machine.disk.crash()
          await machine.settle()
          machine.fixture.objects.close()
          await machine.start()
          machine.check()
          break
        case 'error': {
          machine.write('a/x', machine.fixture.objects.latest(keyOf('a/x')) === undefined ? 'red' : undefined)
          machine.disk.failNextWrite('EIO')
          await machine.settle()
          const { committer, objects } = machine.fixture
          expect(committer.failure).toBeDefined()
          await machine.store.close()
          machine.store = await machine.disk.open()
          const reopening = objects.reopen(machine.store, false)
          await machine.settle()
          await reopening
          committer.resume(machine.store)
          machine.check()
          break
        }
      }
    }
    machine.fixture.objects.close()
  }), runs)
})

test('paths compare as their UTF-8 bytes do', () => {
  const unit = fc.constantFrom('a', '/', '-', '\u007f', 'é', '\ud7ff', '\ue000', '\uffff', '😀', '\u{10ffff}')
  fc.assert(fc.property(fc.string({ unit }), fc.string({ unit }), (a, b) => {
    expect(Math.sign(compareUtf8(a, b))).toBe(Buffer.compare(Buffer.from(a), Buffer.from(b)))
  }), { ...runs, numRuns: 1000 })
})

test('documents are equal where their JSON is, whatever the order of members', () => {
  const reversed = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(reversed)
    if (typeof value !== 'object' || value === null) return value
    return Object.fromEntries(Object.entries(value).toReversed().map(([name, one]) => [name, reversed(one)]))
  }
  fc.assert(fc.property(fc.jsonValue(), fc.jsonValue(), (one, other) => {
    expect(equalJson(one, reversed(one))).toBe(true)
    expect(equalJson({ a: one, b: undefined }, { a: one })).toBe(true)
    expect(equalJson(one, other)).toBe(equalJson(other, one))
    if (JSON.stringify(one) === JSON.stringify(other)) expect(equalJson(one, other)).toBe(true)
    expect(equalJson({ a: one, b: 1 }, { a: one })).toBe(false)
    expect(equalJson([one, 1], [one])).toBe(false)
  }), { ...runs, numRuns: 1000 })
  expect(equalJson({ toString: 1 }, {})).toBe(false)
  expect(equalJson({}, { constructor: 1 })).toBe(false)
})

test('a continue token says what it was made of, and every other text is 400', () => {
  const start = fc.stringMatching(/^[a-z0-9.-]{1,8}$/).filter(text => !/^\.{1,2}$/.test(text)).map(text => `${text}\0`)
  fc.assert(fc.property(fc.record({ revision: fc.integer({ min: 1 }), start }), token => {
    expect(decodeContinue(encodeContinue(token))).toEqual(token)
  }), runs)
  const refused = (text: string): string => {
    try {
      decodeContinue(text)
    } catch (error) {
      if (error instanceof StatusError && error.code === 400) return error.message.replace('invalid continue token: continue key is not valid: ', '')
      throw error
    }
    return ''
  }
  fc.assert(fc.property(fc.oneof(fc.string(), fc.jsonValue().map(value => Buffer.from(JSON.stringify(value)).toString('base64url'))), text => {
    expect(refused(text)).not.toBe('')
  }), { ...runs, numRuns: 1000 })
  const encoded = (value: unknown): string => refused(Buffer.from(JSON.stringify(value)).toString('base64url'))
  expect([
    refused('garbage'), refused('a.b'), encoded({ v: 'v9', rv: 1, start: 'a' }), encoded({ v: 'meta.k8s.io/v1', rv: 0, start: 'a' }),
    encoded({ v: 'meta.k8s.io/v1', rv: 1 }), encoded({ v: 'meta.k8s.io/v1', rv: 1, start: '../secrets/a' })
  ]).toEqual([
    'invalid character \'\\u0081\' looking for beginning of value', 'illegal base64 data at input byte 1', 'server does not recognize this encoded version "v9"',
    'incorrect encoded start resourceVersion (version meta.k8s.io/v1)', 'encoded start key empty (version meta.k8s.io/v1)', '../secrets/a'
  ])
})
