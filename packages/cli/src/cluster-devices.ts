import { HoldfastError, wait, type Clock } from '@holdfast/runtime'
import {
  deviceId, deviceRow, modelOf, modelProperties, propertiesWith, twinView, type DesiredValue, type ModelProperty
} from './device-objects.ts'
import { isTextType, typedValue, type DesiredText, type DevicePlace } from './device-place.ts'
import { recordOf, type KubeClient, type KubeList, type KubeObject } from './kube-client.ts'
import type { DeviceRow, TwinEntry, TwinView } from './twin-view.ts'

const api = '/apis/devices.kubeedge.io/v1beta1'
/** Of a write whose Device somebody else changed meanwhile. */
const attemptsMax = 5
const retryDelayMs = 100
const rewatchDelayMs = 1000
/** How long cloudcore may take to give desired values their versions. */
const stampWithinMs = 3000
const stampPollMs = 100

const pathOf = (resource: string, device: string): string => {
  const [namespace = '', name = ''] = device.split('/').map(encodeURIComponent)
  return `${api}/namespaces/${namespace}/${resource}/${name}`
}

/**
 * The devices of a cluster, asked of the Kubernetes API. Rejects with `CLUSTER_…`, `DEVICE_NOT_FOUND`, and `set` with
 * `DESIRED_NOT_ALLOWED` or `DESIRED_CONFLICT`.
 */
export class ClusterDevices implements DevicePlace {
  readonly kind = 'cloud'
  readonly #client: KubeClient
  readonly #clock: Clock

  constructor(client: KubeClient, clock: Clock) {
    this.#client = client
    this.#clock = clock
  }

  async list(only: { readonly namespace?: string, readonly node?: string }, signal: AbortSignal): Promise<readonly DeviceRow[]> {
    const within = only.namespace === undefined ? api : `${api}/namespaces/${encodeURIComponent(only.namespace)}`
    const [devices, statuses] = await Promise.all([
      this.#client.list(`${within}/devices`, {}, signal), this.#client.list(`${within}/devicestatuses`, {}, signal)
    ])
    const statusOf = new Map(statuses.items.map(status => [deviceId(status), status]))
    return devices.items.map(device => deviceRow(device, statusOf.get(deviceId(device))))
      .filter(({ node }) => only.node === undefined || node === only.node)
  }

  async get(device: string, signal: AbortSignal): Promise<TwinView> {
    const [found, status] = await Promise.all([this.#device(device, signal), this.#status(device, signal)])
    return twinView(found, status)
  }

  async set(
    device: string, values: readonly DesiredText[], ifVersion: string | undefined, signal: AbortSignal
  ): Promise<TwinView> {
    for (let attempt = 1; ; attempt++) {
      const [found, status] = await Promise.all([this.#device(device, signal), this.#status(device, signal)])
      const before = twinView(found, status)
      if (ifVersion !== undefined) for (const { property } of values) checkVersion(before, property, ifVersion)
      const model = await this.#model(found, signal)
      const desired = new Map(values.map(value => [value.property, desiredValue(device, value, model)]))
      const properties = propertiesWith(found, desired)
      const { resourceVersion } = recordOf(found['metadata'])
      const patch = { metadata: { resourceVersion }, spec: { properties } }
      const written = await this.#client.patch(pathOf('devices', device), patch, signal)
      if (written !== undefined) return await this.#taken(device, written, values, signal)
      if (attempt === attemptsMax) {
        throw new HoldfastError('DESIRED_CONFLICT',
          `${device} was changed by others ${attemptsMax} times while it was to be written: try again`)
      }
      await wait(this.#clock, retryDelayMs * attempt, signal)
    }
  }

  /** When cloudcore has looked at it, or has not for a while. Rejects with `DESIRED_NOT_ALLOWED` for what it does not take. */
  async #taken(device: string, written: KubeObject, values: readonly DesiredText[], signal: AbortSignal): Promise<TwinView> {
    const deadlineMs = this.#clock.monotonicMs() + stampWithinMs
    const generation = Number(recordOf(written['metadata'])['generation'])
    for (;;) {
      const [found, status] = await Promise.all([this.#device(device, signal), this.#status(device, signal)])
      const view = twinView(found, status)
      const synced = view.conditions.find(({ type }) => type === 'Synced')
      const isSeen = synced !== undefined && synced.observedGeneration >= generation
      const refused = values.find(({ property }) => ownDesired(view, property)?.version === null)
      if (isSeen && refused !== undefined && synced.reason === 'InvalidDesired') {
        throw notAllowed(`${synced.message} It stays in the Device, and no device is told of it, until it is set to something else.`)
      }
      if (isSeen && refused === undefined || this.#clock.monotonicMs() >= deadlineMs) return view
      await wait(this.#clock, stampPollMs, signal)
    }
  }

  async *watch(device: string, signal: AbortSignal): AsyncGenerator<TwinView> {
    for (let isFirst = true; ; isFirst = false) {
      const [devices, statuses] = await Promise.all([
        this.#listOne('devices', device, signal), this.#listOne('devicestatuses', device, signal)
      ])
      let [found, status] = [devices.items[0], statuses.items[0]]
      if (found === undefined) {
        if (isFirst) throw notFound(device)
        return
      }
      yield twinView(found, status)
      const round = new AbortController()
      const until = AbortSignal.any([signal, round.signal])
      const news = new News()
      const follow = async (resource: string, from: string, take: (object: KubeObject | undefined) => void): Promise<void> => {
        for await (const { type, object } of this.#client.watch(...this.#oneOf(resource, device), from, until)) {
          // 410 and the like: what happened meanwhile is listed.
          if (type === 'ERROR') return
          if (type === 'BOOKMARK') continue
          take(type === 'DELETED' ? undefined : object)
          news.tell()
        }
      }
      const following = [
        follow('devices', devices.resourceVersion, object => { found = object }),
        follow('devicestatuses', statuses.resourceVersion, object => { status = object })
      ].map(each => each.then(() => news.end(), (error: unknown) => news.end(error)))
      try {
        while (await news.come()) {
          if (found === undefined) return
          yield twinView(found, status)
        }
      } finally {
        round.abort(new Error('the round is over'))
        await Promise.all(following)
      }
      await wait(this.#clock, rewatchDelayMs, signal)
    }
  }

  #oneOf(resource: string, device: string): [path: string, query: Readonly<Record<string, string>>] {
    const [namespace = '', name = ''] = device.split('/')
    return [`${api}/namespaces/${encodeURIComponent(namespace)}/${resource}`, { fieldSelector: `metadata.name=${name}` }]
  }

  async #listOne(resource: string, device: string, signal: AbortSignal): Promise<KubeList> {
    return await this.#client.list(...this.#oneOf(resource, device), signal)
  }

  async #device(device: string, signal: AbortSignal): Promise<KubeObject> {
    const found = await this.#client.get(pathOf('devices', device), signal)
    if (found === undefined) throw notFound(device)
    return found
  }

  async #status(device: string, signal: AbortSignal): Promise<KubeObject | undefined> {
    return await this.#client.get(pathOf('devicestatuses', device), signal)
  }

  /** Properties of the DeviceModel; undefined where the Device names none, or one that does not exist. */
  async #model(device: KubeObject, signal: AbortSignal): Promise<ReadonlyMap<string, ModelProperty> | undefined> {
    const name = modelOf(device)
    if (name === null) return undefined
    const [namespace = ''] = deviceId(device).split('/')
    const model = await this.#client.get(pathOf('devicemodels', `${namespace}/${name}`), signal)
    return model === undefined ? undefined : modelProperties(model)
  }
}

/** Whether something came since it was asked last, however much it was. */
class News {
  #came = false
  #ended = false
  #failure: unknown
  #wake = (): void => {}

  tell(): void {
    this.#came = true
    this.#wake()
  }

  /** The first end counts. */
  end(failure?: unknown): void {
    if (!this.#ended) this.#failure = failure
    this.#ended = true
    this.#wake()
  }

  /** True: something came. False: nothing more comes. Rejects with the failure that ended it. */
  async come(): Promise<boolean> {
    if (!this.#came && !this.#ended) await new Promise<void>(resolve => { this.#wake = resolve })
    if (this.#came) {
      this.#came = false
      return true
    }
    if (this.#failure !== undefined) throw this.#failure as Error
    return false
  }
}

const ownDesired = ({ properties }: TwinView, property: string): TwinEntry | undefined =>
  Object.hasOwn(properties, property) ? properties[property]!.desired : undefined

function checkVersion(view: TwinView, property: string, ifVersion: string): void {
  const desired = ownDesired(view, property)
  const actual = desired === undefined ? 'none' : desired.version ?? 'a value that cloudcore has not given a version yet'
  if (actual === ifVersion) return
  throw new HoldfastError('DESIRED_CONFLICT',
    `${view.device}: the desired ${property} is expected at version ${ifVersion}, and it is at ${actual}: read the twin again, and ` +
    'decide anew')
}

/** As Kubernetes is to have it; undefined takes it away. Throws `DESIRED_NOT_ALLOWED`. */
function desiredValue(
  device: string, { property, text }: DesiredText, model: ReadonlyMap<string, ModelProperty> | undefined
): DesiredValue | undefined {
  const rule = model?.get(property)
  if (text === undefined) return undefined
  if (model !== undefined && rule === undefined) {
    throw notAllowed(`the model of ${device} has no property "${property}": it has ${[...model.keys()].join(', ') || 'none'}`)
  }
  if (rule?.isReadOnly) {
    throw notAllowed(`property "${property}" of ${device} is ReadOnly in its model: nothing can be desired of it`)
  }
  const type = rule?.type ?? null
  if (text === '' && type !== null && !isTextType(type)) {
    // In Kubernetes it would mean that nothing is desired (TWN-13).
    throw notAllowed(`property "${property}" of ${device} is ${type}, and empty text is none: "${property}-" desires nothing of it`)
  }
  const value = typedValue(text, type)
  if (value === null) return undefined
  return {
    // A number keeps its digits.
    value: typeof value === 'string' ? value : typeof value === 'object' ? JSON.stringify(value) : text.trim(),
    type: type === null ? typeName(value) : undefined
  }
}

/** What to call the type of a value beside its text, so that the node reads it back (TWN-4). */
function typeName(value: unknown): string | undefined {
  switch (typeof value) {
    case 'number': return Number.isSafeInteger(value) ? 'int' : 'float'
    case 'boolean': return 'boolean'
    case 'object': return 'json'
    default: return undefined
  }
}

const notAllowed = (message: string): HoldfastError => new HoldfastError('DESIRED_NOT_ALLOWED', message)

const notFound = (device: string): HoldfastError =>
  new HoldfastError('DEVICE_NOT_FOUND', `there is no Device ${device}: \`holdfast get devices\` lists those that there are`)
