import { crc32 } from 'node:zlib'
import type { BootId, Epoch } from './ids.ts'
import { VarintReader, varintLength, writeVarint } from './varint.ts'
import { compress, decompress } from './zstd.ts'

/**
 * The record batch: encoded once on the edge; the same bytes are stored there, sent, checked and stored by the cloud
 * (docs/spec/log.md has the layout and the rules).
 */
export const batchHeaderBytes = 72
const magic = 0x4842
export const batchFormat = 1

/** A batch is closed at this many body bytes, before compression; a single larger record has a batch of its own. */
export const batchBodyBytesTarget = 64 * 1024
/** Payload bound of one record. */
export const recordPayloadBytesMax = 256 * 1024
/** No batch is larger, so no decoder believes a larger length. */
export const batchBytesMax = 512 * 1024

/**
 * Smaller bodies are left as they are: they gain little alone, and more when the sender compresses several batches together
 * (a record of 128 bytes: 110 alone, 22 among sixteen).
 */
const compressBytesMin = 1024

export interface BatchHeader {
  readonly kind: 'records' | 'gap'
  readonly codec: 'none' | 'zstd'
  /** False where the edge knew that its wall clock had not been set. */
  readonly clockSynchronised: boolean
  readonly lane: number
  readonly epoch: Epoch
  /** Offset of the first record. */
  readonly base: number
  /** Offsets covered, at least 1. */
  readonly count: number
  readonly bootId: BootId
  /** Wall time of delta zero, milliseconds since 1970. */
  readonly wallMs: number
  /** Node uptime of delta zero: milliseconds that the daemon has run, over all its starts. */
  readonly uptimeMs: number
  /** Length of the body before compression. */
  readonly rawLength: number
  /** Length of the body as stored. */
  readonly bodyLength: number
  /** CRC-32 of the body as stored. */
  readonly bodyCrc: number
  /** CRC-32 of the header before this field; through `bodyCrc` it covers the body too. Names the batch's content. */
  readonly crc: number
}

/** What went wrong with bytes that should be a batch. */
export class BatchError extends Error {
  readonly code = 'BATCH_CORRUPT'
}

/** One record as a reader sees it. `payload` is a view of the decoded body. */
export interface BatchRecord {
  readonly offset: number
  readonly timestampMs: number
  readonly device: string
  readonly topic: string
  readonly payload: Buffer
}

export interface GapBody {
  readonly reason: GapReason
  /** Acknowledged records that became unavailable; 0: nobody can know. */
  readonly records: number
}

export const gapReasons = ['corrupt', 'overflow', 'expired', 'cloud-lost', 'cloud-log-new', 'cloud-corrupt'] as const
/** Shape of every reason, those of later releases too. */
const gapReasonPattern = /^[a-z][a-z0-9-]{0,31}$/
/** A reason that a later release writes: kept and shown as it is. Made by `readGap` only. */
export type LaterGapReason = string & { readonly __laterGapReason: true }
export type GapReason = (typeof gapReasons)[number] | LaterGapReason

/** Fields of a header that the caller decides. */
export interface BatchStamp {
  readonly lane: number
  readonly epoch: Epoch
  readonly base: number
  readonly bootId: BootId
  readonly wallMs: number
  readonly uptimeMs: number
  readonly clockSynchronised: boolean
}

/**
 * A (topic, device) pair as records name it, with its encoding. Make one per topic and keep it: batches recognise it by
 * identity.
 */
export class RecordTopic {
  readonly topic: string
  readonly device: string
  /** Field 1 of Records, tag and length included. */
  readonly encoded: Buffer

  constructor(topic: string, device: string) {
    this.topic = topic
    this.device = device
    const topicBytes = Buffer.from(topic)
    const deviceBytes = Buffer.from(device)
    const inner = 1 + varintLength(topicBytes.length) + topicBytes.length +
      1 + varintLength(deviceBytes.length) + deviceBytes.length
    const out = Buffer.allocUnsafeSlow(1 + varintLength(inner) + inner)
    let at = writeVarint(out, 0, 0x0a)
    at = writeVarint(out, at, inner)
    at = writeVarint(out, at, 0x0a)
    at = writeVarint(out, at, topicBytes.length)
    at += topicBytes.copy(out, at)
    at = writeVarint(out, at, 0x12)
    at = writeVarint(out, at, deviceBytes.length)
    deviceBytes.copy(out, at)
    this.encoded = out
  }
}

/** Gathers records into one body, straight into wire form: one copy of each payload, no object per record. */
export class BatchBuilder {
  #body: Buffer
  #length = 0
  #count = 0
  #baseUptimeMs = 0
  readonly #topics = new Map<RecordTopic, number>()

  constructor(initialBytes = 4096) { this.#body = Buffer.allocUnsafeSlow(initialBytes) }

  get count(): number { return this.#count }
  /** Body bytes so far. */
  get length(): number { return this.#length }
  /** Node uptime of the first record. */
  get baseUptimeMs(): number { return this.#baseUptimeMs }

  /** True where one more record of `payloadBytes` belongs into this batch rather than the next. */
  fits(payloadBytes: number): boolean {
    return this.#count === 0 || this.#length + payloadBytes <= batchBodyBytesTarget
  }

  add(topic: RecordTopic, payload: Uint8Array, uptimeMs: number): void {
    if (this.#count === 0) this.#baseUptimeMs = uptimeMs
    const delta = Math.max(0, Math.floor(uptimeMs - this.#baseUptimeMs))
    let index = this.#topics.get(topic)
    const fresh = index === undefined
    if (index === undefined) index = this.#topics.size
    const inner = 1 + varintLength(index) + 1 + varintLength(delta) + 1 + varintLength(payload.length) + payload.length
    const needed = (fresh ? topic.encoded.length : 0) + 1 + varintLength(inner) + inner
    if (this.#length + needed > this.#body.length) this.#grow(needed)
    const body = this.#body
    let at = this.#length
    if (fresh) {
      this.#topics.set(topic, index)
      at += topic.encoded.copy(body, at)
    }
    body[at++] = 0x12
    at = writeVarint(body, at, inner)
    body[at++] = 0x08
    at = writeVarint(body, at, index)
    body[at++] = 0x10
    at = writeVarint(body, at, delta)
    body[at++] = 0x1a
    at = writeVarint(body, at, payload.length)
    body.set(payload, at)
    this.#length = at + payload.length
    this.#count++
  }

  /** The finished batch, in memory of its own; the builder is empty afterwards. */
  encode(stamp: BatchStamp): Buffer {
    const raw = this.#body.subarray(0, this.#length)
    let body = raw
    if (raw.length >= compressBytesMin) {
      const compressed = compress(raw)
      if (compressed.length < raw.length) body = compressed
    }
    const out = writeBatch('records', body === raw ? 'none' : 'zstd', this.#count, raw.length, body, stamp)
    this.clear()
    return out
  }

  clear(): void {
    this.#length = 0
    this.#count = 0
    this.#topics.clear()
  }

  #grow(needed: number): void {
    const larger = Buffer.allocUnsafeSlow(Math.max(this.#length + needed, Math.min(this.#body.length * 2, 96 * 1024)))
    this.#body.copy(larger, 0, 0, this.#length)
    this.#body = larger
  }
}

/** A batch of kind `gap` that stands for `count` offsets from `stamp.base`. */
export function encodeGap(count: number, gap: GapBody, stamp: BatchStamp): Buffer {
  const reason = Buffer.from(gap.reason)
  const body = Buffer.allocUnsafe(2 + reason.length + (gap.records === 0 ? 0 : 1 + varintLength(gap.records)))
  body[0] = 0x0a
  body[1] = reason.length
  let at = 2 + reason.copy(body, 2)
  if (gap.records !== 0) {
    body[at++] = 0x10
    writeVarint(body, at, gap.records)
  }
  return writeBatch('gap', 'none', count, body.length, body, stamp)
}

function writeBatch(kind: 'records' | 'gap', codec: 'none' | 'zstd', count: number, rawLength: number, body: Buffer,
  stamp: BatchStamp): Buffer {
  const out = Buffer.allocUnsafeSlow(batchHeaderBytes + body.length)
  out.writeUInt16BE(magic, 0)
  out[2] = batchFormat
  out[3] = kind === 'records' ? 1 : 2
  out[4] = codec === 'none' ? 0 : 1
  out[5] = stamp.clockSynchronised ? 1 : 0
  out.writeUInt16BE(stamp.lane, 6)
  out.write(stamp.epoch, 8, 8, 'hex')
  writeUint64(out, 16, stamp.base)
  writeUint64(out, 24, count)
  out.write(stamp.bootId, 32, 8, 'hex')
  writeUint64(out, 40, Math.max(0, Math.floor(stamp.wallMs)))
  writeUint64(out, 48, Math.max(0, Math.floor(stamp.uptimeMs)))
  out.writeUInt32BE(rawLength, 56)
  out.writeUInt32BE(body.length, 60)
  body.copy(out, batchHeaderBytes)
  out.writeUInt32BE(crc32(body), 64)
  out.writeUInt32BE(crc32(out.subarray(0, 68)), 68)
  return out
}

/**
 * The same batch under another epoch (a re-identified lane, docs/spec/log.md). Only the header changes; the input stays
 * as it is.
 */
export function restampEpoch(batch: Buffer, epoch: Epoch): Buffer {
  const out = Buffer.from(batch)
  out.write(epoch, 8, 8, 'hex')
  out.writeUInt32BE(crc32(out.subarray(0, 68)), 68)
  return out
}

/**
 * The header of the batch that begins at `at`, its CRC checked, its lengths within bounds; the body is not looked at.
 * Throws BatchError.
 */
export function readBatchHeader(bytes: Buffer, at = 0): BatchHeader {
  if (bytes.length - at < batchHeaderBytes) throw new BatchError(`batch header: ${bytes.length - at} of ${batchHeaderBytes} bytes`)
  if (bytes.readUInt16BE(at) !== magic) throw new BatchError('batch header: no magic number')
  if (bytes[at + 2] !== batchFormat) throw new BatchError(`batch format ${bytes[at + 2]}, this release reads ${batchFormat}`)
  const crc = bytes.readUInt32BE(at + 68)
  if (crc32(bytes.subarray(at, at + 68)) !== crc) throw new BatchError('batch header: CRC mismatch')
  const kind = bytes[at + 3]
  const codec = bytes[at + 4]
  const header: BatchHeader = {
    kind: kind === 1 ? 'records' : 'gap',
    codec: codec === 0 ? 'none' : 'zstd',
    clockSynchronised: bytes[at + 5] === 1,
    lane: bytes.readUInt16BE(at + 6),
    epoch: bytes.toString('hex', at + 8, at + 16) as Epoch,
    base: readUint64(bytes, at + 16),
    count: readUint64(bytes, at + 24),
    bootId: bytes.toString('hex', at + 32, at + 40) as BootId,
    wallMs: readUint64(bytes, at + 40),
    uptimeMs: readUint64(bytes, at + 48),
    rawLength: bytes.readUInt32BE(at + 56),
    bodyLength: bytes.readUInt32BE(at + 60),
    bodyCrc: bytes.readUInt32BE(at + 64),
    crc
  }
  if ((kind !== 1 && kind !== 2) || (codec !== 0 && codec !== 1)) throw new BatchError(`batch header: kind ${kind}, codec ${codec}`)
  if (header.count < 1 || !Number.isSafeInteger(header.base + header.count)) {
    throw new BatchError(`batch header: base ${header.base}, count ${header.count}`)
  }
  if (header.bodyLength + batchHeaderBytes > batchBytesMax || header.rawLength > batchBytesMax) {
    throw new BatchError(`batch of ${header.bodyLength} bytes (${header.rawLength} raw), bound ${batchBytesMax}`)
  }
  return header
}

/** One past the last offset. */
export function batchNext(header: BatchHeader): number { return header.base + header.count }

/** Checks the body's CRC. `bytes` is exactly one batch. Throws BatchError. */
export function checkBatchBody(bytes: Buffer, header: BatchHeader): void {
  if (bytes.length !== batchHeaderBytes + header.bodyLength) {
    throw new BatchError(`batch of ${bytes.length} bytes, its header says ${batchHeaderBytes + header.bodyLength}`)
  }
  if (crc32(bytes.subarray(batchHeaderBytes)) !== header.bodyCrc) throw new BatchError('batch body: CRC mismatch')
}

/** Cuts concatenated batches apart: yields the position and header of each. Throws BatchError. */
export function* splitBatches(bytes: Buffer): Generator<{ readonly batch: Buffer, readonly header: BatchHeader }> {
  let at = 0
  while (at < bytes.length) {
    const header = readBatchHeader(bytes, at)
    const end = at + batchHeaderBytes + header.bodyLength
    if (end > bytes.length) throw new BatchError(`batch of ${end - at} bytes, ${bytes.length - at} there`)
    yield { batch: bytes.subarray(at, end), header }
    at = end
  }
}

/** The decompressed body. Throws BatchError; never allocates more than the header's checked `rawLength`. */
export function readBatchBody(batch: Buffer, header: BatchHeader): Buffer {
  const stored = batch.subarray(batchHeaderBytes, batchHeaderBytes + header.bodyLength)
  if (header.codec === 'none') return stored
  try {
    const body = decompress(stored, header.rawLength)
    if (body.length !== header.rawLength) throw new BatchError(`batch body: ${body.length} bytes, header says ${header.rawLength}`)
    return body
  } catch (error) {
    if (error instanceof BatchError) throw error
    throw new BatchError(`batch body: ${(error as Error).message}`)
  }
}

/**
 * Calls `visit` for every record of a batch of kind `records`, in order. The payload is a view of the decoded body.
 * `correctionMs` is added to every timestamp. Throws BatchError.
 */
export function forEachRecord(batch: Buffer, header: BatchHeader, visit: (offset: number, timestampMs: number,
  topic: { readonly topic: string, readonly device: string }, payload: Buffer) => void, correctionMs = 0): void {
  const body = readBatchBody(batch, header)
  const topics: { topic: string, device: string }[] = []
  const reader = new VarintReader(body, 0, body.length)
  const baseMs = header.wallMs + correctionMs
  let offset = header.base
  while (reader.at < body.length) {
    const tag = reader.next()
    const length = reader.next()
    const end = reader.at + length
    if (!reader.ok || end > body.length) throw new BatchError('batch body: truncated')
    if (tag === 0x0a) {
      const fields = readFields(body, reader.at, end)
      topics.push({ topic: fields.text1, device: fields.text2 })
    } else if (tag === 0x12) {
      let topicIndex = 0
      let delta = 0
      let payloadStart = end
      let payloadEnd = end
      while (reader.at < end) {
        const field = reader.next()
        const value = reader.next()
        if (field === 0x08) topicIndex = value
        else if (field === 0x10) delta = value
        else if (field === 0x1a) {
          payloadStart = reader.at
          payloadEnd = payloadStart + value
          reader.at = payloadEnd
        } else throw new BatchError(`batch body: record field ${field}`)
      }
      const topic = topics[topicIndex]
      if (!reader.ok || payloadEnd > end || topic === undefined) throw new BatchError('batch body: malformed record')
      visit(offset++, baseMs + delta, topic, body.subarray(payloadStart, payloadEnd))
    } else throw new BatchError(`batch body: field ${tag}`)
    reader.at = end
  }
  if (offset !== batchNext(header)) throw new BatchError(`batch body: ${offset - header.base} records, header says ${header.count}`)
}

/** All records of a batch; for callers that are not on a hot path. */
export function readRecords(batch: Buffer, header: BatchHeader, correctionMs = 0): BatchRecord[] {
  const records: BatchRecord[] = []
  forEachRecord(batch, header, (offset, timestampMs, topic, payload) => {
    records.push({ offset, timestampMs, device: topic.device, topic: topic.topic, payload })
  }, correctionMs)
  return records
}

/** The body of a batch of kind `gap`; its reason may be one that this release does not write. Throws BatchError. */
export function readGap(batch: Buffer, header: BatchHeader): GapBody {
  if (header.kind !== 'gap') throw new BatchError('not a gap')
  const body = readBatchBody(batch, header)
  const fields = readFields(body, 0, body.length)
  if (!gapReasonPattern.test(fields.text1)) throw new BatchError(`gap reason "${fields.text1.slice(0, 64)}"`)
  return { reason: fields.text1 as GapReason, records: fields.number2 }
}

function readFields(body: Buffer, at: number, end: number): { text1: string, text2: string, number2: number } {
  const out = { text1: '', text2: '', number2: 0 }
  const reader = new VarintReader(body, at, end)
  while (reader.at < end) {
    const tag = reader.next()
    const value = reader.next()
    if (!reader.ok) throw new BatchError('batch body: truncated')
    if (tag === 0x10) { out.number2 = value; continue }
    const textEnd = reader.at + value
    if ((tag !== 0x0a && tag !== 0x12) || textEnd > end) throw new BatchError(`batch body: field ${tag}`)
    const text = body.toString('utf8', reader.at, textEnd)
    if (tag === 0x0a) out.text1 = text
    else out.text2 = text
    reader.at = textEnd
  }
  return out
}

export function writeUint64(target: Buffer, at: number, value: number): void {
  target.writeUInt32BE(Math.floor(value / 0x1_0000_0000), at)
  target.writeUInt32BE(value % 0x1_0000_0000, at + 4)
}

/** Reads 64 bits; a value above 2^53 loses precision and so fails the safe-integer checks of callers. */
export function readUint64(bytes: Buffer, at: number): number {
  return bytes.readUInt32BE(at) * 0x1_0000_0000 + bytes.readUInt32BE(at + 4)
}
