import type { Json } from '../object.ts'
import { duplicateFields } from '../kinds/duplicate-fields.ts'
import { kubeApiServerLimits } from './limits.ts'
import { badRequest } from './refusals.ts'

export interface JsonBody {
  readonly document: Json
  /** Paths of members that an object has twice, in the order of their second appearance; the last value counts. */
  readonly duplicates: readonly string[]
}

/** Reads a body of JSON. Throws 400 where it is not UTF-8, not JSON or nested too deep. */
export function parseJsonBody(bytes: Uint8Array, what: string): JsonBody {
  let text: string
  let document: Json
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
    document = JSON.parse(text) as Json
  } catch (error) {
    throw badRequest(`${what}: json parse error: ${(error as Error).message}`)
  }
  const levelsMax = kubeApiServerLimits.bodyDepthMax.value
  if (isDeeperThan(text, levelsMax)) throw badRequest(`${what}: nested deeper than ${levelsMax} levels`)
  return { document, duplicates: duplicateFields(text) }
}

function isDeeperThan(text: string, levelsMax: number): boolean {
  let levels = 0
  for (let i = 0; i < text.length; i++) {
    switch (text[i]) {
      case '{':
      case '[':
        if (++levels > levelsMax) return true
        break
      case '}':
      case ']':
        levels--
        break
      case '"':
        for (i++; text[i] !== '"'; i++) if (text[i] === '\\') i++
        break
      default:
    }
  }
  return false
}
