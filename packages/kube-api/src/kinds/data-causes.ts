import { isDeepStrictEqual } from 'node:util'
import type { StatusCause } from '../status-error.ts'
import { forbiddenValue, invalidValue, tooLongValue } from '../validation/causes.ts'
import { configMapKeyErrors } from '../validation/names.ts'
import { eachCause } from './each-cause.ts'
import { kindLimits } from './limits.ts'

const dataBytesMax = kindLimits.dataBytesMax.value

/** Causes for the keys of `data` or `binaryData`, in their order. */
export function dataKeyCauses(data: Readonly<Record<string, string>>, field: string): StatusCause[] {
  return eachCause(Object.keys(data).toSorted(), key =>
    configMapKeyErrors(key).map(error => invalidValue(`${field}[${key}]`, key, error)))
}

export const textBytes = (data: Readonly<Record<string, string>>): number =>
  Object.values(data).reduce((sum, text) => sum + Buffer.byteLength(text), 0)

export const base64Bytes = (data: Readonly<Record<string, string>>): number =>
  Object.values(data).reduce((sum, text) => sum + Buffer.byteLength(text, 'base64'), 0)

export const dataSizeCauses = (bytes: number, field: string): StatusCause[] =>
  bytes > dataBytesMax ? [tooLongValue(field, dataBytesMax)] : []

interface Sealable { readonly immutable?: boolean }

/** Causes for changes of a ConfigMap or a Secret that was made immutable. */
export function immutableCauses<T extends Sealable>(next: T, current: T, members: readonly (keyof T & string)[]): StatusCause[] {
  if (current.immutable !== true) return []
  const changed = members.filter(member => !isDeepStrictEqual(next[member], current[member]))
  return [...next.immutable === true ? [] : ['immutable'], ...changed]
    .map(field => forbiddenValue(field, 'field is immutable when `immutable` is set'))
}
