/**
 * The collections that this node takes from the cloud and sends to it. Keys are `namespace/name`, for a Node its name.
 * Values are JSON.
 *
 * Down: the object as the cloud shows it to this node, without managedFields, resourceVersion and, for Pods, Node and Devices,
 * status.
 * Up: an object of the same apiVersion and kind with `metadata` (name, namespace, and for a Pod the uid of the one that the
 * status is of) and `status`, nothing else: the cloud writes the status of that object, and of no other uid. In `twins` it is
 * the Device's metadata and `twin` (TWN-30).
 */
export const downCollections = [
  'serviceaccounts', 'secrets', 'configmaps', 'services', 'pods', 'nodes', 'devicemodels', 'devices'
] as const

export const upCollections = ['pod-status', 'node-status', 'twins'] as const

export type DownCollection = (typeof downCollections)[number]
export type UpCollection = (typeof upCollections)[number]

/** What the objects of each down collection call themselves. */
export const objectKinds: Readonly<Record<string, { readonly apiVersion: string, readonly kind: string }>> = {
  serviceaccounts: { apiVersion: 'v1', kind: 'ServiceAccount' },
  secrets: { apiVersion: 'v1', kind: 'Secret' },
  configmaps: { apiVersion: 'v1', kind: 'ConfigMap' },
  services: { apiVersion: 'v1', kind: 'Service' },
  pods: { apiVersion: 'v1', kind: 'Pod' },
  nodes: { apiVersion: 'v1', kind: 'Node' },
  devicemodels: { apiVersion: 'devices.kubeedge.io/v1beta1', kind: 'DeviceModel' },
  devices: { apiVersion: 'devices.kubeedge.io/v1beta1', kind: 'Device' }
} satisfies Record<DownCollection, unknown>

/** Name of a collection's objects as the API has it: `pods`, `devices.devices.kubeedge.io`. */
export function resourceOf(collection: string): string {
  const [group] = objectKinds[collection]?.apiVersion.split('/') ?? []
  return group === undefined || group === 'v1' ? collection : `${collection}.${group}`
}

/** The other way round. */
export function collectionOf(resource: string): string { return resource.split('.', 1)[0]! }
