import { HybridClock } from '@holdfast/device-twin'
import type { Clock, Log, Random } from '@holdfast/runtime'
import type { Informer, KubeClient } from '../kube/kube-client.ts'
import { objectKey } from '../state/status-document.ts'
import { StatusWriter } from '../state/status-writer.ts'
import type { UpCollection } from '../state/up-collection.ts'
import { DeviceController } from './device-controller.ts'
import { DeviceEvents } from './device-events.ts'
import { DevicePlanner } from './device-planner.ts'
import { deviceLimits } from './limits.ts'
import { StampedDevices } from './stamped-devices.ts'
import { twinStatuses } from './twin-statuses.ts'

export interface DevicesOptions {
  /** The API that they are in: an embedded one shares this process, a cluster's is shared with everybody else in it. */
  readonly api: 'embedded' | 'cluster'
}

export interface DevicesComponents {
  readonly client: KubeClient
  readonly devices: Informer
  readonly deviceModels: Informer
  readonly deviceStatuses: Informer
  readonly nodes: Informer
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

/**
 * The cloud's side of twins (docs/spec/twin.md): desired values and conditions of Devices, and the DeviceStatuses that show what
 * nodes report. All of it is written by one writer of its own, so that no Pod's or Node's status waits behind a thousand devices.
 */
export class Devices {
  readonly writer: StatusWriter
  readonly planner: DevicePlanner
  readonly events: DeviceEvents
  /** For UpTargets. */
  readonly twins: UpCollection
  /** For NodeSources. */
  readonly stamped: StampedDevices
  readonly #controller: DeviceController

  constructor({ api }: DevicesOptions, components: DevicesComponents) {
    const { client, devices, deviceModels, deviceStatuses, nodes, clock, random, log } = components
    const limits = deviceLimits
    this.writer = new StatusWriter({
      // Nodes pace what they say of a device (TWN-31).
      writeIntervalMs: 0,
      writesPerSecond: api === 'embedded' ? limits.embeddedWritesPerSecond.value : limits.clusterWritesPerSecond.value,
      writesBurst: api === 'embedded' ? limits.embeddedWritesBurst.value : limits.clusterWritesBurst.value,
      writesInFlight: limits.writesInFlight.value
    }, { client, informers: [devices, deviceStatuses], clock, random, log })
    const start = Buffer.from(random.bytes(4)).toString('hex')
    this.planner = new DevicePlanner({ deviceModels, nodes, hybridClock: new HybridClock('cloud', start), clock, log })
    this.events = new DeviceEvents({ client, clock, random, log })
    const { writer, planner, events } = this
    this.twins = twinStatuses({ deviceStatuses, devices, deviceModels, writer, planner, events, log })
    const controller = new DeviceController({ devices, deviceModels, deviceStatuses, nodes, writer, planner, clock })
    this.#controller = controller
    this.stamped = new StampedDevices(devices, device =>
      controller.isReady ? planner.stamped(device, deviceStatuses.get(objectKey(device))) : device)
  }

  close(): void {
    this.#controller.close()
    this.events.close()
    this.writer.close()
  }
}
