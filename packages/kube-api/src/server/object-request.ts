import type { IncomingHttpHeaders } from 'node:http'
import type { Resource } from '../resource.ts'
import type { ObjectView } from './object-view.ts'
import type { ResourceTarget } from './request-target.ts'

/** A request for objects whose resource is known. */
export interface ObjectRequest {
  readonly target: ResourceTarget
  readonly resource: Resource
  readonly isCustom: boolean
  readonly storageVersion: string
  /** Its definition is being deleted, or is gone by now: no new objects. */
  readonly isTerminating: () => boolean
  readonly view: ObjectView
  readonly query: URLSearchParams
  /** Names in lower case. */
  readonly headers: IncomingHttpHeaders
  /** The whole body. Rejects with StatusError 413 past the bound. */
  readonly body: () => Promise<Buffer>
  /** Aborts when the exchange is over, whether or not the client has its answer, or the server stops. */
  readonly signal: () => AbortSignal
}
