import { toJson } from '@bufbuild/protobuf'
import { BoolValueSchema, FloatValueSchema, Int64ValueSchema, StringValueSchema, anyUnpack } from '@bufbuild/protobuf/wkt'
import type { Any } from '@bufbuild/protobuf/wkt'
import { DeviceModelSchema } from '@holdfast/protos/dmi'
import { expect, test } from 'vitest'
import { Fingerprints, cycleMs, deviceMessage, modelMessage, unsatisfied } from './device-messages.ts'
import { deviceModel, deviceTwin } from './testing/simulated-mapper.ts'

/** What a mapper reads of customized values. */
function read(data: Readonly<Record<string, Any>> = {}): Record<string, unknown> {
  return Object.fromEntries(Object.entries(data).map(([name, any]) => [name, [StringValueSchema, BoolValueSchema, Int64ValueSchema, FloatValueSchema]
    .map(schema => anyUnpack(any, schema)?.value).find(value => value !== undefined)]))
}

const model = deviceModel('factory/pump', [
  { name: 'speed', type: 'INT', accessMode: 'ReadWrite', minimum: '0', maximum: '3000', unit: 'rpm', description: 'of the shaft',
    visitors: { protocolName: 'modbus', configData: { register: 'HoldingRegister', offset: 7 } } },
  { name: 'name', type: 'STRING' },
  { name: 'hours', type: 'INT', accessMode: 'ReadOnly' }
], { protocol: 'modbus', protocolConfigData: { baud: 9600, parity: 'even' } })

const prints = new Fingerprints()

const pump = deviceTwin('factory/p-1', {
  model, desired: { speed: 1500, name: 'primary', hours: 3, gone: 'x' }, reported: { speed: 1490 },
  spec: {
    protocol: {
      protocolName: 'modbus',
      configData: { slave: 3, baud: 19200, ratio: 0.5, on: true, off: false, tcp: { ip: '::1', port: 502 }, list: [1], none: null, big: 2 ** 60 }
    },
    properties: [
      { name: 'speed', desired: { value: 'stale' }, visitors: { protocolName: 'modbus', configData: { offset: 9, scale: 0.25 } },
        reportCycle: 10_000, collectCycle: 500, reportToCloud: true },
      { name: 'name' },
      { name: 'hours', pushMethod: { http: { hostName: 'h', port: 80, requestPath: '/p', timeout: 30 } } }
    ],
    methods: [{ name: 'stop', description: 'at once', propertyNames: ['speed'] }],
    stateReport: { reportToCloud: true, reportCycle: 60_000 }
  }
})

test('a Device becomes what mappers know, over the defaults of its model', () => {
  const message = deviceMessage(pump)
  expect([message.name, message.namespace, message.spec?.deviceModelReference]).toEqual(['p-1', 'factory', 'pump'])
  expect(message.spec?.protocol?.protocolName).toBe('modbus')
  expect(read(message.spec?.protocol?.configData?.data)).toEqual({
    baud: 19200n, parity: 'even', slave: 3n, ratio: 0.5, on: true, off: false, tcp: '{"ip":"::1","port":502}', list: '[1]', big: 2 ** 60
  })
  const [speed, name, hours] = message.spec!.properties
  expect(read(speed?.visitors?.configData?.data)).toEqual({ register: 'HoldingRegister', offset: 9n, scale: 0.25 })
  expect(speed).toMatchObject({ name: 'speed', reportCycle: 10_000n, collectCycle: 500n, reportToCloud: true })
  expect(name?.visitors).toMatchObject({ protocolName: '' })
  expect(name?.visitors?.configData).toBeUndefined()
  expect(hours?.pushMethod?.http).toMatchObject({ hostname: 'h', port: 80n, requestpath: '/p', timeout: 30n })
  expect(message.spec?.methods).toMatchObject([{ name: 'stop', description: 'at once', propertyNames: ['speed'] }])
  expect(message.status).toMatchObject({ reportToCloud: true, reportCycle: 60_000n })
})

test('desired values are those of the twin that the model allows, as text', () => {
  const { properties } = deviceMessage(pump).spec!
  expect(properties.map(({ name, desired }) => [name, desired?.value, desired?.metadata])).toEqual([
    ['speed', '1500', { type: 'INT', timestamp: '1700000000000' }],
    ['name', 'primary', { type: 'STRING', timestamp: '1700000000001' }],
    // Read only: there is a message, as mappers expect, and nothing in it.
    ['hours', '', {}]
  ])
  expect(deviceMessage(pump).status?.twins).toMatchObject([
    { propertyName: 'speed', observedDesired: { value: '1500' }, reported: { value: '1490', metadata: { type: 'INT' } } }
  ])
})

test('a device without a model has the types that its writers gave', () => {
  const plain = deviceTwin('default/a', { desired: { level: 3, label: 'x' } })
  const typed = { ...plain, twin: { ...plain.twin, desired: new Map([...plain.twin.desired].map(([name, entry]) => [name, name === 'level' ? { ...entry, type: 'int' } : entry])) } }
  expect(deviceMessage(typed).spec?.properties.map(({ desired }) => [desired?.value, desired?.metadata['type']])).toEqual([['3', 'int'], ['x', undefined]])
})

test('a DeviceModel becomes what mappers know', () => {
  expect(toJson(DeviceModelSchema, modelMessage(model))).toEqual({
    name: 'pump', namespace: 'factory', spec: { properties: [
      { name: 'speed', description: 'of the shaft', type: 'INT', accessMode: 'ReadWrite', minimum: '0', maximum: '3000', unit: 'rpm' },
      { name: 'name', type: 'STRING' },
      { name: 'hours', type: 'INT', accessMode: 'ReadOnly' }
    ] }
  })
})

test('every way to push is carried over', () => {
  const pushMethod = {
    mqtt: { address: 'tcp://b:1883', topic: 't', qos: 1, retained: true }, otel: { endpointURL: 'http://o' },
    anomalyDetection: { threshold: 3, on: true },
    dbMethod: {
      influxdb2: { influxdb2ClientConfig: { url: 'u', org: 'o', bucket: 'b' }, influxdb2DataConfig: { measurement: 'm', tag: { b: '2', a: '1' }, fieldKey: 'f' } },
      redis: { redisClientConfig: { addr: 'r:6379', db: 1, poolsize: 30, minIdleConns: 2 } },
      TDEngine: { TDEngineClientConfig: { addr: 't:6041', dbName: 'd' } },
      mysql: { mysqlClientConfig: { addr: 'm:3306', database: 'd', userName: 'u' } }
    }
  }
  const made = deviceMessage(deviceTwin('default/a', { properties: [{ name: 'p', pushMethod }] })).spec!.properties[0]!.pushMethod!
  expect(made).toMatchObject({
    mqtt: { address: 'tcp://b:1883', topic: 't', qos: 1, retained: true }, otel: { endpointURL: 'http://o' },
    dbMethod: {
      influxdb2: { influxdb2ClientConfig: { url: 'u', org: 'o', bucket: 'b' }, influxdb2DataConfig: { measurement: 'm', tag: { a: '1', b: '2' }, fieldKey: 'f' } },
      redis: { redisClientConfig: { addr: 'r:6379', db: 1, poolsize: 30, minIdleConns: 2 } },
      tdengine: { tdEngineClientConfig: { addr: 't:6041', dbname: 'd' } },
      mysql: { mysqlClientConfig: { addr: 'm:3306', database: 'd', userName: 'u' } }
    }
  })
  expect(read(made.anomalyDetection?.data)).toEqual({ threshold: 3n, on: true })
})

test('only what a mapper acts on makes a device another one', () => {
  const print = prints.device(pump, 'm1')
  const { twin, device } = pump
  expect(prints.device({ ...pump, twin: { ...twin, reported: new Map(), state: { value: 'online', timestamp: 1 } } }, 'm1')).toBe(print)
  const later = new Map([...twin.desired].map(([name, entry]) => [name, { ...entry, timestamp: entry.timestamp + 1 }]))
  expect(prints.device({ ...pump, twin: { ...twin, desired: later } }, 'm1')).toBe(print)
  const spec = device['spec'] as { protocol: { configData: object } }
  const configData = Object.fromEntries(Object.entries(spec.protocol.configData).toReversed())
  const reordered = { ...device, spec: { ...spec, protocol: { configData, protocolName: 'modbus' } } }
  expect(prints.device({ ...pump, device: reordered }, 'm1')).toBe(print)
  const faster = new Map(twin.desired).set('speed', { ...twin.desired.get('speed')!, value: 1600 })
  expect(prints.device({ ...pump, twin: { ...twin, desired: faster } }, 'm1')).not.toBe(print)
  expect(prints.device(pump, 'm2')).not.toBe(print)
  expect(prints.model(model)).not.toBe(prints.model(deviceModel('factory/pump')))
})

test('what is not reported as it is desired is told again, for listed properties alone', () => {
  expect(unsatisfied(pump)).toEqual(['speed', 'name'])
  expect(cycleMs(pump, ['speed'])).toBe(10_000)
  expect(unsatisfied(deviceTwin('default/a', { desired: { x: 1 }, reported: { x: 1 } }))).toEqual([])
  expect(unsatisfied(deviceTwin('default/a', { desired: { x: 1 }, properties: [] }))).toEqual([])
})

test('an object of any shape makes a message', () => {
  for (const spec of [
    { protocol: 7, properties: 'none', methods: {}, stateReport: [] },
    { properties: [null, 3, { name: 4, visitors: 'x', reportCycle: 1e30, pushMethod: 'no' }, { name: 'a', pushMethod: { http: null, dbMethod: { redis: 3 } } }] },
    { protocol: { protocolName: null, configData: ['x'] }, deviceModelRef: null, methods: [{ propertyNames: [3, 'p'] }] }
  ]) {
    const odd = deviceTwin('default/odd', { spec })
    expect(deviceMessage(odd).name).toBe('odd')
    expect(prints.device(odd, undefined)).toHaveLength(23)
  }
})
