import type { JsonObject } from '@holdfast/kube-api'
import { parseNodeName } from '@holdfast/runtime'
import { describe, expect, test } from 'vitest'
import {
  isLateVersion, mergePatchOf, mergedNodeStatus, mergedPodStatus, placeOf, readReport, recordedVersion, stateAnnotation, statusPatch,
  versionText
} from './status-document.ts'
import { statusLimits } from './status-limits.ts'

const node = parseNodeName('edge-1')!

const pod = (changes: object = {}): Buffer => Buffer.from(JSON.stringify({
  apiVersion: 'v1', kind: 'Pod', metadata: { name: 'web', namespace: 'default', uid: 'u-1' }, status: { phase: 'Pending' }, ...changes
}))

describe('what a node reports', () => {
  test('is of a Pod, by its uid, or of the Node itself', () => {
    expect(readReport(node, 'pod-status', 'default/web', pod())).toMatchObject({
      place: { kind: { plural: 'pods' }, namespace: 'default', name: 'web' }, uid: 'u-1', status: { phase: 'Pending' }
    })
    const own = Buffer.from(JSON.stringify({ apiVersion: 'v1', kind: 'Node', metadata: { name: 'edge-1' }, status: {} }))
    expect(readReport(node, 'node-status', 'edge-1', own)).toMatchObject({ place: { kind: { plural: 'nodes' }, name: 'edge-1' } })
  })

  test.each([
    ['another Node', 'node-status', 'edge-2', Buffer.from(JSON.stringify({ apiVersion: 'v1', kind: 'Node', metadata: { name: 'edge-2' }, status: {} }))],
    ['a key without a namespace', 'pod-status', 'web', pod()],
    ['a key of three parts', 'pod-status', 'default/web/x', pod()],
    ['no JSON', 'pod-status', 'default/web', Buffer.from('{')],
    ['no object', 'pod-status', 'default/web', Buffer.from('null')],
    ['another kind', 'pod-status', 'default/web', pod({ kind: 'Node' })],
    ['another name inside', 'pod-status', 'default/web', pod({ metadata: { name: 'other', namespace: 'default', uid: 'u' } })],
    ['another namespace inside', 'pod-status', 'default/web', pod({ metadata: { name: 'web', namespace: 'kube-system', uid: 'u' } })],
    ['no uid', 'pod-status', 'default/web', pod({ metadata: { name: 'web', namespace: 'default' } })],
    ['no status', 'pod-status', 'default/web', pod({ status: [] })],
    ['conditions without a type', 'pod-status', 'default/web', pod({ status: { conditions: [{}] } })],
    ['too much', 'pod-status', 'default/web', pod({ status: { message: 'x'.repeat(statusLimits.statusBytes.value) } })],
    ['__proto__', 'pod-status', 'default/web', Buffer.from(pod().toString().replace('"phase":', '"a":{"__proto__":{"b":1}},"phase":'))],
    ['depth', 'pod-status', 'default/web', Buffer.from(pod().toString().replace('"Pending"', `${'['.repeat(100)}${']'.repeat(100)}`))]
  ] as const)('is refused with %s', (_what, collection, key, value) => {
    expect(typeof readReport(node, collection, key, value)).toBe('string')
  })

  test('may lie nowhere else', () => {
    expect(placeOf(node, 'node-status', 'edge-10')).toBeUndefined()
    for (const key of ['/web', 'default/', 'default/..', '../web', 'default/.', 'default/web?watch', 'default/Web']) {
      expect([key, placeOf(node, 'pod-status', key)]).toEqual([key, undefined])
    }
    expect(placeOf(node, 'pod-status', 'default/web-0.a')).toMatchObject({ namespace: 'default', name: 'web-0.a' })
  })
})

describe('a status', () => {
  test('of a Node takes what the node says of its machine and leaves what others say', () => {
    const current: JsonObject = {
      capacity: { cpu: '1', 'example.com/card': '2' }, images: [{ names: ['x'] }], volumesInUse: ['v'],
      conditions: [{ type: 'NetworkUnavailable', status: 'False' }, { type: 'Ready', status: 'Unknown' }, { type: 'DuplicateIdentity', status: 'True' }]
    }
    const reported: JsonObject = {
      capacity: { cpu: '4' }, nodeInfo: { architecture: 'arm64' }, images: [], config: {},
      conditions: [{ type: 'Ready', status: 'True' }, { type: 'DuplicateIdentity', status: 'False' }, { type: 'DiskPressure', status: 'False' }]
    }
    expect(mergedNodeStatus(current, reported)).toEqual({
      capacity: { cpu: '4' }, nodeInfo: { architecture: 'arm64' }, images: [{ names: ['x'] }], volumesInUse: ['v'],
      conditions: [
        { type: 'NetworkUnavailable', status: 'False' }, { type: 'Ready', status: 'True' }, { type: 'DuplicateIdentity', status: 'True' },
        { type: 'DiskPressure', status: 'False' }
      ]
    })
  })

  test('of a Node has no Ready that the node itself does not know', () => {
    const current: JsonObject = { conditions: [{ type: 'Ready', status: 'True' }] }
    expect(mergedNodeStatus(current, { conditions: [{ type: 'Ready', status: 'Unknown' }] })).toEqual(current)
  })

  test('of a Pod replaces what the node said before and leaves what others say', () => {
    const current: JsonObject = {
      phase: 'Running', podIP: '10.0.0.1', qosClass: 'Burstable', nominatedNodeName: 'n', conditions: [
        { type: 'PodScheduled', status: 'True', lastTransitionTime: 'then' }, { type: 'Ready', status: 'True' }, { type: 'Initialized', status: 'True' },
        { type: 'example.com/gate', status: 'True' }
      ]
    }
    const reported: JsonObject = {
      phase: 'Pending', qosClass: 'BestEffort', nominatedNodeName: 'mine',
      conditions: [{ type: 'PodScheduled', status: 'True', lastTransitionTime: 'now' }, { type: 'Ready', status: 'False' }]
    }
    expect(mergedPodStatus(current, reported)).toEqual({
      phase: 'Pending', qosClass: 'Burstable', nominatedNodeName: 'n', conditions: [
        { type: 'PodScheduled', status: 'True', lastTransitionTime: 'then' }, { type: 'Ready', status: 'False' },
        { type: 'example.com/gate', status: 'True' }
      ]
    })
  })
})

test('a patch says what is different, and the version with it', () => {
  const base = {
    apiVersion: 'v1', kind: 'Pod', metadata: { name: 'web', resourceVersion: '7' },
    status: { phase: 'Pending', reason: 'X', a: { b: 1, c: 2 }, list: [1] }
  }
  const status = { phase: 'Pending', a: { b: 1, c: 3, d: { e: null, f: 1 } }, list: [1, { z: null }] }
  expect(statusPatch(base, status, 'ab')).toEqual({
    metadata: { resourceVersion: '7', annotations: { [stateAnnotation]: 'ab' } },
    status: { reason: null, a: { c: 3, d: { f: 1 } }, list: [1, { z: null }] }
  })
  expect(statusPatch(base, { ...base.status, list: [1] }, undefined)).toEqual({
    metadata: { resourceVersion: '7', annotations: { [stateAnnotation]: null } }
  })
  expect(mergePatchOf({ a: null, b: 1 }, { b: 1 })).toEqual({})
})

describe('a version', () => {
  const version = (epoch: number, counter: number): string => {
    const bytes = Buffer.alloc(16)
    bytes.writeUInt32BE(epoch, 0)
    bytes.writeBigUInt64BE(BigInt(counter), 8)
    return versionText(bytes)!
  }

  test('is late within its epoch only', () => {
    expect(isLateVersion(version(1, 9), version(1, 10))).toBe(true)
    expect(isLateVersion(version(1, 10), version(1, 10))).toBe(true)
    expect(isLateVersion(version(1, 300), version(1, 29))).toBe(false)
    expect(isLateVersion(version(1, 9), version(2, 10))).toBe(false)
  })

  test('has 16 bytes, and is recorded as hexadecimal digits', () => {
    expect(versionText(Buffer.alloc(15))).toBeUndefined()
    const object = (text: string): Parameters<typeof recordedVersion>[0] =>
      ({ apiVersion: 'v1', kind: 'Pod', metadata: { annotations: { [stateAnnotation]: text } } })
    expect(recordedVersion(object(version(1, 2)))).toBe(version(1, 2))
    expect(recordedVersion(object('AB'))).toBeUndefined()
    expect(recordedVersion(undefined)).toBeUndefined()
  })
})
