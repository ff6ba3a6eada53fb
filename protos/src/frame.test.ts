import { fromBinary } from '@bufbuild/protobuf'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { FrameSchema } from '../gen/holdfast/v1/tunnel_pb.ts'
import type { StateChanges, StateInventory } from '../gen/holdfast/v1/tunnel_pb.ts'
import { decodeFrame, encodeFrame, frameBytesMax, lanesMax } from './frame.ts'
import { FrameError } from './frame-error.ts'
import type { Frame, Hello } from './frame.ts'
import type { BootId, Epoch } from './ids.ts'
import { inventoryEntriesMax, stateBodyBytesMax, stateCollectionsMax, stateRawBytesMax } from './state.ts'
import { bootIdFromBytes, epochFromBytes, parseBootId, parseEpoch } from './ids.ts'

const runs = { numRuns: Number(process.env['RUNS'] ?? 500), ...process.env['SEED'] !== undefined &&
  { seed: Number(process.env['SEED']) } }
const epoch = '0123456789abcdef' as Epoch
const hello: Hello = {
  kind: 'hello', protocolMin: 1, protocolMax: 3, bootId: 'fedcba9876543210' as BootId, connectCounter: 4,
    clusterUid: 'cluster', logId: '',
  wallMs: 1_767_225_600_000, uptimeMs: 12, clockSynchronised: false, software: '1.2.3',
  lanes: [{ id: 1, name: 'alarms', epochs: [
    { epoch, predecessor: undefined, start: 0, first: 3, next: 9, reason: 'started' },
    { epoch: 'aaaaaaaaaaaaaaaa' as Epoch, predecessor: epoch, start: 9, first: 9, next: 9, reason: 're-identified' }
  ] }],
  stateDigests: [{ collection: 'pods', digest: Buffer.alloc(16, 7), position: 'pods=12' }]
}
const watermark = { lane: 1, epoch, next: Number.MAX_SAFE_INTEGER, crc: 0xdead_beef }
const version = Buffer.from('version')
const digest = { collection: 'pods', digest: Buffer.alloc(16), position: '' }
const inventory = { kind: 'state-inventory', collection: 'pods', after: '', entries: [['a', version]], last: true } as const
const changes = { kind: 'state-changes', sequence: 1, bodyLength: 10, rawLength: 0, position: 0, data: Buffer.from('part') } as const
const frames: Frame[] = [
  hello,
  { kind: 'welcome', protocol: 1, clusterUid: 'c', logId: 'l', wallMs: 5, watermarks: [watermark], windowBytes: 65_536,
    software: 's', stateVerdicts: [{ collection: 'pods', verdict: 'other-cluster', after: '' }],
    stateDigests: [{ collection: 'node-status', digest: Buffer.alloc(16, 8), position: '' }] },
  { kind: 'refuse', code: 'SESSION_STALE', message: 'why', retryAfterMs: 60_000 },
  { kind: 'log-batches', rawLength: 7, batches: Buffer.from('batches') },
  { kind: 'log-part', lane: 2, batchLength: 100, position: 50, data: Buffer.from('part') },
  { kind: 'log-ack', watermarks: [watermark], partBytes: 16_384 },
  { kind: 'log-ack', watermarks: [], partBytes: 0 },
  { kind: 'probe', nonce: 7 },
  { kind: 'probe-reply', nonce: 8 },
  { kind: 'state-digest', digests: [{ collection: 'secrets', digest: Buffer.alloc(16, 1), position: '' }] },
  { kind: 'state-verdict', verdicts: [{ collection: 'secrets', verdict: 'differs', after: 'default/a' }] },
  { kind: 'state-inventory', collection: 'pods', after: 'a', entries: [['b', Buffer.from('1')], ['c', Buffer.alloc(64, 2)]],
    last: false },
  { kind: 'state-inventory', collection: 'pods', after: '', entries: [], last: true },
  { kind: 'state-changes', sequence: 300, bodyLength: 1000, rawLength: 2000, position: 128, data: Buffer.from('part') },
  { kind: 'state-changes', sequence: 1, bodyLength: 4, rawLength: 0, position: 0, data: Buffer.from('part') },
  { kind: 'state-ack', sequence: 0, receivedBytes: 16_384, refused: '' },
  { kind: 'state-ack', sequence: 7, receivedBytes: 2 ** 40, refused: 'pods: too large' }
]

test.each(frames)('a $kind frame comes back as it was sent', frame => {
  expect(decodeFrame(encodeFrame(frame))).toEqual(frame)
})

test('every truncation of a frame is a frame or a FrameError', () => {
  for (const frame of frames) {
    const bytes = encodeFrame(frame)
    for (let length = 0; length < bytes.length; length++) mustDecodeOrRefuse(bytes.subarray(0, length))
  }
})

test('random and damaged bytes give a frame or a FrameError, nothing else', () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 120 }), bytes => { mustDecodeOrRefuse(bytes) }), runs)
  fc.assert(fc.property(fc.constantFrom(...frames), fc.nat(), fc.nat({ max: 255 }), (frame, where, value) => {
    const bytes = encodeFrame(frame)
    if (bytes.length > 0) bytes[where % bytes.length] = value
    mustDecodeOrRefuse(bytes)
  }), runs)
})

test.each<[string, Frame]>([
  ['more lanes than the bound', { ...hello, lanes: Array.from({ length: lanesMax + 1 },
    (_, id) => ({ id, name: `l${id}`, epochs: [] })) }],
  ['a lane without a proper name', { ...hello, lanes: [{ id: 1, name: 'Not A Name', epochs: [] }] }],
  ['a lane number above 16 bits', { ...hello, lanes: [{ id: 70_000, name: 'a', epochs: [] }] }],
  ['an epoch that ends before it begins',
    { ...hello, lanes: [{ id: 1, name: 'a', epochs: [{ ...hello.lanes[0]!.epochs[0]!, next: 1 }] }] }],
  ['a malformed epoch', { ...hello, lanes: [{ id: 1, name: 'a', epochs: [{ ...hello.lanes[0]!.epochs[0]!,
    epoch: 'ABC' as Epoch }] }] }],
  ['a malformed boot id', { ...hello, bootId: '12' as BootId }],
  ['a text without end', { ...hello, software: 'x'.repeat(1025) }],
  ['a collection without a proper name', { kind: 'state-digest', digests: [{ ...digest, collection: 'Pods' }] }],
  ['a collection named twice', { ...hello, stateDigests: [digest, digest] }],
  ['a digest of another length', { kind: 'state-digest', digests: [{ ...digest, digest: Buffer.alloc(15) }] }],
  ['more collections than the bound', { kind: 'state-digest', digests: Array.from({ length: stateCollectionsMax + 1 },
    (_, i) => ({ ...digest, collection: `c${i}` })) }],
  ['a position without end', { kind: 'state-digest', digests: [{ ...digest, position: 'x'.repeat(513) }] }],
  ['a verdict that nobody knows', { kind: 'state-verdict', verdicts: [{ collection: 'a', verdict: 'maybe' as 'equal',
    after: '' }] }],
  ['a verdict behind no key', { kind: 'state-verdict', verdicts: [{ collection: 'a', verdict: 'differs', after: 'a b' }] }],
  ['an inventory out of order', { ...inventory, entries: [['b', version], ['a', version]] }],
  ['an inventory with a key twice', { ...inventory, entries: [['b', version], ['b', version]] }],
  ['an inventory that goes back', { ...inventory, after: 'c', entries: [['b', version]] }],
  ['a page without entries that is not the last', { ...inventory, entries: [], last: false }],
  ['a page of more entries than the bound', { ...inventory, entries: Array.from({ length: inventoryEntriesMax + 1 },
    (_, i) => [`k${String(i).padStart(5, '0')}`, version] as const) }],
  ['an entry without a version', { ...inventory, entries: [['b', Buffer.alloc(0)]] }],
  ['a version above its bound', { ...inventory, entries: [['b', Buffer.alloc(65)]] }],
  ['a key above its bound', { ...inventory, entries: [['k'.repeat(513), version]] }],
  ['a body above its bound', { ...changes, bodyLength: stateBodyBytesMax + 1 }],
  ['a body that would decompress to more than its bound', { ...changes, rawLength: stateRawBytesMax + 1 }],
  ['a slice beyond the body', { ...changes, position: 7 }],
  ['an empty slice', { ...changes, data: Buffer.alloc(0) }],
  ['a refusal without end', { kind: 'state-ack', sequence: 1, receivedBytes: 1, refused: 'x'.repeat(1025) }],
  ['an unsafe number', { kind: 'log-ack', watermarks: [{ ...watermark, next: 2 ** 53 }], partBytes: 0 }]
])('%s is refused', (_what, frame) => {
  expect(() => decodeFrame(encodeFrame(frame))).toThrow(FrameError)
})

test('a frame above the bound is refused unread', () => {
  expect(() => decodeFrame(Buffer.alloc(frameBytesMax + 1))).toThrow(/bound/)
})

test('a frame that tells of State is refused unread above its bound', () => {
  const verdicts = Array.from({ length: 2000 }, (_, i) => ({ collection: `c${i}`, verdict: 'equal' as const, after: 'k'.repeat(40) }))
  expect(() => decodeFrame(encodeFrame({ kind: 'state-verdict', verdicts }))).toThrow(/bytes that tells of State/)
})

test('frames written by hand are what the schema says', () => {
  for (const frame of frames) {
    if (frame.kind !== 'state-inventory' && frame.kind !== 'state-changes') continue
    const { body } = fromBinary(FrameSchema, encodeFrame(frame))
    if (frame.kind === 'state-inventory') {
      const entries = frame.entries.map(([key, bytes]) => ({ key, version: new Uint8Array(bytes) }))
      expect(body).toMatchObject({ case: 'stateInventory', value: { collection: frame.collection, after: frame.after,
        last: frame.last } })
      expect((body.value as StateInventory).entries.map(entry => ({ key: entry.key, version: new Uint8Array(entry.version) })))
        .toEqual(entries)
    } else {
      const { sequence, bodyLength, rawLength, position } = frame
      expect(body).toMatchObject({ case: 'stateChanges', value: { sequence: BigInt(sequence), bodyLength, rawLength, position } })
      expect(Buffer.from((body.value as StateChanges).data)).toEqual(frame.data)
    }
  }
})

test('ids are sixteen lower-case hex digits', () => {
  expect(epochFromBytes(new Uint8Array([0, 1, 2, 3, 4, 5, 6, 255]))).toBe('00010203040506ff')
  expect(bootIdFromBytes(new Uint8Array(8))).toBe('0000000000000000')
  expect(() => epochFromBytes(new Uint8Array(7))).toThrow(/8 bytes/)
  for (const wrong of ['', '0123456789ABCDEF', '0123456789abcde', '0123456789abcdefg']) {
    expect(parseEpoch(wrong)).toBeUndefined()
    expect(parseBootId(wrong)).toBeUndefined()
  }
})

function mustDecodeOrRefuse(bytes: Uint8Array): void {
  try {
    decodeFrame(bytes)
  } catch (error) {
    expect(error).toBeInstanceOf(FrameError)
  }
}
