import { createHash } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import type { JsonObject } from '../object.ts'
import type { Registry, ServedResource, ServedVersion } from '../registry.ts'
import type { ApiReply } from './http-host.ts'
import { parseAccept } from './negotiation.ts'
import { schemasOf } from './openapi-schemas.ts'
import { emptyDocumentV2 } from './openapi-protobuf.ts'

interface Encoded {
  readonly bytes: Uint8Array
  /** In capitals, as kube-apiserver writes it. */
  readonly hash: string
}

const info = { title: 'Kubernetes', version: '1.32' }
const protobufV2 = 'application/com.github.proto-openapi.spec.v2.v1.0+protobuf'

/**
 * OpenAPI, as far as kubectl needs it: v2 without definitions, so that old clients leave checking to the server; v3 with a
 * document for each group and version, from which newer ones learn that the server checks fields and takes dry runs,
 * and what `explain` shows.
 */
export class OpenApi {
  readonly #registry: Registry
  #generation = -1
  #documents = new Map<string, Encoded>()

  constructor(registry: Registry) { this.#registry = registry }

  find(path: string, query: URLSearchParams, headers: IncomingHttpHeaders): (() => ApiReply) | undefined {
    if (path === '/openapi/v2') return () => this.#v2(headers)
    if (path === '/openapi/v3') return () => this.#index()
    const prefix = '/openapi/v3/'
    if (!path.startsWith(prefix)) return undefined
    const name = path.slice(prefix.length)
    return () => this.#v3(name, path, query, headers)
  }

  #v2(headers: IncomingHttpHeaders): ApiReply {
    const vary = 'Accept'
    for (const { type } of parseAccept(headers.accept)) {
      const isJson = type === 'application/json' || type === '*/*' || type === 'application/*'
      const isProtobuf = type === protobufV2 || type === protobufV2.replace('v2.v1.0', 'v2@v1.0')
      if (!isJson && !isProtobuf) continue
      const { bytes, hash } = encoded(isJson ? JSON.stringify({ swagger: '2.0', info, paths: {} }) : emptyDocumentV2(info))
      const common = { etag: `"${hash}"`, vary }
      if (headers['if-none-match'] === common.etag) return { status: 304, headers: common }
      return { status: 200, headers: { ...common, 'content-type': isJson ? 'application/json' : protobufV2 }, body: bytes }
    }
    return { status: 406, headers: { vary } }
  }

  #index(): ApiReply {
    const paths = Object.fromEntries([...this.#current()].map(([name, { hash }]) =>
      [name, { serverRelativeURL: `/openapi/v3/${name}?hash=${hash}` }]))
    return { status: 200, headers: { 'content-type': 'text/plain; charset=utf-8' }, body: JSON.stringify({ paths }) }
  }

  #v3(name: string, path: string, query: URLSearchParams, headers: IncomingHttpHeaders): ApiReply {
    const found = this.#current().get(name)
    if (found === undefined) return { status: 404 }
    const isJson = parseAccept(headers.accept).some(({ type }) => ['application/json', 'application/*', '*/*'].includes(type))
    if (!isJson) return { status: 406, headers: { vary: 'Accept' } }
    const wanted = query.get('hash')
    const common = { 'content-type': 'application/json', etag: `"${found.hash}"`, vary: 'Accept' }
    if (wanted !== null && wanted !== found.hash) {
      return { status: 301, headers: { ...common, location: `${path}?hash=${found.hash}` } }
    }
    const cacheControl = wanted === null ? 'no-cache, private' : 'public, immutable'
    if (headers['if-none-match'] === common.etag) return { status: 304, headers: common }
    return { status: 200, headers: { ...common, 'cache-control': cacheControl }, body: found.bytes }
  }

  /** The documents by name: `api/v1`, `apis/apps/v1`. Made again when the definitions change. */
  #current(): ReadonlyMap<string, Encoded> {
    if (this.#generation !== this.#registry.generation) {
      this.#documents = new Map(this.#registry.groups.flatMap(({ name, versions }) => versions.map(version =>
        [name === '' ? `api/${version.version}` : `apis/${name}/${version.version}`,
          encoded(JSON.stringify(documentOf(name, version)))] as const)))
      this.#generation = this.#registry.generation
    }
    return this.#documents
  }
}

function encoded(text: string | Uint8Array): Encoded {
  const bytes = Buffer.from(text)
  return { bytes, hash: createHash('sha512').update(bytes).digest('hex').toUpperCase() }
}

function documentOf(group: string, { version, resources }: ServedVersion): JsonObject {
  const root = group === '' ? `/api/${version}` : `/apis/${group}/${version}`
  return {
    openapi: '3.0.0',
    info,
    paths: Object.fromEntries(resources.flatMap(served => pathsOf(root, served))),
    components: { schemas: schemasOf(resources) }
  }
}

const writeParameters: JsonObject[] = ['dryRun', 'fieldManager', 'fieldValidation'].map(name =>
  ({ name, in: 'query', schema: { type: 'string', uniqueItems: true } }))

function pathsOf(root: string, { resource }: ServedResource): [string, JsonObject][] {
  const { group, version, kind, plural, namespaced, verbs } = resource
  const operation = (action: string, parameters: JsonObject[] = []): JsonObject => ({
    ...parameters.length > 0 && { parameters },
    responses: { 200: { description: 'OK' } },
    'x-kubernetes-action': action,
    'x-kubernetes-group-version-kind': { group, version, kind }
  })
  const operations = (of: readonly (readonly [string, string, string])[]): JsonObject =>
    Object.fromEntries(of.filter(([, verb]) => verbs.includes(verb)).map(([method, , action]) =>
      [method, operation(action, ['post', 'put', 'patch'].includes(method) ? writeParameters : [])]))
  const collection = namespaced ? `${root}/namespaces/{namespace}/${plural}` : `${root}/${plural}`
  const paths: [string, JsonObject][] = [
    [collection, operations([['get', 'list', 'list'], ['post', 'create', 'post'],
      ['delete', 'deletecollection', 'deletecollection']])],
    [`${collection}/{name}`, operations([['get', 'get', 'get'], ['put', 'update', 'put'],
      ['patch', 'patch', 'patch'], ['delete', 'delete', 'delete']])]
  ]
  if (namespaced) paths.push([`${root}/${plural}`, operations([['get', 'list', 'list']])])
  return paths
}
