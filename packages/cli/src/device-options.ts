import { ClusterDevices } from './cluster-devices.ts'
import { usage, type CommandHost } from './command.ts'
import type { DevicePlace } from './device-place.ts'
import { edgeOption, edgeService } from './edge-client.ts'
import { EdgeDevices } from './edge-devices.ts'
import { KubeClient } from './kube-client.ts'
import { kubeconfigOption, readKubeAccess } from './kubeconfig.ts'

/** Of every command about devices: where to ask. */
export const placeOptions = { ...edgeOption, ...kubeconfigOption } as const

/** The node where `--edge` is given, else the cluster. Rejects with `USAGE` or `KUBECONFIG_…`. */
export async function openPlace(
  values: { readonly edge: string | undefined, readonly kubeconfig: string | undefined }, host: CommandHost
): Promise<DevicePlace> {
  const { edge, kubeconfig } = values
  if (edge !== undefined && kubeconfig !== undefined) {
    throw usage('--edge asks the node and --kubeconfig the cloud: give one of them')
  }
  if (edge !== undefined) return new EdgeDevices(edgeService(edge, host.environment))
  return new ClusterDevices(new KubeClient(await readKubeAccess(kubeconfig, host)), host.clock)
}

const namePattern = /^[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?\/[a-z0-9](?:[-.a-z0-9]{0,251}[a-z0-9])?$/

/** `<namespace>/<name>`; one word is of the namespace `default`. Throws `USAGE`. */
export function deviceOperand(text: string): string {
  const device = text.includes('/') ? text : `default/${text}`
  if (!namePattern.test(device)) {
    throw usage(`"${text}" is no device: expected NAME or NAMESPACE/NAME, of a-z, 0-9, "-" and "."`)
  }
  return device
}
