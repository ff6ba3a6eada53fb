import type { IncomingHttpHeaders } from 'node:http'
import type { JsonObject } from '../object.ts'
import type { Registry } from '../registry.ts'
import { aggregatedDiscovery, coreVersions, groupDocument, groupList, resourceList, type AggregatedDiscovery } from './discovery.ts'
import type { ApiReply } from './http-host.ts'
import { jsonReply } from './json-reply.ts'
import { parseAccept } from './negotiation.ts'
import { OpenApi } from './openapi.ts'
import { methodNotAllowed, nothingThere } from './refusals.ts'

/** What `/version` says. Clients take major and minor for what the server can do. */
export interface ServerVersion {
  readonly major: string
  readonly minor: string
  readonly gitVersion: string
  readonly gitCommit: string
  readonly buildDate: string
  readonly platform: string
}

export interface DocumentsOptions { readonly version: ServerVersion }

export interface DocumentsComponents {
  readonly registry: Registry
  readonly notReady?: () => string | undefined
}

const textHeaders = { 'content-type': 'text/plain; charset=utf-8', 'x-content-type-options': 'nosniff' } as const

/** Everything that is not an object: discovery, OpenAPI, version and health. */
export class Documents {
  readonly #options: DocumentsOptions
  readonly #registry: Registry
  readonly #notReady: () => string | undefined
  readonly #openApi: OpenApi
  readonly #aggregated = new Map<string, AggregatedDiscovery>()
  #aggregatedGeneration = -1

  constructor(options: DocumentsOptions, { registry, notReady = () => undefined }: DocumentsComponents) {
    this.#options = options
    this.#registry = registry
    this.#notReady = notReady
    this.#openApi = new OpenApi(registry)
  }

  /** `path` has no trailing slash. Throws 404, 405 and 406. */
  reply(method: string, path: string, query: URLSearchParams, headers: IncomingHttpHeaders): ApiReply {
    const reply = this.#find(path, query, headers)
    if (reply === undefined) return this.pageNotFound()
    if (method !== 'GET' && method !== 'HEAD') throw methodNotAllowed()
    return reply()
  }

  pageNotFound(): ApiReply { return { status: 404, headers: textHeaders, body: '404 page not found\n' } }

  #find(path: string, query: URLSearchParams, headers: IncomingHttpHeaders): (() => ApiReply) | undefined {
    const [, first = '', second, third, ...more] = path.split('/')
    switch (first) {
      case '': return () => jsonReply({ paths: this.#paths() })
      case 'version': return second === undefined ? () => jsonReply(this.#version()) : undefined
      case 'healthz':
      case 'livez': return second === undefined || second === 'ping' ? () => this.#health('', query) : undefined
      case 'readyz': return second === undefined || second === 'ping'
        ? () => this.#health(this.#notReady() ?? '', query) : undefined
      case 'openapi': return this.#openApi.find(path, query, headers)
      case 'api':
        if (second === undefined) return () => this.#discovery(true, headers)
        return third === undefined ? () => this.#resources('', second) : undefined
      case 'apis': {
        if (second === undefined) return () => this.#discovery(false, headers)
        const group = this.#registry.group(second)
        if (group === undefined || second === '' || more.length > 0) return undefined
        if (third === undefined) return () => jsonReply(groupDocument(group))
        const isServed = group.versions.some(({ version }) => version === third)
        return isServed || !group.isCustom ? () => this.#resources(second, third) : undefined
      }
      default: return undefined
    }
  }

  #version(): JsonObject {
    return { ...this.#options.version, gitTreeState: 'clean', goVersion: 'none', compiler: 'none' }
  }

  #health(problem: string, query: URLSearchParams): ApiReply {
    const verbose = query.has('verbose')
    if (problem !== '') return { status: 500, headers: textHeaders, body: `[-]store failed: ${problem}\nreadyz check failed\n` }
    return { status: 200, headers: textHeaders, body: verbose ? '[+]ping ok\n[+]store ok\nreadyz check passed\n' : 'ok' }
  }

  #paths(): string[] {
    const paths = ['/api', '/apis', '/healthz', '/livez', '/openapi/v2', '/openapi/v3', '/readyz', '/version']
    for (const { name, versions } of this.#registry.groups) {
      const root = name === '' ? '/api' : `/apis/${name}`
      if (name !== '') paths.push(root)
      paths.push(...versions.map(({ version }) => `${root}/${version}`))
    }
    return paths.toSorted()
  }

  #resources(group: string, version: string): ApiReply {
    const found = this.#registry.group(group)?.versions.find(entry => entry.version === version)
    if (found === undefined) throw nothingThere()
    return jsonReply(resourceList(group, found))
  }

  #discovery(core: boolean, headers: IncomingHttpHeaders): ApiReply {
    const version = aggregatedVersion(headers.accept)
    if (version === undefined) {
      return jsonReply(core ? coreVersions(this.#registry, headers.host ?? '') : groupList(this.#registry))
    }
    const { document, etag } = this.#aggregatedOf(core, version)
    const common = { etag, vary: 'Accept', 'cache-control': 'public' }
    if (headers['if-none-match'] === etag) return { status: 304, headers: common }
    const contentType = `application/json;g=apidiscovery.k8s.io;v=${version};as=APIGroupDiscoveryList`
    return jsonReply(document, 200, { ...common, 'content-type': contentType })
  }

  #aggregatedOf(core: boolean, version: 'v2' | 'v2beta1'): AggregatedDiscovery {
    if (this.#aggregatedGeneration !== this.#registry.generation) {
      this.#aggregated.clear()
      this.#aggregatedGeneration = this.#registry.generation
    }
    const key = `${core} ${version}`
    const found = this.#aggregated.get(key) ?? aggregatedDiscovery(this.#registry, core, version)
    this.#aggregated.set(key, found)
    return found
  }
}

function aggregatedVersion(accept: string | undefined): 'v2' | 'v2beta1' | undefined {
  for (const { type, parameters } of parseAccept(accept)) {
    if (type !== 'application/json') continue
    if (parameters.get('as') === undefined) return undefined
    const version = parameters.get('v')
    if (parameters.get('as') === 'APIGroupDiscoveryList' && parameters.get('g') === 'apidiscovery.k8s.io'
      && (version === 'v2' || version === 'v2beta1')) return version
  }
  return undefined
}
