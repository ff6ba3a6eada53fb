import { expect, test } from 'vitest'
import { SeededRandom } from '@holdfast/runtime'
import { namespaceRange, ObjectCollection } from './object-store-collection.ts'
import { compareUtf8 } from './object-store-keys.ts'
import type { StoredObject } from './object-store-types.ts'

const stored = (namespace: string, name: string, revision: number): StoredObject => ({
  resource: 'pods', namespace, name, revision, json: Buffer.alloc(0), object: { apiVersion: 'v1', kind: 'Pod', metadata: { name } }
})

test('thousands of objects that come and go are what a sorted list of them is', () => {
  const random = new SeededRandom(7)
  const collection = new ObjectCollection()
  const twin = new Map<string, StoredObject>()
  const namespaces = ['a', 'a-b', 'a.b', 'b', 'c']
  const name = (): [string, string] => [namespaces[random.integer(0, 4)]!, `n${random.integer(0, 1500)}`]
  const check = (): void => {
    const sorted = [...twin].sort(([a], [b]) => compareUtf8(a, b))
    for (const namespace of [undefined, ...namespaces, 'none']) {
      const { from, to } = namespaceRange(namespace)
      for (const start of [from, `${from}n700`]) {
        const wanted = sorted.filter(([path]) => compareUtf8(path, start) >= 0 && (to === undefined || compareUtf8(path, to) < 0))
        expect([...collection.entries(start, to)]).toEqual(wanted)
        expect(collection.range(start, to)).toEqual(wanted.map(([, one]) => one))
        expect(collection.count(start, to)).toBe(wanted.length)
      }
    }
    expect(collection.size).toBe(twin.size)
  }
  check()
  // It grows, stays, and shrinks to nothing.
  for (const [rounds, growth] of [[6000, 0.9], [3000, 0.5], [12_000, 0.1]] as const) {
    for (let i = 0; i < rounds; i++) {
      const [namespace, of] = name()
      const path = `${namespace}/${of}`
      if (random.chance(growth)) {
        const one = stored(namespace, of, i)
        collection.put(one)
        twin.set(path, one)
      } else {
        collection.delete(path)
        twin.delete(path)
      }
      expect(collection.get(path)).toBe(twin.get(path))
    }
    check()
  }
  for (const path of twin.keys()) collection.delete(path)
  twin.clear()
  check()
})
