import { crc32 } from 'node:zlib'
import { batchHeaderBytes, readUint64, writeUint64 } from '@holdfast/protos'
import { tables } from '@holdfast/store'

/** What stands before the batch in the value of a log entry (docs/spec/log.md, LOG-21). */
export interface EntryHeader {
  /** The entry's own sequence number: a damaged key does not move it. */
  readonly seq: number
  readonly nodeId: number
  readonly streamId: number
  /** The gap fills offsets below the stream's next one: it stands for a damaged entry and moves no watermark. */
  readonly repair: boolean
  readonly receivedAtMs: number
  readonly correctionMs: number
}

export const entryHeaderBytes = 40
const entryFormat = 1

/** Header and batch in memory of their own. */
export function encodeEntry(entry: EntryHeader, batch: Buffer): Buffer {
  const out = Buffer.allocUnsafeSlow(entryHeaderBytes + batch.length)
  out[0] = entryFormat
  out[1] = entry.repair ? 1 : 0
  out.writeUInt16BE(0, 2)
  out.writeUInt32BE(entry.nodeId, 4)
  out.writeUInt32BE(entry.streamId, 8)
  writeUint64(out, 12, Math.max(0, Math.floor(entry.receivedAtMs)))
  out.writeDoubleBE(entry.correctionMs, 20)
  writeUint64(out, 28, entry.seq)
  out.writeUInt32BE(crc32(out.subarray(0, 36)), 36)
  batch.copy(out, entryHeaderBytes)
  return out
}

/** Undefined where the header is damaged, of a newer format, or of another entry. */
export function decodeEntry(seq: number, value: Buffer): EntryHeader | undefined {
  if (value.length < entryHeaderBytes || value[0] !== entryFormat) return undefined
  if (crc32(value.subarray(0, 36)) !== value.readUInt32BE(36) || readUint64(value, 28) !== seq) return undefined
  return {
    seq,
    nodeId: value.readUInt32BE(4),
    streamId: value.readUInt32BE(8),
    repair: value[1] === 1,
    receivedAtMs: readUint64(value, 12),
    correctionMs: value.readDoubleBE(20)
  }
}

export function entryBatch(value: Buffer): Buffer { return value.subarray(entryHeaderBytes) }

/** CRC of the batch header in an entry's value. */
export function entryCrc(value: Buffer): number {
  return value.length < entryHeaderBytes + batchHeaderBytes ? 0 : value.readUInt32BE(entryHeaderBytes + batchHeaderBytes - 4)
}

export function entryKey(seq: number): Buffer {
  const key = Buffer.allocUnsafe(9)
  key[0] = tables.cloudEntry
  writeUint64(key, 1, seq)
  return key
}

export function entrySeq(key: Buffer): number { return readUint64(key, 1) }

export function nodeKey(id: number): Buffer { return smallKey(tables.cloudNode, id) }
export function streamKey(id: number): Buffer { return smallKey(tables.cloudStream, id) }

/** Index row of one node in the segment that begins at `first`; node 0 is the segment itself. */
export function indexKey(nodeId: number, first: number): Buffer {
  const key = Buffer.allocUnsafe(13)
  key[0] = tables.cloudNodeIndex
  key.writeUInt32BE(nodeId, 1)
  writeUint64(key, 5, first)
  return key
}

export function indexFirst(key: Buffer): number { return readUint64(key, 5) }

export const metaKey = Buffer.concat([Buffer.from([tables.meta]), Buffer.from('cloud-log')])

/** The range of a whole table. */
export function tableRange(table: number): { readonly gte: Buffer, readonly lt: Buffer } {
  return { gte: Buffer.from([table]), lt: Buffer.from([table + 1]) }
}

function smallKey(table: number, id: number): Buffer {
  const key = Buffer.allocUnsafe(5)
  key[0] = table
  key.writeUInt32BE(id, 1)
  return key
}

const rowFormat = 1

/** A row that is not on a hot path: format version, CRC-32, JSON. */
export function encodeRow(row: object): Buffer {
  const json = Buffer.from(JSON.stringify(row))
  const out = Buffer.allocUnsafeSlow(5 + json.length)
  out[0] = rowFormat
  out.writeUInt32BE(crc32(json), 1)
  json.copy(out, 5)
  return out
}

/** Undefined where the row is damaged. The CRC covers it, so its shape is what was written. */
export function decodeRow<Row extends object>(value: Buffer): Row | undefined {
  if (value.length < 5 || value[0] !== rowFormat) return undefined
  const json = value.subarray(5)
  if (crc32(json) !== value.readUInt32BE(1)) return undefined
  return JSON.parse(json.toString()) as Row
}
