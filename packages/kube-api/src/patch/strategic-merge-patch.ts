import type { Json, JsonObject } from '../object.ts'
import type { MergeField, MergeSchema } from '../resource.ts'
import { StatusError } from '../status-error.ts'
import {
  checkPatchDepth, copyForPatch, getMember, isJsonObject, rejected, setMember, showAsGo, typeInGo, type Patched
} from './json-values.ts'

const patchMember = '$patch'
const retainKeysMember = '$retainKeys'
const orderPrefix = '$setElementOrder'
const deletePrefix = '$deleteFromPrimitiveList'

/** What tells the elements of a list apart: the value of the merge key, or the primitive itself. */
type Identity = null | boolean | number | string | undefined

/**
 * `current` after a strategic merge patch, as a new value; neither argument is changed. `schema` names the lists that
 * merge, by the value of a key or as sets of primitives; all others are replaced.
 *
 * Directives (Kubernetes' "Strategic Merge Patch"): `$patch: replace | delete` in an object or in an element, `$retainKeys`,
 * `$setElementOrder/<list>`, `$deleteFromPrimitiveList/<list>`; a member that is null goes. `$patch: merge` says what
 * happens anyway. The order of a list that merges is that of `$setElementOrder`, else that of the patch; what only the
 * server has stays where it is in relation to the rest, and new elements come first.
 *
 * Throws StatusError as the real server does: 400 for a directive of the wrong form, 422 for lists of lists, 500 for
 * elements without their merge key and for unknown directives. Unlike there, an object that is new and says
 * `$patch: replace` is kept, not dropped.
 */
export function applyStrategicMergePatch(current: Patched, patch: Json, schema: MergeSchema): JsonObject {
  if (patch !== null && !isJsonObject(patch)) {
    throw badRequest(`json: cannot unmarshal ${typeInGo(patch)} into Go value of type map[string]interface {}`)
  }
  checkPatchDepth(patch)
  const copy = copyForPatch(current)
  return mergeObject(isJsonObject(copy) ? copy : {}, patch ?? {}, schema)
}

const badRequest = (message: string): StatusError => new StatusError(400, 'BadRequest', message)
/** The real server has no better word than 500 for what is wrong with a patch here, and no reason. */
const unmergeable = (message: string): StatusError => new StatusError(500, '', message)

const badRetainKeys = (): StatusError => badRequest('invalid patch format of retainKeys')
const badOrder = (): StatusError => badRequest('invalid patch format of setElementOrder list')
const badDeletions = (): StatusError => badRequest('invalid patch format of primitive list')
const noMergeKey = (element: Json, mergeKey: string): StatusError =>
  unmergeable(`map: ${showAsGo(element)} does not contain declared merge key: ${mergeKey}`)

/** Owns `current` and may change it; the result can be another object. */
function mergeObject(current: JsonObject, patch: JsonObject, schema: MergeSchema | undefined): JsonObject {
  switch (getMember(patch, patchMember)) {
    case undefined: case 'merge': break
    case 'replace': return addedMembers(patch)
    case 'delete': return {}
    default: throw unknownDirective(patch)
  }
  retainKeys(current, patch)
  const ordered = mergeOrderedLists(current, patch, schema)
  for (const [name, value] of Object.entries(patch)) {
    if (ordered.has(name) || isDirective(name)) continue
    const merged = mergeMember(getMember(current, name), value, fieldOf(schema, name))
    if (merged === undefined) delete current[name]
    else setMember(current, name, merged)
  }
  deletePrimitives(current, patch)
  return current
}

const unknownDirective = (patch: JsonObject): StatusError =>
  unmergeable(`unknown patch type: ${showAsGo(patch[patchMember]!)} in map: ${showAsGo(patch)}`)

/** `$patch` at the place of a map's key is never data: no name of Kubernetes begins with a dollar sign. */
const isDirective = (name: string): boolean =>
  name === patchMember || name === retainKeysMember || name.startsWith(orderPrefix) || name.startsWith(deletePrefix)

const fieldOf = (schema: MergeSchema | undefined, name: string): MergeField | undefined =>
  schema !== undefined && Object.hasOwn(schema.fields, name) ? schema.fields[name] : undefined

/** The member after the patch; undefined where it goes. */
function mergeMember(current: Json | undefined, patch: Json, field: MergeField | undefined): Json | undefined {
  if (patch === null) return undefined
  if (isJsonObject(patch) && isJsonObject(current)) return mergeObject(current, patch, field?.schema)
  if (Array.isArray(patch) && Array.isArray(current) && field?.patchStrategy?.includes('merge') === true) {
    return mergeList(current, patch, field).elements
  }
  return added(patch)
}

/** A copy of what a patch adds: directives and members that are null are left out. Undefined: nothing is added. */
function added(value: Json): Json | undefined {
  if (Array.isArray(value)) {
    return value.flatMap(element => isJsonObject(element) && Object.hasOwn(element, patchMember) ? [] : [added(element)!])
  }
  if (!isJsonObject(value)) return value
  const directive = getMember(value, patchMember)
  return directive === undefined || directive === 'replace' || directive === 'merge' ? addedMembers(value) : undefined
}

function addedMembers(patch: JsonObject): JsonObject {
  const copy: JsonObject = {}
  for (const [name, member] of Object.entries(patch)) {
    if (member === null || isDirective(name)) continue
    const value = added(member)
    if (value !== undefined) setMember(copy, name, value)
  }
  return copy
}

/** `$retainKeys`: every member of the patch has to be named, and what is not named goes. */
function retainKeys(current: JsonObject, patch: JsonObject): void {
  const names = getMember(patch, retainKeysMember)
  if (names === undefined) return
  if (!Array.isArray(names)) throw badRetainKeys()
  const retained = new Set(names)
  for (const [name, value] of Object.entries(patch)) {
    if (value !== null && !isDirective(name) && !retained.has(name)) throw badRetainKeys()
  }
  for (const name of Object.keys(current)) {
    if (!retained.has(name)) delete current[name]
  }
}

/** `$deleteFromPrimitiveList/<list>`, after all else, so that what is added and deleted at once is deleted. */
function deletePrimitives(current: JsonObject, patch: JsonObject): void {
  for (const [directive, deletions] of Object.entries(patch)) {
    if (!directive.startsWith(deletePrefix)) continue
    if (!directive.startsWith(`${deletePrefix}/`) || !Array.isArray(deletions) || !deletions.every(isPrimitive)) throw badDeletions()
    const name = directive.slice(deletePrefix.length + 1)
    const list = getMember(current, name)
    if (!Array.isArray(list)) continue
    const deleted = new Set<Json>(deletions)
    setMember(current, name, list.filter(element => !deleted.has(element)))
  }
}

/** Merges the lists for which the patch has `$setElementOrder/<list>`, and answers with their names. */
function mergeOrderedLists(current: JsonObject, patch: JsonObject, schema: MergeSchema | undefined): ReadonlySet<string> {
  const merged = new Set<string>()
  for (const [directive, order] of Object.entries(patch)) {
    if (!directive.startsWith(orderPrefix)) continue
    if (!directive.startsWith(`${orderPrefix}/`) || !Array.isArray(order)) throw badOrder()
    const name = directive.slice(orderPrefix.length + 1)
    const field = fieldOf(schema, name)
    // A list that does not merge is as the patch has it, order included.
    if (field?.patchStrategy?.includes('merge') !== true) continue
    const [currentList, patchList] = [getMember(current, name), getMember(patch, name)]
    if (patchList === null) continue
    if (currentList === undefined && patchList === undefined) continue
    if (!isListOrMissing(currentList)) throw expectedList(currentList)
    if (!isListOrMissing(patchList)) throw expectedList(patchList)
    const identities = order.map(element => identityOf(element, field.mergeKey))
    checkOrder(patchList ?? [], order, identities, field.mergeKey)
    const { elements, before } = mergeList(currentList ?? [], patchList ?? [], field)
    setMember(current, name, arrange(elements, identities, before, field.mergeKey))
    merged.add(name)
  }
  return merged
}

const isListOrMissing = (value: Json | undefined): value is Json[] | undefined => value === undefined || Array.isArray(value)

const expectedList = (value: Json): StatusError =>
  unmergeable(`expected a []interface {}, but received a ${isJsonObject(value) ? 'map[string]interface {}' : typeInGo(value)}`)

/** What the patch has of the list has to be in `order`, one after the other; elements with a directive do not count. */
function checkOrder(patch: Json[], order: Json[], identities: readonly Identity[], mergeKey: string | undefined): void {
  // An order of nothing asks for nothing.
  if (identities.length === 0) return
  let from = 0
  for (const element of patch) {
    if (isJsonObject(element) && Object.hasOwn(element, patchMember)) continue
    const found = identities.indexOf(identityOf(element, mergeKey), from)
    if (found < 0) {
      throw unmergeable(`The order in patch list:\n${showAsGo(patch)}\n doesn't match ${orderPrefix} list:\n${showAsGo(order)}\n`)
    }
    from = found + 1
  }
}

interface MergedList {
  readonly elements: Json[]
  /** What counts as the order before the patch, where `$setElementOrder` asks for another. */
  readonly before: readonly Identity[]
}

/** Owns `current`. */
function mergeList(current: Json[], patch: Json[], { mergeKey, schema }: MergeField): MergedList {
  if (patch.length === 0) return { elements: current, before: current.map(element => currentIdentity(element, mergeKey)) }
  checkElements(current, patch)
  if (!isJsonObject(patch[0])) {
    const before = current as Identity[]
    return { elements: arrange([...new Set([...current, ...patch])], patch as Identity[], before, undefined), before }
  }
  if (mergeKey === undefined) throw unmergeable('cannot merge lists without merge key for type struct')
  return mergeElements(current as JsonObject[], patch as JsonObject[], mergeKey, schema)
}

/** The elements of both lists are of one type, and no lists. */
function checkElements(current: readonly Json[], patch: readonly Json[]): void {
  const types = new Set([...current, ...patch].map(typeInGo))
  if (types.has('array')) throw rejected('lists of lists are not supported')
  if (types.size > 1 || types.has('null')) {
    throw unmergeable(`list element types are not identical: ${showAsGo([[...current], [...patch]])}`)
  }
}

function mergeElements(current: JsonObject[], patch: JsonObject[], mergeKey: string, schema: MergeSchema | undefined): MergedList {
  const deleted = new Set<Identity>()
  let replaces = false
  const plain: { readonly element: JsonObject, readonly identity: Identity }[] = []
  for (const element of patch) {
    switch (getMember(element, patchMember)) {
      case undefined: plain.push({ element, identity: identityOf(element, mergeKey) }); break
      case 'delete': deleted.add(identityOf(element, mergeKey)); break
      case 'replace': replaces = true; break
      case 'merge': break
      default: throw unknownDirective(element)
    }
  }
  const wanted = plain.map(({ identity }) => identity)
  if (replaces) return { elements: plain.map(({ element }) => addedMembers(element)), before: wanted }
  const merged = deleted.size === 0 ? current : current.filter(element => !deleted.has(currentIdentity(element, mergeKey)))
  const deletedCount = current.length - merged.length
  const before = merged.map(element => currentIdentity(element, mergeKey))
  const indexes = indexesOf(before)
  const newcomers: Identity[] = []
  for (const { element, identity } of plain) {
    const index = indexes.get(identity)
    if (index !== undefined) {
      merged[index] = mergeObject(merged[index]!, element, schema)
    } else {
      indexes.set(identity, merged.length)
      newcomers.push(identity)
      merged.push(addedMembers(element))
    }
  }
  // As in the real server, where new elements take the places of deleted ones behind what stays, and are found there.
  return { elements: arrange(merged, wanted, before, mergeKey), before: [...before, ...newcomers.slice(0, deletedCount)] }
}

/**
 * Puts `elements` in order: those in `wanted` as they are there, the rest as they are in `before`. Both are then merged:
 * one of the rest comes before a wanted one only where both were there before, and in that order.
 */
function arrange(elements: Json[], wanted: readonly Identity[], before: readonly Identity[], mergeKey: string | undefined): Json[] {
  const [wantedAt, beforeAt] = [indexesOf(wanted), indexesOf(before)]
  const items = elements.map(element => ({ element, identity: currentIdentity(element, mergeKey) }))
  const by = (at: ReadonlyMap<Identity, number>) => (a: { identity: Identity }, b: { identity: Identity }): number =>
    (at.get(a.identity) ?? at.size) - (at.get(b.identity) ?? at.size)
  const asked = items.filter(({ identity }) => wantedAt.has(identity)).toSorted(by(wantedAt))
  const rest = items.filter(({ identity }) => !wantedAt.has(identity)).toSorted(by(beforeAt))
  const arranged: Json[] = []
  let next = 0
  for (const { element, identity } of asked) {
    const place = beforeAt.get(identity) ?? -1
    while (next < rest.length && (beforeAt.get(rest[next]!.identity) ?? Infinity) < place) arranged.push(rest[next++]!.element)
    arranged.push(element)
  }
  for (; next < rest.length; next++) arranged.push(rest[next]!.element)
  return arranged
}

/** Where each identity is first. */
function indexesOf(identities: readonly Identity[]): Map<Identity, number> {
  const indexes = new Map<Identity, number>()
  for (const [i, identity] of identities.entries()) if (!indexes.has(identity)) indexes.set(identity, i)
  return indexes
}

const isPrimitive = (value: Json): boolean => typeof value !== 'object' || value === null

/** Of an element in the patch. */
function identityOf(element: Json, mergeKey: string | undefined): Identity {
  if (mergeKey === undefined) {
    if (!isPrimitive(element)) throw badOrder()
    return element as Identity
  }
  if (!isJsonObject(element)) throw unmergeable(`expected a map[string]interface {}, but received a ${typeInGo(element)}`)
  const value = getMember(element, mergeKey)
  if (value === undefined) throw noMergeKey(element, mergeKey)
  if (!isPrimitive(value)) throw badRequest(`the merge key ${mergeKey} of ${showAsGo(element)} is not a primitive value`)
  return value as Identity
}

/** Of an element in the object: one without the merge key stays where it is. */
function currentIdentity(element: Json, mergeKey: string | undefined): Identity {
  const value = mergeKey === undefined ? element : isJsonObject(element) ? getMember(element, mergeKey) : undefined
  return value !== undefined && isPrimitive(value) ? value as Identity : undefined
}
