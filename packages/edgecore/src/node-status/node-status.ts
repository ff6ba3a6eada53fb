import { formatTimestamp } from '@holdfast/runtime'
import { nodeStatusLimits } from './limits.ts'
import type { MachineSample } from './machine.ts'

export interface NodeCondition {
  readonly type: string
  readonly status: 'True' | 'False' | 'Unknown'
  readonly lastHeartbeatTime: string
  readonly lastTransitionTime: string
  readonly reason: string
  readonly message: string
}

/** `status` of a Node, as far as the node itself tells it (core/v1 NodeStatus). */
export interface NodeStatus {
  readonly capacity: Readonly<Record<string, string>>
  readonly allocatable: Readonly<Record<string, string>>
  readonly conditions: readonly NodeCondition[]
  readonly addresses: readonly { readonly type: 'InternalIP' | 'Hostname', readonly address: string }[]
  readonly nodeInfo: Readonly<Record<string, string>>
}

/** What is told besides what a sample shows. */
export interface NodeFacts {
  readonly node: string
  /** Release of this software. */
  readonly version: string
  /** The ways in refuse for want of space. */
  readonly diskLow: boolean
}

export type PressureName = 'memory' | 'disk' | 'pids'

/** Monotonic time at which each pressure was last seen, milliseconds. Part of what is known from one sample to the next. */
export type PressuresSeen = Readonly<Partial<Record<PressureName, number>>>

/** The Kubernetes release whose kubelet's contract the status follows. */
const kubernetesVersion = 'v1.32.0'

/** Pressures that a sample shows, added to those seen before. */
export function seePressures(
  seen: PressuresSeen, sample: MachineSample, facts: Pick<NodeFacts, 'diskLow'>, monotonicMs: number
): PressuresSeen {
  const { memoryAvailableBytesMin, diskAvailablePercentMin, inodesFreePercentMin, pidsFreePercentMin } = nodeStatusLimits
  const memory = sample.memoryBytes > 0 && sample.memoryAvailableBytes < memoryAvailableBytesMin.value
  const disk = facts.diskLow || sample.diskAvailableBytes * 100 < sample.diskBytes * diskAvailablePercentMin.value ||
    sample.inodesFree * 100 < sample.inodes * inodesFreePercentMin.value
  const pids = (sample.pidsMax - sample.pids) * 100 < sample.pidsMax * pidsFreePercentMin.value
  return {
    ...seen,
    ...memory && { memory: monotonicMs },
    ...disk && { disk: monotonicMs },
    ...pids && { pids: monotonicMs }
  }
}

/**
 * The status of a node. A condition's `lastTransitionTime` is that of `previous` while its status is the same, whatever
 * its reason and message say; `previous` may be of an earlier start.
 */
export function nodeStatus(
  previous: NodeStatus | undefined, sample: MachineSample, facts: NodeFacts, pressures: PressuresSeen,
  now: { readonly wallMs: number, readonly monotonicMs: number }
): NodeStatus {
  const time = kubernetesTime(now.wallMs)
  const condition = (type: string, holds: boolean, [reason, message]: readonly [string, string]): NodeCondition => {
    const status = holds ? 'True' as const : 'False' as const
    const earlier = previous?.conditions.find(other => other.type === type)
    return {
      type, status, lastHeartbeatTime: time,
      lastTransitionTime: earlier?.status === status ? earlier.lastTransitionTime : time,
      reason, message
    }
  }
  const pressed = (name: PressureName): boolean => {
    const seenMs = pressures[name]
    return seenMs !== undefined && now.monotonicMs - seenMs < nodeStatusLimits.pressureHoldMs.value
  }
  const [memory, disk, pids] = [pressed('memory'), pressed('disk'), pressed('pids')]
  return {
    capacity: capacity(sample),
    allocatable: allocatable(sample),
    conditions: [
      condition('MemoryPressure', memory, memory
        ? ['LittleMemory', `less than ${nodeStatusLimits.memoryAvailableBytesMin.value} bytes of memory are available, or were lately`]
        : ['EnoughMemory', 'enough memory is available']),
      condition('DiskPressure', disk, disk
        ? ['LittleDiskSpace', 'the file system of the data directory is nearly full, or was lately']
        : ['EnoughDiskSpace', 'the file system of the data directory has enough space']),
      condition('PIDPressure', pids, pids
        ? ['FewPIDs', 'few process identifiers are free, or were lately']
        : ['EnoughPIDs', 'enough process identifiers are free']),
      condition('Ready', true, ['EdgecoreReady', 'edgecore is running; without a container runtime pods are held and not started'])
    ],
    addresses: [
      ...sample.addresses.map(address => ({ type: 'InternalIP' as const, address })),
      { type: 'Hostname', address: facts.node }
    ],
    nodeInfo: {
      machineID: sample.machineId,
      systemUUID: sample.systemUuid,
      bootID: sample.bootId,
      kernelVersion: sample.kernelVersion,
      osImage: sample.osImage,
      containerRuntimeVersion: '',
      kubeletVersion: `${kubernetesVersion}-holdfast.${facts.version}`,
      kubeProxyVersion: '',
      operatingSystem: 'linux',
      architecture: sample.architecture
    }
  }
}

/** Equal but for the heartbeats. */
export function sameStatus(a: NodeStatus, b: NodeStatus): boolean { return withoutHeartbeats(a) === withoutHeartbeats(b) }

function withoutHeartbeats(status: NodeStatus): string {
  return JSON.stringify({ ...status, conditions: status.conditions.map(one => ({ ...one, lastHeartbeatTime: '' })) })
}

/** RFC 3339 in whole seconds, as metav1.Time has it. */
export function kubernetesTime(wallMs: number): string {
  return formatTimestamp(wallMs).replace(/\.\d+Z$/, 'Z')
}

const kibibytes = (bytes: number): string => `${Math.floor(Math.max(0, bytes) / 1024)}Ki`

function capacity(sample: MachineSample): Record<string, string> {
  return {
    cpu: String(sample.cpus),
    'ephemeral-storage': kibibytes(sample.diskBytes),
    memory: kibibytes(sample.memoryBytes),
    pods: String(nodeStatusLimits.podsMax.value)
  }
}

function allocatable(sample: MachineSample): Record<string, string> {
  const { memoryAvailableBytesMin, diskAvailablePercentMin } = nodeStatusLimits
  return {
    ...capacity(sample),
    'ephemeral-storage': kibibytes(sample.diskBytes * (1 - diskAvailablePercentMin.value / 100)),
    memory: kibibytes(sample.memoryBytes - memoryAvailableBytesMin.value)
  }
}
