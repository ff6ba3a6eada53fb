import { HttpProblem } from '@holdfast/runtime'
import type { HttpRequest } from '@holdfast/runtime'
import { refusal, shown } from './problems.ts'

/** A bound of its own that a body has, below the setting. */
export interface BodyBound {
  readonly code: 'RECORD_TOO_LARGE' | 'BODY_TOO_LARGE'
  readonly bytesMax: number
}

/**
 * The whole body, of at most `bodyBytesMax` (the setting) and at most `bound`. A length that is declared is checked before
 * anything is read. Rejects with HttpProblem 413, or 415 for a content encoding.
 */
export async function readBody(request: HttpRequest, bodyBytesMax: number, bound?: BodyBound): Promise<Buffer> {
  const encoding = request.headers['content-encoding'] ?? 'identity'
  if (encoding !== 'identity') {
    const detail = `expected no content encoding, got "${shown(encoding)}"`
    throw refusal(415, 'MEDIA_TYPE_UNSUPPORTED', detail, {}, { 'accept-encoding': 'identity' })
  }
  const { code = 'BODY_TOO_LARGE', bytesMax = bodyBytesMax } = bound ?? {}
  const max = Math.min(bytesMax, bodyBytesMax)
  const isOwn = bound !== undefined && max === bytesMax
  const detail = `the body may have ${max} bytes${isOwn ? '' : ' (http.bodyBytesMax)'}`
  const tooLarge = (): HttpProblem => refusal(413, code, detail, { bound: max })
  if (Number(request.headers['content-length'] ?? 0) > max) throw tooLarge()
  let body: Buffer
  try {
    body = await request.body()
  } catch (error) {
    throw error instanceof HttpProblem && error.status === 413 ? tooLarge() : error
  }
  if (body.length > max) throw tooLarge()
  return body
}

/** The content type without its parameters, in lower case; empty where there is none. */
export function mediaType(request: HttpRequest): string {
  return (request.headers['content-type'] ?? '').split(';')[0]!.trim().toLowerCase()
}
