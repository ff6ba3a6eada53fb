import { join } from 'node:path'
import { bootIdFromBytes } from '@holdfast/protos'
import { EndpointsFile, HoldfastError, SystemClock, SystemRandom, openDataFolder, runAll, watchProcess } from '@holdfast/runtime'
import type { Failpoint, Log, Service } from '@holdfast/runtime'
import { Database, FileDiskSpace, Outbox, levelStoreOpener, salvageOutbox } from '@holdfast/store'
import type { LaneOptions } from '@holdfast/store'
import { BrokerSalvage } from './broker/index.ts'
import { historyLaneOf } from './config.ts'
import type { EdgecoreConfig } from './config.ts'
import { DeviceTopics } from './device-topics/index.ts'
import { DeviceTroubles } from './device-troubles.ts'
import { Dmi, MapperMemory, MapperSalvage } from './dmi/index.ts'
import { DeviceApi } from './http/index.ts'
import { loadIdentity } from './identity.ts'
import { Link } from './link/link.ts'
import { PeerMemory } from './link/peer-memory.ts'
import { WebSocketDialer } from './link/web-socket-dialer.ts'
import { HttpProtocol, Mappers, MqttProtocol } from './mappers/index.ts'
import { EdgecoreMetrics } from './metrics.ts'
import { openMqttWay } from './mqtt-way.ts'
import { LinuxMachine, NodeReporter } from './node-status/index.ts'
import { LocalApi, NodeObjects, ObjectSalvage, nodeReports, openObjectTable } from './objects/index.ts'
import { openEdgeOperations } from './ops/index.ts'
import { Routes } from './routes.ts'
import { NodeTwins, TwinSalvage } from './twins/index.ts'
import { wallClockTrust } from './wall-clock-trust.ts'

export interface EdgecoreComponents {
  readonly log: Log
  readonly version: string
  readonly failpoint: Failpoint
}

/** Runs edgecore until `shutdown` aborts and all is closed. Needs no network. Rejects where it cannot start, or on a fault. */
export async function runEdgecore(config: EdgecoreConfig, components: EdgecoreComponents, shutdown: AbortSignal): Promise<void> {
  const { log, version, failpoint } = components
  const clock = new SystemClock()
  const random = new SystemRandom()
  const { dataDir } = config
  const metrics = new EdgecoreMetrics()
  using _process = watchProcess(metrics.registry, clock)
  await openDataFolder('dataDir', dataDir)
  const identity = await loadIdentity(dataDir)
  const bootId = bootIdFromBytes(random.bytes(8))
  const database = await Database.open({ freeFloorBytes: config.disk.freeFloorBytes }, {
    opener: levelStoreOpener({
      path: join(dataDir, 'db'), quarantineDir: join(dataDir, 'quarantine'), ...sortedAtATime(config.disk)
    }, { log, clock }),
    space: new FileDiskSpace(join(dataDir, 'ballast'), config.disk.ballastBytes),
    clock,
    log,
    salvage: async (entries, store) => {
      const objects = new ObjectSalvage(store)
      const twins = new TwinSalvage(store)
      const broker = new BrokerSalvage(store)
      const mappers = new MapperSalvage(store)
      const others = mappers.taking(broker.taking(twins.taking(objects.taking(entries))))
      return { ...await salvageOutbox(others, store), ...objects.counts, ...twins.counts, ...broker.counts, ...mappers.counts }
    },
    onCommit: metrics.onCommit,
    failpoint
  })
  // After the database, whose lock keeps a second process away from what the first one wrote.
  await using endpoints = await EndpointsFile.open(dataDir)
  const { committer } = database
  const trust = wallClockTrust(clock)
  const outbox = await Outbox.open({ lanes: laneOptions(config), bootId, suspect: database.suspect }, database.store, {
    committer, clock, random, log, clockSynchronised: trust, failpoint
  })
  const peer = await PeerMemory.open(database.store, committer)
  const table = await openObjectTable({ suspect: database.suspect }, database.store, { committer, clock, random, log })
  const twins = await NodeTwins.open({
    node: identity.node,
    reportIntervalMs: config.twins.reportInterval,
    freshnessMs: config.twins.freshnessInterval,
    historyLane: outbox.lane(historyLaneOf(config) ?? ''),
    suspect: database.suspect
  }, database.store, { committer, table, outbox, clock, random, log, clockTrusted: trust })
  const memory = await MapperMemory.open(database.store, committer)
  database.onLow(low => {
    const refusal = low
      ? new HoldfastError('DISK_FULL', `less than disk.freeFloorBytes (${config.disk.freeFloorBytes}) is free under ${dataDir}; ` +
        'free some space, or restore the link so that the backlog drains')
      : undefined
    outbox.refuse(refusal)
    twins.refuse(refusal)
    table.hold(low)
  })
  await database.trust()
  const link = new Link({
    bootId,
    software: version,
    probeMs: config.link.probeInterval,
    deadMs: config.link.deadAfter,
    retryDelayMs: 100,
    retryDelayMaxMs: config.link.retryMax
  }, {
    outbox, peer, clock, random, log,
    dialer: new WebSocketDialer({ url: config.server ?? identity.serverUrl, tls: identity.tlsOptions, handshakeMs: 10_000 }),
    clockSynchronised: trust,
    failpoint,
    stateDown: table.down,
    stateUp: table.up,
    onDial: () => { twins.reportAll() }
  })
  if (identity.adopts && !['', identity.clusterUid].includes(peer.peer.clusterUid)) {
    log.warn('the node was moved to another cluster: what it holds of the one before gives way to what this one has for it', {
      was: peer.peer.clusterUid, is: identity.clusterUid
    })
    await link.adoptCluster()
  }
  const routes = new Routes({ rules: config.routes, lane: name => outbox.lane(name) })
  const mqtt = await openMqttWay(config, {
    node: identity.node, store: database.store, committer, outbox, routes, metrics, clock, random, log, failpoint
  })
  using deviceTopics = DeviceTopics.open({ node: identity.node }, { bus: mqtt.bus, twins, clock })
  const httpDevices = new HttpProtocol({ clock, random })
  const mappers = Mappers.open({}, {
    protocols: [new MqttProtocol({ bus: mqtt.bus }), httpDevices].filter(({ name }) => config.mappers[name] === 'built-in'), twins, clock, log
  })
  const dmi = await Dmi.open({
    ...config.dmi, dataDir, callTimeoutMs: config.dmi.callTimeout
  }, { twins, memory, isBuiltIn: device => mappers.serves(device), clock, random, log })
  const troubles = new DeviceTroubles({ twins, mappers, dmi, clock })
  const deviceApi = await DeviceApi.open(config.http, {
    node: identity.node, store: database.store, committer, outbox, routes, twins, clock, log, reports: httpDevices,
    troubleOf: device => troubles.of(device), onAcks: metrics.onHttpAcks
  })
  const machine = new LinuxMachine({ dataDir }, { log })
  const reporter = new NodeReporter({
    machine, clock, log,
    reports: nodeReports(identity.node, table),
    facts: () => ({ node: identity.node, version, diskLow: database.low })
  })
  const localApi = await LocalApi.open({
    ...config.localApi, dataDir, node: identity.node, version, platform: machine.platform
  }, { objects: new NodeObjects({ table, clock, log }), clock, random, log })
  metrics.watchDatabase(database)
  metrics.watchOutbox(outbox)
  metrics.watchDeviceApi(deviceApi)
  metrics.watchLink(link)
  metrics.watchState(link)
  metrics.watchTwins(twins)
  metrics.watchMappers(mappers)
  metrics.watchDmi(dmi)
  metrics.watchDeviceTopics(deviceTopics)
  metrics.watchObjects(table, localApi, reporter)
  database.onReclaim(() => outbox.reclaim())
  database.onReopened(async (store, suspect) => {
    link.pause()
    await outbox.reopen(store, suspect)
    await mqtt.reopen(store)
    await deviceApi.reopen(store)
    await table.reopen(store, suspect)
    await twins.reopen(store, suspect)
    await memory.reopen(store)
    link.resume()
  })
  const tunnel: Service = {
    name: 'link',
    async run(signal) {
      link.start()
      if (!signal.aborted) await new Promise<void>(resolve => { signal.addEventListener('abort', () => resolve(), { once: true }) })
      link.stop()
    }
  }
  const storage: Service = {
    name: 'database',
    async run(signal) {
      if (!signal.aborted) await new Promise<void>(resolve => { signal.addEventListener('abort', () => resolve(), { once: true }) })
      outbox.close()
      twins.close()
      await endpoints.withdraw()
      await database.close()
    }
  }
  const mqttEndpoints = await mqtt.listen()
  const ops = await openEdgeOperations(config.ops, {
    outbox, database, link, log,
    waysIn: { mqtt: mqtt.ready },
    mappers, dmi,
    metrics: () => metrics.registry.expose()
  })
  await endpoints.publish({ ...mqttEndpoints, http: deviceApi.url, dmi: dmi.url, localApi: localApi.url, ops: ops.url })
  log.info('edgecore is ready', { version, node: identity.node, boot: bootId, endpoints: endpoints.path })
  await runAll([storage, reporter, tunnel, ops, localApi, deviceApi, dmi, mappers, troubles, ...mqtt.services], shutdown)
}

/**
 * LevelDB sorts up to twelve write buffers and the 10 MB that they overlap at a time, and needs as much free space again
 * while it does. It must find that in floor and ballast together, and mostly in the ballast alone, where somebody else has
 * filled the disk: a compaction that fails makes every later write fail.
 */
function sortedAtATime(disk: EdgecoreConfig['disk']): { writeBufferBytes: number, tableBytes: number } {
  const writeBufferBytes = Math.max(256 * 1024, Math.min(4 * 1024 * 1024, disk.freeFloorBytes / 24, disk.ballastBytes / 12))
  return { writeBufferBytes, tableBytes: Math.min(2 * 1024 * 1024, Math.max(1024 * 1024, writeBufferBytes)) }
}

function laneOptions(config: EdgecoreConfig): Record<string, LaneOptions> {
  return Object.fromEntries(Object.entries(config.lanes).map(([name, lane]) => [name, {
    priority: lane.priority,
    bytesMax: lane.bytesMax,
    ageMaxMs: lane.ageMax,
    overflow: lane.overflow,
    commitIntervalMs: lane.commitIntervalMs,
    keepBytes: lane.keepBytes,
    keepAgeMs: lane.keepAge
  }]))
}
