import { invariant } from '@holdfast/runtime'
import { nodeViewLimits } from './limits.ts'
import type { DownCollection } from './view-collections.ts'

/** A resourceVersion, as far as versions of one API can be compared: a decimal number of 64 bits. */
const versionPattern = /^(?:0|[1-9][0-9]{0,19})$/
const sourcePattern = /^[\x21-\x7e]+$/
const partPattern = /^([a-z]+)=([0-9]+)$/
/** Six parts at most are written. */
const partsMax = 16

/** Throws for a name that no position can have. */
export function checkSource(sourceUid: string): void {
  invariant(sourcePattern.test(sourceUid) && sourceUid.length <= nodeViewLimits.sourceLength.value,
    'an API is named by 1 to 128 printable characters without a space', { sourceUid: JSON.stringify(sourceUid) })
}

/**
 * A collection's position (STA-46): the API that its versions are of, and how far the informers behind it have seen. Empty where
 * one of them cannot say.
 */
export function formatPosition(sourceUid: string, versions: readonly (readonly [DownCollection, string | undefined])[]): string {
  if (!versions.every(([, version]) => version !== undefined && versionPattern.test(version))) return ''
  return `${sourceUid} ${versions.map(([name, version]) => `${name}=${version}`).join(',')}`
}

/** The versions in a position. None where it is unreadable, or of another API than `sourceUid`. */
export function parsePosition(sourceUid: string, position: string): ReadonlyMap<string, string> {
  const none = new Map<string, string>()
  const prefix = `${sourceUid} `
  if (!position.startsWith(prefix)) return none
  const versions = new Map<string, string>()
  for (const part of position.slice(prefix.length).split(',', partsMax + 1)) {
    const [, name, version] = partPattern.exec(part) ?? []
    if (name === undefined || version === undefined || !versionPattern.test(version) || versions.has(name)) return none
    versions.set(name, version)
  }
  return versions.size > partsMax ? none : versions
}
