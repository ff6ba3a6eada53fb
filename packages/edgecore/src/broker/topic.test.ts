import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { FilterTrie } from './filter-trie.ts'
import { clientIdIsValid, filterMatches, filterProblem, topicProblem } from './topic.ts'

const bounds = { topicLengthMax: 64, topicLevelsMax: 5 }

/** MQTT 3.1.1 §4.7, by the letter. */
function matchesByTheLetter(filter: string[], topic: string[]): boolean {
  if (topic[0]!.startsWith('$') && /^[+#]/.test(filter[0]!)) return false
  const [first, ...rest] = filter
  if (first === '#') return true
  if (topic.length === 0 || (first !== '+' && first !== topic[0])) return false
  if (rest.length === 0) return topic.length === 1
  return topic.length === 1 ? rest.length === 1 && rest[0] === '#' : rest[0] === '#' || tail(rest, topic.slice(1))
}
const tail = (filter: string[], topic: string[]): boolean =>
  matchesByTheLetter(filter, [topic[0]!.replace(/^\$/, 's'), ...topic.slice(1)])

const level = fc.constantFrom('a', 'b', '', 'ab')
const topics = fc.tuple(fc.constantFrom('a', 'b', '', '$a'), fc.array(level, { maxLength: 4 })).map(([head, rest]) => [head, ...rest])
const filters = fc.tuple(fc.array(fc.constantFrom('a', 'b', '', '+', 'ab', '$a'), { minLength: 1, maxLength: 4 }), fc.boolean())
  .map(([levels, all]) => all ? [...levels, '#'] : levels)

describe('topics', () => {
  it('match filters as MQTT 3.1.1 §4.7 says', () => {
    fc.assert(fc.property(filters, topics, (filter, topic) => {
      expect(filterMatches(filter.join('/'), topic.join('/'))).toBe(matchesByTheLetter(filter, topic))
    }), { numRuns: 5000 })
  })

  it('are found in the trie by the same filters', () => {
    fc.assert(fc.property(fc.array(filters, { maxLength: 12 }), fc.array(fc.nat(11)), topics, (held, removed, topic) => {
      const trie = new FilterTrie<string>()
      const left = new Set(held.map(filter => filter.join('/')))
      for (const filter of left) trie.add(filter, 'x', filter)
      for (const i of removed) {
        const filter = held[i]?.join('/')
        if (filter === undefined) continue
        trie.remove(filter, 'x')
        left.delete(filter)
      }
      const name = topic.join('/')
      expect(trie.match(name).sort()).toEqual([...left].filter(filter => filterMatches(filter, name)).sort())
      expect(trie.size).toBe(left.size)
    }), { numRuns: 2000 })
  })

  it.each([
    ['', 'empty'], ['a'.repeat(65), 'too-long'], ['a/b/c/d/e/f', 'too-many-levels'], ['a/+/b', 'wildcard'], ['a/#', 'wildcard'],
    ['a+b', 'wildcard'], ['a\0b', 'bad-character'], ['a\ufffdb', 'bad-character'], ['a\nb', 'bad-character'],
    ['$SYS/x', 'reserved'], ['$SYS', 'reserved'], ['$share/g/x', 'reserved'],
    ['$hw/events/upload/x', undefined], ['$ke/x', undefined], ['SYS/dis/upload_records', undefined], ['/', undefined]
  ])('%j cannot be published to: %s', (topic, problem) => { expect(topicProblem(topic, bounds)).toBe(problem) })

  it.each([
    ['', 'empty'], ['#', undefined], ['a/#', undefined], ['+/+', undefined], ['a/#/b', 'wildcard'], ['a#', 'wildcard'],
    ['a/+b', 'wildcard'], ['+a', 'wildcard'], ['$share/g/x', 'reserved'], ['$SYS/#', undefined], ['a\0', 'bad-character']
  ])('%j cannot be subscribed to: %s', (filter, problem) => { expect(filterProblem(filter, bounds)).toBe(problem) })

  it('client ids are printable and bounded', () => {
    expect(['a', 'a/b+#', 'ü', '', 'a\0', 'x'.repeat(9), '\ufffd'].map(id => clientIdIsValid(id, 8)))
      .toEqual([true, true, true, false, false, false, false])
  })
})
