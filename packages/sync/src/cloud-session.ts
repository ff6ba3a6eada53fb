import type { Frame, Hello, Welcome } from '@holdfast/protos'
import { protocolMax, protocolMin } from '@holdfast/protos'
import type { SessionErrorCode } from './error-codes.ts'
import { closeCodes } from './transport.ts'

/** greeting → opening → live → closed, and from each to closed. */
export type CloudState = 'greeting' | 'opening' | 'live' | 'closed'

export type CloudEvent =
  | { readonly kind: 'opened' }
  | { readonly kind: 'hello', readonly hello: Hello }
  /** The host has opened the streams and fenced older sessions. */
  | { readonly kind: 'welcomed', readonly welcome: Omit<Welcome, 'kind' | 'protocol'> }
  /** The host refuses this node, or ends the session. */
  | { readonly kind: 'refuse', readonly code: string, readonly message: string, readonly retryAfterMs: number }
  | { readonly kind: 'violation', readonly code: SessionErrorCode, readonly message: string }
  | { readonly kind: 'probe', readonly nonce: number }
  | { readonly kind: 'alarm', readonly bytesReceived: number }
  | { readonly kind: 'closed' }

export type CloudEffect =
  | { readonly kind: 'open-streams', readonly hello: Hello }
  | { readonly kind: 'send', readonly frame: Frame }
  | { readonly kind: 'close', readonly code: number, readonly reason: string }
  | { readonly kind: 'end', readonly reason: string }
  | { readonly kind: 'set-alarm', readonly delayMs: number }

export interface CloudSessionOptions {
  /** Hello has to come within this. */
  readonly helloMs: number
  /** Silence after which the link is dead. The edge probes well before. */
  readonly deadMs: number
  readonly software: string
}

type Handler<Kind extends CloudEvent['kind']> =
  (session: CloudSession, event: Extract<CloudEvent, { kind: Kind }>, nowMs: number) => CloudEffect[]
type Table = { readonly [S in CloudState]: { readonly [K in CloudEvent['kind']]: Handler<K> } }

/** The cloud's end of one connection (SES-10 ff.). Pure. */
export class CloudSession {
  state: CloudState = 'greeting'
  readonly options: CloudSessionOptions
  protocol = 0
  heardMs = 0
  heardBytes = 0
  alarmDueMs = 0

  constructor(options: CloudSessionOptions) { this.options = options }

  step(event: CloudEvent, nowMs: number): CloudEffect[] {
    const handler = table[this.state][event.kind] as Handler<CloudEvent['kind']>
    return handler(this, event, nowMs)
  }
}

const stallMs = 2000
const ignore = (): CloudEffect[] => []

function setAlarm(session: CloudSession, delayMs: number, nowMs: number): CloudEffect {
  // A rest smaller than the clock can tell would ring at once, for ever.
  const wholeMs = Math.max(1, Math.ceil(delayMs))
  session.alarmDueMs = nowMs + wholeMs
  return { kind: 'set-alarm', delayMs: wholeMs }
}

function end(session: CloudSession, code: number, name: string, message: string, retryAfterMs: number): CloudEffect[] {
  session.state = 'closed'
  return [
    { kind: 'send', frame: { kind: 'refuse', code: name, message, retryAfterMs } },
    { kind: 'close', code, reason: name },
    { kind: 'end', reason: name }
  ]
}

const refuse: Handler<'refuse'> = (session, event) =>
  end(session, closeCodes.policy, event.code, event.message, event.retryAfterMs)
const violation: Handler<'violation'> = (session, event) => end(session, closeCodes.protocolError, event.code, event.message, 0)
const secondHello: Handler<'hello'> = session =>
  end(session, closeCodes.protocolError, 'FRAME_UNEXPECTED', `Hello in state ${session.state}`, 0)
const closed: Handler<'closed'> = session => {
  session.state = 'closed'
  return [{ kind: 'end', reason: 'closed' }]
}
const checkLife: Handler<'alarm'> = (session, event, nowMs) => {
  if (event.bytesReceived !== session.heardBytes || nowMs > session.alarmDueMs + stallMs) {
    session.heardBytes = event.bytesReceived
    session.heardMs = nowMs
  }
  const silentMs = nowMs - session.heardMs
  if (silentMs < session.options.deadMs) return [setAlarm(session, session.options.deadMs - silentMs, nowMs)]
  session.state = 'closed'
  return [{ kind: 'close', code: closeCodes.policy, reason: 'silent' }, { kind: 'end', reason: 'silent' }]
}

const table: Table = {
  greeting: {
    opened: (session, _event, nowMs) => [setAlarm(session, session.options.helloMs, nowMs)],
    hello: (session, event, nowMs) => {
      const { hello } = event
      const protocol = Math.min(protocolMax, hello.protocolMax)
      if (protocol < Math.max(protocolMin, hello.protocolMin)) {
        const who = hello.protocolMax < protocolMin ? 'edgecore' : 'cloudcore'
        return end(session, closeCodes.policy, 'PROTOCOL_UNSUPPORTED', `edgecore ${hello.software} speaks tunnel versions ` +
          `${hello.protocolMin}–${hello.protocolMax}, cloudcore ${session.options.software} ${protocolMin}–${protocolMax}: ` +
          `upgrade ${who}`, 60_000)
      }
      session.protocol = protocol
      session.state = 'opening'
      session.heardMs = nowMs
      return [{ kind: 'open-streams', hello }, setAlarm(session, session.options.deadMs, nowMs)]
    },
    welcomed: ignore,
    refuse,
    violation,
    probe: session => end(session, closeCodes.protocolError, 'FRAME_UNEXPECTED', 'a probe before Hello', 0),
    alarm: session => end(session, closeCodes.policy, 'HELLO_TIMEOUT', `no Hello within ${session.options.helloMs} ms`, 0),
    closed
  },
  opening: {
    opened: ignore,
    hello: secondHello,
    welcomed: (session, event) => {
      session.state = 'live'
      return [{ kind: 'send', frame: { kind: 'welcome', protocol: session.protocol, ...event.welcome } }]
    },
    refuse,
    violation,
    probe: (_session, event) => [{ kind: 'send', frame: { kind: 'probe-reply', nonce: event.nonce } }],
    alarm: checkLife,
    closed
  },
  live: {
    opened: ignore,
    hello: secondHello,
    welcomed: ignore,
    refuse,
    violation,
    probe: (_session, event) => [{ kind: 'send', frame: { kind: 'probe-reply', nonce: event.nonce } }],
    alarm: checkLife,
    closed
  },
  closed: {
    opened: ignore, hello: ignore, welcomed: ignore, refuse: ignore, violation: ignore, probe: ignore, alarm: ignore,
    closed: ignore
  }
}

export const cloudStates = Object.keys(table) as CloudState[]
export const cloudEventKinds = Object.keys(table.live) as CloudEvent['kind'][]
