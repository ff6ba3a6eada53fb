import { describe, expect, test } from 'vitest'
import { measure, mergePatch, textOf } from './json.ts'
import type { Json } from './json.ts'
import type { PropertyRule, PropertyType } from './rules.ts'
import { coerce, parseJsonValue, typeNameOf, valueOfText } from './value.ts'

const rule = (type: PropertyType | undefined, bounds: Partial<PropertyRule> = {}): PropertyRule =>
  ({ name: 'p', type, access: 'ReadWrite', minimum: undefined, maximum: undefined, unit: undefined, ...bounds })

/** The value as it is taken, or the code. */
function taken(value: Json, type: PropertyType | undefined, bounds?: Partial<PropertyRule>): Json {
  const read = coerce(value, rule(type, bounds), 'p')
  return 'value' in read ? read.value : read.error.code
}

describe('a value against the type of the model', () => {
  test('INT is a whole number that has one meaning, or text that says it', () => {
    expect([23, '23', '-7', '+5', '007', 23.0, '-0', 9007199254740991].map(value => taken(value, 'INT')))
      .toEqual([23, 23, -7, 5, 7, 23, 0, 9007199254740991])
    expect(Object.is(taken(-0, 'INT'), 0)).toBe(true)
    for (const value of ['', ' 1', '1.0', '1e3', '0x10', 'abc', 1.5, 9007199254740992, '9007199254740993', true, null, [1], { a: 1 }]) {
      expect(taken(value, 'INT'), textOf(value)).toBe('TWIN_TYPE')
    }
  })

  test('FLOAT and DOUBLE are finite numbers, or text that says one', () => {
    for (const type of ['FLOAT', 'DOUBLE'] as const) {
      expect([1.5, '1.5', '.5', '5.', '1e3', '-2E-2', '+7'].map(value => taken(value, type))).toEqual([1.5, 1.5, 0.5, 5, 1000, -0.02, 7])
      for (const value of ['', '.', 'e5', '1e999', 'NaN', 'Infinity', '1,5', false, null]) expect(taken(value, type)).toBe('TWIN_TYPE')
    }
  })

  test('BOOLEAN is true or false', () => {
    expect([true, false, 'true', 'false'].map(value => taken(value, 'BOOLEAN'))).toEqual([true, false, true, false])
    for (const value of ['TRUE', 'yes', 1, 0, '', null]) expect(taken(value, 'BOOLEAN')).toBe('TWIN_TYPE')
  })

  test('STRING and STREAM are any text, and everything has one', () => {
    for (const type of ['STRING', 'STREAM'] as const) {
      expect(['a b+ü😀\n', '', 23, true, { a: [1] }].map(value => taken(value, type))).toEqual(['a b+ü😀\n', '', '23', 'true', '{"a":[1]}'])
      expect(taken(null, type)).toBe('TWIN_TYPE')
    }
  })

  test('BYTES is base64', () => {
    expect(['', 'AA==', 'AAE=', 'AAEC'].map(value => taken(value, 'BYTES'))).toEqual(['', 'AA==', 'AAE=', 'AAEC'])
    for (const value of ['A', 'AA', 'AA=', '????', 'AA==AA==', 5]) expect(taken(value, 'BYTES')).toBe('TWIN_TYPE')
  })

  test('a range holds for numbers, both ends included', () => {
    const bounds = { minimum: 0, maximum: 100 }
    expect([0, 100, '50'].map(value => taken(value, 'INT', bounds))).toEqual([0, 100, 50])
    expect([-1, 101, '101'].map(value => taken(value, 'INT', bounds))).toEqual(['TWIN_RANGE', 'TWIN_RANGE', 'TWIN_RANGE'])
    expect(taken('500', 'STRING', bounds)).toBe('500')
  })

  test('a model without a type takes any value', () => { expect(taken({ a: 1 }, undefined)).toEqual({ a: 1 }) })

  test('a refusal names property, value, rule and way out', () => {
    const read = coerce('230', rule('INT', { minimum: 0, maximum: 100, unit: '°C' }), 'temperature')
    expect(read).toEqual({ error: {
      code: 'TWIN_RANGE', property: 'temperature', value: '230', rule: 'INT between 0 and 100 °C',
      message: 'property "temperature": value "230" is above the maximum 100; send INT between 0 and 100 °C'
    } })
    const long = coerce('x'.repeat(500), rule('INT'), 'p\n"q"')
    if (!('error' in long)) throw new Error('it was taken')
    expect(long.error.value).toHaveLength(64)
    expect(long.error.property).toBe('p "q"')
    expect(long.error.message.length).toBeLessThan(300)
  })
})

describe('a value without a model', () => {
  const typed = (value: Json, type: string): Json => {
    const read = coerce(value, undefined, 'p', type)
    return 'value' in read ? read.value : read.error.code
  }

  test('is of the type that its sender gives it', () => {
    expect(typed('23', 'int')).toBe(23)
    expect(typed('23', 'Integer')).toBe(23)
    expect(typed('2.5', 'float')).toBe(2.5)
    expect(typed('true', 'boolean')).toBe(true)
    expect(typed('{"a":1}', 'json')).toEqual({ a: 1 })
    expect(typed('{"a":', 'json')).toBe('{"a":')
    expect(typed('23', 'string')).toBe('23')
    expect(typed('23', 'furlongs')).toBe('23')
    expect(typed('hot', 'int')).toBe('TWIN_TYPE')
  })

  test('stays what it is where nobody gives it one', () => {
    expect(coerce({ a: [null] }, undefined, 'p')).toEqual({ value: { a: [null] } })
  })
})

test('text is read back as it was written, with its type', () => {
  for (const value of ['x', '23', '', 23, 2.5, true, { a: [1, 'b', null] }, [], '{"a":1}'] as const) {
    expect(valueOfText(textOf(value as Json), undefined, typeNameOf(value as Json)), JSON.stringify(value)).toEqual(value)
  }
  expect(valueOfText('500', rule('INT', { maximum: 100 }))).toBe(500)
  expect(valueOfText('hot', rule('INT'))).toBe('hot')
  expect(valueOfText('23', rule('STRING'), 'int')).toBe('23')
})

describe('bounds of a value', () => {
  const nested = (levels: number): Json => levels === 0 ? 1 : [nested(levels - 1)]
  const rules = (value: unknown): string => {
    const measured = measure(value)
    return 'bytes' in measured ? 'taken' : measured.rule
  }

  test('64 KiB as JSON', () => {
    expect(rules('x'.repeat(65_534))).toBe('taken')
    expect(rules('x'.repeat(65_535))).toBe('at most 64 KiB as JSON')
    expect(rules('ü'.repeat(32_768))).toBe('at most 64 KiB as JSON')
    expect(rules('"'.repeat(32_768))).toBe('at most 64 KiB as JSON')
    expect(rules(Array.from({ length: 40_000 }, () => 1))).toBe('at most 64 KiB as JSON')
  })

  test('16 levels', () => {
    expect(rules(nested(16))).toBe('taken')
    expect(rules(nested(17))).toBe('at most 16 levels of arrays and objects')
    expect(parseJsonValue('['.repeat(30_000) + ']'.repeat(30_000))).toMatchObject({ error: { code: 'TWIN_VALUE' } })
  })

  test('no __proto__, no half of a surrogate pair, nothing but JSON', () => {
    expect(parseJsonValue('{"a":{"__proto__":1}}')).toMatchObject({ error: { code: 'TWIN_VALUE', rule: 'no member __proto__' } })
    expect(rules('\ud800')).toBe('Unicode text')
    expect(rules({ '\udc00x': 1 })).toBe('Unicode text')
    for (const value of [NaN, Infinity, undefined, 1n, () => 1, Symbol('x'), [undefined], new Map(), new Date(0)]) expect(rules(value)).toContain('finite number')
  })

  test('a text that is no JSON, or too long, is refused with a sentence', () => {
    expect(parseJsonValue('{"a":1}')).toEqual({ value: { a: 1 } })
    expect(parseJsonValue('warm')).toMatchObject({ error: { code: 'TWIN_VALUE', message: '"warm" is no JSON; send one JSON value, text in quotes' } })
    expect(parseJsonValue(`"${'x'.repeat(70_000)}"`)).toMatchObject({ error: { code: 'TWIN_VALUE' } })
  })
})

test('merge patches are those of RFC 7396, appendix A', () => {
  const cases: readonly (readonly [Json, Json, Json])[] = [
    [{ a: 'b' }, { a: 'c' }, { a: 'c' }], [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }], [{ a: 'b' }, { a: null }, {}],
    [{ a: 'b', b: 'c' }, { a: null }, { b: 'c' }], [{ a: ['b'] }, { a: 'c' }, { a: 'c' }], [{ a: 'c' }, { a: ['b'] }, { a: ['b'] }],
    [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }], [{ a: [{ b: 'c' }] }, { a: [1] }, { a: [1] }],
    [['a', 'b'], ['c', 'd'], ['c', 'd']], [{ a: 'b' }, ['c'], ['c']], [{ a: 'foo' }, null, null], [{ a: 'foo' }, 'bar', 'bar'],
    [{ e: null }, { a: 1 }, { e: null, a: 1 }], [[1, 2], { a: 'b', c: null }, { a: 'b' }], [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }]
  ]
  for (const [target, patch, result] of cases) expect(mergePatch(target, patch)).toEqual(result)
  const merged = mergePatch({}, JSON.parse('{"__proto__":{"polluted":true}}') as Json) as Record<string, unknown>
  expect(merged['polluted']).toBeUndefined()
  expect(({} as Record<string, unknown>)['polluted']).toBeUndefined()
})
