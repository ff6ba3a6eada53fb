import { expect, test } from 'vitest'
import { formatBytes, formatDurationMs, parseBytes, parseDurationMs } from './units.ts'

test('sizes have binary units, or are plain bytes', () => {
  expect(['512MiB', '64KiB', '1.5GiB', '4096', '0', ' 8 KiB '].map(parseBytes))
    .toEqual([2 ** 29, 2 ** 16, 1.5 * 2 ** 30, 4096, 0, 8192])
  expect(['', 'lots', '-1', '5MB', '1e3', '1.0001KiB', '99999999999GiB'].map(parseBytes)).toEqual(Array(7).fill(undefined))
})

test('durations have a unit, except nothing', () => {
  expect(['500ms', '10s', '5m', '12h', '7d', '0', '1.5s'].map(parseDurationMs))
    .toEqual([500, 10_000, 300_000, 43_200_000, 604_800_000, 0, 1500])
  expect(['', '10', '-1s', '1w', '0.5ms'].map(parseDurationMs)).toEqual(Array(5).fill(undefined))
})

test('what is formatted is read back', () => {
  for (const value of [0, 1, 1023, 1024, 257 * 1024, 2 ** 29, 2 ** 40, 2 ** 40 + 1]) {
    expect(parseBytes(formatBytes(value))).toBe(value)
    expect(parseDurationMs(formatDurationMs(value))).toBe(value)
  }
})
