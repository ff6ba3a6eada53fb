import { describe, expect, test } from 'vitest'
import { mergeSchemas } from '../kinds/merge-schemas.ts'
import type { Json, JsonObject } from '../object.ts'
import { StatusError } from '../status-error.ts'
import { applyStrategicMergePatch } from './strategic-merge-patch.ts'

/** The PodTemplate of the recorded session, without what defaults add. */
const podTemplate = (spec: JsonObject = {}): JsonObject => ({
  apiVersion: 'v1', kind: 'PodTemplate', metadata: { name: 'p' },
  template: {
    metadata: { labels: { app: 'p' } },
    spec: {
      containers: [
        {
          name: 'main', image: 'img:1', args: ['a', 'b'], env: [{ name: 'A', value: '1' }, { name: 'B', value: '2' }],
          ports: [{ containerPort: 80, name: 'http' }]
        },
        { name: 'side', image: 'side:1' }
      ],
      volumes: [{ name: 'v', emptyDir: {} }],
      tolerations: [{ key: 'k1', operator: 'Exists' }],
      ...spec
    }
  }
})

const patchPodTemplate = (current: JsonObject, patch: Json): { template: { metadata: JsonObject, spec: Record<string, Json[]> } } =>
  applyStrategicMergePatch(current, patch, mergeSchemas.PodTemplate) as never

const spec = (patch: Json, before: JsonObject = {}): Record<string, Json[]> =>
  patchPodTemplate(podTemplate(before), { template: { spec: patch } }).template.spec

const main = (patch: JsonObject, before: JsonObject): Json =>
  spec({ containers: [{ name: 'main', ...patch }] }, { containers: [{ name: 'main', ...before }] })['containers']![0]!

const names = (list: Json[] | undefined): Json[] => list!.map(element => (element as JsonObject)['name']!)

function refusal(run: () => unknown): StatusError {
  try {
    run()
  } catch (error) {
    if (error instanceof StatusError) return error
    throw error
  }
  throw new Error('it was accepted')
}

describe('a strategic merge patch as the real server applies it', () => {
  test('merges the elements of a list by their key', () => {
    expect(spec({ containers: [{ name: 'side', image: 'side:2' }] })['containers'])
      .toEqual([expect.objectContaining({ name: 'main', image: 'img:1' }), { name: 'side', image: 'side:2' }])
  })

  test('a new element comes first', () => {
    expect(names(spec({ containers: [{ name: 'third', image: 'third:1' }] })['containers'])).toEqual(['third', 'main', 'side'])
  })

  test('lists inside elements merge by keys of their own', () => {
    expect(main({ env: [{ name: 'B', value: '22' }, { name: 'C', value: '3' }], ports: [{ containerPort: 81 }] },
      { env: [{ name: 'A', value: '1' }, { name: 'B', value: '2' }], ports: [{ name: 'http', containerPort: 80 }] })).toEqual({
      name: 'main',
      env: [{ name: 'A', value: '1' }, { name: 'B', value: '22' }, { name: 'C', value: '3' }],
      ports: [{ containerPort: 81 }, { name: 'http', containerPort: 80 }]
    })
  })

  test('lists that do not merge are replaced, of primitives and of objects', () => {
    expect(main({ args: ['z'] }, { args: ['a', 'b'] })).toEqual({ name: 'main', args: ['z'] })
    expect(spec({ tolerations: [{ key: 'k2', operator: 'Exists', value: null }] })['tolerations']).toEqual([{ key: 'k2', operator: 'Exists' }])
  })

  test('an element is deleted by its key, and one that is not there as well', () => {
    expect(names(spec({ containers: [{ name: 'main', $patch: 'delete' }] })['containers'])).toEqual(['side'])
    expect(patchPodTemplate(podTemplate(), { template: { spec: { containers: [{ name: 'ghost', $patch: 'delete' }] } } })).toEqual(podTemplate())
    expect(spec({ containers: [{ name: 'a', $patch: 'delete' }] }, { containers: [{ name: 'a' }, { name: 'b' }, { name: 'a' }] })['containers'])
      .toEqual([{ name: 'b' }])
  })

  test('$setElementOrder decides the order', () => {
    expect(spec({ '$setElementOrder/containers': [{ name: 'side' }, { name: 'main' }], containers: [{ name: 'main', image: 'img:2' }] })['containers'])
      .toEqual([{ name: 'side', image: 'side:1' }, expect.objectContaining({ name: 'main', image: 'img:2' })])
    expect(names(spec({ '$setElementOrder/containers': [{ name: 'side' }, { name: 'main' }] })['containers'])).toEqual(['side', 'main'])
  })

  test('what only the server has stays where it is between what the client orders', () => {
    const before = { containers: ['a', 'injected', 'b', 'c'].map(name => ({ name })) }
    const ordered = (order: string[], patch: string[]): Json[] => names(spec({
      '$setElementOrder/containers': order.map(name => ({ name })), containers: patch.map(name => ({ name, image: 'x' }))
    }, before)['containers'])
    expect(ordered(['a', 'b', 'c'], ['b'])).toEqual(['a', 'injected', 'b', 'c'])
    expect(ordered(['c', 'b', 'a'], [])).toEqual(['injected', 'c', 'b', 'a'])
    expect(ordered(['a', 'new', 'b', 'c'], ['new'])).toEqual(['a', 'new', 'injected', 'b', 'c'])
    expect(ordered(['new', 'a', 'b', 'c'], ['new'])).toEqual(['new', 'a', 'injected', 'b', 'c'])
  })

  test('a new element takes the place of a deleted one, behind what only the server has', () => {
    const ordered = (before: string[], patch: Json[], order: string[]): Json[] => names(spec({
      '$setElementOrder/containers': order.map(name => ({ name })), containers: patch
    }, { containers: before.map(name => ({ name })) })['containers'])
    expect(ordered(['d', 'a', 'c'], [{ name: 'c', $patch: 'delete' }, { name: 'e' }], ['d', 'e'])).toEqual(['d', 'a', 'e'])
    expect(ordered(['c', 'd', 'a'], [{ name: 'c', $patch: 'delete' }, { name: 'e' }, { name: 'f' }], ['d', 'e', 'f']))
      .toEqual(['d', 'a', 'e', 'f'])
    expect(ordered(['d', 'a'], [{ name: 'e' }], ['d', 'e'])).toEqual(['d', 'e', 'a'])
  })

  test('kubectl apply that takes an element away and adds one', () => {
    expect(spec({
      '$setElementOrder/containers': [{ name: 'main' }, { name: 'new' }],
      containers: [{ name: 'new', image: 'new:1' }, { name: 'side', $patch: 'delete' }]
    })['containers']!.map(container => (container as JsonObject)['image'])).toEqual(['img:1', 'new:1'])
  })

  test('a member that is null goes', () => {
    expect(main({ args: null }, { args: ['z'], image: 'i' })).toEqual({ name: 'main', image: 'i' })
    expect(applyStrategicMergePatch({ data: { a: '1', byme: '1' } }, { data: { a: null, z: '1', not: null } }, mergeSchemas.ConfigMap))
      .toEqual({ data: { byme: '1', z: '1' } })
  })

  test('deleting and adding at once', () => {
    expect(main({ env: [{ name: 'A', $patch: 'delete' }, { name: 'D', value: '4' }] },
      { env: [{ name: 'A', value: '1' }, { name: 'B', value: '22' }, { name: 'C', value: '3' }] })).toMatchObject({
      env: [{ name: 'D', value: '4' }, { name: 'B', value: '22' }, { name: 'C', value: '3' }]
    })
  })

  test('$patch: replace takes a list or an object as it is sent', () => {
    expect(spec({ containers: [{ $patch: 'replace' }, { name: 'only', image: 'only:1' }] })['containers']).toEqual([{ name: 'only', image: 'only:1' }])
    expect(patchPodTemplate(podTemplate(), { template: { metadata: { labels: { $patch: 'replace', other: '1' } } } }).template.metadata)
      .toEqual({ labels: { other: '1' } })
    expect(applyStrategicMergePatch({ data: { a: '1' } }, { data: { $patch: 'replace', y: '1' } }, mergeSchemas.ConfigMap)).toEqual({ data: { y: '1' } })
    expect(applyStrategicMergePatch({}, { data: { $patch: 'replace', y: '1' } }, mergeSchemas.ConfigMap)).toEqual({ data: { y: '1' } })
    expect(applyStrategicMergePatch({ a: 1 }, { $patch: 'replace', b: 2 }, mergeSchemas.ConfigMap)).toEqual({ b: 2 })
  })

  test('$patch: delete empties an object, and adds none', () => {
    expect(patchPodTemplate(podTemplate(), { template: { metadata: { $patch: 'delete' } } }).template.metadata).toEqual({})
    expect(applyStrategicMergePatch({ a: 1 }, { data: { $patch: 'delete' } }, mergeSchemas.ConfigMap)).toEqual({ a: 1 })
  })

  test('$patch: merge says what happens anyway', () => {
    expect(applyStrategicMergePatch({ data: { a: '1' } }, { data: { $patch: 'merge', b: '2' } }, mergeSchemas.ConfigMap))
      .toEqual({ data: { a: '1', b: '2' } })
    expect(names(spec({ containers: [{ $patch: 'merge' }, { name: 'n' }] })['containers'])).toEqual(['n', 'main', 'side'])
  })

  test('$retainKeys clears what is not named', () => {
    expect(spec({ volumes: [{ name: 'v', $retainKeys: ['name', 'configMap'], configMap: { name: 'cfg' } }] })['volumes'])
      .toEqual([{ name: 'v', configMap: { name: 'cfg' } }])
    expect(spec({ volumes: [{ name: 'v', configMap: { name: 'cfg' } }] })['volumes']).toEqual([{ name: 'v', emptyDir: {}, configMap: { name: 'cfg' } }])
    expect(spec({ volumes: [{ name: 'w', $retainKeys: ['name', 'configMap'], configMap: { name: 'cfg' }, emptyDir: null }] })['volumes'])
      .toEqual([{ name: 'w', configMap: { name: 'cfg' } }, { name: 'v', emptyDir: {} }])
    for (const bad of [{ name: 'v', $retainKeys: ['name'], configMap: {} }, { name: 'v', $retainKeys: 'name' }]) {
      expect(refusal(() => spec({ volumes: [bad] }))).toMatchObject({ code: 400, reason: 'BadRequest', message: 'invalid patch format of retainKeys' })
    }
  })

  test('a list of primitives merges as a set, and loses what is deleted from it', () => {
    const finalizers = (before: Json, patch: JsonObject): Json | undefined => (applyStrategicMergePatch(
      { metadata: before === null ? {} : { finalizers: before } }, { metadata: patch }, mergeSchemas.ConfigMap)['metadata'] as JsonObject)['finalizers']
    expect(finalizers(null, { finalizers: ['x/a', 'x/b'] })).toEqual(['x/a', 'x/b'])
    expect(finalizers(['x/a', 'x/b'], { finalizers: ['x/c'] })).toEqual(['x/c', 'x/a', 'x/b'])
    expect(finalizers(['x/a', 'x/b'], { finalizers: ['x/b'] })).toEqual(['x/a', 'x/b'])
    expect(finalizers(['x/c', 'x/a', 'x/b'], { '$deleteFromPrimitiveList/finalizers': ['x/a'] })).toEqual(['x/c', 'x/b'])
    expect(finalizers(null, { '$deleteFromPrimitiveList/finalizers': ['x/a'] })).toBeUndefined()
    expect(finalizers(['x/a', 'x/b'], {
      '$setElementOrder/finalizers': ['x/c', 'x/b'], '$deleteFromPrimitiveList/finalizers': ['x/a'], finalizers: ['x/c']
    })).toEqual(['x/c', 'x/b'])
  })

  test('conditions of two writers are kept apart by their type', () => {
    expect(applyStrategicMergePatch(
      { status: { conditions: [{ type: 'Ready', status: 'True', reason: 'r' }, { type: 'DiskPressure', status: 'False' }] } },
      { status: { conditions: [{ type: 'Ready', status: 'Unknown' }] } }, mergeSchemas.Node))
      .toMatchObject({ status: { conditions: [{ type: 'Ready', status: 'Unknown', reason: 'r' }, { type: 'DiskPressure', status: 'False' }] } })
  })

  test('owner references merge by uid', () => {
    const owner = (uid: string, name: string): JsonObject => ({ apiVersion: 'v1', kind: 'ConfigMap', name, uid })
    expect(applyStrategicMergePatch({ metadata: { ownerReferences: [owner('1', 'a')] } },
      { metadata: { ownerReferences: [owner('2', 'b'), { uid: '1', controller: true }] } }, mergeSchemas.Secret))
      .toEqual({ metadata: { ownerReferences: [owner('2', 'b'), { ...owner('1', 'a'), controller: true }] } })
  })

  test('what a patch adds carries no directives', () => {
    expect(applyStrategicMergePatch({}, {
      spec: {
        '$setElementOrder/containers': [{ name: 'b' }, { name: 'a' }],
        containers: [{ name: 'a', env: [{ name: 'X', $patch: 'delete' }], x: null }, { name: 'b', resources: { $retainKeys: ['limits'], limits: {} } }]
          .toReversed(),
        dnsConfig: { '$setElementOrder/x': [], '$deleteFromPrimitiveList/x': [], $retainKeys: [], nameservers: ['1'] }
      }
    }, mergeSchemas.Pod)).toEqual({
      spec: { containers: [{ name: 'b', resources: { limits: {} } }, { name: 'a', env: [] }], dnsConfig: { nameservers: ['1'] } }
    })
    expect(spec({ containers: [{ name: 'c', $retainKeys: ['name', 'env'], '$setElementOrder/env': [], env: [{ name: 'A', $patch: 'delete' }] }] })['containers']![0])
      .toEqual({ name: 'c', env: [] })
  })

  test('elements with equal keys stay, and the first of them merges', () => {
    const ports = [{ containerPort: 53, protocol: 'TCP' }, { containerPort: 53, protocol: 'UDP' }]
    expect(main({ ports: [{ containerPort: 53, name: 'dns' }] }, { ports })).toEqual({
      name: 'main', ports: [{ containerPort: 53, protocol: 'TCP', name: 'dns' }, { containerPort: 53, protocol: 'UDP' }]
    })
  })

  test('an element of the server without its key stays where it is', () => {
    expect(spec({ imagePullSecrets: [{ name: 'b' }] }, { imagePullSecrets: [{}, { name: 'a' }] })['imagePullSecrets']).toEqual([{ name: 'b' }, {}, { name: 'a' }])
  })

  test('a value of another type is replaced', () => {
    expect(applyStrategicMergePatch({ data: 'x', list: [1] }, { data: { a: '1' }, list: { b: null } }, mergeSchemas.ConfigMap))
      .toEqual({ data: { a: '1' }, list: {} })
    expect(spec({ containers: [{ name: 'a' }] }, { containers: {} })['containers']).toEqual([{ name: 'a' }])
    expect(applyStrategicMergePatch({ a: 1 }, null, mergeSchemas.ConfigMap)).toEqual({ a: 1 })
  })

  test('changes neither argument, and shares nothing with them', () => {
    const patch = { template: { spec: { containers: [{ name: 'new', env: [{ name: 'A' }] }, { name: 'side', $patch: 'delete' }] } } }
    const [current, before] = [podTemplate(), JSON.stringify(patch)]
    const { containers } = patchPodTemplate(current, patch).template.spec
    const added = containers![0] as { env: Json[] }
    added.env.push(1)
    const kept = containers![1] as { env: Json[] }
    kept.env.push(1)
    expect([JSON.stringify(patch), current]).toEqual([before, podTemplate()])
  })
})

describe('refusals of a strategic merge patch', () => {
  test('in the words of the real server', () => {
    const container = (element: Json) => () => spec({ containers: [element] }, { containers: [{ name: 'only', image: 'only:1' }] })
    const cases: [() => unknown, number, string, string][] = [
      [container({ image: 'x' }), 500, '', 'map: map[image:x] does not contain declared merge key: name'],
      [container({ name: 'only', $patch: 'frob' }), 500, '', 'unknown patch type: frob in map: map[$patch:frob name:only]'],
      [container({ $patch: 'delete' }), 500, '', 'map: map[$patch:delete] does not contain declared merge key: name'],
      [container('x'), 500, '', 'list element types are not identical: [[map[image:only:1 name:only]] [x]]'],
      [container([]), 422, 'Invalid', 'the server rejected our request due to an error in our request'],
      [container({ name: { a: 1 } }), 400, 'BadRequest', 'the merge key name of map[name:map[a:1]] is not a primitive value'],
      [() => spec({ $patch: 'frob' }), 500, '', 'unknown patch type: frob in map: map[$patch:frob]'],
      [() => spec({ '$setElementOrder/containers': 'x' }), 400, 'BadRequest', 'invalid patch format of setElementOrder list'],
      [() => spec({ $setElementOrder: [] }), 400, 'BadRequest', 'invalid patch format of setElementOrder list'],
      [() => spec({ '$setElementOrder/containers': [{}] }), 500, '', 'map: map[] does not contain declared merge key: name'],
      [() => spec({ '$setElementOrder/containers': ['a'] }), 500, '', 'expected a map[string]interface {}, but received a string'],
      [() => spec({ '$setElementOrder/containers': [{ name: 'main' }] }, { containers: 'x' }), 500, '', 'expected a []interface {}, but received a string'],
      [
        () => spec({ '$setElementOrder/containers': [{ name: 'a' }, { name: 'b' }], containers: [{ name: 'b' }, { name: 'a' }] }), 500, '',
        'The order in patch list:\n[map[name:b] map[name:a]]\n doesn\'t match $setElementOrder list:\n[map[name:a] map[name:b]]\n'
      ],
      [() => spec({ '$deleteFromPrimitiveList/x': [{}] }), 400, 'BadRequest', 'invalid patch format of primitive list'],
      [() => spec({ '$deleteFromPrimitiveList/x': null }), 400, 'BadRequest', 'invalid patch format of primitive list'],
      [() => patchPodTemplate(podTemplate(), []), 400, 'BadRequest', 'json: cannot unmarshal array into Go value of type map[string]interface {}'],
      [
        () => patchPodTemplate(podTemplate(), JSON.parse(`${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}`) as Json), 400, 'BadRequest',
        'error decoding patch: exceeded max depth'
      ]
    ]
    for (const [run, code, reason, message] of cases) expect(refusal(run)).toMatchObject({ code, reason, message })
  })

  test('sets hold primitives of one type', () => {
    const finalizers = (patch: Json) => () =>
      applyStrategicMergePatch({ metadata: { finalizers: ['a/b'] } }, { metadata: { finalizers: patch } }, mergeSchemas.ConfigMap)
    expect(refusal(finalizers([1])).code).toBe(500)
    expect(refusal(finalizers([null])).code).toBe(500)
    expect(refusal(finalizers([{}])).code).toBe(500)
  })

  test('names that mean something to JavaScript are plain names', () => {
    const hostile = JSON.parse('{"__proto__":{"polluted":1},"metadata":{"__proto__":{"x":1},"constructor":{"prototype":{"y":1}}},'
      + '"spec":{"containers":[{"name":"__proto__","__proto__":{"z":1}}]}}') as Json
    const result = applyStrategicMergePatch({ metadata: {}, spec: { containers: [{ name: 'a' }] } }, hostile, mergeSchemas.Pod)
    expect(JSON.parse(JSON.stringify(result))).toEqual(JSON.parse('{"metadata":{"__proto__":{"x":1},"constructor":{"prototype":{"y":1}}},'
      + '"spec":{"containers":[{"name":"__proto__","__proto__":{"z":1}},{"name":"a"}]},"__proto__":{"polluted":1}}'))
    expect(Object.getPrototypeOf(result)).toBe(Object.prototype)
    for (const name of ['polluted', 'x', 'y', 'z']) expect(({} as Record<string, unknown>)[name]).toBeUndefined()
  })
})
