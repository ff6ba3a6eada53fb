import { entryBytes } from './codec.ts'
import { isRecord, textOf } from './json.ts'
import type { Json, KubeJson } from './json.ts'
import { twinLimits } from './limits.ts'
import type { DeviceRules } from './rules.ts'
import { formatStamps, readStamps, sameStamps } from './stamps.ts'
import type { Stamp } from './stamps.ts'
import { emptyTwin } from './twin.ts'
import type { Entry } from './twin.ts'
import { coerce, isPropertyName, isTypeName, propertyItems, typeNameOf, valueError, valueOfText } from './value.ts'
import { compareVersions, tick } from './version.ts'
import type { HybridClock, Version } from './version.ts'

/** SHA-256 of a text in UTF-8, its first 16 hexadecimal digits. */
export type Hash = (text: string) => string

/**
 * The desired values of a Device that are stamped (TWN-13), tombstones included: what a node takes (TWN-14). Their timestamps are
 * the times of their versions. Never throws: what is malformed is not stamped.
 */
export function desiredOfDevice(
  device: KubeJson, rules: DeviceRules, hash: Hash
): ReadonlyMap<string, Entry & { readonly replaces?: Version }> {
  const stamps = readStamps(device)
  const texts = desiredTexts(device, rules, stamps, hash)
  const entries = new Map<string, Entry & { readonly replaces?: Version }>()
  for (const [property, { version, hash: stamped, replaces }] of stamps) {
    const said = texts.get(property)
    const common = { version, timestamp: version.time, ...replaces === undefined ? {} : { replaces } }
    if (stamped === undefined) {
      if (said === undefined) entries.set(property, { value: null, ...common, deleted: true })
    } else if (said !== undefined && hash(said.text) === stamped) {
      if (valueError(said.value, property) !== undefined) continue
      const typed = said.type === undefined || rules.properties?.get(property)?.type !== undefined ? {} : { type: said.type }
      entries.set(property, { value: said.value, ...common, ...typed })
    }
  }
  return entries
}

/** `hash` undefined: that there is no value. */
interface GivenVersion { readonly hash: string | undefined, readonly version: Version }

/** By property. */
export type GivenVersions = Map<string, GivenVersion>

export interface ReconciledDesired {
  /** `spec.properties` of the Device as it is to be. */
  readonly properties: readonly Json[]
  /** `holdfast.dev/desired` as it is to be. */
  readonly annotation: string
  /** False: the Device is already as it is to be, and need not be written. */
  readonly changed: boolean
  /** Desired values that the model, or a bound, does not allow; the message is a sentence about the property. */
  readonly invalid: readonly { readonly property: string, readonly message: string }[]
}

/**
 * The cloud's side of desired values (TWN-13 … TWN-16): stamps what somebody wrote into the spec, and brings in what the node set.
 * Applied to its own result it changes nothing. Never throws, whatever the Device is.
 *
 * `clock` gives the stamps; it observes what it gives way to, but nothing from the future, so that one bad version spoils no
 * other Device. `node`: what the node says that it holds, newest; what it said before may bring a replaced value back. Undefined:
 * nothing is known of it. `given`, which is brought up to date: versions that values in the spec were given before, and that the
 * Device does not show yet; the same value keeps its version, and what takes its place is later.
 */
export function reconcileDesired({ device, rules, node, clock, nowMs, hash, given }: {
  readonly device: KubeJson
  readonly rules: DeviceRules
  readonly node: ReadonlyMap<string, Entry> | undefined
  readonly clock: HybridClock
  readonly nowMs: number
  readonly hash: Hash
  readonly given?: GivenVersions
}): ReconciledDesired {
  const before = readStamps(device)
  const stamps = new Map(before)
  const items = [...propertyItems(device)] as Json[]
  const invalid = new Map<string, string>()
  const room = new Room()

  /** What nodes may have been shown and the Device does not say: a value that is put back meanwhile is later than that. */
  const unwritten = (property: string): GivenVersion | undefined => {
    const shown = given?.get(property)
    const known = before.get(property)
    return shown !== undefined && (known === undefined || compareVersions(shown.version, known.version) > 0) ? shown : undefined
  }
  const stamp = (property: string, stamped: string | undefined): void => {
    const known = stamps.get(property)
    const shown = unwritten(property)
    const version = shown !== undefined && shown.hash === stamped ? shown.version
      : versionAfter(shown?.version ?? known?.version, clock, nowMs)
    given?.set(property, { hash: stamped, version })
    stamps.set(property, { version, hash: stamped, replaces: known?.replaces })
  }

  const texts = desiredTexts(device, rules, before, hash)
  const isStamped = (property: string, text: string): boolean =>
    before.get(property)?.hash === hash(text) && unwritten(property) === undefined
  for (const [property, { text, value }] of texts) {
    const wrong = desiredProblem(property, value, rules)
    if (wrong !== undefined) invalid.set(property, wrong)
    if (isStamped(property, text)) room.take(property, value)
  }
  for (const [property, { text, value }] of texts) {
    if (isStamped(property, text)) continue
    // A version that was given is kept to, also where the model has come to forbid the value: what came after it is later.
    if (invalid.has(property) && unwritten(property)?.hash !== hash(text)) continue
    if (room.take(property, value)) stamp(property, hash(text))
    else invalid.set(property, Room.problem)
  }
  for (const property of new Set([...before.keys(), ...given?.keys() ?? []])) {
    const isLive = before.get(property)?.hash !== undefined || unwritten(property) !== undefined
    if (isLive && !texts.has(property)) stamp(property, undefined)
  }

  let written = false
  for (const [property, entry] of node ?? []) {
    const known = stamps.get(property)
    if (known !== undefined && !isNews(entry.version, known)) continue
    const shown = unwritten(property)
    if (shown !== undefined && compareVersions(entry.version, shown.version) < 0) continue
    const future = entry.version.time > nowMs + twinLimits.aheadMs.value
    if (entry.deleted !== true && !room.take(property, entry.value)) {
      invalid.set(property, Room.problem)
      continue
    }
    if (!future) clock.observe(entry.version)
    stamps.set(property, {
      version: future ? versionAfter(known?.version, clock, nowMs) : entry.version,
      hash: entry.deleted === true ? undefined : hash(textOf(entry.value)),
      // Kept along: a late item may still hold what was replaced.
      replaces: future ? entry.version : known?.replaces
    })
    if (entry.deleted === true) {
      written = removeDesired(items, property) || written
      invalid.delete(property)
    } else {
      setDesired(items, property, entry, rules)
      written = true
      const wrong = desiredProblem(property, valueOfText(textOf(entry.value), rules.properties?.get(property)), rules)
      if (wrong === undefined) invalid.delete(property)
      else invalid.set(property, wrong)
    }
  }

  for (const property of doubledProperties(device)) {
    if (!invalid.has(property)) invalid.set(property, 'spec.properties lists it more than once, and only the first counts; leave one')
  }
  for (const property of dropOldTombstones(stamps)) given?.delete(property)
  for (const property of given?.keys() ?? []) if (unwritten(property) === undefined) given!.delete(property)
  return {
    properties: items, annotation: formatStamps(stamps), changed: written || !sameStamps(before, stamps),
    invalid: [...invalid].toSorted(([a], [b]) => a < b ? -1 : 1).map(([property, message]) => ({ property, message }))
  }
}

/** A node's entry is later than the stamp, and not one that the stamp replaces. */
function isNews(version: Version, { version: known, replaces }: Stamp): boolean {
  return compareVersions(version, known) > 0 && (replaces === undefined || compareVersions(version, replaces) !== 0)
}

/** max(now, known) + 1 (TWN-14). */
function versionAfter(known: Version | undefined, clock: HybridClock, nowMs: number): Version {
  if (known !== undefined && known.time <= nowMs + twinLimits.aheadMs.value) clock.observe(known)
  const version = clock.next(nowMs)
  return known === undefined || compareVersions(version, known) > 0 ? version
    : { ...tick(known.time, known.counter), origin: version.origin }
}

interface DesiredText {
  readonly text: string
  /** What `desired.metadata.type` calls it. */
  readonly type: string | undefined
  readonly value: Json
}

/** The first desired value of each property in the spec. */
function desiredTexts(
  device: KubeJson, rules: DeviceRules, stamps: ReadonlyMap<string, Stamp>, hash: Hash
): ReadonlyMap<string, DesiredText> {
  const texts = new Map<string, DesiredText>()
  const seen = new Set<string>()
  for (const item of propertyItems(device)) {
    if (!isRecord(item) || !isPropertyName(item['name']) || seen.has(item['name'])) continue
    const { name, desired } = item
    seen.add(name)
    const text = isRecord(desired) ? desired['value'] : undefined
    if (!isRecord(desired) || typeof text !== 'string') continue
    if (text === '' && stamps.get(name)?.hash !== hash('') && mustSaySomething(name, rules)) continue
    const metadata = desired['metadata']
    const type = isRecord(metadata) && isTypeName(metadata['type']) ? metadata['type'] : undefined
    texts.set(name, { text, type, value: valueOfText(text, rules.properties?.get(name), type) })
  }
  return texts
}

/** Properties of which something is desired in another place than the first, where nothing looks. */
function doubledProperties(device: KubeJson): ReadonlySet<string> {
  const [seen, doubled] = [new Set<string>(), new Set<string>()]
  for (const item of propertyItems(device)) {
    if (!isRecord(item) || !isPropertyName(item['name'])) continue
    const { name, desired } = item
    if (seen.has(name) && isRecord(desired) && typeof desired['value'] === 'string' && desired['value'] !== '') doubled.add(name)
    seen.add(name)
  }
  return doubled
}

/** KubeEdge's manifests write an empty text where they desire nothing (TWN-13): here it cannot be meant. */
function mustSaySomething(property: string, { properties }: DeviceRules): boolean {
  const rule = properties?.get(property)
  if (rule === undefined || rule.access === 'ReadOnly') return rule !== undefined
  return rule.type !== undefined && rule.type !== 'STRING' && rule.type !== 'STREAM' && rule.type !== 'BYTES'
}

/** Why the model or a bound does not allow it; undefined: it does. */
function desiredProblem(property: string, value: Json, { properties }: DeviceRules): string | undefined {
  const rule = properties?.get(property)
  if (properties !== undefined && rule === undefined) {
    return 'the DeviceModel does not have this property; add it there, or take it out of the Device'
  }
  if (rule?.access === 'ReadOnly') {
    return 'the DeviceModel calls it ReadOnly, so it has no desired value; make it ReadWrite, or take the desired value out'
  }
  const read = coerce(value, rule, property)
  return 'error' in read ? read.error.message : undefined
}

function setDesired(items: Json[], property: string, { value, type }: Entry, rules: DeviceRules): void {
  const at = items.findIndex(item => isRecord(item) && item['name'] === property)
  const item = at < 0 ? { name: property } : items[at] as { readonly [member: string]: Json }
  const desired = 'desired' in item && isRecord(item['desired']) ? item['desired'] : {}
  const metadata = isRecord(desired['metadata']) ? desired['metadata'] : undefined
  const typeName = rules.properties?.get(property)?.type !== undefined ? metadata?.['type']
    : type ?? typeNameOf(value) ?? (metadata?.['type'] === undefined ? undefined : 'string')
  const next = {
    ...item,
    desired: {
      ...desired, value: textOf(value),
      ...typeName === undefined ? {} : { metadata: { ...metadata, type: typeName } }
    }
  }
  if (at < 0) items.push(next)
  else items[at] = next
}

/** False where there was none. */
function removeDesired(items: Json[], property: string): boolean {
  const at = items.findIndex(item => isRecord(item) && item['name'] === property)
  if (at < 0) return false
  const { desired, ...rest } = items[at] as { readonly [member: string]: Json }
  if (desired === undefined) return false
  if (Object.keys(rest).length === 1) items.splice(at, 1)
  else items[at] = rest
  return true
}

/** TWN-3: as many tombstones as the live properties leave room for, the latest ones. Returns whose went. */
function dropOldTombstones(stamps: Map<string, Stamp>): readonly string[] {
  const surplus = stamps.size - twinLimits.properties.value
  if (surplus <= 0) return []
  const oldest = [...stamps].filter(([, { hash }]) => hash === undefined)
    .toSorted(([, a], [, b]) => compareVersions(a.version, b.version)).slice(0, surplus)
  for (const [property] of oldest) stamps.delete(property)
  return oldest.map(([property]) => property)
}

/** What desired values alone may take of a twin (TWN-3). */
class Room {
  static readonly problem = 'the twin would have more than '
    + `${twinLimits.properties.value} properties, or take more than ${twinLimits.twinBytes.value / 1024} KiB; `
    + 'take desired values out of the Device'
  readonly #taken = new Map<string, number>()
  #bytes = emptyTwin.bytes

  /** False, and nothing is taken, where it does not fit. */
  take(property: string, value: Json): boolean {
    const version = { time: 0, counter: 0, origin: '' }
    const bytes = entryBytes(property, { value, version, timestamp: 0 }) + originBytesMax
    const after = this.#bytes + bytes - (this.#taken.get(property) ?? 0)
    if (after > twinLimits.twinBytes.value) return false
    if (!this.#taken.has(property) && this.#taken.size === twinLimits.properties.value) return false
    this.#taken.set(property, bytes)
    this.#bytes = after
    return true
  }
}

/** A node's name, and the digits of its start. */
const originBytesMax = 262
