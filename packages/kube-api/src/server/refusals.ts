import { resourceName } from '../resource.ts'
import { StatusError, type StatusCause } from '../status-error.ts'
import type { QualifiedResource } from './status-body.ts'

/** Refusals in the words of kube-apiserver 1.32 (apimachinery, pkg/api/errors). */

export function badRequest(message: string): StatusError {
  return new StatusError(400, 'BadRequest', message)
}

export function unauthorized(): StatusError {
  return new StatusError(401, 'Unauthorized', 'Unauthorized')
}

/** A path that is not a resource's. */
export function forbiddenPath(user: string, verb: string, path: string): StatusError {
  return new StatusError(403, 'Forbidden', `forbidden: User "${user}" cannot ${verb} path "${path}"`, {})
}

/** A path below the API that names nothing. */
export function nothingThere(): StatusError {
  return new StatusError(404, 'NotFound', 'the server could not find the requested resource', {})
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

/** `kind` is the kind of what is invalid, or the resource's plural where the real server says that. */
export function invalid(
  { group, kind, name }: { readonly group: string, readonly kind: string, readonly name: string },
  causes: readonly StatusCause[]
): StatusError {
  const texts = causes.map(({ field, message }) => `${field}: ${message}`)
  const said = texts.length === 1 ? texts[0]! : `[${texts.join(', ')}]`
  const qualified = group === '' ? kind : `${kind}.${group}`
  return new StatusError(422, 'Invalid', `${qualified} "${name}" is invalid: ${said}`,
    { name, group, ...kind !== '' && { kind }, causes })
}

export function invalidOptions(kind: string, causes: readonly StatusCause[]): StatusError {
  return invalid({ group: 'meta.k8s.io', kind, name: '' }, causes)
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
