import type { BootId } from '@holdfast/protos'

/** What becomes of a new session of a node. */
export type FenceVerdict =
  | { readonly kind: 'accept', readonly fenced: BootId | undefined }
  | { readonly kind: 'stale' }
  | { readonly kind: 'duplicate', readonly retryAfterMs: number }

/** A fenced boot stays out for so long after the boot that fenced it was last seen. */
export const fenceHoldMs = 10 * 60_000
/** What a duplicate is told to wait. */
export const duplicateRetryAfterMs = 60_000
/** Fenced boots remembered per node. */
const fencedBootsMax = 64

/**
 * Decides which process speaks for a node (design §6). The connect counter orders the sessions of one boot; a new boot
 * fences the one before; a fenced boot that comes back while its successor is alive shows two machines with one identity,
 * and is refused, so that they do not take turns.
 */
export class Fence {
  #bootId: BootId | undefined
  #connectCounter = 0
  #seenMs = -Infinity
  readonly #fenced = new Set<BootId>()
  /** Since when two machines were seen with this identity; undefined: not lately. */
  #duplicateSeenMs = -Infinity

  /** A session says Hello. */
  admit(bootId: BootId, connectCounter: number, nowMs: number): FenceVerdict {
    if (bootId === this.#bootId) {
      if (connectCounter <= this.#connectCounter) return { kind: 'stale' }
      this.#connectCounter = connectCounter
      this.#seenMs = nowMs
      return { kind: 'accept', fenced: undefined }
    }
    if (this.#fenced.has(bootId)) {
      this.#duplicateSeenMs = nowMs
      if (nowMs - this.#seenMs < fenceHoldMs) return { kind: 'duplicate', retryAfterMs: duplicateRetryAfterMs }
      this.#fenced.delete(bootId)
    }
    const fenced = this.#bootId
    if (fenced !== undefined) {
      this.#fenced.add(fenced)
      if (this.#fenced.size > fencedBootsMax) this.#fenced.delete(this.#fenced.values().next().value!)
    }
    this.#bootId = bootId
    this.#connectCounter = connectCounter
    this.#seenMs = nowMs
    return { kind: 'accept', fenced }
  }

  /** The admitted boot showed life. */
  seen(nowMs: number): void { this.#seenMs = nowMs }

  /** True while two machines lately used one identity: the Node condition `DuplicateIdentity`. */
  duplicateIdentity(nowMs: number): boolean { return nowMs - this.#duplicateSeenMs < fenceHoldMs }
}
