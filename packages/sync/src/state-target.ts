import type { StateItem } from './state-source.ts'

/** Changes of one collection, which become visible and durable together or not at all. */
export interface StateBatch {
  readonly collection: string
  readonly puts: readonly (StateItem & { readonly key: string })[]
  /** Keys that the writer does not have; no key is among the puts too. */
  readonly deletes: readonly string[]
  /** With this batch the collection is what the writer holds. */
  readonly synced: boolean
  /**
   * How far the writer had seen: to be remembered with every batch, synced or not, so that no writer that has seen less
   * takes it back (STA-12).
   */
  readonly position: string
}

/**
 * Where one side of a tunnel keeps what the other writes (docs/spec/state.md): a node's objects on the edge, what is to be
 * written to Kubernetes in the cloud. Implemented by the host of a StateReader. One target outlives many sessions.
 */
export interface StateTarget {
  /** Names of the collections that it takes, whether it holds something of them or not. */
  readonly collections: readonly string[]

  /**
   * `stateDigest` of what is really there now, once everything that `apply` got before, in this session or an older one,
   * has been settled. Asked once a session and collection, and again after `subscribe`'s listener was called. Down, each
   * item counts under the version that its value has as read from the disk now; one that cannot be read does not count. A promise may take
   * as long as it needs (the cloud may have to learn what Kubernetes holds first): the collection waits, nothing else
   * does.
   */
  digest(collection: string): Promise<Buffer> | Buffer

  /** The position of the last batch that was applied; empty: none. */
  position(collection: string): string

  /** Keys behind `after` (empty: all) and their versions, in the order of the keys' bytes; as `digest` found them. */
  keysFrom(collection: string, after: string): Iterable<readonly [key: string, version: Buffer]>

  /**
   * Takes a batch in, and refuses what would make the collection larger than its bound; versions and values are views of
   * the batch's bytes, to be copied where they are kept. Called in order, also before earlier ones are settled.
   * `onApplied` is called once, in the order of the calls: without an error when the batch is durable and visible (down),
   * or taken in (up), never before. With an error nothing of the batch was applied, and whatever follows in this session
   * is not handed over any more (STA-24).
   */
  apply(batch: StateBatch, onApplied: (error?: Error) => void): void

  /**
   * Has `listener` called with a collection that became different other than by `apply`, as where an item turns out to be
   * damaged, until the function that it returns is called: both sides then compare again, in the same session.
   */
  subscribe?(listener: (collection: string) => void): () => void
}
