import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { deviceDefinitions } from '../../packages/cloudcore/src/kube/device-kinds.ts'
import { customResource } from '../../packages/kube-api/src/crd/custom-resource.ts'
import { specOf } from '../../packages/kube-api/src/crd/definition.ts'
import type { SchemaDocument } from '../../packages/kube-api/src/crd/structural-schema.ts'
import { created, settled } from '../../packages/kube-api/src/crd/testing/definitions.ts'
import { StatusError } from '../../packages/kube-api/src/index.ts'
import type { Json, JsonObject, KubeObject, Resource } from '../../packages/kube-api/src/index.ts'

const runs = { numRuns: Number(process.env['RUNS'] ?? 300), ...process.env['SEED'] !== undefined &&
  { seed: Number(process.env['SEED']) } }

const fixture = (name: string): Json => parse(readFileSync(join(import.meta.dirname, `../fixtures/kubeedge/${name}`), 'utf8')) as Json

const kubeEdge: Readonly<Record<string, Json>> = {
  Device: fixture('devices_v1beta1_device.yaml'),
  DeviceModel: fixture('devices_v1beta1_devicemodel.yaml'),
  DeviceStatus: fixture('devices_v1beta1_devicestatus.yaml')
}
const kinds = Object.keys(kubeEdge)

const ownOf = (kind: string): KubeObject => deviceDefinitions.find(({ metadata }) => metadata.name === nameOf(kubeEdge[kind]!))!
const nameOf = (document: Json): string => (document as JsonObject)['metadata']!['name' as never]

/** A definition as a server has it once it is established; it has to be right. */
function established(document: Json): KubeObject {
  const { definition, causes, warnings } = created(structuredClone(document))
  expect([causes, warnings]).toEqual([[], []])
  return settled(definition)
}

function resourceOf(definition: KubeObject, name: string): Resource {
  return customResource(definition, specOf(definition).versions!.find(version => version.name === name)!)
}

/** The object as it would be stored; undefined where it is refused. */
function taken(resource: Resource, document: Json): KubeObject | undefined {
  try {
    const { object } = resource.decode(structuredClone(document), 'Ignore')
    resource.prepareForCreate(object)
    return resource.validate(object, undefined).length === 0 ? object : undefined
  } catch (error) {
    if (error instanceof StatusError) return undefined
    throw error
  }
}

// ── documents by a schema, right and wrong ───────────────────────────────────────────────────────────────────────────

const anything = fc.jsonValue({ maxDepth: 2 }) as fc.Arbitrary<Json>

/** What the schema allows, most of the time. */
function byType(schema: SchemaDocument): fc.Arbitrary<Json> {
  const { type, enum: values, properties = {}, additionalProperties, items } = schema
  if (values !== undefined) return fc.constantFrom(...values)
  switch (type) {
    case 'string': return fc.oneof(fc.string(), fc.constantFrom('23', 'true', '', 'ON', '{"a":1}', 'ü ☃'))
    case 'integer': return fc.integer({ min: -5, max: 100_000 })
    case 'number': return fc.double({ noNaN: true, noDefaultInfinity: true }).map(number => number + 0)
    case 'boolean': return fc.boolean()
    case 'array': return fc.array(value(items as SchemaDocument), { maxLength: 3 })
    case 'object': {
      if (typeof additionalProperties === 'object') return fc.dictionary(fc.string(), value(additionalProperties), { maxKeys: 3 })
      const known = fc.record(Object.fromEntries(Object.entries(properties).map(([name, property]) => [name, value(property)])), {
        requiredKeys: [...schema.required ?? []]
      }) as fc.Arbitrary<JsonObject>
      // Members that the schema does not know; `conditions` is one that ours knows.
      const more = fc.dictionary(fc.constantFrom('conditions', 'zap', 'extra', 'spec', 'status'), anything, { maxKeys: 2 })
      return fc.oneof({ weight: 3, arbitrary: known }, { weight: 1, arbitrary: fc.tuple(known, more).map(([a, b]) => ({ ...b, ...a })) })
    }
    default: return anything
  }
}

const value = (schema: SchemaDocument): fc.Arbitrary<Json> => fc.oneof(
  { weight: 60, arbitrary: byType(schema) }, { weight: 1, arbitrary: anything }, { weight: 1, arbitrary: fc.constant(null) })

function documentsOf(kind: string, definition: KubeObject, version: string): fc.Arbitrary<Json> {
  const schema = specOf(definition).versions!.find(({ name }) => name === version)!.schema!.openAPIV3Schema!
  const { apiVersion: _a, kind: _k, metadata: _m, ...properties } = schema.properties ?? {}
  return byType({ ...schema, type: 'object', properties }).map(body => ({
    ...body as JsonObject, apiVersion: `devices.kubeedge.io/${version}`, kind, metadata: { name: 'd', namespace: 'default' }
  }))
}

describe.each(kinds)('%s', kind => {
  const theirs = established(kubeEdge[kind]!)
  const ours = established(ownOf(kind) as unknown as Json)

  test.each(['v1beta1', 'v1alpha2'])('of %s that KubeEdge takes is taken, and nothing of it that KubeEdge keeps is dropped', version => {
    const [their, our] = [resourceOf(theirs, version), resourceOf(ours, version)]
    let takenByBoth = 0
    fc.assert(fc.property(documentsOf(kind, theirs, version), document => {
      const expected = taken(their, document)
      if (expected === undefined) return
      takenByBoth++
      const object = taken(our, document)
      if (version === 'v1beta1') expect(object).toEqual(expected)
      else expect(object).toMatchObject(withoutEmpty(expected))
    }), runs)
    expect(takenByBoth).toBeGreaterThan(runs.numRuns / 5)
  })

  test('that KubeEdge refuses is refused in the version that is stored', () => {
    const [their, our] = [resourceOf(theirs, 'v1beta1'), resourceOf(ours, 'v1beta1')]
    fc.assert(fc.property(documentsOf(kind, theirs, 'v1beta1'), document => {
      if (taken(their, document) === undefined) expect(taken(our, document)).toBeUndefined()
    }), runs)
  })

  test('has its names, and what KubeEdge\'s versions have', () => {
    const [their, our] = [specOf(theirs), specOf(ours)]
    expect(our).toMatchObject({ group: their.group, scope: their.scope })
    expect(our.names).toMatchObject(their.names!)
    expect(our.versions!.map(({ name, served, storage, subresources }) => [name, served, storage, subresources]).toSorted())
      .toEqual(their.versions!.map(({ name, served, storage, subresources }) => [name, served, storage, subresources]).toSorted())
  })

  test('is explained, member by member', () => {
    const schema = specOf(ours).versions!.find(({ name }) => name === 'v1beta1')!.schema!.openAPIV3Schema!
    const { spec, status } = schema.properties!
    expect(schema.description).toBeDefined()
    for (const part of [spec, status]) if (part !== undefined) expect(unexplained(part)).toEqual([])
  })
})

/** Paths without a description. */
function unexplained({ description, properties = {}, items }: SchemaDocument, path = ''): string[] {
  return [
    ...description === undefined ? [path] : [],
    ...Object.entries(properties).flatMap(([name, schema]) => unexplained(schema, `${path}.${name}`)),
    ...(items as SchemaDocument | undefined)?.properties === undefined ? [] : unexplained(items as SchemaDocument, `${path}[]`)
  ]
}

/** What a default of KubeEdge's older version puts in is not missed. */
function withoutEmpty(object: KubeObject): JsonObject {
  return JSON.parse(JSON.stringify(object, (name, member: Json) => name === 'name' && member === '' ? undefined : member)) as JsonObject
}

describe('what is wrong is said so that a person can act on it', () => {
  const model = resourceOf(established(ownOf('DeviceModel') as unknown as Json), 'v1beta1')
  const device = resourceOf(established(ownOf('Device') as unknown as Json), 'v1beta1')
  const causes = (resource: Resource, kind: string, spec: JsonObject, name = 'd'): string[] => {
    const { object } = resource.decode({ apiVersion: 'devices.kubeedge.io/v1beta1', kind, metadata: { name, namespace: 'default' }, spec }, 'Ignore')
    resource.prepareForCreate(object)
    return resource.validate(object, undefined).map(({ field, message }) => `${field}: ${message}`)
  }

  test('types and access modes', () => {
    expect(causes(model, 'DeviceModel', { properties: [{ name: 't', type: 'int', accessMode: 'RW' }] })).toEqual([
      expect.stringMatching(/^spec\.properties\[0\]\.type: Unsupported value: "int": supported values: "INT", "FLOAT"/),
      expect.stringMatching(/^spec\.properties\[0\]\.accessMode: Unsupported value: "RW": supported values: "ReadWrite", "ReadOnly"/)
    ])
    expect(causes(model, 'DeviceModel', { properties: [{ name: 't', minimum: 0 }] })).toEqual([
      expect.stringMatching(/^spec\.properties\[0\]\.minimum: Invalid value: "integer": .* must be of type string/)
    ])
  })

  test('a desired value that is no text, or is missing; names', () => {
    expect(causes(device, 'Device', { properties: [{ name: 't', desired: { value: 23 } }, { name: 'u', desired: {} }] })).toEqual([
      expect.stringMatching(/^spec\.properties\[0\]\.desired\.value: Invalid value: "integer": .* must be of type string/),
      expect.stringMatching(/^spec\.properties\[1\]\.desired\.value: Required value/)
    ])
    expect(causes(device, 'Device', {}, 'Kitchen Lamp')).toEqual([expect.stringMatching(/^metadata\.name: Invalid value: "Kitchen Lamp": a lowercase/)])
  })
})
