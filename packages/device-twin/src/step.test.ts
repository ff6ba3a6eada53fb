import { describe, expect, test } from 'vitest'
import { decodeTwin, encodeTwin } from './codec.ts'
import { delta } from './delta.ts'
import type { Json } from './json.ts'
import { twinLimits } from './limits.ts'
import { readRules } from './rules.ts'
import type { DeviceRules } from './rules.ts'
import { step } from './step.ts'
import type { PropertyWrite, TwinInput, TwinOutput } from './step.ts'
import { emptyTwin } from './twin.ts'
import type { DeviceState, Entry, Twin } from './twin.ts'
import { HybridClock, formatVersion } from './version.ts'

const model = { spec: { properties: [
  { name: 'temperature', type: 'INT', accessMode: 'ReadWrite', minimum: '0', maximum: '100', unit: '°C' },
  { name: 'serial', type: 'STRING', accessMode: 'ReadOnly' }, { name: 'config', accessMode: 'ReadWrite' }
] } }
const modelled = readRules({ device: { spec: { properties: [{ name: 'temperature' }] } }, model, freshnessMs: 60_000 })
const free = readRules({ device: {}, model: undefined, freshnessMs: 60_000 })

/** A twin and who writes to it, at a time. */
class Writer {
  twin: Twin = emptyTwin
  nowMs = 1_000_000
  readonly clock = new HybridClock('node-1', '00000000')
  readonly rules: DeviceRules

  constructor(rules: DeviceRules = free) { this.rules = rules }

  write(kind: 'reported' | 'desired-set', writes: Readonly<Record<string, Json | PropertyWrite>>, more: {
    merge?: boolean, expectedRevision?: number
  } = {}): string[] {
    const isWrite = (each: Json | PropertyWrite): each is PropertyWrite =>
      typeof each === 'object' && each !== null && !Array.isArray(each) && 'value' in each
    return this.step({
      kind, merge: false, ...more, version: this.clock.next(this.nowMs), nowMs: this.nowMs, rules: this.rules,
      writes: new Map(Object.entries(writes).map(([property, each]) => [property, isWrite(each) ? each : { value: each }]))
    })
  }

  report(writes: Readonly<Record<string, Json | PropertyWrite>>): string[] { return this.write('reported', writes) }
  want(writes: Readonly<Record<string, Json | PropertyWrite>>): string[] { return this.write('desired-set', writes) }

  state(value: string, timestamp = 0): string[] {
    return this.step({ kind: 'state', value: value as DeviceState, timestamp, nowMs: this.nowMs })
  }

  receive(entries: Readonly<Record<string, Entry & { replaces?: Entry['version'] }>>): string[] {
    return this.step({ kind: 'desired-received', entries: new Map(Object.entries(entries)) })
  }

  step(input: TwinInput): string[] {
    const { twin, outputs } = step(this.twin, input)
    if (outputs.length === 0) expect(twin).toBe(this.twin)
    expect(twin.revision).toBe(this.twin.revision + (outputs[0]?.kind === 'persist' ? 1 : 0))
    this.twin = twin
    return outputs.map(shown)
  }

  get delta(): Record<string, Json> { return Object.fromEntries(delta(this.twin, this.rules)) }
}

function shown(output: TwinOutput): string {
  switch (output.kind) {
    case 'persist': return 'persist'
    case 'changed': return `changed ${output.section} ${output.properties.join()}`
    case 'state-changed': return `state ${output.before ?? 'none'} → ${output.after}`
    case 'refreshed':
    case 'stale': return `${output.kind} ${output.properties.join()}`
    case 'refused': return `${output.error.code} ${output.error.message}`
  }
}

const entry = (value: Json, time: number, more: Partial<Entry> = {}): Entry =>
  ({ value, version: { time, counter: 0, origin: 'cloud/11111111' }, timestamp: time, ...more })

describe('a report', () => {
  test('is persisted, then told, and satisfies what is desired', () => {
    const device = new Writer(modelled)
    expect(device.want({ temperature: '25' })).toEqual(['persist', 'changed desired temperature'])
    expect(device.delta).toEqual({ temperature: 25 })
    expect(device.report({ temperature: 24 })).toEqual(['persist', 'changed reported temperature'])
    expect(device.delta).toEqual({ temperature: 25 })
    expect(device.report({ temperature: '25' })).toEqual(['persist', 'changed reported temperature'])
    expect(device.delta).toEqual({})
  })

  test('of the same value is no change (TWN-20), whatever it is written as', () => {
    const device = new Writer(modelled)
    device.report({ temperature: 25 })
    for (const same of [25, '25', '025', 25.0]) expect(device.report({ temperature: same })).toEqual([])
    expect(device.want({ config: { a: 1 } })).toHaveLength(2)
    expect(device.want({ config: { a: 1 } })).toEqual([])
  })

  test('of the same value is stored for its timestamp once an interval (TWN-21)', () => {
    const device = new Writer()
    device.report({ p: 1 })
    const { version } = device.twin.reported.get('p')!
    for (let i = 0; i < 59; i++) {
      device.nowMs += 1000
      expect(device.report({ p: 1 })).toEqual([])
    }
    device.nowMs += 1000
    expect(device.report({ p: 1 })).toEqual(['persist', 'refreshed p'])
    expect(device.twin.reported.get('p')).toEqual({ value: 1, version, timestamp: device.nowMs })
  })

  test('keeps the timestamp of its device; one from the future counts as now (TWN-22)', () => {
    const device = new Writer()
    device.report({ a: { value: 1, timestamp: 900_000.7 }, b: { value: 1, timestamp: 0 }, c: { value: 1, timestamp: 1_000_001 }, d: { value: 1, timestamp: NaN } })
    expect([...device.twin.reported.values()].map(({ timestamp }) => timestamp)).toEqual([900_000, 1_000_000, 1_000_000, 1_000_000])
  })

  test('that is older than the stored one is not applied, and those beside it are', () => {
    const device = new Writer()
    device.report({ a: { value: 1, timestamp: 900_000 }, b: { value: 1, timestamp: 900_000 } })
    expect(device.report({ a: { value: 2, timestamp: 899_999 }, b: { value: 2, timestamp: 900_001 } }))
      .toEqual(['persist', 'changed reported b', 'stale a'])
    expect(device.report({ a: { value: 1, timestamp: 899_999 } })).toEqual(['stale a'])
    expect(device.report({ a: { value: 3 } })).toEqual(['persist', 'changed reported a'])
  })

  test('is not stale for a clock that went back', () => {
    const device = new Writer()
    device.report({ p: 1 })
    device.nowMs -= 500_000
    expect(device.report({ p: { value: 2, timestamp: device.nowMs - 5 } })).toEqual(['persist', 'changed reported p'])
    expect(device.report({ p: { value: 3, timestamp: device.nowMs - 6 } })).toEqual(['stale p'])
    device.nowMs += 500_000
    device.report({ p: 4 })
    device.nowMs -= 500_000
    expect(device.report({ p: 4 })).toEqual(['persist', 'refreshed p'])
  })

  test('keeps what its sender calls the type, where no model does', () => {
    const device = new Writer()
    device.report({ p: { value: '23', type: 'int' }, q: { value: 'x', type: '' } })
    expect(device.twin.reported.get('p')).toMatchObject({ value: 23, type: 'int' })
    expect(device.twin.reported.get('q')).not.toHaveProperty('type')
    const other = new Writer(modelled)
    other.report({ temperature: { value: '23', type: 'int' } })
    expect(other.twin.reported.get('temperature')).not.toHaveProperty('type')
    expect(device.report({ p: { value: 1, type: 'x'.repeat(65) } })[0]).toContain('TWIN_TYPE')
  })
})

test('a clock that counts fractions, or stands before 1970, leaves whole timestamps', () => {
  const device = new Writer()
  device.nowMs = 1_000_000.75
  device.report({ p: 1 })
  device.state('online')
  expect(decodeTwin(encodeTwin(device.twin))).toEqual(device.twin)
  device.nowMs = -5
  device.report({ p: 2 })
  expect(device.twin.reported.get('p')!.timestamp).toBe(0)
})

describe('a refusal', () => {
  test('leaves nothing of the write behind (TWN-5)', () => {
    const device = new Writer(modelled)
    device.report({ temperature: 20 })
    const before = device.twin
    expect(device.report({ temperature: 30, humidity: 1 })).toEqual([
      'TWIN_PROPERTY property "humidity": the DeviceModel does not have it; use one that it has (temperature, serial, config), or add it to the DeviceModel'])
    expect(device.twin).toBe(before)
  })

  test('says what is wrong', () => {
    const device = new Writer(modelled)
    expect(device.want({ serial: 'x' })[0]).toMatch(/^TWIN_READ_ONLY property "serial"/)
    expect(device.report({ serial: 'x' })).toHaveLength(2)
    expect(device.report({ temperature: 'hot' })[0]).toMatch(/^TWIN_TYPE property "temperature": value "hot" is not INT between 0 and 100 °C/)
    expect(device.report({ temperature: 101 })[0]).toMatch(/^TWIN_RANGE/)
    expect(device.report({ temperature: null })[0]).toMatch(/^TWIN_NOT_OPTIONAL .* the Device lists it/)
    expect(device.report({ serial: null })[0]).toMatch(/^TWIN_NOT_OPTIONAL .* its DeviceModel lists it/)
    expect(device.report({ config: 'x'.repeat(70_000) })[0]).toMatch(/^TWIN_VALUE .* at most 64 KiB/)
    for (const name of ['', 'a\nb', 'x'.repeat(254), '\ud800']) expect(device.report({ [name]: 1 })[0]).toMatch(/^TWIN_PROPERTY/)
    expect(device.step({
      kind: 'reported', merge: false, version: device.clock.next(1), nowMs: 1, rules: free, writes: new Map([['__proto__', { value: 1 }]])
    })[0]).toMatch(/^TWIN_PROPERTY/)
    expect(device.state('broken')[0]).toMatch(/^TWIN_STATE "broken" is no state of a device; send one of online, offline/)
  })

  test('of a conflict says both versions, or revisions', () => {
    const device = new Writer()
    device.want({ p: 1 })
    const seen = device.twin.desired.get('p')!.version
    expect(device.want({ p: { value: 2, expected: null } })[0]).toBe(
      `TWIN_CONFLICT property "p": the writer saw no value, and the twin has version ${formatVersion(seen)}; read the twin, decide anew, and send it with what was read`)
    expect(device.want({ p: { value: 2, expected: seen } })).toHaveLength(2)
    expect(device.want({ p: { value: 3, expected: seen } })[0]).toMatch(/^TWIN_CONFLICT/)
    expect(device.want({ q: { value: 3, expected: seen } })[0]).toContain('the twin has no value')
    expect(device.want({ q: { value: 3, expected: null } })).toHaveLength(2)
    expect(device.write('reported', { p: 1 }, { expectedRevision: 1 })[0]).toContain('saw revision 1, and the twin is at 3')
    expect(device.write('reported', { p: 1 }, { expectedRevision: 3 })).toHaveLength(2)
  })
})

describe('merging into a value', () => {
  test('is RFC 7396 within the property, and its result has to fit', () => {
    const device = new Writer()
    device.want({ config: { interval: 5, mode: { night: true } } })
    expect(device.write('desired-set', { config: { mode: { day: 1, night: null } } }, { merge: true })).toHaveLength(2)
    expect(device.twin.desired.get('config')!.value).toEqual({ interval: 5, mode: { day: 1 } })
    expect(device.write('desired-set', { config: { interval: 5 } }, { merge: true })).toEqual([])
    device.want({ big: { a: 'x'.repeat(40_000) } })
    expect(device.write('desired-set', { big: { b: 'x'.repeat(40_000) } }, { merge: true })[0]).toMatch(/^TWIN_VALUE/)
    expect(device.write('desired-set', { fresh: { a: 1, b: null } }, { merge: true })).toHaveLength(2)
    expect(device.twin.desired.get('fresh')!.value).toEqual({ a: 1 })
  })
})

describe('deleting', () => {
  test('takes both sides away, leaves tombstones, and is idempotent (TWN-24)', () => {
    const device = new Writer()
    device.want({ p: 1 })
    device.report({ p: 0 })
    expect(device.report({ p: null })).toEqual(['persist', 'changed desired p', 'changed reported p'])
    expect(device.twin.reported.get('p')).toMatchObject({ value: null, deleted: true })
    expect(device.delta).toEqual({})
    expect(device.report({ p: null, never: null })).toEqual([])
    expect(device.report({ p: 0 })).toEqual(['persist', 'changed reported p'])
  })

  test('is not for what the Device lists, unless a node brought it there', () => {
    const stamped = (writer: string, item: object): DeviceRules => readRules({
      device: {
        metadata: { annotations: { 'holdfast.dev/desired': JSON.stringify({ p: { version: `5.0.${writer}/00000000`, hash: '0'.repeat(16) } }) } },
        spec: { properties: [{ name: 'p', desired: { value: '1' }, ...item }] }
      }, model: undefined, freshnessMs: 1
    })
    expect([...stamped('node-1', {}).listed]).toEqual([])
    expect([...stamped('cloud', {}).listed]).toEqual(['p'])
    expect([...stamped('node-1', { visitors: {} }).listed]).toEqual(['p'])
  })
})

describe('desired values that are received', () => {
  test('hold where they are later, and are told where they are others', () => {
    const node = new Writer()
    expect(node.receive({ p: entry(1, 500), q: entry(2, 500) })).toEqual(['persist', 'changed desired p,q'])
    expect(node.receive({ p: entry(9, 499), q: entry(2, 500) })).toEqual([])
    expect(node.receive({ p: entry(1, 501) })).toEqual(['persist'])
    expect(node.twin.desired.get('p')!.version.time).toBe(501)
    expect(node.receive({ p: entry(null, 502, { deleted: true }) })).toEqual(['persist', 'changed desired p'])
    expect(node.receive({ p: entry(1, 501) })).toEqual([])
  })

  test('take the place of the version that they replace, and of no other (TWN-16)', () => {
    const node = new Writer()
    node.nowMs = 9_000_000
    node.want({ p: 'ahead' })
    const ahead = node.twin.desired.get('p')!.version
    expect(node.receive({ p: { ...entry('anew', 600), replaces: { ...ahead, counter: 5 } } })).toEqual([])
    expect(node.receive({ p: { ...entry('anew', 600), replaces: ahead } })).toEqual(['persist', 'changed desired p'])
    expect(node.twin.desired.get('p')).toEqual(entry('anew', 600))
  })

  test('that do not fit are left out, and said; the others are taken', () => {
    const node = new Writer()
    for (let i = 0; i < 250; i++) node.report({ [`r${i}`]: 1 })
    const many = Object.fromEntries(Array.from({ length: 10 }, (_, i) => [`d${i}`, entry(i, 500)]))
    const outputs = node.receive(many)
    expect(outputs.slice(0, 2)).toEqual(['persist', 'changed desired d0,d1,d2,d3,d4,d5'])
    expect(outputs[2]).toMatch(/^TWIN_FULL/)
    expect(node.receive(many).map(each => each.slice(0, 9))).toEqual(['TWIN_FULL'])
  })
})

describe('the bounds of a twin', () => {
  test('256 properties; the oldest that are deleted on both sides give way', () => {
    const device = new Writer()
    for (let i = 0; i < 256; i++) device.report({ [`p${i}`]: 1 })
    expect(device.report({ more: 1 })[0]).toBe(
      'TWIN_FULL property "more": the twin would have 257 properties, and may have at most 256 properties; delete properties that are not used (write null), or make two devices of it')
    expect(device.report({ p7: null })).toHaveLength(2)
    expect(device.report({ p3: null })).toHaveLength(2)
    device.want({ p5: 2 })
    expect(device.report({ more: 1 })).toEqual(['persist', 'changed reported more'])
    expect(device.twin.reported.has('p7')).toBe(false)
    expect(device.twin.reported.get('p3')).toMatchObject({ deleted: true })
    expect(decodeTwin(encodeTwin(device.twin))).toEqual(device.twin)
  })

  test('256 KiB', () => {
    const device = new Writer()
    for (let i = 0; i < 4; i++) device.report({ [`p${i}`]: 'x'.repeat(60_000) })
    expect(device.report({ p4: 'x'.repeat(60_000) })[0]).toMatch(/^TWIN_FULL .* 295 KiB, and may have at most 256 KiB/)
    expect(device.report({ p3: 'small' })).toHaveLength(2)
    expect(device.report({ p4: 'x'.repeat(60_000) })).toHaveLength(2)
    const encoded = Buffer.byteLength(JSON.stringify(encodeTwin(device.twin)))
    expect(encoded).toBeLessThanOrEqual(device.twin.bytes)
    expect(device.twin.bytes).toBeLessThanOrEqual(twinLimits.twinBytes.value)
  })
})

test('a step looks at what it writes, not at what else the twin holds', () => {
  const device = new Writer()
  let looks = 0
  const watched = new Proxy({ m: [1, 2, 3] }, {
    ownKeys(target) {
      looks++
      return Reflect.ownKeys(target)
    }
  })
  device.report({ big: watched })
  device.want({ big: watched })
  expect(looks).toBeGreaterThan(0)
  looks = 0
  for (let i = 0; i < 100; i++) device.report({ p: i })
  device.want({ p: 1 })
  device.receive({ p: entry(2, 2_000_000) })
  device.state('online')
  expect(looks).toBe(0)
})

test('the state of a device, and when it was last online', () => {
  const device = new Writer()
  expect(device.state('online')).toEqual(['persist', 'state none → online'])
  device.nowMs += 10_000
  expect(device.state('online')).toEqual([])
  expect(device.state('offline')).toEqual(['persist', 'state online → offline'])
  expect(device.twin).toMatchObject({ state: { value: 'offline', timestamp: 1_010_000 }, lastOnlineTime: 1_010_000 })
  expect(device.state('online', 1_005_000)).toEqual(['stale '])
  device.nowMs += 10_000
  expect(device.state('unhealthy', 1_015_000)).toEqual(['persist', 'state offline → unhealthy'])
  expect(device.twin.lastOnlineTime).toBe(1_010_000)
})

test('the delta leaves out what the model does not allow any more (TWN-25)', () => {
  const device = new Writer(modelled)
  device.want({ temperature: 90, config: { a: 1 } })
  const lower = { spec: { properties: [{ name: 'temperature', type: 'INT', maximum: '50' }, { name: 'config', accessMode: 'ReadOnly' }] } }
  expect([...delta(device.twin, readRules({ device: {}, model: lower, freshnessMs: 1 }))]).toEqual([])
  expect([...delta(device.twin, readRules({ device: {}, model: { spec: {} }, freshnessMs: 1 }))]).toEqual([])
  const text = { spec: { properties: [{ name: 'temperature', type: 'STRING' }] } }
  expect([...delta(device.twin, readRules({ device: {}, model: text, freshnessMs: 1 }))]).toEqual([['temperature', '90']])
})

test('the example of the README', () => {
  const thermostat = { spec: { properties: [{ name: 'setpoint', type: 'INT', accessMode: 'ReadWrite', minimum: '5', maximum: '30' }] } }
  const rules = readRules({ device: { spec: {} }, model: thermostat, freshnessMs: 60_000 })
  const clock = new HybridClock('node-1', '0f3a9c51')
  const set = (value: number) => ({ writes: new Map([['setpoint', { value }]]), merge: false, version: clock.next(1000), nowMs: 1000, rules })
  const wanted = step(emptyTwin, { kind: 'desired-set', ...set(21) })
  expect(delta(wanted.twin, rules)).toEqual(new Map([['setpoint', 21]]))
  const settled = step(wanted.twin, { kind: 'reported', ...set(21) })
  expect(delta(settled.twin, rules)).toEqual(new Map())
  expect(step(settled.twin, { kind: 'reported', ...set(21) }).outputs).toEqual([])
  expect(step(settled.twin, { kind: 'desired-set', ...set(50) }).outputs).toMatchObject([
    { kind: 'refused', error: { code: 'TWIN_RANGE', message: expect.stringContaining('property "setpoint": value 50 is above the maximum 30') } }])
})

test('rules are read of what is there, and nothing malformed stops them', () => {
  expect(modelled.properties!.get('temperature')).toEqual(
    { name: 'temperature', type: 'INT', access: 'ReadWrite', minimum: 0, maximum: 100, unit: '°C' })
  const odd = readRules({
    device: { spec: { properties: [null, 5, { name: 7 }, { name: 'a' }, { name: '' }] } },
    model: { spec: { properties: ['x', { name: 'a', type: 'QUATERNION', minimum: 'low', maximum: '' }, { name: 'a', type: 'INT' }, { name: '__proto__' }] } },
    freshnessMs: 5
  })
  expect([...odd.listed]).toEqual(['a'])
  expect([...odd.properties!.values()]).toEqual(
    [{ name: 'a', type: undefined, access: 'ReadWrite', minimum: undefined, maximum: undefined, unit: undefined }])
})
