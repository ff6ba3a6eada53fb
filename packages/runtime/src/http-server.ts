import { once } from 'node:events'
import type { IncomingMessage, OutgoingHttpHeaders, RequestListener, Server, ServerResponse } from 'node:http'
import type { ServerOptions as TlsServerOptions } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { endpointUrl } from './endpoints.ts'
import { describeError, HoldfastError } from './errors.ts'
import { discardRest, listenOn, readBody, refuseUnparsed } from './http-message.ts'
import type { BodyRefusals } from './http-message.ts'
import type { Log } from './log.ts'
import type { Service } from './service.ts'

export interface HttpServerOptions {
  /** Of the configuration's section with its host and port; for log lines and problems. */
  readonly name: string
  readonly host: string
  /** 0 takes any free port. */
  readonly port: number
  /** Longest request body; past it 413, before reading where Content-Length says so. */
  readonly bodyBytesMax: number
  /** Connections at a time; one more is closed at once. */
  readonly connectionsMax: number
  /** Requests being handled at a time; one more is answered 503 with Retry-After. */
  readonly requestsInFlightMax: number
  /** From the connection's start to the end of the headers; past it 408 and the connection is closed. */
  readonly headersTimeoutMs: number
  /** From the connection's start to the end of the body; past it 408 and the connection is closed. */
  readonly requestTimeoutMs: number
  /** Between requests of a connection. */
  readonly idleTimeoutMs: number
  /** How long requests in flight may take to finish when the server stops. */
  readonly drainMs: number
  /** Given: HTTPS. */
  readonly tls?: TlsServerOptions
}

export interface HttpServerComponents { readonly log: Log }

/** A request as a handler sees it. Header names are in lower case. */
export interface HttpRequest {
  readonly method: string
  /** As it was sent, without the query; not decoded. */
  readonly path: string
  /** The named parts of the route's path, decoded. */
  readonly params: Readonly<Record<string, string>>
  readonly query: URLSearchParams
  readonly headers: IncomingMessage['headers']
  /** Address of the client; '' once it is gone. */
  readonly remoteAddress: string
  /** Aborts when the client is gone or the server stops. */
  readonly signal: AbortSignal
  /** The whole body. Rejects with problem 413 past the bound. */
  readonly body: () => Promise<Buffer>
}

export interface HttpReply {
  readonly status: number
  readonly headers?: OutgoingHttpHeaders
  /** Chunks of an iterable are written at the client's pace. */
  readonly body?: string | Uint8Array | AsyncIterable<string | Uint8Array>
  /**
   * Of a body that goes on for as long as its reader likes: it does not count as a request in flight (its route bounds
   * how many there are), and is cut where its reader takes nothing for so long, milliseconds.
   */
  readonly lasting?: { readonly stallMs: number }
}

export interface HttpRoute {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  /** `/v1/devices/{namespace}/{name}/telemetry`: a name in braces stands for one segment that is not empty. */
  readonly path: string
  /** A thrown HttpProblem becomes its document; anything else a 500, logged once. */
  handle(request: HttpRequest): HttpReply | Promise<HttpReply>
}

export interface ProblemFields {
  /** A stable identifier, usually an error code; `about:blank` without one. */
  readonly type?: string
  readonly title: string
  readonly detail?: string
  readonly headers?: OutgoingHttpHeaders
  /** Further members of the document. */
  readonly extensions?: Readonly<Record<string, unknown>>
}

/** A refusal that the client is told about, as RFC 9457 problem details. */
export class HttpProblem extends Error {
  readonly status: number
  readonly fields: ProblemFields

  constructor(status: number, fields: ProblemFields) {
    super(fields.detail ?? fields.title)
    this.name = 'HttpProblem'
    this.status = status
    this.fields = fields
  }

  reply(): HttpReply {
    const { type = 'about:blank', title, detail, headers, extensions } = this.fields
    return {
      status: this.status,
      headers: { ...headers, 'content-type': 'application/problem+json' },
      body: JSON.stringify({ type, title, status: this.status, detail, ...extensions }) + '\n'
    }
  }
}

/** A JSON document. */
export function jsonReply(value: unknown, status = 200): HttpReply {
  return { status, headers: { 'content-type': 'application/json' }, body: JSON.stringify(value) + '\n' }
}

const headerBytesMax = 16_384
const headersMax = 100

interface Parts { readonly route: HttpRoute, readonly segments: readonly string[] }

/** An HTTP server over a table of routes. It answers from `open` on, until `run`'s signal or disposal. */
export class HttpServer implements Service, AsyncDisposable {
  readonly name: string
  readonly #options: HttpServerOptions
  readonly #log: Log
  readonly #server: Server
  readonly #routes: readonly Parts[]
  /** Also those that are still in the TLS handshake, of which the HTTP server does not know yet. */
  readonly #sockets = new Set<Socket>()
  readonly #stop = new AbortController()
  #requestsInFlight = 0
  #closed: Promise<void> | undefined

  private constructor(
    server: Server, options: HttpServerOptions, routes: readonly HttpRoute[], components: HttpServerComponents
  ) {
    this.name = options.name
    this.#options = options
    this.#log = components.log.with({ server: options.name })
    this.#server = server
    this.#routes = routes.map(route => ({ route, segments: route.path.split('/') }))
    const listener: RequestListener = (request, response) => void this.#answer(request, response)
    server.on('request', listener)
    server.on('checkContinue', listener)
    server.maxConnections = options.connectionsMax
    server.maxHeadersCount = headersMax
    server.on('clientError', refuseUnparsed)
    server.on('tlsClientError', (_error: Error, socket: Socket) => { socket.destroy() })
    server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket)
      socket.on('close', () => this.#sockets.delete(socket))
    })
  }

  /** Binds the port. Rejects with `LISTEN_FAILED`. */
  static async open(
    options: HttpServerOptions, routes: readonly HttpRoute[], components: HttpServerComponents
  ): Promise<HttpServer> {
    const limits = {
      maxHeaderSize: headerBytesMax,
      headersTimeout: options.headersTimeoutMs,
      requestTimeout: options.requestTimeoutMs,
      keepAliveTimeout: options.idleTimeoutMs,
      connectionsCheckingInterval: Math.max(50, Math.min(options.headersTimeoutMs, options.requestTimeoutMs, 5000) / 4),
      noDelay: true
    }
    const server = options.tls === undefined
      ? (await import('node:http')).createServer(limits)
      : (await import('node:https')).createServer({ ...options.tls, ...limits })
    const http = new HttpServer(server, options, routes, components)
    await listenOn(server, options)
    return http
  }

  /** The port that is listened on. */
  get port(): number { return (this.#server.address() as AddressInfo).port }

  get url(): string {
    return endpointUrl(this.#options.tls === undefined ? 'http' : 'https', this.#options.host, this.port)
  }

  /** Requests being handled now. */
  get requestsInFlight(): number { return this.#requestsInFlight }

  async run(signal: AbortSignal): Promise<void> {
    if (!signal.aborted) await once(signal, 'abort')
    await this.close()
  }

  async [Symbol.asyncDispose](): Promise<void> { await this.close() }

  /** Accepts nothing more, lets requests in flight finish for `drainMs`, then cuts them. Idempotent. */
  close(): Promise<void> {
    this.#closed ??= new Promise(resolve => {
      const cut = setTimeout(() => { for (const socket of this.#sockets) socket.destroy() }, this.#options.drainMs)
      this.#server.close(() => {
        clearTimeout(cut)
        resolve()
      })
      this.#stop.abort(new Error(`${this.name} stops`))
      this.#server.closeIdleConnections()
    })
    return this.#closed
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const gone = new AbortController()
    response.on('close', () => gone.abort(new Error('the client is gone')))
    response.on('error', () => gone.abort(new Error('the client is gone')))
    const signal = AbortSignal.any([gone.signal, this.#stop.signal])
    let inFlight = true
    this.#requestsInFlight++
    const handled = (): void => {
      if (inFlight) this.#requestsInFlight--
      inFlight = false
    }
    try {
      const reply = await this.#reply(request, response, signal)
      if (this.#stop.signal.aborted) response.setHeader('connection', 'close')
      if (reply.lasting !== undefined) handled()
      await send(reply, request, response, gone.signal)
    } catch (error) {
      // The status line has gone out or the client has: cutting the connection is all that can still be said.
      if (!gone.signal.aborted && !this.#stop.signal.aborted) {
        this.#log.error('a reply broke off', { path: request.url, error: describeError(error) })
      }
      response.destroy()
    } finally {
      handled()
      discardRest(request, this.#options.bodyBytesMax)
    }
  }

  async #reply(request: IncomingMessage, response: ServerResponse, signal: AbortSignal): Promise<HttpReply> {
    try {
      if (this.#requestsInFlight > this.#options.requestsInFlightMax) {
        throw new HttpProblem(503, {
          title: 'Too many requests in flight',
          detail: `${this.#options.requestsInFlightMax} requests are being handled; try again`,
          headers: { 'retry-after': '1' }
        })
      }
      const target = request.url ?? '/'
      const mark = target.indexOf('?')
      const path = mark === -1 ? target : target.slice(0, mark)
      const { route, params } = this.#routed(request.method ?? '', path)
      return await route.handle({
        method: request.method ?? '',
        path,
        params,
        query: new URLSearchParams(mark === -1 ? '' : target.slice(mark + 1)),
        headers: request.headers,
        remoteAddress: request.socket.remoteAddress ?? '',
        signal,
        body: () => readBody(request, response, this.#options.bodyBytesMax, bodyRefusals)
      })
    } catch (error) {
      if (error instanceof HttpProblem) return error.reply()
      if (!signal.aborted) {
        this.#log.error('a request failed', {
          method: request.method, path: request.url, error: describeError(error),
          ...(error instanceof Error && !(error instanceof HoldfastError) && { stack: error.stack })
        })
      }
      return new HttpProblem(500, { title: 'Internal error', detail: 'the log says what happened' }).reply()
    }
  }

  #routed(method: string, path: string): { route: HttpRoute, params: Record<string, string> } {
    const segments = path.split('/')
    const wanted = method === 'HEAD' ? 'GET' : method
    const allowed = new Set<string>()
    for (const { route, segments: pattern } of this.#routes) {
      const params = matched(pattern, segments)
      if (params === undefined) continue
      if (route.method === wanted) return { route, params }
      allowed.add(route.method)
      if (route.method === 'GET') allowed.add('HEAD')
    }
    if (allowed.size === 0) throw new HttpProblem(404, { title: 'Not found', detail: `nothing is served at ${path}` })
    const allow = [...allowed].join(', ')
    throw new HttpProblem(405, { title: 'Method not allowed', detail: `${path} takes ${allow}`, headers: { allow } })
  }
}

function matched(pattern: readonly string[], segments: readonly string[]): Record<string, string> | undefined {
  if (pattern.length !== segments.length) return undefined
  const params: Record<string, string> = {}
  for (const [i, part] of pattern.entries()) {
    const segment = segments[i]!
    if (!part.startsWith('{')) {
      if (part !== segment) return undefined
      continue
    }
    if (segment === '') return undefined
    params[part.slice(1, -1)] = decoded(segment)
  }
  return params
}

function decoded(segment: string): string {
  try {
    return decodeURIComponent(segment)
  } catch (error) {
    const detail = `${segment} is not percent-encoded UTF-8: ${describeError(error)}`
    throw new HttpProblem(400, { title: 'Bad path', detail })
  }
}

const bodyRefusals: BodyRefusals = {
  tooLarge: bytesMax => new HttpProblem(413, {
    title: 'Body too large', detail: `a body may have ${bytesMax} bytes`, extensions: { bytesMax }
  }),
  cutShort: () => new HttpProblem(400, { title: 'Body cut short' })
}

async function send(
  reply: HttpReply, request: IncomingMessage, response: ServerResponse, gone: AbortSignal
): Promise<void> {
  const { status, headers = {}, body = '', lasting } = reply
  if (typeof body === 'string' || body instanceof Uint8Array) {
    response.writeHead(status, { ...headers, 'content-length': Buffer.byteLength(body) })
    response.end(request.method === 'HEAD' ? undefined : body)
    return
  }
  response.writeHead(status, headers)
  if (request.method === 'HEAD') {
    response.end()
    return
  }
  response.flushHeaders()
  for await (const chunk of body) {
    gone.throwIfAborted()
    if (!response.write(chunk)) await drained(response, gone, lasting?.stallMs)
  }
  response.end()
}

/** Rejects when the client is gone; one that takes nothing for `stallMs` is sent away. */
async function drained(response: ServerResponse, gone: AbortSignal, stallMs: number | undefined): Promise<void> {
  const stalled = stallMs === undefined ? undefined : setTimeout(() => response.destroy(), stallMs)
  try {
    await once(response, 'drain', { signal: gone })
  } finally {
    clearTimeout(stalled)
  }
}
