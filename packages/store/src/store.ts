/** One change of a batch. Keys and values are owned by the store from the call on: do not modify them afterwards. */
export type WriteOp =
  | { readonly type: 'put'; readonly key: Uint8Array; readonly value: Uint8Array }
  | { readonly type: 'del'; readonly key: Uint8Array }

export interface StoreEntry { readonly key: Buffer; readonly value: Buffer }

export interface ScanOptions {
  /** First key, included. */
  readonly gte: Uint8Array
  /** End of the range, excluded. */
  readonly lt: Uint8Array
  /** At most so many entries. Default: no limit. */
  readonly limit?: number
  /**
   * Stop after the entry that brings key and value bytes to this. At least one entry is returned; with
   * `values: false` only keys count. Default 1 MiB.
   */
  readonly bytesMax?: number
  /** From the end of the range towards its start. */
  readonly reverse?: boolean
  /** False: values come back empty, and are not copied. Default true. */
  readonly values?: boolean
}

/**
 * An ordered key-value store with atomic batches. Keys are compared as bytes.
 *
 * `write` is the only way in. A batch is all or nothing, also across a crash. After `sync: true` has been answered
 * without an error, that batch and every earlier one survive a power cut (L1): implementations with weaker logs must
 * close that gap themselves; `sync` is a lower bound. After an error nothing is promised about the batch, and every later
 * write fails with `STORE_FAILED` until the store is opened again: a failed fsync is never retried (design §4.3). The
 * first failure, and reads, may carry `STORE_CORRUPT`: then it has to be quarantined. After `close`: `STORE_CLOSED`.
 */
export interface Store {
  /** Calls back once, in the order of the calls. */
  write(ops: readonly WriteOp[], options: { readonly sync: boolean }, onDone: (error?: Error) => void): void
  get(key: Uint8Array): Promise<Buffer | undefined>
  /** One page of a range, as it is now. */
  scan(options: ScanOptions): Promise<StoreEntry[]>
  /**
   * Gives the space of deleted entries in [gte, lt) back to the file system, as far as that is possible; entries stay as
   * they are. May take seconds; other calls go on meanwhile.
   */
  compact(gte: Uint8Array, lt: Uint8Array): Promise<void>
  /** Waits for what was handed in, then releases files. Idempotent. */
  close(): Promise<void>
}

/**
 * Fills a new store with what is sound of another one. The entries come in no order; damaged parts are left out. Rejects
 * where a write fails.
 */
export type FillStore = (entries: AsyncIterable<StoreEntry>, store: Store) => Promise<void>

/** How a store is opened and, after a failure, opened again. */
export interface StoreOpener {
  /**
   * Rejects with `STORE_CORRUPT` (to be rebuilt, L11; also where a rebuilding was cut short), `STORE_LOCKED`,
   * `STORE_INACCESSIBLE` (nothing is wrong with it) or `STORE_FAILED`.
   */
  open(): Promise<Store>
  /**
   * To be asked before `open`: true where opening will leave out damaged parts without an error, or the store was rebuilt,
   * so that entries may be missing anywhere, at the end too. Stays true, over restarts and openings, until `trust`.
   */
  suspect(): Promise<boolean>
  /**
   * All that is loaded from the store has been read, and what may be missing is written down: it is suspect no more. To be
   * called after every `open`: one that a process died of, before this call, has the next `open` verify the whole store.
   */
  trust(): Promise<void>
  /**
   * Sets an unreadable store aside, never deleting it, and puts one that `fill` has filled in its place, as one step: where
   * the process dies before, or `fill` rejects, the next call throws the unfinished one away and begins again from what was
   * set aside. Resolves with the place where that now is.
   */
  rebuild(fill: FillStore): Promise<string>
}
