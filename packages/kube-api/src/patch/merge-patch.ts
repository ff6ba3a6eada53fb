import type { Json, JsonObject } from '../object.ts'
import { StatusError } from '../status-error.ts'
import {
  badPatch, checkPatchDepth, copyForPatch, getMember, isJsonObject, setMember, typeInGo, type Patched
} from './json-values.ts'

/**
 * `target` after a JSON merge patch (RFC 7396), as a new value; neither argument is changed. A member that is null goes,
 * objects merge, everything else is replaced.
 *
 * As the real server does, and unlike the RFC, members that are null are left out of objects inside lists, too.
 *
 * Throws StatusError 400 for a patch that is not an object or is nested too deeply. The result is nested no deeper than
 * the deeper one of both.
 */
export function applyMergePatch(target: Patched, patch: Json): JsonObject {
  if (patch === null) throw new StatusError(400, 'BadRequest', 'Invalid JSON Patch')
  if (!isJsonObject(patch)) throw badPatch(`json: cannot unmarshal ${typeInGo(patch)} into Go value of type map[string]interface {}`)
  checkPatchDepth(patch)
  const copy = copyForPatch(target)
  const result = isJsonObject(copy) ? copy : {}
  mergeInto(result, patch)
  return result
}

/** Changes `target`, and takes nothing of `patch` into it that is not copied. */
function mergeInto(target: JsonObject, patch: JsonObject): void {
  for (const [name, value] of Object.entries(patch)) {
    const current = getMember(target, name)
    if (value === null) delete target[name]
    else if (isJsonObject(value) && isJsonObject(current)) mergeInto(current, value)
    else setMember(target, name, withoutNulls(value))
  }
}

/** A copy without members that are null; elements of lists that are null stay. */
function withoutNulls(value: Json): Json {
  if (Array.isArray(value)) return value.map(withoutNulls)
  if (!isJsonObject(value)) return value
  const copy: JsonObject = {}
  for (const [name, member] of Object.entries(value)) {
    if (member !== null) setMember(copy, name, withoutNulls(member))
  }
  return copy
}
