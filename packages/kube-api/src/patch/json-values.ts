import type { Json, JsonObject, KubeObject } from '../object.ts'
import { StatusError } from '../status-error.ts'
import { patchLimits } from './limits.ts'

// Members are read and written as own properties alone, so that `__proto__`, `constructor` and the like are plain names.

export type Container = JsonObject | Json[]

export const isJsonObject = (value: Json | undefined): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

export const getMember = (object: JsonObject, name: string): Json | undefined =>
  Object.hasOwn(object, name) ? object[name] : undefined

export function setMember(object: JsonObject, name: string, value: Json): void {
  if (name === '__proto__') {
    Object.defineProperty(object, name, { value, writable: true, enumerable: true, configurable: true })
  } else {
    object[name] = value
  }
}

/** What a patch is applied to: the object itself stays as it is. */
export type Patched = KubeObject | Json

/** Bytes that copies may still take; what is counted is about what the JSON of a value takes. */
export interface CopyAllowance { bytes: number }

export class CopyTooLarge extends Error {}
export class NestingTooDeep extends Error {}

/**
 * A copy that shares nothing with `value`; members that are undefined are left out. Throws NestingTooDeep past
 * `patchDepth`, and CopyTooLarge when `allowance` is used up.
 */
export function copyJson(value: Patched, allowance?: CopyAllowance, depth = 0): Json {
  if (allowance !== undefined) {
    allowance.bytes -= typeof value === 'string' ? value.length + 2 : 4
    if (allowance.bytes < 0) throw new CopyTooLarge()
  }
  if (typeof value !== 'object' || value === null) return value
  if (depth >= patchLimits.patchDepth.value) throw new NestingTooDeep()
  if (Array.isArray(value)) return value.map(element => copyJson(element, allowance, depth + 1))
  const copy: JsonObject = {}
  for (const [name, member] of Object.entries(value)) {
    if (member === undefined) continue
    if (allowance !== undefined) allowance.bytes -= name.length + 3
    setMember(copy, name, copyJson(member as Json, allowance, depth + 1))
  }
  return copy
}

/** Levels of nesting are within `levels`; looks no deeper than that. */
export function isNestedWithin(value: Json, levels: number): boolean {
  if (typeof value !== 'object' || value === null) return true
  if (levels === 0) return false
  return Array.isArray(value)
    ? value.every(element => isNestedWithin(element, levels - 1))
    : Object.values(value).every(member => isNestedWithin(member, levels - 1))
}

/** The copy of an object as it is stored that a patch may change: 422 where it is nested too deeply. */
export function copyForPatch(value: Patched): Json {
  try {
    return copyJson(value)
  } catch (error) {
    if (error instanceof NestingTooDeep) throw rejected('the object is nested too deeply')
    throw error
  }
}

/** 400 for a patch that is nested too deeply to be walked. */
export function checkPatchDepth(patch: Json): void {
  if (!isNestedWithin(patch, patchLimits.patchDepth.value)) throw badPatch('exceeded max depth')
}

/** What a result may be: its depth is that of the object and the patch together at most, and is bounded like theirs. */
export function checkResultDepth(result: Json): void {
  if (!isNestedWithin(result, patchLimits.patchDepth.value)) throw rejected('the result is nested too deeply')
}

/** 422 with the words of the real server, which keep the reason to itself; `why` is the cause, for the log. */
export function rejected(why: string): StatusError {
  const error = new StatusError(422, 'Invalid', 'the server rejected our request due to an error in our request', {})
  error.cause = why
  return error
}

export const badPatch = (why: string): StatusError => new StatusError(400, 'BadRequest', `error decoding patch: ${why}`)

/** What Go calls the type of a JSON value. */
export function typeInGo(value: Json): string {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'array'
  return typeof value === 'boolean' ? 'bool' : typeof value
}

const shownCharactersMax = 4096

/** A value as Go's `%v` writes it: `map[a:1 b:[x y]]`, members in the order of their names; cut where it is long. */
export function showAsGo(value: Json): string {
  const text = (part: Json): string => {
    if (part === null) return '<nil>'
    if (Array.isArray(part)) return `[${part.map(text).join(' ')}]`
    if (typeof part !== 'object') return String(part)
    return `map[${Object.keys(part).toSorted().map(name => `${name}:${text(part[name]!)}`).join(' ')}]`
  }
  const shown = text(value)
  return shown.length > shownCharactersMax ? `${shown.slice(0, shownCharactersMax)}…` : shown
}
