import type { PayloadEncoding } from '@holdfast/protos'
import {
  batchStreamType, encodeBatchStream, laneNamePattern, ndjsonType, payloadEncodings, RecordsNdjson
} from '@holdfast/protos'
import type { HttpReply, HttpRequest, HttpRoute, Log } from '@holdfast/runtime'
import { describeError, hasCode, HttpProblem, nodeNameRule, parseNodeName } from '@holdfast/runtime'
import type { CloudLog, LogPage } from '../log/cloud-log.ts'
import { CursorError } from '../log/cloud-log.ts'
import { cloudLogLimits } from '../log/limits.ts'

export interface RecordsQuery {
  readonly node: string | undefined
  readonly lane: string | undefined
  readonly device: string | undefined
  readonly cursor: string | undefined
  readonly limit: number | undefined
  readonly follow: boolean
  readonly encoding: PayloadEncoding
}

export const recordsLimitMax = 1_000_000_000
const deviceLengthMax = 1024
/** Text is handed to the socket in chunks of about so many characters. */
const chunkLength = 64 * 1024
/** A page of the batch stream: larger than of lines, since its batches are passed on as they are. */
const batchPageBytes = 1024 * 1024

const parameters = ['node', 'lane', 'device', 'cursor', 'limit', 'follow', 'encoding'] as const

/** The parameters of `GET /v1/records`. Throws HttpProblem 400 with parameter, value and what is expected. */
export function parseRecordsQuery(query: URLSearchParams): RecordsQuery {
  for (const name of query.keys()) {
    if (!parameters.some(known => known === name)) {
      throw badParameter(name, query.get(name)!, `no such parameter; there are ${parameters.join(', ')}`)
    }
    if (query.getAll(name).length > 1) throw badParameter(name, query.getAll(name).join(', '), 'one value')
  }
  const take = <T>(name: (typeof parameters)[number], expected: string, read: (text: string) => T | undefined): T | undefined => {
    const text = query.get(name)
    if (text === null) return undefined
    const value = read(text)
    if (value === undefined) throw badParameter(name, text, expected)
    return value
  }
  return {
    node: take('node', nodeNameRule, parseNodeName),
    lane: take('lane', 'a-z, 0-9 and "-", at most 63 characters', text => laneNamePattern.test(text) ? text : undefined),
    device: take('device', `<namespace>/<name>, 1 to ${deviceLengthMax} characters`, text =>
      text.length >= 1 && text.length <= deviceLengthMax ? text : undefined),
    cursor: take('cursor', 'a cursor as it was received', text => text.length <= 256 ? text : undefined),
    limit: take('limit', `a whole number from 1 to ${recordsLimitMax}`, text => {
      const value = /^\d{1,10}$/.test(text) ? Number(text) : 0
      return value >= 1 && value <= recordsLimitMax ? value : undefined
    }),
    follow: take('follow', 'true or false', text => text === 'true' ? true : text === 'false' ? false : undefined) ?? false,
    encoding: take('encoding', payloadEncodings.join(' or '), text => payloadEncodings.find(known => known === text)) ?? 'base64'
  }
}

export interface RecordsComponents { readonly cloudLog: CloudLog, readonly log: Log }

/**
 * `GET /v1/records` (docs/spec/log.md, "Reading"): lines of JSON, or with `Accept: application/vnd.holdfast.batch` the
 * stored batches. Streams at the reader's pace; holds one page for each.
 */
export function recordsRoute(components: RecordsComponents): HttpRoute {
  let readers = 0
  return {
    method: 'GET',
    path: '/v1/records',
    async handle(request) {
      const query = parseRecordsQuery(request.query)
      const asBatches = (request.headers.accept ?? '').includes(batchStreamType)
      if (asBatches && query.device !== undefined) {
        throw badParameter('device', query.device, `nothing with Accept: ${batchStreamType}: whole batches are sent`)
      }
      if (readers >= cloudLogLimits.readersMax.value) {
        throw new HttpProblem(503, {
          type: 'READERS_TOO_MANY', title: 'Too many readers', extensions: { code: 'READERS_TOO_MANY' },
          detail: `${cloudLogLimits.readersMax.value} readers are being served; try again`,
          headers: { 'retry-after': '5' }
        })
      }
      readers++
      // The server aborts this when the response has ended, however it ended.
      request.signal.addEventListener('abort', () => { readers-- }, { once: true })
      return startReply(components, request, query, asBatches)
    }
  }
}

/** The first page decides about the status, before anything is sent. */
async function startReply(components: RecordsComponents, request: HttpRequest, query: RecordsQuery, asBatches: boolean):
Promise<HttpReply> {
  const pages = components.cloudLog.read({
    cursor: query.cursor, node: query.node, lane: query.lane, follow: query.follow,
    ...(asBatches ? { pageBytesMax: batchPageBytes } : {})
  }, request.signal)[Symbol.asyncIterator]()
  let first: IteratorResult<LogPage>
  try {
    first = await pages.next()
  } catch (error) {
    throw readProblem(error, query)
  }
  if (request.method === 'HEAD' || request.signal.aborted) {
    await pages.return?.()
    return { status: 200, headers: replyHeaders(asBatches) }
  }
  const rest = pagesFrom(first, pages)
  return {
    status: 200,
    headers: replyHeaders(asBatches),
    body: asBatches ? batchChunks(rest, query.limit) : lineChunks(rest, query, request, components.log)
  }
}

function replyHeaders(asBatches: boolean): Record<string, string> {
  return { 'content-type': asBatches ? batchStreamType : ndjsonType, 'cache-control': 'no-store' }
}

async function* pagesFrom(first: IteratorResult<LogPage>, pages: AsyncIterator<LogPage>): AsyncGenerator<LogPage> {
  try {
    for (let page = first; page.done !== true; page = await pages.next()) yield page.value
  } finally {
    await pages.return?.()
  }
}

async function* lineChunks(pages: AsyncIterable<LogPage>, query: RecordsQuery, request: HttpRequest, log: Log): AsyncGenerator<string> {
  const render = new RecordsNdjson({
    device: query.device, encoding: query.encoding, limit: query.limit, unreadable: 'cloud-corrupt'
  })
  for await (const page of pages) {
    let text = ''
    for (const item of page) {
      text += render.lines(item)
      if (render.done) break
      if (text.length < chunkLength) continue
      yield text
      text = ''
    }
    if (text !== '') yield text
    if (render.done) break
  }
  if (render.unreadable > 0) log.warn('batches could not be decoded', { path: request.path, batches: render.unreadable })
}

/** Whole batches, up to and with the one that brings the records to `limit`. */
async function* batchChunks(pages: AsyncIterable<LogPage>, limit: number | undefined): AsyncGenerator<Buffer> {
  let left = limit ?? Infinity
  for await (const page of pages) {
    if (page.length === 0) continue
    let taken = 0
    while (taken < page.length && left > 0) {
      const { header, skip } = page[taken++]!
      left -= header.kind === 'gap' ? 1 : header.count - skip
    }
    yield encodeBatchStream(taken === page.length ? page : page.slice(0, taken))
    if (left <= 0) return
  }
}

function readProblem(error: unknown, query: RecordsQuery): unknown {
  if (error instanceof CursorError) {
    return new HttpProblem(410, {
      type: error.code, title: error.code === 'CURSOR_EXPIRED' ? 'Cursor expired' : 'Cursor of another log',
      detail: error.message, extensions: { code: error.code, firstCursor: error.firstCursor }
    })
  }
  if (hasCode(error, 'CURSOR_INVALID')) return badParameter('cursor', query.cursor ?? '', 'a cursor as it was received')
  if (hasCode(error, 'LOG_UNAVAILABLE')) {
    return new HttpProblem(503, {
      type: 'LOG_UNAVAILABLE', title: 'Cloud log unavailable', detail: describeError(error), headers: { 'retry-after': '1' },
      extensions: { code: 'LOG_UNAVAILABLE' }
    })
  }
  return error
}

function badParameter(parameter: string, value: string, expected: string): HttpProblem {
  const shown = value.length > 128 ? `${value.slice(0, 128)}…` : value
  return new HttpProblem(400, {
    type: 'PARAMETER_INVALID', title: 'Bad parameter', detail: `${parameter}: expected ${expected}, got "${shown}"`,
    extensions: { code: 'PARAMETER_INVALID', parameter, value: shown, bound: expected }
  })
}
