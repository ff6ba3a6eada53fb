import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { readRules } from '@holdfast/device-twin'
import type { Json } from '@holdfast/device-twin'
import type { KubeObject } from '@holdfast/kube-api'
import { SeededRandom, SystemClock, silentLog } from '@holdfast/runtime'
import { MemoryStore } from '@holdfast/store'
import { expect, onTestFinished, test } from 'vitest'
import { parseAllDocuments } from 'yaml'
import type { DeviceId } from '../twins/device-twins.ts'
import { openTwins, stamped } from '../twins/testing/twin-harness.ts'
import { until } from '../testing/broker-harness.ts'
import { HttpProtocol } from './http-protocol.ts'
import { Mappers } from './mappers.ts'
import { MqttProtocol } from './mqtt-protocol.ts'
import { MemoryBus } from './testing/memory-bus.ts'

const page = readFileSync(join(import.meta.dirname, '../../../../docs/devices.md'), 'utf8')

/** Manifests of docs/devices.md, by `namespace/name`. */
const manifests: ReadonlyMap<string, KubeObject> = new Map([...page.matchAll(/```yaml\n(apiVersion[^]*?)```/g)]
  .flatMap(([, text]) => parseAllDocuments(text!).map(document => document.toJS() as KubeObject))
  .map(object => [`${object.metadata.namespace}/${object.metadata.name}`, { ...object, metadata: { ...object.metadata, uid: `uid-${object.metadata.name}` } }]))

interface Node {
  readonly bus: MemoryBus
  readonly mappers: Mappers
  readonly receive: (desired: Readonly<Record<string, string>>) => Promise<void>
  readonly reported: () => Readonly<Record<string, Json>>
  readonly state: () => string | undefined
}

/** A node with one device of the page, as `change` has it. */
async function startNode(modelName: string, name: string, change = (device: KubeObject): KubeObject => device): Promise<Node> {
  const clock = new SystemClock()
  const bus = new MemoryBus()
  const harness = await openTwins(new MemoryStore(), { clock })
  const mappers = Mappers.open({}, {
    protocols: [new MqttProtocol({ bus }), new HttpProtocol({ clock, random: new SeededRandom(1) })], twins: harness.twins, clock, log: silentLog
  })
  const stop = new AbortController()
  const running = mappers.run(stop.signal)
  onTestFinished(async () => {
    stop.abort()
    await running
    await harness[Symbol.asyncDispose]()
  })
  const model = manifests.get(`default/${modelName}`)!
  const id = `default/${name}` as DeviceId
  const node: Node = {
    bus, mappers,
    async receive(desired) {
      const device = change(manifests.get(id)!)
      const spec = device['spec'] as { properties: { name: string }[] }
      const properties = spec.properties.map(property => desired[property.name] === undefined ? property
        : { ...property, desired: { value: desired[property.name]! } })
      await harness.receive({
        [`default/${modelName}`]: model, [id]: stamped({ ...device, spec: { ...spec, properties } }, clock.wallMs(), model)
      })
    },
    reported: () => Object.fromEntries([...harness.twins.get(id)!.twin.reported].map(([property, { value }]) => [property, value])),
    state: () => harness.twins.get(id)!.twin.state?.value
  }
  await node.receive({})
  expect(mappers.status()).toEqual([{ device: id, protocol: expect.any(String) as string, wanted: [], problems: [] }])
  return node
}

test('a Tasmota plug is its Device alone', async () => {
  const { bus, mappers, receive, reported, state } = await startNode('tasmota-plug', 'plug-1')
  bus.deliver('tele/plug-1/LWT', 'Online', { retain: true })
  bus.deliver('tele/plug-1/STATE', '{"Time":"2026-03-01T10:00:00","Uptime":"0T00:10:12","UptimeSec":612,"Heap":25,"SleepMode":"Dynamic","Sleep":50,'
    + '"LoadAvg":19,"MqttCount":1,"POWER":"OFF","Wifi":{"AP":1,"SSId":"shop","BSSId":"AA:BB:CC:DD:EE:FF","Channel":6,"Mode":"11n","RSSI":76,'
    + '"Signal":-62,"LinkCount":1,"Downtime":"0T00:00:03"}}')
  bus.deliver('tele/plug-1/SENSOR', '{"Time":"2026-03-01T10:00:00","ENERGY":{"TotalStartTime":"2025-11-14T09:12:01","Total":3.185,"Yesterday":0.051,'
    + '"Today":0.067,"Period":1,"Power":42.5,"ApparentPower":45,"ReactivePower":14,"Factor":0.95,"Voltage":231,"Current":0.193}}')
  await until(() => state() === 'online', 'online')
  expect(reported()).toEqual({ 'power': false, 'wifi-signal': -62, 'watts': 42.5, 'voltage': 231, 'energy-today': 0.067 })

  await receive({ power: 'true' })
  await until(() => bus.published.length > 0, 'told')
  expect(bus.published).toEqual([{ topic: 'cmnd/plug-1/POWER', payload: 'ON' }])
  // The plug was cut off from power meanwhile, and subscribes to its commands when it is back.
  expect(bus.subscribe('cmnd/plug-1/#')).toEqual([{ topic: 'cmnd/plug-1/POWER', payload: 'ON' }])
  bus.deliver('stat/plug-1/RESULT', '{"POWER":"ON"}')
  bus.deliver('stat/plug-1/POWER', 'ON')
  await until(() => reported()['power'] === true, 'switched')
  expect(mappers.status()).toMatchObject([{ wanted: [], problems: [] }])

  bus.deliver('stat/plug-1/RESULT', '{"Command":"Unknown"}')
  bus.deliver('tele/plug-1/LWT', 'Offline', { retain: true })
  await until(() => state() === 'offline', 'offline')
  expect(mappers.status()).toMatchObject([{ problems: [] }])
})

test('one message of a device is one write of its twin', async () => {
  const { bus } = await startNode('tasmota-plug', 'plug-1')
  const commits = bus.deliver('tele/plug-1/SENSOR', '{"ENERGY":{"Today":0.067,"Power":42.5,"Voltage":231}}')
  expect(commits).toHaveLength(1)
})

test('a lamp behind Zigbee2MQTT is its Device alone', async () => {
  const { bus, receive, reported, state } = await startNode('zigbee-bulb', 'desk-lamp')
  bus.deliver('zigbee2mqtt/desk lamp/availability', '{"state":"online"}', { retain: true })
  bus.deliver('zigbee2mqtt/desk lamp', '{"brightness":254,"color_mode":"color_temp","color_temp":370,"linkquality":120,"power_on_behavior":null,'
    + '"state":"ON","update":{"installed_version":587753009,"latest_version":587753009,"state":"idle"}}')
  await until(() => state() === 'online', 'online')
  expect(reported()).toEqual({ 'on': true, 'brightness': 254, 'colour-temperature': 370, 'link-quality': 120 })
  await receive({ on: 'false', brightness: '100' })
  await until(() => bus.published.length === 2, 'told')
  expect(bus.published.toSorted((a, b) => a.payload.localeCompare(b.payload))).toEqual([
    { topic: 'zigbee2mqtt/desk lamp/set', payload: '{"brightness": 100, "transition": 1}' },
    { topic: 'zigbee2mqtt/desk lamp/set', payload: '{"state": "OFF"}' }
  ])
  bus.deliver('zigbee2mqtt/desk lamp', '{"brightness":100,"color_temp":370,"linkquality":117,"state":"OFF"}')
  await until(() => reported()['on'] === false && reported()['brightness'] === 100, 'reported')
  bus.deliver('zigbee2mqtt/desk lamp/availability', '{"state":"offline"}')
  await until(() => state() === 'offline', 'offline')
})

test('a Shelly is its Device alone', async () => {
  let output = false
  const requests: string[] = []
  const server = createServer((request, response) => {
    requests.push(request.url!)
    if (request.url === '/rpc/Switch.Set?id=0&on=true') {
      output = true
      response.end('{"was_on":false}')
    } else {
      response.end(JSON.stringify({
        id: 0, source: 'init', output, apower: output ? 12.3 : 0, voltage: 231.5, current: 0.05, aenergy: { total: 11.679, by_minute: [0, 0, 0] },
        temperature: { tC: 53.3, tF: 127.9 }
      }))
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => { server.close() })
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const { receive, reported, state } = await startNode('shelly-plug', 'plug-2', device => {
    const spec = device['spec'] as { protocol: { configData: object } }
    return { ...device, spec: { ...spec, protocol: { ...spec.protocol, configData: { ...spec.protocol.configData, url } } } }
  })
  await until(() => state() === 'online' && reported()['temperature'] === 53.3, 'read')
  expect(reported()).toEqual({ power: false, watts: 0, temperature: 53.3 })
  await receive({ power: 'true' })
  await until(() => reported()['power'] === true, 'switched')
  expect(requests).toContain('/rpc/Switch.Set?id=0&on=true')
})

test('every manifest of the page is tried here, and its model has each of its properties', () => {
  const devices = [...manifests.values()].filter(({ kind }) => kind === 'Device')
  expect(devices.map(({ metadata }) => metadata.name)).toEqual(['plug-1', 'desk-lamp', 'plug-2'])
  for (const device of devices) {
    const { deviceModelRef, properties } = device['spec'] as { deviceModelRef: { name: string }, properties: { name: string }[] }
    const rules = readRules({ device, model: manifests.get(`default/${deviceModelRef.name}`), freshnessMs: 0 })
    expect([...rules.properties!.keys()].toSorted()).toEqual(properties.map(({ name }) => name).toSorted())
  }
})
