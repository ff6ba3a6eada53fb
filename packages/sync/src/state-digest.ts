import { createHash } from 'node:crypto'

const digestBytes = 16

/**
 * Digest of a collection (STA-4): the first 16 bytes of SHA-256 over the items in the order of their keys' bytes, for each
 * the length of the key (u16), the key, the length of the version (u8), the version. Throws where keys are out of order.
 */
export function stateDigest(items: Iterable<readonly [key: string, version: Uint8Array]>): Buffer {
  const hash = createHash('sha256')
  let before = ''
  for (const [key, version] of items) {
    if (key <= before) throw new Error(`state digest: key "${key}" comes after "${before}"`)
    before = key
    const keyBytes = Buffer.from(key)
    const head = Buffer.allocUnsafe(2)
    head.writeUInt16BE(keyBytes.length)
    hash.update(head).update(keyBytes).update(Buffer.of(version.length)).update(version)
  }
  return hash.digest().subarray(0, digestBytes)
}

/** Version of an item that is known by its content (STA-2): the first 16 bytes of SHA-256 over the value. */
export function contentVersion(value: Uint8Array): Buffer {
  return createHash('sha256').update(value).digest().subarray(0, digestBytes)
}
