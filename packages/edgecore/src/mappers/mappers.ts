import type { Clock, Log, Service } from '@holdfast/runtime'
import type { DeviceId, DeviceTwin, DeviceTwins, TwinChange } from '../twins/device-twins.ts'
import { mapperLimits as limits } from './limits.ts'
import { mappedDevice, protocolOf } from './mapped-device.ts'
import type { Protocol } from './mapper.ts'
import { ServedDevice } from './served-device.ts'
import type { MapperCounters, MapperProblem, ServedDeviceOptions } from './served-device.ts'

export interface MappersComponents {
  readonly protocols: readonly Protocol[]
  readonly twins: DeviceTwins
  readonly clock: Clock
  readonly log: Log
}

/** One served device, for the operations port. */
export interface ServedDeviceStatus {
  readonly device: DeviceId
  readonly protocol: string
  /** Properties whose desired values the device does not have yet. */
  readonly wanted: readonly string[]
  readonly problems: readonly MapperProblem[]
}

interface Served {
  readonly protocol: Protocol
  readonly uid: string
  /** What the device was attached with, as text: nothing else is a reason to attach it anew. */
  readonly settings: string
  readonly device: ServedDevice
}

/** The built-in mappers: each device of this node whose protocol is one of theirs is served for as long as it is here. */
export class Mappers implements Service {
  readonly name = 'mappers'
  readonly counters: MapperCounters = { reports: 0, problems: 0, writes: 0, writesFailed: 0 }
  readonly #options: ServedDeviceOptions
  readonly #components: MappersComponents
  readonly #protocols: ReadonlyMap<string, Protocol>
  readonly #served = new Map<DeviceId, Served>()
  #unsubscribe: () => void = () => {}

  private constructor(options: Partial<ServedDeviceOptions>, components: MappersComponents) {
    this.#options = {
      writeTimeoutMs: options.writeTimeoutMs ?? limits.writeTimeoutMs.value,
      retryMs: options.retryMs ?? limits.retryMs.value,
      retryMsMax: options.retryMsMax ?? limits.retryMsMax.value
    }
    this.#components = components
    this.#protocols = new Map(components.protocols.map(protocol => [protocol.name, protocol]))
  }

  /** Serves the devices that are there, and from now on those that come; until `run` ends. */
  static open(options: Partial<ServedDeviceOptions>, components: MappersComponents): Mappers {
    const mappers = new Mappers(options, components)
    mappers.#unsubscribe = components.twins.subscribe(change => mappers.#changed(change))
    for (const twin of components.twins.all()) mappers.#serve(twin)
    return mappers
  }

  /** Whether the device is one of theirs: of a protocol of theirs, with settings that are. Otherwise another mapper may have it. */
  serves({ id }: DeviceTwin): boolean { return this.#served.get(id)?.device.isUsable === true }

  /** Devices that are served, in no order. */
  status(): ServedDeviceStatus[] {
    return [...this.#served].map(([id, { protocol, device }]) => ({
      device: id, protocol: protocol.name, wanted: [...device.wanted().keys()], problems: device.problems
    }))
  }

  /** What is wrong with a device, settings first; undefined: none of theirs. */
  problemsOf({ id }: DeviceTwin): readonly MapperProblem[] | undefined { return this.#served.get(id)?.device.problems }

  /** Devices served now, and those of them with a problem. */
  get counts(): { readonly devices: number, readonly troubled: number } {
    let troubled = 0
    for (const { device } of this.#served.values()) if (device.problems.length > 0) troubled++
    return { devices: this.#served.size, troubled }
  }

  async run(signal: AbortSignal): Promise<void> {
    if (!signal.aborted) await new Promise<void>(resolve => { signal.addEventListener('abort', () => resolve(), { once: true }) })
    this.#unsubscribe()
    for (const { device } of this.#served.values()) device.close()
    this.#served.clear()
  }

  #changed({ id, before, after, desired, reported, stateChanged, specChanged }: TwinChange): void {
    const served = this.#served.get(id)
    if (after === undefined) {
      served?.device.close()
      this.#served.delete(id)
      return
    }
    if (served === undefined || specChanged || before?.uid !== after.uid) this.#serve(after)
    else served.device.follow(after, [...desired, ...reported])
    if (stateChanged && after.twin.state?.value === 'online') this.#served.get(id)?.device.tellAgain()
  }

  /** Level-triggered: whatever has happened before, afterwards the device is served as it is now. */
  #serve(twin: DeviceTwin): void {
    const { id, uid } = twin
    const served = this.#served.get(id)
    const protocol = this.#protocols.get(protocolOf(twin.device))
    const mapped = protocol === undefined ? undefined : mappedDevice(twin)
    const settings = mapped === undefined ? '' : JSON.stringify(mapped)
    if (served !== undefined && (served.protocol !== protocol || served.uid !== uid || served.settings !== settings)) {
      served.device.close()
      this.#served.delete(id)
    }
    if (protocol === undefined || mapped === undefined) return
    if (!this.#served.has(id)) {
      const device = new ServedDevice(mapped, protocol, this.#options, { ...this.#components, counters: this.counters })
      this.#served.set(id, { protocol, uid, settings, device })
    }
    this.#served.get(id)!.device.follow(twin)
  }
}
