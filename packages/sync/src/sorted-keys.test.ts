import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
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

test('keys that came and went leave nothing behind, though nobody asks', () => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const keys = new SortedKeys<number>()
  keys.set('there/all-along', 0)
  collect()
  const before = process.memoryUsage().heapUsed
  for (let i = 0; i < 200_000; i++) {
    keys.set(`default/job-${i}`, i)
    keys.delete(`default/job-${i}`)
  }
  collect()
  expect(process.memoryUsage().heapUsed - before).toBeLessThan(2_000_000)
  expect([...keys.from('')]).toEqual([['there/all-along', 0]])
})
