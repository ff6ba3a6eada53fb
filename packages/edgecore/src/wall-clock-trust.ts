import type { Clock } from '@holdfast/runtime'

/** 2026-11-21, when this release was made, milliseconds since 1970: no wall clock that shows less can be right. */
export const buildTimeMs = 1_795_219_200_000

/**
 * Whether the wall clock has been set since power-on, as far as this process can tell: a board without a real-time clock
 * starts in 1970, or at the time of its image, and jumps when NTP answers. True from a wall time at or after the build on.
 */
export function wallClockTrust(clock: Clock): () => boolean {
  return () => clock.wallMs() >= buildTimeMs
}
