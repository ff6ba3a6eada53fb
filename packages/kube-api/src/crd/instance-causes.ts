import { equalJson } from '../object-store-equality.ts'
import type { Json, JsonObject } from '../object.ts'
import type { StatusCause } from '../status-error.ts'
import {
  duplicateValue, invalidValue, requiredValue, tooLongValue, tooManyValues, typeInvalidValue, unsupportedValue
} from '../validation/causes.ts'
import { dns1123SubdomainErrors } from '../validation/names.ts'
import { numberFormats, textFormats } from './formats.ts'
import { crdLimits } from './limits.ts'
import { BudgetError, spend, type Budget } from './pattern.ts'
import { isJsonObject, jsonKey, type StructuralSchema } from './structural-schema.ts'

/**
 * What is wrong with a value by its schema, at most `toldMax` causes. `path` is its place: empty for a whole object.
 *
 * `current` is what was there before, where something was: what an update leaves as it was is not held against it (ratcheting,
 * as on the real server).
 */
export function instanceCauses(
  value: Json, schema: StructuralSchema, path: string, toldMax: number, current?: Json
): StatusCause[] {
  const checker = new InstanceChecker(toldMax)
  try {
    checker.check(value, schema, path, current)
  } catch (error) {
    if (!(error instanceof BudgetError)) throw error
    checker.add({ reason: 'FieldValueInvalid', message: `Invalid value: "": ${error.message}`, field: path })
  }
  return checker.causes
}

/** Of a value that is compared as a whole. */
const charactersPerStep = 16

class InstanceChecker {
  readonly causes: StatusCause[] = []
  readonly #toldMax: number
  readonly #budget: Budget

  constructor(toldMax: number, budget: Budget = { left: crdLimits.validationSteps.value }) {
    this.#toldMax = toldMax
    this.#budget = budget
  }

  add(cause: StatusCause): void { if (this.causes.length < this.#toldMax) this.causes.push(cause) }

  check(value: Json, schema: StructuralSchema, path: string, current: Json | undefined): void {
    spend(this.#budget, 1)
    if (this.causes.length >= this.#toldMax) return
    if (current !== undefined && equalJson(value, current)) return
    if (value === null && schema.nullable) return
    this.#checkType(value, schema, path)
    this.#checkEnum(value, schema, path)
    if (typeof value === 'string') this.#checkText(value, schema, path)
    else if (typeof value === 'number') this.#checkNumber(value, schema, path)
    else if (Array.isArray(value)) this.#checkList(value, schema, path, current)
    else if (isJsonObject(value)) this.#checkObject(value, schema, path, current)
    this.#checkLogic(value, schema, path)
  }

  #invalid(path: string, value: Json, rule: string): void { this.add(invalidValue(path, value, `${path} in body ${rule}`)) }

  #checkType(value: Json, { type, isIntOrString }: StructuralSchema, path: string): void {
    const wanted = isIntOrString ? 'integer,string' : type
    if (wanted === undefined) return
    const is = typeOf(value)
    const fits = isIntOrString ? is === 'integer' || is === 'string' : is === type || (is === 'integer' && type === 'number')
    if (!fits) this.add(typeInvalidValue(path, is, `${path} in body must be of type ${wanted}: "${is}"`))
  }

  #checkEnum(value: Json, { enum: allowed, enumKeys }: StructuralSchema, path: string): void {
    if (allowed === undefined) return
    const key = jsonKey(value)
    spend(this.#budget, Math.ceil(key.length / charactersPerStep))
    if (enumKeys.has(key)) return
    this.add(unsupportedValue(path, value, allowed.map(one => typeof one === 'string' ? one : JSON.stringify(one))))
  }

  #checkText(value: string, { minLength, maxLength, pattern, format }: StructuralSchema, path: string): void {
    const length = minLength === undefined && maxLength === undefined ? 0 : characters(value)
    // Of these three the first one is told.
    if (maxLength !== undefined && length > maxLength) this.add(tooLongValue(path, maxLength))
    else if (minLength !== undefined && length < minLength) this.#invalid(path, value, `should be at least ${minLength} chars long`)
    else if (pattern !== undefined && !pattern.test(value, this.#budget)) this.#invalid(path, value, `should match '${pattern.source}'`)
    if (Object.hasOwn(textFormats, format) && !textFormats[format]!(value)) {
      this.add(typeInvalidValue(path, value, `${path} in body must be of type ${format}: ${JSON.stringify(value.slice(0, 256))}`))
    }
  }

  #checkNumber(value: number, schema: StructuralSchema, path: string): void {
    const { minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf, format } = schema
    if (maximum !== undefined && (exclusiveMaximum ? value >= maximum : value > maximum)) {
      this.#invalid(path, value, `should be less than ${exclusiveMaximum ? '' : 'or equal to '}${maximum}`)
    }
    if (minimum !== undefined && (exclusiveMinimum ? value <= minimum : value < minimum)) {
      this.#invalid(path, value, `should be greater than ${exclusiveMinimum ? '' : 'or equal to '}${minimum}`)
    }
    if (multipleOf !== undefined && !isMultiple(value, multipleOf)) this.#invalid(path, value, `should be a multiple of ${multipleOf}`)
    // A bound that is passed already says so; the format would say it twice.
    const isTold = (maximum !== undefined && value > maximum) || (minimum !== undefined && value < minimum)
    if (!isTold && Object.hasOwn(numberFormats, format) && !numberFormats[format]!(value)) {
      this.#invalid(path, value, `must be of type ${format}`)
    }
  }

  #checkList(value: readonly Json[], schema: StructuralSchema, path: string, current: Json | undefined): void {
    const { minItems, maxItems, items, listType, listMapKeys } = schema
    if (maxItems !== undefined && value.length > maxItems) this.add(tooManyValues(path, value.length, maxItems))
    if (minItems !== undefined && value.length < minItems) {
      this.#invalid(path, value.length, `should have at least ${minItems} items`)
    }
    const before = Array.isArray(current) ? current : []
    const keyOf = listType === 'map' ? (element: Json) => mapKey(element, items, listMapKeys)
      : listType === 'set' ? (element: Json) => jsonKey(element) : undefined
    const places = new Set<string>()
    const known = keyOf === undefined ? undefined : new Map(before.map(element => [keyOf(element), element]))
    for (const [i, element] of value.entries()) {
      const at = `${path}[${i}]`
      const key = keyOf?.(element)
      if (key !== undefined) {
        if (places.has(key)) this.add(listType === 'set' ? duplicateValue(at, element) : duplicateKey(at, key))
        places.add(key)
      }
      if (items !== undefined) this.check(element, items, at, known === undefined ? before[i] : known.get(key))
    }
  }

  #checkObject(value: JsonObject, schema: StructuralSchema, path: string, current: Json | undefined): void {
    const { minProperties, maxProperties, required, properties, additional } = schema
    const names = Object.keys(value)
    if (maxProperties !== undefined && names.length > maxProperties) this.add(tooManyValues(path, names.length, maxProperties))
    if (minProperties !== undefined && names.length < minProperties) {
      this.#invalid(path, names.length, `should have at least ${minProperties} properties`)
    }
    for (const name of required) if (!Object.hasOwn(value, name)) this.add(requiredValue(memberPath(path, name)))
    if (schema.isEmbeddedResource) this.#checkEmbedded(value, path)
    const before = isJsonObject(current) ? current : {}
    for (const name of names) {
      const known = properties.get(name) ?? additional
      if (known !== undefined) {
        this.check(value[name]!, known, memberPath(path, name), Object.hasOwn(before, name) ? before[name] : undefined)
      }
    }
  }

  #checkEmbedded(value: JsonObject, path: string): void {
    for (const name of ['apiVersion', 'kind']) {
      const text = Object.hasOwn(value, name) ? value[name]! : ''
      const [at, is] = [memberPath(path, name), typeOf(text)]
      if (text === '') this.add(requiredValue(at, 'must not be empty'))
      else if (is !== 'string') this.add(typeInvalidValue(at, is, `${at} in body must be of type string: "${is}"`))
    }
    const { metadata } = value
    const name = isJsonObject(metadata) && Object.hasOwn(metadata, 'name') ? metadata['name'] : undefined
    if (typeof name !== 'string') return
    for (const error of dns1123SubdomainErrors(name)) this.add(invalidValue(memberPath(path, 'metadata.name'), name, error))
  }

  #checkLogic(value: Json, { allOf, anyOf, oneOf, not }: StructuralSchema, path: string): void {
    if (anyOf.length + oneOf.length + allOf.length === 0 && not === undefined) return
    const refuse = (rule: string): void => { this.add(invalidValue(path, '', `${JSON.stringify(path)} ${rule}`)) }
    if (anyOf.length > 0 && !anyOf.some(schema => this.#passes(value, schema, path))) {
      refuse('must validate at least one schema (anyOf)')
    }
    if (oneOf.length > 0) {
      const passed = oneOf.filter(schema => this.#passes(value, schema, path)).length
      if (passed !== 1) {
        const found = passed === 0 ? 'Found none valid' : `Found ${passed} valid alternatives`
        refuse(`must validate one and only one schema (oneOf). ${found}`)
      }
    }
    const failed = allOf.filter(schema => !this.#passes(value, schema, path))
    if (failed.length > 0) {
      refuse(`must validate all the schemas (allOf)${failed.length === allOf.length ? '. None validated' : ''}`)
      for (const schema of failed) this.check(value, schema, path, undefined)
    }
    if (not !== undefined && this.#passes(value, not, path)) refuse('must not validate the schema (not)')
  }

  #passes(value: Json, schema: StructuralSchema, path: string): boolean {
    const inner = new InstanceChecker(1, this.#budget)
    inner.check(value, schema, path, undefined)
    return inner.causes.length === 0
  }
}

function typeOf(value: Json): string {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'array'
  return typeof value === 'number' ? Number.isInteger(value) ? 'integer' : 'number' : typeof value
}

const memberPath = (path: string, name: string): string => path === '' ? name : `${path}.${name}`

/** Characters as Go counts them: code points. */
function characters(text: string): number {
  let count = 0
  for (const _ of text) count++
  return count
}

function isMultiple(value: number, of: number): boolean {
  const ratio = value / of
  return Math.abs(ratio - Math.round(ratio)) < 1e-9 * Math.max(1, Math.abs(ratio))
}

/** The keys of an element of a list that is a map, defaults for absent ones; undefined for what is no object. */
function mapKey(element: Json, items: StructuralSchema | undefined, keys: readonly string[]): string | undefined {
  if (!isJsonObject(element)) return undefined
  const present = keys.filter(key => Object.hasOwn(element, key) || items?.properties.get(key)?.default !== undefined)
  if (present.length === 0) return undefined
  return `{${present.map(key =>
    `${JSON.stringify(key)}:${jsonKey(Object.hasOwn(element, key) ? element[key]! : items!.properties.get(key)!.default!)}`).join(', ')}}`
}

const duplicateKey = (field: string, key: string): StatusCause =>
  ({ reason: 'FieldValueDuplicate', message: `Duplicate value: map[string]interface {}${key.slice(0, 4096)}`, field })
