import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { join as joinNode } from '../../packages/cli/src/join.ts'
import { Fleet, until } from '../harness/daemons.ts'
import { StateApi } from '../harness/state-api.ts'
import { report } from './fault-report.ts'
import { metricOf, rounds } from './fault-system.ts'
import { StateSystem, isFull } from './state-system.ts'

const verdicts = 'holdfast_edge_state_verdicts_total'

describe('a cloud that is not the one it was', () => {
  it('with its objects wiped and its identity kept has another API: the node keeps what it has until that one is adopted', async context => {
    const count = rounds(1, 5)
    let slowestMs = 0
    await using system = await StateSystem.start({ test: 700 })
    for (let round = 0; round < count; round++) {
      await system.churn.burst(60)
      await system.converged(`round ${round}, before`)
      const before = await system.held()
      const gone = system.watch.deletions.length
      await system.cloud.kill()
      await system.unlinked()
      await system.edge.kill()
      await system.edge.start()
      // Nobody is there to know.
      expect(await system.held()).toEqual(before)
      expect(system.watch.deletions.slice(gone)).toEqual([])
      await rm(join(system.cloud.dataDir, 'objects'), { recursive: true })
      system.churn.forget()
      await system.cloud.start()
      await system.linked()
      await until('the node is told that nothing is known',
        async () => await metricOf(system.cloud, 'holdfast_cloud_state_nodes_not_ready') === 1, 60_000)
      expect(await system.held()).toEqual(before)
      expect(system.watch.deletions.slice(gone)).toEqual([])
      expect(await system.adoptApi()).toBe(true)
      // Versions begin anew, below those that the node has seen; they are of another API.
      await system.churn.begin()
      await system.churn.burst(40)
      slowestMs = Math.max(slowestMs, await system.converged(`round ${round}, wiped`))
    }
    report(context, {
      rows: [37], fault: 'objects of the embedded API wiped, identity kept',
      injection: 'objects/ removed while cloudcore was killed',
      rounds: count,
      outcome: `kept until kube.adopt named the new API; then exactly what that has, within ${Math.ceil(slowestMs / 1000)} s`
    })
  })

  if (isFull) it('whose new API does not tell anything yet takes nothing away', async context => {
    const count = rounds(1, 5)
    await using api = await StateApi.start()
    const empty = await api.backup()
    await using system = await StateSystem.start({ test: 701, api })
    let slowestMs = 0
    for (let round = 0; round < count; round++) {
      await system.churn.burst(60)
      await system.converged(`round ${round}, before`)
      const before = await system.held()
      const gone = system.watch.deletions.length
      await system.cloud.kill()
      api.refusals = { 'list *': 'unavailable', 'get namespaces': 'unavailable' }
      system.churn.forget()
      await api.restore(empty)
      await system.cloud.start()
      await system.linked()
      await until('the node is told that nothing is known',
        async () => await metricOf(system.cloud, 'holdfast_cloud_state_nodes_not_ready') === 1, 60_000)
      expect(await system.held()).toEqual(before)
      expect(system.watch.deletions.slice(gone)).toEqual([])
      api.refusals = {}
      await system.churn.begin()
      slowestMs = Math.max(slowestMs, await system.converged(`round ${round}, known`))
    }
    report(context, {
      rows: [37, 38], fault: 'the cluster\'s database wiped, its API slow to come back',
      injection: 'scripted API server, emptied, refuses lists at first',
      rounds: count, outcome: `kept while it refused; then exactly what it has, within ${Math.ceil(slowestMs / 1000)} s`
    })
  })

  if (isFull) it('but one of another cluster is given no say until the node is joined with --adopt', async context => {
    const count = rounds(1, 3)
    for (let round = 0; round < count; round++) {
      await using system = await StateSystem.start({ test: 703 + round })
      await using other = await Fleet.start()
      await system.churn.burst(60)
      await system.converged('before')
      const before = await system.held()
      const gone = system.watch.deletions.length
      const rejoin = async (how: { readonly force?: boolean, readonly adopt?: boolean }): Promise<void> => {
        const { ops, https } = other.cloud.endpoints
        const { token } = await (await fetch(`${ops}/v1/tokens`, { method: 'POST' })).json() as { token: string }
        await joinNode({ server: https!, token, node: 'edge-1', dataDir: system.edge.dataDir, ...how })
      }
      system.route.to = other.cloud
      await system.edge.kill()
      await rejoin({ force: true })
      for (let start = 0; start < 3; start++) {
        await system.edge.start()
        await system.linked()
        await until('the node says so', async () => await metricOf(system.edge, verdicts, 'verdict="other-cluster"') > 0)
        expect(await metricOf(system.edge, 'holdfast_edge_link_cluster_changes_total')).toBe(1)
        expect(system.edge.log).toContain('ClusterChanged')
        expect(await system.held()).toEqual(before)
        await system.edge.kill()
      }
      expect(system.watch.deletions.slice(gone)).toEqual([])
      await rejoin({ adopt: true })
      await system.edge.start()
      await until('only its Node is left of it', async () => {
        const { pods, secrets, configmaps, services, serviceaccounts, nodes } = await system.held()
        return [pods, secrets, configmaps, services, serviceaccounts].every(({ length }) => length === 0) && nodes.length === 1
      }, 60_000)
      expect((await system.held()).nodes[0]!.metadata.uid).not.toBe(before.nodes[0]!.metadata.uid)
    }
    report(context, {
      rows: [37], fault: 'another cluster',
      injection: 'node joined to a second cloudcore, started three times, then joined with --adopt',
      rounds: count,
      outcome: '`ClusterChanged`, State kept byte for byte; with --adopt exactly what the new cluster has'
    })
  })
})
