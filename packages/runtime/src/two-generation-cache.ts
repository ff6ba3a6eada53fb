interface Kept<Value> { readonly value: Value, readonly bytes: number }

/**
 * A bounded map of what was used lately: when the young generation is full, it becomes the old one, and what was the old
 * one is forgotten. Constant cost, about least-recently-used. Holds at most two generations.
 */
export class TwoGenerationCache<Value> {
  readonly #entriesMax: number
  readonly #bytesMax: number
  #young = new Map<string, Kept<Value>>()
  #old = new Map<string, Kept<Value>>()
  #bytes = 0

  /** Bounds of one generation. */
  constructor(options: { readonly entriesMax: number, readonly bytesMax: number }) {
    this.#entriesMax = options.entriesMax
    this.#bytesMax = options.bytesMax
  }

  get size(): number { return this.#young.size + this.#old.size }

  get(key: string): Value | undefined {
    const young = this.#young.get(key)
    if (young !== undefined) return young.value
    const old = this.#old.get(key)
    if (old !== undefined) this.set(key, old.value, old.bytes)
    return old?.value
  }

  set(key: string, value: Value, bytes: number): void {
    if (this.#young.size >= this.#entriesMax || this.#bytes >= this.#bytesMax) {
      this.#old = this.#young
      this.#young = new Map()
      this.#bytes = 0
    }
    this.#bytes += bytes - (this.#young.get(key)?.bytes ?? 0)
    this.#young.set(key, { value, bytes })
  }
}
