import { parseDeviceId } from '../twins/index.ts'
import type { DeviceId } from '../twins/index.ts'

/** What devices and applications send (docs/spec/device-topics.md, DTP-1). */
export type RequestTopic =
  | {
    readonly kind: 'twin-update' | 'twin-get' | 'state-update'
    /** Undefined: what the topic names cannot be a device. */
    readonly id: DeviceId | undefined
    /** The topic up to the device, as it came: answers go under it. */
    readonly device: string
  }
  | { readonly kind: 'membership-get', readonly node: string }

export type DeviceRequestTopic = Exclude<RequestTopic, { readonly kind: 'membership-get' }>

const deviceRequests = new Map<string, DeviceRequestTopic['kind']>([
  ['twin/update', 'twin-update'], ['twin/get', 'twin-get'], ['state/update', 'state-update']
])

/** What is listened to: ids of two segments, and of one. */
export const requestFilters: readonly string[] = [
  ...['+/+', '+'].flatMap(id => [...deviceRequests.keys()].map(request => `$hw/events/device/${id}/${request}`)),
  '$hw/events/node/+/membership/get'
]

/** By position, never by what a segment says: a namespace may be called `device`, a device `twin`. Undefined: no request. */
export function parseRequestTopic(topic: string): RequestTopic | undefined {
  const levels = topic.split('/')
  if (levels[0] !== '$hw' || levels[1] !== 'events') return undefined
  if (levels[2] === 'node') {
    return levels.length === 6 && levels[4] === 'membership' && levels[5] === 'get'
      ? { kind: 'membership-get', node: levels[3]! } : undefined
  }
  if (levels[2] !== 'device' || (levels.length !== 6 && levels.length !== 7)) return undefined
  const kind = deviceRequests.get(levels.slice(-2).join('/'))
  if (kind === undefined) return undefined
  return { kind, id: parseDeviceId(levels.slice(3, -2).join('/')), device: levels.slice(0, -2).join('/') }
}

/** The topics of a device up to its id: two segments, and for namespace `default` also one (older devices). */
export function deviceTopicsOf(id: DeviceId): readonly string[] {
  const topic = `$hw/events/device/${id}`
  return id.startsWith('default/') ? [topic, `$hw/events/device/${id.slice('default/'.length)}`] : [topic]
}

/**
 * Devices that a filter names: those it can only be about, or `all` where it has a wildcard in a device's place. Whether it
 * matches a certain topic of theirs is left open.
 */
export function devicesOfFilter(filter: string): readonly DeviceId[] | 'all' {
  const levels = filter.split('/')
  for (const [i, literal] of ['$hw', 'events', 'device'].entries()) {
    // [MQTT-4.7.2-1]: a wildcard in the first place does not match.
    if (levels[i] === '#' && i > 0) return 'all'
    if (levels[i] !== literal && (levels[i] !== '+' || i === 0)) return []
  }
  const [first, second] = levels.slice(3)
  if (first === undefined || second === undefined) return first === '#' ? 'all' : []
  if (first === '+' || first === '#' || second === '+' || second === '#') return 'all'
  return [first, `${first}/${second}`].map(parseDeviceId).filter(id => id !== undefined)
}
