import type { Json } from './json.ts'
import type { Version } from './version.ts'

/** One side of a property. */
export interface Entry {
  /** As the model's type has it; null where `deleted`. */
  readonly value: Json
  readonly version: Version
  /** When it was measured or asked for, by whom said so, milliseconds since 1970; the arrival where nobody did. */
  readonly timestamp: number
  /** What the sender called its type, where no model says. */
  readonly type?: string
  /** A tombstone: the property has no value since this version. */
  readonly deleted?: true
}

export const deviceStates = ['online', 'offline', 'ok', 'unknown', 'unhealthy'] as const
export type DeviceState = (typeof deviceStates)[number]

/**
 * What is known of one device: what it should be (`desired`) and what it says that it is (`reported`). A value; `step` makes
 * the next one.
 */
export interface Twin {
  /** Raised by each change that is stored; optimistic locking goes by it. 0: nothing was ever stored. */
  readonly revision: number
  /** By property; tombstones included. */
  readonly desired: ReadonlyMap<string, Entry>
  readonly reported: ReadonlyMap<string, Entry>
  readonly state: { readonly value: DeviceState, readonly timestamp: number } | undefined
  /** When it was last `online` or `ok`, milliseconds since 1970: while it is, since when; otherwise until when. */
  readonly lastOnlineTime: number | undefined
  /** What it takes encoded, at most (TWN-3): kept along, so that no step measures the whole twin. */
  readonly bytes: number
}

/** What a twin takes beside its entries: revision, state, and the names of its Device in an up item. */
const frameBytes = 1024

export const emptyTwin: Twin = {
  revision: 0, desired: new Map(), reported: new Map(), state: undefined, lastOnlineTime: undefined, bytes: frameBytes
}
