export { ExternalBroker } from './external-broker.ts'
export type { ExternalBrokerOptions } from './external-broker.ts'
