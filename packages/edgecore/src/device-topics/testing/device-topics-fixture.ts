import type { IClientOptions, MqttClient } from 'mqtt'
import { SystemClock, silentLog } from '@holdfast/runtime'
import { onTestFinished } from 'vitest'
import { Broker } from '../../broker/broker.ts'
import { MqttListener } from '../../broker/listener.ts'
import { Routes } from '../../routes.ts'
import { connectTo, until } from '../../testing/broker-harness.ts'
import { GatedStore } from '../../testing/device-api-fixture.ts'
import { node, openTwins } from '../../twins/testing/twin-harness.ts'
import type { TwinsHarness } from '../../twins/testing/twin-harness.ts'
import { DeviceTopics } from '../device-topics.ts'
import type { DeviceTopicsOptions } from '../device-topics.ts'
import { parseRequestTopic } from '../topics.ts'

/** As edgecore's defaults route KubeEdge's telemetry. */
export const kubeEdgeRoutes = [
  { filter: '$ke/events/device/{namespace}/{name}/data/update', device: '{namespace}/{name}', lane: 'telemetry' },
  { filter: '$hw/events/upload/#', device: 'node', lane: 'telemetry' },
  { filter: 'SYS/dis/upload_records', device: 'node', lane: 'telemetry' },
  { filter: '+/user/#', device: 'node', lane: 'telemetry' }
]

export interface Message {
  readonly topic: string
  readonly body: Record<string, unknown>
}

/** An MQTT client and what came to it, requests left out. */
export interface TestClient {
  readonly mqtt: MqttClient
  readonly messages: Message[]
  /** Resolves when it is acknowledged (QoS 1). */
  send(topic: string, body: unknown, qos?: 0 | 1 | 2): Promise<void>
  /** The next message on that topic, which is taken away. */
  next(topic: string): Promise<Record<string, unknown>>
}

export interface DeviceTopicsFixture extends TwinsHarness {
  readonly store: GatedStore
  readonly broker: Broker
  readonly topics: DeviceTopics
  readonly port: number
  /** Subscribed to `filters`. */
  readonly connect: (filters?: readonly string[], options?: IClientOptions) => Promise<TestClient>
}

/** Twins, broker and device topics as edgecore has them, on a port of their own. Ends with the test. */
export async function openDeviceTopics(options: Partial<DeviceTopicsOptions> = {}): Promise<DeviceTopicsFixture> {
  const clock = new SystemClock()
  const store = new GatedStore()
  const harness = await openTwins(store, { clock })
  const { committer, outbox, twins } = harness
  const routes = new Routes({ rules: kubeEdgeRoutes, lane: name => outbox.lane(name) })
  const broker = await Broker.open({}, {
    store, committer, sink: outbox, routes, clock, log: silentLog, uptimeMs: () => clock.monotonicMs()
  })
  const topics = DeviceTopics.open({ node, ...options }, { bus: broker, twins, clock })
  const listener = new MqttListener({ host: '127.0.0.1', port: 0 }, { broker, log: silentLog })
  const port = Number(new URL(await listener.listen()).port)
  const stop = new AbortController()
  const ended = listener.run(stop.signal)
  const clients: MqttClient[] = []
  onTestFinished(async () => {
    for (const client of clients) await client.endAsync(true)
    store.release()
    topics[Symbol.dispose]()
    stop.abort()
    await ended
    await harness[Symbol.asyncDispose]()
  })
  return {
    ...harness, store, broker, topics, port,
    async connect(filters = [], clientOptions = {}) {
      const messages: Message[] = []
      const mqtt = await connectTo(port, clientOptions)
      clients.push(mqtt)
      mqtt.on('message', (topic, payload) => {
        if (parseRequestTopic(topic) === undefined) messages.push({ topic, body: JSON.parse(payload.toString()) as Record<string, unknown> })
      })
      if (filters.length > 0) await mqtt.subscribeAsync([...filters])
      return {
        mqtt, messages,
        async send(topic, body, qos = 1) {
          await mqtt.publishAsync(topic, typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body), { qos })
        },
        async next(topic) {
          await until(() => messages.some(message => message.topic === topic), `a message on ${topic}`)
          const [message] = messages.splice(messages.findIndex(each => each.topic === topic), 1)
          return message!.body
        }
      }
    }
  }
}
