import { SystemClock, watchProcess } from '@holdfast/runtime'
import { newStateStats } from '@holdfast/sync'
import { expect, onTestFinished, test } from 'vitest'
import { openEdge } from './testing/device-api-fixture.ts'
import { EdgecoreMetrics, edgecoreMetrics } from './metrics.ts'
import type { BrokerNumbers, DatabaseNumbers, LinkNumbers } from './metrics.ts'

const lines = (metrics: EdgecoreMetrics): string[] => metrics.registry.expose().split('\n')

test('the outbox and the device API are read when somebody asks', async () => {
  const metrics = new EdgecoreMetrics()
  await using edge = await openEdge({ onAcks: metrics.onHttpAcks })
  metrics.watchOutbox(edge.outbox)
  metrics.watchDeviceApi(edge.api)
  const post = (path: string, key: string): Promise<Response> =>
    fetch(edge.url + path, { method: 'POST', body: 'x', headers: { 'idempotency-key': key } })
  for (const [path, key] of [['ns/n', 'a'], ['ns/n', 'a'], ['ns/n', 'b'], ['-/n', 'c']] as const) {
    await post(`/v1/devices/${path}/telemetry`, key)
  }
  const lane = edge.outbox.lane('telemetry')!
  const stored = await edge.outbox.scan(lane, 0, 2 ** 20)
  edge.outbox.acknowledge(lane, 1, stored.slice(0, 1).map(({ base, next, bytes }) => ({ base, next, bytes: bytes.length })))
  expect(lines(metrics)).toEqual(expect.arrayContaining([
    'holdfast_edge_outbox_records{lane="telemetry"} 1', 'holdfast_edge_outbox_records{lane="alarms"} 0',
    `holdfast_edge_outbox_bytes{lane="telemetry"} ${stored[1]!.bytes.length}`,
    `holdfast_edge_outbox_kept_bytes{lane="telemetry"} ${stored[0]!.bytes.length}`,
    'holdfast_edge_outbox_durable_offset{lane="telemetry"} 2', 'holdfast_edge_outbox_acked_offset{lane="telemetry"} 1',
    'holdfast_edge_outbox_sent_offset{lane="telemetry"} 1', 'holdfast_edge_outbox_dropped_records_total{lane="telemetry"} 0',
    'holdfast_edge_http_requests_total 2', 'holdfast_edge_http_records_total 2', 'holdfast_edge_http_replayed_total 1',
    'holdfast_edge_http_refused_total{code="DEVICE_INVALID"} 1', 'holdfast_edge_http_idempotency_keys 2',
    'holdfast_edge_ingest_ack_seconds_count{way="http"} 2', 'holdfast_edge_ingest_ack_seconds_count{way="mqtt"} 0'
  ]))
})

test('database, broker, link and the process are read when somebody asks', () => {
  const metrics = new EdgecoreMetrics()
  const database: DatabaseNumbers = {
    quarantines: 1, reopens: 2, low: true, freeBytes: 1000,
    committer: { stats: { commits: 5, bytes: 500, failures: 1, lastMs: 3 }, failure: new Error('EIO') }
  }
  const broker = {
    counters: {
      publishes: [1, 2, 3], acknowledged: 6, repeated: 1, unrouted: 2, badDevice: 3, badTopic: 4, droppedToSlow: 5,
      subscriptionsRefused: 6, willsLost: 7, connectionsAccepted: 8, closed: { keepalive: 9 }
    },
    connections: 10, subscriptions: 11, budget: { bytes: 12 },
    persistence: { counters: { retainedRefused: 13, offlineDropped: 14, sessionsExpired: 15, unreadable: 0 } }
  } as unknown as BrokerNumbers
  const link: LinkNumbers = {
    live: true, inFlightBytes: 100, bytesPerSecond: 200,
    stats: {
      sessions: 2, ends: { closed: 3, silent: 1, refused: 0, protocol: 0, timeout: 0, diverged: 0, trimmed: 0, failed: 0, reopened: 0, stopped: 0 },
      framesSent: 4, bytesSent: 5, recordsAcknowledged: 6, divergences: 7, logChanges: 8, clusterChanges: 9, probeMs: 250
    }
  }
  metrics.watchDatabase(database)
  metrics.watchBroker(broker)
  metrics.watchLink(link)
  const watching = watchProcess(metrics.registry, new SystemClock())
  onTestFinished(() => watching[Symbol.dispose]())
  metrics.onCommit(3, 500)
  link.stats.sessions++
  expect(lines(metrics)).toEqual(expect.arrayContaining([
    'holdfast_edge_commits_total 5', 'holdfast_edge_commit_failures_total 1', 'holdfast_edge_store_failed 1',
    'holdfast_edge_store_quarantines_total 1', 'holdfast_edge_store_reopens_total 2',
    'holdfast_edge_disk_free_bytes 1000', 'holdfast_edge_disk_low 1',
    'holdfast_edge_commit_seconds_bucket{le="0.0025"} 0', 'holdfast_edge_commit_seconds_bucket{le="0.005"} 1',
    'holdfast_edge_commit_bytes_sum 500',
    'holdfast_edge_mqtt_publishes_total{qos="2"} 3', 'holdfast_edge_mqtt_acknowledged_total 6',
    'holdfast_edge_mqtt_not_recorded_total{reason="bad-device"} 3', 'holdfast_edge_mqtt_dropped_total{reason="offline-queue"} 14',
    'holdfast_edge_mqtt_closed_total{reason="keepalive"} 9', 'holdfast_edge_mqtt_pending_bytes 12',
    'holdfast_edge_link_up 1', 'holdfast_edge_link_sessions_total 3', 'holdfast_edge_link_ends_total{reason="silent"} 1',
    'holdfast_edge_link_round_trip_seconds 0.25', 'holdfast_edge_link_divergences_total 7',
    'holdfast_edge_link_acknowledged_records_total 6', 'holdfast_edge_link_in_flight_bytes 100'
  ]))
})

test('twins are read when somebody asks', () => {
  const metrics = new EdgecoreMetrics()
  metrics.watchTwins({
    size: 3,
    stats: {
      writes: new Map([['reported mqtt stored', { section: 'reported', source: 'mqtt', outcome: 'stored', count: 4 }]]),
      refused: new Map([['TWIN_RANGE', 5]]), staleProperties: 6, historyRecords: 7, damagedTwins: 8
    },
    reports: { pending: 9, puts: 10 }
  })
  expect(lines(metrics)).toEqual(expect.arrayContaining([
    'holdfast_edge_twin_devices 3', 'holdfast_edge_twin_writes_total{section="reported",source="mqtt",outcome="stored"} 4',
    'holdfast_edge_twin_refused_total{code="TWIN_RANGE"} 5', 'holdfast_edge_twin_stale_properties_total 6',
    'holdfast_edge_twin_history_records_total 7', 'holdfast_edge_twin_damaged_total 8', 'holdfast_edge_twin_pending_reports 9',
    'holdfast_edge_twin_reports_total 10'
  ]))
})

test('objects, the local API and State are read when somebody asks', () => {
  const metrics = new EdgecoreMetrics()
  metrics.watchObjects({
    sequence: 17, count: collection => collection === 'pods' ? 3 : 0, down: { collections: ['secrets', 'pods'] },
    stats: { putItems: 1, deletedItems: 2, damagedItems: 4, refusedBatches: 5 }
  }, { requestsInFlight: 6, watches: 7 }, { reports: 8 })
  const down = { ...newStateStats(), bytes: 9, itemsPut: 10, itemsDeleted: 11 }
  down.verdicts['equal'] = 12
  metrics.watchState({ stateStats: { down, up: newStateStats() } })
  expect(lines(metrics)).toEqual(expect.arrayContaining([
    'holdfast_edge_objects{collection="pods"} 3', 'holdfast_edge_objects{collection="secrets"} 0',
    'holdfast_edge_objects_resource_version 17', 'holdfast_edge_objects_damaged_total 4',
    'holdfast_edge_objects_refused_batches_total 5', 'holdfast_edge_local_api_requests_in_flight 6',
    'holdfast_edge_local_api_watches 7', 'holdfast_edge_node_status_reports_total 8',
    'holdfast_edge_state_items_total{direction="down",change="put"} 10',
    'holdfast_edge_state_items_total{direction="down",change="deleted"} 11',
    'holdfast_edge_state_bytes_total{direction="down"} 9', 'holdfast_edge_state_bytes_total{direction="up"} 0',
    'holdfast_edge_state_verdicts_total{direction="down",verdict="equal"} 12'
  ]))
})

test('publishes that share a commit count each, within the bounds and above them', () => {
  const metrics = new EdgecoreMetrics()
  metrics.onMqttAcks(1000, 4)
  metrics.onMqttAcks(2, 60_000)
  metrics.onMqttAcks(1, 5)
  expect(lines(metrics)).toEqual(expect.arrayContaining([
    'holdfast_edge_ingest_ack_seconds_bucket{le="0.0025",way="mqtt"} 0',
    'holdfast_edge_ingest_ack_seconds_bucket{le="0.005",way="mqtt"} 1001',
    'holdfast_edge_ingest_ack_seconds_bucket{le="10",way="mqtt"} 1001',
    'holdfast_edge_ingest_ack_seconds_bucket{le="+Inf",way="mqtt"} 1003',
    'holdfast_edge_ingest_ack_seconds_count{way="mqtt"} 1003',
    'holdfast_edge_ingest_ack_seconds_sum{way="mqtt"} 124.005'
  ]))
})

test('counters end in _total, and names carry the program', () => {
  for (const { name, kind } of Object.values(edgecoreMetrics)) {
    expect(name).toMatch(/^(holdfast_edge|holdfast_event_loop|process)_/)
    expect(name.endsWith('_total')).toBe(kind === 'counter')
  }
})
