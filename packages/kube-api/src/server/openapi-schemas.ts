import { kindTypes } from '../kinds/kind-types.ts'
import type { JsonObject } from '../object.ts'
import type { ServedResource } from '../registry.ts'

const scalars: Readonly<Record<string, JsonObject>> = {
  'string': { type: 'string' },
  'int32': { type: 'integer', format: 'int32' },
  'int64': { type: 'integer', format: 'int64' },
  'number': { type: 'number', format: 'double' },
  'boolean': { type: 'boolean' },
  'date-time': { type: 'string', format: 'date-time' },
  'micro-time': { type: 'string', format: 'date-time' },
  'bytes': { type: 'string', format: 'byte' },
  'quantity': { oneOf: [{ type: 'string' }, { type: 'number' }] },
  'int-or-string': { oneOf: [{ type: 'integer' }, { type: 'string' }], format: 'int-or-string' },
  'any': { type: 'object' }
}

/** `com.example.v1.Widget`: the group's name turned round, as kube-apiserver names schemas. */
export function schemaName(group: string, version: string, kind: string): string {
  const prefix = group === '' ? 'io.k8s.api.core'
    : group.endsWith('.k8s.io') ? `io.k8s.api.${group.slice(0, group.indexOf('.'))}`
      : group.split('.').toReversed().join('.')
  return `${prefix}.${version}.${kind}`
}

/** The schemas of these resources' kinds, and of every type that built-in kinds are made of. */
export function schemasOf(served: readonly ServedResource[]): Record<string, JsonObject> {
  const schemas: Record<string, JsonObject> = {}
  for (const { resource: { group, version, kind, listKind }, openApiSchema } of served) {
    const name = schemaName(group, version, kind)
    schemas[name] = {
      ...openApiSchema ?? builtInSchema(kind, schemas),
      'x-kubernetes-group-version-kind': [{ group, version, kind }]
    }
    schemas[schemaName(group, version, listKind)] = {
      type: 'object',
      required: ['items'],
      properties: {
        apiVersion: { type: 'string' },
        kind: { type: 'string' },
        metadata: { type: 'object' },
        items: { type: 'array', items: reference(name) }
      },
      'x-kubernetes-group-version-kind': [{ group, version, kind: listKind }]
    }
  }
  return schemas
}

const reference = (name: string): JsonObject => ({ $ref: `#/components/schemas/${name}` })

const typeName = (type: string): string => `io.k8s.api.core.v1.types.${type}`

function builtInSchema(kind: string, schemas: Record<string, JsonObject>): JsonObject {
  const members = kindTypes[kind]
  if (members === undefined) return { type: 'object', 'x-kubernetes-preserve-unknown-fields': true }
  return {
    type: 'object',
    properties: Object.fromEntries(Object.entries(members).map(([name, type]) => [name, memberSchema(type, schemas)]))
  }
}

function memberSchema(text: string, schemas: Record<string, JsonObject>): JsonObject {
  const type = text.replace('?', '')
  if (type.startsWith('[]')) return { type: 'array', items: memberSchema(type.slice(2), schemas) }
  if (type.startsWith('{}')) return { type: 'object', additionalProperties: memberSchema(type.slice(2), schemas) }
  const scalar = scalars[type]
  if (scalar !== undefined) return scalar
  const name = typeName(type)
  if (schemas[name] === undefined) {
    // Entered before its members, which may name it again.
    schemas[name] = {}
    schemas[name] = builtInSchema(type, schemas)
  }
  return reference(name)
}
