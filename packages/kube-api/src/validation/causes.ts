import type { Json } from '../object.ts'
import { StatusError, type StatusCause, type StatusDetails } from '../status-error.ts'

/** Characters of a refused value that a message repeats; the rest is left out, so that a refusal stays small. */
const shownCharactersMax = 4096

const escapes: Readonly<Record<string, string>> = {
  '\u0007': '\\a', '\b': '\\b', '\f': '\\f', '\n': '\\n', '\r': '\\r', '\t': '\\t', '\v': '\\v', '\\': '\\\\', '"': '\\"'
}

/** A string as Go's `%q` writes it: what is not printable is escaped. */
export function quote(text: string): string {
  const shown = text.length > shownCharactersMax ? `${text.slice(0, shownCharactersMax)}…` : text
  return `"${shown.replace(/["\\]|[^\p{L}\p{M}\p{N}\p{P}\p{S} ]/gu, escapeCharacter)}"`
}

function escapeCharacter(character: string): string {
  const short = escapes[character]
  if (short !== undefined) return short
  const code = character.codePointAt(0)!
  const hex = code.toString(16)
  // A lone surrogate is not a character: Go writes the replacement character instead.
  if (code >= 0xd800 && code <= 0xdfff) return '\ufffd'
  if (code < 0x80) return `\\x${hex.padStart(2, '0')}`
  return code < 0x10000 ? `\\u${hex.padStart(4, '0')}` : `\\U${hex.padStart(8, '0')}`
}

function show(value: Json): string {
  if (typeof value === 'number' || typeof value === 'boolean') return String(value)
  if (value === null) return '"null"'
  if (typeof value === 'string') return quote(value)
  const text = JSON.stringify(value)
  return text.length > shownCharactersMax ? `${text.slice(0, shownCharactersMax)}…` : text
}

const withDetail = (text: string, detail: string): string => detail === '' ? text : `${text}: ${detail}`

// The constructors below are those of k8s.io/apimachinery/pkg/util/validation/field of 1.32, with the texts it sends.

export const invalidValue = (field: string, value: Json, detail: string): StatusCause =>
  ({ reason: 'FieldValueInvalid', message: withDetail(`Invalid value: ${show(value)}`, detail), field })

export const typeInvalidValue = (field: string, value: Json, detail: string): StatusCause =>
  ({ reason: 'FieldValueTypeInvalid', message: withDetail(`Invalid value: ${show(value)}`, detail), field })

export const requiredValue = (field: string, detail = ''): StatusCause =>
  ({ reason: 'FieldValueRequired', message: withDetail('Required value', detail), field })

export const duplicateValue = (field: string, value: Json): StatusCause =>
  ({ reason: 'FieldValueDuplicate', message: `Duplicate value: ${show(value)}`, field })

export const notFoundValue = (field: string, value: Json): StatusCause =>
  ({ reason: 'FieldValueNotFound', message: `Not found: ${show(value)}`, field })

export const forbiddenValue = (field: string, detail: string): StatusCause =>
  ({ reason: 'FieldValueForbidden', message: withDetail('Forbidden', detail), field })

/** `supported` in the order in which the message lists it. */
export const unsupportedValue = (field: string, value: Json, supported: readonly string[]): StatusCause => ({
  reason: 'FieldValueNotSupported',
  message: withDetail(`Unsupported value: ${show(value)}`,
    supported.length === 0 ? '' : `supported values: ${supported.map(quote).join(', ')}`),
  field
})

export const tooLongValue = (field: string, bytesMax: number): StatusCause =>
  ({ reason: 'FieldValueTooLong', message: `Too long: may not be more than ${bytesMax} bytes`, field })

export const tooManyValues = (field: string, count: number, countMax: number): StatusCause => ({
  reason: 'FieldValueTooMany',
  message: `Too many: ${count}: must have at most ${countMax} ${countMax === 1 ? 'item' : 'items'}`,
  field
})

/**
 * 422 `Invalid` for an object with these causes, at least one. A cause that is given twice stays twice in the details
 * and is told once in the message, as the real server does.
 */
export function invalidObject(
  { group, kind }: { readonly group: string, readonly kind: string }, name: string, causes: readonly StatusCause[]
): StatusError {
  const texts = [...new Set(causes.map(({ field, message }) => `${field}: ${message}`))]
  const details: StatusDetails = {
    ...(name === '' ? {} : { name }), ...(group === '' ? {} : { group }), ...(kind === '' ? {} : { kind }), causes
  }
  return new StatusError(422, 'Invalid',
    `${group === '' ? kind : `${kind}.${group}`} ${quote(name)} is invalid: ${texts.length === 1 ? texts[0] : `[${texts.join(', ')}]`}`,
    details)
}
