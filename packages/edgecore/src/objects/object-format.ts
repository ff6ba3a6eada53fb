import { HoldfastError } from '@holdfast/runtime'
import { tables } from '@holdfast/store'
import { sealValue, unsealValue } from '../sealed-value.ts'

/**
 * Keys and values of the node's objects (docs/storage.md). Values begin with a format version and end with a CRC-32 over key
 * and value, in every format: what a store gives back is not believed unseen. All decoders throw `OBJECTS_NEWER`.
 */
const format = 1

/** An item of a collection, as it is stored. */
export interface StoredItem {
  /** Of the commit that wrote it. */
  readonly sequence: number
  readonly version: Buffer
  readonly value: Buffer
}

type ItemTable = typeof tables.objectDown | typeof tables.objectUp

/** Table, length of the collection's name, name, key of the item. */
export function itemKey(table: ItemTable, collection: string, key: string): Buffer {
  const out = Buffer.allocUnsafeSlow(2 + Buffer.byteLength(collection) + Buffer.byteLength(key))
  out[0] = table
  out[1] = Buffer.byteLength(collection)
  out.write(key, 2 + out.write(collection, 2))
  return out
}

/** The first possible key of a collection, and the end of it. */
export function collectionRange(table: ItemTable, collection: string): { readonly gte: Buffer, readonly lt: Buffer } {
  const gte = itemKey(table, collection, '')
  const lt = Buffer.concat([gte, Buffer.from([0xff])])
  return { gte, lt }
}

/** First key of a table, and the end of it. */
export function objectTableRange(table: number): { readonly gte: Buffer, readonly lt: Buffer } {
  return { gte: Buffer.from([table]), lt: Buffer.from([table + 1]) }
}

/** Undefined where the key is damaged. */
export function readItemKey(stored: Buffer): { readonly collection: string, readonly key: string } | undefined {
  const end = 2 + (stored[1] ?? 0)
  return stored.length > end ? { collection: stored.toString('utf8', 2, end), key: stored.toString('utf8', end) } : undefined
}

/** Format, sequence u64, length of the version u8, version, value, CRC-32. */
export function encodeItem(key: Buffer, { sequence, version, value }: StoredItem): Buffer {
  const head = Buffer.allocUnsafe(10)
  head[0] = format
  head.writeBigUInt64BE(BigInt(sequence), 1)
  head[9] = version.length
  return sealValue(key, head, version, value)
}

/** Undefined where key or value are damaged. Version and value are views. */
export function decodeItem(key: Buffer, stored: Buffer): StoredItem | undefined {
  const body = opened(key, stored)
  if (body === undefined || body.length < 10) return undefined
  const valueStart = 10 + body[9]!
  const sequence = Number(body.readBigUInt64BE(1))
  if (valueStart > body.length || !Number.isSafeInteger(sequence)) return undefined
  return { sequence, version: body.subarray(10, valueStart), value: body.subarray(valueStart) }
}

export const headKey: Buffer = Buffer.from([tables.objectHead])

/** Format, highest sequence given out u64, CRC-32. */
export function encodeHead(sequence: number): Buffer {
  const body = Buffer.alloc(9)
  body[0] = format
  body.writeBigUInt64BE(BigInt(sequence), 1)
  return sealValue(headKey, body)
}

export function decodeHead(stored: Buffer): number | undefined {
  const body = opened(headKey, stored)
  if (body?.length !== 9) return undefined
  const sequence = Number(body.readBigUInt64BE(1))
  return Number.isSafeInteger(sequence) ? sequence : undefined
}

/** Key of a small entry that is found by a name. */
export function nameKey(table: typeof tables.objectPosition | typeof tables.objectNamespace, name: string): Buffer {
  return Buffer.concat([Buffer.from([table]), Buffer.from(name)])
}

export function nameOfKey(key: Buffer): string { return key.toString('utf8', 1) }

/** Format, text, CRC-32. */
export function encodeText(key: Buffer, text: string): Buffer {
  return sealValue(key, Buffer.from([format]), Buffer.from(text))
}

export function decodeText(key: Buffer, stored: Buffer): string | undefined {
  return opened(key, stored)?.toString('utf8', 1)
}

/** The value without its CRC; undefined where that does not hold. Throws `OBJECTS_NEWER`. */
function opened(key: Buffer, stored: Buffer): Buffer | undefined {
  const body = unsealValue(key, stored)
  if (body !== undefined && body[0]! > format) {
    throw new HoldfastError('OBJECTS_NEWER', `the objects on this node were written by a newer release, in format ${body[0]}; `
      + `this one reads up to ${format}: install that release again, or move the data directory's db folder away`)
  }
  return body
}

/** True for the tables that ObjectTable keeps. */
export function isObjectKey(key: Buffer): boolean {
  const table = key[0]
  return table !== undefined && table >= tables.objectHead && table <= tables.objectNamespace
}
