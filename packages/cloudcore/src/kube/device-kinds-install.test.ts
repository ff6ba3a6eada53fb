import { describe, expect, test } from 'vitest'
import type { KubeObject } from '@holdfast/kube-api'
import { installDeviceKinds } from './device-kinds-install.ts'
import { deviceDefinitions, deviceKindsAnnotation, deviceKindsVersion } from './device-kinds.ts'
import type { KubeKind, ObjectPlace } from './kube-client.ts'
import { KubeError } from './kube-error.ts'

const names = deviceDefinitions.map(({ metadata }) => metadata.name!)

/** An API with definitions and nothing else. */
class Api {
  readonly objects = new Map<string, KubeObject>()
  /** Requests that write are answered with 409 so often. */
  conflicts = 0
  #version = 0

  get({ name }: ObjectPlace): Promise<KubeObject | undefined> { return Promise.resolve(this.objects.get(name)) }

  create(_kind: KubeKind, object: KubeObject): Promise<KubeObject> { return this.#write(object, undefined) }

  replace({ name }: ObjectPlace, object: KubeObject): Promise<KubeObject> { return this.#write(object, this.objects.get(name)) }

  #write(object: KubeObject, current: KubeObject | undefined): Promise<KubeObject> {
    if (this.conflicts-- > 0 || current?.metadata.resourceVersion !== object.metadata.resourceVersion) {
      return Promise.reject(new KubeError('KUBE_CONFLICT', 409, 'Conflict', 'somebody else was faster'))
    }
    const stored = { ...object, metadata: { ...object.metadata, uid: 'u', resourceVersion: String(++this.#version) } }
    this.objects.set(object.metadata.name!, stored)
    return Promise.resolve(stored)
  }
}

describe('the definitions of device kinds', () => {
  test('are created, models first, and left alone from then on', async () => {
    const api = new Api()
    expect(await installDeviceKinds(api)).toEqual(names)
    expect(names[0]).toBe('devicemodels.devices.kubeedge.io')
    expect(await installDeviceKinds(api)).toEqual([])
  })

  test('take the place of older ones and of KubeEdge\'s, and keep what others put into their metadata', async () => {
    const api = new Api()
    const older = (name: string, annotations: Record<string, string>): void => {
      api.objects.set(name, { ...deviceDefinitions[0]!, metadata: { name, uid: 'u', resourceVersion: '7', annotations, labels: { team: 'a' } }, spec: {} })
    }
    older(names[0]!, { 'controller-gen.kubebuilder.io/version': 'v0.17.3' })
    older(names[1]!, { [deviceKindsAnnotation]: String(deviceKindsVersion - 1) })
    older(names[2]!, { [deviceKindsAnnotation]: 'x' })
    expect(await installDeviceKinds(api)).toEqual(names)
    expect(api.objects.get(names[0]!)).toMatchObject({
      metadata: {
        uid: 'u', labels: { team: 'a' },
        annotations: { 'controller-gen.kubebuilder.io/version': 'v0.17.3', [deviceKindsAnnotation]: String(deviceKindsVersion) }
      },
      spec: deviceDefinitions[0]!['spec']
    })
    expect(await installDeviceKinds(api)).toEqual([])
  })

  test('of a newer version stay', async () => {
    const api = new Api()
    const newer = { ...deviceDefinitions[1]!, spec: {}, metadata: { name: names[1]!, annotations: { [deviceKindsAnnotation]: String(deviceKindsVersion + 1) } } }
    api.objects.set(names[1]!, newer)
    expect(await installDeviceKinds(api)).toEqual([names[0], names[2]])
    expect(api.objects.get(names[1]!)).toBe(newer)
  })

  test('are written again where somebody was faster, a few times', async () => {
    const api = new Api()
    api.conflicts = 2
    expect(await installDeviceKinds(api)).toEqual(names)
    const stubborn = new Api()
    stubborn.conflicts = 100
    await expect(installDeviceKinds(stubborn)).rejects.toMatchObject({ status: 409 })
  })
})
