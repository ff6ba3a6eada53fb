import type { Resource } from '../resource.ts'
import { configMaps } from './config-map.ts'
import { namespaces } from './namespace.ts'
import { secrets } from './secret.ts'

/** The built-in kinds, in the order in which discovery lists them. */
export function builtInResources(): readonly Resource[] {
  return [configMaps(), namespaces(), secrets()]
}
