import type { Clock } from '@holdfast/runtime'

/** No wall clock of a running node can be right before this: the day on which this release was made, 2026-11-21. */
export const buildTimeMs = Date.UTC(2026, 10, 21)

/**
 * Whether the wall clock has been set since power-on, as far as this process can tell: a board without a real-time clock
 * starts in 1970, or at the time of its image, and jumps when NTP answers. True from a wall time at or after the build on.
 */
export function wallClockTrust(clock: Clock): () => boolean {
  return () => clock.wallMs() >= buildTimeMs
}
