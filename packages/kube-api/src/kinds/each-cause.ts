import type { StatusCause } from '../status-error.ts'
import { kindLimits } from './limits.ts'

/**
 * Causes for the elements of a list that a client gave, in their order. Ends with the element that brings them to as many as
 * are told, so that a long list of faults costs no more than a long list.
 */
export function eachCause<T>(elements: readonly T[], check: (element: T, index: number) => readonly StatusCause[]): StatusCause[] {
  const causes: StatusCause[] = []
  for (let i = 0; i < elements.length && causes.length < kindLimits.toldCausesMax.value; i++) {
    for (const cause of check(elements[i]!, i)) causes.push(cause)
  }
  return causes
}
