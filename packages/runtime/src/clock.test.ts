import { expect, test } from 'vitest'
import { SystemClock } from './clock.ts'

test('a delay that no timer takes does not run out at once', async () => {
  const clock = new SystemClock()
  const ran: number[] = []
  const timers = [2 ** 31, 1e10, Infinity].map(delayMs => clock.after(delayMs, () => { ran.push(delayMs) }))
  // Behind them, if they were of 1 ms.
  await new Promise<void>(resolve => { clock.after(2, resolve) })
  for (const timer of timers) timer.cancel()
  expect(ran).toEqual([])
})
