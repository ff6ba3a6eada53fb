import type { JsonObject } from '../object.ts'
import type { ApiReply } from './http-host.ts'

/** A document as an answer. */
export function jsonReply(document: JsonObject, status = 200, headers: NonNullable<ApiReply['headers']> = {}): ApiReply {
  return { status, headers: { 'content-type': 'application/json', ...headers }, body: `${JSON.stringify(document)}\n` }
}
