import type { Selection, StoredObject } from '../object-store-types.ts'
import { resourceName } from '../resource.ts'
import { parseFieldSelector, parseLabelSelector, selectableFieldNames, selectorMatch } from '../selectors.ts'
import type { ObjectRequest } from './object-request.ts'

/** Which objects a list, a watch or a deletion of a collection is about. Throws 400 where a selector is none. */
export function selectionOf(request: ObjectRequest): Selection {
  const { resource, target, query, view, isCustom } = request
  const labels = parseLabelSelector(query.get('labelSelector') ?? '')
  const fieldSelector = query.get('fieldSelector') ?? ''
  const fields = fieldSelector === '' ? [] : parseFieldSelector(fieldSelector, selectableFieldNames(resource))
  const matches = selectorMatch(labels, fields, object => resource.selectableFields(object))
  // A custom resource is chosen by what it is shown as, defaults included.
  const shown = matches === undefined || !isCustom ? matches : (stored: StoredObject) => matches(view.of(stored))
  return { resource: resourceName(resource), namespace: target.namespace, matches: shown }
}
