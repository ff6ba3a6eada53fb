import { describe, expect, test } from 'vitest'
import { configMaps } from './kinds/config-map.ts'
import { created, updated } from './kinds/testing/objects.ts'
import {
  generatedName, isReleased, metadataCauses, metadataUpdateCauses, objectMetadataCauses, prepareMetadataForCreate,
  prepareMetadataForUpdate, raiseGeneration
} from './meta-rules.ts'
import type { KubeObject, ObjectMeta } from './object.ts'
import type { StatusCause } from './status-error.ts'
import { dns1123SubdomainErrors } from './validation/names.ts'

const rules = { namespaced: true, nameErrors: dns1123SubdomainErrors, finalizersQualified: true }
const faults = (causes: readonly StatusCause[]): string[] => causes.map(({ field, reason }) => `${field} ${reason}`)
const newFaults = (metadata: ObjectMeta): string[] => faults(metadataCauses({ name: 'k', namespace: 'n', ...metadata }, rules))

describe('a name that is generated', () => {
  test('begins with what was given, at most 58 characters of it, and ends with five that make no word', () => {
    let next = 0
    const count = (below: number): number => next++ % below
    expect(generatedName('gen-', count)).toBe('gen-bcdfg')
    const long = generatedName('x'.repeat(300), below => below - 1)
    expect(long).toBe(`${'x'.repeat(58)}99999`)
  })
})

describe('metadata of a new object', () => {
  test('loses what only the server says', () => {
    const metadata = {
      name: 'a', generation: 4, deletionTimestamp: '2001-01-01T00:00:00Z', deletionGracePeriodSeconds: 5, managedFields: [], selfLink: '/x',
      finalizers: ['demo.holdfast.dev/f']
    }
    prepareMetadataForCreate(metadata)
    expect(metadata).toEqual({ name: 'a', generation: 4, finalizers: ['demo.holdfast.dev/f'] })
  })

  test('has a name, and is in a namespace where its kind is', () => {
    expect(metadataCauses({}, rules)).toEqual([
      { reason: 'FieldValueRequired', message: 'Required value: name or generateName is required', field: 'metadata.name' },
      { reason: 'FieldValueRequired', message: 'Required value', field: 'metadata.namespace' }
    ])
    expect(faults(metadataCauses({ name: 'n', namespace: 'x' }, { ...rules, namespaced: false }))).toEqual(['metadata.namespace FieldValueForbidden'])
    expect(newFaults({ namespace: 'a.b' })).toEqual(['metadata.namespace FieldValueInvalid'])
    expect(newFaults({ name: 'Upper' })).toEqual(['metadata.name FieldValueInvalid'])
    expect(newFaults({ generateName: 'x'.repeat(254) })).toEqual(['metadata.generateName FieldValueInvalid'])
    expect(newFaults({ generateName: 'gen-' })).toEqual([])
  })

  test('labels, annotations and generation', () => {
    expect(newFaults({ labels: { a: 'not ok', 'b/c/d': 'x', ['e'.repeat(64)]: 'y' } })).toEqual(Array(3).fill('metadata.labels FieldValueInvalid'))
    expect(newFaults({ annotations: { 'a b': 'x' } })).toEqual(['metadata.annotations FieldValueInvalid'])
    expect(newFaults({ annotations: { a: 'x'.repeat(262_144) } })).toEqual(['metadata.annotations FieldValueTooLong'])
    expect(newFaults({ generation: -1 })).toEqual(['metadata.generation FieldValueInvalid'])
  })

  test('finalizers of built-in kinds have a domain', () => {
    expect(newFaults({ finalizers: ['plain'] })).toEqual(['metadata.finalizers[0] FieldValueInvalid'])
    expect(newFaults({ finalizers: ['not qualified'] })).toEqual(['metadata.finalizers FieldValueInvalid', 'metadata.finalizers[0] FieldValueInvalid'])
    expect(newFaults({ finalizers: ['kubernetes', 'demo.holdfast.dev/f', 'orphan'] })).toEqual([])
    expect(newFaults({ finalizers: ['orphan', 'foregroundDeletion'] })).toEqual(['metadata.finalizers FieldValueInvalid'])
    expect(metadataCauses({ name: 'k', namespace: 'n', finalizers: ['plain'] }, { ...rules, finalizersQualified: false })).toEqual([])
  })

  test('owners', () => {
    const owner = { apiVersion: 'v1', kind: 'ConfigMap', name: 'x', uid: '1' }
    const causes = (...ownerReferences: object[]): StatusCause[] =>
      metadataCauses({ name: 'k', namespace: 'n', ownerReferences } as ObjectMeta, rules)
    expect(causes(owner, { ...owner, uid: '2', controller: true })).toEqual([])
    expect(causes({ apiVersion: 'v1', kind: 'ConfigMap', name: 'x' })).toEqual([
      { reason: 'FieldValueInvalid', message: 'Invalid value: "": uid must not be empty', field: 'metadata.ownerReferences.uid' }])
    expect(faults(causes({ uid: '1' }))).toEqual(['apiVersion', 'kind', 'name'].map(name => `metadata.ownerReferences.${name} FieldValueInvalid`))
    expect(causes({ ...owner, apiVersion: 'a/b/c' })[0]).toMatchObject({ field: 'metadata.ownerReferences.apiVersion' })
    expect(causes({ ...owner, kind: 'Event' })[0]!.message).toMatch(/: \/v1, Kind=Event is disallowed from being an owner$/)
    expect(causes({ ...owner, controller: true }, { ...owner, uid: '2', controller: true })[0]!.message)
      .toMatch(/: Only one reference can have Controller set to true\. Found "true" in references for ConfigMap\/x and ConfigMap\/x$/)
  })
})

describe('metadata of a changed object', () => {
  const current: ObjectMeta = { name: 'a', namespace: 'n', uid: 'u', resourceVersion: '7', creationTimestamp: '2026-11-21T11:00:00Z', generation: 3 }

  test('keeps what no update changes', () => {
    const next: ObjectMeta = { name: 'a', namespace: 'n', creationTimestamp: '2001-01-01T00:00:00Z', generation: 77, managedFields: [] }
    prepareMetadataForUpdate(next, current)
    expect(next).toEqual(current)
  })

  test('keeps a deletion that has begun', () => {
    const deleting = { ...current, deletionTimestamp: '2026-11-21T11:01:00Z', deletionGracePeriodSeconds: 0 }
    const next: ObjectMeta = { name: 'a', namespace: 'n' }
    prepareMetadataForUpdate(next, deleting)
    expect(next).toEqual(deleting)
    expect(metadataUpdateCauses(next, deleting)).toEqual([])
  })

  test('does not begin one, and moves nowhere else', () => {
    const next: ObjectMeta = { ...current, uid: 'other', name: 'b', namespace: 'm', deletionTimestamp: '2001-01-01T00:00:00Z' }
    prepareMetadataForUpdate(next, current)
    expect(metadataUpdateCauses(next, current)).toEqual([
      { reason: 'FieldValueInvalid', message: 'Invalid value: "b": field is immutable', field: 'metadata.name' },
      { reason: 'FieldValueInvalid', message: 'Invalid value: "m": field is immutable', field: 'metadata.namespace' },
      { reason: 'FieldValueInvalid', message: 'Invalid value: "other": field is immutable', field: 'metadata.uid' },
      { reason: 'FieldValueInvalid', message: 'Invalid value: 2001-01-01 00:00:00 +0000 UTC: field is immutable', field: 'metadata.deletionTimestamp' }
    ])
  })

  test('gains no finalizer once it is being deleted', () => {
    const deleting: ObjectMeta = { ...current, deletionTimestamp: '2026-11-21T11:01:00Z', finalizers: ['demo.holdfast.dev/f'] }
    expect(metadataUpdateCauses({ ...deleting, finalizers: ['demo.holdfast.dev/f', 'demo.holdfast.dev/new'] }, deleting)).toEqual([{
      reason: 'FieldValueForbidden', field: 'metadata.finalizers',
      message: 'Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{"demo.holdfast.dev/new"}'
    }])
    const { finalizers: _finalizers, ...released } = deleting
    expect(metadataUpdateCauses(released, deleting)).toEqual([])
  })

  test('names the version that it replaces, and no lower generation', () => {
    expect(faults(metadataUpdateCauses({ ...current, resourceVersion: '', generation: 2 }, current)))
      .toEqual(['metadata.resourceVersion FieldValueInvalid', 'metadata.generation FieldValueInvalid'])
  })

  test('is checked twice, as on the real server', () => {
    const resource = configMaps()
    const object = created(resource, { metadata: { name: 'a' } })
    const next = updated(resource, object, { metadata: { uid: '00000000-0000-0000-0000-000000000000' } })
    expect(faults(resource.validate(next, object))).toEqual(['metadata.uid FieldValueInvalid', 'metadata.uid FieldValueInvalid'])
    const labelled = updated(resource, object, { metadata: { labels: { a: 'not ok' } } })
    expect(faults(objectMetadataCauses(labelled, object, rules))).toEqual(['metadata.labels FieldValueInvalid', 'metadata.labels FieldValueInvalid'])
  })
})

test('a generation counts changes', () => {
  const object = (generation?: number): KubeObject => ({ apiVersion: 'v1', kind: 'X', metadata: generation === undefined ? {} : { generation } })
  const raised = (from: number | undefined, changed: boolean): number | undefined => {
    const next = object(77)
    delete next.metadata.generation
    raiseGeneration(next, object(from), changed)
    return next.metadata.generation
  }
  expect([raised(3, true), raised(3, false), raised(undefined, true), raised(undefined, false)]).toEqual([4, 3, 1, undefined])
})

test('an object goes when it is deleted and nothing holds it', () => {
  const object = (metadata: ObjectMeta, spec?: object): KubeObject => ({ apiVersion: 'v1', kind: 'X', metadata, ...spec && { spec } })
  const deletionTimestamp = '2026-11-21T11:01:00Z'
  expect(isReleased(object({}))).toBe(false)
  expect(isReleased(object({ deletionTimestamp }))).toBe(true)
  expect(isReleased(object({ deletionTimestamp, finalizers: ['a.example/b'] }))).toBe(false)
  expect(isReleased(object({ deletionTimestamp, deletionGracePeriodSeconds: 30 }))).toBe(false)
  expect(isReleased({ ...object({ deletionTimestamp }, { finalizers: ['kubernetes'] }), kind: 'Namespace' })).toBe(false)
  expect(isReleased(object({ deletionTimestamp }, { finalizers: ['a custom resource\'s own'] }))).toBe(true)
})
