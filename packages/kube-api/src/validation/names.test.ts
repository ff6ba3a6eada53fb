import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  duplicateValue, forbiddenValue, invalidObject, invalidValue, notFoundValue, quote, requiredValue, tooManyValues,
  typeInvalidValue, unsupportedValue
} from './causes.ts'
import {
  annotationBytesMax, annotationCauses, asGenerateName, builtInFinalizerCauses, configMapKeyErrors,
  dns1035LabelErrors, dns1123LabelErrors, dns1123SubdomainErrors, envVarNameErrors, finalizerCauses,
  httpHeaderNameErrors, labelCauses, labelValueErrors, portNameErrors, portNumberErrors, qualifiedNameErrors, unixIdErrors,
  type NameCheck
} from './names.ts'

const subdomainError = 'a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \'-\' or \'.\', and must '
  + 'start and end with an alphanumeric character (e.g. \'example.com\', regex used for validation is '
  + '\'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\')'
const labelError = 'a lowercase RFC 1123 label must consist of lower case alphanumeric characters or \'-\', and must start and end '
  + 'with an alphanumeric character (e.g. \'my-name\',  or \'123-abc\', regex used for validation is \'[a-z0-9]([-a-z0-9]*[a-z0-9])?\')'
const qualifiedRest = 'must consist of alphanumeric characters, \'-\', \'_\' or \'.\', and must start and end with an alphanumeric '
  + 'character (e.g. \'MyName\',  or \'my.name\',  or \'123-abc\', regex used for validation is '
  + '\'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]\')'
const keyError = 'a valid config key must consist of alphanumeric characters, \'-\', \'_\' or \'.\' (e.g. \'key.name\',  or '
  + '\'KEY_NAME\',  or \'key-name\', regex used for validation is \'[-._a-zA-Z0-9]+\')'

describe('names', () => {
  test('a subdomain is refused in the words of the real server', () => {
    for (const name of ['Upper', 'a_b', 'a b', 'a..b', 'a-', 'a/b', 'a%b', '.', 'ä', '', '-a', 'a.-b', 'a.b-.c', 'a\n']) {
      expect(dns1123SubdomainErrors(name), name).toEqual([subdomainError])
    }
    for (const name of ['a', 'a.b', '1.2', 'a-b.c--d', 'x'.repeat(253)]) expect(dns1123SubdomainErrors(name), name).toEqual([])
    expect(dns1123SubdomainErrors('x'.repeat(254))).toEqual(['must be no more than 253 characters'])
    expect(dns1123SubdomainErrors('X'.repeat(254))).toEqual(['must be no more than 253 characters', subdomainError])
  })

  test('a label is a subdomain without dots', () => {
    expect(dns1123LabelErrors('a.b')).toEqual(['must not contain dots'])
    expect(dns1123LabelErrors('A')).toEqual([labelError])
    expect(dns1123LabelErrors('')).toEqual([labelError])
    expect(dns1123LabelErrors('x'.repeat(63))).toEqual([])
    expect(dns1123LabelErrors('x'.repeat(64))).toEqual(['must be no more than 63 characters'])
  })

  test('a DNS-1035 label begins with a letter', () => {
    expect(dns1035LabelErrors('abc-123')).toEqual([])
    expect(dns1035LabelErrors('1a')).toEqual(['a DNS-1035 label must consist of lower case alphanumeric characters or \'-\', start '
      + 'with an alphabetic character, and end with an alphanumeric character (e.g. \'my-name\',  or \'abc-123\', regex used for '
      + 'validation is \'[a-z]([-a-z0-9]*[a-z0-9])?\')'])
    expect(dns1035LabelErrors('a-')).toHaveLength(1)
    expect(dns1035LabelErrors(`${'A'.repeat(64)}`)).toHaveLength(2)
  })

  test('a qualified name has at most one prefix', () => {
    for (const name of ['a', 'A_b.c-d', 'example.com/a', `${'x'.repeat(253)}/${'y'.repeat(63)}`]) {
      expect(qualifiedNameErrors(name), name).toEqual([])
    }
    expect(qualifiedNameErrors('b/c/d')).toEqual([`a qualified name ${qualifiedRest} with an optional DNS subdomain prefix and '/' `
      + '(e.g. \'example.com/MyName\')'])
    expect(qualifiedNameErrors('a b')).toEqual([`name part ${qualifiedRest}`])
    expect(qualifiedNameErrors('e'.repeat(64))).toEqual(['name part must be no more than 63 characters'])
    expect(qualifiedNameErrors('/a')).toEqual(['prefix part must be non-empty'])
    expect(qualifiedNameErrors('A/')).toEqual([`prefix part ${subdomainError}`, 'name part must be non-empty', `name part ${qualifiedRest}`])
    expect(qualifiedNameErrors('')).toEqual(['name part must be non-empty', `name part ${qualifiedRest}`])
  })

  test('keys of data do not lead out of a folder', () => {
    expect(configMapKeyErrors('a b')).toEqual([keyError])
    expect(configMapKeyErrors('../x')).toEqual([keyError, 'must not start with \'..\''])
    expect(configMapKeyErrors('.')).toEqual(['must not be \'.\''])
    expect(configMapKeyErrors('..')).toEqual(['must not be \'..\''])
    expect(configMapKeyErrors('..a')).toEqual(['must not start with \'..\''])
    expect(configMapKeyErrors('')).toEqual([keyError])
    expect(configMapKeyErrors('.a_B-1')).toEqual([])
    expect(configMapKeyErrors('k'.repeat(254))).toEqual(['must be no more than 253 characters'])
  })

  test('names of variables, ports, headers and identifiers', () => {
    expect(envVarNameErrors('A b-1.%')).toEqual([])
    expect(envVarNameErrors('')).toEqual(['environment variable name must be non-empty'])
    for (const name of ['a=b', 'ä', 'a\tb', '\u007f']) {
      expect(envVarNameErrors(name), name)
        .toEqual(['a valid environment variable name must consist only of printable ASCII characters other than \'=\''])
    }
    expect(portNumberErrors(70_000)).toEqual(['must be between 1 and 65535, inclusive'])
    expect([1, 65_535].flatMap(portNumberErrors)).toEqual([])
    expect(unixIdErrors(-1)).toEqual(['must be between 0 and 2147483647, inclusive'])
    expect(portNameErrors('http-1')).toEqual([])
    expect(portNameErrors('-A--')).toEqual([
      'must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)', 'must contain at least one letter (a-z)',
      'must not contain consecutive hyphens', 'must not begin or end with a hyphen'
    ])
    expect(portNameErrors('p'.repeat(16))).toEqual(['must be no more than 15 characters'])
    expect(httpHeaderNameErrors('X-A')).toEqual([])
    expect(httpHeaderNameErrors('X A')).toHaveLength(1)
  })

  test('a generateName may end with a dash', () => {
    const check = asGenerateName(dns1123SubdomainErrors)
    expect(check('app-')).toEqual([])
    expect(check('a.-')).toEqual([])
    expect(check('-')).toEqual([subdomainError])
    expect(check('App-')).toEqual([subdomainError])
    expect(check('a_-')).toEqual([])
  })

  test('checks agree with the regular expressions they name, and read long names once', () => {
    const rules: [NameCheck, RegExp, number][] = [
      [dns1123LabelErrors, /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/, 63],
      [dns1123SubdomainErrors, /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/, 253],
      [dns1035LabelErrors, /^[a-z]([-a-z0-9]*[a-z0-9])?$/, 63],
      [labelValueErrors, /^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$/, 63]
    ]
    const names = fc.string({ unit: fc.constantFrom('a', 'Z', '0', '-', '.', '_', '/', 'ä', '\n'), maxLength: 12 })
    fc.assert(fc.property(names, name => {
      for (const [check, rule, lengthMax] of rules) {
        expect(check(name).length === 0).toBe(rule.test(name) && Buffer.byteLength(name) <= lengthMax)
      }
    }), { numRuns: 2000 })
    for (const [check] of rules) expect(check(`${'a-.'.repeat(1_000_000)}!`).length).toBeGreaterThan(0)
  })
})

describe('metadata', () => {
  test('labels are checked by key and value', () => {
    expect(labelCauses({ 'a': 'not ok', 'b/c/d': 'x', [`${'e'.repeat(64)}`]: 'y' }, 'metadata.labels')
      .map(({ reason, field, message }) => [reason, field, message.slice(0, 60)])).toEqual([
      ['FieldValueInvalid', 'metadata.labels', 'Invalid value: "not ok": a valid label must be an empty stri'],
      ['FieldValueInvalid', 'metadata.labels', 'Invalid value: "b/c/d": a qualified name must consist of alp'],
      ['FieldValueInvalid', 'metadata.labels', `Invalid value: "${'e'.repeat(44)}`]
    ])
  })

  test('annotations may be 256 KiB in all, and their keys of any case', () => {
    expect(annotationCauses({ 'Example.COM/a': 'b' }, 'metadata.annotations')).toEqual([])
    expect(annotationCauses({ 'a b': 'x' }, 'metadata.annotations')).toEqual([{
      reason: 'FieldValueInvalid', field: 'metadata.annotations', message: `Invalid value: "a b": name part ${qualifiedRest}`
    }])
    expect(annotationCauses({ a: 'x'.repeat(annotationBytesMax - 1) }, 'metadata.annotations')).toEqual([])
    expect(annotationCauses({ a: 'ä'.repeat(annotationBytesMax / 2) }, 'metadata.annotations')).toEqual([{
      reason: 'FieldValueTooLong', field: 'metadata.annotations', message: 'Too long: may not be more than 262144 bytes'
    }])
  })

  test('finalizers of built-in kinds are qualified or standard', () => {
    expect(finalizerCauses(['not qualified', 'plain'], 'metadata.finalizers')).toEqual([{
      reason: 'FieldValueInvalid', field: 'metadata.finalizers', message: `Invalid value: "not qualified": name part ${qualifiedRest}`
    }])
    expect(builtInFinalizerCauses(['kubernetes', 'a.b/c', 'orphan', 'foregroundDeletion', 'plain'], 'metadata.finalizers')).toEqual([{
      reason: 'FieldValueInvalid', field: 'metadata.finalizers[4]',
      message: 'Invalid value: "plain": name is neither a standard finalizer name nor is it fully qualified'
    }])
  })
})

describe('causes', () => {
  test('values are shown as the real server shows them', () => {
    expect(quote('ä "x"\\\n\u0000\u0085\u200b 😀\u{e0001}')).toBe('"ä \\"x\\"\\\\\\n\\x00\\u0085\\u200b 😀\\U000e0001"')
    expect(quote('\ud800')).toBe('"\ufffd"')
    expect(quote('x'.repeat(5000))).toBe(`"${'x'.repeat(4096)}…"`)
    expect(invalidValue('a', 70_000, 'no').message).toBe('Invalid value: 70000: no')
    expect(invalidValue('a', null, 'no').message).toBe('Invalid value: "null": no')
    expect(invalidValue('a', { b: [1] }, '').message).toBe('Invalid value: {"b":[1]}')
    expect(typeInvalidValue('a', 'string', 'no').reason).toBe('FieldValueTypeInvalid')
    expect(requiredValue('a').message).toBe('Required value')
    expect(requiredValue('a', 'why').message).toBe('Required value: why')
    expect(duplicateValue('a', 'b')).toEqual({ reason: 'FieldValueDuplicate', message: 'Duplicate value: "b"', field: 'a' })
    expect(notFoundValue('a', 'nope')).toEqual({ reason: 'FieldValueNotFound', message: 'Not found: "nope"', field: 'a' })
    expect(forbiddenValue('a', 'why').message).toBe('Forbidden: why')
    expect(unsupportedValue('a', 'b', ['c', 'd']).message).toBe('Unsupported value: "b": supported values: "c", "d"')
    expect(tooManyValues('a', 6, 5).message).toBe('Too many: 6: must have at most 5 items')
    expect(tooManyValues('a', 2, 1).message).toBe('Too many: 2: must have at most 1 item')
  })

  test('a cause given twice is told once', () => {
    const cause = invalidValue('metadata.uid', '0', 'field is immutable')
    const error = invalidObject({ group: '', kind: 'Secret' }, 's1', [cause, cause])
    expect(error).toMatchObject({
      code: 422, reason: 'Invalid', message: 'Secret "s1" is invalid: metadata.uid: Invalid value: "0": field is immutable',
      details: { name: 's1', kind: 'Secret', causes: [cause, cause] }
    })
    expect(invalidObject({ group: 'demo.example', kind: 'Gadget' }, 'g', [requiredValue('a'), requiredValue('b')]).message)
      .toBe('Gadget.demo.example "g" is invalid: [a: Required value, b: Required value]')
    expect(invalidObject({ group: '', kind: '' }, '', [requiredValue('a')]))
      .toMatchObject({ message: ' "" is invalid: a: Required value', details: { causes: [requiredValue('a')] } })
  })
})
