import { Draft } from './draft.ts'
import { isRecord, mergePatch, textOf } from './json.ts'
import type { Json } from './json.ts'
import { refusal, shown } from './refusal.ts'
import type { TwinError } from './refusal.ts'
import type { DeviceRules, PropertyRule } from './rules.ts'
import { deviceStates } from './twin.ts'
import type { DeviceState, Entry, Twin } from './twin.ts'
import { coerce, isPropertyName, isTypeName, readTimestamp, valueError } from './value.ts'
import { compareVersions, formatVersion } from './version.ts'
import type { Version } from './version.ts'

/** A property's new value, as a writer gives it; `value` null takes the property away. */
export interface PropertyWrite {
  readonly value: Json
  /** As the writer says; undefined, 0, or later than `nowMs` counts as now (TWN-22). */
  readonly timestamp?: number
  /** What the writer calls its type, at most 64 characters; empty: nothing. Kept, and heeded, where no model says. */
  readonly type?: string
  /** The writer saw this version, or none (null); another one is `TWIN_CONFLICT`. */
  readonly expected?: Version | null
}

interface WriteInput {
  /** By property. At least one; nothing is written where one of them is refused. */
  readonly writes: ReadonlyMap<string, PropertyWrite>
  /** Objects are merged into what is there (RFC 7396) instead of taking its place. */
  readonly merge: boolean
  /** The writer saw the twin at this revision; another one is `TWIN_CONFLICT`. */
  readonly expectedRevision?: number
  /** Given to what changes; later than every version in the twin. */
  readonly version: Version
  readonly nowMs: number
  readonly rules: DeviceRules
}

export type TwinInput =
  /** Somebody here wants something of the device. */
  | { readonly kind: 'desired-set' } & WriteInput
  /** The device says what it is. */
  | { readonly kind: 'reported' } & WriteInput
  /**
   * The other side's desired values (TWN-13 … TWN-16): newer ones hold, older ones do not. With `replaces` an entry takes the
   * place of exactly that version, whichever is newer.
   */
  | {
    readonly kind: 'desired-received'
    readonly entries: ReadonlyMap<string, Entry & { readonly replaces?: Version }>
  }
  | { readonly kind: 'state', readonly value: DeviceState, readonly timestamp: number, readonly nowMs: number }

/** What a step did, in the order in which the kinds stand here; all names in the order of the input. */
export type TwinOutput =
  /** Is to be durable before anything of it is told. Always first. */
  | { readonly kind: 'persist' }
  /** Another value, or none any more. A received version alone, of the value that is there, is persisted and not told. */
  | { readonly kind: 'changed', readonly section: 'desired' | 'reported', readonly properties: readonly string[] }
  | { readonly kind: 'state-changed', readonly before: DeviceState | undefined, readonly after: DeviceState }
  /** The same value, newer: nothing but the timestamp changed, and that is due (TWN-21). */
  | { readonly kind: 'refreshed', readonly properties: readonly string[] }
  /** Older than what is stored: not applied (TWN-22). No properties: it was the state. */
  | { readonly kind: 'stale', readonly properties: readonly string[] }
  /** Nothing was written; of what was received, nothing of what did not fit (`TWIN_FULL`, naming the first). */
  | { readonly kind: 'refused', readonly error: TwinError }

export interface TwinStep {
  readonly twin: Twin
  /** Empty: a no-op. */
  readonly outputs: readonly TwinOutput[]
}

/**
 * Applies one input. Pure: no clock, no I/O; never throws for well-formed input.
 *
 * All or nothing (TWN-5). A no-op gives back the same twin, and no outputs (TWN-20). Versions never go back, but for one that
 * the cloud replaces (TWN-11, TWN-16). Errors, in the output `refused`: all codes of `twinErrorCodes`.
 */
export function step(twin: Twin, input: TwinInput): TwinStep {
  switch (input.kind) {
    case 'desired-set': return write(twin, input, 'desired')
    case 'reported': return write(twin, input, 'reported')
    case 'desired-received': return receive(twin, input.entries)
    case 'state': return changeState(twin, input)
  }
}

interface Written {
  readonly desired: string[]
  readonly reported: string[]
  readonly refreshed: string[]
  readonly stale: string[]
}

function write(twin: Twin, input: WriteInput, section: 'desired' | 'reported'): TwinStep {
  const { expectedRevision } = input
  if (expectedRevision !== undefined && expectedRevision !== twin.revision) {
    return refused(twin, refusal('TWIN_CONFLICT', {
      problem: `the writer saw revision ${expectedRevision}, and the twin is at ${twin.revision}`,
      wayOut: 'read the twin, decide anew, and send it with that revision'
    }))
  }
  const draft = new Draft(twin)
  const written: Written = { desired: [], reported: [], refreshed: [], stale: [] }
  for (const [property, propertyWrite] of input.writes) {
    const error = writeProperty(draft, input, section, property, propertyWrite, written)
    if (error !== undefined) return refused(twin, error)
  }
  const full = draft.changed ? draft.fit(input.writes) : undefined
  return full === undefined ? finish(twin, draft, written) : refused(twin, full)
}

function writeProperty(
  draft: Draft, { merge, version, nowMs, rules }: WriteInput, section: 'desired' | 'reported', property: string,
  { value, timestamp, type, expected }: PropertyWrite, written: Written
): TwinError | undefined {
  if (!isPropertyName(property)) {
    return refusal('TWIN_PROPERTY', {
      property, rule: '1 to 253 characters, no control characters, not __proto__',
      problem: 'its name is not one that a property may have', wayOut: 'use 1 to 253 characters other than control characters'
    })
  }
  const held = draft[section].get(property)
  const conflict = expected === undefined ? undefined : conflictOf(property, expected, held)
  if (conflict !== undefined) return conflict
  const measuredAt = measured(timestamp, nowMs)
  const stale = section === 'reported' && held !== undefined && measuredAt !== undefined && measuredAt < held.timestamp
    // A clock that went back left this one; nothing is older than what has not been yet.
    && held.timestamp <= nowMs
  if (value === null) {
    if (rules.properties?.has(property) === true || rules.listed.has(property)) {
      const owner = rules.listed.has(property) ? 'the Device' : 'its DeviceModel'
      return refusal('TWIN_NOT_OPTIONAL', {
        property, rule: 'listed', problem: `${owner} lists it, so it cannot be deleted from here`,
        wayOut: `take it out of ${owner} first`
      })
    }
    if (stale) written.stale.push(property)
    else deleteProperty(draft, property, { value: null, version, timestamp: measuredAt ?? arrival(nowMs), deleted: true }, written)
    return undefined
  }
  const rule = rules.properties?.get(property)
  const forbidden = rules.properties === undefined ? undefined : accessError(section, property, value, rule, rules.properties)
  if (forbidden !== undefined) return forbidden
  if (type !== undefined && type !== '' && !isTypeName(type)) {
    return refusal('TWIN_TYPE', {
      property, value, rule: 'type of at most 64 characters', problem: `its type ${JSON.stringify(shown(type))} is no name of a type`,
      wayOut: 'send a type such as int, or none'
    })
  }
  const tooMuch = valueError(value, property)
  if (tooMuch !== undefined) return tooMuch
  const whole = merge && held?.deleted !== true && isRecord(value) ? mergePatch(held?.value ?? null, value) : value
  const read = coerce(whole, rule, property, type)
  if ('error' in read) return read.error
  if (stale) {
    written.stale.push(property)
    return undefined
  }
  if (held !== undefined && held.deleted !== true && textOf(held.value) === textOf(read.value)) {
    if (section === 'reported' && refreshDue(held, measuredAt ?? arrival(nowMs), nowMs, rules.freshnessMs)) {
      draft.set(section, property, { ...held, timestamp: measuredAt ?? arrival(nowMs) })
      written.refreshed.push(property)
    }
    return undefined
  }
  draft.set(section, property, {
    value: read.value, version, timestamp: measuredAt ?? arrival(nowMs),
    ...rule?.type !== undefined || type === undefined || type === '' ? {} : { type }
  })
  written[section].push(property)
  return undefined
}

/** Undefined where the arrival counts instead (TWN-22). */
function measured(timestamp: number | undefined, nowMs: number): number | undefined {
  const read = readTimestamp(timestamp)
  return read === undefined || read > nowMs ? undefined : read
}

/** Clocks may count fractions; a twin does not. */
function arrival(nowMs: number): number { return Math.max(0, Math.floor(nowMs)) }

function refreshDue(held: Entry, timestamp: number, nowMs: number, freshnessMs: number): boolean {
  return timestamp !== held.timestamp && (held.timestamp > nowMs || timestamp - held.timestamp >= freshnessMs)
}

function deleteProperty(draft: Draft, property: string, tombstone: Entry, written: Written): void {
  for (const section of ['desired', 'reported'] as const) {
    const held = draft[section].get(property)
    if (held === undefined || held.deleted === true) continue
    draft.set(section, property, tombstone)
    written[section].push(property)
  }
}

function conflictOf(property: string, expected: Version | null, held: Entry | undefined): TwinError | undefined {
  const live = held === undefined || held.deleted === true ? undefined : held
  const isSeen = expected === null ? live === undefined : live !== undefined && compareVersions(live.version, expected) === 0
  if (isSeen) return undefined
  return refusal('TWIN_CONFLICT', {
    property, value: live?.value,
    problem: `the writer saw ${expected === null ? 'no value' : `version ${formatVersion(expected)}`}, and the twin has `
      + (live === undefined ? 'no value' : `version ${formatVersion(live.version)}`),
    wayOut: 'read the twin, decide anew, and send it with what was read'
  })
}

function accessError(
  section: 'desired' | 'reported', property: string, value: Json, rule: PropertyRule | undefined,
  properties: ReadonlyMap<string, PropertyRule>
): TwinError | undefined {
  if (rule === undefined) {
    const names = [...properties.keys()].slice(0, 8).join(', ')
    return refusal('TWIN_PROPERTY', {
      property, value, rule: 'a property of the DeviceModel', problem: 'the DeviceModel does not have it',
      wayOut: properties.size === 0 ? 'add it to the DeviceModel'
        : `use one that it has (${names}${properties.size > 8 ? ', …' : ''}), or add it to the DeviceModel`
    })
  }
  return section === 'reported' || rule.access === 'ReadWrite' ? undefined : refusal('TWIN_READ_ONLY', {
    property, value, rule: 'accessMode ReadOnly', problem: 'the DeviceModel calls it ReadOnly, so it has no desired value',
    wayOut: 'make it ReadWrite in the DeviceModel, or leave it to the device'
  })
}

function receive(twin: Twin, entries: ReadonlyMap<string, Entry & { readonly replaces?: Version }>): TwinStep {
  const draft = new Draft(twin)
  const written: Written = { desired: [], reported: [], refreshed: [], stale: [] }
  let full: TwinError | undefined
  for (const [property, { replaces, ...entry }] of entries) {
    const held = draft.desired.get(property)
    if (held !== undefined && !takesPlaceOf(entry.version, replaces, held.version)) continue
    draft.set('desired', property, entry)
    const error = draft.fit(entries)
    if (error === undefined) {
      if (textOrNone(held) !== textOrNone(entry)) written.desired.push(property)
    } else {
      draft.undo('desired', property)
      full ??= { ...error, property: shown(property) }
    }
  }
  const { twin: after, outputs } = finish(twin, draft, written)
  return { twin: after, outputs: full === undefined ? outputs : [...outputs, { kind: 'refused', error: full }] }
}

/** Undefined: there is no value. */
function textOrNone(entry: Entry | undefined): string | undefined {
  return entry === undefined || entry.deleted === true ? undefined : textOf(entry.value)
}

function takesPlaceOf(version: Version, replaces: Version | undefined, held: Version): boolean {
  return compareVersions(version, held) > 0 || (replaces !== undefined && compareVersions(replaces, held) === 0)
}

function changeState(
  twin: Twin, { value, timestamp, nowMs }: Extract<TwinInput, { readonly kind: 'state' }>
): TwinStep {
  if (!deviceStates.includes(value)) {
    return refused(twin, refusal('TWIN_STATE', {
      value, rule: deviceStates.join(', '), problem: `${JSON.stringify(shown(value))} is no state of a device`,
      wayOut: `send one of ${deviceStates.join(', ')}`
    }))
  }
  const { state: before } = twin
  const at = measured(timestamp, nowMs)
  if (before !== undefined && at !== undefined && at < before.timestamp && before.timestamp <= nowMs) {
    return { twin, outputs: [{ kind: 'stale', properties: [] }] }
  }
  if (before?.value === value) return { twin, outputs: [] }
  const state = { value, timestamp: at ?? arrival(nowMs) }
  const lastOnlineTime = isOnline(value) || (before !== undefined && isOnline(before.value)) ? state.timestamp : twin.lastOnlineTime
  return {
    twin: { ...twin, revision: twin.revision + 1, state, lastOnlineTime },
    outputs: [{ kind: 'persist' }, { kind: 'state-changed', before: before?.value, after: value }]
  }
}

function isOnline(state: DeviceState): boolean { return state === 'online' || state === 'ok' }

function finish(twin: Twin, draft: Draft, { desired, reported, refreshed, stale }: Written): TwinStep {
  const told: TwinOutput[] = []
  if (desired.length > 0) told.push({ kind: 'changed', section: 'desired', properties: desired })
  if (reported.length > 0) told.push({ kind: 'changed', section: 'reported', properties: reported })
  if (refreshed.length > 0) told.push({ kind: 'refreshed', properties: refreshed })
  if (stale.length > 0) told.push({ kind: 'stale', properties: stale })
  return draft.changed ? { twin: draft.finish(), outputs: [{ kind: 'persist' }, ...told] } : { twin, outputs: told }
}

function refused(twin: Twin, error: TwinError): TwinStep { return { twin, outputs: [{ kind: 'refused', error }] } }
