import type { KubeObject } from './object.ts'
import type { Resource } from './resource.ts'

/** Names one object whatever its version: `configmaps`, `default`, `settings`. */
export interface ObjectKey {
  /** What `resourceName` gives: `pods`, `gadgets.demo.holdfast.dev`. */
  readonly resource: string
  /** Empty for what is not in a namespace. */
  readonly namespace: string
  readonly name: string
}

/**
 * One version of an object. Shared by every reader and watcher: neither the object nor the bytes are ever changed, so
 * whoever wants another one makes a copy (`structuredClone`).
 */
export interface StoredObject extends ObjectKey {
  /** Its place in the order of all changes; `metadata.resourceVersion` is the same number as text. */
  readonly revision: number
  readonly object: KubeObject
  /** JSON text of `object`, UTF-8, encoded once, when it was written. */
  readonly json: Buffer
  /** The resource that would show it just so, known of what was written since the start; nothing is to be worked out then. */
  readonly shownBy?: Resource | undefined
}

/** What a write is to do, decided from the newest state of the object. */
export type WriteDecision =
  /** `resourceVersion` is set by the store; the object belongs to the store from now on. An equal one changes nothing. */
  | { readonly kind: 'put', readonly object: KubeObject, readonly shownBy?: Resource | undefined }
  /** No object here from now on. */
  | { readonly kind: 'delete' }
  | { readonly kind: 'none' }

export type WriteResult =
  /** What is stored now. */
  | { readonly kind: 'put', readonly stored: StoredObject, readonly previous: StoredObject | undefined }
  /** `revision` is that of the deletion; `previous` what was there before. */
  | { readonly kind: 'deleted', readonly revision: number, readonly previous: StoredObject }
  /** Nothing changed: `stored` is what is there, undefined where nothing is. */
  | { readonly kind: 'none', readonly stored: StoredObject | undefined }

/** Which objects of a resource a list or a watch is about; a namespace of undefined means all. */
export interface Selection {
  readonly resource: string
  readonly namespace: string | undefined
  /** True for an object that the selectors choose; absent: all of them. Pure; called for old and new versions alike. */
  readonly matches?: ((stored: StoredObject) => boolean) | undefined
}

/** Parameters of a list as clients send them (`readListOptions` reads them from a query). Absent or empty: not given. */
export interface ListOptions {
  /** At most so many objects; 0: all. */
  readonly limit?: number | undefined
  readonly continue?: string | undefined
  readonly resourceVersion?: string | undefined
  readonly resourceVersionMatch?: string | undefined
}

export interface ObjectList {
  /** The state that the list shows: `metadata.resourceVersion` of the list. */
  readonly revision: number
  /** In the order of keys: namespace, then name. */
  readonly items: readonly StoredObject[]
  /** Token of the next page; empty: this was the last. */
  readonly continue: string
  /** How many more there are; undefined where that is not told (selectors, last page). */
  readonly remainingItemCount: number | undefined
}

/** Parameters of a watch as clients send them. Absent or empty: not given. */
export interface WatchOptions {
  readonly resourceVersion?: string | undefined
  readonly resourceVersionMatch?: string | undefined
  readonly allowWatchBookmarks?: boolean | undefined
  readonly sendInitialEvents?: boolean | undefined
  /** The watch ends by itself after so long; absent: it does not. A bookmark goes out 2 s before. */
  readonly timeoutMs?: number | undefined
}

export type ChangeType = 'ADDED' | 'MODIFIED' | 'DELETED'

export interface ChangeEvent {
  readonly kind: 'change'
  /** As this watch sees it: an object that leaves a selection is DELETED, one that enters is ADDED. */
  readonly type: ChangeType
  readonly revision: number
  /** For DELETED the last version that was seen, with the revision of the change as its resourceVersion. */
  readonly stored: StoredObject
  /** `{"type":…,"object":…}` and a newline; encoded once for all watches. */
  line(): Buffer
}

export type WatchEvent = ChangeEvent
  /** Everything up to `revision` has been sent. `initialEventsEnd`: what existed at the start is complete with this. */
  | { readonly kind: 'bookmark', readonly revision: number, readonly initialEventsEnd: boolean }

/**
 * Why a watch has ended. `overflow`: its reader did not keep up with `kubeApiLimits.historyEvents` and `historyBytes`.
 * `expired`: the store was restored to another state under it; the client lists again (410).
 */
export type WatchEnd = 'closed' | 'timeout' | 'overflow' | 'expired' | 'store-closed'

/**
 * One watch: batches of events, oldest first, never an empty one. Nothing is queued for it: it reads from the history of
 * changes that all watches share, and ends with `overflow` where its reader stays behind that. Taken by one reader, once.
 */
export interface Watch extends AsyncIterable<readonly WatchEvent[]> {
  /** Undefined while it goes on. The iteration ends with it; what was not taken is dropped. */
  readonly end: WatchEnd | undefined
  /** Idempotent. */
  close(): void
}

export interface WatchListener {
  /** Told once, as soon as the watch ends, whether its reader is waiting or stuck elsewhere. */
  ended(end: WatchEnd): void
}

/**
 * What the REST server reads from: the ObjectStore, or another table that keeps the same rules. Everything it shows is
 * durable. Refusals are StatusError with the words of the real server.
 */
export interface ObjectSource {
  /** The newest change that can be seen. */
  readonly revision: number
  /** `resourceVersion` as the client gave it: 504 where the store is not there yet, 500 where it is no number. */
  get(key: ObjectKey, resourceVersion?: string): Promise<StoredObject | undefined> | StoredObject | undefined
  /** 400, 410 (`Expired`), 422, 500 and 504 as the real server answers them. */
  list(selection: Selection, options: ListOptions): Promise<ObjectList> | ObjectList
  /**
   * 422, 429 (too many watches), 500 and 504 as refusals. A resourceVersion older than the history is no refusal for
   * clients but an ERROR event: it is thrown as 410 `Expired`, for the caller to send after its 200.
   */
  watch(selection: Selection, options: WatchOptions, listener?: WatchListener): Watch
}

/** The ObjectSource that can be written to; ObjectStore is one. */
export interface ObjectWriter extends ObjectSource {
  /**
   * Changes one object. `decide` is called once, at once, with the newest state, durable or not; writers of an object
   * follow each other by that. It is pure, and may throw StatusError. Resolves when the change, and what it was decided
   * from, is durable and visible; rejects with what `decide` threw once what that was decided from is durable, with
   * StatusError 413 or 403 at a bound, with HoldfastError `STORE_FAILED` … where the disk refuses: then nothing is
   * known of the change until the store has been opened again.
   */
  write(key: ObjectKey, decide: (current: StoredObject | undefined) => WriteDecision): Promise<WriteResult>
  /** The newest state, durable or not: for deciders that look at other objects. Never shown to clients. */
  latest(key: ObjectKey): StoredObject | undefined
}

/** A change that has become durable, in the order of revisions. */
export interface ObjectChange extends ObjectKey {
  readonly revision: number
  readonly current: StoredObject | undefined
  readonly previous: StoredObject | undefined
}
