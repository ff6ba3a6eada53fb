import type { KubeObject } from '@holdfast/kube-api'

export type JsonRecord = Readonly<Record<string, unknown>>

export function recordOf(value: unknown): JsonRecord {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? value as JsonRecord : {}
}

/** Whose devices these are: `spec.protocol.protocolName` as it is written; case matters (DMI-10). */
export function protocolOf(device: KubeObject): string {
  const name = recordOf(recordOf(device['spec'])['protocol'])['protocolName']
  return typeof name === 'string' ? name : ''
}

export function namespaceOf({ metadata }: KubeObject): string { return metadata.namespace ?? 'default' }

/** `<namespace>/<name>` of the DeviceModel that a Device names; undefined where it names none. */
export function modelIdOf(device: KubeObject): string | undefined {
  const name = recordOf(recordOf(device['spec'])['deviceModelRef'])['name']
  return typeof name === 'string' && name !== '' ? `${namespaceOf(device)}/${name}` : undefined
}
