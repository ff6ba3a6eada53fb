/** What a code table says of one operating error; `docs/errors.md` is generated from these. */
export interface ErrorEntry {
  /** What happened, as an operator would say it. */
  readonly cause: string
  /** What to do about it. */
  readonly remedy: string
  /** True where the same call may succeed later without anybody's help. */
  readonly retryable: boolean
}

export type ErrorTable = Readonly<Record<string, ErrorEntry>>

/**
 * An expected failure with a stable code. The message names the thing, the value, the bound and the way out.
 * Programmer errors are `invariant` failures instead; cancellation is the signal's own reason.
 */
export class HoldfastError<Code extends string = string> extends Error {
  readonly code: Code

  constructor(code: Code, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = 'HoldfastError'
    this.code = code
  }
}

/** The code of a HoldfastError; undefined for everything else. */
export function codeOfError(error: unknown): string | undefined {
  return error instanceof HoldfastError ? (error as HoldfastError).code : undefined
}

/** True for a HoldfastError with this code. */
export function hasCode(error: unknown, code: string): boolean {
  return codeOfError(error) === code
}

/** The text of anything thrown, for a log line or a problem document; a cause that the message quotes is not said again. */
export function describeError(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const code = (error as { code?: unknown }).code
  const head = typeof code === 'string' && !error.message.includes(code) ? `${code}: ${error.message}` : error.message
  if (error.cause === undefined) return head
  const why = describeError(error.cause)
  return head.includes(why) ? head : `${head} (${why})`
}
