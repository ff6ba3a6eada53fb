import { isRecord, measure, textOf } from './json.ts'
import type { Json } from './json.ts'
import { twinLimits } from './limits.ts'
import { refusal, shown } from './refusal.ts'
import type { TwinError } from './refusal.ts'
import type { PropertyRule, PropertyType } from './rules.ts'

/** What senders call types where no model says: KubeEdge's topics and mappers, and `json`, for values that are no text. */
const calledTypes: ReadonlyMap<string, PropertyType | 'JSON'> = new Map<string, PropertyType | 'JSON'>([
  ['string', 'STRING'], ['int', 'INT'], ['integer', 'INT'], ['float', 'FLOAT'], ['double', 'DOUBLE'], ['boolean', 'BOOLEAN'],
  ['bool', 'BOOLEAN'], ['bytes', 'BYTES'], ['stream', 'STREAM'], ['json', 'JSON']
])

const wholeNumber = /^[+-]?\d{1,32}$/
const decimalNumber = /^[+-]?(?:\d{1,400}(?:\.\d{0,400})?|\.\d{1,400})(?:[eE][+-]?\d{1,5})?$/
const base64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/

const described: Readonly<Record<PropertyType, string>> = {
  INT: 'INT, a whole number between -(2^53-1) and 2^53-1', FLOAT: 'FLOAT, a finite number', DOUBLE: 'DOUBLE, a finite number',
  STRING: 'STRING, any text', BOOLEAN: 'BOOLEAN, true or false', BYTES: 'BYTES, base64 text', STREAM: 'STREAM, any text'
}

/**
 * A JSON text within the bounds of TWN-3, which hold for the text as it stands. Never throws; the error is `TWIN_VALUE`.
 */
export function parseJsonValue(text: string): { readonly value: Json } | { readonly error: TwinError } {
  if (text.length > twinLimits.valueBytes.value) {
    return { error: refusal('TWIN_VALUE', {
      value: text, rule: `at most ${twinLimits.valueBytes.value / 1024} KiB as JSON`,
      problem: `the value is ${text.length} characters long`, wayOut: 'send less, or put it into the Log'
    }) }
  }
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return { error: refusal('TWIN_VALUE', {
      value: text, rule: 'JSON', problem: `${JSON.stringify(shown(text))} is no JSON`, wayOut: 'send one JSON value, text in quotes'
    }) }
  }
  const error = valueError(value, undefined)
  return error === undefined ? { value: value as Json } : { error }
}

/** `TWIN_VALUE` where `value` is out of the bounds of TWN-3, or no JSON at all. Never throws, whatever it is. */
export function valueError(value: unknown, property: string | undefined): TwinError | undefined {
  const measured = measure(value)
  return 'bytes' in measured ? undefined : refusal('TWIN_VALUE', {
    property, value, rule: measured.rule, problem: `its value ${measured.problem}`, wayOut: `send ${measured.rule}`
  })
}

/**
 * `value` as the model's type has it (TWN-23), or as `type` does, which the sender gave it, where the model has none. Says
 * nothing of the access mode. Never throws; errors: `TWIN_VALUE`, `TWIN_TYPE`, `TWIN_RANGE`.
 */
export function coerce(
  value: Json, rule: PropertyRule | undefined, property: string, type?: string
): { readonly value: Json } | { readonly error: TwinError } {
  const wanted = typeOf(rule, type)
  if (wanted === 'JSON' && typeof value === 'string') {
    const parsed = parseJsonValue(value)
    if ('value' in parsed) return parsed
  }
  const outOfBounds = valueError(value, property)
  if (outOfBounds !== undefined) return { error: outOfBounds }
  if (wanted === undefined || wanted === 'JSON') return { value }
  const read = readAs(value, wanted)
  if (read === undefined) {
    return { error: refusal('TWIN_TYPE', {
      property, value, rule: describe(wanted, rule),
      problem: `value ${quoted(value)} is not ${describe(wanted, rule)}`, wayOut: `send a value of type ${wanted}`
    }) }
  }
  if (rule !== undefined && typeof read === 'number') {
    const { minimum, maximum } = rule
    const [below, above] = [minimum !== undefined && read < minimum, maximum !== undefined && read > maximum]
    if (below || above) {
      return { error: refusal('TWIN_RANGE', {
        property, value, rule: describe(wanted, rule),
        problem: `value ${quoted(value)} is ${below ? `below the minimum ${minimum}` : `above the maximum ${maximum}`}`,
        wayOut: `send ${describe(wanted, rule)}`
      }) }
    }
  }
  // Text of an object can be longer as JSON than the object was.
  const tooLong = typeof value === 'object' && value !== null ? valueError(read, property) : undefined
  return tooLong === undefined ? { value: read } : { error: tooLong }
}

/**
 * The value that a text in Kubernetes, or on KubeEdge's topics, says (TWN-4): of the model's type, else of the one that its
 * entry gives it; the text itself where it says no such value.
 */
export function valueOfText(text: string, rule: PropertyRule | undefined, type?: string): Json {
  const read = coerce(text, rule === undefined ? undefined : { ...rule, minimum: undefined, maximum: undefined }, '', type)
  return 'value' in read ? read.value : text
}

/** What to call the type of a value beside its text, so that it can be read back; undefined for text. */
export function typeNameOf(value: Json): string | undefined {
  switch (typeof value) {
    case 'string': return undefined
    case 'number': return Number.isSafeInteger(value) ? 'int' : 'float'
    case 'boolean': return 'boolean'
    default: return 'json'
  }
}

function typeOf(rule: PropertyRule | undefined, type: string | undefined): PropertyType | 'JSON' | undefined {
  return rule?.type ?? (type === undefined ? undefined : calledTypes.get(type.toLowerCase()))
}

function quoted(value: Json): string {
  return typeof value === 'string' ? JSON.stringify(shown(value)) : shown(value)!
}

function readAs(value: Json, type: PropertyType): Json | undefined {
  switch (type) {
    case 'INT': {
      const number = typeof value === 'string' && wholeNumber.test(value) ? Number(value) : value
      return typeof number === 'number' && Number.isSafeInteger(number) ? withoutSign(number) : undefined
    }
    case 'FLOAT':
    case 'DOUBLE': {
      const number = typeof value === 'string' && decimalNumber.test(value) ? Number(value) : value
      return typeof number === 'number' && Number.isFinite(number) ? withoutSign(number) : undefined
    }
    case 'BOOLEAN':
      return typeof value === 'boolean' ? value : value === 'true' ? true : value === 'false' ? false : undefined
    case 'BYTES':
      return typeof value === 'string' && base64.test(value) ? value : undefined
    case 'STRING':
    case 'STREAM':
      return value === null ? undefined : textOf(value)
  }
}

/** JSON has no -0. */
function withoutSign(number: number): number { return number === 0 ? 0 : number }

/** `INT between 0 and 100 °C`. */
function describe(type: PropertyType, rule: PropertyRule | undefined): string {
  const { minimum, maximum, unit } = rule ?? {}
  if (minimum === undefined && maximum === undefined) return described[type]
  const range = minimum === undefined ? `at most ${maximum}`
    : maximum === undefined ? `at least ${minimum}` : `between ${minimum} and ${maximum}`
  return `${type} ${range}${unit === undefined || unit === '' ? '' : ` ${unit}`}`
}

/** Whether `name` may be a property's: TWN-3, and no `__proto__`. */
export function isPropertyName(name: unknown): name is string {
  return typeof name === 'string' && name.length > 0 && name.length <= twinLimits.nameCharacters.value
    && !/\p{Cc}/u.test(name) && name.isWellFormed() && name !== '__proto__'
}

/** Whether `type` may be what a sender calls a type. */
export function isTypeName(type: unknown): type is string {
  return typeof type === 'string' && type.length > 0 && type.length <= twinLimits.typeCharacters.value
    && !/\p{Cc}/u.test(type) && type.isWellFormed()
}

/** A time that somebody gave, milliseconds since 1970; undefined where it is none. */
export function readTimestamp(timestamp: unknown): number | undefined {
  if (typeof timestamp !== 'number' || !(timestamp >= 1 && timestamp <= Number.MAX_SAFE_INTEGER)) return undefined
  return Math.floor(timestamp)
}

/** The list at `object.spec.properties` as it is; empty where there is none. */
export function propertyItems(object: unknown): readonly unknown[] {
  const spec = isRecord(object) ? object['spec'] : undefined
  const items = isRecord(spec) ? spec['properties'] : undefined
  return Array.isArray(items) ? items : []
}
