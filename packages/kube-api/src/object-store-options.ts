import type { ListOptions, WatchOptions } from './object-store-types.ts'
import { StatusError } from './status-error.ts'
import type { StatusCause } from './status-error.ts'
import { forbiddenValue, invalidObject, quote, unsupportedValue } from './validation/causes.ts'

/** 0 where none was given. Throws StatusError 500, as the real server does. */
export function parseResourceVersion(value: string | undefined): number {
  if (value === undefined || value === '') return 0
  const digits = /^[0-9]+$/.test(value)
  if (digits && value.length <= 20 && BigInt(value) < 2n ** 64n) return Number(value)
  const quoted = quote(value)
  throw new StatusError(500, '', `resourceVersion: Invalid value: ${quoted}: strconv.ParseUint: parsing ${quoted}: `
    + (digits ? 'value out of range' : 'invalid syntax'))
}

const field = 'resourceVersionMatch'
const exact = 'Exact'
const notOlderThan = 'NotOlderThan'

/** Throws StatusError 422 (k8s.io/apimachinery/pkg/apis/meta/internalversion/validation). */
export function validateListOptions(options: ListOptions): void {
  const { resourceVersionMatch: match = '', resourceVersion = '' } = options
  if (match === '') return
  const causes: StatusCause[] = []
  if (resourceVersion === '') {
    causes.push(forbiddenValue(field, 'resourceVersionMatch is forbidden unless resourceVersion is provided'))
  }
  if ((options.continue ?? '') !== '') {
    causes.push(forbiddenValue(field, 'resourceVersionMatch is forbidden when continue is provided'))
  }
  if (match !== exact && match !== notOlderThan) causes.push(unsupportedValue(field, match, [exact, notOlderThan, '']))
  if (match === exact && resourceVersion === '0') {
    causes.push(forbiddenValue(field, 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'))
  }
  refuse(causes)
}

/** Throws StatusError 422. */
export function validateWatchOptions(options: WatchOptions): void {
  const causes: StatusCause[] = []
  const { resourceVersionMatch: match = '', sendInitialEvents } = options
  if (sendInitialEvents !== undefined && match !== notOlderThan) {
    causes.push(forbiddenValue(field, `sendInitialEvents requires setting resourceVersionMatch to ${notOlderThan}`))
  }
  if (match !== '') {
    if (sendInitialEvents === undefined) {
      causes.push(forbiddenValue(field, 'resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided'))
    }
    if (match !== notOlderThan) causes.push(unsupportedValue(field, match, [notOlderThan]))
  }
  refuse(causes)
}

function refuse(causes: readonly StatusCause[]): void {
  if (causes.length > 0) throw invalidObject({ group: 'meta.k8s.io', kind: 'ListOptions' }, '', causes)
}

export function tooLargeResourceVersion(wanted: string, current: number): StatusError {
  return new StatusError(504, 'Timeout', `Timeout: Too large resource version: ${wanted}, current: ${current}`, {
    causes: [{ reason: 'ResourceVersionTooLarge', message: 'Too large resource version', field: '' }], retryAfterSeconds: 1
  })
}
