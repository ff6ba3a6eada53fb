import type { HttpRoute } from './http-server.ts'
import { metricsContentType } from './metrics.ts'

/** A named question that an operator or an orchestrator asks: `ok`, or the reason why not. */
export type Check = () => 'ok' | { readonly reason: string }

export interface OperationsComponents {
  /** The metrics as text. */
  metrics(): string
  /** Alive: a failure asks for a restart. */
  readonly live: Readonly<Record<string, Check>>
  /** Ready: a failure asks for patience. */
  readonly ready: Readonly<Record<string, Check>>
}

/** `/metrics`, `/healthz`, `/readyz`; the last two list every check with `?verbose`, and where one fails. */
export function operationsRoutes(components: OperationsComponents): HttpRoute[] {
  return [
    {
      method: 'GET', path: '/metrics',
      handle: () => ({ status: 200, headers: { 'content-type': metricsContentType }, body: components.metrics() })
    },
    checksRoute('/healthz', 'healthz', components.live),
    checksRoute('/readyz', 'readyz', components.ready)
  ]
}

function checksRoute(path: string, name: string, checks: Readonly<Record<string, Check>>): HttpRoute {
  return {
    method: 'GET', path,
    handle: ({ query }) => {
      const results = Object.entries(checks).map(([label, check]) => ({ label, result: check() }))
      const failed = results.some(({ result }) => result !== 'ok')
      const lines = results.map(({ label, result }) =>
        result === 'ok' ? `[+]${label} ok` : `[-]${label} failed: ${result.reason}`)
      const body = failed || query.has('verbose')
        ? [...lines, `${name} check ${failed ? 'failed' : 'passed'}`, ''].join('\n')
        : 'ok'
      return {
        status: failed ? 503 : 200,
        headers: { 'content-type': 'text/plain; charset=utf-8', 'cache-control': 'no-store' },
        body
      }
    }
  }
}
