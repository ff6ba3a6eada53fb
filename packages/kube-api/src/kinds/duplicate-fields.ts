import { kindLimits } from './limits.ts'

const toldFieldsMax = kindLimits.toldFieldsMax.value

interface ObjectFrame { readonly kind: 'object', readonly keys: Set<string>, key: string }
interface ListFrame { readonly kind: 'list', index: number }

/**
 * Paths of members that a JSON text gives more than once (`data.a`), each as often as it is repeated. Linear in the text
 * and without recursion. The text must be JSON: what `JSON.parse` refuses gives any answer, but no exception.
 */
export function duplicateFields(text: string): string[] {
  const found: string[] = []
  const frames: (ObjectFrame | ListFrame)[] = []
  let keyExpected = false
  for (let at = 0; at < text.length; at++) {
    const frame = frames.at(-1)
    switch (text[at]) {
      case '{':
        frames.push({ kind: 'object', keys: new Set(), key: '' })
        keyExpected = true
        break
      case '[':
        frames.push({ kind: 'list', index: 0 })
        keyExpected = false
        break
      case '}':
      case ']':
        frames.pop()
        keyExpected = false
        break
      case ',':
        if (frame?.kind === 'list') frame.index++
        keyExpected = true
        break
      case '"': {
        const end = endOfString(text, at)
        if (keyExpected && frame?.kind === 'object') {
          frame.key = stringOf(text.slice(at, end + 1))
          if (frame.keys.has(frame.key) && found.length < toldFieldsMax) found.push(pathOf(frames))
          frame.keys.add(frame.key)
          keyExpected = false
        }
        at = end
        break
      }
      default:
    }
  }
  return found
}

function endOfString(text: string, start: number): number {
  let at = start + 1
  while (at < text.length && text[at] !== '"') at += text[at] === '\\' ? 2 : 1
  return at
}

function stringOf(quoted: string): string {
  if (!quoted.includes('\\')) return quoted.slice(1, -1)
  try {
    return String(JSON.parse(quoted))
  } catch {
    return quoted
  }
}

function pathOf(frames: readonly (ObjectFrame | ListFrame)[]): string {
  return frames.map(frame => frame.kind === 'object' ? `.${frame.key}` : `[${frame.index}]`).join('').slice(1)
}
