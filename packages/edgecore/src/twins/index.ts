export { TwinRefused, parseDeviceId } from './device-twins.ts'
export type {
  DeviceId, DeviceTwin, DeviceTwins, TwinChange, TwinWrite, TwinWriting, WriteSource
} from './device-twins.ts'
export { NodeTwins } from './node-twins.ts'
export { TwinSalvage } from './twin-salvage.ts'
