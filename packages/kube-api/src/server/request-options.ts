import type { Json, JsonObject } from '../object.ts'
import type { PropagationPolicy } from '../object-store-deletion.ts'
import type { FieldValidation } from '../resource.ts'
import { StatusError, type StatusCause } from '../status-error.ts'
import { badRequest, invalidOptions } from './refusals.ts'

/** What the query of a create, update or patch says. */
export interface WriteOptions {
  readonly dryRun: boolean
  readonly fieldValidation: FieldValidation
}

const fieldManagerBytesMax = 128

/** `kind` is `CreateOptions`, `UpdateOptions` or `PatchOptions`. Throws 422 with every cause. */
export function parseWriteOptions(
  query: URLSearchParams, kind: 'CreateOptions' | 'UpdateOptions' | 'PatchOptions'
): WriteOptions {
  const causes: StatusCause[] = []
  const fieldManager = query.get('fieldManager') ?? ''
  if (kind === 'PatchOptions' && parseBoolean(query, 'force') !== undefined) {
    causes.push({
      reason: 'FieldValueForbidden', message: 'Forbidden: may not be specified for non-apply patch', field: 'force'
    })
  }
  if (Buffer.byteLength(fieldManager) > fieldManagerBytesMax) {
    causes.push({
      reason: 'FieldValueTooLong',
      message: `Too long: may not be more than ${fieldManagerBytesMax} bytes`,
      field: 'fieldManager'
    })
  }
  if (/[^\P{C}]/u.test(fieldManager)) {
    causes.push({
      reason: 'FieldValueInvalid',
      message: `Invalid value: ${JSON.stringify(fieldManager)}: should only contain printable characters`,
      field: 'fieldManager'
    })
  }
  const dryRun = dryRunOf(query.getAll('dryRun'), causes)
  const fieldValidation = query.get('fieldValidation') ?? ''
  if (!['', 'Ignore', 'Strict', 'Warn'].includes(fieldValidation)) {
    causes.push({
      reason: 'FieldValueNotSupported',
      message: `Unsupported value: ${JSON.stringify(fieldValidation)}: supported values: "", "Ignore", "Strict", "Warn"`,
      field: 'fieldValidation'
    })
  }
  if (causes.length > 0) throw invalidOptions(kind, causes)
  return { dryRun, fieldValidation: fieldValidation === '' ? 'Warn' : fieldValidation as FieldValidation }
}

function dryRunOf(values: readonly string[], causes: StatusCause[]): boolean {
  if (values.some(value => value !== 'All')) {
    causes.push({
      reason: 'FieldValueNotSupported',
      message: `Unsupported value: []string{${values.map(value => JSON.stringify(value)).join(', ')}}: `
        + 'supported values: "All"',
      field: 'dryRun'
    })
  }
  return values.length > 0
}

export interface DeleteOptions {
  readonly dryRun: boolean
  /** Undefined: in the background, but for what the object's finalizers already say. */
  readonly propagationPolicy: PropagationPolicy | undefined
  readonly preconditions: { readonly uid?: string, readonly resourceVersion?: string }
  readonly gracePeriodSeconds: number | undefined
}

const policies = ['Foreground', 'Background', 'Orphan']

/** A body, where there is one, counts instead of the query. Throws 400, 422 or 500 as the real server does. */
export function parseDeleteOptions(query: URLSearchParams, body: Json | undefined): DeleteOptions {
  const source = body === undefined ? optionsOfQuery(query) : optionsOfBody(body, query)
  const causes: StatusCause[] = []
  const { propagationPolicy, orphanDependents, dryRun, preconditions = {}, gracePeriodSeconds } = source
  if (propagationPolicy !== undefined && orphanDependents !== undefined) {
    causes.push({
      reason: 'FieldValueInvalid',
      message: `Invalid value: ${JSON.stringify(propagationPolicy)}: `
        + 'orphanDependents and deletionPropagation cannot be both set',
      field: 'propagationPolicy'
    })
  }
  if (propagationPolicy !== undefined && !policies.includes(propagationPolicy)) {
    causes.push({
      reason: 'FieldValueNotSupported',
      message: `Unsupported value: ${JSON.stringify(propagationPolicy)}: `
        + 'supported values: "Foreground", "Background", "Orphan", "nil"',
      field: 'propagationPolicy'
    })
  }
  const isDryRun = dryRunOf(dryRun, causes)
  if (causes.length > 0) throw invalidOptions('DeleteOptions', causes)
  return {
    dryRun: isDryRun,
    propagationPolicy: propagationPolicy as PropagationPolicy | undefined
      ?? (orphanDependents === undefined ? undefined : orphanDependents ? 'Orphan' : 'Background'),
    preconditions,
    gracePeriodSeconds
  }
}

interface RawDeleteOptions {
  readonly propagationPolicy: string | undefined
  readonly orphanDependents: boolean | undefined
  readonly dryRun: readonly string[]
  readonly preconditions?: { readonly uid?: string, readonly resourceVersion?: string }
  readonly gracePeriodSeconds: number | undefined
}

function optionsOfQuery(query: URLSearchParams): RawDeleteOptions {
  return {
    propagationPolicy: query.get('propagationPolicy') ?? undefined,
    orphanDependents: parseBoolean(query, 'orphanDependents'),
    dryRun: query.getAll('dryRun'),
    gracePeriodSeconds: parseInteger(query, 'gracePeriodSeconds')
  }
}

function optionsOfBody(body: Json, query: URLSearchParams): RawDeleteOptions {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw badRequest('the body of a deletion is not a DeleteOptions object')
  }
  const { apiVersion = 'v1', kind = 'DeleteOptions' } = body
  if (kind !== 'DeleteOptions') {
    throw new StatusError(500, '', `no kind ${JSON.stringify(kind)} is registered for version ${JSON.stringify(apiVersion)}`)
  }
  const preconditions = member(body, 'preconditions', isObject) ?? {}
  const uid = member(preconditions, 'uid', isString)
  const resourceVersion = member(preconditions, 'resourceVersion', isString)
  return {
    propagationPolicy: member(body, 'propagationPolicy', isString),
    orphanDependents: member(body, 'orphanDependents', value => typeof value === 'boolean'),
    dryRun: [...member(body, 'dryRun', isStrings) ?? [], ...query.getAll('dryRun')],
    preconditions: { ...uid !== undefined && { uid }, ...resourceVersion !== undefined && { resourceVersion } },
    gracePeriodSeconds: member(body, 'gracePeriodSeconds', value => Number.isSafeInteger(value)) as number | undefined
  }
}

const isString = (value: Json): value is string => typeof value === 'string'
const isObject = (value: Json): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
const isStrings = (value: Json): value is string[] => Array.isArray(value) && value.every(isString)

function member<T extends Json>(object: JsonObject, name: string, is: (value: Json) => value is T): T | undefined
function member(object: JsonObject, name: string, is: (value: Json) => boolean): Json | undefined
function member(object: JsonObject, name: string, is: (value: Json) => boolean): Json | undefined {
  const value = Object.hasOwn(object, name) ? object[name] : undefined
  if (value === undefined || value === null) return undefined
  if (!is(value)) throw badRequest(`DeleteOptions: ${name} has a value of the wrong type`)
  return value
}

/** Absent: undefined. Anything but `false` and `0` is true. */
export function parseBoolean(query: URLSearchParams, name: string): boolean | undefined {
  const value = query.get(name)
  return value === null ? undefined : !['false', '0'].includes(value.toLowerCase())
}

/** Absent or empty: undefined. Throws 400 where it is not a whole number. */
export function parseInteger(query: URLSearchParams, name: string): number | undefined {
  const value = query.get(name)
  if (value === null || value === '') return undefined
  const number = Number(value)
  if (!/^[+-]?\d+$/.test(value) || !Number.isSafeInteger(number)) {
    throw badRequest(`strconv.ParseInt: parsing ${JSON.stringify(value)}: invalid syntax`)
  }
  return number
}
