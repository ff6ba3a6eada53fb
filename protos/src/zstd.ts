import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib'

// node:zlib makes a buffer of chunkSize for every call, 64 KiB unless told otherwise: at thousands of small calls a second
// that is the most of a daemon's garbage, and V8 counts it towards its next full collection.
const chunkBytesMin = 64
const chunkBytesMax = 64 * 1024
const compressParams = { [constants.ZSTD_c_compressionLevel]: 1 }

/** Zstandard at level 1. The result may be longer than `bytes`. */
export function compress(bytes: Uint8Array): Buffer {
  return zstdCompressSync(bytes, { params: compressParams, chunkSize: chunkFor(bytes.length) })
}

/** Throws where `bytes` is not one Zstandard frame or holds more than `bytesMax`; never allocates more than that. */
export function decompress(bytes: Uint8Array, bytesMax: number): Buffer {
  return zstdDecompressSync(bytes, { maxOutputLength: bytesMax, chunkSize: chunkFor(bytesMax) })
}

function chunkFor(length: number): number { return Math.min(Math.max(length, chunkBytesMin), chunkBytesMax) }
