import type { JsonObject, KubeObject } from '@holdfast/kube-api'
import { describeError, formatTimestamp, parseNodeName } from '@holdfast/runtime'
import type { Clock, Log, NodeName, Random } from '@holdfast/runtime'
import { isObject } from '../state/status-document.ts'
import { ReconcileQueue, TokenBucket } from '../state/status-queue.ts'
import type { NodeLinks } from '../state/up-links.ts'
import type { Informer, KubeClient, ObjectPlace } from './kube-client.ts'
import { KubeError } from './kube-error.ts'
import { kubeKinds } from './kube-kinds.ts'
import { nodeControllerLimits } from './node-controller-limits.ts'

export interface NodeLeasesComponents {
  readonly client: KubeClient
  readonly nodes: Informer
  readonly links: NodeLinks
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

/** Namespace of the Leases by which nodes are known to live. */
export const leaseNamespace = 'kube-node-lease'

/**
 * The Lease of each node, as kubelets keep them, renewed while the node's tunnel is open to this process. A cluster's node
 * lifecycle controller looks at it, and so do other cloudcores: a Lease that goes on is a node that is somebody's.
 */
export class NodeLeases {
  /** Renewals since start. */
  renewals = 0
  readonly #components: NodeLeasesComponents
  readonly #queue: ReconcileQueue
  readonly #unsubscribe: readonly (() => void)[]
  /** `renewTime` that was last written or seen, by node. */
  readonly #known = new Map<NodeName, string>()
  /** Connected, and not renewed since. */
  readonly #arrived = new Set<NodeName>()
  /** Why the last renewal was refused; told once. */
  #refused = ''

  constructor(components: NodeLeasesComponents) {
    this.#components = components
    const { clock, random, log, links, nodes } = components
    const { renewalsPerSecond, renewalsInFlight, requestMs, renewIntervalMs } = nodeControllerLimits
    this.#queue = new ReconcileQueue({
      name: 'leases', intervalMs: 0, runningMax: renewalsInFlight.value, runMs: requestMs.value,
      backoff: { baseMs: 500, maxMs: renewIntervalMs.value }
    }, {
      clock, random, log,
      bucket: new TokenBucket({ perSecond: renewalsPerSecond.value, burst: renewalsPerSecond.value }, clock.monotonicMs()),
      laneOf: () => '', reconcile: (node, signal) => this.#renew(node as NodeName, signal)
    })
    this.#unsubscribe = [
      links.subscribe({
        onConnected: node => { this.#connected(node) },
        onDisconnected: node => {
          this.#arrived.delete(node)
          this.#queue.drop(node)
        }
      }),
      nodes.subscribe({
        onChange: (before, after) => {
          const node = before === undefined ? parseNodeName(after?.metadata.name) : undefined
          if (node !== undefined && links.connected(node)) this.#queue.add(node)
        }
      })
    ]
    for (const node of links.connectedNodes()) this.#connected(node)
  }

  /**
   * Whether somebody else renewed the node's Lease since this process last wrote or saw it; undefined where there is one that it
   * has not seen before: then it has now.
   */
  async renewedElsewhere(node: NodeName, signal: AbortSignal): Promise<boolean | undefined> {
    let seen: string
    try {
      seen = renewTimeOf(await this.#components.client.get(placeOf(node)))
    } catch (error) {
      // A cloudcore that may not look at Leases has to go by its own tunnels.
      if (error instanceof KubeError && !error.isRetryable) return false
      throw error
    }
    signal.throwIfAborted()
    const known = this.#known.get(node)
    this.#known.set(node, seen)
    return known === undefined && seen !== '' ? undefined : (known ?? '') !== seen
  }

  /** Nothing more is kept of a node that is not there any more. */
  forget(node: NodeName): void { this.#known.delete(node) }

  close(): void {
    for (const unsubscribe of this.#unsubscribe) unsubscribe()
    this.#queue.close()
  }

  #connected(node: NodeName): void {
    this.#arrived.add(node)
    this.#queue.add(node)
  }

  async #renew(node: NodeName, signal: AbortSignal): Promise<void> {
    const { nodes, links, clock, random, log } = this.#components
    if (!links.connected(node)) return
    // It is being registered, or an operator took it away.
    if (nodes.synced && nodes.get(node) === undefined) return
    const { leaseDurationMs, renewIntervalMs } = nodeControllerLimits
    // MicroTime: six digits.
    const renewTime = formatTimestamp(clock.wallMs()).replace(/Z$/, '000Z')
    const spec: JsonObject = { holderIdentity: node, leaseDurationSeconds: leaseDurationMs.value / 1000, renewTime }
    try {
      const lease = await this.#write(node, spec)
      signal.throwIfAborted()
      this.#known.set(node, renewTimeOf(lease))
      this.renewals++
      this.#refused = ''
    } catch (error) {
      if (signal.aborted || !(error instanceof KubeError) || error.isRetryable) throw error
      const text = describeError(error)
      if (text !== this.#refused) log.warn('Kubernetes refuses the Lease of a node; it is tried again', { node, error: text })
      this.#refused = text
    }
    // Spread at once: nodes that came together do not stay together.
    const share = this.#arrived.delete(node) ? random.next() : 0.8 + 0.2 * random.next()
    this.#queue.addLater(node, renewIntervalMs.value * share)
  }

  /** Nobody else writes it: no precondition, and one request where it is there. */
  async #write(node: NodeName, spec: JsonObject): Promise<KubeObject> {
    const { client, nodes } = this.#components
    try {
      return await client.mergePatch(placeOf(node), { spec })
    } catch (error) {
      if (!(error instanceof KubeError) || error.status !== 404) throw error
    }
    const uid = nodes.get(node)?.metadata.uid
    return await client.create(kubeKinds.leases, {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: {
        name: node, namespace: leaseNamespace,
        // Goes with its Node.
        ...uid !== undefined && { ownerReferences: [{ apiVersion: 'v1', kind: 'Node', name: node, uid }] }
      },
      spec
    })
  }
}

const placeOf = (node: NodeName): ObjectPlace => ({ kind: kubeKinds.leases, namespace: leaseNamespace, name: node })

/** Empty: none. */
function renewTimeOf(lease: KubeObject | undefined): string {
  const spec = lease?.['spec']
  const time = isObject(spec) ? spec['renewTime'] : undefined
  return typeof time === 'string' ? time : ''
}
