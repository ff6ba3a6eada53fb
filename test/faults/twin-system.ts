import { expect } from 'vitest'
import type { SeededRandom } from '@holdfast/runtime'
import { CutProxy } from '../harness/cut-proxy.ts'
import { Fleet, until } from '../harness/daemons.ts'
import type { Daemon, DaemonOptions } from '../harness/daemons.ts'
import { DevicesApi, conditionOf, desiredOf, observedOf, reportedOf } from '../harness/device-api.ts'
import { KubeHttp } from '../harness/kube-http.ts'
import type { StateApi } from '../harness/state-api.ts'
import { TwinDevice } from '../harness/twin-device.ts'
import { metricOf, randomOf, seed } from './fault-system.ts'
import { convergenceMs, node } from './state-system.ts'

export interface TwinSystemOptions {
  /** Number of the test: its random moments are its own. */
  readonly test: number
  readonly devices?: number
  /** cloudcore in mode `cluster`, against an API that the test scripts. Default: the embedded one. */
  readonly api?: StateApi
  readonly edge?: DaemonOptions
}

/** What one device and those who want something of it have said. */
interface Account {
  /** Counts up; the newest value that was reported. */
  value: number
  /** Desired values that were written since both sides were equal last, acknowledged or not, and the one before; by property. */
  readonly wanted: Readonly<Record<Settable, Set<string>>>
}

type Settable = 'target' | 'mode'

/** What the node says of a twin. */
interface NodeTwin {
  readonly properties: Readonly<Record<string, {
    readonly desired?: { readonly value: unknown }, readonly reported?: { readonly value: unknown }
  }>>
}

/** Before a write that was refused is tried again. */
const againMs = 20

/**
 * One cloudcore, one edgecore, and devices that do what they are told. While it runs, devices report, the cluster and an
 * application on the node want things of them, each at its own pace.
 */
export class TwinSystem implements AsyncDisposable {
  readonly fleet: Fleet
  readonly edge: Daemon
  /** Between the node and the cloud. */
  readonly link: CutProxy
  /** Where the node's link leads: to cloudcore, or to a port before it. */
  readonly route: { port: number | undefined }
  readonly cluster: DevicesApi
  readonly devices: readonly TwinDevice[]
  /** Writes that were acknowledged, by whom. */
  readonly written = { reported: 0, cloud: 0, node: 0 }
  readonly #accounts = new Map<string, Account>()
  readonly #random: SeededRandom
  #writers: Promise<void>[] = []
  #runs = false
  #number = 0

  private constructor(fleet: Fleet, edge: Daemon, link: CutProxy, route: { port: number | undefined }, cluster: DevicesApi, devices: readonly TwinDevice[], random: SeededRandom) {
    this.fleet = fleet
    this.edge = edge
    this.link = link
    this.route = route
    this.cluster = cluster
    this.devices = devices
    this.#random = random
    for (const { id } of devices) {
      this.#accounts.set(nameOf(id), { value: 0, wanted: { target: new Set(['0']), mode: new Set(['idle']) } })
    }
  }

  /** Everything runs, every twin is equal on both sides. */
  static async start({ test, devices: count = 4, api, edge: edgeOptions = {} }: TwinSystemOptions): Promise<TwinSystem> {
    const fleet = await Fleet.start(api === undefined ? {} : { cloud: { set: ['kube.mode=cluster', `kube.kubeconfig=${api.kubeconfig}`] } })
    let link: CutProxy | undefined
    const devices: TwinDevice[] = []
    try {
      const route: { port: number | undefined } = { port: undefined }
      link = await CutProxy.open(() => route.port ?? Number(new URL(fleet.cloud.endpoints.tunnel!).port))
      const edge = await fleet.join(node, {
        ...edgeOptions,
        set: [`server=wss://127.0.0.1:${link.port}`, 'link.retryMax=300ms', 'twins.reportInterval=100ms', ...edgeOptions.set ?? []]
      })
      await edge.start()
      const cluster = api === undefined ? await DevicesApi.of(fleet.cloud) : new DevicesApi(await KubeHttp.open(api.adminKubeconfig))
      await cluster.createModel('gauge', [
        { name: 'value', type: 'INT', accessMode: 'ReadOnly' }, { name: 'target', type: 'INT' }, { name: 'mode', type: 'STRING' }
      ])
      for (let i = 0; i < count; i++) {
        await createGauge(cluster, `gauge-${i}`)
        devices.push(await TwinDevice.connect({ url: edge.endpoints.mqtt!, id: `default/gauge-${i}` }))
      }
      const system = new TwinSystem(fleet, edge, link, route, cluster, devices, randomOf(test))
      await system.#known()
      await system.converged('at the start')
      return system
    } catch (error) {
      await Promise.all(devices.map(device => device[Symbol.asyncDispose]()))
      await fleet[Symbol.asyncDispose]()
      await link?.[Symbol.asyncDispose]()
      throw error
    }
  }

  get cloud(): Daemon { return this.fleet.cloud }

  /** Begins writing; `cloud` and `node`: whether they want things of devices. */
  run({ cloud = true, node: local = true }: { readonly cloud?: boolean, readonly node?: boolean } = {}): void {
    if (this.#runs) return
    this.#runs = true
    this.#writers = [
      ...this.devices.map(device => this.#loop(() => this.#report(device))),
      ...cloud ? [this.#loop(() => this.#wantInCloud())] : [],
      ...local ? [this.#loop(() => this.#wantOnNode())] : []
    ]
  }

  /** So many more reports are acknowledged. */
  async progress(count: number, withinMs = 30_000): Promise<void> {
    const goal = this.written.reported + count
    await until(`${count} reports`, () => this.written.reported >= goal, withinMs)
  }

  /** Nobody writes any more; what was under way is acknowledged. */
  async pause(): Promise<void> {
    this.#runs = false
    await Promise.all(this.#writers)
    this.#writers = []
  }

  /** The Device goes, and another one comes under its name. What was wanted of the old one is not wanted of it. */
  async recreate(name: string): Promise<void> {
    await this.cluster.delete('devices', name)
    await createGauge(this.cluster, name)
    const { wanted } = this.#accounts.get(name)!
    wanted.target.add('0')
    wanted.mode.add('idle')
  }

  /** Stops the writers, and waits until O5 holds for every twin. Gives how long that took, in ms. */
  async converged(what: string, withinMs = convergenceMs): Promise<number> {
    await this.pause()
    const startedMs = performance.now()
    let differences: readonly string[] = []
    try {
      await until('every twin is equal on both sides', async () => {
        try {
          differences = (await Promise.all(this.devices.map(device => this.#settle(device)))).flat()
        } catch (error) {
          differences = [String(error)]
        }
        return differences.length === 0
      }, withinMs)
    } catch (error) {
      throw new Error(`${what}, seed ${seed}: ${String(error)}\n${differences.slice(0, 10).join('\n')}\n`
        + `${this.edge.log.slice(-3000)}\n${this.cloud.log.slice(-3000)}`)
    }
    for (const { id } of this.devices) {
      const name = nameOf(id)
      const desired = desiredOf(await this.cluster.device(name))
      for (const property of ['target', 'mode'] as const) {
        const wanted = this.#accounts.get(name)!.wanted[property]
        expect([...wanted], `${what}, seed ${seed}: ${name} ${property}: nobody wanted that`).toContain(desired[property])
        wanted.clear()
        wanted.add(desired[property]!)
      }
    }
    return performance.now() - startedMs
  }

  /** The node has said of every device that nothing keeps it from being served: one message each, once. */
  async served(): Promise<void> {
    await until('every device is served', async () => (await Promise.all(this.devices.map(({ id }) => this.cluster.device(nameOf(id)))))
      .every(device => conditionOf(device, 'Served') === 'True'), 30_000)
  }

  async linked(): Promise<void> {
    await until('the link is up', async () => await metricOf(this.edge, 'holdfast_edge_link_up') === 1, 60_000)
  }

  async unlinked(): Promise<void> {
    await until('the link is down', async () => await metricOf(this.edge, 'holdfast_edge_link_up') === 0, 60_000)
  }

  /** What the node says of a twin. */
  async onNode(name: string): Promise<NodeTwin> {
    const answer = await fetch(`${this.edge.endpoints.http}/v1/devices/default/${name}/twin`)
    if (!answer.ok) throw new Error(`${name} on the node: ${answer.status} ${await answer.text()}`)
    return await answer.json() as NodeTwin
  }

  /** An application on the node wants this of the device; resolves when that is acknowledged. */
  async wantOnNode(name: string, values: Readonly<Partial<Record<Settable, unknown>>>): Promise<void> {
    for (const [property, value] of Object.entries(values)) this.#accounts.get(name)!.wanted[property as Settable].add(String(value))
    const answer = await fetch(`${this.edge.endpoints.http}/v1/devices/default/${name}/twin?section=desired`, {
      method: 'PATCH', headers: { 'content-type': 'application/merge-patch+json' }, body: JSON.stringify(values)
    })
    if (!answer.ok) throw new Error(`${name} on the node: ${answer.status} ${await answer.text()}`)
    await answer.arrayBuffer()
    this.written.node++
  }

  async wantInCloud(name: string, values: Readonly<Partial<Record<Settable, string>>>): Promise<void> {
    for (const [property, value] of Object.entries(values)) this.#accounts.get(name)!.wanted[property as Settable].add(value)
    await this.cluster.desire(name, values)
    this.written.cloud++
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#runs = false
    await Promise.all(this.devices.map(device => device[Symbol.asyncDispose]()))
    await this.fleet[Symbol.asyncDispose]()
    await Promise.all(this.#writers)
    this.cluster[Symbol.dispose]()
    await this.link[Symbol.asyncDispose]()
  }

  /** The node has the twins of all devices. */
  async #known(): Promise<void> {
    await Promise.all(this.devices.map(({ id }) => until(`the node knows ${id}`, async () =>
      await this.onNode(nameOf(id)).then(({ properties }) => properties['mode']?.desired !== undefined, () => false))))
  }

  /** Repeats a write until it is told to stop. A daemon that is down refuses: then it is tried again. */
  async #loop(write: () => Promise<void>): Promise<void> {
    while (this.#runs) {
      try {
        await write()
      } catch {
        await new Promise(resolve => { setTimeout(resolve, againMs) })
      }
    }
  }

  async #report(device: TwinDevice): Promise<void> {
    const account = this.#accounts.get(nameOf(device.id))!
    await device.report({ value: String(++account.value) })
    this.written.reported++
  }

  async #wantInCloud(): Promise<void> {
    const name = this.#anyName()
    await this.wantInCloud(name, this.#random.chance(0.5) ? { target: String(++this.#number) } : { mode: `cloud-${++this.#number}` })
  }

  async #wantOnNode(): Promise<void> {
    const name = this.#anyName()
    await this.wantOnNode(name, this.#random.chance(0.5) ? { target: ++this.#number } : { mode: `node-${++this.#number}` })
  }

  #anyName(): string { return nameOf(this.devices[this.#random.integer(0, this.devices.length - 1)]!.id) }

  /** What of a twin is not equal everywhere. A Device created anew knows nothing of what was reported before: then it is said again. */
  async #settle(device: TwinDevice): Promise<string[]> {
    const name = nameOf(device.id)
    if ((await this.onNode(name)).properties['value']?.reported === undefined) await this.#report(device)
    return await this.#differences(name)
  }

  /** What of a twin is not equal everywhere. */
  async #differences(name: string): Promise<string[]> {
    const [device, status, { properties }] = await Promise.all([this.cluster.device(name), this.cluster.status(name), this.onNode(name)])
    const side = (of: 'desired' | 'reported'): Record<string, string> => Object.fromEntries(Object.entries(properties)
      .flatMap(([property, sides]) => sides[of] === undefined ? [] : [[property, String(sides[of].value)]]))
    const { target, mode } = desiredOf(device)
    const settled = { target, mode }
    const wanted = { ...settled, value: String(this.#accounts.get(name)!.value) }
    const pairs: readonly (readonly [string, unknown, unknown])[] = [
      ['desired on the node', side('desired'), settled],
      ['reported on the node', side('reported'), wanted],
      ['reported in the cloud', reportedOf(status), wanted],
      ['observed in the cloud', observedOf(status), settled],
      ['Synced', conditionOf(device, 'Synced'), 'True'],
      ['InDesiredState', conditionOf(device, 'InDesiredState'), 'True']
    ]
    return pairs.filter(([, is, should]) => sorted(is) !== sorted(should)).map(([what, is, should]) =>
      `${name}: ${what}: ${JSON.stringify(is)}, not ${JSON.stringify(should)}`)
  }
}

function sorted(value: unknown): string {
  return typeof value === 'object' && value !== null ? JSON.stringify(Object.entries(value).toSorted(([a], [b]) => a < b ? -1 : 1)) : String(value)
}

const nameOf = (id: string): string => id.slice(id.indexOf('/') + 1)

async function createGauge(cluster: DevicesApi, name: string): Promise<void> {
  await cluster.createDevice(name, node, 'gauge', {
    properties: [{ name: 'target', desired: { value: '0' } }, { name: 'mode', desired: { value: 'idle' } }]
  })
}
