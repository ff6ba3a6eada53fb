import { crc32 } from 'node:zlib'
import { epochReasons, laneNamePattern, parseEpoch, readUint64, writeUint64 } from '@holdfast/protos'
import type { Epoch, EpochReason } from '@holdfast/protos'
import { tables } from './tables.ts'

/**
 * Keys and small values of the outbox (docs/storage.md). Batches are stored as they are; they carry a format version
 * and
 * CRCs of their own. Small values end with a CRC-32 over key and value: what a store gives back is not believed unseen.
 */
const format = 1

/** Where an epoch begins on its lane's line of offsets. */
export interface EpochEntry {
  readonly start: number
  readonly epoch: Epoch
  readonly predecessor: Epoch | undefined
  readonly reason: EpochReason
}

export interface AckedEntry {
  /** The cloud durably holds everything below. */
  readonly acked: number
  /** Nothing below is stored: where a scan may begin without wading through deleted keys. */
  readonly first: number
  /** Acknowledged records given up, ever. */
  readonly dropped: number
}

/** Key of a per-lane entry. */
export function laneKey(table: number, lane: number): Buffer {
  const key = Buffer.allocUnsafeSlow(3)
  key[0] = table
  key.writeUInt16BE(lane, 1)
  return key
}

/** Key of a per-offset entry of a lane. */
export function offsetKey(table: number, lane: number, offset: number): Buffer {
  const key = Buffer.allocUnsafeSlow(11)
  key[0] = table
  key.writeUInt16BE(lane, 1)
  writeUint64(key, 3, offset)
  return key
}

export function offsetOfKey(key: Buffer): number { return readUint64(key, 3) }

/** Behind every key of a lane in `table`. */
export function laneEnd(table: number, lane: number): Buffer {
  return lane < 0xffff ? laneKey(table, lane + 1) : tableEnd(table)
}

/** Behind every key of `table`. */
export function tableEnd(table: number): Buffer { return Buffer.from([table + 1]) }

export function encodeLane(key: Buffer, name: string): Buffer {
  return sealed(key, Buffer.concat([Buffer.from([format]), Buffer.from(name)]))
}

/** The lane's name stands here too: it is what the cloud knows the lane by. */
export function encodeEpoch(key: Buffer, entry: EpochEntry, lane: string): Buffer {
  const value = Buffer.alloc(18)
  value[0] = format
  value[1] = epochReasons.indexOf(entry.reason)
  value.write(entry.epoch, 2, 8, 'hex')
  if (entry.predecessor !== undefined) value.write(entry.predecessor, 10, 8, 'hex')
  return sealed(key, Buffer.concat([value, Buffer.from(lane)]))
}

export function encodeAcked(key: Buffer, entry: AckedEntry): Buffer {
  const value = Buffer.alloc(25)
  value[0] = format
  writeUint64(value, 1, entry.acked)
  writeUint64(value, 9, entry.first)
  writeUint64(value, 17, entry.dropped)
  return sealed(key, value)
}

/** The decoders give undefined for what is damaged or of another format. */
export function decodeLane(key: Buffer, sealedValue: Buffer): string | undefined {
  const value = opened(key, sealedValue)
  const name = value?.toString('utf8', 1) ?? ''
  return key.length === 3 && laneNamePattern.test(name) ? name : undefined
}

export function decodeEpoch(key: Buffer, sealedValue: Buffer): (EpochEntry & { readonly lane: string }) | undefined {
  const value = opened(key, sealedValue)
  const reason = epochReasons[value?.[1] ?? -1]
  if (value === undefined || key.length !== 11 || value.length < 18 || reason === undefined) return undefined
  const predecessor = value.toString('hex', 10, 18)
  return {
    start: offsetOfKey(key),
    epoch: parseEpoch(value.toString('hex', 2, 10))!,
    predecessor: predecessor === '0000000000000000' ? undefined : parseEpoch(predecessor),
    reason,
    lane: value.toString('utf8', 18)
  }
}

export function decodeAcked(key: Buffer, sealedValue: Buffer): AckedEntry | undefined {
  const value = opened(key, sealedValue)
  if (value?.length !== 25) return undefined
  const entry = { acked: readUint64(value, 1), first: readUint64(value, 9), dropped: readUint64(value, 17) }
  return entry.first <= entry.acked && Number.isSafeInteger(entry.acked) && Number.isSafeInteger(entry.dropped) ?
    entry : undefined
}

function sealed(key: Buffer, value: Buffer): Buffer {
  const out = Buffer.alloc(value.length + 4)
  value.copy(out)
  out.writeUInt32BE(crc32(value, crc32(key)), value.length)
  return out
}

/** The value without its CRC. */
function opened(key: Buffer, sealedValue: Buffer): Buffer | undefined {
  if (sealedValue.length < 5 || sealedValue[0] !== format) return undefined
  const value = sealedValue.subarray(0, -4)
  return sealedValue.readUInt32BE(value.length) === crc32(value, crc32(key)) ? value : undefined
}

/** True for the tables that the outbox keeps. */
export function isOutboxKey(key: Buffer): boolean {
  const table = key[0]
  return table === tables.outboxLane || table === tables.outboxEpoch || table === tables.outboxBatch ||
    table === tables.outboxAcked
}
