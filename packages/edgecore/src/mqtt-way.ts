import type { Check, Clock, Endpoints, Failpoint, Log, NodeName, Random, Service } from '@holdfast/runtime'
import type { Committer, Outbox, OutboxLane, Store } from '@holdfast/store'
import { Broker, MqttListener, WebSocketListener } from './broker/index.ts'
import { localOnly } from './config.ts'
import type { EdgecoreConfig } from './config.ts'
import { ExternalBroker } from './external-broker/index.ts'
import type { MessageBus } from './messages.ts'
import type { EdgecoreMetrics } from './metrics.ts'
import type { Routes } from './routes.ts'

/** How MQTT messages come to the node: to its own broker, or by another one that edgecore is a client of. */
export interface MqttWay {
  readonly bus: MessageBus
  /** Run as long as the daemon does. */
  readonly services: readonly Service[]
  readonly ready: Check
  /** Where devices publish. Once those in the daemon who take messages listen. */
  readonly listen: () => Promise<Pick<Endpoints, 'mqtt' | 'mqttWebSocket'>>
  /** Goes on with a store that was opened anew after a failed write; after the outbox has. */
  readonly reopen: (store: Store) => Promise<void>
}

export interface MqttWayComponents {
  readonly node: NodeName
  readonly store: Store
  readonly committer: Committer
  readonly outbox: Outbox
  readonly routes: Routes<OutboxLane>
  readonly metrics: EdgecoreMetrics
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly failpoint: Failpoint
}

/** MQTT 3.1.1 §2.2: type, flags, and the remaining length. */
const fixedHeaderBytes = 5

/** As `mqtt.mode` says. Rejects with the store's errors. */
export async function openMqttWay(config: EdgecoreConfig, components: MqttWayComponents): Promise<MqttWay> {
  return config.mqtt.mode === 'external' ? externalWay(config, components) : await embeddedWay(config, components)
}

async function embeddedWay({ mqtt }: EdgecoreConfig, components: MqttWayComponents): Promise<MqttWay> {
  const { store, committer, outbox, routes, metrics, clock, log, failpoint } = components
  const broker = await Broker.open({
    packetBytesMax: mqtt.packetBytesMax,
    connectionsMax: mqtt.connectionsMax,
    connectTimeoutMs: mqtt.connectTimeout,
    pendingBytesMaxPerClient: mqtt.pendingBytesMaxPerClient,
    pendingBytesMax: mqtt.pendingBytesMax,
    fullWaitMs: mqtt.fullWait,
    keepaliveMaxMs: mqtt.keepaliveMax,
    subscriptionsMaxPerClient: mqtt.subscriptionsMaxPerClient,
    retainedCountMax: mqtt.retainedCountMax,
    retainedBytesMax: mqtt.retainedBytesMax,
    sessionsMax: mqtt.sessionsMax,
    sessionExpiryMs: mqtt.sessionExpiry,
    offlineQueueCountMax: mqtt.offlineQueueCountMax,
    offlineQueueBytesMax: mqtt.offlineQueueBytesMax
  }, {
    store, committer, sink: outbox, routes, clock, log,
    uptimeMs: () => outbox.uptimeMs(),
    onAcks: metrics.onMqttAcks,
    failpoint
  })
  metrics.watchBroker(broker)
  const listener = new MqttListener(mqtt, { broker, log })
  const { mode, ...where } = mqtt.webSocket
  const webSocket = mode === 'off' ? undefined : new WebSocketListener({
    ...where, messageBytesMax: mqtt.packetBytesMax + fixedHeaderBytes
  }, { broker, log })
  return {
    bus: broker,
    // The last one stops first, and the broker with it.
    services: webSocket === undefined ? [listener] : [webSocket, listener],
    ready: () => broker.ready,
    async listen() {
      const url = await listener.listen()
      return webSocket === undefined ? { mqtt: url } : { mqtt: url, mqttWebSocket: await webSocket.listen() }
    },
    reopen: anew => broker.reopen(anew)
  }
}

function externalWay({ mqtt, routes: rules }: EdgecoreConfig, components: MqttWayComponents): MqttWay {
  const { node, outbox, routes, metrics, clock, random, log } = components
  const { url = '', clientId, username, passwordFile, caFile, certificateFile, keyFile } = mqtt.external
  const broker = new ExternalBroker({
    url, username, passwordFile, caFile, certificateFile, keyFile,
    clientId: clientId ?? `holdfast-${node}`,
    packetBytesMax: mqtt.packetBytesMax,
    // edgecore's connection is the one client that there is.
    pendingBytesMax: mqtt.pendingBytesMaxPerClient,
    filters: rules.filter(({ lane }) => lane !== localOnly).map(({ filter }) => filter.replaceAll(/\{[a-z]+\}/g, '+'))
  }, { sink: outbox, routes, clock, random, log, onAcks: metrics.onMqttAcks })
  metrics.watchExternalBroker(broker)
  return {
    bus: broker, services: [broker], ready: () => broker.ready, listen: async () => ({ mqtt: url }), reopen: async () => {}
  }
}
