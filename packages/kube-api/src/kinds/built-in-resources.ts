import type { Resource } from '../resource.ts'
import { customResourceDefinitions } from '../crd/crd-resource.ts'
import { configMaps } from './config-map.ts'
import { events } from './event.ts'
import { leases } from './lease.ts'
import { namespaces } from './namespace.ts'
import { nodes } from './node.ts'
import { podTemplates } from './pod-template.ts'
import { pods } from './pod.ts'
import { secrets } from './secret.ts'
import { serviceAccounts } from './service-account.ts'
import { services } from './service.ts'

/** The built-in kinds, in the order in which discovery lists them. */
export function builtInResources(): readonly Resource[] {
  return [
    configMaps(), events(), namespaces(), nodes(), pods(), podTemplates(), secrets(), serviceAccounts(), services(),
    customResourceDefinitions(['', 'coordination.k8s.io']), leases()
  ]
}
