import { twinLimits } from './limits.ts'

/** Any JSON value. Members of objects are own properties; `__proto__` is refused at the boundary (`TWIN_VALUE`). */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [member: string]: Json }

/** An object of the Kubernetes API as it was parsed. Nothing in it is taken for granted. */
export type KubeJson = Readonly<Record<string, unknown>>

export function isRecord(value: unknown): value is KubeJson {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** A string is itself, everything else its JSON (TWN-4). The value is within the bounds of TWN-3. */
export function textOf(value: Json): string { return typeof value === 'string' ? value : JSON.stringify(value) }

/**
 * `patch` merged into `target` (RFC 7396): members of objects are set, null takes them away, everything else is replaced. Both
 * are within the bounds of TWN-3; neither is changed.
 */
export function mergePatch(target: Json, patch: Json): Json {
  if (!isObject(patch)) return patch
  const members = new Map(isObject(target) ? Object.entries(target) : [])
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) members.delete(name)
    else members.set(name, mergePatch(members.get(name) ?? null, value))
  }
  return Object.fromEntries(members)
}

function isObject(value: Json): value is { readonly [member: string]: Json } { return isRecord(value) }

/** A string as JSON in UTF-8, quotes included; undefined where it has half of a surrogate pair. */
export function stringBytes(text: string): number | undefined {
  let bytes = text.length + 2
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i)
    if (unit < 0x20) bytes += unit === 8 || unit === 9 || unit === 10 || unit === 12 || unit === 13 ? 1 : 5
    else if (unit === 0x22 || unit === 0x5c) bytes++
    else if (unit < 0x80) continue
    else if (unit < 0x800) bytes++
    else if (unit < 0xd800 || unit > 0xdfff) bytes += 2
    else {
      const next = unit < 0xdc00 ? text.charCodeAt(i + 1) : NaN
      if (!(next >= 0xdc00 && next <= 0xdfff)) return undefined
      bytes += 2
      i++
    }
  }
  return bytes
}

/** What a value takes as JSON, or which bound or rule of values (TWN-3) it breaks, for whoever is to mend it. */
export type Measured = { readonly bytes: number } | { readonly problem: string, readonly rule: string }

/** Looks at no more of `value` than the bounds allow, and never throws, whatever it is. */
export function measure(value: unknown): Measured {
  const meter = new ValueMeter()
  meter.add(value, 0)
  if (meter.problem !== undefined) return meter.problem
  return { bytes: meter.bytes }
}

/** Neither a Map nor a Date, nor what else JSON makes something else of. */
function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}

const bytesMax = twinLimits.valueBytes.value
const depthMax = twinLimits.valueDepth.value

const problems = {
  long: { problem: 'is too long', rule: `at most ${bytesMax / 1024} KiB as JSON` },
  deep: { problem: 'is nested too deep', rule: `at most ${depthMax} levels of arrays and objects` },
  prototype: { problem: 'has a member __proto__', rule: 'no member __proto__' },
  unicode: { problem: 'has half of a surrogate pair', rule: 'Unicode text' },
  json: { problem: 'is no JSON value', rule: 'null, boolean, finite number, string, array or object' }
}

class ValueMeter {
  bytes = 0
  problem: { readonly problem: string, readonly rule: string } | undefined = undefined

  add(value: unknown, depth: number): void {
    switch (typeof value) {
      case 'string': return this.#addString(value)
      case 'number':
        if (Number.isFinite(value)) return this.#count(String(value).length)
        this.problem ??= problems.json
        return
      case 'boolean': return this.#count(value ? 4 : 5)
      case 'object':
        if (value === null) this.#count(4)
        else if (depth === depthMax) this.problem ??= problems.deep
        else if (Array.isArray(value)) this.#addArray(value, depth)
        else if (!isPlain(value)) this.problem ??= problems.json
        else this.#addObject(value, depth)
        return
      default:
        this.problem ??= problems.json
    }
  }

  #addArray(values: readonly unknown[], depth: number): void {
    this.#count(2 + Math.max(0, values.length - 1))
    for (let i = 0; i < values.length && this.problem === undefined; i++) this.add(values[i], depth + 1)
  }

  #addObject(value: object, depth: number): void {
    const members = Object.entries(value)
    this.#count(2 + Math.max(0, members.length - 1))
    for (const [name, member] of members) {
      if (name === '__proto__') this.problem ??= problems.prototype
      if (this.problem !== undefined) return
      this.#addString(name)
      this.#count(1)
      this.add(member, depth + 1)
    }
  }

  #addString(text: string): void {
    if (text.length > bytesMax) return this.#count(text.length)
    const bytes = stringBytes(text)
    if (bytes === undefined) this.problem ??= problems.unicode
    else this.#count(bytes)
  }

  #count(bytes: number): void {
    this.bytes += bytes
    if (this.bytes > bytesMax) this.problem ??= problems.long
  }
}
