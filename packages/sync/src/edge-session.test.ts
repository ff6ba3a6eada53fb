import { expect, test } from 'vitest'
import type { Hello, Welcome } from '@holdfast/protos'
import { EdgeSession, edgeEventKinds, edgeStates } from './edge-session.ts'
import type { EdgeEvent, EdgeState } from './edge-session.ts'

const options = { probeMs: 10_000, deadMs: 25_000, retryDelayMs: 100, retryDelayMaxMs: 30_000 }
const hello = { kind: 'hello' } as Hello
const welcome = { kind: 'welcome' } as Welcome
const events: { readonly [K in EdgeEvent['kind']]: Extract<EdgeEvent, { kind: K }> } = {
  start: { kind: 'start' },
  stop: { kind: 'stop' },
  alarm: { kind: 'alarm', bytesReceived: 0, drainMs: 0 },
  opened: { kind: 'opened', hello },
  welcome: { kind: 'welcome', welcome },
  refuse: { kind: 'refuse', refuse: { kind: 'refuse', code: 'NO', message: 'why', retryAfterMs: 60_000 } },
  compared: { kind: 'compared' },
  restart: { kind: 'restart', reason: 'diverged' },
  violation: { kind: 'violation', message: 'nonsense' },
  closed: { kind: 'closed', reason: 'gone' }
}

const session = (random = 0.5): EdgeSession => new EdgeSession(options, { random: () => random })
const pathTo: Readonly<Record<EdgeState, readonly EdgeEvent[]>> = {
  stopped: [],
  waiting: [events.start, events.closed],
  dialing: [events.start],
  greeting: [events.start, events.opened],
  comparing: [events.start, events.opened, events.welcome],
  live: [events.start, events.opened, events.welcome, events.compared]
}

function at(state: EdgeState): EdgeSession {
  const it = session()
  for (const event of pathTo[state]) it.step(event, 0)
  expect(it.state).toBe(state)
  return it
}

type Cell = readonly [to: EdgeState, ...effects: string[]]
const nothing = (state: EdgeState): Cell => [state]
const lost: Cell = ['waiting', 'end', 'set-alarm']
const broken: Cell = ['waiting', 'close', 'end', 'set-alarm']
const stopped: Cell = ['stopped', 'close', 'end']

/** docs/spec/session.md, SES-1. */
const table: Readonly<Record<EdgeState, Readonly<Record<EdgeEvent['kind'], Cell>>>> = {
  stopped: {
    start: ['dialing', 'dial', 'set-alarm'], stop: nothing('stopped'), alarm: nothing('stopped'),
      opened: nothing('stopped'),
    welcome: nothing('stopped'), refuse: nothing('stopped'), compared: nothing('stopped'), restart: nothing('stopped'),
    violation: nothing('stopped'), closed: nothing('stopped')
  },
  waiting: {
    start: nothing('waiting'), stop: ['stopped', 'end'], alarm: ['dialing', 'dial', 'set-alarm'],
      opened: nothing('waiting'),
    welcome: nothing('waiting'), refuse: nothing('waiting'), compared: nothing('waiting'), restart: nothing('waiting'),
    violation: nothing('waiting'), closed: nothing('waiting')
  },
  dialing: {
    start: nothing('dialing'), stop: stopped, alarm: broken, opened: ['greeting', 'send'], welcome: broken,
      refuse: broken,
    compared: nothing('dialing'), restart: broken, violation: broken, closed: lost
  },
  greeting: {
    start: nothing('greeting'), stop: stopped, alarm: broken, opened: broken, welcome: ['comparing', 'compare',
      'set-alarm'], refuse: broken,
    compared: nothing('greeting'), restart: broken, violation: broken, closed: lost
  },
  comparing: {
    start: nothing('comparing'), stop: stopped, alarm: ['comparing', 'set-alarm'], opened: broken, welcome: broken,
      refuse: broken,
    compared: nothing('live'), restart: broken, violation: broken, closed: lost
  },
  live: {
    start: nothing('live'), stop: stopped, alarm: ['live', 'set-alarm'], opened: broken, welcome: broken,
      refuse: broken,
    compared: nothing('live'), restart: broken, violation: broken, closed: lost
  }
}

for (const state of edgeStates) {
  for (const kind of edgeEventKinds) {
    test(`${state}: ${kind}`, () => {
      const it = at(state)
      const effects = it.step(events[kind], 1)
      expect([it.state, ...effects.map(effect => effect.kind)]).toEqual([...table[state][kind]])
    })
  }
}

test('a probe goes out after silence, and the link is dead after more', () => {
  const it = at('live')
  expect(it.step({ kind: 'alarm', bytesReceived: 0, drainMs: 0 }, 10_000)).toMatchObject([
    { kind: 'send', frame: { kind: 'probe' } }, { kind: 'set-alarm', delayMs: 5000 }
  ])
  it.step({ kind: 'alarm', bytesReceived: 0, drainMs: 0 }, 15_000)
  it.step({ kind: 'alarm', bytesReceived: 0, drainMs: 0 }, 20_000)
  expect(it.step({ kind: 'alarm', bytesReceived: 0, drainMs: 0 }, 25_000).map(({ kind }) => kind)).toEqual(['close',
    'end', 'set-alarm'])
})

test('any byte is a sign of life', () => {
  const it = at('live')
  for (let nowMs = 10_000; nowMs < 200_000; nowMs += 10_000) {
    it.step({ kind: 'alarm', bytesReceived: nowMs, drainMs: 0 }, nowMs)
    expect(it.state).toBe('live')
  }
})

test('a link that drains what is in flight is slow, not dead', () => {
  const it = at('live')
  it.step({ kind: 'alarm', bytesReceived: 0, drainMs: 20_000 }, 10_000)
  it.alarmDueMs = 80_000
  it.step({ kind: 'alarm', bytesReceived: 0, drainMs: 20_000 }, 80_000)
  expect(it.state).toBe('live')
  it.alarmDueMs = 85_001
  it.step({ kind: 'alarm', bytesReceived: 0, drainMs: 20_000 }, 85_001)
  expect(it.state).toBe('waiting')
})

test('an alarm that was held up proves nothing about the link', () => {
  const it = at('live')
  it.step({ kind: 'alarm', bytesReceived: 0, drainMs: 0 }, 60_000)
  expect(it.state).toBe('live')
})

test('no alarm is shorter than a millisecond: a smaller rest would ring for ever', () => {
  const it = at('live')
  const [effect] = it.step({ kind: 'alarm', bytesReceived: 0, drainMs: 0 }, 9999.999_999_999)
  expect(effect).toEqual({ kind: 'set-alarm', delayMs: 1 })
})

test('delays grow to the ceiling, with full jitter, and a stable session clears them', () => {
  const delays = (random: number): number[] => {
    const it = session(random)
    it.step(events.start, 0)
    return Array.from({ length: 12 }, () => {
      const alarm = it.step(events.closed, 0).find(({ kind }) => kind === 'set-alarm') as { delayMs: number }
      it.step(events.alarm, 0)
      return alarm.delayMs
    })
  }
  expect(delays(0).every(delay => delay === 1)).toBe(true)
  expect(delays(0.5).slice(0, 4)).toEqual([50, 100, 200, 400])
  expect(Math.max(...delays(0.999_999))).toBeLessThanOrEqual(30_000)
  const it = session(1)
  it.step(events.start, 0)
  for (let i = 0; i < 8; i++) { it.step(events.closed, 0); it.step(events.alarm, 0) }
  for (const event of [events.opened, events.welcome, events.compared]) it.step(event, 1000)
  expect(it.step(events.closed, 61_000)).toContainEqual({ kind: 'set-alarm', delayMs: 100 })
})

test('a link that flaps is tried again within a second', () => {
  const it = session(1)
  it.step(events.start, 0)
  for (let i = 0; i < 8; i++) { it.step(events.closed, 0); it.step(events.alarm, 0) }
  for (const event of [events.opened, events.welcome, events.compared]) it.step(event, 1000)
  expect(it.step(events.closed, 3000)).toContainEqual({ kind: 'set-alarm', delayMs: 800 })
})

test('what the cloud asks for is a least', () => {
  const it = session(0)
  it.step(events.start, 0)
  expect(it.step(events.refuse, 0)).toContainEqual({ kind: 'set-alarm', delayMs: 60_000 })
})
