import { isRecord } from './json.ts'
import type { KubeJson } from './json.ts'
import { isPropertyName } from './value.ts'
import { compareVersions, formatVersion, parseVersion } from './version.ts'
import type { Version } from './version.ts'

/** Of a Device: by property, which version its desired value has (TWN-13). */
export const desiredAnnotation = 'holdfast.dev/desired'

/** `hash` undefined: a tombstone. */
export interface Stamp {
  readonly version: Version
  readonly hash: string | undefined
  /** A version from the future that a node may hold, and whose place this one takes (TWN-16). */
  readonly replaces: Version | undefined
}

/** People edit annotations: one that is malformed counts as none, and so does each entry. Never throws. */
export function readStamps(device: KubeJson): ReadonlyMap<string, Stamp> {
  const stamps = new Map<string, Stamp>()
  const text = annotationOf(device)
  if (text === undefined) return stamps
  let read: unknown
  try {
    read = JSON.parse(text)
  } catch {
    return stamps
  }
  if (!isRecord(read)) return stamps
  for (const [property, value] of Object.entries(read)) {
    const stamp = readStamp(value)
    if (stamp !== undefined && isPropertyName(property)) stamps.set(property, stamp)
  }
  return stamps
}

function annotationOf(device: KubeJson): string | undefined {
  const metadata = device['metadata']
  const annotations = isRecord(metadata) ? metadata['annotations'] : undefined
  const text = isRecord(annotations) ? annotations[desiredAnnotation] : undefined
  return typeof text === 'string' ? text : undefined
}

function readStamp(value: unknown): Stamp | undefined {
  if (!isRecord(value)) return undefined
  const version = readVersion(value['version'])
  const { hash, deleted } = value
  if (version === undefined) return undefined
  const replaces = readVersion(value['replaces'])
  if (deleted === true) return { version, hash: undefined, replaces }
  return typeof hash === 'string' && /^[0-9a-f]{16}$/.test(hash) ? { version, hash, replaces } : undefined
}

function readVersion(text: unknown): Version | undefined {
  return typeof text === 'string' ? parseVersion(text) : undefined
}

/** The same stamps have the same text. */
export function formatStamps(stamps: ReadonlyMap<string, Stamp>): string {
  return JSON.stringify(Object.fromEntries([...stamps].toSorted(([a], [b]) => a < b ? -1 : 1).map(
    ([property, { version, hash, replaces }]) => [property, {
      version: formatVersion(version),
      ...hash === undefined ? { deleted: true } : { hash },
      ...replaces === undefined ? {} : { replaces: formatVersion(replaces) }
    }])))
}

export function sameStamps(a: ReadonlyMap<string, Stamp>, b: ReadonlyMap<string, Stamp>): boolean {
  return a.size === b.size && [...a].every(([property, stamp]) => {
    const other = b.get(property)
    return other !== undefined && other.hash === stamp.hash && compareVersions(other.version, stamp.version) === 0
      && (other.replaces === undefined ? stamp.replaces === undefined
        : stamp.replaces !== undefined && compareVersions(other.replaces, stamp.replaces) === 0)
  })
}
