import {
  createHash, createPublicKey, generateKeyPairSync, type KeyObject, randomBytes, sign, X509Certificate
} from 'node:crypto'
import { access, constants, readdir, rename, rm } from 'node:fs/promises'
import { request } from 'node:https'
import { dirname, join as joinPath, resolve } from 'node:path'
import {
  decodePem, derBitString, derInteger, derObjectIdentifier, derSequence, derSet, derUtf8String, describeError,
  encodeDer, encodePem, HoldfastError, makeFolder, makePrivateFolder, type NodeName, nodeNameRule, parseNodeName,
  parseNodeSubject, privateFileMode, syncFolder, writeFileAtomic
} from '@holdfast/runtime'
import type { cliErrorCodes } from './error-codes.ts'

type JoinErrorCode = Extract<keyof typeof cliErrorCodes, `JOIN_${string}`>

export interface JoinOptions {
  /** `https://host:port` of cloudcore; the scheme may be left out, and the port is 10002 where none is given. */
  readonly server: string
  readonly token: string
  /** The node's name; it may join again under the same name with a valid token. */
  readonly node: string
  /** The data directory of edgecore; made where it is missing. */
  readonly dataDir: string
  /** Replace an identity that is there. Stop edgecore first: it reads its identity at start. */
  readonly force?: boolean
  /**
   * `force`, and what the node holds of another cluster gives way to what this one has for it: edgecore finds it in the
   * identity at its next start (docs/spec/state.md, STA-15).
   */
  readonly adopt?: boolean
  /** Ends the attempt; the caller's deadline. */
  readonly signal?: AbortSignal
}

/** What was written. */
export interface JoinedNode {
  readonly node: NodeName
  readonly clusterUid: string
  /** The tunnel that edgecore will connect to. */
  readonly serverUrl: string
  /** End of the certificate, RFC 3339. */
  readonly notAfter: string
  /** `<data dir>/identity`. */
  readonly folder: string
}

const answerBytesMax = 64 * 1024
const silenceMaxMs = 15_000
const attemptsMax = 3
const defaultPort = 10_002

/**
 * Makes this machine a node: a key that never leaves it, a certificate from cloudcore, and the four files that edgecore
 * reads (`<data dir>/identity`, 0700 and 0600, whole or not at all).
 *
 * **No byte of the token goes over a connection that has not been verified.** The CA certificate is fetched first, over
 * a connection that proves nothing; it counts only if its SHA-256 is the one in the token. The token then goes over a
 * second connection, where that CA is the only root, and the server must hold a certificate of it for the very name in
 * `server`.
 *
 * Rejects with the `JOIN_…` codes of `cliErrorCodes`. An answer that was lost is asked for again with the same key, which does not
 * use the token twice.
 */
export async function join(options: JoinOptions): Promise<JoinedNode> {
  const server = parseServer(options.server)
  const caSha256 = parseToken(options.token)
  const node = parseNodeName(options.node)
  if (node === undefined) throw failure('JOIN_OPTION_INVALID', `--node "${options.node}": expected ${nodeNameRule}`)
  const folder = joinPath(options.dataDir, 'identity')
  const { adopt = false, force = adopt } = options
  if (!force && await isOccupied(folder)) {
    throw failure('JOIN_IDENTITY_EXISTS',
      `${folder} holds an identity already: leave it, or stop edgecore and add --force to replace it`)
  }
  await checkWritable(options.dataDir)
  const ca = await fetchCa(server, caSha256, options.signal)
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const answer = await requestCertificate(server, ca, options, node, privateKey)
  const identity = checkAnswer(answer, ca, node, privateKey)
  const description = { version: 1, node, clusterUid: identity.clusterUid, serverUrl: identity.serverUrl, ...adopt && { adopt } }
  try {
    await writeIdentity(options.dataDir, folder, {
      'node.key': privateKey.export({ format: 'pem', type: 'pkcs8' }) as string,
      'node.crt': identity.certificate,
      'ca.crt': ca.toString(),
      'identity.json': JSON.stringify(description, null, 2) + '\n'
    })
  } catch (error) {
    throw failure('JOIN_NOT_WRITTEN', `${folder}: the identity cannot be written, and what was there is kept; ` +
      'check permissions and free space, then join again with a new token', error)
  }
  return { node, clusterUid: identity.clusterUid, serverUrl: identity.serverUrl, notAfter: identity.notAfter, folder }
}

interface Server { readonly host: string; readonly port: number; readonly text: string }

function parseServer(text: string): Server {
  const whole = text.includes('://') ? text : `https://${text}`
  const url = URL.canParse(whole) ? new URL(whole) : undefined
  if (url?.protocol !== 'https:' || url.pathname !== '/' || url.username !== '' || url.search !== '') {
    throw failure('JOIN_OPTION_INVALID', `--server "${text}": expected https://HOST:PORT, the HTTPS port of cloudcore`)
  }
  const port = url.port !== '' ? Number(url.port) : /:443\/?$/.test(whole) ? 443 : defaultPort
  return { host: url.hostname.replace(/^\[|\]$/g, ''), port, text: `https://${url.hostname}:${port}` }
}

/** The SHA-256 of the CA certificate that the token pins. */
function parseToken(token: string): Buffer {
  const pinned = /^hf1\.([A-Za-z0-9_-]{43})\.[0-9a-f]{1,64}\.[A-Za-z0-9_-]{1,128}$/.exec(token)?.[1]
  if (pinned === undefined) {
    throw failure('JOIN_OPTION_INVALID', '--token: expected what `holdfast token create` printed, whole: hf1.….….…')
  }
  return Buffer.from(pinned, 'base64url')
}

async function fetchCa(server: Server, sha256: Buffer, signal: AbortSignal | undefined): Promise<X509Certificate> {
  const answer = await exchange(server, { method: 'GET', path: '/v1/ca', tls: { rejectUnauthorized: false }, signal })
    .catch((error: unknown) => { throw unreachable(server, error) })
  const der = answer.status === 200 ? decodePem('CERTIFICATE', answer.body) : undefined
  if (der === undefined) {
    throw failure('JOIN_ANSWER_INVALID',
      `${server.text} answered /v1/ca with status ${answer.status} and no certificate: it is not the HTTPS port of cloudcore, ` +
      `which is ${defaultPort} unless configured`)
  }
  if (!createHash('sha256').update(der).digest().equals(sha256)) {
    throw failure('JOIN_CA_MISMATCH',
      `${server.text} has another CA than the one that made the token: check --server; ` +
      'the token has not been sent')
  }
  try {
    return new X509Certificate(der)
  } catch (error) {
    throw failure('JOIN_ANSWER_INVALID', `the CA certificate of ${server.text} cannot be read`, error)
  }
}

/** Sends the token and the request. A certificate error comes from the handshake, before anything was sent. */
async function requestCertificate(
  server: Server, ca: X509Certificate, options: JoinOptions, node: NodeName, key: KeyObject
): Promise<Record<string, unknown>> {
  const body = JSON.stringify({ node, csr: encodeCertificateRequest(node, key) })
  for (let attempt = 1; ; attempt++) {
    try {
      const answer = await exchange(server, {
        method: 'POST', path: '/v1/join', body, signal: options.signal,
        tls: { ca: ca.toString(), rejectUnauthorized: true },
        headers: { 'Authorization': `Bearer ${options.token}`, 'Content-Type': 'application/json' }
      })
      return readAnswer(server, answer)
    } catch (error) {
      if (error instanceof HoldfastError) throw error
      const code = (error as NodeJS.ErrnoException).code ?? ''
      if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
        throw failure('JOIN_SERVER_NAME',
          `the certificate of ${server.text} does not carry the name "${server.host}": add it to serverNames of ` +
          'cloudcore and restart it, or use a name that it carries; the token has not been sent', error)
      }
      if (isVerifyError(code)) {
        throw failure('JOIN_SERVER_UNTRUSTED',
          `the certificate of ${server.text} is not valid under the CA of the token: ` +
          'check --server and this machine\'s clock; the token has not been sent', error)
      }
      if (attempt === attemptsMax || options.signal?.aborted === true) throw unreachable(server, error)
    }
  }
}

/** Codes by which OpenSSL's verification fails (`X509_V_ERR_…`, as Node names them). */
function isVerifyError(code: string): boolean {
  return /^(UNABLE_TO_|CERT_|SELF_SIGNED|DEPTH_ZERO_|INVALID_CA|INVALID_PURPOSE|PATH_LENGTH_|ERROR_IN_CERT_)/.test(code)
}

function readAnswer(server: Server, answer: Answer): Record<string, unknown> {
  let members: Record<string, unknown> = {}
  try {
    members = JSON.parse(answer.body) as Record<string, unknown>
  } catch {
    // Judged by its status below.
  }
  if (answer.status === 201) return members
  const detail = typeof members['detail'] === 'string' ? members['detail'] : 'no reason was given'
  const code = typeof members['code'] === 'string' ? `${members['code']}: ` : ''
  throw failure('JOIN_REFUSED', `${server.text} refused the join with status ${answer.status}: ${code}${detail}`)
}

interface CheckedAnswer {
  readonly certificate: string
  readonly clusterUid: string
  readonly serverUrl: string
  readonly notAfter: string
}

/** Believes nothing that was answered without looking: key, issuer, name, cluster and address. */
function checkAnswer(
  answer: Record<string, unknown>, ca: X509Certificate, node: NodeName, key: KeyObject
): CheckedAnswer {
  const wrong = (what: string, cause?: unknown): HoldfastError =>
    failure('JOIN_ANSWER_INVALID', `the answer of cloudcore is not acceptable: ${what}`, cause)
  const { certificate: pem, clusterUid, tunnelUrl } = answer
  let certificate: X509Certificate
  try {
    certificate = new X509Certificate(String(pem))
  } catch (error) {
    throw wrong('"certificate" cannot be read', error)
  }
  if (!certificate.publicKey.equals(createPublicKey(key))) throw wrong('the certificate is for another key')
  if (!certificate.checkIssued(ca) || !certificate.verify(ca.publicKey)) {
    throw wrong('the certificate is not signed by the CA of the token')
  }
  const subject = parseNodeSubject(certificate.subjectAltName)
  if (subject?.node !== node) throw wrong(`the certificate names node "${subject?.node ?? ''}", not "${node}"`)
  if (subject.clusterUid !== clusterUid) throw wrong(`the certificate is not of cluster ${String(clusterUid)}`)
  if (typeof tunnelUrl !== 'string' || !URL.canParse(tunnelUrl) || new URL(tunnelUrl).protocol !== 'wss:') {
    throw wrong(`tunnelUrl: expected wss://…, got ${JSON.stringify(tunnelUrl)}`)
  }
  return {
    certificate: certificate.toString(), clusterUid: subject.clusterUid, serverUrl: tunnelUrl,
    notAfter: certificate.validToDate.toISOString()
  }
}

/** PKCS #10 [RFC 2986], signed with the key that it asks a certificate for. */
function encodeCertificateRequest(node: NodeName, key: KeyObject): string {
  const commonName = derSequence(derObjectIdentifier('2.5.4.3'), derUtf8String(`node:${node}`.slice(0, 64)))
  const content = derSequence(
    derInteger(Buffer.from([0])),
    derSequence(derSet(commonName)),
    createPublicKey(key).export({ format: 'der', type: 'spki' }),
    encodeDer(0xa0)
  )
  const algorithm = derSequence(derObjectIdentifier('1.2.840.10045.4.3.2')) // ecdsa-with-SHA256
  return encodePem('CERTIFICATE REQUEST', derSequence(content, algorithm, derBitString(sign('sha256', content, key))))
}

async function isOccupied(folder: string): Promise<boolean> {
  try {
    return (await readdir(folder)).length > 0
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return false
    throw failure('JOIN_NOT_WRITTEN', `${folder} cannot be looked into: check its permissions`, error)
  }
}

/** Finds out before the token is used whether the data directory can be written, or made. */
async function checkWritable(dataDir: string): Promise<void> {
  for (let path = resolve(dataDir); ; path = dirname(path)) {
    try {
      await access(path, constants.W_OK | constants.X_OK)
      return
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT' && path !== dirname(path)) continue
      throw failure('JOIN_NOT_WRITTEN',
        `${path} cannot be written: run this as the user that edgecore runs as; the token has not been sent`, error)
    }
  }
}

/**
 * Fills a folder beside the real one and renames it into place. What was there is moved aside first and removed last: a
 * crash leaves the old identity, the new one, or (between two renames) the old one as `identity.replaced`.
 */
async function writeIdentity(dataDir: string, folder: string, files: Readonly<Record<string, string>>): Promise<void> {
  await makeFolder(dataDir, 0o700)
  const replaced = `${folder}.replaced`
  const filling = `${folder}.${randomBytes(6).toString('hex')}.tmp`
  try {
    await makePrivateFolder(filling)
    for (const [name, content] of Object.entries(files)) {
      await writeFileAtomic(joinPath(filling, name), content, privateFileMode)
    }
    const occupied = await isOccupied(folder)
    if (occupied) {
      await rm(replaced, { recursive: true, force: true })
      await rename(folder, replaced)
    }
    try {
      await rename(filling, folder)
    } catch (error) {
      if (occupied) await rename(replaced, folder)
      throw error
    }
    await syncFolder(dataDir)
    await rm(replaced, { recursive: true, force: true })
  } catch (error) {
    await rm(filling, { recursive: true, force: true })
    throw error
  }
}

interface Exchange {
  readonly method: 'GET' | 'POST'
  readonly path: string
  readonly tls: { readonly rejectUnauthorized: boolean; readonly ca?: string }
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
  readonly signal: AbortSignal | undefined
}

interface Answer { readonly status: number; readonly body: string }

/** One request over a connection of its own (no agent: an unverified connection is never used again). */
function exchange(server: Server, { method, path, tls, headers, body, signal }: Exchange): Promise<Answer> {
  const { host, port } = server
  return new Promise((answered, reject) => {
    const sent = request({
      host, port, method, path, agent: false, minVersion: 'TLSv1.3', timeout: silenceMaxMs, ...tls,
      ...signal === undefined ? {} : { signal },
      headers: { ...headers, ...body === undefined ? {} : { 'Content-Length': Buffer.byteLength(body) } }
    }, response => {
      const chunks: Buffer[] = []
      let bytes = 0
      response.on('data', (chunk: Buffer) => {
        bytes += chunk.length
        if (bytes > answerBytesMax) response.destroy(new Error(`the answer is larger than ${answerBytesMax} bytes`))
        else chunks.push(chunk)
      })
      response.on('error', reject)
      response.on('end', () => {
        answered({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString('utf8') })
      })
    })
    sent.on('timeout', () => sent.destroy(new Error(`no byte for ${silenceMaxMs / 1000} s`)))
    sent.on('error', reject)
    sent.end(body)
  })
}

/** Errors of something that answers, and not as an HTTPS server without client certificates does. */
const foreignAnswer = /^(ERR_SSL_|EPROTO$|HPE_)/

function unreachable(server: Server, error: unknown): HoldfastError {
  const { code } = error as { code?: unknown }
  if (typeof code === 'string' && foreignAnswer.test(code)) {
    return failure('JOIN_ANSWER_INVALID', `${server.text} answers, but is not the HTTPS port of cloudcore (${code}): that is ` +
      `${defaultPort} unless configured; the token has not been sent`, error)
  }
  return failure('JOIN_UNREACHABLE',
    `${server.text} does not answer (${describeError(error)}): check the address, the port ` +
    'and what lies between; the same token can be used again', error)
}

const failure = (code: JoinErrorCode, message: string, cause?: unknown): HoldfastError<JoinErrorCode> =>
  new HoldfastError(code, message, cause === undefined ? undefined : { cause })
