/** A value of a JSON document. */
export type Json = null | boolean | number | string | Json[] | JsonObject
export interface JsonObject { [member: string]: Json }

export interface OwnerReference {
  apiVersion: string
  kind: string
  name: string
  uid: string
  controller?: boolean
  blockOwnerDeletion?: boolean
}

/** `metadata` of an object, as far as the API itself looks at it. */
export interface ObjectMeta {
  name?: string
  generateName?: string
  namespace?: string
  uid?: string
  resourceVersion?: string
  generation?: number
  creationTimestamp?: string | null
  deletionTimestamp?: string
  deletionGracePeriodSeconds?: number
  labels?: Record<string, string>
  annotations?: Record<string, string>
  ownerReferences?: OwnerReference[]
  finalizers?: string[]
  managedFields?: Json
}

/** An object of the Kubernetes API. Not changed once it is stored. */
export interface KubeObject {
  apiVersion: string
  kind: string
  metadata: ObjectMeta
  [member: string]: unknown
}
