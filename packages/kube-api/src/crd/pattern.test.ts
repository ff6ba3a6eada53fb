import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { crdLimits } from './limits.ts'
import { BudgetError, Pattern, PatternError } from './pattern.ts'

const budget = () => ({ left: crdLimits.validationSteps.value })
const matches = (source: string, text: string): boolean => new Pattern(source).test(text, budget())

describe('a pattern', () => {
  test.each([
    ['^[a-z0-9-]+$', ['m-1', 'a'], ['Not OK', '', 'a\n']],
    ['b', ['abc'], ['ac']],
    ['^(a|bc)*d?$', ['', 'abcad', 'd'], ['abd!', 'cb']],
    ['^a{2,3}$', ['aa', 'aaa'], ['a', 'aaaa']],
    ['^a{2}$', ['aa'], ['a', 'aaa']],
    ['^a{2,}b??$', ['aa', 'aaaab'], ['a', 'ab']],
    ['^a{,2}$', ['a{,2}'], ['a', 'aa']],
    ['(?i)^straße$', ['STRAßE', 'straße'], ['strasse']],
    ['^(?i:a)b$', ['Ab', 'ab'], ['AB']],
    ['^(?P<year>\\d{4})-(?<month>\\d\\d)$', ['2026-11'], ['26-11']],
    ['^[^\\d\\s]$', ['x', '-'], ['1', ' ', 'xx']],
    ['^[\\w.-]+$', ['a_b.c-d'], ['a b']],
    ['^[]a]+$', [']a]'], ['b']],
    ['^[a\\]b]+$', ['a]b'], ['\\']],
    ['^[\\x41-\\x{43}]+$', ['ABC'], ['D']],
    ['^[[:alpha:]_]+$', ['a_Z'], ['1']],
    ['^[[:^digit:]]+$', ['a_Z'], ['a1']],
    ['^\\p{Greek}+\\PL$', ['αβ1'], ['ab1', 'αβγ']],
    ['^\\pN$', ['7', '½'], ['x']],
    ['\\bfoo\\b', ['a foo b', 'foo'], ['afoo', 'foob']],
    ['oo\\B', ['foob'], ['foo']],
    ['^\\Qa.b*\\E$', ['a.b*'], ['aab']],
    ['(?m)^b$', ['a\nb\nc'], ['a\nbc']],
    ['^a.c$', ['abc', 'a𝔘c'], ['a\nc']],
    ['(?s)^a.c$', ['a\nc'], ['ac']],
    ['^\\A\\z$', [''], ['x']],
    ['', ['', 'anything'], []],
    ['^(|a)$', ['', 'a'], ['b']],
    ['^\\.\\/\\-\\t$', ['./-\t'], ['a/-\t']]
  ])('%s', (source, right, wrong) => {
    for (const text of right) expect([text, matches(source, text)]).toEqual([text, true])
    for (const text of wrong) expect([text, matches(source, text)]).toEqual([text, false])
  })

  test.each([
    '(', ')', 'a)', '[', '[a', '*', 'a**', '+a', '\\', '(?=a)', '(?!a)', '(?<!a)', '\\1', '(a)\\1', 'a{1001}', 'a{3,2}', '[b-a]', '\\p{Nowhere}',
    '[[:nowhere:]]', '\\x{110000}', '(?P<a', '\\q', '((a{100}){100}){100}'
  ])('%s is none', source => {
    expect(() => new Pattern(source)).toThrow(PatternError)
  })

  test('takes a time that is linear in the text, whatever the pattern', () => {
    for (const source of ['(a+)+$', '(a|a)*$', '(a*)*b', '^(([a-z])+.)+[A-Z]([a-z])+$', '(x+x+)+y']) {
      const [short, long] = [1_000, 10_000].map(length => {
        const spent = budget()
        new Pattern(source).test('a'.repeat(length) + '!', spent)
        return crdLimits.validationSteps.value - spent.left
      })
      expect(long! / short!).toBeLessThan(11)
    }
  })

  test('stops where its budget ends', () => {
    expect(() => new Pattern('(a|b|c)*d').test('abc'.repeat(1_000), { left: 5_000 })).toThrow(BudgetError)
  })

  test('pays for each part of a class', () => {
    expect(() => new Pattern(`^[${'\\d'.repeat(100)}a-z${'A'.repeat(100)}]+$`).test('z'.repeat(100), { left: 5000 })).toThrow(BudgetError)
  })

  test('repeats nothing as often as it likes', { timeout: 5000 }, () => {
    expect(matches('a(((){1000}){1000}){1000}b', 'ab')).toBe(true)
  })

  test('nests as deep as it may, and no deeper', () => {
    expect(matches(`${'('.repeat(150)}a${')'.repeat(150)}`, 'a')).toBe(true)
    expect(() => new Pattern(`${'('.repeat(100_000)}a`)).toThrow(PatternError)
  })
})

/** Patterns that mean the same to V8, of few characters, so that texts meet them. */
const sources: fc.Arbitrary<string> = fc.letrec<{ node: string, atom: string }>(tie => ({
  atom: fc.oneof(
    { weight: 4, arbitrary: fc.constantFrom('a', 'b', '.', '[ab]', '[^a]', '\\w', '\\d', '\\.', '^', '$', '\\b', '[a-c]') },
    tie('node').map(node => `(${node})`), tie('node').map(node => `(?:${node})`)
  ),
  node: fc.oneof(
    { maxDepth: 4 },
    tie('atom'),
    fc.tuple(tie('atom'), fc.constantFrom('*', '+', '?', '{1,3}', '{2}', '*?')).map(([atom, quantifier]) => `(?:${atom})${quantifier}`),
    fc.tuple(tie('node'), tie('node')).map(([one, other]) => one + other),
    fc.tuple(tie('node'), tie('node')).map(([one, other]) => `${one}|${other}`)
  )
})).node

const runs = { numRuns: Number(process.env['RUNS'] ?? 500), ...process.env['SEED'] === undefined ? {} : { seed: Number(process.env['SEED']) } }

test('a pattern matches what the engine of the language matches', () => {
  const texts = fc.string({ unit: fc.constantFrom('a', 'b', 'c', '.', ' ', '1'), maxLength: 8 })
  fc.assert(fc.property(sources, fc.array(texts, { maxLength: 5 }), (source, given) => {
    // Line ends are no part of these texts: `.` means the same to both.
    for (const text of given) expect([source, text, matches(source, text)]).toEqual([source, text, new RegExp(source, 'u').test(text)])
  }), runs)
})

/** What means something in a pattern, and a little that does not. */
const syntax = 'a b ( ) [ ] { } | * + ? ^ $ . \\ - : , 1 d w p P L x Q E < > = ! i'.split(' ')

test('any text is a pattern or is refused as none', () => {
  fc.assert(fc.property(fc.string({ unit: fc.constantFrom(...syntax), maxLength: 24 }), source => {
    try {
      new Pattern(source).test('abcab', budget())
    } catch (error) {
      expect(error).toBeInstanceOf(PatternError)
    }
  }), runs)
})
