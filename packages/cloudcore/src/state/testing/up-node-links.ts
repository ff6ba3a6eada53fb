import { parseNodeName } from '@holdfast/runtime'
import type { NodeName } from '@holdfast/runtime'
import type { NodeLinkListener, NodeLinks } from '../up-links.ts'

/** Tunnels that open and close when they are told to. */
export class HandLinks implements NodeLinks {
  readonly #open = new Set<NodeName>()
  readonly #listeners = new Set<NodeLinkListener>()
  readonly duplicates = new Set<string>()

  connected(node: NodeName): boolean { return this.#open.has(node) }
  connectedNodes(): Iterable<NodeName> { return this.#open }
  duplicateIdentity(node: NodeName): boolean { return this.duplicates.has(node) }
  subscribe(listener: NodeLinkListener): () => void {
    this.#listeners.add(listener)
    return () => { this.#listeners.delete(listener) }
  }

  connect(name: string): void {
    const node = parseNodeName(name)!
    this.#open.add(node)
    for (const listener of this.#listeners) listener.onConnected?.(node)
  }

  disconnect(name: string): void {
    const node = parseNodeName(name)!
    this.#open.delete(node)
    for (const listener of this.#listeners) listener.onDisconnected?.(node)
  }
}
