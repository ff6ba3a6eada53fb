import { decodeMetadata } from '../kinds/decode.ts'
import { kubeApiLimits } from '../limits.ts'
import type { Json, JsonObject } from '../object.ts'
import { CopyTooLarge, copyJson, setMember, type CopyAllowance } from '../patch/json-values.ts'
import { StatusError } from '../status-error.ts'
import { isJsonObject, type StructuralSchema } from './structural-schema.ts'

/** Members that every embedded resource has, whatever its schema says. */
const resourceMembers: ReadonlySet<string> = new Set(['apiVersion', 'kind', 'metadata'])

/**
 * Takes out of `value` what the schema does not know (apiextensions-apiserver, pkg/apiserver/schema/pruning). Changes it.
 * Returns the paths of what was taken out: `spec.channels[0].zap`, at most `toldMax`, in the order of their text.
 */
export function prune(value: Json, schema: StructuralSchema, toldMax: number): string[] {
  const pruner = new Pruner(toldMax)
  pruner.prune(value, schema, '', false)
  return pruner.pruned.toSorted()
}

class Pruner {
  readonly pruned: string[] = []
  readonly #toldMax: number

  constructor(toldMax: number) { this.#toldMax = toldMax }

  /** `keeps`: something above keeps unknown fields. */
  prune(value: Json, schema: StructuralSchema | undefined, path: string, keeps: boolean): void {
    const keepsHere = keeps || schema?.preservesUnknownFields === true
    if (Array.isArray(value)) {
      for (const [i, element] of value.entries()) this.prune(element, schema?.items, `${path}[${i}]`, keepsHere)
    } else if (isJsonObject(value)) {
      if (schema?.isEmbeddedResource === true) this.#embedded(value, path)
      for (const name of Object.keys(value)) this.#member(value, name, schema, path, keepsHere)
    }
  }

  #member(object: JsonObject, name: string, schema: StructuralSchema | undefined, path: string, keeps: boolean): void {
    if (schema?.isEmbeddedResource === true && resourceMembers.has(name)) return
    const memberPath = path === '' ? name : `${path}.${name}`
    const known = schema?.properties.get(name) ?? schema?.additional
    if (known !== undefined) {
      // What a known field holds is pruned by its own schema, also where its neighbours are kept.
      this.prune(object[name]!, known, memberPath, false)
    } else if (!keeps) {
      delete object[name]
      this.#told(memberPath)
    }
  }

  /** Metadata of an embedded resource is metadata; what of it cannot be read is taken out. */
  #embedded(object: JsonObject, path: string): void {
    if (!Object.hasOwn(object, 'metadata')) return
    const named = { apiVersion: '', kind: '', expectedKind: '' }
    try {
      const { metadata, unknownFields } = decodeMetadata(object['metadata']!, named)
      object['metadata'] = metadata as unknown as JsonObject
      for (const field of unknownFields) this.#told(`${path}.${field}`)
    } catch (error) {
      if (!(error instanceof StatusError)) throw error
      delete object['metadata']
      this.#told(`${path}.metadata`)
    }
  }

  #told(path: string): void { if (this.pruned.length < this.#toldMax) this.pruned.push(path) }
}

/** What defaults may come to: more than an object may have, since what is counted is not quite what its JSON takes. */
export const defaultsAllowance = (): CopyAllowance => ({ bytes: 2 * kubeApiLimits.objectBytes.value })

/**
 * Puts in the defaults of what is absent, or null where that is not allowed; then takes out the nulls that remain where they
 * are not allowed (apiextensions-apiserver, pkg/apiserver/schema/defaulting). Changes `value`. Throws StatusError 413 where
 * `allowance` is used up: a list of empty objects may have defaults a thousand times its size.
 */
export function setDefaults(value: Json, schema: StructuralSchema, allowance = defaultsAllowance()): void {
  try {
    fillIn(value, schema, allowance)
  } catch (error) {
    if (!(error instanceof CopyTooLarge)) throw error
    throw new StatusError(413, 'RequestEntityTooLarge',
      `Request entity too large: with its defaults it has more than ${kubeApiLimits.objectBytes.value} bytes`)
  }
  dropNulls(value, schema)
}

const isRefusedNull = (value: Json | undefined, { nullable }: StructuralSchema): boolean => value === null && !nullable

function fillIn(value: Json, schema: StructuralSchema, allowance: CopyAllowance): void {
  if (Array.isArray(value)) {
    const { items } = schema
    if (items === undefined) return
    for (const [i, element] of value.entries()) {
      if (isRefusedNull(element, items) && items.default !== undefined) value[i] = copyJson(items.default, allowance)
      fillIn(value[i]!, items, allowance)
    }
  } else if (isJsonObject(value)) {
    const { properties, additional } = schema
    for (const [name, property] of properties) {
      if (property.default === undefined) continue
      const isAbsent = !Object.hasOwn(value, name)
      if (isAbsent || isRefusedNull(value[name], property)) setMember(value, name, copyJson(property.default, allowance))
    }
    for (const name of Object.keys(value)) {
      const known = properties.get(name) ?? additional
      if (known === undefined) continue
      if (isRefusedNull(value[name], known) && known.default !== undefined) setMember(value, name, copyJson(known.default, allowance))
      fillIn(value[name]!, known, allowance)
    }
  }
}

function dropNulls(value: Json, schema: StructuralSchema): void {
  if (Array.isArray(value)) {
    if (schema.items !== undefined) for (const element of value) dropNulls(element, schema.items)
  } else if (isJsonObject(value)) {
    for (const name of Object.keys(value)) {
      const known = schema.properties.get(name) ?? schema.additional
      if (known === undefined) continue
      if (isRefusedNull(value[name], known)) delete value[name]
      else dropNulls(value[name]!, known)
    }
  }
}
