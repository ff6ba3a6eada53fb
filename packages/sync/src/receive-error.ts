import type { SessionErrorCode } from './error-codes.ts'

/** A session ends over what the other side sent. */
export class ReceiveError extends Error {
  readonly code: SessionErrorCode
  constructor(code: SessionErrorCode, message: string) {
    super(message)
    this.code = code
  }
}
