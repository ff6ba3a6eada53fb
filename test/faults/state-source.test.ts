import { cp } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { CutProxy } from '../harness/cut-proxy.ts'
import { Daemon, until } from '../harness/daemons.ts'
import { StateApi } from '../harness/state-api.ts'
import type { Refusals } from '../harness/state-api.ts'
import type { Documents } from '../harness/state-oracle.ts'
import { report } from './fault-report.ts'
import { metricOf, randomOf, rounds } from './fault-system.ts'
import { StateSystem, isFull, kubernetesOf } from './state-system.ts'

const notReady = 'holdfast_cloud_state_nodes_not_ready'

/**
 * Restarts cloudcore while its API is as it is, and waits until it says `not ready` of the node that is back. Gives what the node
 * held in between, when a Pod on its way out could not go any more, and how many deletions it had seen.
 */
async function restartsNotReady(system: StateSystem, why: RegExp): Promise<{ readonly before: Documents, readonly gone: number }> {
  await system.cloud.kill()
  await system.unlinked()
  const before = await system.held()
  const gone = system.watch.deletions.length
  await system.cloud.start()
  await system.linked()
  await until('cloudcore says what it waits for', async () => why.test(await kubernetesOf(system.cloud)), 60_000)
  await until('the node is not ready', async () => await metricOf(system.cloud, notReady) === 1, 60_000)
  expect(await metricOf(system.cloud, 'holdfast_cloud_kube_in_sync')).toBe(0)
  expect((await fetch(`${system.cloud.endpoints.ops}/readyz`)).status).toBe(200)
  return { before, gone }
}

const refusals: readonly { readonly what: string, readonly by: Refusals, readonly why: RegExp, readonly collection: string }[] = [
  { what: 'rights on Secrets removed', by: { '* secrets': 'forbidden' }, why: /^waits for secrets .*forbidden/, collection: 'secrets' },
  { what: 'the API refuses all lists', by: { 'list *': 'unavailable' }, why: /^waits for .*(timed out|503|Unavailable)/, collection: 'pods' }
]

describe('an API that does not tell', () => {
  for (const [number, { what, by, why, collection }] of [...refusals.entries()].slice(0, isFull ? undefined : 1)) {
    it(`${what}: the node keeps what it has, not ready is shown, and both are equal afterwards`, async context => {
      const count = rounds(1, 5)
      await using api = await StateApi.start()
      await using system = await StateSystem.start({ test: 620 + number, api })
      let slowestMs = 0
      for (let round = 0; round < count; round++) {
        await system.churn.burst(60)
        await system.converged(`round ${round}, before`)
        api.refusals = by
        const { before, gone } = await restartsNotReady(system, why)
        expect(await metricOf(system.cloud, 'holdfast_cloud_state_verdicts_total', 'direction="down",verdict="not-ready"')).toBeGreaterThan(0)
        // What changes meanwhile does not hurry anything.
        await system.churn.burst(60)
        const held = await system.held()
        expect(held[collection as 'secrets']).toEqual(before[collection as 'secrets'])
        expect(system.watch.deletions.slice(gone).filter(id => id.startsWith(`${collection} `))).toEqual([])
        system.expectNothingWrong(`round ${round}, refused`)
        api.refusals = {}
        slowestMs = Math.max(slowestMs, await system.converged(`round ${round}`))
      }
      report(context, {
        rows: [38], fault: what,
        injection: 'scripted API server refuses cloudcore, which is restarted; objects go on changing',
        rounds: count,
        outcome: `nothing deleted on the node, \`not ready\` shown in /readyz?verbose and metrics; both sides equal within ${Math.ceil(slowestMs / 1000)} s of its end`
      })
    })
  }

  if (isFull) it('down for a while, with restarts of both sides: the node keeps what it has', async context => {
    const count = rounds(1, 5)
    const random = randomOf(630)
    await using api = await StateApi.start()
    await using system = await StateSystem.start({ test: 631, api })
    let slowestMs = 0
    for (let round = 0; round < count; round++) {
      await system.churn.burst(random.integer(20, 80))
      await system.converged(`round ${round}, before`)
      await api.down()
      const { before, gone } = await restartsNotReady(system, /^waits for /)
      await system.edge.kill()
      await system.edge.start()
      await system.linked()
      await until('the node is not ready again', async () => await metricOf(system.cloud, notReady) === 1, 60_000)
      expect(await system.held()).toEqual(before)
      expect(system.watch.deletions.slice(gone)).toEqual([])
      await api.up()
      system.churn.run()
      await system.churn.progress(30)
      slowestMs = Math.max(slowestMs, await system.converged(`round ${round}`))
    }
    report(context, {
      rows: [29], fault: 'Kubernetes API down, cloudcore and edgecore restarted meanwhile',
      injection: 'scripted API server closed',
      rounds: count,
      outcome: `the node serves the same, byte for byte; both sides equal within ${Math.ceil(slowestMs / 1000)} s of its return`
    })
  })
})

describe('history', () => {
  it('forgotten while cloudcore was cut off (410 Gone): it lists anew, and nothing that was deleted stays', async context => {
    const count = rounds(1, 10)
    const random = randomOf(632)
    await using api = await StateApi.start({ historyEventsMax: 10 })
    await using system = await StateSystem.start({ test: 633, api })
    let slowestMs = 0
    for (let round = 0; round < count; round++) {
      api.link.cut()
      // In half of the rounds it never knew what was before.
      if (random.chance(0.5)) {
        await system.cloud.kill()
        await system.churn.burst(random.integer(40, 120))
        await system.churn.recreateAll()
        await system.cloud.start()
      } else {
        await system.churn.burst(random.integer(40, 120))
        await system.churn.recreateAll()
      }
      api.link.heal()
      slowestMs = Math.max(slowestMs, await system.converged(`round ${round}`))
    }
    report(context, {
      rows: [29], fault: '410 Gone',
      injection: 'scripted API server with a history of 10 events; cloudcore cut off from it while objects change',
      rounds: count,
      outcome: `both sides equal within ${Math.ceil(slowestMs / 1000)} s, by uid; nothing went that was wanted`
    })
  })

  if (isFull) it('objects deleted and created again while the node is offline are the new ones on it', async context => {
    const count = rounds(1, 10)
    await using system = await StateSystem.start({ test: 634 })
    let slowestMs = 0
    for (let round = 0; round < count; round++) {
      await system.churn.burst(60)
      await system.converged(`round ${round}, before`)
      const before = await system.held()
      system.link.cut()
      await system.unlinked()
      await system.churn.burst(40)
      await system.churn.recreateAll()
      expect(await system.held()).toEqual(before)
      system.link.heal()
      slowestMs = Math.max(slowestMs, await system.converged(`round ${round}`))
    }
    report(context, {
      rows: [29], fault: 'objects deleted and created again while the node is offline',
      injection: 'link cut',
      rounds: count,
      outcome: `the new ones, by uid, within ${Math.ceil(slowestMs / 1000)} s of the link's return; no zombies`
    })
  })

  for (const running of isFull ? [true, false] : [true]) {
    it(`of etcd goes back to a backup, cloudcore ${running ? 'running' : 'restarted'}: what the cluster has now is on the node`, async context => {
      const count = rounds(1, 5)
      await using api = await StateApi.start()
      await using system = await StateSystem.start({ test: running ? 635 : 636, api })
      let slowestMs = 0
      for (let round = 0; round < count; round++) {
        await system.churn.burst(40)
        await system.converged(`round ${round}, at the backup`)
        const backup = await api.backup()
        await system.churn.burst(80)
        await system.converged(`round ${round}, before the restore`)
        if (!running) await system.cloud.kill()
        // What was created since then is gone from the cluster as well; the anchors are not.
        system.churn.forget()
        const anchors = Object.entries(await system.held()).flatMap(([collection, objects]) =>
          objects.filter(({ metadata }) => metadata.name === 'anchor').map(({ metadata }) => `${collection} default/anchor ${metadata.uid}`))
        expect(anchors).toHaveLength(5)
        for (const id of anchors) system.churn.unwanted.delete(id)
        await api.restore(backup)
        if (!running) await system.cloud.start()
        slowestMs = Math.max(slowestMs, await system.converged(`round ${round}, restored`))
      }
      report(context, {
        rows: running ? [29, 38] : [38], fault: `etcd restored from a backup, cloudcore ${running ? 'running' : 'restarted'}`,
        injection: 'database of the scripted API server copied and put back; resourceVersions go back', rounds: count,
        outcome: `both sides equal within ${Math.ceil(slowestMs / 1000)} s; the anchors did not go for a moment`
      })
    })
  }
})

if (isFull) describe('a second cloudcore', () => {
  it('that lags behind what the node has seen takes nothing back, and is followed when it has caught up', async context => {
    const count = rounds(1, 5)
    await using api = await StateApi.start()
    await using system = await StateSystem.start({ test: 637, api })
    await system.cloud.stop()
    const dataDir = join(system.fleet.folder, 'second')
    await cp(system.cloud.dataDir, dataDir, { recursive: true })
    await system.cloud.start()
    await using link = await CutProxy.open(() => api.port)
    const second = new Daemon('cloudcore', dataDir, {
      set: ['kube.mode=cluster', `kube.kubeconfig=${await api.kubeconfigThrough(link, 'second.kubeconfig')}`]
    })
    try {
      await second.start()
      let slowestMs = 0
      for (let round = 0; round < count; round++) {
        await until('the second one is in sync', async () => await kubernetesOf(second) === 'in sync', 60_000)
        link.silence()
        await system.churn.burst(80)
        await system.converged(`round ${round}, before`)
        const before = await system.held()
        const gone = system.watch.deletions.length
        system.route.to = second
        system.link.reset()
        await until('the node is with the second one, which is not ready', async () => await metricOf(second, notReady) === 1, 60_000)
        expect(await metricOf(second, 'holdfast_cloud_state_items_total', 'direction="down"')).toBe(0)
        expect(await system.held()).toEqual(before)
        expect(system.watch.deletions.slice(gone)).toEqual([])
        link.heal()
        slowestMs = Math.max(slowestMs, await system.converged(`round ${round}, caught up`))
        system.route.to = system.cloud
        system.link.reset()
        await system.converged(`round ${round}, back`)
      }
      report(context, {
        rows: [38], fault: 'replica of cloudcore that lags',
        injection: 'its connections to the API are silent; the node changes over to it',
        rounds: count,
        outcome: `\`not ready\`, nothing sent and nothing deleted until it had caught up; then both sides equal within ${Math.ceil(slowestMs / 1000)} s`
      })
    } finally {
      await second.kill()
    }
  })
})
