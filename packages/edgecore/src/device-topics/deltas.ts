import { delta, textOf } from '@holdfast/device-twin'
import type { Json } from '@holdfast/device-twin'
import type { Clock, Timer } from '@holdfast/runtime'
import { filterMatches } from '../broker/topic.ts'
import type { MessageBus, MessageTaker, OutgoingMessage } from '../messages.ts'
import type { DeviceId, DeviceTwin, DeviceTwins, TwinChange } from '../twins/index.ts'
import { deltaMessage } from './answers.ts'
import { deviceTopicsLimits as limits } from './limits.ts'
import { deviceTopicsOf, devicesOfFilter } from './topics.ts'

export interface DeltaOptions {
  /** Until a device is told again; twice as long after each time. */
  readonly firstRetryMs: number
  readonly retryMaxMs: number
}

export interface DeltaComponents {
  readonly twins: Pick<DeviceTwins, 'all'>
  readonly bus: Pick<MessageBus, 'publish'>
  readonly clock: Clock
}

/** A device that does not report what is desired of it. */
interface Unsatisfied {
  device: DeviceTwin
  wanted: ReadonlyMap<string, Json>
  /** Times that it was waited for since it was told anew, or came. */
  waits: number
  dueMs: number
}

type Tell = Parameters<NonNullable<MessageTaker['subscribed']>>[1]

interface WideSubscriber {
  readonly filter: string
  readonly tell: Tell
  readonly left: Iterator<Unsatisfied>
}

const tickMs = 1000
const suffix = '/twin/update/delta'

/**
 * Tells devices their delta (TWN-27): when it changes, when one subscribes, and again until it reports what is desired. A
 * stated number in one turn of the event loop, so that many devices delay nobody.
 */
export class Deltas {
  /** Times that a device was told. */
  told = 0
  readonly #options: DeltaOptions
  readonly #components: DeltaComponents
  readonly #unsatisfied = new Map<DeviceId, Unsatisfied>()
  /** To be told in the turns to come, in order. */
  readonly #due = new Set<DeviceId>()
  readonly #wide: WideSubscriber[] = []
  /** What may still be told in this turn. */
  #left: number = limits.deltasPerTurn.value
  #scheduled = false
  #timer: Timer | undefined
  #closed = false

  constructor(options: DeltaOptions, components: DeltaComponents) {
    this.#options = options
    this.#components = components
    for (const device of components.twins.all()) this.#look(device, 'later')
  }

  /** Devices that do not report what is desired of them. */
  get size(): number { return this.#unsatisfied.size }

  changed({ id, before, after, desired, reported, specChanged }: TwinChange): void {
    if (after === undefined) this.#forget(id)
    else if (before?.uid !== after.uid || desired.length > 0 || reported.length > 0 || specChanged) {
      // Behind the answer of whoever wrote it on this node; what comes down has nobody who waits for one.
      this.#look(after, before?.device === after.device ? 'soon' : 'now')
    }
  }

  /** Somebody asks for `filter`, a device perhaps: what it is to be told, it is told at once. */
  subscribed(filter: string, tell: Tell): void {
    const devices = devicesOfFilter(filter)
    if (devices === 'all') {
      if (this.#unsatisfied.size === 0 || this.#wide.length >= limits.wideSubscribers.value) return
      this.#wide.push({ filter, tell, left: this.#unsatisfied.values() })
      this.#schedule()
      return
    }
    for (const id of devices) {
      const unsatisfied = this.#unsatisfied.get(id)
      if (unsatisfied === undefined || !this.#tellOne(unsatisfied, filter, tell)) continue
      // It is here: it does not wait for what became of an earlier time.
      unsatisfied.waits = 0
      this.#wait(unsatisfied)
    }
  }

  close(): void {
    this.#closed = true
    this.#timer?.cancel()
  }

  #look(device: DeviceTwin, when: 'now' | 'soon' | 'later'): void {
    const { id } = device
    const wanted = delta(device.twin, device.rules)
    if (wanted.size === 0) {
      this.#forget(id)
      return
    }
    const known = this.#unsatisfied.get(id)
    if (known !== undefined && known.device.uid === device.uid && same(known.wanted, wanted)) {
      known.device = device
      return
    }
    const unsatisfied = { device, wanted, waits: 0, dueMs: 0 }
    this.#unsatisfied.set(id, unsatisfied)
    if (when === 'later') this.#wait(unsatisfied)
    else {
      this.#due.add(id)
      if (when === 'now') this.#tellDue()
      else this.#schedule()
    }
    this.#arm()
  }

  #forget(id: DeviceId): void {
    this.#unsatisfied.delete(id)
    this.#due.delete(id)
  }

  #wait(unsatisfied: Unsatisfied): void {
    const { firstRetryMs, retryMaxMs } = this.#options
    unsatisfied.dueMs = this.#components.clock.monotonicMs() + Math.min(firstRetryMs * 2 ** unsatisfied.waits++, retryMaxMs)
  }

  #arm(): void {
    if (this.#timer !== undefined || this.#closed) return
    this.#timer = this.#components.clock.after(Math.min(tickMs, this.#options.firstRetryMs), () => {
      this.#timer = undefined
      const nowMs = this.#components.clock.monotonicMs()
      for (const [id, { dueMs }] of this.#unsatisfied) if (dueMs <= nowMs) this.#due.add(id)
      this.#tellDue()
      if (this.#unsatisfied.size > 0) this.#arm()
    })
  }

  /** Another turn, with what waits for it. */
  #schedule(): void {
    if (this.#scheduled || this.#closed) return
    this.#scheduled = true
    this.#components.clock.soon(() => {
      this.#scheduled = false
      if (this.#closed) return
      this.#left = limits.deltasPerTurn.value
      this.#tellDue()
      this.#tellWide()
    })
  }

  #tellDue(): void {
    if (this.#due.size > 0) this.#schedule()
    for (const id of this.#due) {
      if (this.#left === 0) return
      this.#left--
      this.#due.delete(id)
      const unsatisfied = this.#unsatisfied.get(id)
      if (unsatisfied === undefined) continue
      for (const message of this.#messages(unsatisfied)) this.#components.bus.publish({ ...message, qos: 0, retain: false })
      this.told++
      this.#wait(unsatisfied)
    }
  }

  /** First come, first served. */
  #tellWide(): void {
    if (this.#wide.length > 0) this.#schedule()
    while (this.#left > 0 && this.#wide.length > 0) {
      const { filter, tell, left: devices } = this.#wide[0]!
      for (; this.#left > 0; this.#left--) {
        const next = devices.next()
        if (next.done === true) {
          this.#wide.shift()
          break
        }
        this.#tellOne(next.value, filter, tell)
      }
    }
  }

  #tellOne(unsatisfied: Unsatisfied, filter: string, tell: Tell): boolean {
    let told = false
    for (const message of this.#messages(unsatisfied, filter)) {
      tell(message)
      told = true
    }
    return told
  }

  #messages({ device, wanted }: Unsatisfied, filter?: string): readonly Pick<OutgoingMessage, 'topic' | 'payload'>[] {
    const topics = deviceTopicsOf(device.id).map(topic => topic + suffix)
      .filter(topic => filter === undefined || filterMatches(filter, topic))
    if (topics.length === 0) return []
    const payload = deltaMessage(this.#components.clock.wallMs(), device, wanted)
    return topics.map(topic => ({ topic, payload }))
  }
}

function same(a: ReadonlyMap<string, Json>, b: ReadonlyMap<string, Json>): boolean {
  if (a.size !== b.size) return false
  for (const [name, value] of a) {
    const other = b.get(name)
    if (other === undefined || (other !== value && textOf(other) !== textOf(value))) return false
  }
  return true
}
