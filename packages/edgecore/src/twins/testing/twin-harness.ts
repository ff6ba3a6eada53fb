import { createHash } from 'node:crypto'
import { HybridClock, desiredAnnotation, readRules, reconcileDesired } from '@holdfast/device-twin'
import type { Json, PropertyWrite } from '@holdfast/device-twin'
import type { KubeObject } from '@holdfast/kube-api'
import { bootIdFromBytes } from '@holdfast/protos'
import { SeededRandom, silentLog } from '@holdfast/runtime'
import type { Clock, Failpoint, Log } from '@holdfast/runtime'
import { Committer, Outbox } from '@holdfast/store'
import type { LaneOptions, Store } from '@holdfast/store'
import { contentVersion } from '@holdfast/sync'
import type { StateBatch } from '@holdfast/sync'
import { downCollections, upCollections } from '../../objects/collections.ts'
import { itemRefusal } from '../../objects/object-json.ts'
import { ObjectTable } from '../../objects/object-table.ts'
import type { DeviceId, TwinWriting } from '../device-twins.ts'
import { NodeTwins } from '../node-twins.ts'

export const node = 'edge-1'
/** 2027: a wall clock that is trusted. */
export const startMs = 1_800_000_000_000

const lane: LaneOptions = {
  priority: 'normal', bytesMax: 64 * 1024 * 1024, ageMaxMs: undefined, overflow: 'reject', commitIntervalMs: 0,
  keepBytes: 64 * 1024 * 1024, keepAgeMs: 3_600_000
}

export interface TwinsHarness extends AsyncDisposable {
  readonly twins: NodeTwins
  readonly table: ObjectTable
  readonly outbox: Outbox
  readonly committer: Committer
  /** The failures that the committer has met. */
  readonly failures: Error[]
  /** Devices and models come from the cloud; undefined: it goes. */
  readonly receive: (
    objects: Readonly<Record<string, KubeObject | undefined>>, options?: { readonly synced?: boolean }
  ) => Promise<void>
}

export interface TwinsHarnessOptions {
  readonly clock: Clock
  readonly seed?: number
  readonly suspect?: boolean
  readonly trusted?: () => boolean
  readonly log?: Log
  readonly failpoint?: Failpoint
  readonly laneOptions?: Partial<LaneOptions>
  /** Somebody else's, who looks after its failures. */
  readonly committer?: Committer
}

/** Twins as edgecore opens them, with the parts that they need, over a store that somebody else closes. */
export async function openTwins(
  store: Store,
  { clock, seed = 1, suspect = false, trusted = () => true, log = silentLog, failpoint, laneOptions = {}, ...given }: TwinsHarnessOptions
): Promise<TwinsHarness> {
  const random = new SeededRandom(seed)
  const failures: Error[] = []
  const committer = given.committer ?? new Committer({}, {
    store, clock, onFailure: error => { failures.push(error) }, ...failpoint === undefined ? {} : { failpoint }
  })
  const outbox = await Outbox.open({
    lanes: { telemetry: { ...lane, ...laneOptions } }, bootId: bootIdFromBytes(random.bytes(8)), suspect
  }, store, { committer, clock, random, log, clockSynchronised: trusted })
  const table = await ObjectTable.open({ down: downCollections, up: upCollections, suspect }, store, {
    committer, random, log, refusal: itemRefusal, companions: {}
  })
  const twins = await NodeTwins.open({
    node, reportIntervalMs: 1000, freshnessMs: 60_000, historyLane: outbox.lane('telemetry')!, suspect
  }, store, { committer, table, outbox, clock, random, log, clockTrusted: trusted })
  return {
    twins, table, outbox, committer, failures,
    async receive(objects, { synced = true } = {}) {
      for (const kind of ['DeviceModel', 'Device']) {
        const collection = kind === 'Device' ? 'devices' : 'devicemodels'
        const mine = Object.entries(objects).filter(([key, object]) => object?.kind === kind
          || object === undefined && table.sequenceOf(collection, key) !== undefined)
        if (mine.length > 0) await apply(table, { collection, ...split(mine), synced, position: '' })
      }
      // What twins make of them is in a commit of its own.
      await committer.flush()
    },
    async [Symbol.asyncDispose]() {
      outbox.close()
      twins.close()
      await committer.close()
    }
  }
}

function split(objects: readonly (readonly [string, KubeObject | undefined])[]): Pick<StateBatch, 'puts' | 'deletes'> {
  return {
    puts: objects.flatMap(([key, object]) => {
      if (object === undefined) return []
      const value = Buffer.from(JSON.stringify(object))
      return [{ key, version: contentVersion(value), value }]
    }),
    deletes: objects.flatMap(([key, object]) => object === undefined ? [key] : [])
  }
}

export function apply(table: ObjectTable, batch: StateBatch): Promise<void> {
  return new Promise((resolve, reject) => {
    table.down.apply(batch, error => {
      if (error === undefined) resolve()
      else reject(error)
    })
  })
}

export interface DeviceParts {
  readonly uid?: string
  readonly annotations?: Readonly<Record<string, string>>
  readonly model?: string
  readonly properties?: readonly Readonly<Record<string, unknown>>[]
  readonly spec?: Readonly<Record<string, unknown>>
}

/** A Device as somebody writes it; `stamped` makes what the cloud makes of it. */
export function device(id: string, { uid = `uid-${id}`, annotations, model, properties = [], spec }: DeviceParts = {}): KubeObject {
  const [namespace = '', name = ''] = id.split('/')
  return {
    apiVersion: 'devices.kubeedge.io/v1beta1', kind: 'Device',
    metadata: { ...annotations !== undefined && { annotations: { ...annotations } }, name, namespace, uid },
    spec: { ...model !== undefined && { deviceModelRef: { name: model } }, nodeName: node, properties, protocol: {}, ...spec }
  }
}

export function deviceModel(id: string, properties: readonly Readonly<Record<string, unknown>>[]): KubeObject {
  const [namespace = '', name = ''] = id.split('/')
  return {
    apiVersion: 'devices.kubeedge.io/v1beta1', kind: 'DeviceModel', metadata: { name, namespace, uid: `uid-${id}` }, spec: { properties }
  }
}

export const hash = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 16)

/** What the cloud makes of a Device that somebody has written, at that time (TWN-14). */
export function stamped(device: KubeObject, nowMs = startMs, model?: KubeObject): KubeObject {
  const clock = new HybridClock('cloud', '0000000c')
  const rules = readRules({ device, model, freshnessMs: 60_000 })
  const { properties, annotation } = reconcileDesired({ device, rules, node: undefined, clock, nowMs, hash })
  return {
    ...device,
    metadata: { ...device.metadata, annotations: { ...device.metadata.annotations, [desiredAnnotation]: annotation } },
    spec: { ...device['spec'] as object, properties }
  }
}

export function writesOf(values: Readonly<Record<string, Json>>, timestamp?: number): ReadonlyMap<string, PropertyWrite> {
  return new Map(Object.entries(values).map(([name, value]) => [name, { value, ...timestamp !== undefined && { timestamp } }]))
}

export const reported = (values: Readonly<Record<string, Json>>, timestamp?: number) =>
  ({ section: 'reported', writes: writesOf(values, timestamp) }) as const
export const desired = (values: Readonly<Record<string, Json>>) => ({ section: 'desired', writes: writesOf(values) }) as const

/** Resolves when what an acknowledgement waits for is durable. */
export function durable({ commit }: Pick<TwinWriting, 'commit'>): Promise<void> {
  return new Promise((resolve, reject) => {
    if (commit === undefined) resolve()
    else {
      commit.onDurable(error => {
        if (error === undefined) resolve()
        else reject(error)
      })
    }
  })
}

export const valuesOf = (twins: NodeTwins, id: DeviceId, section: 'desired' | 'reported'): Record<string, Json> | undefined => {
  const twin = twins.get(id)?.twin
  return twin && Object.fromEntries([...twin[section]].flatMap(([name, { value, deleted }]) => deleted ? [] : [[name, value]]))
}
