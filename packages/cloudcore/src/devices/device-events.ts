import { createHash } from 'node:crypto'
import type { JsonObject, KubeObject } from '@holdfast/kube-api'
import { describeError } from '@holdfast/runtime'
import type { Clock, Log, Random } from '@holdfast/runtime'
import type { KubeClient, ObjectPlace } from '../kube/kube-client.ts'
import { KubeError } from '../kube/kube-error.ts'
import { kubeKinds } from '../kube/kube-kinds.ts'
import { ReconcileQueue, TokenBucket } from '../state/status-queue.ts'
import { nodeOf } from '../state/up-collection.ts'
import { timestampText } from './device-status.ts'
import { deviceLimits } from './limits.ts'

export interface DeviceEventsComponents {
  readonly client: Pick<KubeClient, 'get' | 'create' | 'mergePatch'>
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

/** What is to be said of one device being in one state. */
interface Pending {
  readonly device: KubeObject
  readonly reason: string
  message: string
  /** Times that it happened since the Event was written last. */
  count: number
  readonly firstMs: number
  lastMs: number
}

const reasons: Readonly<Record<string, { readonly reason: string, readonly type: 'Normal' | 'Warning' }>> = {
  online: { reason: 'DeviceOnline', type: 'Normal' },
  ok: { reason: 'DeviceOk', type: 'Normal' },
  offline: { reason: 'DeviceOffline', type: 'Warning' },
  unhealthy: { reason: 'DeviceUnhealthy', type: 'Warning' },
  unknown: { reason: 'DeviceUnknown', type: 'Warning' }
}

/**
 * Events of devices that go online, offline, unhealthy: one Event per device and state, that counts how often it was, as
 * `kubectl describe` shows it. They are for people: what cannot be written for long is not kept.
 */
export class DeviceEvents {
  /** Since start, for metrics. */
  readonly stats = { written: 0, dropped: 0 }
  readonly #components: DeviceEventsComponents
  readonly #pending = new Map<string, Pending>()
  readonly #queue: ReconcileQueue
  #told = ''

  constructor(components: DeviceEventsComponents) {
    const { clock, random, log } = components
    const { eventIntervalMs, eventsInFlight, eventMs, eventRetryMs, eventsPerSecond, eventsBurst } = deviceLimits
    this.#components = components
    this.#queue = new ReconcileQueue({
      name: 'events of devices', intervalMs: eventIntervalMs.value, runningMax: eventsInFlight.value, runMs: eventMs.value,
      backoff: { baseMs: 1000, maxMs: eventRetryMs.value }
    }, {
      clock, random, log,
      bucket: new TokenBucket({ perSecond: eventsPerSecond.value, burst: eventsBurst.value }, clock.monotonicMs()),
      laneOf: key => nodeOf(this.#pending.get(key)?.device) ?? '',
      reconcile: (key, signal) => this.#write(key, signal)
    })
  }

  /** `before` undefined: it had said none. */
  stateChanged(device: KubeObject, before: string | undefined, after: string): void {
    const nowMs = this.#components.clock.wallMs()
    const key = `${device.metadata.uid} ${after}`
    const message = `The device is ${after}${before === undefined ? '' : `; it was ${before}`}.`
    const pending = this.#pending.get(key)
    if (pending !== undefined) {
      pending.count++
      pending.message = message
      pending.lastMs = nowMs
    } else if (this.#pending.size < deviceLimits.eventsPending.value) {
      this.#pending.set(key, { device, reason: after, message, count: 1, firstMs: nowMs, lastMs: nowMs })
    } else {
      this.stats.dropped++
      return
    }
    this.#queue.add(key)
  }

  close(): void {
    this.#queue.close()
    this.#pending.clear()
  }

  async #write(key: string, signal: AbortSignal): Promise<void> {
    const pending = this.#pending.get(key)
    if (pending === undefined) return
    const { client } = this.#components
    const { count } = pending
    const place = placeOf(pending.device, pending.reason)
    try {
      const there = await client.get(place)
      signal.throwIfAborted()
      if (there === undefined) await client.create(place.kind, newEvent(place, pending))
      else await client.mergePatch(place, countedEvent(there, pending))
      this.stats.written++
    } catch (error) {
      // Another cloudcore made it, or counted: the next try counts on.
      if (signal.aborted || !(error instanceof KubeError) || error.isRetryable || error.status === 409) throw error
      this.stats.dropped++
      const text = describeError(error)
      if (text !== this.#told) this.#components.log.warn('Kubernetes refuses an Event of a device', { error: text })
      this.#told = text
    }
    pending.count -= count
    if (pending.count === 0) this.#pending.delete(key)
    else this.#queue.add(key)
  }
}

function placeOf({ metadata: { namespace = '', name = '', uid = '' } }: KubeObject, state: string): ObjectPlace {
  const digits = createHash('sha256').update(`${uid} ${state}`).digest('hex').slice(0, 16)
  return { kind: kubeKinds.events, namespace, name: `${name.slice(0, 230).replace(/[-.]+$/, '')}.${digits}` }
}

function newEvent({ namespace = '', name }: ObjectPlace, { device, reason, message, count, firstMs, lastMs }: Pending): KubeObject {
  const { apiVersion, kind, metadata } = device
  const said = reasons[reason] ?? { reason: 'DeviceState', type: 'Normal' }
  return {
    apiVersion: 'v1', kind: 'Event', metadata: { name, namespace },
    involvedObject: { apiVersion, kind, namespace, name: metadata.name, uid: metadata.uid },
    reason: said.reason, type: said.type, message, count,
    source: { component, host: nodeOf(device) ?? '' }, reportingComponent: component, reportingInstance: nodeOf(device) ?? '',
    firstTimestamp: timestampText(firstMs), lastTimestamp: timestampText(lastMs)
  }
}

function countedEvent(there: KubeObject, { message, count, lastMs }: Pending): JsonObject {
  const { resourceVersion = '' } = there.metadata
  const before = typeof there['count'] === 'number' ? there['count'] : 0
  return { metadata: { resourceVersion }, message, count: before + count, lastTimestamp: timestampText(lastMs) }
}

/** As events name who says them. */
const component = 'holdfast-cloudcore'
