import { readFile, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parse } from 'yaml'
import { until, type Daemon } from './daemons.ts'
import { KubeHttp } from './kube-http.ts'

const definitionsFolder = fileURLToPath(new URL('../../deploy/crds', import.meta.url))
const group = '/apis/devices.kubeedge.io/v1beta1'

export interface ValueText { readonly value: string, readonly metadata?: Readonly<Record<string, string>> }

export interface DeviceObject {
  readonly metadata: { readonly name: string, readonly uid: string, readonly resourceVersion: string, readonly annotations?: Readonly<Record<string, string>> }
  readonly spec: {
    readonly nodeName?: string
    readonly properties?: readonly { readonly name: string, readonly desired?: ValueText }[]
  }
  readonly status?: { readonly conditions?: readonly { readonly type: string, readonly status: string, readonly reason: string, readonly message: string }[] }
}

export interface DeviceStatusObject {
  readonly metadata: { readonly name: string, readonly resourceVersion: string, readonly annotations?: Readonly<Record<string, string>> }
  readonly status?: {
    readonly twins?: readonly { readonly propertyName: string, readonly reported?: ValueText, readonly observedDesired?: ValueText }[]
    readonly state?: string
    readonly lastOnlineTime?: string
  }
}

export interface PropertyPlan { readonly name: string, readonly type: string, readonly accessMode?: 'ReadWrite' | 'ReadOnly', readonly minimum?: string, readonly maximum?: string, readonly unit?: string }

/** Devices of namespace `default`, in the Kubernetes API, as an operator has them. */
export class DevicesApi implements Disposable {
  readonly api: KubeHttp

  constructor(api: KubeHttp) { this.api = api }

  /** The built-in API of this cloudcore. */
  static async of(cloud: Daemon): Promise<DevicesApi> { return new DevicesApi(await KubeHttp.open(join(cloud.dataDir, 'kubeconfig'))) }

  /** As `kubectl apply -f deploy/crds` does it on a cluster; resolves when the kinds are served. */
  async installDefinitions(): Promise<void> {
    for (const file of (await readdir(definitionsFolder)).filter(name => name.endsWith('.yaml'))) {
      await this.api.check('POST', '/apis/apiextensions.k8s.io/v1/customresourcedefinitions',
        parse(await readFile(join(definitionsFolder, file), 'utf8')) as object)
    }
    for (const plural of ['devices', 'devicemodels', 'devicestatuses']) {
      await until(`${plural} are served`, async () => (await this.api.send('GET', this.#path(plural))).status === 200)
    }
  }

  async createModel(name: string, properties: readonly PropertyPlan[]): Promise<void> {
    await this.api.check('POST', this.#path('devicemodels'), {
      apiVersion: 'devices.kubeedge.io/v1beta1', kind: 'DeviceModel', metadata: { name },
      spec: { properties: properties.map(property => ({ accessMode: 'ReadWrite', ...property })) }
    })
  }

  /** A Device of a model; `more` are further members of its spec. */
  async createDevice(name: string, node: string, model: string | undefined, more: object = {}, annotations: Readonly<Record<string, string>> = {}): Promise<void> {
    await this.api.check('POST', this.#path('devices'), {
      apiVersion: 'devices.kubeedge.io/v1beta1', kind: 'Device', metadata: { name, annotations },
      spec: { ...model !== undefined && { deviceModelRef: { name: model } }, nodeName: node, ...more }
    })
  }

  async device(name: string): Promise<DeviceObject> { return await this.api.check('GET', this.#path('devices', name)) }

  /** Undefined: there is none yet. */
  async status(name: string): Promise<DeviceStatusObject | undefined> {
    const { status, body } = await this.api.send<DeviceStatusObject>('GET', this.#path('devicestatuses', name))
    return status === 200 ? body : undefined
  }

  /** All of the namespace, by name. */
  async statuses(): Promise<Map<string, DeviceStatusObject>> {
    const { items } = await this.api.check<{ items: DeviceStatusObject[] }>('GET', this.#path('devicestatuses'))
    return new Map(items.map(item => [item.metadata.name, item]))
  }

  /** As `kubectl patch` does it: the list whole; tried again where somebody else wrote it meanwhile. */
  async desire(name: string, values: Readonly<Partial<Record<string, string>>>): Promise<void> {
    for (;;) {
      const { metadata: { resourceVersion }, spec: { properties = [] } } = await this.device(name)
      const changed = properties.map(property => property.name in values ? { ...property, desired: { value: values[property.name]! } } : property)
      const missing = Object.entries(values).filter(([property]) => !properties.some(known => known.name === property))
        .map(([property, value]) => ({ name: property, desired: { value } }))
      const { status, body } = await this.api.send('PATCH', this.#path('devices', name), {
        metadata: { resourceVersion }, spec: { properties: [...changed, ...missing] }
      })
      if (status === 200) return
      if (status !== 409) throw new Error(`PATCH device ${name}: ${status} ${JSON.stringify(body)}`)
    }
  }

  async delete(plural: 'devices' | 'devicemodels', name: string): Promise<void> { await this.api.check('DELETE', this.#path(plural, name)) }

  [Symbol.dispose](): void { this.api[Symbol.dispose]() }

  #path(plural: string, name?: string): string {
    return `${group}/namespaces/default/${plural}${name === undefined ? '' : `/${name}`}`
  }
}

/** Text of desired values in a Device, by property. */
export function desiredOf({ spec: { properties = [] } }: DeviceObject): Record<string, string> {
  return Object.fromEntries(properties.flatMap(({ name, desired }) => desired === undefined ? [] : [[name, desired.value]]))
}

/** Text of reported values in a DeviceStatus, by property. */
export function reportedOf(status: DeviceStatusObject | undefined): Record<string, string> {
  return Object.fromEntries((status?.status?.twins ?? []).flatMap(({ propertyName, reported }) =>
    reported === undefined ? [] : [[propertyName, reported.value]]))
}

/** Text of the desired values that the node has, as a DeviceStatus says; by property. */
export function observedOf(status: DeviceStatusObject | undefined): Record<string, string> {
  return Object.fromEntries((status?.status?.twins ?? []).flatMap(({ propertyName, observedDesired }) =>
    observedDesired === undefined ? [] : [[propertyName, observedDesired.value]]))
}

/** `True`, `False`, `Unknown`, or empty where it has no such condition. */
export function conditionOf({ status }: DeviceObject, type: string): string {
  return status?.conditions?.find(condition => condition.type === type)?.status ?? ''
}
