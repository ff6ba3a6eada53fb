export { Dmi } from './dmi.ts'
export type { DmiComponents, DmiOptions } from './dmi.ts'
export { MapperMemory, MapperSalvage } from './mapper-memory.ts'
