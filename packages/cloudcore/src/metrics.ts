import { MetricRegistry, hasCode, processMetrics } from '@holdfast/runtime'
import type { MetricTable } from '@holdfast/runtime'
import type { Hub } from './hub/hub.ts'
import type { Controllers } from './kube/controllers.ts'
import type { EmbeddedKubernetes } from './kube/embedded-kubernetes.ts'
import type { Informer } from './kube/kube-client.ts'
import type { CloudLog, NodeTotals } from './log/cloud-log.ts'

/** Nodes that have series of their own; the others are in the sums alone. */
export const nodeSeriesMax = 1000
const perLane = ['node', 'lane'] as const

/** cloudcore's metrics. */
export const cloudcoreMetrics = {
  nodes: { name: 'holdfast_cloud_nodes', kind: 'gauge', help: 'Nodes that have connected since the start.' },
  nodesConnected: { name: 'holdfast_cloud_nodes_connected', kind: 'gauge', help: 'Nodes that are connected.' },
  nodesDuplicate: {
    name: 'holdfast_cloud_nodes_duplicate_identity', kind: 'gauge', help: 'Nodes whose identity two machines use.'
  },
  nodeConnected: {
    name: 'holdfast_cloud_node_connected', kind: 'gauge', labels: ['node'],
    help: `1 while the node is connected, else 0. The first ${nodeSeriesMax} nodes by name.`
  },
  durableOffset: {
    name: 'holdfast_cloud_lane_durable_offset', kind: 'gauge', labels: perLane,
    help: `One past the newest durable offset of the lane's newest epoch. The first ${nodeSeriesMax} nodes by name.`
  },
  laneRecords: {
    name: 'holdfast_cloud_lane_records_total', kind: 'counter', labels: perLane,
    help: `Records of the lane since the log was made. The first ${nodeSeriesMax} nodes by name.`
  },
  laneGaps: {
    name: 'holdfast_cloud_lane_gaps_total', kind: 'counter', labels: perLane,
    help: `Gap records of the lane since the log was made. The first ${nodeSeriesMax} nodes by name.`
  },
  sessions: { name: 'holdfast_cloud_sessions_total', kind: 'counter', help: 'Sessions that were welcomed.' },
  sessionEnds: {
    name: 'holdfast_cloud_session_ends_total', kind: 'counter', labels: ['reason'],
    help: 'Sessions that ended: closed, silent, or the code that they were refused with.'
  },
  duplicates: {
    name: 'holdfast_cloud_duplicate_identity_refusals_total', kind: 'counter',
    help: 'Sessions refused because another machine has the node\'s identity.'
  },
  framesReceived: {
    name: 'holdfast_cloud_received_frames_total', kind: 'counter',
    help: 'Frames received from nodes.'
  },
  bytesReceived: {
    name: 'holdfast_cloud_received_bytes_total', kind: 'counter',
    help: 'Bytes of frames received from nodes.'
  },
  recordsAppended: {
    name: 'holdfast_cloud_appended_records_total', kind: 'counter',
    help: 'Records received, made durable and acknowledged.'
  },
  batchesAppended: {
    name: 'holdfast_cloud_appended_batches_total', kind: 'counter',
    help: 'Batches received, made durable and acknowledged, gaps included.'
  },
  phantoms: {
    name: 'holdfast_cloud_phantoms_dropped_total', kind: 'counter',
    help: 'Batches dropped because their offsets were there already, with equal content.'
  },
  gaps: {
    name: 'holdfast_cloud_gaps_total', kind: 'counter',
    help: 'Gap records written, the cloud\'s own included.'
  },
  conflicts: {
    name: 'holdfast_cloud_conflicts_total', kind: 'counter',
    help: 'Batches refused: a hole before them, or other content at their offsets.'
  },
  logAvailable: {
    name: 'holdfast_cloud_log_available', kind: 'gauge', help: '1 while the cloud log can be written, else 0.'
  },
  logBatches: { name: 'holdfast_cloud_log_batches_total', kind: 'counter', help: 'Batches written to the log.' },
  logRecords: { name: 'holdfast_cloud_log_records_total', kind: 'counter', help: 'Records written to the log.' },
  logBytes: {
    name: 'holdfast_cloud_log_written_bytes_total', kind: 'counter',
    help: 'Bytes of batches written to the log.'
  },
  logCorrupt: {
    name: 'holdfast_cloud_log_corrupt_entries_total', kind: 'counter',
    help: 'Entries found missing or damaged, at open or while reading.'
  },
  logDropped: {
    name: 'holdfast_cloud_log_dropped_entries_total', kind: 'counter', help: 'Entries that retention removed.'
  },
  logReopens: {
    name: 'holdfast_cloud_log_reopens_total', kind: 'counter',
    help: 'Times that the log was opened again after a failed write.'
  },
  logSalvages: {
    name: 'holdfast_cloud_log_salvages_total', kind: 'counter',
    help: 'Times that the log was set aside and made anew from what could be read.'
  },
  commits: { name: 'holdfast_cloud_commits_total', kind: 'counter', help: 'Commits, each with one fsync.' },
  commitSeconds: {
    name: 'holdfast_cloud_commit_seconds', kind: 'histogram',
    help: 'Duration of a commit: write and fsync, in seconds.',
    buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]
  },
  commitBytes: {
    name: 'holdfast_cloud_commit_bytes', kind: 'histogram', help: 'Size of a commit, in bytes of keys and values.',
    buckets: [256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576]
  },
  stateFrames: {
    name: 'holdfast_cloud_state_frames_total', kind: 'counter', labels: ['direction'],
    help: 'Frames with changes of State that crossed links.'
  },
  stateItems: {
    name: 'holdfast_cloud_state_items_total', kind: 'counter', labels: ['direction', 'change'],
    help: 'Items of State that crossed links: put or deleted.'
  },
  stateBytes: {
    name: 'holdfast_cloud_state_bytes_total', kind: 'counter', labels: ['direction'],
    help: 'Bytes of State in batches that crossed links, as sent.'
  },
  stateVerdicts: {
    name: 'holdfast_cloud_state_verdicts_total', kind: 'counter', labels: ['direction', 'verdict'],
    help: 'Outcomes of comparing a collection with a node.'
  },
  stateRefusals: {
    name: 'holdfast_cloud_state_refused_batches_total', kind: 'counter', labels: ['direction'],
    help: 'Batches of State that their reader could not hold.'
  },
  stateWithheld: {
    name: 'holdfast_cloud_state_withheld_items_total', kind: 'counter', labels: ['direction'],
    help: 'Items of State that were kept back because they are out of bounds.'
  },
  stateNotReady: {
    name: 'holdfast_cloud_state_nodes_not_ready', kind: 'gauge',
    help: 'Connected nodes of which some collection waits, because it is not known yet what it holds.'
  },
  kubeApiObjects: { name: 'holdfast_cloud_kube_api_objects', kind: 'gauge', help: 'Objects in the embedded Kubernetes API.' },
  kubeApiBytes: { name: 'holdfast_cloud_kube_api_object_bytes', kind: 'gauge', help: 'Bytes of these objects, as JSON.' },
  kubeApiRevision: {
    name: 'holdfast_cloud_kube_api_revision', kind: 'gauge',
    help: 'Newest resourceVersion of the embedded API: grows by one with each change.'
  },
  kubeApiWatches: { name: 'holdfast_cloud_kube_api_watches', kind: 'gauge', help: 'Open watches of the embedded API.' },
  kubeApiInFlight: {
    name: 'holdfast_cloud_kube_api_requests_in_flight', kind: 'gauge', help: 'Requests being handled, without watches.'
  },
  kubeApiStoreFailed: {
    name: 'holdfast_cloud_kube_api_store_failed', kind: 'gauge', help: '1 while the objects cannot be written, else 0.'
  },
  kubeApiReopens: {
    name: 'holdfast_cloud_kube_api_store_reopens_total', kind: 'counter',
    help: 'Times that the database of objects was opened again after a failed write.'
  },
  kubeApiQuarantines: {
    name: 'holdfast_cloud_kube_api_store_quarantines_total', kind: 'counter',
    help: 'Times that the database of objects could not be read and was set aside.'
  },
  kubeApiDiskLow: {
    name: 'holdfast_cloud_kube_api_disk_low', kind: 'gauge', help: '1 while new objects are refused for want of space, else 0.'
  },
  kubeInSync: {
    name: 'holdfast_cloud_kube_in_sync', kind: 'gauge',
    help: '1 while all that nodes are to hold is known; 0 at the start, with an API of no use, and after a fault.'
  },
  kubeSynced: {
    name: 'holdfast_cloud_kube_informer_synced', kind: 'gauge', labels: ['kind'],
    help: '1 where all objects of the kind are known, else 0: until then nodes keep what they have.'
  },
  kubeObjects: {
    name: 'holdfast_cloud_kube_informer_objects', kind: 'gauge', labels: ['kind'], help: 'Objects of the kind that are known.'
  },
  statusWrites: {
    name: 'holdfast_cloud_status_writes_total', kind: 'counter', help: 'Statuses that nodes reported, written into Kubernetes.'
  },
  statusDrops: {
    name: 'holdfast_cloud_status_drops_total', kind: 'counter', labels: ['reason'],
    help: 'Statuses that were not written, because of what Kubernetes held already.'
  },
  statusRefusals: {
    name: 'holdfast_cloud_status_refusals_total', kind: 'counter', help: 'Statuses that Kubernetes refused to take.'
  },
  statusRetries: {
    name: 'holdfast_cloud_status_retries_total', kind: 'counter', help: 'Writes of statuses that failed and were tried again.'
  },
  statusConflicts: {
    name: 'holdfast_cloud_status_conflicts_total', kind: 'counter',
    help: 'Writes of statuses that were decided anew, because the object had changed.'
  },
  statusCoalesced: {
    name: 'holdfast_cloud_status_coalesced_total', kind: 'counter', help: 'Statuses that a newer one replaced before they were written.'
  },
  statusPending: { name: 'holdfast_cloud_status_pending', kind: 'gauge', help: 'Statuses that are to be written.' },
  statusRejected: {
    name: 'holdfast_cloud_status_rejected_items_total', kind: 'counter',
    help: 'Items from nodes that no status can be made of, or that the node may not report.'
  },
  deviceWrites: {
    name: 'holdfast_cloud_device_writes_total', kind: 'counter',
    help: 'Devices, and DeviceStatuses with what nodes reported, written into Kubernetes.'
  },
  deviceDrops: {
    name: 'holdfast_cloud_device_drops_total', kind: 'counter', labels: ['reason'],
    help: 'Such writes that were not made, because of what Kubernetes held already.'
  },
  deviceRefusals: {
    name: 'holdfast_cloud_device_refusals_total', kind: 'counter', help: 'Such writes that Kubernetes refused to take.'
  },
  deviceRetries: {
    name: 'holdfast_cloud_device_retries_total', kind: 'counter', help: 'Such writes that failed and were tried again.'
  },
  deviceConflicts: {
    name: 'holdfast_cloud_device_conflicts_total', kind: 'counter',
    help: 'Such writes that were decided anew, because the object had changed.'
  },
  deviceCoalesced: {
    name: 'holdfast_cloud_device_coalesced_total', kind: 'counter', help: 'Such writes that a newer one replaced before they were made.'
  },
  devicePending: {
    name: 'holdfast_cloud_device_pending', kind: 'gauge', help: 'Devices and DeviceStatuses that are to be written.'
  },
  deviceStamps: {
    name: 'holdfast_cloud_device_stamps_total', kind: 'counter',
    help: 'Times that desired values of a Device got a version, or came into it from its node.'
  },
  deviceEvents: {
    name: 'holdfast_cloud_device_events_total', kind: 'counter', labels: ['outcome'],
    help: 'Events of devices that went online or offline: written, or dropped because they could not be.'
  },
  nodesRegistered: { name: 'holdfast_cloud_nodes_registered_total', kind: 'counter', help: 'Nodes made in Kubernetes.' },
  nodesMarked: {
    name: 'holdfast_cloud_nodes_marked_total', kind: 'counter', labels: ['as'],
    help: 'Times that a Node was marked as away, or as back.'
  },
  podDeletions: {
    name: 'holdfast_cloud_pod_deletions_total', kind: 'counter',
    help: 'Deleted Pods that were taken away, because nothing of them is on their node.'
  },
  podTolerations: {
    name: 'holdfast_cloud_pod_tolerations_total', kind: 'counter',
    help: 'Pods that were given tolerations without an end, so that they are not evicted from a node that is away.'
  },
  leaseRenewals: {
    name: 'holdfast_cloud_lease_renewals_total', kind: 'counter', help: 'Renewals of the Leases of connected nodes.'
  },
  ...processMetrics
} as const satisfies MetricTable

/** What the collectors read; each is what the part itself exposes. */
export type HubNumbers = Pick<Hub, 'stats' | 'presence' | 'stateStats' | 'statePresence'>
export interface EmbeddedKubernetesNumbers {
  readonly api: {
    readonly objects: Pick<EmbeddedKubernetes['api']['objects'], 'stats' | 'revision'>
    readonly server: Pick<EmbeddedKubernetes['api']['server'], 'requestsInFlight'>
  }
  readonly database: Pick<EmbeddedKubernetes['database'], 'quarantines' | 'reopens' | 'low'>
  readonly failure: Error | undefined
}
export interface ControllersNumbers {
  readonly inSync: boolean
  readonly informers: Readonly<Record<string, Pick<Informer, 'synced' | 'objects'>>>
  readonly deviceStatuses: Pick<Informer, 'synced' | 'objects'>
  readonly writer: Pick<Controllers['writer'], 'stats' | 'pending' | 'retries'>
  readonly devices: {
    readonly writer: Pick<Controllers['writer'], 'stats' | 'pending' | 'retries'>
    readonly planner: Pick<Controllers['devices']['planner'], 'stamps'>
    readonly events: Pick<Controllers['devices']['events'], 'stats'>
  }
  readonly targets: Pick<Controllers['targets'], 'stats'>
  readonly nodeController: Pick<Controllers['nodeController'], 'stats'>
  readonly leases: Pick<Controllers['leases'], 'renewals'>
  readonly deletions: Pick<Controllers['deletions'], 'confirmed'>
  readonly tolerations: Pick<NonNullable<Controllers['tolerations']>, 'changed'> | undefined
}
export type CloudLogNumbers = Pick<CloudLog, 'stats' | 'nodes'>

/**
 * cloudcore's metrics in use: made before the parts, which are watched as they come. Parts count in plain fields of their
 * own; they are read when somebody asks.
 */
export class CloudcoreMetrics {
  readonly registry = new MetricRegistry(cloudcoreMetrics)

  /** For `LevelLogComponents`. */
  readonly onCommit = (durationMs: number, bytes: number): void => {
    this.#commits.value++
    this.#commitSeconds.observe(durationMs / 1000)
    this.#commitBytes.observe(bytes)
  }

  readonly #commits = this.registry.metrics.commits.of({})
  readonly #commitSeconds = this.registry.metrics.commitSeconds.of({})
  readonly #commitBytes = this.registry.metrics.commitBytes.of({})
  /** Nodes that have series. */
  #shownNodes: readonly string[] = []

  watchHub(hub: HubNumbers): void {
    const { metrics } = this.registry
    this.registry.onCollect(() => {
      const { stats } = hub
      metrics.sessions.of({}).value = stats.sessions
      for (const [reason, count] of stats.ends) metrics.sessionEnds.of({ reason }).value = count
      metrics.duplicates.of({}).value = stats.duplicates
      metrics.framesReceived.of({}).value = stats.framesReceived
      metrics.bytesReceived.of({}).value = stats.bytesReceived
      metrics.recordsAppended.of({}).value = stats.recordsAppended
      metrics.batchesAppended.of({}).value = stats.batchesAppended
      const presence = hub.presence()
      metrics.nodes.of({}).value = presence.length
      metrics.nodesConnected.of({}).value = presence.filter(({ connected }) => connected).length
      metrics.nodesDuplicate.of({}).value = presence.filter(({ duplicateIdentity }) => duplicateIdentity).length
      const shown = presence.toSorted((a, b) => a.name < b.name ? -1 : 1).slice(0, nodeSeriesMax)
      for (const node of this.#shownNodes) metrics.nodeConnected.remove({ node })
      this.#shownNodes = shown.map(({ name }) => name)
      for (const { name, connected } of shown) metrics.nodeConnected.of({ node: name }).value = connected ? 1 : 0
      metrics.stateNotReady.of({}).value =
        presence.filter(({ name, connected }) => connected && (hub.statePresence(name)?.notReady.length ?? 0) > 0).length
      for (const direction of ['down', 'up'] as const) {
        const { frames, bytes, itemsPut, itemsDeleted, verdicts, refusals, withheld } = hub.stateStats[direction]
        metrics.stateFrames.of({ direction }).value = frames
        metrics.stateItems.of({ direction, change: 'put' }).value = itemsPut
        metrics.stateItems.of({ direction, change: 'deleted' }).value = itemsDeleted
        metrics.stateBytes.of({ direction }).value = bytes
        for (const [verdict, count] of Object.entries(verdicts)) metrics.stateVerdicts.of({ direction, verdict }).value = count
        metrics.stateRefusals.of({ direction }).value = refusals
        metrics.stateWithheld.of({ direction }).value = withheld
      }
    })
  }

  watchEmbeddedKubernetes(embedded: EmbeddedKubernetesNumbers): void {
    const { metrics } = this.registry
    const { api: { objects, server }, database } = embedded
    this.registry.onCollect(() => {
      const { stats } = objects
      metrics.kubeApiObjects.of({}).value = stats.objects
      metrics.kubeApiBytes.of({}).value = stats.bytes
      metrics.kubeApiRevision.of({}).value = objects.revision
      metrics.kubeApiWatches.of({}).value = stats.watches
      metrics.kubeApiInFlight.of({}).value = server.requestsInFlight
      metrics.kubeApiStoreFailed.of({}).value = embedded.failure === undefined ? 0 : 1
      metrics.kubeApiReopens.of({}).value = database.reopens
      metrics.kubeApiQuarantines.of({}).value = database.quarantines
      metrics.kubeApiDiskLow.of({}).value = database.low ? 1 : 0
    })
  }

  watchControllers(controllers: ControllersNumbers): void {
    const { metrics } = this.registry
    const { informers, deviceStatuses, writer, devices, targets, nodeController, leases, deletions, tolerations } = controllers
    this.registry.onCollect(() => {
      metrics.kubeInSync.of({}).value = controllers.inSync ? 1 : 0
      for (const [kind, informer] of Object.entries({ ...informers, devicestatuses: deviceStatuses })) {
        metrics.kubeSynced.of({ kind }).value = informer.synced ? 1 : 0
        metrics.kubeObjects.of({ kind }).value = Array.from(informer.objects()).length
      }
      const { written, dropped, refused, conflicts, coalesced } = writer.stats
      metrics.statusWrites.of({}).value = written
      for (const [reason, count] of Object.entries(dropped)) metrics.statusDrops.of({ reason }).value = count
      metrics.statusRefusals.of({}).value = refused
      metrics.statusRetries.of({}).value = writer.retries
      metrics.statusConflicts.of({}).value = conflicts
      metrics.statusCoalesced.of({}).value = coalesced
      metrics.statusPending.of({}).value = writer.pending
      metrics.statusRejected.of({}).value = targets.stats.rejectedItems
      const { stats } = devices.writer
      metrics.deviceWrites.of({}).value = stats.written
      for (const [reason, count] of Object.entries(stats.dropped)) metrics.deviceDrops.of({ reason }).value = count
      metrics.deviceRefusals.of({}).value = stats.refused
      metrics.deviceRetries.of({}).value = devices.writer.retries
      metrics.deviceConflicts.of({}).value = stats.conflicts
      metrics.deviceCoalesced.of({}).value = stats.coalesced
      metrics.devicePending.of({}).value = devices.writer.pending
      metrics.deviceStamps.of({}).value = devices.planner.stamps
      for (const [outcome, count] of Object.entries(devices.events.stats)) metrics.deviceEvents.of({ outcome }).value = count
      metrics.nodesRegistered.of({}).value = nodeController.stats.registered
      metrics.nodesMarked.of({ as: 'away' }).value = nodeController.stats.markedAway
      metrics.nodesMarked.of({ as: 'back' }).value = nodeController.stats.markedBack
      metrics.podDeletions.of({}).value = deletions.confirmed
      metrics.podTolerations.of({}).value = tolerations?.changed ?? 0
      metrics.leaseRenewals.of({}).value = leases.renewals
    })
  }

  watchLog(cloudLog: CloudLogNumbers): void {
    const { metrics } = this.registry
    let shown: readonly NodeTotals[] = []
    this.registry.onCollect(() => {
      const { stats } = cloudLog
      metrics.phantoms.of({}).value = stats.phantoms
      metrics.gaps.of({}).value = stats.gaps
      metrics.conflicts.of({}).value = stats.conflicts
      metrics.logBatches.of({}).value = stats.batches
      metrics.logRecords.of({}).value = stats.records
      metrics.logBytes.of({}).value = stats.bytes
      metrics.logCorrupt.of({}).value = stats.corruptEntries
      metrics.logDropped.of({}).value = stats.entriesDropped
      metrics.logReopens.of({}).value = stats.reopens
      metrics.logSalvages.of({}).value = stats.salvages
      const totals = totalsOf(cloudLog)
      metrics.logAvailable.of({}).value = totals === undefined ? 0 : 1
      if (totals === undefined) return
      for (const { name, lanes } of shown) {
        for (const { lane } of lanes) {
          const labels = { node: name, lane }
          for (const metric of [metrics.durableOffset, metrics.laneRecords, metrics.laneGaps]) metric.remove(labels)
        }
      }
      shown = totals.toSorted((a, b) => a.name < b.name ? -1 : 1).slice(0, nodeSeriesMax)
      for (const { name, lanes } of shown) {
        for (const { lane, nextOffset, records, gaps } of lanes) {
          const labels = { node: name, lane }
          metrics.durableOffset.of(labels).value = nextOffset
          metrics.laneRecords.of(labels).value = records
          metrics.laneGaps.of(labels).value = gaps
        }
      }
    })
  }
}

/** Undefined while the log is being opened again. */
function totalsOf(cloudLog: CloudLogNumbers): readonly NodeTotals[] | undefined {
  try {
    return cloudLog.nodes()
  } catch (error) {
    if (hasCode(error, 'LOG_UNAVAILABLE')) return undefined
    throw error
  }
}
