import type { Container, ContainerPort, DownwardItem, EnvVar, FieldRef, Handler, PodSpec, Probe, Volume } from './pod-types.ts'

/** `SetDefaults_*` of k8s.io/kubernetes/pkg/apis/core/v1/defaults.go of 1.32. They change what they are given. */

/** 0644. */
const defaultMode = 0o644

/** Of a Pod and of a template. */
export function setPodSpecDefaults(spec: PodSpec): void {
  spec.securityContext ??= {}
  spec.restartPolicy ??= 'Always'
  spec.dnsPolicy ??= 'ClusterFirst'
  spec.terminationGracePeriodSeconds ??= 30
  spec.schedulerName ??= 'default-scheduler'
  // One field under two names: the old one counts where only it is given.
  const serviceAccount = spec.serviceAccountName ?? spec.serviceAccount
  if (serviceAccount !== undefined) spec.serviceAccountName = spec.serviceAccount = serviceAccount
  spec.volumes?.forEach(setVolumeDefaults)
  for (const container of allContainers(spec)) setContainerDefaults(container)
  if (spec.hostNetwork === true) {
    for (const port of allContainers(spec).flatMap(({ ports }) => ports ?? [])) setHostPort(port)
  }
}

/** Of a Pod, not of a template. */
export function setPodDefaults(spec: PodSpec): void {
  spec.enableServiceLinks ??= true
  for (const { resources } of [...spec.containers ?? [], ...spec.initContainers ?? []]) {
    if (resources?.limits === undefined) continue
    resources.requests = { ...resources.limits, ...resources.requests }
  }
}

export const allContainers = (spec: PodSpec): Container[] =>
  [...spec.initContainers ?? [], ...spec.containers ?? [], ...spec.ephemeralContainers ?? []]

function setHostPort(port: ContainerPort): void {
  if (port.containerPort !== undefined) port.hostPort ??= port.containerPort
}

function setContainerDefaults(container: Container): void {
  container.resources ??= {}
  container.terminationMessagePath ??= '/dev/termination-log'
  container.terminationMessagePolicy ??= 'File'
  container.imagePullPolicy ??= pullPolicyOf(container.image ?? '')
  for (const port of container.ports ?? []) port.protocol ??= 'TCP'
  container.env?.forEach(setEnvDefaults)
  for (const probe of [container.livenessProbe, container.readinessProbe, container.startupProbe]) {
    if (probe !== undefined) setProbeDefaults(probe)
  }
  for (const handler of [container.lifecycle?.postStart, container.lifecycle?.preStop]) {
    if (handler !== undefined) setHandlerDefaults(handler)
  }
}

/** What has no tag, or `latest`, is pulled each time; what has another or a digest is not. */
export function pullPolicyOf(image: string): string {
  if (image === '') return 'IfNotPresent'
  const lastPart = image.slice(image.lastIndexOf('/') + 1)
  const tag = lastPart.includes(':') ? lastPart.slice(lastPart.indexOf(':') + 1) : 'latest'
  return tag === 'latest' ? 'Always' : 'IfNotPresent'
}

function setEnvDefaults({ valueFrom }: EnvVar): void {
  setFieldRefDefaults(valueFrom?.fieldRef)
}

function setFieldRefDefaults(fieldRef: FieldRef | undefined): void {
  if (fieldRef !== undefined) fieldRef.apiVersion ??= 'v1'
}

function setProbeDefaults(probe: Probe): void {
  setHandlerDefaults(probe)
  probe.timeoutSeconds ??= 1
  probe.periodSeconds ??= 10
  probe.successThreshold ??= 1
  probe.failureThreshold ??= 3
  if (probe.grpc !== undefined) probe.grpc.service ??= ''
}

function setHandlerDefaults({ httpGet }: Handler): void {
  if (httpGet === undefined) return
  httpGet.path ??= '/'
  httpGet.scheme ??= 'HTTP'
}

function setDownwardDefaults(items: readonly DownwardItem[] | undefined): void {
  items?.forEach(({ fieldRef }) => setFieldRefDefaults(fieldRef))
}

function setVolumeDefaults(volume: Volume): void {
  if (!Object.keys(volume).some(member => member !== 'name')) volume.emptyDir = {}
  const { secret, configMap, downwardAPI, projected, hostPath, ephemeral, image, iscsi, rbd, scaleIO, azureDisk } = volume
  for (const source of [secret, configMap, downwardAPI, projected]) {
    if (source !== undefined) source.defaultMode ??= defaultMode
  }
  setDownwardDefaults(downwardAPI?.items)
  for (const source of projected?.sources ?? []) {
    setDownwardDefaults(source.downwardAPI?.items)
    if (source.serviceAccountToken !== undefined) source.serviceAccountToken.expirationSeconds ??= 3600
  }
  if (hostPath !== undefined) hostPath.type ??= ''
  const claim = ephemeral?.volumeClaimTemplate
  if (claim !== undefined) {
    claim.metadata = { creationTimestamp: null, ...claim.metadata }
    claim.spec ??= {}
    claim.spec.volumeMode ??= 'Filesystem'
  }
  if (image !== undefined) image.pullPolicy ??= pullPolicyOf(image.reference ?? '')
  if (iscsi !== undefined) iscsi.iscsiInterface ??= 'default'
  if (rbd !== undefined) {
    rbd.pool ??= 'rbd'
    rbd.user ??= 'admin'
    rbd.keyring ??= '/etc/ceph/keyring'
  }
  if (scaleIO !== undefined) {
    scaleIO.storageMode ??= 'ThinProvisioned'
    scaleIO.fsType ??= 'xfs'
  }
  if (azureDisk !== undefined) {
    azureDisk.cachingMode ??= 'ReadWrite'
    azureDisk.kind ??= 'Shared'
    azureDisk.fsType ??= 'ext4'
    azureDisk.readOnly ??= false
  }
}
