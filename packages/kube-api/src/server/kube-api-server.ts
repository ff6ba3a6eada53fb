import { isIP } from 'node:net'
import { describeError, hasCode, HoldfastError, type Clock, type Log, type Random, type Service } from '@holdfast/runtime'
import type { ObjectSource, ObjectWriter } from '../object-store-types.ts'
import type { Registry, ServedResource } from '../registry.ts'
import { StatusError } from '../status-error.ts'
import { Authentication, type TokenUser, type User } from './authentication.ts'
import { anonymousReadsHealth, type Authorizer, type RequestAttributes } from './authorization.ts'
import { Documents, type ServerVersion } from './documents.ts'
import { HttpHost, type ApiExchange, type ApiReply, type HttpExchange, type TlsMaterial } from './http-host.ts'
import { jsonReply } from './json-reply.ts'
import { kubeApiServerLimits as limits } from './limits.ts'
import { ObjectReads } from './object-reads.ts'
import type { ObjectRequest } from './object-request.ts'
import { ObjectView } from './object-view.ts'
import { ObjectWrites } from './object-writes.ts'
import {
  badRequest, internalError, methodNotAllowed, notFound, nothingThere, subresourceNotServed, tooManyRequests
} from './refusals.ts'
import { parseBoolean } from './request-options.ts'
import { parseTarget, type ResourceTarget } from './request-target.ts'
import { failureStatus } from './status-body.ts'
import { warningHeaders } from './warnings.ts'

export interface KubeApiServerOptions {
  /** For log lines and errors. */
  readonly name: string
  /** Loopback unless others are meant to reach it. */
  readonly host: string
  /** 0 takes any free port. */
  readonly port: number
  /** Absent: plain HTTP, for loopback only. */
  readonly tls?: TlsMaterial
  readonly tokens: readonly TokenUser[]
  readonly version: ServerVersion
  /** Names that a Host header may have besides loopback's, where the server listens on loopback. */
  readonly hostNames?: readonly string[]
}

export interface KubeApiServerComponents {
  readonly registry: Registry
  /** An ObjectWriter where writes are served. */
  readonly objects: ObjectSource | ObjectWriter
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  /** Absent: whoever is known may do everything, anonymous clients may read the version and health. */
  readonly authorizer?: Authorizer
  /** Why the server is not ready; undefined where it is. */
  readonly notReady?: () => string | undefined
}

/** What to do with a request whose resource is known. */
type Verb = 'get' | 'list' | 'watch' | 'create' | 'update' | 'patch' | 'delete' | 'deletecollection'

const isWriter = (objects: ObjectSource | ObjectWriter): objects is ObjectWriter => 'write' in objects

const loopbackHosts = new Set(['127.0.0.1', '::1', 'localhost'])

/**
 * The REST API of Kubernetes over an ObjectSource: discovery, objects, watches, OpenAPI, version and health. It answers
 * from `open` on, until `run`'s signal or disposal. Everything it refuses is answered with a Status.
 */
export class KubeApiServer implements Service, AsyncDisposable {
  readonly name: string
  readonly #options: KubeApiServerOptions
  readonly #components: KubeApiServerComponents
  readonly #authentication: Authentication
  readonly #authorizer: Authorizer
  readonly #documents: Documents
  readonly #reads: ObjectReads
  readonly #writes: ObjectWrites | undefined
  readonly #views = new WeakMap<ServedResource, ObjectView>()
  readonly #requestsOf = new Map<string, number>()
  readonly #watchesOf = new Map<string, number>()
  #requests = 0
  #host: HttpHost | undefined

  private constructor(options: KubeApiServerOptions, components: KubeApiServerComponents) {
    const { registry, objects, clock, random } = components
    this.name = options.name
    this.#options = options
    this.#components = components
    this.#authentication = new Authentication(options.tokens)
    this.#authorizer = components.authorizer ?? anonymousReadsHealth
    this.#documents = new Documents({ version: options.version }, {
      registry, ...components.notReady !== undefined && { notReady: components.notReady }
    })
    this.#reads = new ObjectReads({ source: objects, clock, random })
    if (isWriter(objects)) this.#writes = new ObjectWrites({ writer: objects, reads: this.#reads, clock, random })
  }

  /** Binds the port. Rejects with `LISTEN_FAILED`. */
  static async open(options: KubeApiServerOptions, components: KubeApiServerComponents): Promise<KubeApiServer> {
    const server = new KubeApiServer(options, components)
    server.#host = await HttpHost.open(options, exchange => server.#answer(exchange, () => server.#senderOf(exchange)),
      components.clock)
    return server
  }

  get port(): number { return this.#host!.port }

  get url(): string { return this.#host!.url }

  /** Requests being handled now, without watches. */
  get requestsInFlight(): number { return this.#requests }

  async run(signal: AbortSignal): Promise<void> {
    if (!signal.aborted) await new Promise(resolve => signal.addEventListener('abort', resolve, { once: true }))
    await this.close()
  }

  async [Symbol.asyncDispose](): Promise<void> { await this.close() }

  /** Accepts nothing more, ends watches, lets requests in flight finish for a while. Idempotent. */
  async close(): Promise<void> { await this.#host?.close() }

  /**
   * Answers a request of this process, sent by `user`, as one that came over HTTP: the same paths, authorization and refusals. What
   * belongs to the connection is not there: the bound on a body, and the end of what is under way at `close`. `signal` ends a
   * watch. Never rejects.
   */
  answer(exchange: ApiExchange, user: User): Promise<ApiReply> { return this.#answer(exchange, () => user) }

  async #answer(exchange: ApiExchange, senderOf: () => User): Promise<ApiReply> {
    try {
      return await this.#reply(exchange, senderOf())
    } catch (error) {
      if (error instanceof StatusError) return refusal(error)
      // Whoever has the store has logged the failed write; a line for each request that meets it would say no more.
      if (hasCode(error, 'STORE_FAILED')) return refusal(internalError((error as HoldfastError).message))
      const { method, url } = exchange.request
      if (!exchange.signal().aborted) {
        this.#components.log.error('a request failed', {
          method, path: url, error: describeError(error),
          ...error instanceof Error && !(error instanceof HoldfastError) && { stack: error.stack }
        })
      }
      return refusal(internalError('the log says what happened'))
    }
  }

  #senderOf({ request }: HttpExchange): User {
    this.#checkHost(request.headers.host)
    return this.#authentication.userOf(request)
  }

  async #reply(exchange: ApiExchange, user: User): Promise<ApiReply> {
    const { request } = exchange
    const url = request.url ?? '/'
    const mark = url.indexOf('?')
    const path = mark === -1 ? url : url.slice(0, mark)
    const query = new URLSearchParams(mark === -1 ? '' : url.slice(mark + 1))
    const target = targetOf(path)
    const method = request.method ?? ''
    const attributes = attributesOf(method, path, target.kind === 'resource' ? target : undefined, query)
    const refused = this.#authorizer(user, attributes)
    if (refused !== undefined) throw refused
    if (attributes.verb === 'watch') return this.#resource(exchange, target as ResourceTarget, query, attributes, user)
    return this.#bounded(user, () => target.kind === 'document'
      ? this.#documents.reply(method, target.path, query, request.headers)
      : this.#resource(exchange, target, query, attributes, user))
  }

  /** A page of another origin that has bound its name to loopback is refused by the name it uses. */
  #checkHost(header: string | undefined): void {
    const { host, hostNames = [] } = this.#options
    if (!loopbackHosts.has(host) || header === undefined) return
    const name = header.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1').toLowerCase()
    if (loopbackHosts.has(name) || hostNames.includes(name)) return
    throw new StatusError(403, 'Forbidden', `this server is not called ${isIP(name) === 0 ? JSON.stringify(name) : name}`, {})
  }

  async #bounded(user: User, handle: () => ApiReply | Promise<ApiReply>): Promise<ApiReply> {
    const own = this.#requestsOf.get(user.name) ?? 0
    if (this.#requests >= limits.requestsInFlightMax.value || own >= limits.requestsPerClientMax.value) {
      throw tooManyRequests('too many requests in flight, please try again later', 1)
    }
    this.#requests++
    this.#requestsOf.set(user.name, own + 1)
    try {
      return await handle()
    } finally {
      this.#requests--
      release(this.#requestsOf, user.name)
    }
  }

  #resource(
    { request, signal, body }: ApiExchange, target: ResourceTarget, query: URLSearchParams,
    { verb }: RequestAttributes, user: User
  ): ApiReply | Promise<ApiReply> {
    const served = this.#components.registry.find(target.group, target.version, target.plural)
    if (served === undefined) return this.#unknown(target)
    const { resource, isCustom, storageVersion, deprecationWarning } = served
    if (target.namespace !== undefined && !resource.namespaced) return this.#unknown(target)
    const { subresource } = target
    if (subresource !== undefined && !(resource.subresources as readonly string[]).includes(subresource)) {
      throw isCustom ? notFound(resource, target.name!) : subresourceNotServed(resource, subresource)
    }
    const objectRequest: ObjectRequest = {
      target: target.watchPrefix ? { ...target, name: undefined } : target,
      resource,
      isCustom,
      storageVersion,
      isTerminating: () => this.#isTerminating(target),
      view: this.#viewOf(served),
      query: target.watchPrefix && target.name !== undefined ? withName(query, target.name) : query,
      headers: request.headers,
      body,
      signal
    }
    this.#checkVerb(verb, target, served)
    if (verb === 'watch') return warned(this.#watch(objectRequest, user), deprecationWarning)
    const reply = this.#handle(verb as Exclude<Verb, 'watch'>, objectRequest)
    return deprecationWarning === undefined ? reply : reply.then(answer => warned(answer, deprecationWarning))
  }

  /** A namespaced resource is written in a namespace, a new object has no name on the URL, a changed one has. */
  #checkVerb(verb: string, { name, namespace, subresource }: ResourceTarget, { resource }: ServedResource): void {
    const isWrite = verb !== 'get' && verb !== 'list' && verb !== 'watch'
    const allowed = subresource === undefined ? resource.verbs.includes(verb)
      : subresource === 'finalize' ? verb === 'update' : ['get', 'update', 'patch'].includes(verb)
    const isPlaced = !resource.namespaced || namespace !== undefined || (!isWrite && name === undefined)
    const isNamed = (verb === 'create') === (name === undefined) || !isWrite || verb === 'deletecollection'
    if (!allowed || !isPlaced || !isNamed || (isWrite && this.#writes === undefined)) throw methodNotAllowed()
  }

  #handle(verb: Exclude<Verb, 'watch'>, request: ObjectRequest): Promise<ApiReply> {
    switch (verb) {
      case 'get': return this.#reads.get(request)
      case 'list': return this.#reads.list(request)
      case 'create': return this.#writes!.create(request)
      case 'update': return this.#writes!.update(request)
      case 'patch': return this.#writes!.patch(request)
      case 'delete': return this.#writes!.delete(request)
      case 'deletecollection': return this.#writes!.deleteCollection(request)
    }
  }

  #watch(request: ObjectRequest, user: User): ApiReply {
    const own = this.#watchesOf.get(user.name) ?? 0
    if (own >= limits.watchesPerClientMax.value) {
      throw tooManyRequests(`${own} watches of ${user.name} are open, please close some`, 1)
    }
    const reply = this.#reads.watch(request)
    this.#watchesOf.set(user.name, own + 1)
    request.signal().addEventListener('abort', () => release(this.#watchesOf, user.name), { once: true })
    return reply
  }

  /** Below a group of definitions the real server knows no Status. */
  #unknown({ group, version }: ResourceTarget): ApiReply {
    const found = this.#components.registry.group(group)
    if (found === undefined || (found.isCustom && version !== '')) return this.#documents.pageNotFound()
    throw nothingThere()
  }

  /** As it is now: a body may have taken its time. */
  #isTerminating({ group, version, plural }: ResourceTarget): boolean {
    const served = this.#components.registry.find(group, version, plural)
    return served === undefined || served.isTerminating === true
  }

  #viewOf(served: ServedResource): ObjectView {
    let view = this.#views.get(served)
    if (view === undefined) {
      view = new ObjectView(served)
      this.#views.set(served, view)
    }
    return view
  }
}

function release(counts: Map<string, number>, name: string): void {
  const count = counts.get(name)! - 1
  if (count === 0) counts.delete(name)
  else counts.set(name, count)
}

function targetOf(path: string): ReturnType<typeof parseTarget> {
  try {
    return parseTarget(path)
  } catch (error) {
    throw badRequest(`the path is not percent-encoded UTF-8: ${describeError(error)}`)
  }
}

function attributesOf(
  method: string, path: string, target: ResourceTarget | undefined, query: URLSearchParams
): RequestAttributes {
  const verb = target === undefined ? method.toLowerCase() : verbOf(method, target, query)
  return { verb, path, ...target !== undefined && { target } }
}

function verbOf(method: string, { name, watchPrefix }: ResourceTarget, query: URLSearchParams): string {
  switch (method) {
    case 'GET':
      if (watchPrefix) return 'watch'
      if (name !== undefined) return 'get'
      return parseBoolean(query, 'watch') === true ? 'watch' : 'list'
    case 'POST': return 'create'
    case 'PUT': return 'update'
    case 'PATCH': return 'patch'
    case 'DELETE': return name === undefined ? 'deletecollection' : 'delete'
    default: return method.toLowerCase()
  }
}

function withName(query: URLSearchParams, name: string): URLSearchParams {
  const copy = new URLSearchParams(query)
  const given = copy.get('fieldSelector')
  copy.set('fieldSelector', given === null || given === '' ? `metadata.name=${name}` : `${given},metadata.name=${name}`)
  return copy
}

function warned(reply: ApiReply, warning: string | undefined): ApiReply {
  if (warning === undefined) return reply
  const others = reply.headers?.['warning'] ?? []
  const own = warningHeaders([warning]).warning!
  return { ...reply, headers: { ...reply.headers, warning: [...own, ...[others].flat()].map(String) } }
}

function refusal(error: StatusError): ApiReply {
  const { retryAfterSeconds } = error.details ?? {}
  return jsonReply(failureStatus(error), error.code, {
    ...retryAfterSeconds !== undefined && { 'retry-after': String(retryAfterSeconds) },
    ...error.code === 401 && { 'www-authenticate': 'Bearer' }
  })
}
