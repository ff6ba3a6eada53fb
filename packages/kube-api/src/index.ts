export * from './object.ts'
export * from './resource.ts'
export * from './status-error.ts'
