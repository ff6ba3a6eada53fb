import { HybridClock, desiredOfDevice, emptyTwin, encodeTwin, readRules } from '@holdfast/device-twin'
import type { Entry, Json, Twin } from '@holdfast/device-twin'
import type { JsonObject, KubeObject } from '@holdfast/kube-api'
import { SeededRandom, parseNodeName, silentLog } from '@holdfast/runtime'
import type { HandClock } from '@holdfast/runtime/testing'
import type { StateTarget } from '@holdfast/sync'
import type { ObjectPlace } from '../../kube/kube-client.ts'
import { kubeKinds } from '../../kube/kube-kinds.ts'
import { conditionsOf, statusOf } from '../../state/status-document.ts'
import { newNode, nodePlace } from '../../state/testing/up-cluster.ts'
import type { ScriptedCluster, ScriptedInformer } from '../../state/testing/up-cluster.ts'
import { UpTargets } from '../../state/up-target.ts'
import { hash } from '../device-planner.ts'
import { Devices } from '../devices.ts'

export const devicePlace = (name: string): ObjectPlace => ({ kind: kubeKinds.devices, namespace: 'default', name })
export const modelPlace = (name: string): ObjectPlace => ({ kind: kubeKinds.deviceModels, namespace: 'default', name })
export const deviceStatusPlace = (name: string): ObjectPlace => ({ kind: kubeKinds.deviceStatuses, namespace: 'default', name })

const apiVersion = 'devices.kubeedge.io/v1beta1'

/** `desired` by property. */
export function newDevice(
  name: string, nodeName: string | undefined, desired: Readonly<Record<string, string>> = {}, more: JsonObject = {}
): KubeObject {
  const properties = Object.entries(desired).map(([property, value]) => ({ name: property, desired: { value } }))
  return {
    apiVersion, kind: 'Device', metadata: { namespace: 'default', name, generation: 1 },
    spec: { ...nodeName !== undefined && { nodeName }, protocol: { protocolName: 'mqtt' }, properties, ...more }
  }
}

export function newModel(name: string, properties: readonly JsonObject[]): KubeObject {
  const spec = { protocol: 'mqtt', properties: [...properties] }
  return { apiVersion, kind: 'DeviceModel', metadata: { namespace: 'default', name }, spec }
}

export type DeviceInformer = 'devices' | 'deviceModels' | 'deviceStatuses' | 'nodes'

export interface DeviceCloudOptions { readonly seed?: number, readonly late?: readonly DeviceInformer[] }

/** What one cloudcore does with Devices, over a cluster in memory. */
export class DeviceCloud {
  readonly informers: Readonly<Record<DeviceInformer, ScriptedInformer>>
  readonly devices: Devices
  readonly targets: UpTargets

  /** `late`: these know nothing yet; `sync` changes that. */
  constructor(cluster: ScriptedCluster, clock: HandClock, { seed = 5, late = [] }: DeviceCloudOptions = {}) {
    const random = new SeededRandom(seed)
    this.informers = {
      devices: cluster.informer(kubeKinds.devices), deviceModels: cluster.informer(kubeKinds.deviceModels),
      deviceStatuses: cluster.informer(kubeKinds.deviceStatuses), nodes: cluster.informer(kubeKinds.nodes)
    }
    for (const name of late) this.informers[name].forget()
    this.devices = new Devices({ api: 'embedded' }, { client: cluster, ...this.informers, clock, random, log: silentLog })
    this.targets = new UpTargets({ collections: [this.devices.twins], clock, log: silentLog })
  }

  sync(name: DeviceInformer): void {
    this.informers[name].synced = true
    this.informers[name].follow()
  }

  close(): void {
    this.targets.close()
    this.devices.close()
  }
}

/** A node with twins, as simple as can be: what it holds, and what it says. */
export class TwinNode {
  readonly name: string
  readonly hybridClock: HybridClock
  readonly twins = new Map<string, { uid: string, twin: Twin, version: Buffer }>()
  /** What keeps devices from being served, by their names. */
  readonly troubles = new Map<string, string>()
  epoch = 1
  #counter = 0
  #nowMs: () => number

  constructor(name: string, nowMs: () => number) {
    this.name = name
    this.hybridClock = new HybridClock(name, '00000001')
    this.#nowMs = nowMs
  }

  /** Of another uid than this it is none. */
  twin(name: string, uid = this.twins.get(name)?.uid): Twin {
    const there = this.twins.get(name)
    return there === undefined || there.uid !== uid ? emptyTwin : there.twin
  }

  change(name: string, uid: string, change: Partial<Twin>): void {
    const before = this.twin(name, uid)
    const version = Buffer.alloc(16)
    version.writeUInt32BE(this.epoch, 0)
    version.writeBigUInt64BE(BigInt(++this.#counter), 8)
    this.twins.set(name, { uid, twin: { ...before, ...change, revision: before.revision + 1 }, version })
  }

  entry(value: Json, more: Partial<Entry> = {}): Entry {
    return { value, version: this.hybridClock.next(this.#nowMs()), timestamp: this.#nowMs(), ...more }
  }

  report(name: string, uid: string, values: Readonly<Record<string, Json>>): void {
    const reported = new Map(this.twin(name, uid).reported)
    for (const [property, value] of Object.entries(values)) reported.set(property, this.entry(value))
    this.change(name, uid, { reported })
  }

  desire(name: string, uid: string, values: Readonly<Record<string, Json>>): void {
    const desired = new Map(this.twin(name, uid).desired)
    for (const [property, value] of Object.entries(values)) {
      desired.set(property, value === null ? this.entry(null, { deleted: true }) : this.entry(value))
    }
    this.change(name, uid, { desired })
  }

  /** Takes what comes down. */
  take(device: KubeObject, model?: KubeObject): void {
    const { name = '', uid = '' } = device.metadata
    const desired = new Map(this.twin(name, uid).desired)
    for (const [property, { replaces, ...entry }] of desiredOfDevice(device, readRules({ device, model, freshnessMs: 0 }), hash)) {
      const held = desired.get(property)
      const isReplaced = held !== undefined && replaces !== undefined && formatOf(held) === formatOf({ version: replaces })
      if (held === undefined || isReplaced || compare(entry, held) > 0) desired.set(property, entry)
      this.hybridClock.observe(entry.version)
    }
    this.change(name, uid, { desired })
  }

  item(name: string): { key: string, version: Buffer, value: Buffer } {
    const { uid, twin, version } = this.twins.get(name)!
    const value = Buffer.from(JSON.stringify({
      apiVersion, kind: 'Device', metadata: { namespace: 'default', name, uid }, twin: encodeTwin(twin), trouble: this.troubles.get(name)
    }))
    return { key: `default/${name}`, version: Buffer.from(version), value }
  }

  say(target: StateTarget, ...names: readonly string[]): (Error | undefined)[] {
    const applied: (Error | undefined)[] = []
    const puts = names.filter(name => this.twins.has(name)).map(name => this.item(name))
    const deletes = names.filter(name => !this.twins.has(name)).map(name => `default/${name}`)
    target.apply({ collection: 'twins', puts, deletes, synced: true, position: '' }, error => { applied.push(error) })
    return applied
  }
}

const formatOf = ({ version: { time, counter, origin } }: Pick<Entry, 'version'>): string => `${time}.${counter}.${origin}`
const compare = ({ version: a }: Entry, { version: b }: Entry): number =>
  a.time - b.time || a.counter - b.counter || (a.origin < b.origin ? -1 : a.origin > b.origin ? 1 : 0)

export const edge = parseNodeName('edge-1')!

export function readyNode(name: string, status: 'True' | 'Unknown' = 'True'): KubeObject {
  return { ...newNode(name), status: { conditions: [{ type: 'Ready', status, reason: 'r', message: 'm' }] } }
}

export function setReady(cluster: ScriptedCluster, name: string, status: 'True' | 'Unknown'): void {
  cluster.set(nodePlace(name), node => ({ ...node, ...readyNode(name, status), metadata: node?.metadata ?? { name } }))
}

/** `type: status reason`, in the order in which they stand, but for `Served`, which has tests of its own. */
export function saidOf(device: KubeObject | undefined): string[] {
  const conditions = device === undefined ? [] : conditionsOf(statusOf(device))
  return conditions.filter(({ type }) => type !== 'Served').map(({ type, status, reason }) => `${type}: ${status as string} ${reason as string}`)
}
