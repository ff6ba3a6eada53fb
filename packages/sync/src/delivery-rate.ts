/** What a frame remembers from the moment it was sent. */
export interface RateMark { readonly delivered: number, readonly deliveredMs: number, readonly limited: boolean }

/**
 * Estimates what a link delivers, from acknowledgements: bytes acknowledged between the sending of a frame and its own
 * acknowledgement, over that time (the estimator of BBR, Cardwell et al. 2016). The largest sample of the last one to two
 * seconds counts. A sample taken while there was too little to send may raise the estimate, never lower it.
 */
export class DeliveryRate {
  #delivered = 0
  #deliveredMs = 0
  #current = 0
  #previous = 0
  #windowEndMs = -Infinity

  /** Bytes per second; 0 while nothing is known. */
  get bytesPerSecond(): number { return Math.max(this.#current, this.#previous) }

  /** For a frame that is sent now. `limited`: more waited, and the bound on bytes in flight held it back. */
  mark(nowMs: number, inFlight: number, limited: boolean): RateMark {
    if (inFlight === 0) this.#deliveredMs = nowMs
    return { delivered: this.#delivered, deliveredMs: this.#deliveredMs, limited }
  }

  /** `bytes` were acknowledged; `mark` is that of the newest frame among them. */
  acknowledged(bytes: number, mark: RateMark, nowMs: number): void {
    this.#delivered += bytes
    this.#deliveredMs = nowMs
    const sample = (this.#delivered - mark.delivered) * 1000 / Math.max(0.1, nowMs - mark.deliveredMs)
    if (!mark.limited && sample <= this.bytesPerSecond) return
    if (nowMs >= this.#windowEndMs) {
      this.#previous = nowMs >= this.#windowEndMs + 1000 ? 0 : this.#current
      this.#current = 0
      this.#windowEndMs = nowMs + 1000
    }
    this.#current = Math.max(this.#current, sample)
  }
}
