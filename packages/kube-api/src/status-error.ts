/** Why a field was refused, as `details.causes` of a Status names it. */
export interface StatusCause {
  /** `FieldValueInvalid`, `FieldValueRequired`, `FieldValueNotSupported`, `FieldValueDuplicate`, `FieldValueForbidden` … */
  readonly reason: string
  readonly message: string
  /** Path of the field: `spec.containers[0].name`. */
  readonly field: string
}

export interface StatusDetails {
  readonly name?: string
  readonly group?: string
  readonly kind?: string
  readonly uid?: string
  readonly causes?: readonly StatusCause[]
  readonly retryAfterSeconds?: number
}

/** A refusal as clients of Kubernetes expect it: an object of kind Status (API conventions, "Response Status Kind"). */
export class StatusError extends Error {
  /** HTTP status code. */
  readonly code: number
  /** `NotFound`, `AlreadyExists`, `Conflict`, `Invalid`, `BadRequest` …; empty where there is none. */
  readonly reason: string
  readonly details: StatusDetails | undefined
  /** `metadata.continue` of the Status: a list that cannot go on as it began can go on from here. */
  readonly continueToken: string | undefined

  constructor(code: number, reason: string, message: string, details?: StatusDetails, continueToken?: string) {
    super(message)
    this.name = 'StatusError'
    this.code = code
    this.reason = reason
    this.details = details
    this.continueToken = continueToken
  }
}
