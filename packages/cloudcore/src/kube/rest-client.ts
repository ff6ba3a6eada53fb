import type { KubeObject } from '@holdfast/kube-api'
import { describeError } from '@holdfast/runtime'
import type { Clock, Random, Timer } from '@holdfast/runtime'
import { openTransport, type KubeAccess } from './kube-access.ts'
import type { KubeClient, KubeKind, KubeList, ListSelection, ObjectPlace, WatchEvent } from './kube-client.ts'
import { isJsonObject, KubeError, refusal, strange, tooLarge, unanswered } from './kube-error.ts'
import { kindName, kindPath } from './kube-kinds.ts'
import type { KubeTransport, TransportAnswer, TransportRequest } from './kube-transport.ts'
import { kubeClientLimits as limits } from './limits.ts'
import { LineSplitter } from './line-splitter.ts'

/** Bounds that tests set lower; the defaults are those of `kubeClientLimits`. */
export interface RestClientOptions {
  readonly access: KubeAccess
  readonly listPage?: number
  readonly listPageBytesMax?: number
  readonly listBytesMax?: number
  readonly objectsMax?: number
  readonly requestMs?: number
  readonly watchSilenceMs?: number
}

export interface RestClientComponents {
  readonly clock: Clock
  readonly random: Random
}

/** A request as it is told in messages and sent. */
interface KubeRequest extends Pick<TransportRequest, 'method' | 'path'> {
  readonly body?: object | undefined
  readonly contentType?: string
  /** How long nothing may be heard: in all, or at a time where the answer is a stream. */
  readonly limitMs: number
  readonly streams?: boolean
  readonly signal?: AbortSignal | undefined
}

/**
 * KubeClient over the REST API, with its JSON as it is: the model classes of `@kubernetes/client-node` would drop members that
 * they do not know.
 *
 * What it gives has `apiVersion`, `kind` and `metadata` first, in lists too, where the API leaves the former two out, and is
 * without `managedFields`: the same object reads the same wherever it comes from. Every request has a time limit, every
 * answer a bound (docs/limits.md), each watch a connection of its own (HTTP/1.1), so that none waits for another (L9).
 */
export class RestClient implements KubeClient, AsyncDisposable {
  readonly #options: Required<RestClientOptions>
  readonly #components: RestClientComponents
  readonly #transport: KubeTransport
  readonly #underWay = new Set<AbortController>()
  #closed = false

  private constructor(
    options: Required<RestClientOptions>, components: RestClientComponents, transport: KubeTransport
  ) {
    this.#options = options
    this.#components = components
    this.#transport = transport
  }

  /** Loads what the access needs; the server is not asked. Rejects with `KUBE_CONFIG_INVALID`. */
  static async open(options: RestClientOptions, components: RestClientComponents): Promise<RestClient> {
    const settled = {
      listPage: limits.listPage.value,
      listPageBytesMax: limits.listPageBytes.value,
      listBytesMax: limits.listBytes.value,
      objectsMax: limits.informerObjects.value,
      requestMs: limits.requestMs.value,
      watchSilenceMs: limits.watchSilenceMs.value,
      ...options
    }
    return new RestClient(settled, components, await openTransport(options.access))
  }

  /** The address of the API, for messages. */
  get server(): string { return this.#transport.server }

  async get(place: ObjectPlace): Promise<KubeObject | undefined> {
    try {
      return await this.#object({ method: 'GET', path: pathOf(place), limitMs: this.#options.requestMs })
    } catch (error) {
      if (error instanceof KubeError && error.status === 404) return undefined
      throw error
    }
  }

  create(kind: KubeKind, object: KubeObject): Promise<KubeObject> {
    const path = kindPath(kind, object.metadata.namespace)
    return this.#object({ method: 'POST', path, body: object, contentType: json, limitMs: this.#options.requestMs })
  }

  replace(place: ObjectPlace, object: KubeObject, subresource?: 'status'): Promise<KubeObject> {
    const path = pathOf(place, subresource)
    return this.#object({ method: 'PUT', path, body: object, contentType: json, limitMs: this.#options.requestMs })
  }

  mergePatch(place: ObjectPlace, patch: object, subresource?: 'status'): Promise<KubeObject> {
    const path = pathOf(place, subresource)
    const contentType = 'application/merge-patch+json'
    return this.#object({ method: 'PATCH', path, body: patch, contentType, limitMs: this.#options.requestMs })
  }

  async delete(place: ObjectPlace, options: { readonly gracePeriodSeconds?: number, readonly uid?: string } = {}): Promise<void> {
    const { gracePeriodSeconds, uid } = options
    const body = {
      kind: 'DeleteOptions',
      apiVersion: 'v1',
      ...gracePeriodSeconds !== undefined && { gracePeriodSeconds },
      ...uid !== undefined && { preconditions: { uid } }
    }
    const request = { method: 'DELETE', path: pathOf(place), body, contentType: json, limitMs: this.#options.requestMs } as const
    try {
      await this.#document(request, limits.answerBytes.value)
    } catch (error) {
      if (!(error instanceof KubeError) || error.status !== 404) throw error
    }
  }

  // ── lists ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Rejects with the signal's reason where that aborts, otherwise with a KubeError. */
  async list(kind: KubeKind, selection: ListSelection, signal: AbortSignal): Promise<KubeList> {
    let page: number | undefined = this.#options.listPage
    for (let expired = 0; ;) {
      try {
        return await this.#pages(kind, selection, page, signal)
      } catch (error) {
        if (!(error instanceof KubeError)) throw error
        if (error.code === 'KUBE_EXPIRED' && page !== undefined) {
          // The history is shorter than the way through the pages.
          if (++expired > limits.expiredLists.value) page = undefined
        } else if (error.code === 'KUBE_ANSWER_TOO_LARGE' && error.reason === 'Page' && page !== undefined && page > 1) {
          page = Math.max(1, Math.floor(page / 8))
        } else {
          throw error
        }
      }
    }
  }

  /** `limit` undefined: in one piece. */
  async #pages(kind: KubeKind, selection: ListSelection, limit: number | undefined, signal: AbortSignal): Promise<KubeList> {
    const { listPageBytesMax, listBytesMax, objectsMax, requestMs } = this.#options
    const items: KubeObject[] = []
    let bytes = 0
    let resourceVersion: string | undefined
    let next = ''
    do {
      const query = new URLSearchParams(selectors(selection))
      if (limit !== undefined) query.set('limit', String(limit))
      if (next !== '') query.set('continue', next)
      const request: KubeRequest = {
        method: 'GET', path: withQuery(kindPath(kind, selection.namespace), query), limitMs: requestMs, signal
      }
      const what = this.#what(request)
      const bytesMax = limit === undefined ? listBytesMax : Math.min(listPageBytesMax, listBytesMax - bytes)
      const page = await this.#document(request, bytesMax, came => bytes + came > listBytesMax
        ? tooLarge(what, 200, `the list has more than ${listBytesMax} bytes`)
        : new KubeError('KUBE_ANSWER_TOO_LARGE', 200, 'Page', `${what}: a page has more than ${listPageBytesMax} bytes`))
      const list = listOf(what, page.document)
      bytes += page.bytes
      // What goes on at another version than it began at is no consistent list.
      if (resourceVersion !== undefined && list.resourceVersion !== resourceVersion) {
        throw refusal(what, 410, { message: `page at ${list.resourceVersion} of a list at ${resourceVersion}`, reason: 'Expired' })
      }
      resourceVersion = list.resourceVersion
      for (const item of list.items) items.push(item)
      if (items.length > objectsMax) throw tooLarge(what, 200, `there are more than ${objectsMax} ${kindName(kind)}`)
      next = list.next
      // An API in this process answers at once: others have their turn between its pages.
      if (next !== '') await new Promise<void>(resolve => { this.#components.clock.soon(resolve) })
    } while (next !== '')
    return { items, resourceVersion }
  }

  // ── watches ────────────────────────────────────────────────────────────────────────────────────────────────────────

  async watch(
    kind: KubeKind, selection: ListSelection, resourceVersion: string, onEvent: (event: WatchEvent) => void, signal: AbortSignal
  ): Promise<void> {
    const query = new URLSearchParams({
      ...selectors(selection),
      watch: 'true',
      allowWatchBookmarks: 'true',
      resourceVersion,
      timeoutSeconds: String(Math.round(limits.watchSeconds.value * (1 + this.#components.random.next())))
    })
    const request: KubeRequest = {
      method: 'GET', path: withQuery(kindPath(kind, selection.namespace), query), limitMs: this.#options.watchSilenceMs,
      streams: true, signal
    }
    try {
      await this.#send(request, (_, chunks) => this.#events(this.#what(request), chunks, onEvent, signal))
    } catch (error) {
      if (!signal.aborted) throw error
    }
  }

  async #events(
    what: string, chunks: AsyncIterable<Buffer>, onEvent: (event: WatchEvent) => void, signal: AbortSignal
  ): Promise<void> {
    const lines = new LineSplitter(limits.watchLineBytes.value)
    for await (const chunk of chunks) {
      for (const line of bounded(lines.push(chunk), what)) {
        if (signal.aborted) return
        if (line.length > 0) onEvent(eventOf(what, parse(what, 200, line)))
      }
    }
    if (lines.openBytes > 0) throw unanswered('Unreachable', `${what}: the watch broke off in the middle of an event`)
  }

  // ── requests ───────────────────────────────────────────────────────────────────────────────────────────────────────

  async #object(request: KubeRequest): Promise<KubeObject> {
    const { document } = await this.#document(request, limits.answerBytes.value)
    return objectOf(this.#what(request), document)
  }

  /** `onTooLarge` is told the bytes that have come, and makes the error. */
  #document(
    request: KubeRequest, bytesMax: number, onTooLarge?: (bytes: number) => KubeError
  ): Promise<{ readonly document: unknown, readonly bytes: number }> {
    return this.#send(request, async (status, chunks) => {
      const what = this.#what(request)
      const { body, isWhole } = await gather(chunks, bytesMax)
      if (!isWhole) throw onTooLarge?.(body.length) ?? tooLarge(what, status, `the answer has more than ${bytesMax} bytes`)
      return { document: parse(what, status, body), bytes: body.length }
    })
  }

  /** `read` gets the body of an answer with a good status. What goes wrong on the way is a KubeError, or the signal's reason. */
  async #send<T>(request: KubeRequest, read: (status: number, chunks: AsyncIterable<Buffer>) => Promise<T>): Promise<T> {
    const what = this.#what(request)
    if (this.#closed) throw unanswered('Closed', `${what}: the client is closed`)
    const { signal, limitMs } = request
    signal?.throwIfAborted()
    const cut = new AbortController()
    const abort = (): void => { cut.abort(signal?.reason) }
    signal?.addEventListener('abort', abort, { once: true })
    this.#underWay.add(cut)
    const patience = new Patience(limitMs, this.#components.clock, () => {
      const found = request.streams === true ? 'nothing was heard for' : 'not answered within'
      cut.abort(unanswered('Silent', `${what}: ${found} ${limitMs} ms`))
    })
    const meaningOf = (error: unknown): Error => cut.signal.aborted ? cut.signal.reason as Error
      : unanswered('Unreachable', `${what}: ${describeError(error)}`, error)
    try {
      let answer: TransportAnswer
      try {
        answer = await this.#transport.request(transported(request), cut.signal)
      } catch (error) {
        throw meaningOf(error)
      }
      const chunks = heard(answer.body, () => { if (request.streams === true) patience.heard() }, meaningOf)
      const { status, headers } = answer
      if (status >= 200 && status < 300) return await read(status, chunks)
      const { body, isWhole } = await gather(chunks, limits.answerBytes.value)
      const retryAfter = headers['retry-after']
      throw refusal(what, status, isWhole ? parsed(body) : undefined, typeof retryAfter === 'string' ? retryAfter : undefined)
    } finally {
      patience.end()
      signal?.removeEventListener('abort', abort)
      this.#underWay.delete(cut)
      cut.abort(ended)
    }
  }

  #what({ method, path }: KubeRequest): string { return `${method} ${this.server}${path}` }

  async [Symbol.asyncDispose](): Promise<void> { await this.close() }

  /** What is under way is cut: it rejects with status 0, reason `Closed`. */
  async close(): Promise<void> {
    this.#closed = true
    for (const cut of this.#underWay) cut.abort(unanswered('Closed', `${this.server}: the client is closed`))
    await this.#transport.close()
  }
}

/** What aborts a request that is over: made once, since an error of its own takes longer than the rest of its ending. */
const ended = new Error('the request is over')

const json = 'application/json'
const userAgent = 'holdfast-cloudcore'

function transported({ method, path, body, contentType }: KubeRequest): TransportRequest {
  return {
    method, path, headers: { accept: json, 'user-agent': userAgent, ...contentType !== undefined && { 'content-type': contentType } },
    ...body !== undefined && { body: JSON.stringify(body) }
  }
}

/** Ends what is not heard of for so long. One timer, however often something is heard. */
class Patience {
  readonly #limitMs: number
  readonly #clock: Clock
  readonly #onEnd: () => void
  #heardMs: number
  #timer: Timer

  constructor(limitMs: number, clock: Clock, onEnd: () => void) {
    this.#limitMs = limitMs
    this.#clock = clock
    this.#onEnd = onEnd
    this.#heardMs = clock.monotonicMs()
    this.#timer = clock.after(limitMs, () => { this.#due() })
  }

  heard(): void { this.#heardMs = this.#clock.monotonicMs() }

  end(): void { this.#timer.cancel() }

  #due(): void {
    const leftMs = this.#heardMs + this.#limitMs - this.#clock.monotonicMs()
    if (leftMs <= 0) this.#onEnd()
    else this.#timer = this.#clock.after(leftMs, () => { this.#due() })
  }
}

async function* heard(
  body: AsyncIterable<Buffer>, onHeard: () => void, meaningOf: (error: unknown) => Error
): AsyncGenerator<Buffer> {
  onHeard()
  try {
    for await (const chunk of body) {
      onHeard()
      yield chunk
    }
  } catch (error) {
    throw meaningOf(error)
  }
}

async function gather(
  chunks: AsyncIterable<Buffer>, bytesMax: number
): Promise<{ readonly body: Buffer, readonly isWhole: boolean }> {
  const pieces: Buffer[] = []
  let bytes = 0
  for await (const chunk of chunks) {
    pieces.push(chunk)
    bytes += chunk.length
    if (bytes > bytesMax) break
  }
  return { body: Buffer.concat(pieces, bytes), isWhole: bytes <= bytesMax }
}

function pathOf({ kind, namespace, name }: ObjectPlace, subresource?: 'status'): string {
  return kindPath(kind, namespace, name, subresource)
}

const withQuery = (path: string, query: URLSearchParams): string => query.size === 0 ? path : `${path}?${query}`

const selectors = ({ labelSelector, fieldSelector }: ListSelection): Record<string, string> =>
  ({ ...labelSelector !== undefined && { labelSelector }, ...fieldSelector !== undefined && { fieldSelector } })

/** Undefined where it is no JSON. */
function parsed(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8')) as unknown
  } catch {
    return undefined
  }
}

function parse(what: string, status: number, body: Buffer): unknown {
  const document = parsed(body)
  if (document === undefined) throw strange(what, status, `${excerpt(body)} is not JSON`)
  return document
}

const excerpt = (body: Buffer): string => JSON.stringify(body.subarray(0, 80).toString('utf8'))

function* bounded(lines: Iterable<Buffer>, what: string): Generator<Buffer> {
  try {
    yield* lines
  } catch (error) {
    throw error instanceof RangeError ? tooLarge(what, 200, error.message) : error
  }
}

/** `type`: what the object is where it does not say so itself. */
function objectOf(what: string, document: unknown, type?: { readonly apiVersion: string, readonly kind: string }): KubeObject {
  const { apiVersion = type?.apiVersion, kind = type?.kind, metadata, ...rest } = isJsonObject(document) ? document : {}
  const isTyped = typeof apiVersion === 'string' && typeof kind === 'string'
  if (!isTyped || !isJsonObject(metadata) || typeof metadata['name'] !== 'string') {
    throw strange(what, 200, 'the answer is no object with apiVersion, kind and metadata.name')
  }
  const { managedFields: _, ...kept } = metadata
  return { apiVersion, kind, metadata: kept, ...rest }
}

interface Page extends KubeList {
  /** Where the next page begins; empty: there is none. */
  readonly next: string
}

function listOf(what: string, document: unknown): Page {
  const { apiVersion, kind, metadata, items } = isJsonObject(document) ? document : {}
  // An empty list of Go is null.
  const found: unknown = items ?? []
  const isTyped = typeof apiVersion === 'string' && typeof kind === 'string' && kind.endsWith('List')
  if (!isTyped || !isJsonObject(metadata) || !Array.isArray(found)) throw strange(what, 200, 'the answer is no list')
  const { resourceVersion, continue: next } = metadata
  if (typeof resourceVersion !== 'string' || resourceVersion === '') throw strange(what, 200, 'the list has no resourceVersion')
  const type = { apiVersion, kind: kind.slice(0, -'List'.length) }
  return { items: found.map(item => objectOf(what, item, type)), resourceVersion, next: typeof next === 'string' ? next : '' }
}

function eventOf(what: string, line: unknown): WatchEvent {
  const { type, object } = isJsonObject(line) ? line : {}
  switch (type) {
    case 'ADDED':
    case 'MODIFIED':
    case 'DELETED': {
      const found = objectOf(what, object)
      if (typeof found.metadata.resourceVersion !== 'string') throw strange(what, 200, 'an event has no resourceVersion')
      return { type, object: found }
    }
    case 'BOOKMARK': {
      const version = isJsonObject(object) && isJsonObject(object['metadata']) ? object['metadata']['resourceVersion'] : undefined
      if (typeof version !== 'string') throw strange(what, 200, 'a bookmark has no resourceVersion')
      return { type, resourceVersion: version }
    }
    case 'ERROR': {
      const code = isJsonObject(object) ? object['code'] : undefined
      throw refusal(what, typeof code === 'number' && code >= 400 && code < 600 ? code : 500, object)
    }
    default: throw strange(what, 200, `an event is of type ${JSON.stringify(type)}`)
  }
}
