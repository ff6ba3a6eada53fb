import type { Json, JsonObject, KubeObject } from '../object.ts'
import type { Resource } from '../resource.ts'
import { badRequest } from './refusals.ts'

/** What the rows of a Table carry of the object: `includeObject` of the query. */
export type IncludedObject = 'None' | 'Metadata' | 'Object'

export function parseIncludedObject(query: URLSearchParams): IncludedObject {
  const value = query.get('includeObject') ?? ''
  if (value === '') return 'Metadata'
  if (value === 'None' || value === 'Metadata' || value === 'Object') return value
  throw badRequest(`unrecognized includeObject value: ${JSON.stringify(value)}`)
}

export function columnDefinitions(resource: Resource): JsonObject[] {
  return resource.columns.map(({ name, type, format, description, priority }) =>
    ({ name, type, format, description, priority }))
}

/** meta.k8s.io/v1 Table. `columns` is null in every event of a watch but the first. */
export function table(metadata: JsonObject, columns: JsonObject[] | null, rows: JsonObject[]): JsonObject {
  return { ...tableHead(metadata, columns), rows }
}

/** A Table but for its rows. */
export function tableHead(metadata: JsonObject, columns: JsonObject[] | null): JsonObject {
  return { kind: 'Table', apiVersion: 'meta.k8s.io/v1', metadata, columnDefinitions: columns }
}

export function tableRow(resource: Resource, object: KubeObject, included: IncludedObject, nowMs: number): JsonObject {
  return {
    cells: resource.cells(object, nowMs),
    ...included === 'Metadata' && { object: partialMetadata(object) },
    ...included === 'Object' && { object: object as unknown as Json }
  }
}

export function partialMetadata(object: KubeObject): JsonObject {
  return {
    kind: 'PartialObjectMetadata',
    apiVersion: 'meta.k8s.io/v1',
    metadata: object.metadata as unknown as Json
  }
}
