import { describe, expect, it } from 'vitest'
import { drained, recordsOf } from '../harness/daemons.ts'
import { StateRelay } from '../harness/state-relay.ts'
import { report } from './fault-report.ts'
import { metricOf, rounds } from './fault-system.ts'
import { StateSystem } from './state-system.ts'

describe('version 1 of the protocol', () => {
  it('between this edge and this cloud carries the Log and no State; with version 2 both sides are equal again', async context => {
    const count = rounds(1, 5)
    await using system = await StateSystem.start({ test: 720 })
    await using relay = await StateRelay.open(system.cloud, system.edge.dataDir, 1)
    let records = 0
    let slowestMs = 0
    for (let round = 0; round < count; round++) {
      await system.churn.burst(40)
      await system.converged(`round ${round}, before`)
      const before = await system.held()
      const gone = system.watch.deletions.length
      const said = { edge: system.edge.log.length, cloud: system.cloud.log.length }
      relay.speak(1)
      system.route.port = relay.port
      // Each side has met the other one before, and starts anew.
      await system.edge.stop()
      await system.cloud.stop()
      await system.cloud.start()
      await system.edge.start()
      await system.linked()
      await system.churn.burst(60)
      const answer = await fetch(`${system.edge.endpoints.http}/v1/devices/home/kettle/telemetry`, { method: 'POST', body: '{"celsius":81}' })
      expect(answer.status).toBe(200)
      records++
      await drained(system.edge)
      expect(await recordsOf(system.cloud.endpoints.ops!, 'node=edge-1&lane=telemetry')).toHaveLength(records)
      expect([...relay.kinds]).toContain('hello')
      expect([...relay.kinds].filter(kind => kind.startsWith('state-'))).toEqual([])
      expect(await metricOf(system.edge, 'holdfast_edge_state_frames_total') + await metricOf(system.cloud, 'holdfast_cloud_state_frames_total')).toBe(0)
      expect(system.edge.log.slice(said.edge)).toContain('an older protocol, without State')
      expect(system.cloud.log.slice(said.cloud)).toContain('an older protocol, without State')
      expect(await system.held()).toEqual(before)
      expect(system.watch.deletions.slice(gone)).toEqual([])
      // Whoever was old is upgraded.
      relay.speak(2)
      slowestMs = Math.max(slowestMs, await system.converged(`round ${round}, upgraded`))
      expect([...relay.kinds]).toContain('state-changes')
      system.route.port = undefined
      system.link.reset()
    }
    report(context, {
      rows: [28], fault: 'an edge of version 1 with this cloud, a cloud of version 1 with this edge',
      injection: 'relay in the tunnel that lowers what Hello offers',
      rounds: count,
      outcome: `the Log flows, no State frame either way and both say so, the node keeps what it has; with version 2 both sides equal within ${Math.ceil(slowestMs / 1000)} s`
    })
  })
})
