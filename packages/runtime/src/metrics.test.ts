import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import { expect, test } from 'vitest'
import type { Clock } from './clock.ts'
import { MetricRegistry, processMetrics, watchProcess } from './metrics.ts'

const table = {
  records: { name: 'records_total', kind: 'counter', help: 'Records\nof a \\ lane.', labels: ['lane', 'why'] },
  depth: { name: 'depth_bytes', kind: 'gauge', help: 'Depth.' },
  fsync: { name: 'fsync_seconds', kind: 'histogram', help: 'Time.', labels: ['store'], buckets: [0.001, 0.01, 1] }
} as const

test('the text is what a metrics library writes for the same numbers', async () => {
  const registry = new MetricRegistry(table)
  const peer = new Registry()
  const records = new Counter({ name: 'records_total', help: table.records.help, labelNames: ['lane', 'why'], registers: [peer] })
  const depth = new Gauge({ name: 'depth_bytes', help: 'Depth.', registers: [peer] })
  const fsync = new Histogram({
    name: 'fsync_seconds', help: 'Time.', labelNames: ['store'], buckets: [0.001, 0.01, 1], registers: [peer]
  })
  for (const why of ['new', 'a "quoted\\" \n name']) {
    registry.metrics.records.of({ lane: 'telemetry', why }).value += 3.5
    records.inc({ lane: 'telemetry', why }, 3.5)
  }
  registry.metrics.depth.of({}).value = 12
  depth.set(12)
  for (const seconds of [0.0005, 0.001, 0.0011, 0.5, 7]) {
    registry.metrics.fsync.of({ store: 'db' }).observe(seconds)
    fsync.observe({ store: 'db' }, seconds)
  }
  const lines = (text: string): string[] => text.split('\n').filter(line => line !== '')
  expect(lines(registry.expose())).toEqual(lines(await peer.metrics()))
})

test('every metric of the table is exposed, and nothing else', () => {
  const exposed = new MetricRegistry(table).expose().split('\n').filter(line => line.startsWith('# TYPE'))
  expect(exposed.map(line => line.split(' ')[2])).toEqual(Object.values(table).map(({ name }) => name))
})

test('a series keeps its place, and is gone when removed', () => {
  const { metrics } = new MetricRegistry(table)
  const cell = metrics.records.of({ lane: 'a', why: 'b' })
  expect(metrics.records.of({ why: 'b', lane: 'a' })).toBe(cell)
  metrics.records.remove({ lane: 'a', why: 'b' })
  expect(metrics.records.of({ lane: 'a', why: 'b' })).not.toBe(cell)
})

test('gauges are read when somebody asks, until told to stop', () => {
  const registry = new MetricRegistry(table)
  let bytes = 1
  const stop = registry.onCollect(() => { registry.metrics.depth.of({}).value = bytes++ })
  expect(registry.expose()).toContain('depth_bytes 1\n')
  expect(registry.expose()).toContain('depth_bytes 2\n')
  stop()
  expect(registry.expose()).toContain('depth_bytes 2\n')
})

test('a stall of the event loop shows as lag', () => {
  let nowMs = 0
  const timers: { dueMs: number, task: () => void }[] = []
  const clock: Clock = {
    wallMs: () => nowMs,
    monotonicMs: () => nowMs,
    after: (delayMs, task) => {
      const timer = { dueMs: nowMs + delayMs, task }
      timers.push(timer)
      return { cancel: () => { timers.splice(timers.indexOf(timer), 1) } }
    },
    soon: task => task()
  }
  const pass = (delayMs: number): void => {
    nowMs += delayMs
    timers.shift()!.task()
  }
  const registry = new MetricRegistry(processMetrics)
  const watch = watchProcess(registry, clock)
  pass(250)
  pass(5250)
  expect(registry.expose()).toContain('holdfast_event_loop_lag_max_seconds 5\n')
  expect(registry.expose()).toContain('holdfast_event_loop_lag_seconds_bucket{le="0.001"} 1\n')
  for (let i = 0; i < 250; i++) pass(250)
  expect(registry.expose()).toContain('holdfast_event_loop_lag_max_seconds 5\n')
  for (let i = 0; i < 250; i++) pass(250)
  expect(registry.expose()).toContain('holdfast_event_loop_lag_max_seconds 0\n')
  watch[Symbol.dispose]()
  expect(timers).toEqual([])
})
