import { MetricRegistry, processMetrics } from '@holdfast/runtime'
import type { HistogramCell, MetricTable } from '@holdfast/runtime'
import type { Database, Outbox } from '@holdfast/store'
import type { Broker } from './broker/index.ts'
import type { DeviceTopics } from './device-topics/index.ts'
import type { ExternalBroker } from './external-broker/index.ts'
import type { DeviceApi } from './http/index.ts'
import type { Link } from './link/link.ts'
import type { Dmi } from './dmi/index.ts'
import type { Mappers } from './mappers/index.ts'
import type { NodeReporter } from './node-status/index.ts'
import type { LocalApi, ObjectTable } from './objects/index.ts'
import type { NodeTwins } from './twins/index.ts'

const latencyBuckets = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10] as const
const lane = ['lane'] as const

/** edgecore's metrics. */
export const edgecoreMetrics = {
  outboxRecords: {
    name: 'holdfast_edge_outbox_records', kind: 'gauge', labels: lane, help: 'Offsets that wait for the cloud.'
  },
  outboxBytes: {
    name: 'holdfast_edge_outbox_bytes', kind: 'gauge', labels: lane, help: 'Bytes that wait for the cloud, as stored.'
  },
  outboxPendingBytes: {
    name: 'holdfast_edge_outbox_pending_bytes', kind: 'gauge', labels: lane,
    help: 'Payload bytes that wait for their commit.'
  },
  outboxOldestAge: {
    name: 'holdfast_edge_outbox_oldest_age_seconds', kind: 'gauge', labels: lane,
    help: 'Node uptime since the oldest record that waits for the cloud arrived, in seconds.'
  },
  outboxKeptBytes: {
    name: 'holdfast_edge_outbox_kept_bytes', kind: 'gauge', labels: lane,
    help: 'Bytes of acknowledged records in the local cache, as stored.'
  },
  outboxFirstOffset: {
    name: 'holdfast_edge_outbox_first_offset', kind: 'gauge', labels: lane,
    help: 'Oldest offset held, the local cache included.'
  },
  outboxAckedOffset: {
    name: 'holdfast_edge_outbox_acked_offset', kind: 'gauge', labels: lane,
    help: 'The cloud durably holds every offset below.'
  },
  outboxSentOffset: {
    name: 'holdfast_edge_outbox_sent_offset', kind: 'gauge', labels: lane,
    help: 'Every offset below was handed to the link in this session or is acknowledged.'
  },
  outboxDurableOffset: {
    name: 'holdfast_edge_outbox_durable_offset', kind: 'gauge', labels: lane,
    help: 'One past the newest offset on disk.'
  },
  outboxDropped: {
    name: 'holdfast_edge_outbox_dropped_records_total', kind: 'counter', labels: lane,
    help: 'Acknowledged records given up to a bound or to corruption; a gap record stands for them.'
  },
  commits: { name: 'holdfast_edge_commits_total', kind: 'counter', help: 'Commits, each with one fsync.' },
  commitFailures: { name: 'holdfast_edge_commit_failures_total', kind: 'counter', help: 'Commits that failed.' },
  commitSeconds: {
    name: 'holdfast_edge_commit_seconds', kind: 'histogram', buckets: latencyBuckets,
    help: 'Duration of a commit: write and fsync, in seconds.'
  },
  commitBytes: {
    name: 'holdfast_edge_commit_bytes', kind: 'histogram', buckets: [256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576],
    help: 'Size of a commit, in bytes of keys and values.'
  },
  storeQuarantines: {
    name: 'holdfast_edge_store_quarantines_total', kind: 'counter',
    help: 'Databases that could not be read and were set aside.'
  },
  storeReopens: {
    name: 'holdfast_edge_store_reopens_total', kind: 'counter',
    help: 'Times that the database was opened again after a failed write.'
  },
  storeFailed: {
    name: 'holdfast_edge_store_failed', kind: 'gauge', help: '1 while nothing can be committed, else 0.'
  },
  diskFreeBytes: {
    name: 'holdfast_edge_disk_free_bytes', kind: 'gauge', help: 'Free space of the database\'s file system, in bytes.'
  },
  diskLow: {
    name: 'holdfast_edge_disk_low', kind: 'gauge', help: '1 while new records are refused for want of space, else 0.'
  },
  ingestAckSeconds: {
    name: 'holdfast_edge_ingest_ack_seconds', kind: 'histogram', labels: ['way'], buckets: latencyBuckets,
    help: 'From taking a publish or a request in to its commit, in seconds; of publishes that share a commit, the longest.'
  },
  mqttPublishes: {
    name: 'holdfast_edge_mqtt_publishes_total', kind: 'counter', labels: ['qos'], help: 'Publishes taken in.'
  },
  mqttAcked: {
    name: 'holdfast_edge_mqtt_acknowledged_total', kind: 'counter',
    help: 'Publishes whose commit returned, QoS 0 included.'
  },
  mqttRepeated: {
    name: 'holdfast_edge_mqtt_repeated_total', kind: 'counter',
    help: 'QoS 2 publishes that repeated one that was there.'
  },
  mqttNotRecorded: {
    name: 'holdfast_edge_mqtt_not_recorded_total', kind: 'counter', labels: ['reason'],
    help: 'Publishes that did not become a record: unrouted, bad-device (both stay local) or bad-topic (refused).'
  },
  mqttDropped: {
    name: 'holdfast_edge_mqtt_dropped_total', kind: 'counter', labels: ['reason'],
    help: 'What subscribers did not get or the broker did not keep: slow, offline-queue, retained, will, session, ' +
      'subscription.'
  },
  mqttConnections: { name: 'holdfast_edge_mqtt_connections', kind: 'gauge', help: 'Connections of MQTT clients.' },
  mqttConnectionsTotal: {
    name: 'holdfast_edge_mqtt_connections_total', kind: 'counter', help: 'Connections of MQTT clients accepted.'
  },
  mqttClosed: {
    name: 'holdfast_edge_mqtt_closed_total', kind: 'counter', labels: ['reason'],
    help: 'Connections of MQTT clients closed.'
  },
  mqttSubscriptions: {
    name: 'holdfast_edge_mqtt_subscriptions', kind: 'gauge',
    help: 'Subscriptions of connected clients.'
  },
  mqttPendingBytes: {
    name: 'holdfast_edge_mqtt_pending_bytes', kind: 'gauge', help: 'Bytes of publishes that wait for their commit.'
  },
  externalBrokerUp: {
    name: 'holdfast_edge_external_broker_up', kind: 'gauge', help: '1 while connected to the external broker; mqtt.mode external only.'
  },
  externalBrokerConnections: {
    name: 'holdfast_edge_external_broker_connections_total', kind: 'counter', labels: ['outcome'],
    help: 'Connections to the external broker: made, or lost (attempts that failed as well).'
  },
  dmiMappers: {
    name: 'holdfast_edge_dmi_mappers', kind: 'gauge', labels: ['state'], help: 'Mappers that have registered over DMI: connected, or away.'
  },
  dmiWaiting: {
    name: 'holdfast_edge_dmi_waiting', kind: 'gauge', help: 'Devices and models that mappers have not taken in their present form.'
  },
  dmiRegistrations: {
    name: 'holdfast_edge_dmi_registrations_total', kind: 'counter', help: 'Registrations of mappers that were acknowledged.'
  },
  dmiReports: {
    name: 'holdfast_edge_dmi_reports_total', kind: 'counter', help: 'Reports of mappers that were acknowledged.'
  },
  dmiRefused: {
    name: 'holdfast_edge_dmi_refused_total', kind: 'counter', labels: ['status'],
    help: 'Calls of mappers that were refused, by gRPC status.'
  },
  dmiCalls: {
    name: 'holdfast_edge_dmi_calls_total', kind: 'counter', labels: ['outcome'],
    help: 'Devices and models that mappers were told of: applied, refused, or unanswered.'
  },
  mapperDevices: {
    name: 'holdfast_edge_mapper_devices', kind: 'gauge', labels: ['state'],
    help: 'Devices that built-in mappers serve: without a problem, or troubled.'
  },
  mapperReports: {
    name: 'holdfast_edge_mapper_reports_total', kind: 'counter',
    help: 'Messages and answers of devices that built-in mappers took values from.'
  },
  mapperProblems: {
    name: 'holdfast_edge_mapper_problems_total', kind: 'counter',
    help: 'Values and answers of devices that built-in mappers could not take.'
  },
  mapperWrites: {
    name: 'holdfast_edge_mapper_writes_total', kind: 'counter', labels: ['outcome'],
    help: 'Desired values that built-in mappers told to devices: told, or failed.'
  },
  httpRequests: {
    name: 'holdfast_edge_http_requests_total', kind: 'counter', help: 'Requests with records that were acknowledged.'
  },
  httpRecords: {
    name: 'holdfast_edge_http_records_total', kind: 'counter',
    help: 'Records of requests that were acknowledged.'
  },
  httpReplayed: {
    name: 'holdfast_edge_http_replayed_total', kind: 'counter',
    help: 'Requests answered by an earlier one\'s Idempotency-Key.'
  },
  httpRefused: {
    name: 'holdfast_edge_http_refused_total', kind: 'counter', labels: ['code'],
    help: 'Requests with records, or for twins, that were refused.'
  },
  httpInFlight: {
    name: 'holdfast_edge_http_requests_in_flight', kind: 'gauge', help: 'Requests being handled, without watches of twins.'
  },
  httpWatches: { name: 'holdfast_edge_http_twin_watches', kind: 'gauge', help: 'Open watches of twins.' },
  idempotencyKeys: {
    name: 'holdfast_edge_http_idempotency_keys', kind: 'gauge', help: 'Idempotency-Keys that are remembered.'
  },
  linkUp: { name: 'holdfast_edge_link_up', kind: 'gauge', help: '1 while records can be sent to the cloud, else 0.' },
  linkSessions: {
    name: 'holdfast_edge_link_sessions_total', kind: 'counter',
    help: 'Sessions that reached the cloud log.'
  },
  linkEnds: {
    name: 'holdfast_edge_link_ends_total', kind: 'counter', labels: ['reason'],
    help: 'Sessions that ended and attempts that failed; a reconnect follows each but `stopped`.'
  },
  linkFrames: { name: 'holdfast_edge_link_frames_sent_total', kind: 'counter', help: 'Frames sent to the cloud.' },
  linkBytes: {
    name: 'holdfast_edge_link_sent_bytes_total', kind: 'counter',
    help: 'Bytes of frames sent to the cloud.'
  },
  linkAcked: {
    name: 'holdfast_edge_link_acknowledged_records_total', kind: 'counter',
    help: 'Offsets that the cloud acknowledged as durable.'
  },
  linkInFlight: {
    name: 'holdfast_edge_link_in_flight_bytes', kind: 'gauge', help: 'Bytes sent and not acknowledged.'
  },
  linkRate: {
    name: 'holdfast_edge_link_delivery_bytes_per_second', kind: 'gauge',
    help: 'Rate at which the cloud acknowledges, in bytes per second; 0 where unknown.'
  },
  linkRoundTrip: {
    name: 'holdfast_edge_link_round_trip_seconds', kind: 'gauge',
    help: 'Round trip of the last probe of a silent link, in seconds.'
  },
  linkDivergences: {
    name: 'holdfast_edge_link_divergences_total', kind: 'counter',
    help: 'Times that the cloud held other bytes under this node\'s name and a lane was re-identified.'
  },
  linkLogChanges: {
    name: 'holdfast_edge_link_log_changes_total', kind: 'counter',
    help: 'Times that the cloud had another log than before.'
  },
  linkClusterChanges: {
    name: 'holdfast_edge_link_cluster_changes_total', kind: 'counter',
    help: 'Times that the cloud was of another cluster than before.'
  },
  objects: {
    name: 'holdfast_edge_objects', kind: 'gauge', labels: ['collection'],
    help: 'Objects that the cluster wants for this node and that are on its disk.'
  },
  objectsSequence: {
    name: 'holdfast_edge_objects_resource_version', kind: 'gauge', help: 'Newest resourceVersion of the local API.'
  },
  objectsDamaged: {
    name: 'holdfast_edge_objects_damaged_total', kind: 'counter',
    help: 'Objects found damaged on the disk and dropped; the cloud sends them again.'
  },
  objectsRefused: {
    name: 'holdfast_edge_objects_refused_batches_total', kind: 'counter',
    help: 'Batches from the cloud that this node could not hold.'
  },
  localApiInFlight: {
    name: 'holdfast_edge_local_api_requests_in_flight', kind: 'gauge', help: 'Requests being handled, without watches.'
  },
  localApiWatches: { name: 'holdfast_edge_local_api_watches', kind: 'gauge', help: 'Open watches of the local API.' },
  nodeReports: {
    name: 'holdfast_edge_node_status_reports_total', kind: 'counter', help: 'Node statuses that were stored, to be sent up.'
  },
  twinDevices: { name: 'holdfast_edge_twin_devices', kind: 'gauge', help: 'Devices of this node.' },
  twinWrites: {
    name: 'holdfast_edge_twin_writes_total', kind: 'counter', labels: ['section', 'source', 'outcome'],
    help: 'Writes to twins: stored, unchanged (the same values again), or refused.'
  },
  twinRefused: {
    name: 'holdfast_edge_twin_refused_total', kind: 'counter', labels: ['code'], help: 'Writes to twins that were refused, by error.'
  },
  twinStale: {
    name: 'holdfast_edge_twin_stale_properties_total', kind: 'counter',
    help: 'Reported values, and states, that were older than what is stored, and not applied.'
  },
  twinHistory: {
    name: 'holdfast_edge_twin_history_records_total', kind: 'counter', help: 'Records put into the lane of the devices\' history.'
  },
  twinPending: {
    name: 'holdfast_edge_twin_pending_reports', kind: 'gauge', help: 'Twins with something that waits for the interval of their reports.'
  },
  twinReports: {
    name: 'holdfast_edge_twin_reports_total', kind: 'counter', help: 'Twins that were put among what goes to the cloud.'
  },
  twinDamaged: {
    name: 'holdfast_edge_twin_damaged_total', kind: 'counter', help: 'Twins found damaged on the disk and dropped.'
  },
  deviceMessages: {
    name: 'holdfast_edge_device_messages_total', kind: 'counter', labels: ['kind', 'outcome'],
    help: 'Messages on KubeEdge\'s device topics: done, malformed, refused by the twin, of an unknown device, or for another node.'
  },
  devicesUnsatisfied: {
    name: 'holdfast_edge_devices_unsatisfied', kind: 'gauge', help: 'Devices that do not report what is desired of them.'
  },
  deviceDeltas: {
    name: 'holdfast_edge_device_deltas_total', kind: 'counter', help: 'Times that a device was told over MQTT what is desired of it.'
  },
  stateFrames: {
    name: 'holdfast_edge_state_frames_total', kind: 'counter', labels: ['direction'],
    help: 'Frames with changes of State that crossed the link.'
  },
  stateItems: {
    name: 'holdfast_edge_state_items_total', kind: 'counter', labels: ['direction', 'change'],
    help: 'Items of State that crossed the link: put or deleted.'
  },
  statePuts: {
    name: 'holdfast_edge_state_puts_total', kind: 'counter', labels: ['direction', 'collection'],
    help: 'Items of State that crossed the link and were put, by collection.'
  },
  stateBytes: {
    name: 'holdfast_edge_state_bytes_total', kind: 'counter', labels: ['direction'],
    help: 'Bytes of State in batches that crossed the link, as sent.'
  },
  stateVerdicts: {
    name: 'holdfast_edge_state_verdicts_total', kind: 'counter', labels: ['direction', 'verdict'],
    help: 'Outcomes of comparing a collection with the cloud.'
  },
  ...processMetrics
} as const satisfies MetricTable

/** What the collectors read; each is what the part itself exposes. */
export type OutboxNumbers = Pick<Outbox, 'lanes' | 'status'>
export type DatabaseNumbers = Pick<Database, 'quarantines' | 'reopens' | 'low' | 'freeBytes'> & {
  readonly committer: Pick<Database['committer'], 'stats' | 'failure'>
}
export type LinkNumbers = Pick<Link, 'stats' | 'live' | 'inFlightBytes' | 'bytesPerSecond'>
export type BrokerNumbers = Pick<Broker, 'counters' | 'connections' | 'subscriptions'> & {
  readonly budget: Pick<Broker['budget'], 'bytes'>
  readonly persistence: Pick<Broker['persistence'], 'counters'>
}
export type ExternalBrokerNumbers = Pick<ExternalBroker, 'counters' | 'connected' | 'pendingBytes'>
export type DmiNumbers = Pick<Dmi, 'mappers' | 'counters'>
export type MapperNumbers = Pick<Mappers, 'counters' | 'counts'>
export type ObjectNumbers = Pick<ObjectTable, 'sequence' | 'stats' | 'count'> & { readonly down: Pick<ObjectTable['down'], 'collections'> }
export type DeviceTopicsNumbers = Pick<DeviceTopics, 'requests' | 'deltas'>
export type TwinNumbers = Pick<NodeTwins, 'size' | 'stats' | 'reports'>
export type LocalApiNumbers = Pick<LocalApi, 'requestsInFlight' | 'watches'>
export type StateNumbers = Pick<Link, 'stateStats'>
export type DeviceApiNumbers = Pick<DeviceApi, 'counters' | 'requestsInFlight' | 'watches' | 'idempotencyKeys'>

/**
 * edgecore's metrics in use: made before the parts, which are watched as they come. Parts count in plain fields of their
 * own; they are read when somebody asks.
 */
export class EdgecoreMetrics {
  readonly registry = new MetricRegistry(edgecoreMetrics)

  /** For `DatabaseComponents`. */
  readonly onCommit = (durationMs: number, bytes: number): void => {
    this.#commitSeconds.observe(durationMs / 1000)
    this.#commitBytes.observe(bytes)
  }

  /** For `BrokerComponents`. */
  readonly onMqttAcks = (count: number, latencyMs: number): void => {
    observe(this.#mqttAckSeconds, latencyMs / 1000, count)
  }

  /** For `DeviceApiComponents`. */
  readonly onHttpAcks = (_count: number, latencyMs: number): void => { this.#httpAckSeconds.observe(latencyMs / 1000) }

  readonly #commitSeconds = this.registry.metrics.commitSeconds.of({})
  readonly #commitBytes = this.registry.metrics.commitBytes.of({})
  readonly #mqttAckSeconds = this.registry.metrics.ingestAckSeconds.of({ way: 'mqtt' })
  readonly #httpAckSeconds = this.registry.metrics.ingestAckSeconds.of({ way: 'http' })

  watchDatabase(database: DatabaseNumbers): void {
    const { metrics } = this.registry
    this.registry.onCollect(() => {
      const { stats, failure } = database.committer
      metrics.commits.of({}).value = stats.commits
      metrics.commitFailures.of({}).value = stats.failures
      metrics.storeQuarantines.of({}).value = database.quarantines
      metrics.storeReopens.of({}).value = database.reopens
      metrics.storeFailed.of({}).value = failure === undefined ? 0 : 1
      metrics.diskFreeBytes.of({}).value = database.freeBytes
      metrics.diskLow.of({}).value = database.low ? 1 : 0
    })
  }

  watchOutbox(outbox: OutboxNumbers): void {
    const { metrics } = this.registry
    this.registry.onCollect(() => {
      for (const status of outbox.status()) {
        const labels = { lane: status.lane }
        metrics.outboxRecords.of(labels).value = status.records
        metrics.outboxBytes.of(labels).value = status.bytes
        metrics.outboxOldestAge.of(labels).value = status.oldestAgeSeconds
        metrics.outboxFirstOffset.of(labels).value = status.firstOffset
        metrics.outboxAckedOffset.of(labels).value = status.ackedOffset
        metrics.outboxDurableOffset.of(labels).value = status.nextOffset
        metrics.outboxDropped.of(labels).value = status.droppedRecords
      }
      for (const { name, pendingBytes, keptBytes, handedOut } of outbox.lanes) {
        const labels = { lane: name }
        metrics.outboxPendingBytes.of(labels).value = pendingBytes
        metrics.outboxKeptBytes.of(labels).value = keptBytes
        metrics.outboxSentOffset.of(labels).value = handedOut
      }
    })
  }

  watchBroker(broker: BrokerNumbers): void {
    const { metrics } = this.registry
    this.registry.onCollect(() => {
      const { counters } = broker
      const kept = broker.persistence.counters
      for (const [qos, count] of counters.publishes.entries()) metrics.mqttPublishes.of({ qos: String(qos) }).value = count
      metrics.mqttAcked.of({}).value = counters.acknowledged
      metrics.mqttRepeated.of({}).value = counters.repeated
      metrics.mqttNotRecorded.of({ reason: 'unrouted' }).value = counters.unrouted
      metrics.mqttNotRecorded.of({ reason: 'bad-device' }).value = counters.badDevice
      metrics.mqttNotRecorded.of({ reason: 'bad-topic' }).value = counters.badTopic
      metrics.mqttDropped.of({ reason: 'slow' }).value = counters.droppedToSlow
      metrics.mqttDropped.of({ reason: 'offline-queue' }).value = kept.offlineDropped
      metrics.mqttDropped.of({ reason: 'retained' }).value = kept.retainedRefused
      metrics.mqttDropped.of({ reason: 'will' }).value = counters.willsLost
      metrics.mqttDropped.of({ reason: 'session' }).value = kept.sessionsExpired
      metrics.mqttDropped.of({ reason: 'subscription' }).value = counters.subscriptionsRefused
      metrics.mqttConnections.of({}).value = broker.connections
      metrics.mqttConnectionsTotal.of({}).value = counters.connectionsAccepted
      for (const [reason, count] of Object.entries(counters.closed)) metrics.mqttClosed.of({ reason }).value = count
      metrics.mqttSubscriptions.of({}).value = broker.subscriptions
      metrics.mqttPendingBytes.of({}).value = broker.budget.bytes
    })
  }

  watchExternalBroker(broker: ExternalBrokerNumbers): void {
    const { metrics } = this.registry
    this.registry.onCollect(() => {
      const { counters } = broker
      for (const [qos, count] of counters.received.entries()) metrics.mqttPublishes.of({ qos: String(qos) }).value = count
      metrics.mqttAcked.of({}).value = counters.acknowledged
      metrics.mqttNotRecorded.of({ reason: 'unrouted' }).value = counters.unrouted
      metrics.mqttNotRecorded.of({ reason: 'bad-device' }).value = counters.badDevice
      metrics.mqttNotRecorded.of({ reason: 'bad-topic' }).value = counters.badTopic
      metrics.mqttNotRecorded.of({ reason: 'too-large' }).value = counters.oversized
      metrics.mqttDropped.of({ reason: 'outgoing' }).value = counters.outgoingDropped
      metrics.mqttDropped.of({ reason: 'subscription' }).value = counters.subscriptionsRefused
      metrics.mqttPendingBytes.of({}).value = broker.pendingBytes
      metrics.externalBrokerUp.of({}).value = broker.connected ? 1 : 0
      metrics.externalBrokerConnections.of({ outcome: 'made' }).value = counters.connected
      metrics.externalBrokerConnections.of({ outcome: 'lost' }).value = counters.lost
    })
  }

  watchDmi(dmi: DmiNumbers): void {
    const { metrics } = this.registry
    this.registry.onCollect(() => {
      const { counters, mappers } = dmi
      const connected = mappers.filter(mapper => mapper.connected).length
      metrics.dmiMappers.of({ state: 'connected' }).value = connected
      metrics.dmiMappers.of({ state: 'away' }).value = mappers.length - connected
      metrics.dmiWaiting.of({}).value = mappers.reduce((sum, { waiting }) => sum + waiting, 0)
      metrics.dmiRegistrations.of({}).value = counters.registrations
      metrics.dmiReports.of({}).value = counters.reports
      for (const [status, count] of counters.refusals) metrics.dmiRefused.of({ status }).value = count
      for (const outcome of ['applied', 'refused', 'unanswered'] as const) metrics.dmiCalls.of({ outcome }).value = counters[outcome]
    })
  }

  watchMappers(mappers: MapperNumbers): void {
    const { metrics } = this.registry
    this.registry.onCollect(() => {
      const { counters, counts } = mappers
      metrics.mapperDevices.of({ state: 'ok' }).value = counts.devices - counts.troubled
      metrics.mapperDevices.of({ state: 'troubled' }).value = counts.troubled
      metrics.mapperReports.of({}).value = counters.reports
      metrics.mapperProblems.of({}).value = counters.problems
      metrics.mapperWrites.of({ outcome: 'told' }).value = counters.writes - counters.writesFailed
      metrics.mapperWrites.of({ outcome: 'failed' }).value = counters.writesFailed
    })
  }

  watchDeviceApi(api: DeviceApiNumbers): void {
    const { metrics } = this.registry
    this.registry.onCollect(() => {
      metrics.httpRequests.of({}).value = api.counters.requests
      metrics.httpRecords.of({}).value = api.counters.records
      metrics.httpReplayed.of({}).value = api.counters.replayed
      for (const [code, count] of api.counters.refused) metrics.httpRefused.of({ code }).value = count
      metrics.httpWatches.of({}).value = api.watches
      metrics.httpInFlight.of({}).value = api.requestsInFlight
      metrics.idempotencyKeys.of({}).value = api.idempotencyKeys
    })
  }

  watchObjects(table: ObjectNumbers, api: LocalApiNumbers, reporter: Pick<NodeReporter, 'reports'>): void {
    const { metrics } = this.registry
    this.registry.onCollect(() => {
      for (const collection of table.down.collections) metrics.objects.of({ collection }).value = table.count(collection)
      metrics.objectsSequence.of({}).value = table.sequence
      metrics.objectsDamaged.of({}).value = table.stats.damagedItems
      metrics.objectsRefused.of({}).value = table.stats.refusedBatches
      metrics.localApiInFlight.of({}).value = api.requestsInFlight
      metrics.localApiWatches.of({}).value = api.watches
      metrics.nodeReports.of({}).value = reporter.reports
    })
  }

  watchTwins(twins: TwinNumbers): void {
    const { metrics } = this.registry
    this.registry.onCollect(() => {
      const { stats, reports } = twins
      metrics.twinDevices.of({}).value = twins.size
      for (const { section, source, outcome, count } of stats.writes.values()) {
        metrics.twinWrites.of({ section, source, outcome }).value = count
      }
      for (const [code, count] of stats.refused) metrics.twinRefused.of({ code }).value = count
      metrics.twinStale.of({}).value = stats.staleProperties
      metrics.twinHistory.of({}).value = stats.historyRecords
      metrics.twinPending.of({}).value = reports.pending
      metrics.twinReports.of({}).value = reports.puts
      metrics.twinDamaged.of({}).value = stats.damagedTwins
    })
  }

  watchDeviceTopics(topics: DeviceTopicsNumbers): void {
    const { metrics } = this.registry
    this.registry.onCollect(() => {
      for (const { kind, outcome, count } of topics.requests.values()) metrics.deviceMessages.of({ kind, outcome }).value = count
      metrics.devicesUnsatisfied.of({}).value = topics.deltas.size
      metrics.deviceDeltas.of({}).value = topics.deltas.told
    })
  }

  watchState({ stateStats }: StateNumbers): void {
    const { metrics } = this.registry
    this.registry.onCollect(() => {
      for (const direction of ['down', 'up'] as const) {
        const { frames, bytes, itemsPut, itemsDeleted, putsOf, verdicts } = stateStats[direction]
        metrics.stateFrames.of({ direction }).value = frames
        metrics.stateItems.of({ direction, change: 'put' }).value = itemsPut
        metrics.stateItems.of({ direction, change: 'deleted' }).value = itemsDeleted
        for (const [collection, count] of putsOf) metrics.statePuts.of({ direction, collection }).value = count
        metrics.stateBytes.of({ direction }).value = bytes
        for (const [verdict, count] of Object.entries(verdicts)) metrics.stateVerdicts.of({ direction, verdict }).value = count
      }
    })
  }

  watchLink(link: LinkNumbers): void {
    const { metrics } = this.registry
    this.registry.onCollect(() => {
      const { stats } = link
      metrics.linkUp.of({}).value = link.live ? 1 : 0
      metrics.linkSessions.of({}).value = stats.sessions
      for (const [reason, count] of Object.entries(stats.ends)) metrics.linkEnds.of({ reason }).value = count
      metrics.linkFrames.of({}).value = stats.framesSent
      metrics.linkBytes.of({}).value = stats.bytesSent
      metrics.linkAcked.of({}).value = stats.recordsAcknowledged
      metrics.linkInFlight.of({}).value = link.inFlightBytes
      metrics.linkRate.of({}).value = link.bytesPerSecond
      metrics.linkRoundTrip.of({}).value = stats.probeMs / 1000
      metrics.linkDivergences.of({}).value = stats.divergences
      metrics.linkLogChanges.of({}).value = stats.logChanges
      metrics.linkClusterChanges.of({}).value = stats.clusterChanges
    })
  }
}

/** As many observations of one value as publishes shared a commit, at the price of one. */
function observe(cell: HistogramCell, value: number, count: number): void {
  const above = latencyBuckets.findIndex(bound => value <= bound)
  cell.counts[above === -1 ? latencyBuckets.length : above]! += count
  cell.sum += value * count
}
