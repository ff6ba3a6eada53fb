import { createHash } from 'node:crypto'

const digestBytes = 16
/** Hashed at a time: calls cost more than bytes. */
const chunkBytes = 16 * 1024
/** Two lengths, a key and a version. */
const itemBytesMax = 3 + 0xffff + 0xff

/**
 * Digest of a collection (STA-4): the first 16 bytes of SHA-256 over the items in the order of their keys' bytes, for each
 * the length of the key (u16), the key, the length of the version (u8), the version. Throws where keys are out of order.
 */
export function stateDigest(items: Iterable<readonly [key: string, version: Uint8Array]>): Buffer {
  const hash = createHash('sha256')
  const chunk = Buffer.allocUnsafe(chunkBytes + itemBytesMax)
  let length = 0
  let before = ''
  for (const [key, version] of items) {
    if (key <= before) throw new Error(`state digest: key "${key}" comes after "${before}"`)
    before = key
    const keyBytes = chunk.write(key, length + 2, 'utf8')
    chunk.writeUInt16BE(keyBytes, length)
    chunk[length + 2 + keyBytes] = version.length
    chunk.set(version, length + 3 + keyBytes)
    length += 3 + keyBytes + version.length
    if (length < chunkBytes) continue
    hash.update(chunk.subarray(0, length))
    length = 0
  }
  return hash.update(chunk.subarray(0, length)).digest().subarray(0, digestBytes)
}

/** Version of an item that is known by its content (STA-2): the first 16 bytes of SHA-256 over the value. */
export function contentVersion(value: Uint8Array): Buffer {
  return createHash('sha256').update(value).digest().subarray(0, digestBytes)
}
