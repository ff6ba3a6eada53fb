import { quantityOrder, quantitySign } from '../quantity.ts'
import type { StatusCause } from '../status-error.ts'
import { duplicateValue, forbiddenValue, invalidValue, notFoundValue, requiredValue, unsupportedValue } from '../validation/causes.ts'
import {
  configMapKeyErrors, dns1123LabelErrors, envVarNameErrors, httpHeaderNameErrors, portNameErrors, portNumberErrors,
  qualifiedNameErrors, unixIdErrors
} from '../validation/names.ts'
import { oneOf } from './choice-causes.ts'
import { eachCause } from './each-cause.ts'
import type {
  Container, ContainerPort, EnvVar, Handler, HttpGet, KeySelector, Probe, ResourceRequirements, Volume
} from './pod-types.ts'
import { localPathCauses } from './volume-causes.ts'

/** Checks of k8s.io/kubernetes/pkg/apis/core/validation of 1.32, in its order. */

const pullPolicies = ['Always', 'IfNotPresent', 'Never']
const protocols = ['SCTP', 'TCP', 'UDP']

export type ContainerRole = 'container' | 'init' | 'ephemeral'

interface ContainerContext {
  readonly role: ContainerRole
  readonly volumes: readonly Volume[]
  /** Names that are taken by the Pod's other containers; those looked at are added. */
  readonly names: Set<string>
}

export function containerCauses(containers: readonly Container[], field: string, context: ContainerContext): StatusCause[] {
  return eachCause(containers, (container, i) => oneContainerCauses(container, `${field}[${i}]`, context))
}

function oneContainerCauses(container: Container, field: string, { role, volumes, names }: ContainerContext): StatusCause[] {
  const { name = '', image = '' } = container
  const causes = name === ''
    ? [requiredValue(`${field}.name`)]
    : dns1123LabelErrors(name).map(error => invalidValue(`${field}.name`, name, error))
  if (name !== '' && names.has(name)) causes.push(duplicateValue(`${field}.name`, name))
  names.add(name)
  if (image.trim() === '') causes.push(requiredValue(`${field}.image`))
  else if (image.trim() !== image) causes.push(invalidValue(`${field}.image`, image, 'must not have leading or trailing whitespace'))
  causes.push(
    ...oneOf(container.terminationMessagePolicy, ['File', 'FallbackToLogsOnError'], `${field}.terminationMessagePolicy`),
    ...portCauses(container.ports ?? [], `${field}.ports`),
    ...eachCause(container.env ?? [], (variable, i) => envCauses(variable, `${field}.env[${i}]`)),
    ...envFromCauses(container, `${field}.envFrom`),
    ...mountCauses(container, volumes, field),
    ...oneOf(container.imagePullPolicy, pullPolicies, `${field}.imagePullPolicy`),
    ...resourceCauses(container.resources ?? {}, `${field}.resources`),
    ...securityCauses(container, `${field}.securityContext`),
    ...roleCauses(container, role, field)
  )
  return causes
}

function roleCauses(container: Container, role: ContainerRole, field: string): StatusCause[] {
  const { lifecycle, livenessProbe, readinessProbe, startupProbe, restartPolicy } = container
  const probes = [['livenessProbe', livenessProbe], ['readinessProbe', readinessProbe], ['startupProbe', startupProbe]] as const
  const checked = [
    ...handlerCauses(lifecycle?.postStart, `${field}.lifecycle.postStart`, false),
    ...handlerCauses(lifecycle?.preStop, `${field}.lifecycle.preStop`, false),
    ...probes.flatMap(([name, probe]) => probe === undefined ? [] : probeCauses(probe, `${field}.${name}`, name !== 'readinessProbe'))
  ]
  const given = [...lifecycle === undefined ? [] : ['lifecycle'], ...probes.flatMap(([name, probe]) => probe === undefined ? [] : [name])]
  switch (role) {
    case 'container': return checked
    case 'init':
      if (restartPolicy === 'Always') return checked
      return [
        ...restartPolicy === undefined ? [] : [unsupportedValue(`${field}.restartPolicy`, restartPolicy, ['Always'])],
        ...given.map(name => forbiddenValue(`${field}.${name}`, 'may not be set for init containers without restartPolicy=Always'))
      ]
    case 'ephemeral': {
      const { ports, resources } = container
      const more = [...ports === undefined ? [] : ['ports'], ...Object.keys(resources ?? {}).length === 0 ? [] : ['resources']]
      return [...given, ...more].map(name => forbiddenValue(`${field}.${name}`, 'cannot be set for an Ephemeral Container'))
    }
  }
}

function portCauses(ports: readonly ContainerPort[], field: string): StatusCause[] {
  const names = new Set<string>()
  return eachCause(ports, (port, i) => {
    const at = `${field}[${i}]`
    const { name = '', containerPort = 0, hostPort = 0, protocol = '' } = port
    const causes = name === '' ? [] : portNameErrors(name).map(error => invalidValue(`${at}.name`, name, error))
    if (name !== '' && causes.length === 0) {
      if (names.has(name)) causes.push(duplicateValue(`${at}.name`, name))
      names.add(name)
    }
    if (containerPort === 0) causes.push(requiredValue(`${at}.containerPort`))
    else causes.push(...portNumberErrors(containerPort).map(error => invalidValue(`${at}.containerPort`, containerPort, error)))
    if (hostPort !== 0) causes.push(...portNumberErrors(hostPort).map(error => invalidValue(`${at}.hostPort`, hostPort, error)))
    causes.push(...protocol === '' ? [requiredValue(`${at}.protocol`)] : oneOf(protocol, protocols, `${at}.protocol`))
    return causes
  })
}

/** Two containers of a Pod cannot have the same port of the node; on the node's network both ports are one. */
export function hostPortCauses(containers: readonly Container[], hostNetwork: boolean, field: string): StatusCause[] {
  const taken = new Set<string>()
  return eachCause(containers, ({ ports = [] }, i) => eachCause(ports, (port, j) => {
    const { hostPort = 0, containerPort = 0, protocol = '', hostIP = '' } = port
    const at = `${field}[${i}].ports[${j}]`
    if (hostPort === 0) return []
    const causes: StatusCause[] = []
    const key = `${protocol}/${hostIP}/${hostPort}`
    if (taken.has(key)) causes.push(duplicateValue(`${at}.hostPort`, key))
    taken.add(key)
    if (hostNetwork && hostPort !== containerPort) {
      causes.push(invalidValue(`${at}.containerPort`, containerPort, 'must match `hostPort` when `hostNetwork` is true'))
    }
    return causes
  }))
}

const valueSources = ['fieldRef', 'resourceFieldRef', 'configMapKeyRef', 'secretKeyRef', 'fileKeyRef'] as const

function envCauses({ name = '', value = '', valueFrom }: EnvVar, field: string): StatusCause[] {
  const causes = name === ''
    ? [requiredValue(`${field}.name`)]
    : envVarNameErrors(name).map(error => invalidValue(`${field}.name`, name, error))
  if (valueFrom === undefined) return causes
  const at = `${field}.valueFrom`
  const sources = valueSources.filter(source => valueFrom[source] !== undefined)
  const { fieldRef, resourceFieldRef, configMapKeyRef, secretKeyRef } = valueFrom
  if (fieldRef !== undefined && (fieldRef.fieldPath ?? '') === '') causes.push(requiredValue(`${at}.fieldRef.fieldPath`))
  if (resourceFieldRef !== undefined && (resourceFieldRef.resource ?? '') === '') {
    causes.push(requiredValue(`${at}.resourceFieldRef.resource`))
  }
  if (configMapKeyRef !== undefined) causes.push(...keyCauses(configMapKeyRef, `${at}.configMapKeyRef`))
  if (secretKeyRef !== undefined) causes.push(...keyCauses(secretKeyRef, `${at}.secretKeyRef`))
  if (sources.length === 0) {
    causes.push(invalidValue(at, '', 'must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`'))
  } else if (value !== '') {
    causes.push(invalidValue(at, '', 'may not be specified when `value` is not empty'))
  } else if (sources.length > 1) {
    causes.push(invalidValue(at, '', 'may not have more than one field specified at a time'))
  }
  return causes
}

function keyCauses({ name = '', key = '' }: KeySelector, field: string): StatusCause[] {
  const causes = name === '' ? [requiredValue(`${field}.name`)] : []
  if (key === '') return [...causes, requiredValue(`${field}.key`)]
  return [...causes, ...configMapKeyErrors(key).map(error => invalidValue(`${field}.key`, key, error))]
}

function envFromCauses({ envFrom = [] }: Container, field: string): StatusCause[] {
  return eachCause(envFrom, ({ prefix = '', configMapRef, secretRef }, i) => {
    const at = `${field}[${i}]`
    const causes = prefix === '' ? [] : envVarNameErrors(prefix).map(error => invalidValue(`${at}.prefix`, prefix, error))
    if (configMapRef === undefined && secretRef === undefined) {
      causes.push(invalidValue(field, '', 'must specify one of: `configMapRef` or `secretRef`'))
    } else if (configMapRef !== undefined && secretRef !== undefined) {
      causes.push(invalidValue(field, '', 'may not have more than one field specified at a time'))
    }
    if (configMapRef !== undefined && (configMapRef.name ?? '') === '') causes.push(requiredValue(`${at}.configMapRef.name`))
    if (secretRef !== undefined && (secretRef.name ?? '') === '') causes.push(requiredValue(`${at}.secretRef.name`))
    return causes
  })
}

function mountCauses({ volumeMounts = [], volumeDevices = [] }: Container, volumes: readonly Volume[], field: string): StatusCause[] {
  const known = new Set(volumes.map(({ name }) => name))
  const paths = new Set<string>()
  const causes = eachCause(volumeMounts, ({ name = '', mountPath = '', subPath = '', subPathExpr = '' }, i) => {
    const at = `${field}.volumeMounts[${i}]`
    const found = name === '' ? [requiredValue(`${at}.name`)] : known.has(name) ? [] : [notFoundValue(`${at}.name`, name)]
    if (mountPath === '') found.push(requiredValue(`${at}.mountPath`))
    if (paths.has(mountPath)) found.push(invalidValue(`${at}.mountPath`, mountPath, 'must be unique'))
    paths.add(mountPath)
    if (subPath !== '') found.push(...localPathCauses(subPath, `${at}.subPath`))
    if (subPathExpr !== '') {
      if (subPath !== '') found.push(invalidValue(`${at}.subPathExpr`, subPathExpr, 'subPathExpr and subPath are mutually exclusive'))
      found.push(...localPathCauses(subPathExpr, `${at}.subPathExpr`))
    }
    return found
  })
  return [...causes, ...eachCause(volumeDevices, ({ name = '', devicePath = '' }, i) => {
    const at = `${field}.volumeDevices[${i}]`
    const found = name === '' ? [requiredValue(`${at}.name`)] : known.has(name) ? [] : [notFoundValue(`${at}.name`, name)]
    if (devicePath === '') found.push(requiredValue(`${at}.devicePath`))
    return found
  })]
}

const standardResources = /^(cpu|memory|ephemeral-storage|hugepages-.+)$/

function resourceCauses({ limits = {}, requests = {} }: ResourceRequirements, field: string): StatusCause[] {
  const each = (list: Readonly<Record<string, string>>, member: string): StatusCause[] =>
    eachCause(Object.keys(list).toSorted(), name => quantityCauses(name, list[name]!, `${field}.${member}`))
  const unequal = eachCause(Object.keys(requests).toSorted(), name => requestCauses(name, requests[name]!, limits, field))
  return [...each(limits, 'limits'), ...each(requests, 'requests'), ...unequal]
}

/** Of what a node can promise more of than it has; of the rest a container gets just what it is limited to. */
const isOvercommitted = (name: string): boolean =>
  !name.startsWith('hugepages-') && (!name.includes('/') || name.includes('kubernetes.io/'))

function requestCauses(name: string, request: string, limits: Readonly<Record<string, string>>, field: string): StatusCause[] {
  if (!Object.hasOwn(limits, name)) {
    return isOvercommitted(name) ? [] : [requiredValue(`${field}.limits`, 'Limit must be set for non overcommitable resources')]
  }
  const order = quantityOrder(request, limits[name]!)
  if (isOvercommitted(name) ? order <= 0 : order === 0) return []
  const relation = isOvercommitted(name) ? 'less than or equal to' : 'equal to'
  return [invalidValue(`${field}.requests`, request, `must be ${relation} ${name} limit of ${limits[name]}`)]
}

function quantityCauses(name: string, quantity: string, field: string): StatusCause[] {
  const at = `${field}[${name}]`
  const causes = qualifiedNameErrors(name).map(error => invalidValue(at, name, error))
  if (causes.length === 0 && !name.includes('/') && !standardResources.test(name)) {
    causes.push(invalidValue(at, name, 'must be a standard resource type or fully qualified'))
  }
  if (quantitySign(quantity) < 0) causes.push(invalidValue(at, quantity, 'must be greater than or equal to 0'))
  return causes
}

function securityCauses({ securityContext = {} }: Container, field: string): StatusCause[] {
  const { runAsUser, runAsGroup, privileged, allowPrivilegeEscalation } = securityContext
  const causes = [...idCauses(runAsUser, `${field}.runAsUser`), ...idCauses(runAsGroup, `${field}.runAsGroup`)]
  if (allowPrivilegeEscalation === false && privileged === true) {
    causes.push(invalidValue(field, { ...securityContext }, 'cannot set `allowPrivilegeEscalation` to false and `privileged` to true'))
  }
  return causes
}

export const idCauses = (id: number | undefined, field: string): StatusCause[] =>
  id === undefined ? [] : unixIdErrors(id).map(error => invalidValue(field, id, error))

const handlers = ['exec', 'httpGet', 'tcpSocket', 'grpc', 'sleep'] as const

function handlerCauses(handler: (Handler & Pick<Probe, 'grpc'>) | undefined, field: string, isProbe: boolean): StatusCause[] {
  if (handler === undefined) return []
  const [first, ...others] = handlers.filter(name => handler[name] !== undefined && name !== (isProbe ? 'sleep' : 'grpc'))
  if (first === undefined) return [requiredValue(field, 'must specify a handler type')]
  const causes = others.map(name => forbiddenValue(`${field}.${name}`, 'may not specify more than 1 handler type'))
  const { exec, httpGet, tcpSocket, grpc } = handler
  if (exec !== undefined && (exec.command ?? []).length === 0) causes.push(requiredValue(`${field}.exec.command`))
  if (httpGet !== undefined) causes.push(...httpGetCauses(httpGet, `${field}.httpGet`))
  if (tcpSocket !== undefined) causes.push(...portOrNameCauses(tcpSocket.port, `${field}.tcpSocket.port`))
  if (isProbe && grpc !== undefined) causes.push(...portOrNameCauses(grpc.port, `${field}.grpc.port`))
  return causes
}

function httpGetCauses({ path = '', port, scheme, httpHeaders = [] }: HttpGet, field: string): StatusCause[] {
  return [
    ...path === '' ? [requiredValue(`${field}.path`)] : [], ...portOrNameCauses(port, `${field}.port`),
    ...oneOf(scheme, ['HTTP', 'HTTPS'], `${field}.scheme`),
    ...eachCause(httpHeaders, ({ name = '' }) => httpHeaderNameErrors(name).map(error => invalidValue(`${field}.httpHeaders`, name, error)))
  ]
}

function portOrNameCauses(port: number | string | undefined, field: string): StatusCause[] {
  const errors = typeof port === 'string' ? portNameErrors(port) : portNumberErrors(port ?? 0)
  return errors.map(error => invalidValue(field, port ?? 0, error))
}

const probeNumbers = ['initialDelaySeconds', 'timeoutSeconds', 'periodSeconds', 'successThreshold', 'failureThreshold'] as const

/** What decides about a container's life succeeds at once. */
function probeCauses(probe: Probe, field: string, succeedsOnce: boolean): StatusCause[] {
  const causes = handlerCauses(probe, field, true)
  for (const name of probeNumbers) {
    const value = probe[name] ?? 0
    if (value < 0) causes.push(invalidValue(`${field}.${name}`, value, 'must be greater than or equal to 0'))
  }
  if (succeedsOnce && probe.successThreshold !== 1) {
    causes.push(invalidValue(`${field}.successThreshold`, probe.successThreshold ?? 0, 'must be 1'))
  }
  return causes
}
