import { describe, expect, it } from 'vitest'
import { Display } from '../demo/display.ts'
import { machineDevices, machineFirstDevice } from '../demo/machine.ts'
import { report } from '../demo/report.ts'
import type { Accounts, Findings } from '../demo/stage.ts'
import type { DeviceArrivals } from './harness/arrivals.ts'
import type { AckFile } from './harness/load-generator.ts'

const ack = { count: 1, p50Ms: 0.5, p99Ms: 12, p999Ms: 1500, maxMs: 1500 }
const phases = { before: { ack }, during: { ack: { ...ack, p99Ms: 1500 } }, after: { ack } }
const publisher = (acknowledged: number) => ({ acknowledged, reconnects: 1, phases })

/** Account of one device, whose sequence 3 was sent twice, and what arrived of it. */
const told = (device: number, count: number): AckFile =>
  ({ qos: 1, devices: [{ device, first: 0, next: count, unacknowledged: [], repeated: [[3, 3]] }] })
const got = (device: number, count: number, change: Partial<DeviceArrivals> = {}): DeviceArrivals =>
  ({ device, next: count, unique: count, missing: [], repeated: [[3, 1]], inversions: 0, ...change })

const findings: Findings = {
  waitingAtEdgeKill: 10, waitingAfterEdgeKill: 12, backlog: 20, arrivedAtCloudKill: 8, waitingAtCloudKill: 12,
  edgeKills: 1, cloudKills: 1, linkCuts: 1, catchUpPerSecond: 234_567, acknowledgedOffline: 5
}

/** `more` stands in for the arrivals of the same devices. */
function accounts(...more: readonly DeviceArrivals[]): Accounts {
  const phase = {
    startUs: 0, firstUs: 0, lastUs: 1, records: 1, seconds: 1, ratePerSecond: 1, perSecond: [], latency: { all: ack }
  }
  const arrived = [got(machineFirstDevice, 5), got(0, 1000), got(100, 50)]
  return {
    acks: { machine: told(machineFirstDevice, 5), qos1: told(0, 1000), qos2: told(100, 50) },
    arrivals: { devices: [...arrived.filter(({ device }) => more.every(other => other.device !== device)), ...more], gaps: [] },
    publishers: { machine: publisher(5), qos1: publisher(1000), qos2: publisher(50) },
    reader: {
      kind: 'final', unique: 1055, repeated: 3, inversions: 0, foreign: 0, gaps: [], payloadBytes: 1, rewinds: 0,
      connections: 2, firstUs: 0, phases: { before: phase, during: phase, after: phase }, cpuSeconds: 1
    }
  }
}

describe('the table that the demo ends with', () => {
  it('has every count by publisher, and finds nothing wrong where nothing is', () => {
    const { text, problems } = report(accounts(), findings)
    expect(problems).toEqual([])
    const numbers = (row: string): string[] =>
      text.split('\n').find(line => line.startsWith(row))!.slice(row.length).trim().split(/ {2,}/)
    expect(text).toMatch(/^ +this machine +bulk, QoS 1 +bulk, QoS 2 +all\n/)
    expect(numbers('acknowledged')).toEqual(['5', '1,000', '50', '1,055'])
    expect(numbers('in the cloud')).toEqual(['5', '1,000', '50', '1,055'])
    for (const row of ['lost', 'twice', 'out of order']) expect(numbers(row)).toEqual(['0', '0', '0', '0'])
    expect(numbers('repeated by the sender')).toEqual(['1', '1', '1', '3'])
    expect(numbers('PUBACK, QoS 1, p99')).toEqual(['12.0 ms', '1.5 s', '12.0 ms'])
    expect(text).toContain('catch-up: 234,567 records/s, from a backlog of 20')
  })

  const sound = accounts()
  it.each<[string, Accounts, RegExp]>([
    ['a lost record', accounts(got(0, 1000, { unique: 999, missing: [[7, 7]] })), /^1 acknowledged records are lost/],
    ['a double', accounts(got(100, 50, { repeated: [[4, 1]] })), /^1 records are there twice/],
    ['a turn', accounts(got(100, 50, { inversions: 1 })), /^1 records are out of order/],
    ['a stranger', accounts(got(77, 1)), /^1 records that nobody sent/],
    ['an idle publisher', { ...sound, publishers: { ...sound.publishers, qos2: publisher(0) } },
      /^nothing was acknowledged to: bulk, QoS 2/],
    ['a publisher that was never cut off',
      { ...sound, publishers: { ...sound.publishers, machine: { ...publisher(5), reconnects: 0 } } },
      /^did not feel that edgecore was killed: this machine/],
    ['a reader that was never cut off', { ...sound, reader: { ...sound.reader, connections: 1 } }, /^the reader did not feel/]
  ])('says that there is %s', (_what, wrong, problem) => {
    expect(report(wrong, findings).problems.filter(text => problem.test(text))).toHaveLength(1)
  })

  it.each<[keyof Findings, number, RegExp]>([
    ['linkCuts', 0, /link was not cut/], ['edgeKills', 0, /edgecore was not killed/], ['cloudKills', 0, /cloudcore was not killed/],
    ['waitingAfterEdgeKill', 9, /fewer records waited/], ['waitingAtCloudKill', 0, /not killed in the middle/],
    ['arrivedAtCloudKill', 0, /not killed in the middle/],
    ['acknowledgedOffline', 0, /nothing was acknowledged while the link was cut/]
  ])('does not count a demo whose %s is %d', (key, value, problem) => {
    const { problems } = report(accounts(), { ...findings, [key]: value })
    expect(problems).toEqual([expect.stringMatching(problem)])
  })
})

describe('the demo\'s display', () => {
  it('replaces the block on a terminal, cut to its width, and never touches what stays', () => {
    let text = ''
    const display = new Display({ terminal: true, columns: 30, write: more => { text += more } })
    display.chapter('One', 'Why.')
    display.progress(() => ['first', 'x'.repeat(100)])
    display.progress(() => ['too soon'])
    display.say('stays')
    expect(text).toBe(`\n1. One\n   Why.\n     first\n     ${'x'.repeat(24)}\n\u001b[2A\u001b[J   stays\n`)
  })

  it('writes plain lines where there is no terminal', () => {
    let text = ''
    const display = new Display({ terminal: false, columns: 80, write: more => { text += more } })
    display.progress(() => ['a', 'b'])
    display.say('stays')
    expect(text).toBe('     a | b\n   stays\n')
  })
})

describe('this machine\'s devices', () => {
  it('measure numbers, again and again', () => {
    const devices = machineDevices()
    expect(Object.keys(devices)).toEqual(['cpu', 'memory', 'load', 'disk', 'network'])
    for (const measure of [...Object.values(devices), ...Object.values(devices)]) {
      const reading = Object.values(measure())
      expect(reading.length).toBeGreaterThan(1)
      expect(reading.filter(value => !Number.isFinite(value) || value < 0)).toEqual([])
    }
  })
})
