import { describe, expect, test } from 'vitest'
import type { JsonObject } from '../object.ts'
import { events } from './event.ts'
import { leases } from './lease.ts'
import { serviceAccounts } from './service-account.ts'
import { created, createFaults, row, updateFaults } from './testing/objects.ts'

describe('an Event', () => {
  const resource = events()
  const event = { metadata: { name: 'e1' }, involvedObject: { kind: 'ConfigMap', namespace: 'n', name: 'b' }, reason: 'R', type: 'Normal', message: 'm ' }

  test('is written with all that Go writes of it', () => {
    expect(created(resource, event)).toMatchObject({ source: {}, firstTimestamp: null, lastTimestamp: null, eventTime: null, reportingComponent: '', reportingInstance: '' })
    expect(created(resource, { metadata: { name: 'e' } })).toMatchObject({ involvedObject: {} })
  })

  test('is about something of its namespace, or of the cluster when it is in the default one', () => {
    expect(createFaults(resource, event)).toEqual([])
    expect(createFaults(resource, { ...event, involvedObject: { kind: 'Node', name: 'x' } })).toEqual(['involvedObject.namespace FieldValueInvalid'])
    expect(createFaults(resource, { ...event, metadata: { name: 'e', namespace: 'default' }, involvedObject: { kind: 'Node', name: 'x' } })).toEqual([])
    expect(createFaults(resource, { ...event, metadata: { name: 'Node.17A_b' } })).toEqual([])
    expect(createFaults(resource, { ...event, metadata: { name: 'a/b' } })).toEqual(['metadata.name FieldValueInvalid'])
  })

  test('of a newer client names who reports what', () => {
    const eventTime = '2026-11-21T11:04:00.123456Z'
    expect(createFaults(resource, { ...event, eventTime })).toEqual([
      'reportingController FieldValueRequired', 'reportingController FieldValueInvalid', 'reportingController FieldValueInvalid',
      'reportingInstance FieldValueRequired', 'action FieldValueRequired'])
    const whole = { ...event, eventTime, reportingComponent: 'a.example/b', reportingInstance: 'b-1', action: 'Acted' }
    expect(createFaults(resource, whole)).toEqual([])
    expect(createFaults(resource, { ...whole, message: 'x'.repeat(1025), reason: 'x'.repeat(129) })).toEqual(['reason FieldValueInvalid', 'message FieldValueInvalid'])
  })

  test('rows', () => {
    const older = { ...event, firstTimestamp: '2026-11-21T11:00:00Z', lastTimestamp: '2026-11-21T11:04:30Z', count: 7, source: { component: 'kubelet', host: 'edge-1' } }
    expect(row(resource, created(resource, older))).toEqual({ 'Last Seen': '30s', 'Type': 'Normal', 'Reason': 'R', 'Object': 'configmap/b', 'Subobject': '',
      'Source': 'kubelet, edge-1', 'Message': 'm', 'First Seen': '5m', 'Count': 7, 'Name': 'e1' })
    const newer = { ...event, eventTime: '2026-11-21T11:04:00Z', reportingComponent: 'x', series: { count: 3, lastObservedTime: '2026-11-21T11:04:50Z' } }
    expect(row(resource, created(resource, newer))).toMatchObject({ 'Last Seen': '10s', 'First Seen': '60s', 'Count': 3, 'Source': 'x' })
    expect(row(resource, created(resource, event))).toMatchObject({ 'Last Seen': '<unknown>', 'First Seen': '<unknown>', 'Count': 1, 'Source': '' })
  })

  test('fields', () => {
    expect(resource.selectableFields(created(resource, event))).toMatchObject({
      'involvedObject.kind': 'ConfigMap', 'involvedObject.name': 'b', 'involvedObject.namespace': 'n', 'reason': 'R', 'type': 'Normal', 'source': '' })
  })
})

describe('a Lease', () => {
  const resource = leases()
  const lease = (spec: JsonObject): JsonObject => ({ metadata: { name: 'edge-1' }, spec })

  test('keeps microseconds, and an empty holder is a holder that gave it up', () => {
    const object = created(resource, lease({ holderIdentity: '', renewTime: '2026-11-21T11:04:00.123456+01:00', leaseDurationSeconds: 40 }))
    expect(object['spec']).toEqual({ holderIdentity: '', renewTime: '2026-11-21T10:04:00.123456Z', leaseDurationSeconds: 40 })
    expect(created(resource, { metadata: { name: 'x' } })['spec']).toEqual({})
  })

  test('lasts a time', () => {
    expect(createFaults(resource, lease({ leaseDurationSeconds: 0, leaseTransitions: -1 })))
      .toEqual(['spec.leaseDurationSeconds FieldValueInvalid', 'spec.leaseTransitions FieldValueInvalid'])
    const current = created(resource, lease({ leaseDurationSeconds: 1 }))
    expect(updateFaults(resource, current, { spec: { leaseDurationSeconds: 2 } })).toEqual([])
  })

  test('row, and how it is updated', () => {
    expect(row(resource, created(resource, lease({ holderIdentity: 'edge-1' })))).toEqual({ Name: 'edge-1', Holder: 'edge-1', Age: '5m' })
    expect(resource).toMatchObject({ group: 'coordination.k8s.io', allowsCreateOnUpdate: true, allowsUnconditionalUpdate: false })
  })
})

test('a ServiceAccount', () => {
  const resource = serviceAccounts()
  expect(row(resource, created(resource, { metadata: { name: 'default' }, secrets: [{ name: 'a' }] }))).toEqual({ Name: 'default', Secrets: 1, Age: '5m' })
  expect(created(resource, { metadata: { name: 'default' }, automountServiceAccountToken: false })).toMatchObject({ automountServiceAccountToken: false })
  expect(createFaults(resource, { metadata: { name: 'Default' } })).toEqual(['metadata.name FieldValueInvalid'])
})
