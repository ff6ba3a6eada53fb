import type { Clock, Random } from '@holdfast/runtime'
import type { JsonObject } from '../object.ts'
import type {
  ChangeEvent, ObjectSource, StoredObject, Watch, WatchEvent, WatchOptions
} from '../object-store-types.ts'
import type { Resource } from '../resource.ts'
import { resourceName } from '../resource.ts'
import { StatusError } from '../status-error.ts'
import type { ApiReply } from './http-host.ts'
import { jsonReply } from './json-reply.ts'
import { kubeApiServerLimits as limits } from './limits.ts'
import { negotiate, type Representation } from './negotiation.ts'
import type { ObjectRequest } from './object-request.ts'
import { listPieces } from './object-view.ts'
import { notFound } from './refusals.ts'
import { parseBoolean, parseInteger } from './request-options.ts'
import { selectionOf } from './selection.ts'
import { failureStatus } from './status-body.ts'
import { columnDefinitions, parseIncludedObject, partialMetadata, table, tableHead, tableRow } from './tables.ts'

const forms = ['table', 'partial-metadata'] as const

export interface ObjectReadsComponents {
  readonly source: ObjectSource
  readonly clock: Clock
  readonly random: Random
}

/** get, list and watch. */
export class ObjectReads {
  readonly #join = new SharedJoin()
  readonly #source: ObjectSource
  readonly #clock: Clock
  readonly #random: Random

  constructor({ source, clock, random }: ObjectReadsComponents) {
    this.#source = source
    this.#clock = clock
    this.#random = random
  }

  /** Also of `status`: the subresource is the whole object. */
  async get({ resource, view, target, query, headers }: ObjectRequest): Promise<ApiReply> {
    const form = negotiate(headers.accept, forms, false)
    const key = { resource: resourceName(resource), namespace: target.namespace ?? '', name: target.name! }
    const stored = await this.#source.get(key, query.get('resourceVersion') ?? undefined)
    if (stored === undefined) throw notFound(resource, target.name!)
    return this.single(resource, form, query, view.of(stored))
  }

  /** One object in the form that was asked for. */
  single(resource: Resource, form: Representation, query: URLSearchParams, shown: StoredObject, status = 200): ApiReply {
    if (form === 'object') return { status, headers: jsonHeaders, body: shown.json }
    if (form === 'partial-metadata') return jsonReply(partialMetadata(shown.object), status)
    const row = tableRow(resource, shown.object, parseIncludedObject(query), this.#clock.wallMs())
    const { resourceVersion = '' } = shown.object.metadata
    return jsonReply(table({ resourceVersion }, columnDefinitions(resource), [row]), status)
  }

  async list(request: ObjectRequest): Promise<ApiReply> {
    const { query, headers } = request
    const form = negotiate(headers.accept, forms, true)
    if (query.has('sendInitialEvents')) throw sendInitialEventsOnList()
    parseInteger(query, 'timeoutSeconds')
    const { items, continue: token, remainingItemCount, revision } = await this.#source.list(selectionOf(request), {
      limit: parseInteger(query, 'limit'),
      continue: query.get('continue') ?? undefined,
      resourceVersion: query.get('resourceVersion') ?? undefined,
      resourceVersionMatch: query.get('resourceVersionMatch') ?? undefined
    })
    const metadata: JsonObject = {
      resourceVersion: String(revision),
      ...(token !== '' || request.isCustom) && { continue: token },
      ...remainingItemCount !== undefined && { remainingItemCount }
    }
    return { status: 200, headers: jsonHeaders, body: this.#listOf(request, form, metadata, items) }
  }

  #listOf(
    { resource, view, query }: ObjectRequest, form: Representation, metadata: JsonObject, items: readonly StoredObject[]
  ): Iterable<string> {
    if (form === 'object') return view.list(metadata, items)
    if (form === 'partial-metadata') {
      const head = { kind: 'PartialObjectMetadataList', apiVersion: 'meta.k8s.io/v1', metadata }
      return listPieces(head, 'items', items, item => JSON.stringify(partialMetadata(view.of(item).object)))
    }
    const included = parseIncludedObject(query)
    const nowMs = this.#clock.wallMs()
    return listPieces(tableHead(metadata, columnDefinitions(resource)), 'rows', items,
      item => JSON.stringify(tableRow(resource, view.of(item).object, included, nowMs)))
  }

  watch(request: ObjectRequest): ApiReply {
    const { query, headers } = request
    const signal = request.signal()
    const sendInitialEvents = parseBoolean(query, 'sendInitialEvents')
    const form = negotiate(headers.accept, forms, false)
    if (form === 'table' && sendInitialEvents === true) {
      throw new StatusError(406, 'NotAcceptable', 'only the following media types are accepted: application/json')
    }
    const includedObject = form === 'table' ? parseIncludedObject(query) : 'Metadata'
    const timeoutSeconds = parseInteger(query, 'timeoutSeconds') ?? 0
    const shortest = limits.watchSecondsMin.value
    const options: WatchOptions = {
      resourceVersion: query.get('resourceVersion') ?? undefined,
      resourceVersionMatch: query.get('resourceVersionMatch') ?? undefined,
      allowWatchBookmarks: parseBoolean(query, 'allowWatchBookmarks'),
      sendInitialEvents,
      timeoutMs: (timeoutSeconds > 0 ? timeoutSeconds : shortest * (1 + this.#random.next())) * 1000
    }
    const cut = new AbortController()
    let watch: Watch
    try {
      watch = this.#source.watch(selectionOf(request), options, {
        // What waited is gone, so the stream has a hole: it is cut, and the client begins again where it was.
        ended: end => { if (end === 'overflow') cut.abort(new Error('the watch did not keep up')) }
      })
    } catch (error) {
      if (!(error instanceof StatusError) || error.code !== 410) throw error
      return { status: 200, headers: jsonHeaders, body: [errorLine(error)] }
    }
    signal.addEventListener('abort', () => watch.close(), { once: true })
    if (signal.aborted) watch.close()
    const render = this.#renderer(request, form, includedObject)
    return { status: 200, headers: jsonHeaders, body: lines(watch, render, this.#join), cut: cut.signal }
  }

  /** Events as lines. What is shown as it is stored is encoded once for all watches. */
  #renderer(
    { resource, view, isCustom }: ObjectRequest, form: Representation, included: ReturnType<typeof parseIncludedObject>
  ): (event: WatchEvent) => string | Uint8Array {
    if (form === 'object') {
      return event => {
        if (event.kind === 'bookmark') return line('BOOKMARK', bookmark(view.groupVersion, resource.kind, isCustom, event))
        const shown = view.of(event.stored)
        return shown === event.stored ? event.line() : `{"type":"${event.type}","object":${shown.json.toString()}}\n`
      }
    }
    if (form === 'partial-metadata') {
      return event => event.kind === 'bookmark'
        ? line('BOOKMARK', bookmark('meta.k8s.io/v1', 'PartialObjectMetadata', false, event))
        : line(event.type, partialMetadata(view.of(event.stored).object))
    }
    let columns: JsonObject[] | null = columnDefinitions(resource)
    const rowOf = ({ stored }: ChangeEvent): JsonObject =>
      tableRow(resource, view.of(stored).object, included, this.#clock.wallMs())
    return event => {
      const rows = event.kind === 'bookmark' ? [] : [rowOf(event)]
      const text = line(event.kind === 'bookmark' ? 'BOOKMARK' : event.type,
        table({ resourceVersion: String(event.revision) }, columns, rows))
      columns = null
      return text
    }
  }
}

export const jsonHeaders = { 'content-type': 'application/json' } as const

function sendInitialEventsOnList(): StatusError {
  const message = 'Forbidden: sendInitialEvents is forbidden for list'
  return new StatusError(422, 'Invalid', `ListOptions.meta.k8s.io "" is invalid: sendInitialEvents: ${message}`, {
    group: 'meta.k8s.io',
    kind: 'ListOptions',
    causes: [{ reason: 'FieldValueForbidden', message, field: 'sendInitialEvents' }]
  })
}

async function* lines(
  watch: Watch, render: (event: WatchEvent) => string | Uint8Array, join: SharedJoin
): AsyncGenerator<string | Uint8Array> {
  try {
    for await (const events of watch) yield events.length === 1 ? render(events[0]!) : join.of(events.map(render))
    if (watch.end === 'expired') yield errorLine(new StatusError(410, 'Expired', 'the history of this watch is gone'))
  } finally {
    watch.close()
  }
}

/** Joins lines; watches that are told of the same events one after the other are given the same bytes. */
class SharedJoin {
  #parts: readonly (string | Uint8Array)[] = []
  #joined: Buffer = Buffer.alloc(0)

  of(parts: readonly (string | Uint8Array)[]): Uint8Array {
    const known = this.#parts
    // The same bytes or an equal text: lines that are shared are compared by identity.
    if (parts.length !== known.length || parts.some((part, i) => part !== known[i])) {
      this.#joined = Buffer.concat(parts.map(part => typeof part === 'string' ? Buffer.from(part) : part))
      this.#parts = parts
    }
    return this.#joined
  }
}

const line = (type: string, object: JsonObject): string => `{"type":"${type}","object":${JSON.stringify(object)}}\n`

const errorLine = (error: StatusError): string => line('ERROR', failureStatus(error))

/** A bookmark that ends the initial events carries the empty list that clients build a list of them from. */
function bookmark(
  apiVersion: string, kind: string, isCustom: boolean, event: { readonly revision: number, readonly initialEventsEnd: boolean }
): JsonObject {
  const list = isCustom ? { apiVersion, items: [], kind: `${kind}List` }
    : { kind: `${kind}List`, apiVersion, metadata: {}, items: null }
  return {
    kind,
    apiVersion,
    metadata: {
      resourceVersion: String(event.revision),
      ...!isCustom && { creationTimestamp: null },
      ...event.initialEventsEnd && {
        annotations: {
          'k8s.io/initial-events-end': 'true',
          'kubernetes.io/initial-events-list-blueprint': Buffer.from(`${JSON.stringify(list)}\n`).toString('base64')
        }
      }
    }
  }
}
