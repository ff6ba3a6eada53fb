import { readFile } from 'node:fs/promises'
import { join as joinPath } from 'node:path'
import { expect, it } from 'vitest'
import { join } from '../../packages/cli/src/join.ts'
import { KubeHttp } from '../harness/kube-http.ts'
import { Fleet, until } from '../harness/daemons.ts'
import type { Daemon } from '../harness/daemons.ts'

const clusterChanges = 'holdfast_edge_link_cluster_changes_total'

async function metric(daemon: Daemon, series: string): Promise<number> {
  const text = await (await fetch(`${daemon.endpoints.ops}/metrics`)).text()
  const line = text.split('\n').find(candidate => candidate.startsWith(`${series} `))
  return Number(line?.slice(series.length + 1))
}

/** A Pod on edge-1 with one ConfigMap for each name. */
async function want(fleet: Fleet, ...names: readonly string[]): Promise<void> {
  using cluster = await KubeHttp.open(joinPath(fleet.cloud.dataDir, 'kubeconfig'))
  for (const name of names) {
    const configMap = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name }, data: { of: name } }
    await cluster.check('POST', '/api/v1/namespaces/default/configmaps', configMap)
  }
  await cluster.check('POST', '/api/v1/namespaces/default/pods', {
    apiVersion: 'v1', kind: 'Pod', metadata: { name: 'web' }, spec: {
      nodeName: 'edge-1',
      containers: [{ name: 'main', image: 'registry.example/web:1.0', envFrom: names.map(name => ({ configMapRef: { name } })) }]
    }
  })
}

/** What is on the node, as its own API says. */
async function configMapsOn(edge: Daemon): Promise<string[]> {
  using local = await KubeHttp.open(joinPath(edge.dataDir, 'local.kubeconfig'))
  const { items } = await local.check<{ items: { metadata: { name: string } }[] }>('GET', '/api/v1/configmaps')
  return items.map(({ metadata: { name } }) => name)
}

const linked = (edge: Daemon): Promise<unknown> =>
  until('the link is up', async () => await metric(edge, 'holdfast_edge_link_up') === 1)

/** With a token of that cluster. */
async function moveTo(fleet: Fleet, edge: Daemon, how: { readonly force?: boolean, readonly adopt?: boolean }): Promise<void> {
  const { ops, https } = fleet.cloud.endpoints
  const { token } = await (await fetch(`${ops}/v1/tokens`, { method: 'POST' })).json() as { token: string }
  await join({ server: https!, token, node: 'edge-1', dataDir: edge.dataDir, ...how })
}

it('a node that joins another cluster keeps what it holds until it is joined with --adopt (STA-15)', async () => {
  await using first = await Fleet.start()
  await using second = await Fleet.start()
  await want(first, 'one', 'two')
  await want(second, 'three')
  const edge = await first.join('edge-1')
  await edge.start()
  await linked(edge)
  await until('the node has its objects', async () => (await configMapsOn(edge)).join() === 'one,two')
  expect(await metric(edge, clusterChanges)).toBe(0)

  await edge.stop()
  await moveTo(second, edge, { force: true })
  await edge.start()
  await linked(edge)
  expect(await metric(edge, clusterChanges)).toBe(1)
  expect(edge.log).toContain('ClusterChanged')
  expect(await metric(edge, 'holdfast_edge_state_verdicts_total{direction="down",verdict="other-cluster"}')).toBeGreaterThan(0)
  expect(await configMapsOn(edge)).toEqual(['one', 'two'])

  await edge.kill()
  await moveTo(second, edge, { adopt: true })
  const identity = await readFile(joinPath(edge.dataDir, 'identity/identity.json'), 'utf8')
  expect(JSON.parse(identity)).toMatchObject({ adopt: true })
  edge.log = ''
  await edge.start()
  await linked(edge)
  expect(edge.log).toContain('the node was moved to another cluster')
  expect(await metric(edge, clusterChanges)).toBe(0)
  await until('the node has the new cluster\'s objects', async () => (await configMapsOn(edge)).join() === 'three')

  // Once: the next start finds what it remembers in order.
  await edge.stop()
  edge.log = ''
  await edge.start()
  await linked(edge)
  expect(edge.log).not.toContain('the node was moved')
  expect(await metric(edge, clusterChanges)).toBe(0)
})
