import { silentLog } from '@holdfast/runtime'
import type { Clock, Timer } from '@holdfast/runtime'
import { expect, test } from 'vitest'
import type { MachineSample } from './machine.ts'
import { NodeReporter } from './node-reporter.ts'
import type { NodeReporterComponents } from './node-reporter.ts'
import type { NodeStatus } from './node-status.ts'

const sound: MachineSample = {
  cpus: 4, memoryBytes: 4 * 2 ** 30, memoryAvailableBytes: 3 * 2 ** 30, diskBytes: 2 ** 40, diskAvailableBytes: 2 ** 39,
  inodes: 1000, inodesFree: 900, pids: 100, pidsMax: 32_768, addresses: [], machineId: 'm', systemUuid: 's', bootId: 'b',
  kernelVersion: '6.1.0', osImage: 'Debian', architecture: 'arm64'
}

/** A clock that is moved by hand, and everything that the reporter wrote. */
function harness(stored?: NodeStatus) {
  let nowMs = 0
  const timers = new Set<{ dueMs: number, task: () => void }>()
  const clock: Clock = {
    wallMs: () => Date.UTC(2026, 10, 21) + nowMs,
    monotonicMs: () => nowMs,
    after(delayMs, task): Timer {
      const timer = { dueMs: nowMs + delayMs, task }
      timers.add(timer)
      return { cancel: () => timers.delete(timer) }
    },
    soon: task => queueMicrotask(task)
  }
  const state = { sample: sound, written: [] as NodeStatus[], stored, failure: undefined as Error | undefined, machineFails: false }
  const components: NodeReporterComponents = {
    machine: { sample: async () => { if (state.machineFails) throw new Error('EIO'); return state.sample } },
    reports: {
      read: () => state.stored,
      write: (status, onDurable) => {
        if (state.failure === undefined) {
          state.stored = status
          state.written.push(status)
        }
        onDurable(state.failure)
      }
    },
    facts: () => ({ node: 'edge-1', version: '0.1.0', diskLow: false }),
    clock, log: silentLog
  }
  return { state, timers, components, reporter: new NodeReporter(components), pass: (ms: number) => { nowMs += ms } }
}

test('it reports at once, then what changes, then every five minutes', async () => {
  const { state, reporter, pass } = harness()
  const look = async (): Promise<number> => { await reporter.sample(); return state.written.length }
  expect(await look()).toBe(1)
  pass(10_000)
  expect(await look()).toBe(1)
  state.sample = { ...sound, memoryAvailableBytes: 1 }
  expect(await look()).toBe(2)
  pass(290_000)
  expect(await look()).toBe(2)
  pass(10_000)
  expect(await look()).toBe(3)
  expect(reporter.reports).toBe(3)
})

test('STA-14: a start on which nothing has changed reports nothing, and keeps the times of transitions', async () => {
  const first = harness()
  await first.reporter.sample()
  const second = harness(first.state.stored)
  second.pass(60_000)
  const reporter = new NodeReporter(second.components)
  await reporter.sample()
  expect(second.state.written).toEqual([])
  second.pass(300_000)
  await reporter.sample()
  expect(second.state.written[0]!.conditions.map(({ lastTransitionTime }) => lastTransitionTime))
    .toEqual(first.state.stored!.conditions.map(({ lastTransitionTime }) => lastTransitionTime))
})

test('what fails is tried again at the next look', async () => {
  const { state, reporter } = harness()
  state.machineFails = true
  await reporter.sample()
  state.machineFails = false
  state.failure = new Error('STORE_FAILED')
  await reporter.sample()
  expect(state.written).toEqual([])
  state.failure = undefined
  await reporter.sample()
  expect(state.written).toHaveLength(1)
})

test('it looks every ten seconds until it is stopped, and leaves no timer behind', async () => {
  const { state, timers, reporter, pass } = harness()
  const stop = new AbortController()
  const running = reporter.run(stop.signal)
  for (let look = 1; look <= 3; look++) {
    await expect.poll(() => timers.size).toBe(1)
    const [timer] = timers
    expect(timer!.dueMs).toBe(look * 10_000)
    pass(10_000)
    state.sample = { ...sound, cpus: look }
    timers.delete(timer!)
    timer!.task()
    await expect.poll(() => state.written.length).toBe(look + 1)
  }
  await expect.poll(() => timers.size).toBe(1)
  stop.abort()
  await running
  expect(timers.size).toBe(0)
})
