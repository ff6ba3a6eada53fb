import type { KubeObject } from '@holdfast/kube-api'
import { describeError, parseNodeName } from '@holdfast/runtime'
import type { Clock, Log, NodeName, Random } from '@holdfast/runtime'
import { objectKey, recordedVersion, statusOf } from '../state/status-document.ts'
import { ReconcileQueue, TokenBucket } from '../state/status-queue.ts'
import type { NodeLinks } from '../state/up-links.ts'
import { nodeOf } from '../state/up-collection.ts'
import type { Informer, KubeClient } from './kube-client.ts'
import { KubeError } from './kube-error.ts'
import { kubeKinds } from './kube-kinds.ts'
import { nodeControllerLimits } from './node-controller-limits.ts'

export interface PodDeletionsComponents {
  readonly client: KubeClient
  readonly pods: Informer
  readonly nodes: Informer
  readonly links: NodeLinks
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

/** What is known of a deleted Pod apart from it. Times are durations, milliseconds. */
export interface DeletionFacts {
  /** Of the tunnel to its node; undefined: there is none. */
  readonly connectedForMs: number | undefined
  /** Its Node is known not to exist. */
  readonly isOrphan: boolean
  /** Since the deletion was first seen. */
  readonly deletedForMs: number
}

export type DeletionDecision =
  /** Nothing of it is on the node any more, nor will be. */
  | { readonly kind: 'confirm' }
  /** Nothing is to be done before the Pod or the tunnel changes. */
  | { readonly kind: 'none' }
  | { readonly kind: 'wait', readonly delayMs: number }

/** What edgecore says of a Pod that it holds and does not start. */
const heldReason = 'NoContainerRuntime'

/**
 * Whether a deleted Pod may go. Its node decides: it has ended the Pod (a phase that is an end), or holds it without ever
 * having started it; or, having been connected for long, it reports nothing of it, and so never had it. Of a node that is away
 * nobody knows what runs there: the Pod stays, marked as deleted, until the node is back, or until its Node is deleted: that
 * says that it will never be. Pure.
 */
export function decidePodDeletion(pod: KubeObject, { connectedForMs, isOrphan, deletedForMs }: DeletionFacts): DeletionDecision {
  const { deletionTimestamp, deletionGracePeriodSeconds } = pod.metadata
  // Confirmed already: finalizers hold it.
  if (deletionTimestamp === undefined || deletionGracePeriodSeconds === 0) return { kind: 'none' }
  const { deletionSettleMs, deletionUnreportedMs, deletionOrphanedMs } = nodeControllerLimits
  if (connectedForMs === undefined) {
    if (!isOrphan) return { kind: 'none' }
    const leftMs = deletionOrphanedMs.value - deletedForMs
    return leftMs > 0 ? { kind: 'wait', delayMs: leftMs } : { kind: 'confirm' }
  }
  if (recordedVersion(pod) === undefined) {
    const leftMs = deletionUnreportedMs.value - Math.min(connectedForMs, deletedForMs)
    return leftMs > 0 ? { kind: 'wait', delayMs: leftMs } : { kind: 'confirm' }
  }
  const { phase, reason } = statusOf(pod)
  if (phase !== 'Succeeded' && phase !== 'Failed' && reason !== heldReason) return { kind: 'none' }
  // What it reported before may be of the past: what it says now comes up first.
  const leftMs = deletionSettleMs.value - connectedForMs
  return leftMs > 0 ? { kind: 'wait', delayMs: leftMs } : { kind: 'confirm' }
}

/**
 * Confirms deletions of Pods on edge nodes, as kubelets do it: a delete without a grace period, of the one Pod by its uid, once
 * `decidePodDeletion` says so.
 */
export class PodDeletions {
  /** Deletions confirmed since start. */
  confirmed = 0
  readonly #components: PodDeletionsComponents
  readonly #queue: ReconcileQueue
  readonly #unsubscribe: readonly (() => void)[]
  readonly #connectedMs = new Map<NodeName, number>()
  /** Deleted Pods by key, and when the deletion was first seen. */
  readonly #deleted = new Map<string, { readonly uid: string | undefined, readonly node: string, readonly sinceMs: number }>()
  #nodesKnown = false
  #told = ''

  constructor(components: PodDeletionsComponents) {
    this.#components = components
    const { clock, random, log, links, pods, nodes } = components
    const { writesPerSecond, writesInFlight, requestMs, retryMs } = nodeControllerLimits
    const nowMs = clock.monotonicMs()
    this.#queue = new ReconcileQueue({
      name: 'deleted pods', intervalMs: 0, runningMax: writesInFlight.value, runMs: requestMs.value,
      backoff: { baseMs: 200, maxMs: retryMs.value }
    }, {
      clock, random, log,
      bucket: new TokenBucket({ perSecond: writesPerSecond.value, burst: writesPerSecond.value }, nowMs),
      laneOf: key => this.#deleted.get(key)?.node ?? '', reconcile: (key, signal) => this.#reconcile(key, signal)
    })
    for (const node of links.connectedNodes()) this.#connectedMs.set(node, nowMs)
    for (const pod of pods.objects()) this.#shown(objectKey(pod), pod)
    this.#unsubscribe = [
      links.subscribe({
        onConnected: node => {
          // A later session in the place of an older one is as good as a new tunnel: the node compares again.
          this.#connectedMs.set(node, clock.monotonicMs())
          this.#lookAt(node)
        },
        onDisconnected: node => { this.#connectedMs.delete(node) }
      }),
      pods.subscribe({ onChange: (before, after) => { this.#shown(objectKey((after ?? before)!), after) } }),
      nodes.subscribe({
        onChange: (before, after) => { if (after === undefined) this.#lookAt(before!.metadata.name!) },
        onPosition: () => {
          // Before the first list no Node is known not to exist.
          if (!this.#nodesKnown) for (const key of this.#deleted.keys()) this.#look(key)
          this.#nodesKnown = true
        }
      })
    ]
  }

  /** Pods that are marked as deleted and not gone, on nodes of any kind. */
  get pending(): number { return this.#deleted.size }

  close(): void {
    for (const unsubscribe of this.#unsubscribe) unsubscribe()
    this.#queue.close()
  }

  #shown(key: string, pod: KubeObject | undefined): void {
    const node = nodeOf(pod)
    if (pod?.metadata.deletionTimestamp === undefined || node === undefined) {
      if (this.#deleted.delete(key)) this.#queue.drop(key)
      return
    }
    const { uid } = pod.metadata
    if (this.#deleted.get(key)?.uid !== uid || !this.#deleted.has(key)) {
      this.#deleted.set(key, { uid, node, sinceMs: this.#components.clock.monotonicMs() })
    }
    this.#look(key)
  }

  #lookAt(node: string): void {
    for (const [key, deleted] of this.#deleted) if (deleted.node === node) this.#look(key)
  }

  #look(key: string): void {
    const pod = this.#components.pods.get(key)
    const decision = pod === undefined ? undefined : this.#decide(key, pod)
    if (decision?.kind === 'confirm') this.#queue.add(key)
    else if (decision?.kind === 'wait') this.#queue.addLater(key, decision.delayMs)
  }

  #decide(key: string, pod: KubeObject): DeletionDecision {
    const deleted = this.#deleted.get(key)
    if (deleted === undefined) return { kind: 'none' }
    const { clock, links, nodes } = this.#components
    const nowMs = clock.monotonicMs()
    const node = parseNodeName(deleted.node)
    const connectedMs = node !== undefined && links.connected(node) ? this.#connectedMs.get(node) : undefined
    return decidePodDeletion(pod, {
      connectedForMs: connectedMs === undefined ? undefined : nowMs - connectedMs,
      isOrphan: nodes.synced && nodes.get(deleted.node) === undefined, deletedForMs: nowMs - deleted.sinceMs
    })
  }

  async #reconcile(key: string, signal: AbortSignal): Promise<void> {
    const { client, pods, log } = this.#components
    const pod = pods.get(key)
    const decision = pod === undefined ? { kind: 'none' as const } : this.#decide(key, pod)
    if (decision.kind === 'wait') this.#queue.addLater(key, decision.delayMs)
    const { uid, namespace, name } = pod?.metadata ?? {}
    if (decision.kind !== 'confirm' || uid === undefined || name === undefined) return
    try {
      await client.delete({ kind: kubeKinds.pods, namespace, name }, { gracePeriodSeconds: 0, uid })
      signal.throwIfAborted()
      this.confirmed++
      this.#told = ''
    } catch (error) {
      if (signal.aborted || !(error instanceof KubeError)) throw error
      // Another Pod by now.
      if (error.status === 409) return
      if (error.isRetryable) throw error
      const text = describeError(error)
      if (text !== this.#told) log.warn('Kubernetes refuses to let a deleted Pod go; it is tried again', { pod: key, error: text })
      this.#told = text
      this.#queue.addLater(key, nodeControllerLimits.refusedRetryMs.value)
    }
  }
}
