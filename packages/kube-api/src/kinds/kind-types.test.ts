import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { kindTypesSource } from '../../tools/kind-types.ts'
import { kindTypes } from './kind-types.ts'

test('the table of types is what its tool makes of the models', async () => {
  expect(await readFile(join(import.meta.dirname, 'kind-types.ts'), 'utf8')).toBe(kindTypesSource())
})

test('every type that a member names is a scalar or in the table', () => {
  const scalars = ['string', 'int32', 'int64', 'number', 'boolean', 'date-time', 'micro-time', 'bytes', 'quantity', 'int-or-string', 'any']
  const named = Object.values(kindTypes).flatMap(fields => Object.values(fields)).map(type => type.replace(/^(\[\]|\{\})/, '').replace('?', ''))
  expect(named.filter(name => !scalars.includes(name) && !Object.hasOwn(kindTypes, name))).toEqual([])
})

test('no type contains itself, so that the depth of what is read is bounded by the table', () => {
  const depth = (name: string, above: readonly string[]): number => {
    expect(above).not.toContain(name)
    const inner = Object.values(kindTypes[name] ?? {}).map(type => type.replace(/^(\[\]|\{\})/, '').replace('?', ''))
    return 1 + Math.max(0, ...inner.filter(type => Object.hasOwn(kindTypes, type)).map(type => depth(type, [...above, name])))
  }
  expect(Math.max(...Object.keys(kindTypes).map(name => depth(name, [])))).toBeLessThan(20)
})
