import { beforeEach, expect, test } from 'vitest'
import { decodeFrame, encodeFrame } from '@holdfast/protos'
import type { BootId, CollectionDigest, Frame, Welcome } from '@holdfast/protos'
import { inertFailpoint, jsonLog } from '@holdfast/runtime'
import type { Clock, NodeName } from '@holdfast/runtime'
import { contentVersion, stateDigest } from '@holdfast/sync'
import type { ConnectionEvents, StateBatch, StateItem, StateListener } from '@holdfast/sync'
import type { CloudLog } from '../log/cloud-log.ts'
import { Hub } from './hub.ts'
import type { NodeState } from './hub.ts'

const node = 'edge-1' as NodeName
const empty: CollectionDigest = { collection: 'pods', digest: stateDigest([]), position: '' }
const clock: Clock = {
  wallMs: () => 1, monotonicMs: () => 1, after: () => ({ cancel() {} }), soon: task => { setImmediate(task) }
}
const turns = async (): Promise<void> => { for (let turn = 0; turn < 20; turn++) await new Promise(resolve => { setImmediate(resolve) }) }

/** No lanes are sent here, so that nothing but its name is asked for. */
const cloudLog = { logId: 'log' } as CloudLog

let isReady: boolean
let items: Map<string, StateItem>
let listeners: Set<StateListener>
let received: StateBatch[]
let hub: Hub
/** Lines of its log, from warnings on. */
let said: string[]
let stateOf: (name: NodeName) => NodeState | undefined

beforeEach(() => {
  said = []
  isReady = true
  items = new Map([['default/a', { version: contentVersion(Buffer.from('a')), value: Buffer.from('a') }]])
  listeners = new Set()
  received = []
  const keysFrom = (): (readonly [string, Buffer])[] => [...items].map(([key, { version }]) => [key, version] as const)
  stateOf = () => ({
    down: {
      collections: ['pods'], ready: () => isReady, position: () => '7', digest: () => stateDigest(keysFrom()), keysFrom,
      version: (_collection, key) => items.get(key)?.version,
      value: (_collection, key) => items.get(key)?.value,
      subscribe: listener => {
        listeners.add(listener)
        return () => { listeners.delete(listener) }
      }
    },
    up: {
      collections: ['node-status'], digest: () => stateDigest([]), position: () => '', keysFrom: () => [],
      apply: (batch, onApplied) => {
        received.push(batch)
        onApplied()
      }
    }
  })
  hub = new Hub({ helloMs: 10_000, deadMs: 25_000, software: 'test', clusterUid: 'c', windowBytes: 4 * 1024 * 1024, nodesMax: 4 },
    { cloudLog, clock, log: jsonLog('warn', line => said.push(line), () => 0), failpoint: inertFailpoint, stateOf: name => stateOf(name) })
})

interface Peer { readonly events: ConnectionEvents, readonly frames: Frame[], welcome(): Welcome }

async function connect(of: { protocolMax?: number, clusterUid?: string, connectCounter?: number, digests?: CollectionDigest[] } = {}):
Promise<Peer> {
  const frames: Frame[] = []
  const events = hub.accept(node, { bytesReceived: 1, send: message => { frames.push(decodeFrame(message)) }, close: () => {} })
  events.onMessage(encodeFrame({
    kind: 'hello', protocolMin: 1, protocolMax: of.protocolMax ?? 2, bootId: 'a'.repeat(16) as BootId,
    connectCounter: of.connectCounter ?? 1, clusterUid: of.clusterUid ?? '', logId: '', wallMs: 1, uptimeMs: 1, clockSynchronised: true,
    software: 'test', lanes: [], stateDigests: of.digests ?? [empty]
  }))
  await turns()
  return { frames, events, welcome: () => frames.find(frame => frame.kind === 'welcome')! }
}

const kinds = ({ frames }: Peer): string[] => frames.map(frame => frame.kind === 'refuse' ? frame.code : frame.kind)

test('verdicts and digests go with Welcome, what differs follows', async () => {
  const peer = await connect()
  expect(peer.welcome().stateVerdicts).toEqual([{ collection: 'pods', verdict: 'differs', after: '' }])
  expect(peer.welcome().stateDigests).toEqual([{ collection: 'node-status', digest: stateDigest([]), position: '' }])
  peer.events.onMessage(encodeFrame({ kind: 'state-inventory', collection: 'pods', after: '', entries: [], last: true }))
  await turns()
  expect(kinds(peer)).toEqual(['welcome', 'state-changes'])
  expect(hub.stateStats.down).toMatchObject({ frames: 1, itemsPut: 1 })
  expect(hub.stateStats.down.verdicts.differs).toBe(1)
})

test('an edge of version 1 is served the Log only', async () => {
  const peer = await connect({ protocolMax: 1 })
  expect(peer.welcome()).toMatchObject({ protocol: 1, stateVerdicts: [], stateDigests: [] })
  for (const listener of listeners) listener.keyChanged('pods', 'default/a')
  await turns()
  expect(kinds(peer)).toEqual(['welcome'])
  expect(listeners.size).toBe(0)
  expect(said.join()).toMatch(/older protocol, without State.*until its edgecore is upgraded/)
  expect(hub.statePresence(node)).toBeUndefined()
  peer.events.onMessage(encodeFrame({ kind: 'state-digest', digests: [empty] }))
  expect(kinds(peer)).toEqual(['welcome', 'FRAME_UNEXPECTED'])
})

test('an edge of another cluster is told so, and nothing else (STA-15)', async () => {
  const peer = await connect({ clusterUid: 'another' })
  expect(peer.welcome().stateVerdicts).toEqual([{ collection: 'pods', verdict: 'other-cluster', after: '' }])
  expect(peer.welcome().stateDigests).toEqual([])
  expect(listeners.size).toBe(0)
  const own = await connect({ clusterUid: 'c', connectCounter: 2 })
  expect(own.welcome().stateVerdicts[0]!.verdict).toBe('differs')
})

test('what is not ready is said, shown, and followed by a verdict', async () => {
  isReady = false
  const peer = await connect()
  expect(peer.welcome().stateVerdicts).toEqual([{ collection: 'pods', verdict: 'not-ready', after: '' }])
  expect(hub.statePresence(node)).toEqual({ notReady: ['pods'], refused: '' })
  isReady = true
  for (const listener of listeners) listener.collectionChanged('pods')
  await turns()
  expect(peer.frames.at(-1)).toEqual({ kind: 'state-verdict', verdicts: [{ collection: 'pods', verdict: 'differs', after: '' }] })
  expect(hub.statePresence(node)!.notReady).toEqual([])
})

test('a cloud that keeps no State, or fails over it, leaves edges what they have and takes their Log', async () => {
  stateOf = () => undefined
  expect((await connect()).welcome().stateVerdicts[0]!.verdict).toBe('not-ready')
  stateOf = () => { throw new Error('no view') }
  expect((await connect({ connectCounter: 2 })).welcome().stateVerdicts[0]!.verdict).toBe('not-ready')
})

test('what goes wrong with one node\'s State ends that session only', async () => {
  const peer = await connect()
  peer.events.onMessage(encodeFrame({ kind: 'state-ack', sequence: 5, receivedBytes: 0, refused: '' }))
  expect(kinds(peer)).toEqual(['welcome', 'FRAME_UNEXPECTED'])
  expect(listeners.size).toBe(0)
  expect(kinds(await connect({ connectCounter: 2 }))).toEqual(['welcome'])
})

test('the session that is replaced listens no more', async () => {
  await connect()
  const second = await connect({ connectCounter: 2 })
  expect(listeners.size).toBe(1)
  second.events.onClose('gone')
  expect(listeners.size).toBe(0)
})

test('what a node refuses rests until its next session, and is shown', async () => {
  const peer = await connect()
  peer.events.onMessage(encodeFrame({ kind: 'state-ack', sequence: 0, receivedBytes: 0, refused: 'pods: too many' }))
  expect(hub.statePresence(node)).toEqual({ notReady: [], refused: 'pods: too many' })
  expect(hub.stateStats.down.refusals).toBe(1)
  expect((await connect({ connectCounter: 2 })).welcome().stateVerdicts[0]!.verdict).toBe('differs')
  expect(hub.statePresence(node)!.refused).toBe('')
})

test('a listener is told when a node gets a session, each time, and when it has none any more', async () => {
  const told: string[] = []
  hub.subscribe({ onConnected: () => { throw new Error('of this listener') } })
  const stop = hub.subscribe({
    onConnected: name => { told.push(`${name} connected ${hub.connected(name)}`) },
    onDisconnected: name => { told.push(`${name} disconnected ${hub.connected(name)}`) }
  })
  expect([hub.connected(node), ...hub.connectedNodes()]).toEqual([false])
  const first = await connect()
  expect(told.splice(0)).toEqual(['edge-1 connected true'])
  expect([...hub.connectedNodes()]).toEqual([node])
  const second = await connect({ connectCounter: 2 })
  expect(kinds(first)).toContain('SESSION_REPLACED')
  first.events.onClose('gone')
  expect(told.splice(0)).toEqual(['edge-1 connected true'])
  second.events.onClose('gone')
  second.events.onClose('gone')
  expect(told.splice(0)).toEqual(['edge-1 disconnected false'])
  expect([...hub.connectedNodes()]).toEqual([])
  stop()
  await connect({ connectCounter: 3 })
  expect(told).toEqual([])
  expect(hub.connected(node)).toBe(true)
})

test('a session that is refused is no link', async () => {
  const told: string[] = []
  hub.subscribe({ onConnected: name => { told.push(name) }, onDisconnected: name => { told.push(`not ${name}`) } })
  const peer = await connect({ protocolMax: 0 })
  peer.events.onClose('gone')
  expect(told).toEqual([])
  expect(hub.duplicateIdentity(node)).toBe(false)
})

test('a hub that closes says nothing of the nodes', async () => {
  const told: string[] = []
  await connect()
  hub.subscribe({ onDisconnected: name => { told.push(name) } })
  hub.close()
  expect([hub.connected(node), told]).toEqual([false, []])
})
