import { expect, test } from 'vitest'
import { describeError, HoldfastError } from './errors.ts'

const notThere = Object.assign(new Error('ENOENT: no such file or directory, open \'/nope\''), { code: 'ENOENT' })

test('an error is described with its code, and with its cause', () => {
  expect(describeError(new HoldfastError('A_CODE', 'it failed'))).toBe('A_CODE: it failed')
  expect(describeError(new Error('it failed', { cause: notThere }))).toBe(`it failed (${notThere.message})`)
  expect(describeError(new Error('it failed', { cause: 'a string' }))).toBe('it failed (a string)')
  expect(describeError(7)).toBe('7')
})

test('a cause that the message quotes is not said again, at any depth', () => {
  const inner = new HoldfastError('INNER', `/nope: ${describeError(notThere)}`, { cause: notThere })
  const outer = new HoldfastError('OUTER', describeError(inner), { cause: inner })
  expect(describeError(outer)).toBe(`OUTER: INNER: /nope: ${notThere.message}`)
})
