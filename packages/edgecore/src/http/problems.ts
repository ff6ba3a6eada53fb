import type { TwinErrorCode } from '@holdfast/device-twin'
import { HoldfastError, HttpProblem, describeError } from '@holdfast/runtime'
import type { HttpRoute } from '@holdfast/runtime'
import type { HttpErrorCode } from './error-codes.ts'

const titles: Readonly<Record<string, string>> = {
  BODY_TOO_LARGE: 'Body too large',
  RECORD_TOO_LARGE: 'Record too large',
  RECORDS_TOO_MANY: 'Too many records',
  RECORD_INVALID: 'Not a record',
  MEDIA_TYPE_UNSUPPORTED: 'Media type not supported',
  DEVICE_INVALID: 'Not a device',
  TOPIC_NOT_ROUTED: 'No route',
  IDEMPOTENCY_KEY_INVALID: 'Not an Idempotency-Key',
  IDEMPOTENCY_KEY_REUSED: 'Idempotency-Key of another request',
  PARAMETER_INVALID: 'Bad parameter',
  READERS_TOO_MANY: 'Too many readers',
  TWIN_DOCUMENT_INVALID: 'Not a document of a twin',
  WATCHES_TOO_MANY: 'Too many watches',
  TWIN_DEVICE_UNKNOWN: 'Unknown device',
  TWIN_PROPERTY: 'No such property',
  TWIN_READ_ONLY: 'Property is read-only',
  TWIN_TYPE: 'Value of another type',
  TWIN_RANGE: 'Value out of range',
  TWIN_VALUE: 'Not a value of a property',
  TWIN_FULL: 'Twin is full',
  TWIN_NOT_OPTIONAL: 'Property is not optional',
  TWIN_STATE: 'Not a state',
  TWIN_CONFLICT: 'Changed meanwhile',
  CURSOR_EXPIRED: 'Cursor expired',
  CURSOR_FOREIGN: 'Cursor of another log'
} satisfies Readonly<Record<
  HttpErrorCode | TwinErrorCode | 'TWIN_DEVICE_UNKNOWN' | 'PARAMETER_INVALID' | 'CURSOR_EXPIRED' | 'CURSOR_FOREIGN', string
>>

/** A refusal with a code: as `type`, and as the member `code`. */
export function refusal(status: number, code: string, detail: string, extensions: Readonly<Record<string, unknown>> = {},
  headers: Readonly<Record<string, string>> = {}): HttpProblem {
  return new HttpProblem(status, {
    type: code, title: titles[code] ?? code, detail, headers, extensions: { code, ...extensions }
  })
}

/** The code that a problem carries; undefined where the server's own plumbing made it. */
export function codeOf(problem: HttpProblem): string | undefined {
  const code = problem.fields.extensions?.['code']
  return typeof code === 'string' ? code : undefined
}

/** The same route, with its refusals counted by their code. */
export function countingRefusals(route: HttpRoute, refused: Map<string, number>): HttpRoute {
  return {
    ...route,
    async handle(request) {
      try {
        return await route.handle(request)
      } catch (error) {
        const code = error instanceof HttpProblem ? codeOf(error) : undefined
        if (code !== undefined) refused.set(code, (refused.get(code) ?? 0) + 1)
        throw error
      }
    }
  }
}

/** Text of a request as a problem may repeat it. */
export function shown(value: string): string { return value.length > 128 ? `${value.slice(0, 128)}…` : value }

/** A query parameter that cannot be answered to. */
export function badParameter(parameter: string, value: string, expected: string): HttpProblem {
  return refusal(400, 'PARAMETER_INVALID', `${parameter}: expected ${expected}, got "${shown(value)}"`, {
    parameter, value: shown(value), bound: expected
  })
}

/** The store cannot take or give anything just now: 503, and when to come again. */
export function storeRefusal(error: unknown): HttpProblem {
  return new HttpProblem(503, {
    type: 'STORE_FAILED', title: 'Store not available', detail: describeError(error), headers: { 'retry-after': '1' },
    extensions: { code: 'STORE_FAILED' }
  })
}

/** What an outbox that refuses means to a client. Anything that is not its refusal is thrown on. */
export function outboxRefusal(error: unknown): HttpProblem {
  if (!(error instanceof HoldfastError)) throw error
  const { message } = error
  const code: unknown = error.code
  switch (code) {
    case 'OUTBOX_FULL': return new HttpProblem(429, {
      type: code, title: 'Lane full', detail: message, headers: { 'retry-after': '5' }, extensions: { code }
    })
    case 'DISK_FULL': return new HttpProblem(503, {
      type: code, title: 'Disk nearly full', detail: message, headers: { 'retry-after': '10' }, extensions: { code }
    })
    case 'STORE_FAILED': return storeRefusal(error)
    default: throw error
  }
}
