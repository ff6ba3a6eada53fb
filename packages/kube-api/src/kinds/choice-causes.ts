import type { StatusCause } from '../status-error.ts'
import { unsupportedValue } from '../validation/causes.ts'

/** The cause for a value that is not one of those `supported`; none where it is, or is absent. */
export const oneOf = (value: string | undefined, supported: readonly string[], field: string): StatusCause[] =>
  value === undefined || supported.includes(value) ? [] : [unsupportedValue(field, value, supported)]
