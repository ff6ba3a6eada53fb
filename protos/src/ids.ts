/** Random id of an uninterrupted run of offsets of one lane, written by one process: 16 lower-case hex digits. */
export type Epoch = string & { readonly __epoch: true }

/** Random id of one process start: 16 lower-case hex digits. */
export type BootId = string & { readonly __bootId: true }

const sixteenHexDigits = /^[0-9a-f]{16}$/

/** Undefined where `text` is no epoch. */
export function parseEpoch(text: string): Epoch | undefined {
  return sixteenHexDigits.test(text) ? text as Epoch : undefined
}

/** Undefined where `text` is no boot id. */
export function parseBootId(text: string): BootId | undefined {
  return sixteenHexDigits.test(text) ? text as BootId : undefined
}

/** An epoch of eight random bytes. */
export function epochFromBytes(bytes: Uint8Array): Epoch { return hex(bytes) as Epoch }

/** A boot id of eight random bytes. */
export function bootIdFromBytes(bytes: Uint8Array): BootId { return hex(bytes) as BootId }

function hex(bytes: Uint8Array): string {
  if (bytes.length !== 8) throw new Error(`invariant broken: an id has 8 bytes, got ${bytes.length}`)
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex')
}
