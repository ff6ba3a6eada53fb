import { compareUtf8, pathOf } from './object-store-keys.ts'
import type { StoredObject } from './object-store-types.ts'

/** The objects of one resource in the order of their paths. */
export class ObjectCollection {
  readonly #byPath = new Map<string, StoredObject>()
  readonly #paths: string[] = []
  readonly #items: StoredObject[] = []

  get size(): number { return this.#items.length }

  get(path: string): StoredObject | undefined { return this.#byPath.get(path) }

  put(stored: StoredObject): void {
    const path = pathOf(stored)
    const i = this.#lowerBound(path)
    if (this.#byPath.has(path)) this.#items[i] = stored
    else {
      this.#paths.splice(i, 0, path)
      this.#items.splice(i, 0, stored)
    }
    this.#byPath.set(path, stored)
  }

  delete(path: string): void {
    if (!this.#byPath.delete(path)) return
    const i = this.#lowerBound(path)
    this.#paths.splice(i, 1)
    this.#items.splice(i, 1)
  }

  /** Those from `from` (included) to `to` (excluded; undefined: the end); a copy. */
  range(from: string, to: string | undefined): StoredObject[] {
    return this.#items.slice(this.#lowerBound(from), to === undefined ? undefined : this.#lowerBound(to))
  }

  #lowerBound(path: string): number {
    const paths = this.#paths
    // What is loaded comes in order.
    if (paths.length === 0 || compareUtf8(paths[paths.length - 1]!, path) < 0) return paths.length
    let low = 0
    let high = paths.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (compareUtf8(paths[middle]!, path) < 0) low = middle + 1
      else high = middle
    }
    return low
  }
}

/** Paths of a namespace lie from its prefix to this: `/` is followed by `0`. */
export function namespaceRange(namespace: string | undefined): { readonly from: string, readonly to: string | undefined } {
  return namespace === undefined ? { from: '', to: undefined } : { from: `${namespace}/`, to: `${namespace}0` }
}

/** The collection of a resource, made where there is none. */
export function collectionOf(collections: Map<string, ObjectCollection>, resource: string): ObjectCollection {
  let collection = collections.get(resource)
  if (collection === undefined) {
    collection = new ObjectCollection()
    collections.set(resource, collection)
  }
  return collection
}
