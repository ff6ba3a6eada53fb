import type { Json } from '@holdfast/device-twin'
import { mapperLimits as limits } from './limits.ts'

/** What a device sent, parsed at most once, and only where somebody asks. Its length is bounded by whoever received it. */
export class JsonPayload {
  readonly #payload: Buffer
  #text: string | undefined
  #parsed: { readonly value: Json | undefined } | undefined

  constructor(payload: Buffer) { this.#payload = payload }

  get text(): string { return this.#text ??= this.#payload.toString() }

  /** Undefined where it is no JSON, or nested too deep. */
  get value(): Json | undefined {
    this.#parsed ??= { value: parse(this.text) }
    return this.#parsed.value
  }
}

/** Of a payload, as much as a problem repeats. */
export function shown(text: string): string { return text.length > 64 ? `${text.slice(0, 64)}…` : text }

function parse(text: string): Json | undefined {
  try {
    const value = JSON.parse(text) as Json
    return isWithin(value, limits.payloadDepth.value) ? value : undefined
  } catch {
    return undefined
  }
}

function isWithin(value: Json, depth: number): boolean {
  if (typeof value !== 'object' || value === null) return true
  return depth > 0 && Object.values(value).every(member => isWithin(member, depth - 1))
}
