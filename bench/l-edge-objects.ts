import { join } from 'node:path'
import { CutProxy } from '../test/harness/cut-proxy.ts'
import { Fleet, until, type Daemon } from '../test/harness/daemons.ts'
import { KubeHttp } from '../test/harness/kube-http.ts'
import { KubeWatch } from '../test/harness/kube-watch.ts'
import { usageOf } from '../test/harness/process-usage.ts'
import { pause, repeat, round3, type BenchRow, type Round } from './bench-row.ts'

type Key = 'idle' | 'held' | 'heldAbove' | 'restarted' | 'restartedAbove' | 'listed' | 'listedAbove' | 'emptied' | 'arrival' | 'served'
  | 'frames' | 'bytes' | 'items' | 'watched' | 'cloudIdle' | 'cloudNone'

const pods = 300
const configMaps = 500
const secrets = 200
const objects = pods + configMaps + secrets
const lists = 20

/** Kubernetes objects on a node. */
export const edgeObjects: BenchRow<Key> = {
  id: 'l',
  question: 'What do 1,000 Kubernetes objects cost a node, and how soon are they there?',
  how: `${configMaps} ConfigMaps of 1 KiB and ${secrets} Secrets that ${pods} Pods of one node name, on the embedded API. They are `
    + 'there before the node connects; arrival is from link-up until the node has all, served until its local API has '
    + `listed them. RssAnon is the lowest of 3 s, after 12 s of rest: idle, with the objects, after a restart, and after ${lists} `
    + 'full lists of each resource in pages of 500, as kubectl asks. The link is reset with nothing changed and State '
    + 'is counted; it is cut, a ConfigMap changes, and a watch on the node waits for it from link-up on. In the end all is deleted: '
    + 'what is not given back then is V8\'s young generation, which any work touches, and not the objects\'.',
  columns: {
    idle: { title: 'edgecore idle', unit: 'MB', atMost: 95 },
    held: { title: 'with 1,000 objects', unit: 'MB' },
    heldAbove: { title: 'with 1,000 objects, above idle', unit: 'MB', atMost: 20 },
    restarted: { title: 'after a restart with them', unit: 'MB' },
    restartedAbove: { title: 'after a restart with them, above idle', unit: 'MB', atMost: 20 },
    listed: { title: `after ${lists} full lists`, unit: 'MB' },
    listedAbove: { title: `after ${lists} full lists, above idle`, unit: 'MB', atMost: 20 },
    emptied: { title: 'after that, the objects deleted', unit: 'MB' },
    arrival: { title: 'link-up to the last object on the node', unit: 'ms', atMost: 2000 },
    served: { title: 'link-up to all listed by the local API', unit: 'ms', atMost: 2000 },
    frames: { title: 'State frames of a reconnect with nothing changed', unit: '' },
    bytes: { title: 'State bytes of it', unit: 'B' },
    items: { title: 'objects sent by it', unit: '', atMost: 0 },
    watched: { title: 'link-up to a change at a watch on the node', unit: 'ms', atMost: 1000 },
    cloudIdle: { title: 'cloudcore idle, kube.mode embedded', unit: 'MB' },
    cloudNone: { title: 'cloudcore idle, kube.mode none', unit: 'MB' }
  },
  measure: async context => await repeat(context, round)
}

async function round(): Promise<Round<Key>> {
  const cloudNone = await idleCloud(['kube.mode=none'])
  await using fleet = await Fleet.start()
  const cloudIdle = await resting(fleet.cloud)
  await using proxy = await CutProxy.open(() => Number(new URL(fleet.cloud.endpoints.tunnel!).port))
  const edge = await fleet.join('edge-1', { set: [`server=wss://127.0.0.1:${proxy.port}`, 'link.retryMax=500ms'] })
  await edge.start()
  await linked(edge)
  const idle = await resting(edge)
  proxy.cut()
  await until('the link is down', async () => await metric(edge, 'holdfast_edge_link_up') === 0)
  using cluster = await KubeHttp.open(join(fleet.cloud.dataDir, 'kubeconfig'))
  await create(cluster)
  proxy.heal()
  await linked(edge)
  const linkedMs = performance.now()
  await until('all objects are on the node', async () => await held(edge) === objects, 60_000)
  const arrival = performance.now() - linkedMs
  const kubeconfig = join(edge.dataDir, 'local.kubeconfig')
  {
    using local = await KubeHttp.open(kubeconfig)
    const listed = await listAll(local)
    if (listed !== objects) throw new Error(`the node serves ${listed} of ${objects} objects`)
  }
  const served = performance.now() - linkedMs
  await reported(cluster)
  const withObjects = await resting(edge)
  await edge.stop()
  await edge.start()
  await linked(edge)
  const restarted = await resting(edge)
  using local = await KubeHttp.open(kubeconfig)
  for (let i = 0; i < lists; i++) await listAll(local)
  const afterLists = await resting(edge)
  const reconnect = await reconnected(edge, fleet.cloud, proxy)
  const watched = await changeAtReturn(edge, kubeconfig, cluster, proxy)
  await empty(cluster)
  await until('the node holds nothing more', async () => await held(edge) === 0, 60_000)
  const emptied = await resting(edge)
  return {
    values: {
      idle, held: withObjects, heldAbove: withObjects - idle,
      restarted, restartedAbove: restarted - idle,
      listed: afterLists, listedAbove: afterLists - idle, emptied,
      arrival: round3(arrival), served: round3(served), ...reconnect, watched: round3(watched), cloudIdle, cloudNone
    }
  }
}

async function idleCloud(set: readonly string[]): Promise<number> {
  await using fleet = await Fleet.start({ cloud: { set } })
  return await resting(fleet.cloud)
}

/** RssAnon in MB. */
async function resting(daemon: Daemon): Promise<number> {
  await pause(12_000)
  let lowest = Infinity
  for (let i = 0; i < 30; i++) {
    lowest = Math.min(lowest, usageOf(daemon.pid!).rssAnonBytes)
    await pause(100)
  }
  return Math.round(lowest / 1e6)
}

async function linked(edge: Daemon): Promise<void> {
  await until('the link is up', async () => await metric(edge, 'holdfast_edge_link_up') === 1, 60_000)
}

/** The sum over a metric's labels. */
async function metric(daemon: Daemon, name: string, labels = ''): Promise<number> {
  const text = await (await fetch(`${daemon.endpoints.ops}/metrics`)).text()
  const lines = text.split('\n').filter(line => line.startsWith(`${name} `) || line.startsWith(`${name}{`) && line.includes(labels))
  return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0)
}

async function held(edge: Daemon): Promise<number> {
  const of = (collection: string): Promise<number> => metric(edge, 'holdfast_edge_objects', `collection="${collection}"`)
  return await of('pods') + await of('configmaps') + await of('secrets')
}

const nameOf = (i: number): string => `n${String(i).padStart(4, '0')}`
const metadataOf = (i: number): object => ({ name: nameOf(i), namespace: 'default', labels: { app: 'many' } })

function podOf(i: number): object {
  const envFrom = [
    { configMapRef: { name: nameOf(i) } },
    ...i + pods < configMaps ? [{ configMapRef: { name: nameOf(i + pods) } }] : [],
    ...i < secrets ? [{ secretRef: { name: nameOf(i) } }] : []
  ]
  const containers = [{ name: 'main', image: 'registry.example/many:1.0', envFrom }]
  return { apiVersion: 'v1', kind: 'Pod', metadata: metadataOf(i), spec: { nodeName: 'edge-1', containers } }
}

const configMapOf = (i: number, text: string): object =>
  ({ apiVersion: 'v1', kind: 'ConfigMap', metadata: metadataOf(i), data: { settings: `${i} ${text} `.padEnd(1024, 'settings of many ') } })

async function create(cluster: KubeHttp): Promise<void> {
  const post = async (plural: string, object: object): Promise<void> => {
    await cluster.check('POST', `/api/v1/namespaces/default/${plural}`, object)
  }
  const tasks: (() => Promise<void>)[] = [
    ...Array.from({ length: configMaps }, (_, i) => () => post('configmaps', configMapOf(i, 'first'))),
    ...Array.from({ length: secrets }, (_, i) => () =>
      post('secrets', { apiVersion: 'v1', kind: 'Secret', metadata: metadataOf(i), stringData: { password: `${i} `.repeat(20) } })),
    ...Array.from({ length: pods }, (_, i) => () => post('pods', podOf(i)))
  ]
  while (tasks.length > 0) await Promise.all(tasks.splice(0, 50).map(task => task()))
}

async function empty(cluster: KubeHttp): Promise<void> {
  for (const plural of ['pods', 'configmaps', 'secrets']) {
    await cluster.check('DELETE', `/api/v1/namespaces/default/${plural}?gracePeriodSeconds=0`)
  }
}

/** Waits until the cluster has the status of every Pod. */
async function reported(cluster: KubeHttp): Promise<void> {
  await until('the cluster has the status of each', async () => {
    const { items } = await cluster.check<{ items: { status: { reason?: string } }[] }>('GET', '/api/v1/namespaces/default/pods')
    return items.filter(({ status }) => status.reason === 'NoContainerRuntime').length === pods
  }, 60_000)
}

/** Lists what the node serves of the three resources, page by page; gives how many there were. */
async function listAll(local: KubeHttp): Promise<number> {
  let count = 0
  for (const plural of ['pods', 'configmaps', 'secrets']) {
    let token = ''
    do {
      const { metadata, items } = await local.check<{ metadata: { continue?: string }, items: unknown[] }>(
        'GET', `/api/v1/${plural}?limit=500${token === '' ? '' : `&continue=${token}`}`)
      count += items.length
      token = metadata.continue ?? ''
    } while (token !== '')
  }
  return count
}

const collections = 8

/** What crosses the link for State, both ways, when it is reset with nothing changed. */
async function reconnected(
  edge: Daemon, cloud: Daemon, proxy: CutProxy
): Promise<{ readonly frames: number, readonly bytes: number, readonly items: number }> {
  // Both ways, counted where they are sent.
  const sent = async (what: string): Promise<number> => await metric(cloud, `holdfast_cloud_state_${what}_total`, 'direction="down"')
    + await metric(edge, `holdfast_edge_state_${what}_total`, 'direction="up"')
  const count = async () => ({
    verdicts: await metric(edge, 'holdfast_edge_state_verdicts_total', 'direction="down"'),
    frames: await sent('frames'), bytes: await sent('bytes'), items: await sent('items')
  })
  const before = await count()
  proxy.reset()
  const after = await until('all collections are compared', async () => {
    const now = await count()
    return now.verdicts >= before.verdicts + collections ? now : undefined
  })
  return { frames: after.frames - before.frames, bytes: after.bytes - before.bytes, items: after.items - before.items }
}

/** Milliseconds from the return of the link to a change, made while it was cut, at a watch of the node's API. */
async function changeAtReturn(edge: Daemon, kubeconfig: string, cluster: KubeHttp, proxy: CutProxy): Promise<number> {
  let arrivedMs = 0
  await using _watch = await KubeWatch.open<{ readonly data?: { readonly settings: string } }>(
    kubeconfig, '/api/v1/namespaces/default/configmaps',
    ({ object }) => { if (object.data?.settings.startsWith('7 second') === true) arrivedMs ||= performance.now() })
  proxy.cut()
  await until('the link is down', async () => await metric(edge, 'holdfast_edge_link_up') === 0)
  await cluster.check('PUT', `/api/v1/namespaces/default/configmaps/${nameOf(7)}`, configMapOf(7, 'second'))
  proxy.heal()
  await linked(edge)
  const linkedMs = performance.now()
  await until('the change at the watch', () => arrivedMs, 60_000)
  return Math.max(0, arrivedMs - linkedMs)
}
