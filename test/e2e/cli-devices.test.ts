import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { until } from '../harness/daemons.ts'
import { Holdfast } from '../harness/holdfast-process.ts'
import { KubeHttp } from '../harness/kube-http.ts'

const group = '/apis/devices.kubeedge.io/v1beta1/namespaces/default'
const apiVersion = 'devices.kubeedge.io/v1beta1'

interface Said { readonly code: number | null, readonly output: string, readonly errors: string }
interface Property { readonly desired?: { readonly value: unknown, readonly version: string | null, readonly writer: string | null }, readonly reported?: { readonly value: unknown }, readonly sync: string }
interface View { readonly inDesiredState: boolean | null, readonly state: string | null, readonly properties: Readonly<Record<string, Property>> }

let folder: string
let up: Holdfast
let cluster: KubeHttp
/** Options that lead to each place. */
let places: { readonly cloud: string, readonly edge: string }
let http: string

async function holdfast(...args: string[]): Promise<Said> {
  await using command = new Holdfast(...args)
  const code = await command.ended()
  return { code, output: command.output, errors: command.errors }
}

async function twin(device: string, place: string): Promise<View> {
  const { code, output, errors } = await holdfast('twin', 'get', device, place, '-o', 'json')
  expect([code, errors]).toEqual([0, ''])
  return JSON.parse(output) as View
}

/** As the node's API has it: what is waited for needs no process of its own each time. */
async function onNode(name: string): Promise<View> {
  return await (await fetch(`${http}/v1/devices/default/${name}/twin`)).json() as View
}

interface CloudDevice {
  readonly spec: { readonly properties?: readonly { readonly name: string, readonly desired?: { readonly value: string } }[] }
  readonly status?: { readonly conditions?: readonly { readonly type: string, readonly status: string }[] }
}

const inCloud = (name: string): Promise<CloudDevice> => cluster.check<CloudDevice>('GET', `${group}/devices/${name}`)

async function createDevice(name: string, spec: object): Promise<void> {
  await cluster.check('POST', `${group}/devices`, {
    apiVersion, kind: 'Device', metadata: { name }, spec: { nodeName: 'edge-1', deviceModelRef: { name: 'thermostats' }, protocol: { protocolName: 'x' }, ...spec }
  })
  await until(`${name} is on the node`, async () => (await fetch(`${http}/v1/devices/default/${name}`)).status === 200)
}

async function report(name: string, values: object): Promise<void> {
  const answer = await fetch(`${http}/v1/devices/default/${name}/twin`, {
    method: 'PATCH', headers: { 'content-type': 'application/merge-patch+json' }, body: JSON.stringify(values)
  })
  expect(answer.status).toBe(200)
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'holdfast-cli-devices-'))
  up = new Holdfast('up', '--free-ports', '--data-dir', folder)
  http = new URL(await up.shows(/curl -d '[^']+' (\S+)/)).origin
  const kubeconfig = join(folder, 'cloud', 'kubeconfig')
  places = { cloud: `--kubeconfig=${kubeconfig}`, edge: `--edge=${http}` }
  cluster = await KubeHttp.open(kubeconfig)
  await cluster.check('POST', `${group}/devicemodels`, {
    apiVersion, kind: 'DeviceModel', metadata: { name: 'thermostats' }, spec: { properties: [
      { name: 'target', type: 'FLOAT', accessMode: 'ReadWrite', minimum: '5', maximum: '30', unit: 'C' },
      { name: 'temperature', type: 'FLOAT', accessMode: 'ReadOnly' }, { name: 'mode', type: 'STRING', accessMode: 'ReadWrite' }
    ] }
  })
}, 120_000)

afterAll(async () => {
  cluster[Symbol.dispose]()
  await up[Symbol.asyncDispose]()
  await rm(folder, { recursive: true, force: true })
})

describe('devices', () => {
  it('are listed and shown alike in the cloud and on the node', async () => {
    await createDevice('alike', { properties: [{ name: 'target', desired: { value: '21' } }] })
    await report('alike', { target: 21, temperature: 20.5 })
    await until('both sides say that it is as desired', async () => {
      const { conditions: said = [] } = (await inCloud('alike')).status ?? {}
      return (await onNode('alike')).inDesiredState && ['Synced', 'InDesiredState'].every(wanted => said.some(({ type, status }) => type === wanted && status === 'True'))
    })
    for (const place of Object.values(places)) {
      expect((await twin('alike', place)).properties).toMatchObject({
        target: { desired: { writer: 'cloud' }, sync: 'yes' }, temperature: { reported: { writer: 'edge-1' }, sync: '' }
      })
      const table = await holdfast('get', 'devices', place)
      expect(table.output).toMatch(/^DEVICE .*IN DESIRED STATE +AGE\n(?:.*\n)*default\/alike .* yes .*\n/)
      const shown = await holdfast('twin', 'get', 'alike', place)
      expect(shown.output).toMatch(/\ntarget +desired +21 +cloud .* yes\n +reported +21 +edge-1 /)
    }
    const rows = JSON.parse((await holdfast('get', 'devices', places.cloud, '--node', 'edge-1', '-o', 'json')).output) as { readonly device: string }[]
    expect(rows).toContainEqual(expect.objectContaining({ device: 'default/alike', node: 'edge-1', model: 'thermostats', synced: 'yes', inDesiredState: 'yes' }))
  })

  it('are set in both places, and each sees what the other has set', async () => {
    await createDevice('both', {})
    const first = await holdfast('twin', 'set', 'both', 'target=19', 'mode=7', places.cloud)
    expect([first.code, first.errors]).toEqual([0, ''])
    await until('the node has it', async () => (await onNode('both')).properties['target']?.desired?.value === 19)
    const { properties } = await twin('default/both', places.edge)
    expect(properties).toMatchObject({ mode: { desired: { value: '7', writer: 'cloud' } } })
    const { version } = properties['target']!.desired!
    expect((await holdfast('twin', 'set', 'both', 'target=22.5', '--if-version', version!, places.edge)).code).toBe(0)
    await until('the cloud has it', async () =>
      (await inCloud('both')).spec.properties?.some(({ name, desired }) => name === 'target' && desired?.value === '22.5'))
    expect((await twin('both', places.cloud)).properties['target']!.desired).toMatchObject({ writer: 'edge-1' })
    for (const [place, code] of [[places.cloud, 'DESIRED_CONFLICT'], [places.edge, 'TWIN_CONFLICT']] as const) {
      const late: Said = await holdfast('twin', 'set', 'both', 'target=25', '--if-version', version!, place)
      expect([late.code, late.errors]).toEqual([1, expect.stringMatching(new RegExp(`${version!.replaceAll('.', '\\.')}.*\\[${code}\\]\\n$`))])
    }
    expect((await holdfast('twin', 'set', 'both', 'mode-', places.cloud)).code).toBe(0)
    await until('nothing is desired of it any more', async () => (await onNode('both')).properties['mode'] === undefined)
  })

  it('are refused in one sentence with a code', async () => {
    await createDevice('refused', {})
    const cases = [
      ['refused colour=red', /no property "colour": it has target, temperature, mode \[DESIRED_NOT_ALLOWED\]/, /"colour": .* \[TWIN_PROPERTY\]/],
      ['refused temperature=1', /ReadOnly.*\[DESIRED_NOT_ALLOWED\]/, /ReadOnly.*\[TWIN_READ_ONLY\]/],
      ['refused target=99', /maximum 30;.* It stays in the Device.*\[DESIRED_NOT_ALLOWED\]/, /maximum 30;.*\[TWIN_RANGE\]/],
      ['absent target=1', /no Device default\/absent.*\[DEVICE_NOT_FOUND\]/, /no device default\/absent is on this node.*\[TWIN_DEVICE_UNKNOWN\]/]
    ] as const
    for (const [line, cloud, edge] of cases) {
      const said = await Promise.all([places.cloud, places.edge].map(place => holdfast('twin', 'set', ...line.split(' '), place)))
      expect(said).toMatchObject([cloud, edge].map(errors => ({ code: 1, output: '', errors: expect.stringMatching(errors) as string })))
    }
    for (const line of ['twin set refused target', 'twin set Refused target=1', 'twin set refused target=1 target=2']) {
      expect(await holdfast(...line.split(' '), places.edge)).toMatchObject({ code: 2, output: '' })
    }
  })

  it('are shown with what keeps the node from serving them, in both places', async () => {
    await createDevice('troubled', { protocol: { protocolName: 'mqtt' }, properties: [
      { name: 'temperature', visitors: { protocolName: 'mqtt', configData: { topic: 'room/temperature', pointer: 'celsius' } } }
    ] })
    await createDevice('unserved', { protocol: { protocolName: 'modbus' } })
    const cases = [['troubled', 'temperature: visitors.configData.pointer: expected a JSON pointer'], ['unserved', 'no mapper for protocol "modbus" has registered on the node']] as const
    for (const [name, trouble] of cases) {
      expect((await holdfast('twin', 'get', name, places.edge)).output).toMatch(new RegExp(`\ntrouble +${trouble}`))
      await until(`the cloud has heard of ${name}`, async () =>
        (await inCloud(name)).status?.conditions?.some(({ type, status }) => type === 'Served' && status === 'False'))
      expect((await holdfast('twin', 'get', name, places.cloud)).output).toMatch(new RegExp(`\nServed +no, Trouble: The node says: ${trouble}`))
    }
    await cluster.check('PATCH', `${group}/devices/troubled`, { spec: { properties: [
      { name: 'temperature', visitors: { protocolName: 'mqtt', configData: { topic: 'room/temperature', pointer: '/celsius' } } }
    ] } })
    await until('the cloud has heard that nothing is wrong any more', async () =>
      (await inCloud('troubled')).status?.conditions?.some(({ type, status }) => type === 'Served' && status === 'True'))
    expect((await holdfast('twin', 'get', 'troubled', places.edge)).output).not.toMatch(/trouble /)
  })

  it('are watched in both places until Ctrl-C, or until they go', async () => {
    await createDevice('watched', {})
    await using cloud = new Holdfast('twin', 'watch', 'watched', places.cloud)
    await using edge = new Holdfast('twin', 'watch', 'watched', places.edge)
    await using lines = new Holdfast('twin', 'watch', 'watched', places.edge, '-o', 'json')
    await Promise.all([cloud.shows(/no properties yet/), edge.shows(/no properties yet/), lines.shows(/\n/)])
    await report('watched', { temperature: 20 })
    await Promise.all([cloud, edge].map(watch => watch.shows(/\ntemperature {2}reported {2}20 {2}by edge-1\n/)))
    await holdfast('twin', 'set', 'watched', 'target=20', places.edge)
    await Promise.all([cloud, edge].map(watch => watch.shows(/\ntarget {2}desired {2}20 {2}by edge-1\n/)))
    expect(await cloud.ended('SIGINT')).toBe(0)
    await cluster.check('DELETE', `${group}/devices/watched`)
    expect([await edge.ended(), edge.errors]).toEqual([0, 'default/watched was deleted\n'])
    await lines.ended()
    const views = lines.output.trim().split('\n').map(line => JSON.parse(line) as View)
    expect(views.at(-1)!.properties).toMatchObject({ temperature: { reported: { value: 20 } }, target: { desired: { value: 20 } } })
  })
})
