import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { until } from '../harness/daemons.ts'
import { report } from '../faults/fault-report.ts'
import { metricOf, randomOf } from '../faults/fault-system.ts'
import { StateSystem } from '../faults/state-system.ts'

const faketime = ['x86_64-linux-gnu', 'aarch64-linux-gnu']
  .map(triplet => `/usr/lib/${triplet}/faketime/libfaketime.so.1`).find(existsSync)

const days = 30

it('a node that boots every day for thirty days without a network serves the same every time', async context => {
  const absent = faketime === undefined ? 'needs libfaketime (Debian: apt-get install faketime)' : undefined
  context.skip(absent !== undefined, absent)
  const random = randomOf(710)
  await using system = await StateSystem.start({ test: 711 })
  await system.churn.burst(80)
  await system.converged('before')
  const before = await system.held()
  const gone = system.watch.deletions.length
  system.link.cut()
  await system.cloud.stop()
  const clock = join(system.fleet.folder, 'clock')
  for (let day = 1; day <= days; day++) {
    if (random.chance(0.5)) await system.edge.kill()
    else expect(await system.edge.stop()).toBe(0)
    await writeFile(clock, `+${day}d\n`)
    system.edge.log = ''
    await system.edge.start({ LD_PRELOAD: faketime!, FAKETIME_TIMESTAMP_FILE: clock, FAKETIME_DONT_FAKE_MONOTONIC: '1' })
    const today = new Date(Date.now() + day * 86_400_000).toISOString().slice(0, 10)
    await until(`it lives on day ${day}`, () => system.edge.log.includes(`"time":"${today}`))
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
