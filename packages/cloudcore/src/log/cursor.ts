import { cursorAt } from '@holdfast/protos'

/** A place in the log: `index` items of entry `seq` have been read (docs/spec/log.md, LOG-32). */
export interface CursorPlace {
  readonly seq: number
  /** `cursorIndexEnd`: all of the entry. */
  readonly index: number
  /** Header CRC of the batch at `seq`; 0: unknown, nothing to compare. */
  readonly crc: number
}

const prefixBytes = 18
const cursorPattern = /^[A-Za-z0-9_-]{28}$/

/** The part of a cursor that is the same for all records of an entry: 24 characters. */
export function cursorPrefix(logTag: Buffer, seq: number, crc: number): string {
  const bytes = Buffer.allocUnsafe(prefixBytes)
  logTag.copy(bytes, 0, 0, 8)
  bytes.writeUIntBE(seq, 8, 6)
  bytes.writeUInt32BE(crc, 14)
  return bytes.toString('base64url')
}

export function encodeCursor(logTag: Buffer, place: CursorPlace): string {
  return cursorAt(cursorPrefix(logTag, place.seq, place.crc), place.index)
}

/** Undefined where the text is no cursor at all; `foreign` where it is one of another log. */
export function decodeCursor(logTag: Buffer, text: string): CursorPlace | 'foreign' | undefined {
  if (!cursorPattern.test(text)) return undefined
  const bytes = Buffer.from(text, 'base64url')
  if (bytes.compare(logTag, 0, 8, 0, 8) !== 0) return 'foreign'
  return { seq: bytes.readUIntBE(8, 6), crc: bytes.readUInt32BE(14), index: bytes.readUIntBE(18, 3) }
}

/** The first eight bytes of a log's id. */
export function logTag(logId: string): Buffer { return Buffer.from(logId.replaceAll('-', ''), 'hex').subarray(0, 8) }
