import { createHash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { desiredOfDevice, reconcileDesired } from './desired.ts'
import type { GivenVersions, ReconciledDesired } from './desired.ts'
import type { Json, KubeJson } from './json.ts'
import { readRules } from './rules.ts'
import type { DeviceRules } from './rules.ts'
import { desiredAnnotation, readStamps } from './stamps.ts'
import type { Entry } from './twin.ts'
import { HybridClock, formatVersion } from './version.ts'
import type { Version } from './version.ts'

const hash = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 16)
const now = 1_700_000_000_000
const model = { spec: { properties: [
  { name: 'temp', type: 'INT', accessMode: 'ReadWrite', maximum: '100' }, { name: 'door', type: 'BOOLEAN', accessMode: 'ReadOnly' }
] } }

/** A Device in the cloud. */
class Cloud {
  device: KubeJson
  readonly model: KubeJson | undefined
  readonly clock = new HybridClock('cloud', '00000000')
  nowMs = now

  constructor(properties: readonly Json[], options: { model?: KubeJson, annotation?: string } = {}) {
    this.model = options.model
    this.device = {
      metadata: { name: 'd', annotations: { other: 'x', ...options.annotation === undefined ? {} : { [desiredAnnotation]: options.annotation } } },
      spec: { properties }
    }
  }

  /** Reconciles and writes; twice is once. */
  reconcile(node?: Readonly<Record<string, Entry>>): { changed: boolean, invalid: Record<string, string> } {
    const once = this.#reconcile(node)
    this.device = { metadata: { annotations: { [desiredAnnotation]: once.annotation } }, spec: { properties: once.properties } }
    const twice = this.#reconcile(node)
    expect(twice).toEqual({ ...once, changed: false })
    return { changed: once.changed, invalid: Object.fromEntries(once.invalid.map(({ property, message }) => [property, message])) }
  }

  #reconcile(node?: Readonly<Record<string, Entry>>) {
    return reconcileDesired({
      device: this.device, rules: this.rules, node: node === undefined ? undefined : new Map(Object.entries(node)), clock: this.clock,
      nowMs: this.nowMs, hash
    })
  }

  get rules() { return readRules({ device: this.device, model: this.model, freshnessMs: 1 }) }
  get properties(): Json { return (this.device['spec'] as { properties: Json }).properties }
  write(properties: readonly Json[]): void { this.device = { ...this.device, spec: { properties } } }

  /** What a node takes: `value@version`, with what it replaces. */
  get stamped(): Record<string, string> {
    return Object.fromEntries([...desiredOfDevice(this.device, this.rules, hash)].map(([property, { value, version, replaces, deleted }]) =>
      [property, `${deleted === true ? 'deleted' : JSON.stringify(value)}@${version.time - now}.${version.counter}`
        + (replaces === undefined ? '' : ` replaces ${formatVersion(replaces)}`)]))
  }
}

const entry = (value: Json, time: number, more: Partial<Entry> = {}): Entry =>
  ({ value, version: { time, counter: 0, origin: 'node-1/11111111' }, timestamp: time, ...more })
const tombstone = (time: number): Entry => entry(null, time, { deleted: true })

describe('what somebody wrote into the spec', () => {
  test('is stamped, and only then taken by a node (TWN-14)', () => {
    const cloud = new Cloud([{ name: 'temp', visitors: { a: 1 }, desired: { value: '23', metadata: { by: 'me' } } }, { name: 'door' }], { model })
    expect(cloud.stamped).toEqual({})
    expect(cloud.reconcile()).toEqual({ changed: true, invalid: {} })
    expect(cloud.stamped).toEqual({ temp: '23@0.0' })
    expect(cloud.properties).toEqual([{ name: 'temp', visitors: { a: 1 }, desired: { value: '23', metadata: { by: 'me' } } }, { name: 'door' }])
    cloud.write([{ name: 'temp', desired: { value: '24' } }])
    expect(cloud.stamped).toEqual({})
    expect(cloud.reconcile().changed).toBe(true)
    expect(cloud.stamped).toEqual({ temp: '24@0.1' })
  })

  test('and is gone from it has a tombstone', () => {
    const cloud = new Cloud([{ name: 'p', desired: { value: 'a' } }])
    cloud.reconcile()
    cloud.write([{ name: 'p' }])
    cloud.reconcile()
    expect(cloud.stamped).toEqual({ p: 'deleted@0.1' })
    cloud.write([{ name: 'p', desired: { value: 'a' } }])
    expect(cloud.stamped).toEqual({})
    cloud.reconcile()
    expect(cloud.stamped).toEqual({ p: '"a"@0.2' })
  })

  test('and that the model does not allow is told, not stamped; what was stamped before holds', () => {
    const cloud = new Cloud([{ name: 'temp', desired: { value: '23' } }], { model })
    cloud.reconcile()
    const before = cloud.device['metadata']
    cloud.write([{ name: 'temp', desired: { value: '230' } }, { name: 'door', desired: { value: 'true' } }, { name: 'hue', desired: { value: '1' } }])
    expect(cloud.reconcile()).toEqual({ changed: false, invalid: {
      temp: 'property "temp": value 230 is above the maximum 100; send INT at most 100',
      door: 'the DeviceModel calls it ReadOnly, so it has no desired value; make it ReadWrite, or take the desired value out',
      hue: 'the DeviceModel does not have this property; add it there, or take it out of the Device'
    } })
    expect(cloud.device['metadata']).toEqual(before)
    expect(cloud.stamped).toEqual({})
  })

  test('and that stands where nothing looks, since the property is listed twice, is told', () => {
    const cloud = new Cloud([{ name: 'temp' }, { name: 'temp', desired: { value: '20' } }, { name: 'fan' }, { name: 'fan' }])
    expect(cloud.reconcile()).toEqual({ changed: false, invalid: { temp: expect.stringContaining('more than once') as string } })
    const first = new Cloud([{ name: 'temp', desired: { value: '20' } }, { name: 'temp', desired: { value: '' } }])
    expect(first.reconcile()).toEqual({ changed: true, invalid: {} })
  })

  test('as an empty text desires nothing where the type has no such value, as in KubeEdge\'s manifests', () => {
    const cloud = new Cloud([{ name: 'temp', desired: { value: '' } }, { name: 'door', desired: { value: '', metadata: { type: 'string' } } }], { model })
    expect(cloud.reconcile()).toEqual({ changed: false, invalid: {} })
    const free = new Cloud([{ name: 'p', desired: { value: '' } }])
    free.reconcile()
    expect(free.stamped).toEqual({ p: '""@0.0' })
  })

  test('past the bounds of a twin is told, not stamped', () => {
    const cloud = new Cloud(Array.from({ length: 258 }, (_, i) => ({ name: `p${i}`, desired: { value: 'x' } })))
    expect(Object.keys(cloud.reconcile().invalid)).toEqual(['p256', 'p257'])
    expect(Object.keys(cloud.stamped)).toHaveLength(256)
    const large = new Cloud(Array.from({ length: 5 }, (_, i) => ({ name: `p${i}`, desired: { value: 'x'.repeat(60_000) } })))
    expect(large.reconcile().invalid['p4']).toContain('256 KiB')
  })
})

describe('what a node set', () => {
  test('is written where it is later, and passed over where it is not (TWN-15)', () => {
    const cloud = new Cloud([{ name: 'a', visitors: {}, desired: { value: '1', metadata: { note: 'kept' } } }, { name: 'b', desired: { value: '1' } }])
    cloud.reconcile()
    const node = { a: entry({ on: true }, now + 10), b: entry('2', now - 10), c: entry(2.5, now + 10), d: tombstone(now) }
    expect(cloud.reconcile(node).changed).toBe(true)
    expect(cloud.properties).toEqual([
      { name: 'a', visitors: {}, desired: { value: '{"on":true}', metadata: { note: 'kept', type: 'json' } } }, { name: 'b', desired: { value: '1' } },
      { name: 'c', desired: { value: '2.5', metadata: { type: 'float' } } }
    ])
    expect(cloud.stamped).toEqual({ a: '{"on":true}@10.0', b: '"1"@0.1', c: '2.5@10.0', d: 'deleted@0.0' })
    cloud.nowMs += 5
    cloud.write([{ name: 'a', desired: { value: 'x' } }])
    cloud.reconcile(node)
    expect(cloud.stamped).toEqual({ a: '"x"@10.1', b: 'deleted@10.2', c: 'deleted@10.3', d: 'deleted@0.0' })
  })

  test('and deleted goes, with the item that it brought', () => {
    const cloud = new Cloud([{ name: 'a', visitors: {}, desired: { value: '1' } }])
    cloud.reconcile()
    cloud.reconcile({ a: entry('2', now + 10), b: entry('2', now + 10) })
    expect([...cloud.rules.listed]).toEqual(['a'])
    cloud.reconcile({ a: tombstone(now + 20), b: tombstone(now + 20) })
    expect(cloud.properties).toEqual([{ name: 'a', visitors: {} }])
    expect(cloud.stamped).toEqual({ a: 'deleted@20.0', b: 'deleted@20.0' })
  })

  test('from the future is taken and stamped anew (TWN-16), for as long as the node may hold it', () => {
    const cloud = new Cloud([{ name: 'a', desired: { value: '1' } }])
    cloud.reconcile()
    const ahead = now + 400 * 86_400_000
    const replaced = ` replaces ${ahead}.0.node-1/11111111`
    cloud.reconcile({ a: entry('2', ahead), b: entry('2', now + 299_000) })
    expect(cloud.stamped).toEqual({ a: `"2"@0.1${replaced}`, b: '"2"@299000.0' })
    expect(cloud.reconcile({ a: entry('2', ahead) }).changed).toBe(false)
    cloud.write([{ name: 'a', desired: { value: '3' } }, { name: 'b', desired: { value: '2' } }])
    cloud.reconcile({ a: entry('2', ahead) })
    expect(cloud.stamped['a']).toBe(`"3"@299000.1${replaced}`)
    cloud.reconcile({ a: entry('4', ahead + 1) })
    expect(cloud.stamped['a']).toBe(`"4"@299000.2 replaces ${ahead + 1}.0.node-1/11111111`)
    cloud.reconcile({ a: tombstone(ahead + 2) })
    expect(cloud.stamped['a']).toContain('deleted@299000.3')
  })
})

test('a value that was given a version gets it, though the model has come to forbid it; who writes after that is later', () => {
  const cloud = new Cloud([{ name: 'temp', desired: { value: 'warm' } }])
  const given: GivenVersions = new Map()
  const reconcile = (rules: DeviceRules, node?: Entry) => reconcileDesired({
    device: cloud.device, rules, node: node && new Map([['temp', node]]), clock: cloud.clock, nowMs: now, hash, given
  })
  const versionIn = ({ annotation }: ReconciledDesired): Version | undefined =>
    readStamps({ metadata: { annotations: { [desiredAnnotation]: annotation } } }).get('temp')?.version
  reconcile(cloud.rules)
  const { version } = given.get('temp')!
  // That was never written. The model is there now; the node's clock is behind, and it had not seen this.
  const rules = readRules({ device: cloud.device, model, freshnessMs: 1 })
  const once = reconcile(rules, entry(21, now - 3_600_000))
  expect([once.changed, versionIn(once), once.invalid.map(({ property }) => property)]).toEqual([true, version, ['temp']])
  expect(reconcile(rules, entry(21, now - 3_600_000))).toEqual(once)
  // Now it has.
  const later = { ...version, counter: version.counter + 1, origin: 'node-1/11111111' }
  const after = reconcile(rules, entry(22, 0, { version: later }))
  expect([versionIn(after), after.properties, after.invalid]).toEqual([later, [{ name: 'temp', desired: { value: '22' } }], []])
})

describe('an annotation that people edited', () => {
  test('counts as none where it is malformed', () => {
    for (const annotation of ['', '{', '[]', '5', '{"p":5}', '{"p":{"version":"soon","hash":"0000000000000000"}}',
      '{"p":{"version":"1.1.cloud/00000000","hash":"short"}}', '{"__proto__":{"version":"1.1.cloud/00000000","deleted":true}}']) {
      const cloud = new Cloud([{ name: 'p', desired: { value: 'a' } }], { annotation })
      expect(cloud.stamped, annotation).toEqual({})
      expect(cloud.reconcile().changed).toBe(true)
      expect(cloud.stamped).toEqual({ p: '"a"@0.0' })
    }
  })

  test('with a version far ahead spoils no other Device', () => {
    const far = { p: { version: `${now * 2}.0.cloud/00000000`, hash: hash('other') } }
    const cloud = new Cloud([{ name: 'p', desired: { value: 'a' } }], { annotation: JSON.stringify(far) })
    cloud.reconcile()
    expect(cloud.stamped['p']).toBe(`"a"@${now}.1`)
    expect(cloud.clock.next(now).time).toBe(now)
  })
})

test('only the latest tombstones are kept', () => {
  const stamps = Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`p${i}`, { version: `${i}.0.cloud/00000000`, deleted: true }]))
  const cloud = new Cloud([{ name: 'q', desired: { value: '1' } }], { annotation: JSON.stringify(stamps) })
  expect(cloud.reconcile().changed).toBe(true)
  expect(Object.keys(cloud.stamped)).toHaveLength(256)
  expect(cloud.stamped['p299']).toBeDefined()
  expect(cloud.stamped['p0']).toBeUndefined()
})

test('what is no Device at all has no desired values', () => {
  for (const device of [{}, { spec: 5 }, { spec: { properties: {} } }, { spec: { properties: [null, { name: 'p', desired: { value: 5 } }, { name: 5 }] } }]) {
    const rules = readRules({ device, model: undefined, freshnessMs: 1 })
    expect(desiredOfDevice(device, rules, hash)).toEqual(new Map())
    const clock = new HybridClock('cloud', '00000000')
    expect(reconcileDesired({ device, rules, node: undefined, clock, nowMs: now, hash })).toMatchObject({ changed: false, annotation: '{}', invalid: [] })
  }
})
