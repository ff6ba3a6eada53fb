import type { Json, KubeObject, ObjectMeta } from '../object.ts'
import type { PrinterColumn } from '../resource.ts'
import { ageColumn, ageOf, column, nameColumn, nameOf, wideColumn } from './built-in-resource.ts'
import type { Container, ContainerStatus, PodCondition, PodSpec, PodStatus } from './pod-types.ts'
import { ageText, parseTimestamp } from './timestamps.ts'

export const podColumns: readonly PrinterColumn[] = [
  nameColumn,
  column('Ready', 'The aggregate readiness state of this pod for accepting traffic.'),
  column('Status', 'The aggregate status of the containers in this pod.'),
  column('Restarts', 'The number of times the containers in this pod have been restarted and when the last container in this pod '
    + 'has restarted.'),
  ageColumn,
  wideColumn('IP', 'podIP address allocated to the pod. Routable at least within the cluster. Empty if not yet allocated.'),
  wideColumn('Node', 'NodeName indicates in which node this pod is scheduled. If empty, this pod is a candidate for scheduling by '
    + 'the scheduler defined in schedulerName.'),
  wideColumn('Nominated Node', 'nominatedNodeName is set only when this pod preempts other pods on the node, but it cannot be '
    + 'scheduled right away as preemption victims receive their graceful termination periods.'),
  wideColumn('Readiness Gates', 'If specified, all readiness gates will be evaluated for pod readiness. A pod is ready when all its '
    + 'containers are ready AND all conditions specified in the readiness gates have status equal to "True".')
]

const orNone = (text: string | undefined): string => text === undefined || text === '' ? '<none>' : text

/** One row of `kubectl get pods -o wide`, by the rules of `printPod` of 1.32. */
export function podCells(object: KubeObject, nowMs: number): Json[] {
  const spec: PodSpec = object['spec'] ?? {}
  const status: PodStatus = object['status'] ?? {}
  const { ready, total, reason, restarts, lastRestart } = containersSummary(spec, status)
  const shownRestarts = restarts !== 0 && lastRestart !== undefined ? `${restarts} (${ageText(lastRestart, nowMs)} ago)` : String(restarts)
  return [
    nameOf(object), `${ready}/${total}`, statusText(object.metadata, status, reason), shownRestarts, ageOf(object, nowMs),
    orNone(status.podIPs?.[0]?.ip), orNone(spec.nodeName), orNone(status.nominatedNodeName), gatesText(spec, status)
  ]
}

function statusText({ deletionTimestamp }: ObjectMeta, { phase, reason: podReason }: PodStatus, reason: string): string {
  if (deletionTimestamp === undefined) return reason
  if (podReason === 'NodeLost') return 'Unknown'
  return phase === 'Succeeded' || phase === 'Failed' ? reason : 'Terminating'
}

interface Summary {
  ready: number
  total: number
  reason: string
  restarts: number
  /** When a container that counts last ended before it was started again. */
  lastRestart: string | undefined
}

const isSidecar = ({ restartPolicy }: Container): boolean => restartPolicy === 'Always'

function later(one: string | undefined, other: string | undefined): string | undefined {
  const [a, b] = [one, other].map(text => text === undefined ? undefined : parseTimestamp(text)?.secondsMs)
  if (b === undefined) return one
  return a === undefined || a < b ? other : one
}

const isTrue = (conditions: readonly PodCondition[] | undefined, type: string): boolean =>
  conditions?.some(condition => condition.type === type && condition.status === 'True') ?? false

function containersSummary(spec: PodSpec, status: PodStatus): Summary {
  const { initContainers = [], containers = [] } = spec
  const { conditions, containerStatuses = [] } = status
  let reason = status.reason ?? status.phase ?? ''
  if (conditions?.some(({ type, reason: why }) => type === 'PodScheduled' && why === 'SchedulingGated')) reason = 'SchedulingGated'
  const total = containers.length + initContainers.filter(isSidecar).length
  const initial = initSummary(initContainers, status)
  const waits = initial.reason !== undefined
  if (waits && !isTrue(conditions, 'Initialized')) {
    return { ready: initial.ready, total, reason: initial.reason!, restarts: initial.restarts, lastRestart: initial.lastRestart }
  }
  if (waits) reason = initial.reason!
  let { ready, sidecarRestarts: restarts, sidecarLastRestart: lastRestart } = initial
  let hasRunning = false
  for (const container of containerStatuses.toReversed()) {
    const { waiting, terminated, running } = container.state ?? {}
    restarts += container.restartCount ?? 0
    lastRestart = later(lastRestart, container.lastState?.terminated?.finishedAt)
    if ((waiting?.reason ?? '') !== '') reason = waiting!.reason!
    else if (terminated !== undefined) reason = endText(terminated)
    else if (container.ready === true && running !== undefined) {
      hasRunning = true
      ready++
    }
  }
  if (reason === 'Completed' && hasRunning) reason = isTrue(conditions, 'Ready') ? 'Running' : 'NotReady'
  return { ready, total, reason, restarts, lastRestart }
}

function endText({ reason = '', signal = 0, exitCode = 0 }: NonNullable<NonNullable<ContainerStatus['state']>['terminated']>): string {
  if (reason !== '') return reason
  return signal !== 0 ? `Signal:${signal}` : `ExitCode:${exitCode}`
}

interface InitSummary {
  ready: number
  restarts: number
  lastRestart: string | undefined
  sidecarRestarts: number
  sidecarLastRestart: string | undefined
  /** What the Pod's containers wait for; undefined where all that runs first has run. */
  reason: string | undefined
}

function initSummary(initContainers: readonly Container[], { initContainerStatuses = [] }: PodStatus): InitSummary {
  const summary: InitSummary = {
    ready: 0, restarts: 0, lastRestart: undefined, sidecarRestarts: 0, sidecarLastRestart: undefined, reason: undefined
  }
  const sidecars = new Set(initContainers.filter(isSidecar).map(({ name }) => name))
  for (const [i, status] of initContainerStatuses.entries()) {
    const sidecar = sidecars.has(status.name)
    const restarts = status.restartCount ?? 0
    const ended = status.lastState?.terminated?.finishedAt
    summary.restarts += restarts
    summary.lastRestart = later(summary.lastRestart, ended)
    if (sidecar) {
      summary.sidecarRestarts += restarts
      summary.sidecarLastRestart = later(summary.sidecarLastRestart, ended)
    }
    const { terminated, waiting } = status.state ?? {}
    if (terminated !== undefined && (terminated.exitCode ?? 0) === 0) continue
    if (sidecar && status.started === true) {
      if (status.ready === true) summary.ready++
      continue
    }
    if (terminated !== undefined) summary.reason = `Init:${endText(terminated)}`
    else if ((waiting?.reason ?? '') !== '' && waiting!.reason !== 'PodInitializing') summary.reason = `Init:${waiting!.reason}`
    else summary.reason = `Init:${i}/${initContainers.length}`
    break
  }
  return summary
}

function gatesText({ readinessGates = [] }: PodSpec, { conditions = [] }: PodStatus): string {
  if (readinessGates.length === 0) return '<none>'
  // The first condition of a type counts.
  const statuses = new Map(conditions.map(({ type, status }) => [type, status] as const).toReversed())
  const fulfilled = readinessGates.filter(({ conditionType }) => statuses.get(conditionType) === 'True')
  return `${fulfilled.length}/${readinessGates.length}`
}
