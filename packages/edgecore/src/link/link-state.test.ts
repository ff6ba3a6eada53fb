import { expect, test } from 'vitest'
import { bootIdFromBytes, decodeFrame, encodeFrame } from '@holdfast/protos'
import type { Frame, Hello, Welcome } from '@holdfast/protos'
import { SeededRandom, inertFailpoint, jsonLog, silentLog } from '@holdfast/runtime'
import type { FailpointName } from '@holdfast/runtime'
import { HandClock, turns } from '@holdfast/runtime/testing'
import { Committer, MemoryStore, Outbox } from '@holdfast/store'
import { StateReader, StateWriter, contentVersion, newStateStats, stateDigest, stateLimits } from '@holdfast/sync'
import type { Dialer, StateBatch, StateItem, StateListener, StateSource, StateTarget } from '@holdfast/sync'
import { Link } from './link.ts'
import { PeerMemory } from './peer-memory.ts'

const settle = (): Promise<void> => turns(30)

/** One collection in memory: something to write from, and something to keep it in. */
class Things implements StateSource, StateTarget {
  readonly collections: readonly string[]
  readonly items = new Map<string, StateItem>()
  readonly batches: StateBatch[] = []
  readonly #listeners = new Set<StateListener>()
  late: Promise<void> | undefined

  constructor(collection: string, values: Readonly<Record<string, string>> = {}) {
    this.collections = [collection]
    for (const [key, value] of Object.entries(values)) this.#set(key, value)
  }

  put(key: string, value: string): void {
    this.#set(key, value)
    for (const listener of this.#listeners) listener.keyChanged(this.collections[0]!, key)
  }

  ready(): boolean { return true }
  position(): string { return '1' }
  digest(): Buffer
  digest(): Buffer | Promise<Buffer> {
    const digest = stateDigest(this.keysFrom('', ''))
    return this.late === undefined ? digest : this.late.then(() => digest)
  }

  version(_collection: string, key: string): Buffer | undefined { return this.items.get(key)?.version }
  value(_collection: string, key: string): Buffer | undefined { return this.items.get(key)?.value }
  keysFrom(_collection: string, after: string): (readonly [string, Buffer])[] {
    return [...this.items].filter(([key]) => key > after).map(([key, { version }]) => [key, version] as const)
      .toSorted(([a], [b]) => a < b ? -1 : 1)
  }

  apply(batch: StateBatch, onApplied: (error?: Error) => void): void {
    this.batches.push(batch)
    for (const { key, value } of batch.puts) this.#set(key, value.toString())
    for (const key of batch.deletes) this.items.delete(key)
    onApplied()
  }

  subscribe(listener: StateListener): () => void
  subscribe(listener: (collection: string) => void): () => void
  subscribe(listener: StateListener | ((collection: string) => void)): () => void {
    if (typeof listener === 'function') return () => {}
    this.#listeners.add(listener)
    return () => { this.#listeners.delete(listener) }
  }

  text(): Record<string, string> {
    return Object.fromEntries([...this.items].map(([key, { value }]) => [key, value.toString()]))
  }

  #set(key: string, value: string): void {
    const bytes = Buffer.from(value)
    this.items.set(key, { version: contentVersion(bytes), value: bytes })
  }
}

/** A cloud that keeps State as the version that it speaks has it. */
class Cloud implements Dialer {
  readonly down = new Things('pods', { 'default/a': 'one', 'default/b': 'two' })
  readonly up = new Things('node-status')
  readonly hellos: Hello[] = []
  readonly frames: Frame[] = []
  protocol = 2
  clusterUid = 'c'
  #writer: StateWriter | undefined
  #reader: StateReader | undefined
  events: Parameters<Dialer['dial']>[0] | undefined

  dial(events: Parameters<Dialer['dial']>[0]): ReturnType<Dialer['dial']> {
    this.events = events
    setImmediate(() => { events.onOpen() })
    return { bytesReceived: 0, close: () => {}, send: message => { setImmediate(() => { this.#onFrame(decodeFrame(message)) }) } }
  }

  say(frame: Frame): void { this.events!.onMessage(encodeFrame(frame)) }

  #onFrame(frame: Frame): void {
    this.frames.push(frame)
    switch (frame.kind) {
      case 'hello': {
        this.hellos.push(frame)
        this.#greet(frame)
        break
      }
      case 'state-digest': this.#writer!.told(frame.digests); break
      case 'state-inventory': this.#writer!.inventory(frame); break
      case 'state-ack': this.#writer!.acknowledged(frame, 0); break
      case 'state-verdict': this.#reader!.verdicts(frame.verdicts); break
      case 'state-changes': this.#reader!.receive(frame); break
      default: break
    }
    this.pump()
  }

  pump(): void {
    for (let frame = this.#reader?.next(); frame !== undefined; frame = this.#reader?.next()) this.say(frame)
    for (let frame = this.#writer?.next(0)?.frame; frame !== undefined; frame = this.#writer?.next(0)?.frame) this.say(frame)
  }

  #greet(hello: Hello): void {
    let state: Pick<Welcome, 'stateVerdicts' | 'stateDigests'> = { stateVerdicts: [], stateDigests: [] }
    this.#writer = this.#reader = undefined
    const isOther = hello.clusterUid !== '' && hello.clusterUid !== this.clusterUid
    if (isOther) {
      state = {
        stateVerdicts: hello.stateDigests.map(({ collection }) => ({ collection, verdict: 'other-cluster', after: '' })), stateDigests: []
      }
    } else if (this.protocol >= 2) {
      this.#writer = new StateWriter(this.down, { onReady: () => {}, onWithheld: () => {}, stats: newStateStats() })
      this.#reader = new StateReader(this.up, { onReady: () => {}, onFailed: () => {}, stats: newStateStats() })
      this.#writer.told(hello.stateDigests)
      state = { stateVerdicts: this.#writer.takeVerdicts(), stateDigests: this.#reader.takeDigests() }
    }
    this.say({
      kind: 'welcome', protocol: this.protocol, clusterUid: this.clusterUid, logId: 'l', wallMs: 1, software: 'test',
      windowBytes: 2 ** 20, watermarks: [], ...state
    })
  }
}

interface Node {
  readonly link: Link
  readonly cloud: Cloud
  readonly clock: HandClock
  readonly down: Things
  readonly up: Things
  readonly passed: FailpointName[]
  /** Lines of its log, from warnings on. */
  readonly said: string[]
}

async function nodeOf(setUp: (node: Omit<Node, 'link' | 'passed' | 'clock' | 'said'>) => void = () => {}): Promise<Node> {
  const clock = new HandClock()
  const random = new SeededRandom(3)
  const store = new MemoryStore()
  const committer = new Committer({}, { store, clock, onFailure: () => {} })
  const bootId = bootIdFromBytes(random.bytes(8))
  const outbox = await Outbox.open({ lanes: {}, bootId, suspect: false }, store,
    { committer, clock, random, log: silentLog, clockSynchronised: () => true })
  const cloud = new Cloud()
  const down = new Things('pods')
  const up = new Things('node-status', { node: 'ready' })
  setUp({ cloud, down, up })
  const passed: FailpointName[] = []
  const said: string[] = []
  const link = new Link({
    bootId, software: 'test', probeMs: 10_000, deadMs: 25_000, retryDelayMs: 100, retryDelayMaxMs: 1000
  }, {
    outbox, peer: await PeerMemory.open(store, committer), dialer: cloud, clock, random, log: jsonLog('warn', line => said.push(line), () => 0),
    clockSynchronised: () => true, failpoint: name => {
      passed.push(name)
      inertFailpoint(name)
    }, stateDown: down, stateUp: up
  })
  link.start()
  await settle()
  return { link, cloud, clock, down, up, passed, said }
}

/** The connection breaks, and the next one is there. */
async function reconnect({ cloud, clock, link }: Node): Promise<void> {
  cloud.events!.onClose('cut')
  await clock.pass(2000)
  await settle()
  expect(link.live).toBe(true)
}

const stateKinds = ({ cloud }: Node): string[] => cloud.frames.map(({ kind }) => kind).filter(kind => kind.startsWith('state'))

test('State comes down and goes up, and a reconnect with nothing changed moves nothing', async () => {
  const node = await nodeOf()
  expect(node.down.text()).toEqual({ 'default/a': 'one', 'default/b': 'two' })
  expect(node.cloud.up.text()).toEqual({ node: 'ready' })
  expect(node.passed.filter(name => name.startsWith('state'))).toEqual(['state-apply:before', 'state-apply:after'])
  node.up.put('node', 'pressed')
  node.cloud.down.put('default/c', 'three')
  node.cloud.pump()
  await settle()
  expect(node.cloud.up.text()).toEqual({ node: 'pressed' })
  expect(node.down.text()).toMatchObject({ 'default/c': 'three' })
  node.cloud.frames.length = 0
  await reconnect(node)
  expect(stateKinds(node)).toEqual(['state-verdict'])
  expect(node.link.stateStats.down.verdicts.equal).toBe(1)
  expect(node.link.stateStats.up.verdicts.equal).toBe(1)
})

test('a cloud of version 1 is sent no State, and takes none away', async () => {
  const node = await nodeOf(({ cloud, down }) => {
    cloud.protocol = 1
    down.put('default/held', 'held')
  })
  node.up.put('node', 'changed')
  await settle()
  expect(node.link.live).toBe(true)
  expect(stateKinds(node)).toEqual([])
  expect(node.down.text()).toEqual({ 'default/held': 'held' })
  expect(node.said.join()).toMatch(/older protocol, without State.*until cloudcore is upgraded/)
  // State frames of such a cloud are none of that version.
  node.cloud.say({ kind: 'state-verdict', verdicts: [] })
  expect(node.link.live).toBe(false)
})

test('a version that this edge does not speak ends the session', async () => {
  const node = await nodeOf(({ cloud }) => { cloud.protocol = 99 })
  expect(node.link.live).toBe(false)
  expect(node.link.lastEnd).toContain('version 99')
})

test('another cluster takes nothing away and gets nothing, until the node is moved there (STA-15)', async () => {
  const node = await nodeOf()
  node.cloud.clusterUid = 'another'
  node.cloud.down.items.clear()
  node.cloud.frames.length = 0
  await reconnect(node)
  node.up.put('node', 'changed')
  await settle()
  expect(node.link.clusterChanged).toBe(true)
  expect(Object.keys(node.down.text())).toEqual(['default/a', 'default/b'])
  expect(stateKinds(node)).toEqual([])
  expect(node.link.stateStats.down.verdicts['other-cluster']).toBe(1)
  // It stays so, however often that cloud answers.
  await reconnect(node)
  expect(node.cloud.hellos.at(-1)!.clusterUid).toBe('c')
  expect(node.link.clusterChanged).toBe(true)
  await node.link.adoptCluster()
  await node.clock.pass(2000)
  await settle()
  expect(node.link.clusterChanged).toBe(false)
  expect(node.down.text()).toEqual({})
  expect(node.cloud.up.text()).toEqual({ node: 'changed' })
})

test('Hello waits a second for a digest, not for ever; it follows when it is known', async () => {
  let tell = (): void => {}
  const node = await nodeOf(({ down }) => { down.late = new Promise(resolve => { tell = resolve }) })
  expect(node.cloud.hellos).toEqual([])
  await node.clock.pass(1000)
  await settle()
  expect(node.cloud.hellos.map(({ stateDigests }) => stateDigests)).toEqual([[]])
  expect(node.link.live).toBe(true)
  expect(node.cloud.up.text()).toEqual({ node: 'ready' })
  tell()
  await settle()
  await node.clock.pass(stateLimits.answerDelayMs.value)
  await settle()
  expect(node.down.text()).toEqual({ 'default/a': 'one', 'default/b': 'two' })
})

test('what breaks the rules of State ends the session, and the next one goes on', async () => {
  const node = await nodeOf()
  node.cloud.say({ kind: 'state-changes', sequence: 9, bodyLength: 1, rawLength: 0, position: 0, data: Buffer.of(1) })
  expect(node.link.live).toBe(false)
  expect(node.link.lastEnd).toContain('protocol')
  await node.clock.pass(2000)
  await settle()
  expect(node.link.live).toBe(true)
})
