import type { Json } from './json.ts'
import type { DeviceRules } from './rules.ts'
import type { DeviceState, Entry, Twin } from './twin.ts'
import type { TwinError } from './error-codes.ts'
import type { Version } from './version.ts'

/** A property's new value, as a writer gives it; `value` null takes the property away. */
export interface PropertyWrite {
  readonly value: Json
  /** As the writer says; undefined, 0, or later than `nowMs` (by more than the tolerance, TWN-22) counts as now. */
  readonly timestamp?: number
  readonly type?: string
  /** The writer saw this version, or none (null); another one is `TWIN_CONFLICT`. */
  readonly expected?: Version | null
}

interface WriteInput {
  /** By property. At least one; nothing is written where one of them is refused. */
  readonly writes: ReadonlyMap<string, PropertyWrite>
  /** Objects are merged into what is there (RFC 7396) instead of taking its place. */
  readonly merge: boolean
  /** The writer saw the twin at this revision; another one is `TWIN_CONFLICT`. */
  readonly expectedRevision?: number
  /** Given to what changes; later than every version in the twin. */
  readonly version: Version
  readonly nowMs: number
  readonly rules: DeviceRules
}

export type TwinInput =
  /** Somebody here wants something of the device. */
  | { readonly kind: 'desired-set' } & WriteInput
  /** The device says what it is. */
  | { readonly kind: 'reported' } & WriteInput
  /**
   * The other side's desired values (TWN-13 … TWN-16): newer ones hold, older ones do not. With `replaces` an entry takes the
   * place of exactly that version, whichever is newer.
   */
  | {
    readonly kind: 'desired-received'
    readonly entries: ReadonlyMap<string, Entry & { readonly replaces?: Version }>
  }
  | { readonly kind: 'state', readonly value: DeviceState, readonly timestamp: number, readonly nowMs: number }

/** What a step did; all names in the order of the input. */
export type TwinOutput =
  /** Is to be durable before anything of it is told. Always first. */
  | { readonly kind: 'persist' }
  | { readonly kind: 'changed', readonly section: 'desired' | 'reported', readonly properties: readonly string[] }
  | { readonly kind: 'state-changed', readonly before: DeviceState | undefined, readonly after: DeviceState }
  /** The same value, newer: nothing but the timestamp changed, and that is due (TWN-21). */
  | { readonly kind: 'refreshed', readonly properties: readonly string[] }
  /** Older than what is stored: not applied (TWN-22). */
  | { readonly kind: 'stale', readonly properties: readonly string[] }
  /** Nothing was written. */
  | { readonly kind: 'refused', readonly error: TwinError }

export interface TwinStep {
  readonly twin: Twin
  /** Empty: a no-op. */
  readonly outputs: readonly TwinOutput[]
}
