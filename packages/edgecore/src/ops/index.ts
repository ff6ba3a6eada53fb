export * from './operations.ts'
