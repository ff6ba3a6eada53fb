import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { Fleet, until } from '../harness/daemons.ts'
import type { Daemon } from '../harness/daemons.ts'
import { KubeHttp } from '../harness/kube-http.ts'
import { usageOf } from '../harness/process-usage.ts'
import { metric } from './programs.ts'

const pairs = 500
const megabyte = 1024 * 1024
/** What V8 has not collected yet, or not given back; a hundred lists are many times as much. */
const garbageBytesMax = 24 * megabyte

let fleet: Fleet
let edge: Daemon

beforeAll(async () => {
  fleet = await Fleet.start()
  edge = await fleet.join('edge-1')
  await edge.start()
  await linked(edge)
})

afterAll(async () => { await fleet?.[Symbol.asyncDispose]() })

async function linked(daemon: Daemon): Promise<void> {
  await until('the link is up', async () => await metric(daemon, 'holdfast_edge_link_up') === 1, 60_000)
}

const anonBytes = (daemon: Daemon): number => usageOf(daemon.pid!).rssAnonBytes

it('lists of 1,000 objects, again and again, leave nothing behind on a node', async () => {
  using cluster = await KubeHttp.open(join(fleet.cloud.dataDir, 'kubeconfig'))
  await Promise.all(Array.from({ length: pairs }, async (_, i) => {
    const metadata = { name: `n${i}`, namespace: 'default' }
    const container = { name: 'main', image: 'registry.example/many:1.0', envFrom: [{ configMapRef: { name: metadata.name } }] }
    await cluster.check('POST', '/api/v1/namespaces/default/configmaps', { metadata, data: { settings: 'x'.repeat(1024) } })
    await cluster.check('POST', '/api/v1/namespaces/default/pods', { metadata, spec: { nodeName: 'edge-1', containers: [container] } })
  }))
  await until('all objects are on the node', async () =>
    await metric(edge, 'holdfast_edge_objects{collection="pods"}') === pairs
      && await metric(edge, 'holdfast_edge_objects{collection="configmaps"}') === pairs, 60_000)
  using local = await KubeHttp.open(join(edge.dataDir, 'local.kubeconfig'))
  const list = async (times: number): Promise<void> => {
    for (let i = 0; i < times; i++) {
      for (const plural of ['pods', 'configmaps']) {
        const { items } = await local.check<{ items: unknown[] }>('GET', `/api/v1/${plural}`)
        expect(items).toHaveLength(pairs)
      }
    }
  }
  await list(20)
  const before = anonBytes(edge)
  await list(100)
  await until('the lists are garbage', () => anonBytes(edge) <= before + garbageBytesMax, 60_000)
  console.log(`after 20 lists ${Math.round(before / megabyte)} MiB, after 120 ${Math.round(anonBytes(edge) / megabyte)} MiB`)
})
