import type { Json, JsonObject } from '../object.ts'
import { StatusError } from '../status-error.ts'
import {
  CopyTooLarge, NestingTooDeep, badPatch, checkPatchDepth, checkResultDepth, copyForPatch, copyJson, getMember, isJsonObject,
  rejected, setMember, typeInGo, type Container, type CopyAllowance, type Patched
} from './json-values.ts'
import { patchLimits } from './limits.ts'

/** One operation as it was sent; what each kind needs is asked for when its turn comes (RFC 6902 §4). */
interface Operation {
  readonly op: string
  readonly path: string | undefined
  readonly from: string | undefined
  /** Undefined where there is none; null is a value. */
  readonly value: Json | undefined
}

/** A member or an element, there or not. */
interface Place {
  readonly container: Container
  readonly name: string
}

/**
 * `document` after a JSON patch (RFC 6902), as a new value; neither argument is changed. All or nothing.
 *
 * As the real server does (json-patch v4), and unlike the RFC: `replace` of a member that is missing adds it; an index
 * may be negative and counts from the end; `test` of null passes where a member is missing; and the whole document can be
 * replaced and tested, not added, moved, copied or removed.
 *
 * Throws StatusError: 400 for what is no patch, 413 past the bounds of `patchLimits`, 422 where an operation fails; its
 * `cause` tells which and why, since the message of the real server does not.
 */
export function applyJsonPatch(document: Patched, patch: Json): Json {
  checkPatchDepth(patch)
  const operations = decodeOperations(patch)
  const run = new JsonPatchRun(copyForPatch(document))
  for (const [i, operation] of operations.entries()) run.apply(operation, `operation ${i} (${operation.op} ${operation.path}):`)
  checkResultDepth(run.root)
  return run.root
}

function decodeOperations(patch: Json): Operation[] {
  // A patch of null is an empty one to the real server.
  if (patch === null) return []
  if (!Array.isArray(patch)) throw badPatch(`json: cannot unmarshal ${typeInGo(patch)} into Go value of type []handlers.jsonPatchOp`)
  const countMax = patchLimits.patchOperations.value
  if (patch.length > countMax) {
    throw tooLarge(`The allowed maximum operations in a JSON patch is ${countMax}, got ${patch.length}`)
  }
  return patch.map(operation => {
    if (!isJsonObject(operation)) {
      throw badPatch(`json: cannot unmarshal ${typeInGo(operation)} into Go value of type handlers.jsonPatchOp`)
    }
    return {
      op: textOf(operation, 'op') ?? 'unknown',
      path: textOf(operation, 'path'),
      from: textOf(operation, 'from'),
      value: getMember(operation, 'value')
    }
  })
}

function textOf(operation: JsonObject, name: string): string | undefined {
  const value = getMember(operation, name)
  if (value === undefined || value === null) return undefined
  if (typeof value === 'string') return value
  throw badPatch(`json: cannot unmarshal ${typeInGo(value)} into Go struct field jsonPatchOp.${name} of type string`)
}

const tooLarge = (why: string): StatusError => new StatusError(413, 'RequestEntityTooLarge', `Request entity too large: ${why}`)

/** One application of a patch: owns `root` and changes it in place. */
class JsonPatchRun {
  root: Json
  #movedElements = 0
  readonly #copies: CopyAllowance = { bytes: patchLimits.patchCopiedBytes.value }

  constructor(root: Json) {
    if (typeof root !== 'object' || root === null) throw rejected('a document is an object or a list')
    this.root = root
  }

  /** `label` begins the sentence that tells what failed. */
  apply(operation: Operation, label: string): void {
    const fail = (why: string): StatusError => rejected(`${label} ${why}`)
    const { op, path } = operation
    if (path === undefined) throw fail('has no path')
    switch (op) {
      case 'add': return this.#add(this.#find(path, fail), valueOf(operation, fail), fail)
      case 'remove': return this.#remove(this.#find(path, fail), fail)
      case 'replace': return this.#replace(path, valueOf(operation, fail), fail)
      case 'test': return this.#test(path, operation.value ?? null, fail)
      case 'move': {
        const from = this.#find(fromOf(operation, fail), fail)
        const moved = this.#get(from, fail)
        this.#remove(from, fail)
        // A value cannot be moved into itself: its place is gone by now.
        return this.#add(this.#find(path, fail), moved!, fail)
      }
      case 'copy': {
        const value = this.#get(this.#find(fromOf(operation, fail), fail), fail)
        if (value === undefined) throw fail('there is nothing to copy')
        return this.#add(this.#find(path, fail), this.#copyOf(value, fail), fail)
      }
      default: throw fail('is not an operation of RFC 6902')
    }
  }

  #add({ container, name }: Place, value: Json, fail: Fail): void {
    if (!Array.isArray(container)) return setMember(container, name, value)
    const index = name === '-' ? container.length : indexIn(container.length + 1, name, fail)
    this.#moveElements(container)
    container.splice(index, 0, value)
  }

  #remove(place: Place, fail: Fail): void {
    if (this.#get(place, fail) === undefined) throw fail('there is nothing at this place')
    const { container, name } = place
    if (!Array.isArray(container)) {
      delete container[name]
      return
    }
    this.#moveElements(container)
    container.splice(indexIn(container.length, name, fail), 1)
  }

  #replace(path: string, value: Json, fail: Fail): void {
    if (path === '') {
      if (typeof value !== 'object' || value === null) throw fail('a document is an object or a list')
      this.root = value
      return
    }
    const { container, name } = this.#find(path, fail)
    if (Array.isArray(container)) container[indexIn(container.length, name, fail)] = value
    else setMember(container, name, value)
  }

  #test(path: string, expected: Json, fail: Fail): void {
    const actual = path === '' ? this.root : this.#get(this.#find(path, fail), fail)
    if (!isEqual(actual ?? null, expected)) throw fail('the value is another')
  }

  /** Undefined: the container is an object that has no such member. */
  #get({ container, name }: Place, fail: Fail): Json | undefined {
    return Array.isArray(container) ? container[indexIn(container.length, name, fail)] : getMember(container, name)
  }

  /** The place that a JSON pointer (RFC 6901) names; all but the last of its parts have to be there. */
  #find(pointer: string, fail: Fail): Place {
    if (!pointer.startsWith('/')) throw fail(pointer === '' ? 'needs a place in the document' : 'a path begins with a slash')
    const names = pointer.slice(1).split('/').map(part => part.replaceAll('~1', '/').replaceAll('~0', '~'))
    const last = names.pop()!
    let container = this.root as Container
    for (const name of names) {
      const next = this.#get({ container, name }, fail)
      if (typeof next !== 'object' || next === null) throw fail(`there is nothing inside ${name}`)
      container = next
    }
    return { container, name: last }
  }

  #copyOf(value: Json, fail: Fail): Json {
    try {
      return copyJson(value, this.#copies)
    } catch (error) {
      if (error instanceof CopyTooLarge) throw fail(`copies come to more than ${patchLimits.patchCopiedBytes.value} bytes`)
      if (error instanceof NestingTooDeep) throw fail('what is copied is nested too deeply')
      throw error
    }
  }

  /** Adding to a list and removing from it move what comes after: 10,000 times a long list is long. */
  #moveElements(list: readonly Json[]): void {
    this.#movedElements += list.length
    if (this.#movedElements > patchLimits.patchMovedElements.value) {
      throw tooLarge('the operations of this JSON patch move too many elements of lists')
    }
  }
}

/** Goes no deeper than `expected`, whose depth is bounded. Takes long only where it is true, and then `expected` is as large. */
function isEqual(actual: Json, expected: Json): boolean {
  if (typeof actual !== 'object' || typeof expected !== 'object' || actual === null || expected === null) return actual === expected
  if (Array.isArray(actual) || Array.isArray(expected)) {
    return Array.isArray(actual) && Array.isArray(expected) && actual.length === expected.length
      && actual.every((element, i) => isEqual(element, expected[i]!))
  }
  const names = Object.keys(expected)
  return Object.keys(actual).length === names.length
    && names.every(name => Object.hasOwn(actual, name) && isEqual(actual[name]!, expected[name]!))
}

type Fail = (why: string) => StatusError

/** A copy, since later operations may change what this one puts into the document. */
function valueOf({ value }: Operation, fail: Fail): Json {
  if (value === undefined) throw fail('has no value')
  return copyJson(value)
}

function fromOf({ from }: Operation, fail: Fail): string {
  if (from === undefined) throw fail('has no from')
  return from
}

/** Index below `length` that `name` stands for; a negative one counts from the end. */
function indexIn(length: number, name: string, fail: Fail): number {
  const number = /^[-+]?\d{1,9}$/.test(name) ? Number(name) : NaN
  const index = number < 0 ? number + length : number
  if (!(index >= 0 && index < length)) throw fail(`a list has no index ${name}`)
  // Not -0.
  return Math.abs(index)
}
