import { create } from '@bufbuild/protobuf'
import type { DescMessage, DescMethodUnary, MessageShape } from '@bufbuild/protobuf'
import {
  CreateDeviceModelRequestSchema, DeviceMapperService, RegisterDeviceRequestSchema, RemoveDeviceModelRequestSchema,
  RemoveDeviceRequestSchema, UpdateDeviceModelRequestSchema, UpdateDeviceRequestSchema
} from '@holdfast/protos/dmi'
import { backoffDelayMs, describeError } from '@holdfast/runtime'
import type { Clock, Log, Random, Timer } from '@holdfast/runtime'
import type { DeviceTwin } from '../twins/device-twins.ts'
import { cycleMs, deviceMessage, modelMessage, unsatisfied } from './device-messages.ts'
import type { Fingerprints } from './device-messages.ts'
import { dmiLimits as limits } from './limits.ts'
import type { CallFailure, DialMapper, MapperConnection } from './mapper-connection.ts'
import type { MapperMemory, MapperRegistration, TellingKey } from './mapper-memory.ts'
import { modelIdOf } from './served-devices.ts'

export interface MapperQueueOptions {
  /** Calls to the mapper at a time. */
  readonly callsMax: number
}

export interface MapperQueueComponents {
  readonly dial: DialMapper
  readonly memory: MapperMemory
  /** The device as it is now, where it is this mapper's to serve. */
  readonly served: (id: string) => DeviceTwin | undefined
  readonly fingerprints: Fingerprints
  readonly counters: CallCounters
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

/** Plain numbers; whoever serves metrics reads them. */
export interface CallCounters {
  applied: number
  refused: number
  unanswered: number
}

/** What the mapper holds of a device or a model, as far as is known here. */
type Holding =
  | { readonly kind: 'nothing' }
  /** Perhaps something, perhaps something old: it was told by another process, or on another connection. */
  | { readonly kind: 'unknown' }
  | { readonly kind: 'told', readonly fingerprint: string }

/** A device or a model, and what is to be done for it. */
interface Item {
  readonly kind: 'device' | 'model'
  /** `<namespace>/<name>`. */
  readonly id: string
  holding: Holding
  /** Of a device: the model that the mapper has it with, which stays for as long as it does; undefined: none, or not known. */
  model: string | undefined
  calling: boolean
  /** Of a device: the model in the call that is under way. */
  callingModel: string | undefined
  /** Calls that failed in a row. */
  failures: number
  /** Times that it was told again because it did not report. */
  repeats: number
  /** It is due to be told again though nothing changed. */
  repeat: boolean
  timer: Timer | undefined
  /** Something is to be told, now or once its model is there. */
  due: boolean
  failure: CallFailure | undefined
}

/** One call or two for an item. */
interface Telling {
  readonly calls: readonly Call[]
  /** What the mapper holds once they are answered OK; undefined: nothing, they remove it. Costly. */
  readonly fingerprint: (() => string) | undefined
  readonly model?: string | undefined
}

/** What is told of a mapper in statuses. */
export interface MapperStatus extends MapperRegistration {
  readonly connected: boolean
  /** Devices that it serves. */
  readonly devices: number
  /** Devices and models that it has not been told in their present form. */
  readonly waiting: number
  /** Of these, those that failed, at most 20, with why. */
  readonly failing: readonly { readonly id: string, readonly reason: string }[]
}

const failingMax = 20
const connectRetryMs = 100
const callRetryMs = 1_000
const repeatMs = 5_000
const nothing: Holding = { kind: 'nothing' }
const unknown: Holding = { kind: 'unknown' }

const serviceMethods = DeviceMapperService.method
type Call = (connection: MapperConnection) => Promise<CallFailure | undefined>

function call<Input extends DescMessage, Output extends DescMessage>(
  method: DescMethodUnary<Input, Output>, message: () => MessageShape<Input>
): Call {
  return connection => connection.call(method, message())
}

/**
 * Keeps one mapper told of its devices and their models (DMI-30 … DMI-37).
 *
 * Level-triggered: for each device and model there is what the mapper holds, and what it should hold by now; where these
 * differ it is called, with what holds at the moment of the call. So however many changes there were meanwhile, the newest
 * is told, and a failure is only a later call. A model goes before the devices that use it. At most one call for a device at a
 * time, and those that failed before take at most half of the calls, so that no device waits for another one's trouble.
 */
export class MapperQueue {
  readonly registration: MapperRegistration
  readonly #options: MapperQueueOptions
  readonly #components: MapperQueueComponents
  readonly #items = new Map<TellingKey, Item>()
  /** Of models: devices that name them now. */
  readonly #users = new Map<string, Set<string>>()
  /** Models that no device names now, and that the mapper may have. */
  readonly #unused = new Set<Item>()
  readonly #fresh = new Set<Item>()
  readonly #failed = new Set<Item>()
  #calls = 0
  #failedCalls = 0
  #connection: MapperConnection | undefined
  #connecting = false
  #connectFailures = 0
  /** Why it could not be reached the last time; undefined: it could. */
  #connectError: string | undefined
  #connectTimer: Timer | undefined
  #closed = false

  /**
   * `answered`: the mapper has just registered, and holds these devices and models, by their keys; undefined: it may hold
   * what was told before.
   */
  constructor(
    registration: MapperRegistration, devices: Iterable<DeviceTwin>, answered: ReadonlyMap<TellingKey, string> | undefined,
    options: MapperQueueOptions, components: MapperQueueComponents
  ) {
    this.registration = registration
    this.#options = options
    this.#components = components
    const { memory } = components
    for (const key of memory.told(registration.protocol)) {
      if (answered === undefined) this.#item(key).holding = unknown
      else if (!answered.has(key)) memory.unmark(registration.protocol, key)
    }
    for (const [key, fingerprint] of answered ?? []) {
      this.#item(key).holding = { kind: 'told', fingerprint }
      memory.mark(registration.protocol, key)
    }
    for (const device of devices) {
      const item = this.#item(`device/${device.id}`)
      this.#use(device.id, modelIdOf(device.device))
      if (item.holding.kind === 'told') item.model = modelIdOf(device.device)
    }
    for (const item of this.#items.values()) this.#look(item)
    this.#pump()
  }

  get status(): MapperStatus {
    const failing: { id: string, reason: string }[] = []
    let [devices, waiting] = [0, 0]
    for (const item of this.#items.values()) {
      if (item.kind === 'device' && this.#components.served(item.id) !== undefined) devices++
      if (!item.due) continue
      waiting++
      if (item.failure === undefined || failing.length === failingMax) continue
      failing.push({ id: `${item.kind}/${item.id}`, reason: item.failure.reason })
    }
    return { ...this.registration, connected: this.#connection !== undefined, devices, waiting, failing }
  }

  /** What keeps the mapper from serving a device; '': nothing. Undefined: that is not known yet, the mapper is being asked. */
  troubleOf({ id, device, model }: DeviceTwin): string | undefined {
    const name = JSON.stringify(this.registration.name)
    if (this.#connection === undefined) {
      return this.#connectError === undefined ? undefined : `mapper ${name} cannot be reached: ${this.#connectError}`
    }
    const modelId = modelIdOf(device)
    const items = [modelId === undefined ? undefined : this.#items.get(`model/${modelId}`), this.#items.get(`device/${id}`)]
    for (const item of items) {
      if (item?.failure === undefined || !item.due) continue
      const { kind, reason } = item.failure
      return `mapper ${name} ${kind === 'unanswered' ? 'does not answer about' : 'refuses'} the ${item.kind}: ${reason}`
    }
    const [, item] = items
    if (item?.due === false) return ''
    return modelId !== undefined && model === undefined ? `DeviceModel ${modelId} is not on the node` : undefined
  }

  /** Whether there is nothing that this mapper serves, or is to be told to forget. */
  get idle(): boolean { return this.#items.size === 0 }

  /** A device is, was, or is no longer this mapper's; it or its model, or a desired value, is another one. */
  changed(id: string): void {
    if (this.#closed) return
    const device = this.#components.served(id)
    const key = `device/${id}` as const
    const item = device === undefined ? this.#items.get(key) : this.#item(key)
    if (item === undefined) return
    const model = device === undefined ? undefined : modelIdOf(device.device)
    this.#use(id, model)
    const modelItem = model === undefined ? undefined : this.#item(`model/${model}`)
    for (const each of modelItem === undefined ? [item] : [modelItem, item]) {
      // What was refused may be right now.
      if (each.failure !== undefined && each.failure.kind !== 'unanswered') {
        each.failures = 0
        this.#cancelTimer(each)
      }
      this.#look(each)
    }
    this.#pump()
  }

  /** A device of this mapper has reported. */
  reported(id: string): void {
    const item = this.#items.get(`device/${id}`)
    const device = item === undefined || item.due || item.calling ? undefined : this.#components.served(id)
    if (device !== undefined) this.#armRepeat(item!, device)
  }

  close(): void {
    this.#closed = true
    this.#connectTimer?.cancel()
    this.#connection?.close()
    this.#connection = undefined
    for (const { timer } of this.#items.values()) timer?.cancel()
    this.#fresh.clear()
    this.#failed.clear()
  }

  #item(key: TellingKey): Item {
    let item = this.#items.get(key)
    if (item === undefined) {
      const kind = key.startsWith('device/') ? 'device' : 'model'
      item = {
        kind, id: key.slice(kind.length + 1), holding: nothing, model: undefined, calling: false, callingModel: undefined,
        failures: 0, repeats: 0, repeat: false, timer: undefined, due: false, failure: undefined
      }
      this.#items.set(key, item)
    }
    return item
  }

  /** The device names this model now, and no other. */
  #use(id: string, model: string | undefined): void {
    for (const [other, users] of this.#users) {
      if (other === model || !users.delete(id)) continue
      if (users.size === 0) this.#users.delete(other)
      const item = this.#items.get(`model/${other}`)
      if (item !== undefined) this.#look(item)
    }
    if (model === undefined) return
    const users = this.#users.get(model)
    if (users !== undefined) users.add(id)
    else {
      this.#users.set(model, new Set([id]))
      this.#look(this.#item(`model/${model}`))
    }
  }

  /** Puts an item in line if something is to be told, unless it waits for its next try. */
  #look(item: Item): void {
    if (this.#closed || item.calling) return
    if (item.kind === 'model') this.#unused[item.holding.kind === 'nothing' || this.#users.has(item.id) ? 'delete' : 'add'](item)
    const telling = this.#telling(item)
    const isServed = item.kind === 'device' && this.#components.served(item.id) !== undefined
    item.due = telling !== undefined || (isServed && item.holding.kind !== 'told')
    if (telling !== undefined) {
      if (item.failures > 0 && item.timer !== undefined) return
      this.#cancelTimer(item)
      ;(item.failures > 0 ? this.#failed : this.#fresh).add(item)
      return
    }
    this.#fresh.delete(item)
    this.#failed.delete(item)
    if (item.kind === 'model') {
      if (item.holding.kind === 'nothing' && !this.#users.has(item.id)) this.#drop(item)
      return
    }
    const device = this.#components.served(item.id)
    if (device === undefined) {
      if (item.holding.kind === 'nothing') this.#drop(item)
      return
    }
    // One that waits for its model keeps the time of its next try.
    if (!item.due) this.#armRepeat(item, device)
  }

  /** A device that has been told, and does not report what is desired, is told again later (DMI-25). */
  #armRepeat(item: Item, device: DeviceTwin): void {
    const open = item.holding.kind === 'told' ? unsatisfied(device) : []
    if (open.length === 0) {
      item.repeats = 0
      this.#cancelTimer(item)
      return
    }
    if (item.timer !== undefined) return
    const firstMs = Math.max(repeatMs, 2 * cycleMs(device, open))
    const delayMs = Math.min(limits.repeatMaxMs.value, firstMs * 2 ** Math.min(item.repeats, 20))
    item.timer = this.#components.clock.after(delayMs, () => {
      item.timer = undefined
      const now = this.#components.served(item.id)
      item.repeat = now !== undefined && unsatisfied(now).length > 0
      if (item.repeat) item.repeats++
      this.#look(item)
      this.#pump()
    })
  }

  #cancelTimer(item: Item): void {
    item.timer?.cancel()
    item.timer = undefined
  }

  #drop(item: Item): void {
    this.#cancelTimer(item)
    this.#items.delete(`${item.kind}/${item.id}`)
  }

  /** What to call now; undefined: nothing, or a device waits for its model. */
  #telling(item: Item): Telling | undefined {
    return item.kind === 'device' ? this.#deviceTelling(item) : this.#modelTelling(item)
  }

  #deviceTelling({ id, holding, repeat }: Item): Telling | undefined {
    const [deviceNamespace, deviceName] = id.split('/')
    const device = this.#components.served(id)
    if (device === undefined) {
      if (holding.kind === 'nothing') return undefined
      const message = () => create(RemoveDeviceRequestSchema, { deviceName: deviceName!, deviceNamespace: deviceNamespace! })
      return { calls: [call(serviceMethods.removeDevice, message)], fingerprint: undefined }
    }
    const model = modelIdOf(device.device)
    const modelItem = model === undefined ? undefined : this.#items.get(`model/${model}`)
    if (model !== undefined && !this.#isTold(modelItem)) return undefined
    const fingerprint = (): string =>
      this.#components.fingerprints.device(device, modelItem?.holding.kind === 'told' ? modelItem.holding.fingerprint : undefined)
    const parts = () => ({ device: deviceMessage(device) })
    const register = call(serviceMethods.registerDevice, () => create(RegisterDeviceRequestSchema, parts()))
    const update = call(serviceMethods.updateDevice, () => create(UpdateDeviceRequestSchema, parts()))
    switch (holding.kind) {
      case 'nothing': return { calls: [register], fingerprint, model }
      case 'unknown': return { calls: [register, update], fingerprint, model }
      case 'told': return holding.fingerprint === fingerprint() && !repeat ? undefined : { calls: [update], fingerprint, model }
    }
  }

  /** A model goes before the devices that use it; one that the mapper may have, and refuses in its new form, holds up none. */
  #isTold(model: Item | undefined): boolean {
    if (model === undefined || model.calling || model.holding.kind === 'nothing') return false
    return model.failures > 0 || this.#modelTelling(model) === undefined
  }

  #modelTelling({ id, holding }: Item): Telling | undefined {
    const [modelNamespace, modelName] = id.split('/')
    const users = this.#users.get(id)
    if (users === undefined) {
      if (holding.kind === 'nothing' || this.#isHeld(id)) return undefined
      const message = () => create(RemoveDeviceModelRequestSchema, { modelName: modelName!, modelNamespace: modelNamespace! })
      return { calls: [call(serviceMethods.removeDeviceModel, message)], fingerprint: undefined }
    }
    const [first] = users
    const model = this.#components.served(first!)?.model
    // It is not here, or not any more: the mapper keeps what it has.
    if (model === undefined) return undefined
    const fingerprint = (): string => this.#components.fingerprints.model(model)
    const parts = () => ({ model: modelMessage(model) })
    const createModel = call(serviceMethods.createDeviceModel, () => create(CreateDeviceModelRequestSchema, parts()))
    const update = call(serviceMethods.updateDeviceModel, () => create(UpdateDeviceModelRequestSchema, parts()))
    switch (holding.kind) {
      case 'nothing': return { calls: [createModel], fingerprint }
      case 'unknown': return { calls: [createModel, update], fingerprint }
      case 'told': return holding.fingerprint === fingerprint() ? undefined : { calls: [update], fingerprint }
    }
  }

  /** Whether the mapper has a device with this model, or may have one with it. */
  #isHeld(model: string): boolean {
    for (const item of this.#items.values()) {
      if (item.kind !== 'device') continue
      if (item.calling && item.callingModel === model) return true
      if (item.holding.kind === 'nothing') continue
      if (item.model === model || (item.model === undefined && item.holding.kind === 'unknown')) return true
    }
    return false
  }

  #pump(): void {
    if (this.#closed) return
    if (this.#connection === undefined) {
      // Also where there is nothing to tell: a mapper that goes away is to be noticed.
      if (!this.idle) this.#connect()
      return
    }
    const { callsMax } = this.#options
    const failedMax = Math.max(1, Math.floor(callsMax / 2))
    while (this.#calls < callsMax) {
      // One of the calls is for those that failed, and more where nothing else waits.
      const isFailedsTurn = this.#calls > 0 && this.#failedCalls === 0 && this.#failed.size > 0
      const [item] = this.#fresh.size > 0 && !isFailedsTurn ? this.#fresh : this.#failedCalls < failedMax ? this.#failed : []
      if (item === undefined) return
      this.#fresh.delete(item)
      this.#failed.delete(item)
      const telling = this.#telling(item)
      if (telling !== undefined) void this.#tell(item, telling, this.#connection)
      else this.#look(item)
    }
  }

  async #tell(item: Item, telling: Telling, connection: MapperConnection): Promise<void> {
    const { memory, counters } = this.#components
    const { protocol } = this.registration
    const key: TellingKey = `${item.kind}/${item.id}`
    const failedBefore = item.failures > 0
    item.calling = true
    item.callingModel = telling.model
    item.repeat = false
    this.#calls++
    if (failedBefore) this.#failedCalls++
    const holds: Holding = telling.fingerprint === undefined ? nothing : { kind: 'told', fingerprint: telling.fingerprint() }
    if (holds.kind === 'told') memory.mark(protocol, key)
    let failure: CallFailure | undefined
    // Whether it is new to the mapper or not, the last call says whether it took it.
    for (const each of telling.calls) {
      failure = await each(connection)
      if (failure?.kind === 'unanswered') break
    }
    this.#calls--
    if (failedBefore) this.#failedCalls--
    item.calling = false
    if (this.#closed) return
    const isDone = failure === undefined || failure.kind === (holds.kind === 'nothing' ? 'not-found' : 'exists')
    const isStale = connection !== this.#connection
    if (isDone && !isStale) {
      counters.applied++
      this.#applied(item, holds, telling.model)
    } else this.#failure(item, telling, failure ?? { kind: 'unanswered', reason: 'the connection ended' })
    this.#look(item)
    // Devices wait for their model, and a model's removal for its devices.
    if (item.kind === 'model') for (const id of this.#users.get(item.id) ?? []) this.#look(this.#item(`device/${id}`))
    else for (const model of this.#unused) this.#look(model)
    this.#pump()
  }

  #applied(item: Item, holds: Holding, model: string | undefined): void {
    if (item.holding.kind !== 'told' || holds.kind !== 'told' || item.holding.fingerprint !== holds.fingerprint) item.repeats = 0
    item.holding = holds
    item.failures = 0
    item.failure = undefined
    item.model = model
    if (holds.kind === 'nothing') this.#components.memory.unmark(this.registration.protocol, `${item.kind}/${item.id}`)
  }

  #failure(item: Item, telling: Telling, failure: CallFailure): void {
    const { counters, clock, random, log } = this.#components
    counters[failure.kind === 'unanswered' ? 'unanswered' : 'refused']++
    if (telling.fingerprint === undefined && failure.kind !== 'unanswered' && item.failures + 1 >= limits.removalTries.value) {
      this.#applied(item, nothing, undefined)
      return
    }
    // It may have it in the old form or in the new one.
    if (item.model !== telling.model) item.model = undefined
    if (failure.kind === 'not-found') item.holding = nothing
    // A refusal may mean that the mapper has lost the device, or its model: the next time both are told from the start.
    else if (failure.kind === 'unanswered' || item.holding.kind === 'told') item.holding = unknown
    const model = failure.kind === 'unanswered' ? undefined : this.#items.get(`model/${telling.model}`)
    if (model?.holding.kind === 'told') {
      model.holding = unknown
      this.#look(model)
    }
    if (item.failure?.reason !== failure.reason && failure.kind !== 'unanswered') {
      log.warn('a mapper refuses a device or a model; it is told again', {
        mapper: this.registration.name, [item.kind]: item.id, reason: failure.reason
      })
    }
    item.failure = failure
    const delayMs = backoffDelayMs(item.failures++, { baseMs: callRetryMs, maxMs: limits.callRetryMaxMs.value }, random)
    this.#cancelTimer(item)
    item.timer = clock.after(delayMs, () => {
      item.timer = undefined
      this.#look(item)
      this.#pump()
    })
  }

  #connect(): void {
    if (this.#connecting || this.#connectTimer !== undefined) return
    this.#connecting = true
    const { clock, random, log, dial } = this.#components
    const { name, address } = this.registration
    dial(address).then(connection => {
      this.#connecting = false
      if (this.#closed) {
        connection.close()
        return
      }
      this.#connectFailures = 0
      this.#connectError = undefined
      this.#connected(connection)
    }, (error: unknown) => {
      this.#connecting = false
      if (this.#closed) return
      this.#connectError = describeError(error)
      if (this.#connectFailures === 0) {
        log.info('a mapper cannot be reached; it is tried again', { mapper: name, error: this.#connectError })
      }
      const retry = { baseMs: connectRetryMs, maxMs: limits.connectRetryMaxMs.value }
      const delayMs = backoffDelayMs(this.#connectFailures++, retry, random)
      this.#connectTimer = clock.after(delayMs, () => {
        this.#connectTimer = undefined
        this.#pump()
      })
    })
  }

  #connected(connection: MapperConnection): void {
    const { log } = this.#components
    const { name, protocol } = this.registration
    this.#connection = connection
    log.info('connected to a mapper', { mapper: name, protocol })
    void connection.closed.then(() => {
      if (this.#connection !== connection) return
      this.#connection = undefined
      if (this.#closed) return
      log.info('the connection to a mapper has ended', { mapper: name, protocol })
      // What listens there next may be another process than the one that was told.
      this.#doubt()
      this.#pump()
    })
    this.#pump()
  }

  /** What was told counts no more as known. */
  #doubt(): void {
    for (const item of this.#items.values()) {
      if (item.holding.kind === 'told') item.holding = unknown
    }
    for (const item of this.#items.values()) this.#look(item)
  }
}
