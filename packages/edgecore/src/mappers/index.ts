export { HttpProtocol } from './http-protocol.ts'
export type { DeviceReport, DeviceReports } from './http-protocol.ts'
export { Mappers } from './mappers.ts'
export { MqttProtocol } from './mqtt-protocol.ts'
