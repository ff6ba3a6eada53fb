import { join } from 'node:path'
import { connectAsync, type MqttClient } from 'mqtt'
import { DevicesApi, reportedOf, type DeviceStatusObject } from '../test/harness/device-api.ts'
import { CutProxy } from '../test/harness/cut-proxy.ts'
import { Fleet, until, type Daemon, type DaemonOptions } from '../test/harness/daemons.ts'
import { KubeWatch } from '../test/harness/kube-watch.ts'
import { LatencyHistogram } from '../test/harness/latency-histogram.ts'
import { pause, repeat, round3, type BenchRow, type Round } from './bench-row.ts'

type Key = 'reportedP50' | 'reportedP99' | 'desiredP50' | 'desiredP99' | 'thousand' | 'thousandWrites' | 'fastWrites' | 'fastLag'
  | 'outageLast' | 'outageItems' | 'outageWrites'

const devices = 1000
/** They take turns, so that each is quiet for longer than its interval. */
const measured = 50
const perSecond = 10
const samples = 200
const fastPerSecond = 200
const fastSeconds = 60
const outageReports = 100_000

/** Twins, from the device to the cluster and back. */
export const twins: BenchRow<Key> = {
  id: 'f',
  question: 'How soon is a reported value visible in the cluster, and a desired one at the device?',
  how: `${devices} Devices of one node on the embedded API, over MQTT at QoS 1. ${measured} of them take turns, ${perSecond} a second: `
    + `${samples} reported values, each from before PUBLISH until a watch of the DeviceStatuses has it; ${samples} desired `
    + 'values, each from before the PATCH of the Device, over the delta and the device\'s report, until the watch has that. '
    + `Then all report a new value at once. Then one device reports ${fastPerSecond} times a second for ${fastSeconds} s; `
    + 'writes are changes of its DeviceStatus. Then, with another node, behind a proxy, the link is cut, '
    + `${outageReports} values are reported by ${measured} devices, and the link comes back: until the last final value is visible `
    + 'from link-up on, State messages and writes '
    + 'of DeviceStatuses counted.',
  columns: {
    reportedP50: { title: 'reported, until visible: p50', unit: 'ms', atMost: 10 },
    reportedP99: { title: 'reported, until visible: p99', unit: 'ms', atMost: 50 },
    desiredP50: { title: 'desired, until reported is visible: p50', unit: 'ms', atMost: 10 },
    desiredP99: { title: 'desired, until reported is visible: p99', unit: 'ms', atMost: 50 },
    thousand: { title: '1,000 devices at once, until all are visible', unit: 'ms', atMost: 1000 },
    thousandWrites: { title: 'writes for it, per device', unit: '', atMost: 1 },
    fastWrites: { title: '200 reports/s of one device: writes per second', unit: '', atMost: 1.05 },
    fastLag: { title: 'its last value, until visible', unit: 'ms', atMost: 2000 },
    outageLast: { title: 'after an outage: link-up until all final values are visible', unit: 'ms', atMost: 2000 },
    outageItems: { title: 'State messages of it, per twin', unit: '', atMost: 1 },
    outageWrites: { title: 'writes of it, per twin', unit: '', atMost: 1 }
  },
  measure: async context => await repeat(context, round)
}

async function round(): Promise<Round<Key>> {
  return { values: { ...await linked(), ...await outage() } }
}

/** The node is linked to cloudcore straight: what carries frames in between would be measured, too. */
async function linked(): Promise<Omit<Record<Key, number>, 'outageLast' | 'outageItems' | 'outageWrites'>> {
  await using fleet = await Fleet.start()
  await using bench = await Devices.start(fleet, {})
  const { api, view, client } = bench
  const reported = await reportedLatency(client, view)
  const desired = await desiredLatency(api, view)
  await pause(2000)
  const beforeAll = view.writes
  const thousand = await reportAll(client, view, 'all')
  await pause(2000)
  const thousandWrites = (view.writes - beforeAll) / devices
  return { ...reported, ...desired, thousand: round3(thousand), thousandWrites: round3(thousandWrites), ...await fast(client, view) }
}

/** A node with all its devices, each of which has reported, and does what it is told. */
class Devices implements AsyncDisposable {
  readonly edge: Daemon
  readonly api: DevicesApi
  readonly view: StatusView
  readonly client: MqttClient

  private constructor(edge: Daemon, api: DevicesApi, view: StatusView, client: MqttClient) {
    this.edge = edge
    this.api = api
    this.view = view
    this.client = client
  }

  static async start(fleet: Fleet, options: DaemonOptions): Promise<Devices> {
    const edge = await fleet.join('edge-1', options)
    await edge.start()
    const api = await DevicesApi.of(fleet.cloud)
    await create(api)
    await until('the devices are on the node', async () => await metric(edge, 'holdfast_edge_twin_devices') === devices, 60_000)
    const view = await StatusView.open(join(fleet.cloud.dataDir, 'kubeconfig'))
    const client = await connectAsync(edge.endpoints.mqtt!, { clientId: 'bench', keepalive: 60 })
    await obey(client)
    await reportAll(client, view, 'warm')
    // Once for each device, some ten seconds after it has come (TWN-42).
    await until('the node has said that it serves them', () => view.served === devices, 60_000)
    await pause(2000)
    return new Devices(edge, api, view, client)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.client.endAsync(true)
    await this.view[Symbol.asyncDispose]()
    this.api[Symbol.dispose]()
  }
}

const nameOf = (i: number): string => `d${String(i).padStart(4, '0')}`

async function create(api: DevicesApi): Promise<void> {
  await api.createModel('bench', [
    { name: 'value', type: 'STRING', accessMode: 'ReadOnly' }, { name: 'target', type: 'STRING', accessMode: 'ReadWrite' }
  ])
  const tasks = Array.from({ length: devices }, (_, i) => () =>
    api.createDevice(nameOf(i), 'edge-1', 'bench', { properties: [{ name: 'target' }] }))
  while (tasks.length > 0) await Promise.all(tasks.splice(0, 50).map(task => task()))
}

/** Every device does what it is told. */
async function obey(client: MqttClient): Promise<void> {
  client.on('message', (topic, payload) => {
    const { delta } = JSON.parse(payload.toString()) as { delta: Readonly<Record<string, string>> }
    publish(client, topic.split('/')[4]!, delta).catch(() => undefined)
  })
  await client.subscribeAsync('$hw/events/device/default/+/twin/update/delta', { qos: 1 })
}

async function publish(client: MqttClient, name: string, values: Readonly<Record<string, string>>): Promise<void> {
  const twin = Object.fromEntries(Object.entries(values).map(([property, value]) => [property, { actual: { value } }]))
  const document = JSON.stringify({ event_id: '', timestamp: Date.now(), twin })
  await client.publishAsync(`$hw/events/device/default/${name}/twin/update`, document, { qos: 1 })
}

/** Runs `once` `samples` times at the rate, and gives p50 and p99 of the milliseconds that each gives. */
async function latencies(
  once: (name: string, value: string) => Promise<number>
): Promise<{ readonly p50Ms: number, readonly p99Ms: number }> {
  const histogram = new LatencyHistogram()
  const startedMs = performance.now()
  const running: Promise<void>[] = []
  for (let i = 0; i < samples; i++) {
    await pause(Math.max(0, startedMs + i * 1000 / perSecond - performance.now()))
    running.push(once(nameOf(i % measured), `${i}-${Math.round(startedMs)}`).then(ms => { histogram.record(ms * 1000) }))
  }
  await Promise.all(running)
  return histogram.summary()
}

async function reportedLatency(client: MqttClient, view: StatusView): Promise<Pick<Record<Key, number>, 'reportedP50' | 'reportedP99'>> {
  const { p50Ms, p99Ms } = await latencies(async (name, value) => {
    const startedMs = performance.now()
    const seen = view.shows(name, 'value', value)
    await publish(client, name, { value })
    return await seen - startedMs
  })
  return { reportedP50: p50Ms, reportedP99: p99Ms }
}

async function desiredLatency(api: DevicesApi, view: StatusView): Promise<Pick<Record<Key, number>, 'desiredP50' | 'desiredP99'>> {
  const { p50Ms, p99Ms } = await latencies(async (name, value) => {
    const { metadata: { resourceVersion } } = await api.device(name)
    const seen = view.shows(name, 'target', value)
    const startedMs = performance.now()
    await api.api.check('PATCH', `/apis/devices.kubeedge.io/v1beta1/namespaces/default/devices/${name}`, {
      metadata: { resourceVersion }, spec: { properties: [{ name: 'target', desired: { value } }] }
    })
    return await seen - startedMs
  })
  return { desiredP50: p50Ms, desiredP99: p99Ms }
}

/** Milliseconds until the watch has a new value of every device. */
async function reportAll(client: MqttClient, view: StatusView, value: string): Promise<number> {
  const startedMs = performance.now()
  const names = Array.from({ length: devices }, (_, i) => nameOf(i))
  const seen = names.map(name => view.shows(name, 'value', value))
  await Promise.all(names.map(name => publish(client, name, { value })))
  return Math.max(...await Promise.all(seen)) - startedMs
}

async function fast(client: MqttClient, view: StatusView): Promise<Pick<Record<Key, number>, 'fastWrites' | 'fastLag'>> {
  const [name, reports] = [nameOf(devices - 1), fastPerSecond * fastSeconds]
  const before = view.writesOf(name)
  const seen = view.shows(name, 'value', `fast-${reports}`, (fastSeconds + 30) * 1000)
  const startedMs = performance.now()
  for (let i = 1; i <= reports; i++) {
    await pause(Math.max(0, startedMs + i * 1000 / fastPerSecond - performance.now()))
    await publish(client, name, { value: `fast-${i}` })
  }
  const endMs = performance.now()
  const lag = await seen - endMs
  return { fastWrites: round3((view.writesOf(name) - before) / ((endMs - startedMs) / 1000)), fastLag: round3(Math.max(0, lag)) }
}

async function outage(): Promise<Pick<Record<Key, number>, 'outageLast' | 'outageItems' | 'outageWrites'>> {
  await using fleet = await Fleet.start()
  await using proxy = await CutProxy.open(() => Number(new URL(fleet.cloud.endpoints.tunnel!).port))
  await using bench = await Devices.start(fleet, { set: [`server=wss://127.0.0.1:${proxy.port}`, 'link.retryMax=300ms'] })
  const { edge, view, client } = bench
  proxy.cut()
  await until('the link is down', async () => await metric(edge, 'holdfast_edge_link_up') === 0)
  const puts = 'holdfast_edge_state_puts_total{direction="up",collection="twins"}'
  const [items, writes] = [await metric(edge, puts), view.writes]
  const names = Array.from({ length: measured }, (_, i) => nameOf(i))
  const each = outageReports / measured
  for (let i = 1; i <= each; i++) await Promise.all(names.map(name => publish(client, name, { value: `outage-${i}` })))
  const seen = names.map(name => view.shows(name, 'value', `outage-${each}`, 60_000))
  proxy.heal()
  await until('the link is up', async () => await metric(edge, 'holdfast_edge_link_up') === 1, 60_000)
  const linkedMs = performance.now()
  const lastMs = Math.max(...await Promise.all(seen))
  await pause(3000)
  return {
    outageLast: round3(Math.max(0, lastMs - linkedMs)),
    outageItems: round3((await metric(edge, puts) - items) / measured),
    outageWrites: round3((view.writes - writes) / measured)
  }
}

async function metric(daemon: Daemon, name: string): Promise<number> {
  const text = await (await fetch(`${daemon.endpoints.ops}/metrics`)).text()
  return Number(text.split('\n').find(line => line.startsWith(`${name} `))?.split(' ').at(-1) ?? 0)
}

/** What a watch of the DeviceStatuses shows, and when. */
class StatusView implements AsyncDisposable {
  /** Changes that it told. */
  writes = 0
  readonly #served = new Set<string>()
  readonly #writesOf = new Map<string, number>()
  readonly #values = new Map<string, Readonly<Record<string, string>>>()
  readonly #waiting = new Map<string, { readonly property: string, readonly value: string, seen(atMs: number): void }[]>()
  #watch: KubeWatch | undefined

  static async open(kubeconfig: string): Promise<StatusView> {
    const view = new StatusView()
    const path = '/apis/devices.kubeedge.io/v1beta1/devicestatuses'
    view.#watch = await KubeWatch.open<DeviceStatusObject>(kubeconfig, path, ({ object }) => { view.#take(object) })
    return view
  }

  /** Devices of which the node knows no trouble. */
  get served(): number { return this.#served.size }

  writesOf(name: string): number { return this.#writesOf.get(name) ?? 0 }

  /** Resolves with the time at which the watch had this value. */
  shows(name: string, property: string, value: string, withinMs = 30_000): Promise<number> {
    if (this.#values.get(name)?.[property] === value) return Promise.resolve(performance.now())
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => { reject(new Error(`not within ${withinMs} ms: ${name} ${property} ${value}`)) }, withinMs)
      const waiting = this.#waiting.get(name) ?? []
      waiting.push({ property, value, seen: atMs => { clearTimeout(timer); resolve(atMs) } })
      this.#waiting.set(name, waiting)
    })
  }

  async [Symbol.asyncDispose](): Promise<void> { await this.#watch?.[Symbol.asyncDispose]() }

  #take(status: DeviceStatusObject): void {
    const { name, annotations } = status.metadata
    if (annotations?.['holdfast.dev/trouble'] === '') this.#served.add(name)
    const nowMs = performance.now()
    this.writes++
    this.#writesOf.set(name, this.writesOf(name) + 1)
    const values = reportedOf(status)
    this.#values.set(name, values)
    const waiting = this.#waiting.get(name)?.filter(one => {
      if (values[one.property] !== one.value) return true
      one.seen(nowMs)
      return false
    })
    if (waiting !== undefined) this.#waiting.set(name, waiting)
  }
}
