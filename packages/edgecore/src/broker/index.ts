export * from './broker.ts'
export * from './limits.ts'
export * from './listener.ts'
