import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { SystemClock } from '@holdfast/runtime'
import { describe, expect, it, onTestFinished } from 'vitest'
import { ClusterDevices } from './cluster-devices.ts'
import { KubeClient } from './kube-client.ts'
import type { TwinView } from './twin-view.ts'

type Answer = readonly [status: number, body: unknown] | ((response: ServerResponse) => void)
interface Sent { readonly line: string, readonly body: unknown, readonly authorization: string | undefined }

const api = '/apis/devices.kubeedge.io/v1beta1'
const status = (code: number, message: string, name?: string): Answer =>
  [code, { kind: 'Status', code, message, ...name !== undefined && { details: { name, kind: 'devices' } } }]
const version = '1800000000000.0.cloud/0000000c'

/** A Device as cloudcore leaves it behind; `hash` is of the text 7. */
const device = (properties: readonly object[], { generation = 2, synced = ['True', 'DesiredObserved', ''], seen = generation }: {
  readonly generation?: number, readonly synced?: readonly string[], readonly seen?: number
} = {}): object => ({
  metadata: {
    namespace: 'default', name: 'plug', resourceVersion: '41', generation,
    annotations: { 'holdfast.dev/desired': JSON.stringify({ level: { version, hash: '7902699be42c8a8e' } }) }
  },
  spec: { nodeName: 'edge-1', deviceModelRef: { name: 'plugs' }, properties },
  status: { conditions: [{ type: 'Synced', status: synced[0], reason: synced[1], message: synced[2], observedGeneration: seen }] }
})
const level = (value: string): object => ({ name: 'level', desired: { value } })
const model: Answer = [200, { spec: { properties: [
  { name: 'level', type: 'INT', accessMode: 'ReadWrite' }, { name: 'mode', type: 'STRING' }, { name: 'any' }, { name: 'energy', accessMode: 'ReadOnly' }
] } }]

/** An API that gives each answer once, the last of a line for ever. */
async function serving(script: Readonly<Record<string, readonly Answer[]>>): Promise<{ readonly devices: ClusterDevices, readonly sent: Sent[] }> {
  const left = new Map(Object.entries(script).map(([line, answers]) => [line, [...answers]]))
  const sent: Sent[] = []
  const server = createServer((request, response) => {
    let text = ''
    request.setEncoding('utf8').on('data', (part: string) => { text += part }).on('end', () => {
      const line = `${request.method} ${request.url!.replace(api, '')}`
      sent.push({ line, body: text === '' ? undefined : JSON.parse(text), authorization: request.headers.authorization })
      const answers = left.get(line) ?? left.get(line.replace(/\?.*$/, '')) ?? [status(404, 'the server could not find the requested resource')]
      const answer = answers.length > 1 ? answers.shift()! : answers[0]!
      if (typeof answer === 'function') answer(response)
      else response.writeHead(answer[0]).end(JSON.stringify(answer[1]))
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(async () => {
    server.closeAllConnections()
    server.close()
    await once(server, 'close')
  })
  const access = { source: '/k', server: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, token: 'secret', tls: {} }
  return { devices: new ClusterDevices(new KubeClient(access), new SystemClock()), sent }
}

const { signal } = new AbortController()
const [plug, plugStatus, plugs] = ['/namespaces/default/devices/plug', '/namespaces/default/devicestatuses/plug', '/namespaces/default/devicemodels/plugs']
const noStatus = { [`GET ${plugStatus}`]: [status(404, 'devicestatuses "plug" not found', 'plug')] }
const patches = (sent: readonly Sent[]): unknown[] => sent.filter(({ line }) => line.startsWith('PATCH')).map(({ body }) => body)

describe('a desired value', () => {
  it('is written with the resourceVersion that was read, and again where somebody was faster', async () => {
    const { devices, sent } = await serving({
      ...noStatus, [`GET ${plugs}`]: [model], [`GET ${plug}`]: [[200, device([level('1')])], [200, device([level('2')])], [200, device([level('7')])]],
      [`PATCH ${plug}`]: [status(409, 'the object has been modified'), [200, device([level('7')])]]
    })
    const view = await devices.set('default/plug', [{ property: 'level', text: '7' }], undefined, signal)
    expect(view.properties['level']).toMatchObject({ desired: { value: '7', version } })
    expect(patches(sent)).toEqual(Array(2).fill({ metadata: { resourceVersion: '41' }, spec: { properties: [level('7')] } }))
    expect(sent.every(({ authorization }) => authorization === 'Bearer secret')).toBe(true)
  })

  it('is given up where others are always faster', async () => {
    const { devices, sent } = await serving({
      ...noStatus, [`GET ${plugs}`]: [model], [`GET ${plug}`]: [[200, device([])]], [`PATCH ${plug}`]: [status(409, 'modified')]
    })
    await expect(devices.set('default/plug', [{ property: 'level', text: '7' }], undefined, signal)).rejects.toMatchObject({ code: 'DESIRED_CONFLICT' })
    expect(patches(sent)).toHaveLength(5)
  })

  it.each<[string, object]>([
    ['level=7', level('7')], ['level="7"', level('7')], ['mode=7', { name: 'mode', desired: { value: '7' } }],
    ['mode="x"', { name: 'mode', desired: { value: '"x"' } }], ['mode=', { name: 'mode', desired: { value: '' } }],
    ['any=1.50', { name: 'any', desired: { value: '1.50', metadata: { type: 'float' } } }],
    ['any=7', { name: 'any', desired: { value: '7', metadata: { type: 'int' } } }],
    ['any=true', { name: 'any', desired: { value: 'true', metadata: { type: 'boolean' } } }],
    ['any={"a": [1]}', { name: 'any', desired: { value: '{"a":[1]}', metadata: { type: 'json' } } }],
    ['any=warm white', { name: 'any', desired: { value: 'warm white' } }]
  ])('%s is written as text that reads back as the same', async (typed, property) => {
    const { devices, sent } = await serving({
      ...noStatus, [`GET ${plugs}`]: [model], [`GET ${plug}`]: [[200, device([])]], [`PATCH ${plug}`]: [[200, device([])]]
    })
    const at = typed.indexOf('=')
    await devices.set('default/plug', [{ property: typed.slice(0, at), text: typed.slice(at + 1) }], undefined, signal)
    expect(patches(sent)).toMatchObject([{ spec: { properties: [property] } }])
  })

  it('that the model does not have is not written', async () => {
    const { devices, sent } = await serving({ ...noStatus, [`GET ${plugs}`]: [model], [`GET ${plug}`]: [[200, device([])]] })
    await expect(devices.set('default/plug', [{ property: 'colour', text: 'red' }], undefined, signal)).rejects.toMatchObject({
      code: 'DESIRED_NOT_ALLOWED', message: 'the model of default/plug has no property "colour": it has level, mode, any, energy'
    })
    await expect(devices.set('default/plug', [{ property: 'energy', text: '1' }], undefined, signal)).rejects.toMatchObject({
      code: 'DESIRED_NOT_ALLOWED', message: expect.stringContaining('ReadOnly') as string
    })
    await expect(devices.set('default/plug', [{ property: 'level', text: '' }], undefined, signal)).rejects.toMatchObject({
      code: 'DESIRED_NOT_ALLOWED', message: 'property "level" of default/plug is INT, and empty text is none: "level-" desires nothing of it'
    })
    expect(patches(sent)).toEqual([])
  })

  it('that cloudcore does not take is told, once it has looked at it', async () => {
    const refused = { generation: 3, synced: ['False', 'InvalidDesired', 'Property "level": too much.'] }
    const { devices } = await serving({
      ...noStatus, [`GET ${plugs}`]: [model], [`PATCH ${plug}`]: [[200, device([level('99')], { generation: 3, seen: 2 })]],
      [`GET ${plug}`]: [[200, device([])], [200, device([level('99')], { generation: 3, seen: 2 })], [200, device([level('99')], refused)]]
    })
    await expect(devices.set('default/plug', [{ property: 'level', text: '99' }], undefined, signal)).rejects.toMatchObject({
      code: 'DESIRED_NOT_ALLOWED', message: expect.stringMatching(/^Property "level": too much\. It stays in the Device/) as string
    })
  })

  it('is written only at the version that was seen', async () => {
    const { devices, sent } = await serving({
      ...noStatus, [`GET ${plugs}`]: [model], [`GET ${plug}`]: [[200, device([level('7'), { name: 'mode', desired: { value: 'x' } }])]],
      [`PATCH ${plug}`]: [[200, device([level('7')])]]
    })
    const set = (property: string, ifVersion: string): Promise<TwinView> => devices.set('default/plug', [{ property, text: '7' }], ifVersion, signal)
    await expect(set('level', 'none')).rejects.toMatchObject({ code: 'DESIRED_CONFLICT', message: expect.stringContaining(`at ${version}`) as string })
    await expect(set('any', version)).rejects.toMatchObject({ code: 'DESIRED_CONFLICT', message: expect.stringContaining('at none') as string })
    await expect(set('mode', version)).rejects.toMatchObject({ code: 'DESIRED_CONFLICT', message: expect.stringContaining('not given a version yet') as string })
    expect(patches(sent)).toEqual([])
    await set('level', version)
    await set('any', 'none')
    expect(patches(sent)).toHaveLength(2)
  })
})

describe('what the API answers', () => {
  it.each<[string, Readonly<Record<string, readonly Answer[]>>, string, RegExp]>([
    ['no such Device', { ...noStatus, [`GET ${plug}`]: [status(404, 'devices "plug" not found', 'plug')] }, 'DEVICE_NOT_FOUND', /no Device default\/plug/],
    ['no such kind', {}, 'CLUSTER_ANSWER_INVALID', /it serves no .*devices.*deploy\/crds/],
    ['no credentials', { ...noStatus, [`GET ${plug}`]: [status(401, 'Unauthorized')] }, 'CLUSTER_REFUSED', /Unauthorized: the credentials in \/k are not accepted/],
    ['no rights', { ...noStatus, [`GET ${plug}`]: [status(403, 'devices is forbidden')] }, 'CLUSTER_REFUSED', /refused: devices is forbidden$/],
    ['no JSON', { ...noStatus, [`GET ${plug}`]: [response => response.end('<h1>')] }, 'CLUSTER_ANSWER_INVALID', /not JSON/],
    ['half an answer', { ...noStatus, [`GET ${plug}`]: [response => {
      response.writeHead(200, { 'content-length': 100 }).write('{')
      response.socket!.destroySoon()
    }] }, 'CLUSTER_CONNECTION_LOST', /broke off/]
  ])('%s is said', async (_, script, code, message) => {
    const { devices } = await serving(script)
    await expect(devices.get('default/plug', signal)).rejects.toMatchObject({ code, message: expect.stringMatching(message) as string })
  })

  it('nothing at all is said, with the way out', async () => {
    const devices = new ClusterDevices(new KubeClient({ source: '/k', server: 'http://127.0.0.1:1', token: undefined, tls: {} }), new SystemClock())
    await expect(devices.list({}, signal)).rejects.toMatchObject({
      code: 'CLUSTER_UNREACHABLE', message: expect.stringMatching(/^nothing listens at http.*\/k.*--kubeconfig.*--edge/) as string
    })
  })

  it('a list comes page by page', async () => {
    const named = (name: string, nodeName: string): object => ({ metadata: { namespace: 'default', name }, spec: { nodeName } })
    const { devices } = await serving({
      'GET /devices?limit=500': [[200, { metadata: { continue: 'c', resourceVersion: '1' }, items: [named('a', 'edge-1'), named('b', 'edge-2')] }]],
      'GET /devices?limit=500&continue=c': [[200, { metadata: {}, items: [named('c', 'edge-1')] }]],
      'GET /devicestatuses?limit=500': [[200, { metadata: {}, items: [{ ...named('c', ''), status: { state: 'ok' } }] }]]
    })
    expect(await devices.list({ node: 'edge-1' }, signal)).toMatchObject([{ device: 'default/a', state: null }, { device: 'default/c', state: 'ok' }])
  })
})

describe('a watch', () => {
  const listOf = (...items: readonly object[]): Answer => [200, { metadata: { resourceVersion: '5' }, items }]
  const events = (...lines: readonly object[]): Answer => response => {
    response.writeHead(200).write(lines.map(line => `${JSON.stringify(line)}\n`).join(''))
  }
  const [one, statuses] = ['/namespaces/default/devices', '/namespaces/default/devicestatuses']
  const query = 'fieldSelector=metadata.name%3Dplug'

  it('gives the twin, and again what came, until the Device goes', async () => {
    const { devices } = await serving({
      [`GET ${one}?${query}&limit=500`]: [listOf(device([level('7')]))], [`GET ${statuses}?${query}&limit=500`]: [listOf()],
      [`GET ${one}?${query}&watch=true&resourceVersion=5`]: [
        events({ type: 'BOOKMARK', object: {} }, { type: 'MODIFIED', object: device([level('8')]) }),
      ],
      [`GET ${statuses}?${query}&watch=true&resourceVersion=5`]: [events({ type: 'ADDED', object: { status: { state: 'ok' } } })]
    })
    const seen: (readonly [unknown, string | null])[] = []
    for await (const view of devices.watch('default/plug', signal)) {
      seen.push([view.properties['level']!.desired!.value, view.state])
      if (seen.at(-1)!.join() === '8,ok') break
    }
    expect(seen[0]).toEqual(['7', null])
  })

  it('ends with the Device, and lists anew where the API has ended it', async () => {
    const { devices, sent } = await serving({
      [`GET ${one}?${query}&limit=500`]: [listOf(device([level('7')])), listOf(device([level('8')]))], [`GET ${statuses}?${query}&limit=500`]: [listOf()],
      [`GET ${one}?${query}&watch=true&resourceVersion=5`]: [
        events({ type: 'ERROR', object: { code: 410 } }), events({ type: 'DELETED', object: device([]) })
      ],
      [`GET ${statuses}?${query}&watch=true&resourceVersion=5`]: [events()]
    })
    const values: unknown[] = []
    for await (const view of devices.watch('default/plug', signal)) values.push(view.properties['level']!.desired!.value)
    expect(values).toEqual(['7', '8'])
    expect(sent.filter(({ line }) => line.includes('watch')).length).toBe(4)
  })
})
