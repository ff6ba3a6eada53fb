import { join } from 'node:path'
import { EndpointsFile, SystemClock, SystemRandom, endpointUrl, openDataFolder, runAll, watchProcess } from '@holdfast/runtime'
import type { Failpoint, Log } from '@holdfast/runtime'
import { levelStoreOpener } from '@holdfast/store'
import type { CloudcoreConfig } from './config.ts'
import { Hub } from './hub/hub.ts'
import { TunnelServer } from './hub/web-socket-server.ts'
import { Authority, Joining, Tokens, nodeNameOfPeer, openJoinServer, serverTlsOptions } from './identity/index.ts'
import { Controllers } from './kube/controllers.ts'
import type { EmbeddedKubernetes, EmbeddedKubernetesComponents } from './kube/embedded-kubernetes.ts'
import { loadKubeLibrary } from './kube/kube-access.ts'
import type { KubeAccess } from './kube/kube-access.ts'
import { LevelLog } from './log/level-log.ts'
import { CloudcoreMetrics } from './metrics.ts'
import { openOperations } from './ops/operations.ts'

export interface CloudcoreComponents {
  readonly log: Log
  readonly version: string
  /** This machine's name, for the server certificate. */
  readonly hostname: string
  /** As Kubernetes calls it: `linux/arm64`. */
  readonly platform: string
  readonly failpoint: Failpoint
}

/** Runs cloudcore until `shutdown` aborts and all is closed. Rejects where it cannot start, or on a fault. */
export async function runCloudcore(config: CloudcoreConfig, components: CloudcoreComponents, shutdown: AbortSignal): Promise<void> {
  const { log, version, failpoint } = components
  const clock = new SystemClock()
  const random = new SystemRandom()
  const metrics = new CloudcoreMetrics()
  using _process = watchProcess(metrics.registry, clock)
  await openDataFolder('dataDir', config.dataDir)
  const opener = levelStoreOpener({
    path: join(config.dataDir, 'log'), quarantineDir: join(config.dataDir, 'quarantine')
  }, { log, clock })
  // First of all: its lock keeps a second process from the rest of the data directory.
  await using cloudLog = await LevelLog.open({
    retentionBytesMax: config.retention.bytesMax, retentionAgeMaxMs: config.retention.ageMax
  }, { opener, clock, random, log, onCommit: metrics.onCommit, failpoint })
  await using endpoints = await EndpointsFile.open(config.dataDir)
  const authority = await Authority.open({
    folder: join(config.dataDir, 'identity'), serverNames: serverNamesOf(config), hostname: components.hostname
  }, { clock, log })
  const tokens = await Tokens.open({ folder: authority.folder, ca: authority.ca }, { clock, log })
  await using embedded = await openEmbedded(config, components, { authority, clock, random, log, failpoint })
  const access = accessOf(config, embedded)
  if (access !== undefined && access.kind !== 'in-process') await loadKubeLibrary()
  const hub: Hub = new Hub({
    helloMs: 10_000,
    deadMs: 25_000,
    software: version,
    clusterUid: authority.clusterUid,
    windowBytes: config.tunnel.windowBytes,
    nodesMax: config.tunnel.nodesMax
  }, {
    cloudLog, clock, log, failpoint,
    stateOf: node => controllers?.stateOf(node)
  })
  const controllers = access === undefined ? undefined : new Controllers({
    access, knownApi: { path: join(authority.folder, 'kube-api'), adopt: config.kube.adopt },
    keepPods: config.kube.mode === 'cluster' && config.kube.podsWhenAway === 'keep',
    api: config.kube.mode === 'embedded' ? 'embedded' : 'cluster'
  }, { links: hub, clock, random, log })
  metrics.watchHub(hub)
  metrics.watchLog(cloudLog)
  if (embedded !== undefined) metrics.watchEmbeddedKubernetes(embedded)
  if (controllers !== undefined) metrics.watchControllers(controllers)
  const tunnel = new TunnelServer({
    host: config.tunnel.host,
    port: config.tunnel.port,
    tls: serverTlsOptions(authority, 'tunnel'),
    connectionsMax: config.tunnel.nodesMax + 64
  }, { hub, log, nodeOf: socket => nodeNameOfPeer(socket, authority) })
  const tunnelPort = await tunnel.listen()
  const joining = new Joining({ tunnelUrl: config.publicUrl, tunnelPort: () => tunnelPort }, { authority, tokens, clock, log })
  const https = await openJoinServer(config.https, { authority, joining, log })
  const ops = await openOperations(config.ops, {
    cloudLog, hub, joining, log, clock,
    metrics: () => metrics.registry.expose(),
    kubernetes: () => controllers?.status ?? 'off (kube.mode is none); nodes keep the objects they have'
  })
  await endpoints.publish({
    tunnel: endpointUrl('wss', config.tunnel.host, tunnelPort), https: https.url, ops: ops.url,
    ...embedded !== undefined && { kubernetes: embedded.url }
  })
  log.info('cloudcore is ready', { version, clusterUid: authority.clusterUid, logId: cloudLog.logId, endpoints: endpoints.path })
  await runAll([embedded, controllers, tunnel, ops, https].filter(service => service !== undefined), shutdown)
}

/** Loaded on use: it costs memory. */
async function openEmbedded({ dataDir, kube }: CloudcoreConfig, { version, platform }: CloudcoreComponents,
  components: EmbeddedKubernetesComponents): Promise<EmbeddedKubernetes | undefined> {
  if (kube.mode !== 'embedded') return undefined
  const { EmbeddedKubernetes } = await import('./kube/embedded-kubernetes.ts')
  return await EmbeddedKubernetes.open({ ...kube, dataDir, version, platform }, components)
}

function accessOf({ kube: { mode, kubeconfig } }: CloudcoreConfig, embedded: EmbeddedKubernetes | undefined): KubeAccess | undefined {
  if (mode === 'none') return undefined
  if (embedded !== undefined) return embedded.access
  return kubeconfig === undefined ? { kind: 'in-cluster' } : { kind: 'file', path: kubeconfig }
}

/** With the address at which others reach the embedded API. */
function serverNamesOf({ serverNames, kube: { mode, host } }: CloudcoreConfig): readonly string[] {
  const own = mode === 'embedded' && host !== '0.0.0.0' && host !== '::' ? [host] : []
  return [...new Set([...serverNames, ...own])]
}
