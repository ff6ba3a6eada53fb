import type { Clock } from '@holdfast/runtime'
import { kubernetesTime } from '../node-status/index.ts'
import type { Companion } from './object-load.ts'
import { ownBytes, parseObject } from './object-json.ts'

/** Why a pod that is held does not run; a reason as Kubernetes' pod statuses have them. */
const notStarted = {
  reason: 'NoContainerRuntime',
  message: 'held on this node; no container runtime is configured'
} as const

/**
 * The statuses of pods on a node that has no container runtime: each is Pending and says why. A pod keeps the status that it
 * has for as long as it is the same pod (uid).
 */
export function heldPods(clock: Clock): Companion {
  return {
    collection: 'pod-status',
    make(_key, value, current) {
      const { name, namespace, uid } = parseObject(value).metadata
      if (current !== undefined && parseObject(current).metadata.uid === uid) return undefined
      const time = kubernetesTime(clock.wallMs())
      const waiting = (type: string) => ({ type, status: 'False', lastProbeTime: null, lastTransitionTime: time, ...notStarted })
      return ownBytes(JSON.stringify({
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name, namespace, uid },
        status: {
          phase: 'Pending',
          conditions: [
            { type: 'PodScheduled', status: 'True', lastProbeTime: null, lastTransitionTime: time },
            waiting('Ready'),
            waiting('ContainersReady')
          ],
          ...notStarted
        }
      }))
    }
  }
}
