import { isIP } from 'node:net'
import { eachAnnotationCause, eachLabelCause } from '../meta-rules.ts'
import type { ObjectMeta } from '../object.ts'
import type { StatusCause } from '../status-error.ts'
import { duplicateValue, forbiddenValue, invalidValue, requiredValue } from '../validation/causes.ts'
import {
  dns1123LabelErrors, dns1123SubdomainErrors, labelValueErrors, qualifiedNameErrors, rangeErrors, type NameCheck
} from '../validation/names.ts'
import { oneOf } from './choice-causes.ts'
import { containerCauses, hostPortCauses, idCauses } from './container-causes.ts'
import { eachCause } from './each-cause.ts'
import type { PodSpec, Toleration } from './pod-types.ts'
import { volumeCauses } from './volume-causes.ts'

/**
 * Causes for a Pod's spec, in the order of the real server (ValidatePodSpec of 1.32). Of affinity, resourceClaims, overhead,
 * dnsConfig and what is for Windows, types alone are checked (decode.ts).
 */
export function podSpecCauses(spec: PodSpec, field: string): StatusCause[] {
  const { containers = [], initContainers = [], ephemeralContainers = [], volumes = [], hostNetwork = false } = spec
  const names = new Set<string>()
  const { securityContext = {} } = spec
  return [
    ...volumeCauses(volumes, `${field}.volumes`),
    ...containers.length === 0
      ? [requiredValue(`${field}.containers`)]
      : containerCauses(containers, `${field}.containers`, { role: 'container', volumes, names }),
    ...hostPortCauses(containers, hostNetwork, `${field}.containers`),
    ...containerCauses(initContainers, `${field}.initContainers`, { role: 'init', volumes, names }),
    ...containerCauses(ephemeralContainers, `${field}.ephemeralContainers`, { role: 'ephemeral', volumes, names }),
    ...oneOf(spec.restartPolicy, ['Always', 'OnFailure', 'Never'], `${field}.restartPolicy`),
    ...oneOf(spec.dnsPolicy, ['ClusterFirstWithHostNet', 'ClusterFirst', 'Default', 'None'], `${field}.dnsPolicy`),
    ...spec.dnsPolicy === 'None' && (spec.dnsConfig?.nameservers ?? []).length === 0
      ? [requiredValue(`${field}.dnsConfig.nameservers`, 'must provide at least one DNS nameserver when `dnsPolicy` is None')]
      : [],
    ...eachLabelCause(spec.nodeSelector ?? {}, `${field}.nodeSelector`),
    ...idCauses(securityContext.runAsUser, `${field}.securityContext.runAsUser`),
    ...idCauses(securityContext.runAsGroup, `${field}.securityContext.runAsGroup`),
    ...idCauses(securityContext.fsGroup, `${field}.securityContext.fsGroup`),
    ...eachCause(securityContext.supplementalGroups ?? [], (id, i) =>
      idCauses(id, `${field}.securityContext.supplementalGroups[${i}]`)),
    ...eachCause(spec.imagePullSecrets ?? [], ({ name = '' }, i) =>
      name === '' ? [requiredValue(`${field}.imagePullSecrets[${i}].name`)] : []),
    ...eachCause(spec.readinessGates ?? [], ({ conditionType = '' }, i) =>
      qualifiedNameErrors(conditionType).map(error => invalidValue(`${field}.readinessGates[${i}].conditionType`, conditionType, error))),
    ...schedulingGateCauses(spec, `${field}.schedulingGates`),
    ...spreadCauses(spec, `${field}.topologySpreadConstraints`),
    ...named(spec.serviceAccountName, dns1123SubdomainErrors, `${field}.serviceAccountName`),
    ...named(spec.nodeName, dns1123SubdomainErrors, `${field}.nodeName`),
    ...deadlineCauses(spec.activeDeadlineSeconds, `${field}.activeDeadlineSeconds`),
    ...named(spec.hostname, dns1123LabelErrors, `${field}.hostname`),
    ...named(spec.subdomain, dns1123LabelErrors, `${field}.subdomain`),
    ...eachCause(spec.tolerations ?? [], (toleration, i) => tolerationCauses(toleration, `${field}.tolerations[${i}]`)),
    ...hostAliasCauses(spec, `${field}.hostAliases`),
    ...named(spec.priorityClassName, dns1123SubdomainErrors, `${field}.priorityClassName`),
    ...named(spec.runtimeClassName, dns1123SubdomainErrors, `${field}.runtimeClassName`),
    ...oneOf(spec.preemptionPolicy, ['PreemptLowerPriority', 'Never'], `${field}.preemptionPolicy`)
  ]
}

/** Causes for a template's labels, annotations and spec. */
export function podTemplateCauses(
  { metadata = {}, spec = {} }: { metadata?: ObjectMeta, spec?: PodSpec }, field: string
): StatusCause[] {
  return [
    ...eachLabelCause(metadata.labels ?? {}, `${field}.labels`),
    ...eachAnnotationCause(metadata.annotations ?? {}, `${field}.annotations`),
    ...podSpecCauses(spec, `${field}.spec`),
    ...(spec.ephemeralContainers ?? []).length === 0
      ? []
      : [forbiddenValue(`${field}.spec.ephemeralContainers`, 'ephemeral containers not allowed in pod template')]
  ]
}

const named = (name: string | undefined, check: NameCheck, field: string): StatusCause[] =>
  name === undefined ? [] : check(name).map(error => invalidValue(field, name, error))

export const deadlineCauses = (seconds: number | undefined, field: string): StatusCause[] =>
  seconds === undefined ? [] : rangeErrors(seconds, 1, 2_147_483_647).map(error => invalidValue(field, seconds, error))

function schedulingGateCauses({ schedulingGates = [] }: PodSpec, field: string): StatusCause[] {
  const names = new Set<string>()
  return eachCause(schedulingGates, ({ name = '' }, i) => {
    const causes = qualifiedNameErrors(name).map(error => invalidValue(`${field}[${i}]`, name, error))
    if (names.has(name)) causes.push(duplicateValue(`${field}[${i}]`, name))
    names.add(name)
    return causes
  })
}

function spreadCauses({ topologySpreadConstraints = [] }: PodSpec, field: string): StatusCause[] {
  return eachCause(topologySpreadConstraints, ({ maxSkew = 0, topologyKey = '', whenUnsatisfiable = '' }, i) => {
    const at = `${field}[${i}]`
    return [
      ...maxSkew > 0 ? [] : [invalidValue(`${at}.maxSkew`, maxSkew, 'must be greater than zero')],
      ...topologyKey === '' ? [requiredValue(`${at}.topologyKey`, 'can not be empty')] : [],
      ...oneOf(whenUnsatisfiable, ['DoNotSchedule', 'ScheduleAnyway'], `${at}.whenUnsatisfiable`)
    ]
  })
}

export function tolerationCauses(toleration: Toleration, field: string): StatusCause[] {
  const { key = '', operator = '', value = '', effect = '', tolerationSeconds } = toleration
  const causes = key === '' ? [] : qualifiedNameErrors(key).map(error => invalidValue(`${field}.key`, key, error))
  if (key === '' && operator !== 'Exists') {
    causes.push(invalidValue(`${field}.operator`, operator,
      'operator must be Exists when `key` is empty, which means "match all values and all keys"'))
  }
  if (tolerationSeconds !== undefined && effect !== 'NoExecute') {
    causes.push(invalidValue(`${field}.effect`, effect, 'effect must be \'NoExecute\' when `tolerationSeconds` is set'))
  }
  switch (operator) {
    case '':
    case 'Equal':
      causes.push(...labelValueErrors(value).map(error => invalidValue(`${field}.operator`, value, error)))
      break
    case 'Exists':
      if (value !== '') causes.push(invalidValue(`${field}.operator`, value, 'value must be empty when `operator` is \'Exists\''))
      break
    default:
      causes.push(...oneOf(operator, ['Equal', 'Exists'], `${field}.operator`))
  }
  if (effect !== '') causes.push(...oneOf(effect, ['NoSchedule', 'PreferNoSchedule', 'NoExecute'], `${field}.effect`))
  return causes
}

function hostAliasCauses({ hostAliases = [] }: PodSpec, field: string): StatusCause[] {
  return eachCause(hostAliases, ({ ip = '', hostnames = [] }, i) => [
    ...isIP(ip) === 0 ? [invalidValue(`${field}[${i}].ip`, ip, 'must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)')] : [],
    ...eachCause(hostnames, (name, j) =>
      dns1123SubdomainErrors(name).map(error => invalidValue(`${field}[${i}].hostnames[${j}]`, name, error)))
  ])
}
