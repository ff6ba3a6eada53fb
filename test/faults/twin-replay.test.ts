import { join } from 'node:path'
import { expect, it } from 'vitest'
import { until } from '../harness/daemons.ts'
import { reportedOf } from '../harness/device-api.ts'
import type { DeviceStatusObject } from '../harness/device-api.ts'
import { KubeWatch } from '../harness/kube-watch.ts'
import { StateRelay } from '../harness/state-relay.ts'
import { report } from './fault-report.ts'
import { metricOf, randomOf, rounds } from './fault-system.ts'
import { TwinSystem } from './twin-system.ts'

it('frames of an older session, sent again in the next one, never take a twin back', async context => {
  const count = rounds(2, 20)
  const random = randomOf(900)
  await using system = await TwinSystem.start({ test: 901 })
  await using relay = await StateRelay.open(system.cloud, system.edge.dataDir, 2)
  system.route.port = relay.port
  system.link.reset()
  await system.linked()
  const newest = new Map<string, number>()
  const wentBack: string[] = []
  await using _watch = await KubeWatch.open<DeviceStatusObject>(
    join(system.cloud.dataDir, 'kubeconfig'), '/apis/devices.kubeedge.io/v1beta1/devicestatuses', ({ object }) => {
      const value = Number(reportedOf(object)['value'])
      const before = newest.get(object.metadata.name) ?? 0
      if (value < before) wentBack.push(`${object.metadata.name}: ${value} after ${before}`)
      newest.set(object.metadata.name, value)
    })
  for (let round = 0; round < count; round++) {
    relay.replays = false
    system.run()
    await system.progress(random.integer(50, 200))
    await system.converged(`round ${round}, before`)
    relay.replays = true
    const replayed = relay.replayed
    system.run()
    await system.progress(random.integer(1, 50))
    system.link.reset()
    await until('frames were sent again', () => relay.replayed > replayed, 60_000)
    relay.replays = false
    await system.progress(random.integer(1, 50))
    await system.converged(`round ${round}`)
  }
  expect(wentBack).toEqual([])
  expect(await metricOf(system.edge, 'holdfast_edge_link_up')).toBe(1)
  report(context, {
    rows: [18], fault: 'twins: frames of an older session sent again in the next one', injection: 'relay in the tunnel, with both sides\' certificates',
    rounds: count, outcome: 'the session ends or the frames are passed over; no reported value went back in the cluster, every twin equal afterwards'
  })
})
