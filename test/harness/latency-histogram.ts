/** Times in milliseconds; -1 where nothing was counted. */
export interface LatencySummary {
  readonly count: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly p999Ms: number
  readonly maxMs: number
}

const subBits = 6
const subBuckets = 1 << subBits

/** Counts latencies in log buckets of 1.6 % width, from a microsecond to half an hour. */
export class LatencyHistogram {
  count = 0
  #maxUs = 0
  readonly #buckets = new Float64Array(subBuckets * 27)

  record(us: number): void {
    const value = us < 0 ? 0 : us > 0x7fff_ffff ? 0x7fff_ffff : us | 0
    const shift = value < subBuckets ? 0 : 31 - Math.clz32(value) - subBits
    this.#buckets[(shift + 1) * subBuckets + (value >>> shift) - subBuckets]!++
    this.count++
    if (us > this.#maxUs) this.#maxUs = us
  }

  /** The upper bound of the bucket that holds the value below which `share` of all lie; -1 where there is none. */
  quantileMs(share: number): number {
    let left = Math.ceil(this.count * share)
    if (left === 0) return -1
    for (let i = 0; i < this.#buckets.length; i++) {
      left -= this.#buckets[i]!
      if (left > 0) continue
      const shift = Math.max(0, (i >>> subBits) - 1)
      const upperUs = (i - shift * subBuckets + 1) * 2 ** shift
      return Math.min(upperUs, this.#maxUs) / 1000
    }
    return this.#maxUs / 1000
  }

  summary(): LatencySummary {
    const round = (ms: number): number => Math.round(ms * 1000) / 1000
    return {
      count: this.count,
      p50Ms: round(this.quantileMs(0.5)),
      p99Ms: round(this.quantileMs(0.99)),
      p999Ms: round(this.quantileMs(0.999)),
      maxMs: this.count === 0 ? -1 : round(this.#maxUs / 1000)
    }
  }
}
