import { describe, expect, it } from 'vitest'
import { until } from '../harness/daemons.ts'
import { report } from './fault-report.ts'
import { FaultSystem, metricOf, randomOf, rounds } from './fault-system.ts'

describe('the link', () => {
  it('cut inside a frame, again and again, loses nothing acknowledged, doubles nothing and keeps the order', async context => {
    const random = randomOf(200)
    const count = rounds(3)
    await using system = await FaultSystem.start({ proxy: true })
    const proxy = system.proxy!
    for (let round = 0; round < count; round++) {
      const before = proxy.cuts
      system.run()
      // The first bytes of a connection are the handshake's; the later ones are inside batches.
      proxy.cutAfter(1 + Math.floor(random.next() * 300_000))
      await until('the link is cut', () => proxy.cuts > before)
      await system.progress(20)
      await system.settleFlawless(`round ${round}`)
    }
    expect(await metricOf(system.edge, 'holdfast_edge_link_sessions_total')).toBeGreaterThanOrEqual(count)
    report(context, {
      rows: [1, 12], fault: 'link cut in mid-batch',
      injection: 'a TCP proxy passes a random number of bytes up, then ends one side and resets the other', rounds: count,
      outcome: '0 lost, 0 twice, 0 out of order; publishers were acknowledged all the time'
    })
  })

  it('cut while cloudcore is killed: what was in its hands is sent again and dropped by offset and CRC', async context => {
    const random = randomOf(201)
    const count = rounds(1)
    await using system = await FaultSystem.start({ proxy: true })
    for (let round = 0; round < count; round++) {
      system.run()
      await system.progress(1 + Math.floor(random.next() * 100))
      system.proxy!.cut()
      await system.progress(100)
      await system.cloud.kill()
      await system.progress(10)
      system.proxy!.heal()
      await system.cloud.start()
      await system.progress(10)
      await system.settleFlawless(`round ${round}`)
    }
    report(context, {
      rows: [1], fault: 'link cut, then cloudcore killed while it is cut', injection: 'TCP proxy and SIGKILL', rounds: count,
      outcome: '0 lost, 0 twice, 0 out of order'
    })
  })

  it('that goes silent is given up, and everything arrives over the next one', async context => {
    await using system = await FaultSystem.start({ proxy: true, edge: { set: ['link.probeInterval=500ms', 'link.deadAfter=1500ms'] } })
    const count = rounds(2)
    for (let round = 0; round < count; round++) {
      system.run()
      await system.progress(20)
      // One that goes silent while it is being set up ends as a timeout.
      await until('the link is up', async () => await metricOf(system.edge, 'holdfast_edge_link_up') === 1)
      const before = await metricOf(system.edge, 'holdfast_edge_link_ends_total', 'reason="silent"')
      system.proxy!.silence()
      await until('the dead link is noticed', async () =>
        await metricOf(system.edge, 'holdfast_edge_link_ends_total', 'reason="silent"') > before)
      await system.progress(20)
      system.proxy!.heal()
      await system.settleFlawless(`round ${round}`)
    }
    report(context, {
      rows: [11], fault: 'link goes silent in both directions', injection: 'a TCP proxy stops reading; nobody is told', rounds: count,
      outcome: 'given up after deadAfter, metric shows `silent`; 0 lost, 0 twice, 0 out of order'
    })
  })
})
