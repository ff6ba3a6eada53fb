import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest'
import { Authority } from '../../packages/cloudcore/src/identity/index.ts'
import { EmbeddedKubernetes } from '../../packages/cloudcore/src/kube/embedded-kubernetes.ts'
import { SystemClock, SystemRandom, silentLog } from '../../packages/runtime/src/index.ts'
import { until } from '../harness/daemons.ts'
import { Kubectl, kubectlPrograms } from './kubectl-program.ts'
import { run } from './programs.ts'

const root = join(import.meta.dirname, '../..')

/** As in KubeEdge's documentation. */
const manifest = `
apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {name: thermostat}
spec:
  protocol: modbus
  properties:
  - {name: temperature, description: of the room, type: FLOAT, accessMode: ReadOnly, unit: degree celsius}
  - {name: setpoint, type: INT, accessMode: ReadWrite, minimum: "5", maximum: "30"}
---
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {name: hall, labels: {floor: ground}}
spec:
  deviceModelRef: {name: thermostat}
  nodeName: edge-1
  protocol:
    protocolName: modbus
    configData: {communicateMode: RTU, serialPort: /dev/ttyS0, baudRate: 9600, slave: {id: 1}}
  properties:
  - name: setpoint
    desired: {value: "20"}
    collectCycle: 1000
    reportCycle: 1000
    reportToCloud: true
    visitors:
      protocolName: modbus
      configData: {register: HoldingRegister, offset: 2, limit: 1, scale: 1, isSwap: true}
    pushMethod:
      mqtt: {address: tcp://127.0.0.1:1883, topic: temperature, qos: 0, retained: false}
`

const condition = (status: string, message = ''): string => JSON.stringify({ status: { conditions: [
  { type: 'Synced', status, reason: status === 'True' ? 'Synced' : 'NodeUnreachable', message, lastTransitionTime: '2026-11-21T10:00:00Z' },
  { type: 'Reachable', status: 'True', reason: 'Online', message: '', lastTransitionTime: '2026-11-21T10:00:00Z' }
] } })

let folder: string
let embedded: EmbeddedKubernetes | undefined

beforeAll(async () => {
  if (kubectlPrograms.every(({ absent }) => absent !== undefined)) return
  folder = await mkdtemp(join(tmpdir(), 'holdfast-kubectl-devices-'))
  const [clock, random, log] = [new SystemClock(), new SystemRandom(), silentLog]
  const authority = await Authority.open({ folder: join(folder, 'identity'), serverNames: [], hostname: 'cloud' }, { clock, log })
  embedded = await EmbeddedKubernetes.open({
    dataDir: folder, host: '127.0.0.1', port: 0, freeFloorBytes: 1024 * 1024, version: '1.2.3', platform: 'linux/arm64'
  }, { authority, clock, random, log })
})

afterAll(async () => {
  await embedded?.close()
  if (folder !== undefined) await rm(folder, { recursive: true })
})

const columns = (line = ''): string[] => line.trimEnd().split(/ {2,}/)

describe.each(kubectlPrograms)('$name', ({ id, path, absent }) => {
  let kubectl: Kubectl
  const call = (args: readonly string[], input?: string): Promise<string> => kubectl.run(args, input)

  beforeEach(async ({ skip }) => {
    skip(absent !== undefined, absent)
    kubectl = new Kubectl(path, embedded!.kubeconfigPath, join(folder, `cache-${id}`))
    await call(['apply', '-f', '-'], manifest)
    onTestFinished(async () => { await call(['delete', 'device/hall', 'devicemodel/thermostat', '--ignore-not-found']) })
  })

  it('applies what was written for KubeEdge, and nothing of it is lost', async () => {
    expect(await call(['apply', '-f', '-'], manifest)).toBe(
      'devicemodel.devices.kubeedge.io/thermostat unchanged\ndevice.devices.kubeedge.io/hall unchanged\n')
    const { spec } = JSON.parse(await call(['get', 'device', 'hall', '-o', 'json'])) as { readonly spec: object }
    expect(spec).toEqual({
      deviceModelRef: { name: 'thermostat' }, nodeName: 'edge-1',
      protocol: { protocolName: 'modbus', configData: { communicateMode: 'RTU', serialPort: '/dev/ttyS0', baudRate: 9600, slave: { id: 1 } } },
      properties: [{
        name: 'setpoint', desired: { value: '20' }, collectCycle: 1000, reportCycle: 1000, reportToCloud: true,
        visitors: { protocolName: 'modbus', configData: { register: 'HoldingRegister', offset: 2, limit: 1, scale: 1, isSwap: true } },
        pushMethod: { mqtt: { address: 'tcp://127.0.0.1:1883', topic: 'temperature', qos: 0, retained: false } }
      }]
    })
    expect(await call(['api-resources', '--api-group=devices.kubeedge.io', '-o', 'wide'])).toMatch(
      /devicemodels +devmodel +devices\.kubeedge\.io[^]*devices +dev +devices\.kubeedge\.io[^]*devicestatuses +devstatus +devices\.kubeedge\.io/)
  })

  it('shows where devices are and how they are, under their short names too', async () => {
    await call(['patch', 'device', 'hall', '--type=merge', '-p', condition('False', 'edge-1 has not been heard of since 10:00:00')])
    const [head, row] = (await call(['get', 'dev'])).split('\n')
    expect(columns(head)).toEqual(['NAME', 'NODE', 'MODEL', 'SYNCED', 'SERVED', 'REACHABLE', 'INDESIREDSTATE', 'AGE'])
    expect(columns(row)).toEqual(['hall', 'edge-1', 'thermostat', 'False', 'True', expect.stringMatching(/^\d+m?s$/)])
    const wide = (await call(['get', 'devices', '-o', 'wide'])).split('\n')
    expect(columns(wide[0])).toEqual([...columns(head).slice(0, -1), 'PROTOCOL', 'WHY', 'AGE'])
    expect(wide[1]).toContain('edge-1 has not been heard of since 10:00:00')
    expect(columns((await call(['get', 'devmodel'])).split('\n')[1])).toEqual(['thermostat', 'modbus', expect.any(String)])
    expect(await call(['get', 'holdfast', '-o', 'name'])).toBe('devicemodel.devices.kubeedge.io/thermostat\ndevice.devices.kubeedge.io/hall\n')
    expect(await call(['get', 'devices', '-l', 'floor=ground', '-o', 'jsonpath={.items[*].spec.properties[0].desired.value}'])).toBe('20')
    expect(await call(['describe', 'device', 'hall'])).toMatch(/Conditions:[^]*Message: +edge-1 has not been heard of since 10:00:00/)
  })

  it('explains the fields', async () => {
    if (id === 'debian') {
      // It reads OpenAPI v2, which is served without definitions.
      expect(await kubectl.refused(['explain', 'device.spec'])).toContain('couldn\'t find resource')
      return
    }
    const explained = async (field: string): Promise<string> => (await call(['explain', field])).replaceAll(/\s+/g, ' ')
    expect(await explained('device.spec.properties.desired')).toContain('Holdfast tells the device until it reports this value')
    expect(await explained('devicemodel.spec.properties')).toMatch(/accessMode.*minimum.*unit/)
    expect(await explained('device.status.conditions')).toContain('`kubectl wait --for=condition=Synced device/NAME`')
  })

  it('waits for conditions', async () => {
    await call(['patch', 'device', 'hall', '--type=merge', '-p', condition('False')])
    const waiting = call(['wait', '--for=condition=Synced', 'device/hall', '--timeout=20s'])
    await call(['patch', 'device', 'hall', '--type=merge', '-p', condition('True')])
    expect(await waiting).toBe('device.devices.kubeedge.io/hall condition met\n')
  })

  it('changes a desired value by patch and by editor, and says which patches there are', async () => {
    const desired = async (): Promise<string> => await call(['get', 'device', 'hall', '-o', 'jsonpath={.spec.properties[0].desired.value}'])
    expect(await call(['patch', 'device', 'hall', '--type=json', '-p', '[{"op":"replace","path":"/spec/properties/0/desired/value","value":"21"}]']))
      .toBe('device.devices.kubeedge.io/hall patched\n')
    expect(await desired()).toBe('21')
    await call(['patch', 'device', 'hall', '--type=merge', '-p', '{"spec":{"properties":[{"name":"setpoint","desired":{"value":"22"}}]}}'])
    expect(await desired()).toBe('22')
    const { code, stderr } = await run(path, ['--kubeconfig', embedded!.kubeconfigPath, 'edit', 'device', 'hall'], {
      environment: { ...process.env, KUBE_EDITOR: 'sed -i s/\\"22\\"/\\"23\\"/' }
    })
    expect([code, stderr]).toEqual([0, ''])
    expect(await desired()).toBe('23')
    expect(await kubectl.refused(['patch', 'device', 'hall', '-p', '{"spec":{"nodeName":"edge-2"}}'])).toMatch(/application\/merge-patch\+json|UnsupportedMediaType/)
    expect(await kubectl.refused(['apply', '--server-side', '-f', join(root, 'deploy/crds/devices.yaml')])).toContain('server-side apply is not served here')
    expect(await kubectl.refused(['label', 'device', 'hall', 'bad label=x'])).toMatch(/invalid label|Invalid value/)
  })

  it('is told what is wrong', async () => {
    const patch = (kind: string, name: string, spec: object): Promise<string> =>
      kubectl.refused(['patch', kind, name, '--type=merge', '-p', JSON.stringify({ spec })])
    expect(await patch('devicemodel', 'thermostat', { properties: [{ name: 't', type: 'int' }] })).toMatch(
      /The DeviceModel "thermostat" is invalid: spec\.properties\[0\]\.type: Unsupported value: "int": supported values: "INT", "FLOAT"/)
    expect(await patch('devicemodel', 'thermostat', { properties: [{ name: 't', accessMode: 'RW' }] })).toMatch(/supported values: "ReadWrite", "ReadOnly"/)
    expect(await patch('device', 'hall', { properties: [{ name: 'setpoint', desired: { value: 21 } }] })).toMatch(
      /The Device "hall" is invalid: spec\.properties\[0\]\.desired\.value: Invalid value: "integer": .*must be of type string/)
  })

  it('has the status of a device gone with it', async () => {
    const uid = await call(['get', 'device', 'hall', '-o', 'jsonpath={.metadata.uid}'])
    await call(['create', '-f', '-'], JSON.stringify({
      apiVersion: 'devices.kubeedge.io/v1beta1', kind: 'DeviceStatus',
      metadata: { name: 'hall', ownerReferences: [{ apiVersion: 'devices.kubeedge.io/v1beta1', kind: 'Device', name: 'hall', uid, controller: true }] },
      status: { state: 'online', lastOnlineTime: new Date().toISOString(), extensions: { battery: { percent: 80 } }, twins: [{
        propertyName: 'temperature', reported: { value: '19.5', metadata: { timestamp: '1700000000000', type: 'float' } }
      }] }
    }))
    const [head, row] = (await call(['get', 'devstatus'])).split('\n')
    expect(columns(head)).toEqual(['NAME', 'STATE', 'LASTONLINE', 'AGE'])
    expect(columns(row)).toEqual(['hall', 'online', expect.stringMatching(/^\d+m?s$/), expect.stringMatching(/^\d+m?s$/)])
    expect(await call(['get', 'devicestatus', 'hall', '-o', 'jsonpath={.status.extensions.battery.percent}'])).toBe('80')
    await call(['delete', 'device', 'hall'])
    await until('its status is gone', async () => await call(['get', 'devicestatuses', '-o', 'name']) === '')
  })

  it('takes KubeEdge\'s definitions in place of ours and ours in place of KubeEdge\'s, with the devices that are there', async () => {
    const [shown] = (await call(['get', 'devices'])).split('\n')
    const definitions = ['devices', 'devicemodels', 'devicestatuses'].map(plural => `crd/${plural}.devices.kubeedge.io`)
    expect(await call(['apply', '-f', join(root, 'test/fixtures/kubeedge')])).toMatch(/devices\.devices\.kubeedge\.io configured/)
    expect(columns((await call(['get', 'devices'])).split('\n')[0])).toEqual(['NAME', 'AGE'])
    const before = await call(['get', 'device', 'hall', '-o', 'json'])
    expect(await call(['apply', '-k', join(root, 'deploy/crds')])).toMatch(/devices\.devices\.kubeedge\.io configured/)
    await call(['wait', '--for=condition=Established', ...definitions, '--timeout=20s'])
    expect(await call(['get', 'device', 'hall', '-o', 'json'])).toBe(before)
    expect(columns((await call(['get', 'devices'])).split('\n')[0])).toEqual(columns(shown))
  })
})
