import type { Json } from '@holdfast/device-twin'

/** What a JSON pointer's reference tokens lead to (RFC 6901); undefined: there is no such thing in the document. */
export function valueAt(document: Json, pointer: readonly string[]): Json | undefined {
  let value: Json = document
  for (const token of pointer) {
    if (Array.isArray(value)) {
      if (!/^(?:0|[1-9]\d{0,8})$/.test(token)) return undefined
      const element = (value as readonly Json[])[Number(token)]
      if (element === undefined) return undefined
      value = element
    } else if (typeof value === 'object' && value !== null && Object.hasOwn(value, token)) {
      value = (value as { readonly [member: string]: Json })[token]!
    } else return undefined
  }
  return value
}
