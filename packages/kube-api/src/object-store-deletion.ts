import { formatTimestamp } from '@holdfast/runtime'
import { isNamespace, isReleased } from './meta-rules.ts'
import type { KubeObject } from './object.ts'
import type { StoredObject, WriteDecision } from './object-store-types.ts'
import type { Resource } from './resource.ts'

/** A deletion with this finalizer takes the object out of its dependents' owner references first. */
export const orphanFinalizer = 'orphan'
/** A deletion with this finalizer waits for the dependents that block it. */
export const foregroundFinalizer = 'foregroundDeletion'

export type PropagationPolicy = 'Background' | 'Foreground' | 'Orphan'

export interface Deletion {
  readonly nowMs: number
  /** Undefined: as the object's finalizers say, otherwise in the background. */
  readonly propagationPolicy?: PropagationPolicy | undefined
  /** Undefined: what its kind says. */
  readonly gracePeriodSeconds?: number | undefined
}

/** RFC 3339 with seconds, as metadata has it. */
export function timestamp(wallMs: number): string { return formatTimestamp(wallMs).replace(/\.\d+Z$/, 'Z') }

/**
 * What a deletion does to an object: takes it away, or marks it as being deleted where something holds it
 * (k8s.io/apiserver/pkg/registry/rest/delete.go and generic/registry/store.go).
 */
export function decideDeletion(
  { object }: StoredObject, { nowMs, propagationPolicy, gracePeriodSeconds }: Deletion, resource: Resource | undefined
): WriteDecision {
  const { metadata } = object
  const deleting = metadata.deletionTimestamp !== undefined
  if (!deleting && resource?.markDeleted !== undefined) return released(resource.markDeleted(object, nowMs))
  const finalizers = finalizersFor(metadata.finalizers ?? [], propagationPolicy)
  const graceSeconds = resource?.deletionGraceSeconds?.(object, gracePeriodSeconds) ?? 0
  const { deletionGracePeriodSeconds: leftSeconds = 0 } = metadata
  // A grace period under way can only get shorter; nothing else changes meanwhile.
  if (deleting && leftSeconds > 0 && graceSeconds >= leftSeconds) return { kind: 'none' }
  const next: KubeObject = { ...object, metadata: { ...metadata, finalizers } }
  if (finalizers.length === 0) delete next.metadata.finalizers
  if (isNamespace(object)) {
    next.metadata.deletionTimestamp ??= timestamp(nowMs)
    next['status'] = { ...next['status'] as object, phase: 'Terminating' }
  } else if (!deleting || graceSeconds < leftSeconds) {
    next.metadata.deletionTimestamp = timestamp(nowMs + graceSeconds * 1000)
    next.metadata.deletionGracePeriodSeconds = graceSeconds
    if (!deleting && (metadata.generation ?? 0) > 0) next.metadata.generation = metadata.generation! + 1
  }
  return released(next)
}

/** The object as it is now, or its end where nothing holds it any more. */
export function released(next: KubeObject): WriteDecision {
  return isReleased(next) ? { kind: 'delete' } : { kind: 'put', object: next }
}

/** The object without one of its finalizers. */
export function withoutFinalizer(object: KubeObject, finalizer: string): KubeObject {
  const finalizers = (object.metadata.finalizers ?? []).filter(name => name !== finalizer)
  const next = { ...object, metadata: { ...object.metadata, finalizers } }
  if (finalizers.length === 0) delete (next.metadata as KubeObject['metadata']).finalizers
  return next
}

function finalizersFor(finalizers: readonly string[], policy: PropagationPolicy | undefined): string[] {
  if (policy === undefined) return [...finalizers]
  const others = finalizers.filter(name => name !== orphanFinalizer && name !== foregroundFinalizer)
  if (policy === 'Orphan') others.push(orphanFinalizer)
  if (policy === 'Foreground') others.push(foregroundFinalizer)
  return others
}
