import { describe, expect, it } from 'vitest'
import { Daemon, outboxOf, until } from '../harness/daemons.ts'
import { flawless } from '../harness/ledger.ts'
import { Publisher } from '../harness/publisher.ts'
import { report } from './fault-report.ts'
import { FaultSystem, metricOf, rounds } from './fault-system.ts'
import { copyOf } from './files.ts'

describe('a copied data directory', () => {
  it('running twice is fenced and shown; nothing is mixed, doubled or lost, and they do not take turns', async context => {
    const count = rounds(1, 5)
    for (let round = 0; round < count; round++) {
      await using system = await FaultSystem.start()
      system.run()
      await system.progress(50)
      await system.settleFlawless('before the copy')
      // Records wait while the copy is made: both machines hold them.
      await system.cloud.stop()
      system.run()
      await system.progress(30)
      await Promise.all(system.publishers.map(publisher => publisher.pause()))
      await system.edge.stop()
      const copy = new Daemon('edgecore', await copyOf(system.edge.dataDir), { set: ['link.retryMax=300ms'] })
      try {
        await system.edge.start()
        await copy.start()
        using stranger = new Publisher({ name: 'stranger', qos: 1, window: 20, payloadBytesMax: 200 }, () => copy.endpoints.mqtt!)
        system.ledger.add(stranger)
        await system.cloud.start()
        system.run()
        stranger.run()
        await system.progress(50)
        await stranger.progress(50)
        await until('one of them is refused', async () => await metricOf(system.cloud, 'holdfast_cloud_nodes_duplicate_identity') === 1)
        expect(system.cloud.log).toContain('DuplicateIdentity')
        await until('the other one is live', async () =>
          await metricOf(system.edge, 'holdfast_edge_link_up') + await metricOf(copy, 'holdfast_edge_link_up') === 1)
        // They do not take turns: one is live, and stays, while the other one is held off.
        const sessions = await metricOf(system.cloud, 'holdfast_cloud_sessions_total')
        await system.progress(50)
        await stranger.progress(50)
        expect(await metricOf(system.cloud, 'holdfast_cloud_sessions_total')).toBe(sessions)
        await Promise.all([...system.publishers, stranger].map(publisher => publisher.pause()))
        const live = await metricOf(system.edge, 'holdfast_edge_link_up') === 1 ? system.edge : copy
        await until('the live one is drained', async () => (await outboxOf(live)).every(lane => lane.records === 0))
        await system.compare()
        const verdict = system.ledger.verdict()
        system.expectVerdict(verdict, { twice: 0, inversions: 0, wrong: 0, holes: 0 }, `round ${round}, both running`)
        // The operator stops the one that is live; what the other one holds arrives in epochs of its own.
        const other = live === copy ? system.edge : copy
        await live.stop()
        await other.stop()
        await system.cloud.stop()
        await system.cloud.start()
        await other.start()
        await until('the other one is drained', async () => (await outboxOf(other)).every(lane => lane.records === 0))
        await system.compare()
        system.expectVerdict(system.ledger.verdict(), flawless, `round ${round}, one after the other`)
      } finally {
        await copy.kill()
      }
    }
    report(context, {
      rows: [10], fault: 'a copied data directory runs twice', injection: 'data directory copied while stopped, with a backlog; both started',
      rounds: count, outcome: '`DuplicateIdentity` shown, one held off, no taking of turns; 0 lost, 0 twice, nothing mixed'
    })
  })
})
