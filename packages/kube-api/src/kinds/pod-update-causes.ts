import { isDeepStrictEqual } from 'node:util'
import type { StatusCause } from '../status-error.ts'
import { forbiddenValue, invalidValue, requiredValue } from '../validation/causes.ts'
import { eachCause } from './each-cause.ts'
import type { Container, PodSpec, Toleration } from './pod-types.ts'

const changeableFields = 'pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,'
  + '`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` '
  + '(allow it to be set to 1 if it was previously negative)'

/** Scheduling gates that a refusal of new ones names. */
const toldGatesMax = 100

/** Causes for a change of a Pod's spec, in the order of the real server (ValidatePodUpdate of 1.32). */
export function podUpdateCauses(next: PodSpec, current: PodSpec): StatusCause[] {
  const counted = ['containers', 'initContainers'] as const
  const moved = counted.filter(name => (next[name] ?? []).length !== (current[name] ?? []).length)
  if (moved.length > 0) {
    return moved.map(name => forbiddenValue(`spec.${name}`,
      `pod updates may not add or remove ${name === 'containers' ? 'containers' : 'init containers'}`))
  }
  const causes = [
    ...imageCauses(next.containers ?? [], 'spec.containers'), ...imageCauses(next.initContainers ?? [], 'spec.initContainers'),
    ...deadlineCauses(next.activeDeadlineSeconds, current.activeDeadlineSeconds),
    ...tolerationCauses(next.tolerations ?? [], current.tolerations ?? []), ...gateCauses(next, current)
  ]
  if (causes.length > 0) return causes
  return isDeepStrictEqual(withCurrent(next, current), current) ? [] : [forbiddenValue('spec', changeableFields)]
}

const imageCauses = (containers: readonly Container[], field: string): StatusCause[] =>
  eachCause(containers, ({ image = '' }, i) => image.trim() === '' ? [requiredValue(`${field}[${i}].image`)] : [])

function deadlineCauses(next: number | undefined, current: number | undefined): StatusCause[] {
  if (current === undefined) return []
  const field = 'spec.activeDeadlineSeconds'
  if (next === undefined) return [invalidValue(field, null, 'must not update from a positive integer to nil value')]
  return next > current ? [invalidValue(field, next, 'must be less than or equal to previous value')] : []
}

/** Tolerations may be added, and the seconds of one that is there may change. */
function tolerationCauses(next: readonly Toleration[], current: readonly Toleration[]): StatusCause[] {
  const identity = ({ key, operator, value, effect }: Toleration): string => JSON.stringify([key, operator, value, effect])
  const given = new Set(next.map(identity))
  const kept = current.every(one => given.has(identity(one)))
  return kept ? [] : [forbiddenValue('spec.tolerations', 'existing toleration can not be modified except its tolerationSeconds')]
}

function gateCauses(next: PodSpec, current: PodSpec): StatusCause[] {
  const known = new Set((current.schedulingGates ?? []).map(({ name }) => name))
  const added = (next.schedulingGates ?? []).filter(({ name }) => !known.has(name)).slice(0, toldGatesMax)
  return added.length === 0 ? [] : [forbiddenValue('spec.schedulingGates', 'only deletion is allowed, but found new scheduling gates '
    + `'${added.map(({ name }) => name).join(',')}'`)]
}

/** `next` with all that may change as it is in `current`. */
function withCurrent(next: PodSpec, current: PodSpec): PodSpec {
  const images = (containers: readonly Container[] | undefined, currents: readonly Container[] | undefined): Container[] | undefined =>
    containers?.map((container, i) => ({ ...container, image: currents![i]!.image! }))
  const result: PodSpec = { ...next }
  const put = <Name extends keyof PodSpec>(name: Name, value: PodSpec[Name] | undefined): void => {
    if (value === undefined) delete result[name]
    else result[name] = value
  }
  put('containers', images(next.containers, current.containers))
  put('initContainers', images(next.initContainers, current.initContainers))
  put('activeDeadlineSeconds', current.activeDeadlineSeconds)
  put('tolerations', current.tolerations)
  put('schedulingGates', current.schedulingGates)
  if ((current.terminationGracePeriodSeconds ?? 0) < 0 && next.terminationGracePeriodSeconds === 1) {
    put('terminationGracePeriodSeconds', current.terminationGracePeriodSeconds)
  }
  return result
}
