import { DevicesApi, conditionOf, desiredOf, reportedOf } from '../test/harness/device-api.ts'
import type { Daemon } from '../test/harness/daemons.ts'
import { thermostatName } from './thermostat.ts'

/** How the thermostat is to be set, or says that it is. */
export interface Settings { readonly target: string, readonly mode: string }

/** Both sides of a twin, as one place knows it. */
export interface TwinView { readonly desired: Partial<Settings>, readonly reported: Partial<Settings> }

/** The thermostat and this machine as Devices: in cloudcore's Kubernetes API, and on the node. */
export class DemoDevices {
  readonly #cloud: Daemon
  readonly #edge: Daemon

  constructor(cloud: Daemon, edge: Daemon) {
    this.#cloud = cloud
    this.#edge = edge
  }

  async create(node: string): Promise<void> {
    using api = await DevicesApi.of(this.#cloud)
    await api.createModel('thermostat', [
      { name: 'temperature', type: 'FLOAT', accessMode: 'ReadOnly', unit: '°C' },
      { name: 'target', type: 'FLOAT', minimum: '5', maximum: '30', unit: '°C' },
      { name: 'mode', type: 'STRING' }
    ])
    await api.createDevice(thermostatName, node, 'thermostat', {
      properties: [{ name: 'target', desired: { value: '20' } }, { name: 'mode', desired: { value: 'comfort' } }]
    })
    await api.createModel('machine', [
      { name: 'load', type: 'FLOAT', accessMode: 'ReadOnly' },
      { name: 'memory-free', type: 'FLOAT', accessMode: 'ReadOnly', unit: 'B' },
      { name: 'disk-free', type: 'FLOAT', accessMode: 'ReadOnly', unit: 'B' }
    ])
    const visitor = (what: string, pointer: string) =>
      ({ protocolName: 'mqtt', configData: { topic: `devices/machine/${what}/telemetry`, pointer } })
    await api.createDevice('machine', node, 'machine', {
      protocol: { protocolName: 'mqtt' },
      properties: [
        { name: 'load', visitors: visitor('load', '/one') },
        { name: 'memory-free', visitors: visitor('memory', '/freeBytes') },
        { name: 'disk-free', visitors: visitor('disk', '/freeBytes') }
      ]
    })
  }

  /** As `kubectl patch device thermostat` does it. */
  async desireInCloud(settings: Partial<Settings>): Promise<void> {
    using api = await DevicesApi.of(this.#cloud)
    await api.desire(thermostatName, settings)
  }

  /** As an application on the node does it. */
  async desireOnNode(settings: Partial<Settings>): Promise<void> {
    const answer = await fetch(`${this.#twinUrl}?section=desired`, {
      method: 'PATCH', headers: { 'content-type': 'application/merge-patch+json' }, body: JSON.stringify(settings)
    })
    if (!answer.ok) throw new Error(`PATCH of the twin on the node: ${answer.status} ${await answer.text()}`)
  }

  async inCloud(): Promise<TwinView & { readonly inDesiredState: boolean }> {
    using api = await DevicesApi.of(this.#cloud)
    const device = await api.device(thermostatName)
    return {
      desired: desiredOf(device), reported: reportedOf(await api.status(thermostatName)),
      inDesiredState: conditionOf(device, 'InDesiredState') === 'True'
    }
  }

  async onNode(): Promise<TwinView> {
    const answer = await fetch(this.#twinUrl)
    if (!answer.ok) throw new Error(`GET of the twin on the node: ${answer.status} ${await answer.text()}`)
    const { properties } = await answer.json() as {
      properties: Readonly<Record<string, Readonly<Partial<Record<'desired' | 'reported', { readonly value: unknown }>>>>>
    }
    const side = (name: 'desired' | 'reported'): Partial<Settings> => Object.fromEntries(Object.entries(properties)
      .flatMap(([property, sides]) => sides[name] === undefined ? [] : [[property, String(sides[name].value)]]))
    return { desired: side('desired'), reported: side('reported') }
  }

  /** Free memory of this machine in bytes, as the cluster shows it; undefined: it does not yet. */
  async machineMemory(): Promise<number | undefined> {
    using api = await DevicesApi.of(this.#cloud)
    const value = reportedOf(await api.status('machine'))['memory-free']
    return value === undefined ? undefined : Number(value)
  }

  get #twinUrl(): string { return `${this.#edge.endpoints.http}/v1/devices/default/${thermostatName}/twin` }
}

/** What differs of a view and these settings; '' where nothing does. */
export function difference({ desired, reported }: TwinView, settings: Settings): string {
  return (['target', 'mode'] as const).flatMap(property => [['desired', desired], ['reported', reported]].flatMap(([side, values]) => {
    const value = (values as Partial<Settings>)[property]
    return value === settings[property] ? [] : [`${side as string} ${property} is ${value ?? 'not there'}, not ${settings[property]}`]
  })).join('; ')
}
