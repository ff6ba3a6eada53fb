import { isUtf8 } from 'node:buffer'
import { deviceStates, twinLimits } from '@holdfast/device-twin'
import type { DeviceState, Json, PropertyWrite } from '@holdfast/device-twin'
import { deviceTopicsLimits as limits } from './limits.ts'

/** What is wrong with a message, for its sender. */
export interface Malformed {
  /** Where one could be read, else empty. */
  readonly eventId: string
  readonly malformed: string
}

export interface Request { readonly eventId: string }

export interface TwinUpdate extends Request {
  readonly reported: ReadonlyMap<string, PropertyWrite>
  readonly desired: ReadonlyMap<string, PropertyWrite>
  /** All that the message names, in its order. */
  readonly properties: readonly string[]
}

export interface StateUpdate extends Request {
  readonly state: DeviceState
  readonly timestamp: number | undefined
}

/** Types on these topics; empty: any. */
const typeNames = ['', 'string', 'int', 'integer', 'float', 'boolean', 'deleted']

/** `{"event_id":"g1"}`; what else it says does not matter. */
export function readGet(payload: Buffer): Request | Malformed {
  const message = readMessage(payload)
  return 'malformed' in message ? message : { eventId: message.eventId }
}

/** `{"event_id":"","timestamp":0,"state":"online"}` */
export function readStateUpdate(payload: Buffer): StateUpdate | Malformed {
  const message = readMessage(payload)
  if ('malformed' in message) return message
  const { eventId, timestamp, members } = message
  const state = deviceStates.find(each => each === members['state'])
  return state !== undefined ? { eventId, state, timestamp }
    : { eventId, malformed: `state: expected one of ${deviceStates.join(', ')}, got ${shown(members['state'])}` }
}

/**
 * `{"event_id":…,"timestamp":…,"twin":{"temperature":{"actual":{"value":"23","metadata":{"timestamp":…}},"expected":{…},
 * "metadata":{"type":"int"}},"old":null}}`. The shape only: what a property may be is the twin's to say.
 */
export function readTwinUpdate(payload: Buffer): TwinUpdate | Malformed {
  const message = readMessage(payload)
  if ('malformed' in message) return message
  const { eventId, timestamp, members } = message
  const { twin } = members
  if (!isRecord(twin)) return { eventId, malformed: `twin: expected an object of properties, got ${shown(twin)}` }
  const properties = Object.keys(twin)
  const most = twinLimits.properties.value
  if (properties.length === 0 || properties.length > most) {
    return { eventId, malformed: `twin: expected 1 to ${most} properties, got ${properties.length}` }
  }
  const reported = new Map<string, PropertyWrite>()
  const desired = new Map<string, PropertyWrite>()
  for (const name of properties) {
    const property = readProperty(twin[name], timestamp)
    if (typeof property === 'string') return { eventId, malformed: `twin.${shortened(name)}${property}` }
    if (property.actual !== undefined) reported.set(name, property.actual)
    if (property.expected !== undefined) desired.set(name, property.expected)
  }
  return { eventId, reported, desired, properties }
}

interface Property {
  readonly actual: PropertyWrite | undefined
  readonly expected: PropertyWrite | undefined
}

/** What is wrong with it, as text that begins where it is. */
function readProperty(property: unknown, timestamp: number | undefined): Property | string {
  const deletion: Property = { actual: { value: null, ...timestamp !== undefined && { timestamp } }, expected: undefined }
  if (property === null) return deletion
  if (!isRecord(property)) return `: expected an object, or null to delete it, got ${shown(property)}`
  const { metadata = null } = property
  if (metadata !== null && !isRecord(metadata)) return `.metadata: expected an object, got ${shown(metadata)}`
  const type = metadata?.['type'] ?? ''
  if (typeof type !== 'string' || !typeNames.includes(type)) {
    return `.metadata.type: expected one of ${typeNames.slice(1).join(', ')}, or nothing, got ${shown(type)}`
  }
  if (type === 'deleted') return deletion
  const actual = readValue(property['actual'], type, timestamp)
  if (typeof actual === 'string') return `.actual${actual}`
  const expected = readValue(property['expected'], type, timestamp)
  if (typeof expected === 'string') return `.expected${expected}`
  if (actual === undefined && expected === undefined) return ': expected an actual value, or an expected one'
  return { actual, expected }
}

function readValue(given: unknown, type: string, messageTimestamp: number | undefined): PropertyWrite | undefined | string {
  if (given === undefined || given === null) return undefined
  if (!isRecord(given)) return `: expected an object with a value, got ${shown(given)}`
  const { value, metadata = null } = given
  if (value === undefined || value === null) return '.value: expected a string'
  if (metadata !== null && !isRecord(metadata)) return `.metadata: expected an object, got ${shown(metadata)}`
  const own = readTimestamp(metadata?.['timestamp'])
  if (own === 'none') return `.metadata.timestamp: expected milliseconds since 1970, got ${shown(metadata?.['timestamp'])}`
  const timestamp = own ?? messageTimestamp
  return {
    // JSON.parse gave it.
    value: value as Json,
    ...timestamp !== undefined && { timestamp },
    ...type !== '' && { type }
  }
}

interface Message extends Request {
  readonly timestamp: number | undefined
  readonly members: { readonly [member: string]: unknown }
}

function readMessage(payload: Buffer): Message | Malformed {
  const most = limits.documentBytes.value
  if (payload.length > most) return { eventId: '', malformed: `expected at most ${most} bytes, got ${payload.length}` }
  if (!isUtf8(payload)) return { eventId: '', malformed: 'expected JSON in UTF-8' }
  let members: unknown
  try {
    members = JSON.parse(payload.toString())
  } catch (error) {
    return { eventId: '', malformed: `expected JSON: ${shortened((error as SyntaxError).message, 128)}` }
  }
  if (!isRecord(members)) return { eventId: '', malformed: `expected a JSON object, got ${shown(members)}` }
  const eventId = members['event_id'] ?? ''
  const longest = limits.eventIdCharacters.value
  if (typeof eventId !== 'string' || eventId.length > longest) {
    return { eventId: '', malformed: `event_id: expected text of at most ${longest} characters, got ${shown(eventId)}` }
  }
  const timestamp = readTimestamp(members['timestamp'])
  return timestamp === 'none'
    ? { eventId, malformed: `timestamp: expected milliseconds since 1970, got ${shown(members['timestamp'])}` }
    : { eventId, timestamp, members }
}

/** Undefined where there is none, `none` where it is no number. */
function readTimestamp(timestamp: unknown): number | undefined | 'none' {
  if (timestamp === undefined || timestamp === null) return undefined
  return typeof timestamp === 'number' ? timestamp : 'none'
}

function isRecord(value: unknown): value is { readonly [member: string]: unknown } {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** As much of a value as is shown to its sender. */
function shown(value: unknown): string {
  if (value === undefined) return 'nothing'
  if (Array.isArray(value)) return 'an array'
  if (isRecord(value)) return 'an object'
  return typeof value === 'number' ? String(value) : JSON.stringify(typeof value === 'string' ? shortened(value) : value)
}

function shortened(text: string, lengthMax = 64): string {
  const line = text.slice(0, lengthMax + 1).replace(/\p{Cc}/gu, ' ')
  return (line.length > lengthMax ? `${line.slice(0, lengthMax - 1)}…` : line).toWellFormed()
}
