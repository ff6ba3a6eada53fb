/**
 * The part of DER [X.690 §10] that certificates and certificate requests need: a writer for what we issue and a bounded
 * reader for what a peer sends. Keys, signatures and certificates themselves are parsed by OpenSSL through
 * `node:crypto`.
 */

/** One element as it stands in its bytes. */
export interface DerElement {
  readonly tag: number
  readonly content: Buffer
  /** Tag, length and content: what a signature covers. */
  readonly raw: Buffer
}

export const derTags = {
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  objectIdentifier: 0x06,
  utf8String: 0x0c,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31
} as const

/** One element: tag, shortest definite length, content. */
export function encodeDer(tag: number, ...content: readonly Uint8Array[]): Buffer {
  const body = Buffer.concat(content)
  if (body.length < 0x80) return Buffer.concat([Buffer.from([tag, body.length]), body])
  const length: number[] = []
  for (let rest = body.length; rest > 0; rest = Math.floor(rest / 256)) length.unshift(rest % 256)
  return Buffer.concat([Buffer.from([tag, 0x80 | length.length, ...length]), body])
}

export const derSequence = (...content: readonly Uint8Array[]): Buffer => encodeDer(derTags.sequence, ...content)
export const derSet = (...content: readonly Uint8Array[]): Buffer => encodeDer(derTags.set, ...content)
export const derOctetString = (content: Uint8Array): Buffer => encodeDer(derTags.octetString, content)
export const derUtf8String = (text: string): Buffer => encodeDer(derTags.utf8String, Buffer.from(text, 'utf8'))
export const derTrue = (): Buffer => Buffer.from([0x01, 0x01, 0xff])

/** A non-negative INTEGER from big-endian magnitude bytes. */
export function derInteger(magnitude: Uint8Array): Buffer {
  let start = 0
  while (start < magnitude.length - 1 && magnitude[start] === 0) start++
  const digits = magnitude.length === 0 ? Buffer.from([0]) : Buffer.from(magnitude.subarray(start))
  return encodeDer(derTags.integer, digits[0]! >= 0x80 ? Buffer.from([0]) : Buffer.alloc(0), digits)
}

/** A BIT STRING; `unusedBits` counts the bits of the last byte that are not part of it. */
export function derBitString(content: Uint8Array, unusedBits = 0): Buffer {
  return encodeDer(derTags.bitString, Buffer.from([unusedBits]), content)
}

/** An OBJECT IDENTIFIER from its dotted form. */
export function derObjectIdentifier(dotted: string): Buffer {
  const [first, second, ...rest] = dotted.split('.').map(Number)
  const bytes: number[] = []
  for (const arc of [first! * 40 + second!, ...rest]) {
    const septets = [arc % 128]
    for (let left = Math.floor(arc / 128); left > 0; left = Math.floor(left / 128)) septets.unshift(0x80 | (left % 128))
    bytes.push(...septets)
  }
  return encodeDer(derTags.objectIdentifier, Buffer.from(bytes))
}

/** A certificate's time: UTCTime up to 2049, GeneralizedTime from 2050 on [RFC 5280 §4.1.2.5]; seconds are kept. */
export function derTime(wallMs: number): Buffer {
  const digits = new Date(wallMs).toISOString().replace(/\.\d+Z$/, '').replaceAll(/[-:T]/g, '')
  return Number(digits.slice(0, 4)) < 2050
    ? encodeDer(derTags.utcTime, Buffer.from(`${digits.slice(2)}Z`, 'latin1'))
    : encodeDer(derTags.generalizedTime, Buffer.from(`${digits}Z`, 'latin1'))
}

/**
 * Splits bytes into elements. Lengths are checked against what is there, so a peer's size is never trusted (L8).
 * Undefined for anything but a whole number of elements with one-byte tags and shortest definite lengths below 16 MiB.
 */
export function decodeDer(bytes: Buffer): DerElement[] | undefined {
  const elements: DerElement[] = []
  let at = 0
  while (at < bytes.length) {
    const tag = bytes[at]!
    const short = bytes[at + 1]
    if ((tag & 0x1f) === 0x1f || short === undefined) return undefined
    let length = short
    let header = 2
    if (short >= 0x80) {
      const digits = short & 0x7f
      if (digits === 0 || digits > 3 || at + 2 + digits > bytes.length) return undefined
      length = bytes.readUIntBE(at + 2, digits)
      header += digits
      if (length < 0x80 || length < 2 ** (8 * (digits - 1))) return undefined
    }
    const end = at + header + length
    if (end > bytes.length) return undefined
    elements.push({ tag, content: bytes.subarray(at + header, end), raw: bytes.subarray(at, end) })
    at = end
  }
  return elements
}

/** `-----BEGIN label-----` text of DER bytes [RFC 7468]. */
export function encodePem(label: string, bytes: Uint8Array): string {
  const lines = Buffer.from(bytes).toString('base64').match(/.{1,64}/g) ?? []
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`
}

/** The bytes of the only PEM block in `text`, or undefined where there is none, another label, or more than one, or it
 * is not exactly base64. */
export function decodePem(label: string, text: string): Buffer | undefined {
  const match = /^\s*-----BEGIN ([A-Z0-9 ]+)-----\s+([A-Za-z0-9+/=\s]+)-----END ([A-Z0-9 ]+)-----\s*$/.exec(text)
  if (match === null || match[1] !== label || match[3] !== label) return undefined
  const base64 = match[2]!.replaceAll(/\s/g, '')
  const bytes = Buffer.from(base64, 'base64')
  return bytes.toString('base64') === base64 ? bytes : undefined
}
