import { join } from 'node:path'
import { connectAsync } from 'mqtt'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { Fleet, until } from '../harness/daemons.ts'
import type { Daemon } from '../harness/daemons.ts'
import { KubeHttp } from '../harness/kube-http.ts'
import { MosquittoClient, missing, publish } from './programs.ts'

const absent = missing('mosquitto_pub', 'mosquitto_sub', 'stdbuf')
const apiVersion = 'devices.kubeedge.io/v1beta1'
const group = `/apis/${apiVersion}/namespaces/default`
let fleet: Fleet
let edge: Daemon
let cluster: KubeHttp

beforeAll(async () => {
  if (absent !== undefined) return
  fleet = await Fleet.start()
  edge = await fleet.join('edge-1', { set: ['mqtt.webSocket.mode=on', 'mqtt.webSocket.port=0', 'link.retryMax=500ms'] })
  await edge.start()
  cluster = await KubeHttp.open(join(fleet.cloud.dataDir, 'kubeconfig'))
  await cluster.check('POST', `${group}/devicemodels`, {
    apiVersion, kind: 'DeviceModel', metadata: { name: 'plugs' }, spec: { properties: [
      { name: 'on', type: 'BOOLEAN', accessMode: 'ReadWrite' },
      { name: 'power', type: 'FLOAT', accessMode: 'ReadOnly', minimum: '0', maximum: '3680', unit: 'W' }
    ] }
  })
}, 120_000)

afterAll(async () => {
  if (absent !== undefined) return
  cluster[Symbol.dispose]()
  await fleet[Symbol.asyncDispose]()
})
beforeEach(({ skip }) => { skip(absent !== undefined, absent) })

const at = (name: string, rest: string): string => `$hw/events/device/default/${name}/${rest}`
const path = (name: string): string => `${group}/devices/${name}`

/** A Device of this node, when the node has it. */
async function createDevice(name: string, on?: string): Promise<void> {
  await cluster.check('POST', `${group}/devices`, {
    apiVersion, kind: 'Device', metadata: { name }, spec: {
      nodeName: 'edge-1', deviceModelRef: { name: 'plugs' }, protocol: { protocolName: 'mqtt-device' },
      properties: [{ name: 'on', ...on !== undefined && { desired: { value: on } } }]
    }
  })
  await until(`${name} is on the node`, async () => (await fetch(`${edge.endpoints.http}/v1/devices/default/${name}`)).status === 200)
}

const desire = (name: string, on: string): Promise<unknown> =>
  cluster.check('PATCH', path(name), { spec: { properties: [{ name: 'on', desired: { value: on } }] } })

interface Status { readonly status?: { readonly state?: string, readonly twins?: readonly { readonly propertyName: string, readonly reported?: { readonly value: string } }[] } }

/** What the cluster says that the device has reported. */
async function reportedInCluster(name: string): Promise<Record<string, string | undefined>> {
  const { body } = await cluster.send<Status>('GET', `${group}/devicestatuses/${name}`)
  return Object.fromEntries(body.status?.twins?.map(({ propertyName, reported }) => [propertyName, reported?.value]) ?? [])
}

/** The first message on that topic for which `holds`. */
async function heard(client: MosquittoClient, topic: string, holds: (body: Record<string, unknown>) => boolean = () => true):
  Promise<Record<string, unknown>> {
  return until(`a message on ${topic}`, () => client.messages.filter(line => line.startsWith(`${topic} `))
    .map(line => JSON.parse(line.slice(line.indexOf('{'))) as Record<string, unknown>).find(holds))
}

describe('a device that is mosquitto', () => {
  it('reports what the cluster shows, and is told what the cluster desires until it reports that', async () => {
    await createDevice('plug')
    await using device = await MosquittoClient.subscribe(edge, '-t', at('plug', '#'), '-q', '1')
    await publish(edge, at('plug', 'twin/update'), '{"event_id":"r1","twin":{"power":{"actual":{"value":"12.5"}},"on":{"actual":{"value":"false"}}}}', '-q', '1')
    expect(await heard(device, at('plug', 'twin/update/result'))).toMatchObject({ event_id: 'r1', twin: { power: { actual: { value: '12.5' } } } })
    await until('the cluster shows it', async () => (await reportedInCluster('plug'))['power'] === '12.5')
    await desire('plug', 'true')
    expect(await heard(device, at('plug', 'twin/update/delta'))).toMatchObject({
      delta: { on: 'true' }, twin: { on: { actual: { value: 'false' }, expected: { value: 'true' } } }
    })
    await publish(edge, at('plug', 'twin/update'), '{"event_id":"r2","twin":{"on":{"actual":{"value":"true"}}}}', '-q', '1')
    await until('the cluster shows it', async () => (await reportedInCluster('plug'))['on'] === 'true')
  })

  it('learns what is wrong with what it says', async () => {
    await createDevice('wrong')
    await using device = await MosquittoClient.subscribe(edge, '-t', '$hw/events/device/#')
    const say = (text: string, name = 'wrong') => publish(edge, at(name, 'twin/update'), text, '-q', '1')
    await say('{"event_id":"e1","twin":{"power":{"actual":{}}}}')
    await say('{"event_id":"e2","twin":{"power":{"actual":{"value":"9999"}}}}')
    await say('{"event_id":"e3","twin":{"volt":{"actual":{"value":"1"}}}}')
    await say('{"event_id":"e4","twin":{"power":{"actual":{"value":"1"}}}}', 'nobody')
    const answer = (eventId: string, name = 'wrong') => heard(device, at(name, 'twin/update/result'), body => body['event_id'] === eventId)
    expect(await answer('e1')).toMatchObject({ code: 400, reason: expect.stringContaining('twin.power.actual.value') as string })
    expect(await answer('e2')).toMatchObject({ code: 400, reason: expect.stringMatching(/"power".*9999.*3680/) as string })
    expect(await answer('e3')).toMatchObject({ code: 400, reason: expect.stringContaining('"volt"') as string })
    expect(await answer('e4', 'nobody')).toMatchObject({ code: 404 })
  })

  it('finds what was acknowledged after a kill of the daemon, and is told its delta when it comes back', async () => {
    await createDevice('killed', 'true')
    await using first = await MosquittoClient.subscribe(edge, '-t', at('killed', 'twin/update/delta'), '-q', '1', '-c', '-i', 'killed')
    await heard(first, at('killed', 'twin/update/delta'))
    await first.signal('SIGKILL')
    expect((await publish(edge, at('killed', 'twin/update'), '{"twin":{"power":{"actual":{"value":"7"}}}}', '-q', '1')).code).toBe(0)
    await edge.kill()
    await edge.start()
    await using again = await MosquittoClient.subscribe(edge, '-t', at('killed', '#'), '-q', '1', '-c', '-i', 'killed')
    expect(await heard(again, at('killed', 'twin/update/delta'))).toMatchObject({ delta: { on: 'true' } })
    await publish(edge, at('killed', 'twin/get'), '{"event_id":"g"}', '-q', '1')
    expect(await heard(again, at('killed', 'twin/get/result'))).toMatchObject({
      event_id: 'g', twin: { power: { actual: { value: '7' } }, on: { expected: { value: 'true' } } }
    })
  })

  it('goes on without the cloud: what is expected on the node holds, and is in the cluster when that is back', async () => {
    await createDevice('alone')
    await fleet.cloud.kill()
    await edge.kill()
    await edge.start()
    await using device = await MosquittoClient.subscribe(edge, '-t', at('alone', '#'))
    await publish(edge, at('alone', 'twin/update'), '{"event_id":"x","twin":{"on":{"expected":{"value":"true"}}}}', '-q', '1')
    expect(await heard(device, at('alone', 'twin/update/delta'))).toMatchObject({ delta: { on: 'true' } })
    await fleet.cloud.start()
    cluster[Symbol.dispose]()
    cluster = await KubeHttp.open(join(fleet.cloud.dataDir, 'kubeconfig'))
    const desired = async (): Promise<unknown> => {
      const { body } = await cluster.send<{ spec: { properties: { name: string, desired?: { value: string } }[] } }>('GET', path('alone'))
      return body.spec.properties.find(({ name }) => name === 'on')?.desired?.value
    }
    await until('the Device has it', async () => await desired() === 'true')
  })

  it('leaves its state as a will, which the cluster shows', async () => {
    await createDevice('dying')
    const dying = await MosquittoClient.connect(edge, '--will-topic', at('dying', 'state/update'), '--will-payload', '{"state":"offline"}', '--will-qos', '1')
    await publish(edge, at('dying', 'state/update'), '{"state":"online"}', '-q', '1')
    await dying.signal('SIGKILL')
    const state = async (): Promise<string | undefined> =>
      (await cluster.send<Status>('GET', `${group}/devicestatuses/dying`)).body.status?.state
    await until('the cluster shows it', async () => await state() === 'offline')
  })

  it('speaks over WebSocket as well, at the endpoint that is published', async () => {
    await createDevice('web')
    const client = await connectAsync(edge.endpoints.mqttWebSocket!, { protocolVersion: 4 })
    const answers: string[] = []
    client.on('message', (_topic, payload) => { answers.push(payload.toString()) })
    await client.subscribeAsync(at('web', 'state/update/result'))
    await client.publishAsync(at('web', 'state/update'), '{"event_id":"w","state":"ok"}', { qos: 1 })
    await until('the answer', () => answers.length === 1)
    expect(JSON.parse(answers[0]!)).toMatchObject({ event_id: 'w', device: { name: 'web', state: 'ok' } })
    await client.endAsync()
  })
})
