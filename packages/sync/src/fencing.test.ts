import { expect, test } from 'vitest'
import type { BootId } from '@holdfast/protos'
import { Fence, duplicateRetryAfterMs, fenceHoldMs } from './fencing.ts'

const [one, two, three] = ['1', '2', '3'].map(digit => digit.repeat(16) as BootId) as [BootId, BootId, BootId]

test('the connect counter orders the sessions of one boot', () => {
  const fence = new Fence()
  expect(fence.admit(one, 1, 0)).toEqual({ kind: 'accept', fenced: undefined })
  expect(fence.admit(one, 3, 0)).toEqual({ kind: 'accept', fenced: undefined })
  expect(fence.admit(one, 3, 0)).toEqual({ kind: 'stale' })
  expect(fence.admit(one, 2, 0)).toEqual({ kind: 'stale' })
})

test('a new boot fences the one before, whose return shows a duplicate', () => {
  const fence = new Fence()
  fence.admit(one, 1, 0)
  expect(fence.duplicateIdentity(0)).toBe(false)
  expect(fence.admit(two, 1, 1000)).toEqual({ kind: 'accept', fenced: one })
  expect(fence.admit(one, 2, 2000)).toEqual({ kind: 'duplicate', retryAfterMs: duplicateRetryAfterMs })
  expect(fence.duplicateIdentity(2000)).toBe(true)
  expect(fence.admit(two, 2, 3000)).toEqual({ kind: 'accept', fenced: undefined })
})

test('they do not take turns, however often the fenced one tries', () => {
  const fence = new Fence()
  fence.admit(one, 1, 0)
  fence.admit(two, 1, 0)
  for (let i = 1; i <= 60; i++) {
    const nowMs = i * 60_000
    fence.seen(nowMs)
    expect(fence.admit(one, i + 1, nowMs).kind).toBe('duplicate')
  }
})

test('once the one that fenced it has been silent long enough, the fenced one may come back', () => {
  const fence = new Fence()
  fence.admit(one, 1, 0)
  fence.admit(two, 1, 0)
  fence.seen(5000)
  expect(fence.admit(one, 2, 5000 + fenceHoldMs - 1).kind).toBe('duplicate')
  expect(fence.admit(one, 3, 5000 + fenceHoldMs)).toEqual({ kind: 'accept', fenced: two })
  expect(fence.admit(two, 2, 5001 + fenceHoldMs).kind).toBe('duplicate')
})

test('remembers a bounded number of fenced boots, the latest', () => {
  const fence = new Fence()
  const boots = Array.from({ length: 200 }, (_, i) => i.toString(16).padStart(16, '0') as BootId)
  for (const boot of boots) fence.admit(boot, 1, 0)
  expect(fence.admit(boots.at(-2)!, 2, 1).kind).toBe('duplicate')
  expect(fence.admit(boots[0]!, 2, 1).kind).toBe('accept')
  expect(fence.admit(three, 1, 1).kind).toBe('accept')
})
