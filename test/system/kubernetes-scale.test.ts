import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { downCollections } from '../../packages/edgecore/src/objects/collections.ts'
import { CutProxy } from '../harness/cut-proxy.ts'
import { Fleet, until } from '../harness/daemons.ts'
import type { Daemon } from '../harness/daemons.ts'
import { KubeHttp } from '../harness/kube-http.ts'
import { usageOf } from '../harness/process-usage.ts'
import { metric } from './programs.ts'

let fleet: Fleet
let proxy: CutProxy
let edge: Daemon

beforeAll(async () => {
  fleet = await Fleet.start()
  proxy = await CutProxy.open(() => Number(new URL(fleet.cloud.endpoints.tunnel!).port))
  edge = await fleet.join('edge-1', { set: [`server=wss://127.0.0.1:${proxy.port}`, 'link.retryMax=500ms'] })
  await edge.start()
  await linked()
})

afterAll(async () => {
  await fleet?.[Symbol.asyncDispose]()
  await proxy?.[Symbol.asyncDispose]()
})

const linked = (): Promise<unknown> => until('the link is up', async () => await metric(edge, 'holdfast_edge_link_up') === 1, 60_000)
const unlinked = (): Promise<unknown> => until('the link is down', async () => await metric(edge, 'holdfast_edge_link_up') === 0)

const pairs = 500

function objectsOf(i: number): readonly (readonly [plural: string, object: object])[] {
  const metadata = { name: `n${i}`, namespace: 'default', labels: { app: 'many' } }
  return [
    ['configmaps', { apiVersion: 'v1', kind: 'ConfigMap', metadata, data: { settings: `${i} `.repeat(100) } }],
    ['pods', {
      apiVersion: 'v1', kind: 'Pod', metadata, spec: {
        nodeName: 'edge-1',
        containers: [{ name: 'main', image: 'registry.example/many:1.0', envFrom: [{ configMapRef: { name: metadata.name } }] }]
      }
    }]
  ]
}

const onNode = async (): Promise<number> =>
  await metric(edge, 'holdfast_edge_objects{collection="pods"}') + await metric(edge, 'holdfast_edge_objects{collection="configmaps"}')

/** What has crossed the link downwards, as cloudcore counts it since its start. */
async function sentDown(): Promise<Readonly<Record<'frames' | 'put' | 'deleted' | 'equal' | 'differs', number>>> {
  const of = (series: string): Promise<number> => metric(fleet.cloud, series)
  return {
    frames: await of('holdfast_cloud_state_frames_total{direction="down"}'),
    put: await of('holdfast_cloud_state_items_total{direction="down",change="put"}'),
    deleted: await of('holdfast_cloud_state_items_total{direction="down",change="deleted"}'),
    equal: await of('holdfast_cloud_state_verdicts_total{direction="down",verdict="equal"}'),
    differs: await of('holdfast_cloud_state_verdicts_total{direction="down",verdict="differs"}')
  }
}

it('1,000 objects are on the node within two seconds of the link\'s return, and their statuses come back', async () => {
  proxy.cut()
  await unlinked()
  using cluster = await KubeHttp.open(join(fleet.cloud.dataDir, 'kubeconfig'))
  await Promise.all(Array.from({ length: pairs }, async (_, i) => {
    for (const [plural, object] of objectsOf(i)) await cluster.check('POST', `/api/v1/namespaces/default/${plural}`, object)
  }))
  expect(await onNode()).toBe(0)
  proxy.heal()
  await linked()
  const returnedMs = performance.now()
  await until('1,000 objects are on the node', async () => await onNode() === 2 * pairs)
  const arrivedMs = performance.now() - returnedMs
  console.log(`1,000 objects are on the node ${Math.round(arrivedMs)} ms after the link's return`)
  expect(arrivedMs).toBeLessThan(2000)
  await until('the cluster has the status of each', async () => {
    const { items } = await cluster.check<{ items: { status: { reason?: string } }[] }>('GET', '/api/v1/namespaces/default/pods')
    return items.filter(({ status }) => status.reason === 'NoContainerRuntime').length === pairs
  }, 60_000)
  console.log(`their statuses are in the cluster ${Math.round(performance.now() - returnedMs)} ms after it`)
})

it('edgecore with 1,000 objects holds at most 20 MiB more than without', async () => {
  const other = await fleet.join('edge-2')
  await other.start()
  await edge.stop()
  await edge.start()
  await linked()
  const heldBytes = (): number => usageOf(edge.pid!).rssAnonBytes - usageOf(other.pid!).rssAnonBytes
  // What a start leaves behind is garbage until it is collected.
  await until('it holds little', () => heldBytes() <= 20 * 1024 * 1024)
  console.log(`edgecore with 1,000 objects holds ${Math.round(heldBytes() / 1024 / 1024)} MiB more than one without`)
  expect(await onNode()).toBe(2 * pairs)
  await other.stop()
})

const collections = downCollections.length

/** Waits until all collections have been compared since `before`, and gives what crossed the link for that. */
async function compared(before: Awaited<ReturnType<typeof sentDown>>): Promise<Awaited<ReturnType<typeof sentDown>>> {
  return await until('all collections are compared', async () => {
    const { frames, put, deleted, equal, differs } = await sentDown()
    return equal + differs < before.equal + before.differs + collections ? undefined : {
      frames: frames - before.frames, put: put - before.put, deleted: deleted - before.deleted,
      equal: equal - before.equal, differs: differs - before.differs
    }
  })
}

const nothing = { frames: 0, put: 0, deleted: 0, equal: 0, differs: 0 }
const digestsOnly = { ...nothing, equal: collections }

it('a reconnect with nothing changed sends one digest per collection and no objects', async () => {
  const before = await sentDown()
  proxy.reset()
  expect(await compared(before)).toEqual(digestsOnly)
  expect(await onNode()).toBe(2 * pairs)
})

it('and so does one after the Node was marked as away', async () => {
  const before = await sentDown()
  proxy.cut()
  await until('the Node is marked as away', async () => await metric(fleet.cloud, 'holdfast_cloud_nodes_marked_total{as="away"}') > 0, 60_000)
  proxy.heal()
  await linked()
  expect(await compared(before)).toEqual(digestsOnly)
})

it.each([
  ['a restart of cloudcore', () => fleet.cloud.stop()],
  ['kill -9 of cloudcore', () => fleet.cloud.kill()]
])('%s with nothing changed sends none either', async (_how, end) => {
  await end()
  await fleet.cloud.start()
  await linked()
  // Its counters begin anew.
  expect(await compared(nothing)).toEqual(digestsOnly)
  expect(await onNode()).toBe(2 * pairs)
})
