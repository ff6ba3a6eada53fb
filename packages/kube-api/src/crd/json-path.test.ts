import { describe, expect, test } from 'vitest'
import type { KubeObject } from '../object.ts'
import { JsonPath, JsonPathError } from './json-path.ts'

const object: KubeObject = {
  apiVersion: 'v1', kind: 'Gadget', metadata: { name: 'g', labels: { 'a.b/c': 'x' } },
  spec: { model: 'm-1', ports: [{ name: 'http', port: 80 }, { name: 'https', port: 443 }], empty: [], none: null, zones: ['a', 'b'] },
  status: { conditions: [{ type: 'Ready', status: 'True' }, { type: 'Synced', status: 'False' }] }
}

describe('a path', () => {
  test.each([
    ['.spec.model', ['m-1']],
    ['.spec[\'model\']', ['m-1']],
    ['.metadata.labels[\'a.b/c\']', ['x']],
    ['.metadata.labels["a.b/c"]', ['x']],
    ['.metadata.labels.a\\.b/c', undefined],
    ['.metadata.labels[\'a\\.b/c\']', ['x']],
    ['.status.conditions[?(@.type=="Ready")].status', ['True']],
    ['.status.conditions[?(@.type==\'Synced\')].status', ['False']],
    ['.status.conditions[?( @.type != "Ready" )].type', ['Synced']],
    ['.spec.ports[?(@.port>100)].name', ['https']],
    ['.spec.ports[?(@.port<=80)].name', ['http']],
    ['.spec.ports[?(@.port>"1")].name', []],
    ['.spec.ports[?(@.protocol)].name', []],
    ['.spec.ports[?(@.name)].port', [80, 443]],
    ['.spec.ports[0].port', [80]],
    ['.spec.ports[-1].port', [443]],
    ['.spec.ports[7].port', []],
    ['.spec.ports[*].name', ['http', 'https']],
    ['.spec.zones', [['a', 'b']]],
    ['.spec.none', [null]],
    ['.spec.model.deeper', []],
    ['.spec.constructor', []],
    ['.spec.__proto__', []]
  ])('%s', (text, expected) => {
    if (expected === undefined) expect(() => new JsonPath(text)).toThrow(JsonPathError)
    else expect(new JsonPath(text).find(object)).toEqual(expected)
  })

  test.each(['spec', '.spec.', '.spec[', '.spec[?(@.a=)]', '.spec[?(@)]', '..spec', '.a[0:2]', '.spec{', `.${'a'.repeat(2000)}`])('%s is none', text => {
    expect(() => new JsonPath(text)).toThrow(JsonPathError)
  })

  test('knows whether it is made of members alone', () => {
    expect(new JsonPath('.spec[\'a.b\'].c').members).toEqual(['spec', 'a.b', 'c'])
    expect(new JsonPath('.spec.zones[0]').members).toBeUndefined()
  })
})
