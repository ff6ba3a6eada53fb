import type { JsonObject, KubeObject } from '@holdfast/kube-api'
import { SeededRandom, silentLog } from '@holdfast/runtime'
import { HandClock } from '@holdfast/runtime/testing'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { kubeKinds } from '../kube/kube-kinds.ts'
import { recordedVersion, stateAnnotation } from './status-document.ts'
import { StatusWriter, statusWriterDefaults } from './status-writer.ts'
import type { StatusOutcome, StatusWrite } from './status-writer.ts'
import { ScriptedCluster, newPod, podPlace } from './testing/up-cluster.ts'
import type { ScriptedInformer } from './testing/up-cluster.ts'

let clock: HandClock
let cluster: ScriptedCluster
let informer: ScriptedInformer
let writer: StatusWriter
let outcomes: string[]

beforeEach(() => {
  clock = new HandClock()
  cluster = new ScriptedCluster(clock)
  informer = cluster.informer(kubeKinds.pods)
  writer = new StatusWriter(statusWriterDefaults, { client: cluster, informers: [informer], clock, random: new SeededRandom(7), log: silentLog })
  outcomes = []
  for (const name of ['a', 'b', 'c']) cluster.set(podPlace(name), () => newPod(name, 'edge-1'))
})

afterEach(() => { writer.close() })

const hex = (counter: number): string => counter.toString(16).padStart(32, '0')

/** Writes `counter` unless a higher one is there. */
function writeOf(name: string, counter: number, lane = 'edge-1', uid?: string): StatusWrite {
  const decide = ([base]: readonly (KubeObject | undefined)[]): ReturnType<StatusWrite['decide']> => {
    if (base === undefined) return { kind: 'drop', reason: 'gone' }
    if (uid !== undefined && base.metadata.uid !== uid) return { kind: 'drop', reason: 'another' }
    const there = recordedVersion(base)
    if (there !== undefined && there >= hex(counter)) return { kind: 'drop', reason: 'recorded' }
    const patch: JsonObject = {
      metadata: { resourceVersion: base.metadata.resourceVersion!, annotations: { [stateAnnotation]: hex(counter) } },
      status: { phase: `phase-${counter}` }
    }
    return { kind: 'write', isLast: true, request: { verb: 'patch', place: podPlace(name), patch, subresource: 'status' } }
  }
  const settled = (outcome: StatusOutcome): void => {
    outcomes.push(`${name} ${counter} ${outcome.kind}${outcome.kind === 'dropped' ? ` ${outcome.reason}` : ''}`)
  }
  return { places: [podPlace(name)], lane, decide, settled }
}

const phase = (name: string): unknown => (cluster.at(podPlace(name))?.['status'] as JsonObject | undefined)?.['phase']

test('the first change is written at once, then the newest once an interval', async () => {
  writer.put(writeOf('a', 1))
  await clock.pass(0)
  expect(phase('a')).toBe('phase-1')
  for (let i = 2; i <= 9; i++) writer.put(writeOf('a', i))
  await clock.pass(999)
  expect(phase('a')).toBe('phase-1')
  await clock.pass(1)
  expect(phase('a')).toBe('phase-9')
  expect(cluster.count('patch-status')).toBe(2)
  expect(outcomes).toEqual(['a 1 written', 'a 9 written'])
  expect([writer.stats.coalesced, writer.pending]).toEqual([7, 0])
})

test('status and record land in one request, under the version that was read, with no read where the informer shows it', async () => {
  const before = cluster.at(podPlace('a'))!.metadata.resourceVersion
  writer.put(writeOf('a', 1))
  await clock.pass(0)
  expect(cluster.requests).toEqual([expect.objectContaining({ verb: 'patch-status', body: {
    metadata: { resourceVersion: before, annotations: { [stateAnnotation]: hex(1) } }, status: { phase: 'phase-1' }
  } })])
})

test('a lagging informer costs no conflict after a write of ours', async () => {
  informer.held = true
  writer.put(writeOf('a', 1))
  await clock.pass(1000)
  writer.put(writeOf('a', 2))
  await clock.pass(1000)
  expect([phase('a'), writer.stats.conflicts, cluster.count('get')]).toEqual(['phase-2', 0, 0])
})

test('a conflict is read again and decided anew', async () => {
  informer.held = true
  cluster.set(podPlace('a'), pod => ({ ...pod!, metadata: { ...pod!.metadata, labels: { by: 'somebody' } } }))
  writer.put(writeOf('a', 1))
  await clock.pass(0)
  expect(phase('a')).toBe('phase-1')
  expect(cluster.at(podPlace('a'))!.metadata.labels).toEqual({ by: 'somebody' })
  expect([writer.stats.conflicts, cluster.count('get')]).toEqual([1, 1])
})

test('a storm of conflicts backs off, and ends', async () => {
  let storms = 20
  cluster.beforeWrite = place => { if (storms-- > 0) cluster.set(place, pod => pod) }
  writer.put(writeOf('a', 1))
  await clock.pass(0)
  expect(cluster.count('patch-status')).toBe(3)
  await clock.pass(120_000)
  expect([phase('a'), writer.stats.conflicts]).toEqual(['phase-1', 20])
})

test('what a later writer recorded is not written over', async () => {
  informer.held = true
  cluster.set(podPlace('a'), pod => ({ ...pod!, metadata: { ...pod!.metadata, annotations: { [stateAnnotation]: hex(5) } } }))
  writer.put(writeOf('a', 4))
  await clock.pass(60_000)
  expect(outcomes).toEqual(['a 4 dropped recorded'])
  expect(phase('a')).toBe('Pending')
})

describe('an object that', () => {
  test('is gone is not written, after the API was asked', async () => {
    cluster.set(podPlace('a'), () => undefined)
    writer.put(writeOf('a', 1))
    await clock.pass(0)
    expect([outcomes, cluster.count('get'), cluster.count('patch-status')]).toEqual([['a 1 dropped gone'], 1, 0])
  })

  test('the informer does not show yet is read', async () => {
    informer.held = true
    cluster.set(podPlace('new'), () => newPod('new', 'edge-1'))
    writer.put(writeOf('new', 1))
    await clock.pass(0)
    expect(outcomes).toEqual(['new 1 written'])
  })

  test('goes in mid-write is given up', async () => {
    cluster.beforeWrite = place => { cluster.set(place, () => undefined) }
    writer.put(writeOf('a', 1))
    await clock.pass(60_000)
    expect([outcomes, writer.pending]).toEqual([['a 1 dropped gone'], 0])
  })

  test('is made anew in mid-write keeps its own status', async () => {
    const { uid } = cluster.at(podPlace('a'))!.metadata
    let once = true
    cluster.beforeWrite = place => { if (once) cluster.set(place, () => newPod('a', 'edge-1')); once = false }
    writer.put(writeOf('a', 1, 'edge-1', uid))
    await clock.pass(60_000)
    expect(outcomes).toEqual(['a 1 dropped another'])
    expect(phase('a')).toBe('Pending')
  })
})

describe('without success', () => {
  test('429 is tried again no earlier than it says', async () => {
    cluster.fault = () => clock.monotonicMs() < 1100 ? { kind: 'answer', status: 429, retryAfterSeconds: 9 } : undefined
    writer.put(writeOf('a', 1))
    await clock.pass(8999)
    expect(cluster.count('patch-status')).toBe(1)
    await clock.pass(60_000)
    expect([phase('a'), cluster.count('patch-status')]).toEqual(['phase-1', 2])
  })

  test('5xx is tried again for as long as it lasts, with the newest', async () => {
    let down = true
    cluster.fault = () => down ? { kind: 'answer', status: 503 } : undefined
    writer.put(writeOf('a', 1))
    await clock.pass(300_000)
    expect(cluster.requests.length).toBeLessThan(60)
    writer.put(writeOf('a', 2))
    down = false
    await clock.pass(30_000)
    expect(outcomes).toEqual(['a 2 written'])
  })

  test('what Kubernetes refuses is given up, and later changes are tried', async () => {
    cluster.fault = () => ({ kind: 'answer', status: 422 })
    writer.put(writeOf('a', 1))
    await clock.pass(60_000)
    expect([outcomes, cluster.count('patch-status'), writer.pending]).toEqual([['a 1 refused'], 1, 0])
    cluster.fault = () => undefined
    writer.put(writeOf('a', 2))
    await clock.pass(0)
    expect(phase('a')).toBe('phase-2')
  })

  test('a lost answer is no double: the object shows that it was written', async () => {
    let once = true
    cluster.fault = () => {
      if (!once) return undefined
      once = false
      return { kind: 'answer-lost' }
    }
    writer.put(writeOf('a', 1))
    await clock.pass(60_000)
    expect(outcomes).toEqual(['a 1 dropped recorded'])
    expect(cluster.count('patch-status')).toBe(1)
  })

  test('one object that hangs holds up no other, and what lands late lands nowhere', async () => {
    cluster.fault = (verb, place) => verb === 'patch-status' && place.name === 'a' && clock.monotonicMs() < 1001
      ? { kind: 'hang', landsAfterMs: 90_000 } : undefined
    writer.put(writeOf('a', 1))
    writer.put(writeOf('b', 1))
    await clock.pass(0)
    expect(outcomes).toEqual(['b 1 written'])
    writer.put(writeOf('a', 2))
    await clock.pass(40_000)
    expect(phase('a')).toBe('phase-2')
    await clock.pass(120_000)
    expect(phase('a')).toBe('phase-2')
  })

  test('hangs of all that may be in flight end, one after the other', async () => {
    for (let i = 0; i < 40; i++) cluster.set(podPlace(`h${i}`), () => newPod(`h${i}`, 'edge-1'))
    cluster.fault = (_verb, place) => place.name.startsWith('h') ? { kind: 'hang' } : undefined
    for (let i = 0; i < 40; i++) writer.put(writeOf(`h${i}`, 1, 'bad'))
    writer.put(writeOf('a', 1, 'good'))
    await clock.pass(30_000)
    expect(outcomes).toEqual(['a 1 written'])
  })
})

test('a write that is given up is not tried again', async () => {
  cluster.fault = () => ({ kind: 'answer', status: 500 })
  const write = writeOf('a', 1)
  writer.put(write)
  await clock.pass(0)
  writer.giveUp(write)
  cluster.fault = () => undefined
  await clock.pass(60_000)
  expect([outcomes, phase('a'), writer.pending]).toEqual([[], 'Pending', 0])
})

test('after closing nothing is written and no timer is left', async () => {
  cluster.fault = () => ({ kind: 'answer', status: 500 })
  writer.put(writeOf('a', 1))
  await clock.pass(0)
  writer.close()
  expect(clock.timers).toBe(0)
  await clock.pass(60_000)
  expect(cluster.count('patch-status')).toBe(1)
})
