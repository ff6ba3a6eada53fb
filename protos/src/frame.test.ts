import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { FrameError, decodeFrame, encodeFrame, frameBytesMax, lanesMax, protocolHistory, protocolMax, protocolMin } from './frame.ts'
import type { Frame, Hello } from './frame.ts'
import type { BootId, Epoch } from './ids.ts'
import { bootIdFromBytes, epochFromBytes, parseBootId, parseEpoch } from './ids.ts'

const runs = { numRuns: Number(process.env['RUNS'] ?? 500), ...process.env['SEED'] !== undefined && { seed: Number(process.env['SEED']) } }
const epoch = '0123456789abcdef' as Epoch
const hello: Hello = {
  kind: 'hello', protocolMin: 1, protocolMax: 3, bootId: 'fedcba9876543210' as BootId, connectCounter: 4, clusterUid: 'cluster', logId: '',
  wallMs: 1_767_225_600_000, uptimeMs: 12, clockSynchronised: false, software: '1.2.3',
  lanes: [{ id: 1, name: 'alarms', epochs: [
    { epoch, predecessor: undefined, start: 0, first: 3, next: 9, reason: 'started' },
    { epoch: 'aaaaaaaaaaaaaaaa' as Epoch, predecessor: epoch, start: 9, first: 9, next: 9, reason: 're-identified' }
  ] }]
}
const watermark = { lane: 1, epoch, next: Number.MAX_SAFE_INTEGER, crc: 0xdead_beef }
const frames: Frame[] = [
  hello,
  { kind: 'welcome', protocol: 1, clusterUid: 'c', logId: 'l', wallMs: 5, watermarks: [watermark], windowBytes: 65_536, software: 's' },
  { kind: 'refuse', code: 'SESSION_STALE', message: 'why', retryAfterMs: 60_000 },
  { kind: 'log-batches', rawLength: 7, batches: Buffer.from('batches') },
  { kind: 'log-part', lane: 2, batchLength: 100, position: 50, data: Buffer.from('part') },
  { kind: 'log-ack', watermarks: [watermark], partBytes: 16_384 },
  { kind: 'log-ack', watermarks: [], partBytes: 0 },
  { kind: 'probe', nonce: 7 },
  { kind: 'probe-reply', nonce: 8 }
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
  ['more lanes than the bound', { ...hello, lanes: Array.from({ length: lanesMax + 1 }, (_, id) => ({ id, name: `l${id}`, epochs: [] })) }],
  ['a lane without a proper name', { ...hello, lanes: [{ id: 1, name: 'Not A Name', epochs: [] }] }],
  ['a lane number above 16 bits', { ...hello, lanes: [{ id: 70_000, name: 'a', epochs: [] }] }],
  ['an epoch that ends before it begins', { ...hello, lanes: [{ id: 1, name: 'a', epochs: [{ ...hello.lanes[0]!.epochs[0]!, next: 1 }] }] }],
  ['a malformed epoch', { ...hello, lanes: [{ id: 1, name: 'a', epochs: [{ ...hello.lanes[0]!.epochs[0]!, epoch: 'ABC' as Epoch }] }] }],
  ['a malformed boot id', { ...hello, bootId: '12' as BootId }],
  ['a text without end', { ...hello, software: 'x'.repeat(1025) }],
  ['an unsafe number', { kind: 'log-ack', watermarks: [{ ...watermark, next: 2 ** 53 }], partBytes: 0 }]
])('%s is refused', (_what, frame) => {
  expect(() => decodeFrame(encodeFrame(frame))).toThrow(FrameError)
})

test('a frame above the bound is refused unread', () => {
  expect(() => decodeFrame(Buffer.alloc(frameBytesMax + 1))).toThrow(/bound/)
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

/**
 * Hash of what is on the wire, without comments and white space, by protocol version. A change that a peer can notice is a
 * new version in `protocolHistory`, with a line of its own here; the lines of released versions stay.
 */
const schemaHashes: Readonly<Record<number, string>> = { 1: 'cf0248971a8a21a7fb2ba989303640ce' }

test('a changed schema has a version of its own', () => {
  const hash = createHash('sha256')
  for (const file of ['tunnel.proto', 'log.proto']) {
    const text = readFileSync(join(import.meta.dirname, '../holdfast/v1', file), 'utf8')
    hash.update(text.replaceAll(/\/\/.*$/gm, '').replaceAll(/\s+/g, ' '))
  }
  expect(hash.digest('hex').slice(0, 32), `the .proto files differ from version ${protocolMax}: add a version to protocolHistory ` +
    'and its hash here').toBe(schemaHashes[protocolMax])
  expect(protocolHistory.at(-1)!.version).toBe(protocolMax)
  expect(protocolHistory.map(({ version }) => version)).toEqual(Array.from({ length: protocolMax }, (_, i) => i + 1))
  expect(protocolMin).toBeGreaterThanOrEqual(1)
  expect(protocolMin).toBeLessThanOrEqual(protocolMax)
})

function mustDecodeOrRefuse(bytes: Uint8Array): void {
  try {
    decodeFrame(bytes)
  } catch (error) {
    expect(error).toBeInstanceOf(FrameError)
  }
}
