import { failpoints } from '@holdfast/runtime'
import type { FailpointName } from '@holdfast/runtime'
import { tables } from '@holdfast/store'
import type { StoreEntry } from '@holdfast/store'
import type { Edge } from './edge.ts'
import type { FaultKind } from './plan.ts'
import { attemptsOn, gapsOn } from './reader.ts'
import type { Simulation } from './simulation.ts'
import { flipStateBit } from './state.ts'
import { downCollections } from './state-truth.ts'

const cloudFailpoints = (Object.keys(failpoints) as FailpointName[]).filter(name => name.startsWith('append') ||
  name.startsWith('ack'))
const edgeFailpoints = (Object.keys(failpoints) as FailpointName[])
  .filter(name => !cloudFailpoints.includes(name) && !/^(puback|state)/.test(name))

type Fault = (simulation: Simulation, edge: Edge) => void | Promise<void>

/** How each fault is injected. What it takes from the oracles it says itself. */
export const faults: Readonly<Record<FaultKind, Fault>> = {
  'edge-kill': (_simulation, edge) => { if (edge.machine.process !== undefined) edge.crash('fault', 'kill') },
  'edge-power-cut': (_simulation, edge) => { if (!edge.down) edge.crash('fault', 'power') },
  'edge-dies-in-code': ({ random }, edge) => {
    if (edge.machine.process !== undefined) edge.machine.process.outputsLeft = random.integer(1, 60)
  },
  'edge-failpoint': ({ random, world }, edge) => {
    const { process } = edge.machine
    if (process === undefined) return
    process.dieAt = edgeFailpoints[random.integer(0, edgeFailpoints.length - 1)]
    process.passesLeft = random.integer(1, 5)
    world.note(`${edge.name} will die at ${process.dieAt}`)
  },
  'cloud-kill': ({ cloud }) => { if (cloud.machine.process !== undefined) cloud.crash('fault', 'kill') },
  'cloud-power-cut': ({ cloud }) => { if (!cloud.down) cloud.crash('fault', 'power') },
  'cloud-dies-in-code': ({ cloud, random }) => {
    if (cloud.machine.process !== undefined) cloud.machine.process.outputsLeft = random.integer(1, 60)
  },
  'cloud-failpoint': ({ cloud, random }) => {
    const { process } = cloud.machine
    if (process === undefined) return
    process.dieAt = cloudFailpoints[random.integer(0, cloudFailpoints.length - 1)]
    process.passesLeft = random.integer(1, 20)
  },
  'all-power-cut': ({ cloud, edges }) => {
    if (!cloud.down) cloud.crash('all power is cut', 'power')
    for (const edge of edges) if (!edge.down) edge.crash('all power is cut', 'power')
  },
  'link-cut': (_simulation, edge) => { edge.cutLink('fault: reset') },
  'link-down': ({ world, random }, edge) => {
    edge.wire.up = false
    edge.cutLink('fault: link down')
    world.after(random.next() * 40_000, () => { edge.wire.up = true })
  },
  'link-flaps': ({ world, random }, edge) => {
    for (let i = 0; i < 8; i++) world.after(i * 400 + random.next() * 400, () => { edge.cutLink('fault: flap') })
  },
  blackhole: ({ world, random }, edge) => {
    const way = random.integer(0, 2)
    edge.wire.lostUp = way !== 0
    edge.wire.lostDown = way !== 1
    world.after(1000 + random.next() * 50_000, () => { edge.wire.lostUp = edge.wire.lostDown = false })
  },
  'slow-link': ({ world, random }, edge) => {
    edge.wire.rate = random.integer(2_000, 100_000)
    edge.wire.latencyMs = random.integer(20, 600)
    world.after(5000 + random.next() * 40_000, () => {
      edge.wire.rate = Infinity
      edge.wire.latencyMs = 5
    })
  },
  'edge-write-error': (_simulation, edge) => { edge.machine.disk.failNextWrite('EIO') },
  'cloud-write-error': ({ cloud }) => { cloud.machine.disk.failNextWrite('EIO') },
  'edge-disk-full': ({ world, random }, edge) => { fillUp(edge, random.integer(0, 2000), 2000 + random.next() * 20_000,
    world) },
  'cloud-disk-full': ({ cloud, world, random }) => { fillUp(cloud, random.integer(0, 2000),
    2000 + random.next() * 20_000, world) },
  'disk-stall': ({ world, random, cloud }, edge) => {
    const { machine } = random.chance(0.3) ? cloud : edge
    machine.diskStalledUntilMs = world.nowMs + random.integer(500, 8000)
  },
  'event-loop-stall': ({ world, random, cloud }, edge) => {
    const { process } = (random.chance(0.3) ? cloud : edge).machine
    if (process === undefined) return
    process.stalledUntilMs = Math.max(process.stalledUntilMs, world.nowMs + random.integer(1000, 30_000))
  },
  'clock-jump': ({ world, random, cloud }, edge) => {
    const { machine } = random.chance(0.3) ? cloud : edge
    const years = 365 * 86_400_000
    machine.wallOffsetMs = [10 * years, -10 * years, -56 * years - world.nowMs, 3_600_000, -3_600_000,
      0][random.integer(0, 5)]!
    machine.clockSynchronised = random.chance(0.5)
    world.note(`${machine.name}: the clock jumps by ${machine.wallOffsetMs} ms`)
  },
  'lane-vanishes': async (simulation, edge) => {
    const { world, random } = simulation
    if (edge.down) return
    edge.missingLanes.add(random.chance(0.5) ? 'bulk' : 'telemetry')
    edge.crash('new configuration', 'kill', 500)
    if (random.chance(0.4)) return
    world.after(10_000 + random.next() * 30_000, () => {
      if (edge.missingLanes.size === 0 || simulation.healed) return
      edge.missingLanes.clear()
      if (!edge.down) edge.crash('old configuration', 'kill', 500)
    })
  },

  'cloud-wiped': async ({ cloud, random, world }) => {
    if (cloud.down) return
    cloud.honest = false
    await cloud.takeDown('kill')
    await cloud.machine.restore([])
    world.after(random.next() * 5000, () => { cloud.bringUp() })
  },
  'cloud-restored': async simulation => {
    const { cloud, random, world } = simulation
    if (cloud.down) return
    const backup = await cloud.machine.copy()
    if (backup === undefined) return
    world.note('cloud: a backup is made')
    world.after(3000 + random.next() * 40_000, () => {
      if (cloud.down || simulation.healed) return
      cloud.honest = false
      cloud.takeDown('kill').then(async () => {
        world.note('cloud: the backup is restored')
        await cloud.machine.restore(backup)
        cloud.bringUp()
      }).catch((error: unknown) => { world.fail(error) })
    })
  },
  'cluster-changed': async ({ cloud, state }) => {
    if (cloud.down) return
    cloud.honest = false
    await cloud.takeDown('kill')
    await cloud.machine.restore([])
    cloud.newCluster()
    state?.newCluster()
    cloud.bringUp()
  },
  'edge-restored': async (simulation, edge) => {
    const { random, world } = simulation
    if (edge.running === undefined || edge.down) return
    const backup = await edge.machine.copy()
    if (backup === undefined) return
    world.note(`${edge.name}: a backup is made`)
    world.after(3000 + random.next() * 40_000, () => {
      if (edge.down || simulation.healed) return
      edge.honest = false
      edge.takeDown('power').then(async () => {
        await simulation.destroying(edge, 'restored from a backup', async () => { await edge.machine.restore(backup) })
        simulation.state?.wentBack(edge)
        edge.bringUp()
      }).catch((error: unknown) => { world.fail(error) })
    })
  },
  'edge-cloned': async (simulation, edge) => {
    const { random, world } = simulation
    if (edge.running === undefined || simulation.clones.length > 0) return
    const copy = await edge.machine.copy()
    if (copy === undefined) return
    edge.honest = false
    const clone = simulation.addClone(edge)
    await clone.machine.restore(copy)
    clone.bringUp()
    world.after(20_000 + random.next() * 60_000, () => { simulation.endClone(clone) })
  },

  'watch-broken': ({ cloud, random }) => {
    cloud.running?.state?.breakOff(downCollections[random.integer(0, downCollections.length - 1)]!)
  },
  'cluster-restored': ({ state, world, random }) => {
    const restore = state?.backUp()
    world.after(3000 + random.next() * 30_000, () => { restore?.() })
  },
  'edge-state-failpoint': ({ random }, edge) => {
    const { process } = edge.machine
    if (process === undefined) return
    process.dieAt = random.chance(0.5) ? 'state-apply:before' : 'state-apply:after'
    process.passesLeft = random.integer(1, 3)
  },
  'edge-state-flipped': async ({ random }, edge) => {
    if (edge.down || edge.machine.process === undefined) return
    await edge.takeDown('power')
    const flipped = flipStateBit(await edge.machine.entries(), random)
    if (flipped !== undefined) await edge.machine.restore(flipped)
    edge.bringUp()
  },

  'edge-commit-dropped': damageEdge((_simulation, edge) => {
    edge.machine.disk.dropCommit()
    // LevelDB drops the damaged record of its log when it opens, and the opener looks for that.
    edge.machine.suspect = true
    return 'announced'
  }),
  'edge-tail-lost': damageEdge(({ random }, edge) => {
    edge.machine.disk.loseTail(random.integer(1, 12))
    edge.machine.suspect = random.chance(0.5)
    return edge.machine.suspect ? 'announced' : 'silent'
  }),
  'edge-bit-flipped': damageEdge((_simulation, edge) => {
    edge.machine.disk.flipBit()
    return 'flip'
  }),
  'edge-unreadable': damageEdge(({ random }, edge) => {
    edge.machine.disk.becomeUnreadable(random.chance(0.5) ? 0.05 : random.next())
    return 'announced'
  }),
  'cloud-commit-dropped': damageCloud(({ cloud }) => { cloud.machine.disk.dropCommit() }),
  'cloud-tail-lost': damageCloud(({ cloud, random }) => { cloud.machine.disk.loseTail(random.integer(1, 12)) }),
  'cloud-bit-flipped': damageCloud(({ cloud }) => { cloud.machine.disk.flipBit() }),
  'cloud-unreadable': damageCloud(({ cloud, random }) => { cloud.machine.disk.becomeUnreadable(random.chance(0.5) ?
    0.05 : random.next()) })
}

function fillUp({ machine }: { readonly machine: Edge['machine'] }, bytesFree: number, forMs: number,
  world: Simulation['world']): void {
  machine.full = true
  machine.disk.fillUp(bytesFree)
  world.after(forMs, () => {
    machine.full = false
    machine.disk.free()
  })
}

/** Takes an edge down, damages its disk and brings it back; what vanished silently is not held against the outbox. */
function damageEdge(damage: (simulation: Simulation, edge: Edge) => 'announced' | 'silent' | 'flip'): Fault {
  return async (simulation, edge) => {
    if (edge.down || edge.machine.process === undefined) return
    edge.honest = false
    await edge.takeDown('power')
    const before = await edge.machine.entries()
    const kind = damage(simulation, edge)
    const after = kind === 'announced' ? [] : await edge.machine.entries()
    simulation.world.note(`${edge.name}: disk damaged, ${kind}`)
    if (kind === 'silent') {
      const left = attemptsOn(after, simulation.ledger)
      for (const id of attemptsOn(before, simulation.ledger)) {
        if (!left.has(id)) simulation.ledger.attempts[id]!.excused = 'a tail was lost in silence'
      }
      // A gap that is lost with the tail may have stood for anything that was here before.
      const gapsLeft = gapsOn(after)
      if ([...gapsOn(before)].some(key => !gapsLeft.has(key))) {
        for (const attempt of simulation.ledger.attempts) {
          if (attempt.edge === edge) attempt.excused = 'its gap was lost in silence'
        }
      }
    }
    if (kind === 'flip') excuseMovedTail(simulation, before, after)
    edge.bringUp()
  }
}

/** A lane's last batch under a key that a flipped bit moved away leaves no trace: nothing points at where it was. */
function excuseMovedTail({ ledger, world }: Simulation, before: readonly StoreEntry[],
  after: readonly StoreEntry[]): void {
  const keys = new Set(after.map(({ key }) => key.toString('hex')))
  const gone = before.find(({ key }) => !keys.has(key.toString('hex')))
  const changed = gone ?? before.find(({ key, value }) => !after.some(other => other.key.equals(key) &&
    other.value.equals(value)))
  world.note(`bit flipped in ${gone === undefined ? 'the value' : 'the key'} of ${changed?.key.toString('hex')}`)
  if (gone === undefined || gone.key[0] !== tables.outboxBatch) return
  for (const id of attemptsOn([gone], ledger)) ledger.attempts[id]!.excused = 'its key was damaged'
}

function damageCloud(damage: (simulation: Simulation) => void): Fault {
  return async simulation => {
    const { cloud } = simulation
    if (cloud.down || cloud.machine.process === undefined) return
    cloud.honest = false
    await cloud.takeDown('power')
    damage(simulation)
    cloud.bringUp()
  }
}
