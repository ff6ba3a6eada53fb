import { hasCode } from '@holdfast/runtime'
import type { Clock } from '@holdfast/runtime'
import type { Commit } from '@holdfast/store'
import type { MessageBus, MessageTaker } from '../messages.ts'
import { TwinRefused } from '../twins/index.ts'
import type { DeviceId, DeviceTwins, TwinChange, TwinWrite, TwinWriting } from '../twins/index.ts'
import { documentMessage, errorAnswer, stateAnswer, twinAnswer, updatedMessage } from './answers.ts'
import { Deltas } from './deltas.ts'
import { Membership } from './membership.ts'
import { deviceTopicsLimits as limits } from './limits.ts'
import { readGet, readStateUpdate, readTwinUpdate } from './requests.ts'
import type { Malformed, TwinUpdate } from './requests.ts'
import { deviceTopicsOf, parseRequestTopic, requestFilters } from './topics.ts'
import type { DeviceRequestTopic, RequestTopic } from './topics.ts'

export interface DeviceTopicsOptions {
  readonly node: string
  /** Until a device is told its delta again, doubling (TWN-27). Default 5 s, … */
  readonly firstRetryMs?: number
  /** … to 5 min. */
  readonly retryMaxMs?: number
}

export interface DeviceTopicsComponents {
  readonly bus: MessageBus
  readonly twins: DeviceTwins
  readonly clock: Clock
}

export type RequestOutcome = 'done' | 'malformed' | 'refused' | 'unknown-device' | 'other-node'

export interface RequestCount {
  readonly kind: RequestTopic['kind']
  readonly outcome: RequestOutcome
  count: number
}

/**
 * KubeEdge's topics of devices and of the node (docs/spec/device-topics.md), over the twins. Knows *expected* and *actual*; the
 * rest of the daemon says desired and reported.
 */
export class DeviceTopics implements MessageTaker, Disposable {
  readonly ignoresRetained = true
  /** One count for each kind and outcome that there was. */
  readonly requests = new Map<string, RequestCount>()
  readonly #node: string
  readonly #components: DeviceTopicsComponents
  readonly #deltas: Deltas
  readonly #membership: Membership
  /** By device: the newest write that is not durable yet, and answers that come behind it. */
  readonly #writing = new Map<DeviceId, { readonly behind: (() => void)[] }>()
  #getsWaiting = 0
  readonly #stops: (() => void)[] = []

  private constructor(options: DeviceTopicsOptions, components: DeviceTopicsComponents) {
    this.#node = options.node
    this.#components = components
    this.#deltas = new Deltas({ firstRetryMs: options.firstRetryMs ?? 5000, retryMaxMs: options.retryMaxMs ?? 300_000 }, components)
    this.#membership = new Membership(options.node, components)
  }

  /** Listens from now on: before clients can connect. */
  static open(options: DeviceTopicsOptions, components: DeviceTopicsComponents): DeviceTopics {
    const topics = new DeviceTopics(options, components)
    topics.#stops.push(components.twins.subscribe(change => topics.#changed(change)))
    for (const filter of requestFilters) topics.#stops.push(components.bus.listen(filter, topics))
    return topics
  }

  /** Devices that do not report what is desired of them, and how often such were told. */
  get deltas(): { readonly size: number, readonly told: number } { return this.#deltas }

  [Symbol.dispose](): void {
    for (const stop of this.#stops.splice(0)) stop()
    this.#deltas.close()
  }

  take(name: string, payload: Buffer): Commit | undefined {
    const topic = parseRequestTopic(name)
    switch (topic?.kind) {
      case 'twin-update': return this.#updateTwin(topic, payload)
      case 'state-update': return this.#updateState(topic, payload)
      case 'twin-get': this.#getTwin(topic, payload); return undefined
      case 'membership-get': this.#getMembership(topic, payload); return undefined
      case undefined: return undefined
    }
  }

  subscribed(filter: string, tell: Parameters<Deltas['subscribed']>[1]): void { this.#deltas.subscribed(filter, tell) }

  #changed(change: TwinChange): void {
    this.#deltas.changed(change)
    this.#membership.changed(change)
    const { id, before, after, specChanged } = change
    if (!specChanged || after === undefined || before?.uid !== after.uid) return
    for (const device of deviceTopicsOf(id)) this.#publish(`${device}/updated`, updatedMessage(this.#nowMs()))
  }

  #updateTwin(topic: DeviceRequestTopic, payload: Buffer): Commit | undefined {
    const update = readTwinUpdate(payload)
    if ('malformed' in update) return this.#malformed(topic, update)
    return this.#write(topic, update.eventId, writeOf(update), ({ kind, before, after }) => {
      this.#publish(`${topic.device}/twin/update/result`, twinAnswer(update.eventId, this.#nowMs(), after, update.properties))
      if (kind === 'unchanged') return
      this.#publish(`${topic.device}/twin/update/document`,
        documentMessage(update.eventId, this.#nowMs(), before, after, update.properties))
    })
  }

  #updateState(topic: DeviceRequestTopic, payload: Buffer): Commit | undefined {
    const update = readStateUpdate(payload)
    if ('malformed' in update) return this.#malformed(topic, update)
    const { eventId, state, timestamp } = update
    return this.#write(topic, eventId, { section: 'state', state, ...timestamp !== undefined && { timestamp } }, ({ after }) => {
      this.#publish(`${topic.device}/state/update/result`, stateAnswer(eventId, this.#nowMs(), after))
    })
  }

  #getTwin(topic: DeviceRequestTopic, payload: Buffer): void {
    const request = readGet(payload)
    if ('malformed' in request) {
      this.#malformed(topic, request)
      return
    }
    const { twins } = this.#components
    const answer = (): void => {
      const device = topic.id === undefined ? undefined : twins.get(topic.id)
      if (device === undefined) {
        this.#unknown(topic, request.eventId)
        return
      }
      this.#count(topic.kind, 'done')
      this.#publish(`${topic.device}/twin/get/result`, twinAnswer(request.eventId, this.#nowMs(), device))
    }
    // What the asker wrote before is in the answer.
    const writing = topic.id === undefined ? undefined : this.#writing.get(topic.id)
    if (writing === undefined || this.#getsWaiting >= limits.getsWaiting.value) answer()
    else {
      this.#getsWaiting++
      writing.behind.push(answer)
    }
  }

  #getMembership({ kind, node }: Extract<RequestTopic, { readonly kind: 'membership-get' }>, payload: Buffer): void {
    if (node !== this.#node) {
      this.#count(kind, 'other-node')
      return
    }
    const request = readGet(payload)
    if ('malformed' in request) {
      this.#count(kind, 'malformed')
      this.#publish(`$hw/events/node/${node}/membership/get/result`,
        errorAnswer(request.eventId, this.#nowMs(), 400, request.malformed))
      return
    }
    this.#count(kind, 'done')
    this.#membership.answer(request.eventId)
  }

  /** `answer` is called when what was written is durable, or at once where nothing was. */
  #write(topic: DeviceRequestTopic, eventId: string, write: TwinWrite, answer: (writing: TwinWriting) => void): Commit | undefined {
    const { id } = topic
    let writing: TwinWriting
    try {
      if (id === undefined) return this.#unknown(topic, eventId)
      writing = this.#components.twins.write(id, write, 'mqtt')
    } catch (error) {
      if (error instanceof TwinRefused) {
        this.#count(topic.kind, 'refused')
        return this.#refuse(topic, eventId, 400, error.refusal.message)
      }
      if (hasCode(error, 'TWIN_DEVICE_UNKNOWN')) return this.#unknown(topic, eventId)
      throw error
    }
    this.#count(topic.kind, 'done')
    const { commit } = writing
    if (commit === undefined) answer(writing)
    else this.#behind(id, commit, () => answer(writing))
    return commit
  }

  #behind(id: DeviceId, commit: Commit, answer: () => void): void {
    const writing = { behind: [] as (() => void)[] }
    this.#writing.set(id, writing)
    commit.onDurable(error => {
      if (error === undefined) answer()
      if (this.#writing.get(id) === writing) this.#writing.delete(id)
      this.#getsWaiting -= writing.behind.length
      if (error === undefined) for (const next of writing.behind) next()
    })
  }

  #malformed(topic: DeviceRequestTopic, { eventId, malformed }: Malformed): undefined {
    this.#count(topic.kind, 'malformed')
    return this.#refuse(topic, eventId, 400, malformed)
  }

  #unknown(topic: DeviceRequestTopic, eventId: string): undefined {
    this.#count(topic.kind, 'unknown-device')
    const device = topic.device.slice('$hw/events/device/'.length)
    return this.#refuse(topic, eventId, 404, `${device.slice(0, 128)} is no device of this node`)
  }

  #refuse({ device, kind }: DeviceRequestTopic, eventId: string, code: 400 | 404, reason: string): undefined {
    this.#publish(`${device}/${kind.replace('-', '/')}/result`, errorAnswer(eventId, this.#nowMs(), code, reason))
    return undefined
  }

  #publish(topic: string, payload: Buffer): void { this.#components.bus.publish({ topic, payload, qos: 0, retain: false }) }

  #count(kind: RequestTopic['kind'], outcome: RequestOutcome): void {
    const known = this.requests.get(`${kind} ${outcome}`)
    if (known === undefined) this.requests.set(`${kind} ${outcome}`, { kind, outcome, count: 1 })
    else known.count++
  }

  #nowMs(): number { return this.#components.clock.wallMs() }
}

function writeOf({ reported, desired }: TwinUpdate): TwinWrite {
  if (desired.size === 0) return { section: 'reported', writes: reported }
  if (reported.size === 0) return { section: 'desired', writes: desired }
  return { section: 'both', reported, desired }
}
