import { StatusError } from './status-error.ts'

/** Where the next page of a list begins, and which state it shows (k8s.io/apiserver/pkg/storage/continue.go). */
export interface ContinueToken {
  /** -1: the state of the moment, for a client that goes on although its state is forgotten. */
  readonly revision: number
  /** Key relative to what is listed: `name`, or `namespace/name` in a list of all namespaces, and a NUL behind it. */
  readonly start: string
}

const apiVersion = 'meta.k8s.io/v1'

export function encodeContinue({ revision, start }: ContinueToken): string {
  return Buffer.from(JSON.stringify({ v: apiVersion, rv: revision, start })).toString('base64url')
}

/** Reads a token of this server or of a real one. Throws StatusError 400. */
export function decodeContinue(text: string): ContinueToken {
  const damaged = /[^A-Za-z0-9_-]/.exec(text)
  if (damaged !== null || text.length % 4 === 1) {
    throw invalid(`illegal base64 data at input byte ${damaged?.index ?? text.length - 1}`)
  }
  const bytes = Buffer.from(text, 'base64url')
  let token: unknown
  try {
    token = JSON.parse(bytes.toString())
  } catch {
    throw invalid(jsonError(bytes))
  }
  if (typeof token !== 'object' || token === null || Array.isArray(token)) {
    throw invalid(`json: cannot unmarshal ${Array.isArray(token) ? 'array' : typeof token} into Go value of type storage.continueToken`)
  }
  const { v = '', rv = 0, start = '' } = token as { v?: unknown, rv?: unknown, start?: unknown }
  if (v !== apiVersion) throw invalid(`server does not recognize this encoded version ${JSON.stringify(v)}`)
  if (typeof rv !== 'number' || !Number.isSafeInteger(rv) || rv === 0 || rv < -1) {
    throw invalid(`incorrect encoded start resourceVersion (version ${apiVersion})`)
  }
  if (typeof start !== 'string' || start === '') throw invalid(`encoded start key empty (version ${apiVersion})`)
  // What would lead out of the listed part of the tree, or twice to the same key, is refused.
  if (/(^|\/)\.{1,2}(\/|$)|.\/(\/|$)/.test(start)) throw invalid(start)
  return { revision: rv, start }
}

function invalid(reason: string): StatusError {
  return new StatusError(400, 'BadRequest', `invalid continue token: continue key is not valid: ${reason}`)
}

/** What Go's decoder says of bytes that do not begin as JSON does; other damage is named in general. */
function jsonError(bytes: Buffer): string {
  const first = /[^ \t\r\n]/.exec(bytes.toString('latin1'))?.[0]
  if (first === undefined) return 'unexpected end of JSON input'
  if (/[-{["0-9tfn]/.test(first)) return 'invalid character in JSON'
  const code = first.charCodeAt(0)
  const shown = code >= 0x20 && code < 0x7f ? first : `\\u${code.toString(16).padStart(4, '0')}`
  return `invalid character '${shown}' looking for beginning of value`
}
