/**
 * Makes `packages/kube-api/src/kinds/kind-types.ts`: the members of all types that the built-in kinds are made of, from
 * the models of @kubernetes/client-node, so that the program does not load that library. The models may be of a newer release
 * than the one whose behaviour is followed (1.32): what it has not is taken in and kept.
 *
 *     node packages/kube-api/tools/kind-types.ts
 */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as models from '@kubernetes/client-node'

const kinds = [
  'V1ConfigMap', 'V1Secret', 'V1Namespace', 'V1Node', 'V1Pod', 'V1PodTemplate', 'V1ServiceAccount', 'V1Service', 'CoreV1Event',
  'V1Lease'
]

/** Members that are quantities; the models call them strings. */
const quantities: ReadonlySet<string> = new Set([
  'ResourceRequirements.limits', 'ResourceRequirements.requests', 'VolumeResourceRequirements.limits',
  'VolumeResourceRequirements.requests', 'NodeStatus.capacity', 'NodeStatus.allocatable', 'PodSpec.overhead',
  'ContainerStatus.allocatedResources', 'PodStatus.allocatedResources', 'EmptyDirVolumeSource.sizeLimit',
  'ResourceFieldSelector.divisor'
])

/** Strings that are pointers in Go (k8s.io/api of 1.32), or that it always writes: empty and absent are not the same there. */
const meaningfulWhenEmpty: ReadonlySet<string> = new Set([
  'GRPCAction.service', 'LeaseSpec.holderIdentity', 'LeaseSpec.preferredHolder', 'LeaseSpec.strategy',
  'PersistentVolumeClaimSpec.storageClassName', 'PersistentVolumeClaimSpec.volumeAttributesClassName',
  'PodDNSConfigOption.value', 'PodSpec.runtimeClassName', 'ServicePort.appProtocol', 'ServiceSpec.loadBalancerClass',
  'TypedLocalObjectReference.apiGroup', 'TypedObjectReference.apiGroup', 'TypedObjectReference.namespace',
  'CSIVolumeSource.fsType', 'ISCSIVolumeSource.initiatorName', 'ClusterTrustBundleProjection.name',
  'ClusterTrustBundleProjection.signerName', 'Event.reportingComponent',
  'Event.reportingInstance', 'SeccompProfile.localhostProfile', 'AppArmorProfile.localhostProfile',
  'NodeSystemInfo.architecture', 'NodeSystemInfo.bootID', 'NodeSystemInfo.containerRuntimeVersion', 'NodeSystemInfo.kernelVersion',
  'NodeSystemInfo.kubeProxyVersion', 'NodeSystemInfo.kubeletVersion', 'NodeSystemInfo.machineID', 'NodeSystemInfo.operatingSystem',
  'NodeSystemInfo.osImage', 'NodeSystemInfo.systemUUID', 'ContainerStatus.image', 'ContainerStatus.imageID', 'HTTPHeader.value',
  'HostPathVolumeSource.type',
  'ResourceFieldSelector.resource', 'Taint.effect', 'NodeAddress.address', 'WindowsSecurityContextOptions.gmsaCredentialSpec',
  'WindowsSecurityContextOptions.gmsaCredentialSpecName', 'WindowsSecurityContextOptions.runAsUserName'
])

/** Numbers and booleans that Go leaves out when they are zero (not pointers, `omitempty`). */
const leftOutWhenZero: ReadonlySet<string> = new Set([
  'PodSpec.hostNetwork', 'PodSpec.hostPID', 'PodSpec.hostIPC', 'Container.stdin', 'Container.stdinOnce', 'Container.tty',
  'EphemeralContainer.stdin', 'EphemeralContainer.stdinOnce', 'EphemeralContainer.tty', 'VolumeMount.readOnly',
  'NodeSpec.unschedulable', 'ServiceSpec.publishNotReadyAddresses', 'ContainerPort.hostPort', 'Probe.initialDelaySeconds',
  'Probe.timeoutSeconds', 'Probe.periodSeconds', 'Probe.successThreshold', 'Probe.failureThreshold', 'ServicePort.nodePort',
  'ServiceSpec.healthCheckNodePort', 'Event.count', 'EventSeries.count', 'ContainerStateTerminated.signal',
  'PersistentVolumeClaimVolumeSource.readOnly', 'ObjectMeta.generation', 'GCEPersistentDiskVolumeSource.readOnly',
  'GCEPersistentDiskVolumeSource.partition', 'AWSElasticBlockStoreVolumeSource.readOnly',
  'AWSElasticBlockStoreVolumeSource.partition', 'NFSVolumeSource.readOnly', 'ISCSIVolumeSource.readOnly',
  'ISCSIVolumeSource.chapAuthDiscovery', 'ISCSIVolumeSource.chapAuthSession', 'GlusterfsVolumeSource.readOnly',
  'RBDVolumeSource.readOnly', 'CephFSVolumeSource.readOnly', 'CinderVolumeSource.readOnly', 'FCVolumeSource.readOnly',
  'FlexVolumeSource.readOnly', 'QuobyteVolumeSource.readOnly', 'PortworxVolumeSource.readOnly', 'ScaleIOVolumeSource.readOnly',
  'ScaleIOVolumeSource.sslEnabled', 'StorageOSVolumeSource.readOnly'
])

interface Member { readonly baseName: string, readonly type: string, readonly format: string }
interface Model { getAttributeTypeMap(): readonly Member[] }

function isModel(value: unknown): value is Model {
  return typeof value === 'function' && 'getAttributeTypeMap' in value
}

/** `V1PodSpec` → `PodSpec`: the name that Go has for it. */
const goName = (model: string): string => model.replace(/^(Core)?V1(?=[A-Z])/, '')

function scalar(qualified: string, { type, format }: { readonly type: string, readonly format: string }): string {
  if (quantities.has(qualified)) return 'quantity'
  switch (type) {
    case 'string': return format === 'byte' ? 'bytes' : 'string'
    case 'number': return format === 'int32' || format === 'int64' ? format : 'number'
    case 'boolean': return 'boolean'
    case 'Date': return 'date-time'
    case 'V1MicroTime': return 'micro-time'
    case 'IntOrString': return 'int-or-string'
    case 'any': return 'any'
    default: return goName(type)
  }
}

function typeOf(owner: string, { baseName, type, format }: Member): string {
  const qualified = `${owner}.${baseName}`
  const list = /^Array<(.+)>$/.exec(type)
  if (list !== null) return `[]${scalar(qualified, { type: list[1]!, format })}`
  const map = /^\{ \[key: string\]: (.+); \}$/.exec(type)
  if (map !== null) return `{}${scalar(qualified, { type: map[1]!, format })}`
  const name = scalar(qualified, { type, format })
  const zeroLeftOut = name === 'string' ? !meaningfulWhenEmpty.has(qualified) : leftOutWhenZero.has(qualified)
  return zeroLeftOut ? `${name}?` : name
}

/** Models by name, those that `names` lead to included. */
function reach(names: readonly string[]): Map<string, readonly Member[]> {
  const all = models as unknown as Readonly<Record<string, unknown>>
  const found = new Map<string, readonly Member[]>()
  const left = [...names]
  for (let name = left.pop(); name !== undefined; name = left.pop()) {
    const model = all[name]
    if (found.has(name) || !isModel(model)) continue
    const members = model.getAttributeTypeMap()
    found.set(name, members)
    left.push(...members.flatMap(({ type }) => /((?:Core)?V1[A-Z]\w*)/.exec(type)?.[1] ?? []).filter(type => type !== 'V1MicroTime'))
  }
  return found
}

/** The text of kind-types.ts. */
export function kindTypesSource(): string {
  const types = [...reach(kinds)].map(([model, members]) => ({ name: goName(model), members }))
    .toSorted((a, b) => a.name < b.name ? -1 : 1)
  const known = new Set(types.flatMap(({ name, members }) => members.map(({ baseName }) => `${name}.${baseName}`)))
  const stale = [...quantities, ...meaningfulWhenEmpty, ...leftOutWhenZero].filter(member => !known.has(member))
  if (stale.length > 0) throw new Error(`kind-types.ts names members that the models do not have: ${stale.join(', ')}`)
  const entries = types.map(({ name, members }) => {
    const rows: string[] = []
    for (const member of members) {
      const entry = `${/^\w+$/.test(member.baseName) ? member.baseName : `'${member.baseName}'`}: '${typeOf(name, member)}'`
      const last = rows.at(-1)
      if (last !== undefined && last.length + entry.length + 2 <= 112) rows[rows.length - 1] = `${last}, ${entry}`
      else rows.push(entry)
    }
    return rows.length === 0 ? `  ${name}: {}` : `  ${name}: {\n${rows.map(row => `    ${row}`).join(',\n')}\n  }`
  })
  return `// Made by packages/kube-api/tools/kind-types.ts from @kubernetes/client-node. Do not edit.

/**
 * Members of every type that the built-in kinds are made of, by the type's name in Go. \`[]\` is a list, \`{}\` a map, a name
 * with a capital another type of this table, and \`?\` says that an empty string, zero or false is the same as absence.
 */
export const kindTypes: Readonly<Record<string, Readonly<Record<string, string>>>> = {
${entries.join(',\n')}
}
`
}

if (import.meta.main) {
  await writeFile(join(import.meta.dirname, '../src/kinds/kind-types.ts'), kindTypesSource())
}
