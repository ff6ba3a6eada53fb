import type { TwinErrorCode } from './error-codes.ts'
import { isRecord } from './json.ts'
import { twinLimits } from './limits.ts'

/** A refusal. The message names the property, the value (at most 64 characters of it), the rule and the way out. */
export interface TwinError {
  readonly code: TwinErrorCode
  readonly message: string
  /** Whole where a property may be called so, else shortened. */
  readonly property: string | undefined
  /** As text, at most 64 characters. */
  readonly value: string | undefined
  /** What it broke, such as `INT between 0 and 100`. */
  readonly rule: string | undefined
}

/** `value` as it is shown in a message, whatever it is; undefined for none. */
export function shown(value: unknown): string | undefined {
  if (value === undefined) return undefined
  if (typeof value === 'string') return shortened(value)
  if (Array.isArray(value)) return `an array of ${value.length}`
  if (isRecord(value)) return `an object with ${shortened(Object.keys(value).slice(0, 4).join(', ')) || 'no members'}`
  return typeof value === 'number' || typeof value === 'boolean' || value === null ? String(value) : typeof value
}

/** At most 64 characters, none of them a control character, and no half of a surrogate pair. */
export function shortened(text: string): string {
  const line = text.slice(0, 65).replace(/\p{Cc}/gu, ' ')
  return (line.length > 64 ? `${line.slice(0, 63)}…` : line).toWellFormed()
}

function isName(property: string): boolean {
  return property.length <= twinLimits.nameCharacters.value && !/\p{Cc}/u.test(property) && property.isWellFormed()
}

/** `problem` and `wayOut` are halves of a sentence: `value "230" is above 100` and `send a value from 0 to 100`. */
export function refusal(code: TwinErrorCode, { property, value, rule, problem, wayOut }: {
  readonly property?: string | undefined
  readonly value?: unknown
  readonly rule?: string
  readonly problem: string
  readonly wayOut: string
}): TwinError {
  const name = property === undefined ? undefined : shortened(property)
  return {
    code, property: property !== undefined && isName(property) ? property : name, value: shown(value), rule,
    message: `${name === undefined ? '' : `property ${JSON.stringify(name)}: `}${problem}; ${wayOut}`
  }
}
