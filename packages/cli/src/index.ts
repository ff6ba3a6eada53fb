export * from './error-codes.ts'
export * from './join.ts'
export * from './render.ts'
