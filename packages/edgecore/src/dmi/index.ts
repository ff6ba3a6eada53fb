export { Dmi } from './dmi.ts'
export type { DmiComponents, DmiOptions } from './dmi.ts'
export { MapperSalvage } from './mapper-memory.ts'
