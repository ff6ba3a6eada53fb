import type { Frame, Hello, Refuse, Welcome } from '@holdfast/protos'
import { closeCodes } from './transport.ts'

/**
 * stopped → dialing → greeting → comparing → live, and from any of the last four to waiting and on to dialing.
 * docs/spec/session.md has the table in words; a test prints it.
 */
export type EdgeState = 'stopped' | 'waiting' | 'dialing' | 'greeting' | 'comparing' | 'live'

/** Why a session ended or never began: the label of the reconnect counter. */
export type EndReason = 'closed' | 'silent' | 'refused' | 'protocol' | 'timeout' | 'diverged' | 'trimmed' | 'failed' | 'reopened' |
  'stopped'

export type EdgeEvent =
  | { readonly kind: 'start' }
  | { readonly kind: 'stop' }
  | { readonly kind: 'alarm', readonly bytesReceived: number, readonly drainMs: number }
  | { readonly kind: 'opened', readonly hello: Hello }
  | { readonly kind: 'welcome', readonly welcome: Welcome }
  | { readonly kind: 'refuse', readonly refuse: Refuse }
  /** The host has brought the outbox in line with Welcome. */
  | { readonly kind: 'compared' }
  /** The host ends this session and wants another: a lane diverged, comparing failed, or the outbox was opened again. */
  | { readonly kind: 'restart', readonly reason: EndReason }
  /** Something came that does not belong here. */
  | { readonly kind: 'violation', readonly message: string }
  | { readonly kind: 'closed', readonly reason: string }

/** Done by the host, in order. */
export type EdgeEffect =
  | { readonly kind: 'dial' }
  | { readonly kind: 'send', readonly frame: Frame }
  | { readonly kind: 'compare', readonly welcome: Welcome }
  /** The session is over: forget the sender and the connection. */
  | { readonly kind: 'end', readonly reason: EndReason, readonly detail: string }
  | { readonly kind: 'close', readonly code: number, readonly reason: string }
  /** Send `alarm` in so many milliseconds; replaces the alarm that was set. */
  | { readonly kind: 'set-alarm', readonly delayMs: number }

export interface EdgeSessionOptions {
  /** Silence after which a probe goes out. */
  readonly probeMs: number
  /** Silence after which the link is dead. */
  readonly deadMs: number
  /** Ceiling of the first retry's delay; it doubles with each further one … */
  readonly retryDelayMs: number
  /** … up to here. */
  readonly retryDelayMaxMs: number
}

/** A session that lasted so long clears the count of attempts. */
const stableMs = 60_000
/** A link that came up and went sooner keeps at most so many on the count: it flaps, but it is there. */
const attemptsOfShortLink = 3
/** Opening, Hello and Welcome have to be through by then. */
const greetingMs = 15_000
/** Whatever the cloud asks for, the edge comes back within this. */
const retryAfterMsMax = 3_600_000
/** An alarm that comes later than this was held up by our own event loop, which says nothing about the link. */
const stallMs = 2000

type Handler<Kind extends EdgeEvent['kind']> =
  (session: EdgeSession, event: Extract<EdgeEvent, { kind: Kind }>, nowMs: number) => EdgeEffect[]
type Table = { readonly [S in EdgeState]: { readonly [K in EdgeEvent['kind']]: Handler<K> } }

/** The edge's end of the tunnel, from dial to dial (SES-1 ff.). Pure: time and randomness come in as arguments. */
export class EdgeSession {
  state: EdgeState = 'stopped'
  readonly options: EdgeSessionOptions
  readonly random: () => number
  /** Consecutive sessions that were not stable. */
  attempts = 0
  liveSinceMs = 0
  heardMs = 0
  heardBytes = 0
  alarmDueMs = 0
  probes = 0
  probeSentMs: number | undefined

  constructor(options: EdgeSessionOptions, components: { readonly random: () => number }) {
    this.options = options
    this.random = components.random
  }

  step(event: EdgeEvent, nowMs: number): EdgeEffect[] {
    const handler = table[this.state][event.kind] as Handler<EdgeEvent['kind']>
    return handler(this, event, nowMs)
  }
}

const ignore = (): EdgeEffect[] => []

function setAlarm(session: EdgeSession, delayMs: number, nowMs: number): EdgeEffect {
  // A rest smaller than the clock can tell would ring at once, for ever.
  const wholeMs = Math.max(1, Math.ceil(delayMs))
  session.alarmDueMs = nowMs + wholeMs
  return { kind: 'set-alarm', delayMs: wholeMs }
}

function dial(session: EdgeSession, nowMs: number): EdgeEffect[] {
  session.state = 'dialing'
  return [{ kind: 'dial' }, setAlarm(session, greetingMs, nowMs)]
}

/** Ends the session and waits for the next try: at once with jitter first, then exponentially with full jitter. */
function retry(session: EdgeSession, reason: EndReason, detail: string, nowMs: number, leastMs = 0): EdgeEffect[] {
  if (session.state === 'live') {
    session.attempts = nowMs - session.liveSinceMs >= stableMs ? 0 : Math.min(session.attempts, attemptsOfShortLink)
  }
  const ceiling = Math.min(session.options.retryDelayMaxMs, session.options.retryDelayMs * 2 ** Math.min(session.attempts, 20))
  session.attempts++
  session.state = 'waiting'
  // What the cloud asks for is a least; the jitter on top keeps a fleet from coming back in one instant.
  const delayMs = leastMs + session.random() * Math.max(ceiling, leastMs / 4)
  return [{ kind: 'end', reason, detail }, setAlarm(session, delayMs, nowMs)]
}

function closeAndRetry(session: EdgeSession, reason: EndReason, code: number, detail: string, nowMs: number): EdgeEffect[] {
  return [{ kind: 'close', code, reason: detail }, ...retry(session, reason, detail, nowMs)]
}

const stop: Handler<'stop'> = session => {
  const wasOpen = session.state !== 'waiting'
  session.state = 'stopped'
  return [
    ...wasOpen ? [{ kind: 'close', code: closeCodes.goingAway, reason: 'stopping' }] as const : [],
    { kind: 'end', reason: 'stopped', detail: 'stopping' }
  ]
}
const closed: Handler<'closed'> = (session, event, nowMs) => retry(session, 'closed', event.reason, nowMs)
const violation: Handler<'violation'> = (session, event, nowMs) =>
  closeAndRetry(session, 'protocol', closeCodes.protocolError, event.message, nowMs)
const restart: Handler<'restart'> = (session, event, nowMs) =>
  closeAndRetry(session, event.reason, closeCodes.normal, event.reason, nowMs)
const refuse: Handler<'refuse'> = (session, event, nowMs) => [
  { kind: 'close', code: closeCodes.normal, reason: 'refused' },
  ...retry(session, 'refused', `${event.refuse.code}: ${event.refuse.message}`, nowMs,
    Math.min(event.refuse.retryAfterMs, retryAfterMsMax))
]
const greetingTimeout: Handler<'alarm'> = (session, _event, nowMs) =>
  closeAndRetry(session, 'timeout', closeCodes.policy, `no answer within ${greetingMs} ms`, nowMs)
const unexpected = (what: string): Handler<'welcome'> & Handler<'opened'> => (session: EdgeSession, _event: unknown, nowMs: number) =>
  closeAndRetry(session, 'protocol', closeCodes.protocolError, `${what} in state ${session.state}`, nowMs)

/** Any byte received is a sign of life; a probe asks for one; a link is slow, not dead, while it drains what is in flight. */
const checkLife: Handler<'alarm'> = (session, event, nowMs) => {
  const { probeMs, deadMs } = session.options
  const stalled = nowMs > session.alarmDueMs + stallMs
  if (event.bytesReceived !== session.heardBytes || stalled) {
    session.heardBytes = event.bytesReceived
    session.heardMs = nowMs
  }
  const silentMs = nowMs - session.heardMs
  const boundMs = deadMs + 3 * event.drainMs
  if (silentMs >= boundMs) {
    return closeAndRetry(session, 'silent', closeCodes.policy, `no byte for ${Math.round(silentMs)} ms`, nowMs)
  }
  if (silentMs < probeMs) return [setAlarm(session, probeMs - silentMs, nowMs)]
  session.probeSentMs = nowMs
  return [
    { kind: 'send', frame: { kind: 'probe', nonce: ++session.probes } },
    setAlarm(session, Math.min(probeMs / 2, boundMs - silentMs), nowMs)
  ]
}

const table: Table = {
  stopped: {
    start: (session, _event, nowMs) => {
      session.attempts = 0
      return dial(session, nowMs)
    },
    stop: ignore, alarm: ignore, opened: ignore, welcome: ignore, refuse: ignore, compared: ignore, restart: ignore,
    violation: ignore, closed: ignore
  },
  waiting: {
    start: ignore,
    stop,
    alarm: (session, _event, nowMs) => dial(session, nowMs),
    opened: ignore, welcome: ignore, refuse: ignore, compared: ignore, restart: ignore, violation: ignore, closed: ignore
  },
  dialing: {
    start: ignore,
    stop,
    alarm: greetingTimeout,
    opened: (session, event) => {
      session.state = 'greeting'
      return [{ kind: 'send', frame: event.hello }]
    },
    welcome: unexpected('Welcome'),
    refuse,
    compared: ignore,
    restart,
    violation,
    closed
  },
  greeting: {
    start: ignore,
    stop,
    alarm: greetingTimeout,
    opened: unexpected('a second opening'),
    welcome: (session, event, nowMs) => {
      session.state = 'comparing'
      session.heardMs = nowMs
      return [{ kind: 'compare', welcome: event.welcome }, setAlarm(session, session.options.probeMs, nowMs)]
    },
    refuse,
    compared: ignore,
    restart,
    violation,
    closed
  },
  comparing: {
    start: ignore,
    stop,
    alarm: checkLife,
    opened: unexpected('a second opening'),
    welcome: unexpected('a second Welcome'),
    refuse,
    compared: (session, _event, nowMs) => {
      session.state = 'live'
      session.liveSinceMs = nowMs
      return []
    },
    restart,
    violation,
    closed
  },
  live: {
    start: ignore,
    stop,
    alarm: checkLife,
    opened: unexpected('a second opening'),
    welcome: unexpected('a second Welcome'),
    refuse,
    compared: ignore,
    restart,
    violation,
    closed
  }
}

/** Every state, for tests and documents. */
export const edgeStates = Object.keys(table) as EdgeState[]
/** Every kind of event. */
export const edgeEventKinds = Object.keys(table.live) as EdgeEvent['kind'][]
