import { createHash } from 'node:crypto'
import { formatTimestamp } from '@holdfast/runtime'
import { recordOf, type KubeObject } from './kube-client.ts'
import type { DeviceCondition, DeviceRow, TwinEntry, TwinProperty, TwinView } from './twin-view.ts'

// Reads what Kubernetes holds of a device: Device, DeviceStatus and DeviceModel (docs/spec/twin.md, TWN-13, TWN-32, TWN-35).

const textOf = (value: unknown): string | null => typeof value === 'string' && value !== '' ? value : null
const recordsOf = (value: unknown): readonly KubeObject[] => Array.isArray(value) ? value.map(recordOf) : []

/** `<namespace>/<name>` */
export function deviceId({ metadata }: KubeObject): string {
  const { namespace, name } = recordOf(metadata)
  return `${String(namespace)}/${String(name)}`
}

export function modelOf({ spec }: KubeObject): string | null {
  return textOf(recordOf(recordOf(spec)['deviceModelRef'])['name'])
}

const nodeOf = ({ spec }: KubeObject): string | null => textOf(recordOf(spec)['nodeName'])

/** As it is written: `sync` says only what the objects show. */
export function twinView(device: KubeObject, status: KubeObject | undefined): TwinView {
  const said = recordOf(status?.['status'])
  const conditions = conditionsOf(device)
  const inDesiredState = conditions.find(({ type }) => type === 'InDesiredState')?.status
  const recordedNode = textOf(annotationsOf(status)['holdfast.dev/node'])
  const desired = desiredOf(device)
  const twins = new Map(recordsOf(said['twins']).map(twin => [String(twin['propertyName']), twin]))
  const names = [...new Set([...desired.keys(), ...twins.keys()])].toSorted()
  return {
    device: deviceId(device), node: nodeOf(device), model: modelOf(device), state: textOf(said['state']),
    lastOnlineTime: textOf(said['lastOnlineTime']),
    inDesiredState: inDesiredState === 'True' ? true : inDesiredState === 'False' ? false : null,
    trouble: null,
    conditions,
    properties: Object.fromEntries(names.flatMap((name): [string, TwinProperty][] => {
      const wanted = desired.get(name)
      const reported = reportedOf(twins.get(name), recordedNode)
      if (wanted === undefined && reported === undefined) return []
      const sync = wanted === undefined ? ''
        : syncOf(name, wanted, recordOf(twins.get(name)?.['observedDesired']), reported, conditions)
      return [[name, { ...wanted !== undefined && { desired: wanted }, ...reported !== undefined && { reported }, sync }]]
    }))
  }
}

function syncOf(
  name: string, desired: TwinEntry, observed: KubeObject, reported: TwinEntry | undefined, conditions: readonly DeviceCondition[]
): string {
  const invalid = conditions.find(({ status, reason }) => status === 'False' && reason === 'InvalidDesired')
  if (desired.version === null) return `no: ${invalid === undefined ? 'cloudcore has not taken it over yet' : invalid.message}`
  if (recordOf(observed['metadata'])['version'] !== desired.version) {
    const synced = conditions.find(({ type, status }) => type === 'Synced' && status === 'False')
    return `no: the node does not have it yet${synced === undefined ? '' : ` (${synced.reason})`}`
  }
  // It was stamped while the model allowed it (TWN-25); the first of those is named in quotes.
  if (invalid?.message.includes(JSON.stringify(name)) === true) return `no: ${invalid.message}`
  const isMet = reported?.value === desired.value
    || conditions.some(({ type, status }) => type === 'InDesiredState' && status === 'True')
  return isMet ? 'yes' : 'no: the device has not reported the desired value'
}

function conditionsOf({ status }: KubeObject): readonly DeviceCondition[] {
  return recordsOf(recordOf(status)['conditions']).map(condition => ({
    type: String(condition['type']), status: String(condition['status']),
    reason: textOf(condition['reason']) ?? '', message: textOf(condition['message']) ?? '',
    since: textOf(condition['lastTransitionTime']) ?? '',
    observedGeneration: typeof condition['observedGeneration'] === 'number' ? condition['observedGeneration'] : 0
  }))
}

const annotationsOf = (object: KubeObject | undefined): KubeObject => recordOf(recordOf(object?.['metadata'])['annotations'])

/**
 * Desired values of the spec, with their versions where cloudcore has stamped them (TWN-13). Of a property that is listed twice
 * the first counts.
 */
function desiredOf(device: KubeObject): ReadonlyMap<string, TwinEntry> {
  const stamps = stampsOf(device)
  const seen = new Set<string>()
  return new Map(recordsOf(recordOf(device['spec'])['properties']).flatMap(({ name, desired }): [string, TwinEntry][] => {
    const { value } = recordOf(desired)
    if (typeof name !== 'string' || seen.has(name)) return []
    seen.add(name)
    if (typeof value !== 'string') return []
    const stamp = stamps.get(name)
    const version = stamp?.hash === hashOf(value) ? stamp.version : null
    return [[name, { value, version, ...writtenBy(version) }]]
  }))
}

interface Stamp { readonly version: string, readonly hash: string | undefined }

function stampsOf(device: KubeObject): ReadonlyMap<string, Stamp> {
  const text = annotationsOf(device)['holdfast.dev/desired']
  let stamps: KubeObject = {}
  try {
    stamps = recordOf(JSON.parse(typeof text === 'string' ? text : '{}'))
  } catch {
    // Somebody edited it: nothing is stamped then, and cloudcore writes it anew.
  }
  return new Map(Object.entries(stamps).flatMap(([property, value]): [string, Stamp][] => {
    const { version, hash } = recordOf(value)
    return typeof version === 'string' ? [[property, { version, hash: typeof hash === 'string' ? hash : undefined }]] : []
  }))
}

const hashOf = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 16)

/** `<time>.<counter>.<writer>/<start>` (TWN-10). */
function writtenBy(version: string | null): Pick<TwinEntry, 'timestamp' | 'writer'> {
  const match = /^(\d{1,16})\.\d{1,16}\.(.+)\/[0-9a-f]{8}$/.exec(version ?? '')
  return match === null ? { timestamp: null, writer: null } : { timestamp: timeText(Number(match[1])), writer: match[2]! }
}

function reportedOf(twin: KubeObject | undefined, node: string | null): TwinEntry | undefined {
  const { value, metadata } = recordOf(twin?.['reported'])
  if (typeof value !== 'string') return undefined
  const { timestamp } = recordOf(metadata)
  return { value, version: null, timestamp: timeText(Number(textOf(timestamp) ?? NaN)), writer: node }
}

/** Null where it is no time, or none that is known. */
function timeText(wallMs: number): string | null {
  return wallMs > 0 && wallMs <= 8.64e15 ? formatTimestamp(wallMs) : null
}

export function deviceRow(device: KubeObject, status: KubeObject | undefined): DeviceRow {
  const { state, lastOnlineTime, conditions, node, model } = twinView(device, status)
  const saying = (wanted: string): string | null => {
    const condition = conditions.find(({ type }) => type === wanted)
    return condition === undefined ? null
      : condition.status === 'True' ? 'yes' : `${condition.status === 'False' ? 'no' : 'not known'}, ${condition.reason}`
  }
  return {
    device: deviceId(device), node, model, state, lastOnlineTime,
    isNodeAway: conditions.some(({ type, reason }) => type === 'Reachable' && reason === 'NodeUnreachable'),
    synced: saying('Synced'), inDesiredState: saying('InDesiredState'),
    created: textOf(recordOf(device['metadata'])['creationTimestamp'])
  }
}

/** What a DeviceModel says of a property, as far as it concerns desired values. */
export interface ModelProperty {
  readonly type: string | null
  readonly isReadOnly: boolean
}

export function modelProperties({ spec }: KubeObject): ReadonlyMap<string, ModelProperty> {
  return new Map(recordsOf(recordOf(spec)['properties']).map(({ name, type, accessMode }) =>
    [String(name), { type: textOf(type), isReadOnly: accessMode === 'ReadOnly' }]))
}

/** A desired value as the spec is to have it; undefined takes it away. */
export interface DesiredValue {
  readonly value: string
  /** What to call its type, where no model says. */
  readonly type: string | undefined
}

/** `spec.properties` with the desired values; what else is said of a property stays. */
export function propertiesWith(device: KubeObject, values: ReadonlyMap<string, DesiredValue | undefined>): readonly KubeObject[] {
  const properties = recordsOf(recordOf(device['spec'])['properties'])
  const left = new Map(values)
  const changed = properties.map(property => {
    const name = String(property['name'])
    if (!left.has(name)) return property
    const wanted = left.get(name)
    left.delete(name)
    const { desired, ...others } = property
    return wanted === undefined ? others : { ...property, desired: desiredWith(recordOf(desired), wanted) }
  })
  const added = [...left].flatMap(([name, wanted]) => wanted === undefined ? [] : [{ name, desired: desiredWith({}, wanted) }])
  return [...changed, ...added]
}

/** Time and type of the value before are not this one's. */
function desiredWith({ metadata, ...others }: KubeObject, { value, type }: DesiredValue): KubeObject {
  const { timestamp: _, type: __, ...kept } = recordOf(metadata)
  const next = { ...kept, ...type !== undefined && { type } }
  return { ...others, value, ...Object.keys(next).length > 0 && { metadata: next } }
}
