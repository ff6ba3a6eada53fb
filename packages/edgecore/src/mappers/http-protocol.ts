import type { Json } from '@holdfast/device-twin'
import { backoffDelayMs, describeError, hasCode } from '@holdfast/runtime'
import type { Clock, Random, Timer } from '@holdfast/runtime'
import type { Commit } from '@holdfast/store'
import { z } from 'zod'
import type { DeviceId } from '../twins/device-twins.ts'
import { conversionSettings, describeConversion, fromDevice, toDevice } from './conversion.ts'
import { DeviceAnswered, HttpClient } from './http-client.ts'
import { JsonPayload, shown } from './json-payload.ts'
import { mapperLimits as limits } from './limits.ts'
import { Misconfigured } from './mapper.ts'
import type { DeviceHost, DeviceMapper, MappedDevice, MappedProperty, Protocol } from './mapper.ts'
import { valueAt } from './pointer.ts'
import { jsonPointer, readSettings, someText } from './settings.ts'
import { fillTemplate, templateSetting } from './template.ts'

const pathSetting = someText('a path such as /status, with its query', 2048, text => /^\/[^\s#]*$/.test(text))
const pathTemplate = templateSetting().refine(text => /^\/[^\s#]*$/.test(text), {
  error: 'expected a path such as /relay/0?turn={{value}}'
})
const contentType = someText('a content type', 256, text => /^[\x20-\x7e]+$/.test(text))
const timeoutExpected = `expected milliseconds, a whole number from 100 to ${limits.httpTimeoutMs.value}`
const timeoutSetting = z.number({ error: timeoutExpected }).refine(
  ms => Number.isInteger(ms) && ms >= 100 && ms <= limits.httpTimeoutMs.value, { error: timeoutExpected })

const headerSettings = z.record(
  z.string().regex(/^[A-Za-z0-9-]{1,128}$/, { error: 'expected names of letters, digits and "-"' }),
  someText('printable text', 4096, text => /^[\t\x20-\x7e]*$/.test(text))
).refine(headers => Object.keys(headers).length <= 32, { error: 'expected at most 32 headers' })

/** `spec.protocol.configData` of a Device with protocol `http`. */
const deviceSettings = z.strictObject({
  url: someText('a base address such as http://192.168.1.20', 2048, isBaseUrl).optional(),
  headers: headerSettings.default({}),
  timeout: timeoutSetting.default(5000)
})

/** `visitors.configData` of a property. */
const propertySettings = z.strictObject({
  method: z.enum(['GET', 'POST'], { error: 'expected GET or POST' }).default('GET'),
  path: pathSetting.optional(),
  body: someText('text', limits.templateLength.value).optional(),
  pointer: jsonPointer().optional(),
  conversion: conversionSettings.optional(),
  webhook: z.boolean({ error: 'expected true or false' }).default(false),
  write: z.strictObject({
    method: z.enum(['GET', 'POST', 'PUT', 'PATCH'], { error: 'expected GET, POST, PUT or PATCH' }).default('PUT'),
    path: pathTemplate,
    body: templateSetting().optional(),
    contentType: contentType.default('application/json')
  }).optional()
}).refine(({ path, webhook, write }) => path !== undefined || webhook || write !== undefined, {
  error: 'expected path (asked at each collectCycle), webhook: true (the device calls), write, or several of them'
})

type PropertySettings = z.output<typeof propertySettings>

interface HttpProperty extends PropertySettings {
  readonly property: MappedProperty
}

/** Properties that one request answers. */
interface Poll {
  readonly method: 'GET' | 'POST'
  readonly path: string
  readonly body: string | undefined
  readonly properties: HttpProperty[]
  intervalMs: number
  /** Monotonic. */
  dueMs: number
}

const intervalDefaultMs = 10_000
/** So many failures in a row, and the device counts as offline. */
const failuresUntilOffline = 3
/** First ceiling of the pause after a failure. */
const backoffBaseMs = 1000

/** What a device sent of its own accord. */
export interface DeviceReport {
  /** Properties that its visitors found in it, and that were stored. */
  readonly properties: readonly string[]
  /** What could not be read or stored, and why; without a property: the device as a whole. */
  readonly problems: readonly { readonly property?: string, readonly reason: string }[]
  /** What the answer waits for; undefined: nothing. */
  readonly commit: Commit | undefined
}

/** For whoever receives over HTTP what devices send of their own accord. */
export interface DeviceReports {
  /**
   * Undefined: no such device here, or none of protocol `http` with a property that has `webhook: true`.
   * Throws HoldfastError `DISK_FULL` or `STORE_FAILED`.
   */
  take(id: DeviceId, body: Buffer): DeviceReport | undefined
}

export interface HttpProtocolComponents {
  readonly clock: Clock
  readonly random: Random
}

/** Devices that are asked over HTTP, or that call over HTTP themselves. */
export class HttpProtocol implements Protocol, DeviceReports {
  readonly name = 'http' as const
  readonly #components: HttpProtocolComponents
  readonly #client = new HttpClient()
  readonly #devices = new Map<DeviceId, HttpDevice>()

  constructor(components: HttpProtocolComponents) { this.#components = components }

  attach(device: MappedDevice, host: DeviceHost): DeviceMapper {
    const served = new HttpDevice(device, host, this.#client, this.#components, () => { this.#devices.delete(device.id) })
    this.#devices.set(device.id, served)
    return served
  }

  take(id: DeviceId, body: Buffer): DeviceReport | undefined {
    const device = this.#devices.get(id)
    return device?.hasWebhook === true ? device.takeReport(body) : undefined
  }
}

/** One thing at a time: what is to be written first, then what is to be asked. */
class HttpDevice implements DeviceMapper {
  readonly writable: ReadonlySet<string>
  readonly hasWebhook: boolean
  readonly #host: DeviceHost
  readonly #client: HttpClient
  readonly #clock: Clock
  readonly #random: Random
  readonly #settings: z.output<typeof deviceSettings>
  readonly #properties = new Map<string, HttpProperty>()
  readonly #polls: Poll[] = []
  readonly #closed = new AbortController()
  readonly #onClose: () => void
  #busy = false
  readonly #writes: (() => Promise<void>)[] = []
  #timer: Timer | undefined
  /** In a row. */
  #failures = 0
  #answered = false
  #pausedUntilMs = -Infinity

  constructor(
    device: MappedDevice, host: DeviceHost, client: HttpClient, { clock, random }: HttpProtocolComponents, onClose: () => void
  ) {
    this.#host = host
    this.#client = client
    this.#clock = clock
    this.#random = random
    this.#onClose = onClose
    this.#settings = readSettings(deviceSettings, device.settings, 'spec.protocol.configData')
    for (const property of device.properties) {
      try {
        this.#add(property)
      } catch (error) {
        if (!(error instanceof Misconfigured)) throw error
        host.misconfigured(property.name, error.message)
      }
    }
    const properties = [...this.#properties]
    this.writable = new Set(properties.filter(([, { write }]) => write !== undefined).map(([name]) => name))
    this.hasWebhook = properties.some(([, { webhook }]) => webhook)
    this.#next()
  }

  /** Resolves when the device has answered; where nothing reads the property back, its answer is the report. */
  write(name: string, value: Json, signal: AbortSignal): Promise<void> {
    const { property, conversion, write, path, webhook } = this.#properties.get(name)!
    const told = toDevice(value, conversion)
    if (told === undefined) return Promise.reject(new Error(`no word of the device means ${JSON.stringify(value)} (conversion)`))
    const { method, path: target, body, contentType: type } = write!
    const filled = body === undefined ? undefined : fillTemplate(body, told)
    // Within a path the value is one part of it, whatever it holds.
    const filledPath = target.replaceAll(/\{\{(?:value|json)\}\}/g, part => encodeURIComponent(fillTemplate(part, told)))
    return new Promise((resolve, reject) => {
      this.#writes.push(async () => {
        try {
          signal.throwIfAborted()
          await this.#request(method, filledPath, filled, filled === undefined ? undefined : type, signal)
          this.#answers()
          if (path === undefined && !webhook) this.#store(() => this.#host.report(new Map([[property.name, value]])))
          // What it says now, and not at the end of its interval.
          for (const poll of this.#polls) if (poll.properties.some(read => read.property === property)) poll.dueMs = -Infinity
          resolve()
        } catch (error) {
          if (!signal.aborted) this.#failed(error, [])
          reject(error instanceof Error ? error : new Error(describeError(error)))
        }
      })
      this.#next()
    })
  }

  takeReport(body: Buffer): DeviceReport {
    const hooked = [...this.#properties.values()].filter(({ webhook }) => webhook)
    const problems: { property?: string, reason: string }[] = []
    const values = this.#read(hooked, 'the webhook', new JsonPayload(body), (property, reason) => { problems.push({ property, reason }) })
    const taken = new Set(values.keys())
    const reported = values.size === 0 ? undefined : this.#host.report(values, (property, reason) => {
      problems.push({ ...property !== undefined && { property }, reason })
      if (property === undefined) taken.clear()
      else taken.delete(property)
    })
    return { properties: [...taken], problems, commit: this.#host.reportState('online') ?? reported }
  }

  close(): void {
    this.#closed.abort(new Error('the device is not served any more'))
    this.#timer?.cancel()
    this.#onClose()
  }

  #add(property: MappedProperty): void {
    const settings = readSettings(propertySettings, property.settings, 'visitors.configData')
    const { method, path, body, write } = settings
    if ((path !== undefined || write !== undefined) && this.#settings.url === undefined) {
      throw new Misconfigured('spec.protocol.configData.url: expected an address such as http://192.168.1.20, for the visitor has a path')
    }
    const read = { ...settings, property }
    this.#properties.set(property.name, read)
    if (path === undefined) return
    const cycleMs = property.collectCycleMs ?? intervalDefaultMs
    const intervalMs = Math.min(limits.httpIntervalMsMax.value, Math.max(limits.httpIntervalMs.value, cycleMs))
    const poll = this.#polls.find(other => other.method === method && other.path === path && other.body === body)
    if (poll === undefined) this.#polls.push({ method, path, body, properties: [read], intervalMs, dueMs: -Infinity })
    else {
      poll.properties.push(read)
      poll.intervalMs = Math.min(poll.intervalMs, intervalMs)
    }
  }

  #next(): void {
    this.#timer?.cancel()
    this.#timer = undefined
    if (this.#busy || this.#closed.signal.aborted) return
    const write = this.#writes.shift()
    if (write !== undefined) {
      void this.#do(write)
      return
    }
    let next: Poll | undefined
    for (const poll of this.#polls) if (next === undefined || poll.dueMs < next.dueMs) next = poll
    if (next === undefined) return
    const nowMs = this.#clock.monotonicMs()
    const dueMs = Math.max(next.dueMs, this.#pausedUntilMs)
    if (dueMs > nowMs) this.#timer = this.#clock.after(dueMs - nowMs, () => this.#next())
    else void this.#do(() => this.#poll(next))
  }

  async #do(task: () => Promise<void>): Promise<void> {
    this.#busy = true
    try {
      await task()
    } catch (error) {
      // Neither the device's doing nor the disk's: shown, and the device is asked again all the same.
      if (!this.#closed.signal.aborted) this.#host.problem(undefined, describeError(error))
    }
    this.#busy = false
    this.#next()
  }

  async #poll(poll: Poll): Promise<void> {
    poll.dueMs = this.#clock.monotonicMs() + poll.intervalMs
    const { method, path, body, properties } = poll
    try {
      const answer = await this.#request(method, path, body, body === undefined ? undefined : 'application/json')
      if (this.#closed.signal.aborted) return
      for (const { property } of properties) this.#host.heard(property.name)
      const values = this.#read(properties, path, new JsonPayload(answer))
      if (values.size > 0) this.#store(() => this.#host.report(values))
      this.#answers()
    } catch (error) {
      if (!this.#closed.signal.aborted) this.#failed(error, properties)
    }
  }

  async #request(
    method: string, path: string, body: string | undefined, type: string | undefined, signal?: AbortSignal
  ): Promise<Buffer> {
    const { url, headers, timeout } = this.#settings
    const late = new AbortController()
    let timer: Timer | undefined
    try {
      return await this.#client.request({
        method, body, url: new URL(url!.replace(/\/+$/, '') + path),
        headers: { ...type === undefined ? {} : { 'content-type': type }, ...headers }
      }, this.#answered, AbortSignal.any([this.#closed.signal, late.signal, ...signal === undefined ? [] : [signal]]), () => {
        const reason = `${method} ${url}${path} was not answered within ${timeout} ms`
        timer = this.#clock.after(timeout, () => late.abort(new Error(reason)))
      })
    } finally {
      timer?.cancel()
    }
  }

  #read(
    properties: readonly HttpProperty[], where: string, document: JsonPayload, onProblem?: (property: string, reason: string) => void
  ): Map<string, Json> {
    const values = new Map<string, Json>()
    const problem = (name: string, reason: string): void => {
      this.#host.problem(name, reason)
      onProblem?.(name, reason)
    }
    for (const { property: { name }, pointer, conversion } of properties) {
      if (pointer !== undefined && document.value === undefined) {
        problem(name, `${where}: expected JSON, since the visitor has a pointer, got ${shown(document.text)}`)
        continue
      }
      const raw = pointer === undefined ? document.text : valueAt(document.value!, pointer)
      if (raw === undefined || raw === null) continue
      const value = fromDevice(raw, conversion)
      if (value !== undefined) values.set(name, value)
      else problem(name, `${where}: expected ${describeConversion(conversion!)}, got ${shown(JSON.stringify(raw))}`)
    }
    return values
  }

  /** Also where it answers with an error: it is there, and what it refuses is trouble of its properties. */
  #answers(): void {
    this.#failures = 0
    this.#answered = true
    this.#pausedUntilMs = -Infinity
    this.#store(() => this.#host.reportState('online'))
  }

  #failed(error: unknown, properties: readonly HttpProperty[]): void {
    for (const { property } of properties) this.#host.problem(property.name, describeError(error))
    if (error instanceof DeviceAnswered) {
      this.#answers()
      return
    }
    this.#answered = false
    this.#failures++
    this.#pausedUntilMs = this.#clock.monotonicMs() +
      backoffDelayMs(this.#failures - 1, { baseMs: backoffBaseMs, maxMs: limits.httpBackoffMs.value }, this.#random)
    if (this.#failures >= failuresUntilOffline) this.#store(() => this.#host.reportState('offline'))
  }

  /** What cannot be stored just now is the node's trouble, and is asked for again. */
  #store(report: () => Commit | undefined): void {
    try {
      report()
    } catch (error) {
      if (!['DISK_FULL', 'OUTBOX_FULL', 'STORE_FAILED'].some(code => hasCode(error, code))) throw error
    }
  }
}

/** With nothing behind its path. */
function isBaseUrl(text: string): boolean {
  if (!URL.canParse(text)) return false
  const { protocol, search, hash, username, password } = new URL(text)
  return (protocol === 'http:' || protocol === 'https:') && search + hash + username + password === ''
}
