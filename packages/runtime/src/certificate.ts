import { sign } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { isIP } from 'node:net'
import {
  derBitString, derInteger, derObjectIdentifier, derOctetString, derSequence, derSet, derTime, derTrue, derUtf8String, encodeDer, encodePem
} from './der.ts'

/**
 * **Every certificate is valid from 1970-01-01.** TLS libraries compare the validity with the machine's clock and offer no
 * other: a board without a clock battery starts at 1970, or at the time it last wrote down, and a certificate from 2026
 * is `not yet valid` to it until NTP has answered, which may need the very link that is refused. (Tried with faketime:
 * a client at 1970-01-01 00:05 completes the handshake with these certificates, and fails with CERT_NOT_YET_VALID when
 * they start today.) A start of validity in the past gives nothing away: who could have used the key before it existed?
 * So the check at `max(wall clock, last time persisted, build time)` of the design needs no code, and the clock never
 * needs to be set.
 */
const validFromMs = 0

export const certificateOids = {
  commonName: '2.5.4.3',
  organization: '2.5.4.10',
  ecdsaWithSha256: '1.2.840.10045.4.3.2',
  subjectKeyIdentifier: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  authorityKeyIdentifier: '2.5.29.35',
  extendedKeyUsage: '2.5.29.37',
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2'
} as const

export interface CertificateContent {
  /** 16 random bytes, of which 126 bits are used. */
  readonly serial: Uint8Array
  /** Names in DER, as `certificateName` makes them. */
  readonly issuer: Buffer
  readonly subject: Buffer
  /** SubjectPublicKeyInfo in DER. */
  readonly publicKey: Buffer
  readonly notAfterMs: number
  /** As `certificateExtension` makes them. */
  readonly extensions: readonly Buffer[]
}

/** An X.509 v3 certificate [RFC 5280], ECDSA with SHA-256; PEM. `key`: the issuer's, P-256. */
export function signCertificate(content: CertificateContent, key: KeyObject): string {
  const serial = Buffer.from(content.serial)
  serial[0] = serial[0]! & 0x7f | 0x40
  const algorithm = derSequence(derObjectIdentifier(certificateOids.ecdsaWithSha256))
  const signed = derSequence(
    encodeDer(0xa0, derInteger(Buffer.from([2]))),
    derInteger(serial),
    algorithm,
    content.issuer,
    derSequence(derTime(validFromMs), derTime(content.notAfterMs)),
    content.subject,
    content.publicKey,
    encodeDer(0xa3, derSequence(...content.extensions))
  )
  return encodePem('CERTIFICATE', derSequence(signed, algorithm, derBitString(sign('sha256', signed, key))))
}

/** `O=Holdfast, CN=…`, cut at 64 characters (ub-common-name). */
export function certificateName(commonName: string): Buffer {
  const attribute = (oid: string, text: string): Buffer => derSet(derSequence(derObjectIdentifier(oid), derUtf8String(text)))
  return derSequence(attribute(certificateOids.organization, 'Holdfast'), attribute(certificateOids.commonName, commonName.slice(0, 64)))
}

export function certificateExtension(oid: string, critical: boolean, value: Buffer): Buffer {
  return derSequence(derObjectIdentifier(oid), ...critical ? [derTrue()] : [], derOctetString(value))
}

/** The extensions of one that signs no others: no CA, digitalSignature, one purpose, whom it is for (GeneralNames). */
export function endEntityExtensions(purpose: 'serverAuth' | 'clientAuth', names: readonly Buffer[]): Buffer[] {
  return [
    certificateExtension(certificateOids.basicConstraints, true, derSequence()),
    certificateExtension(certificateOids.keyUsage, true, derBitString(Buffer.from([0b1000_0000]), 7)),
    certificateExtension(certificateOids.extendedKeyUsage, false, derSequence(derObjectIdentifier(certificateOids[purpose]))),
    certificateExtension(certificateOids.subjectAltName, false, derSequence(...names))
  ]
}

/** iPAddress [7] or dNSName [2] of a GeneralName. */
export function serverGeneralName(name: string): Buffer {
  return isIP(name) === 0 ? encodeDer(0x82, Buffer.from(name, 'latin1')) : encodeDer(0x87, addressBytes(name))
}

/** 4 or 16 bytes of an address in text form. */
function addressBytes(address: string): Buffer {
  if (isIP(address) === 4) return Buffer.from(address.split('.').map(Number))
  // The URL parser gives the shortest form, without a dotted end and without a zone.
  const [head = '', tail] = new URL(`http://[${address.replace(/%.*$/, '')}]`).hostname.slice(1, -1).split('::')
  const groups = (text: string | undefined): string[] => text === undefined || text === '' ? [] : text.split(':')
  const [before, after] = [groups(head), groups(tail)]
  const all = [...before, ...Array<string>(8 - before.length - after.length).fill('0'), ...after]
  return Buffer.from(all.map(group => group.padStart(4, '0')).join(''), 'hex')
}
