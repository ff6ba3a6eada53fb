import type { DeviceState, Json, PropertyRule } from '@holdfast/device-twin'
import type { Commit } from '@holdfast/store'
import type { DeviceId } from '../twins/device-twins.ts'

/**
 * A way to speak with devices that is built in (docs/spec/mappers.md). To add one:
 *
 * 1. Write a class that implements `Protocol`. `attach` is handed one device and a `DeviceHost`; it reads the device's
 *    settings (`readSettings` with a zod schema), begins to serve it, and returns a `DeviceMapper`.
 * 2. What the device says goes to `host.report` and `host.reportState`, whenever it says so.
 * 3. `write` tells the device one desired value. When, and how often again, is not the mapper's business.
 * 4. What is wrong with the settings of a property goes to `host.misconfigured`, and that property alone is left out.
 * 5. Run `mapperSuite` (testing/mapper-suite.ts) with a simulated device, and add the class to the list in edgecore.ts.
 *
 * Everything that a mapper opens or starts for a device ends with `close`. What is wrong with one device never keeps
 * another one waiting (L9): a `write` may hang, it is given up at its deadline.
 */
export interface Protocol {
  /** What a Device has as `spec.protocol.protocolName`, in lower case; Devices may write it in any case. */
  readonly name: string
  /**
   * Begins to serve a device. A device whose settings or model changed is closed and attached anew.
   * Throws `Misconfigured` where the device cannot be served at all; nothing is left running then.
   */
  attach(device: MappedDevice, host: DeviceHost): DeviceMapper
}

/** One device while it is served. */
export interface DeviceMapper {
  /** Properties that `write` can tell. */
  readonly writable: ReadonlySet<string>
  /**
   * Tells the device that a property is to have `value`. It is satisfied when the device *reports* the value, not when this
   * returns: until then it is called again (TWN-27), at most one call for a device at a time. A rejection is shown and
   * tried again like silence. `signal` aborts at the deadline of the call, and when the device is closed.
   */
  write(property: string, value: Json, signal: AbortSignal): void | Promise<void>
  /** Ends at once all that serves the device. `host` is not called any more. */
  close(): void
}

/** What the Device says, as far as a mapper needs it. A value. */
export interface MappedDevice {
  readonly id: DeviceId
  /** `spec.protocol.configData`. */
  readonly settings: Settings
  /** Properties of the Device with visitors of this protocol, in its order. */
  readonly properties: readonly MappedProperty[]
}

export interface MappedProperty {
  readonly name: string
  /** What the model says; undefined where there is none. */
  readonly rule: PropertyRule | undefined
  /** `visitors.configData`. */
  readonly settings: Settings
  /** How often to ask the device, milliseconds; undefined where the Device does not say. */
  readonly collectCycleMs: number | undefined
}

export type Settings = Readonly<Record<string, unknown>>

/** The device's twin, as its mapper sees it. */
export interface DeviceHost {
  /**
   * What the device says, one write for all. Values that the twin refuses are left out, shown as problems of their
   * properties, and the others stored; null says nothing. Returns what an acknowledgement waits for; undefined: nothing.
   * `onRefused` is told of each that is left out (undefined: of all), for who has somebody to tell.
   * Throws HoldfastError `DISK_FULL` or `STORE_FAILED` where nothing can be stored now.
   */
  report(values: ReadonlyMap<string, Json>, onRefused?: (property: string | undefined, reason: string) => void): Commit | undefined
  /** As `report`. */
  reportState(state: DeviceState): Commit | undefined
  /** The device was asked for a property, and has answered: what was wrong with it the last time is over. */
  heard(property: string): void
  /** Something that the device said cannot be taken: shown until `heard` or reported. Undefined: of the whole device. */
  problem(property: string | undefined, reason: string): void
  /** The settings of a property, or one of them, cannot be used: shown for as long as they stand. */
  misconfigured(property: string, reason: string): void
  /** Desired values that the device does not have yet, of properties that can be written. */
  wanted(): ReadonlyMap<string, Json>
  /** The device is listening again: what it does not have yet is told now, and not when that is due. */
  tellAgain(): void
}

/** A device, or a property, whose settings cannot be used. The message names setting, value and what was expected. */
export class Misconfigured extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'Misconfigured'
  }
}
