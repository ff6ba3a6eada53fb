import type { KubeObject } from '@holdfast/kube-api'
import { describeError, formatTimestamp, parseNodeName } from '@holdfast/runtime'
import type { Clock, Log, NodeName, Random, Timer } from '@holdfast/runtime'
import { ReconcileQueue, TokenBucket } from '../state/status-queue.ts'
import type { NodeLinks } from '../state/up-links.ts'
import type { Informer, KubeClient, ObjectPlace } from './kube-client.ts'
import { KubeError } from './kube-error.ts'
import { kubeKinds } from './kube-kinds.ts'
import { decideNode, isRegistered } from './node-controller-decision.ts'
import type { NodeDecision, NodeFacts } from './node-controller-decision.ts'
import { nodeControllerLimits } from './node-controller-limits.ts'
import type { NodeLeases } from './node-lease.ts'

export interface NodeControllerOptions {
  readonly awayAfterMs: number
  readonly startGraceMs: number
}

export const nodeControllerDefaults: NodeControllerOptions = {
  awayAfterMs: nodeControllerLimits.awayAfterMs.value, startGraceMs: nodeControllerLimits.startGraceMs.value
}

export interface NodeControllerComponents {
  readonly client: KubeClient
  readonly nodes: Informer
  readonly links: NodeLinks
  readonly leases: Pick<NodeLeases, 'renewedElsewhere' | 'forget'>
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

/** Counts since start, for metrics. */
export interface NodeControllerStats {
  registered: number
  markedAway: number
  markedBack: number
}

/** Writes of one run; a Node that still wants another then fights with somebody. */
const writesMax = 6

/**
 * Keeps the Node of each edge node at what its tunnel shows: registered when it first connects, Ready while it is connected,
 * Unknown and tainted once it has been away for a while. What the decisions are, `decideNode` says.
 *
 * Level-triggered: any event leads to one more look at the Node, and a look that finds nothing to do costs no request.
 */
export class NodeController {
  readonly stats: NodeControllerStats = { registered: 0, markedAway: 0, markedBack: 0 }
  readonly #options: NodeControllerOptions
  readonly #components: NodeControllerComponents
  readonly #queue: ReconcileQueue
  readonly #unsubscribe: readonly (() => void)[]
  readonly #startMs: number
  /** When the tunnel of a node ended, in this process. */
  readonly #endedMs = new Map<NodeName, number>()
  /** Connected, and not seen in Kubernetes since. */
  readonly #registering = new Set<NodeName>()
  /** Connected nodes whose identity two machines use, as they were last looked at. */
  #duplicates = new Set<NodeName>()
  #duplicateTimer: Timer | undefined
  #told = ''

  constructor(options: NodeControllerOptions, components: NodeControllerComponents) {
    const { clock, random, log, links, nodes } = components
    this.#options = options
    this.#components = components
    this.#startMs = clock.monotonicMs()
    const { writesPerSecond, writesInFlight, requestMs, retryMs } = nodeControllerLimits
    this.#queue = new ReconcileQueue({
      name: 'nodes', intervalMs: 0, runningMax: writesInFlight.value, runMs: requestMs.value,
      backoff: { baseMs: 100, maxMs: retryMs.value }
    }, {
      clock, random, log,
      bucket: new TokenBucket({ perSecond: writesPerSecond.value, burst: 2 * writesPerSecond.value }, this.#startMs),
      laneOf: () => '', reconcile: (node, signal) => this.#reconcile(node as NodeName, signal)
    })
    this.#unsubscribe = [
      links.subscribe({
        onConnected: node => { this.#connected(node) },
        onDisconnected: node => {
          this.#endedMs.set(node, clock.monotonicMs())
          this.#queue.addLater(node, options.awayAfterMs)
        }
      }),
      nodes.subscribe({
        onChange: (before, after) => {
          const node = parseNodeName((after ?? before)?.metadata.name)
          if (node === undefined) return
          if (after === undefined && !links.connected(node)) this.#forget(node)
          else this.#shown(node, after)
        }
      })
    ]
    for (const object of nodes.objects()) {
      const node = parseNodeName(object.metadata.name)
      if (node !== undefined) this.#shown(node, object)
    }
    for (const node of links.connectedNodes()) this.#connected(node)
    this.#lookForDuplicates()
  }

  close(): void {
    for (const unsubscribe of this.#unsubscribe) unsubscribe()
    this.#duplicateTimer?.cancel()
    this.#queue.close()
  }

  #connected(node: NodeName): void {
    this.#endedMs.delete(node)
    this.#registering.add(node)
    this.#queue.add(node)
  }

  /** An operator took the Node away. One that is connected is made anew when it connects again, as a kubelet does it. */
  #forget(node: NodeName): void {
    this.#endedMs.delete(node)
    this.#registering.delete(node)
    this.#queue.drop(node)
    this.#components.leases.forget(node)
  }

  #shown(node: NodeName, object: KubeObject | undefined): void {
    const { links, clock } = this.#components
    if (links.connected(node)) {
      if (object !== undefined) this.#registering.delete(node)
      if (this.#decide(node, object, 'connected').kind !== 'none') this.#queue.add(node)
      return
    }
    if (!isRegistered(object) || this.#decide(node, object, 'away').kind === 'none') return
    const { leaseLookMs } = nodeControllerLimits
    const sinceStartMs = clock.monotonicMs() - this.#startMs
    if (this.#endedMs.has(node)) this.#queue.addLater(node, this.#untilAwayMs(node))
    else this.#queue.addLater(node, Math.max(0, Math.min(leaseLookMs.value, this.#options.startGraceMs) - sinceStartMs))
  }

  /** How long it may still stay away; 0: it has been for long enough. */
  #untilAwayMs(node: NodeName): number {
    const endedMs = this.#endedMs.get(node)
    const atMs = endedMs === undefined ? this.#startMs + this.#options.startGraceMs : endedMs + this.#options.awayAfterMs
    return Math.max(0, atMs - this.#components.clock.monotonicMs())
  }

  #decide(node: NodeName, object: KubeObject | undefined, presence: NodeFacts['presence']): NodeDecision {
    const { links, clock } = this.#components
    return decideNode(object, {
      node, presence, registering: this.#registering.has(node), duplicateIdentity: links.duplicateIdentity(node),
      now: formatTimestamp(clock.wallMs()).replace(/\.\d+Z$/, 'Z')
    })
  }

  async #reconcile(node: NodeName, signal: AbortSignal): Promise<void> {
    const { links, nodes, client } = this.#components
    if (!links.connected(node) && !(await this.#isAway(node, signal))) return
    let object = nodes.get(node) ?? await client.get(placeOf(node))
    signal.throwIfAborted()
    for (let writes = 0; writes < writesMax; writes++) {
      const connected = links.connected(node)
      if (object !== undefined) this.#registering.delete(node)
      // It came back or went in the middle of this: that is another run's.
      if (!connected && this.#untilAwayMs(node) > 0) return
      const presence = connected ? 'connected' : 'away'
      const decision = this.#decide(node, object, presence)
      if (decision.kind === 'none') return
      try {
        object = await this.#write(node, decision)
        signal.throwIfAborted()
        this.#count(decision, presence)
      } catch (error) {
        if (signal.aborted || !(error instanceof KubeError)) throw error
        if (error.status === 409 || error.status === 404) {
          object = await client.get(placeOf(node))
          signal.throwIfAborted()
        } else if (error.isRetryable) throw error
        else {
          const text = describeError(error)
          if (text !== this.#told) this.#components.log.warn('Kubernetes refuses a Node; it is tried again', { node, error: text })
          this.#told = text
          this.#queue.addLater(node, nodeControllerLimits.refusedRetryMs.value)
          return
        }
      }
    }
    throw new Error(`Node ${node} changes all the time`)
  }

  /** It has been away for long enough, and no other cloudcore has it. Otherwise it is looked at again. */
  async #isAway(node: NodeName, signal: AbortSignal): Promise<boolean> {
    const { leases, nodes } = this.#components
    if (this.#decide(node, nodes.get(node), 'away').kind === 'none') return false
    const leftMs = this.#untilAwayMs(node)
    if (leftMs > 0 && this.#endedMs.has(node)) {
      this.#queue.addLater(node, leftMs)
      return false
    }
    const elsewhere = await leases.renewedElsewhere(node, signal)
    if (leftMs === 0 && elsewhere === false) return true
    const { leaseDurationMs } = nodeControllerLimits
    this.#queue.addLater(node, Math.max(this.#untilAwayMs(node), elsewhere === true || leftMs === 0 ? leaseDurationMs.value : 0))
    return false
  }

  #write(node: NodeName, decision: Exclude<NodeDecision, { readonly kind: 'none' }>): Promise<KubeObject> {
    const { client } = this.#components
    return decision.kind === 'create' ? client.create(kubeKinds.nodes, decision.object)
      : client.mergePatch(placeOf(node), decision.patch, decision.subresource)
  }

  #count(decision: NodeDecision, presence: 'connected' | 'away'): void {
    this.#told = ''
    if (decision.kind === 'create') this.stats.registered++
    else if (decision.kind === 'patch' && decision.forgetsReport) this.stats[presence === 'away' ? 'markedAway' : 'markedBack']++
  }

  #lookForDuplicates(): void {
    const { links, clock } = this.#components
    const found = new Set([...links.connectedNodes()].filter(node => links.duplicateIdentity(node)))
    for (const node of new Set([...found, ...this.#duplicates])) if (found.has(node) !== this.#duplicates.has(node)) this.#queue.add(node)
    this.#duplicates = found
    this.#duplicateTimer = clock.after(nodeControllerLimits.duplicateLookMs.value, () => { this.#lookForDuplicates() })
  }
}

const placeOf = (node: NodeName): ObjectPlace => ({ kind: kubeKinds.nodes, name: node })
