import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { KubeObject } from './object.ts'
import type { StoredObject } from './object-store-types.ts'
import { matchesFields, matchesLabels, parseFieldSelector, parseLabelSelector, selectableFieldNames, selectorMatch } from './selectors.ts'
import type { LabelRequirement } from './selectors.ts'
import { StatusError } from './status-error.ts'

const runs = { numRuns: Number(process.env['RUNS'] ?? 500), ...process.env['SEED'] !== undefined && { seed: Number(process.env['SEED']) } }

function messageOf(run: () => unknown): string {
  try {
    run()
  } catch (error) {
    expect(error).toMatchObject({ code: 400, reason: 'BadRequest' })
    return (error as StatusError).message
  }
  throw new Error('was not refused')
}

describe('label selectors', () => {
  const objects: readonly Record<string, string>[] = [
    { app: 'even', n: '0' }, { app: 'odd', n: '1' }, { app: 'even', n: '2' }, { app: 'odd', n: '3' }, { app: 'even', n: '4' },
    { app: 'odd', n: '5', big: '' }, { app: 'even', n: '6', big: '' }, {}
  ]
  const chosen = (text: string): number[] => {
    const selector = parseLabelSelector(text)
    return objects.flatMap((labels, i) => matchesLabels(selector, labels) ? [i] : [])
  }

  test.each<[string, number[]]>([
    ['', [0, 1, 2, 3, 4, 5, 6, 7]],
    ['app=odd', [1, 3, 5]],
    ['app==odd', [1, 3, 5]],
    ['app!=odd', [0, 2, 4, 6, 7]],
    ['n in (1,2)', [1, 2]],
    ['n notin (1,2,3)', [0, 4, 5, 6, 7]],
    ['big', [5, 6]],
    ['!big', [0, 1, 2, 3, 4, 7]],
    ['app=even,n in (0,2,4),!big', [0, 2, 4]],
    [' app = odd ', [1, 3, 5]],
    ['big=', [5, 6]],
    ['nokey!=x', [0, 1, 2, 3, 4, 5, 6, 7]],
    ['n>3', [4, 5, 6]],
    ['n<1', [0]],
    ['app>1', []],
    ['app=none', []],
    ['big in (,x)', [5, 6]],
    ['big in ()', [5, 6]],
    ['big in (a,,b)', [5, 6]],
    ['in in (in,notin)', []],
    ['example.com/app!=a', [0, 1, 2, 3, 4, 5, 6, 7]]
  ])('%s', (text, expected) => { expect(chosen(text)).toEqual(expected) })

  test.each([
    ['app ~ x', 'unable to parse requirement: found \'~\', expected: in, notin, =, ==, !=, gt, lt'],
    ['app=not ok', 'found \'ok\', expected: \',\' or \'end of string\''],
    ['=x', 'found \'=\', expected: !, identifier, or \'end of string\''],
    ['app in (a', 'unable to parse requirement: found \'\', expected: \',\' or \')\''],
    ['n>x', 'unable to parse requirement: values[0]: Invalid value: "x": for \'Gt\', \'Lt\' operators, the value must be an integer'],
    ['!!', 'unable to parse requirement: found \'!\', expected: identifier'],
    ['a,', 'found \'\', expected: identifier after \',\''],
    ['a,,b', 'found \',\', expected: identifier after \',\''],
    ['!a=b', 'found \'=\', expected: \',\' or \'end of string\''],
    ['a in b', 'unable to parse requirement: found \'b\' expected: \'(\''],
    ['a in (b c)', 'unable to parse requirement: found \'c\', expected: \',\' or \')\''],
    ['a in (!)', 'unable to parse requirement: found \'!\', expected: \',\', \')\' or identifier'],
    ['a=(', 'unable to parse requirement: found \'(\', expected: identifier']
  ])('%s is refused in the words of the real server', (text, message) => {
    expect(messageOf(() => parseLabelSelector(text))).toBe(message)
  })

  test('keys and values have to be such', () => {
    expect(messageOf(() => parseLabelSelector('-a=b'))).toMatch(/^unable to parse requirement: <nil>: Invalid value: "-a": name part must consist of/)
    expect(messageOf(() => parseLabelSelector('a=-b'))).toMatch(/^unable to parse requirement: values\[0\]\[a\]: Invalid value: "-b": a valid label must be/)
    expect(messageOf(() => parseLabelSelector('x'.repeat(20_000)))).toBe('labelSelector has 20000 characters, the limit is 16384')
  })

  const word = fc.stringMatching(/^[a-z]([-a-z0-9]{0,3}[a-z0-9])?$/)
  const value = fc.oneof(word, fc.constant(''), fc.nat(20).map(String))
  const requirement: fc.Arbitrary<LabelRequirement> = fc.oneof(
    fc.record({ key: word, operator: fc.constantFrom('=', '==', '!='), values: value.map(one => [one]) }),
    fc.record({ key: word, operator: fc.constantFrom('gt', 'lt'), values: fc.nat(20).map(one => [String(one)]) }),
    fc.record({ key: word, operator: fc.constantFrom('in', 'notin'), values: fc.uniqueArray(value, { minLength: 1, maxLength: 4 }).map(list => list.toSorted()) }),
    fc.record({ key: word, operator: fc.constantFrom('exists', '!'), values: fc.constant([]) })
  )
  const rendered = ({ key, operator, values }: LabelRequirement, space: string): string => {
    switch (operator) {
      case 'exists': return `${space}${key}${space}`
      case '!': return `!${space}${key}`
      case 'in': case 'notin': return `${key} ${operator}${space}(${values.join(`${space},${space}`)}${space})`
      case 'gt': case 'lt': return `${key}${space}${operator === 'gt' ? '>' : '<'}${space}${values[0]!}`
      default: return `${key}${space}${operator}${space}${values[0]!}`
    }
  }

  test('what is written is read', () => {
    fc.assert(fc.property(fc.array(requirement, { maxLength: 5 }), fc.constantFrom('', ' ', '\t '), (requirements, space) => {
      // One empty value in a list is written as nothing between the parentheses, and means the same.
      expect(parseLabelSelector(requirements.map(one => rendered(one, space)).join(`,${space}`))).toEqual(requirements)
    }), runs)
  })

  test('a selector is the conjunction of its requirements, and each pair of opposites splits all objects', () => {
    const labels = fc.dictionary(word, value, { maxKeys: 5 })
    fc.assert(fc.property(fc.array(requirement, { maxLength: 4 }), labels, (requirements, given) => {
      const each = requirements.map(one => matchesLabels([one], given))
      expect(matchesLabels(requirements, given)).toBe(each.every(Boolean))
      for (const { key, values } of requirements) {
        const holds = (operator: LabelRequirement['operator']): boolean => matchesLabels([{ key, operator, values }], given)
        expect([holds('in') !== holds('notin'), holds('exists') !== holds('!')]).toEqual([true, true])
        if (values.length === 1) expect([holds('='), holds('==')]).toEqual([holds('in'), !holds('!=')])
        if (holds('gt') || holds('lt')) expect(holds('exists')).toBe(true)
      }
    }), runs)
  })

  test('whatever is sent, the answer is a selector or 400', () => {
    const noise = fc.array(fc.constantFrom('a', 'in', 'notin', ' ', ',', '(', ')', '!', '=', '>', '<', '~', 'é', '\0'), { maxLength: 12 })
    fc.assert(fc.property(fc.oneof(noise.map(parts => parts.join('')), fc.string()), text => {
      try {
        matchesLabels(parseLabelSelector(text), { a: '1' })
      } catch (error) {
        if (!(error instanceof StatusError) || error.code !== 400) throw error
      }
    }), runs)
  })

  test('members of the prototype are no labels', () => {
    expect(matchesLabels(parseLabelSelector('constructor'), {})).toBe(false)
    expect(matchesLabels(parseLabelSelector('!toString'), {})).toBe(true)
  })
})

describe('field selectors', () => {
  const names = ['spec.nodeName', 'status.phase']

  test('compare texts, and are joined by and', () => {
    const fields: Record<string, string> = { 'metadata.name': 'a', 'spec.nodeName': '', 'status.phase': 'Pending' }
    const holds = (text: string): boolean => matchesFields(parseFieldSelector(text, names), field => fields[field] ?? '')
    expect(['', 'metadata.name=a', 'metadata.name==a', 'metadata.name!=b', 'spec.nodeName=', 'status.phase!=Running,spec.nodeName=', ',metadata.name=a,'].map(holds))
      .toEqual([true, true, true, true, true, true, true])
    expect(['metadata.name=b', 'metadata.name!=a', 'spec.nodeName!=', 'status.phase=Pending,metadata.name=b'].map(holds)).toEqual([false, false, false, false])
  })

  test.each([
    ['data.k=v', [], '"data.k" is not a known field selector: only "metadata.name", "metadata.namespace"'],
    ['metadata.labels.app=odd', [], '"metadata.labels.app" is not a known field selector: only "metadata.name", "metadata.namespace"'],
    ['metadata.name', [], 'invalid selector: \'metadata.name\'; can\'t understand \'metadata.name\''],
    ['metadata.name in (i1)', [], 'invalid selector: \'metadata.name in (i1)\'; can\'t understand \'metadata.name in (i1)\''],
    ['spec.priority=0', names, 'field label not supported: spec.priority'],
    ['metadata.name=a=b', [], 'invalid field selector: unescaped character in value: 61'],
    ['metadata.name=a\\b', [], 'invalid field selector: invalid escape sequence: \\b'],
    ['metadata.name=a\\', [], 'invalid field selector: invalid escape sequence: \\']
  ])('%s is refused in the words of the real server', (text, fieldNames, message) => {
    expect(messageOf(() => parseFieldSelector(text, fieldNames))).toBe(message)
  })

  test('every value can be written', () => {
    fc.assert(fc.property(fc.array(fc.record({ operator: fc.constantFrom('=' as const, '!=' as const), value: fc.string({ unit: fc.constantFrom('a', ',', '=', '\\', '!', 'é', '😀') }) }), { maxLength: 4 }), terms => {
      const text = terms.map(({ operator, value }) => `metadata.name${operator}${value.replaceAll(/[\\,=]/g, '\\$&')}`).join(',')
      const parsed = parseFieldSelector(text, []).map(({ operator, value }) => `${operator}${value}`)
      // A value that begins with `=` reads as `==`.
      const expected = terms.map(({ operator, value }) => `${operator}${value}`)
      expect(parsed.toSorted()).toEqual(expected.toSorted())
    }), runs)
  })

  test('whatever is sent, the answer is a selector or 400', () => {
    fc.assert(fc.property(fc.string({ unit: fc.constantFrom('a', '.', ',', '=', '!', '\\', ' ') }), text => {
      try {
        parseFieldSelector(text, ['a'])
      } catch (error) {
        if (!(error instanceof StatusError) || error.code !== 400) throw error
      }
    }), runs)
  })
})

describe('both together', () => {
  const stored = (name: string, namespace: string, labels: Record<string, string>, phase: string): StoredObject => ({
    resource: 'pods', namespace, name, revision: 1, json: Buffer.alloc(0),
    object: { apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace, labels }, status: { phase } }
  })
  const fieldsOf = (object: KubeObject): Record<string, string> => ({ 'status.phase': (object['status'] as { phase?: string } | undefined)?.phase ?? '' })

  test('choose what both choose', () => {
    const matches = selectorMatch(parseLabelSelector('app=x'), parseFieldSelector('status.phase=Running,metadata.namespace=a,metadata.name!=c', ['status.phase']), fieldsOf)!
    expect([
      stored('a', 'a', { app: 'x' }, 'Running'), stored('a', 'a', { app: 'x' }, 'Pending'), stored('a', 'a', {}, 'Running'),
      stored('a', 'b', { app: 'x' }, 'Running'), stored('c', 'a', { app: 'x' }, 'Running')
    ].map(matches)).toEqual([true, false, false, false, false])
    expect(selectorMatch([], [], fieldsOf)).toBeUndefined()
  })

  test('the fields of a resource are those of an object with nothing in it', () => {
    expect(selectableFieldNames({ group: '', version: 'v1', kind: 'Pod', selectableFields: fieldsOf })).toEqual(['status.phase'])
  })
})
