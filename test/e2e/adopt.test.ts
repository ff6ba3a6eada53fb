import { readFile } from 'node:fs/promises'
import { join as joinPath } from 'node:path'
import { expect, it } from 'vitest'
import { join } from '../../packages/cli/src/join.ts'
import { Fleet, until } from '../harness/daemons.ts'
import type { Daemon } from '../harness/daemons.ts'

const clusterChanges = 'holdfast_edge_link_cluster_changes_total'

async function metric(daemon: Daemon, name: string): Promise<number> {
  const text = await (await fetch(`${daemon.endpoints.ops}/metrics`)).text()
  return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1])
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
  const edge = await first.join('edge-1')
  await edge.start()
  await linked(edge)
  expect(await metric(edge, clusterChanges)).toBe(0)

  await edge.stop()
  await moveTo(second, edge, { force: true })
  await edge.start()
  await linked(edge)
  expect(await metric(edge, clusterChanges)).toBe(1)
  expect(edge.log).toContain('ClusterChanged')

  await edge.kill()
  await moveTo(second, edge, { adopt: true })
  const identity = await readFile(joinPath(edge.dataDir, 'identity/identity.json'), 'utf8')
  expect(JSON.parse(identity)).toMatchObject({ adopt: true })
  edge.log = ''
  await edge.start()
  await linked(edge)
  expect(edge.log).toContain('the node was moved to another cluster')
  expect(await metric(edge, clusterChanges)).toBe(0)

  // Once: the next start finds what it remembers in order.
  await edge.stop()
  edge.log = ''
  await edge.start()
  await linked(edge)
  expect(edge.log).not.toContain('the node was moved')
  expect(await metric(edge, clusterChanges)).toBe(0)
})
