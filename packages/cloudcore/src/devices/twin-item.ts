import { decodeTwin } from '@holdfast/device-twin'
import type { Twin } from '@holdfast/device-twin'
import type { ObjectPlace } from '../kube/kube-client.ts'
import { groupVersion, kubeKinds } from '../kube/kube-kinds.ts'
import { isObject, namespacedPlace, readDocument } from '../state/status-document.ts'
import { deviceLimits } from './limits.ts'

/** What a node says of one device (TWN-30). */
export interface TwinItem {
  readonly device: ObjectPlace & { readonly namespace: string }
  readonly uid: string
  readonly twin: Twin
  /** What keeps the device from being served (TWN-41); '': nothing. Undefined: that is not known. */
  readonly trouble: string | undefined
}

/** Reads an item of the collection `twins`; a text says why it is none. */
export function readTwinItem(key: string, value: Buffer): TwinItem | string {
  const device = namespacedPlace(kubeKinds.devices, key)
  if (device === undefined) return 'its key names no Device'
  if (value.length > deviceLimits.itemBytes.value) return `${value.length} bytes, more than ${deviceLimits.itemBytes.value}`
  const document = readDocument(value)
  if (typeof document === 'string') return document
  const { apiVersion, kind, metadata, twin, trouble } = document
  if (apiVersion !== groupVersion(kubeKinds.devices) || kind !== 'Device') return 'not a Device'
  if (!isObject(metadata) || metadata['name'] !== device.name || metadata['namespace'] !== device.namespace) {
    return 'its metadata names another object'
  }
  const { uid } = metadata
  if (typeof uid !== 'string' || uid === '' || uid.length > 64) return 'without the uid of its Device'
  const decoded = decodeTwin(twin)
  if (decoded === undefined) return 'its twin is none'
  const text = typeof trouble === 'string'
    ? trouble.slice(0, deviceLimits.troubleLength.value).replace(/\p{Cc}/gu, ' ').toWellFormed() : undefined
  return { device, uid, twin: decoded, trouble: text }
}
