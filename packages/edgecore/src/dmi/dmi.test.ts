import { spawnSync } from 'node:child_process'
import { chmod, mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from '@bufbuild/protobuf'
import { Client, Server, ServerCredentials, credentials, status } from '@grpc/grpc-js'
import type { ServiceError } from '@grpc/grpc-js'
import { DeviceManagerService, DeviceMapperService } from '@holdfast/protos/dmi'
import { HoldfastError, SystemClock, SystemRandom, hasCode, silentLog } from '@holdfast/runtime'
import { MemoryStore } from '@holdfast/store'
import type { Store } from '@holdfast/store'
import { afterEach, expect, test } from 'vitest'
import { parseDeviceId } from '../twins/index.ts'
import { device, deviceModel, openTwins, stamped } from '../twins/testing/twin-harness.ts'
import type { TwinsHarness } from '../twins/testing/twin-harness.ts'
import { Dmi } from './dmi.ts'
import type { DmiOptions } from './dmi.ts'
import { serviceDefinition, unaryHandler } from './grpc-service.ts'
import { dmiLimits } from './limits.ts'
import { MapperMemory, MapperSalvage } from './mapper-memory.ts'

const closing: (() => Promise<unknown> | void)[] = []
afterEach(async () => { for (const close of closing.splice(0).toReversed()) await close() })

const manager = DeviceManagerService.method
const pump = parseDeviceId('factory/pump')!
const model = deviceModel('factory/pump-model', [{ name: 'speed', type: 'INT', minimum: '0', maximum: '3000' }, { name: 'label', type: 'STRING' }])
const devicePump = (speed?: string, spec: object = {}) => stamped(device('factory/pump', {
  model: 'pump-model', spec: { protocol: { protocolName: 'modbus' }, ...spec },
  properties: [{ name: 'speed', ...speed !== undefined && { desired: { value: speed } } }, { name: 'label' }]
}), Date.now(), model)

async function until(what: string, condition: () => boolean): Promise<void> {
  for (const deadline = performance.now() + 10_000; !condition();) {
    if (performance.now() > deadline) throw new Error(`not within 10 s: ${what}`)
    await new Promise(resolve => setImmediate(resolve))
  }
}

async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-dmi-'))
  closing.push(() => rm(folder, { recursive: true, force: true }))
  return folder
}

interface Node extends TwinsHarness { readonly dmi: Dmi, readonly socket: string, readonly stop: () => Promise<void> }

async function startNode(folder: string, store: Store = new MemoryStore(), options: Partial<DmiOptions> = {}): Promise<Node> {
  const clock = new SystemClock()
  const harness = await openTwins(store, { clock })
  const memory = await MapperMemory.open(store, harness.committer)
  const dmi = await Dmi.open({ mode: 'socket', dataDir: folder, callTimeoutMs: 5_000, callsMax: 4, ...options }, {
    twins: harness.twins, memory, isBuiltIn: ({ id }) => id.startsWith('built-in/'), clock, random: new SystemRandom(), log: silentLog
  })
  const shutdown = new AbortController()
  const running = dmi.run(shutdown.signal)
  let stopped: Promise<void> | undefined
  const stop = (): Promise<void> => stopped ??= (async () => {
    shutdown.abort()
    await running
    await harness[Symbol.asyncDispose]()
  })()
  closing.push(stop)
  return { ...harness, dmi, socket: options.socket ?? join(folder, 'dmi.sock'), stop }
}

/** What a mapper calls, over a connection of its own; rejects with the status. */
function client(socket: string) {
  const grpc = new Client(`unix:${socket}`, credentials.createInsecure(), { 'grpc.use_local_subchannel_pool': 1 })
  closing.push(() => grpc.close())
  return <Input extends DescMessage, Output extends DescMessage>(
    method: DescMethodUnary<Input, Output>, message: MessageInitShape<Input>
  ): Promise<MessageShape<Output>> => new Promise((resolve, reject) => {
    grpc.makeUnaryRequest(`/${method.parent.typeName}/${method.name}`,
      (input: MessageShape<Input>) => Buffer.from(toBinary(method.input, input)), bytes => fromBinary(method.output, bytes),
      create(method.input, message), (error, answer) => {
        if (error === null) resolve(answer!)
        else reject(error)
      })
  })
}

async function refusal(call: Promise<unknown>): Promise<[code: string, details: string]> {
  const error = await call.then(() => { throw new Error('it was taken') }, (reason: unknown) => reason as ServiceError)
  return [status[error.code], error.details]
}

/** Its writes wait for the test, which lets them succeed or fail. */
class HeldStore extends MemoryStore {
  isHolding = false
  readonly held: ((error?: Error) => void)[] = []

  override write(...[ops, options, onDone]: Parameters<Store['write']>): void {
    if (this.isHolding) {
      this.held.push(error => {
        if (error === undefined) super.write(ops, options, onDone)
        else onDone(error)
      })
    } else super.write(ops, options, onDone)
  }
}

/** A mapper that takes everything. */
async function startMapper(folder: string): Promise<{ readonly address: string, readonly calls: string[], readonly stop: () => void }> {
  const calls: string[] = []
  const server = new Server()
  server.addService(serviceDefinition(DeviceMapperService), Object.fromEntries(DeviceMapperService.methods.map(method => [
    method.name, unaryHandler(method as DescMethodUnary, async request => {
      const named = request as unknown as Record<string, { name: string } | string>
      const subject = named['device'] ?? named['model'] ?? named['deviceName'] ?? named['modelName']!
      calls.push(`${method.name} ${typeof subject === 'string' ? subject : subject.name}`)
      return {}
    }, () => ({ code: status.INTERNAL, details: '' }))
  ])))
  const address = join(folder, 'mapper.sock')
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(`unix:${address}`, ServerCredentials.createInsecure(), error => {
      if (error === null) resolve()
      else reject(error)
    })
  })
  closing.push(() => server.forceShutdown())
  return { address, calls, stop: () => server.forceShutdown() }
}

const mapperInfo = (address: string, more: object = {}) =>
  ({ name: 'modbus-mapper', version: '1.0', apiVersion: 'v1beta1', protocol: 'modbus', address: Buffer.from(address), ...more })

test('the socket is for owner and group, and goes with the daemon', async () => {
  const node = await startNode(await temporaryFolder())
  expect((await stat(node.socket)).mode & 0o777).toBe(0o660)
  expect(node.dmi.url).toBe(`unix:${node.socket}`)
  await node.stop()
  await expect(stat(node.socket)).rejects.toThrow('ENOENT')
})

test('a socket that a crash left is taken away, one that somebody listens on is not', async () => {
  const folder = await temporaryFolder()
  const socket = join(folder, 'dmi.sock')
  const other = createServer()
  await new Promise<void>(resolve => { other.listen(socket, resolve) })
  const failed = await startNode(folder).catch((error: unknown) => error)
  expect(hasCode(failed, 'LISTEN_FAILED')).toBe(true)
  expect(String(failed)).toContain('another process listens there')
  // As a killed process leaves it.
  const left = join(folder, 'left.sock')
  spawnSync(process.execPath, ['-e', `require('net').createServer().listen(${JSON.stringify(left)}, () => process.kill(process.pid, 'SIGKILL'))`])
  expect((await stat(left)).isSocket()).toBe(true)
  const node = await startNode(folder, new MemoryStore(), { socket: left })
  await new Promise<void>(resolve => { connect(node.socket).once('connect', function (this: { destroy(): void }) { this.destroy(); resolve() }) })
  await new Promise(resolve => { other.close(resolve) })
})

test('a path that cannot be a socket is refused with what to do', async () => {
  const folder = await temporaryFolder()
  await writeFile(join(folder, 'file'), '')
  await chmod(join(folder, 'file'), 0o600)
  for (const [socket, why] of [[join(folder, 'file'), 'no socket'], [join(folder, 'x'.repeat(120)), 'at most 107 bytes']] as const) {
    const error = await startNode(folder, new MemoryStore(), { socket }).catch((reason: unknown) => reason)
    expect(error).toBeInstanceOf(HoldfastError)
    expect((error as Error).message).toContain(why)
  }
})

test('switched off there is no socket', async () => {
  const node = await startNode(await temporaryFolder(), new MemoryStore(), { mode: 'off' })
  expect(node.dmi.url).toBeUndefined()
  await expect(stat(node.socket)).rejects.toThrow('ENOENT')
})

test('a mapper gets its models and devices, and from then on what changes', async () => {
  const folder = await temporaryFolder()
  const node = await startNode(folder)
  await node.receive({
    'factory/pump-model': model, 'factory/pump': devicePump('1500'),
    'factory/second': device('factory/second', { model: 'pump-model', spec: { protocol: { protocolName: 'modbus' } } }),
    'factory/other': device('factory/other', { spec: { protocol: { protocolName: 'Modbus' } } }),
    'factory/early': device('factory/early', { model: 'not-here-yet', spec: { protocol: { protocolName: 'modbus' } } }),
    'built-in/mine': device('built-in/mine', { spec: { protocol: { protocolName: 'modbus' } } })
  })
  const mapper = await startMapper(folder)
  const call = client(node.socket)
  const answer = await call(manager.mapperRegister, { withData: true, mapper: mapperInfo(mapper.address) })
  expect(answer.modelList.map(({ name }) => name)).toEqual(['pump-model'])
  expect(answer.deviceList.map(({ namespace, name }) => `${namespace}/${name}`)).toEqual(['factory/pump', 'factory/second'])
  expect(answer.deviceList[0]?.spec?.properties[0]?.desired?.value).toBe('1500')
  await node.receive({ 'factory/pump': devicePump('1600'), 'factory/third': device('factory/third', { spec: { protocol: { protocolName: 'modbus' } } }) })
  await until('it is told', () => mapper.calls.length === 2)
  expect(mapper.calls.toSorted()).toEqual(['RegisterDevice third', 'UpdateDevice pump'])
  await node.receive({ 'factory/third': device('factory/third', { spec: { protocol: { protocolName: 'opcua' } } }), 'factory/second': undefined })
  await until('it is told', () => mapper.calls.length === 4)
  expect(mapper.calls.slice(2).toSorted()).toEqual(['RemoveDevice second', 'RemoveDevice third'])
  await until('its answers are here', () => node.dmi.mappers[0]?.waiting === 1)
  expect(node.dmi.mappers).toMatchObject([{ name: 'modbus-mapper', connected: true, devices: 2, waiting: 1, failing: [] }])
})

test('without data the mapper is told everything by calls', async () => {
  const folder = await temporaryFolder()
  const node = await startNode(folder)
  await node.receive({ 'factory/pump-model': model, 'factory/pump': devicePump() })
  const mapper = await startMapper(folder)
  const answer = await client(node.socket)(manager.mapperRegister, { withData: false, mapper: mapperInfo(mapper.address) })
  expect([answer.modelList, answer.deviceList]).toEqual([[], []])
  await until('it is told', () => mapper.calls.length === 2)
  expect(mapper.calls).toEqual(['CreateDeviceModel pump-model', 'RegisterDevice pump'])
})

test('a registration holds over a restart of edgecore', async () => {
  const folder = await temporaryFolder()
  const store = new MemoryStore()
  const first = await startNode(folder, store)
  await first.receive({ 'factory/pump-model': model, 'factory/pump': devicePump() })
  const mapper = await startMapper(folder)
  await client(first.socket)(manager.mapperRegister, { withData: true, mapper: mapperInfo(mapper.address) })
  await until('it is reached', () => first.dmi.mappers[0]?.connected === true)
  await first.stop()
  expect(first.dmi.mappers[0]?.connected).toBe(false)
  expect(mapper.calls).toEqual([])
  const second = await startNode(folder, store)
  // Nobody knows what the mapper has done meanwhile.
  await until('it is told', () => mapper.calls.length === 4)
  expect(mapper.calls).toEqual(['CreateDeviceModel pump-model', 'UpdateDeviceModel pump-model', 'RegisterDevice pump', 'UpdateDevice pump'])
  expect(second.dmi.mappers).toMatchObject([{ protocol: 'modbus', address: mapper.address }])
})

test('an answer that would be too long is cut, and the rest is told by calls', async () => {
  const folder = await temporaryFolder()
  const node = await startNode(folder)
  const big = (i: number) => device(`factory/d${i}`, {
    spec: { protocol: { protocolName: 'modbus', configData: { blob: 'x'.repeat(200_000) } } }
  })
  await node.receive(Object.fromEntries(Array.from({ length: 30 }, (_, i) => [`factory/d${i}`, big(i)])))
  const mapper = await startMapper(folder)
  const answer = await client(node.socket)(manager.mapperRegister, { withData: true, mapper: mapperInfo(mapper.address) })
  expect(answer.deviceList.length).toBe(15)
  await until('the rest is told', () => mapper.calls.length === 15)
  const told = [...answer.deviceList.map(({ name }) => name), ...mapper.calls.map(call => call.replace('RegisterDevice ', ''))]
  expect(new Set(told).size).toBe(30)
})

test('what is being answered when edgecore stops is answered whole', async () => {
  const folder = await temporaryFolder()
  const node = await startNode(folder)
  await node.receive(Object.fromEntries(Array.from({ length: 10 }, (_, i) => [`factory/d${i}`, device(`factory/d${i}`, {
    spec: { protocol: { protocolName: 'modbus', configData: { blob: 'x'.repeat(200_000) } } }
  })])))
  const idle = client(node.socket)
  await refusal(idle(manager.reportDeviceStates, { deviceName: 'd', state: 'ok' }))
  const silent = connect(node.socket)
  closing.push(() => { silent.destroy() })
  await new Promise<void>(resolve => { silent.once('connect', () => resolve()) })
  const answer = client(node.socket)(manager.mapperRegister, { withData: true, mapper: mapperInfo('/run/nobody.sock') })
  await until('it is being answered', () => node.dmi.counters.registrations === 1)
  const stopped = node.stop()
  expect((await answer).deviceList).toHaveLength(10)
  await stopped
})

test('a report is acknowledged when it is durable, with its type and time', async () => {
  const folder = await temporaryFolder()
  const store = new MemoryStore()
  const node = await startNode(folder, store)
  await node.receive({ 'factory/pump-model': model, 'factory/pump': devicePump('1500') })
  const call = client(node.socket)
  const timestamp = Date.now() - 5_000
  await call(manager.reportDeviceStatus, {
    deviceName: 'pump', deviceNamespace: 'factory', reportedDevice: { twins: [
      { propertyName: 'speed', observedDesired: { value: '1500' }, reported: { value: '1490', metadata: { type: 'int', timestamp: String(timestamp) } } },
      { propertyName: 'label', observedDesired: { value: 'nothing was reported' } }
    ] }
  })
  const { twin } = node.twins.get(pump)!
  expect(twin.reported.get('speed')).toMatchObject({ value: 1490, timestamp })
  expect([...twin.reported.keys()]).toEqual(['speed'])
  await call(manager.reportDeviceStates, { deviceName: 'pump', deviceNamespace: 'factory', state: 'online' })
  expect(node.twins.get(pump)?.twin.state?.value).toBe('online')
  await node.stop()
  const after = await startNode(folder, store)
  expect(after.twins.get(pump)?.twin.reported.get('speed')).toMatchObject({ value: 1490, timestamp })
})

test('nothing is acknowledged before its commit, and a commit that fails is told', async () => {
  const store = new HeldStore()
  const node = await startNode(await temporaryFolder(), store)
  await node.receive({ 'default/d': device('default/d') })
  const call = client(node.socket)
  const answers: string[] = []
  const taken = (name: string, answer: Promise<unknown>): Promise<unknown> => answer.then(() => answers.push(name))
  store.isHolding = true
  const report = taken('report', call(manager.reportDeviceStatus, {
    deviceName: 'd', reportedDevice: { twins: [{ propertyName: 'x', reported: { value: '1' } }] }
  }))
  await until('it is with the store', () => store.held.length === 1)
  // Malformed, so it is answered at once: behind what came before it, were that answered.
  await refusal(call(manager.reportDeviceStates, { deviceName: 'd', state: '?' }))
  expect(answers).toEqual([])
  // The same value again is another one's commit, which is not durable yet.
  const again = taken('again', call(manager.reportDeviceStatus, {
    deviceName: 'd', reportedDevice: { twins: [{ propertyName: 'x', reported: { value: '1' } }] }
  }))
  await refusal(call(manager.reportDeviceStates, { deviceName: 'd', state: '?' }))
  expect(answers).toEqual([])
  store.isHolding = false
  store.held.shift()!()
  await Promise.all([report, again])
  store.isHolding = true
  const registered = taken('register', call(manager.mapperRegister, { withData: true, mapper: mapperInfo('/run/nobody.sock') }))
  await until('it is with the store', () => store.held.length === 1)
  await refusal(call(manager.reportDeviceStates, { deviceName: 'd', state: '?' }))
  expect([answers.includes('register'), node.dmi.mappers]).toEqual([false, []])
  store.isHolding = false
  store.held.shift()!()
  await registered
  store.isHolding = true
  const failed = refusal(call(manager.reportDeviceStates, { deviceName: 'd', state: 'ok' }))
  await until('it is with the store', () => store.held.length === 1)
  store.isHolding = false
  store.held.shift()!(new HoldfastError('STORE_FAILED', 'the disk is gone'))
  expect(await failed).toEqual(['UNAVAILABLE', 'STORE_FAILED: the disk is gone'])
})

test('no namespace means default, and a time that is none means now', async () => {
  const node = await startNode(await temporaryFolder())
  await node.receive({ 'default/d': device('default/d') })
  const beforeMs = Date.now()
  for (const timestamp of ['yesterday', '0', String(Date.now() * 1e6)]) {
    await client(node.socket)(manager.reportDeviceStatus, {
      deviceName: 'd', reportedDevice: { twins: [{ propertyName: 'x', reported: { value: timestamp, metadata: { timestamp } } }] }
    })
    expect(node.twins.get(parseDeviceId('d')!)?.twin.reported.get('x')?.timestamp).toBeGreaterThanOrEqual(beforeMs)
  }
})

test('what is refused says why, by status, property and rule', async () => {
  const node = await startNode(await temporaryFolder())
  await node.receive({ 'factory/pump-model': model, 'factory/pump': devicePump() })
  const call = client(node.socket)
  const report = (propertyName: string, value: string, deviceName = 'pump') => call(manager.reportDeviceStatus, {
    deviceName, deviceNamespace: 'factory', reportedDevice: { twins: [{ propertyName, reported: { value } }] }
  })
  expect(await refusal(report('speed', 'fast'))).toEqual(['INVALID_ARGUMENT', expect.stringMatching(/^TWIN_TYPE: .*speed.*INT/)])
  expect(await refusal(report('speed', '3001'))).toEqual(['INVALID_ARGUMENT', expect.stringMatching(/^TWIN_RANGE: .*speed.*3000/)])
  expect(await refusal(report('colour', 'red'))).toEqual(['INVALID_ARGUMENT', expect.stringMatching(/^TWIN_PROPERTY: .*colour/)])
  expect(await refusal(report('label', 'x'.repeat(70_000)))).toEqual(['INVALID_ARGUMENT', expect.stringMatching(/^TWIN_VALUE: .*64 KiB/)])
  expect(await refusal(report('speed', '1', 'nobody'))).toEqual(['NOT_FOUND', expect.stringContaining('TWIN_DEVICE_UNKNOWN')])
  expect(await refusal(report('speed', '1', 'Bad Name'))).toEqual(['INVALID_ARGUMENT', expect.stringContaining('DMI_REPORT_INVALID')])
  expect(await refusal(call(manager.reportDeviceStatus, { deviceName: 'pump', deviceNamespace: 'factory' })))
    .toEqual(['INVALID_ARGUMENT', expect.stringContaining('at least one property')])
  const many = Array.from({ length: 257 }, (_, i) => ({ propertyName: `p${i}`, reported: { value: '1' } }))
  expect(await refusal(call(manager.reportDeviceStatus, { deviceName: 'pump', deviceNamespace: 'factory', reportedDevice: { twins: many } })))
    .toEqual(['INVALID_ARGUMENT', expect.stringContaining('at most 256')])
  expect(await refusal(call(manager.reportDeviceStates, { deviceName: 'pump', deviceNamespace: 'factory', state: 'happy' })))
    .toEqual(['INVALID_ARGUMENT', expect.stringMatching(/^TWIN_STATE: .*unhealthy.*"happy"/)])
  expect(node.twins.get(pump)?.twin.reported.size).toBe(0)
  expect(Object.fromEntries(node.dmi.counters.refusals)).toEqual({ INVALID_ARGUMENT: 8, NOT_FOUND: 1 })
  node.twins.refuse(new HoldfastError('DISK_FULL', 'the disk is full'))
  expect(await refusal(report('speed', '7'))).toEqual(['RESOURCE_EXHAUSTED', 'DISK_FULL: the disk is full'])
})

test('a registration that cannot be served says why', async () => {
  const node = await startNode(await temporaryFolder())
  const call = client(node.socket)
  const register = (mapper: object | undefined) => refusal(call(manager.mapperRegister, { withData: true, ...mapper && { mapper: mapperInfo('/run/m.sock', mapper) } }))
  for (const [mapper, why] of [
    [undefined, 'who registers'], [{ name: '' }, 'mapper.name'], [{ protocol: '' }, 'mapper.protocol'], [{ name: 'n'.repeat(254) }, 'at most 253'],
    [{ address: Buffer.from('m.sock') }, 'absolute path'], [{ address: Buffer.from('') }, 'absolute path'],
    [{ address: Buffer.from(`/${'a'.repeat(107)}`) }, 'at most 107 bytes'], [{ address: Buffer.from('/a\0b') }, 'absolute path']
  ] as const) expect(await register(mapper)).toEqual(['INVALID_ARGUMENT', expect.stringMatching(new RegExp(`^DMI_MAPPER_INVALID: .*${why}`))])
  expect(node.dmi.mappers).toEqual([])
})

test('one mapper too many takes the place of one without devices', async () => {
  const node = await startNode(await temporaryFolder())
  const protocols = Array.from({ length: dmiLimits.mappers.value }, (_, i) => `p${i}`)
  await node.receive(Object.fromEntries(protocols.slice(1).map(protocolName =>
    [`default/${protocolName}`, device(`default/${protocolName}`, { spec: { protocol: { protocolName } } })])))
  const call = client(node.socket)
  for (const protocol of protocols) await call(manager.mapperRegister, { mapper: mapperInfo('/run/nobody.sock', { protocol }) })
  await call(manager.mapperRegister, { mapper: mapperInfo('/run/nobody.sock', { protocol: 'q' }) })
  expect(node.dmi.mappers.map(({ protocol }) => protocol)).toEqual([...protocols.slice(1), 'q'])
  await node.receive({ 'default/q': device('default/q', { spec: { protocol: { protocolName: 'q' } } }) })
  expect(await refusal(call(manager.mapperRegister, { mapper: mapperInfo('/run/nobody.sock', { protocol: 'r' }) })))
    .toEqual(['RESOURCE_EXHAUSTED', expect.stringContaining('DMI_MAPPERS_TOO_MANY')])
})

test('a mapper whose registration is durable while the daemon stops is answered, and not called', async () => {
  const folder = await temporaryFolder()
  const store = new HeldStore()
  const node = await startNode(folder, store)
  await node.receive({ 'default/pump': device('default/pump', { spec: { protocol: { protocolName: 'modbus' } } }) })
  const mapper = await startMapper(folder)
  store.isHolding = true
  const answer = client(node.socket)(manager.mapperRegister, { mapper: mapperInfo(mapper.address) })
  await until('it waits for the disk', () => store.held.length === 1)
  const stopped = node.stop()
  store.isHolding = false
  for (const go of store.held.splice(0)) go()
  await answer
  await stopped
  // As long as a call would take: a mapper of another node, told after it.
  const other = await startNode(await temporaryFolder())
  await other.receive({ 'default/pump': device('default/pump', { spec: { protocol: { protocolName: 'modbus' } } }) })
  const otherMapper = await startMapper(await temporaryFolder())
  await client(other.socket)(manager.mapperRegister, { mapper: mapperInfo(otherMapper.address) })
  await until('the other one is called', () => otherMapper.calls.length > 0)
  expect(mapper.calls).toEqual([])
})

test('L8: as many mappers as are kept, also where more register while the disk is slow', async () => {
  const store = new HeldStore()
  const node = await startNode(await temporaryFolder(), store)
  const callers = [client(node.socket), client(node.socket)] as const
  store.isHolding = true
  const most = dmiLimits.mappers.value
  const calls = Array.from({ length: most + 10 }, (_, i) =>
    callers[i % 2 as 0 | 1](manager.mapperRegister, { mapper: mapperInfo('/run/none.sock', { protocol: `p${i}` }) }).then(() => 'OK', () => 'refused'))
  await until('they wait for the disk, but for ten', () => [...node.dmi.counters.refusals.values()].includes(10))
  store.isHolding = false
  for (const go of store.held.splice(0)) go()
  const answers = await Promise.all(calls)
  expect(answers.filter(answer => answer === 'OK')).toHaveLength(most)
  expect(node.dmi.mappers).toHaveLength(most)
})

test('bytes that are no gRPC, or no message, end with their connection', async () => {
  const node = await startNode(await temporaryFolder())
  await node.receive({ 'default/d': device('default/d') })
  await new Promise<void>(resolve => {
    const socket = connect(node.socket, () => socket.write('GET / HTTP/1.1\r\n\r\n'))
    socket.resume().once('close', () => resolve()).on('error', () => {})
  })
  const grpc = new Client(`unix:${node.socket}`, credentials.createInsecure())
  closing.push(() => grpc.close())
  const raw = (path: string, bytes: Buffer) => refusal(new Promise((resolve, reject) => {
    grpc.makeUnaryRequest(path, (input: Buffer) => input, output => output, bytes, (error, answer) => {
      if (error === null) resolve(answer)
      else reject(error)
    })
  }))
  const path = '/v1beta1.DeviceManagerService/'
  expect((await raw(`${path}ReportDeviceStatus`, Buffer.from([0x0a, 0xff, 0xff, 0xff])))[0]).toBe('INTERNAL')
  expect((await raw(`${path}ReportDeviceStatus`, Buffer.alloc(dmiLimits.messageBytes.value + 1)))[0]).toBe('RESOURCE_EXHAUSTED')
  expect((await raw(`${path}NoSuchMethod`, Buffer.alloc(0)))[0]).toBe('UNIMPLEMENTED')
  await client(node.socket)(manager.reportDeviceStates, { deviceName: 'd', state: 'ok' })
})

test('a salvage takes registrations over, and a store that was opened anew has them', async () => {
  const store = new MemoryStore()
  const node = await startNode(await temporaryFolder(), store)
  await client(node.socket)(manager.mapperRegister, { mapper: mapperInfo('/run/nobody.sock') })
  const salvaged = new MemoryStore()
  const salvage = new MapperSalvage(salvaged)
  async function* entries() {
    yield* await store.scan({ gte: Buffer.from([0]), lt: Buffer.from([0xff]) })
    yield { key: Buffer.from([0x29, 0x41]), value: Buffer.from('damaged') }
  }
  const rest: number[] = []
  for await (const { key } of salvage.taking(entries())) rest.push(key[0]!)
  expect(salvage.counts).toEqual({ mapperEntries: 1, damagedMapperEntries: 1 })
  expect(rest).not.toContain(0x29)
  const memory = await MapperMemory.open(salvaged, node.committer)
  expect(memory.registrations).toMatchObject([{ protocol: 'modbus' }])
  const empty = new MemoryStore()
  await memory.reopen(empty)
  expect((await MapperMemory.open(empty, node.committer)).registrations).toEqual(memory.registrations)
})
