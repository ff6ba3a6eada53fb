// A mapper as its author writes it: plain grpc-js, the proto file loaded at run time, nothing of Holdfast. It behaves as
// mappers of KubeEdge's framework do: a device needs its model, one that is registered again stays as it is, an update
// brings a device in where it is not there, and what cannot be removed is an error.
//
// Started with its options as JSON; tells its parent what it is called for, and takes commands from it.
import { rmSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import grpc from '@grpc/grpc-js'
import protoLoader from '@grpc/proto-loader'
import type { Command, CommandAnswer, MapperOptions, MapperView } from './mapper-process.ts'

interface TwinProperty { value: string, metadata?: Record<string, string> }
interface Any { type_url: string, value: Buffer }
interface Configured { protocolName: string, configData: { data: Record<string, Any> } | null }
interface Device {
  name: string
  namespace: string
  spec: {
    deviceModelReference: string
    protocol: Configured
    properties: { name: string, desired: TwinProperty, visitors: Configured, collectCycle: number }[]
  }
}
interface Model { name: string, namespace: string, spec: { properties: { name: string, type: string }[] } }
interface Call { request: Record<string, unknown> & { device?: Device, model?: Model } }
type Reply = (error: { code: number, message: string } | null, answer?: object) => void

const options = JSON.parse(process.argv[2]!) as MapperOptions
const definition = protoLoader.loadSync(fileURLToPath(new URL('api.proto', import.meta.url)), {
  keepCase: true, longs: Number, defaults: true, oneofs: true
})
const { v1beta1 } = grpc.loadPackageDefinition(definition) as unknown as {
  v1beta1: Record<'DeviceManagerService' | 'DeviceMapperService', grpc.ServiceClientConstructor>
}

const devices = new Map<string, Device>()
const models = new Map<string, Model>()
let trouble = options.trouble

const key = ({ namespace, name }: { namespace: string, name: string }): string => `${namespace}/${name}`

/** The wrappers of google/protobuf/wrappers.proto have one field, number 1. */
function unwrapped({ type_url, value }: Any): string | number | boolean {
  const field = value.subarray(1)
  switch (type_url) {
    case 'type.googleapis.com/google.protobuf.StringValue': return value.length === 0 ? '' : field.toString('utf8', 1)
    case 'type.googleapis.com/google.protobuf.FloatValue': return value.length === 0 ? 0 : field.readFloatLE()
    case 'type.googleapis.com/google.protobuf.BoolValue': return value.length > 0 && field[0] === 1
    case 'type.googleapis.com/google.protobuf.Int64Value': return field.reduce((sum, byte, i) => sum + (byte & 127) * 128 ** i, 0)
    default: throw new Error(`cannot read a ${type_url}`)
  }
}

const settings = ({ configData }: Configured): Record<string, unknown> =>
  Object.fromEntries(Object.entries(configData?.data ?? {}).map(([name, any]) => [name, unwrapped(any)]))

function view(): MapperView {
  return {
    models: Object.fromEntries([...models].map(([id, model]) => [id, Object.fromEntries(model.spec.properties.map(({ name, type }) => [name, type]))])),
    devices: Object.fromEntries([...devices].map(([id, { spec }]) => [id, {
      model: spec.deviceModelReference,
      settings: settings(spec.protocol),
      desired: Object.fromEntries(spec.properties.map(({ name, desired }) => [name, desired.value])),
      types: Object.fromEntries(spec.properties.map(({ name, desired }) => [name, desired.metadata?.['type']])),
      visitors: Object.fromEntries(spec.properties.map(({ name, visitors }) => [name, settings(visitors)]))
    }]))
  }
}

const tell = (call: string): void => { process.send!({ kind: 'called', call, view: view() }) }

const edgecore = new v1beta1.DeviceManagerService(`unix:${options.manager}`, grpc.credentials.createInsecure())

function ask(method: string, request: object): Promise<CommandAnswer & { readonly answer?: { modelList: Model[], deviceList: Device[] } }> {
  return new Promise(resolve => {
    const unary = edgecore[method] as (request: object, options: grpc.CallOptions, done: grpc.requestCallback<never>) => void
    unary.call(edgecore, request, { deadline: Date.now() + 10_000 }, (error, answer) => {
      resolve(error === null ? { code: 'OK', details: '', ...answer !== undefined && { answer } } : { code: grpc.status[error.code], details: error.details })
    })
  })
}

/** What the device does: it takes what is desired, and says so. */
function obey(device: Device): void {
  if (!options.obedient) return
  const twins = device.spec.properties.filter(({ desired }) => desired.value !== '').map(({ name, desired }) => ({
    propertyName: name, observedDesired: desired, reported: { value: desired.value, metadata: { type: 'string', timestamp: String(Date.now()) } }
  }))
  if (twins.length > 0) void ask('ReportDeviceStatus', { deviceName: device.name, deviceNamespace: device.namespace, reportedDevice: { twins } })
}

/** Troubles of single devices, as drivers have them. */
function handler(method: string, apply: (request: Call['request']) => string | undefined) {
  return ({ request }: Call, reply: Reply): void => {
    const name = request.device?.name ?? request.model?.name ?? String(request['deviceName'] ?? request['modelName'])
    tell(`${method} ${name}`)
    if (trouble[name] === 'crash') process.kill(process.pid, 'SIGKILL')
    if (trouble[name] === 'hang') return
    const problem = trouble[name] === 'refuse' ? `driver: ${name} does not answer` : apply(request)
    if (problem === undefined) reply(null, {})
    else reply({ code: grpc.status.UNKNOWN, message: problem })
    tell('')
  }
}

function add(device: Device): string | undefined {
  const model = `${device.namespace}/${device.spec.deviceModelReference}`
  if (!models.has(model)) return `deviceModel ${model} not found`
  devices.set(key(device), device)
  obey(device)
  return undefined
}

const server = new grpc.Server()
server.addService(v1beta1.DeviceMapperService.service, {
  RegisterDevice: handler('RegisterDevice', ({ device }) => devices.has(key(device!)) ? undefined : add(device!)),
  UpdateDevice: handler('UpdateDevice', ({ device }) => add(device!)),
  RemoveDevice: handler('RemoveDevice', ({ deviceNamespace, deviceName }) =>
    devices.delete(`${String(deviceNamespace)}/${String(deviceName)}`) ? undefined : 'no such device'),
  CreateDeviceModel: handler('CreateDeviceModel', ({ model }) => { models.set(key(model!), model!); return undefined }),
  UpdateDeviceModel: handler('UpdateDeviceModel', ({ model }) => { models.set(key(model!), model!); return undefined }),
  RemoveDeviceModel: handler('RemoveDeviceModel', ({ modelNamespace, modelName }) =>
    models.delete(`${String(modelNamespace)}/${String(modelName)}`) ? undefined : 'no such model'),
  GetDevice: handler('GetDevice', () => undefined)
})

process.on('message', (command: Command & { readonly id: number }) => {
  if (command.kind === 'trouble') {
    trouble = command.trouble
    process.send!({ kind: 'answer', id: command.id, code: 'OK', details: '' })
    return
  }
  const { id, method, request } = command
  void ask(method, request).then(({ code, details }) => process.send!({ kind: 'answer', id, code, details }))
})
process.on('disconnect', () => process.exit())

// As mappers do it: a socket that the last process left is taken away.
rmSync(options.address, { force: true })
await new Promise<void>((resolve, reject) => {
  server.bindAsync(`unix:${options.address}`, grpc.ServerCredentials.createInsecure(), error => {
    if (error === null) resolve()
    else reject(error)
  })
})
if (options.register) {
  const { code, details, answer } = await ask('MapperRegister', {
    withData: true,
    mapper: { name: `${options.protocol}-mapper`, version: 'v1.0', api_version: 'v1beta1', protocol: options.protocol, address: Buffer.from(options.address), state: 'ok' }
  })
  if (code !== 'OK') throw new Error(`${code}: ${details}`)
  for (const model of answer!.modelList) models.set(key(model), model)
  for (const device of answer!.deviceList) {
    devices.set(key(device), device)
    obey(device)
  }
}
process.send!({ kind: 'ready', view: view() })
