import type { KubeObject } from '@holdfast/kube-api'
import type { Clock, Timer } from '@holdfast/runtime'
import type { Informer, ObjectPlace } from '../kube/kube-client.ts'
import { kubeKinds } from '../kube/kube-kinds.ts'
import { namespacedPlace, objectKey } from '../state/status-document.ts'
import type { StatusDecision, StatusOutcome, StatusWriter } from '../state/status-writer.ts'
import { nodeOf } from '../state/up-collection.ts'
import { modelOf, presenceOf } from './device-planner.ts'
import type { DevicePlan, DevicePlanner } from './device-planner.ts'
import { deviceLimits } from './limits.ts'

export interface DeviceControllerComponents {
  readonly devices: Informer
  readonly deviceModels: Informer
  readonly deviceStatuses: Informer
  readonly nodes: Informer
  readonly writer: StatusWriter
  readonly planner: DevicePlanner
  readonly clock: Clock
}

/**
 * Keeps each Device at what is known of it: desired values that somebody wrote are stamped (TWN-14), conditions follow what the
 * node, the device and the model show (TWN-35).
 *
 * Level-triggered: any event leads to one more look, a moment later, when what it tells has gone its way to the node; a look that
 * finds nothing to do costs no request. Two cloudcores come to the same values; who is later meets another resourceVersion, and may
 * write them once more, with the version that its nodes were shown.
 */
export class DeviceController {
  readonly #components: DeviceControllerComponents
  readonly #unsubscribe: readonly (() => void)[]
  /** Keys of Devices by the DeviceModel that they name, and by their node. */
  readonly #byModel = new Map<string, Set<string>>()
  readonly #byNode = new Map<string, Set<string>>()
  /** Keys of Devices to look at. */
  readonly #due = new Set<string>()
  #turn: Timer | undefined
  /** Writes to come, by key; `isRefused`: what Kubernetes refused waits, whatever happens meanwhile. */
  readonly #later = new Map<string, { readonly timer: Timer, readonly isRefused: boolean }>()
  #isReady = false

  constructor(components: DeviceControllerComponents) {
    this.#components = components
    const { devices, deviceModels, deviceStatuses, nodes, planner } = components
    for (const device of devices.objects()) this.#index(undefined, device)
    const onPosition = (): void => { this.#begin() }
    this.#unsubscribe = [
      devices.subscribe({
        onChange: (before, after) => {
          this.#index(before, after)
          if (before !== undefined && before.metadata.uid !== after?.metadata.uid) planner.forget(before.metadata.uid ?? '')
          this.#lookSoon(objectKey((after ?? before)!))
        },
        onPosition
      }),
      deviceModels.subscribe({
        onChange: (before, after) => { this.#lookAll(this.#byModel.get(objectKey((after ?? before)!))) }, onPosition
      }),
      deviceStatuses.subscribe({ onChange: (before, after) => { this.#lookSoon(objectKey((after ?? before)!)) }, onPosition }),
      nodes.subscribe({
        onChange: (before, after) => {
          if (presenceOf(before) !== presenceOf(after)) this.#lookAll(this.#byNode.get(objectKey((after ?? before)!)))
        },
        onPosition
      })
    ]
    this.#begin()
  }

  /** All that Devices are decided by is known. */
  get isReady(): boolean { return this.#isReady }

  close(): void {
    for (const unsubscribe of this.#unsubscribe) unsubscribe()
    this.#turn?.cancel()
    for (const { timer } of this.#later.values()) timer.cancel()
    this.#later.clear()
  }

  /** What is not known yet must not be taken for what is not there. */
  #begin(): void {
    const { devices, deviceModels, deviceStatuses, nodes } = this.#components
    if (this.#isReady || ![devices, deviceModels, deviceStatuses, nodes].every(({ synced }) => synced)) return
    this.#isReady = true
    this.#lookAll(Array.from(devices.objects(), objectKey))
  }

  #lookAll(keys: Iterable<string> = []): void { for (const key of keys) this.#lookSoon(key) }

  #lookSoon(key: string): void {
    this.#due.add(key)
    this.#turn ??= this.#components.clock.after(deviceLimits.lookDelayMs.value, () => {
      this.#turn = undefined
      this.#lookAtDue()
    })
  }

  #lookAtDue(): void {
    let left = deviceLimits.looksPerTurn.value
    for (const key of this.#due) {
      if (left-- === 0) {
        this.#lookSoon(key)
        return
      }
      this.#due.delete(key)
      this.#look(key)
    }
  }

  #look(key: string): void {
    if (!this.#isReady) return
    const { devices, deviceStatuses, writer } = this.#components
    const later = this.#later.get(key)
    if (later?.isRefused === true && devices.get(key) !== undefined) return
    // A watch that lags behind a write of ours would have its value stamped again.
    const place = namespacedPlace(kubeKinds.devices, key)
    const plan = this.#plan(place && writer.newest(place), deviceStatuses.get(key))
    if (plan?.desired !== undefined) {
      this.#forgetLater(key)
      this.#put(key, 'desired')
    } else if (plan?.conditions === undefined) this.#forgetLater(key)
    else if (later === undefined) this.#putLater(key, deviceLimits.conditionDelayMs.value, false)
  }

  #plan(device: KubeObject | undefined, deviceStatus: KubeObject | undefined): DevicePlan | undefined {
    if (device === undefined || device.metadata.deletionTimestamp !== undefined) return undefined
    const { planner } = this.#components
    return planner.plan(device, planner.reportOf(device, deviceStatus))
  }

  /** What is desired, what is reported and what is only said of it take turns: none waits behind a thousand of the others. */
  #put(key: string, what: 'desired' | 'conditions'): void {
    const { writer, planner, devices } = this.#components
    const place = namespacedPlace(kubeKinds.devices, key)
    if (place === undefined) return
    const places: readonly [ObjectPlace, ObjectPlace] = [place, { ...place, kind: kubeKinds.deviceStatuses }]
    const decide = ([device, deviceStatus]: readonly (KubeObject | undefined)[]): StatusDecision => {
      if (device === undefined) return { kind: 'drop', reason: 'gone' }
      const plan = this.#plan(device, deviceStatus)
      return (plan && planner.request(place, device, plan)) ?? { kind: 'drop', reason: 'recorded' }
    }
    const settled = ({ kind }: StatusOutcome): void => {
      if (kind === 'refused') this.#putLater(key, deviceLimits.refusedRetryMs.value, true)
    }
    writer.put({ places, lane: `${nodeOf(devices.get(key)) ?? ''} ${what}`, decide, settled })
  }

  #putLater(key: string, delayMs: number, isRefused: boolean): void {
    this.#forgetLater(key)
    const timer = this.#components.clock.after(delayMs, () => {
      this.#later.delete(key)
      this.#put(key, 'conditions')
    })
    this.#later.set(key, { timer, isRefused })
  }

  #forgetLater(key: string): void {
    this.#later.get(key)?.timer.cancel()
    this.#later.delete(key)
  }

  #index(before: KubeObject | undefined, after: KubeObject | undefined): void {
    const key = objectKey((after ?? before)!)
    move(this.#byModel, key, modelKey(before), modelKey(after))
    move(this.#byNode, key, nodeOf(before), nodeOf(after))
  }
}

function modelKey(device: KubeObject | undefined): string | undefined {
  const model = device === undefined ? undefined : modelOf(device)
  return model === undefined ? undefined : `${device!.metadata.namespace}/${model}`
}

function move(index: Map<string, Set<string>>, key: string, from: string | undefined, to: string | undefined): void {
  if (from !== undefined && from !== to) {
    const keys = index.get(from)
    keys?.delete(key)
    if (keys?.size === 0) index.delete(from)
  }
  if (to === undefined) return
  const keys = index.get(to)
  if (keys === undefined) index.set(to, new Set([key]))
  else keys.add(key)
}
