import type { Clock } from '@holdfast/runtime'
import { identityLimits } from './limits.ts'

const windowMs = 60_000

/**
 * Counts failed joins per key in windows of a minute. Bounded: the key whose window began first is forgotten. This is
 * not what keeps secrets safe (they have 256 bits) but what keeps a looping script from filling the log and the
 * processor.
 */
export class JoinFailures {
  readonly #clock: Clock
  /** In the order in which the windows began. */
  readonly #windows = new Map<string, { readonly beganMs: number; failures: number }>()

  constructor(components: { readonly clock: Clock }) { this.#clock = components.clock }

  /** Seconds until this key may try again; 0 where it may now. */
  retryAfterSeconds(key: string): number {
    const window = this.#windows.get(key)
    if (window === undefined || window.failures < identityLimits.joinFailuresPerMinute.value) return 0
    return Math.max(0, Math.ceil((window.beganMs + windowMs - this.#clock.monotonicMs()) / 1000))
  }

  count(key: string): void {
    const nowMs = this.#clock.monotonicMs()
    const window = this.#windows.get(key)
    if (window !== undefined && nowMs - window.beganMs < windowMs) {
      window.failures++
      return
    }
    this.#windows.delete(key)
    if (this.#windows.size >= identityLimits.joinFailureTable.value) {
      for (const oldest of this.#windows.keys()) {
        this.#windows.delete(oldest)
        break
      }
    }
    this.#windows.set(key, { beganMs: nowMs, failures: 1 })
  }
}
