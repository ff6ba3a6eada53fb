import type { DeviceRules, DeviceState, PropertyWrite, Twin, TwinError, TwinErrorCode } from '@holdfast/device-twin'
import type { KubeObject } from '@holdfast/kube-api'
import { HoldfastError } from '@holdfast/runtime'
import type { Commit } from '@holdfast/store'

/** `<namespace>/<name>`. */
export type DeviceId = string & { readonly __deviceId: true }

const idPattern = /^[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?\/[a-z0-9](?:[-.a-z0-9]{0,251}[a-z0-9])?$/

/** An id, or one segment for a device of namespace `default`; undefined where it is none. */
export function parseDeviceId(text: string): DeviceId | undefined {
  const id = text.includes('/') ? text : `default/${text}`
  return idPattern.test(id) ? id as DeviceId : undefined
}

/** A write that the twin does not take, with what is wrong with it. */
export class TwinRefused extends HoldfastError<TwinErrorCode> {
  readonly refusal: TwinError

  constructor(refusal: TwinError) {
    super(refusal.code, refusal.message)
    this.name = 'TwinRefused'
    this.refusal = refusal
  }
}

/** One device of this node as it is now. A value: the next change makes another one. */
export interface DeviceTwin {
  readonly id: DeviceId
  readonly uid: string
  /** The Device as it came down; no status. */
  readonly device: KubeObject
  /** The DeviceModel that it names; undefined: it names none, or one that is not here. */
  readonly model: KubeObject | undefined
  readonly rules: DeviceRules
  readonly twin: Twin
}

/** Who writes; for the log and metrics. */
export type WriteSource = 'mqtt' | 'http' | 'dmi' | 'mapper'

export type TwinWrite =
  | {
    readonly section: 'desired' | 'reported'
    readonly writes: ReadonlyMap<string, PropertyWrite>
    /** RFC 7396 within values; otherwise they are replaced. */
    readonly merge?: boolean
    readonly expectedRevision?: number
  }
  /** Reported and desired of one message, stored together or not at all. */
  | {
    readonly section: 'both'
    readonly reported: ReadonlyMap<string, PropertyWrite>
    readonly desired: ReadonlyMap<string, PropertyWrite>
  }
  | { readonly section: 'state', readonly state: DeviceState, readonly timestamp?: number }

export interface TwinWriting {
  /** `unchanged`: a no-op; `commit` may still be another writer's, whose values these are. */
  readonly kind: 'stored' | 'unchanged'
  /** Properties that were not applied, being older than what is stored. */
  readonly stale: readonly string[]
  readonly before: DeviceTwin
  readonly after: DeviceTwin
  /** What an acknowledgement waits for: `after` is durable and visible with it. Undefined: it is already. */
  readonly commit: Commit | undefined
}

/** What is different now; told after it, or the Device that it follows from, is durable, in the order of the commits. */
export interface TwinChange {
  readonly id: DeviceId
  /** Undefined: the device is new here. Another uid than `after`'s: it is another device. */
  readonly before: DeviceTwin | undefined
  /** Undefined: it is not of this node any more. */
  readonly after: DeviceTwin | undefined
  /** Properties whose desired or reported value is another one. */
  readonly desired: readonly string[]
  readonly reported: readonly string[]
  readonly stateChanged: boolean
  /** The Device or its model changed in something else than desired values. */
  readonly specChanged: boolean
}

/**
 * The twins of this node's devices (docs/spec/twin.md): the one place where they are written, whoever writes.
 *
 * Reads give what is durable, or follows from a Device that is. Writes are decided at once, on what was written before them, and
 * become visible when their commit is durable (L1).
 */
export interface DeviceTwins {
  readonly size: number
  get(id: DeviceId): DeviceTwin | undefined
  /** In the order of their ids. */
  all(): Iterable<DeviceTwin>
  /**
   * Throws TwinRefused (the write is wrong), or HoldfastError `TWIN_DEVICE_UNKNOWN`, `DISK_FULL`, `OUTBOX_FULL` (the lane of its
   * history is full) or `STORE_FAILED` (the last three are retryable). Nothing was written then.
   *
   * What it puts into the commit goes with everything else that the caller puts into it in this turn.
   */
  write(id: DeviceId, write: TwinWrite, source: WriteSource): TwinWriting
  /** Has `listener` called from now on, until the function that it returns is called. */
  subscribe(listener: (change: TwinChange) => void): () => void
}
