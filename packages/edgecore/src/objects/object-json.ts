import type { KubeObject } from '@holdfast/kube-api'
import { objectKinds } from './collections.ts'

/** A value that has passed `itemRefusal`. */
export function parseObject(value: Buffer): KubeObject { return JSON.parse(value.toString()) as KubeObject }

/**
 * Bytes of a text in memory of their own. Small buffers share slabs of 64 KiB: one that stays would keep a slab whose other
 * users are gone.
 */
export function ownBytes(text: string): Buffer {
  const bytes = Buffer.allocUnsafeSlow(Buffer.byteLength(text))
  bytes.write(text)
  return bytes
}

/** Why an item of a down collection is not an object that can be served; undefined: it is one. */
export function itemRefusal(collection: string, key: string, value: Buffer): string | undefined {
  let object: unknown
  try {
    object = JSON.parse(value.toString())
  } catch {
    return 'the value is not JSON'
  }
  if (!isRecord(object) || !isRecord(object.metadata)) return 'the value is not an object with metadata'
  const expected = objectKinds[collection]
  if (expected === undefined || object.apiVersion !== expected.apiVersion || object.kind !== expected.kind) {
    return `expected kind ${expected?.kind} of ${expected?.apiVersion}, got ${JSON.stringify(object.kind)} of `
      + JSON.stringify(object.apiVersion)
  }
  const { name, namespace, uid, labels } = object.metadata
  const named = typeof name !== 'string' ? '' : typeof namespace === 'string' ? `${namespace}/${name}` : name
  if (named !== key) return `the object is ${JSON.stringify(named)}`
  if ((collection === 'nodes') !== (namespace === undefined)) return 'the namespace does not fit the kind'
  if (typeof uid !== 'string') return 'the object has no uid'
  const labelled = labels === undefined || isRecord(labels) && Object.values(labels).every(label => typeof label === 'string')
  return labelled ? undefined : 'the labels are not text'
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
