import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { decodeTwin, encodeTwin } from './codec.ts'
import { desiredOfDevice, reconcileDesired } from './desired.ts'
import type { GivenVersions, ReconciledDesired } from './desired.ts'
import { textOf } from './json.ts'
import type { Json, KubeJson } from './json.ts'
import { readRules } from './rules.ts'
import type { DeviceRules } from './rules.ts'
import { desiredAnnotation, readStamps } from './stamps.ts'
import { step } from './step.ts'
import { emptyTwin } from './twin.ts'
import type { Entry, Twin } from './twin.ts'
import { HybridClock, compareVersions } from './version.ts'

const runs = { numRuns: Number(process.env['RUNS'] ?? 2000), ...process.env['SEED'] !== undefined && { seed: Number(process.env['SEED']) } }
const hash = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 16)

const year = 365 * 86_400_000
const start = 1_700_000_000_000
const names = ['a', 'b', 'c'] as const
const model = { spec: { properties: [
  { name: 'a', type: 'INT', accessMode: 'ReadWrite', minimum: '0', maximum: '50' }, { name: 'b', type: 'STRING', accessMode: 'ReadWrite' }
] } }

type Event =
  /** Somebody writes the spec; undefined: takes the desired value out. */
  | { readonly kind: 'kubectl', readonly property: string, readonly text: string | undefined }
  | { readonly kind: 'node-write', readonly property: string, readonly value: Json }
  | { readonly kind: 'node-delete', readonly property: string }
  /** The node's clock is so far off; undefined: it is not trusted. */
  | { readonly kind: 'node-clock', readonly offMs: number | undefined }
  | { readonly kind: 'node-crash' }
  /** The node's disk is what it was some events ago. */
  | { readonly kind: 'node-restore', readonly ago: number }
  /** The node is shown the Device as it was so many writes ago. */
  | { readonly kind: 'down', readonly ago: number }
  /** A cloudcore is shown what the node had so many items ago. */
  | { readonly kind: 'up', readonly cloud: number, readonly ago: number }
  | { readonly kind: 'cloud-read', readonly cloud: number }
  /** The node is shown what a cloudcore is about to write. */
  | { readonly kind: 'shown', readonly cloud: number }
  | { readonly kind: 'cloud-write', readonly cloud: number }
  | { readonly kind: 'cloud-crash', readonly cloud: number }
  | { readonly kind: 'annotation-edited', readonly text: string | undefined }
  | { readonly kind: 'model', readonly there: boolean }
  | { readonly kind: 'time', readonly ms: number }

const property = fc.constantFrom(...names)
const cloud = fc.nat(1)
const ago = fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(6) })
const event: fc.Arbitrary<Event> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('kubectl' as const), property, text: fc.constantFrom('1', '2', '99', 'x', '', '{"k":1}', undefined) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('node-write' as const), property, value: fc.constantFrom<Json>(1, 2, '2', 99, 'y', '', true, { k: 1 }, [2.5]) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('node-delete' as const), property }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('node-clock' as const), offMs: fc.constantFrom(0, -50 * year, -2000, 2000, 299_000, 301_000, year, undefined) }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'node-crash' as const }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('node-restore' as const), ago: fc.nat(5) }) },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('down' as const), ago }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('up' as const), cloud, ago }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('cloud-read' as const), cloud }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('shown' as const), cloud }) },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('cloud-write' as const), cloud }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('cloud-crash' as const), cloud }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('annotation-edited' as const), text: fc.constantFrom('', '{', '{"a":{}}', undefined) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('model' as const), there: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('time' as const), ms: fc.constantFrom(1, 1000, 600_000) }) }
)

/** A node, as its host keeps the twin (TWN-10, TWN-11, TWN-16). */
class Node {
  twin: Twin = emptyTwin
  offMs: number | undefined = 0
  readonly #disks: Twin[] = [emptyTwin]
  #clock = new HybridClock('node-1', '00000000')
  #starts = 0

  /** With the disk as it was `ago` writes before. */
  start(ago: number): void {
    this.twin = this.#disks.at(-1 - ago) ?? emptyTwin
    this.#clock = new HybridClock('node-1', (++this.#starts).toString(16).padStart(8, '0'))
    this.#observe()
  }

  write(property: string, value: Json, trueMs: number, rules: DeviceRules): boolean {
    const nowMs = this.offMs === undefined ? undefined : Math.max(0, trueMs + this.offMs)
    const { twin, outputs } = step(this.twin, {
      kind: value === null ? 'reported' : 'desired-set', merge: false, version: this.#clock.next(nowMs), nowMs: nowMs ?? 0, rules,
      writes: new Map([[property, { value }]])
    })
    this.#keep(twin)
    return !outputs.some(({ kind }) => kind === 'refused')
  }

  receive(entries: ReadonlyMap<string, Entry>): void {
    const before = this.twin
    this.#keep(step(this.twin, { kind: 'desired-received', entries }).twin)
    const wentBack = [...before.desired].some(([name, { version }]) => compareVersions(this.twin.desired.get(name)!.version, version) < 0)
    if (wentBack) this.#clock.reset()
    this.#observe()
  }

  #observe(): void { for (const { version } of this.twin.desired.values()) this.#clock.observe(version) }

  #keep(twin: Twin): void {
    if (twin === this.twin) return
    this.twin = twin
    this.#disks.push(twin)
  }
}

interface Cloud { clock: HybridClock, seen: number, node: ReadonlyMap<string, Entry> | undefined, given: GivenVersions }

class World {
  #starts = 0
  readonly node = new Node()
  readonly devices: KubeJson[] = [{ metadata: {}, spec: { properties: [{ name: 'a', visitors: {} }] } }]
  readonly items: ReadonlyMap<string, Entry>[] = [new Map()]
  readonly clouds: Cloud[] = [0, 1].map(i => this.#newCloud(i))
  model: KubeJson | undefined
  nowMs = start

  get device(): KubeJson { return this.devices.at(-1)! }
  get texts(): Map<string, string | undefined> {
    const { properties } = this.device['spec'] as { properties: { name: string, desired?: { value: string } }[] }
    return new Map(properties.map(({ name, desired }) => [name, desired?.value]))
  }

  rules(device = this.device): DeviceRules { return readRules({ device, model: this.model, freshnessMs: 1 }) }

  happen(event: Event): void {
    switch (event.kind) {
      case 'kubectl': return this.kubectl(event.property, event.text)
      case 'node-write': return void this.node.write(event.property, event.value, this.nowMs, this.rules())
      case 'node-delete': return void this.node.write(event.property, null, this.nowMs, this.rules())
      case 'node-clock': this.node.offMs = event.offMs; return
      case 'node-crash': return this.node.start(0)
      case 'node-restore': return this.node.start(event.ago)
      case 'down': return this.down(event.ago)
      case 'up': return this.up(this.clouds[event.cloud]!, event.ago)
      case 'cloud-read': this.clouds[event.cloud]!.seen = this.devices.length - 1; return
      case 'shown': return this.show(this.clouds[event.cloud]!)
      case 'cloud-write': return this.cloudWrite(this.clouds[event.cloud]!)
      case 'cloud-crash': this.clouds[event.cloud] = this.#newCloud(event.cloud); return
      case 'annotation-edited': return this.#writeDevice((this.device['spec'] as { properties: Json[] }).properties, event.text)
      case 'model': this.model = event.there ? model : undefined; return
      case 'time': this.nowMs += event.ms
    }
  }

  kubectl(property: string, text: string | undefined): void {
    const { properties } = this.device['spec'] as { properties: { [member: string]: Json }[] }
    const { desired: _, ...item } = properties.find(({ name }) => name === property) ?? { name: property }
    this.#writeDevice([...properties.filter(({ name }) => name !== property), { ...item, ...text === undefined ? {} : { desired: { value: text } } }],
      this.#annotation)
  }

  down(ago = 0): void {
    const device = this.devices.at(-1 - ago) ?? this.devices[0]!
    this.node.receive(desiredOfDevice(device, this.rules(device), hash))
  }

  show(cloud: Cloud): void {
    const device = this.devices[cloud.seen]!
    const done = this.#reconcile(cloud, device)
    const shown = done.changed ? written(done) : device
    this.node.receive(desiredOfDevice(shown, this.rules(shown), hash))
  }

  up(cloud: Cloud, ago = 0): void {
    this.items.push(decodeTwin(JSON.parse(JSON.stringify(encodeTwin(this.node.twin))))!.desired)
    cloud.node = this.items.at(-1 - ago) ?? this.items[0]!
  }

  /** Under the precondition that the Device is what this cloudcore saw. */
  cloudWrite(cloud: Cloud): void {
    const device = this.devices[cloud.seen]!
    const done = this.#reconcile(cloud, device)
    if (!done.changed || device !== this.device) return
    const next = written(done)
    const again = this.#reconcile(cloud, next)
    expect(again).toEqual({ ...done, changed: false })
    for (const [name, { version, replaces }] of readStamps(next)) {
      const before = readStamps(device).get(name)
      expect(before === undefined || compareVersions(version, before.version) >= 0).toBe(true)
      if (before?.replaces !== undefined) expect(replaces).toBeDefined()
    }
    this.devices.push(next)
    cloud.seen = this.devices.length - 1
  }

  /** Everything gets through until nothing changes any more. */
  heal(): void {
    for (let round = 0; round < 8; round++) {
      const before = [this.device, this.node.twin]
      for (const cloud of this.clouds) {
        this.up(cloud)
        cloud.seen = this.devices.length - 1
        this.cloudWrite(cloud)
        this.down()
      }
      if (before[0] === this.device && before[1] === this.node.twin) return
    }
    throw new Error('both sides go on changing')
  }

  /** Both sides hold the same desired values, by version. */
  expectEqual(): void {
    const stamped = desiredOfDevice(this.device, this.rules(), hash)
    const stamps = readStamps(this.device)
    const held = this.node.twin.desired
    for (const [name, entry] of stamped) {
      expect(compareVersions(held.get(name)!.version, entry.version), name).toBe(0)
      expect([textOf(held.get(name)!.value), held.get(name)!.deleted]).toEqual([textOf(entry.value), entry.deleted])
    }
    for (const [name, entry] of held) {
      if (stamped.has(name)) continue
      // Not stamped: somebody wrote what the model does not allow, or both are without it.
      if (entry.deleted === true) continue
      expect(this.texts.get(name), name).toBeDefined()
      expect(compareVersions(entry.version, stamps.get(name)!.version)).toBeLessThanOrEqual(0)
    }
  }

  get #annotation(): string | undefined {
    return (this.device['metadata'] as { annotations?: Record<string, string> }).annotations?.[desiredAnnotation]
  }

  #reconcile(cloud: Cloud, device: KubeJson) {
    const { node, clock, given } = cloud
    return reconcileDesired({ device, rules: this.rules(device), node, clock, nowMs: this.nowMs, hash, given })
  }

  #writeDevice(properties: readonly Json[], annotation: string | undefined): void {
    this.devices.push({ metadata: annotation === undefined ? {} : { annotations: { [desiredAnnotation]: annotation } }, spec: { properties } })
  }

  #newCloud(i: number): Cloud {
    return { clock: new HybridClock('cloud', `${i}${(++this.#starts).toString(16).padStart(7, '0')}`), seen: 0, node: undefined, given: new Map() }
  }
}

const written = ({ annotation, properties }: ReconciledDesired): KubeJson =>
  ({ metadata: { annotations: { [desiredAnnotation]: annotation } }, spec: { properties } })

test('desired values converge, whoever writes them, whatever is lost, late or restored (TWN-12 … TWN-16)', { timeout: 120_000 }, () => {
  fc.assert(fc.property(fc.array(event, { maxLength: 40 }), events => {
    const world = new World()
    for (const each of events) world.happen(each)
    world.heal()
    world.expectEqual()
  }), runs)
})

test('who writes last, knowing all that the other side did, holds', { timeout: 120_000 }, () => {
  fc.assert(fc.property(fc.array(event, { maxLength: 25 }), fc.array(fc.tuple(fc.boolean(), property, fc.constantFrom('3', '4')), { maxLength: 6 }), (events, last) => {
    const world = new World()
    for (const each of events) world.happen(each)
    world.heal()
    for (const [onNode, name, text] of last) {
      if (!onNode) world.kubectl(name, text)
      else if (!world.node.write(name, text, world.nowMs, world.rules())) continue
      world.heal()
      world.expectEqual()
      if (world.model !== undefined && name === 'c') continue
      expect(world.texts.get(name)).toBe(text)
      expect(textOf(world.node.twin.desired.get(name)!.value)).toBe(text)
    }
  }), runs)
})

test('what is put back before it is written does not come again from the node that was shown it', { timeout: 120_000 }, () => {
  const move = fc.record({ name: fc.constantFrom('a', 'a', 'a', 'b', 'c'), text: fc.constantFrom('1', '2', 'x', undefined), shown: fc.boolean(), reported: fc.boolean(), lands: fc.boolean() })
  fc.assert(fc.property(fc.array(move, { maxLength: 12 }), fc.boolean(), (moves, hasModel) => {
    const world = new World()
    world.model = hasModel ? model : undefined
    const [cloud] = world.clouds as [Cloud, Cloud]
    for (const { name, text, shown, reported, lands } of moves) {
      world.kubectl(name, text)
      cloud.seen = world.devices.length - 1
      if (shown) world.show(cloud)
      if (reported) world.up(cloud)
      if (lands) world.cloudWrite(cloud)
    }
    const { texts } = world
    world.heal()
    world.expectEqual()
    // What the model does not allow gives way to what the node has.
    const isInvalid = (name: string): boolean => hasModel && (name === 'c' || name === 'a' && texts.get(name) === 'x')
    for (const name of names) if (!isInvalid(name)) expect(world.texts.get(name), name).toBe(texts.get(name))
  }), runs)
})

test('an older value of the node never takes the place of its newer one, whatever the model came to forbid meanwhile', { timeout: 120_000 }, () => {
  const move = fc.oneof(
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('kubectl' as const), property: fc.constant('a'), text: fc.constantFrom('x', 'y', '30', '31') }) },
    { weight: 3, arbitrary: fc.constant('node-write' as const) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('node-clock' as const), offMs: fc.constantFrom(0, -3_600_000, undefined) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('model' as const), there: fc.boolean() }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('time' as const), ms: fc.constantFrom(1, 1000) }) },
    { weight: 9, arbitrary: fc.constantFrom<Event>(
      { kind: 'down', ago: 0 }, { kind: 'up', cloud: 0, ago: 0 }, { kind: 'cloud-read', cloud: 0 }, { kind: 'shown', cloud: 0 }, { kind: 'cloud-write', cloud: 0 }
    ) }
  )
  fc.assert(fc.property(fc.array(move, { minLength: 5, maxLength: 25 }), moves => {
    const world = new World()
    let [written, newest] = [0, '']
    for (const each of moves) {
      if (each !== 'node-write') world.happen(each)
      else if (world.node.write('a', ++written, world.nowMs, world.rules())) newest = String(written)
    }
    world.heal()
    world.expectEqual()
    const text = world.texts.get('a')
    if (text !== undefined && Number(text) <= written) expect(text).toBe(newest)
  }), runs)
})
