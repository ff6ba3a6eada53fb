import fc from 'fast-check'
import { expect, test } from 'vitest'
import { canonicalJson } from './canonical-json.ts'

test('members are in order, without spaces, and what is undefined is left out', () => {
  expect(canonicalJson({ b: [1, { z: null, y: 'ü"\n' }, undefined], a: { d: undefined, c: true }, 10: -0 }))
    .toBe('{"10":0,"a":{"c":true},"b":[1,{"y":"ü\\"\\n","z":null},null]}')
})

test('the text says what the value says, whatever order its members came in', () => {
  fc.assert(fc.property(fc.jsonValue(), value => {
    const text = canonicalJson(value)
    expect(JSON.parse(text)).toEqual(JSON.parse(JSON.stringify(value)))
    expect(canonicalJson(turned(value))).toBe(text)
    expect(canonicalJson(JSON.parse(text))).toBe(text)
  }))
})

function turned(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(turned)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).toReversed().map(([name, member]) => [name, turned(member)]))
}
