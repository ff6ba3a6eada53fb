import { expect, test } from 'vitest'
import type { KubeObject } from '@holdfast/kube-api'
import type { DownCollection } from './view-collections.ts'
import { projectedValue } from './view-projection.ts'

const shown = (collection: DownCollection, object: KubeObject): unknown =>
  JSON.parse(projectedValue(collection, object).toString())

const metadata = {
  name: 'web', namespace: 'default', uid: 'u-1', resourceVersion: '17', generation: 3, creationTimestamp: '2026-01-01T00:00:00Z',
  deletionTimestamp: '2026-01-02T00:00:00Z', deletionGracePeriodSeconds: 30, labels: { app: 'web' }, finalizers: ['example.com/f'],
  annotations: { 'kubectl.kubernetes.io/last-applied-configuration': '{}', 'holdfast.dev/state': 'e:1', kept: 'yes' },
  managedFields: [{ manager: 'kubectl' }], selfLink: '/api/v1/x'
}

test('a pod goes down without its status and the record of who wrote it; what identifies it stays (STA-43)', () => {
  expect(shown('pods', { apiVersion: 'v1', kind: 'Pod', metadata, spec: { nodeName: 'edge-1' }, status: { phase: 'Running' } })).toEqual({
    apiVersion: 'v1', kind: 'Pod', spec: { nodeName: 'edge-1' },
    metadata: {
      name: 'web', namespace: 'default', uid: 'u-1', generation: 3, creationTimestamp: '2026-01-01T00:00:00Z',
      deletionTimestamp: '2026-01-02T00:00:00Z', deletionGracePeriodSeconds: 30, labels: { app: 'web' }, finalizers: ['example.com/f'],
      annotations: { kept: 'yes' }
    }
  })
})

test('what a heartbeat, a status or a lost link changes of a Node makes no difference', () => {
  const node = (resourceVersion: string, status: string, taints: object[], annotations?: Record<string, string>): KubeObject => ({
    apiVersion: 'v1', kind: 'Node', metadata: { name: 'edge-1', uid: 'n', resourceVersion, ...annotations && { annotations } },
    spec: { unschedulable: true, taints }, status: { conditions: [{ type: 'Ready', status }] }
  })
  const own = { key: 'example.com/own', effect: 'NoSchedule' }
  const calm = projectedValue('nodes', node('1', 'True', [own]))
  const unreachable = { key: 'node.kubernetes.io/unreachable', effect: 'NoExecute', timeAdded: '2026-01-01T00:00:00Z' }
  const away = { key: 'holdfast.dev/unreachable', effect: 'NoSchedule' }
  expect(projectedValue('nodes', node('2', 'Unknown', [unreachable, own, away], { 'holdfast.dev/state': 'e:2' }))).toEqual(calm)
  expect(JSON.parse(calm.toString())).toMatchObject({ spec: { unschedulable: true, taints: [own] } })
  expect(projectedValue('nodes', node('2', 'True', [unreachable]))).toEqual(
    projectedValue('nodes', { ...node('2', 'True', []), spec: { unschedulable: true } }))
})

test('a Device goes down with the versions of what it desires, and without what cloudcore says of it (TWN-13)', () => {
  const annotations = { 'holdfast.dev/desired': '{"t":{}}', 'holdfast.dev/history': 'all', 'holdfast.dev/state': 'e:1' }
  const device = (more: object, generation = 3): KubeObject => ({
    apiVersion: 'devices.kubeedge.io/v1beta1', kind: 'Device', metadata: { ...metadata, generation, annotations },
    spec: { nodeName: 'edge-1', properties: [{ name: 't', desired: { value: '1' } }] }, ...more
  })
  const { generation: _, ...shownMetadata } = metadata
  expect(shown('devices', device({ status: { conditions: [] } }))).toEqual({
    apiVersion: 'devices.kubeedge.io/v1beta1', kind: 'Device', spec: { nodeName: 'edge-1', properties: [{ name: 't', desired: { value: '1' } }] },
    metadata: {
      ...shownMetadata, resourceVersion: undefined, managedFields: undefined, selfLink: undefined,
      annotations: { 'holdfast.dev/desired': '{"t":{}}', 'holdfast.dev/history': 'all' }
    }
  })
  expect(projectedValue('devices', device({ status: { conditions: [{ type: 'Synced' }] } }, 4))).toEqual(projectedValue('devices', device({})))
  const model = { metadata: { name: 'm', namespace: 'd', uid: 'u', generation: 2 }, spec: {} } as unknown as KubeObject
  expect(shown('devicemodels', model)).toEqual({ ...model, apiVersion: 'devices.kubeedge.io/v1beta1', kind: 'DeviceModel' })
})

test('objects of a list, which has the kind only once, get theirs; a Service keeps its status', () => {
  const bare = { metadata: { name: 's', namespace: 'd', uid: 'u' }, status: { loadBalancer: {} } } as unknown as KubeObject
  expect(shown('services', bare)).toEqual({ ...bare, apiVersion: 'v1', kind: 'Service' })
  const secret = { metadata: bare.metadata, data: { b: 'Yg==', a: 'YQ==' } } as unknown as KubeObject
  expect(projectedValue('secrets', secret)).toEqual(projectedValue('secrets', {
    kind: 'Secret', apiVersion: 'v1', data: { a: 'YQ==', b: 'Yg==' }, metadata: { uid: 'u', namespace: 'd', name: 's', resourceVersion: '9' }
  }))
})
