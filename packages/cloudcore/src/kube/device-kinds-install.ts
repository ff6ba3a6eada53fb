import type { KubeObject } from '@holdfast/kube-api'
import { deviceDefinitions, deviceKindsAnnotation, deviceKindsVersion } from './device-kinds.ts'
import type { KubeClient } from './kube-client.ts'
import { kubeStatus } from './kube-error.ts'
import { kubeKinds } from './kube-kinds.ts'

/** Reads and writes of one definition, where somebody else writes it at the same time. */
const triesMax = 5

/**
 * Brings the definitions of the device kinds into an API: creates what is missing, and replaces what is of an older version or
 * somebody else's (KubeEdge's: ours take the same objects). One of a newer version stays, as does what was changed by hand in one of
 * this version. Returns the names of those that were written. Rejects with KubeError.
 */
export async function installDeviceKinds(client: Pick<KubeClient, 'get' | 'create' | 'replace'>): Promise<readonly string[]> {
  const written: string[] = []
  for (const definition of deviceDefinitions) if (await isWritten(client, definition)) written.push(definition.metadata.name!)
  return written
}

async function isWritten(client: Pick<KubeClient, 'get' | 'create' | 'replace'>, definition: KubeObject): Promise<boolean> {
  const kind = kubeKinds.customResourceDefinitions
  const place = { kind, name: definition.metadata.name! }
  for (let tries = 1; ; tries++) {
    const current = await client.get(place)
    if (current !== undefined && versionOf(current) >= deviceKindsVersion) return false
    try {
      if (current === undefined) await client.create(kind, definition)
      else await client.replace(place, over(current, definition))
      return true
    } catch (error) {
      if (kubeStatus(error) !== 409 || tries === triesMax) throw error
    }
  }
}

/** 0: not one of ours. */
function versionOf({ metadata: { annotations = {} } }: KubeObject): number {
  const text = annotations[deviceKindsAnnotation] ?? ''
  return /^\d{1,9}$/.test(text) ? Number(text) : 0
}

/** With what others have put into its metadata. */
function over(current: KubeObject, { metadata: { annotations, labels }, spec }: KubeObject): KubeObject {
  const { metadata } = current
  return {
    ...current,
    metadata: { ...metadata, annotations: { ...metadata.annotations, ...annotations }, labels: { ...metadata.labels, ...labels } },
    spec
  }
}
