import {
  createHash, createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, randomUUID, X509Certificate
} from 'node:crypto'
import { readdir, readFile, rename } from 'node:fs/promises'
import { isIP } from 'node:net'
import { join } from 'node:path'
import {
  type Clock, type Log, type NodeName, describeError, HoldfastError, makePrivateFolder, nodeUri, privateFileMode,
  removeTemporaries, writeFileAtomic
} from '@holdfast/runtime'
import { endOfLifeMs, isServerName, issueCertificate } from './certificates.ts'
import type { IdentityErrorCode } from './error-codes.ts'
import { identityLimits } from './limits.ts'

export interface AuthorityOptions {
  /** `<data dir>/identity`; made at the first start, 0700, its files 0600. */
  readonly folder: string
  /**
   * Host names and addresses by which nodes reach this cloudcore, from the configuration (`serverNames`). localhost,
   * 127.0.0.1, ::1 and `hostname` are added to them.
   */
  readonly serverNames: readonly string[]
  /** This machine's name (`os.hostname()`). */
  readonly hostname: string
}

export interface AuthorityComponents { readonly clock: Clock; readonly log: Log }

/** A key and its certificate, PEM. */
export interface Credential { readonly key: string; readonly certificate: string }

export interface NodeCertificate {
  readonly pem: string
  readonly serialNumber: string
  /** RFC 3339. */
  readonly notAfter: string
  /** Serial number of the certificate that this name had before; undefined at its first. */
  readonly replaced: string | undefined
}

const caFile = 'ca.pem'
const serverFile = 'server.pem'
const issuedFolder = 'issued'
const wayOut = 'restore it from a backup; without one, move the folder away for a new cluster identity, and let ' +
  'every node join again'

/**
 * The identity of a cluster: its CA, the certificate of its servers, and its id.
 *
 * - `ca.pem`: the CA's certificate and key in one file, so that no crash parts them. The cluster's id is the common
 *   name of this certificate: what proves the cluster and what names it cannot disagree.
 * - `server.pem`: the certificate of the tunnel and HTTPS listeners and its key. Made again when names change, when two
 *   thirds of its life are over, or when it cannot be read: nothing remembers it but this file.
 * - `issued/<SHA-256 of the node's name>.pem`: the latest certificate of each node that has joined.
 *
 * The CA is never made again once anything has been made with it: without it every node is locked out, so its loss
 * stops the start with the way out (`IDENTITY_CA_MISSING`, `IDENTITY_CORRUPT`).
 */
export class Authority {
  readonly folder: string
  readonly clusterUid: string
  /** The CA certificate, PEM. */
  readonly caPem: string
  readonly ca: X509Certificate
  /** Key and certificate for the listeners. */
  readonly server: Credential
  readonly #key: KeyObject
  readonly #clock: Clock

  private constructor(folder: string, credential: CaCredential, server: Credential, clock: Clock) {
    this.folder = folder
    this.clusterUid = credential.clusterUid
    this.ca = credential.certificate
    this.caPem = credential.pem
    this.server = server
    this.#key = credential.key
    this.#clock = clock
  }

  /**
   * Makes the identity at the first start and opens it unchanged at later ones. Rejects with `IDENTITY_CA_MISSING`,
   * `IDENTITY_CORRUPT`, `IDENTITY_UNREADABLE` or `SERVER_NAME_INVALID`.
   */
  static async open(options: AuthorityOptions, components: AuthorityComponents): Promise<Authority> {
    const names = serverCertificateNames(options)
    const { folder } = options
    try {
      await makePrivateFolder(folder)
      await removeTemporaries(folder)
      const ca = await openCa(folder, components)
      const server = await openServer(folder, names, ca, components)
      await makePrivateFolder(join(folder, issuedFolder))
      await removeTemporaries(join(folder, issuedFolder))
      return new Authority(folder, ca, server, components.clock)
    } catch (error) {
      if (error instanceof HoldfastError) throw error
      throw failure('IDENTITY_UNREADABLE', `${folder}: ${describeError(error)}: give the folder to the user that ` +
        'cloudcore runs as', error)
    }
  }

  /**
   * Signs a node's certificate for TLS clients and keeps a copy in `issued/`; on disk when it resolves. The name goes
   * into the subject alternative name as `nodeUri`; it is the cloud's, whatever the node's request says (L10). It lives
   * `nodeCertificateLifeDays`, at most as long as the CA: an offline node keeps its identity (L7).
   * Rejects with `JOIN_NOT_STORED`; nothing was handed out then.
   */
  async issueNodeCertificate(node: NodeName, publicKey: KeyObject): Promise<NodeCertificate> {
    const notAfterMs = Math.min(endOfLifeMs(this.#clock.wallMs(), identityLimits.nodeCertificateLifeDays.value),
      this.ca.validToDate.getTime())
    const pem = issueCertificate(
      {
        profile: { kind: 'node', uri: nodeUri(this.clusterUid, node) },
        commonName: `node:${node}`,
        publicKey,
        notAfterMs
      },
      { key: this.#key, certificate: this.ca })
    const certificate = new X509Certificate(pem)
    const path = join(this.folder, issuedFolder, `${createHash('sha256').update(node).digest('hex')}.pem`)
    try {
      const before = await readIfThere(path)
      await writeFileAtomic(path, pem, privateFileMode)
      return {
        pem,
        serialNumber: certificate.serialNumber,
        notAfter: certificate.validToDate.toISOString(),
        replaced: before === undefined ? undefined : serialNumberOf(before)
      }
    } catch (error) {
      throw failure('JOIN_NOT_STORED',
        `${path}: ${describeError(error)}: no certificate was issued; join again later`, error)
    }
  }
}

interface CaCredential {
  readonly clusterUid: string
  readonly certificate: X509Certificate
  readonly pem: string
  readonly key: KeyObject
}

/** What the server certificate names: the configured names, this machine, and the loopback addresses; sorted. */
function serverCertificateNames(options: AuthorityOptions): string[] {
  const { serverNames, hostname } = options
  if (serverNames.length > identityLimits.serverNames.value) {
    throw failure('SERVER_NAME_INVALID',
      `serverNames: expected at most ${identityLimits.serverNames.value} names, got ${serverNames.length}`)
  }
  const wrong = serverNames.find(name => !isServerName(name))
  if (wrong !== undefined) {
    throw failure('SERVER_NAME_INVALID',
      `serverNames: expected host names and IP addresses without scheme or port, got ${JSON.stringify(wrong)}`)
  }
  const own = isServerName(hostname) ? [hostname] : []
  return [...new Set([...serverNames, ...own, 'localhost', '127.0.0.1', '::1'])].sort()
}

async function openCa(folder: string, { clock, log }: AuthorityComponents): Promise<CaCredential> {
  const path = join(folder, caFile)
  const text = await readIfThere(path)
  if (text === undefined) {
    const others = await readdir(folder)
    if (others.length > 0) {
      throw failure('IDENTITY_CA_MISSING', `${path} is missing, but ${others.sort().join(', ')} is there: ${wayOut}`)
    }
    const clusterUid = randomUUID()
    const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    const notAfterMs = endOfLifeMs(clock.wallMs(), identityLimits.caLifeDays.value)
    const pem = issueCertificate({ profile: { kind: 'ca' }, commonName: clusterUid, publicKey, notAfterMs },
      { key: privateKey, certificate: undefined })
    await writeFileAtomic(path, pem + exportPrivateKey(privateKey), privateFileMode)
    log.info('cluster identity made', { clusterUid, path })
    return { clusterUid, certificate: new X509Certificate(pem), pem, key: privateKey }
  }
  const ca = parseCa(text)
  if ('broken' in ca) throw failure('IDENTITY_CORRUPT', `${path}: ${ca.broken}: ${wayOut}`)
  const leftMs = ca.certificate.validToDate.getTime() - clock.wallMs()
  if (leftMs < identityLimits.caLifeDays.value * 86_400_000 / 3) {
    log.warn('the CA certificate is in the last third of its life', { path, validTo: ca.certificate.validTo })
  }
  return ca
}

function parseCa(text: string): CaCredential | { readonly broken: string } {
  const pair = parseCredential(text)
  if ('broken' in pair) return pair
  const { certificate, key } = pair
  const clusterUid = /^CN=([0-9a-f-]{36})$/m.exec(certificate.subject)?.[1]
  if (clusterUid === undefined || !certificate.ca || !certificate.verify(certificate.publicKey)) {
    return { broken: 'the certificate in it is not one that cloudcore made for a CA' }
  }
  return { clusterUid, certificate, key, pem: pair.pem }
}

async function openServer(
  folder: string, names: readonly string[], ca: CaCredential, { clock, log }: AuthorityComponents
): Promise<Credential> {
  const path = join(folder, serverFile)
  const notAfterMs = Math.min(endOfLifeMs(clock.wallMs(), identityLimits.serverCertificateLifeDays.value),
    ca.certificate.validToDate.getTime())
  const text = await readIfThere(path)
  const found = text === undefined ? { broken: 'first start' } : parseCredential(text)
  const reason = 'broken' in found ? found.broken : reissueReason(found.certificate, names, ca, notAfterMs, clock)
  if (reason === undefined && !('broken' in found)) return { key: exportPrivateKey(found.key), certificate: found.pem }
  if (text !== undefined && 'broken' in found) {
    await rename(path, `${path}.corrupt`)
    log.warn('the server certificate cannot be read and is made again', { path, moved: `${path}.corrupt`, reason })
  }
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const certificate = issueCertificate(
    { profile: { kind: 'server', names }, commonName: 'cloudcore', publicKey, notAfterMs },
    { key: ca.key, certificate: ca.certificate })
  const key = exportPrivateKey(privateKey)
  await writeFileAtomic(path, certificate + key, privateFileMode)
  log.info('server certificate made', { reason, names })
  return { key, certificate }
}

/** Why a server certificate must be made again; undefined where it is as it should be. */
function reissueReason(
  certificate: X509Certificate, names: readonly string[], ca: CaCredential, notAfterMs: number, clock: Clock
): string | undefined {
  if (!certificate.verify(ca.certificate.publicKey)) return 'not signed by this CA'
  const carried = certificate.subjectAltName?.split(', ').length
  if (carried !== names.length || !names.every(name => carries(certificate, name))) return 'names changed'
  const endMs = certificate.validToDate.getTime()
  const thirdMs = identityLimits.serverCertificateLifeDays.value * 86_400_000 / 3
  const isDue = endMs - clock.wallMs() < thirdMs && notAfterMs > endMs + 86_400_000
  return isDue ? 'in the last third of its life' : undefined
}

function carries(certificate: X509Certificate, name: string): boolean {
  return isIP(name) === 0
    ? certificate.subjectAltName?.split(', ').includes(`DNS:${name}`) === true
    : certificate.checkIP(name) !== undefined
}

interface ParsedCredential { readonly certificate: X509Certificate; readonly key: KeyObject; readonly pem: string }

/** A certificate and the key that belongs to it, out of one text. */
function parseCredential(text: string): ParsedCredential | { readonly broken: string } {
  const pem = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n/.exec(text)?.[0]
  const keyPem = /-----BEGIN PRIVATE KEY-----[^-]+-----END PRIVATE KEY-----\n/.exec(text)?.[0]
  if (pem === undefined || keyPem === undefined) {
    return { broken: `no whole ${pem === undefined ? 'certificate' : 'private key'} in it (${text.length} characters)` }
  }
  try {
    const certificate = new X509Certificate(pem)
    const key = createPrivateKey(keyPem)
    if (createPublicKey(key).equals(certificate.publicKey)) return { certificate, key, pem }
  } catch (error) {
    return { broken: describeError(error) }
  }
  return { broken: 'the key in it is not that of the certificate' }
}

/** Of a certificate kept on disk, which may be damaged. */
function serialNumberOf(pem: string): string {
  try {
    return new X509Certificate(pem).serialNumber
  } catch {
    return 'unreadable'
  }
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw failure('IDENTITY_UNREADABLE',
      `${path}: ${describeError(error)}: give the file to the user that cloudcore runs as`, error)
  }
}

const exportPrivateKey = (key: KeyObject): string => key.export({ format: 'pem', type: 'pkcs8' }) as string

const failure = (code: IdentityErrorCode, message: string, cause?: unknown): HoldfastError<IdentityErrorCode> =>
  new HoldfastError(code, message, cause === undefined ? undefined : { cause })
