import type { HttpRoute, NodeName } from '@holdfast/runtime'
import { describeError, formatTimestamp, hasCode, HttpProblem, jsonReply } from '@holdfast/runtime'
import type { CloudLog } from '../log/cloud-log.ts'

/** Who is connected: what the hub knows beside the log. */
export interface NodePresence {
  /** Every node that has been seen since start, in any order. */
  nodes(): Iterable<{ readonly name: NodeName, readonly connected: boolean, readonly lastSeenMs: number }>
}

export interface NodesComponents { readonly cloudLog: CloudLog, readonly presence: NodePresence }

/**
 * `GET /v1/nodes`: `[{name, connected, lastSeen, lanes: [{lane, epoch, nextOffset, records, bytes, gaps}]}]` by name, of
 * every node that has connected since start or has appended ever. `lastSeen` is null where it has not connected since.
 */
export function nodesRoute(components: NodesComponents): HttpRoute {
  return {
    method: 'GET',
    path: '/v1/nodes',
    handle() {
      const { cloudLog, presence } = components
      const lanes = new Map<NodeName, ReturnType<CloudLog['nodes']>[number]['lanes']>()
      try {
        for (const node of cloudLog.nodes()) lanes.set(node.name, node.lanes)
      } catch (error) {
        if (!hasCode(error, 'LOG_UNAVAILABLE')) throw error
        throw new HttpProblem(503, {
          type: 'LOG_UNAVAILABLE', title: 'Cloud log unavailable', detail: describeError(error), headers: { 'retry-after': '1' },
          extensions: { code: 'LOG_UNAVAILABLE' }
        })
      }
      const seen = new Map([...presence.nodes()].map(node => [node.name, node]))
      const names = [...new Set([...lanes.keys(), ...seen.keys()])].sort()
      return jsonReply(names.map(name => {
        const node = seen.get(name)
        return {
          name,
          connected: node?.connected ?? false,
          lastSeen: node === undefined ? null : formatTimestamp(node.lastSeenMs),
          lanes: lanes.get(name) ?? []
        }
      }))
    }
  }
}
