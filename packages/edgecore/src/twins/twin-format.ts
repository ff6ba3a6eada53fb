import { decodeTwin, encodeTwin } from '@holdfast/device-twin'
import type { Json, Twin } from '@holdfast/device-twin'
import { HoldfastError } from '@holdfast/runtime'
import { tables } from '@holdfast/store'
import { sealValue, unsealValue } from '../sealed-value.ts'
import { parseDeviceId } from './device-twins.ts'
import type { DeviceId } from './device-twins.ts'

/** Key and value of a twin on disk (docs/storage.md). The value ends with a CRC-32 over key and value, in every format. */
const format = 1

/** A twin as it is stored: of the device that has this uid. */
export interface StoredTwin {
  readonly uid: string
  readonly twin: Twin
}

export const twinRange = { gte: Buffer.from([tables.twin]), lt: Buffer.from([tables.twin + 1]) } as const

export function twinKey(id: DeviceId): Buffer { return Buffer.concat([Buffer.from([tables.twin]), Buffer.from(id)]) }

/**
 * Stands beside the twins while some wait for Devices that may merely be lost here: a start by itself does not show that. No twin
 * has this key.
 */
export const waitingKey = Buffer.from([tables.twin, 0])

/** Undefined where the key is damaged. */
export function idOfTwinKey(key: Buffer): DeviceId | undefined { return parseDeviceId(key.toString('utf8', 1)) }

/** Format, length of the uid u8, uid, JSON of the twin, CRC-32. */
export function encodeStoredTwin(key: Buffer, { uid, twin }: StoredTwin): Buffer {
  const uidBytes = Buffer.from(uid)
  return sealValue(key, Buffer.from([format, uidBytes.length]), uidBytes, Buffer.from(JSON.stringify(encodeTwin(twin))))
}

/** Undefined where key or value are damaged. Throws `TWINS_NEWER`. */
export function decodeStoredTwin(key: Buffer, stored: Buffer): StoredTwin | undefined {
  const body = unsealValue(key, stored)
  if (body === undefined) return undefined
  if (body[0]! > format) {
    throw new HoldfastError('TWINS_NEWER', `the twins on this node were written by a newer release, in format ${body[0]}; `
      + `this one reads up to ${format}: install that release again, or move the data directory's db folder away`)
  }
  const start = 2 + (body[1] ?? 0)
  if (body.length <= start) return undefined
  const twin = decodeTwin(parseJson(body.toString('utf8', start)))
  return twin === undefined ? undefined : { uid: body.toString('utf8', 2, start), twin }
}

/** What goes up of a device. */
export interface UpTwin extends StoredTwin {
  /** What keeps the device from being served (TWN-41); '': nothing. Undefined: that is not known. */
  readonly trouble: string | undefined
}

/** The item of a device that goes up (TWN-30): text of what `decodeUpTwin` reads. */
export function encodeUpTwin(id: DeviceId, { uid, twin, trouble }: UpTwin): Buffer {
  const [namespace, name] = id.split('/')
  const text = JSON.stringify({
    apiVersion: 'devices.kubeedge.io/v1beta1', kind: 'Device', metadata: { namespace, name, uid }, twin: encodeTwin(twin),
    ...trouble !== undefined && { trouble }
  })
  // Memory of its own: it stays, and a small buffer would keep the slab that it shares.
  const bytes = Buffer.allocUnsafeSlow(Buffer.byteLength(text))
  bytes.write(text)
  return bytes
}

/** Undefined where it is none. */
export function decodeUpTwin(value: Buffer): UpTwin | undefined {
  const item = parseJson(value.toString())
  if (!isObject(item) || !isObject(item['metadata']) || item['twin'] === undefined) return undefined
  const { uid } = item['metadata']
  const twin = decodeTwin(item['twin'])
  const trouble = typeof item['trouble'] === 'string' ? item['trouble'] : undefined
  return typeof uid === 'string' && twin !== undefined ? { uid, twin, trouble } : undefined
}

function parseJson(text: string): Json {
  try {
    return JSON.parse(text) as Json
  } catch {
    return null
  }
}

function isObject(value: Json | undefined): value is { readonly [member: string]: Json } {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
