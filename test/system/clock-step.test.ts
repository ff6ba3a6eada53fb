import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { outboxOf, until } from '../harness/daemons.ts'
import { report } from '../faults/fault-report.ts'
import { FaultSystem } from '../faults/fault-system.ts'

const faketime = ['x86_64-linux-gnu', 'aarch64-linux-gnu']
  .map(triplet => `/usr/lib/${triplet}/faketime/libfaketime.so.1`).find(existsSync)

it('boots in 1970 with no network, steps to now with a full outbox, ages nothing out, and the link comes up', async context => {
  const absent = faketime === undefined ? 'needs libfaketime (Debian: apt-get install faketime)' : undefined
  context.skip(absent !== undefined, absent)
  await using system = await FaultSystem.start({ edge: { set: ['lanes.telemetry.ageMax=1h', 'lanes.alarms.ageMax=1h'] } })
  await system.cloud.stop()
  await system.edge.stop()
  const clock = join(system.fleet.folder, 'clock')
  await writeFile(clock, '@1970-01-01 00:00:10\n')
  await system.edge.start({
    LD_PRELOAD: faketime!, FAKETIME_TIMESTAMP_FILE: clock, FAKETIME_CACHE_DURATION: '1', FAKETIME_DONT_FAKE_MONOTONIC: '1'
  })
  system.run()
  await system.progress(100)
  expect(system.edge.log).toContain('"time":"1970-')
  const waiting = (await outboxOf(system.edge)).reduce((sum, lane) => sum + lane.records, 0)
  expect(waiting).toBeGreaterThan(300)
  // NTP sets the clock, while the link is still down.
  await writeFile(clock, '+0\n')
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
