import { describe, expect, test } from 'vitest'
import type { Json, JsonObject } from '../object.ts'
import { StatusError } from '../status-error.ts'
import { applyJsonPatch } from './json-patch.ts'
import { patchLimits } from './limits.ts'

const configMap = (data: JsonObject): JsonObject =>
  ({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'c', labels: { l: '1', 'x/y': 'z' } }, data })

function refusal(run: () => unknown): StatusError {
  try {
    run()
  } catch (error) {
    if (error instanceof StatusError) return error
    throw error
  }
  throw new Error('it was accepted')
}

const refused = (document: Json, patch: Json): string => {
  const error = refusal(() => applyJsonPatch(document, patch))
  expect(error).toMatchObject({
    code: 422, reason: 'Invalid', message: 'the server rejected our request due to an error in our request', details: {}
  })
  return String(error.cause)
}

const data = (before: JsonObject, patch: Json): Json | undefined => (applyJsonPatch(configMap(before), patch) as JsonObject)['data']

describe('a JSON patch as the real server applies it', () => {
  test('adds, replaces, removes, copies, moves and tests', () => {
    expect(data({ a: '1', b: '2' }, [{ op: 'add', path: '/data/c', value: '3' }])).toEqual({ a: '1', b: '2', c: '3' })
    expect(data({ c: '3' }, [{ op: 'add', path: '/data/c', value: '33' }])).toEqual({ c: '33' })
    expect(data({ a: '1' }, [{ op: 'replace', path: '/data/a', value: '9' }])).toEqual({ a: '9' })
    expect(data({ a: '9', b: '2' }, [{ op: 'remove', path: '/data/b' }])).toEqual({ a: '9' })
    expect(data({ a: '9', c: '33' }, [
      { op: 'copy', from: '/data/a', path: '/data/d' }, { op: 'move', from: '/data/c', path: '/data/e' }
    ])).toEqual({ a: '9', d: '9', e: '33' })
    expect(data({ a: '9' }, [{ op: 'test', path: '/data/a', value: '9' }, { op: 'replace', path: '/data/a', value: '10' }]))
      .toEqual({ a: '10' })
    expect(data({ a: '1' }, [])).toEqual({ a: '1' })
    expect(data({ a: '1' }, null)).toEqual({ a: '1' })
  })

  test('changes nothing where one operation fails, and the arguments never', () => {
    const document = configMap({ a: '9' })
    const patch: Json = [{ op: 'add', path: '/data/b', value: { x: [] } }, { op: 'add', path: '/data/b/x/-', value: 1 }]
    const [documentBefore, patchBefore] = [JSON.stringify(document), JSON.stringify(patch)]
    expect(applyJsonPatch(document, patch)).toMatchObject({ data: { b: { x: [1] } } })
    expect(refused(document, [
      { op: 'replace', path: '/data/a', value: '11' }, { op: 'test', path: '/data/a', value: 'nope' }
    ])).toBe('operation 1 (test /data/a): the value is another')
    expect([JSON.stringify(document), JSON.stringify(patch)]).toEqual([documentBefore, patchBefore])
  })

  test('a missing member equals null, and only null', () => {
    expect(refused(configMap({}), [{ op: 'test', path: '/data/zz', value: 'x' }])).toContain('the value is another')
    expect(data({ a: '1' }, [{ op: 'test', path: '/data/zz', value: null }])).toEqual({ a: '1' })
    expect(data({ a: '1' }, [{ op: 'test', path: '/data/zz' }])).toEqual({ a: '1' })
    expect(refused(configMap({ a: '1' }), [{ op: 'test', path: '/data/a', value: null }])).toContain('the value is another')
  })

  test('replace adds what is missing; remove and copy do not make it up', () => {
    expect(data({}, [{ op: 'replace', path: '/data/zz', value: 'x' }])).toEqual({ zz: 'x' })
    expect(refused(configMap({}), [{ op: 'remove', path: '/data/zz' }])).toContain('there is nothing at this place')
    expect(refused(configMap({}), [{ op: 'move', from: '/data/zz', path: '/data/a' }])).toContain('there is nothing at this place')
    expect(refused(configMap({}), [{ op: 'copy', from: '/data/zz', path: '/data/a' }])).toContain('there is nothing to copy')
    expect(refused(configMap({}), [{ op: 'add', path: '/binaryData/zz', value: 'AA==' }])).toContain('there is nothing inside binaryData')
    expect(refused(configMap({ a: 'x' }), [{ op: 'add', path: '/data/a/b', value: 1 }])).toContain('there is nothing inside a')
  })

  test('names of members are escaped', () => {
    expect(applyJsonPatch(configMap({}), [{ op: 'replace', path: '/metadata/labels/x~1y', value: 'zz' }]))
      .toMatchObject({ metadata: { labels: { l: '1', 'x/y': 'zz' } } })
    expect(applyJsonPatch({ 'a~1b': 1 }, [{ op: 'remove', path: '/a~01b' }])).toEqual({})
    expect(applyJsonPatch({ '': { '': 1 } }, [{ op: 'replace', path: '//', value: 2 }])).toEqual({ '': { '': 2 } })
  })

  test('refuses what is no operation', () => {
    expect(refused(configMap({}), [{ op: 'frob', path: '/data/a' }])).toContain('is not an operation of RFC 6902')
    expect(refused(configMap({}), [{ path: '/data/a' }])).toContain('operation 0 (unknown /data/a): is not an operation')
    expect(refused(configMap({}), [{ op: 'add', value: 1 }])).toContain('has no path')
    expect(refused(configMap({}), [{ op: 'add', path: '/data/a' }])).toContain('has no value')
    expect(refused(configMap({}), [{ op: 'copy', path: '/data/a' }])).toContain('has no from')
    expect(refused(configMap({}), [{ op: 'add', path: 'data/a', value: 1 }])).toContain('a path begins with a slash')
  })

  test('tells a patch of the wrong type in the words of the real server', () => {
    const words: [Json, string][] = [
      [{ op: 'add', path: '/data/a', value: 'x' }, 'json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp'],
      ['x', 'json: cannot unmarshal string into Go value of type []handlers.jsonPatchOp'],
      [[1], 'json: cannot unmarshal number into Go value of type handlers.jsonPatchOp'],
      [[{ op: true }], 'json: cannot unmarshal bool into Go struct field jsonPatchOp.op of type string'],
      [[{ op: 'add', path: [] }], 'json: cannot unmarshal array into Go struct field jsonPatchOp.path of type string']
    ]
    for (const [patch, why] of words) {
      expect(refusal(() => applyJsonPatch({}, patch))).toMatchObject({
        code: 400, reason: 'BadRequest', message: `error decoding patch: ${why}`
      })
    }
  })

  test('the whole document is replaced and tested, not added, moved or removed', () => {
    const whole = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'c' }, data: { only: 'this' } }
    expect(applyJsonPatch(configMap({ a: '1' }), [{ op: 'replace', path: '', value: whole }])).toEqual(whole)
    expect(applyJsonPatch(whole, [{ op: 'test', path: '', value: whole }])).toEqual(whole)
    expect(refused(whole, [{ op: 'test', path: '', value: {} }])).toContain('the value is another')
    expect(refused(whole, [{ op: 'add', path: '', value: {} }])).toContain('needs a place in the document')
    expect(refused(whole, [{ op: 'remove', path: '' }])).toContain('needs a place in the document')
    expect(refused(whole, [{ op: 'replace', path: '', value: 1 }])).toContain('a document is an object or a list')
    expect(refused(1, [{ op: 'replace', path: '/a', value: 1 }])).toBe('a document is an object or a list')
  })

  test('indexes of lists count from either end', () => {
    const zones = (list: Json[], patch: Json): Json | undefined => (applyJsonPatch({ zones: list }, patch) as JsonObject)['zones']
    expect(zones(['x', 'y'], [
      { op: 'add', path: '/zones/-', value: 'z' }, { op: 'add', path: '/zones/0', value: 'w' }, { op: 'remove', path: '/zones/1' }
    ])).toEqual(['w', 'y', 'z'])
    expect(zones(['w', 'y', 'z'], [{ op: 'remove', path: '/zones/-1' }])).toEqual(['w', 'y'])
    expect(zones(['w'], [{ op: 'add', path: '/zones/-1', value: 'x' }])).toEqual(['w', 'x'])
    expect(zones(['w', 'x'], [{ op: 'replace', path: '/zones/-2', value: 'v' }])).toEqual(['v', 'x'])
    expect(zones([{ a: 1 }], [{ op: 'replace', path: '/zones/0/a', value: 2 }])).toEqual([{ a: 2 }])
    expect(zones(['a', 'b'], [{ op: 'move', from: '/zones/0', path: '/zones/1' }])).toEqual(['b', 'a'])
    for (const index of ['9', '-3', '1.0', 'x', '', '--1', '1e0', '9'.repeat(40)]) {
      expect(refused({ zones: ['a', 'b'] }, [{ op: 'remove', path: `/zones/${index}` }]), index).toContain('a list has no index')
    }
    expect(refused({ zones: ['a'] }, [{ op: 'replace', path: '/zones/-', value: 1 }])).toContain('a list has no index')
    expect(refused({ zones: ['a'] }, [{ op: 'add', path: '/zones/2', value: 1 }])).toContain('a list has no index')
  })

  test('compares values by what they hold', () => {
    const document = { a: { x: 1, y: [true, null, { z: 'q' }] } }
    const tests = (value: Json) => () => applyJsonPatch(document, [{ op: 'test', path: '/a', value }])
    expect(tests({ y: [true, null, { z: 'q' }], x: 1 })).not.toThrow()
    for (const other of [{ x: 1 }, { x: 1, y: [true, null] }, { x: 1, y: {} }, { ...document.a, q: 1 }, [], 1, 'x', { x: 1, y: [true, null, { z: 1 }] }]) {
      expect(tests(other)).toThrow(StatusError)
    }
  })

  test('a value is not moved into itself', () => {
    expect(refused({ a: { b: {} } }, [{ op: 'move', from: '/a', path: '/a/b' }])).toContain('there is nothing inside a')
    expect(applyJsonPatch({ a: { b: 1 } }, [{ op: 'move', from: '/a', path: '/a' }])).toEqual({ a: { b: 1 } })
  })

  test('what is copied is another value afterwards', () => {
    expect(applyJsonPatch({ a: { x: 1 } }, [
      { op: 'copy', from: '/a', path: '/b' }, { op: 'replace', path: '/b/x', value: 2 }
    ])).toEqual({ a: { x: 1 }, b: { x: 2 } })
  })
})

describe('bounds of a JSON patch', () => {
  const many = (count: number): Json => Array.from({ length: count }, () => ({ op: 'add', path: '/data/a', value: '1' }))

  test('10,000 operations and no more', () => {
    expect(data({}, many(10_000))).toEqual({ a: '1' })
    expect(refusal(() => applyJsonPatch(configMap({}), many(10_001)))).toMatchObject({
      code: 413, reason: 'RequestEntityTooLarge',
      message: 'Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001'
    })
  })

  test('copies do not grow without end', () => {
    const doubling: Json = Array.from({ length: 40 }, (_, i) => ({ op: 'copy', from: '/data', path: `/data/k${i}` }))
    expect(refused(configMap({ a: 'x'.repeat(1000) }), doubling)).toContain('copies come to more than')
    const fits = Math.floor(patchLimits.patchCopiedBytes.value / 1002)
    const copies = (count: number): Json => Array.from({ length: count }, (_, i) => ({ op: 'copy', from: '/data/a', path: `/data/k${i}` }))
    expect(Object.keys(data({ a: 'x'.repeat(1000) }, copies(fits)) as JsonObject)).toHaveLength(fits + 1)
    expect(refused(configMap({ a: 'x'.repeat(1000) }), copies(fits + 1))).toContain('copies come to more than')
  })

  test('nesting is bounded in the object, in the patch, and in what comes of both', () => {
    const nested = (levels: number): Json => {
      let value: Json = 1
      for (let i = 0; i < levels; i++) value = i % 2 === 0 ? [value] : { a: value }
      return value
    }
    expect(applyJsonPatch({ a: nested(500) }, [])).toEqual({ a: nested(500) })
    expect(refused(nested(600), [])).toBe('the object is nested too deeply')
    expect(refusal(() => applyJsonPatch({}, [{ op: 'add', path: '/a', value: nested(100_000) }])))
      .toMatchObject({ code: 400, message: 'error decoding patch: exceeded max depth' })
    const deeper: Json = Array.from({ length: 10 }, (_, i) => ({ op: 'add', path: '/a'.repeat(100 * i + 1), value: deep(100) }))
    expect(refused({}, deeper)).toBe('the result is nested too deeply')
    expect(refused({}, [...deeper, { op: 'copy', from: '/a', path: '/b' }])).toContain('what is copied is nested too deeply')
  })

  const deep = (levels: number): Json => {
    let value: Json = {}
    for (let i = 1; i < levels; i++) value = { a: value }
    return value
  }

  test('long lists are not moved without end', () => {
    const shifts: Json = Array.from({ length: 2_000 }, () => ({ op: 'add', path: '/list/0', value: 1 }))
    expect(refusal(() => applyJsonPatch({ list: Array.from({ length: 300_000 }, () => 0) }, shifts))).toMatchObject({
      code: 413, reason: 'RequestEntityTooLarge', message: 'Request entity too large: the operations of this JSON patch move too many elements of lists'
    })
  })
})

describe('names that mean something to JavaScript', () => {
  const hostile = (text: string): Json => JSON.parse(text) as Json

  test('__proto__ is a member like others', () => {
    const patched = applyJsonPatch(hostile('{"__proto__":{"a":1},"b":{}}'), [
      { op: 'add', path: '/b/__proto__', value: { polluted: true } },
      { op: 'add', path: '/b/__proto__/x', value: 1 },
      { op: 'copy', from: '/__proto__', path: '/c' },
      { op: 'remove', path: '/__proto__/a' }
    ])
    expect(JSON.stringify(patched)).toBe('{"__proto__":{},"b":{"__proto__":{"polluted":true,"x":1}},"c":{"a":1}}')
    expect(Object.getPrototypeOf(patched)).toBe(Object.prototype)
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined()
  })

  test('nothing is inherited', () => {
    for (const path of ['/__proto__/polluted', '/constructor/prototype/polluted', '/toString/x', '/list/constructor/x', '/list/length/x']) {
      expect(refused({ list: [] }, [{ op: 'add', path, value: true }]), path).not.toBe('')
    }
    expect(refused({}, [{ op: 'remove', path: '/constructor' }])).toContain('there is nothing at this place')
    expect(refused({}, [{ op: 'copy', from: '/__proto__', path: '/a' }])).toContain('there is nothing to copy')
    expect(refused({ list: [] }, [{ op: 'replace', path: '/list/length', value: 9 }])).toContain('a list has no index')
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined()
  })
})
