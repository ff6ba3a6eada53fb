import type { Json, JsonObject, KubeObject } from '../../object.ts'
import type { Resource, Subresource } from '../../resource.ts'
import { parseTimestamp } from '../timestamps.ts'

/** The moment at which tests look at tables. */
export const nowMs = parseTimestamp('2026-11-21T11:05:00Z')!.secondsMs

/** An object as it is stored after a create: decoded, prepared, and with what the server adds. */
export function created(resource: Resource, document: Json): KubeObject {
  const { object } = resource.decode(document, 'Strict')
  if (resource.namespaced) object.metadata.namespace ??= 'n'
  object.metadata.uid = 'u'
  object.metadata.creationTimestamp = '2026-11-21T11:00:00Z'
  resource.prepareForCreate(object)
  object.metadata.resourceVersion = '1'
  return object
}

/** What an update of `current` by `document` becomes; metadata is that of `current` with what `document` says of it. */
export function updated(resource: Resource, current: KubeObject, document: JsonObject, subresource?: Subresource): KubeObject {
  const metadata = { ...current.metadata as JsonObject, ...document['metadata'] as JsonObject | undefined }
  const { object } = resource.decode({ ...document, metadata }, 'Strict')
  resource.prepareForUpdate(object, current, subresource)
  return object
}

/** `field reason` of what is wrong with a new object. */
export function createFaults(resource: Resource, document: Json): string[] {
  return resource.validate(created(resource, document), undefined).map(({ field, reason }) => `${field} ${reason}`)
}

/** The same for an update. */
export function updateFaults(resource: Resource, current: KubeObject, document: JsonObject, subresource?: Subresource): string[] {
  return resource.validate(updated(resource, current, document, subresource), current).map(({ field, reason }) => `${field} ${reason}`)
}

/** Cells by the names of their columns. */
export function row(resource: Resource, object: KubeObject): Record<string, Json> {
  const cells = resource.cells(object, nowMs)
  return Object.fromEntries(resource.columns.map(({ name }, i) => [name, cells[i]!]))
}
