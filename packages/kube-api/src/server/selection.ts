import type { Selection } from '../object-store-types.ts'
import { resourceName } from '../resource.ts'
import type { ObjectRequest } from './object-request.ts'

/** Which objects a list, a watch or a deletion of a collection is about. Throws 400 where a selector is none. */
export function selectionOf({ resource, target }: ObjectRequest): Selection {
  return { resource: resourceName(resource), namespace: target.namespace }
}
