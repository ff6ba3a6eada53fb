import { askEdgeJson, edgeEvents } from './edge-client.ts'
import { typedValue, type DesiredText, type DevicePlace } from './device-place.ts'
import { connectionLost, type Service } from './service-client.ts'
import type { DeviceRow, TwinProperty, TwinView } from './twin-view.ts'

/** As the device API has them (docs/spec/device-http.md), as far as they are used. */
interface EntryDocument {
  readonly value: unknown
  readonly version: string
  readonly timestamp: string | null
  readonly writer: string
}
interface TwinDocument {
  readonly device: string
  readonly state: string | null
  readonly lastOnlineTime: string | null
  readonly inDesiredState: boolean
  readonly delta: Readonly<Record<string, unknown>>
  readonly invalid: readonly string[]
  /** Null in a change: gone. */
  readonly properties: Readonly<Record<string, { readonly desired?: EntryDocument, readonly reported?: EntryDocument } | null>>
}
interface DeviceDocument {
  readonly model: string | null
  /** Not of an older release. */
  readonly trouble?: string | null
  readonly properties: readonly { readonly name: string, readonly type: string | null }[] | null
  readonly twin: TwinDocument
}
interface DevicePage { readonly devices: readonly DeviceSummary[], readonly next: string | null }
interface DeviceSummary {
  readonly id: string
  readonly model: string | null
  readonly state: string | null
  readonly lastOnlineTime: string | null
  readonly inDesiredState: boolean
  readonly pending: readonly string[]
  readonly invalid: readonly string[]
  readonly creationTimestamp: string | null
}

/** The devices of one node, asked of its device API. Rejects with `EDGE_…`, or with the code of the node's refusal. */
export class EdgeDevices implements DevicePlace {
  readonly kind = 'edge'
  readonly #edge: Service

  constructor(edge: Service) { this.#edge = edge }

  async list({ namespace }: { readonly namespace?: string }, signal: AbortSignal): Promise<readonly DeviceRow[]> {
    const rows: DeviceRow[] = []
    for (let after = ''; ;) {
      const path = `/v1/devices${after === '' ? '' : `?after=${encodeURIComponent(after)}`}`
      const page = await askEdgeJson(this.#edge, { path }, signal) as DevicePage
      rows.push(...page.devices.filter(({ id }) => namespace === undefined || id.startsWith(`${namespace}/`)).map(rowOf))
      if (page.next === null) return rows
      after = page.next
    }
  }

  async get(device: string, signal: AbortSignal): Promise<TwinView> {
    const document = await this.#device(device, signal)
    return viewOf(document.twin, document)
  }

  async set(
    device: string, values: readonly DesiredText[], ifVersion: string | undefined, signal: AbortSignal
  ): Promise<TwinView> {
    const document = await this.#device(device, signal)
    const types = new Map(document.properties?.map(({ name, type }) => [name, type]))
    const query = new URLSearchParams({ section: 'desired', ...ifVersion !== undefined && { version: ifVersion } })
    const twin = await askEdgeJson(this.#edge, {
      method: 'PATCH',
      path: `${pathOf(device)}/twin?${query}`,
      headers: { 'content-type': 'application/merge-patch+json' },
      body: Object.fromEntries(values.map(({ property, text }) =>
        [property, text === undefined ? null : typedValue(text, types.get(property) ?? null)]))
    }, signal) as TwinDocument
    return viewOf(twin, document)
  }

  async *watch(device: string, signal: AbortSignal): AsyncGenerator<TwinView> {
    const about = await this.#device(device, signal)
    let twin: TwinDocument | undefined
    for await (const { name, data } of edgeEvents(this.#edge, `${pathOf(device)}/twin?watch`, signal)) {
      const document = JSON.parse(data) as TwinDocument
      if (name === 'deleted') return
      twin = name === 'change' && twin !== undefined ? changed(twin, document) : document
      // What is known of the trouble is of the beginning.
      yield viewOf(twin, { ...about, trouble: null })
    }
    signal.throwIfAborted()
    throw connectionLost(this.#edge, 'watch again')
  }

  async #device(device: string, signal: AbortSignal): Promise<DeviceDocument> {
    return await askEdgeJson(this.#edge, { path: pathOf(device) }, signal) as DeviceDocument
  }
}

const pathOf = (device: string): string => `/v1/devices/${device.split('/').map(encodeURIComponent).join('/')}`

function changed(twin: TwinDocument, change: TwinDocument): TwinDocument {
  const properties = new Map(Object.entries(twin.properties))
  for (const [name, property] of Object.entries(change.properties)) {
    if (property === null) properties.delete(name)
    else properties.set(name, property)
  }
  return { ...change, properties: Object.fromEntries([...properties].toSorted(([a], [b]) => a < b ? -1 : 1)) }
}

function viewOf(twin: TwinDocument, { model, trouble = null }: Pick<DeviceDocument, 'model' | 'trouble'>): TwinView {
  const { device, state, lastOnlineTime, inDesiredState, delta, invalid, properties } = twin
  const syncOf = (name: string): string => invalid.includes(name)
    ? 'no: the model does not allow the desired value, so the device is not told'
    : Object.hasOwn(delta, name) ? 'no: the device has not reported the desired value' : 'yes'
  return {
    device, node: null, model, state, lastOnlineTime, inDesiredState, trouble, conditions: [],
    properties: Object.fromEntries(Object.entries(properties).flatMap(([name, property]): [string, TwinProperty][] =>
      property === null ? [] : [[name, { ...property, sync: property.desired === undefined ? '' : syncOf(name) }]]))
  }
}

function rowOf(summary: DeviceSummary): DeviceRow {
  const { id, model, state, lastOnlineTime, inDesiredState, pending, invalid, creationTimestamp } = summary
  const why = [
    ...pending.length === 0 ? [] : [`waits for ${pending.join(', ')}`],
    ...invalid.length === 0 ? [] : [`not allowed: ${invalid.join(', ')}`]
  ]
  return {
    device: id, node: null, model, state, lastOnlineTime, isNodeAway: false, synced: null, created: creationTimestamp,
    inDesiredState: inDesiredState ? 'yes' : `no, ${why.join('; ')}`
  }
}
