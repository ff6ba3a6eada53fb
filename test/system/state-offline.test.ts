import { expect, it } from 'vitest'
import { FakeClock, fakeClockAbsent, timeOf } from '../harness/fake-clock.ts'
import { report } from '../faults/fault-report.ts'
import { metricOf, randomOf } from '../faults/fault-system.ts'
import { StateSystem } from '../faults/state-system.ts'

const days = 30

it('a node that boots every day for thirty days without a network serves the same every time', async context => {
  context.skip(fakeClockAbsent !== undefined, fakeClockAbsent)
  const random = randomOf(710)
  await using system = await StateSystem.start({ test: 711 })
  await system.churn.burst(80)
  await system.converged('before')
  const before = await system.held()
  const gone = system.watch.deletions.length
  system.link.cut()
  await system.cloud.stop()
  const clock = new FakeClock(system.fleet.folder)
  for (let day = 1; day <= days; day++) {
    if (random.chance(0.5)) await system.edge.kill()
    else expect(await system.edge.stop()).toBe(0)
    await clock.set(`+${day}d`)
    await system.edge.start(clock.environment)
    expect(Math.abs(await timeOf(system.edge) - Date.now() - day * 86_400_000), `it lives on day ${day}`).toBeLessThan(5000)
    expect(await system.held(), `day ${day}`).toEqual(before)
    expect(await metricOf(system.edge, 'holdfast_edge_link_up')).toBe(0)
  }
  expect(system.watch.deletions.slice(gone)).toEqual([])
  // Back on the net, and in the time of all others.
  await system.edge.stop()
  await system.edge.start()
  await system.cloud.start()
  system.link.heal()
  await system.churn.burst(20)
  await system.converged('thirty days later')
  report(context, {
    rows: [31], fault: 'thirty days offline, a boot a day',
    injection: 'libfaketime under edgecore, a day later each time; SIGKILL or SIGTERM between',
    rounds: days,
    outcome: 'the same view every time, Secrets included; both sides equal after the link\'s return'
  })
})
