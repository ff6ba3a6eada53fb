// HTTP for the API. @holdfast/runtime's HttpServer is not used because it answers from a table of routes of fixed length,
// refuses with RFC 9457 problems where clients of Kubernetes expect a Status, and hides the socket whose certificate names
// the client.
import { once } from 'node:events'
import type { IncomingHttpHeaders, IncomingMessage, Server, ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { discardRest, endpointUrl, listenOn, readBody, refuseUnparsed, type BodyRefusals, type Clock } from '@holdfast/runtime'
import { kubeApiServerLimits as limits } from './limits.ts'
import { badRequest, bodyTooLarge } from './refusals.ts'

export interface TlsMaterial {
  readonly certificatePem: string
  readonly keyPem: string
  /** CA of client certificates; absent: none are asked for. */
  readonly clientCaPem?: string
}

export interface HttpHostOptions {
  /** Of the configuration's section with its host and port; for log lines and errors. */
  readonly name: string
  readonly host: string
  /** 0 takes any free port. */
  readonly port: number
  /** Absent: plain HTTP. */
  readonly tls?: TlsMaterial
}

/** A request and what it takes to answer it, wherever it comes from. */
export interface ApiExchange {
  /** Names of headers in lower case; `url` is the path with the query. */
  readonly request: { readonly method?: string | undefined, readonly url?: string | undefined, readonly headers: IncomingHttpHeaders }
  /** Aborts when the exchange is over, whether or not the client has its answer, or the server stops. */
  readonly signal: () => AbortSignal
  /** The whole body. Rejects with StatusError 413 past the bound. */
  readonly body: () => Promise<Buffer>
}

export interface HttpExchange extends ApiExchange {
  readonly request: IncomingMessage
}

export interface ApiReply {
  readonly status: number
  /** Names in lower case. */
  readonly headers?: Readonly<Record<string, string | string[]>>
  /** Pieces of an iterable are written at the client's pace. */
  readonly body?: string | Uint8Array | Iterable<string> | AsyncIterable<string | Uint8Array>
  /** The connection is cut when this aborts before the end. */
  readonly cut?: AbortSignal
}

/** Never rejects. */
export type ApiHandler = (exchange: HttpExchange) => Promise<ApiReply>

const chunkBytes = 65_536
const isOver = new Error('the exchange is over')
const bodyRefusals: BodyRefusals = { tooLarge: bodyTooLarge, cutShort: () => badRequest('the body was cut short') }

export class HttpHost implements AsyncDisposable {
  readonly #options: HttpHostOptions
  readonly #server: Server
  readonly #handler: ApiHandler
  readonly #clock: Clock
  readonly #sockets = new Set<Socket>()
  readonly #stop = new AbortController()
  #closed: Promise<void> | undefined

  private constructor(server: Server, options: HttpHostOptions, handler: ApiHandler, clock: Clock) {
    this.#options = options
    this.#server = server
    this.#handler = handler
    this.#clock = clock
    const listener = (request: IncomingMessage, response: ServerResponse): void => void this.#answer(request, response)
    server.on('request', listener)
    server.on('checkContinue', listener)
    server.on('clientError', refuseUnparsed)
    // Before the TLS handshake and the first request the server knows of no connection.
    server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket)
      socket.on('close', () => this.#sockets.delete(socket))
    })
    server.maxConnections = limits.connectionsMax.value
    server.maxHeadersCount = 100
  }

  /** Binds the port. Rejects with `LISTEN_FAILED`. */
  static async open(options: HttpHostOptions, handler: ApiHandler, clock: Clock): Promise<HttpHost> {
    const bounds = {
      maxHeaderSize: limits.headerBytesMax.value,
      headersTimeout: limits.headersTimeoutMs.value,
      requestTimeout: limits.requestTimeoutMs.value,
      keepAliveTimeout: limits.idleTimeoutMs.value,
      noDelay: true
    }
    const { tls } = options
    const server = tls === undefined
      ? (await import('node:http')).createServer(bounds)
      : (await import('node:https')).createServer({
        cert: tls.certificatePem,
        key: tls.keyPem,
        minVersion: 'TLSv1.2',
        ...tls.clientCaPem !== undefined && { ca: tls.clientCaPem, requestCert: true, rejectUnauthorized: false },
        ...bounds
      })
    const host = new HttpHost(server, options, handler, clock)
    await listenOn(server, options)
    return host
  }

  get port(): number { return (this.#server.address() as AddressInfo).port }

  get url(): string {
    return endpointUrl(this.#options.tls === undefined ? 'http' : 'https', this.#options.host, this.port)
  }

  async [Symbol.asyncDispose](): Promise<void> { await this.close() }

  /** Accepts nothing more, lets requests in flight finish for a while, then cuts them. Idempotent. */
  close(): Promise<void> {
    this.#closed ??= new Promise(resolve => {
      const cut = this.#clock.after(limits.drainMs.value, () => { for (const socket of this.#sockets) socket.destroy() })
      this.#server.close(() => {
        cut.cancel()
        resolve()
      })
      this.#stop.abort(new Error(`${this.#options.name} stops`))
      this.#server.closeIdleConnections()
    })
    return this.#closed
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const gone = new AbortController()
    const leave = (): void => gone.abort(isOver)
    response.on('close', leave).on('error', leave)
    try {
      const reply = await this.#handler({
        request,
        // Made where somebody waits for it: it takes as long as all else here.
        signal: () => AbortSignal.any([gone.signal, this.#stop.signal]),
        body: () => readBody(request, response, limits.bodyBytesMax.value, bodyRefusals)
      })
      if (this.#stop.signal.aborted) response.setHeader('connection', 'close')
      await this.#send(reply, request, response, gone.signal)
    } catch {
      // The status line has gone out or the client has: cutting the connection is all that can still be said.
      response.destroy()
    } finally {
      discardRest(request, limits.bodyBytesMax.value)
      // A connection that is kept alive for a next request would keep the server from closing.
      if (this.#stop.signal.aborted) this.#clock.soon(() => this.#server.closeIdleConnections())
    }
  }

  async #send(
    { status, headers: own, body = '', cut }: ApiReply, request: IncomingMessage, response: ServerResponse, gone: AbortSignal
  ): Promise<void> {
    const headers = { 'cache-control': 'no-cache, private', ...own }
    if (typeof body === 'string' || body instanceof Uint8Array) {
      const length = status === 304 ? {} : { 'content-length': Buffer.byteLength(body) }
      response.writeHead(status, { ...headers, ...length })
      response.end(request.method === 'HEAD' ? undefined : body)
      return
    }
    cut?.addEventListener('abort', () => response.destroy(), { once: true })
    response.writeHead(status, headers)
    response.flushHeaders()
    if (Symbol.asyncIterator in body) {
      for await (const piece of body) await this.#write(piece, response, gone)
    } else {
      let chunk = ''
      for (const piece of body) {
        chunk += piece
        if (chunk.length < chunkBytes) continue
        await this.#write(chunk, response, gone)
        chunk = ''
      }
      if (chunk !== '') await this.#write(chunk, response, gone)
    }
    response.end()
  }

  /** A client that takes nothing for too long is cut: it holds memory for as long as it lives. */
  async #write(piece: string | Uint8Array, response: ServerResponse, gone: AbortSignal): Promise<void> {
    gone.throwIfAborted()
    if (response.write(piece)) return
    const cut = this.#clock.after(limits.slowClientMs.value, () => response.destroy())
    try {
      await once(response, 'drain', { signal: gone })
    } finally {
      cut.cancel()
    }
  }
}
