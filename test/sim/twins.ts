import { compareVersions, delta, desiredAnnotation, formatVersion, parseVersion, textOf } from '@holdfast/device-twin'
import type { Entry, Json, Version } from '@holdfast/device-twin'
import type { JsonObject, KubeObject } from '@holdfast/kube-api'
import { HoldfastError } from '@holdfast/runtime'
import type { Clock } from '@holdfast/runtime'
import type { Frame } from '@holdfast/protos'
import { conditionsOf, isObject, stateAnnotation, statusOf } from '../../packages/cloudcore/src/state/status-document.ts'
import { ScriptedCluster } from '../../packages/cloudcore/src/state/testing/up-cluster.ts'
import { readDeviceStatus } from '../../packages/cloudcore/src/devices/device-status.ts'
import { kubeKinds } from '../../packages/cloudcore/src/kube/kube-kinds.ts'
import type { ObjectPlace } from '../../packages/cloudcore/src/kube/kube-client.ts'
import { openObjectTable } from '../../packages/edgecore/src/objects/index.ts'
import { NodeTwins } from '../../packages/edgecore/src/twins/node-twins.ts'
import type { DeviceId, DeviceTwin, TwinChange } from '../../packages/edgecore/src/twins/device-twins.ts'
import type { Edge } from './edge.ts'
import type { SimulatedProcess } from './machine.ts'
import type { Simulation } from './simulation.ts'
import type { EdgeSide, EdgeParts, StateBeside } from './state-beside.ts'
import { TwinsCloud, truthOf } from './twins-cloud.ts'
import type { Truth } from './twins-cloud.ts'
import { epochStartMs } from './world.ts'

const names = ['lamp', 'valve', 'meter', 'fan'] as const
const properties = ['setpoint', 'speed', 'note'] as const
const modelName = 'thing'
const nodeAnnotation = 'holdfast.dev/node'
const yearMs = 365 * 86_400_000
/** A watch that lags, and then a request that hangs. */
const underWayMs = 40_000

/** One value that somebody wrote, and that nobody else ever writes. */
interface Written {
  readonly uid: string
  readonly property: string
  readonly section: 'desired' | 'reported'
  /** Where; undefined: with kubectl. */
  readonly edge: Edge | undefined
  acknowledged: boolean
}

interface EdgeTwins { readonly process: SimulatedProcess, readonly twins: NodeTwins }

/**
 * Twins of a few devices on nodes and in a cluster: what applications, devices and kubectl write, and the oracles.
 *
 * - O-T1: in the end both sides have the same desired values, by version; the record of a device has what its node has reported;
 *   and the conditions of the Device say so;
 * - O-T2: a report that was acknowledged is there at every start and in the end, or a later one is;
 * - O-T3: versions never go back on a node, but where the cloud replaces one (TWN-16); reported values never do in the record;
 * - O-T4: what was reported or asked of a device is not another one's of the same name (TWN-36);
 * - O-T5: a desired value that is recorded as observed has landed in the Device before (TWN-33);
 * - O-T6: nobody hears of a change that is none (TWN-20);
 * - O-T7: a node that the device has left writes no record of it any more, but for what was under way (TWN-34);
 * - O-T8: who writes last, when all is quiet, is heard on the other side.
 */
export class TwinSimulation implements StateBeside {
  changes = 0
  itemsMoved = 0
  notReady = 0
  readonly #simulation: Simulation
  readonly #cluster: ScriptedCluster
  readonly #truth: Truth
  readonly #edges = new Map<Edge, EdgeTwins>()
  readonly #written = new Map<string, Written>()
  /** Reports of each device and property, in order. */
  readonly #reports = new Map<string, string[]>()
  /** Devices that were at another node before: what that one had is not this one's (TWN-37). */
  readonly #moved = new Set<string>()
  /** When a device left a node. */
  readonly #leftMs = new Map<string, number>()
  /** Devices whose annotation somebody took away. */
  readonly #edited = new Set<string>()
  readonly #replaced = new Set<string>()
  /** Devices that a node had when its disk became an older one. */
  readonly #wentBack = new Set<string>()
  #isRestored = false
  #cloud: TwinsCloud | undefined
  #values = 0
  #uids = 0
  #checkedMs = -Infinity
  /** Nothing is written from then on. */
  #quietMs = 0
  #last: (() => string[]) | undefined
  #converged = false

  constructor(simulation: Simulation) {
    this.#simulation = simulation
    const { world } = simulation
    const clock: Clock = {
      wallMs: () => epochStartMs + world.nowMs, monotonicMs: () => world.nowMs,
      after: (delayMs, task) => world.after(delayMs, task), soon: task => { world.after(0, task) }
    }
    this.#cluster = new ScriptedCluster(clock)
    this.#truth = truthOf(this.#cluster)
    this.#cluster.fault = verb => {
      const { random } = world
      this.#cluster.latencyMs = random.integer(1, 60)
      if (simulation.healed || !random.chance(0.12)) return undefined
      const draw = random.next()
      if (draw < 0.3) return { kind: 'answer-lost' }
      if (draw < 0.5) return { kind: 'hang', ...random.chance(0.6) && verb !== 'get' && { landsAfterMs: random.integer(10, 20_000) } }
      return { kind: 'answer', status: draw < 0.7 ? 503 : draw < 0.85 ? 429 : 500 }
    }
    this.#truth.get(kubeKinds.devices)!.subscribe({ onChange: (_before, after) => { this.#noteReplaced(after) } })
    this.#truth.get(kubeKinds.deviceStatuses)!.subscribe({ onChange: (before, after) => { this.#checkRecord(before, after) } })
  }

  start(chaosMs: number, changes: number): void {
    const { world, edges } = this.#simulation
    this.#setModel(undefined)
    for (const edge of edges) {
      this.#cluster.set({ kind: kubeKinds.nodes, name: edge.options.name }, () => ({
        apiVersion: 'v1', kind: 'Node', metadata: { name: edge.options.name, uid: `node-${edge.options.name}` }, spec: {},
        status: { conditions: [{ type: 'Ready', status: 'True', reason: 'r', message: 'm' }] }
      }))
    }
    for (const name of names) this.#create(name)
    // Nodes are ahead of the cloud often enough (TWN-16), from the first write on.
    if (world.random.chance(0.25)) this.#simulation.cloud.machine.wallOffsetMs = -10 * yearMs
    else if (world.random.chance(0.3)) edges[0]!.machine.wallOffsetMs = yearMs
    for (let i = 0; i < changes; i++) {
      world.after(world.random.next() * chaosMs, () => {
        if (this.#simulation.healed) return
        for (let burst = world.random.chance(0.15) ? world.random.integer(3, 15) : 1; burst > 0; burst--) this.#change()
      })
    }
  }

  async openEdge(edge: Edge, { database, outbox, process, clock, random, log, clockTrusted }: EdgeParts): Promise<EdgeSide> {
    const { committer } = database
    const table = await openObjectTable({ suspect: database.suspect }, database.store, { committer, clock, random, log })
    const twins = await NodeTwins.open({
      node: edge.options.name, reportIntervalMs: 1000, freshnessMs: 60_000, historyLane: outbox.lane('telemetry')!, suspect: database.suspect
    }, database.store, { committer, table, outbox, clock, random, log, clockTrusted })
    for (const held of twins.all()) if (process.alive) this.#checkAcknowledged(held)
    twins.subscribe(change => { if (process.alive) this.#checkChange(edge, change) })
    this.#edges.set(edge, { process, twins })
    return {
      down: table.down, up: table.up,
      refuse: error => {
        twins.refuse(error)
        table.hold(error !== undefined)
      },
      reopen: async (store, suspect) => {
        await table.reopen(store, suspect)
        await twins.reopen(store, suspect)
      }
    }
  }

  openCloud(clock: Clock, process: SimulatedProcess): TwinsCloud {
    this.#cloud?.close()
    const { world, cloud, healed } = this.#simulation
    this.#cloud = new TwinsCloud(this.#cluster, this.#truth, { world, clock, process, log: cloud.machine.log(), calm: healed })
    return this.#cloud
  }

  said(frame: Frame): void {
    const verdicts = frame.kind === 'welcome' ? frame.stateVerdicts : frame.kind === 'state-verdict' ? frame.verdicts : []
    this.notReady += verdicts.filter(({ verdict }) => verdict === 'not-ready').length
  }

  heard(): void {}
  newCluster(): void {}

  /** What the node had stored since the backup is gone with the newer disk, and so is what it had said of it. */
  wentBack(edge: Edge): void {
    for (const written of this.#written.values()) {
      if (written.edge !== edge) continue
      written.acknowledged = false
      this.#wentBack.add(written.uid)
    }
  }

  /** What was since then of Devices and their records is gone, and what nodes hold of these may be of the past. */
  backUp(): () => void {
    const { revision } = this.#cluster
    const objects = new Map(this.#cluster.objects)
    return () => {
      if (this.#simulation.healed) return
      this.#simulation.world.note(`the cluster goes back from revision ${this.#cluster.revision} to ${revision}`)
      this.#isRestored = true
      this.#cluster.objects.clear()
      for (const [key, object] of objects) this.#cluster.objects.set(key, object)
      this.#cluster.revision = revision
      for (const informer of this.#truth.values()) informer.follow()
    }
  }

  heal(): void {
    this.#setModel(undefined)
    for (const name of names) {
      const device = this.#device(name)
      if (device === undefined) this.#create(name)
      else if (nodeOf(device) === undefined) this.#assign(name, this.#anyNode())
    }
    this.#killWithReports()
  }

  /** What waits for its interval when a node is killed goes up by itself when it is back: nobody writes again. */
  #killWithReports(): void {
    const { world, edges } = this.#simulation
    for (const afterMs of [10_000, 10_300]) {
      world.after(afterMs, () => { for (const name of names) this.#writeOnNode(name, 'note', 'reported') })
    }
    this.#quietMs = world.nowMs + 10_600
    world.at(this.#quietMs, () => { for (const edge of edges) if (edge.running !== undefined) edge.crash('all is healed', 'kill', 500) })
  }

  /** Looked at now and then: it reads everything. When all is equal, each side writes once more. */
  get converged(): boolean {
    const { world } = this.#simulation
    if (this.#converged || world.nowMs < this.#checkedMs + 200) return this.#converged
    this.#checkedMs = world.nowMs
    if (world.nowMs <= this.#quietMs || this.#differences().length > 0) return false
    if (this.#last === undefined) {
      this.#last = this.#writeOnceMore()
      return false
    }
    this.#converged = this.#last().length === 0
    return this.#converged
  }

  describe(): string { return [...this.#differences(), ...this.#last?.() ?? []].join('; ') }

  verify(): Promise<string> {
    const { world } = this.#simulation
    for (const name of names) {
      const device = this.#device(name)!
      const uid = device.metadata.uid!
      world.expect(this.#held(name)?.uid === uid, () => `${name} is not on its node`)
      this.#checkAcknowledged(this.#held(name)!)
    }
    return Promise.resolve([...this.#cluster.objects.values()].filter(({ kind }) => kind === 'DeviceStatus')
      .map(({ metadata: { name }, status }) => `${name} ${JSON.stringify(status)}\n`).join(''))
  }

  // What happens

  #change(): void {
    const { random } = this.#simulation.world
    const name = names[random.integer(0, names.length - 1)]!
    const property = properties[random.integer(0, properties.length - 1)]!
    const device = this.#device(name)
    const draw = random.next()
    this.changes++
    if (draw < 0.5) this.#writeOnNode(name, property, 'reported')
    else if (draw < 0.65) this.#writeOnNode(name, property, 'desired')
    else if (draw < 0.68) this.#writeState(name)
    else if (device === undefined) {
      if (draw < 0.9) this.#create(name)
    } else if (draw < 0.86) {
      const text = random.chance(0.2) ? undefined : random.chance(0.1) ? 'fast' : this.#value(device, property, 'desired')
      this.#kubectl(name, property, text)
    } else if (draw < 0.9) this.#delete(name, device)
    else if (draw < 0.95) this.#assign(name, random.chance(0.2) ? undefined : this.#anyNode())
    else if (draw < 0.96) this.#edit(name, device)
    else this.#setModel(random.chance(0.4) ? undefined : random.chance(0.5) ? 3 : 'gone')
  }

  #value({ metadata: { uid = '' } }: KubeObject, property: string, section: 'desired' | 'reported'): string {
    const text = String(++this.#values)
    this.#written.set(text, { uid, property, section, edge: undefined, acknowledged: false })
    return text
  }

  #writeOnNode(name: string, property: string, section: 'desired' | 'reported'): string | undefined {
    const { random } = this.#simulation.world
    const edges = [...this.#edges].filter(([, { process }]) => process.alive)
    if (edges.length === 0) return undefined
    // Mostly where it is; otherwise wherever somebody believes that it is.
    const id = `default/${name}` as DeviceId
    const here = edges.filter(([, { twins }]) => twins.get(id) !== undefined)
    const found = here[random.integer(0, here.length - 1)]
    if (found === undefined) return undefined
    const [edge, at] = found
    const text = String(++this.#values)
    const value: Json = property === 'speed' ? Number(text) : text
    try {
      const { commit, after: { uid } } = at.twins.write(id, { section, writes: new Map([[property, { value }]]) }, 'mqtt')
      // Whichever device has the name by now.
      this.#written.set(text, { uid, property, section, edge, acknowledged: false })
      const key = `${uid} ${property}`
      if (section === 'reported') this.#reports.set(key, [...this.#reports.get(key) ?? [], text])
      const acknowledge = (error?: Error): void => {
        if (error === undefined && at.process.output()) this.#written.get(text)!.acknowledged = true
      }
      if (commit === undefined) acknowledge()
      else commit.onDurable(acknowledge)
      return text
    } catch (error) {
      if (!(error instanceof HoldfastError)) throw error
      return undefined
    }
  }

  #writeState(name: string): void {
    const { random } = this.#simulation.world
    for (const { process, twins } of this.#edges.values()) {
      const id = `default/${name}` as DeviceId
      if (!process.alive || twins.get(id) === undefined) continue
      try {
        twins.write(id, { section: 'state', state: (['online', 'offline', 'unhealthy'] as const)[random.integer(0, 2)]! }, 'mqtt')
      } catch (error) {
        if (!(error instanceof HoldfastError)) throw error
      }
    }
  }

  #kubectl(name: string, property: string, text: string | undefined): void {
    this.#cluster.set(devicePlace(name), device => withSpec(device!, spec => {
      const items = (spec['properties'] as JsonObject[]).filter(item => item['name'] !== property)
      const { desired: _, ...item } = (spec['properties'] as JsonObject[]).find(each => each['name'] === property) ?? { name: property }
      return { ...spec, properties: [...items, { ...item, ...text !== undefined && { desired: { value: text } } }] }
    }))
  }

  #create(name: string): void {
    const uid = `uid-${++this.#uids}`
    this.#cluster.set(devicePlace(name), () => ({
      apiVersion: 'devices.kubeedge.io/v1beta1', kind: 'Device', metadata: { namespace: 'default', name, uid, generation: 1 },
      spec: {
        deviceModelRef: { name: name === 'fan' ? '' : modelName }, nodeName: this.#anyNode(), protocol: { protocolName: 'mqtt' },
        properties: properties.map(property => ({ name: property, visitors: {} }))
      }
    }))
  }

  /** The garbage collector comes sooner or later. */
  #delete(name: string, { metadata: { uid } }: KubeObject): void {
    const { world } = this.#simulation
    this.#cluster.set(devicePlace(name), () => undefined)
    world.after(world.random.integer(10, 8000), () => {
      const status = this.#cluster.at(statusPlace(name))
      if (status?.metadata.ownerReferences?.some(owner => owner.uid === uid) === true) this.#cluster.set(statusPlace(name), () => undefined)
    })
    if (world.random.chance(0.6)) world.after(world.random.integer(0, 3000), () => { if (this.#device(name) === undefined) this.#create(name) })
  }

  #assign(name: string, nodeName: string | undefined): void {
    const device = this.#device(name)!
    if (nodeOf(device) === nodeName) return
    this.#moved.add(device.metadata.uid!)
    this.#leftMs.set(`${device.metadata.uid} ${nodeOf(device)}`, this.#simulation.world.nowMs)
    this.#cluster.set(devicePlace(name), before => withSpec(before!, spec => ({ ...spec, nodeName: nodeName ?? null })))
  }

  #edit(name: string, { metadata: { uid } }: KubeObject): void {
    this.#edited.add(uid!)
    this.#cluster.set(devicePlace(name), device => ({ ...device!, metadata: { ...device!.metadata, annotations: {} } }))
  }

  /** `maximum`: of speed; most values are above it. */
  #setModel(maximum: number | 'gone' | undefined): void {
    const place = { kind: kubeKinds.deviceModels, namespace: 'default', name: modelName }
    this.#cluster.set(place, before => maximum === 'gone' ? undefined : {
      apiVersion: 'devices.kubeedge.io/v1beta1', kind: 'DeviceModel', metadata: { namespace: 'default', name: modelName, uid: before?.metadata.uid ?? 'uid-model' },
      spec: { properties: [
        { name: 'setpoint', type: 'STRING', accessMode: 'ReadWrite' }, { name: 'note', accessMode: 'ReadWrite' },
        { name: 'speed', type: 'INT', accessMode: 'ReadWrite', ...maximum !== undefined && { maximum: String(maximum) } }
      ] }
    })
  }

  #anyNode(): string {
    const { edges, world } = this.#simulation
    return edges[world.random.integer(0, edges.length - 1)]!.options.name
  }

  /** O-T8: what each side writes now is to be on the other one. */
  #writeOnceMore(): () => string[] {
    const expected: (() => string | undefined)[] = []
    for (const name of names) {
      const device = this.#device(name)!
      const fromCloud = this.#value(device, 'setpoint', 'desired')
      this.#kubectl(name, 'setpoint', fromCloud)
      expected.push(() => {
        const there = this.#held(name)?.twin.desired.get('setpoint')
        return there !== undefined && textOf(there.value) === fromCloud ? undefined : `${name}: the setpoint ${fromCloud} of kubectl is not on its node`
      })
      const fromNode = this.#writeOnNode(name, 'speed', 'desired')
      expected.push(() => {
        const text = textsOf(this.#device(name)!).get('speed')
        return fromNode === undefined || text === fromNode ? undefined : `${name}: the speed ${fromNode} of its node is not in the Device, ${text} is`
      })
    }
    return () => expected.flatMap(each => each() ?? [])
  }

  /** O-T2. */
  #checkAcknowledged({ id, uid, twin }: DeviceTwin): void {
    if (this.#moved.has(uid) || this.#isRestored) return
    for (const property of properties) {
      const attempts = this.#reports.get(`${uid} ${property}`) ?? []
      const acknowledged = attempts.findLastIndex(text => this.#written.get(text)!.acknowledged)
      const there = twin.reported.get(property)
      const at = there === undefined ? -1 : attempts.indexOf(textOf(there.value))
      this.#simulation.world.expect(at >= acknowledged, () =>
        `${id}: report ${attempts[acknowledged]} of ${property} was acknowledged, there is ${there === undefined ? 'none' : shown(there)}`)
    }
  }

  // Looking

  #device(name: string): KubeObject | undefined { return this.#cluster.at(devicePlace(name)) }

  /** Where its Device says that it is. */
  #held(name: string): DeviceTwin | undefined {
    const device = this.#device(name)
    const node = device === undefined ? undefined : nodeOf(device)
    const edge = this.#simulation.edges.find(({ options }) => options.name === node)
    const held = edge === undefined ? undefined : this.#edges.get(edge)?.twins.get(`default/${name}` as DeviceId)
    return held?.uid === device?.metadata.uid ? held : undefined
  }

  /** O-T1. */
  #differences(): string[] {
    const found: string[] = []
    for (const edge of this.#simulation.edges) if (edge.running?.link.live !== true) found.push(`${edge.name} is not there`)
    for (const [edge, { twins }] of this.#edges) {
      for (const { id } of twins.all()) {
        const device = this.#device(id.split('/')[1]!)
        if (device === undefined || nodeOf(device) !== edge.options.name) found.push(`${edge.name} still has ${id}`)
      }
    }
    for (const name of names) found.push(...this.#differencesOf(name).map(each => `${name}: ${each}`))
    return found
  }

  #differencesOf(name: string): string[] {
    const device = this.#device(name)
    const held = this.#held(name)
    if (device === undefined || held === undefined) return ['its node does not have it']
    const found: string[] = []
    const stamps = stampsOf(device)
    const texts = textsOf(device)
    for (const [property, entry] of held.twin.desired) {
      const [stamp, text] = [stamps.get(property), texts.get(property)]
      const order = stamp === undefined ? 1 : compareVersions(entry.version, stamp.version)
      // What the model does not allow is not stamped, and the node holds what was stamped before.
      const isWrong = isInvalid(text) ? order > 0 : entry.deleted === true ? text !== undefined : order !== 0 || text !== textOf(entry.value)
      if (isWrong) {
        found.push(`desired ${property} is ${shown(entry)} on the node, ${text} in the Device`)
      }
    }
    for (const [property, text] of texts) {
      if (!held.twin.desired.has(property) && !isInvalid(text)) found.push(`desired ${property} of the Device is not on the node`)
    }
    const status = this.#cluster.at(statusPlace(name))
    if (status === undefined) return [...found, 'it has no record']
    if (status.metadata.annotations?.[nodeAnnotation] !== nodeOf(device)) found.push('its record is of another node')
    if (status.metadata.ownerReferences?.[0]?.uid !== device.metadata.uid) found.push('its record is of another device')
    const said = readDeviceStatus(statusOf(status))
    for (const [property, entry] of held.twin.reported) {
      if (said.reported.get(property)?.value !== textOf(entry.value)) found.push(`reported ${property} is ${shown(entry)}, recorded ${said.reported.get(property)?.value}`)
    }
    for (const [property, entry] of held.twin.desired) {
      const observed = said.observedDesired.get(property)
      if (entry.deleted === true ? observed !== undefined : observed?.version === undefined || compareVersions(observed.version, entry.version) !== 0) {
        found.push(`observed ${property} is ${observed?.value}, held ${shown(entry)}`)
      }
    }
    if (held.twin.state !== undefined && statusOf(status)['state'] !== held.twin.state.value) found.push(`its state is ${held.twin.state.value}`)
    const conditions = new Map(conditionsOf(statusOf(device)).map(({ type, status: is }) => [type, is]))
    const invalid = [...texts.values()].some(isInvalid)
    if (!(invalid && name !== 'fan') && conditions.get('Synced') !== 'True') found.push(`Synced is ${conditions.get('Synced') as string}`)
    const satisfied = delta(held.twin, held.rules).size === 0
    if (!invalid && (conditions.get('InDesiredState') === 'True') !== satisfied) found.push(`InDesiredState is ${conditions.get('InDesiredState') as string}`)
    return found
  }

  // Watching

  /** O-T3, O-T4, O-T6. */
  #checkChange(edge: Edge, { id, before, after, desired, reported, stateChanged, specChanged }: TwinChange): void {
    const { world } = this.#simulation
    this.itemsMoved++
    for (const [property, entry] of after?.twin.reported ?? []) {
      const written = this.#written.get(textOf(entry.value))
      world.expect(written?.uid === after!.uid && written.property === property && written.section === 'reported', () =>
        `${edge.name}: ${id} has the reported ${property} ${textOf(entry.value)} of ${written?.uid} ${written?.property}`)
    }
    if (before === undefined || after === undefined || before.uid !== after.uid) return
    for (const section of ['desired', 'reported'] as const) {
      for (const [property, entry] of before.twin[section]) {
        const now = after.twin[section].get(property)
        const order = now === undefined ? -1 : compareVersions(now.version, entry.version)
        world.expect(order >= 0 || (section === 'desired' && this.#replaced.has(formatVersion(entry.version))), () =>
          `${edge.name}: ${section} ${property} of ${id} goes back from ${shown(entry)} to ${now === undefined ? 'nothing' : shown(now)}`)
      }
      for (const property of section === 'desired' ? desired : reported) {
        const [was, is] = [before.twin[section].get(property), after.twin[section].get(property)]
        world.expect(liveText(was) !== liveText(is), () => `${edge.name}: ${section} ${property} of ${id} is told as a change, and is none`)
      }
    }
    world.expect(desired.length + reported.length > 0 || stateChanged || specChanged || before.twin.revision !== after.twin.revision, () =>
      `${edge.name}: a change of ${id} is told, and is none`)
  }

  #noteReplaced(device: KubeObject | undefined): void {
    for (const { replaces } of device === undefined ? [] : stampsOf(device).values()) if (replaces !== undefined) this.#replaced.add(formatVersion(replaces))
  }

  /** O-T3, O-T4, O-T5, O-T7. */
  #checkRecord(before: KubeObject | undefined, after: KubeObject | undefined): void {
    const { world } = this.#simulation
    const owner = after?.metadata.ownerReferences?.[0]?.uid
    if (after === undefined || owner === undefined) return
    const { name = '' } = after.metadata
    const [was, is] = [readDeviceStatus(before === undefined ? {} : statusOf(before)), readDeviceStatus(statusOf(after))]
    for (const [property, { value }] of is.reported) {
      const written = this.#written.get(value)
      world.expect(written?.uid === owner && written.property === property && written.section === 'reported', () =>
        `the record of ${name} (${owner}) has the reported ${property} ${value} of ${written?.uid} ${written?.property}`)
      const attempts = this.#reports.get(`${owner} ${property}`)!
      const past = was.reported.get(property)?.value
      const isSame = !this.#isRestored && before?.metadata.ownerReferences?.[0]?.uid === owner && !this.#moved.has(owner) && !this.#wentBack.has(owner)
      world.expect(!isSame || past === undefined || attempts.indexOf(value) >= attempts.indexOf(past), () =>
        `the record of ${name} goes back from ${past} to ${value} in ${property}`)
    }
    const device = this.#device(name)
    if (device?.metadata.uid !== owner || this.#isRestored) return
    const [node, recorded] = [nodeAnnotation, stateAnnotation].map(annotation => after.metadata.annotations?.[annotation])
    if (node !== nodeOf(device) && recorded !== before?.metadata.annotations?.[stateAnnotation] && recorded !== undefined) {
      const leftMs = this.#leftMs.get(`${owner} ${node}`)
      world.expect(leftMs !== undefined && leftMs >= world.nowMs - underWayMs, () => `${node} writes the record of ${name}, which left it at ${leftMs}`)
    }
    if (this.#edited.has(owner)) return
    const stamps = stampsOf(device)
    for (const [property, { version, value }] of is.observedDesired) {
      if (version === undefined) continue
      const stamp = stamps.get(property)
      const landed = stamp !== undefined && (compareVersions(version, stamp.version) <= 0
        || (stamp.replaces !== undefined && compareVersions(version, stamp.replaces) === 0))
      world.expect(landed, () => `the record of ${name} has observed ${property} ${value} (${formatVersion(version)}) before it is in the Device`)
    }
  }
}

const devicePlace = (name: string): ObjectPlace => ({ kind: kubeKinds.devices, namespace: 'default', name })
const statusPlace = (name: string): ObjectPlace => ({ kind: kubeKinds.deviceStatuses, namespace: 'default', name })

function withSpec(device: KubeObject, change: (spec: JsonObject) => JsonObject): KubeObject {
  const { generation = 0 } = device.metadata
  return { ...device, metadata: { ...device.metadata, generation: generation + 1 }, spec: change(device['spec'] as JsonObject) }
}

function nodeOf(device: KubeObject): string | undefined { return (device['spec'] as { nodeName?: string | null }).nodeName ?? undefined }

function textsOf(device: KubeObject): Map<string, string> {
  const { properties: items } = device['spec'] as { properties: { name: string, desired?: { value: string } }[] }
  return new Map(items.flatMap(({ name, desired }) => desired === undefined ? [] : [[name, desired.value]]))
}

/** `fast` is no speed, and everything else that is written is a number. */
function isInvalid(text: string | undefined): boolean { return text === 'fast' }

function stampsOf(device: KubeObject): Map<string, { readonly version: Version, readonly replaces: Version | undefined }> {
  const read: unknown = JSON.parse(device.metadata.annotations?.[desiredAnnotation] ?? '{}')
  return new Map(isObject(read) ? Object.entries(read).map(([property, stamp]) => {
    const { version, replaces } = stamp as { version: string, replaces?: string }
    return [property, { version: parseVersion(version)!, replaces: replaces === undefined ? undefined : parseVersion(replaces) }]
  }) : [])
}

function liveText(entry: Entry | undefined): string | undefined { return entry === undefined || entry.deleted === true ? undefined : textOf(entry.value) }

function shown(entry: Entry): string { return `${liveText(entry) ?? 'deleted'} (${formatVersion(entry.version)})` }
