import { z } from 'zod'
import { shown } from './json-payload.ts'
import { mapperLimits as limits } from './limits.ts'
import { Misconfigured } from './mapper.ts'

/** Checks settings of a Device by `schema`. Throws `Misconfigured`, naming the first setting that does not fit. */
export function readSettings<Schema extends z.ZodType>(schema: Schema, settings: unknown, where: string): z.output<Schema> {
  const read = schema.safeParse(settings)
  if (read.success) return read.data
  const issue = read.error.issues[0]!
  const path = [where, ...issue.path.map(String)].join('.')
  if (issue.code === 'unrecognized_keys') {
    throw new Misconfigured(`${path}: no such setting: ${issue.keys.slice(0, 5).join(', ')}`)
  }
  let got: unknown = settings
  for (const key of issue.path) got = typeof got === 'object' && got !== null ? (got as Record<PropertyKey, unknown>)[key] : undefined
  const value = got === undefined || typeof got === 'object' ? '' : `, got ${shown(JSON.stringify(got))}`
  throw new Misconfigured(`${path}: ${issue.message}${value}`)
}

/** Text of 1 to `lengthMax` characters. */
export function someText(expected: string, lengthMax: number, accepts: (text: string) => boolean = () => true) {
  const error = `expected ${expected}, at most ${lengthMax} characters`
  return z.string({ error }).min(1, { error }).max(lengthMax, { error }).refine(accepts, { error })
}

/** A JSON pointer (RFC 6901) as its reference tokens. */
export function jsonPointer() {
  const pattern = /^(?:\/(?:[^~/]|~[01])*)*$/
  return z.string({ error: pointerExpected }).max(limits.pointerLength.value, { error: pointerExpected })
    .refine(text => pattern.test(text), { error: pointerExpected })
    .transform(text => text.split('/').slice(1).map(token => token.replaceAll('~1', '/').replaceAll('~0', '~')))
}

const pointerExpected = `expected a JSON pointer such as /ENERGY/Power, at most ${limits.pointerLength.value} characters`
