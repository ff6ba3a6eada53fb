import type { IncomingMessage } from 'node:http'
import { HoldfastError, describeError } from '@holdfast/runtime'
import type { CliErrorCode } from './error-codes.ts'
import type { KubeAccess } from './kubeconfig.ts'
import { readText, sendRequest } from './service-client.ts'

/** An object as it was parsed; nothing in it is taken for granted. */
export type KubeObject = Readonly<Record<string, unknown>>

export interface KubeList {
  readonly items: readonly KubeObject[]
  readonly resourceVersion: string
}

/** An event of a watch; `object` is a Status where the type is `ERROR`. */
export interface KubeEvent {
  readonly type: string
  readonly object: KubeObject
}

const pageLength = 500
const eventLengthMax = 8 * 1024 * 1024

/**
 * The few requests that the commands have for a Kubernetes API. Everything rejects with `CLUSTER_UNREACHABLE`, `CLUSTER_REFUSED`,
 * `CLUSTER_ANSWER_INVALID` or `CLUSTER_CONNECTION_LOST`, or with the signal's reason.
 */
export class KubeClient {
  readonly #access: KubeAccess

  constructor(access: KubeAccess) { this.#access = access }

  /** Undefined: 404 for this object. A resource that is not served at all is `CLUSTER_ANSWER_INVALID`. */
  async get(path: string, signal: AbortSignal): Promise<KubeObject | undefined> {
    const response = await this.#send('GET', path, {}, undefined, signal)
    if (response.statusCode !== 404) return await this.#object(response, path)
    const status = await this.#status(response)
    // What is not served is answered without saying which object there is none of.
    if (recordOf(status?.['details'])['name'] === undefined) throw this.#notServed(path)
    return undefined
  }

  /** All pages. */
  async list(path: string, query: Readonly<Record<string, string>>, signal: AbortSignal): Promise<KubeList> {
    const items: KubeObject[] = []
    for (let next = ''; ;) {
      const parameters = new URLSearchParams({ ...query, limit: String(pageLength), ...next !== '' && { continue: next } })
      const response = await this.#send('GET', `${path}?${parameters}`, {}, undefined, signal)
      if (response.statusCode === 404) {
        response.resume()
        throw this.#notServed(path)
      }
      const list = await this.#object(response, path)
      if (!Array.isArray(list['items'])) throw this.#notKubernetes(`${path} is no list`)
      items.push(...list['items'].map(recordOf))
      const { continue: more, resourceVersion } = recordOf(list['metadata'])
      if (typeof more !== 'string' || more === '') {
        return { items, resourceVersion: typeof resourceVersion === 'string' ? resourceVersion : '' }
      }
      next = more
    }
  }

  /** Merges `patch` into the object (RFC 7396). Undefined: it has another resourceVersion than the one in the patch. */
  async patch(path: string, patch: KubeObject, signal: AbortSignal): Promise<KubeObject | undefined> {
    const response = await this.#send('PATCH', `${path}?fieldManager=holdfast`, {
      'content-type': 'application/merge-patch+json'
    }, JSON.stringify(patch), signal)
    if (response.statusCode !== 409) return await this.#object(response, path)
    response.resume()
    return undefined
  }

  /** Events from behind `resourceVersion`, until the server ends the watch. */
  async *watch(
    path: string, query: Readonly<Record<string, string>>, resourceVersion: string, signal: AbortSignal
  ): AsyncGenerator<KubeEvent> {
    const parameters = new URLSearchParams({ ...query, watch: 'true', resourceVersion })
    const response = await this.#send('GET', `${path}?${parameters}`, {}, undefined, signal)
    if (response.statusCode !== 200) throw await this.#refused(response, path)
    response.setEncoding('utf8')
    let rest = ''
    try {
      for await (const text of response as AsyncIterable<string>) {
        const lines = (rest + text).split('\n')
        rest = lines.pop()!
        if (rest.length > eventLengthMax) throw new Error(`an event is longer than ${eventLengthMax} characters`)
        for (const line of lines.filter(each => each !== '')) {
          const event = recordOf(JSON.parse(line))
          yield { type: String(event['type']), object: recordOf(event['object']) }
        }
      }
    } catch (error) {
      throw signal.aborted ? error : this.#lost(error)
    }
  }

  async #send(
    method: 'GET' | 'PATCH', path: string, headers: Readonly<Record<string, string>>, body: string | undefined,
    signal: AbortSignal
  ): Promise<IncomingMessage> {
    const { server, token, tls } = this.#access
    return await sendRequest(new URL(server + path), {
      ...tls, method,
      headers: { accept: 'application/json', ...token !== undefined && { authorization: `Bearer ${token}` }, ...headers }
    }, body, signal).catch((error: unknown) => { throw signal.aborted ? error : this.#unreachable(error) })
  }

  async #object(response: IncomingMessage, path: string): Promise<KubeObject> {
    const { statusCode = 0 } = response
    if (statusCode < 200 || statusCode > 299) throw await this.#refused(response, path)
    const text = await this.#text(response)
    try {
      return recordOf(JSON.parse(text))
    } catch (error) {
      throw this.#notKubernetes(`its answer is not JSON: ${text.slice(0, 80)}`, error)
    }
  }

  async #refused(response: IncomingMessage, path: string): Promise<HoldfastError> {
    const { statusCode = 0 } = response
    const status = await this.#status(response)
    if (status === undefined) return this.#notKubernetes(`it answered ${path} with status ${statusCode}`)
    const { message } = status
    const reason = typeof message === 'string' && message !== '' ? message : `status ${statusCode}`
    const who = statusCode === 401 ? `: the credentials in ${this.#access.source} are not accepted` : ''
    return failure('CLUSTER_REFUSED', `the Kubernetes API at ${this.#access.server} refused: ${reason}${who}`)
  }

  /** A Status; undefined where it is none. */
  async #status(response: IncomingMessage): Promise<KubeObject | undefined> {
    try {
      const value = recordOf(JSON.parse(await this.#text(response)))
      return value['kind'] === 'Status' ? value : undefined
    } catch {
      return undefined
    }
  }

  async #text(response: IncomingMessage): Promise<string> {
    try {
      return await readText(response, bytesMax => this.#notKubernetes(`its answer is larger than ${bytesMax} bytes`))
    } catch (error) {
      throw error instanceof HoldfastError ? error : this.#lost(error)
    }
  }

  #unreachable(error: unknown): HoldfastError {
    const { server, source } = this.#access
    const others = 'give another one with --kubeconfig, or ask the node itself with --edge'
    return failure('CLUSTER_UNREACHABLE', describeError(error).includes('ECONNREFUSED')
      ? `nothing listens at ${server}, the Kubernetes API of ${source}: start cloudcore or the cluster, ${others}`
      : `${server}, the Kubernetes API of ${source}, does not answer (${describeError(error)}): ${others}`, error)
  }

  #lost(error: unknown): HoldfastError {
    const { server } = this.#access
    return failure('CLUSTER_CONNECTION_LOST', `the connection to ${server} broke off (${describeError(error)}): ask again`, error)
  }

  #notServed(path: string): HoldfastError {
    return this.#notKubernetes(`it serves no ${path.split('?')[0]}; in a cluster apply the definitions in deploy/crds`)
  }

  #notKubernetes(what: string, cause?: unknown): HoldfastError {
    const { server, source } = this.#access
    return failure('CLUSTER_ANSWER_INVALID', `${server} (${source}) is not a Kubernetes API with devices: ${what}`, cause)
  }
}

/** Its members; none where it is no object. */
export function recordOf(value: unknown): KubeObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? value as KubeObject : {}
}

const failure = (
  code: Extract<CliErrorCode, `CLUSTER_${string}`>, message: string, cause?: unknown
): HoldfastError => new HoldfastError(code, message, cause === undefined ? undefined : { cause })
