import { X509Certificate, createHash, createPrivateKey, createPublicKey, generateKeyPairSync, sign } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { isIP } from 'node:net'
import { join } from 'node:path'
import {
  derBitString, derInteger, derObjectIdentifier, derOctetString, derSequence, derSet, derTime, derTrue, derUtf8String, encodeDer,
  encodePem, privateFileMode, writeFileAtomic
} from '@holdfast/runtime'
import type { Random } from '@holdfast/runtime'

export interface ServingCertificate {
  readonly certificatePem: string
  readonly keyPem: string
}

/** 1970 to the end of 9999, "no well-defined expiration date" [RFC 5280 §4.1.2.5]: no clock makes it invalid (L7). */
const validFromMs = 0
const validUntilMs = 253_402_300_799_000

const oids = {
  commonName: '2.5.4.3',
  organization: '2.5.4.10',
  ecdsaWithSha256: '1.2.840.10045.4.3.2',
  subjectKeyIdentifier: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  extendedKeyUsage: '2.5.29.37',
  serverAuth: '1.3.6.1.5.5.7.3.1'
} as const

/**
 * The certificate with which the local API is served: signed by itself, for clients that are given it (docs/adr/0002).
 * Read from `folder`, and made anew where it is not there, is damaged, or lacks one of `names` (host names and addresses).
 */
export async function loadServingCertificate(
  folder: string, names: readonly string[], components: { readonly random: Random }
): Promise<ServingCertificate> {
  const [keyPath, certificatePath] = [join(folder, 'tls.key'), join(folder, 'tls.crt')]
  const [keyPem, certificatePem] = await Promise.all([keyPath, certificatePath].map(path => readFile(path, 'utf8').catch(() => '')))
  if (fits(keyPem!, certificatePem!, names)) return { keyPem: keyPem!, certificatePem: certificatePem! }
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const made = {
    keyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    certificatePem: selfSigned(privateKey, publicKey, names, components.random)
  }
  await writeFileAtomic(keyPath, made.keyPem, privateFileMode)
  await writeFileAtomic(certificatePath, made.certificatePem)
  return made
}

function fits(keyPem: string, certificatePem: string, names: readonly string[]): boolean {
  try {
    const certificate = new X509Certificate(certificatePem)
    return createPublicKey(createPrivateKey(keyPem)).equals(certificate.publicKey) && certificate.verify(certificate.publicKey) &&
      names.every(name => (isIP(name) === 0 ? certificate.checkHost(name) : certificate.checkIP(name)) !== undefined)
  } catch {
    return false
  }
}

function selfSigned(privateKey: KeyObject, publicKey: KeyObject, names: readonly string[], random: Random): string {
  const spki = publicKey.export({ type: 'spki', format: 'der' })
  const subject = derSequence(attribute(oids.organization, 'Holdfast'), attribute(oids.commonName, 'local API of this node'))
  const serial = Buffer.from(random.bytes(16))
  serial[0] = serial[0]! & 0x7f | 0x40
  const algorithm = derSequence(derObjectIdentifier(oids.ecdsaWithSha256))
  const content = derSequence(
    encodeDer(0xa0, derInteger(Buffer.from([2]))),
    derInteger(serial),
    algorithm,
    subject,
    derSequence(derTime(validFromMs), derTime(validUntilMs)),
    subject,
    spki,
    encodeDer(0xa3, derSequence(
      extension(oids.basicConstraints, true, derSequence()),
      // digitalSignature
      extension(oids.keyUsage, true, derBitString(Buffer.from([0x80]), 7)),
      extension(oids.extendedKeyUsage, false, derSequence(derObjectIdentifier(oids.serverAuth))),
      extension(oids.subjectKeyIdentifier, false, derOctetString(createHash('sha256').update(spki).digest().subarray(0, 20))),
      extension(oids.subjectAltName, false, derSequence(...names.map(alternativeName)))
    ))
  )
  return encodePem('CERTIFICATE', derSequence(content, algorithm, derBitString(sign('sha256', content, privateKey))))
}

function attribute(oid: string, text: string): Buffer {
  return derSet(derSequence(derObjectIdentifier(oid), derUtf8String(text)))
}

function extension(oid: string, critical: boolean, value: Buffer): Buffer {
  return derSequence(derObjectIdentifier(oid), ...critical ? [derTrue()] : [], derOctetString(value))
}

/** iPAddress [7] or dNSName [2] of a GeneralName. */
function alternativeName(name: string): Buffer {
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
