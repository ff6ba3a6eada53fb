import { createPrivateKey, createPublicKey, X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { HoldfastError, type NodeName, parseNodeSubject } from '@holdfast/runtime'

/** For `ws` and `node:tls`: one shape serves both. */
export interface IdentityTlsOptions {
  readonly key: string
  readonly cert: string
  /** Replaces the machine's trusted CAs: the cluster's own CA is the only one. */
  readonly ca: string
  readonly minVersion: 'TLSv1.3'
  readonly rejectUnauthorized: true
}

/** Who this node is, and whom it talks to. */
export interface NodeIdentity {
  readonly node: NodeName
  readonly clusterUid: string
  /** The tunnel, such as `wss://cloud.example:10000/v1/tunnel`. */
  readonly serverUrl: string
  /** The node was moved here: what it holds of another cluster gives way to what this one has for it (STA-15). */
  readonly adopts: boolean
  /**
   * Mutual TLS 1.3 with the pinned CA. The server's certificate must carry the host of `serverUrl`; this check is
   * Node's own `tls.checkServerIdentity` and is not replaced.
   *
   * The clock of the node does not matter: the cluster's certificates are valid from 1970 on, and their life is long.
   * Node compares it with the wall clock and with nothing else, so that `max(wall clock, last time persisted, build
   * time)` could only ever move a clock that is behind, which needs no moving.
   */
  readonly tlsOptions: IdentityTlsOptions
}

/**
 * Reads `<data dir>/identity/{node.key,node.crt,ca.crt,identity.json}` as `holdfast join` writes them, and checks that
 * they belong together. Needs no network, and does not look at the clock (L7).
 *
 * Rejects with `NODE_NOT_JOINED`, `NODE_IDENTITY_UNREADABLE` or `NODE_IDENTITY_MISMATCH`.
 */
export async function loadIdentity(dataDir: string): Promise<NodeIdentity> {
  const folder = join(dataDir, 'identity')
  const description = await read(join(folder, 'identity.json'), () => notJoined(dataDir))
  const [key, cert, ca] = await Promise.all(['node.key', 'node.crt', 'ca.crt'].map(name => read(join(folder, name))))
  const { node, clusterUid, serverUrl, adopts } = parse(join(folder, 'identity.json'), () => parseDescription(description))
  const privateKey = parse(join(folder, 'node.key'), () => createPrivateKey(key!))
  const certificate = parse(join(folder, 'node.crt'), () => new X509Certificate(cert!))
  const authority = parse(join(folder, 'ca.crt'), () => new X509Certificate(ca!))
  const subject = parseNodeSubject(certificate.subjectAltName)
  const mismatch =
    !createPublicKey(privateKey).equals(certificate.publicKey) ? 'node.key is not the key of node.crt'
    : !certificate.verify(authority.publicKey) ? 'node.crt is not signed by ca.crt'
    : subject === undefined ? 'node.crt names no node'
    : subject.node !== node ? `node.crt names node "${subject.node}", identity.json "${node}"`
    : subject.clusterUid !== clusterUid ? `node.crt is of cluster ${subject.clusterUid}, identity.json of ${clusterUid}`
    : undefined
  if (subject === undefined || mismatch !== undefined) {
    throw new HoldfastError('NODE_IDENTITY_MISMATCH',
      `${folder}: ${mismatch}: restore its four files from one backup, or ${joinCommand(dataDir)} --force`)
  }
  return {
    node: subject.node,
    clusterUid,
    serverUrl,
    adopts,
    tlsOptions: { key: key!, cert: cert!, ca: ca!, minVersion: 'TLSv1.3', rejectUnauthorized: true }
  }
}

function parseDescription(text: string): { node: string; clusterUid: string; serverUrl: string; adopts: boolean } {
  const { version, node, clusterUid, serverUrl, adopt } = JSON.parse(text) as Record<string, unknown>
  if (version !== 1) throw new Error(`expected version 1, got ${JSON.stringify(version)}: upgrade edgecore`)
  if (typeof node !== 'string' || typeof clusterUid !== 'string') throw new Error('expected "node" and "clusterUid"')
  if (typeof serverUrl !== 'string' || !URL.canParse(serverUrl) || new URL(serverUrl).protocol !== 'wss:') {
    throw new Error(`serverUrl: expected wss://…, got ${JSON.stringify(serverUrl)}`)
  }
  return { node, clusterUid, serverUrl, adopts: adopt === true }
}

async function read(path: string, whenMissing?: () => HoldfastError): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (whenMissing !== undefined && (error as NodeJS.ErrnoException).code === 'ENOENT') throw whenMissing()
    throw unreadable(path, error)
  }
}

function parse<T>(path: string, parser: () => T): T {
  try {
    return parser()
  } catch (error) {
    throw unreadable(path, error)
  }
}

function unreadable(path: string, cause: unknown): HoldfastError {
  return new HoldfastError('NODE_IDENTITY_UNREADABLE',
    `${path} cannot be used: give it to the user that edgecore runs as; ` +
    'where it is damaged, restore it from a backup or join again with --force', { cause })
}

function notJoined(dataDir: string): HoldfastError {
  return new HoldfastError('NODE_NOT_JOINED',
    `${join(dataDir, 'identity')} holds no identity: this node has not joined a cluster yet; ${joinCommand(dataDir)}`)
}

const joinCommand = (dataDir: string): string =>
  `run: holdfast join --server https://CLOUD:10002 --token TOKEN --node NAME --data-dir ${dataDir}`
