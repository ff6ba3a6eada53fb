import { expect, it } from 'vitest'
import { until } from '../harness/daemons.ts'
import { desiredOf, reportedOf } from '../harness/device-api.ts'
import { FakeClock, fakeClockAbsent } from '../harness/fake-clock.ts'
import { report } from '../faults/fault-report.ts'
import { TwinSystem } from '../faults/twin-system.ts'

const clocks = [
  { what: 'in 1970', fake: '@1970-01-01 00:00:10', isAhead: false },
  { what: 'ten years ago', fake: '-10y', isAhead: false },
  { what: 'an hour ahead', fake: '+1h', isAhead: true }
]

for (const [number, { what, fake, isAhead }] of clocks.entries()) {
  it(`a node whose clock stands ${what}, offline, then set right: twins go on, and both sides are equal`, async context => {
    context.skip(fakeClockAbsent !== undefined, fakeClockAbsent)
    await using system = await TwinSystem.start({ test: 920 + number })
    await system.edge.stop()
    system.link.cut()
    const clock = new FakeClock(system.fleet.folder)
    await clock.set(fake)
    await system.edge.start(clock.environment)
    system.run()
    await system.progress(100)
    await system.pause()
    // A report without a time of its own is taken for what it is: the newest.
    await system.wantOnNode('gauge-0', { mode: 'by-a-wrong-clock' })
    await until('the device does it', async () => (await system.onNode('gauge-0')).properties['mode']?.reported?.value === 'by-a-wrong-clock')
    // Later in the cloud, whatever the node's clock says.
    await system.wantInCloud('gauge-1', { target: '77777' })
    system.link.heal()
    await system.linked()
    await system.converged('with the wrong clock')
    if (!isAhead) expect(desiredOf(await system.cluster.device('gauge-1'))['target']).toBe('77777')
    await clock.setRight(system.edge)
    system.run()
    await system.progress(100)
    await system.converged('with the clock set right')
    // Whatever was ahead has been stamped anew: what is wanted now holds.
    await system.wantInCloud('gauge-0', { mode: 'afterwards' })
    await until('the device does what the cloud wants', async () => reportedOf(await system.cluster.status('gauge-0'))['mode'] === 'afterwards')
    await system.wantOnNode('gauge-0', { mode: 'and-here' })
    await until('the cloud has what the node wants', async () => desiredOf(await system.cluster.device('gauge-0'))['mode'] === 'and-here')
    report(context, {
      rows: [9], fault: `twins: a node whose clock stands ${what}, offline, then set right`, injection: 'libfaketime under edgecore',
      rounds: 1, outcome: 'reports and desired values are taken meanwhile; both sides equal before and after the step'
    })
  })
}
