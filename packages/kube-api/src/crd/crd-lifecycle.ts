import { timestamp } from '../object-store-deletion.ts'
import type { KubeObject } from '../object.ts'
import {
  cleanupFinalizer, conditionOf, isEstablished, specOf, statusOf, type DefinitionCondition, type DefinitionConditionType,
  type DefinitionNames
} from './definition.ts'

/** What a definition is to become next; `undefined` where it is what it should be. */
export type DefinitionStep =
  | { readonly kind: 'put', readonly object: KubeObject }
  | undefined

type NewCondition = readonly [type: DefinitionConditionType, status: 'True' | 'False', reason: string, message: string]

/**
 * The next step of a definition that is not being deleted: its names are accepted or refused, then it is established.
 * `others` are all definitions; names that one of the same group has been given are taken. Pure; calling it until it says
 * nothing more is enough (apiextensions-apiserver, pkg/controller/status/naming_controller.go).
 */
export function nextStep(definition: KubeObject, others: Iterable<KubeObject>, nowMs: number): DefinitionStep {
  const named = withNames(definition, others, nowMs)
  if (named !== undefined) return { kind: 'put', object: named }
  const areAccepted = conditionOf(definition, 'NamesAccepted')?.status === 'True'
  if (!areAccepted || isEstablished(definition)) return undefined
  return {
    kind: 'put',
    object: withCondition(definition, ['Established', 'True', 'InitialNamesAccepted', 'the initial names have been accepted'], nowMs)
  }
}

function withNames(definition: KubeObject, others: Iterable<KubeObject>, nowMs: number): KubeObject | undefined {
  const { group, names: requested = {} } = specOf(definition)
  const { acceptedNames } = statusOf(definition)
  const [resources, kinds] = takenNames(definition, group, others)
  const accepted: Partial<DefinitionNames> = { ...acceptedNames }
  let refusal: readonly [reason: string, message: string] | undefined
  const accept = (name: 'plural' | 'singular' | 'kind' | 'listKind', taken: ReadonlySet<string>, reason: string): void => {
    const wanted = requested[name] ?? ''
    if (wanted === (acceptedNames[name] ?? '') || !taken.has(wanted)) setName(accepted, name, requested[name])
    else refusal = [reason, inUse(wanted)]
  }
  accept('plural', resources, 'PluralConflict')
  accept('singular', resources, 'SingularConflict')
  const taken = (requested.shortNames ?? []).filter(name => !(acceptedNames.shortNames ?? []).includes(name) && resources.has(name))
  if (taken.length > 0) refusal = ['ShortNamesConflict', taken.map(inUse).join(', ')]
  else setName(accepted, 'shortNames', requested.shortNames)
  accept('kind', kinds, 'KindConflict')
  accept('listKind', kinds, 'ListKindConflict')
  setName(accepted, 'categories', requested.categories)

  const conditions: NewCondition[] = [refusal === undefined
    ? ['NamesAccepted', 'True', 'NoConflicts', 'no conflicts found']
    : ['NamesAccepted', 'False', ...refusal]]
  if (!isEstablished(definition)) {
    conditions.push(refusal === undefined
      ? ['Established', 'False', 'Installing', 'the initial names have been accepted']
      : ['Established', 'False', 'NotAccepted', 'not all names are accepted'])
  }
  const isAsBefore = JSON.stringify(inOrder(accepted)) === JSON.stringify(inOrder(acceptedNames))
    && conditions.every(condition => isSet(definition, condition))
  if (isAsBefore) return undefined
  let next: KubeObject = { ...definition, status: { ...statusOf(definition), acceptedNames: inOrder(accepted) } }
  for (const condition of conditions) next = withCondition(next, condition, nowMs)
  return next
}

const inUse = (name: string): string => `"${name}" is already in use`

function takenNames(
  { metadata: { name } }: KubeObject, group: string | undefined, others: Iterable<KubeObject>
): readonly [resources: ReadonlySet<string>, kinds: ReadonlySet<string>] {
  const resources = new Set<string>()
  const kinds = new Set<string>()
  for (const other of others) {
    if (other.metadata.name === name || specOf(other).group !== group) continue
    const { plural = '', singular = '', shortNames = [], kind = '', listKind = '' } = statusOf(other).acceptedNames
    for (const taken of [plural, singular, ...shortNames]) if (taken !== '') resources.add(taken)
    for (const taken of [kind, listKind]) if (taken !== '') kinds.add(taken)
  }
  return [resources, kinds]
}

function setName<Name extends keyof DefinitionNames>(
  names: Partial<DefinitionNames>, name: Name, value: Partial<DefinitionNames>[Name]
): void {
  if (value === undefined) delete names[name]
  else names[name] = value
}

/** As the real server writes them: `plural` and `kind` always. */
function inOrder({ plural = '', singular, shortNames, kind = '', listKind, categories }: Partial<DefinitionNames>): DefinitionNames {
  return {
    plural,
    ...singular !== undefined && { singular },
    ...shortNames !== undefined && { shortNames },
    kind,
    ...listKind !== undefined && { listKind },
    ...categories !== undefined && { categories }
  }
}

function isSet(definition: KubeObject, [type, status, reason, message]: NewCondition): boolean {
  const condition = conditionOf(definition, type)
  return condition?.status === status && condition.reason === reason && condition.message === message
}

/** The definition with one condition as said; the time is that of the last change of its status. */
function withCondition(definition: KubeObject, [type, status, reason, message]: NewCondition, nowMs: number): KubeObject {
  const before = conditionOf(definition, type)
  const lastTransitionTime = before?.status === status ? before.lastTransitionTime : timestamp(nowMs)
  const condition: DefinitionCondition = { type, status, lastTransitionTime, reason, message }
  const conditions = [...statusOf(definition).conditions ?? []]
  const place = conditions.findIndex(other => other.type === type)
  if (place === -1) conditions.push(condition)
  else conditions[place] = condition
  return { ...definition, status: { ...statusOf(definition), conditions } }
}

/** A definition that somebody deletes: it stays until its instances are gone. */
export function markDeleted(definition: KubeObject, nowMs: number): KubeObject {
  const finalizers = definition.metadata.finalizers ?? []
  const metadata = {
    ...definition.metadata, deletionTimestamp: timestamp(nowMs),
    finalizers: finalizers.includes(cleanupFinalizer) ? finalizers : [...finalizers, cleanupFinalizer]
  }
  return withCondition({ ...definition, metadata }, ['Terminating', 'True', 'InstanceDeletionPending',
    'CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon'], nowMs)
}

/** What the removal of a definition does next. */
export type RemovalStep =
  /** Nothing is left to do here: another finalizer holds it, or it is not being deleted. */
  | { readonly kind: 'none' }
  | { readonly kind: 'put', readonly object: KubeObject }
  | { readonly kind: 'delete-instances' }
  /** The cleanup is done: without its finalizer, the definition goes unless another one holds it. */
  | { readonly kind: 'release', readonly object: KubeObject }

/**
 * The next step of a definition that is being deleted; `instances` is how many objects of it there are
 * (apiextensions-apiserver, pkg/controller/finalizer/crd_finalizer.go).
 */
export function removalStep(definition: KubeObject, instances: number, nowMs: number): RemovalStep {
  const { deletionTimestamp, finalizers = [] } = definition.metadata
  if (deletionTimestamp === undefined || !finalizers.includes(cleanupFinalizer)) return { kind: 'none' }
  const isUnderWay: NewCondition = ['Terminating', 'True', 'InstanceDeletionInProgress', 'CustomResource deletion is in progress']
  if (isEstablished(definition)) {
    if (!isSet(definition, isUnderWay)) return { kind: 'put', object: withCondition(definition, isUnderWay, nowMs) }
    if (instances > 0) return { kind: 'delete-instances' }
  }
  const done: NewCondition = isEstablished(definition)
    ? ['Terminating', 'False', 'InstanceDeletionCompleted', 'removed all instances']
    : ['Terminating', 'False', 'NeverEstablished', 'resource was never established']
  const left = withCondition(definition, done, nowMs)
  const metadata = { ...left.metadata, finalizers: finalizers.filter(finalizer => finalizer !== cleanupFinalizer) }
  if (metadata.finalizers.length === 0) delete (metadata as KubeObject['metadata']).finalizers
  return { kind: 'release', object: { ...left, metadata } }
}
