import type { RecordTopic } from '@holdfast/protos'
import type { Commit, OutboxLane } from '@holdfast/store'

/**
 * What ways in (MQTT, HTTP) need of the outbox. Design law L1: the answer to a device waits for `commit.onDurable`.
 */
export interface RecordSink {
  /**
   * The commit that is being gathered now, for `bytes` of payload in one lane, with the lane's urgency and
   * `commitIntervalMs`. Everything put into it in this turn of the event loop is atomic.
   * Throws HoldfastError `OUTBOX_FULL` (retryable; the lane's `bytesMax` would be passed and its policy is `reject`),
   * `DISK_FULL` (below the free-space floor) or `STORE_FAILED`; nothing was written then.
   */
  gather(lane: OutboxLane, bytes: number): Commit
  /** Adds one record. Cannot fail once `gather` has returned; `payload` is copied. Bounds are the caller's to check. */
  append(commit: Commit, lane: OutboxLane, topic: RecordTopic, payload: Uint8Array): void
  /** By name, from the configuration; undefined where no such lane is configured. */
  lane(name: string): OutboxLane | undefined
}
