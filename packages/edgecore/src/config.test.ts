import { describeSettings, loadConfig, printConfig } from '@holdfast/runtime'
import { expect, test } from 'vitest'
import { edgecoreSchema, historyLaneOf } from './config.ts'
import type { EdgecoreConfig } from './config.ts'

const problems = async (...sets: string[]): Promise<string> =>
  loadConfig(edgecoreSchema, { sets }).then(() => '', (error: unknown) => (error as Error).message)

test('the defaults are two lanes, and the topics that devices of this field use', async () => {
  const config = await loadConfig(edgecoreSchema, {})
  expect(Object.keys(config.lanes)).toEqual(['alarms', 'telemetry'])
  expect(config.routes.map(({ filter, device, lane }) => [filter, device, lane])).toEqual([
    ['devices/{namespace}/{name}/telemetry', '{namespace}/{name}', 'telemetry'],
    ['devices/{namespace}/{name}/alarms', '{namespace}/{name}', 'alarms'],
    ['$ke/events/device/{namespace}/{name}/data/update', '{namespace}/{name}', 'telemetry'],
    ['$hw/events/upload/#', 'node', 'telemetry'],
    ['SYS/dis/upload_records', 'node', 'telemetry'],
    ['+/user/#', 'node', 'telemetry']
  ])
})

test('what is printed loads as the same configuration', async () => {
  const config = await loadConfig(edgecoreSchema, { sets: ['lanes.bulk.ageMax=30d', 'mqtt.port=0'] })
  const text = await printConfig(edgecoreSchema, config)
  expect(await loadConfig(edgecoreSchema, { file: { path: 'a.yaml', text } })).toEqual(config)
})

test('a route leads to a lane that is there, and is local otherwise', async () => {
  expect(await problems('routes.0.lane=bulk'))
    .toBe('--set routes.0.lane: expected one of alarms, telemetry, local, got "bulk"')
  expect(await problems('routes.0.lane=local')).toBe('')
  expect(await problems('lanes.alarms=null')).toContain('routes.1.lane: expected one of telemetry, local, got "alarms"')
  expect(await problems('lanes.local.priority=high')).toContain('other than "local"')
})

test('a route names its device from levels that its filter names', async () => {
  expect(await problems('routes.0.filter=a/{name}/+')).toContain('uses {namespace}, which a/{name}/+ does not name')
  expect(await problems('routes.0={filter: "a/{name}/#", device: "default/{name}", lane: telemetry}')).toBe('')
  for (const filter of ['a/#/b', 'a+', '{name', 'a/b#']) {
    expect(await problems(`routes.0={filter: "${filter}", lane: local}`)).toContain('expected an MQTT topic filter')
  }
})

test('an external broker is named, and what belongs together is there', async () => {
  expect(await problems('mqtt.mode=external')).toContain('mqtt.external.url: expected the URL of the broker, such as mqtt://127.0.0.1:1883')
  expect(await problems('mqtt.mode=external', 'mqtt.external.url=mqtt://127.0.0.1:1883')).toBe('')
  expect(await problems('mqtt.external.url=mqtt://user:word@broker')).toContain('mqtt.external.url: expected a URL such as')
  expect(await problems('mqtt.external.passwordFile=/p')).toContain('mqtt.external.username: expected a user')
  expect(await problems('mqtt.external.keyFile=/k')).toContain('mqtt.external.certificateFile: expected the certificate of keyFile')
  expect(await problems('mqtt.external.certificateFile=/c')).toContain('mqtt.external.keyFile: expected the key of certificateFile')
})

test('a link is dead only after a probe could have been answered', async () => {
  expect(await problems('link.probeInterval=25s')).toContain('link.deadAfter: expected longer than link.probeInterval')
})

test('the history of devices goes to a lane that is not of high priority', async () => {
  expect(await problems('twins.historyLane=alarms')).toContain('twins.historyLane: expected one of telemetry: a lane that is not of high '
    + 'priority, got "alarms"')
  expect(await problems('twins.historyLane=none')).toContain('twins.historyLane: expected one of telemetry')
  const lanes = (priorities: Record<string, 'high' | 'low'>): EdgecoreConfig['lanes'] => Object.fromEntries(
    Object.entries(priorities).map(([name, priority]) => [name, { priority } as EdgecoreConfig['lanes'][string]]))
  const twins = { historyLane: undefined } as unknown as EdgecoreConfig['twins']
  expect(historyLaneOf({ twins, lanes: lanes({ bulk: 'low', telemetry: 'low' }) })).toBe('telemetry')
  expect(historyLaneOf({ twins, lanes: lanes({ telemetry: 'high', alarms: 'high', bulk: 'low' }) })).toBe('bulk')
  expect(historyLaneOf({ twins, lanes: lanes({ telemetry: 'high' }) })).toBeUndefined()
})

test('checks across settings wait for settings that can be read', async () => {
  expect(await problems('routes=7', 'lanes.alarms=null')).toBe('--set routes: expected a list of at most 1000 entries, got 7')
})

test('all problems are told, also across settings and beside others', async () => {
  const text = await problems('routes.0.lane=bulk', 'routes.0.filter=a/{name}/+', 'routes.1={filter: 7, lane: x9}',
    'link.probeInterval=25s', 'routes.2=9', 'mqtt.port=-1')
  for (const part of ['routes.0.lane: expected one of', 'routes.0.device: "{namespace}/{name}" uses {namespace}',
    'routes.1.filter: expected an MQTT topic filter', 'routes.1.lane: expected one of', 'link.deadAfter: expected longer',
    'routes.2: expected settings', 'mqtt.port: expected a port']) expect(text).toContain(part)
  expect(text.split('\n')).toHaveLength(7)
})

test.each(['', '$SYS/x', '$SYS', '$share/g/x', '$queue/x'])('a route that nothing can match is refused: "%s"', async filter => {
  expect(await problems(`routes.0={filter: "${filter}", lane: local}`)).toContain('that a device\'s topic can match')
})

test.each(['wss://x:99999999', 'wss://x:65536', 'wss://x:0', 'wss://x:y', 'wss://[::1', 'ws://x:1', 'wss://u:p@x:1'])(
  'the tunnel is not at %s', async url => {
    expect(await problems(`server="${url}"`)).toContain('expected a URL such as wss://cloud.example:10000')
  })

test('every setting has a description and bounds', () => {
  for (const { path, description, bounds } of describeSettings(edgecoreSchema)) {
    expect([path, description]).toEqual([path, expect.stringMatching(/\.$/)])
    expect([path, bounds]).not.toEqual([path, ''])
  }
})

test('MQTT over WebSocket belongs to the embedded broker', async () => {
  expect(await problems('mqtt.mode=external', 'mqtt.external.url=mqtt://127.0.0.1:1', 'mqtt.webSocket.mode=on'))
    .toBe('--set mqtt.webSocket.mode: expected off, since mqtt.mode is external: the other broker listens')
  expect(await problems('mqtt.webSocket.mode=on', 'mqtt.webSocket.origins=["https://a.example", "http://localhost:3000"]')).toBe('')
  expect(await problems('mqtt.webSocket.origins=["dashboard"]')).toContain('expected an origin such as')
})
