import { crc32 } from 'node:zlib'

/** The parts, one after the other, with a CRC-32 over key and parts behind them: what a store gives back is not believed unseen. */
export function sealValue(key: Buffer, ...parts: readonly Buffer[]): Buffer {
  let length = 4
  let crc = crc32(key)
  for (const part of parts) {
    length += part.length
    crc = crc32(part, crc)
  }
  const out = Buffer.allocUnsafeSlow(length)
  let at = 0
  for (const part of parts) at += part.copy(out, at)
  out.writeUInt32BE(crc, at)
  return out
}

/** The value without its CRC, a view; undefined where that does not hold or nothing is before it. */
export function unsealValue(key: Buffer, stored: Buffer): Buffer | undefined {
  if (stored.length < 5) return undefined
  const body = stored.subarray(0, -4)
  return stored.readUInt32BE(body.length) === crc32(body, crc32(key)) ? body : undefined
}
