import { expect, test } from 'vitest'
import { HybridClock, compareVersions, formatVersion, parseVersion, writerOf } from './version.ts'

const clock = (): HybridClock => new HybridClock('node-1', '0f3a9c51')

test('a version is later than all that its clock gave or observed, whatever the wall clock says', () => {
  const own = clock()
  const versions = [own.next(1000), own.next(1000), own.next(500), own.next(undefined), own.next(2000.9)]
  expect(versions.map(formatVersion)).toEqual(
    ['1000.0', '1000.1', '1000.2', '1000.3', '2000.0'].map(each => `${each}.node-1/0f3a9c51`))
  own.observe({ time: 9000, counter: 7, origin: 'cloud/00000000' })
  own.observe({ time: 3000, counter: 9, origin: 'cloud/00000000' })
  expect(own.next(2001)).toMatchObject({ time: 9000, counter: 8 })
  own.reset()
  expect(own.next(2002)).toMatchObject({ time: 2002, counter: 9 })
  own.reset()
  expect(own.next(2002)).toMatchObject({ time: 2002, counter: 10 })
})

test('a clock that was driven to the end of its numbers goes on within them', () => {
  const own = clock()
  own.observe({ time: 5, counter: 999_999_999_999_999, origin: 'n/00000000' })
  expect(own.next(undefined)).toMatchObject({ time: 6, counter: 0 })
  expect(parseVersion(formatVersion(own.next(Number.MAX_SAFE_INTEGER)))).toBeDefined()
})

test('versions are ordered by time, counter and origin, and read back as they were written', () => {
  const texts = ['1.9.a/00000000', '2.0.a/00000000', '2.1.a/00000000', '2.1.b/00000000', '2.1.b/00000001', '10.0.a/00000000']
  const versions = texts.map(text => parseVersion(text)!)
  expect(versions.toSorted(compareVersions).map(formatVersion)).toEqual(texts)
  expect(versions.map(formatVersion)).toEqual(texts)
  expect(writerOf(versions[0]!)).toBe('a')
})

test('what is no version is none', () => {
  for (const text of ['', '1', '1.2', '1.2.', '1.2.node', '-1.2.n/00000000', '01.2.n/00000000', '1.2.N/00000000', '1.2.n/0000000g',
    '1.2.n/000000000', `1.2.${'n'.repeat(254)}/00000000`, '1000000000000000.0.n/00000000', '1.5.2.n/00000000 ']) {
    expect(parseVersion(text), text).toBeUndefined()
  }
})
