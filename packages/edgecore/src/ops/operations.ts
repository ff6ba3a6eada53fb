import { HttpServer, describeError, jsonReply, operationsRoutes } from '@holdfast/runtime'
import type { Check, HttpRoute, Log } from '@holdfast/runtime'
import type { Database, Outbox } from '@holdfast/store'
import type { Link } from '../link/link.ts'
import type { Dmi } from '../dmi/index.ts'
import type { Mappers } from '../mappers/index.ts'

export interface OperationsOptions {
  readonly host: string
  /** 0: any free port. */
  readonly port: number
}

export interface EdgeOperationsComponents {
  readonly outbox: Pick<Outbox, 'status'>
  readonly database: Pick<Database, 'low' | 'freeBytes'> & { readonly committer: Pick<Database['committer'], 'failure'> }
  readonly link: Pick<Link, 'state' | 'lastEnd' | 'inTrouble'>
  /** Whether the ways in that can close are open, by name. */
  readonly waysIn: Readonly<Record<string, Check>>
  /** Devices that built-in mappers serve, with what is wrong. */
  readonly mappers: Pick<Mappers, 'status'>
  /** Mappers that have registered, with what they were not told yet, and why. */
  readonly dmi: Pick<Dmi, 'mappers'>
  /** The metrics as text. */
  readonly metrics: () => string
  readonly log: Log
}

/**
 * edgecore's operations port: `/v1/outbox`, `/v1/mappers`, `/v1/dmi`, `/metrics`, `/healthz`, `/readyz`. Whoever reaches it is
 * trusted: loopback by default.
 *
 * A node without a link is ready: offline is normal (L7). `/readyz?verbose` says how the link is, and why, and never fails for it.
 */
export async function openEdgeOperations(
  options: OperationsOptions, components: EdgeOperationsComponents
): Promise<HttpServer> {
  const { outbox, database, link, waysIn, mappers, dmi, metrics, log } = components
  const shared = operationsRoutes({
    metrics,
    live: { process: () => 'ok' },
    ready: {
      database: () => {
        const { failure } = database.committer
        return failure === undefined ? 'ok' : { reason: describeError(failure) }
      },
      'disk-space': () => database.low ? { reason: `${database.freeBytes} bytes are free: new records are refused` } : 'ok',
      ...waysIn
    }
  })
  return await HttpServer.open({
    name: 'ops',
    ...options,
    bodyBytesMax: 1024,
    connectionsMax: 64,
    requestsInFlightMax: 32,
    headersTimeoutMs: 10_000,
    requestTimeoutMs: 30_000,
    idleTimeoutMs: 60_000,
    drainMs: 500
  }, [
    { method: 'GET', path: '/v1/outbox', handle: () => jsonReply(outbox.status()) },
    { method: 'GET', path: '/v1/mappers', handle: () => jsonReply(mappers.status()) },
    { method: 'GET', path: '/v1/dmi', handle: () => jsonReply(dmi.mappers) },
    ...shared.map(route => route.path === '/readyz' ? withLink(route, link) : route)
  ], { log })
}

/** Adds a line about the link where the checks are listed. */
function withLink(route: HttpRoute, link: EdgeOperationsComponents['link']): HttpRoute {
  return {
    ...route,
    async handle(request) {
      const reply = await route.handle(request)
      if (typeof reply.body !== 'string' || reply.body === 'ok') return reply
      const end = link.lastEnd === '' ? '' : ` (${link.lastEnd})`
      const advice = link.inTrouble ? 'this does not pass by itself' : 'offline is normal'
      const state = link.state === 'live' ? 'live' : `${link.state}${end}, ${advice}`
      return { ...reply, body: `[i]link ${state}\n${reply.body}` }
    }
  }
}
