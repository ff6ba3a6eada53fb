/** A map whose keys come out in order: sorted when somebody asks, again only after keys came or went. */
export class SortedKeys<Item> {
  readonly #items = new Map<string, Item>()
  #keys: string[] | undefined = []

  get size(): number { return this.#items.size }

  get(key: string): Item | undefined { return this.#items.get(key) }

  set(key: string, item: Item): void {
    if (this.#keys !== undefined && !this.#items.has(key)) {
      if (this.#keys.length === 0 || this.#keys.at(-1)! < key) this.#keys.push(key)
      else this.#keys = undefined
    }
    this.#items.set(key, item)
  }

  delete(key: string): void { if (this.#items.delete(key)) this.#keys = undefined }

  /** Entries behind `after`. Those that go on the way are left out, those that come may be. */
  *from(after: string): Generator<readonly [key: string, item: Item]> {
    this.#keys ??= [...this.#items.keys()].toSorted()
    const keys = this.#keys
    let low = 0
    for (let high = keys.length; low < high;) {
      const middle = (low + high) >>> 1
      if (keys[middle]! > after) high = middle
      else low = middle + 1
    }
    for (let at = low; at < keys.length; at++) {
      const item = this.#items.get(keys[at]!)
      if (item !== undefined) yield [keys[at]!, item]
    }
  }
}
