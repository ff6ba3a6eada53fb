import { createHash, createPublicKey, type KeyObject, randomBytes, verify, type X509Certificate } from 'node:crypto'
import { isIPv4, isIPv6 } from 'node:net'
import {
  certificateExtension, certificateName, certificateOids, decodeDer, decodePem, derBitString, derInteger, derOctetString, derSequence,
  derTags, derTrue, encodeDer, endEntityExtensions, serverGeneralName, signCertificate
} from '@holdfast/runtime'

// The certificates of a cluster [RFC 5280]: P-256 with SHA-256, and three profiles, nothing else. Their end is counted from the
// issuer's clock, or from this program's own time where the clock is behind that.

/** 2026-01-01: this program did not exist before it, so a clock that says less is wrong. */
const softwareTimeMs = 1_767_225_600_000

const dayMs = 86_400_000

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
  const subject = certificateName(request.commonName)
  const signer = issuer.certificate === undefined
    ? { name: subject, spki }
    : { name: readSubject(issuer.certificate), spki: exportSpki(issuer.certificate.publicKey) }
  return signCertificate({
    serial: randomBytes(16), issuer: signer.name, subject, publicKey: spki, notAfterMs: request.notAfterMs,
    extensions: encodeExtensions(request.profile, spki, signer.spki)
  }, issuer.key)
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

function encodeExtensions(profile: CertificateProfile, spki: Buffer, issuerSpki: Buffer): Buffer[] {
  const identifiers = [
    certificateExtension(certificateOids.subjectKeyIdentifier, false, derOctetString(keyIdentifier(spki))),
    certificateExtension(certificateOids.authorityKeyIdentifier, false, derSequence(encodeDer(0x80, keyIdentifier(issuerSpki))))
  ]
  if (profile.kind === 'ca') {
    return [
      certificateExtension(certificateOids.basicConstraints, true, derSequence(derTrue(), derInteger(Buffer.from([0])))),
      certificateExtension(certificateOids.keyUsage, true, derBitString(Buffer.from([0b0000_0110]), 1)), // keyCertSign, cRLSign
      ...identifiers
    ]
  }
  const names = profile.kind === 'server' ? profile.names.map(serverGeneralName) : [encodeDer(0x86, Buffer.from(profile.uri))]
  return [...endEntityExtensions(profile.kind === 'server' ? 'serverAuth' : 'clientAuth', names), ...identifiers]
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
