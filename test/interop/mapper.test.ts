import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Fleet, until } from '../harness/daemons.ts'
import type { Daemon } from '../harness/daemons.ts'
import { DevicesApi, conditionOf, observedOf, reportedOf } from '../harness/device-api.ts'
import { MapperProcess } from './mapper-process.ts'

let fleet: Fleet
let edge: Daemon
let api: DevicesApi
let mapper: MapperProcess

const pumps = ['pump-1', 'pump-2', 'pump-3']

function mapperOf(protocol: string): MapperProcess {
  return new MapperProcess({ manager: edge.endpoints.dmi!.slice('unix:'.length), address: join(fleet.folder, `${protocol}.sock`), protocol })
}

async function createPump(name: string, protocolName = 'modbus', more: object = {}): Promise<void> {
  await api.createDevice(name, 'edge-1', 'pump', {
    protocol: { protocolName, configData: { slave: 3, ratio: 0.5, on: true, port: '/dev/ttyS0', tcp: { ip: '::1' } } },
    properties: [
      { name: 'speed', collectCycle: 500, visitors: { protocolName, configData: { register: 'HoldingRegister', offset: 7 } } },
      { name: 'label' }
    ],
    ...more
  })
}

beforeAll(async () => {
  fleet = await Fleet.start()
  edge = await fleet.join('edge-1', { set: ['dmi.callTimeout=1s'] })
  await edge.start()
  api = await DevicesApi.of(fleet.cloud)
  await api.createModel('pump', [
    { name: 'speed', type: 'INT', minimum: '0', maximum: '3000', unit: 'rpm' }, { name: 'label', type: 'STRING' },
    { name: 'hours', type: 'INT', accessMode: 'ReadOnly' }
  ])
  for (const name of pumps) await createPump(name)
  mapper = mapperOf('modbus')
  await mapper.start()
  await until('the devices are there', () => pumps.every(name => mapper.desired(name) !== undefined))
})

afterAll(async () => {
  await mapper[Symbol.asyncDispose]()
  api[Symbol.dispose]()
  await fleet[Symbol.asyncDispose]()
})

/** So often edgecore has reached the mapper. */
const connections = (): number => edge.log.split('"connected to a mapper"').length - 1

/** The mapper has these devices with this speed. */
async function speedsAre(speed: string, names: readonly string[], of = mapper): Promise<void> {
  await until(`${names.join(', ')} get ${speed}`, () => names.every(name => of.desired(name)?.['speed'] === speed), 30_000)
}

test('what a Device says is what the mapper reads', () => {
  expect(mapper.view.models['default/pump']).toEqual({ speed: 'INT', label: 'STRING', hours: 'INT' })
  expect(mapper.view.devices['default/pump-1']).toEqual({
    model: 'pump',
    settings: { slave: 3, ratio: 0.5, on: true, port: '/dev/ttyS0', tcp: '{"ip":"::1"}' },
    desired: { speed: '', label: '' }, types: {},
    visitors: { speed: { register: 'HoldingRegister', offset: 7 }, label: {} }
  })
})

test('a value set in the cluster reaches the device, and comes back as reported', async () => {
  await api.desire('pump-1', { speed: '1500', label: 'Hauptpumpe "A" +5 °C' })
  await speedsAre('1500', ['pump-1'])
  expect(mapper.desired('pump-1')).toEqual({ speed: '1500', label: 'Hauptpumpe "A" +5 °C' })
  expect(mapper.view.devices['default/pump-1']?.types).toEqual({ speed: 'INT', label: 'STRING' })
  await until('the cluster has it', async () => reportedOf(await api.status('pump-1'))['speed'] === '1500', 30_000)
  const status = await api.status('pump-1')
  expect(reportedOf(status)['label']).toBe('Hauptpumpe "A" +5 °C')
  expect(observedOf(status)['speed']).toBe('1500')
  await until('it is in its desired state', async () => conditionOf(await api.device('pump-1'), 'InDesiredState') === 'True', 30_000)
})

test('reports keep their time, and refusals say what is wrong', async () => {
  const timestamp = String(Date.now() - 60_000)
  expect(await mapper.report('pump-2', { hours: '17' }, { timestamp, type: 'int' })).toMatchObject({ code: 'OK' })
  await until('the cluster has it', async () => reportedOf(await api.status('pump-2'))['hours'] === '17', 30_000)
  const twin = (await api.status('pump-2'))?.status?.twins?.find(({ propertyName }) => propertyName === 'hours')
  expect(twin?.reported?.metadata?.['timestamp']).toBe(timestamp)
  expect(await mapper.reportState('pump-2', 'online')).toMatchObject({ code: 'OK' })
  await until('the cluster has it', async () => (await api.status('pump-2'))?.status?.state === 'online', 30_000)
  expect(await mapper.report('pump-2', { speed: 'fast' })).toEqual({ code: 'INVALID_ARGUMENT', details: expect.stringMatching(/speed.*INT/) })
  expect(await mapper.report('pump-2', { speed: '1', color: 'red' })).toEqual({ code: 'INVALID_ARGUMENT', details: expect.stringContaining('color') })
  expect(await mapper.report('nobody', { speed: '1' })).toEqual({ code: 'NOT_FOUND', details: expect.stringContaining('default/nobody') })
  expect(await mapper.reportState('pump-2', 'great')).toEqual({ code: 'INVALID_ARGUMENT', details: expect.stringContaining('"great"') })
})

test('a mapper that was killed gets with its registration what changed meanwhile', async () => {
  await mapper.kill()
  await api.desire('pump-2', { speed: '210' })
  await createPump('pump-4')
  await until('the node has it', async () => observedOf(await api.status('pump-2'))['speed'] === '210', 30_000)
  const before = connections()
  await mapper.start()
  await until('edgecore has reached it', () => connections() > before)
  await speedsAre('210', ['pump-2'])
  await until('the new one is there', () => mapper.desired('pump-4') !== undefined)
  expect(mapper.desired('pump-1')?.['speed']).toBe('1500')
})

test('one that comes back without registering is brought up to date all the same', async () => {
  await mapper.kill()
  await api.desire('pump-3', { speed: '310' })
  await mapper.start({ register: false })
  await speedsAre('310', ['pump-3'])
  await speedsAre('1500', ['pump-1'])
  expect(mapper.view.models['default/pump']).toEqual({ speed: 'INT', label: 'STRING', hours: 'INT' })
  expect(mapper.calls.indexOf('CreateDeviceModel pump')).toBe(0)
  await until('all are there', () => [...pumps, 'pump-4'].every(name => mapper.desired(name) !== undefined))
})

test('a device that the mapper refuses stops no other one, and is taken when it can be', async () => {
  await mapper.trouble({ 'pump-1': 'refuse' })
  await api.desire('pump-1', { speed: '1' })
  await until('it is refused', () => mapper.calls.filter(call => call === 'UpdateDevice pump-1').length > 1, 30_000)
  await api.desire('pump-2', { speed: '2' })
  await speedsAre('2', ['pump-2'])
  const served = async (name: string): Promise<string> => conditionOf(await api.device(name), 'Served')
  // Of each what the node has found twice in a row: one that was just being told is later.
  await until('the cluster says so of it, and nothing of the other one', async () =>
    await served('pump-1') === 'False' && await served('pump-2') === 'True', 30_000)
  await mapper.trouble({})
  // After so many refusals the next try may be half a minute away.
  await until('pump-1 gets 1', () => mapper.desired('pump-1')?.['speed'] === '1', 75_000)
  await until('the cluster says that it is well', async () => await served('pump-1') === 'True', 30_000)
})

test('a device at which the mapper hangs stops no other one', async () => {
  await mapper.trouble({ 'pump-1': 'hang' })
  const before = mapper.calls.length
  await api.desire('pump-1', { speed: '11' })
  await until('it hangs', () => mapper.calls.slice(before).some(call => call.endsWith(' pump-1')))
  for (const speed of ['21', '22', '23']) {
    await api.desire('pump-2', { speed })
    await speedsAre(speed, ['pump-2'])
  }
  await api.desire('pump-1', { speed: '12' })
  await mapper.trouble({})
  await speedsAre('12', ['pump-1'])
})

test('a mapper that is stopped as a whole stops no other mapper, and gets the newest when it goes on', async () => {
  await using other = mapperOf('opcua')
  await other.start()
  await createPump('valve', 'opcua')
  await until('the other one has its device', () => other.desired('valve') !== undefined)
  mapper.pause()
  for (const speed of ['31', '32', '33']) {
    await api.desire('pump-1', { speed })
    await api.desire('valve', { speed })
    await speedsAre(speed, ['valve'], other)
  }
  mapper.resume()
  await speedsAre('33', ['pump-1'])
})

test('a device at which the mapper crashes is the only one that waits', async () => {
  await mapper.trouble({ 'pump-1': 'crash' })
  await api.desire('pump-1', { speed: '41' })
  await until('it crashes', () => !mapper.running)
  // As its supervisor starts it again, without what it would be told at once: once more it crashes when it is told of this device.
  await mapper.start({ register: false, trouble: { 'pump-1': 'crash' } })
  await until('it crashes', () => !mapper.running, 30_000)
  await mapper.start({ register: false })
  await api.desire('pump-2', { speed: '42' })
  await speedsAre('42', ['pump-2'])
  await speedsAre('41', ['pump-1'])
})

test('edgecore can be killed: it knows the mapper, and what that has to forget', async () => {
  // The last test started it anew, and waited for the devices that it asks for alone.
  await until('the mapper has it', () => mapper.desired('pump-4') !== undefined)
  mapper.pause()
  await api.delete('devices', 'pump-4')
  const local = async (): Promise<string[]> => {
    const answer = await fetch(`${edge.endpoints.http}/v1/devices`)
    return (await answer.json() as { devices: { name: string }[] }).devices.map(({ name }) => name)
  }
  await until('the node has forgotten it', async () => !(await local()).includes('pump-4'))
  await edge.kill()
  mapper.resume()
  await edge.start()
  await until('the mapper has forgotten it', () => mapper.desired('pump-4') === undefined, 30_000)
  expect(mapper.calls).toContain('RemoveDevice pump-4')
  // What the mapper called while nobody was there makes gRPC wait a second before it connects again.
  const answer = await until('edgecore answers it', async () => {
    const given = await mapper.report('pump-4', { hours: '1' })
    return given.code === 'UNAVAILABLE' ? undefined : given
  })
  expect(answer).toMatchObject({ code: 'NOT_FOUND' })
  await api.desire('pump-3', { speed: '51' })
  await speedsAre('51', ['pump-3'])
})

test('with no cloud a value that is set on the node reaches the device', async () => {
  await fleet.cloud.stop()
  const answer = await fetch(`${edge.endpoints.http}/v1/devices/default/pump-2/twin?section=desired`, {
    method: 'PATCH', headers: { 'content-type': 'application/merge-patch+json' }, body: JSON.stringify({ speed: 61 })
  })
  expect([answer.status, await answer.text()]).toEqual([200, expect.anything()])
  await speedsAre('61', ['pump-2'])
  await fleet.cloud.start()
  await until('the cluster has both', async () => {
    const status = await api.status('pump-2').catch(() => undefined)
    return reportedOf(status)['speed'] === '61' && observedOf(status)['speed'] === '61'
  }, 30_000)
})
