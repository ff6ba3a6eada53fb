import type { Json, JsonObject, KubeObject } from '@holdfast/kube-api'
import { describeError } from '@holdfast/runtime'
import type { Clock, Log, Random } from '@holdfast/runtime'
import { isObject, objectKey } from '../state/status-document.ts'
import { ReconcileQueue, TokenBucket } from '../state/status-queue.ts'
import { nodeOf } from '../state/up-collection.ts'
import type { Informer, KubeClient } from './kube-client.ts'
import { KubeError } from './kube-error.ts'
import { kubeKinds } from './kube-kinds.ts'
import { isRegistered } from './node-controller-decision.ts'
import { nodeControllerLimits } from './node-controller-limits.ts'

export interface NodeTolerationsComponents {
  readonly client: KubeClient
  readonly pods: Informer
  readonly nodes: Informer
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

/** Taints by which a cluster's node lifecycle controller evicts from a Node whose Ready is not True. */
const evictingTaints: ReadonlySet<unknown> = new Set(['node.kubernetes.io/not-ready', 'node.kubernetes.io/unreachable'])
/** What the admission plugin DefaultTolerationSeconds gives to a Pod that does not say. */
const defaultSeconds = 300

/**
 * The tolerations with which a Pod outlasts that its node is away: the default ones without their end; undefined: they are fine.
 * Seconds that are not the default are somebody's wish. The API lets nothing else of a toleration change (ValidatePodUpdate).
 */
export function lastingTolerations(pod: KubeObject): Json[] | undefined {
  const spec = pod['spec']
  const tolerations = isObject(spec) ? spec['tolerations'] : undefined
  if (!Array.isArray(tolerations) || !tolerations.some(isDefault)) return undefined
  return tolerations.map(toleration => {
    if (!isDefault(toleration)) return toleration
    const { tolerationSeconds: _, ...lasting } = toleration
    return lasting
  })
}

function isDefault(toleration: Json): toleration is JsonObject {
  return isObject(toleration) && evictingTaints.has(toleration['key']) && toleration['operator'] === 'Exists'
    && toleration['effect'] === 'NoExecute' && toleration['tolerationSeconds'] === defaultSeconds
}

/**
 * Keeps a cluster from evicting the Pods of edge nodes that are merely away. Its node lifecycle controller taints a Node whose
 * Ready is not True with `NoExecute`, whatever its Lease says, and five minutes later all Pods that have the default
 * tolerations are deleted; so Pods that are bound to edge nodes get tolerations without an end. Needs `patch` on Pods. Where
 * nothing evicts, as with the embedded API, it is not needed.
 */
export class NodeTolerations {
  /** Pods changed since start. */
  changed = 0
  readonly #components: NodeTolerationsComponents
  readonly #queue: ReconcileQueue
  readonly #unsubscribe: readonly (() => void)[]
  /** Nodes that were registered, and whose Pods were not looked at since. */
  readonly #registered = new Set<string>()
  #told = ''

  constructor(components: NodeTolerationsComponents) {
    this.#components = components
    const { clock, random, log, pods, nodes } = components
    const { writesPerSecond, writesInFlight, requestMs, retryMs } = nodeControllerLimits
    this.#queue = new ReconcileQueue({
      name: 'tolerations', intervalMs: 0, runningMax: writesInFlight.value, runMs: requestMs.value,
      backoff: { baseMs: 200, maxMs: retryMs.value }
    }, {
      clock, random, log,
      bucket: new TokenBucket({ perSecond: writesPerSecond.value, burst: writesPerSecond.value }, clock.monotonicMs()),
      laneOf: key => nodeOf(pods.get(key)) ?? '', reconcile: (key, signal) => this.#reconcile(key, signal)
    })
    for (const pod of pods.objects()) this.#look(pod)
    this.#unsubscribe = [
      pods.subscribe({ onChange: (_before, after) => { if (after !== undefined) this.#look(after) } }),
      nodes.subscribe({
        onChange: (before, after) => {
          const name = after?.metadata.name
          if (name === undefined || isRegistered(before) || !isRegistered(after)) return
          this.#registered.add(name)
          // One look at all Pods for all Nodes of a list.
          if (this.#registered.size === 1) clock.soon(() => { this.#lookAtNodes() })
        }
      })
    ]
  }

  close(): void {
    for (const unsubscribe of this.#unsubscribe) unsubscribe()
    this.#queue.close()
  }

  #lookAtNodes(): void {
    for (const pod of this.#components.pods.objects()) if (this.#registered.has(nodeOf(pod) ?? '')) this.#look(pod)
    this.#registered.clear()
  }

  #look(pod: KubeObject): void { if (this.#wanted(pod) !== undefined) this.#queue.add(objectKey(pod)) }

  #wanted(pod: KubeObject): Json[] | undefined {
    const node = nodeOf(pod)
    if (node === undefined || pod.metadata.deletionTimestamp !== undefined) return undefined
    return isRegistered(this.#components.nodes.get(node)) ? lastingTolerations(pod) : undefined
  }

  async #reconcile(key: string, signal: AbortSignal): Promise<void> {
    const { client, pods, log } = this.#components
    const pod = pods.get(key)
    const tolerations = pod === undefined ? undefined : this.#wanted(pod)
    const { namespace, name, resourceVersion = '' } = pod?.metadata ?? {}
    if (tolerations === undefined || name === undefined) return
    try {
      const place = { kind: kubeKinds.pods, namespace, name }
      await client.mergePatch(place, { metadata: { resourceVersion }, spec: { tolerations } })
      signal.throwIfAborted()
      this.changed++
      this.#told = ''
    } catch (error) {
      if (signal.aborted || !(error instanceof KubeError)) throw error
      // It changed, or is gone: the informer shows it.
      if (error.status === 409 || error.status === 404) {
        this.#queue.addLater(key, nodeControllerLimits.retryMs.value)
        return
      }
      if (error.isRetryable) throw error
      const text = describeError(error)
      if (text !== this.#told) log.warn('Kubernetes refuses tolerations that keep a Pod on a node that is away', { pod: key, error: text })
      this.#told = text
      this.#queue.addLater(key, nodeControllerLimits.refusedRetryMs.value)
    }
  }
}
