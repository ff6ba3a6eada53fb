import type { Clock } from './clock.ts'
import { invariant } from './invariant.ts'

/** One metric of a program's table. Names follow Prometheus: unit last, counters end in `_total`. */
export interface MetricEntry {
  readonly name: string
  readonly kind: 'counter' | 'gauge' | 'histogram'
  /** One sentence, with the unit. */
  readonly help: string
  readonly labels?: readonly string[]
  /** Upper bounds of a histogram's buckets, rising. */
  readonly buckets?: readonly number[]
}

/** A program's metrics, by the name that its code uses. `docs/metrics.md` is generated from these. */
export type MetricTable = Readonly<Record<string, MetricEntry>>

type LabelsOf<Entry extends MetricEntry> = Entry['labels'] extends readonly string[]
  ? Readonly<Record<Entry['labels'][number], string>>
  : Readonly<Record<never, string>>

/** One series of a counter or gauge. Hot paths add to `value` directly: it is read when somebody asks. */
export interface NumberCell { value: number }

/** One series of a histogram. */
export class HistogramCell {
  /** Observations per bucket, not cumulative; the last is above every bound. */
  readonly counts: number[]
  readonly #bounds: readonly number[]
  sum = 0

  constructor(bounds: readonly number[]) {
    this.#bounds = bounds
    this.counts = Array.from({ length: bounds.length + 1 }, () => 0)
  }

  observe(value: number): void {
    let bucket = 0
    while (bucket < this.#bounds.length && value > this.#bounds[bucket]!) bucket++
    this.counts[bucket]!++
    this.sum += value
  }
}

type CellOf<Entry extends MetricEntry> = Entry['kind'] extends 'histogram' ? HistogramCell : NumberCell

/** A metric in use. */
export interface Metric<Entry extends MetricEntry> {
  /** The series with these labels, made on first use; keep it where it is used often. */
  of(labels: LabelsOf<Entry>): CellOf<Entry>
  /** Forgets a series whose subject is gone. */
  remove(labels: LabelsOf<Entry>): void
}

export type Metrics<Table extends MetricTable> = { readonly [Key in keyof Table]: Metric<Table[Key]> }

class Family implements Metric<MetricEntry> {
  readonly entry: MetricEntry
  readonly #cells = new Map<string, NumberCell | HistogramCell>()

  constructor(entry: MetricEntry) {
    this.entry = entry
    if ((entry.labels ?? []).length === 0) this.of({})
  }

  of(labels: Readonly<Record<string, string>>): NumberCell & HistogramCell {
    const key = this.#key(labels)
    let cell = this.#cells.get(key)
    if (cell === undefined) {
      cell = this.entry.kind === 'histogram' ? new HistogramCell(this.entry.buckets ?? []) : { value: 0 }
      this.#cells.set(key, cell)
    }
    return cell as NumberCell & HistogramCell
  }

  remove(labels: Readonly<Record<string, string>>): void { this.#cells.delete(this.#key(labels)) }

  /** Rendered once a series, so that a scrape only joins text. */
  #key(labels: Readonly<Record<string, string>>): string {
    return (this.entry.labels ?? []).map(name => {
      const value = labels[name]
      invariant(value !== undefined, 'a metric has all of its labels', { metric: this.entry.name, label: name })
      return `${name}="${escapeLabel(value)}"`
    }).join(',')
  }

  expose(lines: string[]): void {
    const { name, help, kind, buckets = [] } = this.entry
    lines.push(`# HELP ${name} ${escapeHelp(help)}`, `# TYPE ${name} ${kind}`)
    for (const [key, cell] of this.#cells) {
      if (!(cell instanceof HistogramCell)) {
        lines.push(`${name}${key === '' ? '' : `{${key}}`} ${numeral(cell.value)}`)
        continue
      }
      const rest = key === '' ? '' : `,${key}`
      let count = 0
      for (const [i, bound] of [...buckets, Infinity].entries()) {
        count += cell.counts[i]!
        lines.push(`${name}_bucket{le="${numeral(bound)}"${rest}} ${count}`)
      }
      const tail = key === '' ? '' : `{${key}}`
      lines.push(`${name}_sum${tail} ${numeral(cell.sum)}`, `${name}_count${tail} ${count}`)
    }
  }
}

const escapeLabel = (value: string): string => value.replace(/[\\"\n]/g, c => c === '\n' ? '\\n' : `\\${c}`)
const escapeHelp = (value: string): string => value.replace(/[\\\n]/g, c => c === '\n' ? '\\n' : '\\\\')
const numeral = (value: number): string =>
  value === Infinity ? '+Inf' : value === -Infinity ? '-Inf' : String(value)

/**
 * The metrics of one program: plain numbers in memory, turned into text when somebody asks.
 *
 * Written here rather than taken from a metrics library because counting is then one addition on a field, histograms
 * included; the text format is Prometheus' 0.0.4 and the tests compare it with a library's.
 */
export class MetricRegistry<Table extends MetricTable> {
  readonly metrics: Metrics<Table>
  readonly #families: readonly Family[]
  readonly #collectors = new Set<() => void>()

  constructor(table: Table) {
    const families = Object.entries(table).map(([key, entry]) => [key, new Family(entry)] as const)
    const names = families.map(([, family]) => family.entry.name)
    invariant(new Set(names).size === names.length, 'metric names are unique', { names })
    this.#families = families.map(([, family]) => family)
    this.metrics = Object.fromEntries(families) as unknown as Metrics<Table>
  }

  /** Runs `collect` before every exposition, for gauges that are read from elsewhere. Returns how to stop it. */
  onCollect(collect: () => void): () => void {
    this.#collectors.add(collect)
    return () => this.#collectors.delete(collect)
  }

  /** Prometheus text format 0.0.4. */
  expose(): string {
    for (const collect of this.#collectors) collect()
    const lines: string[] = []
    for (const family of this.#families) family.expose(lines)
    return lines.join('\n') + '\n'
  }
}

export const metricsContentType = 'text/plain; version=0.0.4; charset=utf-8'

/** What every program's table includes; `watchProcess` keeps them. */
export const processMetrics = {
  processCpuSeconds: {
    name: 'process_cpu_seconds_total', kind: 'counter', help: 'User and system CPU time spent, in seconds.'
  },
  processResidentBytes: {
    name: 'process_resident_memory_bytes', kind: 'gauge', help: 'Resident memory, in bytes.'
  },
  processHeapBytes: {
    name: 'process_heap_used_bytes', kind: 'gauge', help: 'JavaScript heap in use, in bytes.'
  },
  processStartTime: {
    name: 'process_start_time_seconds', kind: 'gauge', help: 'Wall time at the start, in seconds since 1970.'
  },
  eventLoopLag: {
    name: 'holdfast_event_loop_lag_seconds', kind: 'histogram',
    help: 'How much later than due a timer ran, sampled four times a second, in seconds.',
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5]
  },
  eventLoopLagMax: {
    name: 'holdfast_event_loop_lag_max_seconds', kind: 'gauge',
    help: 'The largest lag of the event loop in the last one to two minutes, in seconds.'
  }
} as const satisfies MetricTable

const lagSampleMs = 250
const lagWindowMs = 60_000

/** Keeps `processMetrics` until disposed. */
export function watchProcess(registry: MetricRegistry<typeof processMetrics>, clock: Clock): Disposable {
  const { metrics } = registry
  const lag = metrics.eventLoopLag.of({})
  const startWallMs = clock.wallMs()
  let worst = { previousMs: 0, currentMs: 0, sinceMs: clock.monotonicMs() }
  let timer = sample(clock.monotonicMs() + lagSampleMs)

  function sample(dueMs: number) {
    return clock.after(lagSampleMs, () => {
      const nowMs = clock.monotonicMs()
      const lateMs = Math.max(0, nowMs - dueMs)
      lag.observe(lateMs / 1000)
      if (nowMs - worst.sinceMs >= lagWindowMs) worst = { previousMs: worst.currentMs, currentMs: 0, sinceMs: nowMs }
      worst.currentMs = Math.max(worst.currentMs, lateMs)
      timer = sample(nowMs + lagSampleMs)
    })
  }

  const stopCollecting = registry.onCollect(() => {
    const { user, system } = process.cpuUsage()
    const memory = process.memoryUsage()
    metrics.processCpuSeconds.of({}).value = (user + system) / 1e6
    metrics.processResidentBytes.of({}).value = memory.rss
    metrics.processHeapBytes.of({}).value = memory.heapUsed
    metrics.processStartTime.of({}).value = startWallMs / 1000
    metrics.eventLoopLagMax.of({}).value = Math.max(worst.previousMs, worst.currentMs) / 1000
  })
  return {
    [Symbol.dispose]: () => {
      timer.cancel()
      stopCollecting()
    }
  }
}
