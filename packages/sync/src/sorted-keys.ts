/** Keys that came are put in order without being asked for when there are so many more of them than items. */
const addedSlack = 1000

/**
 * A map whose keys come out in order. They are put in order when somebody asks, after keys came or went: what was in order before
 * is one run for the sort, so that it costs about as much as a copy. However many keys come and go before, memory is that of the
 * items.
 */
export class SortedKeys<Item> {
  readonly #items = new Map<string, Item>()
  /** In order; may name what has gone. */
  #keys: string[] = []
  #added: string[] = []
  #gone = 0

  get size(): number { return this.#items.size }

  get(key: string): Item | undefined { return this.#items.get(key) }

  set(key: string, item: Item): void {
    const isNew = !this.#items.has(key)
    this.#items.set(key, item)
    if (isNew && this.#added.push(key) > this.#items.size + addedSlack) this.#sort()
  }

  delete(key: string): void { if (this.#items.delete(key)) this.#gone++ }

  /** Entries behind `after`. What goes on the way is left out, what comes may be. */
  *from(after: string): Generator<readonly [key: string, item: Item]> {
    if (this.#added.length > 0 || this.#gone > 0) this.#sort()
    const keys = this.#keys
    let low = 0
    for (let high = keys.length; low < high;) {
      const middle = (low + high) >>> 1
      if (keys[middle]! > after) high = middle
      else low = middle + 1
    }
    for (let at = low; at < keys.length; at++) {
      const key = keys[at]!
      const item = this.#items.get(key)
      if (item !== undefined) yield [key, item]
    }
  }

  #sort(): void {
    // A key that went and came again is named twice.
    const all = new Set(this.#gone === 0 ? this.#keys : this.#keys.filter(key => this.#items.has(key)))
    for (const key of this.#added.toSorted()) if (this.#items.has(key)) all.add(key)
    this.#keys = [...all].toSorted()
    this.#added = []
    this.#gone = 0
  }
}
