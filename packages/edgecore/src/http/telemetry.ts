import type { RecordTopic } from '@holdfast/protos'
import type { Clock, HttpReply, HttpRequest, HttpRoute } from '@holdfast/runtime'
import type { Commit, OutboxLane } from '@holdfast/store'
import type { RecordSink } from '../ingest.ts'
import type { Resolution } from '../routes.ts'
import type { IdempotencyKeys, Remember } from './idempotency.ts'
import { httpLimits } from './limits.ts'
import { countingRefusals, outboxRefusal, refusal, shown, storeRefusal } from './problems.ts'
import { mediaType, readBody } from './request-body.ts'
import { deviceRule, telemetryLines, telemetryTopic } from './telemetry-lines.ts'

export interface TelemetryOptions {
  readonly bodyBytesMax: number
  readonly recordsPerRequestMax: number
}

/** Plain numbers; whoever serves metrics reads them. */
export interface TelemetryCounters {
  /** Records that were acknowledged. */
  records: number
  /** Requests that were acknowledged, repetitions not counted. */
  requests: number
  /** Requests answered by an earlier one's Idempotency-Key. */
  replayed: number
  /** Requests refused, by code. */
  readonly refused: Map<string, number>
}

export interface TelemetryComponents {
  readonly sink: RecordSink
  readonly routes: { resolve(topic: string): Resolution<OutboxLane> }
  readonly keys: IdempotencyKeys
  readonly clock: Clock
  readonly counters: TelemetryCounters
  /** Told of acknowledgements: how many records, and how long their commit took. */
  readonly onAcks?: (count: number, latencyMs: number) => void
}

interface RoutedRecord {
  readonly lane: OutboxLane
  readonly topic: RecordTopic
  readonly payload: Uint8Array
}

const lineTypes = ['application/x-ndjson', 'application/jsonl']
/** Body bytes that are parsed before others get their turn. */
const parseBytes = 256 * 1024

/**
 * `POST /v1/devices/{namespace}/{name}/telemetry` (the body is one record, whatever its content type) and
 * `POST /v1/telemetry` (records as lines, see `telemetryLines`; all or nothing). Both go where the routes send the topic
 * `devices/<namespace>/<name>/telemetry`. 200 with `{"records":n,"lanes":{"<lane>":n}}` once the records are durable (L1).
 *
 * Refusals are problem documents with a `code`: 400 and 404 for what cannot be stored, 413 and 415 for bodies, 422 for a
 * reused Idempotency-Key, 429 with Retry-After for a full lane, 503 with Retry-After for a full disk or a failed write.
 * After STORE_FAILED the records may be there or not: a repetition with an Idempotency-Key stores them once.
 */
export function telemetryRoutes(options: TelemetryOptions, components: TelemetryComponents): HttpRoute[] {
  const { refused } = components.counters
  const route = (path: string, handle: HttpRoute['handle']): HttpRoute =>
    countingRefusals({ method: 'POST', path, handle }, refused)
  return [
    route('/v1/devices/{namespace}/{name}/telemetry', async request => {
      const { namespace = '', name = '' } = request.params
      const topic = telemetryTopic(namespace, name)
      if (topic === undefined) {
        const device = `${namespace}/${name}`
        const detail = `expected namespace and name of ${deviceRule}, got "${shown(device)}"`
        throw refusal(400, 'DEVICE_INVALID', detail, { bound: deviceRule })
      }
      const payload = await readBody(request, options.bodyBytesMax, {
        code: 'RECORD_TOO_LARGE', bytesMax: httpLimits.recordBytes.value
      })
      return await answer(request, payload, components, async () => [routed(topic, payload, undefined, components)])
    }),
    route('/v1/telemetry', async request => {
      const type = mediaType(request)
      if (!lineTypes.includes(type)) {
        const detail = `expected content type ${lineTypes.join(' or ')}, got "${shown(type)}"`
        throw refusal(415, 'MEDIA_TYPE_UNSUPPORTED', detail, {}, { 'accept-post': lineTypes.join(', ') })
      }
      const body = await readBody(request, options.bodyBytesMax)
      return await answer(request, body, components, () => parse(body, options, components))
    })
  ]
}

/** Answers by Idempotency-Key, where there is one, or by storing what `parseBody` gives. */
async function answer(request: HttpRequest, body: Buffer, components: TelemetryComponents,
  parseBody: () => Promise<RoutedRecord[]>): Promise<HttpReply> {
  const { keys, counters } = components
  const handle = async (remember?: Remember): Promise<string> => await ingest(await parseBody(), components, remember)
  const key = request.headers['idempotency-key']
  if (key === undefined) return jsonText(await handle())
  const contentType = request.headers['content-type'] ?? ''
  const outcome = await keys.answer(String(key), { path: request.path, contentType, body }, handle)
  if (outcome.replayed) counters.replayed++
  return jsonText(outcome.answer, outcome.replayed ? { 'idempotency-replayed': 'true' } : {})
}

function jsonText(text: string, headers: Readonly<Record<string, string>> = {}): HttpReply {
  return { status: 200, headers: { ...headers, 'content-type': 'application/json' }, body: text + '\n' }
}

async function parse(body: Buffer, options: TelemetryOptions, components: TelemetryComponents): Promise<RoutedRecord[]> {
  const records: RoutedRecord[] = []
  let parsedBytes = 0
  for (const { line, topic, payload } of telemetryLines(body)) {
    if (records.length === options.recordsPerRequestMax) {
      const bound = options.recordsPerRequestMax
      throw refusal(413, 'RECORDS_TOO_MANY', `line ${line}: a request may have ${bound} records (http.recordsPerRequestMax)`, { line, bound })
    }
    records.push(routed(topic, payload, line, components))
    parsedBytes += payload.length + topic.length
    if (parsedBytes < parseBytes) continue
    parsedBytes = 0
    await new Promise<void>(resolve => { components.clock.soon(resolve) })
  }
  if (records.length === 0) {
    throw refusal(400, 'RECORD_INVALID', 'expected at least one line with a record', { line: 1, value: '' })
  }
  return records
}

/** With its lane; `line` is undefined where the record is alone. */
function routed(
  topic: string, payload: Uint8Array, line: number | undefined, components: TelemetryComponents
): RoutedRecord {
  const resolution = components.routes.resolve(topic)
  if (resolution.kind === 'record') return { lane: resolution.lane, topic: resolution.topic, payload }
  const [status, place] = line === undefined ? [404, ''] : [400, `line ${line}: `]
  const detail = `${place}no route of the configuration leads ${topic} to a lane`
  throw refusal(status, 'TOPIC_NOT_ROUTED', detail, line === undefined ? {} : { line, field: 'device', value: topic })
}

/**
 * Puts all records into one commit, in one turn: they become durable together or not at all. Where they go to lanes of
 * different urgency, that is the commit of the lane asked last; each lane's own order is the order of commits all the same.
 */
function ingest(records: readonly RoutedRecord[], components: TelemetryComponents, remember?: Remember): Promise<string> {
  const { sink, clock, counters, onAcks } = components
  const lanes = new Map<OutboxLane, { records: number, bytes: number }>()
  for (const { lane, topic, payload } of records) {
    const sum = lanes.get(lane) ?? { records: 0, bytes: 0 }
    sum.records++
    sum.bytes += topic.topic.length + payload.length
    lanes.set(lane, sum)
  }
  let commit: Commit | undefined
  for (const [lane, { bytes }] of lanes) {
    const { bytesMax } = lane.options
    if (bytes > bytesMax) {
      const detail = `${bytes} bytes for lane ${lane.name} can never fit: lanes.${lane.name}.bytesMax is ${bytesMax}`
      throw refusal(413, 'RECORD_TOO_LARGE', detail, { bound: bytesMax })
    }
    try {
      commit = sink.gather(lane, bytes)
    } catch (error) {
      throw outboxRefusal(error)
    }
  }
  const gathered = commit!
  for (const { lane, topic, payload } of records) sink.append(gathered, lane, topic, payload)
  const text = JSON.stringify({
    records: records.length, lanes: Object.fromEntries([...lanes].map(([lane, sum]) => [lane.name, sum.records]))
  })
  remember?.(gathered, text)
  const startMs = clock.monotonicMs()
  return new Promise((resolve, reject) => {
    gathered.onDurable(error => {
      if (error !== undefined) {
        reject(storeRefusal(error))
        return
      }
      counters.requests++
      counters.records += records.length
      onAcks?.(records.length, clock.monotonicMs() - startMs)
      resolve(text)
    })
  })
}
