import { isDeepStrictEqual } from 'node:util'
import type { JsonObject, KubeObject } from '../object.ts'
import type { StoredObject } from '../object-store-types.ts'
import type { ServedResource } from '../registry.ts'

/**
 * Stored objects as one version of a resource shows them. What is built in is shown as it is stored. A custom resource may
 * have been stored under another version, or before its definition got a default: it is shown under the version asked
 * for, with today's defaults and without what the schema no longer knows. Each is worked out once.
 */
export class ObjectView {
  readonly #served: ServedResource
  readonly #groupVersion: string
  readonly #shown = new WeakMap<StoredObject, StoredObject>()
  /** How the text of an object begins whose kind and apiVersion a list leaves out, in either order. */
  readonly #heads: readonly Buffer[]

  constructor(served: ServedResource) {
    this.#served = served
    const { group, version, kind } = served.resource
    this.#groupVersion = group === '' ? version : `${group}/${version}`
    const [kindText, versionText] = [JSON.stringify(kind), JSON.stringify(this.#groupVersion)]
    this.#heads = [
      Buffer.from(`{"kind":${kindText},"apiVersion":${versionText},`),
      Buffer.from(`{"apiVersion":${versionText},"kind":${kindText},`)
    ]
  }

  get groupVersion(): string { return this.#groupVersion }

  of(stored: StoredObject): StoredObject {
    if (!this.#served.isCustom || stored.shownBy === this.#served.resource) return stored
    let shown = this.#shown.get(stored)
    if (shown === undefined) {
      shown = this.#convert(stored)
      this.#shown.set(stored, shown)
    }
    return shown
  }

  /** A list document, piece by piece. */
  list(metadata: JsonObject, items: readonly StoredObject[]): Iterable<string> {
    const head = { kind: this.#served.resource.listKind, apiVersion: this.#groupVersion, metadata }
    return listPieces(head, 'items', items, item => this.#listItem(item))
  }

  /** Without kind and apiVersion for what is built in, as the real server does. */
  #listItem(stored: StoredObject): string {
    if (this.#served.isCustom) return this.of(stored).json.toString()
    const head = this.#heads.find(bytes => stored.json.subarray(0, bytes.length).equals(bytes))
    return head === undefined ? stored.json.toString() : `{${stored.json.toString('utf8', head.length)}`
  }

  #convert(stored: StoredObject): StoredObject {
    const document = JSON.parse(stored.json.toString()) as JsonObject
    document['apiVersion'] = this.#groupVersion
    const { object } = this.#served.resource.decode(document, 'Ignore')
    if (isDeepStrictEqual(object, stored.object)) return stored
    return { ...stored, object, json: Buffer.from(JSON.stringify(object)) }
  }
}

/** The text of `document` with one more member, a list, whose elements are written one by one. */
export function* listPieces<Item>(
  document: JsonObject, name: string, items: readonly Item[], text: (item: Item) => string
): Generator<string> {
  yield `${JSON.stringify(document).slice(0, -1)},"${name}":[`
  for (const [i, item] of items.entries()) yield i === 0 ? text(item) : `,${text(item)}`
  yield ']}\n'
}

/** An object's members with kind, apiVersion and metadata first, as they are stored and sent. */
export function inOrder({ kind, apiVersion, metadata, ...rest }: KubeObject): KubeObject {
  return { kind, apiVersion, metadata, ...rest }
}
