import { expect, test } from 'vitest'
import type { Json, KubeObject } from '../object.ts'
import { isReleased } from '../meta-rules.ts'
import { namespaces } from './namespace.ts'

const resource = namespaces()
const made = (document: Json): KubeObject => {
  const { object } = resource.decode(document, 'Strict')
  resource.prepareForCreate(object)
  return object
}
const changed = (current: KubeObject, document: Json, subresource?: 'status' | 'finalize'): KubeObject => {
  const { object } = resource.decode(document, 'Strict')
  resource.prepareForUpdate(object, current, subresource)
  return object
}

test('a new Namespace is active, held by the server and labelled with its name', () => {
  expect(made({ metadata: { name: 'rec-ns' }, status: { phase: 'Terminating' } })).toEqual({
    apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'rec-ns', labels: { 'kubernetes.io/metadata.name': 'rec-ns' } },
    spec: { finalizers: ['kubernetes'] }, status: { phase: 'Active' }
  })
})

test('its label stays, and what holds it changes through /finalize only', () => {
  const current = made({ metadata: { name: 'n' } })
  const label = { 'kubernetes.io/metadata.name': 'n' }
  const document = { metadata: { name: 'n', labels: { 'kubernetes.io/metadata.name': 'other' } }, spec: { finalizers: [] } }
  expect(changed(current, document)).toMatchObject({ metadata: { labels: label }, spec: { finalizers: ['kubernetes'] }, status: { phase: 'Active' } })
  expect(changed(current, document, 'finalize')).toMatchObject({ metadata: { labels: label }, spec: {}, status: { phase: 'Active' } })
  const status = { metadata: { name: 'n' }, status: { phase: 'Terminating' } }
  expect(changed(current, status)).toMatchObject({ status: { phase: 'Active' } })
  expect(changed(current, status, 'status')).toMatchObject({ spec: { finalizers: ['kubernetes'] }, status: { phase: 'Terminating' } })
})

test('it is released when neither its own finalizers nor those of its spec hold it', () => {
  const metadata = { name: 'n', deletionTimestamp: '2026-11-21T11:25:08Z' }
  expect(isReleased({ apiVersion: 'v1', kind: 'Namespace', metadata, spec: { finalizers: ['kubernetes'] } })).toBe(false)
  expect(isReleased({ apiVersion: 'v1', kind: 'Namespace', metadata: { ...metadata, finalizers: ['a.example/b'] }, spec: {} })).toBe(false)
  expect(isReleased({ apiVersion: 'v1', kind: 'Namespace', metadata: { ...metadata, deletionGracePeriodSeconds: 30 } })).toBe(false)
  expect(isReleased({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'n' }, spec: {} })).toBe(false)
  expect(isReleased({ apiVersion: 'v1', kind: 'Namespace', metadata, spec: {} })).toBe(true)
})

test('its name is a label, not a subdomain; its phase goes with its deletion', () => {
  expect(resource.validate(made({ metadata: { name: 'a.b' } }), undefined))
    .toEqual([{ reason: 'FieldValueInvalid', message: 'Invalid value: "a.b": must not contain dots', field: 'metadata.name' }])
  const current = { ...made({ metadata: { name: 'n' } }) }
  current.metadata = { ...current.metadata, resourceVersion: '1' }
  const next = changed(current, { metadata: { name: 'n' }, status: { phase: 'Terminating' } }, 'status')
  expect(resource.validate(next, current)).toEqual([{ reason: 'FieldValueInvalid', field: 'status.Phase',
    message: 'Invalid value: "Terminating": may only be \'Active\' if `deletionTimestamp` is empty' }])
})

test('columns, verbs and fields', () => {
  const object = made({ metadata: { name: 'n' } })
  object.metadata.creationTimestamp = '2026-11-21T11:00:00Z'
  expect(resource.columns.map(({ name }) => name)).toEqual(['Name', 'Status', 'Age'])
  expect(resource.cells(object, Date.parse('2026-11-21T11:05:00Z'))).toEqual(['n', 'Active', '5m'])
  expect(resource.verbs).not.toContain('deletecollection')
  expect(resource.selectableFields(object)).toEqual({ 'status.phase': 'Active', name: 'n' })
})
