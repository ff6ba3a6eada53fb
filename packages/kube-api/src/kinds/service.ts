import { isIP } from 'node:net'
import { eachLabelCause } from '../meta-rules.ts'
import type { Json, KubeObject } from '../object.ts'
import type { Resource, Subresource } from '../resource.ts'
import type { StatusCause } from '../status-error.ts'
import { duplicateValue, forbiddenValue, invalidValue, requiredValue } from '../validation/causes.ts'
import {
  dns1035LabelErrors, dns1123LabelErrors, dns1123SubdomainErrors, portNameErrors, portNumberErrors
} from '../validation/names.ts'
import { ageColumn, ageOf, builtInResource, column, keepMember, nameColumn, nameOf, wideColumn } from './built-in-resource.ts'
import { oneOf } from './choice-causes.ts'
import { eachCause } from './each-cause.ts'
import { labelsText } from './label-text.ts'
import { mergeSchemas } from './merge-schemas.ts'

interface ServicePort { name?: string, protocol?: string, port?: number, targetPort?: number | string, nodePort?: number }

interface ServiceSpec {
  type?: string
  ports?: ServicePort[]
  selector?: Record<string, string>
  clusterIP?: string
  clusterIPs?: string[]
  externalIPs?: string[]
  externalName?: string
  sessionAffinity?: string
  sessionAffinityConfig?: { clientIP?: { timeoutSeconds?: number } }
  externalTrafficPolicy?: string
  internalTrafficPolicy?: string
  allocateLoadBalancerNodePorts?: boolean
}

interface ServiceStatus { loadBalancer?: { ingress?: { ip?: string, hostname?: string }[] } }

const specOf = (object: KubeObject): ServiceSpec => object['spec'] ?? {}
const statusOf = (object: KubeObject): ServiceStatus => object['status'] ?? {}

/** Seconds that a client stays with one of a Service's endpoints, where it asks for that. */
const affinitySeconds = 10_800

/**
 * Addresses and node ports are not allocated here, since there is no cluster network: `clusterIP` is what the client gave,
 * `None` or absent, and tables show `<none>` for an absent one.
 */
function setDefaults(object: KubeObject): void {
  const spec = specOf(object)
  object['spec'] = spec
  spec.type ??= 'ClusterIP'
  spec.sessionAffinity ??= 'None'
  if (spec.sessionAffinity === 'ClientIP') {
    spec.sessionAffinityConfig ??= {}
    spec.sessionAffinityConfig.clientIP = { timeoutSeconds: affinitySeconds, ...spec.sessionAffinityConfig.clientIP }
  }
  const isExposed = spec.type === 'NodePort' || spec.type === 'LoadBalancer'
  if (isExposed) spec.externalTrafficPolicy ??= 'Cluster'
  if (isExposed || spec.type === 'ClusterIP') spec.internalTrafficPolicy ??= 'Cluster'
  if (spec.type === 'LoadBalancer') spec.allocateLoadBalancerNodePorts ??= true
  for (const port of spec.ports ?? []) {
    port.protocol ??= 'TCP'
    if (port.targetPort === undefined || port.targetPort === 0 || port.targetPort === '') port.targetPort = port.port ?? 0
  }
  if (spec.clusterIP !== undefined) spec.clusterIPs ??= [spec.clusterIP]
  const status = statusOf(object)
  status.loadBalancer ??= {}
  object['status'] = status
}

function prepareForUpdate(next: KubeObject, current: KubeObject, subresource: Subresource | undefined): void {
  if (subresource !== undefined) {
    keepMember(next, current, 'spec')
    return
  }
  keepMember(next, current, 'status')
  const [spec, currentSpec] = [specOf(next), specOf(current)]
  const { clusterIP, clusterIPs } = currentSpec
  const keepsAddress = spec.type !== 'ExternalName' && currentSpec.type !== 'ExternalName'
  // A client that replaces a Service without its address means the one that it has.
  if (keepsAddress && spec.clusterIP === undefined && clusterIP !== undefined) {
    spec.clusterIP = clusterIP
    spec.clusterIPs ??= [...clusterIPs ?? [clusterIP]]
  }
}

function causes(object: KubeObject, current: KubeObject | undefined): StatusCause[] {
  const spec = specOf(object)
  const { type = '', clusterIP = '', externalName = '', ports = [] } = spec
  const isHeadless = clusterIP === 'None'
  return [
    ...ports.length === 0 && !isHeadless && type !== 'ExternalName' ? [requiredValue('spec.ports')] : [],
    ...type === 'LoadBalancer' && isHeadless
      ? [invalidValue('spec.clusterIPs[0]', 'None', 'may not be set to \'None\' for LoadBalancer services')]
      : [],
    ...type === 'ExternalName' ? externalNameCauses(externalName, clusterIP) : [],
    ...portCauses(spec, 'spec.ports'),
    ...eachLabelCause(spec.selector ?? {}, 'spec.selector'),
    ...oneOf(spec.sessionAffinity, ['ClientIP', 'None'], 'spec.sessionAffinity'),
    ...clusterIP === '' || isHeadless || isIP(clusterIP) !== 0
      ? []
      : [invalidValue('spec.clusterIPs[0]', clusterIP, 'must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)')],
    ...clusterIP !== '' && (spec.clusterIPs ?? [])[0] !== clusterIP
      ? [invalidValue('spec.clusterIPs', [...spec.clusterIPs ?? []], 'first value must match `clusterIP`')]
      : [],
    ...eachCause(spec.externalIPs ?? [], (ip, i) => isIP(ip) !== 0
      ? []
      : [invalidValue(`spec.externalIPs[${i}]`, ip, 'must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)')]),
    ...oneOf(type, ['ClusterIP', 'ExternalName', 'LoadBalancer', 'NodePort'], 'spec.type'),
    ...oneOf(spec.externalTrafficPolicy, ['Cluster', 'Local'], 'spec.externalTrafficPolicy'),
    ...oneOf(spec.internalTrafficPolicy, ['Cluster', 'Local'], 'spec.internalTrafficPolicy'),
    ...current === undefined ? [] : addressCauses(spec, specOf(current))
  ]
}

function externalNameCauses(externalName: string, clusterIP: string): StatusCause[] {
  const field = 'spec.externalName'
  const name = externalName.endsWith('.') ? externalName.slice(0, -1) : externalName
  return [
    ...clusterIP === '' ? [] : [forbiddenValue('spec.clusterIPs', 'may not be set when `type` is \'ExternalName\'')],
    ...name === '' ? [requiredValue(field)] : dns1123SubdomainErrors(name).map(error => invalidValue(field, externalName, error))
  ]
}

function portCauses({ ports = [], type }: ServiceSpec, field: string): StatusCause[] {
  const names = new Set<string>()
  const taken = new Set<string>()
  return eachCause(ports, (given, i) => {
    const at = `${field}[${i}]`
    const { name = '', port = 0, protocol = '', targetPort = 0, nodePort = 0 } = given
    const causes: StatusCause[] = []
    if (name === '') {
      if (ports.length > 1) causes.push(requiredValue(`${at}.name`))
    } else {
      causes.push(...dns1123LabelErrors(name).map(error => invalidValue(`${at}.name`, name, error)))
      if (names.has(name)) causes.push(duplicateValue(`${at}.name`, name))
      names.add(name)
    }
    causes.push(...portNumberErrors(port).map(error => invalidValue(`${at}.port`, port, error)))
    causes.push(...oneOf(protocol, ['SCTP', 'TCP', 'UDP'], `${at}.protocol`))
    const targetErrors = typeof targetPort === 'string' ? portNameErrors(targetPort) : portNumberErrors(targetPort)
    causes.push(...targetErrors.map(error => invalidValue(`${at}.targetPort`, targetPort, error)))
    if (nodePort !== 0) {
      if (type === 'ClusterIP') causes.push(forbiddenValue(`${at}.nodePort`, 'may not be used when `type` is \'ClusterIP\''))
      else causes.push(...portNumberErrors(nodePort).map(error => invalidValue(`${at}.nodePort`, nodePort, error)))
    }
    const key = `${protocol}/${port}`
    if (taken.has(key)) causes.push(duplicateValue(at, { ...given }))
    taken.add(key)
    return causes
  })
}

/** A Service keeps the address that it has, unless it becomes or was but a name. */
function addressCauses(next: ServiceSpec, current: ServiceSpec): StatusCause[] {
  if (next.type === 'ExternalName' || current.type === 'ExternalName') return []
  const { clusterIP = '' } = current
  if (clusterIP === '' || next.clusterIP === clusterIP) return []
  return [invalidValue('spec.clusterIPs[0]', next.clusterIP ?? '', 'may not change once set')]
}

function externalText(object: KubeObject): string {
  const { type, externalIPs = [], externalName = '' } = specOf(object)
  switch (type) {
    case 'ExternalName': return externalName
    case 'LoadBalancer': {
      const given = (statusOf(object).loadBalancer?.ingress ?? []).map(({ ip = '', hostname = '' }) => ip === '' ? hostname : ip)
      const all = [...new Set(given.filter(text => text !== ''))].toSorted()
      if (externalIPs.length > 0) return [...all, ...externalIPs].join(',')
      return all.length === 0 ? '<pending>' : all.join(',')
    }
    default: return externalIPs.length === 0 ? '<none>' : externalIPs.join(',')
  }
}

function cells(object: KubeObject, nowMs: number): Json[] {
  const { type = '', clusterIPs = [], ports = [], selector } = specOf(object)
  const portTexts = ports.map(({ port = 0, nodePort = 0, protocol = '' }) =>
    nodePort > 0 ? `${port}:${nodePort}/${protocol}` : `${port}/${protocol}`)
  return [
    nameOf(object), type, clusterIPs[0] ?? '<none>', externalText(object), portTexts.length === 0 ? '<none>' : portTexts.join(','),
    ageOf(object, nowMs), labelsText(selector)
  ]
}

export const services = (): Resource => builtInResource({
  plural: 'services', singular: 'service', kind: 'Service', shortNames: ['svc'], categories: ['all'], namespaced: true,
  subresources: ['status'], nameErrors: dns1035LabelErrors,
  columns: [
    nameColumn, column('Type', 'Type determines how the Service is exposed.'),
    column('Cluster-IP', 'ClusterIP is the IP address of the service.'),
    column('External-IP', 'ExternalIPs is a list of IP addresses for which nodes in the cluster will also accept traffic for this '
      + 'service.'),
    column('Port(s)', 'The list of ports that are exposed by this service.'), ageColumn,
    wideColumn('Selector', 'Route service traffic to pods with label keys and values matching this selector.')
  ],
  cells, setDefaults, prepareForUpdate, causes,
  prepareForCreate: object => { object['status'] = { loadBalancer: {} } },
  selectableFields: object => ({ 'spec.clusterIP': specOf(object).clusterIP ?? '', 'spec.type': specOf(object).type ?? '' }),
  mergeSchema: mergeSchemas.Service
})
