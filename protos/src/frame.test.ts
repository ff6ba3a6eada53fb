import fc from 'fast-check'
import { expect, test } from 'vitest'
import { FrameError, decodeFrame, encodeFrame, frameBytesMax, lanesMax } from './frame.ts'
import type { Frame, Hello } from './frame.ts'
import type { BootId, Epoch } from './ids.ts'
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
  ] }]
}
const watermark = { lane: 1, epoch, next: Number.MAX_SAFE_INTEGER, crc: 0xdead_beef }
const frames: Frame[] = [
  hello,
  { kind: 'welcome', protocol: 1, clusterUid: 'c', logId: 'l', wallMs: 5, watermarks: [watermark], windowBytes: 65_536,
    software: 's' },
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

function mustDecodeOrRefuse(bytes: Uint8Array): void {
  try {
    decodeFrame(bytes)
  } catch (error) {
    expect(error).toBeInstanceOf(FrameError)
  }
}
