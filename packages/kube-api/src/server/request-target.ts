/** What a path below `/api` or `/apis` names. */
export interface ResourceTarget {
  readonly kind: 'resource'
  readonly group: string
  readonly version: string
  readonly plural: string
  readonly namespace: string | undefined
  readonly name: string | undefined
  readonly subresource: string | undefined
  /** The old form `/api/v1/watch/…`. */
  readonly watchPrefix: boolean
}

/** Discovery, health, version, OpenAPI, or nothing at all. */
export interface DocumentTarget {
  readonly kind: 'document'
  /** Without a trailing slash, but for the root. */
  readonly path: string
}

export type RequestTarget = ResourceTarget | DocumentTarget

const namespaceSubresources = new Set(['status', 'finalize'])

/**
 * Reads a path as kube-apiserver does (apiserver, pkg/endpoints/request/requestinfo.go). A path that is below
 * `/api/v1` or `/apis/<group>/<version>` but has more parts than a resource can have is a document, which nobody serves.
 * Throws URIError where a part is not percent-encoded UTF-8.
 */
export function parseTarget(path: string): RequestTarget {
  let end = path.length
  while (end > 1 && path[end - 1] === '/') end--
  const document: DocumentTarget = { kind: 'document', path: path.slice(0, end) }
  const parts = document.path.split('/').slice(1).map(part => decodeURIComponent(part))
  const prefixLength = parts[0] === 'api' ? 2 : parts[0] === 'apis' ? 3 : Infinity
  if (parts.length <= prefixLength || parts.includes('')) return document
  const [group, version] = prefixLength === 2 ? ['', parts[1]!] : [parts[1]!, parts[2]!]
  let rest = parts.slice(prefixLength)
  const watchPrefix = rest[0] === 'watch' && rest.length > 1
  if (watchPrefix) rest = rest.slice(1)
  let namespace: string | undefined
  if (rest[0] === 'namespaces' && rest.length > 2 && !(rest.length === 3 && namespaceSubresources.has(rest[2]!))) {
    namespace = rest[1]!
    rest = rest.slice(2)
  }
  if (rest.length > 3) return document
  const [plural, name, subresource] = rest
  return { kind: 'resource', group, version, plural: plural!, namespace, name, subresource, watchPrefix }
}
