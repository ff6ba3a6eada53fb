import { createServer } from 'node:https'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describeError, HoldfastError, type Log, type Service } from '@holdfast/runtime'
import type { Authority } from './authority.ts'
import type { IdentityErrorCode } from './error-codes.ts'
import { type Joining, JoinRateLimited } from './joining.ts'
import { identityLimits } from './limits.ts'
import { serverTlsOptions } from './tls-options.ts'

export interface HttpsServerOptions {
  readonly host: string
  /** 0 takes any free port. */
  readonly port: number
}

export interface HttpsServerComponents {
  readonly authority: Authority
  readonly joining: Joining
  readonly log: Log
}

const bodyBytesMax = identityLimits.joinBodyBytes.value
/** So much of a body that is too large is read and thrown away, so that its sender is there to read the answer. */
const discardedBytesMax = 16 * bodyBytesMax

const timeoutMs = identityLimits.joinRequestTimeoutSeconds.value * 1000

/** HTTP status of each identity error that a request can end in. */
export const identityErrorStatus: Readonly<Partial<Record<string, number>>> = {
  TOKEN_REQUEST_INVALID: 400,
  TOKENS_FULL: 409,
  TOKEN_MISSING: 401,
  TOKEN_UNKNOWN: 401,
  TOKEN_EXPIRED: 401,
  TOKEN_USED_UP: 401,
  TOKEN_WRONG_NODE: 403,
  JOIN_REQUEST_INVALID: 400,
  JOIN_BODY_TOO_LARGE: 413,
  JOIN_MEDIA_TYPE: 415,
  JOIN_RATE_LIMITED: 429,
  JOIN_NOT_STORED: 503
} satisfies Partial<Record<IdentityErrorCode, number>>

/**
 * The HTTPS listener for machines without an identity: `GET /v1/ca`, `POST /v1/join`, `GET /healthz`. Errors are
 * problem documents [RFC 9457] with the error's `code`. Everything a peer can make large or slow is bounded
 * (`identityLimits`).
 */
export class HttpsServer implements Service {
  readonly name = 'https'
  readonly #options: HttpsServerOptions
  readonly #components: HttpsServerComponents
  readonly #listening = Promise.withResolvers<number>()

  constructor(options: HttpsServerOptions, components: HttpsServerComponents) {
    this.#options = options
    this.#components = components
    this.#listening.promise.catch(() => undefined)
  }

  /** The port, once it is listened on. Rejects with `LISTEN_FAILED`, as `run` does. */
  get listening(): Promise<number> { return this.#listening.promise }

  async run(signal: AbortSignal): Promise<void> {
    const { authority, log } = this.#components
    const { host, port } = this.#options
    const server = createServer({
      ...serverTlsOptions(authority, 'https'),
      maxHeaderSize: identityLimits.joinHeaderBytes.value,
      headersTimeout: timeoutMs,
      requestTimeout: timeoutMs,
      keepAliveTimeout: timeoutMs,
      connectionsCheckingInterval: 5000
    }, (request, response) => { void this.#answer(request, response) })
    server.maxConnections = identityLimits.joinConnections.value
    const ended = Promise.withResolvers<void>()
    server.on('error', error => {
      const failed = new HoldfastError('LISTEN_FAILED',
        `https ${host}:${port}: ${describeError(error)}: set another port, or 0 for any free one`, { cause: error })
      this.#listening.reject(failed)
      ended.reject(failed)
    })
    const stop = (): void => { ended.resolve() }
    signal.addEventListener('abort', stop, { once: true })
    if (signal.aborted) stop()
    server.listen(port, host, () => {
      const bound = (server.address() as AddressInfo).port
      log.info('https listening', { host, port: bound })
      this.#listening.resolve(bound)
    })
    try {
      await ended.promise
    } finally {
      signal.removeEventListener('abort', stop)
      await new Promise<void>(resolve => {
        server.close(() => resolve())
        server.closeAllConnections()
      })
    }
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      await this.#route(request, response)
    } catch (error) {
      if (!response.headersSent && !response.destroyed) this.#sendError(request, response, error)
    }
  }

  async #route(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { joining } = this.#components
    const path = request.url?.split('?')[0]
    const method = path === '/v1/join' ? 'POST' : path === '/v1/ca' || path === '/healthz' ? 'GET' : undefined
    if (method === undefined) {
      sendProblem(request, response, 404, { detail: 'there are /v1/ca, /v1/join and /healthz' })
    } else if (request.method !== method && !(request.method === 'HEAD' && method === 'GET')) {
      response.setHeader('Allow', method === 'GET' ? 'GET, HEAD' : method)
      sendProblem(request, response, 405, { detail: `use ${method}` })
    } else if (path === '/v1/ca') {
      send(request, response, 200, 'application/x-pem-file', joining.handleCa())
    } else if (path === '/healthz') {
      send(request, response, 200, 'text/plain; charset=utf-8', 'ok\n')
    } else {
      const answer = await joining.handleJoin({
        authorization: request.headers.authorization,
        remoteAddress: request.socket.remoteAddress ?? '',
        host: request.headers.host,
        readBody: () => readJson(request)
      })
      send(request, response, 201, 'application/json', JSON.stringify(answer) + '\n')
    }
  }

  #sendError(request: IncomingMessage, response: ServerResponse, error: unknown): void {
    const code = error instanceof HoldfastError ? (error as HoldfastError).code : undefined
    const status = code === undefined ? undefined : identityErrorStatus[code]
    if (error instanceof JoinRateLimited) response.setHeader('Retry-After', error.retryAfterSeconds)
    if (status === 401) response.setHeader('WWW-Authenticate', 'Bearer')
    if (status === undefined || code === undefined) {
      this.#components.log.error('request failed', { url: request.url, reason: describeError(error) })
      sendProblem(request, response, 500, { detail: 'the cause is in the log of cloudcore' })
      return
    }
    sendProblem(request, response, status, { detail: (error as Error).message, code })
  }
}

const titles: Readonly<Record<number, string>> = {
  400: 'Bad Request', 401: 'Unauthorized', 403: 'Forbidden', 404: 'Not Found', 405: 'Method Not Allowed',
  409: 'Conflict', 413: 'Content Too Large', 415: 'Unsupported Media Type', 429: 'Too Many Requests',
  500: 'Internal Server Error', 503: 'Service Unavailable'
}

interface ProblemMembers { readonly detail: string; readonly code?: string }

function sendProblem(
  request: IncomingMessage, response: ServerResponse, status: number, members: ProblemMembers
): void {
  const problem = { type: 'about:blank', title: titles[status], status, ...members }
  send(request, response, status, 'application/problem+json', JSON.stringify(problem) + '\n')
}

/** Ends the exchange; where the body was not read to its end, the connection too. */
function send(request: IncomingMessage, response: ServerResponse, status: number, type: string, body: string): void {
  const whole = request.complete || request.method === 'GET' || request.method === 'HEAD'
  response.writeHead(status, {
    'Content-Type': type,
    'Content-Length': Buffer.byteLength(body),
    'Cache-Control': 'no-store',
    ...whole ? {} : { Connection: 'close' }
  })
  response.end(request.method === 'HEAD' ? undefined : body)
}

/** The body, bounded. Rejects with `JOIN_MEDIA_TYPE`, `JOIN_BODY_TOO_LARGE` or `JOIN_REQUEST_INVALID`. */
async function readJson(request: IncomingMessage): Promise<unknown> {
  if (!/^application\/json\s*(;|$)/i.test(request.headers['content-type'] ?? '')) {
    throw failure('JOIN_MEDIA_TYPE', 'expected Content-Type: application/json')
  }
  const tooLarge = failure('JOIN_BODY_TOO_LARGE', `expected a body of at most ${bodyBytesMax} bytes`)
  if (Number(request.headers['content-length'] ?? 0) > discardedBytesMax) throw tooLarge
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes <= bodyBytesMax) chunks.push(chunk)
    if (bytes > discardedBytesMax) throw tooLarge
  }
  if (bytes > bodyBytesMax) throw tooLarge
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8')) as unknown
  } catch {
    throw failure('JOIN_REQUEST_INVALID', 'expected the body to be JSON: {"node": "…", "csr": "…"}')
  }
}

const failure = (code: IdentityErrorCode, message: string): HoldfastError => new HoldfastError(code, message)
