import { isUtf8 } from 'node:buffer'
import { describeError } from '@holdfast/runtime'
import { compactJson, members } from './json-text.ts'
import { httpLimits } from './limits.ts'
import { refusal, shown } from './problems.ts'

/** What a device's namespace and name must look like, for messages. */
export const deviceRule = 'letters, digits, ".", "_" and "-", beginning with a letter or digit, at most 253 characters'
const deviceSegment = /^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$/

/** The topic of a device's telemetry; undefined where namespace or name cannot be a device's. */
export function telemetryTopic(namespace: string, name: string): string | undefined {
  return deviceSegment.test(namespace) && deviceSegment.test(name) ? `devices/${namespace}/${name}/telemetry` : undefined
}

export interface TelemetryLine {
  /** From 1, blank lines counted. */
  readonly line: number
  readonly topic: string
  readonly payload: Buffer
}

/**
 * The records of a body of newline-delimited JSON, one a line; blank lines are passed over:
 *
 * - `{"device":"<namespace>/<name>","payload":<any JSON>}`: the payload is the value's text as it stands, without the
 *   white space between its parts. Numbers keep their digits, strings their escapes, objects the order of their members.
 * - `{"device":"<namespace>/<name>","payloadBase64":"…"}`: the payload is these bytes (RFC 4648 §4, with padding).
 *
 * Other members, members given twice, and both payloads together are refused. Lazy: a caller that stops pays for no more.
 * Throws HttpProblem `RECORD_INVALID` or `RECORD_TOO_LARGE`, each with the line, and the field where there is one.
 */
export function* telemetryLines(body: Buffer): Generator<TelemetryLine> {
  const bytesMax = httpLimits.lineBytes.value
  for (let start = 0, line = 1; start < body.length; line++) {
    const newline = body.indexOf(0x0a, start)
    const end = newline === -1 ? body.length : newline
    if (end - start > bytesMax) {
      const detail = `line ${line}: ${end - start} bytes, a line may have ${bytesMax}`
      throw refusal(413, 'RECORD_TOO_LARGE', detail, { line, bound: bytesMax })
    }
    const bytes = body.subarray(start, end)
    start = end + 1
    if (!isUtf8(bytes)) {
      const detail = `line ${line}: expected text in UTF-8, got bytes that are not; payloadBase64 takes any bytes`
      throw refusal(400, 'RECORD_INVALID', detail, { line, value: '', bound: 'UTF-8' })
    }
    const text = bytes.toString('utf8').trim()
    if (text !== '') yield readLine(text, line)
  }
}

function readLine(text: string, line: number): TelemetryLine {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw badLine(line, undefined, text, `JSON (${describeError(error)})`)
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw badLine(line, undefined, text, 'a JSON object')
  }
  const fields = new Map<string, string>()
  for (const [name, raw] of members(text)) {
    if (name !== 'device' && name !== 'payload' && name !== 'payloadBase64') {
      const bound = 'device, payload and payloadBase64'
      throw refusal(400, 'RECORD_INVALID', `line ${line}: unknown field "${shown(name)}"; there are ${bound}`, {
        line, field: shown(name), value: shown(raw), bound
      })
    }
    if (fields.has(name)) throw badLine(line, name, raw, 'one value')
    fields.set(name, raw)
  }
  const payload = readPayload(fields, line)
  const bytesMax = httpLimits.recordBytes.value
  if (payload.length > bytesMax) {
    const detail = `line ${line}: a payload of ${payload.length} bytes, a record may have ${bytesMax}`
    throw refusal(413, 'RECORD_TOO_LARGE', detail, { line, bound: bytesMax })
  }
  return { line, topic: readTopic(fields.get('device'), line), payload }
}

function readTopic(raw: string | undefined, line: number): string {
  const expected = `"<namespace>/<name>", each of ${deviceRule}`
  const device: unknown = raw === undefined ? undefined : JSON.parse(raw)
  const [namespace, name, ...more] = typeof device === 'string' ? device.split('/') : []
  const topic = more.length > 0 ? undefined : telemetryTopic(namespace ?? '', name ?? '')
  if (topic === undefined) throw badLine(line, 'device', raw ?? '', expected)
  return topic
}

function readPayload(fields: ReadonlyMap<string, string>, line: number): Buffer {
  const json = fields.get('payload')
  const base64 = fields.get('payloadBase64')
  if (json !== undefined && base64 !== undefined) {
    throw badLine(line, 'payloadBase64', base64, 'payload or payloadBase64, not both')
  }
  if (json !== undefined) return Buffer.from(compactJson(json))
  if (base64 === undefined) throw badLine(line, 'payload', '', 'payload, or payloadBase64')
  const text: unknown = JSON.parse(base64)
  const payload = Buffer.from(typeof text === 'string' ? text : '', 'base64')
  if (payload.toString('base64') !== text) throw badLine(line, 'payloadBase64', base64, 'base64 with padding (RFC 4648 §4)')
  return payload
}

function badLine(line: number, field: string | undefined, value: string, expected: string): Error {
  const place = field === undefined ? `line ${line}` : `line ${line}, ${field}`
  return refusal(400, 'RECORD_INVALID', `${place}: expected ${expected}, got ${value === '' ? 'nothing' : shown(value)}`, {
    line, ...field === undefined ? {} : { field }, value: shown(value), bound: expected
  })
}
