import type { NodeName } from '@holdfast/runtime'
import type { NodeReporterComponents, NodeStatus } from '../node-status/index.ts'
import { parseObject } from './object-json.ts'
import type { ObjectTable } from './object-table.ts'

/** The node's status among the up items. */
export function nodeReports(node: NodeName, table: ObjectTable): NodeReporterComponents['reports'] {
  return {
    read() {
      const item = table.upItem('node-status', node)
      return item === undefined ? undefined : parseObject(item.value)['status'] as NodeStatus | undefined
    },
    write(status, onDurable) {
      const value = Buffer.from(JSON.stringify({ apiVersion: 'v1', kind: 'Node', metadata: { name: node }, status }))
      table.putUp('node-status', node, value, onDurable)
    }
  }
}
