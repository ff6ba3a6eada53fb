import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { KubeAccess } from '../kube-access.ts'
import { KubeconfigFolder } from './kubeconfig-folder.ts'

/** One request, to be answered by the test. */
export class Exchange {
  readonly method: string
  readonly url: URL
  readonly headers: IncomingMessage['headers']
  readonly body: unknown
  readonly #response: ServerResponse

  constructor(request: IncomingMessage, body: string, response: ServerResponse) {
    this.method = request.method!
    this.url = new URL(request.url!, 'http://api')
    this.headers = request.headers
    this.body = body === '' ? undefined : JSON.parse(body) as unknown
    this.#response = response
  }

  get isWatch(): boolean { return this.url.searchParams.has('watch') }

  reply(status: number, document: unknown, headers: Record<string, string> = {}): void {
    this.#response.writeHead(status, { 'content-type': 'application/json', ...headers })
    this.#response.end(typeof document === 'string' ? document : JSON.stringify(document))
  }

  /** Events, or pieces of them, of a watch that stays open. */
  send(...events: (object | string)[]): void {
    if (!this.#response.headersSent) this.#response.writeHead(200, { 'content-type': 'application/json' })
    this.#response.flushHeaders()
    for (const event of events) this.#response.write(typeof event === 'string' ? event : `${JSON.stringify(event)}\n`)
  }

  end(): void { this.#response.end() }

  /** Breaks the connection off, once what was sent before is on its way. */
  async cut(): Promise<void> {
    await new Promise<void>(resolve => { this.#response.write('', () => { resolve() }) })
    this.#response.destroy()
  }

  /** Resolves when the client has gone away. */
  async left(): Promise<void> { if (!this.#response.destroyed) await once(this.#response, 'close') }
}

/** An API server on a free port of 127.0.0.1 whose answers the test gives, request by request. */
export class ScriptedApi implements AsyncDisposable {
  readonly #server: Server
  readonly #waiting: Exchange[] = []
  readonly #wanted: ((exchange: Exchange) => void)[] = []
  #kubeconfig: KubeconfigFolder | undefined

  private constructor() {
    this.#server = createServer((request, response) => {
      let body = ''
      request.setEncoding('utf8').on('data', (text: string) => { body += text }).on('end', () => {
        const exchange = new Exchange(request, body, response)
        const wanted = this.#wanted.shift()
        if (wanted === undefined) this.#waiting.push(exchange)
        else wanted(exchange)
      })
    })
  }

  static async open(): Promise<ScriptedApi> {
    const api = new ScriptedApi()
    api.#server.listen(0, '127.0.0.1')
    await once(api.#server, 'listening')
    api.#kubeconfig = await KubeconfigFolder.write({ name: 'scripted', server: api.url, token: 'a-token' })
    return api
  }

  get url(): string { return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}` }

  get access(): KubeAccess { return this.#kubeconfig!.access }

  /** Requests that came and were not taken yet. */
  get unread(): number { return this.#waiting.length }

  /** The next request, in the order in which they came. */
  next(): Promise<Exchange> {
    const exchange = this.#waiting.shift()
    return exchange === undefined ? new Promise(resolve => { this.#wanted.push(resolve) }) : Promise.resolve(exchange)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections()
    this.#server.close()
    await once(this.#server, 'close')
    await this.#kubeconfig?.[Symbol.asyncDispose]()
  }
}

/** A ConfigMap as the API shows it in an event. */
export function configMap(name: string, version: number, data: Record<string, string> = {}, uid = `uid-${name}`): object {
  return { kind: 'ConfigMap', apiVersion: 'v1', metadata: { name, namespace: 'default', uid, resourceVersion: String(version) }, data }
}

/** A page of ConfigMaps, the items without `kind` and `apiVersion`, as the API shows it. */
export function configMapList(version: number, items: readonly object[], next?: string): object {
  return {
    kind: 'ConfigMapList',
    apiVersion: 'v1',
    metadata: { resourceVersion: String(version), ...next !== undefined && { continue: next } },
    items: items.map(item => {
      const { kind: _, apiVersion: __, ...rest } = item as Record<string, unknown>
      return rest
    })
  }
}

/** A failure as the API tells it. */
export function failure(code: number, reason: string, message: string): object {
  return { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message, reason, code }
}
