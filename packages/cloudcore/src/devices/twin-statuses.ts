import type { JsonObject, KubeObject } from '@holdfast/kube-api'
import type { Log, NodeName } from '@holdfast/runtime'
import type { Informer, ObjectPlace } from '../kube/kube-client.ts'
import { kindName, kubeKinds } from '../kube/kube-kinds.ts'
import { mergePatchOf, namespacedPlace, sameJson, stateAnnotation, statusOf } from '../state/status-document.ts'
import type { StatusDecision, StatusRequest, StatusWriter } from '../state/status-writer.ts'
import { nodeOf } from '../state/up-collection.ts'
import type { UpCollection, UpItem } from '../state/up-collection.ts'
import type { DeviceEvents } from './device-events.ts'
import type { DevicePlanner } from './device-planner.ts'
import {
  isOfDevice, newDeviceStatus, nextDeviceStatus, nodeAnnotation, recordingNode, troubleAnnotation, withOwner
} from './device-status.ts'
import { StatusRoute } from './status-route.ts'
import { readTwinItem } from './twin-item.ts'
import type { TwinItem } from './twin-item.ts'

export interface TwinStatusesComponents {
  readonly deviceStatuses: Informer
  readonly devices: Informer
  readonly deviceModels: Informer
  readonly writer: StatusWriter
  readonly planner: DevicePlanner
  readonly events: Pick<DeviceEvents, 'stateChanged'>
  readonly log: Log
}

/**
 * Twins of devices, the up collection `twins`: recorded on the DeviceStatus of each (TWN-32), after what the node's side desires
 * is in the Device (TWN-33).
 */
export function twinStatuses(components: TwinStatusesComponents): UpCollection {
  const { deviceStatuses, devices, deviceModels, writer, log } = components
  const route = new StatusRoute(kindName(kubeKinds.deviceStatuses), log)
  return {
    name: 'twins', informer: deviceStatuses, references: [devices, deviceModels], owners: devices, writer, waitsForObjects: false,
    nodeOf: recordingNode,
    isExpected: (node, key) => nodeOf(devices.get(key)) === node,
    read: (node, key, version, value) => {
      const item = readTwinItem(key, value)
      return typeof item === 'string' ? item : new TwinWrite({ node, version, item, route }, components)
    },
    removal: (_node, key) => {
      const place = namespacedPlace(kubeKinds.deviceStatuses, key)
      return place && {
        places: [place],
        refusal: ([status]) => status === undefined ? 'gone' : undefined,
        next: ([status]) => last({
          verb: 'patch', place,
          patch: metadataPatch(status!, { [stateAnnotation]: null, [nodeAnnotation]: null, [troubleAnnotation]: null })
        })
      }
    }
  }
}

interface TwinWriteOptions {
  readonly node: NodeName
  readonly version: string
  readonly item: TwinItem
  readonly route: StatusRoute
}

/** One item on its way into the Device and its DeviceStatus. */
class TwinWrite implements UpItem {
  readonly places: readonly [ObjectPlace, ObjectPlace]
  readonly #options: TwinWriteOptions
  readonly #components: TwinStatusesComponents
  /** The device's state before the first request; undefined inside: none. */
  #before: { readonly state: unknown } | undefined
  /** Kubernetes does not take what the node desires into the Device: what it reports goes up without that, and without a record. */
  #isRefused = false
  /** What a write of the status by itself has made. */
  #statusVersion: string | undefined

  constructor(options: TwinWriteOptions, components: TwinStatusesComponents) {
    this.#options = options
    this.#components = components
    const { device } = options.item
    this.places = [{ ...device, kind: kubeKinds.deviceStatuses }, device]
  }

  refusal([status, device]: readonly (KubeObject | undefined)[], isRead: boolean): 'gone' | 'another' | undefined {
    const { node, item: { uid } } = this.#options
    if (device === undefined) return 'gone'
    if (device.metadata.uid !== uid || nodeOf(device) !== node) return 'another'
    // Another node says that the device is its: a watch that lags may not show yet that it has moved.
    const recording = recordingNode(status)
    return !isRead && recording !== undefined && recording !== node ? 'another' : undefined
  }

  next([status, device]: readonly (KubeObject | undefined)[]): StatusDecision {
    const { node, item: { twin, trouble } } = this.#options
    const [place, devicePlace] = this.places
    if (!isOfDevice(device!, status)) {
      return step({ verb: 'delete', place, uid: status!.metadata.uid! })
    }
    const current = status === undefined ? {} : statusOf(status)
    const { planner } = this.#components
    const said = this.#isRefused ? { ...twin, desired: new Map() } : twin
    const next = nextDeviceStatus(current, said, recordingNode(status) !== node, planner.rulesOf(device!).rules)
    const plan = this.#isRefused ? undefined : planner.plan(device!, { status: next, isRecorded: true, desired: twin.desired, trouble })
    // Conditions alone are the controller's, who gathers them.
    const request = plan?.desired === undefined ? undefined : planner.request(devicePlace, device!, plan)
    if (request !== undefined) return { ...request, isLast: false, refused: () => { this.#isRefused = true } }
    if (this.#isRefused && status !== undefined && sameJson(current, next) && this.#isAnnotated(status)) {
      return { kind: 'drop', reason: 'recorded' }
    }
    this.#before ??= { state: current['state'] }
    return status === undefined ? this.#create(device!, next) : this.#patch(status, device!, current, next)
  }

  #create(device: KubeObject, next: JsonObject): StatusDecision {
    const { route } = this.#options
    const isWhole = route.at === 'object'
    const annotations = isWhole ? withoutNulls(this.#annotations(undefined)) : {}
    const request: StatusRequest = { verb: 'create', place: this.places[0], object: newDeviceStatus(device, next, annotations) }
    if (isWhole) return last(request, () => { this.#tellState(device, next) })
    return step(request, object => {
      if (route.at === 'unknown' && Object.keys(next).length > 0) route.landed(undefined, {}, object)
    })
  }

  /** Status and record together where that is possible; otherwise the record behind the status. */
  #patch(status: KubeObject, device: KubeObject, current: JsonObject, next: JsonObject): StatusDecision {
    const { route } = this.#options
    const [place] = this.places
    route.found(status)
    const difference = mergePatchOf(current, next)
    const isDifferent = Object.keys(difference).length > 0
    const { resourceVersion = '' } = status.metadata
    const owners = withOwner(status, device)
    const metadata = { resourceVersion, ...owners !== undefined && { ownerReferences: owners } }
    if (isDifferent && route.at === 'unknown') {
      const request: StatusRequest = { verb: 'patch', place, patch: { metadata, status: difference } }
      return step(request, object => { route.landed(undefined, current, object) })
    }
    if (isDifferent && route.at === 'subresource' && this.#statusVersion !== resourceVersion) {
      const request: StatusRequest = {
        verb: 'patch', place, subresource: 'status', patch: { metadata: { resourceVersion }, status: difference }
      }
      const landed = (object: KubeObject): void => {
        this.#statusVersion = object.metadata.resourceVersion
        route.landed('status', current, object)
      }
      return { kind: 'write', request, isLast: false, landed, missing: () => { route.missing(status) } }
    }
    const patch = {
      metadata: { ...metadata, annotations: this.#annotations(status) },
      ...isDifferent && route.at === 'object' && { status: difference }
    }
    return last({ verb: 'patch', place, patch }, () => { this.#tellState(device, next) })
  }

  /** The record; without a version where Kubernetes does not take all of the item, and then nothing over another node's. */
  #annotations(status: KubeObject | undefined): Record<string, string | null> {
    const { version, node, item: { trouble = null } } = this.#options
    if (!this.#isRefused) return { [stateAnnotation]: version, [nodeAnnotation]: node, [troubleAnnotation]: trouble }
    return recordingNode(status) === node ? { [troubleAnnotation]: trouble } : {}
  }

  #isAnnotated(status: KubeObject): boolean {
    return Object.entries(this.#annotations(status)).every(([name, value]) => (status.metadata.annotations?.[name] ?? null) === value)
  }

  #tellState(device: KubeObject, { state }: JsonObject): void {
    if (typeof state !== 'string' || state === this.#before?.state) return
    const before = this.#before?.state
    this.#components.events.stateChanged(device, typeof before === 'string' ? before : undefined, state)
  }
}

const withoutNulls = (annotations: Record<string, string | null>): Record<string, string> =>
  Object.fromEntries(Object.entries(annotations).filter((entry): entry is [string, string] => entry[1] !== null))

const step = (request: StatusRequest, landed?: (object: KubeObject) => void): StatusDecision =>
  ({ kind: 'write', request, isLast: false, ...landed !== undefined && { landed } })
const last = (request: StatusRequest, landed?: (object: KubeObject) => void): StatusDecision =>
  ({ kind: 'write', request, isLast: true, ...landed !== undefined && { landed } })

function metadataPatch({ metadata: { resourceVersion = '' } }: KubeObject, annotations: Record<string, string | null>): JsonObject {
  return { metadata: { resourceVersion, annotations } }
}
