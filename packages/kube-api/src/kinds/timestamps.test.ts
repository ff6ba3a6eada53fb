import fc from 'fast-check'
import { expect, test } from 'vitest'
import { ageText, durationText, microTimeText, parseTimestamp, timeText } from './timestamps.ts'

test.each<[number, string]>([
  [-2, '<invalid>'], [-1, '0s'], [0, '0s'], [119, '119s'], [120, '2m'], [125, '2m5s'], [599, '9m59s'], [600, '10m'], [3599, '59m'],
  [3 * 3600 - 1, '179m'], [3 * 3600, '3h'], [3 * 3600 + 60, '3h1m'], [8 * 3600, '8h'], [48 * 3600 - 1, '47h'], [48 * 3600, '2d'],
  [50 * 3600, '2d2h'], [8 * 86_400, '8d'], [729 * 86_400, '729d'], [730 * 86_400, '2y'], [731 * 86_400, '2y1d'], [3000 * 86_400, '8y']
])('%d s is %s', (seconds, text) => {
  expect(durationText(seconds * 1000)).toBe(text)
})

test('a timestamp is read as the calendar has it', () => {
  fc.assert(fc.property(fc.date({ min: new Date('0001-01-02T00:00:00Z'), max: new Date('9999-12-30T00:00:00Z'), noInvalidDate: true }), date => {
    const parsed = parseTimestamp(date.toISOString())!
    expect(parsed.secondsMs + parsed.micros / 1000).toBe(date.getTime())
    expect(timeText(parsed)).toBe(date.toISOString().replace(/\.\d+Z/, 'Z'))
    expect(microTimeText(parsed)).toBe(date.toISOString().replace('Z', '000Z'))
  }))
})

test.each<[string, string | undefined]>([
  ['2026-11-21T12:14:49+01:00', '2026-11-21T11:14:49Z'], ['2024-02-29T23:59:59.9-00:30', '2024-03-01T00:29:59Z'],
  ['2023-02-29T00:00:00Z', undefined], ['2026-13-01T00:00:00Z', undefined], ['2026-11-21', undefined], ['2026-11-21T24:00:00Z', undefined],
  ['', undefined], ['2026-11-21T11:14:49', undefined], ['2026-04-31T00:00:00Z', undefined]
])('%s', (text, expected) => {
  const parsed = parseTimestamp(text)
  expect(parsed === undefined ? undefined : timeText(parsed)).toBe(expected)
})

test('an age without a beginning is unknown', () => {
  expect([ageText(undefined, 0), ageText(null, 0), ageText('', 0)]).toEqual(['<unknown>', '<unknown>', '<unknown>'])
})
