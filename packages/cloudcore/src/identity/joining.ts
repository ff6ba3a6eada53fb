import {
  type Clock, type Log, describeError, hasCode, HoldfastError, nodeNameRule, parseNodeName
} from '@holdfast/runtime'
import type { Authority } from './authority.ts'
import { publicKeySha256, readCertificateRequest } from './certificates.ts'
import type { IdentityErrorCode } from './error-codes.ts'
import { JoinFailures } from './join-failures.ts'
import type { AuthenticToken, CreatedToken, Tokens } from './tokens.ts'

/** One `POST /v1/join`, apart from how it came. */
export interface JoinRequest {
  /** The Authorization header. */
  readonly authorization: string | undefined
  readonly remoteAddress: string
  /** The Host header: how the node reaches this machine. */
  readonly host: string | undefined
  /** The parsed JSON body; called only when the token is known and its holder may try. Rejects with a coded error. */
  readBody(): Promise<unknown>
}

/** The 201 answer to a join. */
export interface JoinAnswer {
  readonly node: string
  /** The node's certificate, PEM. */
  readonly certificate: string
  /** The CA certificate, PEM. */
  readonly ca: string
  readonly clusterUid: string
  /** Where the tunnel is, such as `wss://cloud.example:10000/v1/tunnel`. */
  readonly tunnelUrl: string
  /** RFC 3339. */
  readonly notAfter: string
}

export interface JoiningOptions {
  /** The tunnel as nodes reach it. Undefined: the name that the joining node used for us, and `tunnelPort`. */
  readonly tunnelUrl?: string | undefined
  /** The port that the tunnel listens on; asked at each join, as it may be any free one. */
  tunnelPort(): number
}

export interface JoiningComponents {
  readonly authority: Authority
  readonly tokens: Tokens
  readonly clock: Clock
  readonly log: Log
}

/** A join refused for now. */
export class JoinRateLimited extends HoldfastError<'JOIN_RATE_LIMITED'> {
  readonly retryAfterSeconds: number

  constructor(retryAfterSeconds: number) {
    super('JOIN_RATE_LIMITED', `too many joins have failed: try again in ${retryAfterSeconds} s`)
    this.retryAfterSeconds = retryAfterSeconds
  }
}

/**
 * Joining: a token and a certificate request become a node's certificate.
 *
 * The name is asked for by whoever holds the token, bounded by the token, and written by the cloud; the request's own
 * subject is not read (L10). A name that has joined before may join again with a valid token (a board that was flashed
 * anew); it is logged with the serial number that it replaces.
 *
 * Failures are counted per address or, once the token is known, per token: nobody with a good token waits because of a
 * neighbour's failures (L9).
 */
export class Joining {
  readonly #options: JoiningOptions
  readonly #components: JoiningComponents
  readonly #failures: JoinFailures

  constructor(options: JoiningOptions, components: JoiningComponents) {
    this.#options = options
    this.#components = components
    this.#failures = new JoinFailures(components)
  }

  /** `GET /v1/ca`: the CA certificate, PEM. Public; the hash in a token says whether it is the right one. */
  handleCa(): string { return this.#components.authority.caPem }

  /** `POST /v1/tokens` of the operations port, parsed body to JSON answer; as `Tokens.create`. */
  handleTokenCreate(body: unknown): Promise<CreatedToken> { return this.#components.tokens.create(body) }

  /**
   * `POST /v1/join` with `{ node, csr }`. In this order: token known, not rate limited, body, name, proof of
   * possession, token good for this node; its use is stored, and only then is the certificate signed.
   *
   * Rejects with `JoinRateLimited`, with one of `TOKEN_MISSING`, `TOKEN_UNKNOWN`, `TOKEN_EXPIRED`, `TOKEN_USED_UP`,
   * `TOKEN_WRONG_NODE`, `JOIN_REQUEST_INVALID`, `JOIN_NOT_STORED`, or as `readBody` does.
   */
  async handleJoin(request: JoinRequest): Promise<JoinAnswer> {
    const address = `address ${addressBlock(request.remoteAddress)}`
    let key = address
    try {
      const token = this.#authenticate(request.authorization)
      key = `token ${token.id}`
      this.#refuseTooMany(key)
      return await this.#join(token, request)
    } catch (error) {
      if (error instanceof JoinRateLimited || hasCode(error, 'JOIN_NOT_STORED')) throw error
      if (key === address) this.#refuseTooMany(key)
      this.#failures.count(key)
      this.#components.log.warn('join refused', { from: request.remoteAddress, reason: describeError(error) })
      throw error
    }
  }

  #authenticate(authorization: string | undefined): AuthenticToken {
    const presented = /^Bearer +([A-Za-z0-9._~+/=-]+)$/i.exec(authorization ?? '')?.[1]
    if (presented === undefined) throw failure('TOKEN_MISSING', 'expected the header Authorization: Bearer <token>')
    return this.#components.tokens.authenticate(presented)
  }

  #refuseTooMany(key: string): void {
    const waitSeconds = this.#failures.retryAfterSeconds(key)
    if (waitSeconds > 0) throw new JoinRateLimited(waitSeconds)
  }

  async #join(token: AuthenticToken, request: JoinRequest): Promise<JoinAnswer> {
    const { authority, tokens, log } = this.#components
    const body = await request.readBody()
    const fields = typeof body === 'object' && body !== null ? body as Record<string, unknown> : {}
    const node = parseNodeName(fields['node'])
    if (node === undefined) throw failure('JOIN_REQUEST_INVALID', `node: expected ${nodeNameRule}`)
    const csr = fields['csr']
    if (typeof csr !== 'string') throw failure('JOIN_REQUEST_INVALID', 'csr: expected a certificate request, PEM')
    const read = readCertificateRequest(csr)
    if ('refused' in read) throw failure('JOIN_REQUEST_INVALID', `csr: ${read.refused}`)
    const tunnelUrl = this.#options.tunnelUrl ?? this.#tunnelUrlFor(request.host)
    await tokens.use(token, node, publicKeySha256(read.publicKey))
    const issued = await authority.issueNodeCertificate(node, read.publicKey)
    log.info(issued.replaced === undefined ? 'node joined' : 'node joined again', {
      node, token: token.id, from: request.remoteAddress, serialNumber: issued.serialNumber, replaced: issued.replaced
    })
    return {
      node,
      certificate: issued.pem,
      ca: authority.caPem,
      clusterUid: authority.clusterUid,
      tunnelUrl,
      notAfter: issued.notAfter
    }
  }

  #tunnelUrlFor(host: string | undefined): string {
    const authority = /^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::\d+)?$/.exec(host ?? '')?.[1]
    if (authority === undefined) {
      throw failure('JOIN_REQUEST_INVALID', 'expected a Host header with a host name or address')
    }
    return `wss://${authority}:${this.#options.tunnelPort()}/v1/tunnel`
  }
}

/** What counts as one address: an IPv4 address, or the /64 of an IPv6 address, which is one customer's. */
function addressBlock(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/.exec(address)?.[1]
  if (mapped !== undefined || !address.includes(':')) return mapped ?? address
  const [head = '', tail] = address.split('%')[0]!.split('::')
  const before = head === '' ? [] : head.split(':')
  const after = tail === undefined || tail === '' ? [] : tail.split(':')
  const zeros = tail === undefined ? [] : Array<string>(8 - before.length - after.length).fill('0')
  return [...before, ...zeros, ...after].slice(0, 4).join(':')
}

const failure = (code: IdentityErrorCode, message: string): HoldfastError<IdentityErrorCode> =>
  new HoldfastError(code, message)
