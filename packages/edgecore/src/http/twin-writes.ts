import { isUtf8 } from 'node:buffer'
import { deviceStates, formatVersion, parseVersion } from '@holdfast/device-twin'
import type { DeviceState, Json, PropertyWrite, Version } from '@holdfast/device-twin'
import { HoldfastError, describeError } from '@holdfast/runtime'
import type { HttpProblem, HttpRequest } from '@holdfast/runtime'
import { TwinRefused } from '../twins/device-twins.ts'
import type { DeviceTwin, TwinWrite } from '../twins/device-twins.ts'
import { members } from './json-text.ts'
import { badParameter, outboxRefusal, refusal, shown } from './problems.ts'
import { mediaType } from './request-body.ts'
import { etagOf } from './twin-documents.ts'

/** What a PATCH of a twin asks for. */
export interface TwinPatchQuery {
  readonly section: 'desired' | 'reported'
  /** When it was measured or asked for, milliseconds since 1970. */
  readonly timestamp: number | undefined
  /** The version that the writer saw of every property that it names; null: none. */
  readonly version: Version | null | undefined
}

const timeMaxMs = 8.64e15
const patchTypes = ['application/merge-patch+json', 'application/json']

/** Throws HttpProblem `PARAMETER_INVALID`. */
export function readPatchQuery(query: URLSearchParams): TwinPatchQuery {
  const { section, timestamp, version } = parametersOf(query, ['section', 'timestamp', 'version'])
  if (section !== undefined && section !== 'desired' && section !== 'reported') {
    throw badParameter('section', section, 'desired or reported')
  }
  const seen = version === undefined ? undefined : version === 'none' ? null : parseVersion(version)
  if (version !== undefined && seen === undefined) {
    throw badParameter('version', version, 'a version as the twin shows it, or none')
  }
  return {
    section: section ?? 'reported',
    timestamp: timestamp === undefined ? undefined : readTime(timestamp),
    version: seen
  }
}

function readTime(text: string): number {
  const timeMs = /^\d{1,16}$/.test(text) ? Number(text) : NaN
  if (!(timeMs <= timeMaxMs)) throw badParameter('timestamp', text, 'milliseconds since 1970')
  return timeMs
}

/** One text each. Throws HttpProblem `PARAMETER_INVALID` for others, and for one that is there twice. */
export function parametersOf<Name extends string>(
  query: URLSearchParams, names: readonly Name[]
): Readonly<Partial<Record<Name, string>>> {
  for (const name of query.keys()) {
    if (!names.some(known => known === name)) {
      throw badParameter(name, query.get(name)!, `no such parameter; there are ${names.join(', ')}`)
    }
    if (query.getAll(name).length > 1) throw badParameter(name, query.getAll(name).join(', '), 'one value')
  }
  return Object.fromEntries(names.flatMap(name => query.has(name) ? [[name, query.get(name)!]] : [])) as
    Partial<Record<Name, string>>
}

/** The content type of a patch, before its body is read. Throws HttpProblem 415. */
export function checkPatchType(request: HttpRequest): void {
  checkType(request, patchTypes, { 'accept-patch': patchTypes.join(', ') })
}

/** The same of a document. */
export function checkJsonType(request: HttpRequest): void { checkType(request, ['application/json'], {}) }

function checkType(request: HttpRequest, types: readonly string[], headers: Readonly<Record<string, string>>): void {
  const type = mediaType(request)
  if (types.includes(type)) return
  const got = type === '' ? 'none' : `"${shown(type)}"`
  throw refusal(415, 'MEDIA_TYPE_UNSUPPORTED', `expected content type ${types.join(' or ')}, got ${got}`, {}, headers)
}

/**
 * What a body with properties at its top level writes to a twin of that revision; null takes one away, and what is within
 * values is merged (RFC 7396).
 * Throws HttpProblem `TWIN_DOCUMENT_INVALID`; what a value or a name may be is the twin's to say.
 */
export function readPatch(body: Buffer, query: TwinPatchQuery, revision: number | undefined): TwinWrite {
  const { section, timestamp, version } = query
  const writes = new Map<string, PropertyWrite>()
  for (const [property, text] of jsonMembers(body, 'properties and their values, such as {"temperature":21.5}')) {
    if (writes.has(property)) throw badDocument(`"${shown(property)}" once, got it twice`, property)
    writes.set(property, {
      value: JSON.parse(text) as Json,
      ...timestamp !== undefined && { timestamp }, ...version !== undefined && { expected: version }
    })
  }
  if (writes.size === 0) throw badDocument('at least one property, got {}')
  return { section, writes, merge: true, ...revision !== undefined && { expectedRevision: revision } }
}

/** `{"state":"online","timestamp":1700000000000}`, the timestamp where there is one. Throws HttpProblem. */
export function readState(body: Buffer): TwinWrite {
  let state: DeviceState | undefined
  let timestamp: number | undefined
  for (const [member, text] of jsonMembers(body, 'a state, such as {"state":"online"}')) {
    const value = JSON.parse(text) as unknown
    if (member === 'state') {
      state = deviceStates.find(known => known === value)
      if (state === undefined) {
        const rule = `one of ${deviceStates.join(', ')}`
        throw refusal(400, 'TWIN_STATE', `state: expected ${rule}, got ${shown(text)}`, { value: shown(text), rule })
      }
    } else if (member === 'timestamp') {
      if (typeof value !== 'number' || !(value >= 0 && value <= timeMaxMs)) {
        throw badDocument(`timestamp to be milliseconds since 1970, got ${shown(text)}`)
      }
      timestamp = value
    } else throw badDocument(`state and timestamp alone, got "${shown(member)}"`)
  }
  if (state === undefined) throw badDocument('a state, such as {"state":"online"}')
  return { section: 'state', state, ...timestamp !== undefined && { timestamp } }
}

/** Members of an object as they were written. */
function jsonMembers(body: Buffer, expected: string): Iterable<[name: string, raw: string]> {
  if (!isUtf8(body)) throw badDocument('JSON in UTF-8, got bytes that are not')
  const text = body.toString('utf8').trim()
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw badDocument(`a JSON object with ${expected}: ${describeError(error)}`)
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw badDocument(`a JSON object with ${expected}, got ${shown(text)}`)
  }
  return members(text)
}

function badDocument(expected: string, property?: string): HttpProblem {
  const named = property === undefined ? {} : { property: shown(property) }
  return refusal(400, 'TWIN_DOCUMENT_INVALID', `expected ${expected}`, named)
}

/**
 * The revision that If-Match names; undefined where there is no such header, or `*`. Throws HttpProblem 412
 * `TWIN_CONFLICT` where the twin has another one, with both.
 */
export function expectedRevision(request: HttpRequest, held: DeviceTwin): number | undefined {
  const header = request.headers['if-match']
  if (header === undefined || header.trim() === '*') return undefined
  const tags = header.split(',').map(tag => tag.trim())
  const isTag = (tag: string): boolean => /^(?:W\/)?"[\x21\x23-\x7e]*"$/.test(tag)
  const actual = etagOf(held)
  if (!tags.every(isTag)) throw badParameter('If-Match', header, `an ETag as the twin was read with, such as ${actual}`)
  if (tags.includes(actual)) return held.twin.revision
  throw refusal(412, 'TWIN_CONFLICT', `${held.id}: expected the twin at ${shown(header)}, and it is at ${actual}`, {
    expected: shown(header), actual
  }, { etag: actual })
}

/**
 * What a write that threw is answered with: 400 or 412 with property, rule and value, 404, or 503. Anything that is not a
 * refusal is thrown on. `held`: the twin as it is now; `seen`: what the writer saw, as it named it.
 */
export function writeRefusal(error: unknown, held: DeviceTwin | undefined, write: TwinWrite, seen: string): HttpProblem {
  if (error instanceof TwinRefused) {
    const { code, message, property, rule, value } = error.refusal
    const conflict = code === 'TWIN_CONFLICT' ? { expected: shown(seen), actual: actualOf(held, write, property) } : {}
    return refusal(code === 'TWIN_CONFLICT' ? 412 : 400, code, message, { property, rule, value, ...conflict })
  }
  if (error instanceof HoldfastError && (error as HoldfastError).code === 'TWIN_DEVICE_UNKNOWN') {
    return refusal(404, 'TWIN_DEVICE_UNKNOWN', error.message)
  }
  return outboxRefusal(error)
}

/** The version of what a conflict is about: of the property where one is named, else of the twin. */
function actualOf(held: DeviceTwin | undefined, write: TwinWrite, property: string | undefined): string {
  if (held === undefined) return 'none'
  if (property === undefined || write.section === 'state' || write.section === 'both') return etagOf(held)
  const entry = held.twin[write.section].get(property)
  return entry === undefined || entry.deleted ? 'none' : formatVersion(entry.version)
}
