interface Node<Value> {
  readonly children: Map<string, Node<Value>>
  readonly values: Map<string, Value>
}

/**
 * Topic filters to values, several values a filter, told apart by a key. Finds all filters that match a topic in one
 * walk: cost by matching branches, not by filters held.
 */
export class FilterTrie<Value> {
  readonly #root: Node<Value> = { children: new Map(), values: new Map() }
  #size = 0

  /** Values held. */
  get size(): number { return this.#size }

  add(filter: string, key: string, value: Value): void {
    let node = this.#root
    for (const level of filter.split('/')) {
      let child = node.children.get(level)
      if (child === undefined) {
        child = { children: new Map(), values: new Map() }
        node.children.set(level, child)
      }
      node = child
    }
    if (!node.values.has(key)) this.#size++
    node.values.set(key, value)
  }

  remove(filter: string, key: string): void {
    const path: { node: Node<Value>, level: string }[] = []
    let node = this.#root
    for (const level of filter.split('/')) {
      const child = node.children.get(level)
      if (child === undefined) return
      path.push({ node, level })
      node = child
    }
    if (!node.values.delete(key)) return
    this.#size--
    for (let i = path.length - 1; i >= 0; i--) {
      const { node: parent, level } = path[i]!
      const child = parent.children.get(level)!
      if (child.values.size > 0 || child.children.size > 0) return
      parent.children.delete(level)
    }
  }

  /** Values of every filter that matches `topic`: `#` before `+` before literal levels. */
  match(topic: string): Value[] {
    const found: Value[] = []
    if (this.#size > 0) walk(this.#root, topic.split('/'), 0, found)
    return found
  }
}

function walk<Value>(node: Node<Value>, levels: readonly string[], at: number, found: Value[]): void {
  // [MQTT-4.7.2-1]: a filter that begins with a wildcard does not match topics that begin with $.
  const wildcards = at > 0 || !levels[0]!.startsWith('$')
  if (wildcards) {
    const rest = node.children.get('#')
    if (rest !== undefined) found.push(...rest.values.values())
  }
  if (at === levels.length) {
    found.push(...node.values.values())
    return
  }
  if (wildcards) {
    const any = node.children.get('+')
    if (any !== undefined) walk(any, levels, at + 1, found)
  }
  const literal = node.children.get(levels[at]!)
  if (literal !== undefined && levels[at] !== '+' && levels[at] !== '#') walk(literal, levels, at + 1, found)
}
