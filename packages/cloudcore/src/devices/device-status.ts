import { formatVersion, parseVersion, textOf, typeNameOf } from '@holdfast/device-twin'
import type { DeviceRules, Entry, Twin, Version } from '@holdfast/device-twin'
import type { JsonObject, KubeObject } from '@holdfast/kube-api'
import { formatTimestamp } from '@holdfast/runtime'
import { groupVersion, kubeKinds } from '../kube/kube-kinds.ts'
import { isObject } from '../state/status-document.ts'

/** Of a DeviceStatus: of which node's item it is the record (TWN-32). */
export const nodeAnnotation = 'holdfast.dev/node'

/** Of a DeviceStatus: what keeps the device from being served, as its node says (TWN-42); empty: nothing. */
export const troubleAnnotation = 'holdfast.dev/trouble'

/** The node of whose item the DeviceStatus is the record. */
export function recordingNode(status: KubeObject | undefined): string | undefined {
  return status?.metadata.annotations?.[nodeAnnotation]
}

/** The uid of the Device that owns a DeviceStatus; undefined: none does. */
export function ownerOf(status: KubeObject): string | undefined {
  return status.metadata.ownerReferences?.find(isDeviceReference)?.uid
}

/**
 * The status with what a node says of the device (TWN-32): what it says nothing of stays, as do members and entries of others;
 * tombstones take away. `isOtherNode`: it was another node's so far, and what that one knew to be desired is not known of this, nor
 * whether this one can reach the device. A value whose sender gave it no type has that of the model, so that it does not change with
 * the value.
 */
export function nextDeviceStatus(current: JsonObject, twin: Twin, isOtherNode: boolean, rules: DeviceRules): JsonObject {
  const listed = Array.isArray(current['twins']) ? current['twins'].filter(isObject) : []
  const there = new Set(listed.map(({ propertyName }) => propertyName))
  const added = new Set([...twin.reported.keys(), ...twin.desired.keys()].filter(name => !there.has(name)))
  const twins = [...listed, ...Array.from(added, (propertyName): JsonObject => ({ propertyName }))].flatMap(item => {
    const name = item['propertyName']
    if (typeof name !== 'string') return [item]
    const next: JsonObject = { ...item }
    if (isOtherNode) delete next['observedDesired']
    const modelType = rules.properties?.get(name)?.type?.toLowerCase()
    set(next, 'reported', twin.reported.get(name), modelType, false)
    set(next, 'observedDesired', twin.desired.get(name), modelType, true)
    // An entry that has nothing to say any more goes; one that never had is somebody's.
    return Object.keys(next).length > 1 || (there.has(name) && Object.keys(item).length === 1) ? [next] : []
  })
  const next: JsonObject = { ...current }
  if (isOtherNode) delete next['state']
  if (twins.length > 0 || listed.length > 0) next['twins'] = twins
  if (twin.state !== undefined) next['state'] = twin.state.value
  if (twin.lastOnlineTime !== undefined) next['lastOnlineTime'] = timestampText(twin.lastOnlineTime)
  return next
}

/** RFC 3339 as Kubernetes has it: without fractions of a second. */
export function timestampText(wallMs: number): string { return formatTimestamp(wallMs).replace(/\.\d+Z$/, 'Z') }

function set(
  item: JsonObject, member: 'reported' | 'observedDesired', entry: Entry | undefined, modelType: string | undefined, withVersion: boolean
): void {
  if (entry === undefined) return
  if (entry.deleted === true) {
    delete item[member]
    return
  }
  const { value, version, timestamp, type = modelType ?? typeNameOf(value) } = entry
  const old = item[member]
  const metadata: JsonObject = isObject(old) && isObject(old['metadata']) ? { ...old['metadata'] } : {}
  delete metadata['type']
  item[member] = {
    ...isObject(old) && old,
    value: textOf(value),
    metadata: {
      ...metadata, timestamp: String(timestamp), ...type !== undefined && { type }, ...withVersion && { version: formatVersion(version) }
    }
  }
}

/** What a DeviceStatus says of one property. */
export interface TwinText {
  readonly value: string
  readonly timestamp: number
  readonly type: string | undefined
  readonly version: Version | undefined
}

export interface StatusTexts {
  readonly reported: ReadonlyMap<string, TwinText>
  readonly observedDesired: ReadonlyMap<string, TwinText>
}

/** What a status says, property by property; what is malformed says nothing. */
export function readDeviceStatus(status: JsonObject): StatusTexts {
  const [reported, observedDesired] = [new Map<string, TwinText>(), new Map<string, TwinText>()]
  for (const item of Array.isArray(status['twins']) ? status['twins'] : []) {
    if (!isObject(item) || typeof item['propertyName'] !== 'string') continue
    const [said, known] = [readText(item['reported']), readText(item['observedDesired'])]
    if (said !== undefined) reported.set(item['propertyName'], said)
    if (known !== undefined) observedDesired.set(item['propertyName'], known)
  }
  return { reported, observedDesired }
}

function readText(side: unknown): TwinText | undefined {
  if (!isObject(side) || typeof side['value'] !== 'string') return undefined
  const { timestamp, type, version } = isObject(side['metadata']) ? side['metadata'] : {}
  return {
    value: side['value'],
    timestamp: typeof timestamp === 'string' && /^\d{1,16}$/.test(timestamp) ? Number(timestamp) : 0,
    type: typeof type === 'string' && type !== '' ? type : undefined,
    version: typeof version === 'string' ? parseVersion(version) : undefined
  }
}

/** A DeviceStatus that the Device owns, so that Kubernetes deletes it with the Device. */
export function newDeviceStatus(device: KubeObject, status: JsonObject, annotations: Readonly<Record<string, string>>): KubeObject {
  const { namespace = '', name = '' } = device.metadata
  return {
    apiVersion: groupVersion(kubeKinds.deviceStatuses), kind: 'DeviceStatus',
    metadata: { namespace, name, annotations: { ...annotations }, ownerReferences: [ownerReference(device)] },
    status
  }
}

/** Owners of a DeviceStatus, the Device among them; undefined where it is already. */
export function withOwner(status: KubeObject, device: KubeObject): JsonObject[] | undefined {
  if (ownerOf(status) === device.metadata.uid) return undefined
  const others = (status.metadata.ownerReferences ?? []).filter(reference => !isDeviceReference(reference))
  return [...others, others.some(({ controller }) => controller === true)
    ? { ...ownerReference(device), controller: false } : ownerReference(device)].map(reference => ({ ...reference }))
}

const ownerReference = ({ metadata: { name = '', uid = '' } }: KubeObject): OwnerReference =>
  ({ apiVersion: groupVersion(kubeKinds.devices), kind: 'Device', name, uid, controller: true })

type OwnerReference = NonNullable<KubeObject['metadata']['ownerReferences']>[number]

const isDeviceReference = ({ apiVersion, kind }: OwnerReference): boolean =>
  kind === 'Device' && apiVersion.startsWith(`${kubeKinds.devices.group}/`)

/** A DeviceStatus that is of this Device, and not of one of its name before (TWN-36); one that nobody owns is. */
export function isOfDevice(device: KubeObject, status: KubeObject | undefined): boolean {
  const owner = status === undefined ? undefined : ownerOf(status)
  return owner === undefined || owner === device.metadata.uid
}
