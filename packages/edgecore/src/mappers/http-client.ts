import type { Agent, IncomingMessage, request as httpRequest } from 'node:http'
import { mapperLimits as limits } from './limits.ts'

export interface DeviceRequest {
  readonly method: string
  readonly url: URL
  readonly headers: Readonly<Record<string, string>>
  readonly body: string | undefined
}

interface Library {
  readonly request: typeof httpRequest
  readonly agent: Agent
}

/** The device's answer was another one than 2xx. */
export class DeviceAnswered extends Error {}

/**
 * Requests to devices: so many at a time over all devices, no redirects, bounded answers, a connection for each (small
 * devices have few, and close them when they like).
 */
export class HttpClient {
  readonly #libraries = new Map<string, Library>()
  /** Devices that answered the last time never wait behind those that did not (L9). */
  readonly #answering = new Places(limits.httpRequests.value)
  readonly #silent = new Places(limits.httpRequestsDoubtful.value)

  /**
   * The body of a 2xx answer. Rejects on any other one (DeviceAnswered), past the bound, and with the signal's reason. `begun` is
   * called when it is the request's turn.
   */
  async request(request: DeviceRequest, answersUsually: boolean, signal: AbortSignal, begun: () => void): Promise<Buffer> {
    const places = answersUsually ? this.#answering : this.#silent
    await places.take(signal)
    try {
      begun()
      return await this.#send(request, signal)
    } finally {
      places.leave()
    }
  }

  async #send({ method, url, headers, body }: DeviceRequest, signal: AbortSignal): Promise<Buffer> {
    const { request, agent } = await this.#library(url.protocol)
    signal.throwIfAborted()
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const sent = request(url, {
        method, agent, signal,
        headers: {
          accept: '*/*', 'accept-encoding': 'identity', ...headers,
          ...body === undefined ? {} : { 'content-length': Buffer.byteLength(body) }
        }
      }, resolve)
      sent.on('error', error => reject(signal.aborted ? signal.reason as Error : error))
      sent.end(body)
    })
    const bytesMax = limits.httpResponseBytes.value
    const chunks: Buffer[] = []
    let bytes = 0
    try {
      for await (const chunk of response as AsyncIterable<Buffer>) {
        bytes += chunk.length
        if (bytes > bytesMax) throw new Error(`the answer has more than ${bytesMax} bytes`)
        chunks.push(chunk)
      }
    } catch (error) {
      throw signal.aborted ? signal.reason as Error : error as Error
    }
    const { statusCode = 0 } = response
    if (statusCode < 200 || statusCode > 299) throw new DeviceAnswered(`${method} ${url.href} was answered ${statusCode}`)
    return Buffer.concat(chunks)
  }

  /** Loaded with the first device that needs it. */
  async #library(protocol: string): Promise<Library> {
    const { request, Agent: ProtocolAgent } = protocol === 'https:' ? await import('node:https') : await import('node:http')
    let library = this.#libraries.get(protocol)
    if (library === undefined) {
      library = { request, agent: new ProtocolAgent({ keepAlive: false }) }
      this.#libraries.set(protocol, library)
    }
    return library
  }
}

/** So many at a time; who has to wait goes on first come, first served. */
class Places {
  #free: number
  readonly #waiting: (() => void)[] = []

  constructor(count: number) { this.#free = count }

  take(signal: AbortSignal): Promise<void> {
    if (signal.aborted) return Promise.reject(signal.reason as Error)
    if (this.#free > 0) {
      this.#free--
      return Promise.resolve()
    }
    return new Promise((resolve, reject) => {
      const go = (): void => {
        signal.removeEventListener('abort', abort)
        resolve()
      }
      const abort = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(go), 1)
        reject(signal.reason as Error)
      }
      signal.addEventListener('abort', abort, { once: true })
      this.#waiting.push(go)
    })
  }

  leave(): void {
    const next = this.#waiting.shift()
    if (next === undefined) this.#free++
    else next()
  }
}
