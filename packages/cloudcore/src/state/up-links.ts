import type { NodeName } from '@holdfast/runtime'

/** Which nodes have a tunnel to this process. */
export interface NodeLinks {
  connected(node: NodeName): boolean
  /** Those that are connected now. */
  connectedNodes(): Iterable<NodeName>
  /** Two machines lately used this node's identity. */
  duplicateIdentity(node: NodeName): boolean
  /** Has `listener` told from now on, until the function that it returns is called. */
  subscribe(listener: NodeLinkListener): () => void
}

/** Told after `connected` answers so. A later session that takes the place of an older one is told as connected once more. */
export interface NodeLinkListener {
  onConnected?(node: NodeName): void
  onDisconnected?(node: NodeName): void
}
