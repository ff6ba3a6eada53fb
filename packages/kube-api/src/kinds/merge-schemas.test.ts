import { describe, expect, test } from 'vitest'
import type { MergeSchema } from '../resource.ts'
import { mergeSchemas } from './merge-schemas.ts'

/** `spec.containers: name` for every list that merges; `+` marks retainKeys, `set` a list of primitives. */
function mergingLists(schema: MergeSchema, path = ''): string[] {
  return Object.entries(schema.fields).flatMap(([name, field]) => {
    const here = `${path}${name}`
    const strategy = field.patchStrategy?.includes('merge') === true
      ? [`${here}: ${field.mergeKey ?? 'set'}${field.patchStrategy.includes('retainKeys') ? ' +' : ''}`]
      : []
    return [...strategy, ...(field.schema === undefined ? [] : mergingLists(field.schema, `${here}.`))]
  })
}

const metadata = ['metadata.ownerReferences: uid', 'metadata.finalizers: set']
const container = (list: string): string[] => [
  `${list}: name`, `${list}.env: name`, `${list}.ports: containerPort`, `${list}.volumeMounts: mountPath`, `${list}.volumeDevices: devicePath`
]
const podSpec = [
  ...container('spec.containers'), ...container('spec.initContainers'), ...container('spec.ephemeralContainers'),
  'spec.volumes: name +', 'spec.volumes.ephemeral.volumeClaimTemplate.metadata.ownerReferences: uid',
  'spec.volumes.ephemeral.volumeClaimTemplate.metadata.finalizers: set', 'spec.imagePullSecrets: name', 'spec.hostAliases: ip',
  'spec.topologySpreadConstraints: topologyKey', 'spec.schedulingGates: name', 'spec.resourceClaims: name +'
]

describe('lists that merge in a strategic merge patch', () => {
  const expected: Record<keyof typeof mergeSchemas, string[]> = {
    Namespace: [...metadata, 'status.conditions: type'],
    Node: [...metadata, 'spec.podCIDRs: set', 'status.conditions: type', 'status.addresses: type'],
    Pod: [
      ...metadata, ...podSpec, 'status.conditions: type', 'status.hostIPs: ip', 'status.podIPs: ip', 'status.resourceClaimStatuses: name +'
    ],
    PodTemplate: [...metadata, ...[...metadata, ...podSpec].map(line => `template.${line}`)],
    ConfigMap: metadata,
    Secret: metadata,
    ServiceAccount: [...metadata, 'secrets: name'],
    Service: [...metadata, 'spec.ports: port', 'status.conditions: type'],
    Event: metadata,
    Lease: metadata,
    CustomResourceDefinition: metadata
  }
  for (const [kind, lists] of Object.entries(expected)) {
    test(kind, () => {
      expect(mergingLists(mergeSchemas[kind as keyof typeof mergeSchemas])).toEqual(lists)
    })
  }
})
