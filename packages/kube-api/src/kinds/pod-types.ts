import type { ObjectMeta } from '../object.ts'

/** Members of a Pod that the server itself looks at, after decoding: k8s.io/api/core/v1. Quantities are canonical texts. */
export interface PodSpec {
  containers?: Container[]
  initContainers?: Container[]
  ephemeralContainers?: Container[]
  volumes?: Volume[]
  restartPolicy?: string
  terminationGracePeriodSeconds?: number
  activeDeadlineSeconds?: number
  dnsPolicy?: string
  dnsConfig?: { nameservers?: string[] }
  nodeSelector?: Record<string, string>
  nodeName?: string
  serviceAccountName?: string
  /** Deprecated name of `serviceAccountName`; both are always alike. */
  serviceAccount?: string
  hostNetwork?: boolean
  securityContext?: { runAsUser?: number, runAsGroup?: number, fsGroup?: number, supplementalGroups?: number[] }
  imagePullSecrets?: { name?: string }[]
  hostname?: string
  subdomain?: string
  schedulerName?: string
  tolerations?: Toleration[]
  hostAliases?: { ip?: string, hostnames?: string[] }[]
  priorityClassName?: string
  priority?: number
  preemptionPolicy?: string
  readinessGates?: { conditionType?: string }[]
  runtimeClassName?: string
  enableServiceLinks?: boolean
  topologySpreadConstraints?: { maxSkew?: number, topologyKey?: string, whenUnsatisfiable?: string }[]
  schedulingGates?: { name?: string }[]
}

export interface Container {
  name?: string
  image?: string
  imagePullPolicy?: string
  terminationMessagePath?: string
  terminationMessagePolicy?: string
  restartPolicy?: string
  ports?: ContainerPort[]
  env?: EnvVar[]
  envFrom?: { prefix?: string, configMapRef?: { name?: string }, secretRef?: { name?: string } }[]
  resources?: ResourceRequirements
  volumeMounts?: { name?: string, mountPath?: string, subPath?: string, subPathExpr?: string }[]
  volumeDevices?: { name?: string, devicePath?: string }[]
  livenessProbe?: Probe
  readinessProbe?: Probe
  startupProbe?: Probe
  lifecycle?: { postStart?: Handler, preStop?: Handler }
  securityContext?: { runAsUser?: number, runAsGroup?: number, privileged?: boolean, allowPrivilegeEscalation?: boolean }
}

export interface ContainerPort { name?: string, containerPort?: number, hostPort?: number, hostIP?: string, protocol?: string }

export interface KeySelector { name?: string, key?: string, optional?: boolean }

export interface FieldRef { apiVersion?: string, fieldPath?: string }

export interface EnvVar {
  name?: string
  value?: string
  valueFrom?: {
    fieldRef?: FieldRef
    resourceFieldRef?: { resource?: string }
    configMapKeyRef?: KeySelector
    secretKeyRef?: KeySelector
    fileKeyRef?: unknown
  }
}

export interface ResourceRequirements { limits?: Record<string, string>, requests?: Record<string, string> }

export interface HttpGet { path?: string, port?: number | string, scheme?: string, host?: string, httpHeaders?: { name?: string }[] }

export interface Handler {
  exec?: { command?: string[] }
  httpGet?: HttpGet
  tcpSocket?: { port?: number | string }
  sleep?: { seconds?: number }
}

export interface Probe extends Handler {
  grpc?: { port?: number, service?: string }
  initialDelaySeconds?: number
  timeoutSeconds?: number
  periodSeconds?: number
  successThreshold?: number
  failureThreshold?: number
}

export interface Toleration { key?: string, operator?: string, value?: string, effect?: string, tolerationSeconds?: number }

export interface KeyToPath { key?: string, path?: string, mode?: number }

export interface DownwardItem { path?: string, fieldRef?: FieldRef, resourceFieldRef?: unknown, mode?: number }

export interface Volume {
  name?: string
  emptyDir?: { sizeLimit?: string }
  hostPath?: { path?: string, type?: string }
  secret?: { secretName?: string, items?: KeyToPath[], defaultMode?: number }
  configMap?: { name?: string, items?: KeyToPath[], defaultMode?: number }
  downwardAPI?: { items?: DownwardItem[], defaultMode?: number }
  projected?: { sources?: ProjectedSource[], defaultMode?: number }
  persistentVolumeClaim?: { claimName?: string }
  nfs?: { server?: string, path?: string }
  ephemeral?: { volumeClaimTemplate?: { metadata?: ObjectMeta, spec?: { volumeMode?: string } } }
  image?: { reference?: string, pullPolicy?: string }
  iscsi?: { iscsiInterface?: string }
  rbd?: { pool?: string, user?: string, keyring?: string }
  scaleIO?: { storageMode?: string, fsType?: string }
  azureDisk?: { cachingMode?: string, kind?: string, fsType?: string, readOnly?: boolean }
  [source: string]: unknown
}

export interface ProjectedSource {
  secret?: { name?: string, items?: KeyToPath[] }
  configMap?: { name?: string, items?: KeyToPath[] }
  downwardAPI?: { items?: DownwardItem[] }
  serviceAccountToken?: { expirationSeconds?: number, path?: string }
  [source: string]: unknown
}

export interface PodCondition { type?: string, status?: string, reason?: string, message?: string }

export interface ContainerState {
  waiting?: { reason?: string }
  running?: { startedAt?: string }
  terminated?: { exitCode?: number, signal?: number, reason?: string, finishedAt?: string }
}

export interface ContainerStatus {
  name?: string
  ready?: boolean
  started?: boolean
  restartCount?: number
  state?: ContainerState
  lastState?: ContainerState
}

export interface PodStatus {
  phase?: string
  reason?: string
  conditions?: PodCondition[]
  containerStatuses?: ContainerStatus[]
  initContainerStatuses?: ContainerStatus[]
  podIP?: string
  podIPs?: { ip?: string }[]
  nominatedNodeName?: string
  qosClass?: string
}
