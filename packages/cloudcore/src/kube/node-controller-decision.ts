import type { Json, JsonObject, KubeObject } from '@holdfast/kube-api'
import type { NodeName } from '@holdfast/runtime'
import { conditionsOf, isObject, nodeConditions, sameJson, stateAnnotation, statusOf } from '../state/status-document.ts'
import type { Condition } from '../state/status-document.ts'

/** Set once cloudcore has registered a Node, or taken over one that an operator made. */
export const registeredAnnotation = 'holdfast.dev/registered'
/** On the Node while it is away; nothing is scheduled there, and nothing is evicted for it. */
export const unreachableTaint = { key: 'holdfast.dev/unreachable', effect: 'NoSchedule' } as const
const roleLabel = 'node-role.kubernetes.io/edge'
/** Of a Node that cloudcore makes: what is not meant for the edge is not scheduled there. */
const roleTaint = { key: roleLabel, effect: 'NoSchedule' } as const
const labelCharactersMax = 63

/** What is known of a node apart from its Node. */
export interface NodeFacts {
  readonly node: NodeName
  /**
   * - `connected`: its tunnel is open.
   * - `away`: it is not, for so long that it counts.
   */
  readonly presence: 'connected' | 'away'
  /** It has connected, and its Node has not been seen to be there since. */
  readonly registering: boolean
  readonly duplicateIdentity: boolean
  /** RFC 3339, whole seconds. */
  readonly now: string
}

export type NodeDecision =
  | { readonly kind: 'none' }
  | { readonly kind: 'create', readonly object: KubeObject }
  /**
   * A merge patch with the resourceVersion of the Node that was looked at; of its status, or of what is not its status.
   * `forgetsReport`: it says what Ready is in the node's place.
   */
  | {
    readonly kind: 'patch', readonly patch: JsonObject, readonly subresource: 'status' | undefined, readonly forgetsReport: boolean
  }

/** True for Nodes that cloudcore looks after, whether they are connected or not. */
export function isRegistered(object: KubeObject | undefined): boolean {
  return object?.metadata.annotations?.[registeredAnnotation] !== undefined
}

/**
 * The next write that brings a Node to what is known of it; asked again after each, until there is none. Pure.
 *
 * What an operator or another controller set is never taken away or changed: labels are added where they are missing, taints and
 * conditions of others stay, `unschedulable` and annotations are not looked at. The role and its taint are set once, at
 * registration, so that an operator may take them off.
 */
export function decideNode(current: KubeObject | undefined, facts: NodeFacts): NodeDecision {
  if (current === undefined) {
    return facts.registering && facts.presence === 'connected' ? { kind: 'create', object: newNode(facts) } : { kind: 'none' }
  }
  // One that nobody connected as is none of ours.
  if (!isRegistered(current) && facts.presence !== 'connected') return { kind: 'none' }
  const { resourceVersion = '' } = current.metadata
  const change = objectChange(current, facts)
  if (change !== undefined) {
    const { metadata, spec } = change
    return {
      kind: 'patch', subresource: undefined, forgetsReport: false,
      patch: { metadata: { resourceVersion, ...metadata }, ...spec !== undefined && { spec } }
    }
  }
  const status = statusChange(current, facts)
  if (status === undefined) return { kind: 'none' }
  return {
    kind: 'patch', subresource: 'status', forgetsReport: status.forgetsReport,
    patch: {
      // What the node said of itself does not stand there any more: it says it again when both sides compare.
      metadata: { resourceVersion, ...status.forgetsReport && { annotations: { [stateAnnotation]: null } } },
      status: { conditions: status.conditions }
    }
  }
}

function newNode({ node, now, duplicateIdentity }: NodeFacts): KubeObject {
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: {
      name: node,
      labels: { ...node.length <= labelCharactersMax && { 'kubernetes.io/hostname': node }, [roleLabel]: '' },
      annotations: { [registeredAnnotation]: now }
    },
    spec: { taints: [roleTaint] },
    status: { conditions: [readyCondition(now), ...duplicateIdentity ? [duplicateCondition(true, now)] : []] }
  }
}

function objectChange(
  current: KubeObject, facts: NodeFacts
): { readonly metadata: JsonObject, readonly spec?: JsonObject } | undefined {
  const { labels = {} } = current.metadata
  const missing = Object.entries(labelsOf(current, facts)).filter(([key]) => labels[key] === undefined)
  const taints = taintsOf(current)
  const isTainted = taints.some(isUnreachableTaint)
  const wantsTaint = facts.presence === 'away'
  const metadata: JsonObject = {
    ...missing.length > 0 && { labels: Object.fromEntries(missing) },
    ...!isRegistered(current) && { annotations: { [registeredAnnotation]: facts.now } }
  }
  if (isTainted === wantsTaint) return Object.keys(metadata).length === 0 ? undefined : { metadata }
  const next: Json[] = wantsTaint ? [...taints, { ...unreachableTaint }] : taints.filter(taint => !isUnreachableTaint(taint))
  return { metadata, spec: { taints: next.length === 0 ? null : next } }
}

/** Labels that the Node should have; only those that are missing are set. */
function labelsOf(current: KubeObject, { node }: NodeFacts): Record<string, string> {
  const { nodeInfo } = statusOf(current)
  const { operatingSystem, architecture } = isObject(nodeInfo) ? nodeInfo : {}
  const isLabel = (value: unknown): value is string => typeof value === 'string' && /^[a-z0-9]{1,63}$/.test(value)
  return {
    ...node.length <= labelCharactersMax && { 'kubernetes.io/hostname': node },
    ...isLabel(operatingSystem) && { 'kubernetes.io/os': operatingSystem },
    ...isLabel(architecture) && { 'kubernetes.io/arch': architecture },
    ...!isRegistered(current) && { [roleLabel]: '' }
  }
}

function taintsOf(object: KubeObject): Json[] {
  const spec = object['spec']
  const taints = isObject(spec) ? spec['taints'] : undefined
  return Array.isArray(taints) ? taints : []
}

function isUnreachableTaint(taint: Json): boolean {
  return isObject(taint) && taint['key'] === unreachableTaint.key && taint['effect'] === unreachableTaint.effect
}

function statusChange(
  current: KubeObject, facts: NodeFacts
): { readonly conditions: Condition[], readonly forgetsReport: boolean } | undefined {
  const before = conditionsOf(statusOf(current))
  const ready = before.find(({ type }) => type === 'Ready')
  // Whoever said that nobody knows how it is: the tunnel knows better. What the node itself says stands.
  const returns = facts.presence === 'connected' && (ready === undefined || ready['status'] === 'Unknown')
  const leaves = facts.presence === 'away' && ready?.['status'] !== 'Unknown'
  let conditions = before
  if (returns) conditions = withCondition(conditions, readyCondition(facts.now))
  if (leaves) {
    const unknown = before.filter(({ type }) => nodeConditions.has(type)).map(({ type }) => type)
    for (const type of new Set(['Ready', ...unknown])) {
      conditions = withCondition(conditions, awayCondition(conditions, type, facts.now))
    }
  }
  const duplicate = before.find(({ type }) => type === 'DuplicateIdentity')
  if (facts.duplicateIdentity !== (duplicate?.['status'] === 'True')) {
    conditions = withCondition(conditions, duplicateCondition(facts.duplicateIdentity, facts.now))
  }
  return sameJson(before, conditions) ? undefined : { conditions, forgetsReport: returns || leaves }
}

function withCondition(conditions: readonly Condition[], condition: Condition): Condition[] {
  return conditions.some(({ type }) => type === condition.type)
    ? conditions.map(one => one.type === condition.type ? condition : one) : [...conditions, condition]
}

const readyCondition = (now: string): Condition => ({
  type: 'Ready', status: 'True', lastHeartbeatTime: now, lastTransitionTime: now, reason: 'TunnelOpen',
  message: 'the tunnel to the node is open'
})

/** Its heartbeat is that of what was last known. */
function awayCondition(conditions: readonly Condition[], type: string, now: string): Condition {
  const heartbeat = conditions.find(one => one.type === type)?.['lastHeartbeatTime']
  return {
    type, status: 'Unknown', lastHeartbeatTime: typeof heartbeat === 'string' ? heartbeat : now, lastTransitionTime: now,
    reason: 'NodeAway', message: 'the tunnel to the node is closed'
  }
}

const duplicateCondition = (holds: boolean, now: string): Condition => ({
  type: 'DuplicateIdentity', status: holds ? 'True' : 'False', lastHeartbeatTime: now, lastTransitionTime: now,
  reason: holds ? 'TwoMachines' : 'OneMachine',
  message: holds ? 'two machines use this node\'s identity: a data directory was copied or restored; stop one of them'
    : 'one machine uses this node\'s identity'
})
