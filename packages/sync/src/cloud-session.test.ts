import { expect, test } from 'vitest'
import { protocolMax } from '@holdfast/protos'
import type { Hello } from '@holdfast/protos'
import { CloudSession, cloudEventKinds, cloudStates } from './cloud-session.ts'
import type { CloudEvent, CloudState } from './cloud-session.ts'

const options = { helloMs: 10_000, deadMs: 25_000, software: '2.0.0' }
const hello: Hello = {
  kind: 'hello', protocolMin: 1, protocolMax, bootId: '0000000000000001' as Hello['bootId'], connectCounter: 1,
    clusterUid: '', logId: '',
  wallMs: 0, uptimeMs: 0, clockSynchronised: true, lanes: [], stateDigests: [], software: '1.0.0'
}
const events: { readonly [K in CloudEvent['kind']]: Extract<CloudEvent, { kind: K }> } = {
  opened: { kind: 'opened' },
  hello: { kind: 'hello', hello },
  welcomed: { kind: 'welcomed', welcome: { clusterUid: 'c', logId: 'l', wallMs: 0, watermarks: [], windowBytes: 1,
    stateVerdicts: [], stateDigests: [], software: '2.0.0' } },
  refuse: { kind: 'refuse', code: 'NO', message: 'why', retryAfterMs: 5 },
  violation: { kind: 'violation', code: 'FRAME_MALFORMED', message: 'nonsense' },
  probe: { kind: 'probe', nonce: 3 },
  alarm: { kind: 'alarm', bytesReceived: 0 },
  closed: { kind: 'closed' }
}
const pathTo: Readonly<Record<CloudState, readonly CloudEvent[]>> = {
  greeting: [events.opened], opening: [events.opened, events.hello], live: [events.opened, events.hello,
    events.welcomed],
  closed: [events.closed]
}

function at(state: CloudState): CloudSession {
  const session = new CloudSession(options)
  for (const event of pathTo[state]) session.step(event, 0)
  expect(session.state).toBe(state)
  return session
}

type Cell = readonly [to: CloudState, ...effects: string[]]
const refused: Cell = ['closed', 'send', 'close', 'end']
const gone: Cell = ['closed', 'end']

/** docs/spec/session.md, SES-10. */
const table: Readonly<Record<CloudState, Readonly<Record<CloudEvent['kind'], Cell>>>> = {
  greeting: {
    opened: ['greeting', 'set-alarm'], hello: ['opening', 'open-streams', 'set-alarm'], welcomed: ['greeting'],
      refuse: refused,
    violation: refused, probe: refused, alarm: refused, closed: gone
  },
  opening: {
    opened: ['opening'], hello: refused, welcomed: ['live', 'send'], refuse: refused, violation: refused,
      probe: ['opening', 'send'],
    alarm: ['opening', 'set-alarm'], closed: gone
  },
  live: {
    opened: ['live'], hello: refused, welcomed: ['live'], refuse: refused, violation: refused, probe: ['live', 'send'],
    alarm: ['live', 'set-alarm'], closed: gone
  },
  closed: {
    opened: ['closed'], hello: ['closed'], welcomed: ['closed'], refuse: ['closed'], violation: ['closed'],
      probe: ['closed'],
    alarm: ['closed'], closed: ['closed']
  }
}

for (const state of cloudStates) {
  for (const kind of cloudEventKinds) {
    test(`${state}: ${kind}`, () => {
      const session = at(state)
      const effects = session.step(events[kind], 1)
      expect([session.state, ...effects.map(effect => effect.kind)]).toEqual([...table[state][kind]])
    })
  }
}

test('versions: the highest that both speak, or a sentence that says which side to upgrade', () => {
  const newer = new CloudSession(options)
  newer.step({ kind: 'hello', hello: { ...hello, protocolMin: 1, protocolMax: 99 } }, 0)
  expect(newer.protocol).toBe(protocolMax)
  const tooNew = new CloudSession(options).step({ kind: 'hello', hello: { ...hello, protocolMin: 98,
    protocolMax: 99 } }, 0)
  expect(tooNew[0]).toMatchObject({ kind: 'send', frame: { code: 'PROTOCOL_UNSUPPORTED',
    message: expect.stringContaining('upgrade cloudcore') } })
  const tooOld = new CloudSession(options).step({ kind: 'hello', hello: { ...hello, protocolMin: 0, protocolMax: 0 } },
    0)
  expect(tooOld[0]).toMatchObject({ kind: 'send', frame: { code: 'PROTOCOL_UNSUPPORTED',
    message: expect.stringContaining('upgrade edgecore') } })
})

test('silence ends a session; bytes do not', () => {
  const session = at('live')
  session.step({ kind: 'alarm', bytesReceived: 9 }, 25_000)
  expect(session.step({ kind: 'alarm', bytesReceived: 10 }, 50_000)).toEqual([{ kind: 'set-alarm', delayMs: 25_000 }])
  expect(session.step({ kind: 'alarm', bytesReceived: 10 }, 75_000).map(({ kind }) => kind)).toEqual(['close', 'end'])
})

test('no alarm is shorter than a millisecond: a smaller rest would ring for ever', () => {
  const session = at('live')
  expect(session.step({ kind: 'alarm', bytesReceived: 0 }, 24_999.999_999_999)).toEqual([{ kind: 'set-alarm',
    delayMs: 1 }])
})
