/**
 * The collections that this node takes from the cloud and sends to it. Keys are `namespace/name`, for a Node its name.
 * Values are JSON.
 *
 * Down: the object as the cloud shows it to this node, without managedFields, resourceVersion and, for Pods and Node, status.
 * Up: an object of the same apiVersion and kind with `metadata` (name, namespace, and for a Pod the uid of the one that the
 * status is of) and `status`, nothing else: the cloud writes the status of that object, and of no other uid.
 */
export const downCollections = ['serviceaccounts', 'secrets', 'configmaps', 'services', 'pods', 'nodes'] as const

export const upCollections = ['pod-status', 'node-status'] as const

export type DownCollection = (typeof downCollections)[number]
export type UpCollection = (typeof upCollections)[number]
