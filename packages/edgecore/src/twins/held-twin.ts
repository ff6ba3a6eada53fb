import { createHash } from 'node:crypto'
import { compareVersions, desiredAnnotation, desiredOfDevice, emptyTwin, readRules, step, textOf } from '@holdfast/device-twin'
import type { Entry, TwinError, Version } from '@holdfast/device-twin'
import type { KubeObject } from '@holdfast/kube-api'
import type { DeviceId, DeviceTwin, TwinChange } from './device-twins.ts'
import { readDeviceSettings } from './device-settings.ts'
import type { DeviceSettings } from './device-settings.ts'
import type { StoredTwin } from './twin-format.ts'

export interface HeldTwin extends DeviceTwin { readonly settings: DeviceSettings }

export interface Aligned {
  readonly held: HeldTwin
  /** It differs from what it was made of, and is to be stored. */
  readonly stores: boolean
  /** Versions of the Device's desired values. */
  readonly seen: readonly Version[]
  /** A version from the future was taken back (TWN-16). */
  readonly replaced: boolean
  /** Why not all desired values were taken in (TWN-3). */
  readonly refused: TwinError | undefined
}

/**
 * A device's twin in line with its Device and model: its desired values are taken in, its rules are the model's, and what was
 * of another device by that name is gone (TWN-36). Pure; the same again changes nothing.
 */
export function alignTwin(
  id: DeviceId, before: HeldTwin | StoredTwin | undefined, device: KubeObject, model: KubeObject | undefined, freshnessMs: number
): Aligned {
  const uid = device.metadata.uid ?? ''
  const same = before?.uid === uid ? before : undefined
  const rules = readRules({ device, model, freshnessMs })
  const entries = desiredOfDevice(device, rules, shortHash)
  const { twin: start } = same ?? { twin: emptyTwin }
  const { twin, outputs } = step(start, { kind: 'desired-received', entries })
  const stores = outputs.some(({ kind }) => kind === 'persist')
  const replaced = [...entries].some(([name, { replaces, version }]) => replaces !== undefined
    && isVersion(start.desired.get(name), replaces) && isVersion(twin.desired.get(name), version))
  return {
    held: { id, uid, device, model, rules, twin: stores ? twin : start, settings: readDeviceSettings(device) },
    stores: stores || before !== undefined && same === undefined,
    refused: outputs.flatMap(output => output.kind === 'refused' ? [output.error] : [])[0],
    seen: [...entries.values()].map(({ version }) => version),
    replaced
  }
}

const isVersion = (entry: Entry | undefined, version: Version): boolean =>
  entry !== undefined && compareVersions(entry.version, version) === 0

/** The first 16 hexadecimal digits of SHA-256 (TWN-13). */
function shortHash(text: string): string { return createHash('sha256').update(text).digest('hex').slice(0, 16) }

/** `<namespace>/<name>` of the model that a Device names; undefined: none. */
export function modelKeyOf(device: KubeObject): string | undefined {
  const { spec } = device as { readonly spec?: { readonly deviceModelRef?: { readonly name?: unknown } | null } | null }
  const name = spec?.deviceModelRef?.name
  return typeof name === 'string' && name !== '' ? `${device.metadata.namespace}/${name}` : undefined
}

/** What differs between two of the values that one device had. */
export function changeBetween(id: DeviceId, before: DeviceTwin | undefined, after: DeviceTwin | undefined): TwinChange {
  const past = after === undefined || before?.uid === after.uid ? before : undefined
  return {
    id, before, after,
    desired: changedNames(past?.twin.desired, after?.twin.desired),
    reported: changedNames(past?.twin.reported, after?.twin.reported),
    stateChanged: past?.twin.state?.value !== after?.twin.state?.value,
    specChanged: past === undefined || after === undefined
      || past.device !== after.device && besidesDesired(past.device) !== besidesDesired(after.device)
      || past.model !== after.model && JSON.stringify(past.model) !== JSON.stringify(after.model)
  }
}

/** Nothing but versions and times differs, if anything. */
export function isNone({ desired, reported, stateChanged, specChanged }: TwinChange): boolean {
  return desired.length + reported.length === 0 && !stateChanged && !specChanged
}

type Entries = ReadonlyMap<string, Entry>

function changedNames(before: Entries = noEntries, after: Entries = noEntries): string[] {
  if (before === after) return []
  const names: string[] = []
  for (const [name, entry] of after) {
    const past = before.get(name)
    if (past !== entry && valueText(past) !== valueText(entry)) names.push(name)
  }
  for (const [name, entry] of before) if (!after.has(name) && !entry.deleted) names.push(name)
  return names
}

const noEntries: Entries = new Map()

export function valueText(entry: Entry | undefined): string | undefined {
  return entry === undefined || entry.deleted ? undefined : textOf(entry.value)
}

/** Text of all that a Device says but for its desired values and what goes with them. */
function besidesDesired(device: KubeObject): string {
  const { metadata: { generation: _generation, annotations, ...metadata }, spec, ...rest } = device
  const { [desiredAnnotation]: _versions, ...others } = annotations ?? {}
  return JSON.stringify([metadata, others, isRecord(spec) ? { ...spec, properties: withoutDesired(spec['properties']) } : spec, rest])
}

function withoutDesired(properties: unknown): unknown {
  return Array.isArray(properties) ? properties.map((property: unknown) => {
    if (!isRecord(property)) return property
    const { desired: _desired, ...rest } = property
    return rest
  }) : properties
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
