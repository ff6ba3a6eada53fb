import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { deviceRow, propertiesWith, twinView } from './device-objects.ts'

const hashOf = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 16)
const version = '1800000000000.0.cloud/0000000c'

function device(properties: readonly object[], { annotation = {}, conditions = [] }: {
  readonly annotation?: object | string, readonly conditions?: readonly object[]
} = {}): Record<string, unknown> {
  return {
    metadata: {
      namespace: 'default', name: 'plug', creationTimestamp: '2027-01-01T00:00:00Z',
      annotations: { 'holdfast.dev/desired': typeof annotation === 'string' ? annotation : JSON.stringify(annotation) }
    },
    spec: { nodeName: 'edge-1', deviceModelRef: { name: 'plugs' }, properties }, status: { conditions }
  }
}

const level = { name: 'level', desired: { value: '7' } }
const stamped = { level: { version, hash: hashOf('7') } }
const statusOf = (...twins: readonly object[]): Record<string, unknown> => ({
  metadata: { annotations: { 'holdfast.dev/node': 'edge-1' } }, status: { state: 'online', lastOnlineTime: '2027-01-15T08:00:00Z', twins }
})
const observed = { value: '7', metadata: { version } }
const condition = (type: string, status: string, reason: string, message = ''): object => ({ type, status, reason, message })

describe('a twin in the cloud', () => {
  it('has values, versions, who wrote them and when', () => {
    const view = twinView(device([level], { annotation: stamped }), statusOf(
      { propertyName: 'level', observedDesired: observed, reported: { value: '3', metadata: { timestamp: '1800000001000' } } },
      { propertyName: 'energy', reported: { value: '1.5', metadata: {} } }))
    expect(view).toMatchObject({ device: 'default/plug', node: 'edge-1', model: 'plugs', state: 'online', lastOnlineTime: '2027-01-15T08:00:00Z' })
    expect(view.properties).toEqual({
      energy: { reported: { value: '1.5', version: null, timestamp: null, writer: 'edge-1' }, sync: '' },
      level: {
        desired: { value: '7', version, timestamp: '2027-01-15T08:00:00.000Z', writer: 'cloud' },
        reported: { value: '3', version: null, timestamp: '2027-01-15T08:00:01.000Z', writer: 'edge-1' },
        sync: 'no: the device has not reported the desired value'
      }
    })
  })

  it.each<[string, object, object | undefined, readonly object[], string]>([
    ['is not stamped', {}, undefined, [], 'no: cloudcore has not taken it over yet'],
    ['was written by somebody since', { level: { version, hash: hashOf('6') } }, undefined, [], 'no: cloudcore has not taken it over yet'],
    ['is not allowed', {}, undefined, [condition('Synced', 'False', 'InvalidDesired', 'Property "level": too much.')], 'no: Property "level": too much.'],
    ['has not reached the node', stamped, undefined, [condition('Synced', 'False', 'NodeUnreachable')], 'no: the node does not have it yet (NodeUnreachable)'],
    ['has reached the node', stamped, { observedDesired: observed }, [], 'no: the device has not reported the desired value'],
    ['is reported', stamped, { observedDesired: observed, reported: { value: '7' } }, [], 'yes'],
    ['is reported in another way of writing', stamped, { observedDesired: observed, reported: { value: '7.0' } },
      [condition('InDesiredState', 'True', 'DesiredReported')], 'yes'],
    ['is reported, but not allowed any more', stamped, { observedDesired: observed, reported: { value: '7' } },
      [condition('InDesiredState', 'False', 'InvalidDesired', 'Property "level": too much.')], 'no: Property "level": too much.'],
    ['is reported, where another one is not allowed', stamped, { observedDesired: observed, reported: { value: '7' } },
      [condition('InDesiredState', 'False', 'InvalidDesired', 'Property "mode": too much.')], 'yes']
  ])('says of a desired value that it %s', (_, annotation, twin, conditions, sync) => {
    const status = twin === undefined ? undefined : statusOf({ propertyName: 'level', ...twin })
    expect(twinView(device([level], { annotation, conditions }), status).properties['level']!.sync).toBe(sync)
  })

  it('is of the first place that lists the property, as for cloudcore', () => {
    expect(twinView(device([{ name: 'level' }, level]), undefined).properties).toEqual({})
  })

  it.each<unknown>([
    {}, { metadata: null, spec: [], status: 'x' }, { spec: { properties: [null, 1, { name: 2 }, { name: 'a', desired: 'x' }] }, status: { conditions: {} } },
    device([], { annotation: '{"level":' }), device([], { annotation: '[1]' })
  ])('is read from whatever somebody made of it: %j', object => {
    const status = { status: { twins: [null, { propertyName: 'a', reported: 1 }], state: 7 } }
    expect(twinView(object as Record<string, unknown>, status)).toMatchObject({ properties: {}, state: null })
  })
})

it('a row says why not', () => {
  const conditions = [
    condition('Synced', 'False', 'NodeUnreachable'), condition('Reachable', 'Unknown', 'NodeUnreachable'), condition('InDesiredState', 'Unknown', 'X')
  ]
  expect(deviceRow(device([], { conditions }), statusOf())).toEqual({
    device: 'default/plug', node: 'edge-1', model: 'plugs', state: 'online', lastOnlineTime: '2027-01-15T08:00:00Z',
    isNodeAway: true, synced: 'no, NodeUnreachable', inDesiredState: 'not known, X', created: '2027-01-01T00:00:00Z'
  })
  expect(deviceRow(device([]), undefined)).toMatchObject({ state: null, isNodeAway: false, synced: null, inDesiredState: null })
})

describe('properties with desired values', () => {
  const before = device([
    { name: 'level', desired: { value: '1', metadata: { timestamp: '5', type: 'int', by: 'me' } }, visitors: { protocolName: 'mqtt' } }, { name: 'mode' }
  ])

  it('keep what else is said of them', () => {
    expect(propertiesWith(before, new Map([['level', { value: '7', type: undefined }], ['new', { value: 'true', type: 'boolean' }]]))).toEqual([
      { name: 'level', desired: { value: '7', metadata: { by: 'me' } }, visitors: { protocolName: 'mqtt' } }, { name: 'mode' },
      { name: 'new', desired: { value: 'true', metadata: { type: 'boolean' } } }
    ])
  })

  it('lose the desired value alone where it is taken away', () => {
    expect(propertiesWith(before, new Map([['level', undefined], ['absent', undefined]])))
      .toEqual([{ name: 'level', visitors: { protocolName: 'mqtt' } }, { name: 'mode' }])
  })
})
