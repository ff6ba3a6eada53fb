import { jsonReply } from '@holdfast/runtime'
import type { Clock, HttpProblem, HttpReply, HttpRequest, HttpRoute } from '@holdfast/runtime'
import { formatVersion } from '@holdfast/device-twin'
import { parseDeviceId } from '../twins/device-twins.ts'
import type { DeviceId, DeviceTwin, DeviceTwins, TwinWrite, TwinWriting } from '../twins/device-twins.ts'
import { httpLimits } from './limits.ts'
import { badParameter, countingRefusals, refusal, shown, storeRefusal } from './problems.ts'
import { readBody } from './request-body.ts'
import { deviceDocument, deviceSummary, etagOf, twinDocument } from './twin-documents.ts'
import { twinEvents } from './twin-watch.ts'
import {
  checkJsonType, checkPatchType, expectedRevision, parametersOf, readPatch, readPatchQuery, readState, writeRefusal
} from './twin-writes.ts'

export interface TwinRoutesOptions {
  readonly bodyBytesMax: number
  /** Watches at a time. */
  readonly watchesMax: number
  /** A comment goes to a watch after so much silence, milliseconds. */
  readonly heartbeatMs: number
  /** A watch whose reader takes nothing for so long is cut, milliseconds. */
  readonly stallMs: number
}

export interface TwinRoutesComponents {
  readonly twins: DeviceTwins
  /** What keeps a device from being served (TWN-41); '': nothing. Undefined: that is not known. */
  readonly troubleOf: (device: DeviceTwin) => string | undefined
  readonly clock: Clock
  /** Requests refused, by code. */
  readonly refused: Map<string, number>
  /** Told of acknowledgements: how long their commit took, milliseconds. */
  readonly onAck?: (latencyMs: number) => void
}

const pageLengthDefault = 500

/**
 * The twins of this node's devices over HTTP (docs/spec/device-http.md): `GET /v1/devices`, `GET /v1/devices/{ns}/{name}`,
 * `GET` and `PATCH …/twin`, `GET …/twin?watch`, `PUT …/state`. A write is answered once it is durable (L1). Refusals are
 * problem documents with a `code`: 400 for what cannot be stored, with property, rule and value, 404, 412, 413, 415, 503 with
 * Retry-After.
 */
export class TwinRoutes {
  readonly routes: readonly HttpRoute[]
  readonly #options: TwinRoutesOptions
  readonly #components: TwinRoutesComponents
  #watches = 0

  constructor(options: TwinRoutesOptions, components: TwinRoutesComponents) {
    this.#options = options
    this.#components = components
    const device = '/v1/devices/{namespace}/{name}'
    const routes: readonly HttpRoute[] = [
      { method: 'GET', path: '/v1/devices', handle: request => this.#list(request) },
      { method: 'GET', path: device, handle: request => this.#device(request) },
      { method: 'GET', path: `${device}/twin`, handle: request => this.#twin(request) },
      { method: 'PATCH', path: `${device}/twin`, handle: request => this.#patch(request) },
      { method: 'PUT', path: `${device}/state`, handle: request => this.#state(request) }
    ]
    this.routes = routes.map(route => countingRefusals(route, components.refused))
  }

  /** Open ones. */
  get watches(): number { return this.#watches }

  #list({ query }: HttpRequest): HttpReply {
    const { limit, after } = parametersOf(query, ['limit', 'after'])
    const lengthMax = httpLimits.devicesPage.value
    const length = limit === undefined ? pageLengthDefault : /^\d{1,4}$/.test(limit) ? Number(limit) : 0
    if (length < 1 || length > lengthMax) throw badParameter('limit', limit ?? '', `a whole number from 1 to ${lengthMax}`)
    const from = after === undefined ? undefined : parseDeviceId(after)
    if (after !== undefined && from === undefined) throw badParameter('after', after, '<namespace>/<name>')
    const page: DeviceTwin[] = []
    let more = false
    for (const held of this.#components.twins.all()) {
      if (from !== undefined && held.id <= from) continue
      more = page.length === length
      if (more) break
      page.push(held)
    }
    return jsonReply({ devices: page.map(deviceSummary), next: more ? page.at(-1)!.id : null })
  }

  #device(request: HttpRequest): HttpReply {
    parametersOf(request.query, [])
    const device = this.#held(request)
    return jsonReply(deviceDocument(device, this.#components.troubleOf(device)))
  }

  #twin(request: HttpRequest): HttpReply {
    const { watch } = parametersOf(request.query, ['watch'])
    if (watch !== undefined && !['', 'true', 'false'].includes(watch)) throw badParameter('watch', watch, 'true or false')
    const held = this.#held(request)
    return watch === undefined || watch === 'false' ? twinReply(held) : this.#watch(request, held)
  }

  #watch({ method, signal }: HttpRequest, { id }: DeviceTwin): HttpReply {
    const { watchesMax, heartbeatMs, stallMs } = this.#options
    const headers = { 'content-type': 'text/event-stream', 'cache-control': 'no-store' }
    if (method === 'HEAD' || signal.aborted) return { status: 200, headers }
    if (this.#watches >= watchesMax) {
      throw refusal(503, 'WATCHES_TOO_MANY', `${watchesMax} watches are open; try again`, {}, { 'retry-after': '5' })
    }
    this.#watches++
    signal.addEventListener('abort', () => { this.#watches-- }, { once: true })
    return { status: 200, headers, body: twinEvents(id, { heartbeatMs }, this.#components, signal), lasting: { stallMs } }
  }

  async #patch(request: HttpRequest): Promise<HttpReply> {
    this.#held(request)
    const query = readPatchQuery(request.query)
    checkPatchType(request)
    const body = await this.#body(request)
    const held = this.#held(request)
    const write = readPatch(body, query, expectedRevision(request, held))
    const { version } = query
    const seen = version === undefined ? request.headers['if-match'] ?? '' : version === null ? 'none' : formatVersion(version)
    const { after, stale } = await this.#write(held.id, write, seen)
    return twinReply(after, stale.length === 0 ? {} : { stale })
  }

  async #state(request: HttpRequest): Promise<HttpReply> {
    this.#held(request)
    parametersOf(request.query, [])
    checkJsonType(request)
    const write = readState(await this.#body(request))
    const { after } = await this.#write(this.#held(request).id, write, '')
    const { device, state, lastOnlineTime } = twinDocument(after)
    return jsonReply({ device, state, lastOnlineTime })
  }

  #body(request: HttpRequest): Promise<Buffer> {
    const bytesMax = httpLimits.twinBodyBytes.value
    return readBody(request, this.#options.bodyBytesMax, { code: 'BODY_TOO_LARGE', bytesMax })
  }

  /** Resolves when it is durable. Rejects with HttpProblem. */
  async #write(id: DeviceId, write: TwinWrite, seen: string): Promise<TwinWriting> {
    const { twins, clock, onAck } = this.#components
    const startMs = clock.monotonicMs()
    let writing: TwinWriting
    try {
      writing = twins.write(id, write, 'http')
    } catch (error) {
      throw writeRefusal(error, twins.get(id), write, seen)
    }
    await durable(writing)
    onAck?.(clock.monotonicMs() - startMs)
    return writing
  }

  #held({ params }: HttpRequest): DeviceTwin {
    const text = `${params['namespace']}/${params['name']}`
    const id = parseDeviceId(text)
    const held = id === undefined ? undefined : this.#components.twins.get(id)
    if (held === undefined) throw unknownDevice(text)
    return held
  }
}

function durable({ commit }: TwinWriting): Promise<void> {
  return new Promise((resolve, reject) => {
    if (commit === undefined) resolve()
    else commit.onDurable(error => { if (error === undefined) resolve(); else reject(storeRefusal(error)) })
  })
}

function twinReply(held: DeviceTwin, more: Readonly<Record<string, unknown>> = {}): HttpReply {
  const reply = jsonReply({ ...twinDocument(held), ...more })
  return { ...reply, headers: { ...reply.headers, etag: etagOf(held), 'cache-control': 'no-cache' } }
}

function unknownDevice(text: string): HttpProblem {
  return refusal(404, 'TWIN_DEVICE_UNKNOWN',
    `no device ${shown(text)} is on this node: its Device has to name the node in spec.nodeName, and to have come down`)
}
