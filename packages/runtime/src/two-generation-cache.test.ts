import { expect, test } from 'vitest'
import { TwoGenerationCache } from './two-generation-cache.ts'

test('holds what was used lately, and at most two generations', () => {
  const cache = new TwoGenerationCache<number>({ entriesMax: 2, bytesMax: 1000 })
  for (const [i, key] of ['a', 'b', 'c'].entries()) cache.set(key, i, 1)
  expect([cache.size, cache.get('a')]).toEqual([3, 0])
  cache.set('d', 3, 1)
  expect([cache.get('b'), cache.get('a'), cache.get('c'), cache.get('d')]).toEqual([undefined, 0, 2, 3])
})

test('counts bytes, those of what is used again and of what takes another\'s place too', () => {
  const cache = new TwoGenerationCache<string>({ entriesMax: 100, bytesMax: 10 })
  for (let i = 0; i < 9; i++) cache.set('same', `${i}`, 5)
  cache.set('other', 'o', 5)
  expect([cache.get('same'), cache.size]).toEqual(['8', 2])
  cache.set('third', 't', 6)
  expect(cache.get('same')).toBe('8')
  cache.set('fourth', 'f', 1)
  expect([cache.get('other'), cache.get('same')]).toEqual([undefined, '8'])
})
