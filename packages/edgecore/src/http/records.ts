import {
  RecordsNdjson, batchNext, batchStreamType, encodeBatchStream, ndjsonType, payloadEncodings, readBatchHeader
} from '@holdfast/protos'
import type { PayloadEncoding, ReaderBatch } from '@holdfast/protos'
import { HoldfastError } from '@holdfast/runtime'
import type { HttpRoute, Log, NodeName } from '@holdfast/runtime'
import type { HeldBatch, Outbox, OutboxLane } from '@holdfast/store'
import { httpLimits } from './limits.ts'
import { badParameter, refusal, storeRefusal } from './problems.ts'
import { cursorPrefix, decodeCursor, encodePlaces, epochTag, placeProblem } from './records-cursor.ts'
import type { LanePlace, Places } from './records-cursor.ts'

export interface RecordsOptions {
  readonly node: NodeName
  /** Requests being answered at a time. */
  readonly readersMax: number
}

export interface RecordsComponents {
  readonly outbox: Pick<Outbox, 'lanes' | 'scan' | 'onAvailable'>
  /** Why the store cannot be read now; undefined while all is well. */
  readonly failure: () => Error | undefined
  readonly log: Log
}

interface RecordsQuery {
  readonly lanes: readonly OutboxLane[]
  readonly device: string | undefined
  readonly places: Places
  readonly limit: number | undefined
  readonly follow: boolean
  readonly encoding: PayloadEncoding
}

type Pages = AsyncGenerator<readonly ReaderBatch[]>

const limitMax = 1_000_000_000
const deviceLengthMax = 1024
/** Text is handed to the socket in chunks of about so many characters. */
const chunkLength = 512 * 1024
const parameters = ['lane', 'device', 'cursor', 'limit', 'follow', 'encoding'] as const

/**
 * `GET /v1/records`: what this node holds, acknowledged by the cloud (the local cache) or waiting for it, online or off.
 * Lines and batches are those of the cloud's `GET /v1/records` (docs/spec/log.md, "Reading"), with cursors of their own.
 *
 * One lane after the other, in the order in which they were first configured, each in commit order up to where it ended
 * when the request came; with `follow=true` again and again from there. A cursor remembers the place in every lane. One
 * that has been trimmed away is answered 410 `CURSOR_EXPIRED`, one of another history 410 `CURSOR_FOREIGN`, each with
 * `firstCursor`, the nearest place to go on from (null: the beginning); a reader that is overtaken while it reads is cut
 * off. A gap is shown whole even where the reader has passed part of it. Holds one page per reader; a slow one delays
 * nobody.
 */
export function recordsRoute(options: RecordsOptions, components: RecordsComponents): HttpRoute {
  let readers = 0
  return {
    method: 'GET',
    path: '/v1/records',
    handle(request) {
      const asBatches = (request.headers.accept ?? '').includes(batchStreamType)
      const query = readQuery(request.query, components.outbox)
      if (asBatches && query.device !== undefined) {
        throw badParameter('device', query.device, `nothing with Accept: ${batchStreamType}: whole batches are sent`)
      }
      const failure = components.failure()
      if (failure !== undefined) throw storeRefusal(failure)
      checkPlaces(query)
      const headers = { 'content-type': asBatches ? batchStreamType : ndjsonType, 'cache-control': 'no-store' }
      if (request.method === 'HEAD' || request.signal.aborted) return { status: 200, headers }
      if (readers >= options.readersMax) {
        throw refusal(503, 'READERS_TOO_MANY', `${options.readersMax} readers are being served; try again`, {},
          { 'retry-after': '5' })
      }
      readers++
      request.signal.addEventListener('abort', () => { readers-- }, { once: true })
      const pages = readPages(options.node, query, components.outbox, request.signal)
      const body = asBatches ? batchChunks(pages, query.limit) : lineChunks(pages, query, components.log)
      return { status: 200, headers, body }
    }
  }
}

function readQuery(query: URLSearchParams, outbox: RecordsComponents['outbox']): RecordsQuery {
  for (const name of query.keys()) {
    if (!parameters.some(known => known === name)) {
      throw badParameter(name, query.get(name)!, `no such parameter; there are ${parameters.join(', ')}`)
    }
    if (query.getAll(name).length > 1) throw badParameter(name, query.getAll(name).join(', '), 'one value')
  }
  const take = <T>(
    name: (typeof parameters)[number], expected: string, read: (text: string) => T | undefined
  ): T | undefined => {
    const text = query.get(name)
    if (text === null) return undefined
    const value = read(text)
    if (value === undefined) throw badParameter(name, text, expected)
    return value
  }
  const known = outbox.lanes.toSorted((a, b) => a.id - b.id)
  const laneNames = known.map(({ name }) => name)
  const lane = take('lane', `one of ${laneNames.join(', ')}`, text => known.find(({ name }) => name === text))
  const lanesMax = httpLimits.recordsLanes.value
  if (lane === undefined && known.length > lanesMax) {
    throw badParameter('lane', '', `a lane: there are more than ${lanesMax}`)
  }
  return {
    lanes: lane === undefined ? known : [lane],
    device: take('device', `<namespace>/<name>, 1 to ${deviceLengthMax} characters`, text =>
      text.length >= 1 && text.length <= deviceLengthMax ? text : undefined),
    places: take('cursor', 'a cursor as it was received', decodeCursor) ?? new Map<number, LanePlace>(),
    limit: take('limit', `a whole number from 1 to ${limitMax}`, text => {
      const value = /^\d{1,10}$/.test(text) ? Number(text) : 0
      return value >= 1 && value <= limitMax ? value : undefined
    }),
    follow: take('follow', 'true or false', text => text === 'true' ? true : text === 'false' ? false : undefined) ?? false,
    encoding: take('encoding', payloadEncodings.join(' or '), text =>
      payloadEncodings.find(encoding => encoding === text)) ?? 'base64'
  }
}

/** Throws HttpProblem 410 where the cursor is of no use in one of the lanes. */
function checkPlaces({ lanes, places }: RecordsQuery): void {
  let worst: 'expired' | 'foreign' | undefined
  const usable = new Map<number, LanePlace>()
  for (const lane of lanes) {
    const place = places.get(lane.id)
    if (place === undefined) continue
    const problem = placeProblem(lane, place)
    if (problem === undefined) usable.set(lane.id, place)
    else if (worst !== 'foreign') worst = problem
    const before = lane.epochAt(lane.first - 1)
    if (problem === 'expired' && before !== undefined) {
      usable.set(lane.id, { offset: lane.first, epochTag: epochTag(before.epoch) })
    }
  }
  if (worst === undefined) return
  const [code, detail] = worst === 'expired'
    ? ['CURSOR_EXPIRED', 'records behind this cursor are not held on the node any more; the cloud has them'] as const
    : ['CURSOR_FOREIGN', 'what this cursor has read is not what this node held there'] as const
  throw refusal(410, code, detail, { firstCursor: usable.size === 0 ? null : encodePlaces(usable) })
}

/** Pages in the order that the route promises; ends quietly when `signal` aborts. */
async function* readPages(
  node: NodeName, query: RecordsQuery, outbox: RecordsComponents['outbox'], signal: AbortSignal
): Pages {
  const places = new Map([...query.places].filter(([id]) => query.lanes.some(lane => lane.id === id)))
  for (;;) {
    const ends = query.lanes.map(lane => lane.durable)
    for (const [i, lane] of query.lanes.entries()) {
      for (;;) {
        const place = places.get(lane.id)
        const problem = place === undefined ? undefined : placeProblem(lane, place)
        const from = place?.offset ?? lane.first
        if (from >= ends[i]! && problem !== 'foreign') break
        if (problem !== undefined) throw overtaken(lane, from)
        const batches = await outbox.scan(lane, from, httpLimits.recordsPageBytes.value)
        if (signal.aborted) return
        if (batches.length === 0) break
        if (place !== undefined && batches[0]!.base > from) throw overtaken(lane, from)
        const page = batches.map(batch => readerBatch(node, lane, batch, from, places))
        const last = page.at(-1)!.header
        places.set(lane.id, { offset: batchNext(last), epochTag: epochTag(last.epoch) })
        yield page
      }
    }
    if (!query.follow) return
    await news(query.lanes, ends, outbox, signal)
    if (signal.aborted) return
  }
}

function readerBatch(
  node: NodeName, lane: OutboxLane, { base, next, bytes }: HeldBatch, from: number, places: Places
): ReaderBatch {
  const header = readBatchHeader(bytes)
  const isGap = header.kind === 'gap'
  return {
    node,
    lane: lane.name,
    batch: bytes,
    header,
    correctionMs: 0,
    skip: isGap ? 0 : Math.max(0, from - base),
    cursorPrefix: cursorPrefix(lane.id, { offset: isGap ? next : base, epochTag: epochTag(header.epoch) }, places),
    endIndex: isGap ? 0 : header.count
  }
}

function overtaken(lane: OutboxLane, offset: number): Error {
  return new HoldfastError('CURSOR_EXPIRED', `a reader at offset ${offset} of lane ${lane.name} was overtaken: it holds ` +
    `${lane.first} to ${lane.durable}`)
}

/** Resolves when a lane may hold more than `ends` say, or when `signal` aborts. */
function news(
  lanes: readonly OutboxLane[], ends: readonly number[], outbox: RecordsComponents['outbox'], signal: AbortSignal
): Promise<void> {
  return new Promise(resolve => {
    if (signal.aborted || lanes.some((lane, i) => lane.durable !== ends[i])) {
      resolve()
      return
    }
    const done = (): void => {
      stopListening()
      signal.removeEventListener('abort', done)
      resolve()
    }
    const stopListening = outbox.onAvailable(lane => { if (lanes.includes(lane)) done() })
    signal.addEventListener('abort', done, { once: true })
  })
}

async function* lineChunks(pages: Pages, query: RecordsQuery, log: Log): AsyncGenerator<string> {
  const { device, encoding, limit } = query
  const render = new RecordsNdjson({ device, encoding, limit, unreadable: 'corrupt' })
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
  if (render.unreadable > 0) log.warn('batches could not be decoded', { path: '/v1/records', batches: render.unreadable })
}

/** Whole batches, up to and with the one that brings the records to `limit`. */
async function* batchChunks(pages: Pages, limit: number | undefined): AsyncGenerator<Buffer> {
  let left = limit ?? Infinity
  for await (const page of pages) {
    let taken = 0
    while (taken < page.length && left > 0) {
      const { header, skip } = page[taken++]!
      left -= header.kind === 'gap' ? 1 : header.count - skip
    }
    yield encodeBatchStream(taken === page.length ? page : page.slice(0, taken))
    if (left <= 0) return
  }
}
