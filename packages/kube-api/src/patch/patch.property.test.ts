import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { mergeSchemas } from '../kinds/merge-schemas.ts'
import type { Json, JsonObject } from '../object.ts'
import type { MergeField, MergeSchema } from '../resource.ts'
import { StatusError } from '../status-error.ts'
import { applyJsonPatch } from './json-patch.ts'
import { applyMergePatch } from './merge-patch.ts'
import { applyStrategicMergePatch } from './strategic-merge-patch.ts'

const seed = process.env['SEED'] === undefined ? {} : { seed: Number(process.env['SEED']) }
const runs = (factor: number) => ({ numRuns: Math.round(factor * Number(process.env['RUNS'] ?? 500)), ...seed })

/** JSON text and back: members that are not there stay away, and `__proto__` is an own member. */
const parsed = (value: Json): Json => JSON.parse(JSON.stringify(value)) as Json

const memberNames = ['a', 'b', 'c', '0', '', 'x/y', 'm~n', '__proto__', 'constructor', 'toString', 'length'] as const
const memberName = fc.constantFrom(...memberNames)
const primitive = fc.oneof(fc.constantFrom<Json[]>(null, true, false, 0, 1, -1, '', 'v', 'w'), fc.integer(), fc.string({ maxLength: 4 }))

/** Objects are made from their text, so that names such as `__proto__` are members. */
const objectOf = (value: fc.Arbitrary<Json>, maxLength = 4): fc.Arbitrary<JsonObject> =>
  fc.array(fc.tuple(memberName, value), { maxLength }).map(members =>
    JSON.parse(`{${members.map(([name, member]) => `${JSON.stringify(name)}:${JSON.stringify(member)}`).join(',')}}`) as JsonObject)

const json: fc.Arbitrary<Json> = fc.letrec<{ value: Json }>(tie => ({
  value: fc.oneof({ depthSize: 'small', withCrossShrink: true }, primitive, objectOf(tie('value')), fc.array(tie('value'), { maxLength: 4 }))
})).value
const document = objectOf(json)

const isObject = (value: Json | undefined): value is JsonObject => typeof value === 'object' && value !== null && !Array.isArray(value)

/** The outcome of a patch; anything thrown that is no refusal fails the test. */
function outcome(run: () => Json): { readonly result: Json } | { readonly code: number } {
  try {
    return { result: parsed(run()) }
  } catch (error) {
    if (error instanceof StatusError) return { code: error.code }
    throw error
  }
}

const inherited = [Object.prototype, Array.prototype, Function.prototype, String.prototype]
const inheritedNames = inherited.map(prototype => Reflect.ownKeys(prototype).length)
const nothingIsPolluted = (): boolean => inherited.every((prototype, i) => Reflect.ownKeys(prototype).length === inheritedNames[i])

describe('a JSON merge patch', () => {
  /** RFC 7396 §2, word for word, over entries instead of members. */
  function model(target: Json | undefined, patch: Json): Json {
    if (!isObject(patch)) return patch
    const members = new Map(isObject(target) ? Object.entries(target) : [])
    for (const [name, value] of Object.entries(patch)) {
      if (value === null) members.delete(name)
      else members.set(name, model(members.get(name), value))
    }
    return Object.fromEntries(members)
  }

  const withoutNullsInLists = (value: Json): boolean => Array.isArray(value)
    ? !JSON.stringify(value).includes('null')
    : !isObject(value) || Object.values(value).every(withoutNullsInLists)

  test('is what RFC 7396 defines, and changes nothing that is given', () => {
    fc.assert(fc.property(document, document.filter(withoutNullsInLists), (target, patch) => {
      const before = JSON.stringify([target, patch])
      expect(parsed(applyMergePatch(target, patch))).toEqual(parsed(model(target, patch)))
      expect(JSON.stringify([target, patch])).toBe(before)
    }), runs(1))
  })

  test('applied twice does what once does', () => {
    fc.assert(fc.property(document, document, (target, patch) => {
      const once = applyMergePatch(target, patch)
      expect(parsed(applyMergePatch(once, patch))).toEqual(parsed(once))
    }), runs(1))
  })

  test('an object without nulls, applied to nothing, is itself', () => {
    fc.assert(fc.property(document.filter(value => !JSON.stringify(value).includes('null')), value => {
      expect(parsed(applyMergePatch({}, value))).toEqual(parsed(value))
      expect(parsed(applyMergePatch(value, {}))).toEqual(parsed(value))
    }), runs(0.5))
  })
})

describe('a JSON patch', () => {
  type Node = Map<string, Node> | Node[] | null | boolean | number | string

  const toNode = (value: Json): Node => Array.isArray(value) ? value.map(toNode)
    : isObject(value) ? new Map(Object.entries(value).map(([name, member]) => [name, toNode(member)])) : value
  const toText = (node: Node): string => Array.isArray(node) ? `[${node.map(toText).join()}]`
    : node instanceof Map ? `{${[...node].map(([name, member]) => `${JSON.stringify(name)}:${toText(member)}`).join()}}` : JSON.stringify(node)
  const sorted = (node: Node): string => Array.isArray(node) ? `[${node.map(sorted).join()}]`
    : node instanceof Map ? `{${[...node.keys()].toSorted().map(name => `${JSON.stringify(name)}:${sorted(node.get(name)!)}`).join()}}` : JSON.stringify(node)

  /** A deliberately dumb twin over maps and lists: undefined where an operation fails. */
  function model(root: Node, operations: JsonObject[]): Node | undefined {
    let tree = toNode(JSON.parse(toText(root)) as Json)
    const index = (name: string, length: number): number | undefined => {
      if (!/^-?\d+$/.test(name)) return undefined
      const at = Number(name) < 0 ? Number(name) + length : Number(name)
      return at >= 0 && at < length ? at : undefined
    }
    const parts = (path: string): string[] => path.split('/').slice(1).map(part => part.replaceAll('~1', '/').replaceAll('~0', '~'))
    const read = (path: string[]): Node | undefined => path.reduce<Node | undefined>((node, name) => {
      if (node instanceof Map) return node.get(name)
      const at = Array.isArray(node) ? index(name, node.length) : undefined
      return at === undefined ? undefined : (node as Node[])[at]
    }, tree)
    const add = (path: string[], value: Node, replaces: boolean): boolean => {
      const [parent, name] = [read(path.slice(0, -1)), path.at(-1)!]
      if (parent instanceof Map) return parent.set(name, value) !== undefined
      if (!Array.isArray(parent)) return false
      const at = !replaces && name === '-' ? parent.length : index(name, parent.length + (replaces ? 0 : 1))
      if (at === undefined) return false
      parent.splice(at, replaces ? 1 : 0, value)
      return true
    }
    const remove = (path: string[]): boolean => {
      const [parent, name] = [read(path.slice(0, -1)), path.at(-1)!]
      if (parent instanceof Map) return parent.delete(name)
      const at = Array.isArray(parent) ? index(name, parent.length) : undefined
      return at !== undefined && (parent as Node[]).splice(at, 1).length === 1
    }
    for (const { op, path, from, value } of operations) {
      const place = parts(path as string)
      const source = from === undefined ? undefined : read(parts(from as string))
      const node = toNode(JSON.parse(JSON.stringify(value ?? null)) as Json)
      let done = false
      if (op === 'replace' && path === '') {
        if (typeof node === 'object' && node !== null) [tree, done] = [node, true]
      } else if (op === 'test') {
        const parentIsThere = place.length < 2 || typeof read(place.slice(0, -1)) === 'object'
        const parent = read(place.slice(0, -1))
        const missing = path !== '' && parent instanceof Map && !parent.has(place.at(-1)!)
        const actual = missing ? null : read(place)
        done = parentIsThere && actual !== undefined && sorted(actual) === sorted(node)
      } else if (path === '' || from === '') done = false
      else if (op === 'add' || op === 'replace') done = add(place, node, op === 'replace')
      else if (op === 'remove') done = remove(place)
      else if (op === 'copy') done = source !== undefined && add(place, toNode(JSON.parse(toText(source)) as Json), false)
      else if (op === 'move') done = source !== undefined && remove(parts(from as string)) && add(place, source, false)
      if (!done) return undefined
    }
    return tree
  }

  const escaped = (name: string): string => name.replaceAll('~', '~0').replaceAll('/', '~1')

  /** Pointers that lead somewhere in `value` mostly, and around it sometimes. */
  const pathsIn = (value: Json): string[] => typeof value !== 'object' || value === null ? ['']
    : ['', ...Object.entries(value).flatMap(([name, member]) => pathsIn(member).map(path => `/${escaped(name)}${path}`))]
  const pathOf = (value: Json): fc.Arbitrary<string> => fc.tuple(
    fc.constantFrom(...pathsIn(value)), fc.option(fc.oneof(memberName.map(escaped), fc.constantFrom('-', '-1', '1', '2')), { freq: 2, nil: undefined })
  ).map(([path, more]) => more === undefined ? path : `${path}/${more}`)

  const operationOn = (value: Json): fc.Arbitrary<JsonObject> => fc.oneof(
    fc.record({ op: fc.constantFrom('add', 'replace'), path: pathOf(value), value: json }),
    fc.record({ op: fc.constant('test'), path: pathOf(value), value: fc.constantFrom<Json[]>(null, 1, '') }),
    fc.record({ op: fc.constant('remove'), path: pathOf(value) }),
    fc.record({ op: fc.constantFrom('copy', 'move'), path: pathOf(value), from: pathOf(value) })
  )

  const patched = document.chain(value => fc.tuple(fc.constant(value), fc.array(operationOn(value), { maxLength: 4 })))

  test('does what a simple model over maps does', () => {
    let [accepted, rejected] = [0, 0]
    fc.assert(fc.property(patched, ([value, operations]) => {
      const before = JSON.stringify([value, operations])
      const expected = model(toNode(value), operations)
      const actual = outcome(() => applyJsonPatch(value, operations))
      if (expected === undefined) {
        rejected++
        expect(actual).toEqual({ code: 422 })
      } else {
        accepted++
        expect('result' in actual && sorted(toNode(actual.result))).toEqual(sorted(expected))
      }
      expect(JSON.stringify([value, operations])).toBe(before)
    }), runs(3))
    expect(Math.min(accepted, rejected)).toBeGreaterThan((accepted + rejected) / 10)
  })

  test('a test of what is there passes, and changes nothing', () => {
    fc.assert(fc.property(document, value => {
      const tests = pathsIn(value).map(path => ({
        op: 'test', path, value: path.split('/').slice(1).reduce<Json>((node, part) =>
          (node as JsonObject)[part.replaceAll('~1', '/').replaceAll('~0', '~')]!, value)
      }))
      expect(parsed(applyJsonPatch(value, tests))).toEqual(parsed(value))
    }), runs(0.5))
  })
})

describe('a strategic merge patch', () => {
  const elementNames = ['a', 'b', 'c', 'd', 'e']
  const elementName = fc.constantFrom(...elementNames)
  const elements = (members: fc.Arbitrary<JsonObject>): fc.Arbitrary<JsonObject[]> =>
    fc.uniqueArray(fc.tuple(elementName, members), { selector: ([name]) => name, maxLength: 5 })
      .map(list => list.map(([name, element]) => ({ ...element, name })))
  const members = fc.dictionary(fc.constantFrom('image', 'x', 'y'), fc.constantFrom<Json[]>('1', '2', 3), { maxKeys: 3, noNullPrototype: true })
  const set = fc.uniqueArray(fc.constantFrom('f/a', 'f/b', 'f/c', 'f/d'), { maxLength: 4 })
  const maybe = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined })
  const pod = fc.record({
    metadata: fc.record({ finalizers: maybe(set), labels: maybe(members) }),
    spec: fc.record({ containers: maybe(elements(fc.record({ env: maybe(elements(members)), image: maybe(elementName) }) as never)), volumes: maybe(elements(members)) })
  }).map(value => parsed(value as Json) as JsonObject)

  /** What kubectl sends to lead from `before` to `after`: its two-way patch, written down anew and simply. */
  function difference(before: JsonObject, after: JsonObject, schema: MergeSchema | undefined): JsonObject {
    const patch: JsonObject = {}
    for (const name of Object.keys(before)) if (!(name in after)) patch[name] = null
    for (const [name, value] of Object.entries(after)) {
      const [old, field] = [before[name], schema?.fields[name]]
      if (JSON.stringify(old) === JSON.stringify(value)) continue
      if (isObject(old) && isObject(value)) patch[name] = difference(old, value, field?.schema)
      else if (Array.isArray(old) && Array.isArray(value) && field?.patchStrategy !== undefined) listDifference(patch, name, old, value, field)
      else patch[name] = value
    }
    return patch
  }

  function listDifference(patch: JsonObject, name: string, before: Json[], after: Json[], { mergeKey, schema }: MergeField): void {
    if (mergeKey === undefined) {
      patch[`$setElementOrder/${name}`] = after
      patch[`$deleteFromPrimitiveList/${name}`] = before.filter(element => !after.includes(element))
      patch[name] = after.filter(element => !before.includes(element))
      return
    }
    const find = (list: Json[], element: Json): JsonObject | undefined =>
      (list as JsonObject[]).find(other => other[mergeKey] === (element as JsonObject)[mergeKey])
    patch[`$setElementOrder/${name}`] = after.map(element => ({ [mergeKey]: (element as JsonObject)[mergeKey]! }))
    patch[name] = [
      ...(after as JsonObject[]).map(element => ({ ...difference(find(before, element) ?? {}, element, schema), [mergeKey]: element[mergeKey]! })),
      ...(before as JsonObject[]).filter(element => find(after, element) === undefined)
        .map(element => ({ [mergeKey]: element[mergeKey]!, $patch: 'delete' }))
    ]
  }

  const schema = mergeSchemas.Pod
  const apply = (current: JsonObject, patch: Json): Json => parsed(applyStrategicMergePatch(current, patch, schema))

  test('leads from any object to any other by the patch that kubectl makes', () => {
    fc.assert(fc.property(pod, pod, (before, after) => {
      const patch = difference(before, after, schema)
      const given = JSON.stringify([before, patch])
      expect(apply(before, patch)).toEqual(after)
      expect(JSON.stringify([before, patch])).toBe(given)
    }), runs(1))
  })

  test('applied twice does what once does', () => {
    fc.assert(fc.property(pod, pod, pod, (before, after, other) => {
      const patch = difference(before, after, schema)
      const once = apply(other, patch) as JsonObject
      expect(apply(once, patch)).toEqual(once)
      const plain = apply(before, after) as JsonObject
      expect(apply(plain, after)).toEqual(plain)
    }), runs(1))
  })

  test('keeps the elements of others, in their order', () => {
    fc.assert(fc.property(elements(members), elements(members), (before, patch) => {
      const list = (apply({ spec: { containers: before } }, { spec: { containers: patch } }) as { spec: { containers: JsonObject[] } }).spec.containers
      const names = list.map(({ name }) => name)
      expect([...names].toSorted()).toEqual([...new Set([...before, ...patch].map(({ name }) => name))].toSorted())
      const others = before.map(({ name }) => name).filter(name => !patch.some(element => element['name'] === name))
      expect(names.filter(name => others.includes(name))).toEqual(others)
      expect(names.filter(name => !others.includes(name))).toEqual(patch.map(({ name }) => name))
    }), runs(1))
  })

  const directive = fc.oneof(
    fc.tuple(fc.constantFrom('$patch', '$retainKeys', '$setElementOrder/containers', '$setElementOrder/finalizers', '$setElementOrder',
      '$deleteFromPrimitiveList/finalizers', '$deleteFromPrimitiveList/containers', '$deleteFromPrimitiveList'),
    fc.oneof(fc.constantFrom<Json[]>('delete', 'replace', 'merge', 'frob', null), fc.array(fc.oneof(elementName, primitive, elementName.map(name => ({ name }))), { maxLength: 3 }))),
    fc.tuple(fc.constantFrom('containers', 'finalizers', 'metadata', 'spec', 'env', 'name', '__proto__', 'constructor'), json)
  )
  /** Directives and hostile names at any place of a patch. */
  const hostile: fc.Arbitrary<Json> = fc.letrec<{ value: Json }>(tie => ({
    value: fc.oneof({ depthSize: 'medium' }, json, fc.array(tie('value'), { maxLength: 3 }),
      fc.array(fc.oneof(directive, fc.tuple(fc.constantFrom('metadata', 'spec', 'containers', 'finalizers', 'env', 'name', '__proto__'), tie('value'))), { maxLength: 5 })
        .map(entries => JSON.parse(`{${entries.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`).join()}}`) as Json))
  })).value

  test('of anything at all ends in a result or a refusal, and pollutes nothing', () => {
    const codes = new Set<number>()
    fc.assert(fc.property(fc.oneof(pod, document, hostile), hostile, (current, patch) => {
      const before = JSON.stringify([current, patch])
      for (const result of [
        outcome(() => applyStrategicMergePatch(current, patch, schema)), outcome(() => applyMergePatch(current, patch)),
        outcome(() => applyJsonPatch(current, Array.isArray(patch) ? patch : [patch]))
      ]) {
        if ('code' in result) codes.add(result.code)
      }
      expect(JSON.stringify([current, patch])).toBe(before)
      expect(nothingIsPolluted()).toBe(true)
    }), runs(5))
    expect([400, 422, 500]).toEqual(expect.arrayContaining([...codes]))
    expect(codes.size).toBeGreaterThan(1)
  })
})
