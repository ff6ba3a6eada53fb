import { HttpProblem, HttpServer, describeError, jsonReply, operationsRoutes } from '@holdfast/runtime'
import type { Clock, HttpRoute, Log } from '@holdfast/runtime'
import type { Hub } from '../hub/hub.ts'
import { identityProblem } from '../identity/join-server.ts'
import type { Joining } from '../identity/joining.ts'
import type { CloudLog } from '../log/cloud-log.ts'
import { nodesRoute } from './nodes.ts'
import { recordsRoute } from './records.ts'

export interface OperationsOptions {
  readonly host: string
  /** 0: any free port. */
  readonly port: number
}

export interface CloudOperationsComponents {
  readonly cloudLog: CloudLog
  readonly hub: Hub
  readonly joining: Joining
  readonly log: Log
  readonly clock: Clock
  /** The metrics as text. */
  readonly metrics: () => string
  /** How the Kubernetes API is, for people. */
  readonly kubernetes: () => string
}

/**
 * cloudcore's operations port: records, nodes, join tokens, metrics, health. Whoever reaches it is trusted: loopback by default.
 *
 * `/readyz?verbose` says how the Kubernetes API is, and never fails for it: the Log does not need it.
 */
export async function openOperations(options: OperationsOptions, components: CloudOperationsComponents): Promise<HttpServer> {
  const { cloudLog, hub, joining, log, metrics, kubernetes } = components
  const logCheck = (): 'ok' | { reason: string } => {
    try {
      cloudLog.nodes()
      return 'ok'
    } catch (error) {
      return { reason: describeError(error) }
    }
  }
  return await HttpServer.open({
    name: 'ops',
    ...options,
    bodyBytesMax: 64 * 1024,
    connectionsMax: 1024,
    requestsInFlightMax: 512,
    headersTimeoutMs: 10_000,
    requestTimeoutMs: 30_000,
    idleTimeoutMs: 60_000,
    drainMs: 500
  }, [
    recordsRoute({ cloudLog, log }),
    nodesRoute({ cloudLog, presence: { nodes: () => hub.presence() } }),
    tokensRoute(joining),
    ...operationsRoutes({ metrics, live: { process: () => 'ok' }, ready: { 'cloud-log': logCheck } })
      .map(route => route.path === '/readyz' ? withKubernetes(route, kubernetes) : route)
  ], { log })
}

/** Adds a line where the checks are listed. */
function withKubernetes(route: HttpRoute, kubernetes: () => string): HttpRoute {
  return {
    ...route,
    async handle(request) {
      const reply = await route.handle(request)
      if (typeof reply.body !== 'string' || reply.body === 'ok') return reply
      return { ...reply, body: `[i]kubernetes ${kubernetes()}\n${reply.body}` }
    }
  }
}

/** `POST /v1/tokens`: `{ttlSeconds?, uses?, node?}` → 201 with the token, shown this once. */
function tokensRoute(joining: Joining): HttpRoute {
  return {
    method: 'POST',
    path: '/v1/tokens',
    async handle(request) {
      const text = (await request.body()).toString()
      let body: unknown
      try {
        body = text === '' ? {} : JSON.parse(text)
      } catch (error) {
        const code = 'TOKEN_REQUEST_INVALID'
        throw new HttpProblem(400, { type: code, title: 'Not JSON', detail: describeError(error), extensions: { code } })
      }
      try {
        return jsonReply(await joining.handleTokenCreate(body), 201)
      } catch (error) {
        throw identityProblem(error)
      }
    }
  }
}
