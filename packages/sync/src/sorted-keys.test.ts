import fc from 'fast-check'
import { expect, test } from 'vitest'
import { SortedKeys } from './sorted-keys.ts'

test('keys come in order from any place, whatever came and went', () => {
  fc.assert(fc.property(fc.array(fc.tuple(fc.integer({ min: 0, max: 30 }), fc.constantFrom('set', 'delete', 'ask'))), steps => {
    const keys = new SortedKeys<number>()
    const truth = new Map<string, number>()
    for (const [number, what] of steps) {
      const each = `k${number}`
      if (what === 'set') {
        keys.set(each, number)
        truth.set(each, number)
      } else if (what === 'delete') {
        keys.delete(each)
        truth.delete(each)
      } else {
        const expected = [...truth].filter(([other]) => other > each).toSorted(([a], [b]) => a < b ? -1 : 1)
        expect([...keys.from(each)]).toEqual(expected)
      }
      expect(keys.size).toBe(truth.size)
    }
  }))
})
