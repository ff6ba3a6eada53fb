import { createHash } from 'node:crypto'
import {
  desiredAnnotation, desiredOfDevice, isPropertyName, readRules, reconcileDesired, twinLimits, valueOfText
} from '@holdfast/device-twin'
import type { DeviceRules, Entry, GivenVersions, Hash, HybridClock, Json, ReconciledDesired } from '@holdfast/device-twin'
import type { JsonObject, KubeObject } from '@holdfast/kube-api'
import type { Clock, Log } from '@holdfast/runtime'
import type { Informer, ObjectPlace } from '../kube/kube-client.ts'
import { kindName, kubeKinds } from '../kube/kube-kinds.ts'
import { conditionsOf, isObject, sameJson, statusOf } from '../state/status-document.ts'
import type { Condition } from '../state/status-document.ts'
import type { StatusDecision } from '../state/status-writer.ts'
import { nodeOf } from '../state/up-collection.ts'
import { nextConditions, sayConditions } from './device-conditions.ts'
import type { NodePresence } from './device-conditions.ts'
import { isOfDevice, readDeviceStatus, recordingNode, timestampText, troubleAnnotation } from './device-status.ts'
import { StatusRoute } from './status-route.ts'

export interface DevicePlannerComponents {
  readonly deviceModels: Informer
  readonly nodes: Informer
  /** Gives the versions of desired values that were written in the cloud (TWN-14). */
  readonly hybridClock: HybridClock
  readonly clock: Clock
  readonly log: Log
}

/** What a Device is to be. */
export interface DevicePlan {
  /** Its desired values and their versions, where these are to be others. */
  readonly desired: { readonly properties: readonly Json[], readonly annotation: string } | undefined
  /** All its conditions, where they are to be others. */
  readonly conditions: Condition[] | undefined
}

/** What is known of a device from its node. */
export interface DeviceReport {
  /** Status of its DeviceStatus, as it is or will be. */
  readonly status: JsonObject
  /** It is the record of the node that the Device is at. */
  readonly isRecorded: boolean
  /** Desired values that the node has; undefined: nobody knows. */
  readonly desired: ReadonlyMap<string, Entry> | undefined
  /** What keeps the device from being served, as its node says; '': nothing. Undefined: it has not said (TWN-42). */
  readonly trouble: string | undefined
}

/** What a Device, with the model, the node and the report that belong to it, is to be; and the request that makes it so. */
export class DevicePlanner {
  /** Desired values that were stamped or brought in from nodes, since start. */
  stamps = 0
  readonly #components: DevicePlannerComponents
  readonly #route: StatusRoute
  /** Versions of desired values that are not written yet, by the Device's uid. */
  readonly #given = new Map<string, GivenVersions>()

  constructor(components: DevicePlannerComponents) {
    this.#components = components
    this.#route = new StatusRoute(kindName(kubeKinds.devices), components.log)
  }

  /** The report of a Device as its DeviceStatus has it. */
  reportOf(device: KubeObject, deviceStatus: KubeObject | undefined): DeviceReport {
    const own = isOfDevice(device, deviceStatus) ? deviceStatus : undefined
    const node = nodeOf(device)
    const status = own === undefined ? {} : statusOf(own)
    const isRecorded = node !== undefined && recordingNode(own) === node
    if (!isRecorded) return { status, isRecorded, desired: undefined, trouble: undefined }
    return {
      status, isRecorded, desired: this.#observedEntries(status, this.rulesOf(device).rules),
      trouble: own?.metadata.annotations?.[troubleAnnotation]
    }
  }

  plan(device: KubeObject, { status, isRecorded, desired: reported, trouble }: DeviceReport): DevicePlan {
    const { model, hasModel, rules } = this.rulesOf(device)
    const nowMs = this.#components.clock.wallMs()
    const reconciled = this.#reconcile(device, rules, reported, nowMs)
    const { invalid } = reconciled
    const desired = reconciled.changed ? reconciled : undefined
    const next = desired === undefined ? device : withDesired(device, desired)
    const sayings = sayConditions({
      device: next, model, hasModel, rules, desired: desiredOfDevice(next, rules, hash), invalid, status, isRecorded, trouble,
      presence: this.#presenceOf(nodeOf(device))
    })
    const conditions = this.#route.at === 'nowhere' ? undefined
      : nextConditions(device, sayings, this.#generationAfter(device), timestampText(nowMs))
    return { desired, conditions }
  }

  /**
   * A Device that a watch shows as it will be once its desired values are stamped, for its node: what is written into it then is
   * this (TWN-14), and the node need not wait for it.
   */
  stamped(device: KubeObject, deviceStatus: KubeObject | undefined): KubeObject {
    const { rules } = this.rulesOf(device)
    const desired = this.#reconcile(device, rules, this.reportOf(device, deviceStatus).desired, this.#components.clock.wallMs())
    return desired.changed ? withDesired(device, desired) : device
  }

  /** The Device is gone, or shows what it was given. */
  forget(uid: string): void { this.#given.delete(uid) }

  #reconcile(device: KubeObject, rules: DeviceRules, node: ReadonlyMap<string, Entry> | undefined, nowMs: number): ReconciledDesired {
    const { uid = '' } = device.metadata
    const given: GivenVersions = this.#given.get(uid) ?? new Map()
    const reconciled = reconcileDesired({ device, rules, node, clock: this.#components.hybridClock, nowMs, hash, given })
    if (given.size === 0) this.forget(uid)
    else this.#given.set(uid, given)
    return reconciled
  }

  /** The next request of the plan; undefined: there is nothing to do. */
  request(place: ObjectPlace, device: KubeObject, { desired, conditions }: DevicePlan): StatusDecision & { kind: 'write' } | undefined {
    const { resourceVersion = '' } = device.metadata
    this.#route.found(device)
    const { at } = this.#route
    if (desired === undefined && conditions === undefined) return undefined
    const landed = (subresource: 'status' | undefined) => (object: KubeObject): void => {
      if (desired !== undefined && subresource === undefined) this.stamps++
      if (conditions === undefined || (at === 'subresource') !== (subresource === 'status')) return
      this.#route.landed(subresource, statusOf(device), object)
      const isKept = sameJson(conditionsOf(statusOf(object)), conditions)
      if (!isKept && this.#route.at === (subresource ?? 'object')) this.#route.giveUp()
    }
    if (desired === undefined && at === 'nowhere') return undefined
    if (at === 'subresource' && desired === undefined) {
      return {
        kind: 'write', isLast: true, landed: landed('status'), missing: () => { this.#route.missing(device) },
        request: {
          verb: 'patch', place, subresource: 'status', patch: { metadata: { resourceVersion }, status: { conditions: conditions! } }
        }
      }
    }
    const properties = desired?.properties as JsonObject[] | undefined
    return {
      kind: 'write', isLast: at === 'object' || conditions === undefined, landed: landed(undefined),
      request: {
        verb: 'patch', place, patch: {
          metadata: { resourceVersion, ...desired !== undefined && { annotations: { [desiredAnnotation]: desired.annotation } } },
          ...properties !== undefined && !sameJson(propertiesOf(device), properties) && { spec: { properties } },
          ...at !== 'subresource' && conditions !== undefined && { status: { conditions } }
        }
      }
    }
  }

  /** A write with the object counts as a change of it, for a kind without a status subresource; one by itself does not. */
  #generationAfter({ metadata: { generation = 0 } }: KubeObject): number {
    return this.#route.at === 'subresource' ? generation : generation + 1
  }

  /** What the model that the Device names says, as far as it is known here. */
  rulesOf(device: KubeObject): { readonly model: string | undefined, readonly hasModel: boolean, readonly rules: DeviceRules } {
    const name = modelOf(device)
    const model = name === undefined ? undefined : this.#components.deviceModels.get(`${device.metadata.namespace}/${name}`)
    return { model: name, hasModel: model !== undefined, rules: readRules({ device, model, freshnessMs: 0 }) }
  }

  #presenceOf(node: string | undefined): NodePresence {
    return node === undefined ? 'absent' : presenceOf(this.#components.nodes.get(node))
  }

  /**
   * Desired values that the node last said it has: where a Device was put back to an older state, these are later (TWN-15). Not
   * those from the future: they were stamped anew before they were recorded (TWN-33), and may be older than what was since.
   */
  #observedEntries(status: JsonObject, rules: DeviceRules): ReadonlyMap<string, Entry> {
    const entries = new Map<string, Entry>()
    const latestMs = this.#components.clock.wallMs() + twinLimits.aheadMs.value
    for (const [property, { value, version, timestamp, type }] of readDeviceStatus(status).observedDesired) {
      if (version === undefined || version.time > latestMs || !isPropertyName(property)) continue
      const read = valueOfText(value, rules.properties?.get(property), type)
      entries.set(property, { value: read, version, timestamp, ...type !== undefined && { type } })
    }
    return entries
  }
}

/** The name of the DeviceModel that a Device names. */
export function modelOf(device: KubeObject): string | undefined {
  const spec = device['spec']
  const reference = isObject(spec) ? spec['deviceModelRef'] : undefined
  const name = isObject(reference) ? reference['name'] : undefined
  return typeof name === 'string' && name !== '' ? name : undefined
}

/**
 * Whether a node has a tunnel, as its Node says it: whichever cloudcore has the tunnel writes that there, and after the grace
 * for nodes that flap (STA-38).
 */
export function presenceOf(node: KubeObject | undefined): NodePresence {
  if (node === undefined) return 'absent'
  const ready = conditionsOf(statusOf(node)).find(({ type }) => type === 'Ready')
  return ready === undefined || ready['status'] === 'Unknown' ? 'away' : 'connected'
}

export const hash: Hash = text => createHash('sha256').update(text).digest('hex').slice(0, 16)

function propertiesOf(device: KubeObject): JsonObject[] {
  const spec = device['spec']
  return isObject(spec) && Array.isArray(spec['properties']) ? spec['properties'] as JsonObject[] : []
}

function withDesired(device: KubeObject, { properties, annotation }: NonNullable<DevicePlan['desired']>): KubeObject {
  const { metadata } = device
  const spec = device['spec']
  return {
    ...device, metadata: { ...metadata, annotations: { ...metadata.annotations, [desiredAnnotation]: annotation } },
    spec: { ...isObject(spec) && spec, properties }
  }
}
