import { crc32 } from 'node:zlib'
import { HoldfastError } from '@holdfast/runtime'
import { tables } from '@holdfast/store'
import type { KubeObject } from './object.ts'
import type { ObjectKey, StoredObject } from './object-store-types.ts'
import type { Resource } from './resource.ts'

/** First byte of every value; a release opens what older ones wrote. */
const formatVersion = 1
/** Format, CRC-32 of key and JSON, revision. */
const headBytes = 1 + 4 + 8

/** Place of an object among those of its resource: `default/settings`, `/node-1` where there is no namespace. */
export function pathOf({ namespace, name }: { readonly namespace: string, readonly name: string }): string {
  return `${namespace}/${name}`
}

/** Compares as the UTF-8 bytes of both texts would: UTF-16 code units differ from that above U+D7FF. */
export function compareUtf8(a: string, b: string): number {
  const length = Math.min(a.length, b.length)
  for (let i = 0; i < length; i++) {
    const [x, y] = [a.charCodeAt(i), b.charCodeAt(i)]
    if (x !== y) return rank(x) - rank(y)
  }
  return a.length - b.length
}

/** Surrogates stand for what lies above the other code units. */
const rank = (unit: number): number => unit < 0xd800 ? unit : unit < 0xe000 ? unit + 0x2000 : unit - 0x800

/** `<table><resource>/<namespace>/<name>`: the order of keys is that of resources and paths. */
export function diskKey(key: ObjectKey): Buffer {
  return Buffer.from(`${String.fromCharCode(tables.kubeObject)}${key.resource}/${pathOf(key)}`)
}

function parseDiskKey(key: Buffer): ObjectKey | undefined {
  const [resource, namespace, name, ...rest] = key.toString('utf8', 1).split('/')
  if (resource === undefined || namespace === undefined || name === undefined || rest.length > 0) return undefined
  return { resource, namespace, name }
}

/** Where the largest revision is kept that no object shows, because it was a deletion's. */
export const revisionKey = Buffer.from([tables.kubeRevision])

export const objectRange = { gte: Buffer.from([tables.kubeObject]), lt: Buffer.from([tables.kubeObject + 1]) }

/** Over key and value but for itself: the first five bytes mean the same in every format. */
const checksum = (key: Buffer, value: Buffer): number =>
  crc32(value.subarray(headBytes - 8), crc32(value.subarray(0, 1), crc32(key)))

/** True where the value is sound and of a format that is known. Throws HoldfastError `OBJECT_FORMAT_NEWER`. */
function isSound(key: Buffer, value: Buffer): boolean {
  if (value.length < headBytes || checksum(key, value) !== value.readUInt32BE(1)) return false
  const format = value[0]!
  if (format > formatVersion) {
    throw new HoldfastError('OBJECT_FORMAT_NEWER', `the objects were written by a newer release, in format ${format}; this one `
      + `reads up to ${formatVersion}: install that release again, or start with another data directory`)
  }
  return format === formatVersion
}

function writeHead(key: Buffer, value: Buffer, revision: number): void {
  value[0] = formatVersion
  value.writeBigUInt64BE(BigInt(revision), 5)
  value.writeUInt32BE(checksum(key, value), 1)
}

export function encodeRevision(revision: number): Buffer {
  const value = Buffer.alloc(headBytes)
  writeHead(revisionKey, value, revision)
  return value
}

/** Undefined where the bytes are damaged. Throws HoldfastError `OBJECT_FORMAT_NEWER`. */
export function decodeRevision(value: Buffer): number | undefined {
  return isSound(revisionKey, value) ? Number(value.readBigUInt64BE(5)) : undefined
}

/** What goes to the disk under `key`, and the stored form, whose `json` is part of it. */
export function encodeObject(
  place: ObjectKey, key: Buffer, revision: number, object: KubeObject, shownBy?: Resource
): [Buffer, StoredObject] {
  const text = JSON.stringify(object)
  const value = Buffer.allocUnsafeSlow(headBytes + Buffer.byteLength(text))
  value.write(text, headBytes)
  writeHead(key, value, revision)
  const { resource, namespace, name } = place
  return [value, { resource, namespace, name, revision, object, json: value.subarray(headBytes), shownBy }]
}

/** Undefined where the bytes are damaged. Throws HoldfastError `OBJECT_FORMAT_NEWER`. */
export function decodeObject(key: Buffer, value: Buffer): StoredObject | undefined {
  const place = parseDiskKey(key)
  if (place === undefined || !isSound(key, value)) return undefined
  const json = value.subarray(headBytes)
  return { ...place, revision: Number(value.readBigUInt64BE(5)), object: JSON.parse(json.toString()) as KubeObject, json }
}
