import { textOf } from '@holdfast/device-twin'
import type { Entry, Json, PropertyType } from '@holdfast/device-twin'
import { formatTimestamp } from '@holdfast/runtime'
import type { DeviceTwin } from '../twins/index.ts'

/** KubeEdge's payloads (docs/spec/device-topics.md). All as JSON; `nowMs` is the message's timestamp. */

type Members = { readonly [member: string]: Json }

const typeNames: Readonly<Record<PropertyType, string>> = {
  INT: 'int', FLOAT: 'float', DOUBLE: 'float', STRING: 'string', BOOLEAN: 'boolean', BYTES: 'string', STREAM: 'string'
}
const knownTypeNames = new Set(['string', 'int', 'integer', 'float', 'boolean'])

export function errorAnswer(eventId: string, nowMs: number, code: 400 | 404, reason: string): Buffer {
  return encode({ event_id: eventId, timestamp: nowMs, code, reason })
}

/** `…/twin/get/result`, `…/twin/update/result`: properties that have a value; of those named, also those that have none. */
export function twinAnswer(eventId: string, nowMs: number, device: DeviceTwin, names?: readonly string[]): Buffer {
  return encode({ event_id: eventId, timestamp: nowMs, twin: names === undefined ? twinOf(device) : propertiesOf(device, names) })
}

/** `…/twin/update/document` */
export function documentMessage(
  eventId: string, nowMs: number, before: DeviceTwin, after: DeviceTwin, names: readonly string[]
): Buffer {
  return encode({
    event_id: eventId, timestamp: nowMs,
    twin: Object.fromEntries(names.map(name => [name, { last: propertyOf(before, name), current: propertyOf(after, name) }]))
  })
}

/** `…/twin/update/delta` */
export function deltaMessage(nowMs: number, device: DeviceTwin, wanted: ReadonlyMap<string, Json>): Buffer {
  return encode({
    event_id: '', timestamp: nowMs, twin: propertiesOf(device, [...wanted.keys()]),
    delta: Object.fromEntries([...wanted].map(([name, value]) => [name, textOf(value)]))
  })
}

/** `…/state/update/result` */
export function stateAnswer(eventId: string, nowMs: number, { device, twin }: DeviceTwin): Buffer {
  return encode({
    event_id: eventId, timestamp: nowMs,
    device: {
      name: device.metadata.name ?? '', state: twin.state?.value ?? '',
      ...twin.lastOnlineTime !== undefined && { lastOnlineTime: formatTimestamp(twin.lastOnlineTime) }
    }
  })
}

/** `…/updated`: the Device or its model has changed. v1beta1 has no attributes. */
export function updatedMessage(nowMs: number): Buffer {
  return encode({ event_id: '', timestamp: nowMs, attributes: {} })
}

/** One device of a membership message, as JSON. */
export function memberText(device: DeviceTwin, withTwin: boolean): string {
  const { id, twin } = device
  return JSON.stringify({
    id, name: device.device.metadata.name ?? '', description: '', state: twin.state?.value ?? '', ...withTwin && { twin: twinOf(device) }
  })
}

/** `$hw/events/node/<node>/membership/updated` */
export function membershipMessage(nowMs: number, added: readonly string[], removed: readonly string[]): Buffer {
  const gone = removed.length === 0 ? 'null' : `[${removed.join(',')}]`
  return Buffer.from(`{"event_id":"","timestamp":${nowMs},"added_devices":[${added.join(',')}],"removed_devices":${gone}}`)
}

/** `$hw/events/node/<node>/membership/get/result`; `part` counts from 1. */
export function membershipAnswer(eventId: string, nowMs: number, members: string, part: number, parts: number): Buffer {
  const place = parts === 1 ? '' : `,"part":${part},"parts":${parts}`
  return Buffer.from(`{"event_id":${JSON.stringify(eventId)},"timestamp":${nowMs},"devices":[${members}]${place}}`)
}

function twinOf(device: DeviceTwin): Members {
  const { desired, reported } = device.twin
  const names = [...new Set([...desired.keys(), ...reported.keys()])]
  return Object.fromEntries(names.map(name => [name, propertyOf(device, name)] as const).filter(([, property]) => property !== null))
}

function propertiesOf(device: DeviceTwin, names: readonly string[]): Members {
  return Object.fromEntries(names.map(name => [name, propertyOf(device, name)]))
}

/** Null where it has no value. */
function propertyOf({ twin, rules }: DeviceTwin, name: string): Json {
  const [actual, expected] = [live(twin.reported.get(name)), live(twin.desired.get(name))]
  if (actual === undefined && expected === undefined) return null
  const rule = rules.properties?.get(name)
  const given = actual?.type ?? expected?.type ?? ''
  return {
    ...actual !== undefined && { actual: valueOf(actual) },
    ...expected !== undefined && { expected: valueOf(expected) },
    optional: rule === undefined && !rules.listed.has(name),
    metadata: { type: rule?.type !== undefined ? typeNames[rule.type] : knownTypeNames.has(given) ? given : '' }
  }
}

function valueOf({ value, timestamp }: Entry): Members { return { value: textOf(value), metadata: { timestamp } } }

function live(entry: Entry | undefined): Entry | undefined { return entry?.deleted === true ? undefined : entry }

function encode(message: Members): Buffer { return Buffer.from(JSON.stringify(message)) }
