import type { Socket } from 'node:net'
import { Server, ServerCredentials, status } from '@grpc/grpc-js'
import { toBinary } from '@bufbuild/protobuf'
import { deviceStates } from '@holdfast/device-twin'
import type { PropertyWrite } from '@holdfast/device-twin'
import { DeviceManagerService, DeviceModelSchema, DeviceSchema } from '@holdfast/protos/dmi'
import type {
  Device, DeviceModel, MapperInfo, MapperRegisterRequest, ReportDeviceStatesRequest, ReportDeviceStatusRequest
} from '@holdfast/protos/dmi'
import { HoldfastError, codeOfError, describeError } from '@holdfast/runtime'
import type { Clock, Log, Random } from '@holdfast/runtime'
import type { Commit } from '@holdfast/store'
import { TwinRefused, parseDeviceId } from '../twins/device-twins.ts'
import type { DeviceId, DeviceTwin, DeviceTwins, TwinChange, TwinWrite } from '../twins/device-twins.ts'
import { Fingerprints, deviceMessage, modelMessage } from './device-messages.ts'
import { serviceDefinition, unaryHandler } from './grpc-service.ts'
import type { StatusReply } from './grpc-service.ts'
import { dmiLimits as limits } from './limits.ts'
import { mapperDialer } from './mapper-connection.ts'
import type { MapperMemory, MapperRegistration, TellingKey } from './mapper-memory.ts'
import { MapperQueue } from './mapper-queue.ts'
import type { CallCounters, MapperStatus } from './mapper-queue.ts'
import { modelIdOf, protocolOf } from './served-devices.ts'

export interface DeviceManagerOptions {
  /** Deadline of a call to a mapper. */
  readonly callTimeoutMs: number
  /** Calls to one mapper at a time. */
  readonly callsMax: number
}

export interface DeviceManagerComponents {
  readonly twins: DeviceTwins
  readonly memory: MapperMemory
  /** Whether a built-in mapper serves the device, so that no other one does (DMI-12). */
  readonly isBuiltIn: (device: DeviceTwin) => boolean
  readonly counters: DmiCounters
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

/** Plain numbers; whoever serves metrics reads them. */
export interface DmiCounters extends CallCounters {
  registrations: number
  /** Reports that were acknowledged. */
  reports: number
  /** By gRPC status: calls of mappers that were refused. */
  readonly refusals: Map<string, number>
}

/**
 * DeviceManagerService, and one queue per registered mapper. Loaded when the first mapper connects, or where one had
 * registered: it and gRPC cost a node without mappers nothing.
 */
export class DeviceManager {
  readonly #options: DeviceManagerOptions
  readonly #components: DeviceManagerComponents
  readonly #server: Server
  readonly #injector: ReturnType<Server['createConnectionInjector']>
  readonly #queues = new Map<string, MapperQueue>()
  readonly #fingerprints = new Fingerprints()
  /** By protocol: the newest registration, while it is being answered. */
  readonly #registering = new Map<string, MapperRegistration>()
  readonly #unsubscribe: () => void
  #callsWaiting = 0
  #closed = false

  constructor(options: DeviceManagerOptions, components: DeviceManagerComponents) {
    this.#options = options
    this.#components = components
    this.#server = new Server({
      'grpc.max_receive_message_length': limits.messageBytes.value,
      'grpc.max_concurrent_streams': limits.callsPerConnection.value
    })
    const { mapperRegister, reportDeviceStatus, reportDeviceStates } = DeviceManagerService.method
    const statusOf = (error: unknown): StatusReply => this.#statusOf(error)
    this.#server.addService(serviceDefinition(DeviceManagerService), {
      MapperRegister: unaryHandler(mapperRegister, request => this.#counted(() => this.#register(request)), statusOf),
      ReportDeviceStatus: unaryHandler(reportDeviceStatus, request => this.#counted(() => this.#reportStatus(request)), statusOf),
      ReportDeviceStates: unaryHandler(reportDeviceStates, request => this.#counted(() => this.#reportState(request)), statusOf)
    })
    this.#injector = this.#server.createConnectionInjector(ServerCredentials.createInsecure())
    this.#unsubscribe = components.twins.subscribe(change => this.#changed(change))
    for (const registration of components.memory.registrations) this.#begin(registration, undefined)
  }

  get mappers(): MapperStatus[] { return [...this.#queues.values()].map(queue => queue.status) }

  /** What keeps the mapper of its protocol from serving a device, as `MapperQueue.troubleOf`. */
  troubleOf(device: DeviceTwin): string | undefined { return this.#queues.get(protocolOf(device.device))?.troubleOf(device) }

  /** A connection of a mapper; it is the server's from now on. */
  accept(socket: Socket): void { this.#injector.injectConnection(socket) }

  /** Tells nobody any more; resolves when what waits for its commit is answered, or its connection is gone. */
  async close(): Promise<void> {
    this.#closed = true
    this.#unsubscribe()
    for (const queue of this.#queues.values()) queue.close()
    await new Promise<void>(resolve => { this.#server.tryShutdown(() => resolve()) })
  }

  // ── from mappers ───────────────────────────────────────────────────────────────────────────────────────────────────

  async #counted<Answer>(handle: () => Promise<Answer>): Promise<Answer> {
    if (this.#callsWaiting >= limits.callsWaiting.value) {
      throw new HoldfastError('DMI_BUSY', `${limits.callsWaiting.value} calls wait for the disk; report again a little later`)
    }
    this.#callsWaiting++
    try {
      return await handle()
    } finally {
      this.#callsWaiting--
    }
  }

  async #register({ mapper, withData }: MapperRegisterRequest): Promise<{ modelList: DeviceModel[], deviceList: Device[] }> {
    const registration = readRegistration(mapper)
    const { protocol } = registration
    this.#makeRoom(registration)
    this.#registering.set(protocol, registration)
    try {
      await this.#components.memory.remember(registration)
      const answer = withData ? await this.#everything(protocol) : undefined
      // Not where the mapper has registered once more meanwhile.
      if (this.#registering.get(protocol) === registration) this.#registered(registration, answer?.answered)
      return { modelList: answer?.modelList ?? [], deviceList: answer?.deviceList ?? [] }
    } finally {
      if (this.#registering.get(protocol) === registration) this.#registering.delete(protocol)
    }
  }

  #registered(registration: MapperRegistration, answered: ReadonlyMap<TellingKey, string> | undefined): void {
    const { log, counters } = this.#components
    const before = this.#queues.get(registration.protocol)?.registration
    if (before !== undefined && before.name !== registration.name) {
      log.warn('another mapper has registered for a protocol: it serves its devices from now on', {
        protocol: registration.protocol, was: before.name, is: registration.name
      })
    }
    log.info('a mapper has registered', { ...registration })
    counters.registrations++
    this.#begin(registration, answered)
  }

  /**
   * Models and devices of a protocol, as many as go into one answer, models first; and what a mapper that has it holds. Others
   * get their turns meanwhile: what changes then is told by calls.
   */
  async #everything(protocol: string): Promise<Everything> {
    const models = new Map<string, DeviceModel>()
    const deviceList: Device[] = []
    const answered = new Map<TellingKey, string>()
    let bytes = 0
    for (const [i, { id }] of [...this.#devicesOf(protocol)].entries()) {
      if (i % devicesPerTurn === devicesPerTurn - 1) await new Promise<void>(resolve => { this.#components.clock.soon(resolve) })
      const device = this.#served(id, protocol)
      if (device === undefined) continue
      const modelId = modelIdOf(device.device)
      // It follows when its model is here.
      if (modelId !== undefined && device.model === undefined) continue
      const isNewModel = modelId !== undefined && device.model !== undefined && !models.has(modelId)
      const model = isNewModel ? modelMessage(device.model) : undefined
      const message = deviceMessage(device)
      bytes += toBinary(DeviceSchema, message).length + (model === undefined ? 0 : toBinary(DeviceModelSchema, model).length) + 16
      if (bytes > limits.registerAnswerBytes.value) break
      const modelPrint = device.model === undefined ? undefined : this.#fingerprints.model(device.model)
      if (isNewModel) {
        models.set(modelId, model!)
        answered.set(`model/${modelId}`, modelPrint!)
      }
      deviceList.push(message)
      answered.set(`device/${device.id}`, this.#fingerprints.device(device, modelPrint))
    }
    return { modelList: [...models.values()], deviceList, answered }
  }

  /** Those that are being answered count as well, and those whose commit failed: they are remembered. */
  #makeRoom({ protocol }: MapperRegistration): void {
    const { memory } = this.#components
    const protocols = memory.registrations.map(each => each.protocol)
    if (protocols.length < limits.mappers.value || protocols.includes(protocol)) return
    const idle = protocols.find(each => !this.#registering.has(each) && this.#queues.get(each)?.idle !== false)
    if (idle === undefined) {
      throw new HoldfastError('DMI_MAPPERS_TOO_MANY', `${limits.mappers.value} mappers are registered and have devices`)
    }
    this.#queues.get(idle)?.close()
    this.#queues.delete(idle)
    memory.forget(idle)
  }

  async #reportStatus({ deviceName, deviceNamespace, reportedDevice }: ReportDeviceStatusRequest): Promise<object> {
    const id = readId(deviceName, deviceNamespace)
    const twins = reportedDevice?.twins ?? []
    if (twins.length > limits.twinsPerReport.value) {
      throw new HoldfastError('DMI_REPORT_INVALID',
        `reportedDevice.twins: at most ${limits.twinsPerReport.value} properties in one report, got ${twins.length}`)
    }
    const writes = new Map<string, PropertyWrite>()
    for (const { propertyName, reported } of twins) {
      if (reported === undefined) continue
      const { type, timestamp } = reported.metadata
      writes.set(propertyName, {
        value: reported.value,
        ...type === undefined || type === '' ? {} : { type },
        // Whatever else it is counts as none (TWN-22).
        ...timestamp !== undefined && /^\d{1,16}$/.test(timestamp) ? { timestamp: Number(timestamp) } : {}
      })
    }
    if (writes.size === 0) {
      throw new HoldfastError('DMI_REPORT_INVALID', 'reportedDevice.twins: expected at least one property with a reported value')
    }
    await this.#write(id, { section: 'reported', writes })
    return {}
  }

  async #reportState({ deviceName, deviceNamespace, state }: ReportDeviceStatesRequest): Promise<object> {
    const id = readId(deviceName, deviceNamespace)
    const known = deviceStates.find(each => each === state)
    if (known === undefined) {
      const got = JSON.stringify(state.slice(0, 64))
      throw new HoldfastError('TWIN_STATE', `state: expected one of ${deviceStates.join(', ')}, got ${got}`)
    }
    await this.#write(id, { section: 'state', state: known })
    return {}
  }

  /** Resolves when it is durable (L1). */
  async #write(id: DeviceId, write: TwinWrite): Promise<void> {
    const { commit } = this.#components.twins.write(id, write, 'dmi')
    if (commit !== undefined) await durable(commit)
    this.#components.counters.reports++
  }

  #statusOf(error: unknown): StatusReply {
    const { log, counters } = this.#components
    const code = statusCodeOf(error)
    if (code === status.INTERNAL) log.error('a call of a mapper failed', { error: describeError(error) })
    const name = status[code]
    counters.refusals.set(name, (counters.refusals.get(name) ?? 0) + 1)
    return { code, details: describeError(error) }
  }

  // ── to mappers ─────────────────────────────────────────────────────────────────────────────────────────────────────

  #begin(registration: MapperRegistration, answered: ReadonlyMap<TellingKey, string> | undefined): void {
    const { protocol } = registration
    const { memory, counters, clock, random, log } = this.#components
    // It is remembered, and called after the next start.
    if (this.#closed) return
    this.#queues.get(protocol)?.close()
    const { callTimeoutMs, callsMax } = this.#options
    this.#queues.set(protocol, new MapperQueue(registration, this.#devicesOf(protocol), answered, { callsMax }, {
      dial: mapperDialer({ callTimeoutMs }, { clock }),
      served: id => this.#served(id as DeviceId, protocol),
      fingerprints: this.#fingerprints, memory, counters, clock, random, log
    }))
  }

  *#devicesOf(protocol: string): Generator<DeviceTwin> {
    for (const device of this.#components.twins.all()) if (this.#isServed(device, protocol)) yield device
  }

  #served(id: DeviceId, protocol: string): DeviceTwin | undefined {
    const device = this.#components.twins.get(id)
    return device !== undefined && this.#isServed(device, protocol) ? device : undefined
  }

  #isServed(device: DeviceTwin, protocol: string): boolean {
    return protocolOf(device.device) === protocol && !this.#components.isBuiltIn(device)
  }

  #changed({ id, before, after, desired, reported, specChanged }: TwinChange): void {
    const isOther = specChanged || desired.length > 0 || before?.uid !== after?.uid
    for (const protocol of new Set([before, after].flatMap(device => device === undefined ? [] : protocolOf(device.device)))) {
      const queue = this.#queues.get(protocol)
      if (isOther) queue?.changed(id)
      else if (reported.length > 0) queue?.reported(id)
    }
  }
}

interface Everything {
  readonly modelList: DeviceModel[]
  readonly deviceList: Device[]
  readonly answered: Map<TellingKey, string>
}

/** About 10 ms of one core. */
const devicesPerTurn = 32

function readRegistration(mapper: MapperInfo | undefined): MapperRegistration {
  const invalid = (what: string): never => { throw new HoldfastError('DMI_MAPPER_INVALID', what) }
  if (mapper === undefined) return invalid('mapper: expected who registers')
  const { name, version, apiVersion, protocol, address } = mapper
  for (const [field, text] of Object.entries({ name, version, api_version: apiVersion, protocol })) {
    const { value: max } = limits.textLength
    if (text.length > max) invalid(`mapper.${field}: at most ${max} characters, got ${text.length}`)
  }
  if (name === '') invalid('mapper.name: expected a name')
  if (protocol === '') invalid('mapper.protocol: expected the protocol that its Devices have in spec.protocol.protocolName')
  const path = new TextDecoder().decode(address)
  if (!path.startsWith('/') || path.includes('\0')) {
    invalid(`mapper.address: expected the absolute path of the mapper's Unix socket, got ${JSON.stringify(path.slice(0, 64))}`)
  }
  if (address.length > limits.addressBytes.value) {
    invalid(`mapper.address: at most ${limits.addressBytes.value} bytes, got ${address.length}; choose a shorter path`)
  }
  return { name, version, apiVersion, protocol, address: path }
}

/** No namespace means `default`, as older mappers have it. */
function readId(name: string, namespace: string): DeviceId {
  const id = parseDeviceId(`${namespace === '' ? 'default' : namespace}/${name}`)
  if (id !== undefined) return id
  throw new HoldfastError('DMI_REPORT_INVALID', 'deviceNamespace and deviceName: expected those of a Device, got ' +
    JSON.stringify(`${namespace}/${name}`.slice(0, 64)))
}

function durable(commit: Commit): Promise<void> {
  return new Promise((resolve, reject) => {
    commit.onDurable(error => {
      if (error === undefined) resolve()
      else reject(error)
    })
  })
}

/** DMI-42. */
function statusCodeOf(error: unknown): status {
  switch (codeOfError(error)) {
    case 'TWIN_DEVICE_UNKNOWN': return status.NOT_FOUND
    case 'TWIN_FULL':
    case 'DISK_FULL':
    case 'OUTBOX_FULL':
    case 'DMI_BUSY':
    case 'DMI_MAPPERS_TOO_MANY': return status.RESOURCE_EXHAUSTED
    case 'DMI_MAPPER_INVALID':
    case 'DMI_REPORT_INVALID':
    case 'TWIN_STATE': return status.INVALID_ARGUMENT
    case 'STORE_FAILED':
    case 'STORE_CLOSED': return status.UNAVAILABLE
    default: return error instanceof TwinRefused ? status.INVALID_ARGUMENT : status.INTERNAL
  }
}
