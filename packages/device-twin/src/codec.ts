import { isRecord, measure, stringBytes } from './json.ts'
import type { Json } from './json.ts'
import { twinLimits } from './limits.ts'
import { deviceStates, emptyTwin } from './twin.ts'
import type { Entry, Twin } from './twin.ts'
import { isPropertyName, isTypeName } from './value.ts'
import { formatVersion, parseVersion } from './version.ts'

/**
 * A twin as JSON, on the node's disk and in an up item (TWN-30):
 * `{revision, desired: {<property>: {value, version, timestamp, type?} | {deleted: true, version, timestamp}}, reported: {…},
 * state?: {value, timestamp}, lastOnlineTime?}`.
 */
export function encodeTwin({ revision, desired, reported, state, lastOnlineTime }: Twin): Json {
  return {
    revision, desired: encodeEntries(desired), reported: encodeEntries(reported),
    ...state === undefined ? {} : { state: { value: state.value, timestamp: state.timestamp } },
    ...lastOnlineTime === undefined ? {} : { lastOnlineTime }
  }
}

function encodeEntries(entries: ReadonlyMap<string, Entry>): Json {
  return Object.fromEntries([...entries].map(([property, { value, version, timestamp, type, deleted }]) => [property, {
    ...deleted === true ? { deleted } : { value },
    version: formatVersion(version), timestamp,
    ...type === undefined ? {} : { type }
  }]))
}

/**
 * What `encodeTwin` made; undefined where it is none, or one out of the bounds of TWN-3. Members that it does not know are left
 * out, so that a later version may have more. Never throws, whatever `json` is.
 */
export function decodeTwin(json: unknown): Twin | undefined {
  if (!isRecord(json)) return undefined
  const { revision, state, lastOnlineTime } = json
  const [desired, reported] = [decodeEntries(json['desired']), decodeEntries(json['reported'])]
  if (desired === undefined || reported === undefined || !isCount(revision)) return undefined
  if (lastOnlineTime !== undefined && !isCount(lastOnlineTime)) return undefined
  const decodedState = decodeState(state)
  if (state !== undefined && decodedState === undefined) return undefined
  const twin = { revision, desired, reported, state: decodedState, lastOnlineTime, bytes: twinBytes(desired, reported) }
  return twin.bytes <= twinLimits.twinBytes.value && propertyCount(twin) <= twinLimits.properties.value ? twin : undefined
}

function decodeEntries(json: unknown): Map<string, Entry> | undefined {
  if (!isRecord(json)) return undefined
  const names = Object.keys(json)
  if (names.length > twinLimits.properties.value) return undefined
  const entries = new Map<string, Entry>()
  for (const name of names) {
    const entry = decodeEntry(json[name])
    if (entry === undefined || !isPropertyName(name)) return undefined
    entries.set(name, entry)
  }
  return entries
}

function decodeEntry(json: unknown): Entry | undefined {
  if (!isRecord(json)) return undefined
  const { value, timestamp, type, deleted } = json
  const version = typeof json['version'] === 'string' ? parseVersion(json['version']) : undefined
  if (version === undefined || !isCount(timestamp) || (type !== undefined && !isTypeName(type))) return undefined
  const typed = type === undefined ? {} : { type }
  if (deleted === true) return value === undefined ? { value: null, version, timestamp, ...typed, deleted } : undefined
  if (deleted !== undefined || value === undefined || value === null || 'problem' in measure(value)) return undefined
  return { value: value as Json, version, timestamp, ...typed }
}

function decodeState(json: unknown): Twin['state'] {
  if (!isRecord(json)) return undefined
  const value = deviceStates.find(each => each === json['value'])
  const timestamp = json['timestamp']
  return value === undefined || !isCount(timestamp) ? undefined : { value, timestamp }
}

function isCount(value: unknown): value is number { return Number.isSafeInteger(value) && (value as number) >= 0 }

/** Names of an entry's members, and the digits of its version and timestamp at most. */
const entryFrameBytes = 112

/** What an entry takes encoded, at most. Property and value are within their bounds. */
export function entryBytes(property: string, { value, version, type }: Entry): number {
  const measured = measure(value)
  return entryFrameBytes + version.origin.length + (stringBytes(property) ?? 0) + (type === undefined ? 0 : stringBytes(type) ?? 0)
    + ('bytes' in measured ? measured.bytes : 0)
}

function twinBytes(...sections: readonly ReadonlyMap<string, Entry>[]): number {
  let bytes = emptyTwin.bytes
  for (const entries of sections) for (const [property, entry] of entries) bytes += entryBytes(property, entry)
  return bytes
}

/** A property counts once, whichever sides it has, tombstones included (TWN-3). */
export function propertyCount({ desired, reported }: Pick<Twin, 'desired' | 'reported'>): number {
  let count = desired.size
  for (const property of reported.keys()) if (!desired.has(property)) count++
  return count
}
