export * from './broker.ts'
export * from './broker-salvage.ts'
export * from './limits.ts'
export * from './listener.ts'
