import { expect, it } from 'vitest'
import { outboxOf, until } from '../harness/daemons.ts'
import { FakeClock, fakeClockAbsent } from '../harness/fake-clock.ts'
import { report } from '../faults/fault-report.ts'
import { FaultSystem } from '../faults/fault-system.ts'

it('boots in 1970 with no network, steps to now with a full outbox, ages nothing out, and the link comes up', async context => {
  context.skip(fakeClockAbsent !== undefined, fakeClockAbsent)
  await using system = await FaultSystem.start({ edge: { set: ['lanes.telemetry.ageMax=1h', 'lanes.alarms.ageMax=1h'] } })
  await system.cloud.stop()
  await system.edge.stop()
  const clock = new FakeClock(system.fleet.folder)
  await clock.set('@1970-01-01 00:00:10')
  await system.edge.start(clock.environment)
  system.run()
  await system.progress(100)
  expect(system.edge.log).toContain('"time":"1970-')
  const waiting = (await outboxOf(system.edge)).reduce((sum, lane) => sum + lane.records, 0)
  expect(waiting).toBeGreaterThan(300)
  // NTP sets the clock, while the link is still down.
  await clock.setRight(system.edge)
  await system.progress(50)
  await system.cloud.start()
  await system.settleFlawless('after the step')
  // `link up` was logged after the step.
  expect(system.edge.log).toMatch(/"time":"20\d\d-.*link up/)
  expect(system.ledger.gaps).toEqual([])
  await until('the ages are those of uptime', async () => (await outboxOf(system.edge)).every(lane => lane.oldestAgeSeconds < 3600))
  report(context, {
    rows: [39], fault: 'boot in 1970, then a step to now with a full outbox', injection: 'libfaketime under edgecore, lanes with ageMax 1 h',
    rounds: 1, outcome: 'started, took records, nothing aged out, the link came up; 0 lost, 0 twice, 0 out of order'
  })
})
