import type { Json } from '@holdfast/device-twin'
import type { Commit } from '@holdfast/store'
import { z } from 'zod'
import { filterMatches, filterProblem, topicProblem } from '../broker/topic.ts'
import type { TopicBounds } from '../broker/topic.ts'
import type { MessageBus, MessageTaker, OutgoingMessage } from '../messages.ts'
import { conversionSettings, describeConversion, fromDevice, toDevice } from './conversion.ts'
import type { Conversion } from './conversion.ts'
import { JsonPayload, shown } from './json-payload.ts'
import { mapperLimits as limits } from './limits.ts'
import { Misconfigured } from './mapper.ts'
import type { DeviceHost, DeviceMapper, MappedDevice, MappedProperty, Protocol } from './mapper.ts'
import { valueAt } from './pointer.ts'
import { jsonPointer, readSettings, someText } from './settings.ts'
import { fillTemplate, templateSetting } from './template.ts'

const topicBounds: TopicBounds = { topicLengthMax: 1024, topicLevelsMax: 64 }

const filterSetting = someText('an MQTT topic or topic filter', topicBounds.topicLengthMax,
  text => filterProblem(text, topicBounds) === undefined)
const topicSetting = someText('an MQTT topic without + and #', topicBounds.topicLengthMax,
  text => topicProblem(text, topicBounds) === undefined)

/** `spec.protocol.configData` of a Device with protocol `mqtt`. */
const deviceSettings = z.strictObject({
  availabilityTopic: filterSetting.optional(),
  availabilityPointer: jsonPointer().optional(),
  availabilityPayloads: z.strictObject({
    online: someText('text', 1024).default('online'), offline: someText('text', 1024).default('offline')
  }).default({ online: 'online', offline: 'offline' })
})

/** `visitors.configData` of a property. */
const propertySettings = z.strictObject({
  topic: z.union([filterSetting.transform(filter => [filter]), z.array(filterSetting).min(1).max(limits.topics.value)], {
    error: `expected an MQTT topic or topic filter, or a list of at most ${limits.topics.value} of them`
  }).optional(),
  pointer: jsonPointer().optional(),
  conversion: conversionSettings.optional(),
  commandTopic: topicSetting.optional(),
  commandPayload: templateSetting().optional()
}).refine(({ topic, commandTopic }) => topic !== undefined || commandTopic !== undefined, {
  error: 'expected topic (where the device says the value), commandTopic (where it is told), or both'
})

interface Reading {
  readonly property: MappedProperty
  readonly filter: string
  readonly pointer: readonly string[] | undefined
  readonly conversion: Conversion | undefined
}

interface Command {
  readonly topic: string
  readonly payload: string
  readonly conversion: Conversion | undefined
}

/**
 * Devices that speak MQTT in their own words: which topic and which part of its payload is which property is said by the
 * Device. Over the node's broker and over an external one alike.
 */
export class MqttProtocol implements Protocol {
  readonly name = 'mqtt' as const
  readonly #bus: MessageBus

  constructor(components: { readonly bus: MessageBus }) { this.#bus = components.bus }

  attach(device: MappedDevice, host: DeviceHost): DeviceMapper { return new MqttDevice(device, host, this.#bus) }
}

class MqttDevice implements DeviceMapper, MessageTaker {
  readonly writable: ReadonlySet<string>
  readonly #host: DeviceHost
  readonly #bus: MessageBus
  readonly #settings: z.output<typeof deviceSettings>
  readonly #readings: Reading[] = []
  readonly #commands = new Map<string, Command>()
  readonly #stop: (() => void)[] = []

  constructor(device: MappedDevice, host: DeviceHost, bus: MessageBus) {
    this.#host = host
    this.#bus = bus
    this.#settings = readSettings(deviceSettings, device.settings, 'spec.protocol.configData')
    for (const property of device.properties) {
      try {
        this.#add(property)
      } catch (error) {
        if (!(error instanceof Misconfigured)) throw error
        host.misconfigured(property.name, error.message)
      }
    }
    this.writable = new Set(this.#commands.keys())
    const filters = new Set(this.#readings.map(({ filter }) => filter))
    if (this.#settings.availabilityTopic !== undefined) filters.add(this.#settings.availabilityTopic)
    for (const filter of filters) this.#stop.push(bus.listen(filter, this))
  }

  write(property: string, value: Json): void { this.#bus.publish(this.#command(property, value)) }

  close(): void { for (const stop of this.#stop.splice(0)) stop() }

  take(topic: string, payload: Buffer): Commit | undefined {
    const values = new Map<string, Json>()
    const document = new JsonPayload(payload)
    for (const reading of this.#readings) {
      if (!filterMatches(reading.filter, topic)) continue
      const value = this.#read(reading, topic, document)
      if (value !== undefined) values.set(reading.property.name, value)
    }
    const reported = values.size === 0 ? undefined : this.#host.report(values)
    return this.#takeAvailability(topic, document) ?? reported
  }

  subscribed(filter: string, tell: (message: OutgoingMessage) => void): void {
    if (this.#commands.size === 0) return
    for (const [property, value] of this.#host.wanted()) {
      const command = this.#commands.get(property)
      if (command === undefined || !filterMatches(filter, command.topic)) continue
      try {
        tell(this.#command(property, value))
      } catch {
        // No word of the device means it: `write` says so.
      }
    }
  }

  #add(property: MappedProperty): void {
    const settings = readSettings(propertySettings, property.settings, 'visitors.configData')
    const { topic, pointer, conversion, commandTopic, commandPayload = '{{value}}' } = settings
    for (const filter of topic ?? []) this.#readings.push({ property, filter, pointer, conversion })
    if (commandTopic !== undefined) this.#commands.set(property.name, { topic: commandTopic, payload: commandPayload, conversion })
  }

  /** Not stored for whoever is away: a device that comes back is told what is wanted then, not what once was. */
  #command(property: string, value: Json): OutgoingMessage {
    const { topic, payload, conversion } = this.#commands.get(property)!
    const told = toDevice(value, conversion)
    if (told === undefined) throw new Error(`no word of the device means ${JSON.stringify(value)} (conversion)`)
    return { topic, payload: Buffer.from(fillTemplate(payload, told)), qos: 0, retain: false }
  }

  /** Undefined: the message does not speak of this property, or says what cannot be taken. */
  #read({ property, pointer, conversion }: Reading, topic: string, document: JsonPayload): Json | undefined {
    let raw: Json | undefined
    if (pointer === undefined) raw = document.text
    else if (document.value === undefined) {
      this.#host.problem(property.name, `${topic}: expected JSON, since the visitor has a pointer, got ${shown(document.text)}`)
      return undefined
    } else raw = valueAt(document.value, pointer)
    if (raw === undefined || raw === null) return undefined
    const value = fromDevice(raw, conversion)
    if (value === undefined) {
      this.#host.problem(property.name, `${topic}: expected ${describeConversion(conversion!)}, got ${shown(JSON.stringify(raw))}`)
    }
    return value
  }

  #takeAvailability(topic: string, document: JsonPayload): Commit | undefined {
    const { availabilityTopic, availabilityPointer, availabilityPayloads: { online, offline } } = this.#settings
    if (availabilityTopic === undefined || !filterMatches(availabilityTopic, topic)) return undefined
    const raw = availabilityPointer === undefined ? document.text
      : document.value === undefined ? undefined : valueAt(document.value, availabilityPointer)
    if (raw === undefined || raw === '') return undefined
    const text = (typeof raw === 'string' ? raw : JSON.stringify(raw)).toLowerCase()
    if (text === online.toLowerCase()) return this.#host.reportState('online')
    if (text === offline.toLowerCase()) return this.#host.reportState('offline')
    this.#host.problem(undefined, `${topic}: expected ${online} or ${offline} (availabilityPayloads), got ${shown(text)}`)
    return undefined
  }
}

