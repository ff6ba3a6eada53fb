import { HoldfastError, SystemClock, parseNodeName, watchProcess } from '@holdfast/runtime'
import type { NodeName } from '@holdfast/runtime'
import { parseEpoch } from '@holdfast/protos'
import { newStateStats } from '@holdfast/sync'
import { expect, onTestFinished, test } from 'vitest'
import type { HubStats, NodePresence } from './hub/hub.ts'
import type { CloudLogStats, NodeTotals } from './log/cloud-log.ts'
import { CloudcoreMetrics, cloudcoreMetrics, nodeSeriesMax } from './metrics.ts'
import type { HubNumbers } from './metrics.ts'

const stats: CloudLogStats = {
  batches: 7, records: 70, bytes: 7000, phantoms: 2, conflicts: 1, gaps: 3, corruptEntries: 4, entriesDropped: 5, reopens: 6, salvages: 8
}
const hubStats = (): HubStats => ({
  sessions: 3, ends: new Map([['closed', 2], ['DUPLICATE_IDENTITY', 1]]), framesReceived: 10, bytesReceived: 1000,
  recordsAppended: 60, batchesAppended: 6, phantomsDropped: 2, gaps: 1, duplicates: 1
})
const nodeName = (text: string): NodeName => parseNodeName(text)!
const presence = (name: string, connected = true): NodePresence =>
  ({ name: nodeName(name), connected, lastSeenMs: 0, duplicateIdentity: name === 'b', software: '' })
const totals = (name: string, nextOffset = 9): NodeTotals => ({
  name: nodeName(name),
  lanes: [{ lane: 'telemetry', epoch: parseEpoch('0123456789abcdef')!, nextOffset, records: 8, bytes: 800, gaps: 1 }]
})

const state = (): Pick<HubNumbers, 'stateStats' | 'statePresence'> => ({
  stateStats: { down: { ...newStateStats(), frames: 3, itemsPut: 5, itemsDeleted: 2, bytes: 700, withheld: 1 }, up: newStateStats() },
  statePresence: name => ({ notReady: name === 'a' ? ['pods'] : [], refused: '' })
})

const lines = (metrics: CloudcoreMetrics): string[] => metrics.registry.expose().split('\n')

test('hub, log, commits and the process are read when somebody asks', () => {
  const metrics = new CloudcoreMetrics()
  const hub = { stats: hubStats(), presence: () => [presence('a'), presence('b', false)], ...state() }
  metrics.watchHub(hub)
  metrics.watchLog({ stats, nodes: () => [totals('a')] })
  const watching = watchProcess(metrics.registry, new SystemClock())
  onTestFinished(() => watching[Symbol.dispose]())
  metrics.onCommit(3, 500)
  hub.stats.sessions++
  expect(lines(metrics)).toEqual(expect.arrayContaining([
    'holdfast_cloud_sessions_total 4',
    'holdfast_cloud_session_ends_total{reason="DUPLICATE_IDENTITY"} 1',
    'holdfast_cloud_nodes 2', 'holdfast_cloud_nodes_connected 1', 'holdfast_cloud_nodes_duplicate_identity 1',
    'holdfast_cloud_node_connected{node="b"} 0',
    'holdfast_cloud_state_frames_total{direction="down"} 3', 'holdfast_cloud_state_bytes_total{direction="down"} 700',
    'holdfast_cloud_state_items_total{direction="down",change="put"} 5',
    'holdfast_cloud_state_items_total{direction="down",change="deleted"} 2',
    'holdfast_cloud_state_items_total{direction="up",change="put"} 0',
    'holdfast_cloud_state_verdicts_total{direction="up",verdict="equal"} 0',
    'holdfast_cloud_state_withheld_items_total{direction="down"} 1', 'holdfast_cloud_state_nodes_not_ready 1',
    'holdfast_cloud_lane_durable_offset{node="a",lane="telemetry"} 9',
    'holdfast_cloud_phantoms_dropped_total 2', 'holdfast_cloud_conflicts_total 1', 'holdfast_cloud_gaps_total 3',
    'holdfast_cloud_log_salvages_total 8', 'holdfast_cloud_log_available 1',
    'holdfast_cloud_commits_total 1', 'holdfast_cloud_commit_seconds_bucket{le="0.0025"} 0',
    'holdfast_cloud_commit_seconds_bucket{le="0.005"} 1', 'holdfast_cloud_commit_bytes_sum 500'
  ]))
  expect(lines(metrics).some(line => line.startsWith('process_resident_memory_bytes '))).toBe(true)
})

test('the embedded Kubernetes API is read when somebody asks', () => {
  const metrics = new CloudcoreMetrics()
  const embedded = {
    api: {
      objects: { stats: { objects: 9, bytes: 900, watches: 2, historyEvents: 1, historyBytes: 100 }, revision: 77 },
      server: { requestsInFlight: 3 }
    },
    database: { quarantines: 1, reopens: 2, low: true },
    failure: new Error('no')
  }
  metrics.watchEmbeddedKubernetes(embedded)
  expect(lines(metrics)).toEqual(expect.arrayContaining([
    'holdfast_cloud_kube_api_objects 9', 'holdfast_cloud_kube_api_object_bytes 900', 'holdfast_cloud_kube_api_revision 77',
    'holdfast_cloud_kube_api_watches 2', 'holdfast_cloud_kube_api_requests_in_flight 3', 'holdfast_cloud_kube_api_store_failed 1',
    'holdfast_cloud_kube_api_store_reopens_total 2', 'holdfast_cloud_kube_api_store_quarantines_total 1',
    'holdfast_cloud_kube_api_disk_low 1'
  ]))
})

test('what has to do with Kubernetes is read when somebody asks', () => {
  const metrics = new CloudcoreMetrics()
  const object = { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'a' } }
  metrics.watchControllers({
    inSync: true,
    informers: { pods: { synced: true, objects: () => [object, object] }, nodes: { synced: false, objects: () => [] } },
    writer: {
      stats: { written: 5, dropped: { recorded: 1, gone: 2, another: 0, overtaken: 0, away: 3 }, refused: 4, conflicts: 6, coalesced: 7 },
      pending: 8, retries: 9
    },
    deviceStatuses: { synced: true, objects: () => [object] },
    devices: {
      writer: {
        stats: { written: 25, dropped: { recorded: 21, gone: 22, another: 0, overtaken: 0, away: 0 }, refused: 24, conflicts: 26, coalesced: 27 },
        pending: 28, retries: 29
      },
      planner: { stamps: 30 },
      events: { stats: { written: 31, dropped: 32 } }
    },
    targets: { stats: { rejectedItems: 10, comparisons: 0 } },
    nodeController: { stats: { registered: 11, markedAway: 12, markedBack: 13 } },
    leases: { renewals: 14 },
    deletions: { confirmed: 15 },
    tolerations: { changed: 16 }
  })
  expect(lines(metrics)).toEqual(expect.arrayContaining([
    'holdfast_cloud_kube_in_sync 1', 'holdfast_cloud_kube_informer_synced{kind="pods"} 1', 'holdfast_cloud_kube_informer_synced{kind="nodes"} 0',
    'holdfast_cloud_kube_informer_objects{kind="pods"} 2', 'holdfast_cloud_status_writes_total 5',
    'holdfast_cloud_status_drops_total{reason="gone"} 2', 'holdfast_cloud_status_refusals_total 4',
    'holdfast_cloud_status_conflicts_total 6', 'holdfast_cloud_status_coalesced_total 7', 'holdfast_cloud_status_pending 8',
    'holdfast_cloud_status_retries_total 9', 'holdfast_cloud_status_rejected_items_total 10', 'holdfast_cloud_nodes_registered_total 11',
    'holdfast_cloud_nodes_marked_total{as="away"} 12', 'holdfast_cloud_nodes_marked_total{as="back"} 13',
    'holdfast_cloud_lease_renewals_total 14', 'holdfast_cloud_pod_deletions_total 15',
    'holdfast_cloud_pod_tolerations_total 16', 'holdfast_cloud_kube_informer_objects{kind="devicestatuses"} 1',
    'holdfast_cloud_device_writes_total 25', 'holdfast_cloud_device_drops_total{reason="gone"} 22',
    'holdfast_cloud_device_refusals_total 24', 'holdfast_cloud_device_conflicts_total 26', 'holdfast_cloud_device_coalesced_total 27',
    'holdfast_cloud_device_pending 28', 'holdfast_cloud_device_retries_total 29', 'holdfast_cloud_device_stamps_total 30',
    'holdfast_cloud_device_events_total{outcome="written"} 31', 'holdfast_cloud_device_events_total{outcome="dropped"} 32'
  ]))
})

test('a log that is being opened again is shown as such, and keeps its series', () => {
  const metrics = new CloudcoreMetrics()
  let available = true
  metrics.watchLog({ stats, nodes: () => {
    if (!available) throw new HoldfastError('LOG_UNAVAILABLE', 'again')
    return [totals('a')]
  } })
  expect(lines(metrics)).toContain('holdfast_cloud_log_available 1')
  available = false
  expect(lines(metrics)).toEqual(expect.arrayContaining([
    'holdfast_cloud_log_available 0', 'holdfast_cloud_lane_durable_offset{node="a",lane="telemetry"} 9'
  ]))
})

test('series of nodes are bounded, the first by name, and go with their nodes', () => {
  const metrics = new CloudcoreMetrics()
  let names = Array.from({ length: nodeSeriesMax + 5 }, (_, i) => `n${10_000 + i}`).toReversed()
  metrics.watchHub({ stats: hubStats(), presence: () => names.map(name => presence(name)), ...state() })
  metrics.watchLog({ stats, nodes: () => names.map(name => totals(name)) })
  const series = (name: string): string[] => lines(metrics).filter(line => line.startsWith(`${name}{`))
  expect(series('holdfast_cloud_node_connected')).toHaveLength(nodeSeriesMax)
  expect(series('holdfast_cloud_node_connected')[0]).toContain('"n10000"')
  expect(series('holdfast_cloud_lane_records_total')).toHaveLength(nodeSeriesMax)
  expect(lines(metrics)).toContain(`holdfast_cloud_nodes ${nodeSeriesMax + 5}`)
  names = ['other']
  expect(series('holdfast_cloud_node_connected')).toEqual(['holdfast_cloud_node_connected{node="other"} 1'])
  expect(series('holdfast_cloud_lane_gaps_total')).toEqual(['holdfast_cloud_lane_gaps_total{node="other",lane="telemetry"} 1'])
})

test('counters end in _total, and names carry the program', () => {
  for (const { name, kind } of Object.values(cloudcoreMetrics)) {
    expect(name).toMatch(/^(holdfast_cloud|holdfast_event_loop|process)_/)
    expect(name.endsWith('_total')).toBe(kind === 'counter')
  }
})
