import type { StatusError } from '../status-error.ts'
import { anonymous, type User } from './authentication.ts'
import { forbiddenPath, forbiddenVerb } from './refusals.ts'
import type { ResourceTarget } from './request-target.ts'

/** What a request wants, as far as permission is concerned. */
export interface RequestAttributes {
  /** `get`, `list`, `watch`, `create` … for a resource, the method in lower case for another path. */
  readonly verb: string
  readonly path: string
  /** Absent for paths that are no resource's. */
  readonly target?: ResourceTarget
}

/** The refusal; undefined where the request may go on. */
export type Authorizer = (user: User, attributes: RequestAttributes) => StatusError | undefined

/** Everybody may know that the server is there and well. */
export function isOpenPath(path: string): boolean {
  return /^\/(version|healthz|livez|readyz)(\/|$)/.test(path)
}

/** Known users may do everything; anonymous ones may read the version and health. */
export const anonymousReadsHealth: Authorizer = (user, attributes) =>
  user !== anonymous || isOpenPath(attributes.path) ? undefined : forbiddenTo(user, attributes)

/** 403 in the words of the real server. */
export function forbiddenTo(user: User, { verb, path, target }: RequestAttributes): StatusError {
  return target === undefined ? forbiddenPath(user.name, verb, path)
    : forbiddenVerb(user.name, verb, target, target.namespace, target.name ?? '')
}
