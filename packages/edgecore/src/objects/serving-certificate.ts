import { X509Certificate, createHash, createPrivateKey, createPublicKey, generateKeyPairSync } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { isIP } from 'node:net'
import { join } from 'node:path'
import {
  certificateExtension, certificateName, certificateOids, derOctetString, endEntityExtensions, privateFileMode, serverGeneralName,
  signCertificate, writeFileAtomic
} from '@holdfast/runtime'
import type { Random } from '@holdfast/runtime'

export interface ServingCertificate {
  readonly certificatePem: string
  readonly keyPem: string
}

/** The end of 9999, "no well-defined expiration date" [RFC 5280 §4.1.2.5]: no clock makes it invalid (L7). */
const validUntilMs = 253_402_300_799_000

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
  const subject = certificateName('local API of this node')
  const identifier = derOctetString(createHash('sha256').update(spki).digest().subarray(0, 20))
  return signCertificate({
    serial: random.bytes(16), issuer: subject, subject, publicKey: spki, notAfterMs: validUntilMs,
    extensions: [
      ...endEntityExtensions('serverAuth', names.map(serverGeneralName)),
      certificateExtension(certificateOids.subjectKeyIdentifier, false, identifier)
    ]
  }, privateKey)
}
