import { expect, test } from 'vitest'
import type { MachineSample } from './machine.ts'
import { kubernetesTime, nodeStatus, sameStatus, seePressures } from './node-status.ts'
import type { NodeStatus, PressuresSeen } from './node-status.ts'

const soundMachine: MachineSample = {
  cpus: 4, memoryBytes: 4 * 2 ** 30, memoryAvailableBytes: 3 * 2 ** 30,
  diskBytes: 100 * 2 ** 30, diskAvailableBytes: 50 * 2 ** 30, inodes: 1000, inodesFree: 900, pids: 100, pidsMax: 32_768,
  addresses: ['192.0.2.7'], machineId: 'm', systemUuid: 's', bootId: 'b', kernelVersion: '6.1.0', osImage: 'Debian', architecture: 'arm64'
}
const facts = { node: 'edge-1', version: '0.1.0', diskLow: false }
const start = { wallMs: Date.UTC(2026, 10, 21, 12, 0, 0), monotonicMs: 5000 }

test('the status of a sound machine', () => {
  const time = '2026-11-21T12:00:00Z'
  const condition = (type: string, status: string, reason: string) =>
    ({ type, status, reason, lastHeartbeatTime: time, lastTransitionTime: time, message: expect.any(String) as string })
  expect(nodeStatus(undefined, soundMachine, facts, {}, start)).toEqual({
    capacity: { cpu: '4', 'ephemeral-storage': '104857600Ki', memory: '4194304Ki', pods: '110' },
    allocatable: { cpu: '4', 'ephemeral-storage': '94371840Ki', memory: '4091904Ki', pods: '110' },
    conditions: [
      condition('MemoryPressure', 'False', 'EnoughMemory'), condition('DiskPressure', 'False', 'EnoughDiskSpace'),
      condition('PIDPressure', 'False', 'EnoughPIDs'), condition('Ready', 'True', 'EdgecoreReady')
    ],
    addresses: [{ type: 'InternalIP', address: '192.0.2.7' }, { type: 'Hostname', address: 'edge-1' }],
    nodeInfo: {
      machineID: 'm', systemUUID: 's', bootID: 'b', kernelVersion: '6.1.0', osImage: 'Debian', containerRuntimeVersion: '',
      kubeletVersion: 'v1.32.0-holdfast.0.1.0', kubeProxyVersion: '', operatingSystem: 'linux', architecture: 'arm64'
    }
  })
})

const of = (status: NodeStatus, type: string) => status.conditions.find(condition => condition.type === type)!

test.each<[string, Partial<MachineSample>, boolean]>([
  ['MemoryPressure', { memoryAvailableBytes: 100 * 2 ** 20 - 1 }, false],
  ['DiskPressure', { diskAvailableBytes: 10 * 2 ** 30 - 1 }, false],
  ['DiskPressure', { inodesFree: 49 }, false],
  ['DiskPressure', {}, true],
  ['PIDPressure', { pids: 30_000 }, false]
])('%s is True at once, for five minutes after it was last seen, and its transitions have their times', (type, change, diskLow) => {
  let pressures: PressuresSeen = {}
  let status: NodeStatus | undefined
  const look = (sample: MachineSample, afterMs: number, low: boolean): NodeStatus => {
    const now = { wallMs: start.wallMs + afterMs, monotonicMs: start.monotonicMs + afterMs }
    pressures = seePressures(pressures, sample, { diskLow: low }, now.monotonicMs)
    return status = nodeStatus(status, sample, facts, pressures, now)
  }
  const told = () => {
    const { status: value, lastTransitionTime, lastHeartbeatTime } = of(status!, type)
    return [value, lastTransitionTime.slice(14, 19), lastHeartbeatTime.slice(14, 19)]
  }
  look(soundMachine, 0, false)
  expect(told()).toEqual(['False', '00:00', '00:00'])
  look({ ...soundMachine, ...change }, 10_000, diskLow)
  expect(told()).toEqual(['True', '00:10', '00:10'])
  look({ ...soundMachine, ...change }, 20_000, diskLow)
  expect(told()).toEqual(['True', '00:10', '00:20'])
  look(soundMachine, 319_999, false)
  expect(told()).toEqual(['True', '00:10', '05:19'])
  look(soundMachine, 320_000, false)
  expect(told()).toEqual(['False', '05:20', '05:20'])
  expect(status!.conditions.filter(({ type: other }) => other !== type).map(({ lastTransitionTime }) => lastTransitionTime))
    .toEqual(Array(3).fill('2026-11-21T12:00:00Z'))
})

test('what is not known is no pressure: no inodes counted, no /proc', () => {
  const unknown = { ...soundMachine, inodes: 0, inodesFree: 0, memoryBytes: 0, memoryAvailableBytes: 0, pids: 0, pidsMax: Infinity }
  expect(seePressures({}, unknown, { diskLow: false }, 1)).toEqual({})
})

test('statuses are the same whose heartbeats alone differ', () => {
  const first = nodeStatus(undefined, soundMachine, facts, {}, start)
  const later = { wallMs: start.wallMs + 60_000, monotonicMs: start.monotonicMs + 60_000 }
  const second = nodeStatus(first, { ...soundMachine, memoryAvailableBytes: 2 ** 30, pids: 200 }, facts, {}, later)
  expect(second).not.toEqual(first)
  expect(sameStatus(first, second)).toBe(true)
  expect(sameStatus(first, nodeStatus(first, { ...soundMachine, addresses: [] }, facts, {}, later))).toBe(false)
  expect(sameStatus(first, nodeStatus(first, soundMachine, facts, { disk: later.monotonicMs }, later))).toBe(false)
})

test('times are whole seconds', () => { expect(kubernetesTime(1_767_225_600_999)).toBe('2026-01-01T00:00:00Z') })
