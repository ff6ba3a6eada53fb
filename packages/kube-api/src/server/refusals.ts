import { resourceName } from '../resource.ts'
import { StatusError, type StatusCause } from '../status-error.ts'
import { invalidObject } from '../validation/causes.ts'
import type { QualifiedResource } from './status-body.ts'

/** Refusals in the words of kube-apiserver 1.32 (apimachinery, pkg/api/errors). */

export function badRequest(message: string): StatusError {
  return new StatusError(400, 'BadRequest', message)
}

export function unauthorized(): StatusError {
  return new StatusError(401, 'Unauthorized', 'Unauthorized')
}

export function internalError(why: string): StatusError {
  return new StatusError(500, 'InternalError', `Internal error occurred: ${why}`)
}

/** A path that is not a resource's. */
export function forbiddenPath(user: string, verb: string, path: string): StatusError {
  return new StatusError(403, 'Forbidden', `forbidden: User "${user}" cannot ${verb} path "${path}"`, {})
}

export function forbidden(resource: QualifiedResource, name: string, why: string): StatusError {
  return new StatusError(403, 'Forbidden', `${resourceName(resource)} "${name}" is forbidden: ${why}`,
    details(resource, name))
}

/** What a user may not do with a resource; `name` is empty for a collection. */
export function forbiddenVerb(
  user: string, verb: string, resource: QualifiedResource, namespace: string | undefined, name: string
): StatusError {
  const { group, plural } = resource
  const where = namespace === undefined ? 'at the cluster scope' : `in the namespace "${namespace}"`
  const what = name === '' ? resourceName(resource) : `${resourceName(resource)} "${name}"`
  return new StatusError(403, 'Forbidden', `${what} is forbidden: User "${user}" cannot ${verb} resource "${plural}" in API `
    + `group "${group}" ${where}`, details(resource, name))
}

export function namespaceTerminating(resource: QualifiedResource, name: string, namespace: string): StatusError {
  return new StatusError(403, 'Forbidden', `${resourceName(resource)} "${name}" is forbidden: unable to create new content in `
    + `namespace ${namespace} because it is being terminated`, {
    ...details(resource, name),
    causes: [{
      reason: 'NamespaceTerminating', message: `namespace ${namespace} is being terminated`, field: 'metadata.namespace'
    }]
  })
}

/** A path below the API that names nothing. */
export function nothingThere(): StatusError {
  return new StatusError(404, 'NotFound', 'the server could not find the requested resource', {})
}

/** What a cluster may have below a resource and this server has not: `pods/log`, `pods/exec`, `serviceaccounts/token`. */
export function subresourceNotServed(resource: QualifiedResource, subresource: string): StatusError {
  return new StatusError(404, 'NotFound',
    `the server could not find the requested resource: ${resource.plural}/${subresource} is not served here`, {})
}

export function notFound(resource: QualifiedResource, name: string): StatusError {
  return new StatusError(404, 'NotFound', `${resourceName(resource)} "${name}" not found`, details(resource, name))
}

export function methodNotAllowed(): StatusError {
  return new StatusError(405, 'MethodNotAllowed', 'the server does not allow this method on the requested resource', {})
}

export function alreadyExists(resource: QualifiedResource, name: string, deleting: boolean): StatusError {
  const prefix = deleting ? 'object is being deleted: ' : ''
  return new StatusError(409, 'AlreadyExists', `${prefix}${resourceName(resource)} "${name}" already exists`,
    details(resource, name))
}

export function conflict(resource: QualifiedResource, name: string, why: string): StatusError {
  return new StatusError(409, 'Conflict',
    `Operation cannot be fulfilled on ${resourceName(resource)} "${name}": ${why}`, details(resource, name))
}

export function modified(resource: QualifiedResource, name: string): StatusError {
  return conflict(resource, name,
    'the object has been modified; please apply your changes to the latest version and try again')
}

export function invalidOptions(kind: string, causes: readonly StatusCause[]): StatusError {
  return invalidObject({ group: 'meta.k8s.io', kind }, '', causes)
}

export function bodyTooLarge(bytesMax: number): StatusError {
  return new StatusError(413, 'RequestEntityTooLarge', `Request entity too large: limit is ${bytesMax}`)
}

export function unknownBodyFormat(accepted: readonly string[]): StatusError {
  return new StatusError(415, 'UnsupportedMediaType',
    `the body of the request was in an unknown format - accepted media types include: ${accepted.join(', ')}`)
}

export function tooManyRequests(message: string, retryAfterSeconds: number): StatusError {
  return new StatusError(429, 'TooManyRequests', message, { retryAfterSeconds })
}

function details({ group, plural }: QualifiedResource, name: string): { name: string, group: string, kind: string } {
  return { name, group, kind: plural }
}
