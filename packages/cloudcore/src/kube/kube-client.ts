import type { KubeObject } from '@holdfast/kube-api'

/** Where a kind is served: `plural` below `/api/v1` (group '') or `/apis/<group>/<version>`. */
export interface KubeKind {
  readonly group: string
  readonly version: string
  readonly plural: string
  readonly namespaced: boolean
}

/** One object. `namespace` is absent for kinds of the whole cluster. */
export interface ObjectPlace {
  readonly kind: KubeKind
  readonly namespace?: string | undefined
  readonly name: string
}

export interface KubeList { readonly items: readonly KubeObject[], readonly resourceVersion: string }

export interface ListSelection {
  readonly namespace?: string | undefined
  readonly labelSelector?: string | undefined
  readonly fieldSelector?: string | undefined
}

export type WatchEvent =
  | { readonly type: 'ADDED' | 'MODIFIED' | 'DELETED', readonly object: KubeObject }
  | { readonly type: 'BOOKMARK', readonly resourceVersion: string }

/**
 * What the controllers ask of a Kubernetes API, embedded or a cluster's.
 *
 * Every method rejects with a KubeError: `status` is the HTTP status, 0 where no answer came; `reason` is the Status' one, such
 * as `Conflict` or `Expired`.
 */
export interface KubeClient {
  /** Undefined where there is none. */
  get(place: ObjectPlace): Promise<KubeObject | undefined>
  /** All pages, as one consistent list: from the source of truth, never from a cache that lags (no resourceVersion=0). */
  list(kind: KubeKind, selection: ListSelection, signal: AbortSignal): Promise<KubeList>
  /**
   * Events behind `resourceVersion`, with bookmarks, until the server ends the watch (resolves), `signal` aborts (resolves) or it
   * fails (rejects; status 410 where the version is too old). `onEvent` is called in order.
   */
  watch(
    kind: KubeKind, selection: ListSelection, resourceVersion: string, onEvent: (event: WatchEvent) => void, signal: AbortSignal
  ): Promise<void>
  create(kind: KubeKind, object: KubeObject): Promise<KubeObject>
  /** PUT; `metadata.resourceVersion`, where it is set, is a precondition (409). */
  replace(place: ObjectPlace, object: KubeObject, subresource?: 'status'): Promise<KubeObject>
  /** JSON merge patch (RFC 7396); `metadata.resourceVersion` in it is a precondition (409). */
  mergePatch(place: ObjectPlace, patch: object, subresource?: 'status'): Promise<KubeObject>
  /** Resolves too where it is gone already. `uid`: only the object that has it (409 otherwise). */
  delete(place: ObjectPlace, options?: { readonly gracePeriodSeconds?: number, readonly uid?: string }): Promise<void>
}

/** A list that is kept up by a watch. */
export interface Informer {
  readonly kind: KubeKind
  /** A list has been read since the process started, and none of what it gave has been dropped since. */
  readonly synced: boolean
  /**
   * How far it has seen: of the newest list, event or bookmark; undefined before the first list. Decimal, opaque to others but for
   * `compare`.
   */
  readonly position: string | undefined
  /** By `namespace/name`, or `name` for kinds of the whole cluster. */
  get(key: string): KubeObject | undefined
  objects(): Iterable<KubeObject>
  /**
   * Called after each change, with what was and what is; of a new list once per object that differs (by uid and
   * resourceVersion). `onPosition` after each event, list and bookmark, behind the changes. Returns how to stop it.
   */
  subscribe(listener: InformerListener): () => void
  /** A consistent list made now: asks the source, so that a source that went back is seen. The informer takes it over. */
  relist(): Promise<void>
}

export interface InformerListener {
  onChange?(before: KubeObject | undefined, after: KubeObject | undefined): void
  onPosition?(): void
}
