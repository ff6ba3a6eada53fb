import { expect, test } from 'vitest'
import type { KubeObject } from '@holdfast/kube-api'
import { boundNode, deviceReferences, podReferences, selectorOf, selects, serviceAccountReferences } from './view-references.ts'

const podOf = (spec: object, labels?: Record<string, string>): KubeObject =>
  ({ apiVersion: 'v1', kind: 'Pod', metadata: { name: 'p', namespace: 'ns', ...labels && { labels } }, spec })
const textOf = (pod: KubeObject): string[] => podReferences(pod).map(({ collection, key }) => `${collection} ${key}`).toSorted()

test('a pod names its account, and default where it says none', () => {
  expect(textOf(podOf({}))).toEqual(['serviceaccounts ns/default'])
  expect(textOf(podOf({ serviceAccountName: '' }))).toEqual(['serviceaccounts ns/default'])
  expect(textOf(podOf({ serviceAccount: 'old' }))).toEqual(['serviceaccounts ns/old'])
  expect(textOf(podOf({ serviceAccountName: 'robot', serviceAccount: 'robot' }))).toEqual(['serviceaccounts ns/robot'])
})

test('every place of a pod where a Secret or ConfigMap can be named counts, each name once', () => {
  const container = (tag: string): object => ({
    name: tag,
    env: [
      { name: 'PLAIN', value: 'x' }, { name: 'A', valueFrom: { secretKeyRef: { name: `env-${tag}`, key: 'k' } } },
      { name: 'B', valueFrom: { configMapKeyRef: { name: `env-${tag}`, key: 'k', optional: true } } },
      { name: 'C', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } }
    ],
    envFrom: [{ secretRef: { name: `from-${tag}` } }, { configMapRef: { name: `from-${tag}` } }, { secretRef: { name: 'twice' } }]
  })
  const secretRef = (name: string): object => ({ secretRef: { name } })
  const pod = podOf({
    serviceAccountName: 'a', imagePullSecrets: [{ name: 'pull' }, { name: 'twice' }, {}],
    containers: [container('main')], initContainers: [container('init')], ephemeralContainers: [container('debug')],
    volumes: [
      { name: 'v0', emptyDir: {} }, { name: 'v1', secret: { secretName: 'volume' } }, { name: 'v2', configMap: { name: 'volume' } },
      { name: 'v3', projected: { sources: [
        { secret: { name: 'projected' } }, { configMap: { name: 'projected' } }, { serviceAccountToken: { path: 't' } }, { downwardAPI: {} }
      ] } },
      { name: 'v4', csi: { driver: 'd', nodePublishSecretRef: { name: 'csi' } } }, { name: 'v5', azureFile: { secretName: 'azure' } },
      { name: 'v6', cephfs: secretRef('cephfs') }, { name: 'v7', flexVolume: secretRef('flex') }, { name: 'v8', iscsi: secretRef('iscsi') },
      { name: 'v9', rbd: secretRef('rbd') }, { name: 'v10', scaleIO: secretRef('scale') }, { name: 'v11', storageos: secretRef('storage') }
    ]
  })
  const tags = ['main', 'init', 'debug'].flatMap(tag => [`env-${tag}`, `from-${tag}`])
  expect(textOf(pod)).toEqual([
    'serviceaccounts ns/a', ...[...tags, 'volume', 'projected'].map(name => `configmaps ns/${name}`),
    ...[...tags, 'pull', 'twice', 'volume', 'projected', 'csi', 'azure', 'cephfs', 'flex', 'iscsi', 'rbd', 'scale', 'storage']
      .map(name => `secrets ns/${name}`)
  ].toSorted())
})

test('members that are no lists, and nulls, name nothing', () => {
  expect(textOf(podOf({ containers: null, volumes: 'x', imagePullSecrets: {}, initContainers: [null, 'x', { env: null, envFrom: 3 }, { env: [null, { valueFrom: null }, { valueFrom: { secretKeyRef: { name: 7 } } }] }] })))
    .toEqual(['serviceaccounts ns/default'])
})

test('an account names secrets of its own namespace only', () => {
  const account: KubeObject = {
    apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'a', namespace: 'ns' },
    secrets: [{ name: 's', namespace: 'kube-system' }], imagePullSecrets: [{ name: 'p' }, { name: 's' }]
  }
  expect(serviceAccountReferences(account).map(({ key }) => key)).toEqual(['ns/s', 'ns/p'])
})

test('a Device names its model in its own namespace; without a name it names none', () => {
  const device = (spec?: unknown): KubeObject =>
    ({ apiVersion: 'devices.kubeedge.io/v1beta1', kind: 'Device', metadata: { name: 'd', namespace: 'ns' }, spec })
  expect(deviceReferences(device({ deviceModelRef: { name: 'm' } }))).toEqual([{ collection: 'devicemodels', key: 'ns/m' }])
  for (const spec of [undefined, {}, { deviceModelRef: null }, { deviceModelRef: {} }, { deviceModelRef: { name: '' } },
    { deviceModelRef: { name: 7 } }, { deviceModelRef: 'm' }]) expect(deviceReferences(device(spec))).toEqual([])
})

test('a pod without a node is on none', () => {
  expect([podOf({}), podOf({ nodeName: '' }), podOf({ nodeName: 'n' })].map(boundNode)).toEqual([undefined, undefined, 'n'])
})

test('a Service selects by all pairs of its selector; without one, or of type ExternalName, it selects nothing', () => {
  const serviceOf = (spec: object): KubeObject => ({ apiVersion: 'v1', kind: 'Service', metadata: { name: 's', namespace: 'ns' }, spec })
  expect(selectorOf(serviceOf({}))).toBeUndefined()
  expect(selectorOf(serviceOf({ selector: {} }))).toBeUndefined()
  expect(selectorOf(serviceOf({ selector: { app: 'web' }, type: 'ExternalName' }))).toBeUndefined()
  const selector = selectorOf(serviceOf({ selector: { app: 'web', tier: 'front' } }))!
  expect(selects(selector, podOf({}, { app: 'web', tier: 'front', more: '1' }))).toBe(true)
  expect(selects(selector, podOf({}, { app: 'web' }))).toBe(false)
  expect(selects(selector, podOf({}, { app: 'web', tier: 'back' }))).toBe(false)
  expect(selects(selector, podOf({}))).toBe(false)
  expect(selects([['constructor', 'x']], podOf({}, {}))).toBe(false)
})
