import {
  createHash, createPublicKey, type KeyObject, randomBytes, sign, verify, type X509Certificate
} from 'node:crypto'
import { isIPv4, isIPv6 } from 'node:net'
import {
  decodeDer, decodePem, derBitString, derInteger, derObjectIdentifier, derOctetString, derSequence, derSet, derTags,
  derTime, derTrue, derUtf8String, encodeDer, encodePem
} from '@holdfast/runtime'

/**
 * The certificates of a cluster [RFC 5280]: P-256 with SHA-256, and three profiles, nothing else.
 *
 * **Every one is valid from 1970-01-01.** TLS libraries compare the validity with the machine's clock and offer no
 * other: a board without a clock battery starts at 1970, or at the time it last wrote down, and a certificate from 2026
 * is `not yet valid` to it until NTP has answered, which may need the very link that is refused. (Tried with faketime:
 * a client at 1970-01-01 00:05 completes the handshake with these certificates, and fails with CERT_NOT_YET_VALID when
 * they start today.) A start of validity in the past gives nothing away: who could have used the key before it existed?
 * So the check at `max(wall clock, last time persisted, build time)` of the design needs no code, and the clock never
 * needs to be set.
 *
 * The end is counted from the issuer's clock, or from this program's own time where the clock is behind that.
 */
const validFromMs = 0

/** 2026-01-01: this program did not exist before it, so a clock that says less is wrong. */
const softwareTimeMs = 1_767_225_600_000

const dayMs = 86_400_000

const oids = {
  commonName: '2.5.4.3',
  organization: '2.5.4.10',
  ecdsaWithSha256: '1.2.840.10045.4.3.2',
  ed25519: '1.3.101.112',
  subjectKeyIdentifier: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  authorityKeyIdentifier: '2.5.29.35',
  extendedKeyUsage: '2.5.29.37',
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2'
} as const

/** What a certificate is for; decides its extensions. */
export type CertificateProfile =
  | { readonly kind: 'ca' }
  | { readonly kind: 'server'; readonly names: readonly string[] }
  | { readonly kind: 'node'; readonly uri: string }

export interface CertificateRequest {
  readonly profile: CertificateProfile
  /** Written into the subject as `O=Holdfast, CN=…`, cut at 64 characters (ub-common-name). */
  readonly commonName: string
  readonly publicKey: KeyObject
  readonly notAfterMs: number
}

/** Who signs. The CA signs itself with its own common name and key. */
export interface Issuer {
  readonly key: KeyObject
  /** Undefined for the self-signed certificate. */
  readonly certificate: X509Certificate | undefined
}

/** The end of a life that begins now; a clock from before this program is not believed. */
export function endOfLifeMs(wallMs: number, lifeDays: number): number {
  return Math.max(wallMs, softwareTimeMs) + lifeDays * dayMs
}

/** Signs a certificate; PEM. The serial number is 127 random bits. */
export function issueCertificate(request: CertificateRequest, issuer: Issuer): string {
  const spki = exportSpki(request.publicKey)
  const subject = encodeName(request.commonName)
  const signer = issuer.certificate === undefined
    ? { name: subject, spki }
    : { name: readSubject(issuer.certificate), spki: exportSpki(issuer.certificate.publicKey) }
  const serial = randomBytes(16)
  serial[0] = serial[0]! & 0x7f | 0x40
  const algorithm = derSequence(derObjectIdentifier(oids.ecdsaWithSha256))
  const content = derSequence(
    encodeDer(0xa0, derInteger(Buffer.from([2]))),
    derInteger(serial),
    algorithm,
    signer.name,
    derSequence(derTime(validFromMs), derTime(request.notAfterMs)),
    subject,
    spki,
    encodeDer(0xa3, derSequence(...encodeExtensions(request.profile, spki, signer.spki)))
  )
  return encodePem('CERTIFICATE', derSequence(content, algorithm, derBitString(sign('sha256', content, issuer.key))))
}

/**
 * The public key of a certificate request [RFC 2986] whose signature proves that its sender has the private key: P-256
 * or Ed25519. Its subject and attributes are not looked at: what a node is called is not for the node to say (L10).
 * Answers a sentence where the request is not acceptable.
 */
export function readCertificateRequest(pem: string): { readonly publicKey: KeyObject } | { readonly refused: string } {
  const bytes = decodePem('CERTIFICATE REQUEST', pem) ?? decodePem('NEW CERTIFICATE REQUEST', pem)
  if (bytes === undefined) return { refused: 'expected one PEM block labelled CERTIFICATE REQUEST' }
  const [whole, ...after] = decodeDer(bytes) ?? []
  const parts = whole?.tag === derTags.sequence && after.length === 0 ? decodeDer(whole.content) : undefined
  const [content, , signature] = parts ?? []
  const spki = content?.tag === derTags.sequence ? decodeDer(content.content)?.[2] : undefined
  if (parts?.length !== 3 || spki?.tag !== derTags.sequence || signature?.tag !== derTags.bitString ||
    signature.content[0] !== 0) return { refused: 'the certificate request is not DER as RFC 2986 says' }
  try {
    const publicKey = createPublicKey({ key: spki.raw, format: 'der', type: 'spki' })
    const hash = requestHash(publicKey)
    if (hash === undefined) {
      const curve = publicKey.asymmetricKeyDetails?.namedCurve
      return { refused: `expected a P-256 or Ed25519 key, got ${publicKey.asymmetricKeyType} ${curve ?? ''}`.trimEnd() }
    }
    if (verify(hash.digest, content!.raw, publicKey, signature.content.subarray(1))) return { publicKey }
  } catch {
    return { refused: 'the public key in the certificate request cannot be read' }
  }
  return { refused: 'the signature of the certificate request does not fit its public key' }
}

/** Digest of a key type that nodes may have, in an object because Ed25519 has none. */
function requestHash(key: KeyObject): { readonly digest: string | null } | undefined {
  if (key.asymmetricKeyType === 'ed25519') return { digest: null }
  return key.asymmetricKeyType === 'ec' && key.asymmetricKeyDetails?.namedCurve === 'prime256v1'
    ? { digest: 'sha256' }
    : undefined
}

/** SHA-256 of a public key (SubjectPublicKeyInfo), hex. */
export function publicKeySha256(key: KeyObject): string {
  return createHash('sha256').update(exportSpki(key)).digest('hex')
}

/** The name as certificates carry it: an IP address, or a host name, which may start with `*.`. */
export function isServerName(name: string): boolean {
  return isIPv4(name) || isIPv6(name) ||
    name.length <= 253 && /^(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}))*$/.test(name)
}

function encodeName(commonName: string): Buffer {
  const attribute = (oid: string, text: string): Buffer =>
    derSet(derSequence(derObjectIdentifier(oid), derUtf8String(text)))
  return derSequence(attribute(oids.organization, 'Holdfast'), attribute(oids.commonName, commonName.slice(0, 64)))
}

function encodeExtensions(profile: CertificateProfile, spki: Buffer, issuerSpki: Buffer): Buffer[] {
  const identifiers = [
    extension(oids.subjectKeyIdentifier, false, derOctetString(keyIdentifier(spki))),
    extension(oids.authorityKeyIdentifier, false, derSequence(encodeDer(0x80, keyIdentifier(issuerSpki))))
  ]
  if (profile.kind === 'ca') {
    return [
      extension(oids.basicConstraints, true, derSequence(derTrue(), derInteger(Buffer.from([0])))),
      extension(oids.keyUsage, true, derBitString(Buffer.from([0b0000_0110]), 1)), // keyCertSign, cRLSign
      ...identifiers
    ]
  }
  const names = profile.kind === 'server'
    ? profile.names.map(encodeServerName)
    : [encodeDer(0x86, Buffer.from(profile.uri))]
  return [
    extension(oids.basicConstraints, true, derSequence()),
    extension(oids.keyUsage, true, derBitString(Buffer.from([0b1000_0000]), 7)), // digitalSignature
    extension(oids.extendedKeyUsage, false,
      derSequence(derObjectIdentifier(profile.kind === 'server' ? oids.serverAuth : oids.clientAuth))),
    extension(oids.subjectAltName, false, derSequence(...names)),
    ...identifiers
  ]
}

function extension(oid: string, critical: boolean, value: Buffer): Buffer {
  return derSequence(derObjectIdentifier(oid), ...critical ? [derTrue()] : [], derOctetString(value))
}

function encodeServerName(name: string): Buffer {
  if (isIPv4(name)) return encodeDer(0x87, Buffer.from(name.split('.').map(Number)))
  return isIPv6(name) ? encodeDer(0x87, ipv6Bytes(name)) : encodeDer(0x82, Buffer.from(name, 'latin1'))
}

/** The sixteen bytes of an IPv6 address, out of the one form that URLs write it in. */
function ipv6Bytes(address: string): Buffer {
  const [head = '', tail] = new URL(`http://[${address}]`).hostname.slice(1, -1).split('::')
  const groups = (text: string): number[] => text === '' ? [] : text.split(':').map(group => parseInt(group, 16))
  const before = groups(head)
  const after = groups(tail ?? '')
  const bytes = Buffer.alloc(16)
  before.forEach((group, i) => bytes.writeUInt16BE(group, 2 * i))
  after.forEach((group, i) => bytes.writeUInt16BE(group, 16 - 2 * (after.length - i)))
  return bytes
}

/** RFC 7093 §2, method 1. Existing CAs carry it and what they sign must match: it can only change with a new CA. */
function keyIdentifier(spki: Buffer): Buffer {
  const keyBits = decodeDer(decodeDer(spki)![0]!.content)![1]!.content.subarray(1)
  return createHash('sha256').update(keyBits).digest().subarray(0, 20)
}

/** The subject of a certificate byte by byte, as what it signs must name it. */
function readSubject(certificate: X509Certificate): Buffer {
  const content = decodeDer(decodeDer(decodeDer(certificate.raw)![0]!.content)![0]!.content)!
  return content[5]!.raw
}

function exportSpki(key: KeyObject): Buffer {
  return key.export({ format: 'der', type: 'spki' })
}
