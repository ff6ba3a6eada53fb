import { HoldfastError } from '@holdfast/runtime'
import { kubeErrorCodes, type KubeErrorCode } from './error-codes.ts'
import { kubeClientLimits as limits } from './limits.ts'

export interface KubeErrorDetails {
  /** How long the API asks to wait, milliseconds, bounded. */
  readonly retryAfterMs?: number | undefined
  readonly cause?: unknown
}

/**
 * What a KubeClient rejects with. The code follows from the status; `isRetryable` says whether the same request may succeed
 * later without anybody's help.
 */
export class KubeError extends HoldfastError<KubeErrorCode> {
  /** HTTP status, or that of an ERROR event in a watch; 0 where no answer came, or none to its end. */
  readonly status: number
  /** Of the API's Status, such as `Conflict` or `Expired`; of ours with status 0: `Unreachable`, `Silent` or `Closed`. */
  readonly reason: string
  readonly retryAfterMs: number | undefined

  constructor(code: KubeErrorCode, status: number, reason: string, message: string, details: KubeErrorDetails = {}) {
    super(code, message, details.cause === undefined ? undefined : { cause: details.cause })
    this.name = 'KubeError'
    this.status = status
    this.reason = reason
    this.retryAfterMs = details.retryAfterMs
  }

  get isRetryable(): boolean { return kubeErrorCodes[this.code].retryable }
}

/** The status of a KubeError; undefined for everything else. */
export function kubeStatus(error: unknown): number | undefined {
  return error instanceof KubeError ? error.status : undefined
}

/** No answer, or none to its end. */
export function unanswered(reason: 'Unreachable' | 'Silent' | 'Closed', message: string, cause?: unknown): KubeError {
  return new KubeError('KUBE_UNREACHABLE', 0, reason, message, { cause })
}

/**
 * Of an answer with a status that is an error's. `body` is what came with it: a `Status` of the API, or anything else.
 * `what` is the request; `retryAfter` the header.
 */
export function refusal(what: string, status: number, body: unknown, retryAfter?: string): KubeError {
  const { message, reason, details } = isJsonObject(body) ? body : {}
  const seconds = isJsonObject(details) && typeof details['retryAfterSeconds'] === 'number' ? details['retryAfterSeconds']
    : retryAfter !== undefined && /^\d{1,6}$/.test(retryAfter) ? Number(retryAfter) : 0
  const said = typeof message === 'string' && message !== '' ? message.slice(0, messageCharacters) : 'no reason was given'
  return new KubeError(codeOf(status), status, typeof reason === 'string' ? reason : '', `${what}: ${status}: ${said}`, {
    ...seconds > 0 && { retryAfterMs: Math.min(seconds * 1000, limits.retryAfterMs.value) }
  })
}

/** Of an answer that is not what a Kubernetes API says. */
export function strange(what: string, status: number, found: string): KubeError {
  return new KubeError('KUBE_ANSWER_INVALID', status, '', `${what}: ${found}`)
}

export function tooLarge(what: string, status: number, found: string): KubeError {
  return new KubeError('KUBE_ANSWER_TOO_LARGE', status, '', `${what}: ${found}`)
}

export function isJsonObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** As much of a message from the API as an error carries. */
const messageCharacters = 2000

function codeOf(status: number): KubeErrorCode {
  if (status === 409) return 'KUBE_CONFLICT'
  if (status === 410) return 'KUBE_EXPIRED'
  if (status === 408 || status === 429 || status >= 500) return 'KUBE_UNAVAILABLE'
  return status >= 400 ? 'KUBE_REFUSED' : 'KUBE_ANSWER_INVALID'
}
