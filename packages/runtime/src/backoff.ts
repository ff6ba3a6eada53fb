import type { Random } from './random.ts'

export interface BackoffOptions {
  /** First ceiling, milliseconds. */
  readonly baseMs: number
  /** Last ceiling, milliseconds. */
  readonly maxMs: number
}

/** Delay before attempt `attempt` (0 = first retry): exponential with full jitter, uniform in [0, min(maxMs, baseMs·2^attempt)). */
export function backoffDelayMs(attempt: number, options: BackoffOptions, random: Random): number {
  const ceiling = Math.min(options.maxMs, options.baseMs * 2 ** Math.min(attempt, 30))
  return random.next() * ceiling
}
