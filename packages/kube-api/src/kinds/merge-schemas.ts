import type { MergeField, MergeSchema } from '../resource.ts'

// patchStrategy and patchMergeKey of the API types of Kubernetes 1.32. A list that is not named here is replaced as a
// whole: envFrom, tolerations, taints, readinessGates, container statuses, imagePullSecrets of a ServiceAccount …

const mergeBy = (mergeKey: string, schema?: MergeSchema): MergeField =>
  ({ patchStrategy: ['merge'], mergeKey, ...(schema === undefined ? {} : { schema }) })

/** Of elements of which only one member may be set, so that clients send `$retainKeys`. */
const mergeRetaining = (mergeKey: string, schema?: MergeSchema): MergeField =>
  ({ ...mergeBy(mergeKey, schema), patchStrategy: ['merge', 'retainKeys'] })

/** A list of primitives. */
const mergeAsSet: MergeField = { patchStrategy: ['merge'] }

const within = (fields: Readonly<Record<string, MergeField>>): MergeField => ({ schema: { fields } })

const metadata = within({ ownerReferences: mergeBy('uid'), finalizers: mergeAsSet })

const container: MergeSchema = {
  fields: {
    env: mergeBy('name'),
    ports: mergeBy('containerPort'),
    volumeMounts: mergeBy('mountPath'),
    volumeDevices: mergeBy('devicePath')
  }
}

const volume: MergeSchema = {
  fields: { ephemeral: within({ volumeClaimTemplate: within({ metadata }) }) }
}

const podSpec = within({
  containers: mergeBy('name', container),
  initContainers: mergeBy('name', container),
  ephemeralContainers: mergeBy('name', container),
  volumes: mergeRetaining('name', volume),
  imagePullSecrets: mergeBy('name'),
  hostAliases: mergeBy('ip'),
  topologySpreadConstraints: mergeBy('topologyKey'),
  schedulingGates: mergeBy('name'),
  resourceClaims: mergeRetaining('name')
})

const podStatus = within({
  conditions: mergeBy('type'),
  hostIPs: mergeBy('ip'),
  podIPs: mergeBy('ip'),
  resourceClaimStatuses: mergeRetaining('name')
})

const conditions = within({ conditions: mergeBy('type') })

const withMetadata = (fields: Readonly<Record<string, MergeField>> = {}): MergeSchema => ({ fields: { metadata, ...fields } })

/** How a strategic merge patch merges the lists of each built-in kind, by kind. */
export const mergeSchemas = {
  Namespace: withMetadata({ status: conditions }),
  Node: withMetadata({
    spec: within({ podCIDRs: mergeAsSet }),
    status: within({ conditions: mergeBy('type'), addresses: mergeBy('type') })
  }),
  Pod: withMetadata({ spec: podSpec, status: podStatus }),
  PodTemplate: withMetadata({ template: within({ metadata, spec: podSpec }) }),
  ConfigMap: withMetadata(),
  Secret: withMetadata(),
  ServiceAccount: withMetadata({ secrets: mergeBy('name') }),
  Service: withMetadata({ spec: within({ ports: mergeBy('port') }), status: conditions }),
  Event: withMetadata(),
  Lease: withMetadata(),
  CustomResourceDefinition: withMetadata()
} as const satisfies Readonly<Record<string, MergeSchema>>
