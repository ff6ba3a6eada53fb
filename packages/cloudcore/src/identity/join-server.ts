import { codeOfError, describeError, HoldfastError, HttpProblem, HttpServer } from '@holdfast/runtime'
import type { HttpReply, HttpRequest, HttpRoute, Log } from '@holdfast/runtime'
import type { Authority } from './authority.ts'
import type { IdentityErrorCode } from './error-codes.ts'
import { type Joining, JoinRateLimited } from './joining.ts'
import { identityLimits } from './limits.ts'
import { serverTlsOptions } from './tls-options.ts'

export interface JoinServerOptions {
  readonly host: string
  /** 0 takes any free port. */
  readonly port: number
}

export interface JoinServerComponents {
  readonly authority: Authority
  readonly joining: Joining
  readonly log: Log
}

const timeoutMs = identityLimits.joinRequestTimeoutSeconds.value * 1000
const drainMs = 500

interface Refusal { readonly status: number, readonly title: string }

/** How each identity error that a request can end in is answered. */
const refusals: Readonly<Partial<Record<string, Refusal>>> = {
  TOKEN_REQUEST_INVALID: { status: 400, title: 'Not a request for a token' },
  TOKENS_FULL: { status: 409, title: 'Too many tokens' },
  TOKEN_MISSING: { status: 401, title: 'No token' },
  TOKEN_UNKNOWN: { status: 401, title: 'Token unknown' },
  TOKEN_EXPIRED: { status: 401, title: 'Token expired' },
  TOKEN_USED_UP: { status: 401, title: 'Token used up' },
  TOKEN_WRONG_NODE: { status: 403, title: 'Token of another node' },
  JOIN_REQUEST_INVALID: { status: 400, title: 'Not a join' },
  JOIN_BODY_TOO_LARGE: { status: 413, title: 'Body too large' },
  JOIN_MEDIA_TYPE: { status: 415, title: 'Media type not supported' },
  JOIN_RATE_LIMITED: { status: 429, title: 'Too many failed joins' },
  JOIN_NOT_STORED: { status: 503, title: 'Not stored' }
} satisfies Partial<Record<IdentityErrorCode, Refusal>>

/** The answer to an identity error, with its `code`; anything else comes back as it is, for the server's log. */
export function identityProblem(error: unknown): unknown {
  const code = codeOfError(error)
  const refusal = code === undefined ? undefined : refusals[code]
  if (refusal === undefined) return error
  return new HttpProblem(refusal.status, {
    type: code!, title: refusal.title, detail: (error as HoldfastError).message, extensions: { code },
    headers: {
      ...error instanceof JoinRateLimited && { 'retry-after': String(error.retryAfterSeconds) },
      ...refusal.status === 401 && { 'www-authenticate': 'Bearer' }
    }
  })
}

/**
 * The HTTPS server for machines without an identity: `GET /v1/ca`, `POST /v1/join`, `GET /healthz`. Errors are problem
 * documents [RFC 9457] with the error's `code`. Everything a peer can make large or slow is bounded (`identityLimits`).
 * Rejects with `LISTEN_FAILED`.
 */
export async function openJoinServer(options: JoinServerOptions, components: JoinServerComponents): Promise<HttpServer> {
  const { authority, joining, log } = components
  const text = (path: string, type: string, body: () => string): HttpRoute => ({
    method: 'GET', path, handle: () => ({ status: 200, headers: { 'content-type': type, 'cache-control': 'no-store' }, body: body() })
  })
  return await HttpServer.open({
    name: 'https',
    host: options.host,
    port: options.port,
    tls: serverTlsOptions(authority, 'https'),
    bodyBytesMax: identityLimits.joinBodyBytes.value,
    connectionsMax: identityLimits.joinConnections.value,
    requestsInFlightMax: identityLimits.joinConnections.value,
    headersTimeoutMs: timeoutMs,
    requestTimeoutMs: timeoutMs,
    idleTimeoutMs: timeoutMs,
    drainMs
  }, [
    text('/v1/ca', 'application/x-pem-file', () => joining.handleCa()),
    text('/healthz', 'text/plain; charset=utf-8', () => 'ok\n'),
    joinRoute(joining)
  ], { log })
}

function joinRoute(joining: Joining): HttpRoute {
  return {
    method: 'POST',
    path: '/v1/join',
    async handle(request): Promise<HttpReply> {
      try {
        const answer = await joining.handleJoin({
          authorization: request.headers.authorization,
          remoteAddress: request.remoteAddress,
          host: request.headers.host,
          readBody: () => readJson(request)
        })
        return {
          status: 201, headers: { 'content-type': 'application/json', 'cache-control': 'no-store' },
          body: JSON.stringify(answer) + '\n'
        }
      } catch (error) {
        throw identityProblem(error)
      }
    }
  }
}

/** The body, bounded. Rejects with `JOIN_MEDIA_TYPE`, `JOIN_BODY_TOO_LARGE` or `JOIN_REQUEST_INVALID`. */
async function readJson(request: HttpRequest): Promise<unknown> {
  if (!/^application\/json\s*(;|$)/i.test(request.headers['content-type'] ?? '')) {
    throw failure('JOIN_MEDIA_TYPE', 'expected Content-Type: application/json')
  }
  const body = await request.body().catch((error: unknown) => {
    if (!(error instanceof HttpProblem) || error.status !== 413) throw error
    throw failure('JOIN_BODY_TOO_LARGE', `expected a body of at most ${identityLimits.joinBodyBytes.value} bytes`)
  })
  try {
    return JSON.parse(body.toString('utf8')) as unknown
  } catch (error) {
    throw failure('JOIN_REQUEST_INVALID', `expected the body to be JSON, {"node": "…", "csr": "…"}: ${describeError(error)}`)
  }
}

const failure = (code: IdentityErrorCode, message: string): HoldfastError => new HoldfastError(code, message)
