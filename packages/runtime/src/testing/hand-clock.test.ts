import { expect, test } from 'vitest'
import { HandClock, turns } from './hand-clock.ts'

/** A clock, and timers that note when they run; the one at 20 sets another. */
function noting(clock: HandClock): string[] {
  const ran: string[] = []
  const note = (name: string): void => { ran.push(`${name}@${clock.nowMs}`) }
  clock.after(30, () => { note('c') })
  clock.after(10, () => { note('a') })
  clock.after(20, () => {
    note('b')
    void Promise.resolve().then(() => { clock.after(5, () => { note('later') }) })
    clock.after(5, () => { note('then') })
  })
  clock.after(15, () => { note('cancelled') }).cancel()
  return ran
}

test('what is due runs in its order and at its time, also what comes up in between', async () => {
  const clock = new HandClock(0)
  const ran = noting(clock)
  expect([clock.timers, clock.waiting]).toEqual([3, [10, 20, 30]])
  await clock.pass(29)
  expect([ran, clock.nowMs, clock.waiting]).toEqual([['a@10', 'b@20', 'then@25', 'later@25'], 29, [1]])
  await clock.pass(1)
  expect([ran.at(-1), clock.timers]).toEqual(['c@30', 0])
})

test('all in one turn where asked to: what is awaited comes behind', async () => {
  const clock = new HandClock(0)
  const ran = noting(clock)
  clock.advance(40)
  expect([ran, clock.nowMs]).toEqual([['a@10', 'b@20', 'then@25', 'c@30'], 40])
  await turns()
  expect(clock.waiting).toEqual([5])
})

test('a timer that the test went past does not turn time back', async () => {
  const clock = new HandClock(1000)
  const ran = noting(clock)
  clock.nowMs += 500
  await clock.pass(0)
  expect([ran, clock.nowMs]).toEqual([['a@1500', 'b@1500', 'c@1500'], 1500])
})

test('with a start both times are that one, without they differ', () => {
  const [given, apart] = [new HandClock(7), new HandClock()]
  expect([given.monotonicMs(), given.wallMs()]).toEqual([7, 7])
  expect(apart.wallMs() - apart.monotonicMs()).toBe(1_800_000_000_000)
})
