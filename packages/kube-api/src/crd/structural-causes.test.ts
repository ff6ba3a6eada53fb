import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { Json, JsonObject } from '../object.ts'
import { customResource } from './custom-resource.ts'
import { specOf } from './definition.ts'
import { crdLimits } from './limits.ts'
import { created, settled, updated, widgetDocument } from './testing/definitions.ts'

const root = 'spec.validation.openAPIV3Schema'
const at = `${root}.properties[spec]`

describe('a schema is refused', () => {
  test.each<[string, JsonObject, string[]]>([
    ['without types', { properties: { a: {}, b: { type: 'array', items: {} } } }, [
      `${at}.type: Required value: must not be empty for specified object fields`,
      `${at}.properties[a].type: Required value: must not be empty for specified object fields`,
      `${at}.properties[b].items.type: Required value: must not be empty for specified array items`
    ]],
    ['with a type that there is not', { type: 'text' }, [expect.stringContaining(`${at}.type: Unsupported value: "text"`) as string]],
    ['with a list of what', { type: 'array' }, [`${at}.items: Required value: must be specified`]],
    ['with several items', { type: 'array', items: [{ type: 'string' }] }, [`${at}.items: Forbidden: items must be a schema object and not an array`]],
    ['with a reference', { type: 'object', $ref: '#/x' }, [`${at}.$ref: Forbidden: $ref is not supported`]],
    ['with definitions', { type: 'object', definitions: { a: { type: 'string' } } }, [`${at}.definitions: Forbidden: definitions is not supported`]],
    ['with unique items', { type: 'array', uniqueItems: true, items: { type: 'string' } }, [
      `${at}.uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic`
    ]],
    ['that closes an object', { type: 'object', additionalProperties: false },
      [`${at}.additionalProperties: Forbidden: additionalProperties cannot be set to false`]],
    ['with named and other members', { type: 'object', properties: { a: { type: 'string' } }, additionalProperties: { type: 'string' } },
      [`${at}.additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive`]],
    ['that does not keep what is unknown, in so many words', { 'type': 'object', 'x-kubernetes-preserve-unknown-fields': false },
      [`${at}.x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or undefined`]],
    ['with a type beside int-or-string', { 'type': 'string', 'x-kubernetes-int-or-string': true },
      [`${at}.type: Invalid value: "string": must be empty if x-kubernetes-int-or-string is true`]],
    ['with a pattern that is none', { type: 'string', pattern: '(?=a)' }, [
      `${at}.pattern: Invalid value: "(?=a)": must be a valid regular expression, but isn't: invalid or unsupported Perl syntax: \`(?=\``
    ]],
    ['with a map of what', { 'type': 'array', 'items': { type: 'object' }, 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': ['name'] },
      [`${at}.x-kubernetes-list-map-keys[0]: Invalid value: "name": entries must all be names of item properties`]],
    ['with a map whose keys may be absent', {
      'type': 'array', 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': ['name'],
      'items': { type: 'object', properties: { name: { type: 'string' } } }
    }, [`${at}.items.properties[name].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a `
      + 'required property']],
    ['with structure inside logic', { type: 'object', properties: { a: { type: 'string' } }, anyOf: [{ properties: { a: { type: 'string', default: 'x' } } }] }, [
      `${at}.anyOf[0].properties[a].type: Forbidden: must be empty to be structural`,
      `${at}.anyOf[0].properties[a].default: Forbidden: must be empty to be structural`
    ]],
    ['with logic about what is not there', { type: 'object', not: { required: ['b'], properties: { b: { minimum: 1 } } } },
      [`${at}.properties[b]: Required value: because it is defined in ${at}.not.properties[b]`]],
    ['with a default of another type', { type: 'object', properties: { a: { type: 'integer', default: 'x' } } },
      [`${at}.properties[a].default: Invalid value: "string":  in body must be of type integer: "string"`]],
    ['with a default that lacks something', { type: 'object', default: {}, required: ['a'], properties: { a: { type: 'integer' } } },
      [`${at}.default.a: Required value`]],
    ['with a default that would be pruned', { type: 'object', default: { b: 1 }, properties: { a: { type: 'integer' } } },
      [`${at}.default: Invalid value: {"b":1}: must not have unknown fields`]]
  ])('%s', (_what, schema, expected) => {
    expect(created(widgetDocument(schema)).causes).toEqual(expected)
  })

  test('that says anything of metadata but names', () => {
    const schema = { openAPIV3Schema: { type: 'object', properties: { metadata: { type: 'object', properties: { labels: { type: 'object' } } } } } }
    expect(created(widgetDocument({}, { schema })).causes).toEqual([
      `${root}.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified`
    ])
  })

  test('that is not of objects', () => {
    expect(created(widgetDocument({}, { schema: { openAPIV3Schema: { type: 'string' } } })).causes)
      .toEqual([`${root}.type: Invalid value: "string": must be object at the root`])
  })

  test('that holds too many schemas', () => {
    const properties = Object.fromEntries(Array.from({ length: crdLimits.schemaNodes.value }, (_, i) => [`p${i}`, { type: 'string' }]))
    expect(created(widgetDocument({ type: 'object', properties })).causes)
      .toEqual([expect.stringContaining('Forbidden: more than 20000 schemas in a schema')])
  })

  test('whose patterns are too large together', () => {
    const properties = Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`p${i}`, { type: 'string', pattern: '^[a-z]{999}$' }]))
    expect(created(widgetDocument({ type: 'object', properties })).causes)
      .toEqual([expect.stringContaining('Forbidden: the patterns of a schema together take more than 100000 instructions')])
  })

  test('that is nested too deep', () => {
    let schema: JsonObject = { type: 'string' }
    for (let i = 0; i < crdLimits.schemaDepth.value; i++) schema = { type: 'array', items: schema }
    expect(created(widgetDocument(schema)).causes).toEqual([expect.stringContaining('Forbidden: schemas are nested deeper than 100 levels')])
  })
})

describe('a schema is taken', () => {
  test.each<[string, JsonObject]>([
    ['that keeps what is unknown', { 'x-kubernetes-preserve-unknown-fields': true }],
    ['of an integer or a string, as it is usually said', { 'x-kubernetes-int-or-string': true, 'anyOf': [{ type: 'integer' }, { type: 'string' }] }],
    ['of a resource inside', { 'type': 'object', 'x-kubernetes-embedded-resource': true, 'x-kubernetes-preserve-unknown-fields': true }],
    ['whose logic tells apart what the structure has', {
      type: 'object', properties: { a: { type: 'string' }, b: { type: 'array', items: { type: 'integer' } } },
      oneOf: [{ required: ['a'] }, { properties: { b: { items: { minimum: 1 }, minItems: 1 } }, required: ['b'] }], not: { required: ['a', 'b'] }
    }],
    ['whose defaults have defaults', {
      type: 'object', default: {}, required: ['a'],
      properties: { a: { type: 'integer', default: 5, minimum: 5 }, b: { type: 'string', nullable: true, default: 'x' } }
    }]
  ])('%s', (_what, schema) => {
    expect(created(widgetDocument(schema))).toMatchObject({ causes: [], warnings: [] })
  })

  test('with rules in CEL, and it is said that they are not enforced', () => {
    const rules = [{ rule: 'self.a > 1' }]
    expect(created(widgetDocument({ 'type': 'object', 'properties': { a: { type: 'integer' } }, 'x-kubernetes-validations': rules }))).toMatchObject({
      causes: [], warnings: [`${at}.x-kubernetes-validations: rules in CEL are kept but not enforced by this server`]
    })
  })

  test('with a format that nobody knows, and it is said', () => {
    expect(created(widgetDocument({ type: 'string', format: 'colour' })).warnings).toEqual(['unrecognized format "colour"'])
  })
})

describe('a definition is refused', () => {
  const sound = { type: 'object' }
  test.each<[string, JsonObject, JsonObject, string[]]>([
    ['in a group of the server', {}, { group: 'coordination.k8s.io' }, [
      'metadata.name: Invalid value: "widgets.example.com": must be spec.names.plural+"."+spec.group', 'spec.group: Forbidden: this group is served by the server itself'
    ]],
    ['of a scope that there is not', {}, { scope: 'Planet' }, ['spec.scope: Unsupported value: "Planet": supported values: "Cluster", "Namespaced"']],
    ['that wants a webhook', {}, { conversion: { strategy: 'Webhook' } },
      ['spec.conversion.strategy: Unsupported value: "Webhook": supported values: "None"']],
    ['without versions', {}, { versions: [] }, ['spec.versions: Required value: must have at least one version',
      expect.stringContaining('status.storedVersions: Invalid value') as string]],
    ['with a column from nowhere', { additionalPrinterColumns: [{ name: 'A', type: 'text', jsonPath: 'spec' }] }, {}, [
      'spec.additionalPrinterColumns[0].type: Invalid value: "text": must be one of boolean,date,integer,number,string',
      'spec.additionalPrinterColumns[0].jsonPath: Invalid value: "spec": is an invalid path: cannot be read at "spec"'
    ]],
    ['with a selectable field that is not there', { selectableFields: [{ jsonPath: '.spec.x' }] }, {},
      ['spec.selectableFields[0].jsonPath: Invalid value: ".spec.x": is an invalid path: does not refer to a valid field']],
    ['with a selectable field that has no text', { selectableFields: [{ jsonPath: '.status' }] }, {}, [
      'spec.selectableFields[0].jsonPath: Invalid value: ".status": must point to a field of type string, boolean or integer. Enum string fields and strings '
      + 'with formats are allowed.'
    ]],
    ['with a warning of no deprecation', { deprecationWarning: 'x' }, {},
      ['spec.versions[0].deprecationWarning: Invalid value: "x": can only be set for deprecated versions']],
    ['with names that are none', {}, { names: { plural: 'widgets', kind: '1', singular: 'Widget' } }, [
      expect.stringContaining('spec.names.singular: Invalid value: "Widget": a DNS-1035 label') as string,
      expect.stringContaining('spec.names.kind: Invalid value: "1": may have mixed case, but should otherwise match: ') as string,
      expect.stringContaining('spec.names.listKind: Invalid value: "1List": may have mixed case') as string
    ]]
  ])('%s', (_what, version, spec, expected) => {
    expect(created(widgetDocument(sound, version, spec)).causes).toEqual(expected)
  })

  test('that changes what is settled', () => {
    const before = settled(created(widgetDocument(sound)).definition)
    const document = widgetDocument(sound, {}, { scope: 'Cluster', names: { plural: 'widgets', kind: 'Wodget' } })
    expect(updated(before, document).causes).toEqual([
      'spec.scope: Invalid value: "Cluster": field is immutable', 'spec.names.kind: Invalid value: "Wodget": field is immutable'
    ])
  })

  test('that drops a version in which objects may be stored', () => {
    const before = settled(created(widgetDocument(sound)).definition)
    const { causes, definition } = updated(before, widgetDocument(sound, { name: 'v2' }))
    expect(causes).toEqual([expect.stringContaining('status.storedVersions[0]: Invalid value: "v1": missing from spec.versions')])
    expect(definition['status']).toMatchObject({ storedVersions: ['v1', 'v2'] })
  })
})

describe('definitions that are there', () => {
  const devices = JSON.parse(readFileSync(join(import.meta.dirname, 'testing/device-definitions.json'), 'utf8')) as Json[]
  test.each(devices.map(document => [((document as JsonObject)['metadata'] as JsonObject)['name'] as string, document] as const))('%s is taken', (_name, document) => {
    const { definition, causes, warnings } = created(document)
    expect([causes, warnings]).toEqual([[], []])
    const established = settled(definition)
    for (const version of specOf(established).versions!) expect(customResource(established, version).kind).toMatch(/^Device/)
  })
})
