import type { UpdateDeviceRequest } from '@holdfast/protos/dmi'
import { SeededRandom, silentLog } from '@holdfast/runtime'
import { HandClock, turns } from '@holdfast/runtime/testing'
import { Committer, MemoryStore } from '@holdfast/store'
import { expect, test } from 'vitest'
import type { DeviceTwin } from '../twins/device-twins.ts'
import { Fingerprints } from './device-messages.ts'
import { MapperMemory } from './mapper-memory.ts'
import type { TellingKey } from './mapper-memory.ts'
import { MapperQueue } from './mapper-queue.ts'
import { SimulatedMapper, deviceModel, deviceTwin } from './testing/simulated-mapper.ts'

const registration = { name: 'modbus-mapper', version: '1', apiVersion: 'v1beta1', protocol: 'modbus', address: '/run/modbus.sock' }

async function setUp({ store = new MemoryStore(), callsMax = 8 } = {}) {
  const clock = new HandClock()
  const committer = new Committer({}, { store, clock, onFailure: error => { throw error } })
  const memory = await MapperMemory.open(store, committer)
  await memory.remember(registration)
  const mapper = new SimulatedMapper()
  const devices = new Map<string, DeviceTwin>()
  const counters = { applied: 0, refused: 0, unanswered: 0 }
  let queue: MapperQueue
  const begin = async (answered?: ReadonlyMap<TellingKey, string>): Promise<void> => {
    queue?.close()
    queue = new MapperQueue(registration, devices.values(), answered, { callsMax }, {
      dial: mapper.dial, memory, fingerprints: prints, served: id => devices.get(id), counters, clock, random: new SeededRandom(1), log: silentLog
    })
    await turns()
  }
  return {
    clock, memory, mapper, devices, counters, committer, begin,
    get queue() { return queue },
    put: (...twins: DeviceTwin[]): void => { for (const twin of twins) devices.set(twin.id, twin) },
    change: async (id: string, twin?: DeviceTwin): Promise<void> => {
      if (twin === undefined) devices.delete(id)
      else devices.set(id, twin)
      queue.changed(id)
      await turns()
    }
  }
}

const prints = new Fingerprints()
const thermostat = deviceModel('default/thermostat', [{ name: 'target', type: 'INT' }])
const unanswered = { kind: 'unanswered', reason: 'DEADLINE_EXCEEDED: it hangs' } as const
const refused = { kind: 'refused', reason: 'UNKNOWN: no such register' } as const

test('a model goes before the devices that use it, once', async () => {
  const { mapper, put, begin, counters } = await setUp()
  put(deviceTwin('default/a', { model: thermostat }), deviceTwin('default/b', { model: thermostat }), deviceTwin('default/c'))
  await begin()
  expect(mapper.calls.slice(0, 2).toSorted()).toEqual(['CreateDeviceModel default/thermostat', 'RegisterDevice default/c'])
  expect(mapper.take().toSorted()).toEqual([
    'CreateDeviceModel default/thermostat', 'RegisterDevice default/a', 'RegisterDevice default/b', 'RegisterDevice default/c'
  ])
  expect(counters).toEqual({ applied: 4, refused: 0, unanswered: 0 })
})

test('a device whose model is not here waits for it, and goes with it', async () => {
  const { mapper, put, begin, change } = await setUp()
  put(deviceTwin('default/a', { model: 'thermostat' }))
  await begin()
  expect(mapper.take()).toEqual([])
  await change('default/a', deviceTwin('default/a', { model: thermostat }))
  expect(mapper.take()).toEqual(['CreateDeviceModel default/thermostat', 'RegisterDevice default/a'])
  // A model that is gone while a device names it stays with the mapper, and the device can change.
  await change('default/a', deviceTwin('default/a', { model: 'thermostat', desired: { target: 1 } }))
  expect(mapper.take()).toEqual(['UpdateDevice default/a'])
})

test('a changed model goes before its devices, which are told again', async () => {
  const { mapper, put, begin, devices, change } = await setUp()
  put(deviceTwin('default/a', { model: thermostat }), deviceTwin('default/b', { model: thermostat }))
  await begin()
  mapper.take()
  const wider = deviceModel('default/thermostat', [{ name: 'target', type: 'INT', maximum: '90' }])
  devices.set('default/b', deviceTwin('default/b', { model: wider }))
  await change('default/a', deviceTwin('default/a', { model: wider }))
  await change('default/b', devices.get('default/b'))
  const calls = mapper.take()
  expect(calls[0]).toBe('UpdateDeviceModel default/thermostat')
  expect(calls.slice(1).toSorted()).toEqual(['UpdateDevice default/a', 'UpdateDevice default/b'])
})

test('what keeps a device from being served is known of it, and of no other (TWN-41)', async () => {
  const fixture = await setUp()
  const { mapper, put, begin, clock, change, devices } = fixture
  put(deviceTwin('default/a', { model: thermostat }), deviceTwin('default/b'), deviceTwin('default/c'), deviceTwin('default/d', { model: 'gone' }))
  mapper.reachable = false
  const beginning = begin()
  const troubles = (): unknown[] => [...devices.values()].map(device => fixture.queue.troubleOf(device))
  expect(troubles()).toEqual([undefined, undefined, undefined, undefined])
  await beginning
  expect(troubles()).toEqual(Array.from({ length: 4 }, () => 'mapper "modbus-mapper" cannot be reached: nobody listens'))
  mapper.reachable = true
  mapper.answers.set('default/thermostat', refused).set('default/b', 'hang')
  await clock.pass(2_000)
  const missing = 'DeviceModel default/gone is not on the node'
  const modelRefused = 'mapper "modbus-mapper" refuses the model: UNKNOWN: no such register'
  // What is not answered yet is not known.
  expect(troubles()).toEqual([modelRefused, undefined, '', missing])
  mapper.expire()
  await turns()
  expect(troubles()).toEqual([modelRefused, 'mapper "modbus-mapper" does not answer about the device: DEADLINE_EXCEEDED: it hangs', '', missing])
  mapper.answers.clear()
  await clock.pass(120_000)
  expect(troubles()).toEqual(['', '', '', missing])
  // What it refused is not wanted any more.
  const b = devices.get('default/b')!
  mapper.answers.set('default/b', refused)
  await change('default/b', deviceTwin('default/b', { desired: { target: 1 } }))
  expect(troubles()[1]).toMatch(/refuses the device/)
  mapper.answers.clear()
  await change('default/b', b)
  await clock.pass(120_000)
  expect(troubles()[1]).toBe('')
})

test('the newest desired value is told, however many there were during a call', async () => {
  const { mapper, put, begin, change, clock } = await setUp()
  put(deviceTwin('default/a', { desired: { target: 0 } }))
  await begin()
  mapper.take()
  mapper.answers.set('default/a', 'hang')
  for (let target = 1; target <= 50; target++) await change('default/a', deviceTwin('default/a', { desired: { target } }))
  expect(mapper.take()).toEqual(['UpdateDevice default/a'])
  mapper.answers.clear()
  mapper.expire()
  await clock.pass(2_000)
  // Whether the one that hung was done is not known.
  expect(mapper.calls).toEqual(['RegisterDevice default/a', 'UpdateDevice default/a'])
  expect((mapper.messages[1] as UpdateDeviceRequest).device?.spec?.properties[0]?.desired?.value).toBe('50')
})

test('what did not change is not told again', async () => {
  const { mapper, put, begin, change } = await setUp()
  const on = deviceTwin('default/a', { desired: { target: 1 }, reported: { target: 1 } })
  put(on)
  await begin()
  mapper.take()
  await change('default/a', deviceTwin('default/a', { desired: { target: 1 }, reported: { target: 1 } }))
  const later = { ...on, twin: { ...on.twin, desired: new Map([...on.twin.desired].map(([name, entry]) => [name, { ...entry, timestamp: 5 }])) } }
  await change('default/a', later)
  expect(mapper.take()).toEqual([])
})

test('a device that the mapper refuses stops no other one, and is told until it is taken', async () => {
  const { mapper, put, begin, clock, counters } = await setUp({ callsMax: 2 })
  for (let i = 0; i < 20; i++) put(deviceTwin(`default/d${i}`))
  mapper.answers.set('default/d0', refused)
  await begin()
  expect(new Set(mapper.take()).size).toBe(20)
  expect(counters).toEqual({ applied: 19, refused: 1, unanswered: 0 })
  await clock.pass(120_000)
  expect(new Set(mapper.calls)).toEqual(new Set(['RegisterDevice default/d0']))
  // Backed off: 2 + 4 + 8 + … seconds at most.
  expect(mapper.take().length).toBeGreaterThan(3)
  mapper.answers.clear()
  await clock.pass(300_000)
  expect(mapper.take()).toEqual(['RegisterDevice default/d0'])
  expect(counters.applied).toBe(20)
})

test('a refused device that changes is told at once', async () => {
  const { mapper, put, begin, change, clock } = await setUp()
  put(deviceTwin('default/a', { desired: { target: 1 } }))
  mapper.answers.set('default/a', refused)
  await begin()
  await clock.pass(600_000)
  mapper.take()
  mapper.answers.clear()
  await change('default/a', deviceTwin('default/a', { desired: { target: 2 } }))
  expect(mapper.take()).toEqual(['RegisterDevice default/a'])
})

test('devices that hang leave calls to the others, and there are never more than may be', async () => {
  const { mapper, put, begin, change, clock } = await setUp({ callsMax: 4 })
  for (let i = 0; i < 12; i++) put(deviceTwin(`default/d${i}`))
  for (let i = 0; i < 4; i++) mapper.answers.set(`default/d${i}`, 'hang')
  await begin()
  expect(mapper.take()).toHaveLength(4)
  mapper.expire()
  await turns()
  // The others are done, and hanging ones that are tried again take half of the calls.
  expect(mapper.take().filter(call => !/d[0-3]$/.test(call))).toHaveLength(8)
  await clock.pass(2_000)
  expect(mapper.inFlight).toBe(2)
  for (let target = 0; target < 5; target++) await change('default/d9', deviceTwin('default/d9', { desired: { target } }))
  expect(mapper.take().filter(call => call === 'UpdateDevice default/d9')).toHaveLength(5)
  expect(mapper.inFlightMax).toBe(4)
})

test('what changed while the mapper was away is told when it is back', async () => {
  const { mapper, put, begin, change, clock, memory } = await setUp()
  put(deviceTwin('default/a', { model: thermostat }), deviceTwin('default/b'))
  await begin()
  mapper.take()
  mapper.reachable = false
  await mapper.disconnect()
  await change('default/b')
  await change('default/c', deviceTwin('default/c'))
  await clock.pass(60_000)
  expect(mapper.dials).toBeGreaterThan(5)
  mapper.reachable = true
  await clock.pass(10_000)
  const calls = mapper.take()
  expect(calls.toSorted()).toEqual([
    'CreateDeviceModel default/thermostat', 'RegisterDevice default/a', 'RegisterDevice default/c', 'RemoveDevice default/b',
    'UpdateDevice default/a', 'UpdateDeviceModel default/thermostat'
  ])
  expect(calls.indexOf('UpdateDeviceModel default/thermostat')).toBeLessThan(calls.indexOf('RegisterDevice default/a'))
  expect([...memory.told('modbus')].toSorted()).toEqual(['device/default/a', 'device/default/c', 'model/default/thermostat'])
})

test('a mapper that had nothing to be told, and comes back without registering, is told everything', async () => {
  const { mapper, put, begin, devices, clock } = await setUp()
  put(deviceTwin('default/a', { model: thermostat }))
  const print = prints.model(thermostat)
  await begin(new Map([
    ['model/default/thermostat', print], ['device/default/a', prints.device(devices.get('default/a')!, print)]
  ]))
  expect(mapper.take()).toEqual([])
  await mapper.disconnect()
  await clock.pass(1_000)
  expect(mapper.take()).toEqual([
    'CreateDeviceModel default/thermostat', 'UpdateDeviceModel default/thermostat', 'RegisterDevice default/a', 'UpdateDevice default/a'
  ])
})

test('a refused update may mean that the mapper has lost device and model', async () => {
  const { mapper, put, begin, change, clock } = await setUp()
  put(deviceTwin('default/a', { model: thermostat }), deviceTwin('default/b', { model: thermostat }))
  await begin()
  mapper.take()
  mapper.answers.set('UpdateDevice default/a', refused)
  await change('default/a', deviceTwin('default/a', { model: thermostat, desired: { target: 1 }, reported: { target: 1 } }))
  mapper.answers.clear()
  await clock.pass(2_000)
  expect(mapper.take()).toEqual([
    'UpdateDevice default/a', 'CreateDeviceModel default/thermostat', 'UpdateDeviceModel default/thermostat',
    'RegisterDevice default/a', 'UpdateDevice default/a'
  ])
})

test('a mapper that says that it has a device, or has it not, is believed', async () => {
  const { mapper, put, begin, change, clock } = await setUp()
  put(deviceTwin('default/a'))
  mapper.answers.set('RegisterDevice default/a', { kind: 'exists', reason: 'ALREADY_EXISTS: a' })
  await begin()
  mapper.take()
  mapper.answers.set('UpdateDevice default/a', { kind: 'not-found', reason: 'NOT_FOUND: a' })
  await change('default/a', deviceTwin('default/a', { desired: { x: 1 }, reported: { x: 1 } }))
  await clock.pass(1_000)
  expect(mapper.take()).toEqual(['UpdateDevice default/a', 'RegisterDevice default/a'])
  mapper.answers.set('RemoveDevice default/a', { kind: 'not-found', reason: 'NOT_FOUND: a' })
  await change('default/a')
  await clock.pass(600_000)
  expect(mapper.take()).toEqual(['RemoveDevice default/a'])
})

test('a model is removed behind the last device that used it', async () => {
  const h = await setUp()
  h.put(deviceTwin('default/a', { model: thermostat }), deviceTwin('default/b', { model: thermostat }))
  await h.begin()
  h.mapper.take()
  await h.change('default/a')
  expect(h.mapper.take()).toEqual(['RemoveDevice default/a'])
  await h.change('default/b')
  expect(h.mapper.take()).toEqual(['RemoveDevice default/b', 'RemoveDeviceModel default/thermostat'])
  expect(h.queue.idle).toBe(true)
})

test('a removal that the mapper refuses is given up after ten calls', async () => {
  const h = await setUp()
  h.put(deviceTwin('default/a'))
  await h.begin()
  h.mapper.take()
  h.mapper.answers.set('default/a', refused)
  await h.change('default/a')
  await h.clock.pass(3_600_000)
  expect(h.mapper.take()).toEqual(Array.from({ length: 10 }, () => 'RemoveDevice default/a'))
  expect(h.queue.idle).toBe(true)
  expect(h.memory.told('modbus').size).toBe(0)
})

test('desired values that are not reported are told again, later each time, until they are', async () => {
  const h = await setUp()
  h.put(deviceTwin('default/a', { desired: { target: 21 } }))
  await h.begin()
  expect(h.mapper.take()).toEqual(['RegisterDevice default/a'])
  const gaps: number[] = []
  for (let i = 0; i < 9; i++) {
    const [nextMs] = h.clock.waiting
    gaps.push(nextMs!)
    await h.clock.pass(nextMs!)
    expect(h.mapper.take()).toEqual(['UpdateDevice default/a'])
  }
  expect(gaps).toEqual([5_000, 10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000, 300_000])
  // Another value starts over.
  await h.change('default/a', deviceTwin('default/a', { desired: { target: 22 } }))
  expect(h.mapper.take()).toEqual(['UpdateDevice default/a'])
  expect(h.clock.waiting).toEqual([5_000])
  h.devices.set('default/a', deviceTwin('default/a', { desired: { target: 22 }, reported: { target: 22 } }))
  h.queue.reported('default/a')
  expect(h.clock.waiting).toEqual([])
  // It drifts.
  h.devices.set('default/a', deviceTwin('default/a', { desired: { target: 22 }, reported: { target: 19 } }))
  h.queue.reported('default/a')
  await h.clock.pass(5_000)
  expect(h.mapper.take()).toEqual(['UpdateDevice default/a'])
})

test('a device has twice its cycle to report', async () => {
  const h = await setUp()
  h.put(deviceTwin('default/a', { desired: { target: 21 }, properties: [{ name: 'target', collectCycle: 60_000, reportCycle: 1_000 }, { name: 'x', collectCycle: 9e9 }] }))
  await h.begin()
  expect(h.clock.waiting).toEqual([120_000])
})

test('what the mapper got with its registration is not told again, what did not fit is', async () => {
  const h = await setUp()
  h.put(deviceTwin('default/a', { model: thermostat }), deviceTwin('default/b', { model: thermostat }))
  await h.begin()
  h.mapper.take()
  const print = prints.model(thermostat)
  await h.begin(new Map([
    ['model/default/thermostat', print], ['device/default/a', prints.device(h.devices.get('default/a')!, print)]
  ]))
  expect(h.mapper.take()).toEqual(['RegisterDevice default/b'])
})

test('after a restart of edgecore the mapper is brought up to date, also with what is gone', async () => {
  const store = new MemoryStore()
  const before = await setUp({ store })
  before.put(deviceTwin('default/a', { model: thermostat }), deviceTwin('default/b'))
  await before.begin()
  before.queue.close()
  await before.committer.flush()
  const after = await setUp({ store })
  expect(after.memory.registrations).toEqual([registration])
  after.put(deviceTwin('default/b'), deviceTwin('default/c'))
  await after.begin()
  const calls = after.mapper.take()
  expect(calls.toSorted()).toEqual([
    'RegisterDevice default/b', 'RegisterDevice default/c', 'RemoveDevice default/a', 'RemoveDeviceModel default/thermostat', 'UpdateDevice default/b'
  ])
  expect(calls.indexOf('RemoveDevice default/a')).toBeLessThan(calls.indexOf('RemoveDeviceModel default/thermostat'))
})

test('statuses say who waits, and why', async () => {
  const h = await setUp()
  h.put(deviceTwin('default/a'), deviceTwin('default/b', { model: 'missing' }), deviceTwin('default/c'))
  h.mapper.answers.set('default/c', refused)
  await h.begin()
  expect(h.queue.status).toMatchObject({
    name: 'modbus-mapper', connected: true, devices: 3, waiting: 2, failing: [{ id: 'device/default/c', reason: refused.reason }]
  })
})

test('the message of a call is made when it is called', async () => {
  const h = await setUp({ callsMax: 1 })
  h.put(deviceTwin('default/a', { desired: { target: 1 } }))
  await h.begin()
  h.mapper.take()
  h.mapper.answers.set('default/a', unanswered)
  await h.change('default/a', deviceTwin('default/a', { desired: { target: 2 } }))
  await h.change('default/a', deviceTwin('default/a', { desired: { target: 3 } }))
  h.mapper.answers.clear()
  h.mapper.take()
  await h.clock.pass(4_000)
  expect(h.mapper.calls).toContain('UpdateDevice default/a')
  const last = h.mapper.messages.at(-1) as UpdateDeviceRequest
  expect(last.device?.spec?.properties[0]?.desired?.value).toBe('3')
})
