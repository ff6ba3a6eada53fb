import { coerce, delta, formatVersion, writerOf } from '@holdfast/device-twin'
import type { DeviceRules, DeviceState, Entry, Json, PropertyRule, PropertyType, Twin } from '@holdfast/device-twin'
import { formatTimestamp } from '@holdfast/runtime'
import type { DeviceId, DeviceTwin } from '../twins/device-twins.ts'

// What the device API shows of devices and their twins: docs/spec/device-http.md.

/** One side of a property. */
export interface EntryDocument {
  readonly value: Json
  /** `<time>.<counter>.<origin>`: what `version=` of a write takes. */
  readonly version: string
  /** RFC 3339; null where the writer gave a time that is none. */
  readonly timestamp: string | null
  /** `cloud` or the node's name. */
  readonly writer: string
  readonly type?: string
}

export interface PropertyDocument {
  readonly desired?: EntryDocument
  readonly reported?: EntryDocument
}

interface TwinState {
  readonly device: DeviceId
  readonly revision: number
  readonly state: DeviceState | null
  readonly lastOnlineTime: string | null
  /** Every desired value is reported, and the model allows it. */
  readonly inDesiredState: boolean
  /** Desired values that the device has not reported. */
  readonly delta: Readonly<Record<string, Json>>
  /** Properties whose desired value the model does not allow, so that the device is not told it (TWN-25). */
  readonly invalid: readonly string[]
}

/** A whole twin. A property that has no value has no entry. */
export interface TwinDocument extends TwinState {
  readonly properties: Readonly<Record<string, PropertyDocument>>
}

/** What is different; `properties` has those alone, null for one that has gone. */
export interface TwinChangeDocument extends TwinState {
  readonly properties: Readonly<Record<string, PropertyDocument | null>>
}

/** A device in a list. */
export interface DeviceSummary extends Omit<TwinState, 'device' | 'delta'> {
  readonly id: DeviceId
  readonly namespace: string
  readonly name: string
  readonly uid: string
  readonly labels: Readonly<Record<string, string>>
  readonly creationTimestamp: string | null
  /** As the Device names it; null where it names none. */
  readonly model: string | null
  /** The model is on this node, so that its rules hold. */
  readonly modelKnown: boolean
  readonly protocol: string | null
  /** Properties of the delta. */
  readonly pending: readonly string[]
}

export interface PropertyRuleDocument {
  readonly name: string
  readonly type: PropertyType | null
  readonly access: PropertyRule['access']
  readonly minimum: number | null
  readonly maximum: number | null
  readonly unit: string | null
}

export interface DeviceDocument extends Omit<DeviceSummary, 'pending' | 'revision' | 'inDesiredState' | 'invalid'> {
  /** What keeps the device from being served (TWN-41); null: nothing that is known. */
  readonly trouble: string | null
  /** What its model allows; null: anything. */
  readonly properties: readonly PropertyRuleDocument[] | null
  readonly twin: TwinDocument
}

/** `"<revision>-<first 8 of the device's uid>"`: of another device under the same name it is another one. */
export function etagOf({ uid, twin }: Pick<DeviceTwin, 'uid' | 'twin'>): string {
  return `"${twin.revision}-${uid.replace(/[^\w-]/g, '').slice(0, 8)}"`
}

export function twinDocument(held: DeviceTwin): TwinDocument {
  const { twin } = held
  return {
    ...stateOf(held),
    properties: Object.fromEntries(propertyNames(twin).flatMap(name => {
      const property = propertyOf(twin, name)
      return property === null ? [] : [[name, property]]
    }))
  }
}

/** Undefined where they look alike. */
export function twinChange(before: DeviceTwin, after: DeviceTwin): TwinChangeDocument | undefined {
  const names = new Set([...propertyNames(before.twin), ...propertyNames(after.twin)])
  const changed = [...names].filter(name => (['desired', 'reported'] as const).some(section =>
    !sameEntry(before.twin[section].get(name), after.twin[section].get(name))))
  const state = stateOf(after)
  if (changed.length === 0 && JSON.stringify(state) === JSON.stringify(stateOf(before))) return undefined
  return { ...state, properties: Object.fromEntries(changed.map(name => [name, propertyOf(after.twin, name)])) }
}

export function deviceSummary(held: DeviceTwin): DeviceSummary {
  const { device: _, delta: told, ...state } = stateOf(held)
  return { ...identityOf(held), ...state, pending: Object.keys(told) }
}

export function deviceDocument(held: DeviceTwin, trouble: string | undefined): DeviceDocument {
  const { properties } = held.rules
  const { state, lastOnlineTime } = stateOf(held)
  return {
    ...identityOf(held),
    state,
    lastOnlineTime,
    trouble: trouble === '' ? null : trouble ?? null,
    properties: properties === undefined ? null : [...properties.values()].map(ruleOf),
    twin: twinDocument(held)
  }
}

function identityOf({ id, uid, device, model }: DeviceTwin) {
  const { labels = {}, creationTimestamp = null } = device.metadata
  const [namespace = '', name = ''] = id.split('/')
  return {
    id, namespace, name, uid, labels, creationTimestamp,
    model: textAt(device['spec'], 'deviceModelRef', 'name'),
    modelKnown: model !== undefined,
    protocol: textAt(device['spec'], 'protocol', 'protocolName')
  }
}

function ruleOf({ name, type, access, minimum, maximum, unit }: PropertyRule): PropertyRuleDocument {
  return { name, type: type ?? null, access, minimum: minimum ?? null, maximum: maximum ?? null, unit: unit ?? null }
}

function stateOf({ id, twin, rules }: DeviceTwin): TwinState {
  const told = delta(twin, rules)
  const invalid = invalidDesired(twin, rules)
  return {
    device: id,
    revision: twin.revision,
    state: twin.state?.value ?? null,
    lastOnlineTime: twin.lastOnlineTime === undefined ? null : timeText(twin.lastOnlineTime),
    inDesiredState: told.size === 0 && invalid.length === 0,
    delta: Object.fromEntries(told),
    invalid
  }
}

function invalidDesired({ desired }: Twin, { properties }: DeviceRules): string[] {
  if (properties === undefined) return []
  return [...desired].flatMap(([name, { value, deleted }]) => {
    const rule = properties.get(name)
    const allowed = deleted === true || (rule?.access === 'ReadWrite' && 'value' in coerce(value, rule, name))
    return allowed ? [] : [name]
  })
}

/** Sorted, tombstones included. */
function propertyNames({ desired, reported }: Twin): string[] {
  return [...new Set([...desired.keys(), ...reported.keys()])].toSorted()
}

/** Null where it has no value on either side. */
function propertyOf(twin: Twin, name: string): PropertyDocument | null {
  const [desired, reported] = [entryOf(twin.desired.get(name)), entryOf(twin.reported.get(name))]
  if (desired === undefined && reported === undefined) return null
  return { ...desired !== undefined && { desired }, ...reported !== undefined && { reported } }
}

function entryOf(entry: Entry | undefined): EntryDocument | undefined {
  if (entry === undefined || entry.deleted) return undefined
  const { value, version, timestamp, type } = entry
  return {
    value, version: formatVersion(version), timestamp: timeText(timestamp), writer: writerOf(version),
    ...type !== undefined && { type }
  }
}

/** A version names a value; beside that only the timestamp can move (TWN-21). */
function sameEntry(a: Entry | undefined, b: Entry | undefined): boolean {
  if (a === undefined || b === undefined) return a === b
  return a === b || (a.timestamp === b.timestamp && formatVersion(a.version) === formatVersion(b.version))
}

/** The last instant that a calendar of JavaScript has. */
const timeMaxMs = 8.64e15

function timeText(wallMs: number): string | null {
  return Math.abs(wallMs) <= timeMaxMs ? formatTimestamp(wallMs) : null
}

function textAt(value: unknown, ...path: readonly string[]): string | null {
  let at = value
  for (const member of path) {
    if (typeof at !== 'object' || at === null || !Object.hasOwn(at, member)) return null
    at = (at as Readonly<Record<string, unknown>>)[member]
  }
  return typeof at === 'string' && at !== '' ? at : null
}
