import type { Clock } from '@holdfast/runtime'
import type { MessageBus } from '../messages.ts'
import type { DeviceId, DeviceTwin, DeviceTwins, TwinChange } from '../twins/index.ts'
import { memberText, membershipAnswer, membershipMessage } from './answers.ts'
import { deviceTopicsLimits as limits } from './limits.ts'

export interface MembershipComponents {
  readonly twins: Pick<DeviceTwins, 'all'>
  readonly bus: Pick<MessageBus, 'publish'>
  readonly clock: Clock
}

/** Which devices the node has: told when some come or go, and to who asks. */
export class Membership {
  readonly #topic: string
  readonly #components: MembershipComponents
  readonly #added = new Map<DeviceId, DeviceTwin>()
  readonly #removed = new Map<DeviceId, DeviceTwin>()
  #scheduled = false
  /** The list in parts, as JSON; undefined: something has changed. */
  #parts: readonly string[] | undefined

  constructor(node: string, components: MembershipComponents) {
    this.#topic = `$hw/events/node/${node}/membership`
    this.#components = components
  }

  changed({ id, before, after, stateChanged }: TwinChange): void {
    const another = before?.uid !== after?.uid
    if (another || stateChanged) this.#parts = undefined
    if (!another) return
    if (before !== undefined && !this.#added.delete(id)) this.#removed.set(id, before)
    if (after !== undefined) this.#added.set(id, after)
    if (this.#scheduled) return
    this.#scheduled = true
    this.#components.clock.soon(() => {
      this.#scheduled = false
      this.#tell()
    })
  }

  /** To `…/membership/get/result`; in several messages where one would be too long. */
  answer(eventId: string): void {
    const { bus, clock, twins } = this.#components
    this.#parts ??= partsOf(twins.all(), false).map(members => members.join(','))
    for (const [i, members] of this.#parts.entries()) {
      const payload = membershipAnswer(eventId, clock.wallMs(), members, i + 1, this.#parts.length)
      bus.publish({ topic: `${this.#topic}/get/result`, payload, qos: 0, retain: false })
    }
  }

  /** A part in a turn. */
  #tell(): void {
    const { bus, clock } = this.#components
    const [removed = []] = partsOf(first(this.#removed), false)
    const [added = []] = removed.length < this.#removed.size ? [] : partsOf(first(this.#added), true)
    for (const id of [...this.#removed.keys()].slice(0, removed.length)) this.#removed.delete(id)
    for (const id of [...this.#added.keys()].slice(0, added.length)) this.#added.delete(id)
    if (removed.length + added.length > 0) {
      bus.publish({
        topic: `${this.#topic}/updated`, payload: membershipMessage(clock.wallMs(), added, removed), qos: 0, retain: false
      })
    }
    if (this.#removed.size + this.#added.size === 0) return
    this.#scheduled = true
    clock.soon(() => {
      this.#scheduled = false
      this.#tell()
    })
  }
}

/** As many as one message can hold. */
function* first(devices: ReadonlyMap<DeviceId, DeviceTwin>): Generator<DeviceTwin> {
  let left = limits.devicesPerMessage.value
  for (const device of devices.values()) {
    if (left-- === 0) return
    yield device
  }
}

/** At least one part; each within the bounds of a message, or of one device. */
function partsOf(devices: Iterable<DeviceTwin>, withTwins: boolean): readonly (readonly string[])[] {
  let part: string[] = []
  let length = 0
  const parts = [part]
  for (const device of devices) {
    const text = memberText(device, withTwins)
    if (part.length === limits.devicesPerMessage.value || (part.length > 0 && length + text.length > limits.membershipBytes.value)) {
      part = []
      parts.push(part)
      length = 0
    }
    part.push(text)
    length += text.length
  }
  return parts
}
