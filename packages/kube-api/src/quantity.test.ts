import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { QuantityError, canonicalQuantity, formatQuantity, parseQuantity, quantityOrder, quantitySign } from './quantity.ts'

describe('quantities as the real server reads and writes them', () => {
  test('the largest suffix without a fraction', () => {
    const written: Record<string, string> = {
      '0.5': '500m', '1.5Gi': '1536Mi', '1.5': '1500m', '100000k': '100M', '1024Ki': '1Mi', '1.0': '1', '1.25m': '1250u', '0.1m': '100u',
      '0.5Ki': '512', '1.5Ki': '1536', '1.1Ki': '1126400m', '-1.5Gi': '-1536Mi', '1024Pi': '1Ei', '1e19': '10e18', '1e1000': '10e999',
      '12345678901234567890': '12345678901234567890', '4096Mi': '4Gi', '1000': '1k', '1000000m': '1k', '0.000001': '1u'
    }
    for (const [sent, served] of Object.entries(written)) expect(canonicalQuantity(sent), sent).toBe(served)
  })

  test('what is in order stays as it was sent', () => {
    for (const text of ['100m', '5Ki', '+5Ki', '005Ki', '1.Gi', '+5', '1.500', '1E3', '1e3', '500m', '1500u', '1536Mi', '1n', '999']) {
      expect(canonicalQuantity(text), text).toBe(text)
    }
  })

  test('zero is zero', () => {
    for (const text of ['0', '00', '-0', '0Ki', '0.0', '0e5', '+', '-', '.', 'm', 'Ki', '.Gi', '0.0Ei']) {
      expect(canonicalQuantity(text), text).toBe('0')
      expect(quantitySign(text), text).toBe(0)
    }
  })

  test('what is finer than a billionth is rounded away from zero, what is too large is capped', () => {
    expect(canonicalQuantity('0.0000000001')).toBe('1n')
    expect(canonicalQuantity('1e-10')).toBe('1e-9')
    expect(canonicalQuantity('-0.1n')).toBe('-1n')
    expect(canonicalQuantity('1.0000000001')).toBe('1000000001n')
    for (const large of ['8Ei', '900Ei', '100000000000000000000Ei']) expect(canonicalQuantity(large)).toBe('9223372036854775807')
  })

  test('a decimal above 999E keeps its size', () => {
    expect(canonicalQuantity('1000E')).toBe('1e21')
    expect(quantityOrder(canonicalQuantity('1000E'), '1e21')).toBe(0)
  })

  test('refusals', () => {
    const words = {
      "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'":
        ['lots', '', '1Z', '1.1.1', '1 ', ' 1', '1e1x', '３', '1\n'],
      'unable to parse quantity\'s suffix': ['1e', '--1', '1m5', '1K', '5i', '1ki', '1Ke3', '1mm', '1e-', '1e9999999999', '1Mi3'],
      'unable to parse numeric part of quantity': ['Pi', 'Ei', 'e-12', '1'.repeat(129)]
    }
    for (const [message, texts] of Object.entries(words)) {
      for (const text of texts) {
        expect(() => parseQuantity(text), JSON.stringify(text)).toThrow(QuantityError)
        expect(() => canonicalQuantity(text), JSON.stringify(text)).toThrow(expect.objectContaining({ code: 400, reason: 'BadRequest', message }) as Error)
      }
    }
  })

  test('comparing writes no exponent out', () => {
    expect(quantityOrder('1e999999999', '1e-9')).toBe(1)
    expect(quantityOrder('-1e999999999', '1')).toBe(-1)
    expect(quantityOrder('-1e999999999', '-1e999999998')).toBe(-1)
    expect(quantityOrder('1e999999999', '10e999999998')).toBe(0)
    expect(quantityOrder('1e-999999999', '1n')).toBe(0)
    expect(canonicalQuantity('1e-999999999')).toBe('1e-9')
  })

  test('order is that of the numbers, whatever the suffix', () => {
    const ascending = ['-1Gi', '-1', '-1n', '0', '1n', '1u', '999u', '1m', '999m', '1', '1001m', '999', '1k', '1Ki', '1M', '1Mi', '1e9', '1Gi', '2E', '2Ei']
    for (const [i, a] of ascending.entries()) {
      for (const [j, b] of ascending.entries()) expect(quantityOrder(a, b), `${a} ${b}`).toBe(Math.sign(i - j))
    }
    expect(quantityOrder('1000m', '1')).toBe(0)
    expect(quantityOrder('1Gi', '1073741824')).toBe(0)
  })
})

describe('laws of quantities', () => {
  const suffixes = ['', 'n', 'u', 'm', 'k', 'M', 'G', 'T', 'P', 'E', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'Ei', 'e3', 'E-3', 'e7', 'E+2', 'e-12', 'E30']
  const quantity = fc.tuple(fc.constantFrom('', '-', '+'), fc.bigInt(0n, 10n ** 22n), fc.option(fc.nat(999_999), { nil: undefined }), fc.constantFrom(...suffixes))
    .map(([sign, whole, fraction, suffix]) => `${sign}${whole}${fraction === undefined ? '' : `.${fraction}`}${suffix}`)
  const value = (text: string): bigint => {
    const { unscaled, exponent } = parseQuantity(text)
    return unscaled * 10n ** BigInt(exponent + 9)
  }

  test('the canonical form is the same quantity, and its own canonical form', () => {
    fc.assert(fc.property(quantity, text => {
      const canonical = formatQuantity(parseQuantity(text))
      expect(canonical).toMatch(/^(0|-?[1-9]\d*([num]|[kMGTPE]|[KMGTPE]i|e-?\d+)?)$/)
      expect(quantityOrder(canonical, text)).toBe(0)
      expect(formatQuantity(parseQuantity(canonical))).toBe(canonical)
      expect(canonicalQuantity(canonicalQuantity(text))).toBe(canonicalQuantity(text))
    }), { numRuns: 1000 })
  })

  test('order is that of the values', () => {
    fc.assert(fc.property(quantity, quantity, (a, b) => {
      const [left, right] = [value(a), value(b)]
      expect(quantityOrder(a, b)).toBe(left < right ? -1 : left > right ? 1 : 0)
      expect(quantityOrder(b, a)).toBe(left < right ? 1 : left > right ? -1 : 0)
      expect(quantitySign(a)).toBe(left < 0n ? -1 : left > 0n ? 1 : 0)
    }), { numRuns: 1000 })
  })

  test('any text at all is a quantity or a refusal', () => {
    fc.assert(fc.property(fc.string({ unit: fc.constantFrom(...'0123456789.+-eEinumkKMGTP '.split('')), maxLength: 12 }), text => {
      let outcome: string
      try {
        outcome = canonicalQuantity(text)
      } catch (error) {
        expect(error).toBeInstanceOf(QuantityError)
        return
      }
      expect(quantityOrder(outcome, text)).toBe(0)
    }), { numRuns: 2000 })
  })
})
