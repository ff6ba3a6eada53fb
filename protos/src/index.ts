export * from './batch.ts'
export * from './frame.ts'
export * from './ids.ts'
