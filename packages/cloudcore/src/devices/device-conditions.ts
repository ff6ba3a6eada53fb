import { coerce, compareVersions, textOf } from '@holdfast/device-twin'
import type { DeviceRules, Entry } from '@holdfast/device-twin'
import type { JsonObject, KubeObject } from '@holdfast/kube-api'
import { conditionsOf, isObject, sameJson, statusOf } from '../state/status-document.ts'
import type { Condition } from '../state/status-document.ts'
import { nodeOf } from '../state/up-collection.ts'
import { readDeviceStatus } from './device-status.ts'
import type { TwinText } from './device-status.ts'
import { deviceLimits } from './limits.ts'

/** Whether the node of a Device has a tunnel, to whatever cloudcore. */
export type NodePresence = 'connected' | 'away' | 'absent'

/** What the conditions of a Device are made of. */
export interface DeviceFacts {
  readonly device: KubeObject
  /** The name of the DeviceModel that it names; `hasModel`: there is one. */
  readonly model: string | undefined
  readonly hasModel: boolean
  readonly rules: DeviceRules
  /** Its desired values that are stamped, tombstones included. */
  readonly desired: ReadonlyMap<string, Entry>
  /** Desired values that are not stamped, or that the model does not allow any more, and why. */
  readonly invalid: readonly { readonly property: string, readonly message: string }[]
  /** Status of its DeviceStatus; empty where there is none. */
  readonly status: JsonObject
  /** It is the record of what the Device's node says. */
  readonly isRecorded: boolean
  /** What keeps the device from being served, as its node says; '': nothing. Undefined: it has not said. */
  readonly trouble: string | undefined
  readonly presence: NodePresence
}

type Saying = readonly [status: 'True' | 'False' | 'Unknown', reason: string, message: string]

/** The conditions of a Device (TWN-35): type, status, reason and message. */
export function sayConditions(facts: DeviceFacts): readonly (Pick<Condition, 'type'> & Record<'status' | 'reason' | 'message', string>)[] {
  const sayings = {
    Synced: saySynced(facts), Served: sayServed(facts), Reachable: sayReachable(facts), InDesiredState: sayInDesiredState(facts)
  }
  return Object.entries(sayings).map(([type, [status, reason, message]]) => ({ type, status, reason, message }))
}

/**
 * Conditions of the Device with what there is to say; undefined where they say it already. Those of others stay.
 * `observedGeneration`: that of the Device once this is written.
 */
export function nextConditions(
  device: KubeObject, sayings: ReturnType<typeof sayConditions>, observedGeneration: number, now: string
): Condition[] | undefined {
  const current = conditionsOf(statusOf(device))
  const isSeen = (condition: Condition): boolean => typeof condition['observedGeneration'] === 'number'
    && condition['observedGeneration'] >= (device.metadata.generation ?? 0)
  const isSaid = sayings.every(saying => {
    const there = current.find(({ type }) => type === saying.type)
    return there !== undefined && isSeen(there) && sameJson({ ...there, ...saying }, there)
  })
  if (isSaid) return undefined
  const said = new Map<string, Condition>(sayings.map(saying => {
    const there = current.find(({ type }) => type === saying.type)
    const since = there?.['lastTransitionTime']
    const lastTransitionTime = there?.['status'] === saying.status && typeof since === 'string' ? since : now
    return [saying.type, { ...there, ...saying, observedGeneration, lastTransitionTime }]
  }))
  const kept = current.map(condition => {
    const next = said.get(condition.type) ?? condition
    said.delete(condition.type)
    return next
  })
  return [...kept, ...said.values()]
}

/** The node has every desired value of the Device. */
function saySynced({ device, model, hasModel, desired, invalid, status, isRecorded, presence }: DeviceFacts): Saying {
  const node = nodeOf(device)
  if (node === undefined) return ['False', 'NodeNotAssigned', 'The Device is at no node: set spec.nodeName.']
  if (model !== undefined && !hasModel) {
    return ['False', 'ModelNotFound',
      `There is no DeviceModel ${model} in this namespace, so nothing is checked: create it, or take spec.deviceModelRef out.`]
  }
  if (invalid.length > 0) return ['False', 'InvalidDesired', invalidText(invalid)]
  const { observedDesired } = readDeviceStatus(status)
  const pending = [...desired].filter(([property, entry]) => !isRecorded || !isObserved(entry, observedDesired.get(property)))
    .filter(([, entry]) => isRecorded || entry.deleted !== true).map(([property]) => property)
  if (presence !== 'connected' && (pending.length > 0 || !isRecorded)) {
    if (presence === 'absent') return ['False', 'NodeUnreachable', absentText(node)]
    const what = pending.length === 0 ? 'has said nothing of the Device' : `does not have the desired ${names(pending)}`
    return ['False', 'NodeUnreachable', `Node ${node} is away, and ${what}.`]
  }
  if (pending.length > 0) return ['False', 'DesiredPending', `Node ${node} has not said yet that it has the desired ${names(pending)}.`]
  return ['True', 'DesiredObserved', `Node ${node} has every desired value.`]
}

/** What the node last said that it holds is this (equal versions mean equal values), or nothing where there is a tombstone. */
function isObserved({ version, deleted }: Entry, observed: TwinText | undefined): boolean {
  if (deleted === true) return observed === undefined
  return observed?.version !== undefined && compareVersions(observed.version, version) === 0
}

/** Nothing keeps the device from being served, as far as its node knows (TWN-42). */
function sayServed(facts: DeviceFacts): Saying {
  const { device, trouble } = facts
  const unknown = sayNodeAway(facts)
  if (unknown !== undefined) return unknown
  if (trouble === undefined) return ['Unknown', 'NotReported', `Node ${nodeOf(device)} has not said yet how it serves the device.`]
  return trouble === '' ? ['True', 'NoTrouble', 'The node knows of no trouble with the device.']
    : ['False', 'Trouble', `The node says: ${trouble}.`]
}

function sayReachable(facts: DeviceFacts): Saying {
  const unknown = sayNodeAway(facts)
  if (unknown !== undefined) return unknown
  const { status, isRecorded } = facts
  switch (isRecorded ? status['state'] : undefined) {
    case 'online': return ['True', 'DeviceOnline', 'The device says that it is online.']
    case 'ok': return ['True', 'DeviceOk', 'The device says that it is ok.']
    case 'offline': return ['False', 'DeviceOffline', 'The device, or its mapper, says that it is offline.']
    case 'unhealthy': return ['False', 'DeviceUnhealthy', 'The device, or its mapper, says that it is unhealthy.']
    case 'unknown': return ['Unknown', 'DeviceUnknown', 'The mapper of the device says that its state is unknown.']
    default: return ['Unknown', 'StateNotReported', 'Neither the device nor a mapper has said its state.']
  }
}

/** What nobody can know while the node cannot be asked. */
function sayNodeAway({ device, presence }: DeviceFacts): Saying | undefined {
  const node = nodeOf(device)
  if (node === undefined) return ['Unknown', 'NodeNotAssigned', 'The Device is at no node: set spec.nodeName.']
  if (presence === 'away') return ['Unknown', 'NodeUnreachable', `Node ${node} is away.`]
  return presence === 'absent' ? ['Unknown', 'NodeUnreachable', absentText(node)] : undefined
}

const absentText = (node: string): string => `There is no Node ${node}: join the node, or correct spec.nodeName.`

/** The delta is empty, as far as what is reported comes up to here, and nothing is desired that no device can be told. */
function sayInDesiredState({ device, rules, desired, invalid: notTaken, status }: DeviceFacts): Saying {
  const { reported } = readDeviceStatus(status)
  const kept = propertiesKept(device)
  const invalid = [...notTaken]
  const differing: string[] = []
  for (const [property, { value, deleted }] of desired) {
    if (deleted === true || kept.has(property)) continue
    const rule = rules.properties?.get(property)
    const read = coerce(value, rule, property)
    const message = rules.properties !== undefined && rule === undefined ? 'the DeviceModel does not have this property'
      : rule?.access === 'ReadOnly' ? 'the DeviceModel calls it ReadOnly' : 'error' in read ? read.error.message : undefined
    if (message !== undefined) {
      if (!invalid.some(one => one.property === property)) invalid.push({ property, message })
      continue
    }
    const said = reported.get(property)
    if (said === undefined || !('value' in read) || textUnder(said, rules, property) !== textOf(read.value)) differing.push(property)
  }
  if (invalid.length > 0) return ['False', 'InvalidDesired', invalidText(invalid)]
  if (differing.length > 0) return ['False', 'DesiredPending', `The device does not report the desired ${names(differing)}.`]
  return ['True', 'DesiredReported', 'The device reports every desired value.']
}

function textUnder({ value, type }: TwinText, rules: DeviceRules, property: string): string {
  const read = coerce(value, rules.properties?.get(property), property, type)
  return 'value' in read ? textOf(read.value) : value
}

/** Properties whose reported value does not come up (TWN-30): of these nobody here knows. */
function propertiesKept(device: KubeObject): ReadonlySet<string> {
  const spec = device['spec']
  const items = isObject(spec) && Array.isArray(spec['properties']) ? spec['properties'].filter(isObject) : []
  return new Set(items.filter(item => item['reportToCloud'] === false).map(({ name }) => name).filter(name => typeof name === 'string'))
}

function invalidText(invalid: DeviceFacts['invalid']): string {
  const [{ property, message } = { property: '', message: '' }] = invalid
  const text = message.startsWith('property ') ? message : `property ${JSON.stringify(property)}: ${message}`
  const first = `${text.slice(0, 1).toUpperCase()}${text.slice(1)}.`
  const others = names(invalid.slice(1).map(one => one.property))
  return invalid.length === 1 ? first : `${first} ${invalid.length - 1} more ${invalid.length === 2 ? 'is' : 'are'} wrong: ${others}.`
}

function names(properties: readonly string[]): string {
  const max = deviceLimits.conditionNames.value
  const more = properties.length - max
  return `${properties.slice(0, max).map(name => name.length > 64 ? `${name.slice(0, 63)}…` : name).join(', ')}`
    + (more > 0 ? ` and ${more} more` : '')
}
