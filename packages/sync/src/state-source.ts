/** What a writer holds of one item, next to its key. Both are the writer's to choose; nobody else orders versions. */
export interface StateItem {
  /** 1 to 64 bytes; equal versions mean equal values (STA-2). */
  readonly version: Buffer
  readonly value: Buffer
}

/** Told by a source of what is different now, after the source shows it. */
export interface StateListener {
  /** The item under this key was put, changed or deleted. */
  keyChanged(collection: string, key: string): void
  /** `ready` or `position` may answer otherwise than before. */
  collectionChanged(collection: string): void
}

/**
 * What one side of a tunnel writes and the other holds alike (docs/spec/state.md): the view of one node in the cloud, a
 * node's statuses on the edge. Implemented by the host of a StateWriter.
 *
 * All answers are about this very moment and agree with each other until the next turn of the event loop. From the first
 * time that a collection is ready on, whatever differs from what was shown before is told with `keyChanged`: also what a
 * relist finds, and what went back.
 */
export interface StateSource {
  /** Names of the collections, dependencies first. */
  readonly collections: readonly string[]

  /**
   * True where all that the collection is made of is known since this process started, and is not older than `position`,
   * which the reader has taken in; or where it is known for certain that the source went back behind that. `position` is
   * what `position()` of this source, or of one before it, gave; empty where the reader has none, and one that makes no
   * sense (a disk may have damaged it) counts as none. What a consistent list showed is old where the source goes back
   * once more. Not knowing is not deleting: a list that failed is not ready, never empty (STA-12). Where the answer turns
   * true later, `collectionChanged` says so. Asked often: the answer has to be at hand.
   */
  ready(collection: string, position: string): boolean

  /** How far the source has seen, at most 512 characters; opaque to everybody else. */
  position(collection: string): string

  /** `stateDigest` of the collection's items. */
  digest(collection: string): Buffer

  /** The item's version; undefined where there is no item under this key. */
  version(collection: string, key: string): Buffer | undefined

  /** The item's value; undefined if and only if `version` is. */
  value(collection: string, key: string): Buffer | undefined

  /** Keys behind `after` (empty: all) and their versions, in the order of the keys' bytes. */
  keysFrom(collection: string, after: string): Iterable<readonly [key: string, version: Buffer]>

  /**
   * The reader holds this other version under a key of the source. Told while both compare, before the source's own version
   * is sent; what the source makes of it (STA-34) it tells with `keyChanged`, in a later turn.
   */
  met?(collection: string, key: string, version: Buffer): void

  /** Has `listener` told of changes from now on, until the function that it returns is called. */
  subscribe(listener: StateListener): () => void
}
