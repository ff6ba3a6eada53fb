import { describe, expect, test } from 'vitest'
import type { Json, JsonObject } from '../object.ts'
import { StatusError } from '../status-error.ts'
import { applyMergePatch } from './merge-patch.ts'

describe('a JSON merge patch', () => {
  test('does what the examples of RFC 7396 say', () => {
    const examples: [Json, JsonObject, Json][] = [
      [{ a: 'b' }, { a: 'c' }, { a: 'c' }],
      [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }],
      [{ a: 'b' }, { a: null }, {}],
      [{ a: 'b', b: 'c' }, { a: null }, { b: 'c' }],
      [{ a: ['b'] }, { a: 'c' }, { a: 'c' }],
      [{ a: 'c' }, { a: ['b'] }, { a: ['b'] }],
      [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
      [{ a: [{ b: 'c' }] }, { a: [1] }, { a: [1] }],
      [{ e: null }, { a: 1 }, { e: null, a: 1 }],
      [[1, 2], { a: 'b', c: null }, { a: 'b' }],
      [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }]
    ]
    for (const [target, patch, result] of examples) expect(applyMergePatch(target, patch)).toEqual(result)
  })

  test('does what the real server does with a ConfigMap', () => {
    const configMap = { metadata: { name: 'c' }, data: { only: 'this', q: '1' } }
    expect(applyMergePatch(configMap, { data: { m: '1', n: '2' } })).toEqual({ metadata: { name: 'c' }, data: { only: 'this', q: '1', m: '1', n: '2' } })
    expect(applyMergePatch(configMap, { data: { q: null }, metadata: { labels: { l: null } } }))
      .toEqual({ metadata: { name: 'c', labels: {} }, data: { only: 'this' } })
    expect(applyMergePatch(configMap, { data: { nothere: null } })).toEqual(configMap)
    expect(applyMergePatch(configMap, { data: null })).toEqual({ metadata: { name: 'c' } })
    expect(applyMergePatch(configMap, {})).toEqual(configMap)
  })

  test('lists are replaced as a whole; objects in them lose members that are null', () => {
    expect(applyMergePatch({ spec: { channels: [{ name: 'a' }, { name: 'b' }] } }, { spec: { channels: [{ name: 'b', unit: null }, null] } }))
      .toEqual({ spec: { channels: [{ name: 'b' }, null] } })
  })

  test('changes neither argument, and shares nothing with them', () => {
    const [target, patch] = [{ a: { b: [1] } }, { c: { d: [2] } }]
    const result = applyMergePatch(target, patch) as { a: { b: number[] }, c: { d: number[] } }
    result.a.b.push(9)
    result.c.d.push(9)
    expect([target, patch]).toEqual([{ a: { b: [1] } }, { c: { d: [2] } }])
  })

  test('refuses what is not an object in the words of the real server', () => {
    const words: [Json, string][] = [
      [[], 'error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}'],
      ['x', 'error decoding patch: json: cannot unmarshal string into Go value of type map[string]interface {}'],
      [5, 'error decoding patch: json: cannot unmarshal number into Go value of type map[string]interface {}'],
      [null, 'Invalid JSON Patch'],
      [JSON.parse(`${'{"a":'.repeat(600)}1${'}'.repeat(600)}`) as Json, 'error decoding patch: exceeded max depth']
    ]
    for (const [patch, message] of words) {
      expect(() => applyMergePatch({}, patch)).toThrow(expect.objectContaining({ code: 400, reason: 'BadRequest', message }) as Error)
    }
    expect(() => applyMergePatch(JSON.parse(`${'['.repeat(600)}${']'.repeat(600)}`) as Json, {})).toThrow(StatusError)
  })

  test('__proto__ is a member like others', () => {
    const result = applyMergePatch({ b: {} }, JSON.parse('{"__proto__":{"polluted":1},"b":{"__proto__":{"x":1}},"constructor":{"prototype":{"y":1}}}') as Json)
    expect(JSON.stringify(result)).toBe('{"b":{"__proto__":{"x":1}},"__proto__":{"polluted":1},"constructor":{"prototype":{"y":1}}}')
    expect(JSON.stringify(applyMergePatch(result, JSON.parse('{"__proto__":null,"b":{"__proto__":{"x":null}}}') as Json)))
      .toBe('{"b":{"__proto__":{}},"constructor":{"prototype":{"y":1}}}')
    expect(Object.keys(Object.prototype)).toEqual([])
    expect(({} as Record<string, unknown>)['y']).toBeUndefined()
  })
})
