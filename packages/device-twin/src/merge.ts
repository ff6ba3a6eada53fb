import type { Entry } from './twin.ts'
import { compareVersions } from './version.ts'

/** By property the later entry, whole value for whole value (TWN-12): commutative, associative, idempotent. */
export function mergeDesired(a: ReadonlyMap<string, Entry>, b: ReadonlyMap<string, Entry>): ReadonlyMap<string, Entry> {
  const merged = new Map(a)
  for (const [property, entry] of b) {
    const held = merged.get(property)
    if (held === undefined || compareVersions(entry.version, held.version) > 0) merged.set(property, entry)
  }
  return merged
}
