import type { KubeObject } from '@holdfast/kube-api'
import type { DownCollection } from './view-collections.ts'

/** A collection and a key in it. */
export interface Reference { readonly collection: DownCollection, readonly key: string }

interface Named { readonly name?: string }
interface NamesSecret { readonly secretRef?: Named }

interface Container {
  readonly env?: readonly { readonly valueFrom?: { readonly configMapKeyRef?: Named, readonly secretKeyRef?: Named } }[]
  readonly envFrom?: readonly { readonly configMapRef?: Named, readonly secretRef?: Named }[]
}

/** Members of a volume that name objects of the pod's namespace. */
interface Volume {
  readonly secret?: { readonly secretName?: string }
  readonly configMap?: Named
  readonly projected?: { readonly sources?: readonly { readonly secret?: Named, readonly configMap?: Named }[] }
  readonly csi?: { readonly nodePublishSecretRef?: Named }
  readonly azureFile?: { readonly secretName?: string }
  readonly cephfs?: NamesSecret
  readonly flexVolume?: NamesSecret
  readonly iscsi?: NamesSecret
  readonly rbd?: NamesSecret
  readonly scaleIO?: NamesSecret
  readonly storageos?: NamesSecret
}

interface PodSpec {
  readonly nodeName?: string
  readonly serviceAccountName?: string
  /** The deprecated name of `serviceAccountName`. */
  readonly serviceAccount?: string
  readonly imagePullSecrets?: readonly Named[]
  readonly containers?: readonly Container[]
  readonly initContainers?: readonly Container[]
  readonly ephemeralContainers?: readonly Container[]
  readonly volumes?: readonly Volume[]
}

const specOf = (object: KubeObject): PodSpec => object['spec'] ?? {}

/** The node that a Pod or a Device is bound to; undefined: none yet. */
export function boundNode(object: KubeObject): string | undefined {
  const { nodeName } = specOf(object)
  return nodeName === '' ? undefined : nodeName
}

/** Collects references, each once. */
class References {
  readonly #namespace: string
  readonly #found = new Map<string, Reference>()

  constructor(namespace: string) { this.#namespace = namespace }

  add(collection: DownCollection, name: string | undefined): void {
    if (typeof name !== 'string' || name === '') return
    const key = `${this.#namespace}/${name}`
    this.#found.set(`${collection} ${key}`, { collection, key })
  }

  all(): Reference[] { return [...this.#found.values()] }
}

/**
 * What a pod names in its namespace (STA-41): its ServiceAccount, and the Secrets and ConfigMaps of its containers' environments, its
 * volumes and its image pulls; the Secrets are those that the API server's own list has
 * (k8s.io/kubernetes/pkg/api/v1/pod, VisitPodSecretNames).
 */
export function podReferences(pod: KubeObject): Reference[] {
  const spec = specOf(pod)
  const references = new References(pod.metadata.namespace ?? '')
  references.add('serviceaccounts', spec.serviceAccountName || spec.serviceAccount || 'default')
  for (const secret of each(spec.imagePullSecrets)) references.add('secrets', secret.name)
  for (const containers of [spec.initContainers, spec.containers, spec.ephemeralContainers]) {
    for (const { env, envFrom } of each(containers)) {
      for (const { valueFrom } of each(env)) {
        references.add('configmaps', valueFrom?.configMapKeyRef?.name)
        references.add('secrets', valueFrom?.secretKeyRef?.name)
      }
      for (const { configMapRef, secretRef } of each(envFrom)) {
        references.add('configmaps', configMapRef?.name)
        references.add('secrets', secretRef?.name)
      }
    }
  }
  for (const volume of each(spec.volumes)) addVolume(references, volume)
  return references.all()
}

function addVolume(references: References, volume: Volume): void {
  references.add('configmaps', volume.configMap?.name)
  for (const { secret, configMap } of each(volume.projected?.sources)) {
    references.add('secrets', secret?.name)
    references.add('configmaps', configMap?.name)
  }
  const { secret, csi, azureFile, cephfs, flexVolume, iscsi, rbd, scaleIO, storageos } = volume
  for (const name of [secret?.secretName, azureFile?.secretName, csi?.nodePublishSecretRef?.name]) references.add('secrets', name)
  for (const source of [cephfs, flexVolume, iscsi, rbd, scaleIO, storageos]) references.add('secrets', source?.secretRef?.name)
}

/** What a ServiceAccount names: its Secrets and those of its image pulls, in its own namespace whatever else they say. */
export function serviceAccountReferences(account: KubeObject): Reference[] {
  const references = new References(account.metadata.namespace ?? '')
  for (const list of [account['secrets'], account['imagePullSecrets']]) {
    for (const { name } of each(list as readonly Named[] | undefined)) references.add('secrets', name)
  }
  return references.all()
}

/** What a Device names: its DeviceModel, in its own namespace. */
export function deviceReferences(device: KubeObject): Reference[] {
  const references = new References(device.metadata.namespace ?? '')
  references.add('devicemodels', (device['spec'] as { readonly deviceModelRef?: Named | null } | undefined)?.deviceModelRef?.name)
  return references.all()
}

/** Labels that a Service's pods have; undefined where it selects none: without a selector, or of type ExternalName. */
export type ServiceSelector = readonly (readonly [label: string, value: string])[]

export function selectorOf(service: KubeObject): ServiceSelector | undefined {
  const { selector, type } = (service['spec'] ?? {}) as { readonly selector?: Readonly<Record<string, string>>, readonly type?: string }
  const pairs = Object.entries(selector ?? {})
  return pairs.length === 0 || type === 'ExternalName' ? undefined : pairs
}

export function selects(selector: ServiceSelector, pod: KubeObject): boolean {
  const labels = pod.metadata.labels ?? {}
  return selector.every(([label, value]) => Object.hasOwn(labels, label) && labels[label] === value)
}

/** One odd object must not stop the others: what is no list counts as empty, and what is no object is left out. */
function each<T extends object>(list: readonly T[] | null | undefined): readonly T[] {
  return Array.isArray(list) ? (list as readonly T[]).filter(item => typeof item === 'object' && item !== null) : []
}
