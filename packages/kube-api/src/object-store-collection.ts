import { compareUtf8, pathOf } from './object-store-keys.ts'
import type { StoredObject } from './object-store-types.ts'

/** A chunk that grows to so many is cut in two: inserting moves no more than this, however many objects there are. */
const chunkLengthMax = 512

/** Neighbours, in order; never empty. */
interface Chunk { readonly paths: string[], readonly items: StoredObject[] }

/** Where a path is, or would be put: index of the chunk and in it. */
interface Place { readonly chunk: number, readonly index: number }

/** The objects of one resource in the order of their paths. */
export class ObjectCollection {
  readonly #byPath = new Map<string, StoredObject>()
  readonly #chunks: Chunk[] = []

  get size(): number { return this.#byPath.size }

  get(path: string): StoredObject | undefined { return this.#byPath.get(path) }

  put(stored: StoredObject): void {
    const path = pathOf(stored)
    const there = this.#byPath.has(path)
    this.#byPath.set(path, stored)
    if (this.#chunks.length === 0) {
      this.#chunks.push({ paths: [path], items: [stored] })
      return
    }
    let { chunk, index } = this.#lowerBound(path)
    if (chunk === this.#chunks.length) {
      chunk--
      index = this.#chunks[chunk]!.paths.length
    }
    const { paths, items } = this.#chunks[chunk]!
    paths.splice(index, there ? 1 : 0, path)
    items.splice(index, there ? 1 : 0, stored)
    if (paths.length < chunkLengthMax) return
    const half = chunkLengthMax / 2
    this.#chunks.splice(chunk + 1, 0, { paths: paths.splice(half), items: items.splice(half) })
  }

  delete(path: string): void {
    if (!this.#byPath.delete(path)) return
    const { chunk, index } = this.#lowerBound(path)
    const { paths, items } = this.#chunks[chunk]!
    paths.splice(index, 1)
    items.splice(index, 1)
    if (paths.length === 0) this.#chunks.splice(chunk, 1)
  }

  /** Those from `from` (included) to `to` (excluded; undefined: the end); a copy. */
  range(from: string, to: string | undefined): StoredObject[] {
    const start = this.#lowerBound(from)
    const end = this.#end(to)
    if (start.chunk === end.chunk) return this.#chunks[start.chunk]?.items.slice(start.index, end.index) ?? []
    const found = this.#chunks[start.chunk]?.items.slice(start.index) ?? []
    for (let i = start.chunk + 1; i < end.chunk; i++) for (const stored of this.#chunks[i]!.items) found.push(stored)
    for (const stored of this.#chunks[end.chunk]?.items.slice(0, end.index) ?? []) found.push(stored)
    return found
  }

  /** How many `range` would give. */
  count(from: string, to: string | undefined): number {
    const start = this.#lowerBound(from)
    const end = this.#end(to)
    let count = end.index - start.index
    for (let i = start.chunk; i < end.chunk; i++) count += this.#chunks[i]!.paths.length
    return Math.max(0, count)
  }

  /** What `range` would give, with their paths, one by one. To be read at once. */
  * entries(from: string, to: string | undefined): Generator<readonly [path: string, stored: StoredObject]> {
    const start = this.#lowerBound(from)
    const end = this.#end(to)
    for (let i = start.chunk; i <= end.chunk && i < this.#chunks.length; i++) {
      const { paths, items } = this.#chunks[i]!
      const last = i === end.chunk ? end.index : paths.length
      for (let j = i === start.chunk ? start.index : 0; j < last; j++) yield [paths[j]!, items[j]!]
    }
  }

  #end(to: string | undefined): Place {
    return to === undefined ? { chunk: this.#chunks.length, index: 0 } : this.#lowerBound(to)
  }

  /** The first that is not below `path`; behind the last chunk where there is none. */
  #lowerBound(path: string): Place {
    const chunk = firstIndex(this.#chunks.length, i => compareUtf8(this.#chunks[i]!.paths.at(-1)!, path) >= 0)
    const paths = this.#chunks[chunk]?.paths ?? []
    return { chunk, index: firstIndex(paths.length, i => compareUtf8(paths[i]!, path) >= 0) }
  }
}

/** The first index for which `holds` is true, as it is for all behind it; `length` where there is none. */
function firstIndex(length: number, holds: (index: number) => boolean): number {
  let low = 0
  let high = length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (holds(middle)) high = middle
    else low = middle + 1
  }
  return low
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
