import { describe, expect, it } from 'vitest'
import { until } from '../harness/daemons.ts'
import { StateApi } from '../harness/state-api.ts'
import type { Refusals } from '../harness/state-api.ts'
import { report } from './fault-report.ts'
import { metricOf, randomOf, rounds } from './fault-system.ts'
import { isFull, kubernetesOf } from './state-system.ts'
import { TwinSystem } from './twin-system.ts'

/** Everything of the twins but what is being written: which devices the node knows, and whether they can be used. */
async function devicesOn(system: TwinSystem): Promise<number> { return await metricOf(system.edge, 'holdfast_edge_twin_devices') }

/** Restarts cloudcore while its API is as it is, and waits until it says `not ready` of the node that is back. */
async function restartsNotReady(system: TwinSystem): Promise<void> {
  await system.cloud.kill()
  await system.cloud.start()
  await system.linked()
  await until('cloudcore waits for its API', async () => (await kubernetesOf(system.cloud)).startsWith('waits for '), 60_000)
  await until('the node is not ready', async () => await metricOf(system.cloud, 'holdfast_cloud_state_nodes_not_ready') === 1, 60_000)
}

const refusals: readonly { readonly what: string, readonly by: Refusals }[] = [
  { what: 'rights on Devices removed', by: { '* devices': 'forbidden' } },
  { what: 'the API refuses all lists', by: { 'list *': 'unavailable' } },
  { what: 'rights on DeviceModels removed', by: { '* devicemodels': 'forbidden' } }
]

describe('twins under an API that does not tell', () => {
  for (const [number, { what, by }] of [...refusals.entries()].slice(0, isFull ? undefined : 1)) {
    it(`${what}: no twin goes, devices and applications on the node go on, and all is equal afterwards`, async context => {
      const count = rounds(1, 5)
      await using api = await StateApi.start()
      await using system = await TwinSystem.start({ test: 870 + number, api })
      let slowestMs = 0
      for (let round = 0; round < count; round++) {
        const known = await devicesOn(system)
        api.refusals = by
        await restartsNotReady(system)
        system.run({ cloud: false })
        await system.progress(100)
        await system.pause()
        expect(await devicesOn(system)).toBe(known)
        api.refusals = {}
        system.run()
        await system.progress(50)
        slowestMs = Math.max(slowestMs, await system.converged(`round ${round}`))
      }
      report(context, {
        rows: [38], fault: `twins: ${what}`, injection: 'scripted API server refuses cloudcore, which is restarted; devices and the node go on writing',
        rounds: count, outcome: `no twin gone, every twin equal within ${Math.ceil(slowestMs / 1000)} s of its end`
      })
    })
  }

  it('down and back, with a restart of both sides: what was written meanwhile is there on both', async context => {
    const count = rounds(1, 5)
    await using api = await StateApi.start()
    await using system = await TwinSystem.start({ test: 880, api })
    let slowestMs = 0
    for (let round = 0; round < count; round++) {
      await api.down()
      await restartsNotReady(system)
      system.run({ cloud: false })
      await system.progress(100)
      await system.edge.kill()
      await system.edge.start()
      await system.progress(50)
      await api.up()
      await system.progress(50)
      slowestMs = Math.max(slowestMs, await system.converged(`round ${round}`))
    }
    report(context, {
      rows: [29], fault: 'twins: Kubernetes API down, cloudcore and edgecore restarted meanwhile', injection: 'scripted API server closed',
      rounds: count, outcome: `every twin equal within ${Math.ceil(slowestMs / 1000)} s of its return, with what the node wanted meanwhile`
    })
  })

  it('history forgotten (410 Gone) while Devices are deleted and created again: they are the new ones', async context => {
    const count = rounds(1, 5)
    const random = randomOf(890)
    await using api = await StateApi.start({ historyEventsMax: 10 })
    await using system = await TwinSystem.start({ test: 891, api })
    let slowestMs = 0
    for (let round = 0; round < count; round++) {
      api.link.cut()
      system.run()
      await system.progress(random.integer(50, 150))
      await system.pause()
      for (const { id } of system.devices) await system.recreate(id.slice('default/'.length))
      api.link.heal()
      slowestMs = Math.max(slowestMs, await system.converged(`round ${round}`))
    }
    report(context, {
      rows: [29], fault: 'twins: 410 Gone, every Device deleted and created again meanwhile', injection: 'scripted API server with a history of 10 events, cut off from cloudcore',
      rounds: count, outcome: `every twin that of the new Device, equal within ${Math.ceil(slowestMs / 1000)} s`
    })
  })

  it('restored from a backup: what the node knows to be newer comes back', async context => {
    const count = rounds(1, 5)
    await using api = await StateApi.start()
    await using system = await TwinSystem.start({ test: 895, api })
    let slowestMs = 0
    for (let round = 0; round < count; round++) {
      const backup = await api.backup()
      system.run()
      await system.progress(100)
      await system.converged(`round ${round}, before`)
      await api.restore(backup)
      system.run({ cloud: false })
      await system.progress(50)
      slowestMs = Math.max(slowestMs, await system.converged(`round ${round}`))
    }
    report(context, {
      rows: [38], fault: 'twins: etcd restored from a backup', injection: 'scripted API server with the entries of the backup, versions and all',
      rounds: count, outcome: `every twin equal within ${Math.ceil(slowestMs / 1000)} s; desired values that the backup did not have are there again`
    })
  })
})
