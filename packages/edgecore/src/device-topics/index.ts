export * from './device-topics.ts'
export * from './limits.ts'
